"""The one resampling, of training and device alike: boxes of whole pixels, then bilinear.

docs/pack_spec.md defines it. It runs in a small C kernel, loaded as a plain library, or in the
NumPy twin below, which gives the same bytes: all arithmetic is that of integers.
"""

import ctypes
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

RESAMPLE_VERSION = 1

_LIBRARY = Path(__file__).with_name("geofix_resample.so")
_NO_MEMORY = -2
_MAX_SIDE, _MAX_RESULT, _MAX_BOX = 1 << 28, 1 << 16, 1 << 23  # see geofix_resample.h
_NUM_TAPS = 4  # boxes that a pixel of the result is mixed from, on each axis
_FRACTION_BITS = 7  # of an average, behind the point
_WEIGHT_BITS = 14
_MANY_ROWS = 64

Pixels = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]


@lru_cache(maxsize=1)
def load_resampler() -> ctypes.CDLL | None:
    """Return the kernel, or None where it was not built or has another interface."""
    try:
        library = ctypes.CDLL(str(_LIBRARY))
    except OSError:
        return None
    library.geofix_resample_version.restype = ctypes.c_int
    if library.geofix_resample_version() != RESAMPLE_VERSION:
        return None
    array, size, stride = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_ssize_t
    library.geofix_resample.argtypes = [
        array, size, size, stride, stride, stride, size, size, array
    ]  # fmt: skip
    library.geofix_resample.restype = ctypes.c_int
    library.geofix_resample_instructions.restype = ctypes.c_char_p
    return library


def resampler() -> str:
    """Return what pictures are resampled by: "avx2", "portable" (both in C) or "numpy"."""
    library = load_resampler()
    if library is None:
        return "numpy"
    name: bytes = library.geofix_resample_instructions()
    return name.decode()


def resample(image: Pixels, *, width: int, height: int, use_kernel: bool = True) -> Pixels:
    """Return a picture (H, W, 3) at another size, (height, width, 3).

    A view of any strides costs no copy: a part of a frame, its channels reversed, or gray that is
    broadcast to three channels (stride 0).

    Args:
        image: of at least one pixel.
        width: of the result, at least 1.
        height: of the result, at least 1.
        use_kernel: False resamples in NumPy.

    Raises:
        ValueError: an image of another shape or dtype, or without pixels; a size below 1.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0 or image.dtype != np.uint8:
        raise ValueError(f"image is {image.dtype} {image.shape}, want uint8 (H, W, 3), not empty")
    if width < 1 or height < 1:
        raise ValueError(f"size is {width} x {height}, want at least 1 x 1")
    across, down = _Axis(image.shape[1], width), _Axis(image.shape[0], height)
    library = load_resampler() if use_kernel and _is_in_limits(across, down) else None
    if library is None:
        return _resample_numpy(image, across, down)
    result = np.empty((height, width, 3), np.uint8)
    status = library.geofix_resample(
        image.ctypes.data, across.size, down.size, *image.strides, width, height, result.ctypes.data
    )
    if status == _NO_MEMORY:
        raise MemoryError(f"no memory to resample a picture of {across.size} columns")
    return result


@dataclass(frozen=True)
class _Axis:
    """Pixels become boxes of `factor` pixels, the last of which may have fewer."""

    size: int
    result_size: int

    @property
    def factor(self) -> int:
        return max(1, self.size // self.result_size)

    @property
    def num_boxes(self) -> int:
        return -(-self.size // self.factor)

    def box_sizes(self) -> Numbers:
        """Return how many pixels each box has, (num_boxes,)."""
        starts = self.factor * np.arange(self.num_boxes)
        return np.minimum(self.factor, self.size - starts)

    def taps(self) -> tuple[Numbers, Numbers]:
        """Return boxes and weights of each pixel of the result, (result_size, 4) each.

        Weights are a triangle over the boxes, as wide as a pixel of the result or a box, whichever
        is wider; distances count in 1 / (2 factor result_size) boxes, which makes them whole.
        """
        box = self.factor * self.result_size
        centre = (2 * np.arange(self.result_size, dtype=np.int64) + 1)[:, None] * self.size
        reach = 2 * max(box, self.size)
        first = np.maximum(0, (centre - reach + box) // (2 * box))
        boxes = first + np.arange(_NUM_TAPS)
        heights = np.maximum(0, reach - np.abs((2 * boxes + 1) * box - centre))
        heights[boxes >= self.num_boxes] = 0
        total = heights.sum(axis=1, keepdims=True)
        weights = ((heights << (_WEIGHT_BITS + 1)) + total) // (2 * total)
        left = (1 << _WEIGHT_BITS) - weights.sum(axis=1)
        weights[np.arange(len(weights)), heights.argmax(axis=1)] += left
        return np.minimum(boxes, self.num_boxes - 1), weights


def _is_in_limits(across: _Axis, down: _Axis) -> bool:
    return (
        max(across.size, down.size) <= _MAX_SIDE
        and max(across.result_size, down.result_size) <= _MAX_RESULT
        and across.factor * down.factor <= _MAX_BOX
    )


def _resample_numpy(image: Pixels, across: _Axis, down: _Axis) -> Pixels:
    is_gray = image.strides[2] == 0
    means = _box_means(image[:, :, :1] if is_gray else image, across, down)
    rows = _mix(means, down)
    rows = (rows + (1 << (_WEIGHT_BITS - 1))) >> _WEIGHT_BITS
    mixed = _mix(rows.swapaxes(0, 1), across).swapaxes(0, 1)
    shift = _WEIGHT_BITS + _FRACTION_BITS
    levels = ((mixed + (1 << (shift - 1))) >> shift).astype(np.uint8)
    return np.repeat(levels, 3, axis=2) if is_gray else np.ascontiguousarray(levels)


def _box_means(image: Pixels, across: _Axis, down: _Axis) -> npt.NDArray[np.int32]:
    """Return the averages of boxes (num_boxes down, num_boxes across, C) in 1/128 grey levels."""
    small = down.factor <= 2**16 // 2**8  # then columns add up to less than 2^16
    columns = _sum_groups(image, down, np.uint16 if small else np.int64)  # (num_boxes down, W, C)
    sums = _sum_groups(columns.swapaxes(0, 1), across, np.int64).swapaxes(0, 1)
    num = (down.box_sizes()[:, None] * across.box_sizes())[:, :, None]
    return np.asarray(((sums << (_FRACTION_BITS + 1)) + num) // (2 * num), np.int32)


def _sum_groups(array: npt.NDArray[Any], axis: _Axis, dtype: type[np.generic]) -> npt.NDArray[Any]:
    """Return the sums of each `factor` rows that follow each other; the last may have fewer."""
    if axis.factor > _MANY_ROWS:
        starts = axis.factor * np.arange(axis.num_boxes)
        return np.add.reduceat(array, starts, axis=0, dtype=dtype)
    sums = np.zeros((axis.num_boxes, *array.shape[1:]), dtype)  # ten times faster for few
    for start in range(axis.factor):
        rows = array[start :: axis.factor]
        sums[: len(rows)] += rows
    return sums


def _mix(values: npt.NDArray[np.int32], axis: _Axis) -> npt.NDArray[np.int32]:
    """Return the weighted sums of rows, one for each pixel of the axis's result."""
    boxes, weights = axis.taps()
    mixed = np.zeros((axis.result_size, *values.shape[1:]), np.int32)  # below 2^29
    for tap in range(_NUM_TAPS):
        mixed += weights[:, tap, None, None].astype(np.int32) * values[boxes[:, tap]]
    return mixed
