"""Where the time of a fix goes, beside an earlier commit: the shipped pack, a 1080p frame.

    python -m benchmarks.budget REF

REF is taken out of git and compiled, as `make bench` does it; processes of the two versions take
turns, each with one thread.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from benchmarks.record import Value, write_record
from benchmarks.suite.compare import REFERENCE, take_out

ROOT = Path(__file__).parent.parent
PACK = ROOT / "samples/town/town.geofix"
ROUNDS = 7
_STAGES = ("decode", "preprocess", "encode", "search", "posterior", "total")
_WORKER = """
import io, json, random, statistics, sys
import numpy as np
from PIL import Image
from geofix import Localizer, Prior
frame = np.asarray(Image.open(sys.argv[2]).resize((1920, 1080), Image.Resampling.BICUBIC))
file = io.BytesIO()
Image.fromarray(frame).save(file, "JPEG", quality=90)
near = Prior.disk(47.369, 8.536, radius_m=1000)
jpeg = file.getvalue()
cases = {"array": (frame, None), "array, disk of 1 km": (frame, near), "JPEG": (jpeg, None)}
fixes = {name: [] for name in cases}
with Localizer.open(sys.argv[1], num_threads=1) as localizer:
    for _ in range(110):
        for name in random.sample(list(cases), len(cases)):  # each leaves its data in the caches
            image, prior = cases[name]
            fixes[name].append(localizer.localize(image, prior=prior).timings_ms)
print(json.dumps({
    f"{name}: {stage}": statistics.median(timings[stage] for timings in told[10:])
    for name, told in fixes.items() for stage in told[0]
}))
"""
_MEANING = """One thread, a frame of 1920 x 1080 pixels as an array and as a JPEG, `samples/town`.
*Before*: {ref}. Medians of {rounds} processes of each version, in turns, each the median of a
hundred fixes of each kind, in changing order. Wanted beyond inference: at most 3 ms from an array,
if possible 2. What came since: radii are counted only where they cut through cells, the neighbours
of a cell are remembered, and cells are named by their place in the index. A hard prior that
stays costs less than 0.1 ms more than none in so small a pack, since it is weighed, and doubted; in
a pack of a million cells it is much faster than none ("A million cells")."""


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ref", metavar="REF")
    ref = parser.parse_args().ref
    take_out(ref, REFERENCE)
    sides = {"before": REFERENCE, "now": ROOT}
    taken: dict[str, list[float]] = defaultdict(list)
    for _ in range(ROUNDS):
        for side, root in sides.items():
            for what, ms in _measured(root).items():
                taken[f"{side}, {what}"].append(ms)
    write_record(
        "budget",
        title="Where the time of a fix goes",
        meaning=_MEANING.format(ref=ref, rounds=ROUNDS),
        values=list(_values(taken)),
        command=f"python -m benchmarks.budget {ref}",
    )


def _measured(root: Path) -> dict[str, float]:
    paths = os.pathsep.join(str(root / part) for part in ("sdk", "on_device_index"))
    words = [sys.executable, "-c", _WORKER, str(PACK), str(PACK.with_name("photo_1.jpg"))]
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    medians: dict[str, float] = json.loads(done.stdout)
    return medians


def _values(taken: dict[str, list[float]]) -> Iterator[Value]:
    for source in ("array", "array, disk of 1 km", "JPEG"):
        for side in ("before", "now"):
            ms = {s: statistics.median(taken[f"{side}, {source}: {s}"]) for s in _STAGES}
            for stage, value in {**ms, "beyond inference": ms["total"] - ms["encode"]}.items():
                yield Value(f"{source}, {side}: {stage}", round(value, 3), "ms")


if __name__ == "__main__":
    main()
