import struct

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geofix_index import ProductQuantizer, ShardFormatError
from geofix_index import quantizer as module

Floats = npt.NDArray[np.float32]

HEADER_BYTES = 24


@pytest.fixture(scope="module")
def book(quantizers: dict[int, ProductQuantizer]) -> bytes:
    """Return a codebook file: 16 dimensions, 8 sub-quantizers of 4 bits."""
    return quantizers[4].to_bytes()


def test_training_is_determined_by_its_seed(vectors: Floats) -> None:
    books = [
        ProductQuantizer.train(vectors, num_subspaces=4, bits=4, seed=seed).to_bytes()
        for seed in (3, 3, 4)
    ]
    assert books[0] == books[1] != books[2]


def test_the_rotation_is_orthonormal(quantizer: ProductQuantizer) -> None:
    gram = quantizer.rotation @ quantizer.rotation.T
    assert gram == pytest.approx(np.eye(quantizer.dim), abs=1e-5)


def test_sizes_follow_from_the_bits(quantizers: dict[int, ProductQuantizer]) -> None:
    for bits, quantizer in quantizers.items():
        assert (quantizer.dim, quantizer.bits, quantizer.bytes_per_cell) == (16, bits, 4)
        assert quantizer.centroids.shape == (32 // bits, 2**bits, bits // 2)


def test_rebuilt_vectors_are_far_nearer_than_the_mean(
    quantizer: ProductQuantizer, vectors: Floats
) -> None:
    pq_codes = quantizer.encode(vectors)
    assert pq_codes.shape == (len(vectors), quantizer.bytes_per_cell)
    assert pq_codes.dtype == np.uint8
    rebuilt = quantizer.decode(pq_codes)
    error = ((rebuilt - vectors) ** 2).sum(axis=1).mean()
    spread = ((vectors - vectors.mean(axis=0)) ** 2).sum(axis=1).mean()
    assert error < 0.15 * spread


def test_learning_the_rotation_pays(vectors: Floats, monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = vectors * np.array([1, 1] + [0.01] * 14, np.float32)  # two dimensions matter
    learned = ProductQuantizer.train(narrow, num_subspaces=8, bits=4)
    monkeypatch.setattr(module, "_ROTATION_ROUNDS", 0)
    drawn = ProductQuantizer.train(narrow, num_subspaces=8, bits=4)
    errors = [((q.decode(q.encode(narrow)) - narrow) ** 2).sum() for q in (learned, drawn)]
    assert errors[0] < 0.6 * errors[1]


def test_a_rotation_rounds_alike_on_every_processor() -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.standard_normal((20, 24)) * 10.0 ** rng.integers(-6, 6, (20, 1))).astype("f4")
    vectors[3] = 0
    rotation = np.linalg.qr(rng.standard_normal((24, 24)))[0].astype(np.float32)
    rotated = module._rotate(vectors, rotation)
    assert rotated == pytest.approx(vectors.astype(float) @ rotation, rel=1e-4, abs=1e-10)
    order = rng.permutation(24)  # of the sums
    again = module._rotate(np.ascontiguousarray(vectors[:, order]), rotation[order])
    assert again.tobytes() == rotated.tobytes()


def test_a_code_does_not_depend_on_the_vectors_beside_it(
    quantizer: ProductQuantizer, vectors: Floats, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = quantizer.encode(vectors)
    assert quantizer.encode(vectors[::-7]).tolist() == together[::-7].tolist()
    monkeypatch.setattr(module, "_BLOCK", 300)
    assert quantizer.encode(vectors).tolist() == together.tolist()


def test_a_vector_of_zeros_is_coded(quantizer: ProductQuantizer) -> None:
    zero = quantizer.decode(quantizer.encode(np.zeros((1, 16), np.float32)))
    assert np.linalg.norm(zero) <= np.linalg.norm(quantizer.centroids, axis=2).max() * 8


def test_table_entries_add_up_to_the_inner_product(
    quantizer: ProductQuantizer, vectors: Floats, queries: Floats
) -> None:
    pq_codes = quantizer.encode(vectors[:40])
    if quantizer.bits == 4:  # the even sub-quantizer stands in the low half
        chosen = np.stack([pq_codes & 15, pq_codes >> 4], axis=2).reshape(40, -1)
    else:
        chosen = pq_codes
    for query in queries:
        table = quantizer.lookup_table(query)
        sums = table[np.arange(quantizer.num_subspaces), chosen].sum(axis=1)
        assert sums == pytest.approx(quantizer.decode(pq_codes) @ query, abs=1e-5)


def test_no_vectors_make_no_codes(quantizer: ProductQuantizer) -> None:
    nothing = quantizer.encode(np.zeros((0, 16), np.float32))
    assert nothing.shape == (0, quantizer.bytes_per_cell)


def test_a_codebook_file_comes_back_bit_by_bit(quantizer: ProductQuantizer) -> None:
    data = quantizer.to_bytes()
    for source in (data, memoryview(data)):
        again = ProductQuantizer.from_bytes(source)
        assert again.to_bytes() == data
        assert again.rotation.tobytes() == quantizer.rotation.tobytes()
        assert again.centroids.shape == quantizer.centroids.shape


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_subspaces": 4, "num": 255}, r"255 vectors cannot fill 256 centroids: use bits=4"),
        ({"num_subspaces": 4, "num": 9}, "9 vectors cannot fill 256 .*at least 16"),
        ({"num_subspaces": 4, "bits": 4, "num": 15}, "15 vectors cannot fill 16 .*at least 16"),
        ({"num_subspaces": 5}, "num_subspaces is 5, want a divisor of 16"),
        ({"num_subspaces": 0}, "num_subspaces is 0"),
        ({"num_subspaces": 1, "bits": 4}, "num_subspaces is 1, want an even divisor of 16"),
        ({"num_subspaces": 4, "bits": 6}, "bits is 6, want 4 or 8"),
    ],
)
def test_a_quantizer_that_cannot_be_trained_says_why(
    vectors: Floats, options: dict[str, int], message: str
) -> None:
    num = options.pop("num", len(vectors))
    with pytest.raises(ValueError, match=message):
        ProductQuantizer.train(vectors[:num], **options)


