"""How long does a fix take, stage by stage?

python -m benchmarks.localize PACK PHOTO...
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.record import Value, write_record
from geofix import Localizer

NUM_FIXES = 200
NUM_WARMUP = 20


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pack", type=Path, metavar="PACK")
    parser.add_argument("photos", type=Path, nargs="+", metavar="PHOTO")
    arguments = parser.parse_args()
    with Localizer.open(arguments.pack) as localizer:
        order = [arguments.photos[i % len(arguments.photos)] for i in range(NUM_FIXES)]
        for photo in order[:NUM_WARMUP]:
            localizer.localize(photo)
        timings = [localizer.localize(photo).timings_ms for photo in order]
        num_cells = localizer.coverage.num_cells
    values = []
    for stage in timings[0]:
        ms = [timing[stage] for timing in timings]
        values.append(Value(f"{stage}: median", round(float(np.median(ms)), 3), "ms"))
        values.append(Value(f"{stage}: 95 %", round(float(np.quantile(ms, 0.95)), 3), "ms"))
    write_record(
        "localize",
        title="A fix, stage by stage",
        meaning=f"{NUM_FIXES} photos of 128 x 96 pixels from files, one at a time, {num_cells} "
        "cells, ONNX Runtime on the CPU, no prior.",
        values=values,
        command="python -m benchmarks.localize build/demo/town.geofix build/demo/photos/*.jpg",
    )


if __name__ == "__main__":
    main()
