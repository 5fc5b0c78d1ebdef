"""Calls a Localizer again and again, and keeps how long each stage took."""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from threading import Event

import numpy as np

from geofix.bench.moving_prior import MovingPrior
from geofix.bench.photos import BenchPhoto
from geofix.bench.power import find_meter
from geofix.bench.report import STAGES, Drift, Power, StageLatency, Throughput, WarmUp
from geofix.fix import Fix
from geofix.localizer import Localizer

PRIOR_RADIUS_M = 500.0  # where no prior is given
WARM_UP_ROUNDS = 10
_IDLE_S = 1.0


class Collector:
    """What was measured so far with one Localizer.

    Attributes:
        first_call_ms: the first fix after opening.
        prior: of the searches with a prior; it moves with each round.
        warm_up, throughput, power: None until they are measured.
    """

    def __init__(
        self, localizer: Localizer, photos: Sequence[BenchPhoto], *, prior: MovingPrior | None
    ) -> None:
        """Localize the first photo, which shows whether the pack can be used.

        Args:
            localizer: an opened one.
            photos: that are localized in turns, at least one.
            prior: None is a disk around where the first photo was found.
        """
        self._localizer, self._photos = localizer, photos
        self._samples: dict[str, list[float]] = defaultdict(list)
        self.first_call_ms, fix = _timed(lambda: localizer.localize(photos[0].array))
        place = fix.candidates[0].latlon
        self.prior = prior or MovingPrior(place.lat, place.lon, PRIOR_RADIUS_M)
        self._embeddings = [localizer.embed([photo.array])[0] for photo in photos]
        self._meter, self._idle_w = find_meter(), None
        if self._meter is not None:
            with self._meter as idle:
                time.sleep(_IDLE_S)
            self._idle_w = idle.mean_w
        self.warm_up: WarmUp | None = None
        self.throughput: Throughput | None = None
        self.power: Power | None = None

    def measure_latency(self, duration_s: float) -> None:
        """Run rounds of all stages for some seconds, after some that do not count."""
        start = time.perf_counter()
        for number in range(WARM_UP_ROUNDS):
            self._round(number)
        self._samples.clear()
        total_ms = 1000 * (time.perf_counter() - start)
        self.warm_up = WarmUp(num_rounds=WARM_UP_ROUNDS, total_ms=round(total_ms, 3))
        number, end = 0, time.perf_counter() + duration_s
        while number == 0 or time.perf_counter() < end:
            self._round(number)
            number += 1

    def measure_throughput(self, duration_s: float, *, num_threads: int) -> None:
        """Localize arrays with some threads at once, and measure power meanwhile."""
        stop = Event()
        with self._meter or nullcontext(), ThreadPoolExecutor(num_threads) as pool:
            start = time.perf_counter()
            ends = [start + duration_s] * num_threads
            try:
                counts = list(pool.map(self._count_fixes, ends, [stop] * num_threads))
            finally:  # the pool waits for its threads, which Ctrl-C does not reach
                stop.set()
            rate = sum(counts) / (time.perf_counter() - start)
        self.throughput = Throughput(num_threads, sum(counts), round(rate, 3))
        self.power = self._power(rate)

    @property
    def has_samples(self) -> bool:
        """Whether each stage was counted at least once."""
        return self.warm_up is not None and all(self._samples[name] for name in STAGES)

    def stages(self) -> dict[str, StageLatency]:
        """Return the percentiles of the stages."""
        return {name: StageLatency.of(self._samples[name]) for name in STAGES}

    def drift(self) -> Drift | None:
        """Return medians of the first and the last quarter; None of fewer than eight calls."""
        taken = self._samples["total_array"]
        quarter = len(taken) // 4
        if quarter < 2:
            return None
        first, last = float(np.median(taken[:quarter])), float(np.median(taken[-quarter:]))
        return Drift(first_ms=round(first, 4), last_ms=round(last, 4))

    def _round(self, number: int) -> None:
        """Time each stage once."""
        localizer, turn = self._localizer, number % len(self._photos)
        photo, embedding = self._photos[turn], self._embeddings[turn]
        prior = self.prior.at(number)
        jpeg_ms, fix = _timed(lambda: localizer.localize(photo.jpeg))
        self._keep(total_jpeg=jpeg_ms, decode=fix.timings_ms["decode"])
        array_ms, fix = _timed(lambda: localizer.localize(photo.array))
        took = fix.timings_ms
        self._keep(total_array=array_ms, preprocess=took["preprocess"], encode=took["encode"])
        took = localizer.search(embedding).timings_ms
        self._keep(search=took["search"], posterior=took["posterior"])
        took = localizer.search(embedding, prior=prior).timings_ms
        self._keep(search_prior=took["search"])

    def _keep(self, **taken_ms: float) -> None:
        for stage, ms in taken_ms.items():
            self._samples[stage].append(ms)

    def _count_fixes(self, end: float, stop: Event) -> int:
        num = 0
        while not stop.is_set() and (num == 0 or time.perf_counter() < end):
            self._localizer.localize(self._photos[num % len(self._photos)].array)
            num += 1
        return num

    def _power(self, fixes_per_s: float) -> Power | None:
        meter = self._meter
        if meter is None or meter.mean_w is None or fixes_per_s <= 0:
            return None
        return Power(
            source=meter.source,
            rail=meter.rail,
            mean_w=meter.mean_w,
            max_w=max(meter.samples_mw) / 1000,
            idle_w=self._idle_w,
            joules_per_fix=round(meter.mean_w / fixes_per_s, 6),
        )


def _timed(call: Callable[[], Fix]) -> tuple[float, Fix]:
    """Return milliseconds and result of a call."""
    start = time.perf_counter()
    fix = call()
    return 1000 * (time.perf_counter() - start), fix
