import copy
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from geofix import RegionPack
from geofix_index import kernel_version
from tests.golden import make_tiny
from tests.golden_pack import ANSWER, GOLDEN, PACK, PHOTO, assert_same_answer

ROOT = GOLDEN.parents[1]


def test_the_stored_pack_is_as_it_was_written_and_small() -> None:
    assert hashlib.sha256(PACK.read_bytes()).hexdigest() == ANSWER["sha256"]
    assert PACK.stat().st_size + PHOTO.stat().st_size < 200_000


def test_the_stored_pack_verifies() -> None:
    pack = RegionPack.open(PACK)
    assert pack.verify() == 4 + 2 * len(pack.manifest.shards)
    assert {shard.kind for shard in pack.manifest.shards} == {"scan", "usearch"}
    assert (pack.manifest.pack_id, pack.manifest.license) == ("tiny", "CC0-1.0")


def test_the_stored_photo_gives_the_stored_fix() -> None:
    assert_same_answer(make_tiny.answer(PACK, PHOTO.read_bytes()), ANSWER)


@pytest.mark.parametrize(
    ("field", "off"),
    [("lat", 1e-5), ("lon", 1e-5), ("accuracy_m", 1.0), ("confidence", 0.01), ("status", "")],
)
def test_another_fix_is_noticed(field: str, off: Any) -> None:
    other = copy.deepcopy(ANSWER)
    other["fix"][field] = off if isinstance(off, str) else other["fix"][field] + off
    with pytest.raises(AssertionError, match=field):
        assert_same_answer(other, ANSWER)


@pytest.mark.skipif(kernel_version() is None, reason="graphs are built with the C kernel")
def test_the_generator_writes_the_stored_files(tmp_path: Path) -> None:
    script = [sys.executable, "-m", "tests.golden.make_tiny", str(tmp_path)]
    subprocess.run(script, check=True, cwd=ROOT)
    with zipfile.ZipFile(PACK) as stored, zipfile.ZipFile(tmp_path / "tiny.geofix") as written:
        assert stored.namelist() == written.namelist()
        # A USearch file names the version that wrote it, and the manifest has its hash.
        stable = [n for n in stored.namelist() if not n.endswith((".usearch", "manifest.json"))]
        for name in stable:
            assert stored.read(name) == written.read(name), name
    with Image.open(PHOTO) as wanted, Image.open(tmp_path / "tiny.png") as drawn:
        np.testing.assert_array_equal(np.asarray(drawn), np.asarray(wanted))
