"""Train both encoders and the prototypes: `fit` reads top to bottom.

The run folder holds `config.json`, `log.jsonl`, `checkpoint.safetensors` (weights, prototypes and
the optimizer's state) and `checkpoint.json` (how far training came). A stopped run resumes from
its last checkpoint to the same numbers, because every batch is drawn from (seed, step) alone.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from geofix.input_spec import InputSpec
from geofix_index import cells
from geofix_index.sphere import great_circle_m
from geofix_train.aerial import Mosaic, read_imagery
from geofix_train.augment import crop, recolor
from geofix_train.checkpoint import load_checkpoint, load_finished, load_weights, save_checkpoint
from geofix_train.config import RUN_CONFIG, ConfigError, FitConfig, read_run_config
from geofix_train.model import Encoder
from geofix_train.objective import PrototypeGrid, interpolate, pair_loss
from geofix_train.photo_table import PhotoTable, TableError, read_photo_table
from geofix_train.photos import read_photos

LEFT_OUT = "left_out.txt"  # in a run folder: a line for each row and photo that was not used
_NUM_START_IMAGES = 256  # that the first layers start from


@dataclass(frozen=True)
class TrainingData:
    """Training photos in memory, their positions, and the imagery around them."""

    table: PhotoTable
    photos: npt.NDArray[np.uint8]  # (N, H, W, 3)
    mosaics: list[Mosaic]
    xy: npt.NDArray[np.float64]  # (N, 2) on the mosaics' plane
    grid: PrototypeGrid
    rows: npt.NDArray[np.intp]  # (N, 4) prototypes that each photo mixes
    weights: npt.NDArray[np.float32]  # (N, 4)
    problems: tuple[str, ...]  # a sentence for each row and photo that was left out


class Model(nn.Module):
    """Everything that is learned."""

    def __init__(self, config: FitConfig, num_prototypes: int) -> None:
        super().__init__()
        self.ground = Encoder(config.model)
        self.aerial = Encoder(config.model)
        self.prototypes = nn.Parameter(torch.zeros(num_prototypes, config.model.dim))


def fit(config: FitConfig, run: Path, *, on_error: str = "stop") -> Path:
    """Train, or go on with a stopped run; return the run folder.

    Args:
        config: the settings; a run folder keeps those that it was started with.
        run: the run folder, made where absent.
        on_error: "stop" or "skip" bad rows and unreadable photos; RUN/left_out.txt lists these.

    Raises:
        TableError: the data cannot be used.
        ConfigError: `run` holds a run with other settings, or the settings do not fit the data.
        FloatingPointError: the loss is not a number; the last checkpoint is kept.
    """
    _start(config, run)
    data = load_training_data(config, on_error=on_error)
    (run / LEFT_OUT).write_text("".join(f"{problem}\n" for problem in data.problems))
    torch.manual_seed(config.run.seed)
    model = Model(config, len(data.grid.cells))
    optimizer = _optimizer(model, config)
    epoch_steps = max(1, len(data.photos) // config.run.batch_size)
    num_steps = epoch_steps * config.run.epochs
    # Without imagery prototypes are all there is to learn from. A short run warms up half its time.
    warmup_steps = min(config.run.warmup_steps, num_steps // 2) if data.mosaics else 0
    step = load_checkpoint(run, model, optimizer)
    if step == 0:
        start_encoders(model, data, config)
    _cut_log(run, step)
    saved_at = time.monotonic()
    with (run / "log.jsonl").open("a", buffering=1) as log, _bar(step, num_steps) as bar:
        model.train()
        while step < num_steps:
            if step == warmup_steps:
                start_prototypes(model, data)
            _set_learning_rates(optimizer, step / num_steps)
            is_warm = step >= warmup_steps
            losses = _step(model, optimizer, data, config, step, with_prototypes=is_warm)
            step += 1
            bar.set_postfix(loss=f"{losses['loss']:.3f}")
            bar.update()
            log.write(json.dumps({"step": step, **losses}) + "\n")
            if time.monotonic() - saved_at > config.run.checkpoint_seconds:
                save_checkpoint(run, model, optimizer, step=step)
                saved_at = time.monotonic()
    save_checkpoint(run, model, optimizer, step=step, prototype_cells=data.grid.cells)
    return run


def load_model(run: Path) -> tuple[FitConfig, Model, npt.NDArray[np.uint64]]:
    """Return the settings of a finished run, its model, and the cells of its prototypes.

    Raises:
        ConfigError: no settings in the folder.
        CheckpointError: the run is not finished, or its weights are not of these settings.
    """
    config = read_run_config(run)
    weights, prototype_cells = load_finished(run)
    model = Model(config, len(prototype_cells))
    load_weights(model, weights, run)
    return config, model.eval(), prototype_cells


def load_training_data(config: FitConfig, *, on_error: str = "stop") -> TrainingData:
    """Read photos and imagery, and lay the prototypes' grid over them."""
    table, bad_rows = read_photo_table(Path(config.data.photos), on_error=on_error)
    table = table[table.is_train]
    if len(table) == 0:
        raise TableError(f"{config.data.photos}: no photo has split 'train'")
    photos, is_read, unreadable = read_photos(
        table, input_spec(config), blur=config.data.blur, on_error=on_error
    )
    table, photos = table[is_read], photos[is_read]
    mosaics = load_imagery(config)
    xy = np.zeros((len(table), 2))
    if mosaics:
        xy = mosaics[0].frame.xy(table.lat, table.lon)
        _check_cover(table, mosaics, xy)
    grid = prototype_grid(_cells_with_photos(table, config), config)
    rows, weights = grid.mix(table.lat, table.lon)
    if config.run.batch_size > len(table):
        raise ConfigError(
            f"run.batch_size is {config.run.batch_size}, more than the {len(table)} training photos"
        )
    problems = (*bad_rows, *unreadable)
    return TrainingData(table, photos, mosaics, xy, grid, rows, weights, problems)


