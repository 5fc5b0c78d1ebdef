"""Processes that draw, and Ctrl-C, which a terminal sends to all of them."""

import signal
from pathlib import Path

import pytest

from geofix_train.town.processes import run_jobs


def note_what_an_interrupt_does(path: Path) -> None:
    path.write_text(str(signal.getsignal(signal.SIGINT)))


def fail() -> None:
    raise ValueError("cannot draw")


def test_processes_leave_an_interrupt_to_the_one_that_began_them(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    job = (note_what_an_interrupt_does, (tmp_path / "said.txt",))
    run_jobs([job], num_workers=1, desc="test", unit="job")
    assert (tmp_path / "said.txt").read_text() == str(signal.SIG_IGN)
    assert signal.getsignal(signal.SIGINT) is before


def test_the_error_of_a_job_is_raised() -> None:
    with pytest.raises(ValueError, match="cannot draw"):
        run_jobs([(fail, ())], num_workers=1, desc="test", unit="job")
