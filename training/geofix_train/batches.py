"""What a step learns from: drawn on the CPU from (seed, step) alone, so that it can be drawn ahead.

A batch holds B photos, as many tiles of imagery, and all numbers that its step needs: changes of
the images, the prototypes that they are to be like, and those that they are to be unlike.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.profiler import record_function

from geofix_index.sphere import great_circle_m
from geofix_train.augment import Colors, draw_aged, draw_colors, draw_crops
from geofix_train.config import FitConfig
from geofix_train.prototypes import Mix
from geofix_train.training_data import TrainingData, draw_batch, draw_tiles


@dataclass(frozen=True)
class Targets:
    """The prototypes that B embeddings are to be like, and F candidates to tell them from."""

    mix: tuple[Tensor, Tensor]  # prototypes (B, K) and their weights (B, K)
    labelled: Tensor  # (L,) rows that have a prototype at all
    candidate_mix: tuple[Tensor, Tensor]  # (F, K) each
    near: Tensor  # (B, M) candidates that are no negatives of a row; F where there are fewer

    def is_negative(self) -> Tensor:
        """Return which candidates are negatives of each row, (B, F)."""
        num = len(self.candidate_mix[0])
        far = self.near.new_ones((len(self.near), num + 1), dtype=torch.bool)
        return far.scatter_(1, self.near, False)[:, :num]


@dataclass(frozen=True)
class Batch:
    """What a step learns from; `on` moves it to the model's device."""

    step: int
    paths: list[str]  # of the first photos, to name them where something is wrong
    photos: Tensor  # (B, H, W, 3) uint8
    photo_colors: Colors
    aged: tuple[Tensor, Tensor]  # rows that look old, and what they look like
    crops: Tensor  # (B, 2, 3)
    photo_targets: Targets | None  # None before prototypes take part
    tiles: Tensor | None  # (B, side, side, 3) uint8; None without imagery, like what follows
    tile_colors: Colors | None
    tile_targets: Targets | None
    apart: Tensor | None  # (B, B) bool: photo and tile show different places

    def on(self, device: torch.device) -> "Batch":
        """Return the batch on a device, without waiting for it."""
        moved: Batch = _map_tensors(self, lambda part: part.to(device, non_blocking=True))
        return moved

    def pinned(self) -> "Batch":
        """Return the batch in memory that a GPU reads while the CPU goes on."""
        pinned: Batch = _map_tensors(self, Tensor.pin_memory)
        return pinned


def make_batch(data: TrainingData, config: FitConfig, step: int, *, with_prototypes: bool) -> Batch:
    """Draw what a step learns from.

    Args:
        data: what to draw from.
        config: the settings; the seed is among them.
        step: counted from 0.
        with_prototypes: whether prototypes take part yet.
    """
    rng = np.random.default_rng([config.run.seed, step])
    rows = draw_batch(data, config, step)
    with record_function("draw photos"):
        photos = data.photos[rows]
        photo_colors = draw_colors(
            len(rows), rng, strength=config.run.recolor, gray_share=config.run.gray_share
        )
        aged = draw_aged(photos, photo_colors, rng, share=config.run.old_share)
        crops = draw_crops(len(rows), rng, zoom=config.run.zoom)
    photo_targets = tile_targets = tiles = tile_colors = apart = None
    if with_prototypes:
        photo_targets = _draw_targets(data, config, rows, rng, mix=data.photo_mix)
    if data.mosaics:
        with record_function("draw tiles"):
            tiles = torch.from_numpy(draw_tiles(data, config, rows, rng))
        tile_colors = draw_colors(len(rows), rng, strength=config.run.recolor_tiles)
        if with_prototypes:
            tile_targets = _draw_targets(data, config, rows, rng, mix=data.tile_mix)
        lat, lon = data.table.lat[rows], data.table.lon[rows]
        distance = great_circle_m(lat[:, None], lon[:, None], lat, lon)
        apart = torch.from_numpy(distance > config.objective.tile_negative_m)
    return Batch(
        step=step,
        paths=data.table.columns["path"][rows[:4]].tolist(),
        photos=torch.from_numpy(photos),
        photo_colors=photo_colors,
        aged=aged,
        crops=crops,
        photo_targets=photo_targets,
        tiles=tiles,
        tile_colors=tile_colors,
        tile_targets=tile_targets,
        apart=apart,
    )


def _draw_targets(
    data: TrainingData,
    config: FitConfig,
    rows: npt.NDArray[np.intp],
    rng: np.random.Generator,
    *,
    mix: Mix,
) -> Targets:
    with record_function("draw candidates"):
        grid = data.grid
        drawn = _draw_candidates(len(grid.candidates), config.objective.negative_share, rng)
        near = data.near[rows]
        at = np.searchsorted(drawn, near)
        is_drawn = drawn[np.minimum(at, len(drawn) - 1)] == near
        return Targets(
            mix=_rows_of(mix, rows),
            labelled=torch.from_numpy(np.flatnonzero(mix[1][rows].sum(axis=1) > 0)),
            candidate_mix=_rows_of(grid.candidate_mix, drawn),
            near=torch.from_numpy(np.where(is_drawn, at, len(drawn))),
        )


def _draw_candidates(num: int, share: float, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Return a share of `num` candidates, sorted; at least one."""
    num_drawn = max(1, round(share * num))
    if num_drawn < num:  # without visiting them all: there may be millions
        return np.sort(rng.choice(num, num_drawn, replace=False, shuffle=False))
    rng.permutation(num)  # unused; what is drawn after it stays as published numbers have it
    return np.arange(num)


def _rows_of(mix: Mix, rows: npt.NDArray[np.intp]) -> tuple[Tensor, Tensor]:
    prototypes, weights = (torch.from_numpy(part[rows]) for part in mix)
    return prototypes, weights


def _map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return a dataclass or tuple with each tensor in it changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple):
        return tuple(_map_tensors(part, change) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: getattr(value, field.name) for field in fields(value)}
        return replace(value, **{n: _map_tensors(part, change) for n, part in parts.items()})
    return value