def prototype_grid(cells_with_photos: npt.NDArray[np.uint64], config: FitConfig) -> PrototypeGrid:
    """Return the grid of a run's prototypes."""
    objective = config.objective
    return PrototypeGrid(
        cells_with_photos, level=objective.prototype_level, code_level=objective.code_level
    )


def load_imagery(config: FitConfig) -> list[Mosaic]:
    """Read the imagery of a run, one mosaic a date; none where the run has no imagery."""
    if not config.data.aerial:
        return []
    pixel_m = config.data.tile_side_m / config.data.tile_pixels
    return read_imagery(Path(config.data.aerial), pixel_m=pixel_m, zoom=config.data.aerial_zoom)


def input_spec(config: FitConfig) -> InputSpec:
    """Return what the ground encoder of a run takes."""
    return InputSpec(width=config.data.photo_width, height=config.data.photo_height)


def _cells_with_photos(table: PhotoTable, config: FitConfig) -> npt.NDArray[np.uint64]:
    level, least = config.objective.prototype_level, config.objective.min_images
    found, counts = np.unique(
        cells.cell_from_latlon(table.lat, table.lon, level=level), return_counts=True
    )
    if not (counts >= least).any():
        raise ConfigError(
            f"no level-{level} cell has objective.min_images = {least} training photos; "
            f"the fullest has {counts.max()}"
        )
    return np.asarray(found[counts >= least])


def _check_cover(table: PhotoTable, mosaics: list[Mosaic], xy: npt.NDArray[np.float64]) -> None:
    if mosaics[0].covers(xy).any():
        return
    if mosaics[0].covers(mosaics[0].frame.xy(table.lon, table.lat)).any():
        raise TableError("no photo lies in the imagery, but with lat and lon swapped some do")
    raise TableError(
        f"no photo lies in the imagery, which is around {mosaics[0].frame.lat:.5f}, "
        f"{mosaics[0].frame.lon:.5f}; the first photo is at {table.lat[0]:.5f}, {table.lon[0]:.5f}"
    )


