"""Train both encoders and the prototypes: `fit` reads top to bottom.

The run folder holds `config.json`, `log.jsonl`, `log.png`, `left_out.txt` and
`checkpoint.safetensors`, that is weights, prototypes, the optimizers' states and how far training
came; `backbone.json`, if there is a pretrained one, says what it is. A stopped run resumes from its
last checkpoint to the same numbers, because everything that is drawn is drawn from (seed, step)
alone, by threads that run ahead of the step. On a GPU, encoders run in bfloat16 and, in a long run,
compiled; losses are float32 there too, and kernels may sum in another order each time.
"""

from pathlib import Path

import torch

from geofix_train.batches import Batch, make_batch
from geofix_train.checkpoint import load_checkpoint, save_checkpoint
from geofix_train.config import FitConfig
from geofix_train.loop import take_steps
from geofix_train.model import Model, best_device, make_encoders
from geofix_train.run_folder import architecture_of, begin_run, check_settings
from geofix_train.start import start_encoders, start_prototypes
from geofix_train.step import (
    Losses,
    compile_for,
    make_optimizers,
    set_learning_rates,
    take_step,
)
from geofix_train.training_data import TrainingData, load_training_data

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
    check_settings(config, run)
    architecture = architecture_of(config, run)
    torch.manual_seed(config.run.seed)
    ground, aerial = make_encoders(config, architecture)  # before photos are read: may be refused
    data = load_training_data(config, on_error=on_error)
    begin_run(config, architecture, data.problems, run)
    model = Model(ground, aerial, len(data.grid.cells)).to(best_device())
    optimizers = make_optimizers(model, config)
    num_steps, warmup_steps = _count_steps(config, data)
    step = load_checkpoint(run, model, optimizers)
    if step == 0:
        start_encoders(model, data, config)
    if best_device().type == "cuda" and num_steps - step >= COMPILE_FROM_STEPS:
        compile_for(model, make_batch(data, config, step, with_prototypes=False))

    def take(batch: Batch) -> Losses:
        if batch.step == warmup_steps:
            start_prototypes(model, data)
        set_learning_rates(optimizers, batch.step / num_steps)
        return take_step(model, optimizers, batch, config)

    take_steps(
        run,
        model,
        optimizers,
        config,
        steps=range(step, num_steps),
        draw=lambda step: make_batch(data, config, step, with_prototypes=step >= warmup_steps),
        take=take,
    )
    save_checkpoint(run, model, optimizers, step=num_steps, prototype_cells=data.grid.cells)
    return run


def _count_steps(config: FitConfig, data: TrainingData) -> tuple[int, int]:
    """Return how many steps a run has, and how many of them are without prototypes."""
    num_steps = max(1, len(data.photos) // config.run.batch_size) * config.run.epochs
    # Without imagery prototypes are all there is to learn from. A short run warms up half its time.
    warmup_steps = min(config.run.warmup_steps, num_steps // 2) if data.mosaics else 0
    return num_steps, warmup_steps
