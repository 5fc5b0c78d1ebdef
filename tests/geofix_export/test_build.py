import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import geofix
from geofix import Localizer, Manifest, RegionPack
from geofix_export.build import FEW_CELLS, build_pack, train_quantizer
from geofix_index import cells as s2
from geofix_index import kernel_version
from geofix_train.artifact import EncoderArtifact
from geofix_train.cell_codes import Queries
from tests.tiny_pack import KIND, TinyRegion

needs_kernel = pytest.mark.skipif(
    kernel_version() is None, reason="graphs are built with the C kernel"
)
Build = Callable[..., Manifest]


@pytest.fixture(scope="module")
def encoder(region: TinyRegion) -> EncoderArtifact:
    """Return the region's encoder as the exporter gives it."""
    file = region.encoder
    return EncoderArtifact(
        file.target, file.precision, file.filename, bytes(file.data), file.dim, file.input_spec
    )


@pytest.fixture(scope="module")
def queries(region: TinyRegion) -> Queries:
    """Return a query near each cell: its code with noise."""
    rng = np.random.default_rng(0)
    noisy = region.cell_codes + 0.05 * rng.standard_normal(region.cell_codes.shape)
    noisy /= np.linalg.norm(noisy, axis=1, keepdims=True)
    return Queries(noisy.astype(np.float32), s2.latlon_from_cell(region.cells))


@pytest.fixture
def build(region: TinyRegion) -> Build:
    """Return `build_pack` with arguments that are right; a test changes some."""

    def build_region(out: Path, **changes: Any) -> Manifest:
        arguments: dict[str, Any] = {
            "cells": region.cells,
            "cell_codes": region.cell_codes,
            "quantizer": region.quantizer,
            "index": KIND,
        }
        return build_pack(out, **(arguments | changes))

    return build_region


def test_a_built_pack_localizes(
    build: Build, region: TinyRegion, encoder: EncoderArtifact, queries: Queries, tmp_path: Path
) -> None:
    out = tmp_path / "town.geofix"
    manifest = build(out, encoders=[encoder], queries=queries, title="Town", pack_version=3)
    assert (manifest.pack_id, manifest.title, manifest.pack_version) == ("town", "Town", 3)
    assert RegionPack.open(out).manifest == manifest
    assert RegionPack.open(out).verify() == 4 + 2 * len(manifest.shards)
    with Localizer.open(out) as localizer:
        fixes = [localizer.localize(picture) for picture in region.pictures[:10]]
    assert [fix.cell for fix in fixes] == region.tokens[:10]
    assert {fix.status for fix in fixes} == {"fixed"}


def test_the_order_of_the_cells_does_not_matter(
    build: Build, region: TinyRegion, tmp_path: Path
) -> None:
    order = np.random.default_rng(0).permutation(len(region.cells))
    build(tmp_path / "a" / "town.geofix")
    build(
        tmp_path / "b" / "town.geofix",
        cells=region.cells[order],
        cell_codes=region.cell_codes[order],
    )
    sorted_bytes, shuffled_bytes = (
        (tmp_path / folder / "town.geofix").read_bytes() for folder in "ab"
    )
    assert sorted_bytes == shuffled_bytes


def test_a_given_quantizer_makes_builds_byte_equal(
    build: Build, encoder: EncoderArtifact, queries: Queries, tmp_path: Path
) -> None:
    packs = [tmp_path / "a" / "town.geofix", tmp_path / "b" / "town.geofix"]
    for pack in packs:
        build(pack, encoders=[encoder], queries=queries, provenance={"run": [1, "x"]})
    assert packs[0].read_bytes() == packs[1].read_bytes()
    provenance = RegionPack.open(packs[0]).manifest.provenance
    assert provenance["run"] == [1, "x"]
    assert provenance["tools"]["geofix"] == geofix.__version__


def test_a_seed_decides_on_the_quantizer(build: Build, tmp_path: Path) -> None:
    def built(seed: int) -> bytes:
        build(tmp_path / "town.geofix", quantizer=None, seed=seed)
        return (tmp_path / "town.geofix").read_bytes()

    first = built(0)
    assert built(0) == first
    assert built(1) != first


