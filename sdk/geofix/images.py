"""Images on their way to an encoder: decoding, field of view, and the one resampling rule.

Arrays are RGB uint8 (H, W, 3), row 0 on top, turned upright by EXIF orientation. The rule, used in
training and on the device alike (docs/pack_spec.md): a JPEG far larger than needed is decoded at
1/2, 1/4 or 1/8 of its size (never below twice the target), cut to the encoder's field of view where
both are known, and resampled (`geofix.resample`).
"""

import io
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from geofix.errors import ImageError
from geofix.exif import read_exif
from geofix.input_spec import InputSpec, check_hfov
from geofix.pillow_warnings import no_pillow_warnings
from geofix.resample import resample

MAX_PIXELS = 89_478_485  # Pillow's own limit against decompression bombs: 256 MiB as RGB
ENCODINGS = ("rgb8", "bgr8", "mono8")

# Formats with decoders that stay inside Pillow (its EPS reader, for one, starts a program). "JPEG"
# opens MPO, too; Pillow registers no opener of that name.
PHOTO_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")  # of files
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")
_DRAFT_MARGIN = 2  # a draft keeps at least this many times the target's size
_MAX_SHIFT_PX = 0.1  # how far a draft may move what is seen at an edge, in pixels of the target

Pixels: TypeAlias = npt.NDArray[np.uint8]
ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | Pixels"


@dataclass(frozen=True, slots=True)
class Photo:
    """A decoded image."""

    pixels: Pixels  # (H, W, 3) RGB
    captured_at: datetime | None  # EXIF DateTimeOriginal; with a time zone only if EXIF has one
    hfov_deg: float | None = None  # as given, else by the focal length in EXIF, else unknown


def load_image(source: ImageSource, *, encoding: str = "rgb8") -> Pixels:
    """Return an image as (H, W, 3) RGB at its full size; see `load_photo`."""
    return load_photo(source, encoding=encoding).pixels


def load_photo(
    source: ImageSource,
    *,
    encoding: str = "rgb8",
    target: InputSpec | None = None,
    hfov_deg: float | None = None,
) -> Photo:
    """Decode an image.

    Grayscale, palette, 16-bit and CMYK pictures become RGB; transparency is dropped, and of an
    animation the first picture is taken. Arrays are not copied: of gray ones, all three channels
    are the same memory.

    Args:
        source: a path, the bytes of a file, a PIL image, or an array: (H, W, 3) uint8, or (H, W)
            for "mono8". Files are JPEG, PNG, WebP, TIFF or BMP.
        encoding: of an array: "rgb8", "bgr8" (what OpenCV gives) or "mono8".
        target: what the image is loaded for; lets a large JPEG file be decoded at a reduced size.
        hfov_deg: horizontal field of view of the upright image; None asks EXIF.

    Raises:
        ImageError: the image cannot be decoded, is empty, or claims more than `MAX_PIXELS`.
        OSError: the file cannot be read.
        ValueError, TypeError: an unknown encoding, an array of another shape or dtype, a field of
            view out of range.
    """
    if hfov_deg is not None:
        check_hfov(hfov_deg)
    if encoding not in ENCODINGS:
        raise ValueError(f"encoding is {encoding!r}, want one of {', '.join(ENCODINGS)}")
    if isinstance(source, np.ndarray):
        return Photo(_pixels_from_array(source, encoding), None, hfov_deg)
    with _opened(source) as (file, name), no_pillow_warnings():
        try:
            if isinstance(file, Image.Image):
                return _photo_from_pil(file, None, hfov_deg)  # a draft would change the caller's
            with Image.open(file, formats=_FORMATS) as image:
                return _photo_from_pil(image, target, hfov_deg)
        except ImageError as e:
            raise ImageError(f"{name}: {e}") from None
        except Image.DecompressionBombError:  # by its header, before it says how large it is
            raise ImageError(f"{name}: claims more than {MAX_PIXELS:,} pixels") from None
        except Exception as e:  # a decoder fed with nonsense raises nearly anything
            raise ImageError(f"{name}: not a readable image: {_sentence(e)}") from e


