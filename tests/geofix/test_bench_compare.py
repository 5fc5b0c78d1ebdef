import numpy as np
import pytest

from geofix.bench import STAGES, PackFacts, compare_reports
from tests.geofix.latency_reports import PACK, make_report


def test_a_run_is_as_fast_as_itself() -> None:
    ratios = compare_reports(make_report(), make_report())
    assert [ratio.stage for ratio in ratios] == list(STAGES)
    for ratio in ratios:
        assert ratio.ratio == 1
        assert ratio.low <= 1 <= ratio.high
        assert ratio.before_ms == ratio.after_ms


def test_a_slower_run_is_told_with_its_interval() -> None:
    for ratio in compare_reports(make_report(), make_report(slower=1.2, seed=100)):
        assert 1.1 < ratio.low < 1.2 < ratio.high < 1.3
        assert ratio.low <= ratio.ratio <= ratio.high


def test_intervals_hold_the_true_ratio_as_often_as_they_say() -> None:
    inside = [
        ratio.low <= 1 <= ratio.high
        for seed in range(0, 400, 20)
        for ratio in compare_reports(make_report(seed=seed), make_report(seed=seed + 1000))
    ]
    assert 0.88 <= np.mean(inside) <= 1.0  # of 160 intervals of 95 %


def test_the_same_seed_gives_the_same_interval() -> None:
    before, after = make_report(), make_report(seed=7)
    assert compare_reports(before, after) == compare_reports(before, after)
    assert compare_reports(before, after) != compare_reports(before, after, seed=1)


def test_runs_of_different_packs_are_refused() -> None:
    other = PackFacts("town", 4, "cd" * 32, 614, 1, "encoder", 1)
    with pytest.raises(ValueError, match=r"'town' version 3 \(abab.*'town' version 4 \(cdcd"):
        compare_reports(make_report(), make_report(pack=other))
    with pytest.raises(ValueError, match="different packs, none"):
        compare_reports(make_report(pack=None), make_report(pack=PACK))


def test_only_shared_stages_are_compared() -> None:
    whole = make_report()
    part = make_report(stages={"encode": whole.stages["encode"]})
    assert [ratio.stage for ratio in compare_reports(whole, part)] == ["encode"]
    other = make_report(stages={"search": whole.stages["search"]})
    with pytest.raises(ValueError, match="no stage in common"):
        compare_reports(part, other)
