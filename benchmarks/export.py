"""Exported encoders beside the trained ones: how close, how large, how fast on this processor.

    python -m benchmarks.export build/demo/run [--pretrained MOBILENET.onnx PHOTOS.csv]

The demo's encoder, and a vision transformer and a ConvNeXt of usual size. These two have random
weights, since none are part of this repository: what they find means nothing, but rounding is as in
trained ones. A MobileNetV2 with Google's weights, and photos to try it on, can be given; its
projection is PCA whitening of the photos' features. Cell codes of all but the demo's are the mean
embeddings of the photos in each cell.
"""

import os

os.environ["OMP_NUM_THREADS"] = "2"

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.mobilenet_v2 import convert_mobilenet
from benchmarks.record import Value, write_record
from geofix.backends.onnx import OnnxEncoder
from geofix.images import fit_image
from geofix.input_spec import InputSpec
from geofix_export.build import build_index
from geofix_export.onnx_divergence import first_divergence
from geofix_export.onnx_model import to_onnx
from geofix_export.onnx_precision import to_fp16, to_int8
from geofix_export.parity import measure_parity
from geofix_export.recipe import ExportRecipe, read_recipe
from geofix_index import CellIndex
from geofix_index import cells as s2
from geofix_train.architecture import Architecture, load_pretrained, read_architecture
from geofix_train.backbones import PretrainedBackbone
from geofix_train.cell_codes import CODES, map_cell_codes
from geofix_train.config import ModelConfig
from geofix_train.model import Encoder, embed
from geofix_train.photo_table import PhotoTable, read_photo_table
from geofix_train.photos import read_photos
from geofix_train.run_folder import load_model
from geofix_train.training_data import input_spec
from tests.geofix_export.sabotage import sabotaged

RECIPES = ("onnx-fp16", "onnx-int8", "tensorrt-int8")
KEPT = (4, 8, 12)  # layers that stay in fp32, where int8 alone fails
SIDE_PX = 224
NUM_HELD_OUT, NUM_TIMED = 1000, 200
FEW = 200  # photos for the large encoders, calibration apart
_IMAGENET = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "ViT-S/14, random weights": {
        "model_type": "dinov2", "image_size": SIDE_PX, "patch_size": 14, "hidden_size": 384,
        "num_hidden_layers": 12, "num_attention_heads": 6,
    },
    "ConvNeXt-T, random weights": {"model_type": "dinov3_convnext"},
}  # fmt: skip
_MEANING = """*Size* and *time*: as shares of fp32's; time is the median of single photos on {cores}
cores, in turns with fp32: above 1, ship fp32. TensorRT's encoders are made for GPUs, and
times here say nothing of them. *Same cell*: the best cell is the trained encoder's. *Recall lost*:
of recall@1 within 100 m, in points. {town} photos of the town that training did not see, {few} for
the encoders with random weights, whose recall means nothing. *Within its gate*: 1 if the recipe
would ship it; where int8 is not, *kept*: with so many layers in fp32, those that cost most.

The lines on sabotage are of the town's encoder with one thing broken: whether the gates of fp32 and
of int8 both refuse it, and whether the layer named is the broken one."""


@dataclass(frozen=True)
class Subject:
    """An encoder and the photos that it is tried on."""

    name: str
    encoder: Encoder
    spec: InputSpec
    calibration: npt.NDArray[np.uint8]
    held_out: npt.NDArray[np.uint8]
    places: npt.NDArray[np.float64]
    index: CellIndex


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="the demo's, with cell codes")
    parser.add_argument("--pretrained", type=Path, nargs=2, metavar=("MOBILENET", "PHOTOS"))
    arguments = parser.parse_args()
    photos = Photos.of(arguments.run)
    town = town_subject(arguments.run, photos)
    values = [*_measure(town), *_sabotaged(town)]
    if arguments.pretrained:
        values += _measure(pretrained_subject(*arguments.pretrained))
    for name, config in ARCHITECTURES.items():
        values += _measure(_large(name, config, photos))
    write_record(
        "export",
        title="Exported encoders",
        meaning=_MEANING.format(cores=os.cpu_count(), town=NUM_HELD_OUT, few=FEW),
        values=values,
        command="python -m benchmarks.export build/demo/run --pretrained MOBILENET PHOTOS",
    )


