"""What should a photo be like: its own cell, the cells around the camera, or what it shows?

    make demo && python -m benchmarks.labels

Trains on the town of the demo with each kind of label and three seeds, on half the demo's steps.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.record import Value, write_record
from geofix_train.codes import encode_run, make_codes
from geofix_train.config import FitConfig
from geofix_train.evaluate import predict
from geofix_train.fit import fit
from geofix_train.predictions import errors_m
from geofix_train.prototypes import LABELS
from samples.town_demo import RECIPE, town_config

TOWN = Path("build/demo/town")
SEEDS = (0, 1, 2)
EPOCHS = 8
METHODS = ("prototypes", "hybrid")
DISTANCES_M = (50, 100)
_MEANING = f"""Mean and range over {len(SEEDS)} seeds of training on the demo's town for {EPOCHS}
epochs, test split. *Hard*: a photo is to be like the prototype of its camera's cell, against those
of other cells. *Bilinear*: like a mix of the cells around the camera; *frustum*: like a mix of the
cells that it shows; both against prototypes as cell codes hold them, upsampled. Frustum is best in
the mean, but its range touches that of bilinear."""


def main() -> None:
    """Measure and record."""
    values = []
    for labels in LABELS:
        recalls = [_recalls(_config(labels, seed)) for seed in SEEDS]
        for which, (method, distance) in enumerate(_figures()):
            shares = [recall[which] for recall in recalls]
            spread = f"[{min(shares):.3f}, {max(shares):.3f}]"
            mean = round(float(np.mean(shares)), 4)
            values.append(Value(f"{labels}, {method}: within {distance} m", mean, spread))
    write_record(
        "labels",
        title="Labels: hard, bilinear, frustum",
        meaning=_MEANING,
        values=values,
        command="python -m benchmarks.labels",
    )


def _figures() -> list[tuple[str, int]]:
    return [(method, distance) for method in METHODS for distance in DISTANCES_M]


def _config(labels: str, seed: int) -> FitConfig:
    config = town_config(RECIPE, TOWN)
    objective = replace(config.objective, labels=labels)
    if labels == "hard":  # at the finer level, parts of the own cell would be negatives
        objective = replace(objective, code_level=objective.prototype_level)
    run = replace(config.run, epochs=EPOCHS, seed=seed)
    return replace(config, objective=objective, run=run)


def _recalls(config: FitConfig) -> list[float]:
    """Train and return the recalls of `_figures`."""
    with tempfile.TemporaryDirectory() as folder:
        encoded = encode_run(fit(config, Path(folder) / "run"))
        predictions = predict(encoded, make_codes(encoded))
    errors = {method: errors_m(predictions, method) for method in METHODS}
    return [float((errors[method] <= distance).mean()) for method, distance in _figures()]


if __name__ == "__main__":
    main()
