import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from geofix_index.forks import ForkSafeLock, keep_forever


def test_one_thread_at_a_time_holds_a_lock() -> None:
    lock, inside, most = ForkSafeLock(), [0], [0]

    def hold(_: int) -> None:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.001)  # lets another thread in, if the lock does
            inside[0] -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(hold, range(40)))
    assert most == [1]


def test_a_child_finds_a_lock_free_that_the_parent_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    lock, taken = ForkSafeLock(), threading.Event()

    def take_as_the_child() -> None:
        with lock:
            taken.set()

    with lock:
        parent = os.getpid()
        monkeypatch.setattr(os, "getpid", lambda: parent + 1)
        thread = threading.Thread(target=take_as_the_child, daemon=True)
        thread.start()
        assert taken.wait(10)
        thread.join()
        monkeypatch.undo()


def test_what_is_kept_is_never_destroyed() -> None:
    destroyed = []

    class Thing:
        def __del__(self) -> None:
            destroyed.append(self)

    thing, kept = Thing(), Thing()
    keep_forever(kept)
    del thing, kept
    assert len(destroyed) == 1
