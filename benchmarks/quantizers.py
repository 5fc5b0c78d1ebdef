"""ONNX Runtime's static quantizer beside NVIDIA's ModelOpt, for TensorRT's kind of int8.

    python -m benchmarks.quantizers build/demo/run MOBILENET.onnx PHOTOS.csv MODELOPT_PYTHON

MODELOPT_PYTHON is the interpreter of an environment with `nvidia-modelopt` and its extra `onnx`
(0.47; it wants another release of onnx than geofix, so it cannot share one).
"""

import argparse
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.export import Photos, Subject, pretrained_subject, town_subject
from benchmarks.record import Value, write_record
from geofix.backends.onnx import OnnxEncoder
from geofix_export.onnx_model import to_onnx
from geofix_export.onnx_precision import to_int8
from geofix_export.parity import measure_parity
from geofix_export.tensorrt_rules import check_for_tensorrt
from geofix_train.model import embed

METHODS = ("max", "entropy")  # by which ModelOpt learns ranges
KEPT = 4  # layers
_QUANTIZE = """
import sys
import numpy as np
from modelopt.onnx.quantization import quantize
model, photos, name, method, out = sys.argv[1:]
quantize(
    model, quantize_mode="int8", calibration_data={name: np.load(photos)}, output_path=out,
    calibration_method=method, calibration_eps=["cpu"], high_precision_dtype="fp32",
)
"""
_MEANING = f"""Symmetric int8 (S8S8) of the same ONNX files from the same photos, judged as exports
are ("Exported encoders" says of which photos): by ONNX Runtime 1.32, by ModelOpt 0.47 with ranges
by "max" and by "entropy", and by ONNX Runtime with the {KEPT} layers in fp32 that cost most.
ModelOpt knows what TensorRT fuses and leaves more in float, which is a little closer; it stores
weights in float32 before their quantizers, so its files are no smaller than fp32's until TensorRT
builds them. Neither makes a pretrained MobileNetV2 usable; finding the layers that cost most nearly
does. So exports stay with ONNX Runtime's quantizer, which brings no further packages. Speed on
TensorRT was never measured."""


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("mobilenet", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("modelopt", metavar="MODELOPT_PYTHON")
    arguments = parser.parse_args()
    subjects = (
        town_subject(arguments.run, Photos.of(arguments.run)),
        pretrained_subject(arguments.mobilenet, arguments.photos),
    )
    write_record(
        "quantizers",
        title="Quantizers",
        meaning=_MEANING,
        values=[v for subject in subjects for v in _measure(subject, arguments.modelopt)],
        command="python -m benchmarks.quantizers build/demo/run MOBILENET PHOTOS MODELOPT_PYTHON",
    )


def _measure(subject: Subject, python: str) -> Iterator[Value]:
    reference = to_onnx(subject.encoder, subject.spec)
    trained = embed(subject.encoder, subject.held_out, batch_size=16)
    models = {
        "ONNX Runtime": to_int8(reference, subject.calibration, symmetric=True),
        f"ONNX Runtime, {KEPT} kept": to_int8(
            reference, subject.calibration, symmetric=True, keep_costliest=KEPT
        ),
    }
    for method in METHODS:
        models[f"ModelOpt, {method}"] = _by_modelopt(subject, reference, method, python)
    for name, data in models.items():
        exported = OnnxEncoder(data, subject.spec).encode(subject.held_out)
        parity = measure_parity(exported, trained, subject.places, subject.index)
        yield Value(f"{subject.name}, {name}: mean cosine", round(parity.mean_cosine, 4), "")
        yield Value(f"{subject.name}, {name}: 1st percentile", round(parity.p01_cosine, 4), "")
        yield Value(f"{subject.name}, {name}: same cell", round(parity.same_cell, 4), "")
        yield Value(f"{subject.name}, {name}: file", round(len(data) / 1e6, 3), "MB")
        yield Value(f"{subject.name}, {name}: rules broken", len(check_for_tensorrt(data)), "")


def _by_modelopt(subject: Subject, reference: bytes, method: str, python: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        model, photos, out = (str(Path(folder) / n) for n in ("m.onnx", "p.npy", "o.onnx"))
        Path(model).write_bytes(reference)
        np.save(photos, subject.calibration)
        words = [python, "-c", _QUANTIZE, model, photos, subject.spec.input_name, method, out]
        subprocess.run(words, check=True, capture_output=True)
        return Path(out).read_bytes()


if __name__ == "__main__":
    main()
