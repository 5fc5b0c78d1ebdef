"""Seconds and memory of exporting a run by every recipe, by the command line.

python -m benchmarks.export_all build/demo/run
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.record import Value, write_record
from geofix_export.recipe import recipe_names

# Peak memory is the child's own: what `wait` reports of it begins with its parent's.
_EXPORT = """
import sys
from pathlib import Path
from geofix_export.cli import main
status = main(sys.argv[1:])
lines = Path("/proc/self/status").read_text().splitlines()
print(next(line for line in lines if line.startswith("VmHWM")).split()[1])
sys.exit(status)
"""
_MEANING = """The demo's town, `geofix-export encoder` by each recipe that comes with geofix, one
after the other; torch's start, parity on photos that training did not see, and the embedding of
validation photos included. Memory is the peak of the process. *Ships*: 1 if the gate is passed."""


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run
    write_record(
        "export_all",
        title="Exporting a town by every recipe",
        meaning=_MEANING,
        values=list(_measure(run)),
        command="python -m benchmarks.export_all build/demo/run",
    )


def _measure(run: Path) -> Iterator[Value]:
    total = peak = 0.0
    for name in recipe_names():
        with tempfile.TemporaryDirectory() as folder:
            words = ["encoder", str(run), "--recipe", name, "-o", folder]
            start = time.perf_counter()
            command = [sys.executable, "-c", _EXPORT, *words]
            done = subprocess.run(command, capture_output=True, text=True)
            seconds = time.perf_counter() - start
        mib = int(done.stdout.splitlines()[-1]) / 1024
        total, peak = total + seconds, max(peak, mib)
        yield Value(f"{name}: takes", round(seconds, 1), "s")
        yield Value(f"{name}: peak memory", round(mib), "MiB")
        yield Value(f"{name}: ships", float(done.returncode == 0), "")
    yield Value("all: take", round(total, 1), "s")
    yield Value("all: peak memory", round(peak), "MiB")


if __name__ == "__main__":
    main()
