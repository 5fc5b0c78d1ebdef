"""Image files that cameras do not write: damaged by chance, and made by design.

The same number gives the same file.
"""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.ExifTags import IFD, Base

Pixels = npt.NDArray[np.uint8]

_PNG_HEAD = b"\x89PNG\r\n\x1a\n"
_SIZES = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def damaged(num: int) -> tuple[str, bytes]:
    """Return a file that is damaged by chance, and what was done to it."""
    rng = np.random.default_rng(num)
    files, damages = whole_files(), _DAMAGES
    name = list(files)[num % len(files)]
    data, done = files[name], []
    for _ in range(rng.integers(1, 4)):
        damage = damages[rng.integers(len(damages))]
        data = damage(data, rng)
        done.append(damage.__name__.strip("_"))
    if data.startswith(_PNG_HEAD) and rng.random() < 0.7:
        data = _with_right_sums(data)
    return f"{name}: {', '.join(done)}", data


@lru_cache(maxsize=1)
def whole_files() -> dict[str, bytes]:
    """Return sound files of all formats and modes, by name."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    rgb = Image.fromarray(coarse).resize((64, 48), Image.Resampling.BICUBIC)
    gray, cmyk, palette = rgb.convert("L"), rgb.convert("CMYK"), rgb.quantize(16)
    rgba = rgb.copy()
    rgba.putalpha(gray)
    deep = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
    exif = _rich_exif()
    return {
        "jpeg": _saved(rgb, "JPEG", exif=exif),
        "large jpeg": _saved(rgb.resize((640, 480)), "JPEG", exif=exif),
        "progressive jpeg": _saved(rgb, "JPEG", progressive=True),
        "gray jpeg": _saved(gray, "JPEG"),
        "cmyk jpeg": _saved(cmyk, "JPEG"),
        "mpo": _saved(rgb, "MPO", save_all=True, append_images=[rgb]),
        "png": _saved(rgb, "PNG", exif=exif),
        "palette png": _saved(palette, "PNG", transparency=b"\0\x80\xff"),
        "16-bit png": _saved(deep, "PNG"),
        "transparent png": _saved(rgba, "PNG"),
        "one-bit png": _saved(gray.convert("1"), "PNG"),
        "animated png": _saved(rgb, "PNG", save_all=True, append_images=[rgb.rotate(90)]),
        "webp": _saved(rgb, "WEBP", exif=exif),
        "lossless webp": _saved(rgba, "WEBP", lossless=True),
        "animated webp": _saved(rgb, "WEBP", save_all=True, append_images=[rgb.rotate(90)]),
        "tiff": _saved(rgb, "TIFF", exif=exif),
        "lzw tiff": _saved(rgb, "TIFF", compression="tiff_lzw"),
        "deflated tiff": _saved(rgba, "TIFF", compression="tiff_adobe_deflate"),
        "jpeg tiff": _saved(rgb, "TIFF", compression="jpeg"),
        "16-bit tiff": _saved(deep, "TIFF"),
        "cmyk tiff": _saved(cmyk, "TIFF"),
        "one-bit tiff": _saved(gray.convert("1"), "TIFF", compression="group4"),
        "bmp": _saved(rgb, "BMP"),
        "palette bmp": _saved(palette, "BMP"),
    }


def made_by_design() -> Iterator[tuple[str, bytes]]:
    """Yield files that lie about themselves or go to extremes."""
    for width, height in (
        (0, 0), (0, 48), (64, 0), (30_000, 30_000), (2**31 - 1, 2**31 - 1), (2**31 - 1, 1),
        (1, 2**31 - 1), (64, 48), (9_459, 9_459),
    ):  # fmt: skip
        yield f"png that claims {width} x {height}", png_of(width, height, b"")
    files = whole_files()
    for width, height in ((0, 0), (0, 48), (65_535, 65_535), (30_000, 30_000), (65_500, 1)):
        yield f"jpeg that claims {width} x {height}", _jpeg_that_claims(width, height)
        for name in ("tiff", "lzw tiff"):
            yield f"{name} that claims {width} x {height}", _tiff_that_claims(name, width, height)
        yield f"bmp that claims {width} x {height}", _bmp_that_claims(width, height)
    yield "bmp of negative height", _bmp_that_claims(64, -48)
    yield "png of a hundred times the pixels it claims", png_of(8, 6, bytes(100 * 6 * 25))
    yield "png whose text unpacks to 64 MiB", _png_with_text(64)
    yield "png with 3,000 pieces of text", _png_with_texts(3000)
    for name, data in files.items():
        for share in (0.02, 0.3, 0.7, 0.99):
            yield f"{name} cut off at {share:.0%}", data[: int(len(data) * share)]
        yield f"{name} and more behind it", data + bytes(1000)
    yield "nothing", b""
    yield "one byte", b"\xff"
    yield "zeros", bytes(10_000)
    yield "jpeg of nothing but a start", b"\xff\xd8\xff"
    yield "a program for a printer", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    yield "svg", b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
    yield "gif", _saved(Image.new("P", (9, 9)), "GIF")
    yield "tiff that points at itself", b"II*\0\x08\0\0\0\0\0\x08\0\0\0"
    yield "tiff of floating point", _saved(Image.new("F", (9, 9)), "TIFF")


def extreme_pictures() -> Iterator[tuple[str, bytes]]:
    """Yield sound files of odd shapes, which are pictures all the same."""
    for width, height in ((1, 1), (1, 100_000), (100_000, 1), (3, 2)):
        image = Image.new("RGB", (width, height), (10, 20, 30))
        yield f"png of {width} x {height}", _saved(image, "PNG")
        if max(width, height) < 65_500:
            yield f"jpeg of {width} x {height}", _saved(image, "JPEG")
        yield f"tiff of {width} x {height}", _saved(image, "TIFF")


def png_of(width: int, height: int, rows: bytes) -> bytes:
    """Return a PNG that claims a size of RGB, whatever rows it has."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")
    return _PNG_HEAD + body


