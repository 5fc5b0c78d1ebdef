"""Drawing on all cores."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

from geofix_train.progress import Progress

Job = tuple[Callable[..., None], tuple[Any, ...]]  # what to call, with which arguments


def run_jobs(jobs: Iterable[Job], *, num_workers: int, desc: str, unit: str) -> None:
    """Run jobs in processes and show how far they are; the first error stops all and is raised.

    So does Ctrl-C, once the jobs that have begun are done.

    Args:
        jobs: in the order in which they begin.
        num_workers: processes; 0 means one a core. They are spawned, since forking a process that
            may hold threads is not safe.
        desc: what they do together.
        unit: that is counted, one for each job.
    """
    with ProcessPoolExecutor(num_workers or os.cpu_count() or 1, get_context("spawn")) as pool:
        with _deaf_to_interrupts():
            futures = [pool.submit(work, *arguments) for work, arguments in jobs]
        try:
            with Progress(desc=desc, unit=unit, total=len(futures)) as progress:
                for done in futures:
                    done.result()
                    progress.advance()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Let processes that start meanwhile ignore Ctrl-C, so that this one alone has a word on it."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are set there alone
        return
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
