"""Pictures that show no place: noise, skies and walls, drawn at random."""

import numpy as np
import numpy.typing as npt

HEIGHT, WIDTH = 96, 128

Picture = npt.NDArray[np.uint8]


def noise(rng: np.random.Generator) -> Picture:
    """Return pixels of any colour."""
    return rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def sky(rng: np.random.Generator) -> Picture:
    """Return a gradient from blue to pale, with a camera's grain."""
    top = rng.uniform([60, 100, 150], [180, 200, 255])
    bottom = rng.uniform([150, 170, 190], [255, 255, 255])
    down = np.linspace(0, 1, HEIGHT)[:, None, None]
    grain = rng.normal(0, rng.uniform(0, 5), (HEIGHT, WIDTH, 1))
    return _picture((1 - down) * top + down * bottom + grain)


def wall(rng: np.random.Generator) -> Picture:
    """Return one colour with grain, half of the time with joints between bricks."""
    picture = rng.uniform(30, 230, 3) + rng.normal(0, rng.uniform(1, 12), (HEIGHT, WIDTH, 1))
    if rng.random() < 0.5:
        height, width = rng.integers(6, 16), rng.integers(12, 32)
        y, x = np.mgrid[:HEIGHT, :WIDTH]
        shifted = x + (y // height % 2) * width // 2
        picture[(y % height == 0) | (shifted % width == 0)] *= 0.7
    return _picture(picture * np.linspace(rng.uniform(0.6, 1), 1, WIDTH)[None, :, None])


def _picture(values: npt.NDArray[np.float64]) -> Picture:
    return values.clip(0, 255).astype(np.uint8)
