"""From a finished run to cell codes: encode the imagery, upsample the prototypes, choose kappa."""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

import geofix_index.cells as s2
from geofix.image_statistics import image_statistics
from geofix_index.sphere import EARTH_RADIUS_M, unit_vectors
from geofix_train.aerial import Mosaic
from geofix_train.cell_codes import CellCodes, Queries, upsample, upsample_counts
from geofix_train.config import FitConfig
from geofix_train.mixing import choose_mixing
from geofix_train.model import Model, best_device, embed
from geofix_train.photo_slices import AREAS
from geofix_train.photo_table import PhotoTable, TableError, read_photo_table
from geofix_train.photos import read_photos
from geofix_train.prototypes import PrototypeGrid, label_mix, mean_prototypes
from geofix_train.run_folder import load_model
from geofix_train.training_data import input_spec, load_imagery, prototype_grid

# An aerial embedding is the mean over dates, turns and moves: photos stand all over their cell.
TURNS = (0.0, 180.0)  # degrees
_MOVES = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))  # in units of how far training moves tiles
_BATCH = 256


@dataclass(frozen=True)
class EncodedRun:
    """A finished run applied to its data set: all that codes and baselines are made from."""

    config: FitConfig
    table: PhotoTable
    embeddings: npt.NDArray[np.float32]  # (N, D) of every photo
    grid: PrototypeGrid
    prototypes: npt.NDArray[np.float32]  # (C, D), learned
    mean_prototypes: npt.NDArray[np.float32]  # (C, D), class means of the same embeddings
    cells: npt.NDArray[np.uint64]  # sorted
    aerial: npt.NDArray[np.float32]  # (cells, D), zeros without imagery
    image_statistics: npt.NDArray[np.float32]  # (N, 12) of every photo
    problems: tuple[str, ...] = ()  # a sentence for each row and photo that was left out

    def queries(self, split: str) -> Queries:
        """Return the photos of a split."""
        rows = self.table.split == split
        return Queries(
            self.embeddings[rows],
            self.table[rows].latlon,
            tuple(slices(self.table)[rows].tolist()),
            self.image_statistics[rows],
        )


def encode_run(
    run: Path, *, level: int | None = None, on_error: str = "stop", split: str = "train"
) -> EncodedRun:
    """Encode the photos and imagery of a finished run.

    Args:
        run: the folder of a finished `fit`.
        level: of the cell codes, up to 4 finer than that of the prototypes; None is the run's
            `code_level`, at which training compares them.
        on_error: "stop" or "skip" bad rows and unreadable photos.
        split: of which there must be photos, too, beside training photos.

    Raises:
        ConfigError, CheckpointError: not a finished run.
        TableError: the photos cannot be used, or a split has none.
    """
    config, model, prototype_cells = load_model(run)
    coarsest = config.objective.prototype_level
    level = config.objective.code_level if level is None else level
    if not coarsest <= level <= coarsest + 4:
        raise ValueError(f"level is {level}, want {coarsest} to {coarsest + 4}")
    table, bad_rows = read_photo_table(Path(config.data.photos), on_error=on_error)
    _check_splits(table, split, config.data.photos)  # before all photos are read
    photos, is_read, unreadable = read_photos(
        table, input_spec(config), blur=config.data.blur, on_error=on_error
    )
    table, photos = table[is_read], photos[is_read]
    _check_splits(table, split, config.data.photos)
    for encoder in (model.ground, model.aerial):
        encoder.to(best_device())
    embeddings = embed(model.ground, photos)
    grid = prototype_grid(prototype_cells, config)
    mosaics = load_imagery(config)
    cells = _cells_to_code(grid, mosaics, level)
    learned = model.prototypes.weight.detach().numpy()
    learned = learned / np.maximum(np.linalg.norm(learned, axis=1, keepdims=True), 1e-12)
    train = table[table.is_train]
    mix = label_mix(grid, train, config.objective.labels)
    means = mean_prototypes(embeddings[table.is_train], mix, len(learned))
    aerial = encode_cells(model, mosaics, cells, config)
    problems = (*bad_rows, *unreadable)
    statistics = np.array([image_statistics(photo) for photo in photos])
    return EncodedRun(
        config, table, embeddings, grid, learned, means, cells, aerial, statistics, problems
    )


def make_queries(
    table: PhotoTable,
    rows: npt.NDArray[np.integer],
    images: npt.NDArray[np.uint8],
    embeddings: npt.NDArray[np.float32],
) -> Queries:
    """Return photos of a table as queries.

    Args:
        table: of all photos, so that it tells which of them were seen.
        rows: (Q,) of the queries.
        images: (Q, H, W, 3) of these.
        embeddings: (Q, D) of these.
    """
    statistics = np.array([image_statistics(image) for image in images])
    seen = tuple(slices(table)[rows].tolist())
    return Queries(embeddings, table[rows].latlon, seen, statistics)


def make_codes(
    encoded: EncodedRun, *, kappa: float | None = None, shrink_photos: float | None = 0.0
) -> CellCodes:
    """Return cell codes; what is None is chosen on the validation photos, see `choose_mixing`.

    Raises:
        ValueError: kappa or the shrinkage is negative or not a number.
    """
    level = int(s2.level_of(encoded.cells[:1])[0])
    table = encoded.table[encoded.table.is_train]
    parts = CellCodes(
        cells=encoded.cells,
        prototypes=upsample(encoded.grid, encoded.prototypes, encoded.cells),
        aerial=encoded.aerial,
        num_photos=count_photos(table, encoded.cells, level=level),
        prototype_photos=count_prototype_photos(encoded, table),
        kappa=1.0,
        provenance={
            "num_training_photos": len(table),
            "photos_sha256": table.sha256(),
            "prototype_level": encoded.grid.level,
            "prototypes_sha256": hashlib.sha256(encoded.prototypes.tobytes()).hexdigest(),
        },
    )
    return choose_mixing(parts, encoded.queries("val"), kappa=kappa, shrink_photos=shrink_photos)


