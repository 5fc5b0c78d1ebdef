"""Measure the conversion to Core ML: seconds, memory, file, and how near the program stays.

    python -m benchmarks.coreml [RUN]

RUN is a finished run whose trained encoder is measured, too; its photos stand in RUN/../photos. All
other encoders have random weights. Each conversion runs in a process of its own, so that the peak
of memory is its own. What is judged is the program evaluated in 16 bits, not Core ML itself.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.record import Value, write_record
from geofix.images import prepare_image
from geofix.input_spec import InputSpec
from geofix_export.coreml import PRECISIONS, convert_to_coreml
from geofix_export.mil_evaluator import evaluate
from geofix_train.architecture import Architecture
from geofix_train.backbones import PretrainedBackbone
from geofix_train.config import ModelConfig
from geofix_train.model import Encoder
from geofix_train.run_folder import load_model
from geofix_train.training_data import input_spec

NUM_IMAGES = 4
MEAN, SCALE = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "ViT-S/14": {
        "model_type": "dinov2", "image_size": 224, "patch_size": 14, "hidden_size": 384,
        "num_hidden_layers": 12, "num_attention_heads": 6, "mlp_ratio": 4,
    },
    "ConvNeXt-T": {
        "model_type": "dinov3_convnext",
        "hidden_sizes": [96, 192, 384, 768],
        "depths": [3, 3, 9, 3],
    },
}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Measure each encoder in each precision, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("ENCODER", "PRECISION"), help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.one:
        print(json.dumps(measure(*arguments.one)))
        return 0
    encoders = ["town encoder", *ARCHITECTURES, *([str(arguments.run)] if arguments.run else [])]
    values: list[Value] = []
    for encoder in encoders:
        for precision in PRECISIONS:
            values += _values(encoder, precision)
    write_record(
        "coreml",
        title="Conversion to Core ML",
        meaning=_MEANING,
        values=values,
        command="python -m benchmarks.coreml build/demo/run",
    )
    return 0


def measure(name: str, precision: str) -> dict[str, float]:
    """Convert one encoder in this process; return what it cost and what came of it."""
    encoder, spec = make_encoder(name)
    images = _images(name, spec)
    calibration = images[NUM_IMAGES:] if precision == "int8_activations" else None
    begin = time.perf_counter()
    package = convert_to_coreml(encoder, spec, precision=precision, calibration=calibration)
    seconds = time.perf_counter() - begin
    unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss: bytes there, KiB on Linux
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    with torch.no_grad():
        wanted = encoder(torch.from_numpy(images[:NUM_IMAGES])).numpy()
    got = evaluate(package, images[:NUM_IMAGES]).embeddings
    cosines = (got * wanted).sum(axis=1) / np.linalg.norm(got, axis=1)
    num_bytes = 4 * sum(p.numel() for p in encoder.parameters())
    return {
        "conversion": round(seconds, 1),
        "peak memory": round(peak),
        "file": round(len(package) / 1e6, 2),
        "file's share of the weights in float32": round(len(package) / num_bytes, 3),
        "least cosine with the encoder": round(float(cosines.min()), 5),
    }


def make_encoder(name: str) -> tuple[Encoder, InputSpec]:
    """Return an encoder by its name here, or of a run, and what it takes."""
    torch.manual_seed(0)
    if name == "town encoder":
        return Encoder(ModelConfig()).eval(), InputSpec(width=128, height=96)
    if name not in ARCHITECTURES:
        config, model, _ = load_model(Path(name))
        return model.ground.eval(), input_spec(config)
    architecture = Architecture(ARCHITECTURES[name], MEAN, SCALE)
    backbone = PretrainedBackbone(architecture, height=224, width=224)
    encoder = Encoder(ModelConfig(cluster_dim=32, global_dim=256, dim=256), backbone)
    with torch.no_grad():  # as they are made, these scales let nothing through
        for part, value in encoder.named_parameters():
            if part.endswith(("lambda1", "gamma")):
                value.uniform_(0.5, 1.5)
    return encoder.eval(), InputSpec(width=224, height=224)


def _images(name: str, spec: InputSpec) -> Any:
    """Return noise; or photos of a run's town, where there are any."""
    folder = Path(name).parent / "photos"
    if not folder.is_dir():
        size = (3 * NUM_IMAGES, spec.height, spec.width, 3)
        return np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    paths = sorted(folder.glob("*.jpg"))[: 10 * NUM_IMAGES]
    return np.stack([prepare_image(path, spec) for path in paths])


def _values(encoder: str, precision: str) -> list[Value]:
    command = [sys.executable, "-m", "benchmarks.coreml", "--one", encoder, precision]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = json.loads(out.splitlines()[-1])
    print(encoder, precision, found, file=sys.stderr)
    units = {"conversion": "s", "peak memory": "MB", "file": "MB"}
    name = encoder if encoder in ARCHITECTURES or " " in encoder else "trained town encoder"
    return [
        Value(f"{name}, {precision}: {what}", value, units.get(what, ""))
        for what, value in found.items()
    ]


_MEANING = """\
An encoder is converted, and the stored program evaluated with every result rounded to 16 bits where
it says so. No Apple device was involved: this shows the arithmetic of what is shipped, neither its
speed nor what a Neural Engine makes of it. Encoders have random weights, but for the trained one;
random weights are kinder to few bits than pretrained ones are (docs/ios.md has what a pretrained
MobileNetV2 loses). Peak memory is that of the whole process, torch and coremltools among it."""


if __name__ == "__main__":
    sys.exit(main())
