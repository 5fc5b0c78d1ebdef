from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import geofix
from geofix import Localizer, Manifest, RegionPack
from geofix_export.build import FEW_CELLS, train_quantizer
from geofix_index import cells as s2
from geofix_index import kernel_version
from geofix_train.artifact import EncoderArtifact
from geofix_train.cell_codes import Queries
from tests.tiny_pack import TinyRegion

needs_kernel = pytest.mark.skipif(
    kernel_version() is None, reason="graphs are built with the C kernel"
)
Build = Callable[..., Manifest]


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
