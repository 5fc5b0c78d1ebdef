import numpy as np
import numpy.typing as npt
import pytest

from geofix.image_statistics import (
    NUM_STATISTICS,
    StatisticsModel,
    fit_statistics,
    image_statistics,
)

HEIGHT, WIDTH = 48, 64


def streets(num: int, *, seed: int) -> list[npt.NDArray[np.uint8]]:
    """Return pictures of a bright upper half and a darker, rougher lower one."""
    rng = np.random.default_rng(seed)
    pictures = []
    for _ in range(num):
        picture = np.empty((HEIGHT, WIDTH, 3))
        picture[: HEIGHT // 2] = rng.normal((170, 190, 220), 12, 3)
        picture[HEIGHT // 2 :] = rng.normal((110, 100, 90), 12, 3)
        picture[: HEIGHT // 2] += rng.normal(0, rng.uniform(4, 8), (HEIGHT // 2, WIDTH, 1))
        picture[HEIGHT // 2 :] += rng.normal(0, rng.uniform(15, 25), (HEIGHT // 2, WIDTH, 1))
        pictures.append(picture.clip(0, 255).astype(np.uint8))
    return pictures


def statistics_of(pictures: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
    """Return their statistics, (N, 12)."""
    return np.array([image_statistics(picture) for picture in pictures])


def test_statistics_are_what_they_say() -> None:
    picture = np.zeros((48, 6, 3), np.uint8)
    picture[:24, ::2] = (96, 64, 32)  # stripes above, nothing below
    upper, lower = image_statistics(picture).reshape(6, 2).T
    wanted = [32 / 64, 16 / 32, -16 / 32, np.log(33), np.log(64.5), np.log(0.5)]
    assert upper == pytest.approx(wanted, abs=1e-5)
    assert lower == pytest.approx([0, 0, 0, 0, np.log(0.5), np.log(0.5)], abs=1e-5)


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (2, 9), (9, 1), (3, 2), (4, 3), (24, 32), (97, 31), (512, 512)]
)
def test_any_size_has_finite_statistics(height: int, width: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    values = image_statistics(picture)
    assert values.shape == (NUM_STATISTICS,)
    assert np.isfinite(values).all()


@pytest.mark.parametrize("num", [20, 200])
def test_other_photos_are_no_strangers_but_noise_sky_and_walls_are(num: int) -> None:
    model = fit_statistics(statistics_of(streets(num, seed=0)))
    others = model.strangeness(statistics_of(streets(200, seed=1)))
    assert (others > 0).mean() < 0.1
    rng = np.random.default_rng(2)
    noise = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    sky = np.full((HEIGHT, WIDTH, 3), (150, 180, 230), np.uint8)
    wall = np.full((HEIGHT, WIDTH, 3), (120, 110, 100), np.uint8)
    for picture in (noise, sky, wall):
        assert model.strangeness(image_statistics(picture)) > 10


def test_photos_that_are_all_alike_make_no_endless_distance() -> None:
    model = fit_statistics(np.zeros((30, NUM_STATISTICS)))
    assert np.isfinite(model.strangeness(np.ones(NUM_STATISTICS)))


def test_a_model_comes_back_from_json() -> None:
    model = fit_statistics(statistics_of(streets(30, seed=0)))
    assert StatisticsModel.from_json(model.to_json()) == model


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mean", [0.0]),
        ("mean", [float("nan")] * 12),
        ("mean", ["0"] * 12),
        ("whitening", [[0.0] * 12]),
        ("whitening", None),
        ("limit", 0),
        ("limit", True),
    ],
)
def test_json_that_is_no_model_is_an_error(field: str, value: object) -> None:
    content = fit_statistics(statistics_of(streets(30, seed=0))).to_json()
    with pytest.raises(ValueError, match=r"image.statistics"):
        StatisticsModel.from_json({**content, field: value})


@pytest.mark.parametrize("shape", [(1, 12), (5, 11), (12,)])
def test_a_fit_needs_two_photos(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="want"):
        fit_statistics(np.zeros(shape))
