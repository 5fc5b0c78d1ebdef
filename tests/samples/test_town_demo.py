"""The demo on the smallest town: every promised file is there and says what it should."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from geofix import Localizer, RegionPack
from geofix_index.sphere import great_circle_m
from geofix_train.evaluate import METHODS
from geofix_train.predictions import errors_m, read_predictions
from geofix_train.report import DISTANCES_M
from samples.town_demo import NUM_SAMPLE_PHOTOS, main

pytestmark = pytest.mark.xdist_group("demo")

RECIPE = """
[data]
photos = "elsewhere/photos.parquet"

[model]
width = 8
num_clusters = 4
cluster_dim = 4
dim = 16

[objective]
min_images = 1

[run]
epochs = 2
batch_size = 16
warmup_steps = 1
"""
NUM_PHOTOS = 60


@dataclass(frozen=True)
class Demo:
    """What a demo left."""

    folder: Path
    report: dict[str, Any]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """Return the demo, run once, over what an earlier one left."""
    folder = tmp_path_factory.mktemp("demo")
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE)
    out = folder / "out"
    out.mkdir()
    (out / "old.txt").touch()
    main(out, size_km=0.8, num_photos=NUM_PHOTOS, recipe=recipe)
    return Demo(out, json.loads((out / "report.json").read_text()))


def test_what_an_earlier_demo_left_is_gone(demo: Demo) -> None:
    assert not (demo.folder / "old.txt").exists()


def test_the_report_has_every_method_at_every_distance(demo: Demo) -> None:
    recalls = demo.report["recall_at_m"]
    assert set(recalls) == {*METHODS, "on_device"}
    assert set(demo.report["median_error_m"]) == set(recalls)
    for by_distance in recalls.values():
        assert list(by_distance) == [str(d) for d in DISTANCES_M]
        assert list(by_distance.values()) == sorted(by_distance.values())
        assert 0 <= by_distance["25"] <= by_distance["500"] <= 1


def test_the_report_says_what_each_stage_took(demo: Demo) -> None:
    seconds = demo.report["seconds"]
    assert list(seconds) == ["town", "fit", "codes", "export", "pack", "evaluate", "map"]
    assert all(s >= 0 for s in seconds.values())
    assert seconds["town"] > 0


def test_the_report_follows_from_the_saved_predictions(demo: Demo) -> None:
    predictions = read_predictions(demo.folder / "run" / "predictions-test.parquet")
    error = errors_m(predictions, "on_device")
    assert demo.report["recall_at_m"]["on_device"]["200"] == round(float((error <= 200).mean()), 4)
    for name, recalls in demo.report["recall_by_slice"].items():
        found = error[predictions.slices["place"] == name] <= 200
        assert recalls["on_device"]["200"] == round(float(found.mean()), 4)


def test_the_pack_is_whole_and_as_the_report_says(demo: Demo) -> None:
    pack = RegionPack.open(demo.folder / "town.geofix")
    assert pack.verify() > 0
    assert pack.manifest.num_cells == demo.report["num_cells"]
    assert (demo.folder / "town.geofix").stat().st_size == demo.report["pack_bytes"]
    assert [encoder.calibration is not None for encoder in pack.manifest.encoders] == [True]


def test_on_device_is_what_the_pack_answers(demo: Demo) -> None:
    predictions = read_predictions(demo.folder / "run" / "predictions-test.parquet")
    with Localizer.open(demo.folder / "town.geofix") as localizer:
        fix = localizer.localize(demo.folder / "town" / predictions.path[0])
    lat, lon = predictions.answers["on_device"].latlon[0]
    assert great_circle_m(fix.latlon.lat, fix.latlon.lon, lat, lon) < 0.01


def test_photos_to_try_are_named_after_their_place(demo: Demo) -> None:
    photos = sorted((demo.folder / "photos").iterdir())
    predictions = read_predictions(demo.folder / "run" / "predictions-test.parquet")
    assert 0 < len(photos) <= NUM_SAMPLE_PHOTOS
    lat, lon = predictions.latlon[0]
    assert photos[0].name == f"test-0000_lat{lat:.5f}_lon{lon:.5f}.jpg"


def test_the_map_shows_the_town(demo: Demo) -> None:
    with Image.open(demo.folder / "map.png") as picture:
        pixels = np.asarray(picture.convert("RGB"), np.float64)
    assert max(pixels.shape) >= 1000
    assert pixels.std(axis=(0, 1)).min() > 20  # imagery, not paper
