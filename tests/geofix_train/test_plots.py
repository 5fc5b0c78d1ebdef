"""Pictures: each is there, shows something, and shows other things of other predictions."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import geofix_index.cells as s2
from geofix_train.evaluate import CellLayers
from geofix_train.plots import _Plane, draw_plots, draw_prototypes, draw_recall
from tests.geofix_train.hand_made import answers_off, predictions_of, six_photos, truth
from tests.geofix_train.tiny_data import LAT, LON


def layers_of(*, num_prototypes: int) -> CellLayers:
    """Return 16 cells, the first with prototypes, and scores of the first photo."""
    cells = s2.descendants([int(s2.cell_from_latlon(LAT, LON, level=14))], level=16)
    rng = np.random.default_rng(0)
    prototypes = rng.normal(size=(16, 8)).astype(np.float32)
    prototypes[num_prototypes:] = 0.0
    photo = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
    return CellLayers(cells, prototypes, rng.normal(size=16).astype(np.float32), 0, photo)


def pixels(path: Path) -> npt.NDArray[np.uint8]:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def num_colours(path: Path) -> int:
    coarse = pixels(path).astype(np.int64) // 32
    return len(np.unique(coarse @ [64, 8, 1]))


def test_all_pictures_are_drawn_and_not_blank(tmp_path: Path) -> None:
    shown = draw_plots(six_photos(), tmp_path, layers=layers_of(num_prototypes=12))
    assert list(shown) == ["recall.png", "errors.png", "prototypes.png", "scores.png"]
    assert {path.name for path in tmp_path.iterdir()} == set(shown)
    for name, text in shown.items():
        assert min(pixels(tmp_path / name).shape[:2]) > 600
        assert num_colours(tmp_path / name) > 10
        assert len(text) > 20


def test_a_single_photo_can_be_drawn(tmp_path: Path) -> None:
    predictions = predictions_of({"ours": answers_off([30.0])}, sequence=["a"])
    assert list(draw_plots(predictions, tmp_path)) == ["recall.png", "errors.png"]
    assert num_colours(tmp_path / "recall.png") > 3


@pytest.mark.parametrize("num_prototypes", [0, 2])
def test_too_few_prototypes_make_no_map(tmp_path: Path, num_prototypes: int) -> None:
    shown = draw_plots(six_photos(), tmp_path, layers=layers_of(num_prototypes=num_prototypes))
    assert "prototypes.png" not in shown


def test_a_better_method_makes_a_higher_line(tmp_path: Path) -> None:
    for name, off_m in (("near", 30.0), ("far", 900.0)):
        predictions = predictions_of({"hybrid": answers_off([off_m] * 6)})
        draw_recall(predictions, tmp_path / f"{name}.png", banded="hybrid")
    blue = np.array([0, 114, 178])

    def mean_column(path: Path) -> float:
        is_line = np.abs(pixels(path).astype(int) - blue).sum(axis=2) < 10
        _, columns = np.nonzero(is_line[: is_line.shape[0] // 8])  # at the top, where all are found
        return float(columns.mean())

    assert mean_column(tmp_path / "near.png") < mean_column(tmp_path / "far.png") - 300


def test_cells_of_like_prototypes_have_one_colour(tmp_path: Path) -> None:
    layers = layers_of(num_prototypes=16)
    two_kinds = np.zeros((16, 8), np.float32)
    two_kinds[:8, 0], two_kinds[8:, 1] = 1.0, 1.0
    draw_prototypes(layers.cells, two_kinds, tmp_path / "two.png")
    draw_prototypes(layers.cells, layers.prototypes, tmp_path / "many.png")
    assert num_colours(tmp_path / "two.png") < num_colours(tmp_path / "many.png")


def test_prototypes_of_two_dimensions_can_be_drawn(tmp_path: Path) -> None:
    layers = layers_of(num_prototypes=16)
    draw_prototypes(layers.cells, layers.prototypes[:, :2], tmp_path / "flat.png")
    assert num_colours(tmp_path / "flat.png") > 10


def test_a_plane_counts_metres_from_the_middle() -> None:
    latlon = truth(3)
    xy = _Plane.around(latlon).xy(latlon)
    np.testing.assert_allclose(xy[:, 0], [-753.0, 0.0, 753.0], atol=1.0)  # 0.01 degrees at 47.37
    np.testing.assert_allclose(xy[:, 1], 0.0, atol=1e-6)


def test_a_plane_crosses_the_antimeridian() -> None:
    latlon = np.array([[0.0, 179.99], [0.0, -179.99]])
    xy = _Plane.around(latlon).xy(latlon)
    np.testing.assert_allclose(xy[:, 0], [-1112.0, 1112.0], atol=1.0)
