"""Work done ahead of its use, on threads of its own."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Key = TypeVar("Key")
Made = TypeVar("Made")


def prefetch(
    make: Callable[[Key], Made], keys: Iterable[Key], *, num_ahead: int, num_threads: int
) -> Generator[Made, None, None]:
    """Yield `make(key)` for each key in order, with the next ones in the making.

    Close the iterator to stop early. An error of `make` is raised where its result is due.

    Args:
        make: depends on its key alone, since several run at a time.
        keys: what to make.
        num_ahead: how many results may wait; they lie in memory.
        num_threads: how many are made at a time.
    """
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="prefetch")
    waiting: deque[Future[Made]] = deque()
    try:
        for key in keys:
            waiting.append(pool.submit(make, key))
            if len(waiting) > num_ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
