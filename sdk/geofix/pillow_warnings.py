"""Keeps Pillow's warnings from users: a picture is readable, or an ImageError says why not."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

from geofix_index.forks import ForkSafeLock

_PILLOW = r"PIL(\.|$)"
_lock = ForkSafeLock()
_num_inside = 0


@contextmanager
def no_pillow_warnings() -> Iterator[None]:
    """Ignore warnings that Pillow's own modules raise while the context lasts; threads may overlap.

    `warnings.catch_warnings` would put back the filters of the whole process, and undo what other
    threads changed meanwhile; this adds one filter, and takes that one away.
    """
    global _num_inside
    with _lock:
        if _num_inside == 0:
            warnings.filterwarnings("ignore", module=_PILLOW)
        _num_inside += 1
    try:
        yield
    finally:
        with _lock:
            _num_inside -= 1
            if _num_inside == 0:
                _remove_filter()


def _remove_filter() -> None:
    filters = cast("list[Any]", warnings.filters)
    with suppress(ValueError):  # someone has put other filters in place
        filters.remove(("ignore", None, Warning, re.compile(_PILLOW), 0))
