"""What a pack says of photos, saved as JSON lines, so that figures can be made from it again.

A line has `set` (what was asked), `lat`, `lon` (the truth, null where there is none), columns of
the photo, `elsewhere` (its share of the posterior), `fix`, and of a prior `factor` (its Bayes
factor) and `photographed` (the share of its cells).
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import strange_pictures
from geofix import Fix, LatLon, Localizer, Prior
from geofix.answer import bayes_factor, elsewhere_logit, find
from geofix.geo import latlon_from_east_north
from geofix.images import ImageSource
from geofix.posterior import NUM_CANDIDATES
from geofix_index.sphere import great_circle_m
from geofix_train.photo_table import PhotoTable, read_photo_table

NUM_STRANGE = 200
RADII_M = (100.0, 200.0, 400.0)
WIDE_M = 1000.0
SEEN = "driven street"
WITHOUT_PHOTOS = ("street without photos", "district without photos")
COLUMNS = ("camera", "season", "slice_area", "sequence_id")
NUM_VIEWS = (2, 4)
_VIEW_REACH_M = {2: 15.0, 4: 25.0}
_VIEW_TURN_DEG = 40.0  # views look at least so far apart
SEED = 0

Line = dict[str, Any]


def predict(demo: Path, other_town: Path | None, faces: Path | None, out: Path) -> None:
    """Write what the demo's pack says of its test photos and of pictures from nowhere.

    Args:
        demo: a finished demo.
        other_town: a town of another seed, as `geofix-train town` draws it.
        faces: a folder of street photos from far away.
        out: the file.
    """
    test = read_photo_table(demo / "town" / "photos.parquet")[0].of_split("test")
    with Localizer.open(demo / "town.geofix") as localizer, out.open("w") as file:
        for line in _lines(localizer, test, other_town, faces):
            file.write(json.dumps(line) + "\n")


def read_predictions(path: Path) -> list[Line]:
    """Return the lines of a file that `predict` wrote."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def _lines(
    localizer: Localizer, test: PhotoTable, other_town: Path | None, faces: Path | None
) -> Iterator[Line]:
    for row in range(len(test)):
        fix = localizer.localize(test.photo_path(row), k=NUM_CANDIDATES)
        yield {"set": "test", **_photo(test, row), **said(fix)}
    seen = _in_area(test, SEEN)
    yield from _with_priors(localizer, seen)
    for area in WITHOUT_PHOTOS:
        yield from _with_right_priors(localizer, _in_area(test, area), area)
    yield from _views(localizer, seen)
    rng = np.random.default_rng(SEED)
    for kind in (strange_pictures.noise, strange_pictures.sky, strange_pictures.wall):
        yield from _nowhere(localizer, kind.__name__, [kind(rng) for _ in range(NUM_STRANGE)])
    if faces is not None:
        yield from _nowhere(localizer, "streets of France", sorted(faces.glob("*.jpg")))
    if other_town is not None:
        table = read_photo_table(other_town / "photos.parquet")[0]
        photos = [table.photo_path(row) for row in range(len(table))]
        yield from _nowhere(localizer, "a town of another seed", photos)


def _in_area(test: PhotoTable, area: str) -> PhotoTable:
    return test[np.flatnonzero(test.columns["slice_area"] == area)]


def _embeddings(localizer: Localizer, photos: PhotoTable) -> npt.NDArray[np.float32]:
    return localizer.embed([photos.photo_path(row) for row in range(len(photos))])


def _nowhere(localizer: Localizer, name: str, images: list[Any]) -> Iterator[Line]:
    for image in images:
        yield {"set": name, "lat": None, "lon": None, **said(_localized(localizer, image))}


def _localized(localizer: Localizer, image: ImageSource) -> Fix:
    return localizer.localize(image, k=NUM_CANDIDATES)


def _with_priors(localizer: Localizer, seen: PhotoTable) -> Iterator[Line]:
    rng = np.random.default_rng(SEED)
    for row, embedding in enumerate(_embeddings(localizer, seen)):
        truth = LatLon(float(seen.lat[row]), float(seen.lon[row]))
        asked: dict[str, Prior | None] = {"no prior": None}
        asked[f"right disk of {WIDE_M:.0f} m"] = disk_around(truth, WIDE_M, rng, is_right=True)
        for radius_m in RADII_M:
            for kind in ("right", "wrong"):
                disk = disk_around(truth, radius_m, rng, is_right=kind == "right")
                asked[f"{kind} disk of {radius_m:.0f} m"] = disk
        for name, prior in asked.items():
            line = _asked(localizer, embedding, prior)
            if line is not None:
                yield {"set": name, **_photo(seen, row), **line}


