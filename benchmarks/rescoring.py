"""What would a finer code of the best few give back? The package scores nothing again.

    python -m benchmarks.rescoring build/crops.npz

The best 50 of an exhaustive search over 32-byte codes are scored again: by the vectors in int8, or
by a second 32-byte code of what the first leaves.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.record import Value, write_record
from benchmarks.vector_sets import Floats, Rows, VectorSet, crops
from geofix_index import ProductQuantizer, score_aware

NUM_CROPS, SHORTLIST, NUM_SUBSPACES = 200_000, 50, 64
_AT_ONCE = 100  # queries
_MEANING = """{cells:,} crops of images and mixtures of two, {dim} dimensions, 4-bit codes of 32
bytes; the best {few} are scored again. *Found*: the best cell is right. *Lost*: points below exact
float scores. *More*: bytes a cell beside the code's 32. *One code of 64 bytes* takes what the first
and the second code take, and needs no shortlist. None of this is in the package."""


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("crops", type=Path, help="of benchmarks.crops")
    data = crops(parser.parse_args().crops, NUM_CROPS)
    write_record(
        "rescoring",
        title="Scoring the best few again",
        meaning=_MEANING.format(cells=len(data.codes), dim=data.codes.shape[1], few=SHORTLIST),
        values=list(_measure(data)),
        command="python -m benchmarks.rescoring build/crops.npz",
    )


def _measure(data: VectorSet) -> Iterator[Value]:
    dim = data.codes.shape[1]
    quantizer = ProductQuantizer.train(data.codes, num_subspaces=NUM_SUBSPACES, bits=4)
    first = quantizer.decode(quantizer.encode(data.codes))
    left = data.codes - first
    wide = ProductQuantizer.train(data.codes, num_subspaces=2 * NUM_SUBSPACES, bits=4)
    longer = wide.decode(wide.encode(data.codes))
    score_aware.ETA = 1.0  # queries are not like what is left of a vector: any error of it counts
    second = ProductQuantizer.train(left, num_subspaces=NUM_SUBSPACES, bits=4)
    ways: dict[str, tuple[Floats, int]] = {
        "the code alone": (first, 0),
        "a second code of 32 bytes": (first + second.decode(second.encode(left)), 32),
        "int8": (_rounded(data.codes), dim),
    }
    exact = float(data.is_right(_best(data.queries, data.codes, data.codes)).mean())
    for name, (finer, more) in ways.items():
        yield from _values(name, data, _best(data.queries, first, finer), exact, more)
    yield from _values("one code of 64 bytes", data, _best(data.queries, longer, longer), exact, 32)
    yield Value("exact, float32: found", round(exact, 4), "")


def _values(name: str, data: VectorSet, best: Rows, exact: float, more: int) -> Iterator[Value]:
    found = float(data.is_right(best).mean())
    yield Value(f"{name}: found", round(found, 4), "")
    yield Value(f"{name}: lost", round(100 * (exact - found), 2), "points")
    yield Value(f"{name}: more", more, "bytes")


def _rounded(vectors: Floats) -> Floats:
    """Return vectors as int8 with a scale of their own would give them."""
    scale = np.abs(vectors).max(axis=1, keepdims=True) / 127
    return np.asarray(np.rint(vectors / scale) * scale, np.float32)


def _best(queries: Floats, coarse: Floats, finer: Floats) -> Rows:
    """Return the best row of each query by the finer vectors, among the best by the coarse ones."""
    best = []
    for at in range(0, len(queries), _AT_ONCE):
        asked = queries[at : at + _AT_ONCE]
        few = np.argpartition(asked @ coarse.T, -SHORTLIST, axis=1)[:, -SHORTLIST:]
        scores = np.einsum("qd,qcd->qc", asked, finer[few])
        best.append(few[np.arange(len(asked)), scores.argmax(axis=1)])
    return np.concatenate(best)


if __name__ == "__main__":
    main()
