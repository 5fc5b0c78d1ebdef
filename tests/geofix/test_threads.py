"""Threads that share a Localizer of the shipped pack are answered as one thread alone is."""

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import pytest

from benchmarks.soak import NUM_THREADS, Pair, answer, pairs_about, share
from geofix import Localizer
from tests.geofix.town_pack import PACK, PHOTOS

pytest.importorskip("onnxruntime")
FEW, MANY = 20, 2000  # localizations of each of eight threads


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    """Return photos with and without priors, and what one thread is answered."""
    return pairs_about(PACK, PHOTOS)


@pytest.fixture(autouse=True)
def hurried() -> Iterator[None]:
    """Let threads take turns a hundred times as often as usual, so that they meet."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(usual / 100)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.parametrize("num", [FEW, pytest.param(MANY, marks=pytest.mark.stress)])
def test_threads_get_what_one_thread_gets(pairs: list[Pair], num: int) -> None:
    assert len({right for _, right in pairs}) > len(PHOTOS)  # priors make a difference
    # Opened anew, so that the threads race for the first use of each shard.
    with Localizer.open(PACK, num_threads=1) as shared:
        assert share(shared, pairs, num=num) == 0


def test_a_wrong_answer_would_be_counted(pairs: list[Pair]) -> None:
    wrong = [(question, right + " ") for question, right in pairs]
    with Localizer.open(PACK, num_threads=1) as shared:
        assert share(shared, wrong, num=1) == NUM_THREADS


def test_localizers_of_one_pack_stand_side_by_side(pairs: list[Pair]) -> None:
    with Localizer.open(PACK) as one, Localizer.open(PACK, num_threads=1) as other:
        for question, right in pairs[:4]:
            assert (answer(one, question), answer(other, question)) == (right, right)
        one.close()
        assert answer(other, pairs[-1][0]) == pairs[-1][1]


def test_closing_ends_what_threads_do_next_with_an_error(pairs: list[Pair]) -> None:
    localizer = Localizer.open(PACK, num_threads=1)
    all_began = threading.Barrier(NUM_THREADS + 1)

    def ask_until_closed(thread: int) -> str:
        question, right = pairs[3 * thread % len(pairs)]
        assert answer(localizer, question) == right
        all_began.wait(60)
        with pytest.raises(ValueError, match="this Localizer is closed: open it again") as told:
            _ask_for_ever(localizer, (question, right))
        return str(told.value)

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        running = [pool.submit(ask_until_closed, thread) for thread in range(NUM_THREADS)]
        all_began.wait(60)
        localizer.close()
        assert len({thread.result(60) for thread in running}) == 1


def _ask_for_ever(localizer: Localizer, pair: Pair) -> NoReturn:
    question, right = pair
    while True:
        assert answer(localizer, question) == right
