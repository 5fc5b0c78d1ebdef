"""Tables that hold hardly anything: one cell, one place, a split without photos."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import geofix_index.cells as s2
from geofix_train.cell_codes import CellCodes, read_cell_codes
from geofix_train.cli import main
from tests.command_line import Run, runner
from tests.geofix_train.tiny_data import LAT, LON, SPLITS, tiny_config, write_data, write_toml

NUM = 40
CENTRE = s2.latlon_from_cell(s2.cell_from_latlon(LAT, LON, level=15))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the command line and catches what it prints."""
    return runner(main, capsys)


def split_of(num: int = NUM, *, without: str = "", instead: str = "train") -> list[str]:
    """Return splits of photos, those of one split in another's."""
    splits = [SPLITS[row % len(SPLITS)] for row in range(num)]
    return [instead if split == without else split for split in splits]


def fit_to(run: Run, folder: Path, *, with_imagery: bool = True) -> Path:
    """Train on a folder's data; return the run."""
    aerial = folder / "aerial" if with_imagery else None
    config = tiny_config(folder / "photos.parquet", aerial, epochs=2)
    outcome = run("fit", write_toml(config, folder / "my.toml"), "-o", folder / "run")
    assert outcome.status == 0, outcome.err
    return folder / "run"


def assert_finite(codes: CellCodes) -> None:
    for part in (codes.prototypes, codes.aerial, codes.prototype_photos, codes.cell_codes):
        assert np.isfinite(part).all()
    assert np.isfinite(codes.kappa)


@pytest.mark.parametrize("with_imagery", [True, False])
@pytest.mark.parametrize("reach", [4e-4, 0.0], ids=["one cell", "one place"])
def test_photos_in_a_single_cell_go_all_the_way(
    run: Run, tmp_path: Path, reach: float, with_imagery: bool
) -> None:
    rng = np.random.default_rng(0)
    lat, lon = (middle + reach * rng.uniform(-1, 1, NUM) for middle in CENTRE)
    assert len(set(s2.cell_from_latlon(lat, lon, level=15).tolist())) == 1
    fitted = fit_to(run, write_data(tmp_path, lat=lat, lon=lon), with_imagery=with_imagery)
    for line in (fitted / "log.jsonl").read_text().splitlines():
        assert np.isfinite(list(json.loads(line).values())).all()
    for words in ((), ("--shrink", "auto")):
        outcome = run("codes", fitted, *words)
        assert outcome.status == 0, outcome.err
        codes = read_cell_codes(fitted / "codes" / "codes.safetensors")
        assert_finite(codes)
    assert codes.prototypes.any(axis=1).sum() == 4  # the children of the one prototype
    outcome = run("evaluate", fitted, "--json", "--degrade", "blur")
    assert outcome.status == 0, outcome.err
    figures = json.loads(outcome.out, parse_constant=pytest.fail)
    assert figures["recall_at_m"]["hybrid"]["1000"] == 1.0
    assert figures["num_queries"] == NUM // 10
    assert "held-out" not in figures["slices"]["area"]


def test_a_split_without_validation_photos_gives_kappa_1_and_says_so(
    run: Run, tmp_path: Path
) -> None:
    folder = write_data(tmp_path, split=split_of(without="val"))
    fitted = fit_to(run, folder)
    (fitted / "codes").mkdir()
    (fitted / "codes" / "queries.safetensors").write_bytes(b"of codes made before")
    outcome = run("codes", fitted, "--shrink", "auto")
    assert outcome.status == 0
    said = "no photo has split 'val' to choose by: kappa is 1 and the shrinkage 0 where they"
    assert outcome.err.startswith(f"geofix-train: {said}")
    codes = read_cell_codes(fitted / "codes" / "codes.safetensors")
    assert (codes.kappa, codes.shrink_photos) == (1.0, 0.0)
    assert not (fitted / "codes" / "queries.safetensors").exists()
    again = run("codes", fitted, "--remix", "--kappa", "2")
    assert again.status == 0
    assert "no validation photos" in again.err
    assert said not in again.err
    assert run("codes", fitted, "--remix").err.startswith(f"geofix-train: {said}")
    assert run("evaluate", fitted).status == 0


@pytest.mark.parametrize(
    ("splits", "words", "wanted"),
    [
        (
            split_of(without="test"),
            [],
            "no photo has split 'test'; photos by split: 36 train, 4 val",
        ),
        (split_of(), ["--split", "none"], "no photo has split 'none'; photos by split: 4 test, 32"),
        (["test"] * NUM, [], "no photo has split 'train'"),
    ],
    ids=["test", "none", "train"],
)
def test_a_split_without_photos_is_named_before_the_photos_are_read(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    splits: Sequence[str],
    words: list[str],
    wanted: str,
) -> None:
    folder = write_data(tmp_path / "data")
    fitted = fit_to(run, folder)
    other = write_data(tmp_path / "other", split=splits)
    (other / "photos.parquet").rename(folder / "photos.parquet")
    monkeypatch.setattr(
        "geofix_train.codes.read_photos", lambda *given, **more: pytest.fail("encoded")
    )
    outcome = run("evaluate", fitted, *words)
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith(f"geofix-train: {folder / 'photos.parquet'}: {wanted}")
