"""Does a Localizer that threads share for long stay as it is?

python -m benchmarks.soak [PACK PHOTO...] [--seconds 600]

Threads ask one Localizer for fixes, each another photo and prior at a time, and hold them against
those that one thread got alone. Beside them a second Localizer of the pack is opened, asked and
closed, again and again. Resident memory is sampled; its growth is the slope of the line through
the second half of the samples, times its length. Linux alone.
"""

import argparse
import json
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from benchmarks.record import Value, write_record
from geofix import Localizer, Prior
from geofix.bench.memory import resident_bytes

NUM_THREADS = 8
NUM_SECONDS = 600.0
PAUSE_S = 0.2  # between samples, each of which follows upon a Localizer that was opened and closed
MAX_GROWTH_BYTES = 2 << 20  # over the second half; a fix that is kept once has a hundred bytes
TOWN = Path(__file__).parents[1] / "samples" / "town"

_MEANING = (
    "{minutes:g} minutes on the shipped pack, without priors and with three kinds. Answers are "
    "compared as the JSON of a fix, without times. Growth is the slope of the line through the "
    "second half of the samples, times its length; `make stress` refuses more than {limit} MiB, "
    "and any more open files."
)

Question = tuple[Path, Prior | None]
Pair = tuple[Question, str]  # and the right answer


@dataclass(frozen=True)
class Sample:
    """A process at one moment."""

    seconds: float  # since the start
    resident_bytes: int


@dataclass
class Soak:
    """What was seen."""

    samples: list[Sample] = field(default_factory=list)
    num_fixes: int = 0  # of the shared Localizer
    num_different: int = 0  # of these, from what one thread got alone
    num_opened: int = 0  # Localizers beside it
    growth_files: int = 0  # open descriptors after the threads ended, beyond those before

    @property
    def growth_bytes(self) -> float:
        """By how much resident memory grew over the second half."""
        return growth(self.samples, [sample.resident_bytes for sample in self.samples])


def growth(samples: Sequence[Sample], values: Sequence[float]) -> float:
    """Return the slope of values over the second half of samples, times its length."""
    half = len(samples) // 2
    seconds = np.array([sample.seconds for sample in samples[half:]])
    slope, _ = np.polyfit(seconds, np.array(values[half:], np.float64), 1)
    return float(slope * (seconds[-1] - seconds[0]))


def pairs_about(pack: Path, photos: Sequence[Path]) -> list[Pair]:
    """Return questions and what one thread is answered, alone.

    Each photo is asked about without a prior, and with one of each kind around its place.
    """
    with Localizer.open(pack, num_threads=1) as alone:
        asked: list[Question] = []
        for photo in photos:
            place = alone.localize(photo).latlon
            lat, lon = place.lat, place.lon
            asked += [
                (photo, None),
                (photo, Prior.disk(lat, lon, radius_m=300)),
                (photo, Prior.bbox(lat - 0.002, lon - 0.003, lat + 0.002, lon + 0.003)),
                (photo, Prior.gaussian(lat, lon, sigma_m=50)),
            ]
        return [(question, answer(alone, question)) for question in asked]


def answer(localizer: Localizer, question: Question) -> str:
    """Return a fix as JSON, without what it took."""
    photo, prior = question
    fix = localizer.localize(photo, prior=prior)
    return json.dumps({**fix.to_json(), "timings_ms": None})


def share(localizer: Localizer, pairs: Sequence[Pair], *, num: int) -> int:
    """Ask `num` questions in each of eight threads; return how many were answered otherwise."""
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        return sum(pool.map(lambda i: _num_different(localizer, pairs, i, num), range(NUM_THREADS)))


def soak(pack: Path, photos: Sequence[Path], *, seconds: float = NUM_SECONDS) -> Soak:
    """Return what becomes of a Localizer, and of the process, while threads share it."""
    seen = Soak()
    pairs = pairs_about(pack, photos)
    with Localizer.open(pack, num_threads=1) as shared:
        before = _num_files()
        with _asked(shared, pairs, seen):
            _open_others(pack, pairs, seen, seconds=seconds)
        seen.growth_files = _num_files() - before
    return seen


def _open_others(pack: Path, pairs: Sequence[Pair], seen: Soak, *, seconds: float) -> None:
    start = time.monotonic()
    while (now := time.monotonic() - start) < seconds:
        photo, prior = pairs[seen.num_opened % len(pairs)][0]
        with Localizer.open(pack, num_threads=1) as another:
            another.localize(photo, prior=prior)
        seen.num_opened += 1
        seen.samples.append(Sample(now, resident_bytes()[1]))
        time.sleep(PAUSE_S)


@contextmanager
def _asked(localizer: Localizer, pairs: Sequence[Pair], seen: Soak) -> Iterator[None]:
    """Let eight threads ask a Localizer while the context lasts, and count in `seen`."""
    stop = threading.Event()

    def ask(thread: int) -> None:
        while not stop.is_set():
            different = _num_different(localizer, pairs, thread, len(pairs))
            with counting:
                seen.num_fixes += len(pairs)
                seen.num_different += different

    counting = threading.Lock()
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        running = [pool.submit(ask, thread) for thread in range(NUM_THREADS)]
        try:
            yield
        finally:
            stop.set()
    for thread in running:
        thread.result()  # raises what it raised


def _num_different(localizer: Localizer, pairs: Sequence[Pair], thread: int, num: int) -> int:
    """Ask as one of the threads, each of which is at another question; return the wrong answers."""
    own = islice(cycle(pairs), 5 * thread, 5 * thread + num)
    return sum(answer(localizer, question) != right for question, right in own)


def _num_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pack", type=Path, nargs="?", default=TOWN / "town.geofix")
    parser.add_argument("photos", type=Path, nargs="*", default=sorted(TOWN.glob("*.jpg")))
    parser.add_argument("--seconds", type=float, default=NUM_SECONDS)
    arguments = parser.parse_args()
    seen = soak(arguments.pack, arguments.photos, seconds=arguments.seconds)
    _record(seen, arguments.seconds)


def _record(seen: Soak, seconds: float) -> None:
    mib = [sample.resident_bytes / 2**20 for sample in seen.samples]
    steady = round(float(np.median(mib[len(mib) // 2 :])), 1)
    values = [
        Value("fixes by eight threads on one Localizer", seen.num_fixes, ""),
        Value("of these, other than one thread gets", seen.num_different, ""),
        Value("Localizers opened, asked and closed beside it", seen.num_opened, ""),
        Value("resident memory, median of the second half", steady, "MiB"),
        Value("its growth over the second half", round(seen.growth_bytes / 2**20, 2), "MiB"),
        Value("open files more than before", seen.growth_files, ""),
    ]
    write_record(
        "soak",
        title="Threads that share a Localizer for long",
        meaning=_MEANING.format(minutes=seconds / 60, limit=MAX_GROWTH_BYTES >> 20),
        values=values,
    )


if __name__ == "__main__":
    main()
