"""Run a command line inside the test, and see its exit status and what it printed."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest

Main = Callable[[Sequence[str]], int]


class Outcome(NamedTuple):
    """What a command did."""

    status: int
    out: str
    err: str


Run = Callable[..., Outcome]


def runner(main: Main, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the words it is given; `program` may be another `main`."""

    def run(*words: object, program: Main = main) -> Outcome:
        try:
            status = program([str(word) for word in words])
        except SystemExit as e:  # argparse
            status = int(e.code or 0)
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return run


def failure(outcome: Outcome) -> str:
    """Check that a command failed as commands do; return what it said."""
    assert outcome.status == 1
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1
    assert outcome.err.startswith("geofix-train: ")
    return outcome.err.removeprefix("geofix-train: ").rstrip("\n")
