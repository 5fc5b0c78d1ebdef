"""Fixes on real learned codes: 5,000 places in Manhattan, a half to calibrate, a half to test."""

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.sdk_figures import Fixes, fixes_from_lines
from benchmarks.sdk_predictions import Line, said
from benchmarks.vector_sets import read_union_square
from geofix import Localizer
from geofix.posterior import NUM_CANDIDATES
from geofix_export import build_pack
from geofix_index import ProductQuantizer
from geofix_index import cells as s2
from geofix_train.cell_codes import Queries

LEVEL = 26  # a cell for each place
NUM_SUBSPACES = 8  # of 8 bits each: nearly exact
SEED = 0


def union_square_fixes(path: Path, *, own_is_there: bool) -> Fixes:
    """Return fixes of test queries.

    Args:
        path: unionsquare5k.npz.
        own_is_there: the queries' own places are in the pack. False: cells of even rows, queries of
            odd ones, whose nearest cell is about 10 m away.
    """
    latlon, codes, embeddings = read_union_square(path)
    rows = np.arange(len(latlon))
    in_pack, asked = (rows, rows) if own_is_there else (rows[::2], rows[1::2])
    asked = np.random.default_rng(SEED).permutation(asked)
    half = len(asked) // 2
    fit, test = asked[:half], asked[half:]
    with tempfile.TemporaryDirectory() as folder:
        pack = Path(folder) / "union_square.geofix"
        build_pack(
            pack,
            cells=s2.cell_from_latlon(*latlon[in_pack].T, level=LEVEL),
            cell_codes=codes[in_pack],
            queries=Queries(embeddings[fit], latlon[fit]),
            index="scan",
            quantizer=ProductQuantizer.train(codes[in_pack], num_subspaces=NUM_SUBSPACES, bits=8),
        )
        with Localizer.open(pack) as localizer:
            lines = [_line(localizer, embeddings[row], latlon[row]) for row in test]
    return fixes_from_lines(lines)


def _line(
    localizer: Localizer, embedding: npt.NDArray[np.float32], place: npt.NDArray[np.float64]
) -> Line:
    fix = localizer.search(embedding, k=NUM_CANDIDATES)
    lat, lon = place.tolist()
    return {"lat": lat, "lon": lon, **said(fix)}
