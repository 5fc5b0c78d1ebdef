"""A process may sleep for a while: clocks jump, and nothing but `timings_ms` shows it."""

import time
from itertools import cycle
from typing import NoReturn

import pytest

import geofix.localizer
from benchmarks.soak import answer, pairs_about
from geofix import Localizer
from geofix.clock import Clock
from tests.geofix.town_pack import PACK, PHOTOS

pytest.importorskip("onnxruntime")
_READINGS_S = (0.0, 0.1, 86_400.0, -50.0, 3.0)  # backwards, too: such clocks are around


def _refuse() -> NoReturn:
    raise AssertionError("a fix asked for the time")


def test_no_fix_depends_on_a_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = pairs_about(PACK, PHOTOS[:1])
    readings = cycle(_READINGS_S)
    monkeypatch.setattr(geofix.localizer, "Clock", lambda: Clock(lambda: next(readings)))
    for clock in ("time", "time_ns", "monotonic", "monotonic_ns"):
        monkeypatch.setattr(time, clock, _refuse)
    with Localizer.open(PACK) as localizer:
        found = [answer(localizer, question) for question, _ in pairs]
        timings_ms = localizer.localize(PHOTOS[0]).timings_ms
    monkeypatch.undo()
    assert found == [right for _, right in pairs]
    assert max(timings_ms.values()) > 1e6  # the jumps were there
