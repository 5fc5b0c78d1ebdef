"""Train both encoders and the prototypes: `fit` reads top to bottom.

The run folder holds `config.json`, `log.jsonl`, `left_out.txt` and `checkpoint.safetensors`, that
is weights, prototypes, the optimizers' states and how far training came; `backbone.json`, if there
is a pretrained one, says what it is. A stopped run resumes from its last checkpoint to the same
numbers, because everything that is drawn is drawn from (seed, step) alone.
"""

import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from tqdm import tqdm

from geofix_index.sphere import great_circle_m
from geofix_train.architecture import (
    Architecture,
    load_pretrained,
    read_architecture,
    read_run_architecture,
    write_run_architecture,
)
from geofix_train.augment import age, crop, recolor
from geofix_train.checkpoint import (
    WEIGHTS,
    load_checkpoint,
    load_finished,
    load_weights,
    save_checkpoint,
)
from geofix_train.config import (
    CONV,
    RUN_CONFIG,
    ConfigError,
    FitConfig,
    differences,
    read_run_config,
)
from geofix_train.model import Encoder, make_encoders
from geofix_train.objective import interpolate, pair_loss
from geofix_train.prototypes import Mix
from geofix_train.training_data import TrainingData, draw_batch, draw_tiles, load_training_data

LEFT_OUT = "left_out.txt"  # in a run folder: a line for each row and photo that was not used
_NUM_START_IMAGES = 256  # that the first layers start from
_MAX_GRADIENT = 5.0  # norm that the encoders' gradient is cut to

Optimizers = tuple[torch.optim.Optimizer, torch.optim.Optimizer]


