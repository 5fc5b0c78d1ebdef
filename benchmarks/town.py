"""How fast is the town drawn, and how hard is it?

    python -m benchmarks.town ENCODER.onnx --input-spec SPEC.json

Draws the town of the demo. Hardness: recall of a training-free index over float codes, by a
pretrained encoder; near 0 the town would be hopeless, near 1 trivial.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.record import Value, write_record
from geofix import InputSpec
from geofix.backends.onnx import OnnxEncoder
from geofix_index import cells as s2
from geofix_index.sphere import great_circle_m
from geofix_train.photo_table import read_photo_table
from geofix_train.photos import read_photos
from geofix_train.town import make_town
from geofix_train.training_free import encode_photos, training_free_codes
from samples.town_demo import NUM_PHOTOS, SEED, SIZE_KM

LEVEL = 16


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("encoder", type=Path, help="a pretrained ONNX model")
    parser.add_argument("--input-spec", type=Path, required=True, help="JSON: what it takes")
    arguments = parser.parse_args()
    spec = InputSpec.from_json(json.loads(arguments.input_spec.read_text()))
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        make_town(Path(folder) / "town", size_km=SIZE_KM, num_photos=NUM_PHOTOS, seed=SEED)
        seconds = time.monotonic() - start
        recall = _training_free_recall(Path(folder) / "town", arguments.encoder, spec)
    write_record(
        "town",
        title="The built-in town",
        meaning=f"The town of the demo ({SIZE_KM:g} km, {NUM_PHOTOS:,} photos of 128 x 96 pixels, "
        "imagery of two dates), and how many of its test photos the class means of a pretrained "
        f"encoder find at S2 level {LEVEL}, without any training: it is neither trivial nor "
        "hopeless.",
        values=[
            Value("drawn, with the imagery's time", round(NUM_PHOTOS / seconds, 1), "photos/s"),
            *(Value(f"within {d} m", round(share, 4), "") for d, share in recall.items()),
        ],
        command="python -m benchmarks.town ENCODER.onnx --input-spec SPEC.json "
        f"(here {arguments.encoder.name})",
    )


def _training_free_recall(town: Path, encoder: Path, spec: InputSpec) -> dict[int, float]:
    table, _ = read_photo_table(town / "photos.parquet")
    made = training_free_codes(encode_photos(encoder, table, input_spec=spec), level=LEVEL)
    test = table.of_split("test")
    photos, _, _ = read_photos(test, made.encoder.input_spec)
    embeddings = OnnxEncoder(made.encoder.data, made.encoder.input_spec).encode(photos)
    best = s2.latlon_from_cell(made.codes.cells)[(embeddings @ made.codes.cell_codes.T).argmax(1)]
    error = great_circle_m(test.lat, test.lon, *best.T)
    return {d: float(np.mean(error <= d)) for d in (50, 100, 200, 500)}


if __name__ == "__main__":
    main()