@dataclass(frozen=True)
class Photos:
    """The photos of a run's town."""

    table: PhotoTable
    images: npt.NDArray[np.uint8]
    train: npt.NDArray[np.intp]
    held_out: npt.NDArray[np.intp]

    @classmethod
    def of(cls, run: Path) -> "Photos":
        """Read the photos that a run learned from, and those that it did not."""
        config, _, _ = load_model(run)
        table, _ = read_photo_table(Path(config.data.photos))
        rng = np.random.default_rng(0)
        train = rng.permutation(np.flatnonzero(table.is_train))
        held_out = rng.permutation(np.flatnonzero(~table.is_train))[:NUM_HELD_OUT]
        images, _, _ = read_photos(table, input_spec(config))
        return cls(table, images, train, held_out)

    def places(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        """Return latitudes and longitudes, (N, 2)."""
        return self.table[rows].latlon


def town_subject(run: Path, photos: Photos) -> Subject:
    """Return the encoder of a run."""
    config, model, _ = load_model(run)
    codes = map_cell_codes(run / CODES)
    return Subject(
        "town's encoder",
        model.ground,
        input_spec(config),
        photos.images[photos.train[:500]],
        photos.images[photos.held_out],
        photos.places(photos.held_out),
        build_index(codes.cells, codes.cell_codes),
    )


def _large(name: str, config: dict[str, Any], photos: Photos) -> Subject:
    torch.manual_seed(0)
    spec = InputSpec(SIDE_PX, SIDE_PX)
    architecture = Architecture(config, *_IMAGENET)
    backbone = PretrainedBackbone(architecture, height=SIDE_PX, width=SIDE_PX)
    model = ModelConfig(num_clusters=64, cluster_dim=128, global_dim=256, dim=256)
    encoder = Encoder(model, backbone).eval()

    def sized(rows: npt.NDArray[np.intp]) -> npt.NDArray[np.uint8]:
        return np.stack([fit_image(photos.images[row], spec) for row in rows])

    known, asked = photos.train[:500], photos.held_out[:FEW]
    images = sized(known)
    cells, codes = _mean_codes(encoder, images, photos.places(known))
    places = photos.places(asked)
    return Subject(name, encoder, spec, images, sized(asked), places, build_index(cells, codes))


def pretrained_subject(model: Path, photos: Path) -> Subject:
    """Return a MobileNetV2 on the faces of panoramas, half of which it is whitened with."""
    table, _ = read_photo_table(photos)
    _, panorama = np.unique(table.columns["picture_id"], return_inverse=True)
    known, asked = np.flatnonzero(panorama % 2), np.flatnonzero(panorama % 2 == 0)
    with tempfile.TemporaryDirectory() as folder:
        convert_mobilenet(model, Path(folder))
        architecture, weights = read_architecture(folder), load_pretrained(folder)
    backbone = PretrainedBackbone(architecture, height=SIDE_PX, width=SIDE_PX)
    encoder = Encoder(ModelConfig(aggregator="gem", dim=128), backbone)
    spec = InputSpec(SIDE_PX, SIDE_PX)
    images, _, _ = read_photos(table, spec)
    generator = torch.Generator().manual_seed(0)
    encoder.start_from(torch.from_numpy(images[known]), generator, pretrained=weights)
    cells, codes = _mean_codes(encoder.eval(), images[known], table[known].latlon)
    return Subject(
        "MobileNetV2 0.5, pretrained",
        encoder,
        spec,
        images[known],
        images[asked],
        table[asked].latlon,
        build_index(cells, codes),
    )


def _mean_codes(
    encoder: Encoder, images: npt.NDArray[np.uint8], places: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.float32]]:
    """Return the level-16 cells of photos, and the mean embedding of those in each."""
    found, numbers = np.unique(s2.cell_from_latlon(*places.T, level=16), return_inverse=True)
    embeddings = embed(encoder, images, batch_size=16)
    codes = np.zeros((len(found), embeddings.shape[1]), np.float32)
    np.add.at(codes, numbers, embeddings)
    codes /= np.bincount(numbers)[:, None].astype(np.float32)
    return found, codes


