"""What threads of a parent hold, after `os.fork`: the child has a copy, and none of the threads."""

import ctypes
import os
import threading


class ForkSafeLock:
    """A lock, as a context manager, that a forked child finds free.

    A plain one that another thread of the parent held would stay locked in the child for ever.
    What it guards has to make sense at any moment at which a process may be forked.
    """

    def __init__(self) -> None:
        self._of_process = {os.getpid(): threading.Lock()}

    def __enter__(self) -> None:
        # One lock even if threads race for it: `setdefault` of a dict with ints is atomic.
        self._of_process.setdefault(os.getpid(), threading.Lock()).acquire()

    def __exit__(self, *_: object) -> None:
        self._of_process[os.getpid()].release()


def keep_forever(thing: object) -> None:
    """Let `thing` never be destroyed, where its destructor would wait for threads of the parent."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
