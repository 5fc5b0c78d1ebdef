"""Which cells have a prototype, and how a position or a view mixes prototypes.

A *mix* is a pair of arrays: rows of the prototype table (N, K) and their weights (N, K), which sum
to 1, or are all 0 where no cell around has a prototype.
"""

import numpy as np
import numpy.typing as npt

from geofix_index import cells as s2
from geofix_index.sphere import EARTH_RADIUS_M, unit_vectors
from geofix_train.photo_table import PhotoTable

LABELS = ("hard", "bilinear", "frustum")
VIEW_M = (10.0, 30.0, 50.0, 70.0, 90.0)  # from the camera: what a photo shows, up to 100 m
VIEW_SHARES = (-1 / 3, 0.0, 1 / 3)  # of the field of view, to both sides of its middle
UNKNOWN_HFOV_DEG = 70.0
_CHUNK = 1024  # photos whose surroundings are searched at a time

Floats = npt.NDArray[np.float64]
Mix = tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]


class PrototypeGrid:
    """The cells that have a prototype.

    Rows of the prototype table follow `cells`, which is sorted. `candidates` are the cells of
    `code_level` below them, for which prototypes are upsampled.
    """

    def __init__(
        self, cells_with_photos: npt.NDArray[np.uint64], *, level: int, code_level: int
    ) -> None:
        self.cells = np.unique(cells_with_photos)
        self.level = level
        self.code_level = code_level
        self.candidates = s2.descendants(self.cells, level=code_level)
        centres = s2.latlon_from_cell(self.candidates)
        self.candidate_mix = self.mix(*centres.T)
        self._candidate_points = unit_vectors(*centres.T)

    def mix(self, lat: Floats, lon: Floats) -> Mix:
        """Return the bilinear mix of the four nearest cells, without those that lack a prototype.

        Args:
            lat: (N,), or (N, P) for the mean over P places.
            lon: the same.
        """
        near, weights = s2.bilinear_cells(lat, lon, level=self.level)
        return self._mix(near.reshape(len(near), -1), weights.reshape(len(near), -1))

    def own(self, lat: Floats, lon: Floats) -> Mix:
        """Return the mix of each position's own cell alone, K = 1."""
        own = s2.cell_from_latlon(lat, lon, level=self.level)
        return self._mix(own[:, None], np.ones((len(own), 1)))

    def near(self, lat: Floats, lon: Floats) -> npt.NDArray[np.intp]:
        """Return the candidates within one cell edge, which are never negatives, (N, M).

        They are rows of `candidates`, ascending; where there are fewer than M, -1 follows.

        Args:
            lat: (N,), or (N, P): within that of any of P places.
            lon: the same.
        """
        chunks = (slice(at, at + _CHUNK) for at in range(0, len(lat), _CHUNK))
        pairs = [self._near_pairs(lat[chunk], lon[chunk]) for chunk in chunks]
        number = np.repeat(np.arange(len(pairs)) * _CHUNK, [len(rows) for rows, _ in pairs])
        rows, candidates = (np.concatenate(part) for part in zip(*pairs, strict=True))
        rows += number
        counts = np.bincount(rows, minlength=len(lat))
        column = np.arange(len(rows)) - np.repeat(counts.cumsum() - counts, counts)
        near = np.full((len(lat), int(counts.max(initial=1))), -1, np.intp)
        near[rows, column] = candidates
        return near

    def _near_pairs(
        self, lat: Floats, lon: Floats
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Return each row of `lat` and `lon` with each candidate near it, sorted."""
        own, which = np.unique(
            s2.cell_from_latlon(lat, lon, level=self.code_level), return_inverse=True
        )
        around = _two_rings(own)
        found = np.minimum(np.searchsorted(self.candidates, around), len(self.candidates) - 1)
        is_candidate = self.candidates[found] == around
        which = which.reshape(len(lat), -1)  # (N, P)
        places = unit_vectors(lat, lon).reshape(len(lat), -1, 3)
        # The cosine of an angle this small still tells metres in float64.
        cosine = (self._candidate_points[found[which]] @ places[..., None])[..., 0]
        edge = np.cos(s2.mean_edge_m(self.code_level) / EARTH_RADIUS_M)
        row, place, at = np.nonzero(is_candidate[which] & (cosine >= edge))
        pairs = np.unique(row * len(self.candidates) + found[which[row, place], at])
        rows, candidates = np.divmod(pairs, len(self.candidates))
        return rows, candidates

    def _mix(self, near: npt.NDArray[np.uint64], weights: Floats) -> Mix:
        rows = np.minimum(np.searchsorted(self.cells, near), len(self.cells) - 1)
        weights = np.where(self.cells[rows] == near, weights, 0.0)
        rows, weights = _merged(rows, weights)
        total = weights.sum(axis=1, keepdims=True)
        return rows, np.divide(weights, total, where=total > 0, out=weights).astype(np.float32)


def label_mix(grid: PrototypeGrid, table: PhotoTable, labels: str) -> Mix:
    """Return which prototypes each photo is to be like.

    Args:
        grid: of the prototypes.
        table: the photos.
        labels: "hard", the cell of the camera; "bilinear", the cells around the camera;
            "frustum", the cells of what the photo shows.
    """
    if labels == "hard":
        return grid.own(table.lat, table.lon)
    return grid.mix(*label_places(table, labels))


def mean_prototypes(
    embeddings: npt.NDArray[np.float32], mix: Mix, num_prototypes: int
) -> npt.NDArray[np.float32]:
    """Return class means (C, D) of unit length, photos weighted by interpolation."""
    rows, weights = mix
    sums = np.zeros((num_prototypes, embeddings.shape[1]), np.float32)
    for k in range(rows.shape[1]):
        np.add.at(sums, rows[:, k], embeddings * weights[:, k, None])
    return np.asarray(sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12))


def label_places(table: PhotoTable, labels: str) -> tuple[Floats, Floats]:
    """Return the places that a photo's label stands for: latitudes and longitudes, (N, P)."""
    if labels == "frustum":
        return view_places(table.lat, table.lon, table.heading_deg, table.hfov_deg)
    return table.lat[:, None], table.lon[:, None]


def view_places(
    lat: Floats, lon: Floats, heading_deg: Floats, hfov_deg: Floats
) -> tuple[Floats, Floats]:
    """Return places spread over the ground that photos show, (N, P) each, in degrees.

    They lie in the horizontal frustum, up to 100 m from the camera; equally many at each distance,
    since what is near fills as much of the picture as what is far.

    Args:
        lat: (N,) of the cameras.
        lon: (N,).
        heading_deg: (N,) clockwise from north; NaN puts all places at the camera.
        hfov_deg: (N,) horizontal field of view; NaN counts as 70 degrees.
    """
    known = np.isfinite(heading_deg)
    hfov = np.where(np.isfinite(hfov_deg), hfov_deg, UNKNOWN_HFOV_DEG)
    bearing = np.where(known, heading_deg, 0.0)[:, None] + hfov[:, None] * np.array(VIEW_SHARES)
    away = np.where(known[:, None], np.array(VIEW_M), 0.0)  # (N, distances)
    places = _travel(lat[:, None, None], lon[:, None, None], bearing[:, None, :], away[:, :, None])
    seen_lat, seen_lon = (part.reshape(len(lat), -1) for part in places)
    return seen_lat, seen_lon


def _two_rings(cells: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return the cells up to two away from each, (N, 72), some of them more than once.

    No cell's width is less than 0.64 of the mean edge, so that one mean edge ends within them.
    """
    ring = s2.neighbours(cells)
    ring = np.where(ring == 0, cells[:, None], ring)  # at a corner of the cube
    second = s2.neighbours(ring)
    second = np.where(second == 0, ring[..., None], second)
    return np.concatenate([ring, second.reshape(len(cells), -1)], axis=1)


def _travel(lat: Floats, lon: Floats, bearing: Floats, away_m: Floats) -> tuple[Floats, Floats]:
    """Return where great circles end that start at positions with a bearing, in degrees."""
    phi, theta, arc = np.radians(lat), np.radians(bearing), away_m / EARTH_RADIUS_M
    sine = np.sin(phi) * np.cos(arc) + np.cos(phi) * np.sin(arc) * np.cos(theta)
    end = np.arcsin(np.clip(sine, -1.0, 1.0))
    turn = np.arctan2(
        np.sin(theta) * np.sin(arc) * np.cos(phi), np.cos(arc) - np.sin(phi) * np.sin(end)
    )
    east = (lon + np.degrees(turn) + 180.0) % 360.0 - 180.0
    return np.degrees(end), east


def _merged(rows: npt.NDArray[np.intp], weights: Floats) -> tuple[npt.NDArray[np.intp], Floats]:
    """Return the same mixes with each row of the table once, and so as narrow as they can be."""
    order = np.argsort(rows, axis=1, kind="stable")
    rows, weights = np.take_along_axis(rows, order, 1), np.take_along_axis(weights, order, 1)
    is_first = np.ones(rows.shape, bool)
    is_first[:, 1:] = rows[:, 1:] != rows[:, :-1]
    slot = is_first.cumsum(axis=1) - 1
    narrow = (len(rows), int(slot.max(initial=0)) + 1)
    at = np.arange(len(rows))[:, None], slot
    merged_rows, merged_weights = np.zeros(narrow, np.intp), np.zeros(narrow)
    merged_rows[at] = rows
    np.add.at(merged_weights, at, weights)
    return merged_rows, merged_weights
