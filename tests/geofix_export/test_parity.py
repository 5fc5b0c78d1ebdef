from dataclasses import replace

import numpy as np
import pytest

from geofix_export.build import build_index
from geofix_export.parity import Parity, measure_parity
from geofix_export.recipe import ExportRecipe, read_recipe
from geofix_index import cells as s2
from tests.tiny_pack import TinyRegion

RECIPE: ExportRecipe = read_recipe("onnx-int8")
GOOD = Parity(500, 0.95, 0.96, 0.99, 0.6, 0.605, 0.9)


def test_equal_embeddings_are_equal(region: TinyRegion) -> None:
    index = build_index(region.cells, region.cell_codes)
    places = s2.latlon_from_cell(region.cells)
    parity = measure_parity(region.cell_codes, region.cell_codes, places, index)
    assert (parity.num_photos, parity.same_cell) == (len(region.cells), 1)
    assert parity.min_cosine == pytest.approx(1, abs=1e-6)
    assert parity.recall_100m == parity.trained_recall_100m > 0.9
    assert parity.failures(RECIPE) == []


def test_other_embeddings_show_in_each_number(region: TinyRegion) -> None:
    index = build_index(region.cells, region.cell_codes)
    places = s2.latlon_from_cell(region.cells)
    other = region.cell_codes.copy()
    other[:50] = np.roll(other[:50], 1, axis=0)
    parity = measure_parity(other, region.cell_codes, places, index)
    wrong = 50 / len(region.cells)
    cosine = (other * region.cell_codes).sum(axis=1)
    assert parity.min_cosine == pytest.approx(cosine.min(), abs=1e-6)
    assert parity.mean_cosine == pytest.approx(cosine.mean(), abs=1e-6)
    assert parity.p01_cosine == pytest.approx(np.quantile(cosine, 0.01), abs=1e-6)
    assert parity.same_cell == pytest.approx(1 - wrong, abs=0.01)
    assert parity.recall_loss == pytest.approx(wrong, abs=0.05)
    assert len(parity.failures(RECIPE)) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean_cosine": 0.96}, "mean cosine is 0.9600, want 0.97"),
        ({"p01_cosine": 0.89}, "1st percentile of cosines is 0.8900, want 0.9"),
        ({"same_cell": 0.8}, "share of unchanged best cells is 0.8000, want 0.85"),
        ({"recall_100m": 0.58}, "recall@1 at 100 m is 0.5800, the trained encoder's 0.6050"),
        ({"mean_cosine": float("nan")}, "mean cosine is nan"),
    ],
)
def test_each_number_of_the_gate_can_fail(change: dict[str, float], message: str) -> None:
    (said,) = replace(GOOD, **change).failures(RECIPE)  # type: ignore[arg-type]
    assert said.startswith(message)


def test_a_gain_is_no_loss() -> None:
    assert replace(GOOD, recall_100m=0.7).failures(RECIPE) == []
