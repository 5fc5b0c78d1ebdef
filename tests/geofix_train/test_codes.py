"""A finished run applied to its data: embeddings, cells with imagery, parts of codes."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

import geofix_index.cells as s2
import geofix_train.codes
from geofix_train import codes
from geofix_train.aerial import Mosaic
from geofix_train.cell_codes import upsample
from geofix_train.checkpoint import CheckpointError, load_finished
from geofix_train.codes import EncodedRun, areas, count_photos, encode_run, make_codes, slices
from geofix_train.config import FitConfig
from geofix_train.fit import fit
from geofix_train.mixing import choose_mixing
from geofix_train.model import Model, embed, make_encoders
from geofix_train.photo_table import PhotoTable
from geofix_train.prototypes import label_mix
from geofix_train.training_data import load_imagery
from tests.geofix_train.conftest import NUM_PHOTOS
from tests.geofix_train.tiny_data import FRAME, tiny_config

pytestmark = pytest.mark.xdist_group("town")

Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def mosaics(town_config: FitConfig) -> list[Mosaic]:
    """Return the imagery as the run reads it."""
    return load_imagery(town_config)


@pytest.fixture(scope="module")
def has_imagery(encoded: EncodedRun, mosaics: list[Mosaic]) -> npt.NDArray[np.bool_]:
    """Return which cells have imagery of any date at their centre."""
    centres = s2.latlon_from_cell(encoded.cells)
    covered = [mosaic.covers(mosaic.frame.xy(*centres.T)) for mosaic in mosaics]
    return np.asarray(np.any(covered, axis=0))


def table_of(xy: list[tuple[float, float]], split: list[str]) -> PhotoTable:
    """Return photos at metres east and north of a place."""
    lat, lon = FRAME.latlon(np.array(xy, float)).T
    return PhotoTable.from_columns({"lat": lat.tolist(), "lon": lon.tolist(), "split": split})


def lengths(vectors: Floats) -> Floats:
    return np.asarray(np.linalg.norm(vectors, axis=1))


def test_each_photo_has_an_embedding_of_unit_length(
    encoded: EncodedRun, town_config: FitConfig
) -> None:
    assert len(encoded.table) == NUM_PHOTOS
    assert encoded.embeddings.shape == (NUM_PHOTOS, town_config.model.dim)
    np.testing.assert_allclose(lengths(encoded.embeddings), 1.0, atol=1e-5)
    assert encoded.embeddings.std(axis=0).min() > 0


def test_coded_cells_are_those_with_imagery_or_a_prototype(
    encoded: EncodedRun, mosaics: list[Mosaic]
) -> None:
    wanted = {*s2.descendants(encoded.grid.cells, level=16).tolist()}
    for mosaic in mosaics:
        wanted.update(mosaic.cells(level=16).tolist())
    assert encoded.cells.tolist() == sorted(wanted)
    assert set(s2.level_of(encoded.cells).tolist()) == {16}


def test_cells_have_an_aerial_part_where_there_is_imagery(
    encoded: EncodedRun, has_imagery: npt.NDArray[np.bool_]
) -> None:
    assert 0 < has_imagery.sum() < len(has_imagery)
    np.testing.assert_allclose(lengths(encoded.aerial[has_imagery]), 1.0, atol=1e-5)
    assert not encoded.aerial[~has_imagery].any()


def test_an_aerial_part_is_the_mean_over_dates_moves_and_turns(
    encoded: EncodedRun, town_run: Path, mosaics: list[Mosaic], has_imagery: npt.NDArray[np.bool_]
) -> None:
    model, config = load_model(town_run), encoded.config
    for row in np.flatnonzero(has_imagery)[[0, 7]]:
        views = []
        for mosaic in mosaics:
            centre = mosaic.frame.xy(*s2.latlon_from_cell(encoded.cells[row : row + 1]).T)
            tiles = mosaic.tiles(
                centre + np.array(codes._MOVES) * config.run.shift_m,
                side_m=config.data.tile_side_m, num_pixels=config.data.tile_pixels,
            )  # fmt: skip
            views += [np.rot90(tile, round(turn / 90)) for tile in tiles for turn in codes.TURNS]
        mean = embed(model.aerial, np.stack(views)).mean(axis=0)
        np.testing.assert_allclose(encoded.aerial[row], mean / np.linalg.norm(mean), atol=1e-4)


def load_model(run: Path) -> Model:
    weights, cells = load_finished(run)
    config = FitConfig.from_json((run / "config.json").read_text())
    model = Model(*make_encoders(config), len(cells))
    model.load_state_dict(weights)
    return model


def test_prototypes_are_the_learned_ones_of_unit_length(
    encoded: EncodedRun, town_run: Path
) -> None:
    weights, cells = load_finished(town_run)
    np.testing.assert_array_equal(encoded.grid.cells, cells)
    learned = torch.nn.functional.normalize(weights["prototypes.weight"], dim=1).numpy()
    np.testing.assert_allclose(encoded.prototypes, learned, atol=1e-6)
    np.testing.assert_allclose(lengths(encoded.prototypes), 1.0, atol=1e-5)


def test_mean_prototypes_are_made_of_training_photos_alone(encoded: EncodedRun) -> None:
    is_train = encoded.table.split == "train"
    rows, weights = label_mix(encoded.grid, encoded.table, encoded.config.objective.labels)
    for number in range(len(encoded.grid.cells)):
        share = np.where(rows == number, weights, 0.0).sum(axis=1) * is_train
        mean = share @ encoded.embeddings
        wanted = mean / np.linalg.norm(mean)
        np.testing.assert_allclose(encoded.mean_prototypes[number], wanted, atol=1e-5)


def test_another_level_gives_other_cells(town_run: Path, encoded: EncodedRun) -> None:
    finer = encode_run(town_run, level=17)
    assert set(s2.level_of(finer.cells).tolist()) == {17}
    assert np.isin(s2.parent(finer.cells, level=16), encoded.cells).mean() > 0.8
    np.testing.assert_array_equal(finer.embeddings, encoded.embeddings)


def test_queries_are_the_photos_of_a_split(encoded: EncodedRun) -> None:
    rows = np.flatnonzero(encoded.table.split == "val")
    queries = encoded.queries("val")
    np.testing.assert_array_equal(queries.embeddings, encoded.embeddings[rows])
    np.testing.assert_array_equal(queries.latlon[:, 0], encoded.table.lat[rows])
    np.testing.assert_array_equal(queries.latlon[:, 1], encoded.table.lon[rows])
    assert queries.slices == tuple(slices(encoded.table)[rows].tolist())
    assert 0 < len(rows) < len(encoded.table)


def test_a_split_without_photos_has_no_queries(encoded: EncodedRun) -> None:
    queries = encoded.queries("holiday")
    assert (queries.embeddings.shape, queries.latlon.shape, queries.slices) == ((0, 16), (0, 2), ())


def test_codes_hold_both_parts_and_count_training_photos(encoded: EncodedRun) -> None:
    made = make_codes(encoded, kappa=0.5)
    assert made.kappa == 0.5
    np.testing.assert_array_equal(made.cells, encoded.cells)
    np.testing.assert_array_equal(made.aerial, encoded.aerial)
    wanted = upsample(encoded.grid, encoded.prototypes, encoded.cells)
    np.testing.assert_array_equal(made.prototypes, wanted)
    num_train = int((encoded.table.split == "train").sum())
    assert made.num_photos.sum() == num_train  # each stands in a cell of a prototype
    told = dict(made.provenance)
    assert told.pop("photos_sha256") == encoded.table[encoded.table.is_train].sha256()
    learned = hashlib.sha256(encoded.prototypes.tobytes()).hexdigest()
    assert told.pop("prototypes_sha256") == learned
    assert told == {"num_training_photos": num_train, "prototype_level": 15}


def test_kappa_is_chosen_by_validation_photos(
    encoded: EncodedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_codes(encoded)
    assert made.kappa == choose_mixing(made, encoded.queries("val")).kappa
    monkeypatch.setattr(
        geofix_train.codes,
        "choose_mixing",
        lambda codes, queries, **given: codes.with_kappa(len(queries.latlon) / 8),
    )
    assert make_codes(encoded).kappa == (encoded.table.split == "val").sum() / 8


def test_photos_behind_a_prototype_are_those_that_made_it(encoded: EncodedRun) -> None:
    made = make_codes(encoded, kappa=1.0, shrink_photos=2.0)
    assert made.shrink_photos == 2.0
    rows, shares = label_mix(encoded.grid, encoded.table, encoded.config.objective.labels)
    photos = dict.fromkeys(range(len(encoded.grid.cells)), 0.0)
    for photo in np.flatnonzero(encoded.table.split == "train"):
        for row, share in zip(rows[photo].tolist(), shares[photo].tolist(), strict=True):
            photos[row] += share
    centres = s2.latlon_from_cell(encoded.cells)
    near, weights = s2.bilinear_cells(*centres.T, level=15)
    row_of = {cell: row for row, cell in enumerate(encoded.grid.cells.tolist())}
    for number, cell in enumerate(encoded.cells.tolist()):
        mixed = [
            (row_of[c], w)
            for c, w in zip(near[number].tolist(), weights[number].tolist(), strict=True)
            if c in row_of
        ]
        whole = sum(w for _, w in mixed)
        has_own = int(s2.parent(np.uint64(cell), level=15)) in row_of
        wanted = sum(w / whole * photos[row] for row, w in mixed) if has_own else 0.0
        assert made.prototype_photos[number] == pytest.approx(wanted, rel=1e-4)
    assert not made.prototypes[made.prototype_photos == 0].any()


def test_kappa_is_1_where_nothing_can_be_chosen(encoded: EncodedRun) -> None:
    split = np.where(encoded.table.split == "val", "test", encoded.table.split)
    without_val = PhotoTable({**encoded.table.columns, "split": split})
    assert make_codes(replace(encoded, table=without_val)).kappa == 1.0
    assert make_codes(replace(encoded, aerial=np.zeros_like(encoded.aerial))).kappa == 1.0


def test_a_run_without_imagery_codes_the_children_of_its_prototypes(
    data: Path, tmp_path: Path
) -> None:
    config = tiny_config(data / "photos.parquet", epochs=1)
    encoded = encode_run(fit(config, tmp_path / "run"))
    children = s2.descendants(encoded.grid.cells, level=16)
    np.testing.assert_array_equal(encoded.cells, np.sort(children))
    assert not encoded.aerial.any()
    np.testing.assert_allclose(lengths(make_codes(encoded).cell_codes), 1.0, atol=1e-5)


def test_a_folder_that_holds_no_finished_run_is_named(town_run: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((town_run / "config.json").read_text())
    with pytest.raises(CheckpointError, match=f"{tmp_path}: no checkpoint"):
        encode_run(tmp_path)


def test_photos_are_counted_in_their_own_cells() -> None:
    table = table_of([(0, 0), (1, 1), (0, 2), (3000, 0)], ["train"] * 4)
    own = s2.cell_from_latlon(table.lat, table.lon, level=16)
    assert len(set(own.tolist())) == 2
    empty = s2.cell_from_latlon(-33.9, 18.4, level=16)
    cells = np.unique(np.array([own[0], empty, 2**64 - 1], np.uint64))
    counts = dict(zip(cells.tolist(), count_photos(table, cells, level=16).tolist(), strict=True))
    assert counts == {int(own[0]): 3, int(empty): 0, 2**64 - 1: 0}


@pytest.mark.parametrize(
    ("xy", "split", "wanted"),
    [
        ([(0, 0), (0, 24.5), (24.5, 0), (0, 25.5), (25.5, 0)], ["train"] + ["test"] * 4,
         "seen seen seen unseen unseen"),
        ([(0, 0), (0, 1)], ["test", "val"], "unseen unseen"),
        ([(0, 0), (900, 0)], ["", ""], "seen seen"),
        ([(0, 0), (0, 5), (900, 0), (900, 3)], ["train", "val", "test", "test"],
         "seen seen unseen unseen"),
    ],
    ids=["25 m", "no training photo", "no splits", "photos of other splits do not count"],
)  # fmt: skip
def test_a_photo_is_seen_where_a_training_photo_is_near(
    xy: list[tuple[float, float]], split: list[str], wanted: str
) -> None:
    assert slices(table_of(xy, split)).tolist() == wanted.split()


def test_areas_tell_streets_without_photos_from_districts_without() -> None:
    level_15_m = 281.0
    xy = [(0, 0), (0, 20), (0, 150), (0, 3 * level_15_m), (0, 10 * level_15_m)]
    table = table_of([*xy, (0, 10 * level_15_m)], ["train", "test", "test", "test", "test", "val"])
    found = areas(table, level=15)
    assert found.tolist() == ["seen", "seen", "unseen", "held-out", "held-out", "held-out"]
    own = [
        int(s2.cell_from_latlon(lat, lon, level=15))
        for lat, lon in zip(table.lat, table.lon, strict=True)
    ]
    touching = {own[0], *s2.neighbours([own[0]]).ravel().tolist()}
    assert [cell in touching for cell in own] == [True, True, True, False, False, False]
    assert areas(table, level=5).tolist()[3:] == ["unseen"] * 3


def test_slices_of_many_photos_are_those_of_few() -> None:
    xy: list[Any] = [(10.0 * number, 0.0) for number in range(1100)]
    split = ["train" if number < 3 or number == 1099 else "test" for number in range(1100)]
    seen = slices(table_of(xy, split)) == "seen"
    assert np.flatnonzero(seen).tolist() == [0, 1, 2, 3, 4, 1097, 1098, 1099]


@pytest.mark.parametrize("lat", [65.0, 0.0, -65.0])
def test_metres_are_metres_at_every_latitude_and_across_the_antimeridian(lat: float) -> None:
    metre = 1 / (111_195 * np.cos(np.radians(lat)))  # in degrees of longitude
    lon = [179.9999, 179.9999 + 24 * metre - 360, 179.9999 + 27 * metre - 360]
    columns = {"lat": [lat] * 3 + [85.0], "lon": [*lon, 0.0], "split": ["train", *["test"] * 3]}
    found = slices(PhotoTable.from_columns(columns)).tolist()
    assert found == ["seen", "seen", "unseen", "unseen"]


@pytest.mark.parametrize("kappa", [-1.0, float("nan")])
def test_a_kappa_below_zero_or_no_number_is_an_error(encoded: EncodedRun, kappa: float) -> None:
    with pytest.raises(ValueError, match="want 0 or more"):
        make_codes(encoded, kappa=kappa)


@pytest.mark.parametrize("level", [14, 20, 30])
def test_a_level_far_from_the_prototypes_is_an_error(town_run: Path, level: int) -> None:
    with pytest.raises(ValueError, match=f"level is {level}, want 15 to 19"):
        encode_run(town_run, level=level)


def test_rows_without_a_split_are_not_trained_on_where_others_have_one() -> None:
    table = table_of([(0, 0), (1, 1), (2, 2)], ["train", "", "test"])
    assert table.is_train.tolist() == [True, False, False]
    assert table_of([(0, 0), (1, 1)], ["", ""]).is_train.tolist() == [True, True]
