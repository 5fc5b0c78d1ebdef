"""The loop of a training: take steps, log them, keep checkpoints, stop when asked to."""

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path

from torch import nn

from geofix_train.batches import Batch
from geofix_train.checkpoint import save_checkpoint
from geofix_train.config import FitConfig
from geofix_train.log_plot import LOG, draw_log
from geofix_train.model import best_device, device_name
from geofix_train.prefetch import prefetch
from geofix_train.progress import Progress
from geofix_train.step import Losses, Optimizers

_log = logging.getLogger(__name__)

_NUM_THREADS = max(1, min(8, (os.cpu_count() or 1) // 2))  # that draw batches


def draw_ahead(draw: Callable[[int], Batch], steps: range) -> Generator[Batch, None, None]:
    """Yield the batch of each step, while threads draw the next ones; close it to stop early."""
    is_on_gpu = best_device().type == "cuda"

    def ready(step: int) -> Batch:
        batch = draw(step)
        return batch.pinned() if is_on_gpu else batch

    return prefetch(ready, steps, num_ahead=2 * _NUM_THREADS, num_threads=_NUM_THREADS)


def take_steps(
    run: Path,
    model: nn.Module,
    optimizers: Optimizers,
    config: FitConfig,
    *,
    steps: range,
    draw: Callable[[int], Batch],
    take: Callable[[Batch], Losses],
) -> None:
    """Take the steps that are left of a training.

    Args:
        run: the run folder; its log and its checkpoint are written.
        model: what a checkpoint keeps, with the states of `optimizers`.
        optimizers: that `take` uses.
        config: how often a checkpoint is written.
        steps: from where training goes on to the last.
        draw: returns the batch of a step; called by threads that run ahead.
        take: takes the step; returns its losses by name, "loss" among them.

    Raises:
        KeyboardInterrupt: Ctrl-C; a checkpoint was written.
        OSError: the disk is full; the last checkpoint is kept.
    """
    _say_start(steps)
    _cut_log(run, steps.start)
    saved_at = time.monotonic()
    losses: Losses = {}
    with (
        (run / LOG).open("a", buffering=1) as log,
        Progress(desc="fit", unit="step", total=steps.stop, done=steps.start) as progress,
        closing(draw_ahead(draw, steps)) as batches,
        _Interrupt() as interrupt,
    ):
        model.train()
        for batch in batches:
            losses = take(batch)
            step = batch.step + 1
            progress.advance(f"loss={losses['loss']:.3f}")
            log.write(json.dumps({"step": step, **losses}) + "\n")
            if interrupt.is_asked or time.monotonic() - saved_at > config.run.checkpoint_seconds:
                save_checkpoint(run, model, optimizers, step=step)
                saved_at = time.monotonic()
            if interrupt.is_asked:
                draw_log(run)
                raise KeyboardInterrupt
    draw_log(run)
    if losses:  # else it was finished before
        _log.info("trained: %d steps, loss=%.3f", steps.stop, losses["loss"])


def _say_start(steps: range) -> None:
    """Log where a training begins, of how many steps, and what it runs on."""
    where = device_name(best_device())
    if steps.start == 0:
        _log.info("training on the %s, %d steps", where, steps.stop)
    elif steps.start < steps.stop:
        _log.info("going on from step %d of %d, on the %s", steps.start, steps.stop, where)
    else:
        _log.info("finished already: %d of %d steps", steps.start, steps.stop)


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