def resize_image(image: Pixels, *, width: int, height: int, resize: str = "stretch") -> Pixels:
    """Return an image (H, W, 3) at another size, (height, width, 3); see `resample`.

    Args:
        image: RGB.
        width: of the result.
        height: of the result.
        resize: "stretch" changes the aspect ratio, "crop" cuts a centre piece of the wanted one.
    """
    if resize not in ("stretch", "crop"):
        raise ValueError(f"resize is {resize!r}, want 'stretch' or 'crop'")
    if resize == "crop":
        image = _crop_to_aspect(image, width, height)
    return resample(image, width=width, height=height)


def crop_to_hfov(image: Pixels, *, hfov_deg: float, wanted_hfov_deg: float) -> Pixels:
    """Return the centre of a photo that spans the wanted field of view, aspect ratio kept.

    A photo that is narrower already is returned as it is: nothing is known of what lies beside it,
    and things look larger in it than the encoder is used to. A view, no copy.
    """
    share = _kept_share(hfov_deg, wanted_hfov_deg)
    if share >= 1:
        return image
    height, width = image.shape[:2]
    spare = (1 - share) / 2
    return _cut(image, across=int(width * spare + 0.5), down=int(height * spare + 0.5))


def prepare_image(
    source: ImageSource, spec: InputSpec, *, encoding: str = "rgb8", hfov_deg: float | None = None
) -> Pixels:
    """Return what an encoder with this input spec is to see of an image, (height, width, 3) RGB."""
    photo = load_photo(source, encoding=encoding, target=spec, hfov_deg=hfov_deg)
    return fit_image(photo.pixels, spec, hfov_deg=photo.hfov_deg)


def fit_image(image: Pixels, spec: InputSpec, *, hfov_deg: float | None = None) -> Pixels:
    """Bring a decoded image (H, W, 3) to the field of view and the size of an input spec.

    Args:
        image: RGB.
        spec: of the encoder.
        hfov_deg: horizontal field of view of the image, None where unknown. Used where the encoder
            states the one it was trained with.
    """
    if hfov_deg is not None:
        check_hfov(hfov_deg)
        if spec.hfov_deg is not None:
            image = crop_to_hfov(image, hfov_deg=hfov_deg, wanted_hfov_deg=spec.hfov_deg)
    return resize_image(image, width=spec.width, height=spec.height, resize=spec.resize)


@contextmanager
def _opened(source: ImageSource) -> Iterator[tuple[IO[bytes] | Image.Image, str]]:
    """Yield something to decode, and how to call it in a message."""
    if isinstance(source, Image.Image):
        yield source, "image"
    elif isinstance(source, (bytes, bytearray, memoryview)):
        yield io.BytesIO(source), f"image of {len(source)} bytes"
    elif isinstance(source, (str, os.PathLike)):
        with Path(source).open("rb") as file:
            yield file, str(source)
    else:
        raise TypeError(
            f"image is {type(source).__name__}, want a path, bytes, a PIL image or a uint8 array"
        )


def _photo_from_pil(image: Image.Image, target: InputSpec | None, hfov_deg: float | None) -> Photo:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"claims {width} x {height} pixels, more than {MAX_PIXELS:,}")
    if width * height == 0:
        raise ImageError(f"is empty, {width} x {height} pixels")
    facts = read_exif(image)
    hfov_deg = facts.hfov_deg if hfov_deg is None else hfov_deg
    if target is not None and image.format in ("JPEG", "MPO"):
        size = _needed_size(target, hfov_deg)
        image.draft(None, _draft_size(image.size, size[::-1] if facts.turns_sideways else size))
    image = _to_gray_or_rgb(image)
    upright = image if facts.transpose is None else image.transpose(facts.transpose)
    pixels = np.asarray(upright)
    return Photo(_gray_as_rgb(pixels) if pixels.ndim == 2 else pixels, facts.captured_at, hfov_deg)


