"""How much harder is it to find a place among more cells?

    python -m benchmarks.land_codes RUN -o build/land_codes.safetensors
    python -m benchmarks.scale RUN --land build/land_codes.safetensors

The cells of a town, and 0 to 200,000 cells of the land around it that are known from above alone.
All aerial codes, the town's too, come from the land's imagery and as many tiles, so that no cell
stands out by them; what the town's own imagery gives stands beside.
"""

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

import geofix_index.cells as s2
from benchmarks.land_codes import LandCodes, read_land_codes, weights_sha256
from benchmarks.record import Value, write_record
from geofix_index.sphere import great_circle_m
from geofix_train.bootstrap import Bootstrap
from geofix_train.cell_codes import CellCodes, Queries
from geofix_train.codes import EncodedRun, encode_run, make_codes

COUNTS = (0, 2_000, 20_000, 200_000)
WITHIN_M = 100
_MEANING = """Photos of the test split on the large town's driven streets and in its districts
without photos. *Prototypes alone* and *nearest training image* have nothing to say about land
without photos: their figures do not move, and they find nothing there. *Hybrid* loses nothing
either, since codes with a prototype are longer and outbid all that is known from above alone;
*aerial* shows what telling land apart costs. All aerial codes come from the land's coarser imagery,
one date and five tiles a cell; *the town's own imagery* is finer, of two dates and twenty tiles.
Intervals: 95 %, over sequences."""

Floats = npt.NDArray[np.float32]


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a finished run on a town")
    parser.add_argument("--land", type=Path, required=True, help="of benchmarks.land_codes")
    arguments = parser.parse_args()
    land = read_land_codes(arguments.land)
    if land.weights != weights_sha256(arguments.run):
        parser.error(f"{arguments.land} was made by another run: make it again")
    encoded = encode_run(arguments.run)
    codes = make_codes(encoded)
    queries = encoded.queries("test")
    rows = encoded.table.split == "test"
    areas = encoded.table.columns["slice_area"][rows]
    sequences = encoded.table.columns["sequence_id"][rows]
    values = [
        Value(f"{method}, {area}, {count:,} cells around", share, interval)
        for method, hits in _found(encoded, codes, queries, land)
        for area in np.unique(areas).tolist()
        for count, share, interval in _shares(hits[:, areas == area], sequences[areas == area])
    ]
    write_record(
        "scale",
        title=f"More cells: found within {WITHIN_M} m among 0 to 200,000 cells of other land",
        meaning=_MEANING,
        values=values,
        command="python -m benchmarks.scale RUN --land build/land_codes.safetensors",
    )


def _found(
    encoded: EncodedRun, codes: CellCodes, queries: Queries, land: LandCodes
) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """Yield each method and which queries it finds among how many distractors, (COUNTS, Q)."""
    order = np.argsort(land.cells)
    rows = order[np.searchsorted(land.cells, codes.cells, sorter=order).clip(max=len(order) - 1)]
    if not np.array_equal(land.cells[rows], codes.cells):
        raise ValueError("the land's imagery does not hold all cells of the town")
    aerial = land.aerial[rows]
    hybrid = aerial + np.float32(codes.kappa) * codes.prototypes
    centres = s2.latlon_from_cell(codes.cells)
    distractors = _best_distractor(queries.embeddings, land.aerial[~land.is_town])
    own = {"hybrid": codes.cell_codes, "aerial": codes.aerial}
    for method, cell_codes in {"hybrid": hybrid, "aerial": aerial}.items():
        yield method, _hits(queries, cell_codes, centres, distractors)
        yield (
            f"{method}, the town's own imagery",
            _hits(queries, own[method], centres, distractors[:1]),
        )
    nothing = np.full((1, len(queries.latlon)), -np.inf, np.float32)
    yield "prototypes", _hits(queries, codes.prototypes, centres, nothing)
    train = encoded.queries("train")
    yield "nearest training image", _hits(queries, train.embeddings, train.latlon, nothing)


def _best_distractor(embeddings: Floats, around: Floats) -> Floats:
    """Return the highest score among the first distractors, (COUNTS, Q)."""
    best = np.full((len(COUNTS), len(embeddings)), -np.inf, np.float32)
    for number, (start, end) in enumerate(itertools.pairwise(COUNTS), start=1):
        best[number] = best[number - 1]
        for at in range(start, end, 5000):
            part = embeddings @ around[at : min(at + 5000, end)].T
            best[number] = np.maximum(best[number], part.max(axis=1))
    return best


def _hits(
    queries: Queries, cell_codes: Floats, centres: npt.NDArray[np.float64], distractors: Floats
) -> npt.NDArray[np.bool_]:
    """Return which queries find a place near enough that beats all distractors."""
    hits = []
    for start in range(0, len(queries.latlon), 500):
        part = slice(start, start + 500)
        scores = queries.embeddings[part] @ cell_codes.T
        best = scores.argmax(axis=1)
        near = great_circle_m(*queries.latlon[part].T, *centres[best].T) <= WITHIN_M
        hits.append(near & (scores.max(axis=1) > distractors[:, part]))
    return np.concatenate(hits, axis=1)


def _shares(
    hits: npt.NDArray[np.bool_], sequences: npt.NDArray[np.str_]
) -> Iterator[tuple[int, float, str]]:
    bootstrap = Bootstrap.of_sequences(sequences)
    ends = bootstrap.of_shares(hits.T)
    for count, share, (low, high) in zip(COUNTS, hits.mean(axis=1), ends, strict=False):
        yield count, round(float(share), 4), f"[{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
