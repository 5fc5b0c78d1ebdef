"""The ways that are timed do the same."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.images import jpeg, jpeg_ways, medians_ms, resize_ways
from geofix.input_spec import InputSpec


def picture() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    coarse = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "mono8"])
def test_all_ways_to_resize_give_the_same_picture_or_nearly(encoding: str) -> None:
    ways = resize_ways(picture(), encoding, 32, 24)
    got = {name: np.asarray(way()).astype(int) for name, way in ways.items()}
    np.testing.assert_array_equal(got["kernel"], got["NumPy"])
    for name in ("Pillow, reduce", "Pillow, resize"):
        assert got[name].shape == (24, 32, 3)
        assert np.abs(got[name] - got["kernel"]).max() <= 12
    assert np.abs(got["Pillow, reduce"] - got["kernel"]).max() <= 1


def test_each_stage_of_a_jpeg_is_timed() -> None:
    ways = jpeg_ways(jpeg(picture()), InputSpec(32, 24))
    times = medians_ms(ways, 2)
    assert list(times) == ["decode whole", "decode reduced", "resize whole", "resize reduced"]
    assert all(ms > 0 for ms in times.values())
