"""The large town: which method finds how many photos, where, and what makes photos hard to find.

    geofix-train town build/large_town --size-km 6.4 --photos 80000 --photographed 0.2
    geofix-train fit recipes/large_town.toml -o build/large_town/run
    python -m benchmarks.large_town build/large_town/run

Makes the run's codes, encoder and pack, and evaluates all of them on the test split.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.record import Value, write_record
from benchmarks.views import ASIDE_DEG, NEAR_M, like_looking_drives
from geofix_export import build_pack, export_encoder
from geofix_index.sphere import great_circle_m
from geofix_train.cell_codes import CODES, CellCodes, write_cell_codes
from geofix_train.checkpoint import WEIGHTS
from geofix_train.codes import EncodedRun, encode_run, make_codes
from geofix_train.config import RUN_CONFIG
from geofix_train.degrade import LOOKS
from geofix_train.evaluate import (
    ON_DEVICE,
    Database,
    predict,
    predict_degraded,
    predict_on_device,
)
from geofix_train.order import ORDER
from geofix_train.photo_table import PhotoTable
from geofix_train.predictions import Predictions, join_predictions
from geofix_train.report import report

METHODS = (*ORDER, ON_DEVICE)
DRIVEN = "driven street"
EACH = 10  # training photos are looked at
WITHIN = "100"  # metres, as reports name them
_AREAS_MEANING = """Test photos of a town of 6.4 x 6.4 km, {num_train:,} training photos in a
fifth of its districts, {num_cells:,} cells. On *driven streets* there are training photos of other
drives; *streets without photos* lie among these; *districts without photos* are known from above
alone. *on_device* is the pack in the SDK. Intervals: 95 %, over sequences."""
_ORDER_MEANING = """The whole test split of the large town, and paired differences: both methods are
drawn on the same sequences, so the interval tells whether one finds more than the other. Bytes: of
each database, as a share of the nearest training image's at float32."""
_SLICES_MEANING = """Hybrid codes, test photos on the large town's driven streets, within 100 m: the
whole, and what one can tell photos apart by. Training saw all seasons, mostly cars, few phones, and
a tenth of its photos made to look old. An encoder is told neither heading nor field of view."""
_VIEWS_MEANING = f"""Hybrid codes, test photos on the large town's driven streets, within 100 m, by
how many training drives passed within {NEAR_M:.0f} m and looked the same way (to {ASIDE_DEG:.0f}
degrees), and by light; and one training photo in {EACH}, which training has learned by heart."""


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a finished run on the large town")
    parser.add_argument("--variant", default="", help="appended to the names of the records")
    arguments = parser.parse_args()
    run, ending = arguments.run, f"_{arguments.variant}" if arguments.variant else ""
    encoded = encode_run(run)
    codes = make_codes(encoded)
    pack = _make_pack(run, encoded, codes)
    predictions = predict(encoded, codes)
    shipped = predict_on_device(pack, encoded.table.of_split("test"))
    everything = report(predictions.with_answers(ON_DEVICE, shipped))
    seen_before = report(_with_views(predictions, encoded.table))
    degraded = predict_degraded(run, encoded, codes, LOOKS)
    predictions = join_predictions([predictions, *degraded])
    driven = report(predictions[predictions.slices["area"] == DRIVEN])
    areas = _AREAS_MEANING.format(
        num_train=codes.provenance["num_training_photos"], num_cells=len(codes.cells)
    )
    for name, title, meaning, values in (
        ("large_town", "The large town", areas, _areas(everything, run, pack)),
        ("order", "The order of the methods", _ORDER_MEANING, _order(everything)),
        ("slices", "Seasons, cameras, looks", _SLICES_MEANING, _slices(driven)),
        ("views", "What was seen before", _VIEWS_MEANING, _views(seen_before, encoded, codes)),
    ):
        write_record(
            name + ending,
            title=title + (f" ({arguments.variant})" if ending else ""),
            meaning=meaning,
            values=list(values),
            command="python -m benchmarks.large_town RUN",
        )


