"""Perspective photos of the town: one ray of the height field for each image column.

A level pinhole camera maps every vertical line of the world to one image column. Along a column's
ray, the slope (height - camera) / depth of what stands there, made monotonic by a running maximum,
is the skyline seen so far: a pixel shows the first place whose skyline reaches the pixel's slope.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from geofix_train.town.light import Light, Season, grain, ground_colours, noise
from geofix_train.town.plan import WATER, Floats
from geofix_train.town.raster import FIRST_BUILDING, HEIGHT_STEP_M, World

FAR_M = 260.0
TREES_FAR_M = 90.0
HAZE_M = 420.0  # at this distance half of the light is haze

Image = npt.NDArray[np.float32]


class Camera(NamedTuple):
    """A level camera. `forward` is the unit vector of its axis, east and north."""

    x: float
    y: float
    height_m: float
    forward: tuple[float, float]
    focal_px: float
    width: int
    height: int


class _Hits(NamedTuple):
    """What the pixels of an image show, each (height, width)."""

    depth: Floats  # metres along the camera's axis; FAR_M for the sky
    u: Floats
    v: Floats
    z: Floats
    surface: npt.NDArray[np.int32]
    is_sky: npt.NDArray[np.bool_]


def _depths() -> Floats:
    """Return the sampled depths: every 0.25 m nearby, then steps of 1.2 %."""
    depths = [0.6]
    while depths[-1] < FAR_M:
        depths.append(depths[-1] + max(0.25, 0.012 * depths[-1]))
    return np.array(depths)


_DEPTHS = _depths()


def render_photo(
    world: World, camera: Camera, *, season: Season, light: Light, seed: int
) -> npt.NDArray[np.uint8]:
    """Return what the camera sees, (height, width, 3) uint8 RGB."""
    hits = _cast(world, camera)
    image = _shade(world, hits, season, light)
    haze = (hits.depth / (hits.depth + HAZE_M))[..., None].astype(np.float32)
    sky = _sky(camera, light)
    image = image * (1 - haze) + sky * haze
    image[hits.is_sky] = sky[hits.is_sky]
    _draw_trees(image, hits.depth, world, camera, season=season, light=light)
    image = image * np.asarray(light.tone, np.float32)
    image += np.float32(0.025) * grain(camera.height, camera.width, seed=seed)
    return (np.clip(image, 0.0, 1.0) * np.float32(255.0) + np.float32(0.5)).astype(np.uint8)


def _cast(world: World, camera: Camera) -> _Hits:
    columns = (np.arange(camera.width) + 0.5 - camera.width / 2) / camera.focal_px
    slopes = (camera.height / 2 - np.arange(camera.height) - 0.5) / camera.focal_px
    east, north = camera.forward
    ray_x, ray_y = east + north * columns, north - east * columns  # right of the axis is clockwise
    x = camera.x + ray_x[:, None] * _DEPTHS
    y = camera.y + ray_y[:, None] * _DEPTHS
    at = world.index(*world.warp.uv(x, y))  # (width, depths)
    heights = world.height.ravel()[at] * HEIGHT_STEP_M
    skyline = np.maximum.accumulate((heights - camera.height_m) / _DEPTHS, axis=1)
    first = _first_reaching(skyline, slopes)  # (width, height)
    is_sky = first == len(_DEPTHS)
    first = np.minimum(first, len(_DEPTHS) - 1)
    depth = _DEPTHS[first]
    surface = np.take_along_axis(world.surface.ravel()[at], first, axis=1)
    # The ground is flat, so its depth is known exactly; walls are as deep as their sample.
    below = slopes < 0
    on_ground = np.minimum(camera.height_m / np.where(below, -slopes, 1.0), FAR_M)
    is_ground = (surface < FIRST_BUILDING) & below
    depth = np.where(is_ground, on_ground, depth)
    z = np.where(is_ground, 0.0, camera.height_m + slopes * depth)
    u, v = world.warp.uv(camera.x + ray_x[:, None] * depth, camera.y + ray_y[:, None] * depth)
    exact = world.surface.ravel()[world.index(u, v)]
    surface = np.where(is_ground & (exact < FIRST_BUILDING), exact, surface)
    return _Hits(*(np.ascontiguousarray(layer.T) for layer in (depth, u, v, z, surface, is_sky)))


def _first_reaching(skyline: Floats, slopes: npt.NDArray[np.floating]) -> npt.NDArray[np.intp]:
    """For each row of `skyline` (rising) and each slope, return the first index that reaches it."""
    rows, length = skyline.shape
    shift = np.arange(rows)[:, None] * 1e4  # one sorted array for all rows; slopes stay below 1e3
    flat = (np.clip(skyline, -1e3, 1e3) + shift).ravel()
    found = np.searchsorted(flat, (slopes + shift).ravel()).reshape(rows, -1)
    return np.asarray(np.clip(found - np.arange(rows)[:, None] * length, 0, length), np.intp)


def _shade(world: World, hits: _Hits, season: Season, light: Light) -> Image:
    is_wall = hits.surface >= FIRST_BUILDING
    fine = noise(hits.u, hits.v, scale_m=0.07, seed=world.seed)
    rough = noise(hits.u, hits.v, scale_m=0.35, seed=world.seed)
    wide = noise(hits.u, hits.v, scale_m=4.0, seed=world.seed + 1)
    image = ground_colours(season)[np.where(is_wall, 0, hits.surface)]
    near = np.minimum(1.0, 5.0 / hits.depth).astype(np.float32)  # fine texture blurs with distance
    fade = np.minimum(1.0, 14.0 / hits.depth).astype(np.float32)
    image = image * (1 + 0.10 * fine * near + 0.05 * rough * fade + 0.05 * wide)[..., None]
    image *= np.float32(light.ambient + 0.8 * light.sun)
    is_water = hits.surface == WATER
    image[is_water] = 0.5 * image[is_water] + 0.4 * np.asarray(light.sky, np.float32)
    image[is_wall] = _shade_buildings(world, hits, is_wall, season, light)
    return np.asarray(image)


def _shade_buildings(
    world: World, hits: _Hits, where: npt.NDArray[np.bool_], season: Season, light: Light
) -> Image:
    """Colour roofs and facades at the pixels `where`; return (P, 3)."""
    table, number = world.buildings, hits.surface[where] - FIRST_BUILDING
    u, v, z = hits.u[where], hits.v[where], hits.z[where]
    rect = table.rect[number]
    gaps = np.abs(np.column_stack([u, v, u, v]) - rect)  # to the sides u0, v0, u1, v1
    side = gaps.argmin(axis=1)
    along = np.where(side % 2 == 0, v - rect[:, 1], u - rect[:, 0])
    fade = np.minimum(1.0, 25.0 / hits.depth[where]).astype(np.float32)[:, None]
    is_roof = z > table.eave[number] - 0.15
    colour = _facade(world, number, along, z, fade)
    lit = _facing(world, side, light)
    colour = colour * (light.ambient + light.sun * lit)[:, None]
    roof = table.roof[number] * (1 - season.snow) + np.float32(0.9 * season.snow)
    roof = roof * np.float32(light.ambient + 0.8 * light.sun)
    return np.where(is_roof[:, None], roof, colour).astype(np.float32)


def _facade(
    world: World, number: npt.NDArray[np.integer], along: Floats, z: Floats, fade: Image
) -> Image:
    """Plaster with a grid of windows above a ground floor of its own colour."""
    table = world.buildings
    bay, floor_m = along / table.bay_m[number], z / table.floor_m[number]
    half = table.glass[number] / 2
    in_bay = np.abs(bay - np.floor(bay) - 0.5) < half * 0.9
    in_floor = np.abs(floor_m - np.floor(floor_m) - 0.55) < half * 0.85
    is_window = in_bay & in_floor & (z < table.eave[number] - 0.8)
    wall = table.facade[number] * (1 + 0.05 * noise(along, z, scale_m=0.15, seed=3))[:, None]
    wall = np.where((floor_m < 0.95)[:, None], table.trim[number], wall)
    # Told apart by where they stand, which is the same from wherever the world was painted.
    own = np.floor(table.rect[number, 0]) + 31.0 * np.floor(table.rect[number, 1])
    pane = np.abs(noise(np.floor(bay), np.floor(floor_m) + own, scale_m=1.0, seed=5))
    glass = np.float32(0.16) + 0.22 * pane[:, None] * np.array([0.9, 1.0, 1.15], np.float32)
    mixed = wall + (glass - wall) * fade * np.float32(0.9) * is_window[:, None]
    return np.asarray(mixed, np.float32)


def _facing(world: World, side: npt.NDArray[np.intp], light: Light) -> npt.NDArray[np.float32]:
    """Return how much sun falls on walls that face -u, -v, +u or +v."""
    sun_u = world.warp.cos * light.sun_xy[0] + world.warp.sin * light.sun_xy[1]
    sun_v = world.warp.cos * light.sun_xy[1] - world.warp.sin * light.sun_xy[0]
    return np.maximum(np.array([-sun_u, -sun_v, sun_u, sun_v], np.float32), 0.0)[side]


def _sky(camera: Camera, light: Light) -> Image:
    """Return a sky that pales towards the horizon, (height, width, 3)."""
    rise = np.clip((camera.height / 2 - np.arange(camera.height)) / (camera.height / 2), 0.0, 1.0)
    pale = np.asarray(light.sky, np.float32) * 0.35 + np.float32(0.6)
    column = pale + (np.asarray(light.sky, np.float32) - pale) * rise[:, None].astype(np.float32)
    return np.broadcast_to(column[:, None, :], (camera.height, camera.width, 3))


def _draw_trees(
    image: Image, depth: Floats, world: World, camera: Camera, *, season: Season, light: Light
) -> None:
    """Draw the trees in view onto `image`, the farthest first."""
    east, north = camera.forward
    dx, dy = world.trees[:, 0] - camera.x, world.trees[:, 1] - camera.y
    ahead, right = dx * east + dy * north, dx * north - dy * east
    half_view = camera.width / 2 / camera.focal_px
    seen = (ahead > 1.5) & (ahead < TREES_FAR_M)
    seen &= np.abs(right) < ahead * half_view + world.trees[:, 2]
    order = np.flatnonzero(seen)
    for number in order[np.argsort(-ahead[order], kind="stable")]:
        _draw_tree(
            image, depth, camera, world.trees[number], ahead[number], right[number],
            season=season, light=light,
        )  # fmt: skip


def _draw_tree(
    image: Image, depth: Floats, camera: Camera, tree: Floats, ahead: float, right: float,
    *, season: Season, light: Light,
) -> None:  # fmt: skip
    radius, top, tint = tree[2:]
    scale = camera.focal_px / ahead
    column = camera.width / 2 + right * scale
    crown_row = camera.height / 2 - (top - radius * 1.1 - camera.height_m) * scale
    reach_x, reach_y = radius * scale, radius * 1.1 * scale
    rows, columns = _window(
        image, crown_row - reach_y, crown_row + reach_y, column - reach_x, column + reach_x
    )
    a = (np.arange(columns.start, columns.stop) + 0.5 - column) / max(reach_x, 0.5)
    b = (np.arange(rows.start, rows.stop) + 0.5 - crown_row) / max(reach_y, 0.5)
    leaf_seed = int(abs(tree[0]) * 10) % 997
    across, down = np.meshgrid(a, b)
    leaves = 0.5 * noise(across, down, scale_m=0.17, seed=leaf_seed)
    leaves += 0.5 * noise(across, down, scale_m=0.07, seed=leaf_seed + 1)
    round_off = a[None, :] ** 2 + b[:, None] ** 2
    mask = (round_off < 0.95 + 0.4 * leaves) & (leaves < 2 * season.foliage - 1)
    shade = light.ambient + light.sun * (0.55 - 0.45 * b[:, None]) + 0.18 * leaves + 0.08 * tint
    colour = np.asarray(season.leaves, np.float32) * shade[..., None].astype(np.float32) * 1.1
    _cover(image, depth, rows, columns, colour, ahead, mask)
    # The crown hides what it covers of the trunk, which stands at the same depth.
    bark = np.array([0.30, 0.24, 0.19], np.float32) * np.float32(light.ambient)
    trunk = max(0.35, 0.12 * radius * scale)
    foot = camera.height / 2 + camera.height_m * scale
    rows, columns = _window(image, crown_row, foot, column - trunk, column + trunk)
    _cover(image, depth, rows, columns, bark, ahead, None)


def _window(
    image: Image, top: float, bottom: float, left: float, right: float
) -> tuple[slice, slice]:
    """Return the pixels of a box, cut to the image."""
    height, width = image.shape[:2]
    rows = [int(min(max(value, 0), height)) for value in (top, bottom + 1)]
    columns = [int(min(max(value, 0), width)) for value in (left, right + 1)]
    return slice(*rows), slice(*columns)


def _cover(
    image: Image,
    depth: Floats,
    rows: slice,
    columns: slice,
    colour: Image,
    ahead: float,
    mask: npt.NDArray[np.bool_] | None,
) -> None:
    """Paint the pixels of a window that lie behind `ahead` metres."""
    seen = depth[rows, columns] > ahead
    if mask is not None:
        seen &= mask
    patch = image[rows, columns]
    patch[seen] = np.broadcast_to(colour, patch.shape)[seen]
    depth[rows, columns][seen] = ahead
