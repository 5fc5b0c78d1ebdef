"""What each part of training is worth: the same town, one thing changed at a time, three seeds.

    make demo && python -m benchmarks.ablations [--jobs N] [--table labels]

Trains on the town of the demo, on half the demo's steps, and finds the test photos. The runs are
independent; with one thread each, N of them run side by side.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.record import Value, write_record
from geofix_train.codes import encode_run, make_codes
from geofix_train.config import RUN_CONFIG, FitConfig
from geofix_train.evaluate import predict
from geofix_train.fit import fit
from geofix_train.predictions import errors_m
from geofix_train.town.dataset import AERIAL_DATES
from samples.town_demo import RECIPE, town_config

TOWN = Path("build/demo/town")
SEEDS = (0, 1, 2)
EPOCHS = 8
METHODS = ("prototypes", "aerial", "hybrid")
DISTANCES_M = (50, 100)
FIRST_DATE, LAST_DATE = AERIAL_DATES
AS_DESIGNED = "as designed"


@dataclass(frozen=True)
class Variant:
    """A training that differs from the design in one thing."""

    name: str
    change: Callable[[FitConfig], FitConfig]
    coded_from: str = ""  # the only date of imagery that cell codes are made from


def _objective(**changes: Any) -> Callable[[FitConfig], FitConfig]:
    return lambda config: replace(config, objective=replace(config.objective, **changes))


def _model(**changes: Any) -> Callable[[FitConfig], FitConfig]:
    return lambda config: replace(config, model=replace(config.model, **changes))


def _one_date(config: FitConfig) -> FitConfig:
    aerial = str(Path(config.data.aerial) / FIRST_DATE)
    return replace(config, data=replace(config.data, aerial=aerial))


def _hard(config: FitConfig) -> FitConfig:
    # At a finer code level, parts of a photo's own cell would be its negatives.
    level = config.objective.prototype_level
    return replace(config, objective=replace(config.objective, labels="hard", code_level=level))


def _same(config: FitConfig) -> FitConfig:
    return config


LABELS = (
    Variant("hard", _hard),
    Variant("bilinear", _objective(labels="bilinear")),
    Variant("frustum", _same),
)
PARTS = (
    Variant(AS_DESIGNED, _same),
    Variant("multi-similarity loss", _objective(loss="multi_similarity")),
    Variant("mean pooling for SALAD", _model(aggregator="mean")),
    Variant("a tenth of the negatives", _objective(negative_share=0.1)),
    Variant("trained without aerial pairs", _objective(ground_to_aerial=0.0)),
    Variant("both dates trained, one new to the codes", _same, LAST_DATE),
    Variant("one date trained, the other coded", _one_date, LAST_DATE),
)
_LABELS_MEANING = f"""Mean and range over {len(SEEDS)} seeds of training on the demo's town for
{EPOCHS} epochs, test split. *Hard*: a photo is to be like the prototype of its camera's cell,
against those of other cells. *Bilinear*: like a mix of the cells around the camera; *frustum*: like
a mix of the cells that it shows; both against prototypes as cell codes hold them, upsampled."""
_PARTS_MEANING = f"""Mean and range over {len(SEEDS)} seeds, as for the labels; each row changes one
thing of the design. The last two rows make cell codes from the imagery of {LAST_DATE} alone: once
an encoder that saw both dates in training, once one that saw only {FIRST_DATE}."""


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time (1)")
    parser.add_argument("--table", choices=("labels", "ablations"), help="one of both (both)")
    arguments = parser.parse_args()
    tables = [
        ("labels", "Labels: hard, bilinear, frustum", _LABELS_MEANING, LABELS),
        ("ablations", "Parts of training, one changed at a time", _PARTS_MEANING, PARTS),
    ]
    tables = [table for table in tables if arguments.table in (None, table[0])]
    variants = {v.name: v for *_, rows in tables for v in rows if v.name != "frustum"}
    variants[AS_DESIGNED] = PARTS[0]  # which has frustum labels
    shares = _measure(list(variants.values()), arguments.jobs)
    shares["frustum"] = shares[AS_DESIGNED]
    for name, title, meaning, rows in tables:
        write_record(
            name,
            title=title,
            meaning=meaning,
            values=[value for row in rows for value in _values(row.name, shares[row.name])],
            command="python -m benchmarks.ablations",
        )


def _measure(variants: list[Variant], jobs: int) -> dict[str, list[list[float]]]:
    """Return the recalls of `_figures` by variant and seed."""
    tasks = [(variant.name, seed) for variant in variants for seed in SEEDS]
    threads = 1 if jobs > 1 else os.cpu_count() or 1
    context = get_context("spawn")
    with ProcessPoolExecutor(jobs, context, torch.set_num_threads, (threads,)) as pool:
        found = dict(zip(tasks, pool.map(_recalls, *zip(*tasks, strict=True)), strict=True))
    return {v.name: [found[v.name, seed] for seed in SEEDS] for v in variants}


def _recalls(name: str, seed: int) -> list[float]:
    """Train and return the recalls of `_figures`."""
    variant = next(v for v in (*PARTS, *LABELS) if v.name == name)
    config = variant.change(town_config(RECIPE, TOWN))
    config = replace(config, run=replace(config.run, epochs=EPOCHS, seed=seed))
    with tempfile.TemporaryDirectory() as folder:
        run = fit(config, Path(folder) / "run")
        if variant.coded_from:
            aerial = str((TOWN / "aerial" / variant.coded_from).resolve())
            config = replace(config, data=replace(config.data, aerial=aerial))
            (run / RUN_CONFIG).write_text(config.to_json())
        encoded = encode_run(run)
        predictions = predict(encoded, make_codes(encoded))
    errors = {method: errors_m(predictions, method) for method in METHODS}
    return [float((errors[method] <= distance).mean()) for method, distance in _figures()]


def _figures() -> list[tuple[str, int]]:
    return [(method, distance) for method in METHODS for distance in DISTANCES_M]


def _values(name: str, recalls: list[list[float]]) -> list[Value]:
    values = []
    for which, (method, distance) in enumerate(_figures()):
        shares = [recall[which] for recall in recalls]
        spread = f"[{min(shares):.3f}, {max(shares):.3f}]"
        mean = round(float(np.mean(shares)), 4)
        values.append(Value(f"{name}, {method}: within {distance} m", mean, spread))
    return values


if __name__ == "__main__":
    main()
