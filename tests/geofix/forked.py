"""Forks while a Localizer is open, and localizes in both processes; stderr says what went wrong.

python forked.py PACK PHOTO NUM_THREADS used|unused exit|return|close

A child that hangs is ended by an alarm, which shows in its status.
"""

import os
import signal
import sys
import threading
import warnings

from geofix import Fix, Localizer

_HANGS_AFTER_S = 60

warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: that threads may be running


def main(pack: str, photo: str, num_threads: str, use: str, end: str) -> None:
    """Fork a few times while other threads localize, so that they hold what can be held."""
    localizer = Localizer.open(pack, num_threads=int(num_threads))
    wanted = _answer(localizer.localize(photo))
    stop = threading.Event()
    busy = [threading.Thread(target=_localize, args=(localizer, photo, stop)) for _ in range(2)]
    for thread in busy:
        thread.start()
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            signal.alarm(_HANGS_AFTER_S)
            _be_the_child(localizer, photo, wanted if use == "used" else "", end)
            return
        _, status = os.waitpid(pid, 0)
        if status:
            sys.stderr.write(f"the child ended with {status}\n")
    stop.set()
    for thread in busy:
        thread.join()
    if _answer(localizer.localize(photo)) != wanted:
        sys.stderr.write("the parent has another fix after the fork\n")


def _be_the_child(localizer: Localizer, photo: str, wanted: str, end: str) -> None:
    if wanted:
        fixes = [_answer(localizer.localize(photo)) for _ in range(3)]
        threads = [threading.Thread(target=localizer.localize, args=(photo,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if set(fixes) != {wanted}:
            os._exit(3)
    if end == "close":
        localizer.close()
    if end != "return":  # as the children of multiprocessing do
        os._exit(0)


def _localize(localizer: Localizer, photo: str, stop: threading.Event) -> None:
    while not stop.is_set():
        localizer.localize(photo)


def _answer(fix: Fix) -> str:
    return repr({**fix.to_json(), "timings_ms": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
