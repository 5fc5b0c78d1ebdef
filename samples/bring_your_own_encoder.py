"""Geotagged photos and any ONNX image encoder become a pack, and the pack gives a fix.

    python samples/bring_your_own_encoder.py PHOTOS.csv ENCODER.onnx SPEC.json PACK PHOTO

A thousand photos are enough. SPEC.json says what the encoder takes (`InputSpec`).
"""

import json
import sys
from pathlib import Path

from geofix import InputSpec, Localizer
from geofix_export import build_pack
from geofix_train.photo_table import read_photo_table
from geofix_train.training_free import encode_photos, training_free_codes


def main(table: Path, encoder: Path, spec: Path, pack: Path, photo: Path) -> None:
    """Build the pack and print the fix."""
    photos, problems = read_photo_table(table, on_error="skip")
    input_spec = InputSpec.from_json(json.loads(spec.read_text()))
    made = training_free_codes(encode_photos(encoder, photos, input_spec=input_spec))
    build_pack(
        pack,
        cells=made.codes.cells,
        cell_codes=made.codes.cell_codes,
        encoders=[made.encoder],
        queries=made.queries,  # photos of every tenth place, which calibrate what a fix says
        photographed=made.codes.photographed,
    )
    with Localizer.open(pack) as localizer:
        fix = localizer.localize(photo)
        print(f"{len(photos)} photos in {localizer.coverage.num_cells} cells", *problems, sep="\n")
    print(fix.status, fix.latlon.lat, fix.latlon.lon, fix.accuracy_m)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
