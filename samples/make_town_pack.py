"""Make samples/town anew, the pack and the photos that come with geofix, from a finished demo.

    make demo
    python samples/make_town_pack.py build/demo samples/town

The query encoder is exported in int8, past its gate, and the cells are searched by scan, so that
the pack stays small. Photos are test photos, evenly spread over the table whatever comes of them;
their EXIF says where they were taken, for maps and measurements to judge by.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.ExifTags import GPS, IFD

from geofix_export import build_pack, export_encoder
from geofix_train.cell_codes import CODES, map_cell_codes
from geofix_train.photo_table import read_photo_table

NUM_PHOTOS = 8
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
    for number, row in enumerate(np.linspace(0, len(test) - 1, NUM_PHOTOS).astype(int), start=1):
        write_with_place(
            test.photo_path(row), out / f"photo_{number}.jpg", test.lat[row], test.lon[row]
        )


def write_with_place(photo: Path, copy: Path, lat: float, lon: float) -> None:
    """Copy a JPEG, its picture untouched, with where it was taken in its EXIF."""
    exif = Image.Exif()
    exif.get_ifd(IFD.GPSInfo).update(
        {
            GPS.GPSLatitudeRef: "N" if lat >= 0 else "S",
            GPS.GPSLatitude: (abs(lat), 0.0, 0.0),
            GPS.GPSLongitudeRef: "E" if lon >= 0 else "W",
            GPS.GPSLongitude: (abs(lon), 0.0, 0.0),
        }
    )
    content = exif.tobytes()
    segment = b"\xff\xe1" + (len(content) + 2).to_bytes(2, "big") + content
    jpeg = photo.read_bytes()
    copy.write_bytes(jpeg[:2] + segment + jpeg[2:])  # behind the mark that begins a JPEG


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
