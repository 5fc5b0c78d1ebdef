"""Builds of packs that are killed, at random moments. benchmarks/pack_damage.py records them."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from geofix.errors import PackError
from geofix.pack import RegionPack

NUM_KILLED = 100
_LONGEST_S = 0.1  # before a build is killed; time for some dozen
_ROOT = Path(__file__).parent.parent


def kill_builds(out: Path, num: int) -> tuple[int, int]:
    """Kill builds at random moments; return how many left a whole pack, and how many a broken one.

    The others left none. Each process writes packs to one path and removes every other one.
    """
    rng = np.random.default_rng(0)
    num_whole = num_broken = 0
    for _ in range(num):
        command = [sys.executable, "-m", "tests.geofix.build_forever", str(out)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=_ROOT) as building:
            assert building.stdout is not None
            building.stdout.readline()  # the first pack is there
            time.sleep(rng.uniform(0, _LONGEST_S))
            building.kill()
        if not out.exists():
            continue
        try:
            RegionPack.open(out).verify()
            num_whole += 1
        except PackError:
            num_broken += 1
        out.unlink()
    return num_whole, num_broken
