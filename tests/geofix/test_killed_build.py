"""A build that is killed leaves a whole pack under the pack's name, or none."""

from pathlib import Path

import pytest

from benchmarks.killed_builds import NUM_KILLED, kill_builds

FEW = 12  # about half of which leave a pack, however slow the machine is


@pytest.mark.parametrize("num", [FEW, pytest.param(NUM_KILLED, marks=pytest.mark.stress)])
def test_a_killed_build_leaves_no_broken_pack(tmp_path: Path, num: int) -> None:
    num_whole, num_broken = kill_builds(tmp_path / "tiny.geofix", num)
    assert num_broken == 0
    assert 0 < num_whole <= num
    leftovers = [path for path in tmp_path.iterdir() if not path.name.startswith(".tiny.geofix.")]
    assert leftovers == []
