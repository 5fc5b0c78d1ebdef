"""Intervals: what they must be where theory says it, and that sequences are drawn whole."""

import numpy as np
import pytest

from geofix_train.bootstrap import Bootstrap


def alone(num: int, **options: int) -> Bootstrap:
    """Return a bootstrap of photos that belong to no sequence."""
    return Bootstrap.of_sequences(np.array([""] * num), **options)


def test_photos_without_a_sequence_are_drawn_one_by_one() -> None:
    assert alone(5).num_groups == 5
    mixed = Bootstrap.of_sequences(np.array(["a", "", "b", "a", ""]))
    assert mixed.num_groups == 4
    assert mixed.group[0] == mixed.group[3]
    assert len({*mixed.group.tolist()}) == 4


def test_the_interval_of_a_share_is_that_of_the_binomial() -> None:
    hits = (np.arange(400) < 100)[:, None]
    (low, high), *_ = alone(400).of_shares(hits)
    spread = 1.96 * np.sqrt(0.25 * 0.75 / 400)
    np.testing.assert_allclose([low, high], [0.25 - spread, 0.25 + spread], atol=0.008)


def test_photos_that_are_found_together_make_the_interval_wider() -> None:
    hits = (np.arange(400) < 100)[:, None]
    by_fives = np.array([str(row // 5) for row in range(400)])
    (low, high), *_ = Bootstrap.of_sequences(by_fives).of_shares(hits)
    spread = 1.96 * np.sqrt(0.25 * 0.75 / 80)  # as of 80 photos
    np.testing.assert_allclose([low, high], [0.25 - spread, 0.25 + spread], atol=0.02)


def test_a_sequence_counts_as_many_times_as_it_has_photos() -> None:
    sequence = np.array(["long"] * 9 + ["short"])
    hits = np.array([[False]] * 9 + [[True]])
    (low, high), *_ = Bootstrap.of_sequences(sequence).of_shares(hits)
    assert (low, high) == (0.0, 1.0)  # long twice, short twice
    bootstrap = Bootstrap.of_sequences(sequence, num_resamples=200)
    measured = {
        round(float(share), 6)
        for drawn in bootstrap._draws()
        for share in drawn[:, bootstrap.group] @ hits[:, 0] / drawn[:, bootstrap.group].sum(axis=1)
    }
    assert measured == {0.0, 0.1, 1.0}


def test_each_column_has_its_own_interval() -> None:
    hits = np.column_stack([np.ones(50, bool), np.zeros(50, bool), np.arange(50) < 25])
    ends = alone(50).of_shares(hits)
    assert ends.shape == (3, 2)
    assert ends[:2].tolist() == [[1.0, 1.0], [0.0, 0.0]]
    assert ends[2, 0] < 0.5 < ends[2, 1]


def test_the_interval_of_a_median_holds_it() -> None:
    low, high = alone(101).of_median(np.arange(101.0)[::-1])
    assert 38 < low < 45  # order statistics: 50 -+ 1.96 sqrt(101) / 2
    assert 55 < high < 62


@pytest.mark.parametrize("num", [6, 7])
def test_the_median_of_a_draw_is_that_of_the_photos_drawn(num: int) -> None:
    values = np.random.default_rng(3).permutation(num) * 10.0
    bootstrap = alone(num, num_resamples=20)
    (drawn,) = bootstrap._draws()
    medians = [np.median(np.repeat(values, times.astype(int))) for times in drawn]
    wanted = np.quantile(medians, [0.025, 0.975])
    np.testing.assert_allclose(bootstrap.of_median(values), wanted)


def test_one_sequence_tells_nothing_of_others() -> None:
    one = Bootstrap.of_sequences(np.array(["a"] * 4))
    assert np.isnan(one.of_shares(np.ones((4, 1), bool))).all()
    assert np.isnan(one.of_median(np.arange(4.0))).all()


def test_the_same_seed_gives_the_same_interval_and_parts_of_draws_do_not_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hits = (np.arange(30) < 11)[:, None]
    first = alone(30, seed=5).of_shares(hits)
    np.testing.assert_array_equal(alone(30, seed=5).of_shares(hits), first)
    monkeypatch.setattr("geofix_train.bootstrap._DRAWN_AT_ONCE", 200)
    np.testing.assert_array_equal(alone(30, seed=5).of_shares(hits), first)