def test_shards_are_cut_at_the_wanted_level(
    build: Build, region: TinyRegion, tmp_path: Path
) -> None:
    for level in (8, 10, 13):
        manifest = build(tmp_path / "town.geofix", shard_level=level)
        wanted = np.unique(s2.parent(region.cells, level=level)).tolist()
        assert [shard.parent for shard in manifest.shards] == wanted
        pack = RegionPack.open(tmp_path / "town.geofix")
        pack.verify()
        found = pack.index().search(region.cell_codes[9], k=len(region.cells))
        assert found.cells[0] == region.cells[9]
        assert len(found.cells) == len(region.cells)


@needs_kernel
def test_codes_alone_are_smaller_than_a_graph(build: Build, tmp_path: Path) -> None:
    sizes = {}
    for kind in ("scan", "usearch"):
        manifest = build(tmp_path / kind, index=kind)
        assert {shard.kind for shard in manifest.shards} == {kind}
        sizes[kind] = (tmp_path / kind).stat().st_size
    assert sizes["scan"] < 0.8 * sizes["usearch"]


def test_without_queries_a_pack_is_not_calibrated(
    build: Build, encoder: EncoderArtifact, queries: Queries, tmp_path: Path
) -> None:
    nothing = Queries(queries.embeddings[:0], queries.latlon[:0])
    for missing in (None, nothing):
        manifest = build(tmp_path / "town.geofix", encoders=[encoder], queries=missing)
        assert manifest.encoders[0].calibration is None
        assert manifest.calibration is None


def test_the_calibration_stands_at_the_encoders_or_alone(
    build: Build, region: TinyRegion, encoder: EncoderArtifact, queries: Queries, tmp_path: Path
) -> None:
    int8 = replace(encoder, precision="int8")
    two = build(tmp_path / "two.geofix", encoders=[encoder, int8], queries=queries)
    assert two.calibration is None
    calibrations = [entry.calibration for entry in two.encoders]
    none = build(tmp_path / "none.geofix", queries=queries)
    assert none.encoders == ()
    assert none.calibration is not None
    assert calibrations == [none.calibration] * 2
    with Localizer.open(tmp_path / "none.geofix") as localizer:
        fix = localizer.search(region.cell_codes[4])
    assert (fix.cell, fix.status) == (region.tokens[4], "fixed")


def test_few_cells_get_small_sub_quantizers() -> None:
    vectors = np.random.default_rng(0).standard_normal((300, 8)).astype(np.float32)
    quantizer = train_quantizer(vectors)
    assert (quantizer.bits, quantizer.num_subspaces, quantizer.bytes_per_cell) == (4, 8, 4)


@pytest.mark.parametrize("num_cells", [1, 15])
def test_a_pack_may_have_fewer_cells_than_centroids(
    build: Build, region: TinyRegion, encoder: EncoderArtifact, tmp_path: Path, num_cells: int
) -> None:
    codes = region.cell_codes[:num_cells]
    build(tmp_path / "a.geofix", cells=region.cells[:num_cells], cell_codes=codes)
    with Localizer.open(tmp_path / "a.geofix") as localizer:
        found = [localizer.search(code).cell for code in codes]
    assert found == region.tokens[:num_cells]


def test_many_cells_get_large_sub_quantizers() -> None:
    vectors = np.random.default_rng(0).standard_normal((FEW_CELLS, 4)).astype(np.float32)
    quantizer = train_quantizer(vectors)
    assert (quantizer.bits, quantizer.num_subspaces, quantizer.bytes_per_cell) == (8, 2, 2)
    assert train_quantizer(vectors, index="scan").bits == 4


@pytest.mark.parametrize(
    ("dim", "bytes_per_cell", "wanted"),
    [(128, None, 32), (256, None, 32), (96, None, 24), (24, None, 12), (2, None, 1), (256, 8, 8)],
)
def test_a_pq_code_is_as_long_as_asked(dim: int, bytes_per_cell: int | None, wanted: int) -> None:
    vectors = np.random.default_rng(0).standard_normal((16, dim)).astype(np.float32)
    quantizer = train_quantizer(vectors, bytes_per_cell=bytes_per_cell)
    assert quantizer.bytes_per_cell == wanted


def test_sizes_that_do_not_fit_are_errors_that_say_which_do() -> None:
    vectors = np.zeros((16, 24), np.float32)
    with pytest.raises(ValueError, match="5: codes of 24 dimensions can have 1, 2, 3, 4, 6, 12 w"):
        train_quantizer(vectors, bytes_per_cell=5)
    for dim in (1, 23, 74):
        with pytest.raises(ValueError, match=f"{dim} dimensions divide badly .* append zeros"):
            train_quantizer(np.zeros((16, dim), np.float32))


