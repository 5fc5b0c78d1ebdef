"""Is the working tree slower than a commit? Workload by workload, in turns.

python -m benchmarks.suite.compare [REF]

REF is a commit, a branch or a tag; HEAD if it is not given. Its `sdk` and `on_device_index` are
taken out of git into build/bench and its kernels are compiled there. The exit status is 1 where a
workload is slower for sure.
"""

import argparse
import io
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.suite.paired import ALARM_ABOVE, ROOT, PairedRatio, alarms, compare_versions
from benchmarks.suite.workloads import WORKLOADS

REFERENCE = ROOT / "build" / "bench" / "reference"
_SOURCES = ("sdk/geofix", "on_device_index/geofix_index")
_FLAGS = ["-O3", "-std=c11", "-fPIC", "-shared", "-fvisibility=hidden"]  # as hatch_build.py


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, print a table, return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("ref", nargs="?", default="HEAD", metavar="REF")
    ref = parser.parse_args(argv).ref
    take_out(ref, REFERENCE)
    found = compare_versions(REFERENCE, ROOT, list(WORKLOADS))
    print(f"The working tree in terms of {ref}; above 1 is slower; 99 % intervals.")
    print("\n".join(map(line, found)))
    slower = alarms(REFERENCE, ROOT, found)
    for ratio in slower:
        print(f"slower: {ratio.name}, {ratio.low:.3f} times at least", file=sys.stderr)
    if not slower:
        print(f"Nothing takes more than {ALARM_ABOVE} times as long for sure.")
    return 1 if slower else 0


def take_out(ref: str, folder: Path) -> None:
    """Write the runtime of a commit into a folder, which is emptied first, and compile it.

    Raises CalledProcessError where there is no such commit.
    """
    words = ["git", "archive", "--format=tar", ref, *_SOURCES]
    archive = subprocess.run(words, cwd=ROOT, capture_output=True, check=True).stdout
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    compiler = shutil.which("cc")
    if compiler is None:
        return
    for source in folder.rglob("geofix_*.c"):
        library = source.with_suffix(".so")
        subprocess.run([compiler, *_FLAGS, str(source), "-o", str(library), "-lm"], check=True)


def line(ratio: PairedRatio) -> str:
    """Return a row of the table."""
    if ratio.absent:
        return f"{ratio.name:<30}not compared: {ratio.absent}"
    interval = f"{ratio.low:.3f} to {ratio.high:.3f}"
    return f"{ratio.name:<30}{ratio.new_ms:>9.3f} ms{ratio.ratio:>8.3f}   {interval}"


if __name__ == "__main__":
    sys.exit(main())
