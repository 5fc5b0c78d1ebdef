import logging
import time

import pytest

import geofix_train.progress
from geofix_train.progress import Progress, duration_text
from geofix_train.town.processes import run_jobs


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list whose one number is the time, in seconds."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def lines_of(
    caplog: pytest.LogCaptureFixture, clock: list[float], *, num: int, step_s: float, done: int = 0
) -> list[str]:
    """Do the work `done` to `num`, each taking some seconds; return the lines."""
    caplog.set_level(logging.INFO, logger="geofix_train")
    with Progress(desc="fit", unit="step", total=num, done=done) as progress:
        for _ in range(done, num):
            clock[0] += step_s
            progress.advance("loss=1.500")
    return caplog.messages


def test_a_line_comes_every_half_minute_where_there_is_no_terminal(
    caplog: pytest.LogCaptureFixture, clock: list[float]
) -> None:
    assert lines_of(caplog, clock, num=100, step_s=1.0) == [
        "fit: step 30 of 100 (30%), loss=1.500, about 70 s left",
        "fit: step 60 of 100 (60%), loss=1.500, about 40 s left",
        "fit: step 90 of 100 (90%), loss=1.500, about 10 s left",
    ]


def test_what_was_done_before_counts_as_done_and_not_as_fast(
    caplog: pytest.LogCaptureFixture, clock: list[float]
) -> None:
    line = lines_of(caplog, clock, num=100, step_s=40.0, done=60)[0]
    assert line == "fit: step 61 of 100 (61%), loss=1.500, about 26 min left"


def test_drawing_says_how_far_it_is(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, logger="geofix_train")
    monkeypatch.setattr(geofix_train.progress, "LINE_SECONDS", 0.0)
    run_jobs([(time.sleep, (0,))] * 2, num_workers=1, desc="town", unit="job")
    assert [line.partition(")")[0] for line in caplog.messages] == [
        "town: job 1 of 2 (50%", "town: job 2 of 2 (100%",
    ]  # fmt: skip


def test_short_work_has_no_line(caplog: pytest.LogCaptureFixture, clock: list[float]) -> None:
    assert lines_of(caplog, clock, num=29, step_s=1.0) == []


def test_a_terminal_has_a_bar_and_no_line(
    caplog: pytest.LogCaptureFixture,
    clock: list[float],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert lines_of(caplog, clock, num=100, step_s=1.0) == []
    shown = capsys.readouterr().err
    assert "| 100/100 [" in shown
    assert "loss=1.500" in shown


def test_a_program_that_does_not_listen_sees_nothing(
    clock: list[float], capfd: pytest.CaptureFixture[str]
) -> None:
    with Progress(desc="town", unit="job", total=2) as progress:
        clock[0] += 50.0
        progress.advance()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [(0.2, "0 s"), (99.4, "99 s"), (99.6, "2 min"), (3600, "60 min"), (9000, "2.5 h")],
)
def test_durations_are_said_in_the_unit_that_suits_them(seconds: float, wanted: str) -> None:
    assert duration_text(seconds) == wanted