def test_codes_may_be_mapped_from_a_file(build: Build, region: TinyRegion, tmp_path: Path) -> None:
    np.save(tmp_path / "codes.npy", region.cell_codes)
    mapped = np.load(tmp_path / "codes.npy", mmap_mode="r")
    build(tmp_path / "mapped.geofix", cell_codes=mapped)
    build(tmp_path / "read.geofix")
    wanted, found = ((tmp_path / f"{n}.geofix").read_bytes() for n in ("read", "mapped"))
    assert len(found) == len(wanted)


def test_a_code_that_is_not_finite_is_an_error_that_names_the_cell(
    build: Build, region: TinyRegion, tmp_path: Path
) -> None:
    for value in (np.nan, np.inf):
        codes = region.cell_codes.copy()
        codes[17, 3] = value
        with pytest.raises(ValueError, match=f"cell {region.tokens[17]} is not finite"):
            build(tmp_path / "town.geofix", cell_codes=codes)


def test_an_encoder_of_another_dimension_is_an_error(
    build: Build, encoder: EncoderArtifact, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="64 dimensions, the cell codes have 32"):
        build(tmp_path / "town.geofix", encoders=[replace(encoder, dim=64)])


def test_queries_of_another_run_are_an_error(
    build: Build, queries: Queries, tmp_path: Path
) -> None:
    other = Queries(queries.embeddings[:, :16], queries.latlon)
    with pytest.raises(ValueError, match="queries have 16 dimensions, the cell codes 32"):
        build(tmp_path / "town.geofix", queries=other)


def test_two_encoders_for_one_target_and_precision_are_an_error(
    build: Build, encoder: EncoderArtifact, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="two encoders for onnx, fp32"):
        build(tmp_path / "town.geofix", encoders=[encoder, encoder])


def test_a_cell_that_comes_twice_is_an_error(
    build: Build, region: TinyRegion, tmp_path: Path
) -> None:
    cells = region.cells.copy()
    cells[5] = cells[6]
    with pytest.raises(ValueError, match="ascending"):
        build(tmp_path / "town.geofix", cells=cells)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"index": "hnsw"}, "want 'usearch' or 'scan'"),
        ({"pack_version": 0}, "pack_version is 0, want at least 1"),
        ({"shard_level": 17}, "no parent at level 17"),
        ({"cells": np.zeros(3, np.uint64)}, "want \\(N,\\), \\(N, D\\) with"),
        ({"cells": np.zeros(0, np.uint64), "cell_codes": np.zeros((0, 32), np.float32)}, "N > 0"),
        ({"cell_codes": np.zeros(262, np.float32)}, "want \\(N,\\), \\(N, D\\) with"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_arguments_that_do_not_fit_are_an_error_and_leave_no_file(
    build: Build, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build(tmp_path / "town.geofix", **changes)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cell", [0, 2**64 - 1, 10])
def test_an_id_that_is_no_cell_is_an_error(
    build: Build, region: TinyRegion, tmp_path: Path, cell: int
) -> None:
    cells = region.cells.copy()
    cells[3] = cell
    with pytest.raises(ValueError, match="no S2 cell id"):
        build(tmp_path / "town.geofix", cells=cells)


def test_a_later_release_takes_what_is_not_given_from_the_one_before(
    build: Build, region: TinyRegion, tmp_path: Path
) -> None:
    first = tmp_path / "town.geofix"
    build(first, pack_id="t", title="Town", attribution="A. Mapper", license="CC0-1.0")
    codes = region.cell_codes.copy()
    in_first_shard = s2.parent(region.cells, level=10) == region.shards[0][0]
    codes[np.flatnonzero(in_first_shard)[0]] *= -1
    manifest = build(
        tmp_path / "later.geofix",
        cell_codes=codes,
        base=RegionPack.open(first),
        quantizer=None,
        index=None,
        shard_level=10,
    )
    old = RegionPack.open(build_with(build, first, shard_level=10)).manifest
    assert (manifest.pack_id, manifest.pack_version, manifest.title) == ("t", 2, "Town")
    assert (manifest.attribution, manifest.license) == ("A. Mapper", "CC0-1.0")
    assert manifest.shards[0].kind == old.shards[0].kind
    changed = {n for n, digest in manifest.entries.items() if old.entries[n] != digest}
    assert changed == {manifest.shards[0].payload_entry}


def build_with(build: Build, out: Path, **changes: Any) -> Path:
    build(out, **changes)
    return out


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