def _needed_size(target: InputSpec, hfov_deg: float | None) -> tuple[float, float]:
    """Return the size of the whole image at which the target sees a pixel for each of its own."""
    share = 1.0
    if hfov_deg is not None and target.hfov_deg is not None:
        share = min(1.0, _kept_share(hfov_deg, target.hfov_deg))
    return target.width / share, target.height / share


def _kept_share(hfov_deg: float, wanted_hfov_deg: float) -> float:
    """Return how much of a photo's width spans the wanted field of view."""
    check_hfov(hfov_deg)
    return math.tan(math.radians(wanted_hfov_deg) / 2) / math.tan(math.radians(hfov_deg) / 2)


def _draft_size(full: tuple[int, int], wanted: tuple[float, float]) -> tuple[int, int]:
    """Return the size to decode a JPEG of size `full` at: an eighth, a quarter, a half, or whole.

    A divisor that leaves a remainder makes the decoder round up, which stretches what is seen.
    """
    for divisor in (8, 4, 2):
        sides = list(zip(full, wanted, strict=True))
        is_enough = all(side // divisor >= _DRAFT_MARGIN * needed for side, needed in sides)
        shifts_px = [(-side % divisor) * needed / side for side, needed in sides]
        if is_enough and max(shifts_px) <= _MAX_SHIFT_PX:
            return full[0] // divisor, full[1] // divisor
    return full


def _to_gray_or_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("L", "RGB"):
        return image
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")  # straight to RGB, Pillow warns
    if image.mode.startswith("I"):  # 16-bit gray, which Pillow would clip instead of scale
        gray = np.clip(np.asarray(image), 0, 65535) >> 8
        return Image.fromarray(gray.astype(np.uint8))
    if image.mode == "F":
        raise ImageError("holds floating-point values, want 8 or 16 bits a channel")
    return image.convert("RGB")


def _gray_as_rgb(gray: Pixels) -> Pixels:
    """Return gray (H, W) as (H, W, 3), a view: the channels are the same memory."""
    return np.broadcast_to(gray[:, :, None], (*gray.shape, 3))


def _pixels_from_array(array: npt.NDArray[Any], encoding: str) -> Pixels:
    if array.dtype != np.uint8:
        raise TypeError(f"image has dtype {array.dtype}, want uint8 (0 to 255)")
    wanted = "(H, W) or (H, W, 1)" if encoding == "mono8" else "(H, W, 3)"
    if encoding == "mono8" and array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] != (1 if encoding == "mono8" else 3):
        hint = "; gray is encoding='mono8'" if array.ndim == 2 else ""
        raise ValueError(
            f"image has shape {array.shape}, want {wanted} for encoding {encoding!r}{hint}"
        )
    if array.size == 0:
        raise ImageError(f"image is empty, shape {array.shape}")
    if encoding == "mono8":
        return _gray_as_rgb(array[:, :, 0])
    return array[:, :, ::-1] if encoding == "bgr8" else array


def _crop_to_aspect(image: Pixels, width: int, height: int) -> Pixels:
    full_height, full_width = image.shape[:2]
    spare = full_width * height - full_height * width  # columns too many, times the height
    if spare > 0:
        return _cut(image, across=(spare + height) // (2 * height), down=0)
    return _cut(image, across=0, down=(width - spare) // (2 * width))


def _cut(image: Pixels, *, across: int, down: int) -> Pixels:
    """Return an image without some columns on either side, and rows at top and bottom; a view.

    As many on both sides: a centre that moves by half a pixel moves more in a reduced picture.
    """
    height, width = image.shape[:2]
    across, down = min(across, (width - 1) // 2), min(down, (height - 1) // 2)
    return image[down : height - down, across : width - across]


def _sentence(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # its own words name a Python object
        return "no format that is known, want JPEG, PNG, WebP, TIFF or BMP"
    if isinstance(error, (OSError, SyntaxError)) and str(error):  # decoders' words
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
