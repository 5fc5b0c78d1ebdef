"""What each look takes from a photo, and what it leaves."""

import numpy as np
import numpy.typing as npt
import pytest

from geofix_train.degrade import LOOKS, degrade

RED, GREEN = (200, 0, 0), (0, 200, 0)


def photos(height: int = 24, width: int = 32) -> npt.NDArray[np.uint8]:
    """Return a smooth photo and one of noise."""
    ramp = np.linspace(0, 255, width).astype(np.uint8)
    smooth = np.broadcast_to(ramp[None, :, None], (height, width, 3))
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.stack([smooth, noise])


def difference(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> float:
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("size", [(24, 32), (23, 31), (1, 1)])
def test_a_photo_keeps_its_shape(look: str, size: tuple[int, int]) -> None:
    given = photos(*size)
    before = given.copy()
    changed = degrade(given, look)
    assert changed.shape == given.shape
    assert changed.dtype == np.uint8
    np.testing.assert_array_equal(given, before)


def test_gray_has_no_colour_and_green_is_lighter_than_red() -> None:
    coloured = np.array([[[RED, GREEN]]], np.uint8)
    gray = degrade(coloured, "gray")
    assert (gray == gray[..., :1]).all()
    assert gray[0, 0, :, 0].tolist() == [60, 117]  # 0.299 and 0.587 of 200


@pytest.mark.parametrize("look", ["lowres", "jpeg"])
def test_fine_detail_suffers_and_smooth_areas_do_not(look: str) -> None:
    smooth, noise = photos()
    changed_smooth, changed_noise = degrade(photos(), look)
    assert difference(smooth, changed_smooth) < 8
    assert difference(noise, changed_noise) > 25


def test_low_resolution_averages_pixels_of_two_by_two() -> None:
    checks = np.indices((8, 8)).sum(axis=0) % 2 * 200
    board = np.repeat(checks[None, :, :, None], 3, axis=3).astype(np.uint8)
    assert (degrade(board, "lowres") == 100).all()


def test_a_blurred_dot_has_the_stated_width() -> None:
    dot = np.zeros((1, 81, 160, 3), np.uint8)
    dot[0, 35:46, 75:86] = 255
    blurred = degrade(dot, "blur")[0, :, :, 0].astype(float)
    columns = np.arange(160) - 80
    variance = (blurred.sum(axis=0) * columns**2).sum() / blurred.sum()
    box = (11**2 - 1) / 12  # of the dot itself
    assert np.sqrt(variance - box) == pytest.approx(160 / 80, rel=0.1)


def test_an_unknown_look_is_an_error() -> None:
    with pytest.raises(ValueError, match="look is 'sepia', want one of gray, lowres, jpeg, blur"):
        degrade(photos(), "sepia")
