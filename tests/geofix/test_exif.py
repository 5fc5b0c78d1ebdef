import io
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.ExifTags import IFD, Base
from PIL.TiffImagePlugin import IFDRational

from geofix.exif import PhotoFacts, read_exif
from geofix.images import fit_image, load_image, load_photo, prepare_image
from geofix.input_spec import InputSpec

Pixels = npt.NDArray[np.uint8]

SPEC = InputSpec(width=32, height=24, hfov_deg=50)
F35 = Base.FocalLengthIn35mmFilm
# A sensor of 6 x 4 mm with 100 pixels a millimetre, as EXIF counts: in centimetres.
SENSOR: dict[int, Any] = {
    Base.FocalPlaneXResolution: IFDRational(1000),
    Base.FocalPlaneYResolution: IFDRational(1000),
    Base.FocalPlaneResolutionUnit: 3,
    Base.ExifImageWidth: 600,
    Base.ExifImageHeight: 400,
}


def jpeg(
    details: dict[int, Any], *, size: tuple[int, int] = (600, 400), orientation: int = 1
) -> bytes:
    """Return a JPEG with EXIF."""
    pixels = np.random.default_rng(0).integers(60, 196, (6, 9, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[Base.Orientation] = orientation
    exif.get_ifd(IFD.Exif).update(details)
    out = io.BytesIO()
    image.save(out, "JPEG", exif=exif)
    return out.getvalue()


def facts(details: dict[int, Any], **options: Any) -> PhotoFacts:
    with Image.open(io.BytesIO(jpeg(details, **options))) as image:
        return read_exif(image)


def hfov(details: dict[int, Any], **options: Any) -> float | None:
    return facts(details, **options).hfov_deg


def half_tan(angle_deg: float | None) -> float:
    assert angle_deg is not None
    return math.tan(math.radians(angle_deg) / 2)


def test_a_photo_without_a_focal_length_has_no_field_of_view() -> None:
    assert facts({}) == PhotoFacts()


def test_18_mm_on_film_see_90_degrees_across_and_less_upright() -> None:
    assert hfov({F35: 18}) == pytest.approx(90)
    upright = 2 * math.degrees(math.atan(12 / 18))
    assert hfov({F35: 18}, size=(400, 600)) == pytest.approx(upright)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_field_of_view_is_that_of_the_upright_photo(orientation: int) -> None:
    half_width = 12 if orientation >= 5 else 18
    wanted = pytest.approx(2 * math.degrees(math.atan(half_width / 28)))
    assert hfov({F35: 28}, orientation=orientation) == wanted
    half_width_mm = 2 if orientation >= 5 else 3
    wanted = pytest.approx(2 * math.degrees(math.atan(half_width_mm / 4)))
    by_sensor = {**SENSOR, Base.FocalLength: IFDRational(4)}
    assert hfov(by_sensor, orientation=orientation) == wanted


def test_equivalent_means_the_same_diagonal() -> None:
    """A phone's 4:3 sensor with 26 mm sees less across than film with 26 mm would."""
    got = hfov({F35: 26}, size=(400, 300))
    assert half_tan(got) == pytest.approx(math.hypot(36, 24) / 2 * 0.8 / 26)
    assert got is not None
    assert got < 2 * math.degrees(math.atan(18 / 26))


@pytest.mark.parametrize(
    ("unit", "pixels_a_unit"), [(2, 2540), (3, 1000), (None, 2540), (4, 100), (5, 0.1)]
)
def test_the_focal_length_and_the_sensor_tell_it(unit: int | None, pixels_a_unit: float) -> None:
    details = {
        **SENSOR,
        Base.FocalLength: IFDRational(3),
        Base.FocalPlaneXResolution: IFDRational(pixels_a_unit),
        Base.FocalPlaneYResolution: IFDRational(pixels_a_unit),
        Base.FocalPlaneResolutionUnit: unit,
    }
    if unit is None:  # then it is inches
        del details[Base.FocalPlaneResolutionUnit]
    assert hfov(details) == pytest.approx(90)


def test_a_photo_that_was_made_smaller_sees_what_it_saw() -> None:
    assert hfov({**SENSOR, Base.FocalLength: 3}, size=(300, 200)) == pytest.approx(90)


def test_a_photo_that_was_cut_afterwards_is_unknown() -> None:
    assert hfov({**SENSOR, Base.FocalLength: 3}, size=(400, 400)) is None


def test_digital_zoom_narrows_the_view() -> None:
    details = {**SENSOR, Base.FocalLength: 3, Base.DigitalZoomRatio: IFDRational(2)}
    assert half_tan(hfov(details)) == pytest.approx(0.5)
    details[Base.DigitalZoomRatio] = IFDRational(0)  # not used, says the standard
    assert hfov(details) == pytest.approx(90)


def test_the_equivalent_on_film_comes_first() -> None:
    assert hfov({**SENSOR, Base.FocalLength: 9, F35: 18}) == pytest.approx(90)
    assert hfov({**SENSOR, Base.FocalLength: 3, F35: 0}) == pytest.approx(90)  # 0: unknown


@pytest.mark.parametrize(
    "details",
    [
        {F35: 0},
        {F35: 2},  # wider than a plane picture is
        {F35: 60_000},
        {Base.FocalLength: 4},
        {**SENSOR, Base.FocalLength: IFDRational(0, 0)},
        {**SENSOR, Base.FocalLength: 4, Base.FocalPlaneResolutionUnit: 1},  # no unit
        {**SENSOR, Base.FocalLength: 4, Base.FocalPlaneXResolution: IFDRational(0)},
        {**SENSOR, Base.FocalLength: 4, Base.FocalPlaneXResolution: IFDRational(1, 0)},
    ],
    ids=repr,
)
def test_a_focal_length_that_says_nothing_is_unknown(details: dict[int, Any]) -> None:
    assert hfov(details) is None


VALUES = st.one_of(
    st.none(), st.integers(-5, 2**32), st.floats(), st.text(max_size=5), st.binary(max_size=5),
    st.tuples(st.integers(), st.integers()),
)  # fmt: skip
TAGS = st.sampled_from([*SENSOR, F35, Base.FocalLength, Base.DigitalZoomRatio, Base.Orientation])


@given(st.dictionaries(TAGS, VALUES), st.dictionaries(TAGS, VALUES))
def test_no_value_of_a_tag_is_an_error(first: dict[int, Any], details: dict[int, Any]) -> None:
    image = Image.new("RGB", (600, 400))
    exif = image.getexif()
    exif.update(first)
    exif.get_ifd(IFD.Exif).update({**SENSOR, **details})
    found = read_exif(image).hfov_deg
    assert found is None or 1 <= found <= 150


def test_a_wide_photo_is_cut_to_the_encoders_view_by_its_exif() -> None:
    data = jpeg({F35: 18})
    wanted = fit_image(load_photo(data, target=SPEC, hfov_deg=90).pixels, SPEC, hfov_deg=90)
    np.testing.assert_array_equal(prepare_image(data, SPEC), wanted)
    whole = fit_image(load_image(data), InputSpec(width=32, height=24))
    assert (prepare_image(data, SPEC) != whole).any()


def test_what_the_caller_says_of_the_view_comes_before_exif() -> None:
    data = jpeg({F35: 18})
    photo = load_photo(data, target=SPEC, hfov_deg=60)
    assert photo.hfov_deg == 60
    wanted = fit_image(photo.pixels, SPEC, hfov_deg=60)
    np.testing.assert_array_equal(prepare_image(data, SPEC, hfov_deg=60), wanted)


def test_an_encoder_of_unknown_view_sees_the_whole_photo() -> None:
    spec = InputSpec(width=32, height=24)
    data = jpeg({F35: 18})
    np.testing.assert_array_equal(prepare_image(data, spec), prepare_image(jpeg({}), spec))


def test_a_draft_leaves_enough_for_what_exif_says() -> None:
    data = jpeg({F35: 18}, size=(2400, 1600))
    narrow = InputSpec(width=32, height=24, hfov_deg=10)
    seen = load_photo(data, target=narrow).pixels.shape[1] * math.tan(math.radians(5))
    assert seen >= 2 * narrow.width
    assert load_photo(data, target=SPEC).pixels.shape[1] == 300
