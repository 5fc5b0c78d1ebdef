"""What is timed: pieces of work on fixed input, from the index to a photo's whole way.

A workload is prepared once and then called again and again; `check` says whether what it returned
is right, so that a fast wrong answer is no success. Only names that a stored copy of the code has,
too, can be compared with it.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from geofix import Localizer, Prior, RegionPack
from geofix_index import CellIndex, Disk, ProductQuantizer, Shard, build_shard
from geofix_index import cells as s2

PACK = Path(__file__).parents[2] / "tests" / "golden" / "tiny.geofix"
NUM_CELLS = 65_536  # level 16 below one cell of level 8: a city
_DIM, _K = 64, 256  # as many matches as the posterior gets
_LAT, _LON = 47.37, 8.54


@dataclass(frozen=True)
class Workload:
    """A piece of work."""

    group: str  # "index", "pack", "SDK", "encoder" or "end to end"
    prepare: Callable[[], Callable[[], Any]]
    check: Callable[[Any], bool]


def make_index() -> tuple[CellIndex, Any]:
    """Return an index of made-up cell codes and an embedding to search."""
    rng = np.random.default_rng(0)
    parent = s2.cell_from_latlon(_LAT, _LON, level=8)
    first, last = s2.leaf_range(np.array([parent], np.uint64))
    step = int(last[0] - first[0] + 2) // NUM_CELLS  # leaf ids are odd
    cells = (int(first[0]) - 1 + step // 2 + step * np.arange(NUM_CELLS, dtype=np.int64)).astype(
        np.uint64
    )
    centroids = rng.standard_normal((_DIM // 2, 16, 2)).astype(np.float32)
    quantizer = ProductQuantizer(np.eye(_DIM, dtype=np.float32), centroids)
    pq_codes = rng.integers(0, 256, (NUM_CELLS, _DIM // 4), dtype=np.uint8)
    files = build_shard(cells, pq_codes, quantizer, parent=int(parent), kind="scan")
    shard = Shard.open(files.cells, files.payload, quantizer)
    return CellIndex(quantizer, [shard]), rng.standard_normal(_DIM).astype(np.float32)


def _free_search() -> Callable[[], Any]:
    index, embedding = make_index()
    return lambda: index.search(embedding, k=_K)


def _disk_search() -> Callable[[], Any]:
    index, embedding = make_index()
    disks = [Disk(_LAT + 0.001 * at, _LON, 2000.0) for at in range(8)]
    turns = iter(range(1 << 60))
    return lambda: index.search(embedding, k=_K, region=disks[next(turns) % len(disks)])


def _open_pack() -> Callable[[], Any]:
    return lambda: RegionPack.open(PACK)


def _verify_pack() -> Callable[[], Any]:
    return lambda: RegionPack.open(PACK).verify()


def _opened() -> Localizer:
    return Localizer.open(PACK, num_threads=1)


def _search() -> Callable[[], Any]:
    localizer = _opened()
    embedding = localizer.embed([frame()])[0]
    return lambda: localizer.search(embedding)


def _prior_search() -> Callable[[], Any]:
    localizer = _opened()
    embedding = localizer.embed([frame()])[0]
    place = localizer.search(embedding).candidates[0].latlon
    turns = iter(range(1 << 60))

    def search() -> Any:
        lat = place.lat + 1e-5 * (next(turns) % 50)
        return localizer.search(embedding, prior=Prior.disk(lat, place.lon, radius_m=400))

    return search


def _embed() -> Callable[[], Any]:
    localizer, pixels = _opened(), small_picture()
    return lambda: localizer.embed([pixels])


def _localize_array() -> Callable[[], Any]:
    localizer, pixels = _opened(), frame()
    return lambda: localizer.localize(pixels)


def _localize_jpeg() -> Callable[[], Any]:
    localizer, file = _opened(), io.BytesIO()
    Image.fromarray(frame()).save(file, "JPEG", quality=90)
    jpeg = file.getvalue()
    return lambda: localizer.localize(jpeg)


def frame() -> Any:
    """Return a picture of a camera, (1080, 1920, 3)."""
    coarse = np.random.default_rng(1).integers(0, 256, (27, 48, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((1920, 1080), Image.Resampling.BICUBIC)
    return np.asarray(picture)


def small_picture() -> Any:
    """Return a picture of the size that the golden pack's encoder takes."""
    spec = RegionPack.open(PACK).manifest.encoders[0].input_spec
    shape = (spec.height, spec.width, 3)
    return np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)


def _is_fix(found: Any) -> bool:
    return len(found.candidates) == 5 and set(found.timings_ms) >= {"search", "posterior", "total"}


WORKLOADS: Mapping[str, Workload] = {
    "search of 65,536 cells": Workload("index", _free_search, lambda m: len(m.cells) == _K),
    "search of a 2 km disk": Workload("index", _disk_search, lambda m: len(m.cells) == _K),
    "open a pack": Workload("pack", _open_pack, lambda pack: pack.manifest.num_cells > 0),
    "verify a pack": Workload("pack", _verify_pack, lambda num: num > 4),
    "search to fix": Workload("SDK", _search, _is_fix),
    "search to fix, moving prior": Workload("SDK", _prior_search, _is_fix),
    "embed": Workload("encoder", _embed, lambda e: abs(float(np.linalg.norm(e)) - 1) < 1e-4),
    "localize a 1080p array": Workload("end to end", _localize_array, _is_fix),
    "localize a 1080p JPEG": Workload("end to end", _localize_jpeg, _is_fix),
}
