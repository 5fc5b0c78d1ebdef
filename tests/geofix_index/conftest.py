"""Quantizers and small shards, made once per run; the kernel, where there is one."""

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from geofix_index import ProductQuantizer, ShardFiles, build_shard, kernel
from tests.geofix_index.globe import unit
from tests.geofix_index.sample_cells import PARENT, some_cells

if "GEOFIX_TEST_KERNEL" in os.environ:  # another build of the kernel, as `make sanitize` makes it
    kernel._LIBRARY = Path(os.environ["GEOFIX_TEST_KERNEL"]).resolve()

DIM = 16
NUM_CELLS = 60

Cells = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float32]
PQCodes = npt.NDArray[np.uint8]


@pytest.fixture(scope="session")
def vectors() -> Floats:
    """Return vectors (1000, 16) of unit length in clusters."""
    rng = np.random.default_rng(0)
    clusters = rng.standard_normal((40, DIM))[rng.integers(40, size=1000)]
    jittered = clusters + 0.4 * rng.standard_normal(clusters.shape)
    return unit(jittered).astype(np.float32)


@pytest.fixture(scope="session")
def quantizers(vectors: Floats) -> dict[int, ProductQuantizer]:
    """Return quantizers of 4 and 8 bits; each makes pq codes of 4 bytes."""
    return {
        bits: ProductQuantizer.train(vectors, num_subspaces=32 // bits, bits=bits, seed=1)
        for bits in (4, 8)
    }


@pytest.fixture(scope="session", params=[8, 4], ids=["8bit", "4bit"])
def quantizer(
    request: pytest.FixtureRequest, quantizers: dict[int, ProductQuantizer]
) -> ProductQuantizer:
    """Return each quantizer in turn."""
    return quantizers[request.param]


@pytest.fixture(scope="session")
def library() -> ctypes.CDLL:
    """Return the kernel; skip the test where none was built."""
    library = kernel.load_kernel()
    if library is None:
        pytest.skip("the C kernel was not built: there was no C compiler")
    return library


@pytest.fixture(scope="session")
def cells() -> Cells:
    """Return cells (60,) of level 16 under PARENT."""
    return some_cells(PARENT, level=16, num=NUM_CELLS)


@pytest.fixture(scope="session")
def pq_codes() -> PQCodes:
    """Return pq codes (60, 4), which fit both quantizers."""
    return np.random.default_rng(4).integers(0, 256, (NUM_CELLS, 4)).astype(np.uint8)


@pytest.fixture(scope="session")
def scan_files(
    cells: Cells, pq_codes: PQCodes, quantizers: dict[int, ProductQuantizer]
) -> ShardFiles:
    """Return a shard without a graph, 8 bits."""
    return build_shard(cells, pq_codes, quantizers[8], parent=PARENT, kind="scan")


@pytest.fixture(scope="session")
def graph_files(
    cells: Cells,
    pq_codes: PQCodes,
    quantizers: dict[int, ProductQuantizer],
    library: ctypes.CDLL,
) -> ShardFiles:
    """Return a shard with a graph, 8 bits."""
    return build_shard(cells, pq_codes, quantizers[8], parent=PARENT)


@pytest.fixture(scope="session", params=["scan", "usearch"])
def files(request: pytest.FixtureRequest) -> ShardFiles:
    """Return a shard of each kind in turn."""
    name = "scan_files" if request.param == "scan" else "graph_files"
    found = request.getfixturevalue(name)
    assert isinstance(found, ShardFiles)
    return found


@pytest.fixture
def without_kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take the kernel's file away."""
    monkeypatch.setattr(kernel, "_LIBRARY", kernel._LIBRARY.with_name("missing.so"))
    kernel.load_kernel.cache_clear()
    yield
    kernel.load_kernel.cache_clear()


@pytest.fixture
def queries() -> Floats:
    """Return embeddings (12, 16) of unit length."""
    return unit(np.random.default_rng(5).standard_normal((12, DIM))).astype(np.float32)
