"""Photos that are the same file, or the same picture saved anew.

A picture's fingerprint is a thumbnail of 16 by 17 gray values; its hash says, for each pixel,
whether the one to the right is brighter (a difference hash, 256 bits).
"""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from geofix.errors import ImageError
from geofix.images import load_photo
from geofix.input_spec import InputSpec
from geofix_train.photo_table import BLUR_BOXES, PhotoTable
from geofix_train.privacy import BlurError, private_photo

# Measured on 248 faces of street panoramas (Panoramax): saved anew at 105 to 1000 pixels, as JPEG
# of quality 50 or WebP, they differ from themselves by at most 23 bits and 0.4 gray levels; from
# each other, neighbours on a drive included, by at least 43 bits and 7.0 levels.
MAX_BITS = 32
MAX_GRAY_LEVELS = 3.0  # mean absolute difference

_ROWS, _COLUMNS = 16, 17
_DECODED = InputSpec(width=4 * _COLUMNS, height=4 * _ROWS)  # a large JPEG is decoded no finer
_BLOCK = 1024  # rows compared at once


@dataclass(frozen=True)
class Fingerprints:
    """What photos are recognized by."""

    sha256: npt.NDArray[np.str_]  # (N,), of the files
    thumbnails: npt.NDArray[np.float32]  # (N, 16, 17), gray 0 to 255
    problems: tuple[str, ...]  # (N,), why a photo cannot be used; empty where it can

    @property
    def is_read(self) -> npt.NDArray[np.bool_]:
        """Which photos have a fingerprint (N,)."""
        return np.array([not problem for problem in self.problems], bool)


def read_fingerprints(table: PhotoTable, *, num_threads: int = 2) -> Fingerprints:
    """Read all photos of a table; boxes to blur are checked on the way."""
    with ThreadPoolExecutor(num_threads) as pool:
        read = pool.map(lambda row: _fingerprint(table, row), range(len(table)))
        bars = tqdm(read, total=len(table), desc="photos", unit="photo", disable=None)
        sha256, thumbnails, problems = zip(*bars, strict=True)
    return Fingerprints(np.array(sha256), np.stack(thumbnails), problems)


def same_files(fingerprints: Fingerprints) -> list[list[int]]:
    """Return groups of rows whose files hold the same bytes."""
    groups: dict[str, list[int]] = {}
    for row in np.flatnonzero(fingerprints.is_read).tolist():
        groups.setdefault(str(fingerprints.sha256[row]), []).append(row)
    return [group for group in groups.values() if len(group) > 1]


def same_pictures(fingerprints: Fingerprints) -> list[list[int]]:
    """Return groups of rows that show the same picture, be it resized or compressed anew."""
    rows = np.flatnonzero(fingerprints.is_read)
    first = np.arange(len(fingerprints.problems))  # of each row's group
    for one, other in _pairs(fingerprints.thumbnails[rows]):
        low, high = sorted((first[rows[one]], first[rows[other]]))
        first[first == high] = low
    groups: dict[int, list[int]] = {}
    for row in rows.tolist():
        groups.setdefault(int(first[row]), []).append(row)
    return [group for group in groups.values() if len(group) > 1]


def _fingerprint(table: PhotoTable, row: int) -> tuple[str, npt.NDArray[np.float32], str]:
    path = table.photo_path(row)
    try:
        data = path.read_bytes()
        picture = Image.fromarray(load_photo(data, target=_DECODED).pixels).convert("L")
        if BLUR_BOXES in table.columns:
            private_photo(table, row, find_boxes=None)
    except (BlurError, ImageError, OSError) as e:
        return "", np.zeros((_ROWS, _COLUMNS), np.float32), f"{table.row_name(row)}: {e}"
    gray = picture.resize((_COLUMNS, _ROWS), Image.Resampling.BILINEAR)  # antialiased
    return hashlib.sha256(data).hexdigest(), np.asarray(gray, np.float32), ""


def _pairs(thumbnails: npt.NDArray[np.float32]) -> Iterator[tuple[int, int]]:
    """Yield the pairs of like thumbnails."""
    brightness = thumbnails.mean(axis=(1, 2))
    order = np.argsort(brightness, kind="stable")
    brightness, sorted_ = brightness[order], thumbnails[order]
    signs = np.where(np.diff(sorted_, axis=2) > 0, 1.0, -1.0).astype(np.float32)
    signs = signs.reshape(len(signs), -1)
    num_bits = signs.shape[1]
    for start in range(0, len(order), _BLOCK):
        stop = min(start + _BLOCK, len(order))
        # Means differ by no more than pixels do, so that only pictures as bright can be alike.
        end = int(np.searchsorted(brightness, brightness[stop - 1] + MAX_GRAY_LEVELS, "right"))
        num_unequal = (num_bits - signs[start:stop] @ signs[start:end].T) / 2
        for one, other in np.argwhere(num_unequal <= MAX_BITS).tolist():
            a, b = start + one, start + other
            if a < b and np.abs(sorted_[a] - sorted_[b]).mean() <= MAX_GRAY_LEVELS:
                yield int(order[a]), int(order[b])
