import io
import struct
import zlib
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from geofix.errors import ImageError
from geofix.images import (
    MAX_PIXELS,
    crop_to_hfov,
    fit_image,
    load_image,
    load_photo,
    prepare_image,
    resize_image,
)
from geofix.input_spec import InputSpec
from tests.geofix.pictures import smooth

Pixels = npt.NDArray[np.uint8]

ORIENTATION, EXIF_IFD, TAKEN_AT, TAKEN_AT_OFFSET = 0x0112, 0x8769, 0x9003, 0x9011
SPEC = InputSpec(width=32, height=24)

# How a picture is stored under each EXIF orientation: where its row 0 and its column 0 are seen.
STORED = {
    1: lambda upright: upright,  # top, left
    2: lambda upright: upright[:, ::-1],  # top, right
    3: lambda upright: upright[::-1, ::-1],  # bottom, right
    4: lambda upright: upright[::-1],  # bottom, left
    5: lambda upright: upright.swapaxes(0, 1),  # left, top
    6: lambda upright: upright[:, ::-1].swapaxes(0, 1),  # right, top
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),  # right, bottom
    8: lambda upright: upright[::-1].swapaxes(0, 1),  # left, bottom
}


def quadrants(width: int, height: int) -> Pixels:
    """Return a picture of four colours, so that each way to turn it shows."""
    colours = np.array([[[200, 30, 30], [30, 200, 30]], [[30, 30, 200], [220, 220, 220]]], np.uint8)
    return colours.repeat(height // 2, axis=0).repeat(width // 2, axis=1)


def encoded(image: Image.Image | Pixels, form: str = "PNG", **options: Any) -> bytes:
    """Return an image's file; colours of a JPEG keep their full resolution."""
    if form == "JPEG":
        options = {"quality": 95, "subsampling": 0, **options}
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def jpeg(pixels: Pixels, tags: dict[int, Any], details: dict[int, Any] | None = None) -> bytes:
    """Return a JPEG with EXIF."""
    exif = Image.Exif()
    exif.update(tags)
    exif.get_ifd(EXIF_IFD).update(details or {})
    return encoded(pixels, "JPEG", exif=exif)


def png_of_size(width: int, height: int) -> bytes:
    """Return a PNG that claims a size and has no pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def assert_close(got: Pixels, wanted: Pixels, *, levels: float) -> None:
    """Check two pictures for equality but for some grey levels."""
    assert got.shape == wanted.shape
    assert np.abs(got.astype(int) - wanted).max() <= levels


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF", "BMP"])
def test_pixels_of_lossless_files_come_back(tmp_path: Path, form: str) -> None:
    pixels = smooth(40, 30)
    options = {"lossless": True} if form == "WEBP" else {}
    path = tmp_path / "photo"
    path.write_bytes(encoded(pixels, form, **options))
    for source in (path, str(path), path.read_bytes(), Image.fromarray(pixels), pixels):
        np.testing.assert_array_equal(load_image(source), pixels)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello, I am a text",
        b"PK\x03\x04" + bytes(100),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",  # Pillow would start a program
        encoded(smooth(64, 48), "JPEG")[:700],
        encoded(smooth(64, 48), "PNG")[:700],
        encoded(smooth(64, 48), "PNG")[:20],
        encoded(smooth(64, 48), "GIF"),
        b"\x89PNG\r\n\x1a\n" + bytes(50),
    ],
    ids=["empty", "text", "zip", "eps", "cut jpeg", "cut png", "png head", "gif", "png of zeros"],
)
def test_what_is_no_image_is_an_error_that_names_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    for source in (path, str(path)):
        with pytest.raises(ImageError, match=r"bad\.jpg: "):
            load_image(source)
    with pytest.raises(ImageError, match=f"image of {len(content)} bytes: "):
        load_image(content)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_image(tmp_path / "absent.jpg")
    with pytest.raises(IsADirectoryError):
        load_image(tmp_path)


@pytest.mark.filterwarnings("ignore")  # Pillow warns; geofix has its own limit and raises
@pytest.mark.parametrize("size", [(9_000, 10_000), (20_000, 20_000), (2**31 - 1, 1)])
@pytest.mark.parametrize("pillow_limit", [Image.MAX_IMAGE_PIXELS, None])
def test_a_decompression_bomb_is_an_error(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], pillow_limit: int | None
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillow_limit)
    assert size[0] * size[1] > MAX_PIXELS
    with pytest.raises(ImageError, match=r"claims|Bomb"):
        load_image(png_of_size(*size))


def test_gray_becomes_three_equal_channels() -> None:
    gray = smooth(40, 30)[..., 0]
    wanted = gray[..., None].repeat(3, axis=2)
    np.testing.assert_array_equal(load_image(encoded(Image.fromarray(gray))), wanted)


def test_16_bit_gray_is_scaled_and_not_clipped() -> None:
    gray = np.linspace(0, 65535, 40 * 30).reshape(30, 40).astype(np.uint16)
    got = load_image(encoded(Image.fromarray(gray)))
    np.testing.assert_array_equal(got, (gray >> 8).astype(np.uint8)[..., None].repeat(3, axis=2))


def test_one_bit_becomes_black_and_white() -> None:
    bits = np.random.default_rng(0).integers(0, 2, (30, 40)).astype(bool)
    got = load_image(encoded(Image.fromarray(bits)))
    np.testing.assert_array_equal(got, (bits * np.uint8(255))[..., None].repeat(3, axis=2))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_dropped(mode: str) -> None:
    opaque = Image.fromarray(smooth(40, 30)).convert(mode[:-1])
    image = opaque.convert(mode)
    image.putalpha(Image.fromarray(smooth(40, 30, seed=1)).convert("L"))
    np.testing.assert_array_equal(load_image(encoded(image)), np.asarray(opaque.convert("RGB")))


@pytest.mark.parametrize("transparency", [None, 0, b"\0\x80\xff"], ids=repr)
def test_a_palette_is_looked_up(transparency: int | bytes | None) -> None:
    image = Image.fromarray(quadrants(40, 30)).quantize(4)
    options: dict[str, Any] = {} if transparency is None else {"transparency": transparency}
    assert_close(load_image(encoded(image, **options)), quadrants(40, 30), levels=2)


def test_cmyk_becomes_rgb() -> None:
    image = Image.fromarray(quadrants(64, 48)).convert("CMYK")
    got = load_image(encoded(image, "JPEG"))
    inside = np.s_[4:20, 4:28]  # JPEG blurs the edges
    assert_close(got[inside], quadrants(64, 48)[inside], levels=8)


def test_floating_point_is_an_error() -> None:
    image = Image.fromarray(np.zeros((3, 4), np.float32))
    with pytest.raises(ImageError, match="floating-point"):
        load_image(encoded(image, "TIFF"))


@pytest.mark.parametrize("orientation", STORED)
def test_pixels_are_upright(orientation: int) -> None:
    upright = quadrants(64, 32)
    data = jpeg(STORED[orientation](upright), {ORIENTATION: orientation})
    assert_close(load_image(data), upright, levels=6)


@pytest.mark.parametrize("orientation", STORED)
def test_a_large_jpeg_is_decoded_small_and_upright(orientation: int) -> None:
    upright = quadrants(1024, 512)
    data = jpeg(STORED[orientation](upright), {ORIENTATION: orientation})
    small = load_photo(data, target=InputSpec(width=64, height=32)).pixels
    assert_close(small, quadrants(128, 64), levels=6)


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_unknown_orientation_is_ignored(orientation: int) -> None:
    upright = quadrants(64, 32)
    assert_close(load_image(jpeg(upright, {ORIENTATION: orientation})), upright, levels=6)


@pytest.mark.parametrize("resize", ["stretch", "crop"])
@pytest.mark.parametrize("size", [(1600, 1200), (1200, 1600), (1601, 777)])
def test_a_draft_differs_by_few_grey_levels(size: tuple[int, int], resize: str) -> None:
    spec = InputSpec(width=64, height=48, resize=resize)
    data = encoded(smooth(*size), "JPEG")
    draft = load_photo(data, target=spec).pixels
    assert 2 * spec.height <= draft.shape[0] < size[1]
    assert 2 * spec.width <= draft.shape[1] < size[0]
    full = fit_image(load_image(data), spec)
    assert_close(prepare_image(data, spec), full, levels=4)


def test_a_draft_leaves_enough_for_a_narrower_field_of_view() -> None:
    spec = InputSpec(width=64, height=48, hfov_deg=30)
    data = encoded(smooth(1600, 1200), "JPEG")
    full = fit_image(load_image(data), spec, hfov_deg=120)
    assert_close(prepare_image(data, spec, hfov_deg=120), full, levels=3)


def test_a_callers_image_is_left_as_it_is() -> None:
    data = encoded(smooth(1600, 1200), "JPEG")
    with Image.open(io.BytesIO(data)) as image:
        prepare_image(image, SPEC)
        assert image.size == (1600, 1200)


@pytest.mark.parametrize(
    ("offset", "zone"),
    [
        (None, None),
        ("+02:00", timezone(timedelta(hours=2))),
        ("-03:30", timezone(-timedelta(hours=3, minutes=30))),
        ("   :  ", None),  # "unknown", says the EXIF standard
        ("", None),
        ("nonsense", None),
    ],
)
def test_the_capture_time_has_a_zone_only_if_exif_has_one(
    offset: str | None, zone: timezone | None
) -> None:
    details: dict[int, Any] = {TAKEN_AT: "2024:05:17 18:30:05"}
    if offset is not None:
        details[TAKEN_AT_OFFSET] = offset
    taken_at = load_photo(jpeg(quadrants(64, 32), {}, details)).captured_at
    assert taken_at == datetime(2024, 5, 17, 18, 30, 5, tzinfo=zone)


@pytest.mark.parametrize("text", ["    :  :     :  :  ", "yesterday", "2024:13:01 00:00:00", ""])
def test_a_capture_time_that_is_none_is_ignored(text: str) -> None:
    photo = load_photo(jpeg(quadrants(64, 32), {}, {TAKEN_AT: text}))
    assert photo.captured_at is None


@pytest.mark.filterwarnings("ignore")  # Pillow warns of corrupt EXIF
@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0garbage of some length",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(9),
        b"Exif\0\0MM\0*\0\0\0\x08\0\1\x87\x69\0\4\0\0\0\1\xff\xff\xff\xff\0\0\0\0",
    ],
)
def test_broken_exif_is_ignored(exif: bytes) -> None:
    photo = load_photo(encoded(quadrants(64, 32), "JPEG", exif=exif))
    assert photo.captured_at is None
    assert_close(photo.pixels, quadrants(64, 32), levels=6)


SIDES = st.integers(1, 70)


@given(SIDES, SIDES, SIDES, SIDES, st.integers(0, 255), st.sampled_from(["stretch", "crop"]))
def test_a_constant_image_stays_constant(
    full_width: int, full_height: int, width: int, height: int, level: int, resize: str
) -> None:
    image = np.full((full_height, full_width, 3), level, np.uint8)
    got = resize_image(image, width=width, height=height, resize=resize)
    np.testing.assert_array_equal(got, np.full((height, width, 3), level))


@pytest.mark.parametrize("full_width", [40, 64, 100, 333, 1000])
def test_a_ramp_stays_a_ramp(full_width: int) -> None:
    centres = (np.arange(full_width) + 0.5) / full_width
    ramp = np.round(255 * centres).astype(np.uint8)
    image = np.broadcast_to(ramp[None, :, None], (30, full_width, 3))
    got = resize_image(image, width=32, height=24)
    wanted = 255 * (np.arange(32) + 0.5) / 32
    inner = np.s_[:, 1:-1]  # at the edges there is nothing to mix with
    assert np.abs(got - wanted[None, :, None])[inner].max() <= 1.5


@pytest.mark.parametrize(("across", "down"), [(2, 2), (3, 1), (1, 5), (7, 4)])
def test_whole_factors_average_over_areas(across: int, down: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (24 * down, 32 * across, 3), dtype=np.uint8)
    wanted = image.reshape(24, down, 32, across, 3).mean(axis=(1, 3))
    assert np.abs(resize_image(image, width=32, height=24) - wanted).max() <= 1


def test_stretching_changes_the_aspect_ratio_and_cropping_cuts() -> None:
    image = np.zeros((40, 120, 3), np.uint8)
    image[:, 40:80] = 255  # the middle third, square
    stretched = resize_image(image, width=12, height=12, resize="stretch")
    assert (stretched[:, 5:7] == 255).all()
    assert (stretched[:, [0, 11]] == 0).all()
    cropped = resize_image(image, width=12, height=12, resize="crop")
    assert (cropped == 255).all()
    tall = resize_image(image.swapaxes(0, 1), width=12, height=12, resize="crop")
    assert (tall == 255).all()


def test_an_unknown_resize_rule_is_an_error() -> None:
    with pytest.raises(ValueError, match="want 'stretch' or 'crop'"):
        resize_image(smooth(4, 3), width=2, height=2, resize="fill")


def test_a_wider_photo_is_cut_to_the_encoders_field_of_view() -> None:
    image = smooth(400, 300)
    # tan(45 degrees) / tan(22.5 degrees) = 1 + sqrt(2)
    cut = crop_to_hfov(image, hfov_deg=90, wanted_hfov_deg=45)
    np.testing.assert_array_equal(cut, image[88:212, 117:283])
    spec = InputSpec(width=32, height=24, hfov_deg=45)
    np.testing.assert_array_equal(fit_image(image, spec, hfov_deg=90), fit_image(cut, SPEC))


def test_a_photo_of_unknown_or_narrower_view_is_not_cut() -> None:
    image = smooth(400, 300)
    assert crop_to_hfov(image, hfov_deg=45, wanted_hfov_deg=45) is image
    assert crop_to_hfov(image, hfov_deg=30, wanted_hfov_deg=45) is image
    whole = fit_image(image, SPEC)
    spec = InputSpec(width=32, height=24, hfov_deg=45)
    np.testing.assert_array_equal(fit_image(image, spec), whole)
    np.testing.assert_array_equal(fit_image(image, SPEC, hfov_deg=90), whole)


@pytest.mark.parametrize("hfov_deg", [0, -1, 180, float("nan")])
def test_an_impossible_field_of_view_is_an_error(hfov_deg: float) -> None:
    with pytest.raises(ValueError, match="hfov_deg is"):
        fit_image(smooth(4, 3), SPEC, hfov_deg=hfov_deg)
