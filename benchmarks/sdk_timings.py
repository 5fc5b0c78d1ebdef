"""How long search and posterior take with priors of several kinds, and without one."""

import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.record import Value
from geofix import LatLon, Localizer, Prior
from geofix_train.photo_table import PhotoTable

NUM_TIMED = 400
NUM_TIMES = 3  # each search, of which the fastest counts: others share the machine


def time_priors(pack: Path, photos: PhotoTable) -> list[Value]:
    """Return medians over photos, each asked with every prior, in changing order."""
    photos = photos[np.arange(min(len(photos), NUM_TIMED))]
    ms: dict[str, list[float]] = {}
    rng = np.random.default_rng(0)
    with Localizer.open(pack) as localizer:
        embeddings = localizer.embed([photos.photo_path(row) for row in range(len(photos))])
        for row, embedding in enumerate(embeddings):
            asked = list(_priors_at(LatLon(float(photos.lat[row]), float(photos.lon[row]))).items())
            best: dict[str, float] = {}
            for at in np.concatenate([rng.permutation(len(asked)) for _ in range(NUM_TIMES)]):
                name, prior = asked[at]
                timed = _milliseconds(localizer, embedding, prior)
                best[name] = min(timed, best.get(name, np.inf))
            for name, timed in best.items():
                ms.setdefault(f"search and posterior, {name}", []).append(timed)
    return [Value(name, round(float(np.median(timed)), 2), "ms") for name, timed in ms.items()]


def _priors_at(place: LatLon) -> dict[str, Prior | None]:
    return {
        "no prior": None,
        "disk of 1 km": Prior.disk(place.lat, place.lon, radius_m=1000),
        "disk of 200 m": Prior.disk(place.lat, place.lon, radius_m=200),
        "Gaussian of 100 m": Prior.gaussian(place.lat, place.lon, sigma_m=100),
    }


def _milliseconds(
    localizer: Localizer, embedding: npt.NDArray[np.float32], prior: Prior | None
) -> float:
    start = time.perf_counter()
    localizer.search(embedding, prior=prior)
    return 1000 * (time.perf_counter() - start)