def count_prototype_photos(encoded: EncodedRun, table: PhotoTable) -> npt.NDArray[np.float32]:
    """Return how many photos of a table stand behind each cell's upsampled prototype.

    A photo counts for the prototypes that it is to be like, in the shares of its label, and a
    prototype for a cell in the share that it has of the cell's mix. So the photos that made a
    prototype count wherever it is used, not those that happen to stand in a cell.
    """
    rows, shares = label_mix(encoded.grid, table, encoded.config.objective.labels)
    photos = np.zeros(len(encoded.grid.cells))
    np.add.at(photos, rows, shares)
    return upsample_counts(encoded.grid, photos, encoded.cells)


def count_photos(
    table: PhotoTable, cells: npt.NDArray[np.uint64], *, level: int
) -> npt.NDArray[np.int64]:
    """Return how many photos of a table lie in each cell."""
    found, counts = np.unique(
        s2.cell_from_latlon(table.lat, table.lon, level=level), return_counts=True
    )
    at = np.minimum(np.searchsorted(found, cells), len(found) - 1)
    return np.where(found[at] == cells, counts[at], 0)


def slices(table: PhotoTable) -> npt.NDArray[np.str_]:
    """Return "seen" where a training photo stands within 25 m of a photo, else "unseen"."""
    near_m = 25.0
    # Chords of some metres are as long as arcs.
    place = EARTH_RADIUS_M * unit_vectors(table.lat, table.lon)
    train = np.flatnonzero(table.is_train)
    train = train[np.argsort(table.lat[train])]
    order = np.argsort(table.lat)
    reach = np.degrees(near_m / EARTH_RADIUS_M) * 1.01  # no nearer place is farther north or south
    seen = np.zeros(len(table), bool)
    for start in range(0, len(table), 256):
        rows = order[start : start + 256]
        first, last = table.lat[rows[0]] - reach, table.lat[rows[-1]] + reach
        around = train[slice(*np.searchsorted(table.lat[train], (first, last)))]
        gap = ((place[rows, None] - place[None, around]) ** 2).sum(axis=2)
        seen[rows] = gap.min(axis=1, initial=np.inf) < near_m**2
    return np.where(seen, "seen", "unseen")


def areas(table: PhotoTable, *, level: int) -> npt.NDArray[np.str_]:
    """Return what training photos there are around each photo.

    "seen" as by `slices`; "held-out" where no training photo stands in the photo's own cell of
    `level` or in one that touches it: a district without ground photos; else "unseen", a street
    without photos among others that have some.
    """
    near_seen = slices(table)
    own = s2.cell_from_latlon(table.lat, table.lon, level=level)
    around = np.column_stack([own, s2.neighbours(own)])
    has_photos = np.isin(around, own[table.is_train]).any(axis=1)
    return np.where(has_photos, near_seen, AREAS[2])


def _check_splits(table: PhotoTable, split: str, name: str) -> None:
    if not table.is_train.any():
        raise TableError(f"{name}: no photo has split 'train'")
    if split != "train" and not (table.split == split).any():
        found = ", ".join(
            f"{(table.split == s).sum()} {s or 'none'}" for s in np.unique(table.split)
        )
        raise TableError(f"{name}: no photo has split {split!r}; photos by split: {found}")


def _cells_to_code(
    grid: PrototypeGrid, mosaics: list[Mosaic], level: int
) -> npt.NDArray[np.uint64]:
    """Return the cells whose centre has imagery, and the children of prototypes' cells."""
    found = [s2.descendants(grid.cells, level=level)]
    for mosaic in mosaics:
        found.append(mosaic.cells(level=level))
    return np.unique(np.concatenate(found))


def encode_cells(
    model: Model,
    mosaics: list[Mosaic],
    cells: npt.NDArray[np.uint64],
    config: FitConfig,
    *,
    turns: Sequence[float] = TURNS,
) -> npt.NDArray[np.float32]:
    """Return the mean embedding of each cell's tiles, of unit length or zero, (N, D).

    Args:
        model: whose aerial encoder sees the tiles.
        mosaics: one a date; a date that does not show a cell does not count for it.
        cells: (N,).
        config: the settings of the run.
        turns: of each tile, degrees.
    """
    centres = s2.latlon_from_cell(cells)
    total = np.zeros((len(cells), config.model.dim), np.float32)
    for mosaic in mosaics:
        xy = mosaic.frame.xy(centres[:, 0], centres[:, 1])
        covered = np.flatnonzero(mosaic.covers(xy))
        for start in range(0, len(covered), _BATCH):
            rows = covered[start : start + _BATCH]
            for move, turn in itertools.product(_MOVES, turns):
                tiles = mosaic.tiles(
                    xy[rows] + np.multiply(move, config.run.shift_m),
                    side_m=config.data.tile_side_m,
                    num_pixels=config.data.tile_pixels,
                    rotation_deg=np.full(len(rows), turn),
                )
                total[rows] += embed(model.aerial, tiles, batch_size=_BATCH)
    return np.asarray(total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12))
