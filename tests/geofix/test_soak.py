"""A process in which threads localize for long stays as it is: `make stress` looks ten minutes.

GEOFIX_SOAK_SECONDS is another time.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import soak
from geofix import Localizer
from tests.geofix.town_pack import PACK, PHOTOS

pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts open files in /proc")
FEW_SECONDS = 3.0
MANY_SECONDS = float(os.environ.get("GEOFIX_SOAK_SECONDS", soak.NUM_SECONDS))


def test_opening_and_closing_leaves_no_file_open() -> None:
    before = _open_files()
    for photo in PHOTOS:
        with Localizer.open(PACK, num_threads=1) as localizer:
            localizer.localize(photo)
            assert _open_files() > before
        assert _open_files() == before  # at once, before anything is collected


@pytest.mark.stress
def test_memory_and_files_stay_flat() -> None:
    seen = soak.soak(PACK, PHOTOS, seconds=MANY_SECONDS)
    assert seen.num_fixes > 0
    assert seen.num_different == 0
    assert seen.growth_files == 0
    assert seen.growth_bytes < soak.MAX_GROWTH_BYTES


@pytest.mark.parametrize("leak", [False, True])
def test_localizers_that_stay_open_are_found_out(
    monkeypatch: pytest.MonkeyPatch, leak: bool
) -> None:
    kept: list[Localizer] = []
    if leak:
        monkeypatch.setattr(Localizer, "close", lambda localizer: kept.append(localizer))
    seen = soak.soak(PACK, PHOTOS[:2], seconds=FEW_SECONDS)
    assert (seen.num_different, len(seen.samples)) == (0, seen.num_opened)
    assert (seen.growth_files > 0) == leak


@pytest.mark.parametrize(
    ("resident", "wanted"),
    [
        (lambda second: 90e6, 0),
        (lambda second: 90e6 + 1e6 * second, 50e6),
        (lambda second: 90e6 + 1e6 * min(second, 50), 0),  # it fills at first, and stays
    ],
)
def test_growth_is_that_of_the_second_half(
    resident: Callable[[float], float], wanted: float
) -> None:
    samples = [soak.Sample(float(at), int(resident(at))) for at in range(101)]
    assert soak.Soak(samples).growth_bytes == pytest.approx(wanted, abs=1)


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
