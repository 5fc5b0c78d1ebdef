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
    CellCodes,
    CellCodesError,
    Queries,
    choose_kappa,
    fisher_kappa,
    mix,
    read_cell_codes,
    read_queries,
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
        CELLS, prototypes, aerial, num_photos, kappa=0.7, provenance={"encoder": "a.onnx", "n": 3}
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


def test_an_infinite_kappa_means_prototypes_alone(codes: CellCodes) -> None:
    mixed = mix(codes.prototypes, codes.aerial, kappa=np.inf)
    np.testing.assert_array_equal(mixed, codes.prototypes)


@pytest.mark.parametrize("kappa", [0.1, 1 / 3, np.inf])
def test_written_codes_read_back(codes: CellCodes, tmp_path: Path, kappa: float) -> None:
    path = tmp_path / "new" / "codes.safetensors"
    write_cell_codes(codes.with_kappa(kappa), path)
    read = read_cell_codes(path)
    assert read.kappa == kappa
    assert read.provenance == codes.provenance
    for name in ("cells", "prototypes", "aerial", "num_photos"):
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
    with pytest.raises(CellCodesError, match=r"none\.safetensors: unreadable"):
        read_cell_codes(tmp_path / "none.safetensors")


@pytest.mark.parametrize("name", ["cells", "prototypes", "aerial", "num_photos"])
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


@pytest.mark.parametrize("version", ["2", None])
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
    with pytest.raises(CellCodesError, match=f"format {version!r}, want 1"):
        read_cell_codes(path)


@pytest.mark.parametrize("key", ["kappa", "provenance"])
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


@pytest.mark.parametrize("right", ["prototypes", "aerial"])
def test_kappa_prefers_the_part_that_is_right(queries: Queries, right: str) -> None:
    # The other part says, as loudly, that each query is at its neighbour's place.
    true, false = queries.embeddings, np.roll(queries.embeddings, 32, axis=0)
    prototypes, aerial = (true, false) if right == "prototypes" else (false, true)
    kappa = choose_kappa(prototypes, aerial, CELLS, queries)
    assert kappa > 1 if right == "prototypes" else kappa < 1
    scores = queries.embeddings @ mix(prototypes, aerial, kappa=kappa).T
    assert (scores.argmax(axis=1) == np.arange(64)).all()


def test_among_equally_good_kappas_fishers_wins(queries: Queries) -> None:
    # Both parts are the truth: every kappa finds every query.
    noise = 0.01 * unit_rows(64, seed=3)
    prototypes, aerial = queries.embeddings + noise, queries.embeddings
    start = fisher_kappa(prototypes, aerial, CELLS, queries)
    assert choose_kappa(prototypes, aerial, CELLS, queries) == pytest.approx(start)


def test_fishers_kappa_grows_with_what_prototypes_know(queries: Queries) -> None:
    truth = queries.embeddings
    kappas = [
        fisher_kappa(truth + level * unit_rows(64, seed=4), truth, CELLS, queries)
        for level in (0.0, 0.5, 1.0, 3.0)
    ]
    assert kappas[0] == pytest.approx(1.0)
    assert kappas == sorted(kappas, reverse=True)
    assert kappas[-1] < 0.5


def test_fishers_kappa_undoes_a_difference_of_scale(queries: Queries) -> None:
    truth = queries.embeddings
    assert fisher_kappa(truth, 5 * truth, CELLS, queries) == pytest.approx(5.0, rel=1e-3)


def test_queries_outside_the_cells_say_nothing_about_kappa(queries: Queries) -> None:
    away = replace(queries, latlon=queries.latlon + 1.0)
    assert fisher_kappa(queries.embeddings, queries.embeddings, CELLS, away) == 1.0


def test_cells_that_lack_a_part_say_nothing_about_kappa(queries: Queries) -> None:
    prototypes, aerial = queries.embeddings.copy(), queries.embeddings.copy()
    prototypes[:32], aerial[32:] = 0.0, 0.0
    assert fisher_kappa(prototypes, aerial, CELLS, queries) == 1.0