def _make_pack(run: Path, encoded: EncodedRun, codes: CellCodes) -> Path:
    write_cell_codes(codes, run / CODES)
    pack = run / "large_town.geofix"
    build_pack(
        pack,
        cells=codes.cells,
        cell_codes=codes.cell_codes,
        encoders=[export_encoder(run)],
        queries=encoded.queries("val"),
        photographed=codes.photographed,
        title="Large synthetic town",
        attribution="geofix built-in town",
        license="Apache-2.0",
        provenance={**codes.provenance, "kappa": codes.kappa},
    )
    return pack


def _areas(report: dict[str, Any], run: Path, pack: Path) -> Iterator[Value]:
    for area, figures in report["slices"]["area"].items():
        yield Value(f"{area}: photos", figures["num_queries"], "")
        for method in METHODS:
            yield _recall(figures, method, f"{area}, {method}")
        yield Value(f"{area}, hybrid: median error", figures["median_error_m"]["hybrid"], "m")
    seconds = (run / WEIGHTS).stat().st_mtime - (run / RUN_CONFIG).stat().st_mtime
    yield Value("training", round(seconds / 60, 1), "min")
    yield Value("region pack", pack.stat().st_size, "bytes")


def _order(report: dict[str, Any]) -> Iterator[Value]:
    for distance in ("100", "200"):
        for method in METHODS:
            yield _recall(report, method, method, distance)
    for claim in report["differences"]:
        for distance, share in claim["recall_difference_at_m"].items():
            low, high = claim["recall_difference_at_m_interval95"][distance]
            what = f"{claim['method']} above {claim['other']}, {distance} m"
            yield Value(what, share, f"[{low:+.3f}, {high:+.3f}]")
    for method, share in report["database_share_of_image_nn"].items():
        yield Value(f"{method}: bytes, of the nearest training image's", share, "")


def _slices(report: dict[str, Any]) -> Iterator[Value]:
    whole = report["recall_at_m"]["hybrid"][WITHIN]
    yield _recall(report, "hybrid", "all")
    for name in ("season", "camera", "look", "heading", "hfov"):
        for value, figures in report["slices"][name].items():
            what = f"{name} {value} ({figures['num_queries']:,} photos)"
            yield _recall(figures, "hybrid", what)
            share = figures["recall_at_m"]["hybrid"][WITHIN] / whole
            yield Value(f"{name} {value}, of all", round(share, 3), "")


def _with_views(predictions: Predictions, table: PhotoTable) -> Predictions:
    """Return the photos on driven streets, with what training has seen of each view."""
    test, train = table.of_split("test"), table.of_split("train")
    views = {"drives": like_looking_drives(test, train), "light": test.columns["light"]}
    return replace(predictions, slices=views)[predictions.slices["area"] == DRIVEN]


def _views(report: dict[str, Any], encoded: EncodedRun, codes: CellCodes) -> Iterator[Value]:
    for name, figures_of in report["slices"].items():
        for value, figures in figures_of.items():
            yield _recall(figures, "hybrid", f"{name} {value} ({figures['num_queries']:,} photos)")
    train = encoded.queries("train")
    answers = Database.of_cells(codes.cells, codes.cell_codes).answer(train.embeddings[::EACH])
    error = great_circle_m(*train.latlon[::EACH].T, *answers.latlon.T)
    share = round(float((error <= float(WITHIN)).mean()), 4)
    yield Value(f"training photos: within {WITHIN} m", share, "")


def _recall(figures: dict[str, Any], method: str, what: str, distance: str = WITHIN) -> Value:
    low, high = figures["recall_at_m_interval95"][method][distance]
    share = figures["recall_at_m"][method][distance]
    return Value(f"{what}: within {distance} m", share, f"[{low:.3f}, {high:.3f}]")


if __name__ == "__main__":
    main()
