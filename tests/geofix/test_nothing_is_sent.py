"""ONNX Runtime reports to its maker unless it is told not to; geofix tells it.

Each program runs in a home of its own, and outside CI, where ONNX Runtime reports nothing anyway.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from geofix_index import kernel_version
from tests.tiny_pack import TinyRegion, make_region

pytest.importorskip("onnxruntime")

_FOLDER = "/proc/self/task"
_COUNT = f"len(os.listdir({_FOLDER!r})) if os.path.isdir({_FOLDER!r}) else 1"
_PROGRAM = """
import os, sys
from geofix import Localizer, RegionPack
{use}
assert "onnxruntime" in sys.modules
print(os.environ["ORT_DISABLE_TELEMETRY"], {count})
"""


def _run(use: str, pack: Path, home: Path) -> list[str]:
    kept = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment |= {"HOME": str(home), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    words = [sys.executable, "-c", _PROGRAM.format(use=use, count=_COUNT), str(pack)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=True)
    return done.stdout.split()


def _check(use: str, region: TinyRegion, folder: Path) -> None:
    pack, home = region.write(folder / "tiny.geofix"), folder / "home"
    home.mkdir()
    assert _run(use, pack, home) == ["1", "1"]  # no thread beside the program's own
    assert list(home.rglob("*")) == []  # nor a cache of events and an id of the device


def test_an_encoder_reports_nothing(region: TinyRegion, tmp_path: Path) -> None:
    _check("localizer = Localizer.open(sys.argv[1], num_threads=1)", region, tmp_path)


@pytest.mark.skipif(kernel_version() is None, reason="graphs are built by the C kernel")
def test_nor_do_graphs_which_import_the_runtime_early(tmp_path: Path) -> None:
    _check("RegionPack.open(sys.argv[1]).verify()", make_region(kind="usearch"), tmp_path)
