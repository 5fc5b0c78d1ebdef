"""Does a fix mean what it says? Coverage of its radii, reliability of its confidence, "unknown".

make demo && python -m benchmarks.trust
"""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.record import Value, write_record
from geofix import Fix, Localizer
from geofix_index import cells as s2
from geofix_index.sphere import great_circle_m
from geofix_train.photo_table import read_photo_table

DEMO = Path("build/demo")
BINS = ((0.0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 1.0))
NUM_NOISE = 100
_MEANING = """After `make demo`.

Test photos of the demo, none of which was used to calibrate, through the finished pack. *Right*
means that the photo was taken in the chosen place, the best cell or one of its eight neighbours.
Wanted: 68 % of the photos inside `accuracy_m`, 95 % inside `radius95_m`, and as many right as the
confidence says. What falls short: confidence is up to seven points off; the radii of an encoder
this small are wide, since they count every other place that the photo might show; `radius95_m` is
seldom given and holds too few; and pictures of nothing (noise) are not told to be unknown. A pack
with another encoder needs its own figures: measure before you trust."""


def main() -> None:
    """Measure and record."""
    report = json.loads((DEMO / "report.json").read_text())
    table, _ = read_photo_table(DEMO / "town" / "photos.parquet")
    test = table.of_split("test")
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (NUM_NOISE, 96, 128, 3), dtype=np.uint8)
    with Localizer.open(DEMO / "town.geofix") as localizer:
        fixes = [localizer.localize(test.photo_path(row)) for row in range(len(test))]
        statuses = [localizer.localize(image).status for image in noise]
    error = great_circle_m(
        test.lat, test.lon, *np.array([(f.latlon.lat, f.latlon.lon) for f in fixes]).T
    )
    values = [
        *_coverage(fixes, error),
        *_reliability(fixes, _is_right(fixes, test.lat, test.lon)),
        *_statuses(fixes, error),
        Value("noise that is unknown", statuses.count("unknown") / NUM_NOISE, ""),
    ]
    title = f"What a fix says about itself ({report['num_queries']:,} test photos)"
    command = "python -m benchmarks.trust"
    write_record("trust", title=title, meaning=_MEANING, values=values, command=command)


def _is_right(
    fixes: list[Fix], lat: npt.NDArray[np.float64], lon: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """Return for which fixes the truth lies in the best cell or one of its neighbours."""
    best = np.array([s2.cell_from_token(fix.cell) for fix in fixes], np.uint64)
    true = s2.cell_from_latlon(lat, lon, level=int(s2.level_of(best[:1])[0]))
    place = np.column_stack([best, s2.neighbours(best)])
    return np.asarray((place == true[:, None]).any(axis=1))


def _coverage(fixes: list[Fix], error: npt.NDArray[np.float64]) -> list[Value]:
    values = []
    for name in ("accuracy_m", "radius95_m"):
        radius = np.array([getattr(fix, name) or np.nan for fix in fixes])
        known = np.isfinite(radius)
        inside = float((error[known] <= radius[known]).mean())
        values += [
            Value(f"{name} is given", round(float(known.mean()), 3), ""),
            Value(f"{name} holds the truth", round(inside, 3), ""),
            Value(f"{name}: median", round(float(np.median(radius[known])), 1), "m"),
        ]
    return values


def _reliability(fixes: list[Fix], is_right: npt.NDArray[np.bool_]) -> list[Value]:
    confidence = np.array([fix.confidence for fix in fixes], float)
    values = []
    for low, high in BINS:
        within = (confidence >= low) & (confidence < high)
        if within.sum() >= 20:
            share = round(float(is_right[within].mean()), 3)
            mean = float(confidence[within].mean())
            values.append(Value(f"right, of {within.sum()} with confidence {mean:.2f}", share, ""))
    return values


def _statuses(fixes: list[Fix], error: npt.NDArray[np.float64]) -> list[Value]:
    status = np.array([fix.status for fix in fixes])
    values = []
    for name in ("fixed", "ambiguous", "unknown"):
        own = status == name
        values.append(Value(f"{name}", round(float(own.mean()), 3), ""))
        if own.any():
            median = round(float(np.median(error[own])), 1)
            values.append(Value(f"{name}: median error", median, "m"))
    return values


if __name__ == "__main__":
    main()
