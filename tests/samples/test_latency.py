from pathlib import Path

import pytest

from samples.latency import main, over_budget
from tests.geofix.latency_reports import make_report


def test_the_exit_status_says_whether_the_budget_is_kept(
    pack_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(str(pack_path), 60_000.0, 0.2) == 0
    assert "within the budget of 60000 ms" in capsys.readouterr().out
    assert main(str(pack_path), 1e-6, 0.2) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9
    assert lines[-1] == "a 1080p frame: over the budget of 1e-06 ms"


def test_the_budget_is_held_against_the_95th_percentile_of_a_frame() -> None:
    p95_ms = make_report().stages["total_array"].p95_ms
    assert not over_budget(make_report(), budget_ms=p95_ms)
    assert over_budget(make_report(), budget_ms=p95_ms - 0.001)


def test_the_sample_is_short() -> None:
    text = (Path(__file__).parents[2] / "samples" / "latency.py").read_text()
    assert len(text.splitlines()) < 40
