"""How many validation photos does a calibration need? Coverage after a fit with few.

make demo && python -m benchmarks.sdk_few_queries build/demo
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.record import Value, write_record
from benchmarks.sdk_predictions import SEEN
from geofix import LatLon, Localizer, distance_m
from geofix.calibration_fit import fit_calibration
from geofix.posterior import NUM_CANDIDATES, Calibration, posterior
from geofix_index import Matches
from geofix_train.cell_codes import QUERIES, read_queries
from geofix_train.photo_table import read_photo_table

COUNTS = (5, 20, 50, 200)
NUM_DRAWS = 10
NUM_TESTED = 400
_MEANING = f"""Temperature, elsewhere score and radii fitted with some of the demo's validation
photos from photographed streets, {NUM_DRAWS} draws each, and {NUM_TESTED} test photos of such
streets. Medians over the draws, in brackets the least and the most. With twenty photos the radii
hold about what they should on the whole, and a single draw may be far off it."""

Places = npt.NDArray[np.float64]


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demo", type=Path, metavar="DEMO", help="a finished demo")
    demo: Path = parser.parse_args().demo
    rng = np.random.default_rng(0)
    queries = read_queries(demo / "run" / QUERIES)
    test = read_photo_table(demo / "town" / "photos.parquet")[0].of_split("test")
    test = test[np.flatnonzero(test.columns["slice_area"] == SEEN)]
    test = test[rng.permutation(len(test))[:NUM_TESTED]]
    seen = np.flatnonzero(np.array(queries.slices) == "seen")
    with Localizer.open(demo / "town.geofix") as localizer:
        _, index = localizer._opened()
        known = {row: index.search(queries.embeddings[row], k=NUM_CANDIDATES) for row in seen}
        embeddings = localizer.embed([test.photo_path(row) for row in range(len(test))])
        asked = [index.search(embedding, k=NUM_CANDIDATES) for embedding in embeddings]
    values = []
    for count in COUNTS:
        shares = np.empty((NUM_DRAWS, 2))
        for draw in range(NUM_DRAWS):
            rows = rng.permutation(seen)[:count]
            fitted = fit_calibration([known[row] for row in rows], queries.latlon[rows])
            shares[draw] = _coverage(asked, np.column_stack([test.lat, test.lon]), fitted)
        for name, own in zip(("accuracy_m", "radius95_m"), shares.T, strict=True):
            unit = f"({own.min():.2f} to {own.max():.2f})"
            middle = round(float(np.median(own)), 3)
            values.append(Value(f"{count} validation photos: {name} holds the truth", middle, unit))
    title = "Calibrated with few photos"
    write_record("few_queries", title=title, meaning=_MEANING, values=values)


def _coverage(asked: list[Matches], truth: Places, fitted: Calibration) -> tuple[float, float]:
    """Return the shares of truths inside both radii, of the photos that have some."""
    held = []
    for matches, place in zip(asked, truth.tolist(), strict=True):
        answer = posterior(matches, fitted)
        if answer.accuracy_m is not None and answer.radius95_m is not None:
            error_m = distance_m(answer.latlon, LatLon(*place))
            held.append((error_m <= answer.accuracy_m, error_m <= answer.radius95_m))
    lower, upper = np.mean(held, axis=0).tolist()
    return lower, upper


if __name__ == "__main__":
    main()
