"""How far long work has come: a bar on a terminal, elsewhere a line now and then.

Lines go to the logger "geofix_train", which says nothing unless somebody listens; the command
`geofix-train` does, and puts them on stderr.
"""

import logging
import time

from tqdm import tqdm

LINE_SECONDS = 30.0  # between two lines

_log = logging.getLogger(__name__)


class Progress:
    """Counts what is done of work whose size is known."""

    def __init__(self, *, desc: str, unit: str, total: int, done: int = 0) -> None:
        self._desc, self._unit, self._total = desc, unit, total
        self._done = self._first = done
        self._began = self._said = time.monotonic()
        self._bar = tqdm(initial=done, total=total, desc=desc, unit=unit, disable=None)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def advance(self, note: str = "") -> None:
        """Count one more as done; the note stands beside the count."""
        self._done += 1
        if note:
            self._bar.set_postfix_str(note)
        self._bar.update()
        now = time.monotonic()
        if self._bar.disable and now - self._said >= LINE_SECONDS:
            _log.info("%s", self._line(now, note))
            self._said = now

    def _line(self, now: float, note: str) -> str:
        left_s = (now - self._began) / (self._done - self._first) * (self._total - self._done)
        count = f"{self._unit} {self._done} of {self._total} ({self._done / self._total:.0%})"
        facts = filter(None, (count, note, f"about {duration_text(left_s)} left"))
        return f"{self._desc}: {', '.join(facts)}"


def duration_text(seconds: float) -> str:
    """Return seconds as people say them: "40 s", "12 min", "1.5 h"."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if seconds < 99.5 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
