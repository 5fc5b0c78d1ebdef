"""Each way to search reproduces tests/golden/search.json, which docs/shard_spec.md describes."""

import ctypes
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geofix_index import (
    Box,
    CellIndex,
    CellUnion,
    Disk,
    ProductQuantizer,
    Region,
    Shard,
    build_shard,
)
from geofix_index import cells as s2

GOLDEN = Path(__file__).parents[1] / "golden"
TABLE: dict[str, list[Any]] = json.loads((GOLDEN / "search.json").read_text())
SHA256 = {entry["name"]: entry["sha256"] for entry in TABLE["files"]}
VARIANTS = {entry["name"]: entry["shards"] for entry in TABLE["variants"]}
REGIONS = {entry["name"]: entry for entry in TABLE["regions"]}


def read(name: str) -> bytes:
    """Return a golden file; USearch must not see one that is damaged."""
    data = (GOLDEN / name).read_bytes()
    assert hashlib.sha256(data).hexdigest() == SHA256[name]
    return data


def open_quantizer(variant: str) -> ProductQuantizer:
    """Return the stored quantizer of a variant."""
    return ProductQuantizer.from_bytes(read(f"codebook_{variant}.pq"))


def open_shards(variant: str, kind: str) -> list[Shard]:
    """Return the stored shards of a variant, of one kind."""
    quantizer = open_quantizer(variant)
    return [
        Shard.open(
            read(f"shards/{shard}.{kind}.cells"), read(f"shards/{shard}.{kind}.payload"), quantizer
        )
        for shard in VARIANTS[variant]
    ]


def region_of(name: str) -> Region | None:
    """Return a region of the table; None is everywhere."""
    entry = REGIONS[name]
    if "disk" in entry:
        return Disk(**entry["disk"])
    if "box" in entry:
        return Box(**entry["box"])
    return CellUnion([s2.cell_from_token(t) for t in entry["cells"]]) if "cells" in entry else None


@pytest.fixture(scope="module", params=["numpy", "scan", "scan of graph shards", "graph"])
def indexes(request: pytest.FixtureRequest) -> dict[str, CellIndex]:
    """Return an index of each variant, searched in one of the ways there are."""
    way: str = request.param
    if way != "numpy":
        request.getfixturevalue("library")
    return {
        variant: CellIndex(
            open_quantizer(variant),
            open_shards(variant, "usearch" if "graph" in way else "scan"),
            graph_from_cells=1 if way == "graph" else 1_000_000,
            use_kernel=way != "numpy",
        )
        for variant in VARIANTS
    }


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_search_reproduces_the_table(
    indexes: dict[str, CellIndex], variant: str, region: str
) -> None:
    rows = [r for r in TABLE["results"] if (r["variant"], r["region"]) == (variant, region)]
    assert [row["query"] for row in rows] == list(range(len(TABLE["queries"])))
    for row, query in zip(rows, TABLE["queries"], strict=True):
        embedding = np.array(query, np.float32)
        found = indexes[variant].search(embedding, k=10, region=region_of(region))
        assert [s2.token_from_cell(cell) for cell in found.cells.tolist()] == row["cells"]
        assert found.scores == pytest.approx(row["scores"], abs=1e-5)


def test_the_table_has_a_tie_between_shards() -> None:
    row = TABLE["results"][0]
    assert row["scores"][0] == row["scores"][1]
    assert {token[:2] for token in row["cells"][:2]} == {"58", "7d"}


@pytest.mark.parametrize("region", REGIONS)
def test_regions_hold_as_many_cells_as_the_table_says(region: str) -> None:
    index = CellIndex(open_quantizer("8bit"), open_shards("8bit", "scan"))
    part = region_of(region) or Disk(0, 0, 1e9)
    assert len(index.cells_in(part)) == REGIONS[region]["num_cells"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_stored_shards_and_codebooks_are_built_again_byte_by_byte(variant: str) -> None:
    quantizer = open_quantizer(variant)
    assert quantizer.to_bytes() == read(f"codebook_{variant}.pq")
    for name, shard in zip(VARIANTS[variant], open_shards(variant, "scan"), strict=True):
        files = build_shard(
            shard.cells(), shard.pq_codes, quantizer, parent=shard.parent, kind="scan"
        )
        assert files.cells == read(f"shards/{name}.scan.cells")
        assert files.payload == read(f"shards/{name}.scan.payload")
        assert read(f"shards/{name}.usearch.payload").startswith(shard.pq_codes.tobytes(), 8)


@pytest.mark.parametrize("variant", VARIANTS)
def test_stored_vectors_are_encoded_as_they_are_stored(variant: str) -> None:
    quantizer = open_quantizer(variant)
    for shard in open_shards(variant, "scan"):
        again = quantizer.encode(quantizer.decode(shard.pq_codes))
        assert again.tolist() == shard.pq_codes.tolist()


def test_the_generator_writes_the_stored_files(library: ctypes.CDLL, tmp_path: Path) -> None:
    script = GOLDEN / "make_search.py"
    subprocess.run([sys.executable, script, tmp_path], check=True)
    # A USearch file names the version that wrote it.
    stable = [name for name in SHA256 if not name.endswith(".usearch.payload")]
    for name in stable:
        assert (tmp_path / name).read_bytes() == read(name)
    table = json.loads((tmp_path / "search.json").read_text())
    assert {**table, "files": TABLE["files"]} == TABLE


def test_golden_files_are_listed_and_small() -> None:
    stored = [*GOLDEN.glob("codebook_*"), *(GOLDEN / "shards").iterdir()]
    assert {str(path.relative_to(GOLDEN).as_posix()) for path in stored} == set(SHA256)
    assert sum(path.stat().st_size for path in (*stored, GOLDEN / "search.json")) < 200_000
