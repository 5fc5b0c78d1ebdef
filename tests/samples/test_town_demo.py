"""The demo on the smallest town: every promised file is there and says what it should."""

import json
import runpy
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import geofix_train.town
import samples.town_demo
from geofix import Localizer, RegionPack
from geofix_index.sphere import great_circle_m
from geofix_train.config import FitConfig
from geofix_train.evaluate import METHODS
from geofix_train.predictions import errors_m, read_predictions
from geofix_train.report import DISTANCES_M
from samples.town_demo import NUM_SAMPLE_PHOTOS, draw_town, main, town_config, train
from tests.geofix_train.stopping import stop_before

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
TOWN: dict[str, Any] = {"size_km": 0.8, "num_photos": NUM_PHOTOS, "seed": 1}


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
    (out / "mine.txt").touch()
    (out / "photos").mkdir()
    (out / "photos" / "old.jpg").touch()
    main(out, size_km=0.8, num_photos=NUM_PHOTOS, recipe=recipe)
    return Demo(out, json.loads((out / "report.json").read_text()))


def test_results_of_an_earlier_demo_are_gone_and_other_files_left_alone(demo: Demo) -> None:
    assert not (demo.folder / "photos" / "old.jpg").exists()
    assert (demo.folder / "mine.txt").exists()


@pytest.fixture
def again(demo: Demo, tmp_path: Path) -> Path:
    """Return a copy of what the demo left, for another call."""
    return Path(shutil.copytree(demo.folder, tmp_path / "out"))


def settings_of(out: Path) -> FitConfig:
    """Return the settings of a demo in `out`."""
    (out / "recipe.toml").write_text(RECIPE)
    return town_config(out / "recipe.toml", out / "town")


def refuse(*given: Any, **more: Any) -> None:
    pytest.fail("drawn again")


def test_a_finished_town_is_kept(
    again: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(samples.town_demo, "make_town", refuse)
    seconds: dict[str, float] = {}
    draw_town(again, seconds, **TOWN)
    assert seconds == {}
    assert "was drawn before; remove it" in capsys.readouterr().out
    assert (again / "run").exists()


@pytest.mark.parametrize(
    "change", [{"size_km": 0.9}, {"num_photos": 70}, {"seed": 2}, {"town_version": 99}]
)
def test_a_town_of_other_settings_is_drawn_anew_and_its_run_removed(
    again: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    drawn = []

    def make_town(out: Path, **settings: Any) -> None:
        drawn.append(settings)
        out.mkdir()
        (out / "new.txt").touch()

    monkeypatch.setattr(samples.town_demo, "make_town", make_town)
    if "town_version" in change:
        monkeypatch.setattr(samples.town_demo, "TOWN_VERSION", change.pop("town_version"))
    for _ in range(2):  # the second call keeps what the first one drew
        draw_town(again, {}, **{**TOWN, **change})
    assert drawn == [{**TOWN, **change}]
    assert sorted(path.name for path in (again / "town").iterdir()) == [
        "drawn_with.json", "new.txt"
    ]  # fmt: skip
    assert not (again / "run").exists()


def test_a_town_that_was_stopped_is_drawn_from_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make_town(out: Path, **settings: Any) -> None:
        out.mkdir()
        (out / f"{len(drawn)}.jpg").touch()
        drawn.append(out)
        if len(drawn) == 1:
            raise KeyboardInterrupt

    drawn: list[Path] = []
    monkeypatch.setattr(samples.town_demo, "make_town", make_town)
    with pytest.raises(KeyboardInterrupt):
        draw_town(tmp_path, {}, **TOWN)
    assert not (tmp_path / "town").exists()
    draw_town(tmp_path, {}, **TOWN)
    assert sorted(path.name for path in (tmp_path / "town").iterdir()) == [
        "1.jpg", "drawn_with.json"
    ]  # fmt: skip
    assert not (tmp_path / "town.part").exists()


def test_ctrl_c_ends_with_a_line_that_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(out: Path, **settings: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(geofix_train.town, "make_town", stop)
    monkeypatch.setattr(sys, "argv", ["town_demo.py", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(samples.town_demo.__file__, run_name="__main__")
    assert stopped.value.code == 130
    said = "town_demo: stopped; the same command goes on from here\n"
    assert capsys.readouterr() == ("== town\n", said)


def test_a_stopped_training_goes_on(
    again: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings_of(again)
    config = replace(config, run=replace(config.run, checkpoint_seconds=0.0))
    num_steps = len((again / "run" / "log.jsonl").read_text().splitlines())
    shutil.rmtree(again / "run")
    with monkeypatch.context() as patch:
        stop_before(patch, num_steps - 1)
        with pytest.raises(KeyboardInterrupt):
            train(config, again, {})
    begun = (again / "run" / "log.jsonl").read_text()
    seconds: dict[str, float] = {}
    train(config, again, seconds)
    assert "goes on with" in capsys.readouterr().out
    assert (again / "run" / "log.jsonl").read_text().startswith(begun)
    assert len((again / "run" / "log.jsonl").read_text().splitlines()) == num_steps
    assert seconds == {}  # only of a part


def test_a_run_of_another_recipe_is_trained_anew(
    again: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings_of(again)
    config = replace(config, run=replace(config.run, epochs=1))
    seconds: dict[str, float] = {}
    train(config, again, seconds)
    assert "anew, since settings changed: " in capsys.readouterr().out
    assert json.loads((again / "run" / "config.json").read_text())["run"]["epochs"] == 1
    assert len((again / "run" / "log.jsonl").read_text().splitlines()) == 42 // 16
    assert set(seconds) == {"fit"}


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
