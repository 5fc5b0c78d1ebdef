"""Photos to localize: a folder of them, or pictures drawn from a seed."""

import io
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from geofix.errors import ImageError
from geofix.exif import place_from_exif
from geofix.geo import LatLon
from geofix.images import PHOTO_ENDINGS, load_image

WIDTH, HEIGHT = 1920, 1080  # of synthetic photos: what a robot's camera gives
NUM_SYNTHETIC = 4
MAX_PHOTOS = 16  # kept decoded; a folder may hold thousands
MAX_ARRAY_BYTES = 1 << 28  # of all photos that are kept decoded, a 12-megapixel one has 36 MB
_JPEG_QUALITY = 90

_log = logging.getLogger("geofix")


@dataclass(frozen=True, slots=True)
class BenchPhoto:
    """A photo in the two forms that programs hand over."""

    array: npt.NDArray[np.uint8]  # (H, W, 3) RGB
    jpeg: bytes


def synthetic_photos(*, seed: int = 0) -> list[BenchPhoto]:
    """Return pictures with as much detail as a street has, so that decoding costs what it does."""
    rng = np.random.default_rng(seed)
    return [_as_photo(_picture(rng)) for _ in range(NUM_SYNTHETIC)]


def image_files(folder: Path) -> list[Path]:
    """Return the image files of a folder and its subfolders.

    Raises:
        ValueError: there is none.
        OSError: there is no such folder.
    """
    if not folder.is_dir():
        raise NotADirectoryError(20, "no folder of images", str(folder))
    inside = sorted(path for path in folder.rglob("*") if path.is_file())
    found = [path for path in inside if path.suffix.lower() in PHOTO_ENDINGS]
    if not found:
        raise ValueError(f"{folder}: no images, want files that end in {', '.join(PHOTO_ENDINGS)}")
    return found


def read_photos(paths: Sequence[Path]) -> list[BenchPhoto]:
    """Return some of the photos, spread over the list; one that cannot be read is passed over.

    Raises:
        ValueError: none can be read.
    """
    photos: list[BenchPhoto] = []
    num_bytes = 0
    for path in _spread(paths, MAX_PHOTOS):
        try:
            photo = _read(path)
        except (ImageError, OSError) as e:
            _log.warning("passing over a photo: %s", e)
            continue
        num_bytes += photo.array.nbytes
        if photos and num_bytes > MAX_ARRAY_BYTES:
            break
        photos.append(photo)
    if not photos:
        raise ValueError(f"none of {len(paths)} images can be read")
    return photos


def places_of(paths: Sequence[Path], *, limit: int) -> Iterator[tuple[Path, LatLon]]:
    """Yield photos, at most `limit`, with where their EXIF says that they were taken."""
    for path in _spread(paths, limit):
        place = place_from_exif(path)
        if place is not None:
            yield path, place


def _read(path: Path) -> BenchPhoto:
    array = load_image(path)
    if path.suffix.lower() in (".jpg", ".jpeg"):
        return BenchPhoto(array, path.read_bytes())
    return _as_photo(array)


def _as_photo(array: npt.NDArray[np.uint8]) -> BenchPhoto:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(file, "JPEG", quality=_JPEG_QUALITY)
    return BenchPhoto(array, file.getvalue())


def _spread(paths: Sequence[Path], limit: int) -> list[Path]:
    step = max(1, math.ceil(len(paths) / limit))
    return list(paths[::step])


def _picture(rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Return smooth areas with fine noise, (HEIGHT, WIDTH, 3)."""
    coarse = rng.integers(0, 256, (HEIGHT // 40, WIDTH // 40, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    noise = rng.integers(-12, 13, (HEIGHT, WIDTH, 1), dtype=np.int16)
    return np.asarray(np.clip(np.asarray(smooth, np.int16) + noise, 0, 255), np.uint8)
