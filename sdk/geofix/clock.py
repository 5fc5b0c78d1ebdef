"""Times stages that follow each other; one that comes again adds to what it took before."""

import time
from collections.abc import Callable


class Clock:
    """Starts with the first stage."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        """Start; `now` tells seconds."""
        self._now = now
        self._start = self._last = now()
        self._timings_ms: dict[str, float] = {}

    def stop(self, stage: str) -> None:
        """End a stage; the next begins."""
        now = self._now()
        took_ms = 1000 * (now - self._last)
        self._timings_ms[stage] = self._timings_ms.get(stage, 0.0) + took_ms
        self._last = now

    def timings_ms(self) -> dict[str, float]:
        """Return the stages and their sum."""
        return {**self._timings_ms, "total": 1000 * (self._last - self._start)}
