"""How long does a fix take here, and how good is it, with each encoder of a pack?

python -m benchmarks.latency PACK... --town DIR

Each pack is measured on frames of 1920 x 1080 pixels; its recall is that of test photos of a town
as `geofix-train town` draws it, which get a GPS position into their EXIF first. The reports go to
benchmarks/results/latency, the picture of the README to docs/images/latency.svg.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from benchmarks.record import RESULTS, Value, write_record
from geofix.bench import STAGES, LatencyReport, measure, read_report
from geofix.bench.plots import card
from geofix_train.photo_table import read_photo_table

REPORTS = RESULTS / "latency"
PICTURE = Path(__file__).parent.parent / "docs" / "images" / "latency.svg"
DURATION_S = 30.0
NUM_PHOTOS = 400
_GPS_IFD = 0x8825


def main() -> None:
    """Measure, write reports, picture and record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("packs", type=Path, nargs="+", metavar="PACK")
    parser.add_argument("--town", type=Path, required=True, metavar="DIR")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_photos(arguments.town, Path(folder))
        for path in arguments.packs:
            _measure(path, Path(folder))
    reports = stored_reports()
    PICTURE.write_text(card(reports))
    write_record(
        "latency",
        title="Latency on this machine",
        meaning=_meaning(reports),
        values=[value for report in reports for value in _values(report)],
    )


def stored_reports() -> list[LatencyReport]:
    """Return the reports that are kept, in the order of their names."""
    return [read_report(path) for path in sorted(REPORTS.glob("*.json"))]


def write_photos(town: Path, folder: Path) -> None:
    """Write test photos of a town with where they were taken in their EXIF."""
    table = read_photo_table(town / "photos.parquet")[0].of_split("test")
    for row in range(0, len(table), max(1, len(table) // NUM_PHOTOS)):
        lat, lon = table.latlon[row].tolist()
        with Image.open(table.photo_path(row)) as photo:
            exif = photo.getexif()
            exif[_GPS_IFD] = {
                1: "N" if lat >= 0 else "S", 2: (abs(lat), 0.0, 0.0),
                3: "E" if lon >= 0 else "W", 4: (abs(lon), 0.0, 0.0),
            }  # fmt: skip
            photo.save(folder / f"{row:05d}.png", exif=exif)


def _measure(pack: Path, photos: Path) -> None:
    frames = measure(pack, duration_s=DURATION_S)
    label = f"{frames.machine.cores} Xeon cores, {frames.precision}"
    recall = measure(pack, images=photos, duration_s=2.0).recall
    replace(frames, label=label, recall=recall).write(REPORTS / f"{frames.precision}.json")


def _values(report: LatencyReport) -> list[Value]:
    rows = []
    for name, stage in report.stages.items():
        for percentile in ("p50", "p95", "p99"):
            ms = round(getattr(stage, f"{percentile}_ms"), 3)
            rows.append(Value(f"{report.precision}, {STAGES[name]}: {percentile}", ms, "ms"))
    return rows


def _meaning(reports: Sequence[LatencyReport]) -> str:
    parts = []
    for report in reports:
        pack, recall, memory = report.pack, report.recall, report.memory
        if pack is None or recall is None or memory is None or report.open_ms is None:
            raise ValueError(f"the report of {report.label} is not whole")
        parts.append(
            f"{report.precision}: encoder {pack.encoder_bytes / 1e6:.2f} MB, "
            f"{100 * recall.within_100m:.0f} % of {recall.num_photos} photos within 100 m, opened "
            f"in {report.open_ms:.0f} ms, {memory.peak_bytes / 1e6:.0f} MB at its peak, load "
            f"{report.machine.load:g} before the run"
        )
    return (
        f"`geofix bench run` with the demo's pack, {DURATION_S:.0f} s for each encoder, on frames "
        f"of 1920 x 1080 pixels; recall is of photos that it has not seen. {'; '.join(parts)}. "
        "The cores are shared: other programs ran, and the upper percentiles are theirs."
    )


if __name__ == "__main__":
    main()
