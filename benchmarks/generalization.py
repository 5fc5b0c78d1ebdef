"""How much of what runs on the large town have learned holds for other drives?

    python -m benchmarks.generalization RUN...

Finds training photos and test photos of the same streets by the same codes.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import geofix_index.cells as s2
from benchmarks.record import Value, write_record
from geofix_index.sphere import great_circle_m
from geofix_train.cell_codes import CellCodes, Queries
from geofix_train.codes import EncodedRun, encode_run, make_codes

WITHIN_M = 100
EVERY = 7  # of the training photos
DRIVEN = "driven street"
_MEANING = """Photos found within 100 m: those that a run has learned from (every seventh), and test
photos on the same streets, of other drives. `run` is trained by `recipes/large_town.toml` on two
CPU cores, `run_gpu` by `recipes/large_town_gpu.toml`, a network twice as wide with finer tiles, on
an H100. Both know their training photos and not so much the places: a street was driven about
twice."""


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    values: list[Value] = []
    for run in parser.parse_args().runs:
        encoded = encode_run(run)
        values += shares(encoded, make_codes(encoded), run.name)
    write_record(
        "generalization",
        title="Training photos and test photos of the large town",
        meaning=_MEANING,
        values=values,
        command="python -m benchmarks.generalization RUN...",
    )


def shares(encoded: EncodedRun, codes: CellCodes, name: str) -> Iterator[Value]:
    """Yield how many training and test photos each kind of code finds."""
    train = encoded.queries("train")
    train = Queries(train.embeddings[::EVERY], train.latlon[::EVERY])
    test = encoded.queries("test")
    rows = encoded.table.columns["slice_area"][encoded.table.split == "test"] == DRIVEN
    test = Queries(test.embeddings[rows], test.latlon[rows])
    parts = {"hybrid": codes.cell_codes, "prototypes": codes.prototypes, "aerial": codes.aerial}
    centres = s2.latlon_from_cell(codes.cells)
    for method, cell_codes in parts.items():
        for photos, queries in (("training photos", train), ("test photos", test)):
            best = (queries.embeddings @ cell_codes.T).argmax(axis=1)
            error = great_circle_m(*queries.latlon.T, *centres[best].T)
            share = round(float(np.mean(error <= WITHIN_M)), 4)
            yield Value(f"{name}, {method}: {photos}", share, "")


if __name__ == "__main__":
    main()
