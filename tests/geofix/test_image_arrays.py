"""Frames that come as arrays, of each encoding."""

import io
import tracemalloc
from typing import Any

import numpy as np
import pytest

from geofix.errors import ImageError
from geofix.images import load_image, prepare_image, resize_image
from geofix.input_spec import InputSpec
from geofix.resample import resampler
from tests.geofix.pictures import smooth

SPEC = InputSpec(width=32, height=24)


def test_arrays_of_each_encoding_become_rgb() -> None:
    rgb = smooth(40, 30)
    np.testing.assert_array_equal(load_image(rgb, encoding="rgb8"), rgb)
    np.testing.assert_array_equal(load_image(rgb[..., ::-1], encoding="bgr8"), rgb)
    gray = rgb[..., 0]
    wanted = np.stack([gray] * 3, axis=-1)
    np.testing.assert_array_equal(load_image(gray, encoding="mono8"), wanted)
    np.testing.assert_array_equal(load_image(gray[..., None], encoding="mono8"), wanted)


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "mono8"])
@pytest.mark.parametrize("resize", ["stretch", "crop"])
def test_no_frame_is_copied_nor_a_part_of_one(encoding: str, resize: str) -> None:
    if resampler() == "numpy":
        pytest.skip("NumPy needs room for sums")
    frame = smooth(800, 600)[..., 0] if encoding == "mono8" else smooth(800, 600)
    spec = InputSpec(width=16, height=16, resize=resize, hfov_deg=60)
    for part in (frame, frame[10:, 20:], frame[::-1]):
        tracemalloc.start()
        prepare_image(part, spec, encoding=encoding, hfov_deg=70)
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak_bytes < frame.nbytes / 10


def test_a_gray_array_is_told_its_encoding() -> None:
    with pytest.raises(ValueError, match="gray is encoding='mono8'"):
        load_image(np.zeros((8, 8), np.uint8))


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "mono8"])
def test_what_is_seen_of_an_array_does_not_depend_on_how_it_is_encoded(encoding: str) -> None:
    gray = smooth(90, 70)[..., :1]
    image = {"rgb8": gray.repeat(3, axis=2), "bgr8": gray.repeat(3, axis=2), "mono8": gray}
    wanted = resize_image(image["rgb8"], width=32, height=24)
    got = prepare_image(image[encoding], SPEC, encoding=encoding)
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(("full_width", "cut"), [(101, 31), (100, 30), (99, 30), (41, 1), (40, 0)])
def test_a_crop_takes_as_much_from_either_side(full_width: int, cut: int) -> None:
    image = smooth(full_width, 40)
    wanted = resize_image(image[:, cut : full_width - cut], width=7, height=7)
    got = resize_image(image, width=7, height=7, resize="crop")
    np.testing.assert_array_equal(got, wanted)
    upright = resize_image(image.swapaxes(0, 1), width=7, height=7, resize="crop")
    np.testing.assert_array_equal(
        upright, resize_image(image.swapaxes(0, 1)[cut : full_width - cut], width=7, height=7)
    )


@pytest.mark.parametrize("dtype", [np.float32, np.uint16, np.int8, bool])
def test_an_array_of_another_dtype_is_an_error(dtype: Any) -> None:
    with pytest.raises(TypeError, match="want uint8"):
        load_image(np.zeros((3, 4, 3), dtype))


@pytest.mark.parametrize(
    ("shape", "encoding"),
    [
        *(((3, 4), "rgb8"), ((3, 4, 4), "rgb8"), ((2, 3, 4, 3), "rgb8"), ((3, 4, 1), "bgr8")),
        *(((3, 4, 3), "mono8"), ((3,), "mono8"), ((), "rgb8")),
    ],
)
def test_an_array_of_another_shape_is_an_error(shape: tuple[int, ...], encoding: str) -> None:
    with pytest.raises(ValueError, match="image has shape"):
        load_image(np.zeros(shape, np.uint8), encoding=encoding)


@pytest.mark.parametrize("shape", [(0, 4, 3), (4, 0, 3)])
def test_an_empty_array_is_an_image_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match="empty"):
        load_image(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("encoding", ["rgb", "RGB8", "bgra8", ""])
def test_an_unknown_encoding_is_an_error(encoding: str) -> None:
    with pytest.raises(ValueError, match="want one of rgb8, bgr8, mono8"):
        load_image(smooth(4, 3), encoding=encoding)


@pytest.mark.parametrize("source", [None, 7, [[1, 2], [3, 4]], io.BytesIO()])
def test_a_source_of_another_type_is_an_error(source: Any) -> None:
    with pytest.raises(TypeError, match="want a path"):
        load_image(source)
