"""Orthophotos of the town: the painted grid seen from straight above, with shadows and crowns."""

import numpy as np
import numpy.typing as npt

from geofix_train.town.light import Light, Season, grain, ground_colours, noise
from geofix_train.town.plan import WATER, Floats
from geofix_train.town.raster import FIRST_BUILDING, HEIGHT_STEP_M, World

_SHADOW_REACH_M = 45.0
_OVERSAMPLING = 2  # each pixel is the mean of 2 x 2 samples

Image = npt.NDArray[np.float32]


def render_ortho(
    world: World,
    *,
    west: float,
    north: float,
    num_pixels: int,
    pixel_m: float,
    season: Season,
    light: Light,
    seed: int,
) -> npt.NDArray[np.uint8]:
    """Return a square orthophoto, (num_pixels, num_pixels, 3) uint8 RGB, north up.

    Args:
        world: must be painted around the square.
        west: x of the square's west edge.
        north: y of its north edge.
        num_pixels: rows and columns.
        pixel_m: size of a pixel on the ground.
        season: colours of plants, snow.
        light: direction of the shadows.
        seed: of the sensor noise.
    """
    step = pixel_m / _OVERSAMPLING
    margin = int(_SHADOW_REACH_M / step)  # what stands outside throws shadows inside
    ticks = (np.arange(-margin, num_pixels * _OVERSAMPLING + margin) + 0.5) * step
    x, y = np.meshgrid(west + ticks, north - ticks)
    u, v = world.warp.uv(x, y)
    at = world.index(u, v)
    height = world.height.ravel()[at] * np.float32(HEIGHT_STEP_M)
    inside = (slice(margin, -margin),) * 2
    image = _albedo(world, world.surface.ravel()[at[inside]], u[inside], v[inside], season, light)
    crowns, height = _crowns(world, height, x, y, step, season)
    image += (crowns[inside] - image) * (crowns[inside][..., :1] > 0)
    shade = _shadow(height, step, light)[inside]
    image *= (light.ambient + light.sun * 0.8 * (1 - shade))[..., None]
    rows = num_pixels
    image = image.reshape(rows, _OVERSAMPLING, rows, _OVERSAMPLING, 3).mean(axis=(1, 3))
    image = image * np.asarray(light.tone, np.float32)
    image += np.float32(0.015) * grain(rows, rows, seed=seed)
    return np.asarray(np.clip(image, 0.0, 1.0) * np.float32(255.0) + np.float32(0.5), np.uint8)


def _albedo(
    world: World,
    surface: npt.NDArray[np.int32],
    u: Floats,
    v: Floats,
    season: Season,
    light: Light,
) -> Image:
    is_roof = surface >= FIRST_BUILDING
    image = ground_colours(season)[np.where(is_roof, 0, surface)]
    image *= (1 + 0.06 * noise(u, v, scale_m=0.35, seed=world.seed))[..., None]
    image *= (1 + 0.05 * noise(u, v, scale_m=4.0, seed=world.seed + 1))[..., None]
    image[surface == WATER] *= np.float32(0.8)
    number = surface[is_roof] - FIRST_BUILDING
    roof = world.buildings.roof[number] * (1 - season.snow) + np.float32(0.9 * season.snow)
    image[is_roof] = roof * _slope_light(world, number, u[is_roof], v[is_roof], light)[:, None]
    return image


def _slope_light(
    world: World, number: npt.NDArray[np.integer], u: Floats, v: Floats, light: Light
) -> npt.NDArray[np.float32]:
    """Return the brightness of roofs: the half that faces the sun is lighter."""
    table = world.buildings
    rect = table.rect[number]
    along_u = table.ridge_along_u[number]
    half = np.where(
        along_u,
        np.sign(v - (rect[:, 1] + rect[:, 3]) / 2),
        np.sign(u - (rect[:, 0] + rect[:, 2]) / 2),
    )
    sun_u = world.warp.cos * light.sun_xy[0] + world.warp.sin * light.sun_xy[1]
    sun_v = world.warp.cos * light.sun_xy[1] - world.warp.sin * light.sun_xy[0]
    facing = half * np.where(along_u, sun_v, sun_u) * table.pitched[number]
    return np.asarray(1 + 0.5 * light.sun * facing, np.float32)


def _crowns(
    world: World, height: Image, x: Floats, y: Floats, step: float, season: Season
) -> tuple[Image, Image]:
    """Draw the trees; return their colours (0 where none stands) and the heights with them."""
    crowns = np.zeros((*x.shape, 3), np.float32)
    height = height.copy()
    west, north = x[0, 0], y[0, 0]
    reach = len(x) * step
    trees = world.trees
    near = (trees[:, 0] > west - 5) & (trees[:, 0] < west + reach + 5)
    near &= (trees[:, 1] < north + 5) & (trees[:, 1] > north - reach - 5)
    leaves = np.asarray(season.leaves, np.float32)
    for tree_x, tree_y, radius, top, tint in trees[near]:
        columns = _span((tree_x - west) / step, radius / step, len(x))
        rows = _span((north - tree_y) / step, radius / step, len(x))
        a, b = x[rows, columns] - tree_x, y[rows, columns] - tree_y
        leaf = noise(a, b, scale_m=0.6, seed=int(abs(tree_x) * 10) % 997)
        covered = a * a + b * b < radius * radius * (0.85 + 0.2 * leaf)
        covered &= leaf < 2 * season.foliage - 1
        shade = 1.05 + 0.15 * leaf + 0.08 * tint
        crowns[rows, columns][covered] = (leaves * shade[..., None].astype(np.float32))[covered]
        height[rows, columns][covered] = top
    return crowns, height


def _span(middle: float, half: float, length: int) -> slice:
    """Return the indices within `half` of `middle`, cut to 0 and `length`."""
    return slice(max(0, int(middle - half)), max(0, min(length, int(middle + half) + 2)))


def _shadow(height: Image, step: float, light: Light) -> Image:
    """Return 1 where something between here and the sun stands in its way, else 0."""
    shadow = np.zeros(height.shape, bool)
    size = len(height)
    for distance in np.arange(1.0, _SHADOW_REACH_M / step, 1.5):
        shift_x = int(np.floor(light.sun_xy[0] * distance + 0.5))
        shift_y = int(np.floor(-light.sun_xy[1] * distance + 0.5))
        rise = np.float32(distance * step * light.sun_slope)
        here = tuple(slice(max(0, -s), size - max(0, s)) for s in (shift_y, shift_x))
        there = tuple(slice(max(0, s), size - max(0, -s)) for s in (shift_y, shift_x))
        shadow[here] |= height[there] - rise > height[here]
    return shadow.astype(np.float32)
