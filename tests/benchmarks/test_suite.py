"""The comparison of versions, on workloads that take next to no time."""

import subprocess
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from benchmarks.suite import compare, paired, worker
from benchmarks.suite.paired import ROOT, PairedRatio, Version, alarms, compare_versions
from benchmarks.suite.workloads import WORKLOADS


@pytest.fixture
def version() -> Iterator[Version]:
    """Return a process that runs the working tree."""
    with Version() as opened:
        yield opened


def turns(ratio: float, *, noise: float = 0.1, num: int = 200) -> paired.Floats:
    """Return times of turns in which the whole machine becomes three times as slow."""
    rng = np.random.default_rng(3)
    machine = np.linspace(1, 3, num)[:, None]
    return np.array([[ratio, 1.0]]) * machine * np.exp(noise * rng.standard_normal((num, 2)))


def test_a_worker_runs_what_it_is_told(version: Version) -> None:
    assert version.ask("prepare embed") == "ready"
    assert version.seconds(3) > 0
    assert version.ask("prepare lunch").startswith("absent KeyError")


def test_a_slower_version_takes_as_much_longer_as_it_is_made_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = count()
    monkeypatch.setattr("benchmarks.suite.worker.time.perf_counter", lambda: next(seconds))
    assert worker._seconds(lambda: next(seconds), 10, 1.0) < 20
    for slower in (2.0, 5.0):
        assert 10 * slower <= worker._seconds(lambda: next(seconds), 10, slower) <= 12 * slower


def test_a_machine_that_slows_down_changes_no_ratio() -> None:
    found = paired._summary("x", turns(1.0), 1)
    assert found.low < 1 < found.high
    assert found.ratio == pytest.approx(1, abs=0.02)


def test_a_fifth_more_is_seen_through_noise() -> None:
    found = paired._summary("x", turns(1.2), 1)
    assert paired.ALARM_ABOVE < found.low < 1.2 < found.high < 1.3


def test_an_alarm_is_one_that_is_raised_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    first = [
        PairedRatio(name, 1.2, low, 1.3, 9, 1.0)
        for name, low in zip("abc", (1.1, 1, 1.2), strict=True)
    ]
    asked: list[str] = []

    def again(_old: Path, _new: Path, names: Sequence[str], **_: float) -> list[PairedRatio]:
        asked.extend(names)
        return [PairedRatio("a", 1.2, 1.15, 1.3, 9, 1.0), PairedRatio("c", 1.0, 0.9, 1.1, 9, 1.0)]

    monkeypatch.setattr(paired, "compare_versions", again)
    assert [ratio.name for ratio in alarms(ROOT, ROOT, first)] == ["a"]
    assert asked == ["a", "c"]
    assert alarms(ROOT, ROOT, first[1:2]) == []


def test_a_workload_that_a_version_lacks_is_not_compared() -> None:
    (found,) = compare_versions(ROOT, ROOT, ["lunch"])
    assert "KeyError" in found.absent
    assert compare.line(found).endswith(found.absent)
    assert alarms(ROOT, ROOT, [found]) == []


def test_the_command_tells_slower_code_by_its_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = PairedRatio("embed", 1.2, 1.15, 1.25, 99, 2.0)
    monkeypatch.setattr(compare, "take_out", lambda *_: None)
    monkeypatch.setattr(compare, "compare_versions", lambda *_: [slow])
    monkeypatch.setattr(compare, "alarms", lambda *_: [slow])
    assert compare.main(["v1"]) == 1
    captured = capsys.readouterr()
    assert "in terms of v1" in captured.out
    assert "1.200   1.150 to 1.250" in captured.out
    assert captured.err == "slower: embed, 1.150 times at least\n"
    monkeypatch.setattr(compare, "alarms", lambda *_: [])
    assert compare.main([]) == 0


def test_a_commit_is_taken_out_of_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "repository"
    for name in ("sdk/geofix/a.py", "on_device_index/geofix_index/geofix_kernel.c"):
        (repository / name).parent.mkdir(parents=True)
        (repository / name).write_text("")
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *words], cwd=repository, check=True)
    monkeypatch.setattr(compare, "ROOT", repository)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("of the last time")
    compare.take_out("HEAD", tmp_path / "out")
    assert (tmp_path / "out" / "sdk" / "geofix" / "a.py").exists()
    assert not (tmp_path / "out" / "old").exists()
    with pytest.raises(subprocess.CalledProcessError):
        compare.take_out("no-such-commit", tmp_path / "out")


def test_the_suite_covers_each_part() -> None:
    groups = {workload.group for workload in WORKLOADS.values()}
    assert groups == {"index", "pack", "SDK", "encoder", "end to end"}
