"""How many photos a second does training see, and where does its time go?

    python -m benchmarks.training_speed [--town FOLDER]
    python -m benchmarks.training_speed --million-prototypes

Takes some steps on a small town, or with as many prototypes as a country has, on the GPU where
there is one.
"""

import argparse
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.record import Value, write_record
from geofix_index import cells as s2
from geofix_train import batches, step
from geofix_train.batches import Batch, make_batch
from geofix_train.checkpoint import save_checkpoint
from geofix_train.config import DataConfig, FitConfig, ModelConfig, ObjectiveConfig, RunConfig
from geofix_train.loop import draw_ahead
from geofix_train.model import Model, best_device, make_encoders
from geofix_train.photo_table import PhotoTable
from geofix_train.prototypes import PrototypeGrid, label_mix, label_places
from geofix_train.start import start_encoders, start_prototypes
from geofix_train.step import compile_for, make_optimizers, take_step
from geofix_train.town import make_town
from geofix_train.training_data import TrainingData, load_training_data

NUM_PHOTOS, SIZE_KM, SEED = 1500, 1.0, 1
NUM_WARM, NUM_STEPS, NUM_SPLIT = 10, 50, 20  # steps: untimed, timed, and timed part by part
NUM_PROTOTYPES, DIM, NEGATIVE_SHARE = 1_000_000, 256, 0.01
_ABOUT_SPEED = """Training on a small town with the default model. Batches are drawn by threads of
their own: *waits for a batch* is the share of a step in which training stood still for them. *Disk
reads* are the bytes that the process read during the timed steps: photos and imagery lie in memory.
The shares of a step are measured apart, with every part on its own, one after the other and
finished before the next begins: *draw* parts run beside the others in training, so that their share
is what they would add at most."""
_ABOUT_MILLION = f"""{NUM_PROTOTYPES:,} prototypes of {DIM} dimensions, photos alone, a batch of 64,
and {NEGATIVE_SHARE:.0%} of the candidates as negatives of each step. A step looks up, and changes,
only the prototypes *touched*. Prototypes and the two moments of their optimizer take 4 bytes a
number each, and lie on the GPU where there is one. Training waits while a checkpoint is written: a
run of this size wants a larger `checkpoint_seconds`."""


