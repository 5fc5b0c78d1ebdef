from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from geofix_index import cells as s2
from geofix_train.cell_codes import (
    VALIDATED,
    CellCodes,
    CellCodesError,
    Queries,
    mix,
    read_cell_codes,
    read_queries,
    shrinkage,
    upsample,
    write_cell_codes,
    write_queries,
)
from geofix_train.prototypes import PrototypeGrid

Floats = npt.NDArray[np.float32]
LAT, LON, DIM = 47.37, 8.54, 12
CELLS = np.sort(s2.descendants([int(s2.cell_from_latlon(LAT, LON, level=13))], level=16))


def unit_rows(num: int, *, seed: int, dim: int = DIM) -> Floats:
    vectors = np.random.default_rng(seed).standard_normal((num, dim))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


@pytest.fixture
def codes() -> CellCodes:
    """Return codes of 64 cells; each part is absent from some."""
    prototypes, aerial = unit_rows(64, seed=0), unit_rows(64, seed=1)
    prototypes[40:], aerial[:10] = 0.0, 0.0
    num_photos = np.arange(64, dtype=np.int64)
    return CellCodes(
        cells=CELLS,
        prototypes=prototypes,
        aerial=aerial,
        num_photos=num_photos,
        prototype_photos=np.where(num_photos < 40, 2.5 * num_photos, 0).astype(np.float32),
        kappa=0.7,
        provenance={"encoder": "a.onnx", "n": 3},
    )


@pytest.fixture
def queries() -> Queries:
    """Return a query at the centre of each cell."""
    return Queries(unit_rows(64, seed=2), s2.latlon_from_cell(CELLS), ("seen", "unseen") * 32)


def rewrite(path: Path, change: Callable[[dict[str, Any], dict[str, str]], object]) -> None:
    """Change tensors and metadata of a file."""
    with safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        metadata = file.metadata()
    change(tensors, metadata)
    save_file(tensors, path, metadata)


def test_parts_are_added(codes: CellCodes) -> None:
    wanted = codes.aerial + np.float32(0.7) * codes.prototypes
    np.testing.assert_array_equal(codes.cell_codes, wanted)
    np.testing.assert_array_equal(codes.cell_codes[:10], np.float32(0.7) * codes.prototypes[:10])
    np.testing.assert_array_equal(codes.cell_codes[40:], codes.aerial[40:])
    np.testing.assert_array_equal(codes.with_kappa(0.0).cell_codes, codes.aerial)


def test_codes_that_are_mixed_again_are_those_mixed_at_once(
    codes: CellCodes, tmp_path: Path
) -> None:
    path = tmp_path / "codes.safetensors"
    write_cell_codes(codes.with_kappa(9.0, shrink_photos=100.0), path)
    again = read_cell_codes(path).with_kappa(0.25, shrink_photos=8.0)
    wanted = codes.with_kappa(0.25, shrink_photos=8.0).cell_codes
    np.testing.assert_array_equal(again.cell_codes, wanted)


def test_kappa_shrinks_where_few_photos_stand_behind_a_prototype(codes: CellCodes) -> None:
    shrunk = codes.with_kappa(0.5, shrink_photos=10.0).cell_codes
    for row in range(64):
        num = float(codes.prototype_photos[row])
        kappa = 0.5 * num / (num + 10.0)
        wanted = [
            a + kappa * p
            for a, p in zip(codes.aerial[row].tolist(), codes.prototypes[row].tolist(), strict=True)
        ]
        np.testing.assert_allclose(shrunk[row], wanted, rtol=1e-5, atol=1e-7)
    half = shrinkage(np.array([10.0], np.float32), 10.0)
    assert half.tolist() == [0.5]


def test_without_shrinkage_every_prototype_counts_whole(codes: CellCodes) -> None:
    without = replace(codes, prototype_photos=np.zeros(64, np.float32))
    np.testing.assert_array_equal(codes.cell_codes, without.cell_codes)


