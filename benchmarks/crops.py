"""Crops of real images as places: vectors of a pretrained network, to measure a search with.

    python -m benchmarks.crops FOLDER... --encoder MODEL.onnx -o build/crops.npz

Each crop is a place; queries are some of them again, shifted, scaled, in another light and as a
JPEG. MODEL is an ONNX file that takes (B, 3, 224, 224) from -1 to 1 and gives a vector of an image
first; its vectors are turned to their principal directions, and made of unit length.
"""

import argparse
import io
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance
from tqdm import tqdm

from geofix_index.onnx_runtime import import_onnxruntime

NUM_CROPS, NUM_QUERIES, DIM = 100_000, 6_000, 256
SIZE_PX, BATCH = 224, 32
SIDES = (0.25, 0.6)  # of a crop, as shares of its image
SHIFT, SCALE, LIGHT, QUALITY = 0.08, (0.9, 1.1), (0.7, 1.3), (35, 80)  # of queries; shift by sides
NUM_FITTED = 20_000  # crops that the principal directions are found with
SEED = 0

Floats = npt.NDArray[np.float32]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Crops:
    """Vectors of crops (N, D), in the order of their images, and of queries (Q, D)."""

    crops: Floats
    queries: Floats
    own: npt.NDArray[np.int64]  # (Q,) the crop of each query


def main() -> None:
    """Cut, embed and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="of images")
    parser.add_argument("--encoder", type=Path, required=True, metavar="MODEL.onnx")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    images = [path for folder in arguments.folders for path in sorted(folder.iterdir())]
    crops = make_crops(images, arguments.encoder)
    np.savez(arguments.output, crops=crops.crops, queries=crops.queries, own=crops.own)
    print(f"{arguments.output}: {len(crops.crops)} crops of {len(images)} images")


def read_crops(path: Path) -> Crops:
    """Read what this module wrote."""
    with np.load(path) as file:
        return Crops(file["crops"], file["queries"], file["own"])


def make_crops(
    images: list[Path], encoder: Path, *, num_crops: int = NUM_CROPS, num_queries: int = NUM_QUERIES
) -> Crops:
    """Return the vectors of crops, as many of each image, and of queries.

    Args:
        images: in the order that the crops shall have.
        encoder: the ONNX file.
        num_crops: of all images together, about.
        num_queries: drawn among the crops.
    """
    rng = np.random.default_rng(SEED)
    each = -(-num_crops // len(images))
    asked = rng.permutation(each * len(images))[:num_queries]
    tasks = []
    for number, image in enumerate(images):
        own = asked[asked // each == number] % each
        tasks.append((image, encoder, each, np.sort(own), SEED + number))
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        parts = list(
            tqdm(pool.map(_embed_image, *zip(*tasks, strict=True)), total=len(tasks), unit="image")
        )
    crops, queries = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    middle, directions = _principal(crops[rng.permutation(len(crops))[:NUM_FITTED]])
    return Crops(
        _unit((crops - middle) @ directions), _unit((queries - middle) @ directions), np.sort(asked)
    )


def _embed_image(
    path: Path, encoder: Path, num: int, asked: npt.NDArray[np.int64], seed: int
) -> tuple[Floats, Floats]:
    """Return the vectors of an image's crops, and of the queries for some of them."""
    rng = np.random.default_rng(seed)
    with Image.open(path) as file:
        image = file.convert("RGB")
    boxes = [_draw_box(image.size, rng) for _ in range(num)]
    crops = [_cut(image, box) for box in boxes]
    queries = [_query(image, boxes[row], rng) for row in asked.tolist()]
    vectors = _embed([*crops, *queries], encoder)
    return vectors[:num], vectors[num:]


def _draw_box(size: tuple[int, int], rng: np.random.Generator) -> Box:
    side = min(size) * rng.uniform(*SIDES)
    x, y = rng.uniform(0, size[0] - side), rng.uniform(0, size[1] - side)
    return x, y, x + side, y + side


def _cut(image: Image.Image, box: Box) -> Image.Image:
    return image.resize((SIZE_PX, SIZE_PX), Image.Resampling.BILINEAR, box=box)


def _query(image: Image.Image, box: Box, rng: np.random.Generator) -> Image.Image:
    """Return a crop as another camera might see it."""
    side = box[2] - box[0]
    x, y = np.array(box[:2]) + side / 2 + rng.uniform(-SHIFT, SHIFT, 2) * side
    half = side / 2 * rng.uniform(*SCALE)
    width, height = image.size
    moved = _cut(
        image, (max(x - half, 0), max(y - half, 0), min(x + half, width), min(y + half, height))
    )
    lit = ImageEnhance.Brightness(moved).enhance(rng.uniform(*LIGHT))
    lit = ImageEnhance.Contrast(lit).enhance(rng.uniform(*LIGHT))
    data = io.BytesIO()
    lit.save(data, "JPEG", quality=int(rng.integers(*QUALITY)))
    return Image.open(data)


def _embed(images: list[Image.Image], encoder: Path) -> Floats:
    """Return vectors (N, D) of unit length."""
    ort = import_onnxruntime()

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(encoder, options, providers=["CPUExecutionProvider"])
    name, found = session.get_inputs()[0].name, []
    for at in range(0, len(images), BATCH):
        pixels = np.stack([np.asarray(image, np.float32) for image in images[at : at + BATCH]])
        batch = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2) / 127.5 - 1)
        found.append(session.run(None, {name: batch})[0])
    return _unit(np.concatenate(found))


def _principal(vectors: Floats) -> tuple[Floats, Floats]:
    """Return the mean (C,) of vectors (N, C) and their first directions (C, DIM)."""
    middle = vectors.mean(axis=0)
    covariance = np.cov(vectors - middle, rowvar=False, dtype=np.float64)
    directions = np.linalg.eigh(covariance)[1][:, ::-1][:, :DIM]
    return middle, directions.astype(np.float32)


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


if __name__ == "__main__":
    main()
