"""How much memory a program needs that opens a pack and localizes: measured in a fresh process.

The process of the benchmark holds photos and samples; its own figures would say little.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from geofix.bench.report import Memory

_NUM_FIXES = 20
_SECONDS = 300.0  # a TensorRT engine that has to be built first takes minutes
_PROGRAM = "from geofix.bench.memory import main; main()"


def measure_memory(
    pack: Path, jpeg: bytes, *, backend: str, encoder: Path | None = None
) -> Memory | None:
    """Return the resident memory of a process that localizes a photo 20 times.

    None where a process cannot be started or fails, or the system does not tell.
    """
    words = [str(pack), backend, "" if encoder is None else str(encoder)]
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, *words],
            input=jpeg, capture_output=True, timeout=_SECONDS, check=True,
        )  # fmt: skip
        peak, steady = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return Memory(peak_bytes=peak, steady_bytes=steady)


def main() -> None:
    """Localize the photo on stdin with the pack of the command line; write bytes of memory."""
    from geofix.localizer import Localizer

    pack, backend, encoder = sys.argv[1:]
    jpeg = sys.stdin.buffer.read()
    with Localizer.open(pack, backend=backend, encoder=encoder or None) as localizer:
        for _ in range(_NUM_FIXES):
            localizer.localize(jpeg)
        sys.stdout.write(json.dumps(resident_bytes()))


def resident_bytes() -> tuple[int, int]:
    """Return the largest resident memory of this process so far, and the present one.

    Raises:
        OSError: the system does not tell.
    """
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage: on Linux its peak begins with that of the process that started this one.
        rows = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return _kib(rows["VmHWM"]), _kib(rows["VmRSS"])
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS
    words = ["ps", "-o", "rss=", "-p", str(os.getpid())]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return peak, 1024 * int(done.stdout)


def _kib(text: str) -> int:
    return 1024 * int(text.split()[0])
