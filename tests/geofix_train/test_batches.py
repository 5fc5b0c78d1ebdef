"""A batch is drawn from (seed, step) alone, and says which prototypes are negatives."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from geofix_index import cells as s2
from geofix_index.sphere import great_circle_m
from geofix_train.batches import Batch, Targets, make_batch
from geofix_train.config import FitConfig
from geofix_train.prototypes import label_places
from geofix_train.training_data import TrainingData, draw_batch, load_training_data
from tests.geofix_train.tiny_data import tiny_config, write_data

NUM, SIZE = 60, 8


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> FitConfig:
    folder = write_data(tmp_path_factory.mktemp("data"), num=NUM)
    return tiny_config(folder / "photos.parquet", folder / "aerial", old_share=0.5)


@pytest.fixture(scope="module")
def data(config: FitConfig) -> TrainingData:
    return load_training_data(config)


def with_share(config: FitConfig, share: float) -> FitConfig:
    return replace(config, objective=replace(config.objective, negative_share=share))


def targets_of(data: TrainingData, config: FitConfig, step: int = 0) -> Targets:
    targets = make_batch(data, config, step, with_prototypes=True).photo_targets
    assert targets is not None
    return targets


def tensors(value: Any) -> list[torch.Tensor]:
    """Return all tensors in a batch."""
    if isinstance(value, torch.Tensor):
        return [value]
    parts = value if isinstance(value, tuple) else getattr(value, "__dict__", {}).values()
    return [tensor for part in parts for tensor in tensors(part)]


def test_a_step_draws_the_same_batch_again_and_the_next_step_another(
    data: TrainingData, config: FitConfig
) -> None:
    one, again, other = (make_batch(data, config, at, with_prototypes=True) for at in (3, 3, 4))
    assert len(tensors(one)) == len(tensors(again)) > 15
    assert all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(again), strict=True))
    assert not torch.equal(one.photos, other.photos)
    assert not torch.equal(one.crops, other.crops)


def test_a_batch_moves_to_a_device_whole(data: TrainingData, config: FitConfig) -> None:
    batch = make_batch(data, config, 0, with_prototypes=True)
    moved = batch.on(torch.device("meta"))
    assert isinstance(moved, Batch)
    assert (moved.step, moved.paths) == (batch.step, batch.paths)
    assert [t.shape for t in tensors(moved)] == [t.shape for t in tensors(batch)]
    assert {t.device.type for t in tensors(moved)} == {"meta"}


def test_before_prototypes_take_part_a_batch_has_no_targets(
    data: TrainingData, config: FitConfig
) -> None:
    batch = make_batch(data, config, 0, with_prototypes=False)
    assert batch.photo_targets is None
    assert batch.tile_targets is None
    assert batch.tiles is not None


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_negatives_are_the_drawn_candidates_far_from_a_photo(
    data: TrainingData, config: FitConfig, share: float
) -> None:
    config = with_share(config, share)
    candidates = data.grid.candidates
    numbered = copy.copy(data.grid)  # a mix tells its candidate
    numbered.candidate_mix = np.arange(len(candidates))[:, None], data.grid.candidate_mix[1]
    targets = targets_of(replace(data, grid=numbered), config, step=2)
    rows = targets.candidate_mix[0][:, 0].tolist()
    assert len(rows) == round(share * len(candidates))
    assert rows == sorted(set(rows))
    lat, lon = label_places(data.table[draw_batch(data, config, 2)], config.objective.labels)
    centres = s2.latlon_from_cell(candidates[rows])
    distance = great_circle_m(lat[:, :, None], lon[:, :, None], *centres.T).min(axis=1)
    far = distance > s2.mean_edge_m(config.objective.code_level)
    np.testing.assert_array_equal(targets.is_negative().numpy(), far)


def test_a_small_share_still_draws_a_candidate_and_another_one_each_step(
    data: TrainingData, config: FitConfig
) -> None:
    config = with_share(config, 0.001)
    mixes = [targets_of(data, config, step).candidate_mix[1] for step in range(8)]
    assert {len(weights) for weights in mixes} == {1}
    assert len({tuple(weights.ravel().tolist()) for weights in mixes}) > 1


def test_rows_without_a_prototype_are_not_labelled(data: TrainingData, config: FitConfig) -> None:
    rows, weights = data.photo_mix
    weights = weights.copy()
    batch = draw_batch(data, config, 0)
    weights[batch[[1, 4]]] = 0.0
    targets = targets_of(replace(data, photo_mix=(rows, weights)), config)
    assert targets.labelled.tolist() == [0, 2, 3, 5, 6, 7]
