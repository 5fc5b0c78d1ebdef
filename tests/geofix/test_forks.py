"""A Localizer of the parent in a forked child. A hang ends in an alarm, and is a failure."""

import copy
import multiprocessing
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from geofix import Localizer
from tests.geofix.town_pack import PACK, PHOTOS

pytest.importorskip("onnxruntime")
_HANGS_AFTER_S = 360

forks = pytest.mark.skipif(
    sys.platform != "linux", reason="Apple's frameworks do not survive a fork; Windows has none"
)


@forks
@pytest.mark.parametrize(
    ("num_threads", "use", "end"),
    [
        (1, "used", "exit"),
        (4, "used", "exit"),
        (4, "used", "return"),
        (1, "unused", "return"),
        (4, "unused", "return"),
        (4, "unused", "close"),
    ],
)
def test_a_forked_child_localizes_as_its_parent_does(num_threads: int, use: str, end: str) -> None:
    program = Path(__file__).with_name("forked.py")
    words = [sys.executable, str(program), str(PACK), str(PHOTOS[0]), str(num_threads), use, end]
    done = subprocess.run(words, capture_output=True, text=True, timeout=_HANGS_AFTER_S)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("send", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_localizer_is_not_sent_or_copied(send: object) -> None:
    with Localizer.open(PACK) as localizer:
        with pytest.raises(TypeError, match=r"send the pack's path, and open it there with Local"):
            send(localizer)  # type: ignore[operator]
        assert localizer.localize(PHOTOS[0]).candidates


def test_a_spawned_process_is_refused_a_localizer_with_the_same_words() -> None:
    with Localizer.open(PACK) as localizer:
        process = multiprocessing.get_context("spawn").Process(target=print, args=(localizer,))
        with pytest.raises(TypeError, match="send the pack's path"):
            process.start()
