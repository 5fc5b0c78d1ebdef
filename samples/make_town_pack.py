"""Make samples/town anew, the pack and the photos that come with geofix, from a finished demo.

    make demo
    python samples/make_town_pack.py build/demo samples/town

The query encoder is exported in int8, past its gate, and the cells are searched by scan, so that
the pack stays small. Photos are test photos, evenly spread over the table whatever comes of them;
drive/ has the first ones of the longest test drive, with odometry that errs by 5 %. Their EXIF says
where and when they were taken, for maps and measurements to judge by.
"""

import csv
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from geofix import LatLon
from geofix.geo import east_north_m
from geofix_export import build_pack, export_encoder
from geofix_train.cell_codes import CODES, map_cell_codes
from geofix_train.photo_table import PhotoTable, read_photo_table

NUM_PHOTOS, NUM_FRAMES = 8, 24
ODOMETRY_ERROR = 0.05  # of the way between two photos, each way
COMMAND = "make demo && python samples/make_town_pack.py build/demo samples/town"


def main(demo: Path, out: Path) -> None:
    """Write town.geofix and the photos to a folder."""
    codes = map_cell_codes(demo / "run" / CODES)
    build_pack(
        out / "town.geofix",
        cells=codes.cells,
        cell_codes=codes.cell_codes,
        encoders=[export_encoder(demo / "run", "onnx-int8")],
        photographed=codes.photographed,
        index="scan",
        title="Synthetic town",
        attribution="geofix built-in town",
        license="Apache-2.0",
        provenance={**codes.provenance, "command": COMMAND},
    )
    table, _ = read_photo_table(demo / "town" / "photos.parquet")
    test = table.of_split("test")
    spread = np.linspace(0, len(test) - 1, NUM_PHOTOS).astype(int)
    for number, row in enumerate(spread.tolist(), start=1):
        copy_photo(test, row, out / f"photo_{number}.jpg")
    names, lengths = np.unique(test.columns["sequence_id"], return_counts=True)
    longest = np.flatnonzero(test.columns["sequence_id"] == names[np.argmax(lengths)])
    write_drive(test[longest[:NUM_FRAMES]], out / "drive")


def write_drive(frames: PhotoTable, out: Path) -> None:
    """Write the photos of a drive and odometry.csv, a line a photo: metres since the one before."""
    out.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    places = east_north_m(frames.lat, frames.lon, origin=LatLon(*frames.latlon[0].tolist()))
    moved = np.diff(places, axis=0, prepend=places[:1])
    moved *= 1 + ODOMETRY_ERROR * rng.standard_normal(moved.shape)
    with (out / "odometry.csv").open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["image", "time", "east_m", "north_m"])
        for row, (east_m, north_m) in enumerate(moved.tolist()):
            image = f"frame_{row + 1:02}.jpg"
            copy_photo(frames, row, out / image)
            seconds = (captured_at(frames, row) - captured_at(frames, 0)).total_seconds()
            rows.writerow([image, seconds, f"{east_m:.2f}", f"{north_m:.2f}"])


def copy_photo(photos: PhotoTable, row: int, copy: Path) -> None:
    """Copy a photo of a table, with where and when it was taken in its EXIF."""
    place = LatLon(*photos.latlon[row].tolist())
    write_with_facts(photos.photo_path(row), copy, place, captured_at(photos, row))


def captured_at(photos: PhotoTable, row: int) -> datetime:
    """Return when a photo was taken."""
    return datetime.fromisoformat(str(photos.columns["captured_at"][row]))


def write_with_facts(photo: Path, copy: Path, place: LatLon, time: datetime) -> None:
    """Copy a JPEG, its picture untouched, with where and when it was taken in its EXIF."""
    exif = Image.Exif()
    lat, lon = place.lat, place.lon
    exif.get_ifd(IFD.GPSInfo).update(
        {
            GPS.GPSLatitudeRef: "N" if lat >= 0 else "S",
            GPS.GPSLatitude: (abs(lat), 0.0, 0.0),
            GPS.GPSLongitudeRef: "E" if lon >= 0 else "W",
            GPS.GPSLongitude: (abs(lon), 0.0, 0.0),
        }
    )
    exif.get_ifd(IFD.Exif).update(
        {
            Base.DateTimeOriginal: time.strftime("%Y:%m:%d %H:%M:%S"),
            Base.OffsetTimeOriginal: time.isoformat()[-6:],
        }
    )
    content = exif.tobytes()
    segment = b"\xff\xe1" + (len(content) + 2).to_bytes(2, "big") + content
    jpeg = photo.read_bytes()
    copy.write_bytes(jpeg[:2] + segment + jpeg[2:])  # behind the mark that begins a JPEG


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