def _saved(image: Image.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def _rich_exif() -> Image.Exif:
    exif = Image.Exif()
    exif[Base.Orientation] = 6
    exif[Base.Make] = "a camera"
    exif.get_ifd(IFD.Exif).update(
        {
            Base.DateTimeOriginal: "2024:05:17 18:30:05",
            Base.FocalLengthIn35mmFilm: 26,
            Base.FocalLength: 4.2,
            Base.MakerNote: bytes(range(256)),
        }
    )
    return exif


def _flipped_bits(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for at in rng.integers(0, max(1, len(data)), rng.integers(1, 20)).tolist():
        if at < len(changed):
            changed[at] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _bits_of_its_head(data: bytes, rng: np.random.Generator) -> bytes:
    return _flipped_bits(data[:200], rng) + data[200:]


def _overwritten(data: bytes, rng: np.random.Generator) -> bytes:
    start, length = _piece(data, rng)
    return data[:start] + rng.bytes(length) + data[start + length :]


def _a_number_that_lies(data: bytes, rng: np.random.Generator) -> bytes:
    start, _ = _piece(data[:400], rng)
    form = rng.choice(["<I", ">I", "<H", ">H"])
    size = _SIZES[rng.integers(len(_SIZES))]
    number = struct.pack(form, size & (0xFFFF if form[1] == "H" else 0xFFFFFFFF))
    return data[:start] + number + data[start + len(number) :]


def _cut_off(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: rng.integers(0, len(data) + 1)]


def _a_piece_lost(data: bytes, rng: np.random.Generator) -> bytes:
    start, length = _piece(data, rng)
    return data[:start] + data[start + length :]


def _a_piece_doubled(data: bytes, rng: np.random.Generator) -> bytes:
    start, length = _piece(data, rng)
    return data[: start + length] + data[start:]


def _a_piece_of_another(data: bytes, rng: np.random.Generator) -> bytes:
    files = list(whole_files().values())
    other = files[rng.integers(len(files))]
    start, length = _piece(other, rng)
    at = int(rng.integers(0, len(data) + 1))
    return data[:at] + other[start : start + length] + data[at:]


_DAMAGES: list[Callable[[bytes, np.random.Generator], bytes]] = [
    _flipped_bits, _bits_of_its_head, _overwritten, _a_number_that_lies, _a_number_that_lies,
    _cut_off, _a_piece_lost, _a_piece_doubled, _a_piece_of_another,
]  # fmt: skip


def _piece(data: bytes, rng: np.random.Generator) -> tuple[int, int]:
    start = int(rng.integers(0, len(data) + 1))
    return start, int(rng.integers(0, min(64, len(data) - start) + 1))


def _with_right_sums(data: bytes) -> bytes:
    """Return a PNG whose checksums agree, so that a reader looks at what they cover."""
    at, out = len(_PNG_HEAD), bytearray(data)
    while at + 12 <= len(out):
        (length,) = struct.unpack_from(">I", out, at)
        end = at + 8 + length
        if end + 4 > len(out):
            break
        struct.pack_into(">I", out, end, zlib.crc32(out[at + 4 : end]))
        at = end + 4
    return bytes(out)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png_with_text(mebibytes: int) -> bytes:
    text = b"Comment\0\0" + zlib.compress(bytes(mebibytes << 20))
    good = whole_files()["png"]
    return good[:33] + _chunk(b"zTXt", text) + good[33:]


def _png_with_texts(num: int) -> bytes:
    good = whole_files()["png"]
    texts = b"".join(_chunk(b"tEXt", b"key%d\0text" % i) for i in range(num))
    return good[:33] + texts + good[33:]


def _jpeg_that_claims(width: int, height: int) -> bytes:
    data = bytearray(whole_files()["progressive jpeg"])
    at = data.index(b"\xff\xc2") + 5
    struct.pack_into(">HH", data, at, height, width)
    return bytes(data)


def _tiff_that_claims(name: str, width: int, height: int) -> bytes:
    data = bytearray(whole_files()[name])
    (at,) = struct.unpack_from("<I", data, 4)
    (num,) = struct.unpack_from("<H", data, at)
    for i in range(num):
        entry = at + 2 + 12 * i
        (tag,) = struct.unpack_from("<H", data, entry)
        if tag in (256, 257, 278):  # width, height, rows of a strip
            struct.pack_into("<HII", data, entry + 2, 4, 1, width if tag == 256 else height)
    return bytes(data)


def _bmp_that_claims(width: int, height: int) -> bytes:
    data = bytearray(whole_files()["bmp"])
    struct.pack_into("<ii", data, 18, width, height)
    return bytes(data)
