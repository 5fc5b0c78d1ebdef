import threading
import time
from collections.abc import Iterator

import pytest

from geofix_train.prefetch import prefetch


def test_results_come_in_order_however_long_each_takes() -> None:
    def make(key: int) -> int:
        time.sleep(0.002 * (5 - key % 5))
        return key * key

    made = prefetch(make, range(20), num_ahead=4, num_threads=3)
    assert list(made) == [key * key for key in range(20)]


def test_the_next_ones_are_made_while_one_is_used_but_not_all() -> None:
    asked: list[int] = []

    def keys() -> Iterator[int]:
        for key in range(100):
            asked.append(key)
            yield key

    made = prefetch(lambda key: key, keys(), num_ahead=3, num_threads=2)
    assert next(made) == 0
    assert asked == [0, 1, 2, 3]
    made.close()
    assert asked == [0, 1, 2, 3]


def test_an_error_comes_where_its_result_is_due() -> None:
    made = prefetch(lambda key: 1 // (key - 2), range(5), num_ahead=4, num_threads=1)
    assert [next(made), next(made)] == [-1, -1]
    with pytest.raises(ZeroDivisionError):
        next(made)


def test_a_closed_iterator_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    made = prefetch(lambda key: key, range(50), num_ahead=10, num_threads=4)
    next(made)
    assert threading.active_count() > before
    made.close()
    assert threading.active_count() == before


def test_nothing_to_make_yields_nothing() -> None:
    assert list(prefetch(lambda key: key, [], num_ahead=2, num_threads=1)) == []
