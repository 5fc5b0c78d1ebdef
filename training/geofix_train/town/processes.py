"""Drawing on all cores."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from geofix_train.progress import Progress

Job = tuple[Callable[..., None], tuple[Any, ...]]  # what to call, with which arguments


def run_jobs(jobs: Iterable[Job], *, num_workers: int, desc: str, unit: str) -> None:
    """Run jobs in processes and show how far they are; the first error stops all and is raised.

    Args:
        jobs: in the order in which they begin.
        num_workers: processes; 0 means one a core. They are spawned, since forking a process that
            may hold threads is not safe.
        desc: what they do together.
        unit: that is counted, one for each job.
    """
    with ProcessPoolExecutor(num_workers or os.cpu_count() or 1, get_context("spawn")) as pool:
        futures = [pool.submit(work, *arguments) for work, arguments in jobs]
        try:
            with Progress(desc=desc, unit=unit, total=len(futures)) as progress:
                for done in futures:
                    done.result()
                    progress.advance()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
