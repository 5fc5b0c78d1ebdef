"""Train both encoders and the prototypes: `fit` reads top to bottom.

The run folder holds `config.json`, `log.jsonl`, `log.png`, `left_out.txt` and
`checkpoint.safetensors`, that is weights, prototypes, the optimizers' states and how far training
came; `backbone.json`, if there is a pretrained one, says what it is. A stopped run resumes from its
last checkpoint to the same numbers, because everything that is drawn is drawn from (seed, step)
alone, by threads that run ahead of the step. On a GPU, encoders run in bfloat16 and, in a long run,
compiled; losses are float32 there too, and kernels may sum in another order each time.
"""

import json
import math
import os
import signal
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.profiler import record_function
from tqdm import tqdm

from geofix_train.architecture import (
    Architecture,
    load_pretrained,
    read_architecture,
    read_run_architecture,
    write_run_architecture,
)
from geofix_train.augment import crop, recolor
from geofix_train.batches import Batch, Targets, make_batch
from geofix_train.checkpoint import (
    WEIGHTS,
    load_checkpoint,
    load_finished,
    load_weights,
    save_checkpoint,
)
from geofix_train.compiled import bf16_where_faster, compile_encoders
from geofix_train.config import (
    CONV,
    RUN_CONFIG,
    ConfigError,
    FitConfig,
    differences,
    read_run_config,
)
from geofix_train.log_plot import LOG, draw_log
from geofix_train.model import Encoder, make_encoders
from geofix_train.objective import interpolate, pair_loss
from geofix_train.prefetch import prefetch
from geofix_train.prototypes import Mix
from geofix_train.training_data import TrainingData, draw_tiles, load_training_data

