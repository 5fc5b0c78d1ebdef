"""How long until the first fix, from a process that has just begun?

python -m benchmarks.startup

Fresh processes, in turns; their files lie in the system's cache. What is timed begins with the
first line of the program: the interpreter's own start is not in it.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.record import Value, write_record

NUM_RUNS = 20
NUM_HEAVIEST = 5
GOALS_MS = {"import geofix": 250, "open and first fix": 500}
TOWN = Path(__file__).parents[1] / "samples" / "town"
_IMPORT = """
import time

def now():
    return time.perf_counter(), time.process_time()

start = now()
import geofix
imported = now()
spans = [(start, imported)]
"""
_FIX = f"""
localizer = geofix.Localizer.open({str(TOWN / "town.geofix")!r})
opened = now()
localizer.localize({str(TOWN / "photo_1.jpg")!r})
fixed = now()
spans = [(imported, opened), (opened, fixed), (imported, fixed)]
"""
_PRINT = "print(*(1000 * (b - a) for span in spans for a, b in zip(*span)))"
_WHAT = {_IMPORT: ["import geofix"], _IMPORT + _FIX: ["open", "first fix", "open and first fix"]}
_ROW = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)")  # us alone, us with what it imports
_MEANING = (
    "{num} fresh processes each, in turns, on the shipped pack, its files in the system's cache; "
    "the interpreter's own start is not counted. Goals: {goals}. Run at nice {nice}, with a load "
    "average of {load:.1f}: where that is high, the processor time says more. It is what an idle "
    "core would take for the import, which is one thread's. Opening imports ONNX Runtime and loads "
    "the encoder; the first fix opens the shards. The five heaviest of the import, by "
    "`-X importtime`, each without what it imports of the others: {packages}."
)


def main() -> None:
    """Measure and record."""
    found: dict[str, list[tuple[float, float]]] = {}
    packages: dict[str, list[float]] = {}
    for run in range(-1, NUM_RUNS):  # the first fills the cache
        for program, names in _WHAT.items():
            times = [float(word) for word in _run(program + _PRINT).stdout.split()]
            for name, wall, cpu in zip(names, times[::2], times[1::2], strict=True):
                found.setdefault(name, []).append((wall, cpu))
        for name, alone in self_times_ms(_run(_IMPORT, ["-X", "importtime"]).stderr).items():
            packages.setdefault(name, []).append(alone)
        if run < 0:
            found, packages = {}, {}
    goals = ", ".join(f"{name} {goal} ms" for name, goal in GOALS_MS.items())
    write_record(
        "startup",
        title="From start to first fix",
        meaning=_MEANING.format(
            num=NUM_RUNS,
            goals=goals,
            packages=_heaviest(packages),
            nice=os.nice(0),
            load=os.getloadavg()[0],
        ),
        values=list(_values(found)),
    )


def _values(found: Mapping[str, list[tuple[float, float]]]) -> Iterator[Value]:
    for name, times in found.items():
        wall, cpu = np.array(times).T
        yield Value(f"{name}: median", round(float(np.median(wall)), 1), "ms")
        yield Value(f"{name}: 90 %", round(float(np.quantile(wall, 0.9)), 1), "ms")
        yield Value(f"{name}: processor time", round(float(np.median(cpu)), 1), "ms")


def _heaviest(packages: Mapping[str, list[float]]) -> str:
    medians = {name: float(np.median(times)) for name, times in packages.items()}
    shares = {name: median / sum(medians.values()) for name, median in medians.items()}
    best = sorted(shares, key=lambda name: -shares[name])[:NUM_HEAVIEST]
    return ", ".join(f"{name} {shares[name]:.0%}" for name in best)


def self_times_ms(log: str) -> dict[str, float]:
    """Return what packages cost themselves, by a log of `-X importtime`, after `site`."""
    costs: dict[str, float] = {}
    for micros, module in _ROW.findall(log.split("| site\n")[-1]):
        package = module.split(".")[0]
        name = "Python's own" if package in sys.stdlib_module_names else package
        costs[name] = costs.get(name, 0.0) + int(micros) / 1000
    return costs


def _run(program: str, options: Sequence[str] = ()) -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, *options, "-c", program]
    return subprocess.run(words, capture_output=True, text=True, check=True)


if __name__ == "__main__":
    main()
