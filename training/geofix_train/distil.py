"""Train a student: a small query encoder that scores a teacher's cells as the teacher does.

The teacher's cell codes are frozen, so a database that is on devices already stays as it is, and
one pack can carry both encoders. The run folder is that of `fit`, with the ground encoder alone;
RUN/codes holds the teacher's cell codes, and the validation photos as the student embeds them.

A student that was told only what is right would have to find out by itself which places look alike.
The teacher's scores say it: of a photo the student learns the teacher's probabilities of the best
cells and of others drawn at random (knowledge distillation, arXiv 1503.02531), and its embedding.
The teacher sees each photo once, as it is; the student sees it changed, as in `fit`.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from geofix_train.batches import Batch, make_batch
from geofix_train.cell_codes import CODES, QUERIES, map_cell_codes, write_queries
from geofix_train.checkpoint import load_checkpoint, save_checkpoint
from geofix_train.codes import make_queries
from geofix_train.config import ConfigError, FitConfig
from geofix_train.loop import take_steps
from geofix_train.model import Encoder, best_device, embed, make_encoders
from geofix_train.photo_table import read_photo_table
from geofix_train.photos import read_photos
from geofix_train.run_folder import (
    architecture_of,
    begin_run,
    check_settings,
    load_query_encoder,
)
from geofix_train.start import start_encoder
from geofix_train.step import (
    Losses,
    Optimizers,
    augmented_photos,
    encode,
    make_optimizer,
    set_learning_rates,
    update,
)
from geofix_train.training_data import TrainingData, draw_batch, input_spec, load_training_data
from geofix_train.whole_file import whole_file

NUM_BEST, NUM_RANDOM = 64, 2048  # cells that a photo's scores are compared on
_AT_ONCE = 256  # photos

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Lesson:
    """What a teacher says of N training photos."""

    cell_codes: Floats  # (C, D)
    embeddings: Floats  # (N, D)
    best: npt.NDArray[np.int64]  # (N, K) rows of the cells that score best


def distil(config: FitConfig, teacher: Path, run: Path, *, on_error: str = "stop") -> Path:
    """Train a student, or go on with a stopped run; return the run folder.

    Args:
        config: the settings, see `read_student_config`. `model.dim` is the teacher's; photos may
            have another size than the teacher's.
        teacher: a finished run folder with cell codes.
        run: the run folder, made where absent.
        on_error: "stop" or "skip" bad rows and unreadable photos.

    Raises:
        TableError, ConfigError, FloatingPointError, OSError, KeyboardInterrupt: as of `fit`.
        CheckpointError: the teacher's run is not finished.
        CellCodesError: it has no cell codes.
    """
    check_settings(config, run)
    architecture = architecture_of(config, run)
    torch.manual_seed(config.run.seed)
    ground, _ = make_encoders(config, architecture)
    data = load_training_data(config, on_error=on_error)
    lesson = _teach(teacher, config, data)
    begin_run(config, architecture, data.problems, run)
    _keep_codes(teacher, run)
    student = nn.ModuleDict({"ground": ground}).to(best_device())
    optimizers = (make_optimizer(ground.parameters(), config),)
    num_steps = max(1, len(data.photos) // config.run.batch_size) * config.run.epochs
    step = load_checkpoint(run, student, optimizers)
    if step == 0:
        start_encoder(ground, data.photos, config)

    def take(batch: Batch) -> Losses:
        set_learning_rates(optimizers, batch.step / num_steps)
        return _take_step(ground, optimizers, batch, lesson, data, config)

    take_steps(
        run,
        student,
        optimizers,
        config,
        steps=range(step, num_steps),
        draw=lambda step: make_batch(data, config, step, with_prototypes=False),
        take=take,
    )
    save_checkpoint(
        run, student, optimizers, step=num_steps, prototype_cells=np.zeros(0, np.uint64)
    )
    _write_queries(ground, config, run, on_error=on_error)
    return run


def lesson_losses(
    embeddings: Tensor, taught: Tensor, cell_codes: Tensor, *, temperature: float
) -> dict[str, Tensor]:
    """Return how far a student is from its teacher.

    Args:
        embeddings: (B, D) of the student, unit length.
        taught: (B, D) of the teacher.
        cell_codes: (F, D) that both are compared with.
        temperature: of the probabilities that scores become.

    Returns:
        "scores": mean Kullback-Leibler divergence of the student's probabilities over the cells
        from the teacher's; "embeddings": mean of 1 - cosine.
    """
    learned, wanted = (e @ cell_codes.T / temperature for e in (embeddings, taught))
    scores = functional.kl_div(
        learned.log_softmax(dim=1),
        wanted.log_softmax(dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return {"scores": scores, "embeddings": 1 - (embeddings * taught).sum(dim=1).mean()}


def _take_step(
    ground: Encoder,
    optimizers: Optimizers,
    batch: Batch,
    lesson: Lesson,
    data: TrainingData,
    config: FitConfig,
) -> Losses:
    device = ground.projection.weight.device
    rows = draw_batch(data, config, batch.step)
    cells = _cells_of_step(lesson, rows, config, batch.step)
    taught, cell_codes = (
        torch.from_numpy(values).to(device)
        for values in (lesson.embeddings[rows], lesson.cell_codes[cells])
    )
    torch.manual_seed((config.run.seed << 32) + batch.step)
    embeddings = encode(ground, augmented_photos(batch.on(device)))
    losses = lesson_losses(embeddings, taught, cell_codes, temperature=config.objective.temperature)
    return update(optimizers, losses, [*ground.parameters()], batch)


def _cells_of_step(
    lesson: Lesson, rows: npt.NDArray[np.intp], config: FitConfig, step: int
) -> npt.NDArray[np.intp]:
    """Return the best cells of a batch's photos, and random ones."""
    num = len(lesson.cell_codes)
    drawn = np.random.default_rng([config.run.seed, 11, step]).integers(num, size=NUM_RANDOM)
    return np.unique(np.concatenate([lesson.best[rows].ravel(), drawn]))


