"""Which photos make a batch, and what their labels are."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from geofix_index.sphere import great_circle_m
from geofix_train.config import FitConfig
from geofix_train.prototypes import label_places
from geofix_train.training_data import (
    LOCAL_M,
    TrainingData,
    common_hfov_deg,
    draw_batch,
    input_spec,
    load_training_data,
)
from tests.geofix_train.tiny_data import make_table, tiny_config, write_data

NUM, BATCH = 120, 8


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> FitConfig:
    """Return settings on photos with headings, half of a batch from around one of them."""
    headings = np.linspace(0, 359, NUM).tolist()
    folder = write_data(tmp_path_factory.mktemp("data"), num=NUM, heading_deg=headings)
    config = tiny_config(folder / "photos.parquet", folder / "aerial", local_share=0.5)
    return replace(config, objective=replace(config.objective, labels="frustum"))


@pytest.fixture(scope="module")
def data(config: FitConfig) -> TrainingData:
    """Return the training photos."""
    return load_training_data(config)


def test_half_of_a_batch_stands_around_its_first_photo(
    data: TrainingData, config: FitConfig
) -> None:
    lat, lon = data.table.lat, data.table.lon
    for step in range(20):
        batch = draw_batch(data, config, step)
        assert len(batch) == BATCH
        local = batch[BATCH // 2 :]
        distance = great_circle_m(lat[batch[0]], lon[batch[0]], lat[local], lon[local])
        assert (distance > config.objective.tile_negative_m).all()
        assert (distance < LOCAL_M).all()
        assert len(set(local.tolist())) == len(local)


def test_a_batch_is_the_same_for_the_same_step_and_another_for_the_next(
    data: TrainingData, config: FitConfig
) -> None:
    batches = [draw_batch(data, config, step).tolist() for step in (3, 3, 4)]
    assert batches[0] == batches[1] != batches[2]


def test_without_a_local_share_an_epoch_shows_each_photo_once(
    data: TrainingData, config: FitConfig
) -> None:
    whole = replace(config, run=replace(config.run, local_share=0.0))
    steps = range(len(data) // BATCH)
    drawn = np.concatenate([draw_batch(data, whole, step) for step in steps])
    assert len(set(drawn.tolist())) == len(drawn) == len(data) // BATCH * BATCH


def test_a_photo_alone_far_away_has_a_batch_without_a_local_part(
    data: TrainingData, config: FitConfig
) -> None:
    far = data.table.lat.copy()
    far[:] += np.arange(len(far)) * 0.1  # 11 km apart
    apart = replace(data, table=replace(data.table, columns={**data.table.columns, "lat": far}))
    assert len(set(draw_batch(apart, config, 0).tolist())) == BATCH


def test_photos_are_labelled_by_their_view_and_tiles_by_their_place(data: TrainingData) -> None:
    wanted = data.grid.mix(data.table.lat, data.table.lon)
    for got, part in zip(data.tile_mix, wanted, strict=True):
        np.testing.assert_array_equal(got, part)
    assert data.photo_mix[0].shape != data.tile_mix[0].shape or not np.array_equal(
        data.photo_mix[1], data.tile_mix[1]
    )
    np.testing.assert_array_equal(data.near, data.grid.near(*label_places(data.table, "frustum")))


@pytest.mark.parametrize(
    ("hfov_deg", "common"),
    [
        ([70.0] * 8, 70.0),
        ([70.0, 70.4, 69.5, 70.2, 70.0, 70.1, 110.0, 50.0], 70.0),
        ([70.0] * 6 + [np.nan] * 2, 70.0),
        ([70.0] * 5 + [np.nan] * 3, None),
        ([60.0, 62.0, 64.0, 66.0, 68.0, 70.0, 72.0, 74.0], None),
        ([np.nan] * 8, None),
    ],
    ids=["all", "most", "where known", "too few known", "various", "unknown"],
)
def test_a_field_of_view_is_common_where_most_photos_have_it(
    tmp_path: Path, hfov_deg: list[float], common: float | None
) -> None:
    assert common_hfov_deg(make_table(tmp_path, num=8, hfov_deg=hfov_deg)) == common


def test_the_field_of_view_of_the_settings_travels_with_the_encoder(config: FitConfig) -> None:
    assert input_spec(config).hfov_deg is None
    narrow = replace(config, data=replace(config.data, photo_hfov_deg=70.0))
    assert input_spec(narrow).hfov_deg == 70


def test_a_common_field_of_view_is_told_once_unless_it_is_set(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    folder = write_data(tmp_path, num=16, hfov_deg=[70.0] * 16)
    config = tiny_config(folder / "photos.parquet", folder / "aerial")
    load_training_data(config)
    said = "most photos see 70 degrees; with photo_hfov_deg = 70 in [data]"
    assert sum(said in message for message in caplog.messages) == 1
    caplog.clear()
    load_training_data(replace(config, data=replace(config.data, photo_hfov_deg=70.0)))
    assert not any("photo_hfov_deg" in message for message in caplog.messages)
