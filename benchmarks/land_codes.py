"""Aerial codes of the land around a town: cells that a search can be wrong about.

    python -m benchmarks.land_codes RUN -o build/land_codes.safetensors [--cells 200000]

The land is drawn (and kept beside the codes, in land/) and encoded as the cells of a run are, but
from one date and without turns, since there is so much of it: five tiles a cell. The same run, seed
and number give the same codes. They are no part of the repository.
"""

import argparse
import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from tqdm import tqdm

import geofix_index.cells as s2
from geofix_train.checkpoint import WEIGHTS
from geofix_train.codes import encode_cells
from geofix_train.config import read_run_config
from geofix_train.run_folder import load_model
from geofix_train.town.dataset import AERIAL_DATES, CENTRE
from geofix_train.town.land import Block, draw_land, is_in_town, land_blocks, land_cells, read_land

NUM_CELLS = 200_000
DATES = tuple(AERIAL_DATES)[:1]
TURNS = (0.0,)


@dataclass(frozen=True)
class LandCodes:
    """Cells, those nearest to the town's centre first, and their aerial embeddings (N, D)."""

    cells: npt.NDArray[np.uint64]
    aerial: npt.NDArray[np.float32]
    is_town: npt.NDArray[np.bool_]  # which lie in the town: no distractors
    weights: str  # SHA-256 of the run's weights


def main() -> None:
    """Draw, encode and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a finished run on a town")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--cells", type=int, default=NUM_CELLS, help="outside the town")
    arguments = parser.parse_args()
    codes = make_land_codes(arguments.run, arguments.output.parent / "land", arguments.cells)
    write_land_codes(codes, arguments.output)
    print(f"{arguments.output}: {len(codes.cells)} cells")


def make_land_codes(run: Path, land: Path, num_cells: int) -> LandCodes:
    """Return codes of the town's cells and of `num_cells` around it, from imagery of one kind."""
    facts = json.loads((Path(read_run_config(run).data.photos).parent / "town.json").read_text())
    level = read_run_config(run).objective.code_level
    blocks, cells = _blocks_with(num_cells, level=level, size_km=facts["size_km"])
    draw_land(land, blocks, seed=facts["seed"], dates=DATES)
    aerial = np.concatenate(list(_encode_blocks(run, land, blocks)))
    order = _from_the_middle(cells)
    is_town = is_in_town(cells, size_km=facts["size_km"])
    order = order[is_town[order] | (np.cumsum(~is_town[order]) <= num_cells)]
    return LandCodes(cells[order], aerial[order], is_town[order], weights_sha256(run))


def write_land_codes(codes: LandCodes, path: Path) -> None:
    """Write the codes; embeddings in half precision, which is far below what tells cells apart."""
    tensors: dict[str, npt.NDArray[Any]] = {
        "cells": codes.cells,
        "aerial": codes.aerial.astype(np.float16),
        "is_town": codes.is_town,
    }
    save_file(tensors, path, {"weights": codes.weights})


def read_land_codes(path: Path) -> LandCodes:
    """Read what `write_land_codes` wrote."""
    with safe_open(path, framework="numpy") as file:
        cells, aerial, is_town = (file.get_tensor(n) for n in ("cells", "aerial", "is_town"))
        return LandCodes(cells, aerial.astype(np.float32), is_town, file.metadata()["weights"])


def weights_sha256(run: Path) -> str:
    """Return what tells the weights of runs apart."""
    return hashlib.sha256((run / WEIGHTS).read_bytes()).hexdigest()


def _blocks_with(
    num_cells: int, *, level: int, size_km: float
) -> tuple[list[Block], npt.NDArray[np.uint64]]:
    """Return the nearest blocks that hold so many cells outside the town, and all their cells."""
    blocks, cells, found = [], [], 0
    for block in land_blocks(4 + num_cells // 1000):
        own = land_cells(block, level=level)
        blocks.append(block)
        cells.append(own)
        found += int((~is_in_town(own, size_km=size_km)).sum())
        if found >= num_cells:
            break
    return blocks, np.concatenate(cells)


def _from_the_middle(cells: npt.NDArray[np.uint64]) -> npt.NDArray[np.intp]:
    centres = s2.latlon_from_cell(cells)
    away = (centres - CENTRE) * (1.0, np.cos(np.radians(CENTRE[0])))
    return np.argsort((away**2).sum(axis=1), kind="stable")


def _encode_blocks(run: Path, land: Path, blocks: list[Block]) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the embeddings of each block's cells; each process works on one core."""
    context = get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), context, torch.set_num_threads, (1,)) as pool:
        futures = [pool.submit(_encode_block, run, land, block) for block in blocks]
        for future in tqdm(futures, desc="encode", unit="block", disable=None):
            yield future.result()


def _encode_block(run: Path, land: Path, block: Block) -> npt.NDArray[np.float32]:
    config, model, _ = load_model(run)
    mosaics = read_land(land, block, dates=DATES)
    cells = land_cells(block, level=config.objective.code_level)
    return encode_cells(model, mosaics, cells, config, turns=TURNS)


if __name__ == "__main__":
    main()