def _teach(teacher: Path, config: FitConfig, data: TrainingData) -> Lesson:
    """Return what a teacher says of the training photos."""
    own, encoder = load_query_encoder(teacher)
    codes = np.asarray(map_cell_codes(teacher / CODES).cell_codes)
    if config.model.dim != codes.shape[1]:
        raise ConfigError(
            f"model.dim is {config.model.dim}, the teacher's cell codes have {codes.shape[1]}"
        )
    photos = data.photos
    if input_spec(own) != input_spec(config):
        photos, _, _ = read_photos(data.table, input_spec(own), blur=config.data.blur)
    embeddings = embed(encoder.to(best_device()), photos)
    return Lesson(codes, embeddings, np.concatenate(list(_best(embeddings, codes))))


def _best(embeddings: Floats, codes: Floats) -> Iterator[npt.NDArray[np.int64]]:
    num = min(NUM_BEST, len(codes))
    for at in range(0, len(embeddings), _AT_ONCE):
        scores = embeddings[at : at + _AT_ONCE] @ codes.T
        yield np.argpartition(scores, -num, axis=1)[:, -num:]


def _keep_codes(teacher: Path, run: Path) -> None:
    """Copy the teacher's cell codes into the run; refuse a run of other codes."""
    given, kept = teacher / CODES, run / CODES
    if kept.exists():
        if kept.read_bytes() != given.read_bytes():
            raise ConfigError(
                f"{run} holds a student of other cell codes than {given}: choose another folder"
            )
        return
    kept.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(kept) as part:
        shutil.copyfile(given, part)


def _write_queries(encoder: Encoder, config: FitConfig, run: Path, *, on_error: str) -> None:
    """Keep the validation photos as the student embeds them, to calibrate packs with."""
    table, _ = read_photo_table(Path(config.data.photos), on_error=on_error)
    rows = np.flatnonzero(table.split == "val")
    if len(rows) == 0:
        return
    photos, is_read, _ = read_photos(
        table[rows], input_spec(config), blur=config.data.blur, on_error=on_error
    )
    rows, photos = rows[is_read], photos[is_read]
    write_queries(make_queries(table, rows, photos, embed(encoder, photos)), run / QUERIES)
