"""Random changes of images: they stay images of the same place, and are not what they were."""

import numpy as np
import pytest
import torch
from torch import Tensor

import geofix_train.augment
from geofix_train.augment import crop, draw_aged, draw_colors, draw_crops, recolor
from tests.geofix_train.tiny_data import random_pixels


@pytest.fixture
def photos() -> Tensor:
    """Return some photos as they come to augmentation."""
    return torch.from_numpy(np.stack([random_pixels(24, 32, seed=s) for s in range(5)])).float()


def test_a_crop_keeps_shape_and_range_but_not_the_photo(photos: Tensor) -> None:
    cut = crop(photos, draw_crops(len(photos), np.random.default_rng(0), zoom=0.6))
    assert cut.shape == photos.shape
    assert cut.min() >= photos.min() - 1e-3
    assert cut.max() <= photos.max() + 1e-3
    assert (cut - photos).abs().mean() > 1


def test_a_crop_of_everything_is_the_photo(photos: Tensor) -> None:
    cut = crop(photos, draw_crops(len(photos), np.random.default_rng(0), zoom=1.0))
    torch.testing.assert_close(cut, photos, rtol=0, atol=0.02)  # of 255


def test_a_crop_shows_a_part_as_large_as_the_photo() -> None:
    ramp = torch.linspace(0, 255, 100).expand(30, 3, 80, 100).permute(0, 2, 3, 1)
    cut = crop(ramp, draw_crops(len(ramp), np.random.default_rng(0), zoom=0.5))
    shown = (cut[:, 40, -1, 0] - cut[:, 40, 0, 0]) / 255
    assert (shown > 0.48).all()
    assert (shown < 1.01).all()
    assert shown.std() > 0.05


def test_recolored_images_keep_shape_and_range_and_the_original(photos: Tensor) -> None:
    before = photos.clone()
    changed = recolor(photos, draw_colors(len(photos), np.random.default_rng(0)))
    assert changed.shape == photos.shape
    assert 0 <= changed.min() < changed.max() <= 255
    assert torch.equal(photos, before)
    assert ((changed - photos).abs().mean(dim=(1, 2, 3)) > 0.5).all()


def test_some_recolored_images_lose_their_colour() -> None:
    photo = torch.zeros(400, 8, 8, 3)
    photo[:, :4, :, 0] = 200.0  # half of it red
    colors = draw_colors(len(photo), np.random.default_rng(1), gray_share=0.05)
    changed = recolor(photo, colors)
    is_gray = changed[..., 1].std(dim=(1, 2)) > 5.0  # only then is there something in its green
    assert 5 <= int(is_gray.sum()) <= 50


def test_images_vary_as_much_as_they_are_to() -> None:
    rng = np.random.default_rng(3)
    photo = torch.full((500, 2, 2, 3), 100.0)
    none, one, two = (
        recolor(photo, draw_colors(len(photo), rng, strength=strength)) for strength in (0, 1, 2)
    )
    assert torch.equal(none, photo)
    assert one.max() <= 100 * 1.18 * 1.04 + 10
    assert one.min() >= 100 / 1.18 * 0.96 - 10
    assert 1.8 < float(two.std() / one.std()) < 2.2
    tint = one / one.mean(dim=3, keepdim=True)
    assert 0.02 < float(tint.max() - 1) < 0.06


def test_some_photos_come_to_look_old(photos: Tensor) -> None:
    rng = np.random.default_rng(2)
    many = photos.repeat(80, 1, 1, 1)
    colors = draw_colors(len(many), rng, gray_share=0.05)
    rows, aged = draw_aged(many.to(torch.uint8).numpy(), colors, rng, share=0.1)
    assert 20 <= len(rows) <= 60  # a tenth of 400
    assert aged.dtype == torch.uint8
    gap = (aged.float() - recolor(many, colors)[rows]).abs().mean(dim=(1, 2, 3))
    assert (gap > 0).all()
    assert 0.5 < float(gap.mean()) < 40  # and still the same picture


def test_no_photo_looks_old_where_none_is_to(photos: Tensor) -> None:
    rng = np.random.default_rng(0)
    colors = draw_colors(len(photos), rng)
    rows, aged = draw_aged(photos.to(torch.uint8).numpy(), colors, rng, share=0.0)
    assert len(rows) == 0
    assert aged.shape == (0, *photos.shape[1:])


def test_photos_that_look_old_come_in_the_colours_that_they_would_have(
    photos: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for change in ("compress", "lower_resolution"):  # as sharp as they were
        monkeypatch.setattr(geofix_train.augment, change, lambda photo, **options: photo)
    rng = np.random.default_rng(1)
    many = photos.repeat(20, 1, 1, 1)
    colors = draw_colors(len(many), rng, gray_share=0.1)
    assert len(colors.gray_rows) > 0
    rows, aged = draw_aged(many.to(torch.uint8).numpy(), colors, rng, share=1.0)
    assert rows.tolist() == list(range(len(many)))
    torch.testing.assert_close(aged.float(), recolor(many, colors).round(), rtol=0, atol=0)