def _start(config: FitConfig, run: Path) -> None:
    """Make the run folder, or check that it belongs to these settings."""
    run.mkdir(parents=True, exist_ok=True)
    kept = run / RUN_CONFIG
    if kept.exists() and read_run_config(run) != config:
        raise ConfigError(f"{run} holds a run with other settings: choose another folder")
    kept.write_text(config.to_json() + "\n")


def _cut_log(run: Path, step: int) -> None:
    """Drop from the log what a stopped run did after its last checkpoint: it is done again."""
    log = run / "log.jsonl"
    lines = log.read_text().splitlines(keepends=True) if log.exists() else []
    log.write_text("".join(lines[:step]))


def _bar(step: int, total: int) -> "tqdm[None]":
    return tqdm(initial=step, total=total, desc="fit", unit="step", disable=None)


def _optimizer(model: Model, config: FitConfig) -> torch.optim.Optimizer:
    encoders = [*model.ground.parameters(), *model.aerial.parameters()]
    run = config.run
    groups = [
        {"params": encoders, "lr": run.learning_rate, "weight_decay": run.weight_decay},
        {"params": [model.prototypes], "lr": run.prototype_learning_rate, "weight_decay": 0.0},
    ]
    for group in groups:
        group["peak_lr"] = group["lr"]
    return torch.optim.AdamW(groups, fused=True)


def _set_learning_rates(optimizer: torch.optim.Optimizer, progress: float) -> None:
    """One cycle: up over the first tenth, then down to zero along a straight line."""
    share = min(progress / 0.1 + 0.05, 1.0) * min(1.0, (1.0 - progress) / 0.9)
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * share


def start_encoders(model: Model, data: TrainingData, config: FitConfig) -> None:
    """Let the first layer of each encoder start from what its images look like."""
    rng = np.random.default_rng([config.run.seed, 3])
    rows = rng.permutation(len(data.photos))[:_NUM_START_IMAGES]
    generator = torch.Generator().manual_seed(config.run.seed)
    model.ground.start_from(torch.from_numpy(data.photos[rows]), generator)
    if data.mosaics:
        model.aerial.start_from(_tiles(data, config, rows, rng), generator)


@torch.no_grad()
def start_prototypes(model: Model, data: TrainingData) -> None:
    """Set each prototype to the mean embedding of the photos that mix it."""
    embeddings = embed(model.ground, data.photos)
    means = mean_prototypes(embeddings, data.rows, data.weights, len(model.prototypes))
    model.prototypes.copy_(torch.from_numpy(means))
    model.train()


def mean_prototypes(
    embeddings: npt.NDArray[np.float32],
    rows: npt.NDArray[np.intp],
    weights: npt.NDArray[np.float32],
    num_prototypes: int,
) -> npt.NDArray[np.float32]:
    """Return class means (C, D) of unit length, photos weighted by interpolation."""
    sums = np.zeros((num_prototypes, embeddings.shape[1]), np.float32)
    for k in range(rows.shape[1]):
        np.add.at(sums, rows[:, k], embeddings * weights[:, k, None])
    return np.asarray(sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12))


@torch.no_grad()
def embed(
    encoder: Encoder, images: npt.NDArray[np.uint8], *, batch_size: int = 128
) -> npt.NDArray[np.float32]:
    """Embed images (N, H, W, 3); return (N, D)."""
    encoder.eval()
    starts = range(0, len(images), batch_size)
    parts = [encoder(torch.from_numpy(images[at : at + batch_size])).numpy() for at in starts]
    return np.concatenate(parts)


