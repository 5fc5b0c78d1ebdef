"""Releases of a region: on a base, encoders left out, told by validation photos, byte-equal."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from geofix import Localizer, Manifest, RegionPack
from geofix_index import cells as s2
from geofix_index import kernel_version
from geofix_train.artifact import EncoderArtifact
from geofix_train.cell_codes import Queries
from tests.tiny_pack import TinyRegion

needs_kernel = pytest.mark.skipif(
    kernel_version() is None, reason="graphs are built with the C kernel"
)
Build = Callable[..., Manifest]


def test_a_later_release_takes_what_is_not_given_from_the_one_before(
    build: Build, region: TinyRegion, tmp_path: Path
) -> None:
    first = tmp_path / "town.geofix"
    old = build(
        first, pack_id="t", title="Town", attribution="A. Mapper", license="CC0-1.0", shard_level=10
    )
    codes = region.cell_codes.copy()
    in_first_shard = s2.parent(region.cells, level=10) == region.shards[0][0]
    codes[np.flatnonzero(in_first_shard)[0]] *= -1
    manifest = build(
        tmp_path / "later.geofix",
        cell_codes=codes,
        base=RegionPack.open(first),
        quantizer=None,
        index=None,
    )
    assert (manifest.pack_id, manifest.pack_version, manifest.title) == ("t", 2, "Town")
    assert (manifest.attribution, manifest.license) == ("A. Mapper", "CC0-1.0")
    assert manifest.shards == old.shards
    changed = {n for n, digest in manifest.entries.items() if old.entries[n] != digest}
    assert changed == {manifest.shards[0].payload_entry}


def test_a_base_of_other_codes_is_an_error(
    build: Build, region: TinyRegion, tmp_path: Path
) -> None:
    build(tmp_path / "a.geofix")
    base = RegionPack.open(tmp_path / "a.geofix")
    for changes in ({"cell_codes": region.cell_codes[:, :16]}, {"bytes_per_cell": 4}):
        with pytest.raises(ValueError, match=r"32 dimensions in 8 bytes a cell, .* a base"):
            build(tmp_path / "b.geofix", base=base, quantizer=None, **changes)
    assert list(tmp_path.iterdir()) == [tmp_path / "a.geofix"]


def test_a_version_that_does_not_grow_is_an_error(build: Build, tmp_path: Path) -> None:
    build(tmp_path / "a.geofix", pack_version=3)
    base = RegionPack.open(tmp_path / "a.geofix")
    with pytest.raises(ValueError, match="pack_version is 3, the base has 3: want a later"):
        build(tmp_path / "b.geofix", base=base, pack_version=3)
    assert build(tmp_path / "b.geofix", base=base, pack_version=9).pack_version == 9


def test_encoders_are_named_and_left_out_where_that_is_wanted(
    build: Build, encoder: EncoderArtifact, region: TinyRegion, tmp_path: Path
) -> None:
    out, model = tmp_path / "light.geofix", tmp_path / "model.onnx"
    manifest = build(out, encoders=[encoder], embed_encoders=False)
    assert manifest.encoders[0].referenced is not None
    assert manifest.encoders[0].referenced.sha256 == encoder.sha256
    assert not any(name.startswith("encoders/") for name in manifest.entries)
    model.write_bytes(encoder.data)
    with Localizer.open(out, encoder=model) as localizer:
        assert localizer.localize(region.pictures[0]).cell == region.tokens[0]


def test_validation_photos_tell_what_to_expect_where(
    build: Build, region: TinyRegion, queries: Queries, encoder: EncoderArtifact, tmp_path: Path
) -> None:
    photographed = np.arange(len(region.cells)) % 3 == 0
    lost = Queries(
        np.concatenate([queries.embeddings, -queries.embeddings[:2]]),
        np.concatenate([queries.latlon, [[0.0, 0.0], [1.0, 1.0]]]),
    )
    out = tmp_path / "town.geofix"
    build(out, encoders=[encoder], queries=lost, photographed=photographed)
    calibration = RegionPack.open(out).manifest.encoders[0].calibration
    assert calibration is not None
    told = calibration.validation
    assert told["all"].num_photos == len(region.cells) + 2
    assert told["photographed"].num_photos == photographed.sum()
    assert told["not_photographed"].num_photos == (~photographed).sum()
    assert told["photographed"].within_100m > 0.9
    assert told["photographed"].share_fixed > 0.9
    assert told["all"].within_100m < told["photographed"].within_100m


def test_photographed_follows_the_order_of_the_cells(
    build: Build, region: TinyRegion, tmp_path: Path
) -> None:
    photographed = np.arange(len(region.cells)) % 3 == 0
    order = np.random.default_rng(0).permutation(len(region.cells))
    build(
        tmp_path / "town.geofix",
        cells=region.cells[order],
        cell_codes=region.cell_codes[order],
        photographed=photographed[order],
    )
    coverage = RegionPack.open(tmp_path / "town.geofix").coverage
    found = coverage.photographed_in(coverage.bounds)
    np.testing.assert_array_equal(found, photographed)
    with pytest.raises(ValueError, match=r"photographed is \(3,\), want \(262,\)"):
        build(tmp_path / "other.geofix", photographed=photographed[:3])


BUILD = """
import os, sys
from pathlib import Path
os.umask(int(sys.argv[2], 8))
from geofix_export.build import build_pack
from tests.tiny_pack import make_region
region = make_region()
build_pack(Path(sys.argv[1]), cells=region.cells, cell_codes=region.cell_codes,
           quantizer=region.quantizer, index=region.shards[0][1].kind)
"""


def test_builds_in_other_folders_time_zones_and_umasks_are_byte_equal(tmp_path: Path) -> None:
    hashes = set()
    for folder, zone, umask, seed, threads in (
        ("a", "UTC", "022", "0", "1"),
        ("b/c", "Pacific/Auckland", "077", "1", "2"),
        ("d", "America/New_York", "000", "random", "3"),
    ):
        out = tmp_path / folder / "town.geofix"
        environment = os.environ | {
            "TZ": zone, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": threads, "LC_ALL": "C"
        }  # fmt: skip
        subprocess.run(
            [sys.executable, "-c", BUILD, str(out), umask],
            check=True,
            cwd=Path(__file__).parents[2],
            env=environment,
        )
        hashes.add(hashlib.sha256(out.read_bytes()).hexdigest())
        assert out.stat().st_mode & 0o777 == 0o644
    assert len(hashes) == 1


def test_encoders_to_leave_out_have_to_be_given(build: Build, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="encoders to name and leave out: none is given"):
        build(tmp_path / "a.geofix", embed_encoders=False)


def test_a_base_is_not_written_over(build: Build, tmp_path: Path) -> None:
    out = tmp_path / "a.geofix"
    build(out)
    before = out.read_bytes()
    with pytest.raises(ValueError, match="is the base itself"):
        build(out, base=RegionPack.open(out))
    assert out.read_bytes() == before
