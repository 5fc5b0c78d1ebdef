"""A build that is killed leaves a whole pack under the pack's name, or none."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from geofix.pack import RegionPack

ROOT = Path(__file__).parents[2]
FEW, MANY = 6, 100
LONGEST_S = 0.1  # some dozen builds


@pytest.mark.parametrize("num", [FEW, pytest.param(MANY, marks=pytest.mark.stress)])
def test_a_killed_build_leaves_no_broken_pack(tmp_path: Path, num: int) -> None:
    out = tmp_path / "tiny.geofix"
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(num):
        command = [sys.executable, "-m", "tests.geofix.build_forever", str(out)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as building:
            assert building.stdout is not None
            assert building.stdout.readline() == b"ready\n"
            time.sleep(rng.uniform(0, LONGEST_S))
            building.kill()
        if out.exists():
            RegionPack.open(out).verify()
            found += 1
            out.unlink()
    assert 0 < found <= num
    leftovers = [path for path in tmp_path.iterdir() if not path.name.startswith(".tiny.geofix.")]
    assert leftovers == []