@pytest.mark.parametrize(("kappa", "shrink"), [(-1.0, 0.0), (np.nan, 0.0), (1.0, -1.0)])
@pytest.mark.parametrize("more", [0.0, np.nan])
def test_a_mixing_below_zero_or_no_number_is_an_error(
    codes: CellCodes, kappa: float, shrink: float, more: float
) -> None:
    with pytest.raises(ValueError, match="want 0"):
        codes.with_kappa(kappa, shrink_photos=shrink + more)


def test_an_infinite_kappa_means_prototypes_alone(codes: CellCodes) -> None:
    mixed = mix(codes.prototypes, codes.aerial, kappa=np.inf)
    np.testing.assert_array_equal(mixed, codes.prototypes)


@pytest.mark.parametrize("kappa", [0.1, 1 / 3, np.inf])
def test_written_codes_read_back(codes: CellCodes, tmp_path: Path, kappa: float) -> None:
    path = tmp_path / "new" / "codes.safetensors"
    write_cell_codes(codes.with_kappa(kappa, shrink_photos=3.5, choice=VALIDATED), path)
    read = read_cell_codes(path)
    assert (read.kappa, read.shrink_photos, read.kappa_choice) == (kappa, 3.5, VALIDATED)
    assert read.provenance == codes.provenance
    for name in ("cells", "prototypes", "aerial", "num_photos", "prototype_photos"):
        got, wanted = getattr(read, name), getattr(codes, name)
        assert got.dtype == wanted.dtype
        np.testing.assert_array_equal(got, wanted)
    assert [file.name for file in path.parent.iterdir()] == ["codes.safetensors"]


def test_the_sum_stands_in_the_file_for_other_readers(codes: CellCodes, tmp_path: Path) -> None:
    path = tmp_path / "codes.safetensors"
    write_cell_codes(codes, path)
    with safe_open(path, framework="numpy") as file:
        np.testing.assert_array_equal(file.get_tensor("cell_codes"), codes.cell_codes)


@pytest.mark.parametrize("slices", [("seen", "unseen") * 32, ()])
def test_written_queries_read_back(
    queries: Queries, tmp_path: Path, slices: tuple[str, ...]
) -> None:
    path = tmp_path / "queries.safetensors"
    write_queries(replace(queries, slices=slices), path)
    read = read_queries(path)
    np.testing.assert_array_equal(read.embeddings, queries.embeddings)
    np.testing.assert_array_equal(read.latlon, queries.latlon)
    assert read.slices == slices
    assert read.image_statistics is None


def test_image_statistics_of_queries_read_back(queries: Queries, tmp_path: Path) -> None:
    path = tmp_path / "queries.safetensors"
    statistics = np.random.default_rng(0).random((64, 12), np.float32)
    write_queries(replace(queries, image_statistics=statistics), path)
    np.testing.assert_array_equal(read_queries(path).image_statistics, statistics)
    write_queries(replace(queries, image_statistics=statistics[:, :5]), path)
    with pytest.raises(CellCodesError, match=r"image_statistics is \(64, 5\), want \(64, 12\)"):
        read_queries(path)


@pytest.mark.parametrize("kept_bytes", [0, 4, 300, -1])
def test_a_damaged_file_is_refused(codes: CellCodes, tmp_path: Path, kept_bytes: int) -> None:
    path = tmp_path / "codes.safetensors"
    write_cell_codes(codes, path)
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(CellCodesError, match=r"codes\.safetensors: unreadable"):
        read_cell_codes(path)
    with pytest.raises(CellCodesError, match=r"codes\.safetensors: unreadable"):
        read_queries(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CellCodesError, match=r"is a folder, want a file .* RUN/codes/codes\.safe"):
        read_cell_codes(tmp_path)
    with pytest.raises(CellCodesError, match=r"none\.safetensors: no such file: make it by"):
        read_cell_codes(tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    "name", ["cells", "prototypes", "aerial", "num_photos", "prototype_photos"]
)
def test_a_missing_tensor_is_named(codes: CellCodes, tmp_path: Path, name: str) -> None:
    path = tmp_path / "codes.safetensors"
    write_cell_codes(codes, path)
    rewrite(path, lambda tensors, metadata: tensors.pop(name))
    with pytest.raises(CellCodesError, match=f"no tensor '{name}'; it has "):
        read_cell_codes(path)


