"""Cells known from above alone are outbid by those with a prototype: what if they spoke louder?

    python -m benchmarks.lone_cells RUN

Lengthens the codes of cells without a prototype, and finds the test photos.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.record import Value, write_record
from geofix_index.sphere import great_circle_m
from geofix_train.cell_codes import CellCodes
from geofix_train.codes import EncodedRun, encode_run, make_codes
from geofix_train.evaluate import Database

LENGTHS = (0.7, 0.8, 0.9, 1.0, 1.1)  # of codes with a prototype, on average
WITHIN_M = 100
_MEANING = f"""Hybrid codes, test photos of the large town found within {WITHIN_M} m, where codes of
cells without a prototype are made as long as so many average codes with one. Districts without
photos gain what aerial codes alone find there, and no more; driven streets pay for it. The product
leaves codes as they are."""


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a finished run on a town")
    encoded = encode_run(parser.parse_args().run)
    write_record(
        "lone_cells",
        title="Cells without photos, made louder",
        meaning=_MEANING,
        values=list(_shares(encoded, make_codes(encoded))),
        command="python -m benchmarks.lone_cells RUN",
    )


def _shares(encoded: EncodedRun, codes: CellCodes) -> Iterator[Value]:
    queries = encoded.queries("test")
    areas = encoded.table.of_split("test").columns["slice_area"]
    lengths = np.linalg.norm(codes.cell_codes, axis=1, keepdims=True)
    is_lone = ~codes.prototypes.any(axis=1, keepdims=True)
    usual = lengths[~is_lone].mean()
    made = {f"{length} as long": length * usual / np.maximum(lengths, 1e-9) for length in LENGTHS}
    yield Value("kappa", round(codes.kappa, 2), "")
    yield Value("cells with a prototype", int((~is_lone).sum()), f"of {len(codes.cells):,}")
    yield Value("their codes' length", round(float(usual), 2), "")
    for name, factor in {"as they are": np.ones_like(lengths), **made}.items():
        vectors = codes.cell_codes * np.where(is_lone, factor, 1).astype(np.float32)
        answers = Database.of_cells(codes.cells, vectors).answer(queries.embeddings)
        is_found = great_circle_m(*queries.latlon.T, *answers.latlon.T) <= WITHIN_M
        for area in np.unique(areas).tolist():
            share = round(float(is_found[areas == area].mean()), 4)
            yield Value(f"{name}, {area}", share, "")


if __name__ == "__main__":
    main()