class Model(nn.Module):
    """Everything that is learned."""

    def __init__(self, ground: Encoder, aerial: Encoder, num_prototypes: int) -> None:
        super().__init__()
        self.ground, self.aerial = ground, aerial
        self.prototypes = nn.Embedding(num_prototypes, ground.projection.out_features, sparse=True)
        nn.init.zeros_(self.prototypes.weight)


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
        KeyboardInterrupt: Ctrl-C; a checkpoint was written, and the same call goes on from it.
    """
    _check_settings(config, run)
    architecture = _architecture(config, run)
    torch.manual_seed(config.run.seed)
    ground, aerial = make_encoders(config, architecture)  # before photos are read: may be refused
    data = load_training_data(config, on_error=on_error)
    run.mkdir(parents=True, exist_ok=True)
    (run / RUN_CONFIG).write_text(config.to_json() + "\n")
    (run / LEFT_OUT).write_text("".join(f"{problem}\n" for problem in data.problems))
    if architecture is not None:
        write_run_architecture(architecture, run)
    model = Model(ground, aerial, len(data.grid.cells)).to(_device())
    optimizers = _optimizers(model, config)
    epoch_steps = max(1, len(data.photos) // config.run.batch_size)
    num_steps = epoch_steps * config.run.epochs
    # Without imagery prototypes are all there is to learn from. A short run warms up half its time.
    warmup_steps = min(config.run.warmup_steps, num_steps // 2) if data.mosaics else 0
    step = load_checkpoint(run, model, optimizers)
    if step == 0:
        start_encoders(model, data, config)
    _cut_log(run, step)
    saved_at = time.monotonic()
    with (
        (run / "log.jsonl").open("a", buffering=1) as log,
        _bar(step, num_steps) as bar,
        _Interrupt() as interrupt,
    ):
        model.train()
        while step < num_steps:
            if step == warmup_steps:
                start_prototypes(model, data)
            _set_learning_rates(optimizers, step / num_steps)
            is_warm = step >= warmup_steps
            losses = _step(model, optimizers, data, config, step, with_prototypes=is_warm)
            step += 1
            bar.set_postfix(loss=f"{losses['loss']:.3f}")
            bar.update()
            log.write(json.dumps({"step": step, **losses}) + "\n")
            if interrupt.is_asked or time.monotonic() - saved_at > config.run.checkpoint_seconds:
                save_checkpoint(run, model, optimizers, step=step)
                saved_at = time.monotonic()
            if interrupt.is_asked:
                raise KeyboardInterrupt
    save_checkpoint(run, model, optimizers, step=step, prototype_cells=data.grid.cells)
    return run


def load_model(run: Path) -> tuple[FitConfig, Model, npt.NDArray[np.uint64]]:
    """Return the settings of a finished run, its model, and the cells of its prototypes.

    Raises:
        ConfigError: no settings in the folder, or its backbone needs transformers.
        CheckpointError: the run is not finished, or its weights are not of these settings.
    """
    config = read_run_config(run)
    weights, prototype_cells = load_finished(run)
    architecture = None if config.model.backbone == CONV else read_run_architecture(run)
    model = Model(*make_encoders(config, architecture), len(prototype_cells))
    load_weights(model, weights, run)
    return config, model.eval(), prototype_cells


def _check_settings(config: FitConfig, run: Path) -> None:
    """Refuse to go on with a run that was started with other settings."""
    if not (run / WEIGHTS).exists():
        return
    changed = differences(read_run_config(run), config)
    if changed:
        raise ConfigError(
            f"{run} holds a run with other settings ({', '.join(changed)}): choose another folder"
        )


def _architecture(config: FitConfig, run: Path) -> Architecture | None:
    """Return that of the pretrained backbone: a run that goes on keeps the one it has."""
    if config.model.backbone == CONV:
        return None
    if (run / WEIGHTS).exists():
        return read_run_architecture(run)
    return read_architecture(config.model.backbone)


class _Interrupt:
    """Turns the first Ctrl-C into a request to stop after the step; a second one stops at once."""

    is_asked = False

    def __enter__(self) -> "_Interrupt":
        self._is_main = threading.current_thread() is threading.main_thread()
        if self._is_main:
            self._former = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *error: object) -> None:
        if self._is_main:
            signal.signal(signal.SIGINT, self._former)

    def _ask(self, number: int, frame: object) -> None:
        self.is_asked = True
        signal.signal(signal.SIGINT, self._former)


def _cut_log(run: Path, step: int) -> None:
    """Drop from the log what a stopped run did after its last checkpoint: it is done again."""
    log = run / "log.jsonl"
    lines = log.read_text().splitlines(keepends=True) if log.exists() else []
    log.write_text("".join(lines[:step]))


def _bar(step: int, total: int) -> "tqdm[None]":
    return tqdm(initial=step, total=total, desc="fit", unit="step", disable=None)


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _optimizers(model: Model, config: FitConfig) -> Optimizers:
    """Return one for the encoders, and one that touches only prototypes that had a gradient."""
    run = config.run
    encoders = [p for encoder in (model.ground, model.aerial) for p in encoder.parameters()]
    encoders = [parameter for parameter in encoders if parameter.requires_grad]
    optimizers = (
        torch.optim.AdamW(
            encoders, lr=run.learning_rate, weight_decay=run.weight_decay, fused=True
        ),
        torch.optim.SparseAdam(model.prototypes.parameters(), lr=run.prototype_learning_rate),
    )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def _set_learning_rates(optimizers: Optimizers, progress: float) -> None:
    """One cycle: up over the first tenth, then down to zero along a straight line."""
    share = min(progress / 0.1 + 0.05, 1.0) * min(1.0, (1.0 - progress) / 0.9)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * share


def start_encoders(model: Model, data: TrainingData, config: FitConfig) -> None:
    """Give pretrained backbones their weights, and let the other layers start from their images.

    Raises:
        ConfigError: the pretrained weights cannot be read.
    """
    rng = np.random.default_rng([config.run.seed, 3])
    rows = rng.permutation(len(data.photos))[:_NUM_START_IMAGES]
    images = [(model.ground, data.photos[rows])]
    if data.mosaics:
        images.append((model.aerial, draw_tiles(data, config, rows, rng)))
    is_pretrained = config.model.backbone != CONV
    pretrained = load_pretrained(config.model.backbone) if is_pretrained else None
    generator = torch.Generator().manual_seed(config.run.seed)
    for encoder, pixels in images:
        encoder.start_from(torch.from_numpy(pixels), generator, pretrained=pretrained)


@torch.no_grad()
def start_prototypes(model: Model, data: TrainingData) -> None:
    """Set each prototype to the mean embedding of the photos that mix it."""
    embeddings = embed(model.ground, data.photos)
    means = mean_prototypes(embeddings, data.photo_mix, len(data.grid.cells))
    model.prototypes.weight.copy_(torch.from_numpy(means))
    model.train()


def mean_prototypes(
    embeddings: npt.NDArray[np.float32], mix: Mix, num_prototypes: int
) -> npt.NDArray[np.float32]:
    """Return class means (C, D) of unit length, photos weighted by interpolation."""
    rows, weights = mix
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
    device = next(encoder.parameters()).device
    starts = range(0, len(images), batch_size)
    batches = (torch.from_numpy(images[at : at + batch_size]).to(device) for at in starts)
    return np.concatenate([encoder(batch).cpu().numpy() for batch in batches])


def _step(
    model: Model,
    optimizers: Optimizers,
    data: TrainingData,
    config: FitConfig,
    step: int,
    *,
    with_prototypes: bool,
) -> dict[str, float]:
    """Take one optimizer step; return the losses by name."""
    rng = np.random.default_rng([config.run.seed, step])
    torch.manual_seed((config.run.seed << 32) + step)  # for backbones that drop paths in training
    batch = draw_batch(data, config, step)
    device = _device()
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        losses = dict(_losses(model, data, config, batch, rng, with_prototypes=with_prototypes))
    loss = torch.stack(list(losses.values())).sum()
    if not torch.isfinite(loss):
        names = data.table.columns["path"][batch[:4]].tolist()
        raise FloatingPointError(
            f"loss is {loss.item()} at step {step + 1}; the batch starts {names}"
        )
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    encoders = [*model.ground.parameters(), *model.aerial.parameters()]
    nn.utils.clip_grad_norm_(encoders, _MAX_GRADIENT)
    optimizers[0].step()
    if with_prototypes:
        optimizers[1].step()
    return {"loss": loss.item(), **{name: value.item() for name, value in losses.items()}}


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
    objective, device = config.objective, model.prototypes.weight.device
    photos = recolor(torch.from_numpy(data.photos[batch]).to(device), rng)
    photos = age(photos, rng, share=config.run.old_share)
    ground = model.ground(crop(photos, rng, zoom=config.run.zoom))
    if with_prototypes:
        loss = _prototype_loss(model, ground, data, config, batch, rng, mix=data.photo_mix)
        yield "ground_to_prototype", objective.ground_to_prototype * loss
    if not data.mosaics:
        return
    tiles = torch.from_numpy(draw_tiles(data, config, batch, rng)).to(device)
    aerial = model.aerial(recolor(tiles, rng))
    if with_prototypes:
        loss = _prototype_loss(model, aerial, data, config, batch, rng, mix=data.tile_mix)
        yield "aerial_to_prototype", objective.aerial_to_prototype * loss
    lat, lon = data.table.lat[batch], data.table.lon[batch]
    apart = great_circle_m(lat[:, None], lon[:, None], lat, lon) > objective.tile_negative_m
    similarity, is_negative = ground @ aerial.T, torch.from_numpy(apart).to(device)
    both_ways = [
        pair_loss(s.diagonal(), s, is_negative, objective) for s in (similarity, similarity.T)
    ]
    yield "ground_to_aerial", objective.ground_to_aerial * torch.stack(both_ways).mean()


def _prototype_loss(
    model: Model,
    embeddings: Tensor,
    data: TrainingData,
    config: FitConfig,
    batch: npt.NDArray[np.intp],
    rng: np.random.Generator,
    *,
    mix: Mix,
) -> Tensor:
    """Return the loss of embeddings (B, D) against the prototypes that they are to be like.

    They are compared with what they will be searched in: prototypes as cell codes hold them.
    """
    grid, device = data.grid, embeddings.device
    rows, weights = (torch.from_numpy(part[batch]).to(device) for part in mix)
    has_prototype = weights.sum(dim=1) > 0
    positive = (embeddings * interpolate(model.prototypes, rows, weights)).sum(dim=1)
    num = max(1, round(config.objective.negative_share * len(grid.candidates)))
    drawn = np.sort(rng.permutation(len(grid.candidates))[:num])
    candidate_mix = (torch.from_numpy(part[drawn]).to(device) for part in grid.candidate_mix)
    candidates = interpolate(model.prototypes, *candidate_mix)
    lat, lon = (part[batch] for part in data.places)
    far = torch.from_numpy(grid.negatives(lat, lon, candidates=drawn)).to(device)
    return pair_loss(
        positive[has_prototype],
        (embeddings @ candidates.T)[has_prototype],
        far[has_prototype],
        config.objective,
    )
