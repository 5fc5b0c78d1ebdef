import ctypes
import os
import shutil
import sys
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geofix_index import ProductQuantizer, kernel, kernel_version

Floats = npt.NDArray[np.float32]
PQCodes = npt.NDArray[np.uint8]


def random_scan(seed: int, *, bits: int, num_bytes: int, num: int) -> tuple[Floats, PQCodes]:
    """Return a look-up table and pq codes."""
    rng = np.random.default_rng(seed)
    shape = (num_bytes * 8 // bits, 2**bits)
    # Entries differ so much in size that another order of additions would give other bits.
    table = rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 4, shape)
    return table.astype(np.float32), rng.integers(0, 256, (num, num_bytes)).astype(np.uint8)


def test_the_kernel_is_there_where_a_c_compiler_is() -> None:
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None or sys.platform == "win32" or os.environ.get("GEOFIX_KERNEL") == "skip":
        pytest.skip("nothing to build the kernel with")
    assert kernel_version() == 1


@pytest.mark.parametrize("bits", [4, 8])
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(0, 70))
def test_both_scans_agree_to_the_last_bit(
    library: ctypes.CDLL, bits: int, seed: int, num_bytes: int, num: int
) -> None:
    table, pq_codes = random_scan(seed, bits=bits, num_bytes=num_bytes, num=num)
    by_kernel = kernel.scan(table, pq_codes, bits=bits)
    assert by_kernel.shape == (num,)
    assert by_kernel.tobytes() == kernel.scan_numpy(table, pq_codes, bits=bits).tobytes()


@pytest.mark.parametrize("bits", [4, 8])
def test_a_score_is_added_in_the_order_of_sub_quantizers(bits: int) -> None:
    table, pq_codes = random_scan(1, bits=bits, num_bytes=6, num=9)
    for row, score in zip(pq_codes.tolist(), kernel.scan(table, pq_codes, bits=bits), strict=True):
        halves = row if bits == 8 else [half for byte in row for half in (byte & 15, byte >> 4)]
        total = np.float32(0)
        for line, chosen in zip(table, halves, strict=True):
            total += line[chosen]
        assert score == total


def test_a_scan_takes_views_and_read_only_bytes() -> None:
    table, pq_codes = random_scan(2, bits=8, num_bytes=4, num=20)
    wanted = kernel.scan(table, pq_codes, bits=8)
    read_only = np.frombuffer(pq_codes.tobytes(), np.uint8).reshape(pq_codes.shape)
    assert kernel.scan(table, read_only, bits=8).tolist() == wanted.tolist()
    assert kernel.scan(table, pq_codes[::2], bits=8).tolist() == wanted[::2].tolist()
    assert kernel.scan(np.asfortranarray(table), pq_codes, bits=8).tolist() == wanted.tolist()


def test_without_a_kernel_a_scan_runs_in_numpy(without_kernel: None) -> None:
    table, pq_codes = random_scan(3, bits=4, num_bytes=4, num=20)
    wanted = kernel.scan_numpy(table, pq_codes, bits=4)
    assert kernel_version() is None
    assert kernel.scan(table, pq_codes, bits=4).tolist() == wanted.tolist()


def test_a_kernel_with_another_interface_is_not_used(
    library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "KERNEL_VERSION", 2)
    assert kernel.load_kernel.__wrapped__() is None


def test_the_asymmetric_metric_is_one_minus_the_score(
    library: ctypes.CDLL, quantizer: ProductQuantizer, vectors: Floats
) -> None:
    pq_codes = quantizer.encode(vectors[:30])
    table = quantizer.lookup_table(vectors[99])
    metric = _metric(library, "geofix_asymmetric")
    with kernel.query(library, table, bits=quantizer.bits):
        distances = [metric(b"", row.tobytes()) for row in pq_codes]
    scores = kernel.scan_numpy(table, pq_codes, bits=quantizer.bits)
    assert distances == (np.float32(1) - scores).tolist()


def test_the_symmetric_metric_is_one_minus_the_inner_product(
    library: ctypes.CDLL, quantizer: ProductQuantizer, vectors: Floats
) -> None:
    pq_codes = quantizer.encode(vectors[:12])
    metric = _metric(library, "geofix_symmetric")
    with kernel.products(library, quantizer.centroids, bits=quantizer.bits):
        distances = [[metric(a.tobytes(), b.tobytes()) for b in pq_codes] for a in pq_codes]
    rebuilt = quantizer.decode(pq_codes)
    assert np.array(distances) == pytest.approx(1 - rebuilt @ rebuilt.T, abs=1e-5)


def _metric(library: ctypes.CDLL, name: str) -> Callable[[bytes, bytes], float]:
    kind = ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_char_p, ctypes.c_char_p)
    return kind(kernel.metric_address(library, name))
