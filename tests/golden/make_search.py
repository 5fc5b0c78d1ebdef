"""Write the golden files of search: codebooks, shards, and the table search.json.

Run it only when the version of a format changes, as `python tests/golden/make_search.py`, and
say why; a change of search alone must reproduce the old ones.

The table is worked out here from docs/shard_spec.md, in float64 and with the geometry of s2sphere,
without geofix_index, which only writes the files. Centroids and embeddings are multiples of 1/64
and rotations of 1/4, so that each sum is exact in float32 and every machine finds the same bits.
The cells lie where an edge of S2's cube crosses the antimeridian, one shard on each side of both.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import s2sphere

from geofix_index import ProductQuantizer, build_shard

DIM = 16
LEVEL, PARENT_LEVEL = 16, 10
LAT, LON = 45.0, 180.0  # faces 2 and 3 meet here
SIDES = {"north_west": (1, -1), "south_east": (-1, 1)}
CELLS_A_SHARD, REACH_M = 100, 4000
NUM_QUERIES, TOP = 8, 10
EARTH_RADIUS_M = 6_371_008.8
VARIANTS = {"8bit": 8, "4bit": 4}  # each with 4 bytes a cell
REGIONS: dict[str, dict[str, Any]] = {
    "everywhere": {},
    "disk": {"disk": {"lat": 45.0, "lon": 180.0, "radius_m": 2500.0}},
    "small_disk": {"disk": {"lat": 45.01, "lon": 179.99, "radius_m": 500.0}},  # under ten cells
    "box": {"box": {"south": 44.98, "west": 179.97, "north": 45.02, "east": -179.975}},
}

Floats = npt.NDArray[np.float64]


def main() -> None:
    """Write all files into the directory named, or else where this file lies."""
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    rng = np.random.default_rng(20)
    cells = {side: _cells(side, rng) for side in SIDES}
    all_cells = [cell for side in SIDES for cell in cells[side]]
    regions = {**REGIONS, "cells": {"cells": _tokens_across_levels(cells)}}
    quantizers = {name: _quantizer(bits, rng) for name, bits in VARIANTS.items()}
    pq_codes = rng.integers(0, 256, (len(all_cells), 4)).astype(np.uint8)
    pq_codes[-7] = pq_codes[3]  # two cells that always score the same, in different shards
    decoded = {name: _decode(pq_codes, quantizer) for name, quantizer in quantizers.items()}
    queries = _queries(decoded["8bit"][3], rng)
    rows = {
        name: [row for row, cell in enumerate(all_cells) if _admits(region, cell)]
        for name, region in regions.items()
    }
    files = {}
    for name, quantizer in quantizers.items():
        files[f"codebook_{name}.pq"] = quantizer.to_bytes()
        files |= _shards(name, cells, pq_codes, quantizer)
    table: dict[str, list[Any]] = {
        "files": [
            {"name": name, "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in files.items()
        ],
        "variants": [
            {"name": name, "shards": [f"{name}_{side}" for side in SIDES]} for name in VARIANTS
        ],
        "regions": [
            {"name": name, **region, "num_cells": len(rows[name])}
            for name, region in regions.items()
        ],
        "queries": queries.tolist(),
        "results": [
            {"variant": variant, "region": region, "query": number}
            | _best(decoded[variant] @ query, all_cells, rows[region])
            for variant in VARIANTS
            for region in regions
            for number, query in enumerate(queries)
        ],
    }
    files["search.json"] = _text(table).encode()
    for name, data in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _cells(side: str, rng: np.random.Generator) -> list[s2sphere.CellId]:
    """Draw cells on one side of both borders, ascending."""
    north, east = SIDES[side]
    corner = s2sphere.LatLng.from_degrees(LAT + 0.001 * north, LON + 0.001 * east)
    parent = s2sphere.CellId.from_lat_lng(corner).parent(PARENT_LEVEL)
    near = [cell for cell in parent.children(LEVEL) if _away_m(LAT, LON, cell) < REACH_M]
    return [near[at] for at in sorted(rng.choice(len(near), CELLS_A_SHARD, replace=False))]


def _tokens_across_levels(cells: dict[str, list[s2sphere.CellId]]) -> list[str]:
    """Return a union of coarser, equal and finer cells, one of them inside another."""
    north, south = cells["north_west"], cells["south_east"]
    chosen = [
        *(north[50].parent(level) for level in (12, 14)),
        *(south[at].parent(13) for at in (10, 90)),
        south[40],
        north[0].child_begin(18),  # a finer cell admits the cell around it
    ]
    return [cell.to_token() for cell in chosen]


def _quantizer(bits: int, rng: np.random.Generator) -> ProductQuantizer:
    """Draw a rotation (a Hadamard matrix with signs and columns changed) and centroids."""
    hadamard = np.ones((1, 1))
    while len(hadamard) < DIM:
        hadamard = np.block([[hadamard, hadamard], [hadamard, -hadamard]])
    rotation = hadamard[:, rng.permutation(DIM)] * rng.choice([-1, 1], (DIM, 1)) / 4
    num_subspaces = 32 // bits
    centroids = rng.integers(-40, 41, (num_subspaces, 2**bits, DIM // num_subspaces)) / 64
    return ProductQuantizer(rotation.astype(np.float32), centroids.astype(np.float32))


def _decode(pq_codes: npt.NDArray[np.uint8], quantizer: ProductQuantizer) -> Floats:
    halves = np.stack([pq_codes & 15, pq_codes >> 4], axis=2).reshape(len(pq_codes), -1)
    chosen = halves if quantizer.bits == 4 else pq_codes
    parts = [quantizer.centroids[m, chosen[:, m]] for m in range(chosen.shape[1])]
    rotated = np.concatenate(parts, axis=1).astype(np.float64)
    return np.asarray(rotated @ quantizer.rotation.T.astype(np.float64))


def _queries(first: Floats, rng: np.random.Generator) -> Floats:
    """Return embeddings of about unit length; the first resembles a cell."""
    drawn = rng.standard_normal((NUM_QUERIES, DIM)) / 4
    drawn[0] = first / np.linalg.norm(first)
    return np.asarray(np.round(drawn * 64) / 64 + 0.0)  # no negative zeros


def _shards(
    variant: str,
    cells: dict[str, list[s2sphere.CellId]],
    pq_codes: npt.NDArray[np.uint8],
    quantizer: ProductQuantizer,
) -> dict[str, bytes]:
    files = {}
    for number, (side, own) in enumerate(cells.items()):
        ids = np.array([cell.id() for cell in own], np.uint64)
        rows = pq_codes[number * CELLS_A_SHARD :][:CELLS_A_SHARD]
        for kind in ("scan", "usearch"):
            parent = own[0].parent(PARENT_LEVEL).id()
            shard = build_shard(ids, rows, quantizer, parent=parent, kind=kind)
            files[f"shards/{variant}_{side}.{kind}.cells"] = shard.cells
            files[f"shards/{variant}_{side}.{kind}.payload"] = shard.payload
    return files


def _admits(region: dict[str, Any], cell: s2sphere.CellId) -> bool:
    """Return whether a cell belongs to a region; refuse one that rounding could decide."""
    if "disk" in region:
        disk = region["disk"]
        gap_m = disk["radius_m"] - _away_m(disk["lat"], disk["lon"], cell)
        if abs(gap_m) < 0.1:
            raise ValueError(f"the centre of {cell.to_token()} lies on the border of {region}")
        return bool(gap_m > 0)
    if "box" in region:
        box, centre = region["box"], cell.to_lat_lng()
        east = (centre.lng().degrees - box["west"]) % 360
        width = (box["east"] - box["west"]) % 360
        gaps = (centre.lat().degrees - box["south"], box["north"] - centre.lat().degrees)
        if min(abs(gap) for gap in (*gaps, east, width - east)) < 1e-6:
            raise ValueError(f"the centre of {cell.to_token()} lies on the border of {region}")
        return bool(min(gaps) > 0 and east < width)
    pieces = [s2sphere.CellId.from_token(token) for token in region.get("cells", [])]
    return not region or any(cell.intersects(piece) for piece in pieces)


def _best(scores: Floats, cells: list[s2sphere.CellId], rows: list[int]) -> dict[str, list[Any]]:
    """Return the best cells and scores; refuse a tie across the end of the list."""
    ranked = sorted((-scores[row], cells[row].id()) for row in rows)
    if len(ranked) > TOP and ranked[TOP - 1][0] == ranked[TOP][0]:
        raise ValueError(f"ranks {TOP} and {TOP + 1} score the same: choose another seed")
    ranked = ranked[:TOP]
    tokens = [s2sphere.CellId(cell).to_token() for _, cell in ranked]
    return {"cells": tokens, "scores": [-score for score, _ in ranked]}


def _away_m(lat: float, lon: float, cell: s2sphere.CellId) -> float:
    middle = s2sphere.LatLng.from_degrees(lat, lon)
    return float(middle.get_distance(cell.to_lat_lng()).radians) * EARTH_RADIUS_M


def _text(table: dict[str, list[Any]]) -> str:
    """Return JSON with one line for each entry of each list."""
    parts = []
    for name, entries in table.items():
        lines = ",\n".join(f"  {json.dumps(entry)}" for entry in entries)
        parts.append(f' "{name}": [\n{lines}\n ]')
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    main()