def _measure(subject: Subject) -> Iterator[Value]:
    reference = to_onnx(subject.encoder, subject.spec)
    trained = embed(subject.encoder, subject.held_out, batch_size=16)
    encoders = {"onnx-fp32": OnnxEncoder(reference, subject.spec, num_threads=2)}
    rows: dict[str, dict[str, float]] = {}
    for name, recipe in _recipes():
        if name not in RECIPES and rows["onnx-int8"]["within its gate"]:
            continue  # nothing to mend
        start = time.perf_counter()
        data = _converted(reference, recipe, subject.calibration)
        seconds = time.perf_counter() - start
        encoders[name] = OnnxEncoder(data, subject.spec, num_threads=2)
        parity = measure_parity(
            encoders[name].encode(subject.held_out), trained, subject.places, subject.index
        )
        rows[name] = {
            "mean cosine": parity.mean_cosine,
            "1st percentile": parity.p01_cosine,
            "same cell": parity.same_cell,
            "recall lost": 100 * parity.recall_loss,
            "size": len(data) / len(reference),
            "MB": len(data) / 1e6,
            "seconds to make": seconds,
            "within its gate": float(not parity.failures(recipe)),
        }
    taken = times(encoders, subject.held_out)
    for name, row in rows.items():
        for what, value in {**row, "time": taken[name] / taken["onnx-fp32"]}.items():
            yield Value(f"{subject.name}, {name}: {what}", round(value, 4), "")


def _recipes() -> Iterator[tuple[str, ExportRecipe]]:
    """Yield the recipes, and int8 with layers that stay in fp32 for where it fails its gate."""
    for name in RECIPES:
        yield name, read_recipe(name)
    for num in KEPT:
        yield f"onnx-int8, {num} kept", replace(read_recipe("onnx-int8"), keep_costliest=num)


def _converted(reference: bytes, recipe: ExportRecipe, calibration: npt.NDArray[np.uint8]) -> bytes:
    if recipe.precision == "fp16":
        return to_fp16(reference)
    return to_int8(
        reference,
        calibration,
        symmetric=recipe.target == "tensorrt",
        keep_costliest=recipe.keep_costliest,
    )


def _sabotaged(subject: Subject) -> Iterator[Value]:
    """Yield whether the gate refuses encoders that somebody broke, and names the right layer."""
    reference = to_onnx(subject.encoder, subject.spec)
    trained = embed(subject.encoder, subject.held_out)
    for what, (broken, place) in sabotaged(reference).items():
        exported = OnnxEncoder(broken, subject.spec).encode(subject.held_out)
        parity = measure_parity(exported, trained, subject.places, subject.index)
        found = first_divergence(reference, broken, subject.held_out[:8])
        is_refused = all(parity.failures(read_recipe(name)) for name in ("onnx-fp32", "onnx-int8"))
        is_named = found is not None and found.node == place
        yield Value(f"{what}: refused", float(is_refused), "")
        yield Value(f"{what}: layer named", float(is_named), "")
        yield Value(f"{what}: mean cosine", round(parity.mean_cosine, 4), "")


def times(encoders: dict[str, OnnxEncoder], images: npt.NDArray[np.uint8]) -> dict[str, float]:
    """Return the median seconds of single photos by each encoder, timed in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in encoders}
    for number in range(NUM_TIMED):
        image = images[number % len(images)][None]
        for name, encoder in encoders.items():
            start = time.perf_counter()
            encoder.encode(image)
            seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(taken)) for name, taken in seconds.items()}


if __name__ == "__main__":
    main()