LEFT_OUT = "left_out.txt"  # in a run folder: a line for each row and photo that was not used
_NUM_START_IMAGES = 256  # that the first layers start from
_MAX_GRADIENT = 5.0  # norm that the encoders' gradient is cut to
_NUM_THREADS = max(1, min(8, (os.cpu_count() or 1) // 2))  # that draw batches
COMPILE_FROM_STEPS = 4000  # compilation takes 24 s and saves 6 ms a step, of the default network

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
        OSError: the disk is full; the last checkpoint is kept, and the same call goes on from it.
        KeyboardInterrupt: Ctrl-C; a checkpoint was written, and the same call goes on from it.
    """
    _check_settings(config, run)
    architecture = _architecture(config, run)
    torch.manual_seed(config.run.seed)
    ground, aerial = make_encoders(config, architecture)  # before photos are read: may be refused
    data = load_training_data(config, on_error=on_error)
    run.mkdir(parents=True, exist_ok=True)
    if not (run / WEIGHTS).exists():  # a full disk must not take the settings from a run
        (run / RUN_CONFIG).write_text(config.to_json() + "\n")
    (run / LEFT_OUT).write_text("".join(f"{problem}\n" for problem in data.problems))
    if architecture is not None:
        write_run_architecture(architecture, run)
    model = Model(ground, aerial, len(data.grid.cells)).to(best_device())
    optimizers = make_optimizers(model, config)
    epoch_steps = max(1, len(data.photos) // config.run.batch_size)
    num_steps = epoch_steps * config.run.epochs
    # Without imagery prototypes are all there is to learn from. A short run warms up half its time.
    warmup_steps = min(config.run.warmup_steps, num_steps // 2) if data.mosaics else 0
    step = load_checkpoint(run, model, optimizers)
    if step == 0:
        start_encoders(model, data, config)
    if best_device().type == "cuda" and num_steps - step >= COMPILE_FROM_STEPS:
        compile_for(model, make_batch(data, config, step, with_prototypes=False))
    _cut_log(run, step)
    saved_at = time.monotonic()
    with (
        (run / LOG).open("a", buffering=1) as log,
        _bar(step, num_steps) as bar,
        closing(draw_ahead(data, config, range(step, num_steps), warmup_steps)) as batches,
        _Interrupt() as interrupt,
    ):
        model.train()
        for batch in batches:
            if step == warmup_steps:
                start_prototypes(model, data)
            _set_learning_rates(optimizers, step / num_steps)
            losses = take_step(model, optimizers, batch, config)
            step += 1
            bar.set_postfix(loss=f"{losses['loss']:.3f}")
            bar.update()
            log.write(json.dumps({"step": step, **losses}) + "\n")
            if interrupt.is_asked or time.monotonic() - saved_at > config.run.checkpoint_seconds:
                save_checkpoint(run, model, optimizers, step=step)
                saved_at = time.monotonic()
            if interrupt.is_asked:
                draw_log(run)
                raise KeyboardInterrupt
    save_checkpoint(run, model, optimizers, step=step, prototype_cells=data.grid.cells)
    draw_log(run)
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
    log = run / LOG
    if log.exists():
        lines = log.read_bytes().splitlines(keepends=True)
        os.truncate(log, sum(map(len, lines[:step])))  # needs no space on a full disk


def _bar(step: int, total: int) -> "tqdm[None]":
    return tqdm(initial=step, total=total, desc="fit", unit="step", disable=None)


def best_device() -> torch.device:
    """Return the GPU that CUDA offers, or else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def draw_ahead(
    data: TrainingData, config: FitConfig, steps: range, warmup_steps: int
) -> Generator[Batch, None, None]:
    """Yield the batch of each step, while threads draw the next ones; close it to stop early."""
    is_on_gpu = best_device().type == "cuda"

    def draw(step: int) -> Batch:
        batch = make_batch(data, config, step, with_prototypes=step >= warmup_steps)
        return batch.pinned() if is_on_gpu else batch

    return prefetch(draw, steps, num_ahead=2 * _NUM_THREADS, num_threads=_NUM_THREADS)


def make_optimizers(model: Model, config: FitConfig) -> Optimizers:
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
        # On the CPU, so that a run starts alike on every device.
        encoder.cpu().start_from(torch.from_numpy(pixels), generator, pretrained=pretrained)
        encoder.to(model.prototypes.weight.device)


def compile_for(model: Model, batch: Batch) -> bool:
    """Compile the encoders for the sizes of a run's batches; return whether that worked."""
    photos, tiles = _augment(batch.on(model.prototypes.weight.device))
    encoders = [(model.ground, photos)]
    if tiles is not None:
        encoders.append((model.aerial, tiles))
    return compile_encoders(*encoders)


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
    # `forward` is never compiled: these batches have sizes of their own.
    return np.concatenate([encoder.forward(batch).cpu().numpy() for batch in batches])


def take_step(
    model: Model, optimizers: Optimizers, batch: Batch, config: FitConfig
) -> dict[str, float]:
    """Take one optimizer step; return the losses by name.

    Raises:
        FloatingPointError: the loss is not a number; the weights are spoilt.
    """
    # For backbones that drop paths in training.
    torch.manual_seed((config.run.seed << 32) + batch.step)
    with record_function("to the device"):
        batch = batch.on(model.prototypes.weight.device)
    losses = dict(_losses(model, batch, config))
    loss = torch.stack(list(losses.values())).sum()
    with record_function("backward"):
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
    with record_function("optimizers"):
        encoders = [*model.ground.parameters(), *model.aerial.parameters()]
        nn.utils.clip_grad_norm_(encoders, _MAX_GRADIENT)
        optimizers[0].step()
        if batch.photo_targets:
            optimizers[1].step()
    # Read at once and at the end: the CPU waits here for all that the GPU still has to do.
    total, *parts = torch.stack([loss, *losses.values()]).tolist()
    if not math.isfinite(total):
        raise FloatingPointError(
            f"loss is {total} at step {batch.step + 1}; the batch starts {batch.paths}"
        )
    return {"loss": total, **dict(zip(losses, parts, strict=True))}


def _losses(model: Model, batch: Batch, config: FitConfig) -> Iterator[tuple[str, Tensor]]:
    """Yield the weighted loss of each pair, in float32 whatever the encoders compute in."""
    objective = config.objective
    photos, tiles = _augment(batch)
    ground = _encode(model.ground, photos)
    if batch.photo_targets:
        loss = _prototype_loss(model, ground, batch.photo_targets, config)
        yield "ground_to_prototype", objective.ground_to_prototype * loss
    if tiles is None or batch.apart is None:
        return
    aerial = _encode(model.aerial, tiles)
    if batch.tile_targets:
        loss = _prototype_loss(model, aerial, batch.tile_targets, config)
        yield "aerial_to_prototype", objective.aerial_to_prototype * loss
    with record_function("losses"):
        similarity = ground @ aerial.T
        both_ways = [
            pair_loss(s.diagonal(), s, batch.apart, objective) for s in (similarity, similarity.T)
        ]
        loss = torch.stack(both_ways).mean()
    yield "ground_to_aerial", objective.ground_to_aerial * loss


def _augment(batch: Batch) -> tuple[Tensor, Tensor | None]:
    """Return a batch's photos and tiles, changed as drawn."""
    with record_function("augmentation"):
        photos = recolor(batch.photos, batch.photo_colors)
        rows, aged = batch.aged
        photos[rows] = aged.to(photos.dtype)
        photos = crop(photos, batch.crops)
        if batch.tiles is None or batch.tile_colors is None:
            return photos, None
        return photos, recolor(batch.tiles, batch.tile_colors)


def _encode(encoder: Encoder, images: Tensor) -> Tensor:
    with record_function("forward"), bf16_where_faster(images.device):
        embeddings: Tensor = encoder(images)
    return embeddings


def _prototype_loss(
    model: Model, embeddings: Tensor, targets: Targets, config: FitConfig
) -> Tensor:
    """Return the loss of embeddings (B, D) against the prototypes that they are to be like.

    They are compared with what they will be searched in: prototypes as cell codes hold them.
    """
    with record_function("losses"):
        positive = (embeddings * interpolate(model.prototypes, *targets.mix)).sum(dim=1)
        candidates = interpolate(model.prototypes, *targets.candidate_mix)
        labelled = targets.labelled
        return pair_loss(
            positive[labelled],
            (embeddings @ candidates.T)[labelled],
            targets.is_negative()[labelled],
            config.objective,
        )
