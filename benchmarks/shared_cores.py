"""Does training go on where other programs use the cores? Sets GOMP_SPINCOUNT in cli.py.

    python -m benchmarks.shared_cores

Takes steps on a small town, each time in a process of its own with other settings of OpenMP, alone
and beside processes that never rest. Settings take turns, so that a busy machine slows all of them.
"""

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.record import Value, write_record
from benchmarks.training_speed import Training, town_config
from geofix_train.town import make_town
from geofix_train.training_data import load_training_data

SETTINGS = {
    "OpenMP's default": {},
    "GOMP_SPINCOUNT=3000": {"GOMP_SPINCOUNT": "3000"},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    "OMP_NUM_THREADS=1": {"OMP_NUM_THREADS": "1"},
}
OTHERS = (0, 1, 2)  # processes that never rest
NUM_ROUNDS = 3
NUM_WARM, NUM_STEPS = 3, 20
_MEANING = """Steps a second of training on a small town (0.8 km, 800 photos, batches of 64),
medians of {rounds}, on {cores} cores. `geofix-train` and `make` set `GOMP_SPINCOUNT=3000`: threads
that wait for others soon sleep, instead of taking the cores from those that they wait for."""


def main() -> None:
    """Measure and record; with a town, take steps on it and print how many a second."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("town", type=Path, nargs="?", help="for a process that takes steps")
    arguments = parser.parse_args()
    if arguments.town:
        print(_steps_a_second(arguments.town))
        return
    speeds: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        town = Path(folder) / "town"
        make_town(town, size_km=0.8, num_photos=800, seed=1)
        for _ in range(NUM_ROUNDS):
            for others in OTHERS:
                for name, settings in SETTINGS.items():
                    with _busy(others):
                        speeds.setdefault((name, others), []).append(_in_process(town, settings))
    values = [
        Value(f"{name}: {_beside(others)}", round(float(np.median(speeds[name, others])), 2), "")
        for name in SETTINGS
        for others in OTHERS
    ]
    write_record(
        "shared_cores",
        title="Training on shared cores",
        meaning=_MEANING.format(rounds=NUM_ROUNDS, cores=os.cpu_count()),
        values=values,
        command="python -m benchmarks.shared_cores",
    )


def _steps_a_second(town: Path) -> float:
    config = town_config(town)
    training = Training(load_training_data(config), config)
    training.run(NUM_WARM)
    return 1 / training.run(NUM_STEPS)[0]


def _in_process(town: Path, settings: dict[str, str]) -> float:
    ours = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    words = [sys.executable, "-m", "benchmarks.shared_cores", str(town)]
    done = subprocess.run(
        words, env={**environment, **settings}, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


@contextmanager
def _busy(num: int) -> Iterator[None]:
    """Keep as many cores busy while the context lasts."""
    processes = [multiprocessing.Process(target=_never_rest, daemon=True) for _ in range(num)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _never_rest() -> None:
    while True:
        pass


def _beside(others: int) -> str:
    return ("alone", "beside one busy process", "beside two")[others]


if __name__ == "__main__":
    main()