class Training:
    """A training that has begun: prototypes take part."""

    def __init__(self, data: TrainingData, config: FitConfig) -> None:
        torch.manual_seed(config.run.seed)
        self.data, self.config = data, config
        self.device = best_device()
        ground, aerial = make_encoders(config)
        self.model = Model(ground, aerial, len(data.grid.cells)).to(self.device)
        self.optimizers = make_optimizers(self.model, config)
        start_encoders(self.model, data, config)
        start_prototypes(self.model, data)
        self.model.train()
        self.step = 0

    def run(self, num: int) -> tuple[float, float]:
        """Take steps as `fit` does; return the seconds of a step, and of waiting for its batch."""
        waited, start = 0.0, time.perf_counter()
        steps = range(self.step, self.step + num)
        with closing(draw_ahead(self._draw, steps)) as drawn:
            for _ in steps:
                asked = time.perf_counter()
                batch = next(drawn)
                waited += time.perf_counter() - asked
                take_step(self.model, self.optimizers, batch, self.config)
        self.step += num
        return (time.perf_counter() - start) / num, waited / num

    def _draw(self, step: int) -> Batch:
        return make_batch(self.data, self.config, step, with_prototypes=True)

    def parts(self, num: int) -> dict[str, float]:
        """Take steps part by part; return the seconds that each part of a step takes."""
        seconds: dict[str, float] = defaultdict(float)

        @contextmanager
        def timed(name: str) -> Iterator[None]:
            self._finish()
            start = time.perf_counter()
            yield
            self._finish()
            seconds[name] += (time.perf_counter() - start) / num

        with ExitStack() as patches:
            for module in (batches, step):
                patches.enter_context(patch.object(module, "record_function", timed))
            for _ in range(num):
                take_step(self.model, self.optimizers, self.batch(), self.config)
                self.step += 1
        return dict(seconds)

    def batch(self) -> Batch:
        """Return the batch of the next step."""
        batch = make_batch(self.data, self.config, self.step, with_prototypes=True)
        return batch.pinned() if self.device.type == "cuda" else batch

    def _finish(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--town", type=Path, help="drawn before, by geofix-train town")
    parser.add_argument("--million-prototypes", action="store_true", help="measure these instead")
    arguments = parser.parse_args()
    is_on_gpu = best_device().type == "cuda"
    where = torch.cuda.get_device_name() if is_on_gpu else "a CPU"
    ending = "_gpu" if is_on_gpu else ""
    if arguments.million_prototypes:
        write_record(
            f"million_prototypes{ending}",
            title=f"A million prototypes on {where}",
            meaning=_ABOUT_MILLION,
            values=_million_prototypes(),
        )
        return
    with tempfile.TemporaryDirectory() as folder:
        town = arguments.town or Path(folder) / "town"
        if not arguments.town:
            make_town(town, size_km=SIZE_KM, num_photos=NUM_PHOTOS, seed=SEED)
        values = _training_speed(town_config(town), is_on_gpu=is_on_gpu)
    write_record(
        f"training_speed{ending}",
        title=f"Training speed on {where}",
        meaning=_ABOUT_SPEED,
        values=values,
        command="python -m benchmarks.training_speed",
    )


def town_config(town: Path) -> FitConfig:
    """Return the default settings for a town."""
    return FitConfig(DataConfig(str(town / "photos.parquet"), str(town / "aerial")))


def _training_speed(config: FitConfig, *, is_on_gpu: bool) -> list[Value]:
    data = load_training_data(config)
    values = []
    for batch_size in (64, 256) if is_on_gpu else (64,):
        sized = replace(config, run=replace(config.run, batch_size=batch_size))
        training = Training(data, sized)
        label = f"batch {batch_size}"
        values += _speed(training, label)
        if is_on_gpu:
            start = time.perf_counter()
            is_compiled = compile_for(training.model, training.batch())
            training.run(2)  # the first calls compile
            seconds = time.perf_counter() - start
            values.append(Value(f"{label}: compilation", round(seconds, 1), "s"))
            if is_compiled:
                values += _speed(training, f"{label}, compiled")
    return [*values, *_memory(is_on_gpu=is_on_gpu)]


def _speed(training: Training, label: str) -> list[Value]:
    """Return the speed of steps, what they read from disk, and what takes their time."""
    training.run(NUM_WARM)
    before, own = _bytes_read()
    second, waited = training.run(NUM_STEPS)
    read = _bytes_read()[0] - before - own  # looking is reading, too
    size = training.config.run.batch_size
    parts = training.parts(NUM_SPLIT)
    whole = sum(parts.values())
    return [
        Value(f"{label}: seen", round(size / second), "photos/s"),
        Value(f"{label}: waits for a batch", round(100 * waited / second, 1), "%"),
        Value(f"{label}: disk reads in {NUM_STEPS} steps", read, "bytes"),
        *(
            Value(f"{label}: {name}", round(100 * part / whole, 1), f"%, {1e3 * part:.2f} ms")
            for name, part in parts.items()
        ),
    ]


def _million_prototypes() -> list[Value]:
    is_on_gpu = best_device().type == "cuda"
    config = FitConfig(
        DataConfig(photos=""),
        ModelConfig(dim=DIM),
        ObjectiveConfig(negative_share=NEGATIVE_SHARE),
        RunConfig(batch_size=64),
    )
    training = Training(_country(config, num_photos=2048), config)
    training.run(NUM_WARM)
    second, waited = training.run(NUM_SPLIT)
    parts = training.parts(NUM_SPLIT)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        save_checkpoint(Path(folder), training.model, training.optimizers, step=training.step)
        saving = time.perf_counter() - start
    return [
        Value("a step", round(1e3 * second, 1), "ms"),
        Value("waits for its batch", round(1e3 * waited, 1), "ms"),
        Value("prototypes touched in a step", _num_touched(training.batch()), ""),
        *(Value(f"a step: {name}", round(1e3 * part, 2), "ms") for name, part in parts.items()),
        Value("a checkpoint", round(saving, 1), "s"),
        *_memory(is_on_gpu=is_on_gpu),
    ]


def _country(config: FitConfig, *, num_photos: int) -> TrainingData:
    """Return photos of noise all over a region in which every cell has a prototype."""
    rng = np.random.default_rng(SEED)
    level = config.objective.prototype_level
    around = s2.parent(s2.cell_from_latlon([47.0], [8.0], level=level), level=level - 10)
    cells = s2.descendants(around, level=level)[:NUM_PROTOTYPES]
    grid = PrototypeGrid(cells, level=level, code_level=config.objective.code_level)
    lat, lon = s2.latlon_from_cell(rng.choice(grid.candidates, num_photos)).T
    heading, path = rng.uniform(0, 360, num_photos), [f"{n}.jpg" for n in range(num_photos)]
    columns = {"path": path, "lat": lat, "lon": lon, "heading_deg": heading}
    table = PhotoTable.from_columns(columns, root=Path())
    labels = config.objective.labels
    shape = (num_photos, config.data.photo_height, config.data.photo_width, 3)
    return TrainingData(
        table=table,
        photos=rng.integers(0, 256, shape, dtype=np.uint8),
        mosaics=[],
        xy=np.zeros((num_photos, 2)),
        grid=grid,
        photo_mix=label_mix(grid, table, labels),
        tile_mix=label_mix(grid, table, "bilinear"),
        near=grid.near(*label_places(table, labels)),
        problems=(),
    )


def _num_touched(batch: Batch) -> int:
    targets = batch.photo_targets
    if targets is None:
        return 0
    mixed = (mix[0][mix[1] > 0] for mix in (targets.mix, targets.candidate_mix))
    return len(np.unique(torch.cat(list(mixed)).numpy()))


def _bytes_read() -> tuple[int, int]:
    """Return what this process had read from files, cached or not, and what this look reads."""
    text = Path("/proc/self/io").read_text()
    return int(dict(line.split(": ") for line in text.splitlines())["rchar"]), len(text)


def _memory(*, is_on_gpu: bool) -> list[Value]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # given in KiB
    values = [Value("memory at its peak", round(peak, 2), "GiB")]
    if is_on_gpu:
        peak = torch.cuda.max_memory_allocated() / 2**30
        values.append(Value("GPU memory at its peak", round(peak, 2), "GiB"))
    return values


if __name__ == "__main__":
    main()