def test_bad_vectors_are_named(quantizer: ProductQuantizer, vectors: Floats) -> None:
    broken = vectors.copy()
    broken[7, 3] = np.nan
    with pytest.raises(ValueError, match="vector 7 holds NaN"):
        ProductQuantizer.train(broken, num_subspaces=4)
    with pytest.raises(ValueError, match="vector 7 holds NaN"):
        quantizer.encode(broken)
    with pytest.raises(ValueError, match=r"shape \(1000, 8\), want \(N, 16\)"):
        quantizer.encode(vectors[:, :8])
    with pytest.raises(ValueError, match=r"shape \(16,\), want \(N, D\)"):
        ProductQuantizer.train(vectors[0], num_subspaces=4)


@pytest.mark.parametrize(
    ("embedding", "message"),
    [
        (np.ones(15), r"shape \(15,\), want \(16,\)"),
        (np.ones((1, 16)), r"shape \(1, 16\), want \(16,\)"),
        (np.full(16, np.inf), "NaN or infinity"),
        (np.full(16, 3e38), "scores overflow"),
        (np.full(16, -2e38), "scores overflow"),
    ],
)
def test_a_bad_embedding_is_refused(
    quantizer: ProductQuantizer, embedding: Floats, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        quantizer.lookup_table(embedding)


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (0, b"GFXCELLS", "starts with"),
        (8, struct.pack("<I", 2), "codebook version 2, this reader knows 1"),
        (8, struct.pack("<I", 0), "codebook version 0"),
        (12, struct.pack("<I", 0), "0 dimensions"),
        (12, struct.pack("<I", 24), "its header says"),
        (12, struct.pack("<I", 2**31), "2147483648 dimensions"),
        (16, struct.pack("<I", 0), "16 dimensions, 0 x 4 bits"),
        (16, struct.pack("<I", 3), "3 x 4 bits"),
        (16, struct.pack("<I", 1), "1 x 4 bits"),
        (16, struct.pack("<I", 32), "32 x 4 bits"),
        (20, struct.pack("<I", 5), "8 x 5 bits"),
        (20, struct.pack("<I", 8), "its header says"),
        (24, struct.pack("<f", np.nan), "NaN"),
        (-4, struct.pack("<f", -np.inf), "infinity"),
    ],
)
def test_a_codebook_that_contradicts_itself_is_refused(
    book: bytes, offset: int, value: bytes, message: str
) -> None:
    changed = bytearray(book)
    start = offset % len(book)
    changed[start : start + len(value)] = value
    with pytest.raises(ShardFormatError, match=message):
        ProductQuantizer.from_bytes(bytes(changed))


@pytest.mark.parametrize("length", [0, 8, HEADER_BYTES - 1, HEADER_BYTES, -4, -1])
def test_a_truncated_codebook_is_refused(book: bytes, length: int) -> None:
    with pytest.raises(ShardFormatError, match=r"a codebook of \d+ bytes"):
        ProductQuantizer.from_bytes(book[:length])


def test_a_codebook_with_more_behind_it_is_refused(book: bytes) -> None:
    with pytest.raises(ShardFormatError, match="its header says"):
        ProductQuantizer.from_bytes(book + b"\0")


@given(
    st.lists(
        st.tuples(st.integers(0, HEADER_BYTES - 1) | st.integers(0, 1559), st.integers(1, 255)),
        min_size=1,
        max_size=3,
    )
)
def test_flipped_bits_of_a_codebook_raise_nothing_else(
    book: bytes, flips: list[tuple[int, int]]
) -> None:
    changed = bytearray(book)
    for at, bits in flips:
        changed[at] ^= bits
    try:
        loaded = ProductQuantizer.from_bytes(bytes(changed))
    except ShardFormatError:
        return
    assert changed[:HEADER_BYTES] == book[:HEADER_BYTES]  # nothing there may change unseen
    assert loaded.to_bytes() == bytes(changed)