def _with_right_priors(localizer: Localizer, photos: PhotoTable, area: str) -> Iterator[Line]:
    """Yield what is said of right disks where the pack knows the place from above alone."""
    rng = np.random.default_rng(SEED)
    for row, embedding in enumerate(_embeddings(localizer, photos)):
        truth = LatLon(float(photos.lat[row]), float(photos.lon[row]))
        for radius_m in RADII_M:
            disk = disk_around(truth, radius_m, rng, is_right=True)
            line = _asked(localizer, embedding, disk)
            if line is not None:
                name = f"right disk of {radius_m:.0f} m, {area}"
                yield {"set": name, **_photo(photos, row), **line}


def _asked(
    localizer: Localizer, embedding: npt.NDArray[np.float32], prior: Prior | None
) -> Line | None:
    """Return what is said; None where the prior admits fewer than four cells."""
    _, index = localizer._opened()
    if prior is None:
        return said(localizer.search(embedding, k=NUM_CANDIDATES))
    if index.num_cells_in(prior.region) < 4:
        return None
    calibration = localizer._calibration()
    if calibration is None:
        raise SystemExit("the pack is not calibrated")
    rest = elsewhere_logit(calibration, num_cells=index.num_cells)
    found = find(index, embedding, calibration, prior=prior, k=5, elsewhere=rest)
    fix = localizer.search(embedding, prior=prior)
    photographed = localizer.coverage._photographed(prior.region)
    return {
        **said(fix),
        "factor": bayes_factor(found, calibration, prior),
        "photographed": None if photographed is None else float(photographed.mean()),
    }


def disk_around(
    truth: LatLon, radius_m: float, rng: np.random.Generator, *, is_right: bool
) -> Prior:
    """Return a disk with the truth anywhere inside, or 100 to 600 m beyond its edge."""
    if is_right:
        apart_m = radius_m * np.sqrt(rng.uniform())
    else:
        apart_m = radius_m + rng.uniform(100, 600)
    turn = rng.uniform(0, 2 * np.pi)
    offset = apart_m * np.array([np.cos(turn), np.sin(turn)])
    lat, lon = latlon_from_east_north(offset, origin=truth).tolist()
    return Prior.disk(lat, lon, radius_m=radius_m)


def _views(localizer: Localizer, seen: PhotoTable) -> Iterator[Line]:
    """Yield fixes of photos that were taken near each other and look elsewhere, as a rig's do."""
    rng = np.random.default_rng(SEED)
    for num_views in NUM_VIEWS:
        for row in range(len(seen)):
            rows = _near(seen, row, num_views, rng)
            if rows is not None:
                paths = [seen.photo_path(i) for i in rows]
                fix = localizer.localize_views(paths, k=NUM_CANDIDATES)
                yield {"set": f"{num_views} views", **_photo(seen, row), **said(fix)}


def _near(seen: PhotoTable, row: int, num_views: int, rng: np.random.Generator) -> list[int] | None:
    apart_m = great_circle_m(seen.lat[row], seen.lon[row], seen.lat, seen.lon)
    heading = np.asarray(seen.heading_deg, float)
    turned = np.abs((heading - heading[row] + 180) % 360 - 180)
    near = np.flatnonzero((apart_m < _VIEW_REACH_M[num_views]) & (turned > _VIEW_TURN_DEG))
    if len(near) < num_views - 1:
        return None
    return [row, *rng.choice(near, num_views - 1, replace=False).tolist()]


def _photo(table: PhotoTable, row: int) -> Line:
    columns = {name: str(table.columns[name][row]) for name in COLUMNS if name in table.columns}
    return {"lat": float(table.lat[row]), "lon": float(table.lon[row]), **columns}


def said(fix: Fix) -> Line:
    """Return a fix as a line has it: not rounded, and with the share of "elsewhere"."""
    content = fix.to_json()
    shares = [candidate.probability or 0.0 for candidate in fix.candidates]
    del content["candidates"], content["timings_ms"], content["captured_at"], content["pack_id"]
    exact = {"lat": fix.latlon.lat, "lon": fix.latlon.lon}
    exact |= {name: getattr(fix, name) for name in ("accuracy_m", "radius95_m", "confidence")}
    return {"elsewhere": 1 - sum(shares), "fix": {**content, **exact}}
