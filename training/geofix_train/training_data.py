"""What a run learns from, in memory: photos, their labels, and the imagery around them."""

import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from geofix.input_spec import InputSpec
from geofix_index import cells as s2
from geofix_index.sphere import great_circle_m
from geofix_train.aerial import Mosaic, read_imagery
from geofix_train.config import ConfigError, FitConfig
from geofix_train.photo_table import PhotoTable, TableError, read_photo_table
from geofix_train.photos import read_photos
from geofix_train.prototypes import Mix, PrototypeGrid, label_mix, label_places
from geofix_train.split import missing_splits

_log = logging.getLogger(__name__)

_SAME_HFOV_DEG, _MOST = 1.0, 0.75
_SAY_HFOV = (
    "%s: most photos see %g degrees; with photo_hfov_deg = %g in [data] wider ones are cut to "
    "that, also on the device"
)

LOCAL_M = 800.0  # photos up to this far from each other can tell look-alike streets apart


@dataclass(frozen=True)
class TrainingData:
    """N training photos, their positions, and the imagery around them."""

    table: PhotoTable
    photos: npt.NDArray[np.uint8]  # (N, H, W, 3)
    mosaics: list[Mosaic]
    xy: npt.NDArray[np.float64]  # (N, 2) on the mosaics' plane
    grid: PrototypeGrid
    photo_mix: Mix  # (N, K) prototypes that each photo is to be like
    tile_mix: Mix  # (N, 4) prototypes that the imagery around each camera is to be like
    near: npt.NDArray[np.intp]  # (N, M) candidates that are never its negatives, then -1
    problems: tuple[str, ...]  # a sentence for each row and photo that was left out

    def __len__(self) -> int:
        return len(self.photos)


def load_training_data(config: FitConfig, *, on_error: str = "stop") -> TrainingData:
    """Read photos and imagery, and lay the prototypes' grid over them.

    What the table lacks for codes and evaluation is logged at once, since training takes long.

    Raises:
        TableError: the photos cannot be used, or lie outside the imagery.
        ConfigError: the settings do not fit the data.
    """
    table, bad_rows = read_photo_table(Path(config.data.photos), on_error=on_error)
    if not table.is_train.any():
        raise TableError(f"{config.data.photos}: no photo has split 'train'")
    for sentence in missing_splits(table):
        _log.info("%s: %s", config.data.photos, sentence)
    table = table[table.is_train]
    hfov_deg = common_hfov_deg(table)
    if hfov_deg is not None and not config.data.photo_hfov_deg:
        _log.info(_SAY_HFOV, config.data.photos, hfov_deg, hfov_deg)
    photos, is_read, unreadable = read_photos(
        table, input_spec(config), blur=config.data.blur, on_error=on_error
    )
    table, photos = table[is_read], photos[is_read]
    if config.run.batch_size > len(table):
        raise ConfigError(
            f"run.batch_size is {config.run.batch_size}, more than the {len(table)} training photos"
        )
    mosaics = load_imagery(config)
    xy = np.zeros((len(table), 2))
    if mosaics:
        xy = mosaics[0].frame.xy(table.lat, table.lon)
        _check_cover(table, mosaics, xy)
    grid = prototype_grid(_cells_with_photos(table, config), config)
    labels = config.objective.labels
    return TrainingData(
        table=table,
        photos=photos,
        mosaics=mosaics,
        xy=xy,
        grid=grid,
        photo_mix=label_mix(grid, table, labels),
        tile_mix=label_mix(grid, table, "hard" if labels == "hard" else "bilinear"),
        near=grid.near(*label_places(table, labels)),
        problems=(*bad_rows, *unreadable),
    )


