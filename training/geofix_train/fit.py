"""Train both encoders and the prototypes: `fit` reads top to bottom.

The run folder holds `config.json`, `log.jsonl`, `log.png`, `left_out.txt` and
`checkpoint.safetensors`, that is weights, prototypes, the optimizers' states and how far training
came; `backbone.json`, if there is a pretrained one, says what it is. A stopped run resumes from its
last checkpoint to the same numbers, because everything that is drawn is drawn from (seed, step)
alone, by threads that run ahead of the step. On a GPU, encoders run in bfloat16 and, in a long run,
compiled; losses are float32 there too, and kernels may sum in another order each time.
"""

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from geofix_train.architecture import (
    Architecture,
    read_architecture,
    read_run_architecture,
    write_run_architecture,
)
from geofix_train.batches import Batch, make_batch
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
from geofix_train.log_plot import LOG, draw_log
from geofix_train.model import Model, best_device, device_name, make_encoders
from geofix_train.prefetch import prefetch
from geofix_train.progress import Progress
from geofix_train.start import start_encoders, start_prototypes
from geofix_train.step import compile_for, make_optimizers, set_learning_rates, take_step
from geofix_train.training_data import TrainingData, load_training_data

_log = logging.getLogger(__name__)

LEFT_OUT = "left_out.txt"  # in a run folder: a line for each row and photo that was not used
_NUM_THREADS = max(1, min(8, (os.cpu_count() or 1) // 2))  # that draw batches
COMPILE_FROM_STEPS = 4000  # compilation takes 24 s and saves 6 ms a step, of the default network


def fit(config: FitConfig, run: Path, *, on_error: str = "stop") -> Path:
    """Train, or go on with a stopped run; return the run folder.

    Args:
        config: the settings; a run folder keeps those that it was started with.
        run: the run folder, made where absent.
        on_error: "stop" or "skip" bad rows and unreadable photos; RUN/left_out.txt lists these.

    Raises:
        TableError: the data cannot be used.
        ConfigError: `run` holds a run with other settings, or files and no run, or the settings do
            not fit the data.
        FloatingPointError: the loss is not a number; the last checkpoint is kept.
        OSError: the disk is full; the last checkpoint is kept, and the same call goes on from it.
        KeyboardInterrupt: Ctrl-C; a checkpoint was written, and the same call goes on from it.
    """
    _check_settings(config, run)
    architecture = _architecture(config, run)
    torch.manual_seed(config.run.seed)
    ground, aerial = make_encoders(config, architecture)  # before photos are read: may be refused
    data = load_training_data(config, on_error=on_error)
    _write_settings(config, architecture, data, run)
    model = Model(ground, aerial, len(data.grid.cells)).to(best_device())
    optimizers = make_optimizers(model, config)
    num_steps, warmup_steps = _count_steps(config, data)
    step = load_checkpoint(run, model, optimizers)
    _say_start(step, num_steps)
    if step == 0:
        start_encoders(model, data, config)
    if best_device().type == "cuda" and num_steps - step >= COMPILE_FROM_STEPS:
        compile_for(model, make_batch(data, config, step, with_prototypes=False))
    _cut_log(run, step)
    saved_at = time.monotonic()
    losses: dict[str, float] = {}
    with (
        (run / LOG).open("a", buffering=1) as log,
        Progress(desc="fit", unit="step", total=num_steps, done=step) as progress,
        closing(draw_ahead(data, config, range(step, num_steps), warmup_steps)) as batches,
        _Interrupt() as interrupt,
    ):
        model.train()
        for batch in batches:
            if step == warmup_steps:
                start_prototypes(model, data)
            set_learning_rates(optimizers, step / num_steps)
            losses = take_step(model, optimizers, batch, config)
            step += 1
            progress.advance(f"loss={losses['loss']:.3f}")
            log.write(json.dumps({"step": step, **losses}) + "\n")
            if interrupt.is_asked or time.monotonic() - saved_at > config.run.checkpoint_seconds:
                save_checkpoint(run, model, optimizers, step=step)
                saved_at = time.monotonic()
            if interrupt.is_asked:
                draw_log(run)
                raise KeyboardInterrupt
    save_checkpoint(run, model, optimizers, step=step, prototype_cells=data.grid.cells)
    draw_log(run)
    if losses:  # else it was finished before
        _log.info("trained: %d steps, loss=%.3f", num_steps, losses["loss"])
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
    """Refuse to go on with a run that has other settings, and to write among other files."""
    if not (run / WEIGHTS).exists():
        _check_folder(run)
        return
    changed = differences(read_run_config(run), config)
    if changed:
        raise ConfigError(
            f"{run} holds a run with other settings ({', '.join(changed)}): choose another folder"
        )


def _check_folder(run: Path) -> None:
    """Refuse a folder that is neither empty nor a run that stopped before its first checkpoint."""
    if run.exists() and not run.is_dir():
        raise ConfigError(f"{run}: is a file, want a folder for the run")
    if not run.exists() or not any(run.iterdir()):
        return
    try:
        read_run_config(run)
    except ConfigError:
        raise ConfigError(
            f"{run} holds files and no run: choose another folder, or remove it"
        ) from None


def _architecture(config: FitConfig, run: Path) -> Architecture | None:
    """Return that of the pretrained backbone: a run that goes on keeps the one it has."""
    if config.model.backbone == CONV:
        return None
    if (run / WEIGHTS).exists():
        return read_run_architecture(run)
    return read_architecture(config.model.backbone)


def _write_settings(
    config: FitConfig, architecture: Architecture | None, data: TrainingData, run: Path
) -> None:
    """Begin a run folder: all but what training itself writes."""
    run.mkdir(parents=True, exist_ok=True)
    if not (run / WEIGHTS).exists():  # a full disk must not take the settings from a run
        (run / RUN_CONFIG).write_text(config.to_json() + "\n")
    (run / LEFT_OUT).write_text("".join(f"{problem}\n" for problem in data.problems))
    if architecture is not None:
        write_run_architecture(architecture, run)


def _count_steps(config: FitConfig, data: TrainingData) -> tuple[int, int]:
    """Return how many steps a run has, and how many of them are without prototypes."""
    num_steps = max(1, len(data.photos) // config.run.batch_size) * config.run.epochs
    # Without imagery prototypes are all there is to learn from. A short run warms up half its time.
    warmup_steps = min(config.run.warmup_steps, num_steps // 2) if data.mosaics else 0
    return num_steps, warmup_steps


def _say_start(step: int, num_steps: int) -> None:
    """Log where a training begins, of how many steps, and what it runs on."""
    where = device_name(best_device())
    if step == 0:
        _log.info("training on the %s, %d steps", where, num_steps)
    elif step < num_steps:
        _log.info("going on from step %d of %d, on the %s", step, num_steps, where)
    else:
        _log.info("finished already: %d of %d steps", step, num_steps)


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


def draw_ahead(
    data: TrainingData, config: FitConfig, steps: range, warmup_steps: int
) -> Generator[Batch, None, None]:
    """Yield the batch of each step, while threads draw the next ones; close it to stop early."""
    is_on_gpu = best_device().type == "cuda"

    def draw(step: int) -> Batch:
        batch = make_batch(data, config, step, with_prototypes=step >= warmup_steps)
        return batch.pinned() if is_on_gpu else batch

    return prefetch(draw, steps, num_ahead=2 * _NUM_THREADS, num_threads=_NUM_THREADS)
