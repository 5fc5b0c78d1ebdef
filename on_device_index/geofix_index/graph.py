"""The graph of a shard: a USearch index whose vectors are pq codes and whose keys are cell ids.

Built with the symmetric metric (pq code against pq code), searched with the asymmetric one (query
against pq code). The only module that imports usearch, and only when a graph is built or opened.
"""

from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from geofix_index import kernel
from geofix_index.errors import ShardFormatError
from geofix_index.onnx_runtime import import_onnxruntime
from geofix_index.quantizer import ProductQuantizer

CONNECTIVITY = 8  # links of a cell; each costs about 7 bytes
EXPANSION_ADD = 64

Cells = npt.NDArray[np.uint64]


class Graph:
    """A USearch index over the bytes of a file that is already trusted."""

    def __init__(self, index: Any, num_bytes: int, payload: bytes | memoryview) -> None:
        self._index = index
        self._blank = np.zeros(num_bytes, np.uint8)
        self._payload = payload  # the index points into it

    @classmethod
    def open(cls, payload: bytes | memoryview, num_bytes: int) -> "Graph | None":
        """Open a USearch file in place; None where there is no kernel to search it with.

        The payload must have been checked against its hash: USearch crashes on damaged files.

        Raises:
            ShardFormatError: USearch refuses it.
        """
        library = kernel.load_kernel()
        if library is None:
            return None
        index = _new_index(library, num_bytes, "geofix_asymmetric")
        try:
            index.view(payload)
        except Exception as e:  # USearch raises RuntimeError and others
            raise ShardFormatError(f"USearch cannot open a shard: {e}") from e
        # Loading puts USearch's own metric in place of ours.
        index.metric = _metric(library, "geofix_asymmetric")
        return cls(index, num_bytes, payload)

    def search(
        self, table: npt.NDArray[np.float32], *, k: int, bits: int, expansion: int
    ) -> tuple[Cells, npt.NDArray[np.float32]]:
        """Return cells and scores, best first. Not for two threads at once."""
        from usearch.compiled import ScalarKind

        library = kernel.load_kernel()
        if library is None:
            raise RuntimeError("a graph was opened without a kernel")
        if table.shape != (len(self._blank) * 8 // bits, 2**bits):
            raise ValueError(f"table has shape {table.shape}, which is not the shard's")
        self._index.expansion_search = max(expansion, k)
        with kernel.query(library, table, bits=bits):
            # The metric never reads the query vector. Without a dtype, bytes would mean bits.
            found = self._index.search(self._blank, k, threads=1, dtype=ScalarKind.U8)
        return np.asarray(found.keys, np.uint64), np.asarray(1.0 - found.distances, np.float32)


def build_graph(
    cells: Cells, pq_codes: npt.NDArray[np.uint8], quantizer: ProductQuantizer
) -> bytes:
    """Return a USearch file with the pq codes in the order of `cells`.

    Raises:
        ValueError: there is no C kernel here.
    """
    library = kernel.load_kernel()
    if library is None:
        raise ValueError(
            "a 'usearch' shard needs the C kernel to build its graph: install a C compiler and "
            "geofix again, or build with kind 'scan'"
        )
    index = _new_index(library, pq_codes.shape[1], "geofix_symmetric")
    from usearch.compiled import ScalarKind  # not before `_new_index`

    with kernel.products(library, quantizer.centroids, bits=quantizer.bits):
        # One thread: with more, rows change places and the file differs at each run.
        index.add(cells, pq_codes, threads=1, dtype=ScalarKind.U8)
    return bytes(index.save())


def _new_index(library: Any, num_bytes: int, metric: str) -> Any:
    # `import onnxruntime` (1.32) kills a process that has imported usearch (2.26): the other order
    # is fine. So an encoder's runtime that is installed is imported first, whoever needs it later.
    with suppress(Exception):
        import_onnxruntime()
    from usearch.compiled import ScalarKind
    from usearch.index import Index

    return Index(
        ndim=num_bytes,
        metric=_metric(library, metric),
        dtype=ScalarKind.U8,
        connectivity=CONNECTIVITY,
        expansion_add=EXPANSION_ADD,
        enable_key_lookups=False,
    )


def _metric(library: Any, name: str) -> Any:
    from usearch.compiled import MetricKind, MetricSignature
    from usearch.index import CompiledMetric

    address = kernel.metric_address(library, name)
    return CompiledMetric(address, MetricKind.IP, MetricSignature.ArrayArray)