def draw_batch(data: TrainingData, config: FitConfig, step: int) -> npt.NDArray[np.intp]:
    """Return the photos of a step.

    A share of `run.local_share` comes from around the first photo, so that look-alike places meet;
    the others come from a permutation of all photos that each epoch draws anew.
    """
    size = config.run.batch_size
    num_local = round(size * config.run.local_share)
    epoch, at = divmod(step, max(1, len(data) // size))
    order = _epoch_order(len(data), config.run.seed, epoch)
    batch = order[at * size : (at + 1) * size]
    if num_local == 0:
        return batch
    around = _photos_around(data, int(batch[0]), nearest_m=config.objective.tile_negative_m)
    around = np.random.default_rng([config.run.seed, 8, step]).permutation(around)[:num_local]
    return np.concatenate([batch[: size - len(around)], around])


def draw_tiles(
    data: TrainingData, config: FitConfig, batch: npt.NDArray[np.intp], rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Return the tile of each photo, moved and turned at random, all from one date."""
    mosaic = data.mosaics[rng.integers(len(data.mosaics))]
    shift = rng.uniform(-config.run.shift_m, config.run.shift_m, (len(batch), 2))
    return mosaic.tiles(
        data.xy[batch] + shift,
        side_m=config.data.tile_side_m,
        num_pixels=config.data.tile_pixels,
        rotation_deg=rng.uniform(0, 360, len(batch)),
    )


def prototype_grid(cells_with_photos: npt.NDArray[np.uint64], config: FitConfig) -> PrototypeGrid:
    """Return the grid of a run's prototypes."""
    objective = config.objective
    return PrototypeGrid(
        cells_with_photos, level=objective.prototype_level, code_level=objective.code_level
    )


def load_imagery(config: FitConfig) -> list[Mosaic]:
    """Read the imagery of a run, one mosaic a date; none where the run has no imagery."""
    if not config.data.aerial:
        return []
    pixel_m = config.data.tile_side_m / config.data.tile_pixels
    return read_imagery(Path(config.data.aerial), pixel_m=pixel_m, zoom=config.data.aerial_zoom)


def input_spec(config: FitConfig) -> InputSpec:
    """Return what the ground encoder of a run takes."""
    data = config.data
    return InputSpec(
        width=data.photo_width,
        height=data.photo_height,
        resize=data.resize,
        hfov_deg=data.photo_hfov_deg or None,
    )


def common_hfov_deg(table: PhotoTable) -> float | None:
    """Return the field of view that three quarters of the photos have, within a degree, if any."""
    known = table.hfov_deg[np.isfinite(table.hfov_deg)]
    if len(known) == 0:
        return None
    middle = float(np.median(known))
    num_like_it = int((np.abs(known - middle) <= _SAME_HFOV_DEG).sum())
    return round(middle, 1) if num_like_it >= _MOST * len(table) else None


@lru_cache(maxsize=2)
def _epoch_order(num: int, seed: int, epoch: int) -> npt.NDArray[np.intp]:
    """Return the order that an epoch shows photos in; kept, as each of its steps asks for it."""
    return np.random.default_rng([seed, 7, epoch]).permutation(num)


def _photos_around(data: TrainingData, row: int, *, nearest_m: float) -> npt.NDArray[np.intp]:
    """Return the photos near one, but not so near that they show the same place."""
    lat, lon = data.table.lat, data.table.lon
    distance = great_circle_m(lat[row], lon[row], lat, lon)
    return np.flatnonzero((distance > nearest_m) & (distance < LOCAL_M))


def _cells_with_photos(table: PhotoTable, config: FitConfig) -> npt.NDArray[np.uint64]:
    level, least = config.objective.prototype_level, config.objective.min_images
    found, counts = np.unique(
        s2.cell_from_latlon(table.lat, table.lon, level=level), return_counts=True
    )
    if not (counts >= least).any():
        raise ConfigError(
            f"no level-{level} cell has objective.min_images = {least} training photos; "
            f"the fullest has {counts.max()}"
        )
    return np.asarray(found[counts >= least])


def _check_cover(table: PhotoTable, mosaics: list[Mosaic], xy: npt.NDArray[np.float64]) -> None:
    if mosaics[0].covers(xy).any():
        return
    if mosaics[0].covers(mosaics[0].frame.xy(table.lon, table.lat)).any():
        raise TableError("no photo lies in the imagery, but with lat and lon swapped some do")
    raise TableError(
        f"no photo lies in the imagery, which is around {mosaics[0].frame.lat:.5f}, "
        f"{mosaics[0].frame.lon:.5f}; the first photo is at {table.lat[0]:.5f}, {table.lon[0]:.5f}"
    )
