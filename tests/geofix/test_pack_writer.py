import os
import shutil
import subprocess
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from geofix.pack import RegionPack
from geofix.pack_writer import PackText, PackWriter
from geofix_index import ProductQuantizer, build_shard
from geofix_index import cells as s2
from tests.tiny_pack import TinyRegion

TEXT = PackText("tiny", "Tiny")
TOOLS = {
    "unzip": ["unzip", "-tq"],
    "jar": ["jar", "-tf"],
    "7z": ["7z", "t"],
    "bsdtar": ["bsdtar", "-tf"],
}


@pytest.mark.parametrize("tool", TOOLS)
def test_foreign_tools_list_and_test_a_pack(pack_path: Path, tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed; Python's own reader is tried in test_pack.py")
    done = subprocess.run([*TOOLS[tool], str(pack_path)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def peak_bytes(out: Path, num_shards: int) -> int:
    """Write a pack of shards of a megabyte each; return the most memory in use meanwhile."""
    rng = np.random.default_rng(0)
    quantizer = ProductQuantizer(
        np.eye(32, dtype=np.float32), rng.standard_normal((32, 16, 1)).astype(np.float32)
    )
    first = int(s2.cell_from_latlon(47.37, 8.54, level=8))
    parents = s2.descendants([s2.parent(first, level=5)], level=8)[:num_shards]
    tracemalloc.start()
    with PackWriter(out, quantizer) as writer:
        for parent in parents.tolist():
            cells = s2.descendants([parent], level=16)
            pq_codes = np.zeros((len(cells), 16), np.uint8)
            writer.add_shard(build_shard(cells, pq_codes, quantizer, parent=parent, kind="scan"))
        writer.finish(TEXT)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert out.stat().st_size > num_shards << 20
    return peak


def test_memory_does_not_grow_with_the_number_of_shards(tmp_path: Path) -> None:
    few, many = peak_bytes(tmp_path / "few.geofix", 2), peak_bytes(tmp_path / "many.geofix", 12)
    assert many < few + (1 << 20)


def test_nothing_is_left_of_a_pack_that_is_not_finished(region: TinyRegion, tmp_path: Path) -> None:
    def stop(writer: PackWriter) -> None:
        writer.add_shard(region.shards[0][1])
        raise KeyboardInterrupt

    with PackWriter(tmp_path / "a", region.quantizer) as writer, pytest.raises(KeyboardInterrupt):
        stop(writer)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_os_error_and_leaves_nothing(
    region: TinyRegion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> object:
        return open("/dev/full", "r+b", buffering=0)

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with (
        pytest.raises(OSError, match="No space left"),
        PackWriter(tmp_path / "a.geofix", region.quantizer) as writer,
    ):
        writer.add_shard(region.shards[0][1])
    assert list(tmp_path.iterdir()) == []


def test_shards_that_say_something_of_photos_and_shards_that_do_not_are_an_error(
    region: TinyRegion, tmp_path: Path
) -> None:
    parent, files = region.shards[0]
    num = int((s2.parent(region.cells, level=10) == parent).sum())
    with PackWriter(tmp_path / "a.geofix", region.quantizer) as writer:
        writer.add_shard(files, photographed=np.ones(num, bool))
        writer.add_shard(region.shards[1][1])
        with pytest.raises(ValueError, match="some shards only, want all or none"):
            writer.finish(TEXT)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_packs_are_readable_whatever_the_umask(
    region: TinyRegion, tmp_path: Path, umask: int
) -> None:
    before = os.umask(umask)
    try:
        path = region.write(tmp_path / "a.geofix")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o644


def test_bounds_of_shards_around_the_globe_are_all_of_it(
    region: TinyRegion, tmp_path: Path
) -> None:
    quantizer, faces = region.quantizer, [(2 * face + 1) << 60 for face in range(6)]
    with PackWriter(tmp_path / "a.geofix", quantizer) as writer:
        for face in faces:
            cells = s2.descendants([face], level=3)
            codes = np.zeros((len(cells), quantizer.bytes_per_cell), np.uint8)
            writer.add_shard(build_shard(cells, codes, quantizer, parent=face, kind="scan"))
        box = writer.finish(TEXT).bounds
    coverage = RegionPack.open(tmp_path / "a.geofix").coverage
    assert (box.south, box.west, box.north, box.east) == (-90, -180, 90, 180)
    assert coverage.union.tolist() == faces
    assert coverage.area_km2 == pytest.approx(510e6, rel=0.001)
