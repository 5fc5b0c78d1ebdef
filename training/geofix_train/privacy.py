"""Faces and number plates, blurred before anything else sees a photo.

A box is x0, y0, x1, y1 in pixels of the upright photo at its full size, (0, 0) the outer corner on
the top left. Boxes come from the table's column `blur_boxes` ("x0,y0,x1,y1;x0,y0,x1,y1"), from a
function that looks at the photo, or both. What is left of a box is at most 4 by 4 mean colours.
"""

import importlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from geofix.images import ImageSource, load_image
from geofix_train.detector import OnnxDetector
from geofix_train.photo_table import BLUR_BOXES, PhotoTable

Pixels: TypeAlias = npt.NDArray[np.uint8]
Boxes: TypeAlias = npt.NDArray[np.float64]
FindBoxes: TypeAlias = Callable[[Pixels], npt.ArrayLike]  # (H, W, 3) RGB to (K, 4)

_LEFT_OF_A_SIDE = 4  # mean colours, at most; and at least as many pixels go into each


class BlurError(ValueError):
    """A box or a function that finds boxes cannot be used."""


def private_photo(table: PhotoTable, row: int, *, find_boxes: FindBoxes | None) -> ImageSource:
    """Return a photo as everything else may see it: its path where there is nothing to blur.

    Args:
        table: the photos.
        row: which of them.
        find_boxes: what else to blur; see `load_find_boxes`. It may return boxes that reach over
            the edge of the photo, the table may not: those were made for another size.

    Raises:
        BlurError: a bad box.
        ImageError, OSError: the photo cannot be read.
    """
    path = table.photo_path(row)
    text = str(table.columns[BLUR_BOXES][row] or "") if BLUR_BOXES in table.columns else ""
    if not text and find_boxes is None:
        return path
    photo = np.ascontiguousarray(load_image(path))  # of a gray one, channels share memory
    boxes = parse_boxes(text)
    _check_boxes(boxes, photo, slack_px=0.0)
    if find_boxes is not None:
        found = np.asarray(find_boxes(photo), np.float64)
        found = found.reshape(0, 4) if found.size == 0 else found
        _check_boxes(found, photo, slack_px=np.inf)
        boxes = np.concatenate([boxes, found])
    return blur(photo, boxes)


def parse_boxes(text: str) -> Boxes:
    """Return the boxes of a table's cell, (K, 4); raise BlurError where it holds something else."""
    parts = [part for part in text.split(";") if part.strip()]
    try:
        boxes = np.array([[float(number) for number in part.split(",")] for part in parts])
    except ValueError:
        boxes = np.zeros(0)
    if parts and boxes.shape != (len(parts), 4):
        raise BlurError(f"{BLUR_BOXES} is {text!r}, want x0,y0,x1,y1;x0,y0,x1,y1")
    return boxes.reshape(-1, 4)


def blur(photo: Pixels, boxes: Boxes) -> Pixels:
    """Return a copy of a photo (H, W, 3) with boxes (K, 4) blurred, to whole pixels outwards."""
    height, width = photo.shape[:2]
    blurred = photo.copy()
    for x0, y0, x1, y1 in boxes:
        left, top = int(max(0, np.floor(x0))), int(max(0, np.floor(y0)))
        right, bottom = int(min(width, np.ceil(x1))), int(min(height, np.ceil(y1)))
        if right <= left or bottom <= top:
            continue  # what was found lies outside
        part = Image.fromarray(np.ascontiguousarray(blurred[top:bottom, left:right]))
        few = tuple(max(1, min(_LEFT_OF_A_SIDE, side // _LEFT_OF_A_SIDE)) for side in part.size)
        means = part.resize((few[0], few[1]), Image.Resampling.BOX)
        smooth = means.resize(part.size, Image.Resampling.BILINEAR)
        blurred[top:bottom, left:right] = np.asarray(smooth)
    return blurred


def load_find_boxes(name: str) -> FindBoxes | None:
    """Return what the setting `blur` names; None where it is empty.

    Args:
        name: "package.module:function", which takes a photo (H, W, 3) and returns boxes (K, 4), or
            the path of an ONNX detector; see `OnnxDetector`.

    Raises:
        BlurError: there is no such function.
        BackendUnavailable: the detector cannot be used.
    """
    if not name:
        return None
    if name.endswith(".onnx"):
        return OnnxDetector(Path(name))
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise BlurError(f"blur is {name!r}, want package.module:function or a file DETECTOR.onnx")
    try:
        find_boxes = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as e:
        raise BlurError(
            f"blur is {name!r}: {e}; a module that is not installed is found through PYTHONPATH"
        ) from e
    if not callable(find_boxes):
        raise BlurError(f"blur is {name!r}, which is {type(find_boxes).__name__}, want a function")
    return _one_at_a_time(find_boxes)


def _one_at_a_time(find_boxes: Callable[[Pixels], Any]) -> FindBoxes:
    """Photos are read by several threads; a user's function need not know that."""
    lock = threading.Lock()

    def find(photo: Pixels) -> npt.ArrayLike:
        with lock:
            found: npt.ArrayLike = find_boxes(photo)
        return found

    return find


def _check_boxes(boxes: Boxes, photo: Pixels, *, slack_px: float) -> None:
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise BlurError(f"boxes have shape {boxes.shape}, want (K, 4)")
    height, width = photo.shape[:2]
    for x0, y0, x1, y1 in boxes.tolist():
        is_inside = min(x0, y0) >= -slack_px and x1 <= width + slack_px and y1 <= height + slack_px
        if not (np.isfinite([x0, y0, x1, y1]).all() and x0 < x1 and y0 < y1 and is_inside):
            raise BlurError(
                f"box {x0:g},{y0:g},{x1:g},{y1:g} is bad, want x0 < x1 and y0 < y1 within the "
                f"upright photo of {width} x {height} pixels"
            )