def _step(
    model: Model,
    optimizer: torch.optim.Optimizer,
    data: TrainingData,
    config: FitConfig,
    step: int,
    *,
    with_prototypes: bool,
) -> dict[str, float]:
    """Take one optimizer step; return the losses by name."""
    rng = np.random.default_rng([config.run.seed, step])
    batch = _draw_batch(data, config, step)
    losses = dict(_losses(model, data, config, batch, rng, with_prototypes=with_prototypes))
    loss = torch.stack(list(losses.values())).sum()
    if not torch.isfinite(loss):
        names = data.table.columns["path"][batch[:4]].tolist()
        raise FloatingPointError(
            f"loss is {loss.item()} at step {step + 1}; the batch starts {names}"
        )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    return {"loss": loss.item(), **{name: value.item() for name, value in losses.items()}}


def _draw_batch(data: TrainingData, config: FitConfig, step: int) -> npt.NDArray[np.intp]:
    """Return the photos of a step: each epoch is a permutation of all."""
    size = config.run.batch_size
    epoch, at = divmod(step, max(1, len(data.photos) // size))
    order = np.random.default_rng([config.run.seed, 7, epoch]).permutation(len(data.photos))
    return order[at * size : (at + 1) * size]


def _losses(
    model: Model,
    data: TrainingData,
    config: FitConfig,
    batch: npt.NDArray[np.intp],
    rng: np.random.Generator,
    *,
    with_prototypes: bool,
) -> Iterator[tuple[str, Tensor]]:
    """Yield the weighted loss of each pair."""
    objective = config.objective
    photos = recolor(torch.from_numpy(data.photos[batch]), rng)
    ground = model.ground(crop(photos, rng, zoom=config.run.zoom))
    lat, lon = data.table.lat[batch], data.table.lon[batch]
    # Photos are compared with what they will be searched in: prototypes as cell codes hold them.
    prototypes = functional.normalize(model.prototypes, dim=1)
    candidates = interpolate(prototypes, *map(torch.from_numpy, data.grid.candidate_mix))
    far = torch.from_numpy(data.grid.negatives(lat, lon))
    rows, weights = torch.from_numpy(data.rows[batch]), torch.from_numpy(data.weights[batch])
    mixed = interpolate(prototypes, rows, weights)
    has_prototype = weights.sum(dim=1) > 0

    def to_prototypes(embeddings: Tensor) -> Tensor:
        kept = embeddings[has_prototype]
        positive = (kept * mixed[has_prototype]).sum(dim=1)
        return pair_loss(positive, kept @ candidates.T, far[has_prototype], objective)

    if with_prototypes:
        yield "ground_to_prototype", objective.ground_to_prototype * to_prototypes(ground)
    if not data.mosaics:
        return
    aerial = model.aerial(recolor(_tiles(data, config, batch, rng), rng))
    if with_prototypes:
        yield "aerial_to_prototype", objective.aerial_to_prototype * to_prototypes(aerial)
    apart = great_circle_m(lat[:, None], lon[:, None], lat, lon) > objective.tile_negative_m
    similarity, is_negative = ground @ aerial.T, torch.from_numpy(apart)
    both_ways = [
        pair_loss(s.diagonal(), s, is_negative, objective) for s in (similarity, similarity.T)
    ]
    yield "ground_to_aerial", objective.ground_to_aerial * torch.stack(both_ways).mean()


def _tiles(
    data: TrainingData, config: FitConfig, batch: npt.NDArray[np.intp], rng: np.random.Generator
) -> Tensor:
    """Return the tile of each photo, moved and turned at random, all from one date."""
    mosaic = data.mosaics[rng.integers(len(data.mosaics))]
    shift = rng.uniform(-config.run.shift_m, config.run.shift_m, (len(batch), 2))
    tiles = mosaic.tiles(
        data.xy[batch] + shift,
        side_m=config.data.tile_side_m,
        num_pixels=config.data.tile_pixels,
        rotation_deg=rng.uniform(0, 360, len(batch)),
    )
    return torch.from_numpy(tiles)