def test_queries_are_no_codes(queries: Queries, tmp_path: Path) -> None:
    write_queries(queries, tmp_path / "queries.safetensors")
    with pytest.raises(CellCodesError, match="no tensor 'cells'; it has embeddings, latlon"):
        read_cell_codes(tmp_path / "queries.safetensors")


@pytest.mark.parametrize("version", ["2", "4", None])
def test_another_format_version_is_refused(
    codes: CellCodes, tmp_path: Path, version: str | None
) -> None:
    def change(tensors: dict[str, Any], metadata: dict[str, str]) -> None:
        del metadata["format"]
        if version is not None:
            metadata["format"] = version

    path = tmp_path / "codes.safetensors"
    write_cell_codes(codes, path)
    rewrite(path, change)
    with pytest.raises(CellCodesError, match=f"format {version!r}, want 3: make it again by"):
        read_cell_codes(path)


@pytest.mark.parametrize("key", ["kappa", "shrink_photos", "provenance"])
@pytest.mark.parametrize("text", [None, "{"])
def test_metadata_that_cannot_be_read_is_refused(
    codes: CellCodes, tmp_path: Path, key: str, text: str | None
) -> None:
    def change(tensors: dict[str, Any], metadata: dict[str, str]) -> None:
        del metadata[key]
        if text is not None:
            metadata[key] = text

    path = tmp_path / "codes.safetensors"
    write_cell_codes(codes, path)
    rewrite(path, change)
    with pytest.raises(CellCodesError, match=f"metadata lacks a readable '{key}'"):
        read_cell_codes(path)


def test_slices_that_cannot_be_read_are_refused(queries: Queries, tmp_path: Path) -> None:
    path = tmp_path / "queries.safetensors"
    write_queries(queries, path)
    rewrite(path, lambda tensors, metadata: metadata.update(slices="["))
    with pytest.raises(CellCodesError, match="metadata lacks a readable 'slices'"):
        read_queries(path)


def test_only_cells_whose_parent_has_a_prototype_get_one() -> None:
    parents = np.unique(s2.parent(CELLS, level=15))
    grid = PrototypeGrid(parents[::2], level=15, code_level=16)
    upsampled = upsample(grid, unit_rows(len(grid.cells), seed=0), CELLS)
    has_parent = np.isin(s2.parent(CELLS, level=15), parents[::2])
    assert 0 < has_parent.sum() < len(CELLS)
    np.testing.assert_allclose(np.linalg.norm(upsampled[has_parent], axis=1), 1.0, atol=1e-6)
    assert not upsampled[~has_parent].any()


def test_a_prototype_alone_reaches_all_its_children() -> None:
    parent = s2.parent(CELLS[:1], level=15)
    grid, prototype = PrototypeGrid(parent, level=15, code_level=16), unit_rows(1, seed=0)
    upsampled = upsample(grid, prototype, s2.descendants(parent, level=16))
    np.testing.assert_allclose(upsampled, prototype.repeat(4, axis=0), atol=1e-6)


def test_children_of_one_cell_differ_where_its_neighbours_do() -> None:
    parents = np.unique(s2.parent(CELLS, level=15))
    grid = PrototypeGrid(parents, level=15, code_level=16)
    upsampled = upsample(grid, unit_rows(len(parents), seed=0), CELLS[:4])
    assert float((upsampled[0] * upsampled[3]).sum()) < 0.99
