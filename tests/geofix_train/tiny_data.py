"""A tiny data set and settings to train on it in a second: random pictures, no town needed.

Photos stand in a square of 400 m, a third of them in its middle; imagery is one GeoTIFF.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from geofix_train.aerial import LocalFrame, write_geotiff
from geofix_train.config import DataConfig, FitConfig, ModelConfig, ObjectiveConfig, RunConfig
from geofix_train.photo_table import PhotoTable, write_photo_table

LAT, LON = 47.37, 8.54
FRAME = LocalFrame(LAT, LON)
HALF_M = 200.0  # of the square
SPLITS = ("train",) * 8 + ("val", "test")

Pixels = npt.NDArray[np.uint8]


def random_pixels(height: int, width: int, *, seed: int) -> Pixels:
    """Return a picture (height, width, 3) of coarse random colours."""
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST))


def write_photos(folder: Path, names: Sequence[str], *, width: int = 40, height: int = 30) -> None:
    """Write a picture of its own colours for each name."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        Image.fromarray(random_pixels(height, width, seed=seed)).save(folder / name)


def make_table(folder: Path, *, num: int = 40, **columns: Any) -> PhotoTable:
    """Write photos to a folder and return their table; `columns` are added or replaced."""
    rng = np.random.default_rng(0)
    names = [f"{row:03d}.png" for row in range(num)]
    write_photos(folder, names)
    reach = np.where(np.arange(num) % 3 == 0, 30.0, HALF_M)[:, None]
    latlon = FRAME.latlon(rng.uniform(-1, 1, (num, 2)) * reach)
    split = [SPLITS[row % len(SPLITS)] for row in range(num)]
    content: dict[str, Any] = {"path": names, "split": split}
    content["lat"], content["lon"] = latlon.T
    return PhotoTable.from_columns({**content, **columns}, root=folder)


def write_data(folder: Path, *, num: int = 40, **columns: Any) -> Path:
    """Write photos, `photos.parquet` and one orthophoto; return the folder."""
    write_photo_table(make_table(folder, num=num, **columns), folder / "photos.parquet")
    (folder / "aerial").mkdir()
    write_geotiff(
        folder / "aerial" / "ortho.tif", random_pixels(300, 300, seed=99),
        west=-300.0, north=300.0, pixel=2.0, crs=FRAME.crs,
    )  # fmt: skip
    return folder


def write_toml(config: FitConfig, path: Path) -> Path:
    """Write settings as a user does; return the path."""
    sections = asdict(config)
    lines = [
        line
        for name, values in sections.items()
        for line in (f"[{name}]", *(f"{key} = {json.dumps(v)}" for key, v in values.items()))
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def tiny_config(
    photos: Path, aerial: Path | None = None, *, min_images: int = 1, **run: Any
) -> FitConfig:
    """Return settings of a small model and short training; `run` changes those of RunConfig."""
    settings = RunConfig(epochs=3, warmup_steps=2, batch_size=8, checkpoint_seconds=0.0)
    return FitConfig(
        data=DataConfig(
            photos=str(photos),
            aerial="" if aerial is None else str(aerial),
            photo_width=32,
            photo_height=24,
            tile_pixels=16,
        ),
        model=ModelConfig(width=8, num_clusters=4, cluster_dim=4, dim=16),
        objective=ObjectiveConfig(min_images=min_images),
        run=replace(settings, **run),
    )
