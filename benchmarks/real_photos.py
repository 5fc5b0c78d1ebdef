"""Record what `samples/real_photos.py` reported.

python samples/real_photos.py PHOTOS.csv ENCODER.onnx OUT --input-spec SPEC.json
python -m benchmarks.real_photos OUT
"""

import json
import sys
from pathlib import Path

from benchmarks.record import Value, write_record

_MEANING = """{num_photos} street photos, the faces of {num_groups} panoramas around Arcachon
(Panoramax), each localized by a training-free pack of the other panoramas' photos: MobileNetV2 0.5,
GeM pooling, PCA whitening, mean per cell of S2 level {cell_level}, product quantization. Intervals
are 95 %, bootstrapped over panoramas. *Ceiling*: photos with a photo of another panorama within
that distance; no answer could find the others. The nearest photo by the same features, without
cells and quantization, finds 0.315 within 100 m, which lies in the interval. A pack calibrates on
places that it keeps aside, most of which no other photo shows here; so it calls most photos
`unknown`, among them many that it places well. A generic encoder is a start, not a product."""


def main() -> None:
    """Record the report in the folder that is the first argument."""
    report = json.loads((Path(sys.argv[1]) / "report.json").read_text())
    values = []
    for distance, found in report["recall_at_m"].items():
        low, high = found["interval95"]
        values += [
            Value(f"within {distance} m", found["recall"], f"[{low:.3f}, {high:.3f}]"),
            Value(f"ceiling of {distance} m", found["ceiling"], ""),
        ]
    values.append(Value("median error", report["median_error_m"], "m"))
    values += [Value(f"status {name}", num, "photos") for name, num in report["status"].items()]
    write_record(
        "real_photos",
        title="Real photos, without training",
        meaning=_MEANING.format(**report),
        values=values,
        command="python samples/real_photos.py PHOTOS.csv ENCODER.onnx OUT --level 17 --group "
        "picture_id --input-spec recipes/mobilenet_v2.json && python -m benchmarks.real_photos OUT",
    )


if __name__ == "__main__":
    main()
