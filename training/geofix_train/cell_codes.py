"""Cell codes: aerial embedding + kappa x upsampled prototype, and the file that holds them.

The parts are stored beside the sum, with how many photos stand behind each prototype, so that codes
can be mixed again without encoding again (see mixing.py).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from geofix.image_statistics import NUM_STATISTICS
from geofix_index import cells as s2
from geofix_train.prototypes import PrototypeGrid
from geofix_train.whole_file import whole_file

CODES, QUERIES = Path("codes/codes.safetensors"), Path("codes/queries.safetensors")  # in a run
CODES_FORMAT = 3  # 1 had no prototype_photos, 2 no kappa_choice
QUERIES_FORMAT = 1

# How kappa was chosen, as files and reports say it.
BY_HAND = "given by hand"
VALIDATED = "chosen on validation photos"
NO_VALIDATION = "no validation photos"  # then it is 1
NO_IMAGERY = "no imagery"  # then it is 1: there is nothing to weigh prototypes against

Floats = npt.NDArray[np.float32]


class CellCodesError(ValueError):
    """A file of cell codes or queries that cannot be used."""


@dataclass(frozen=True)
class CellCodes:
    """Codes of N cells, sorted by cell. A part that a cell lacks is a row of zeros."""

    cells: npt.NDArray[np.uint64]  # (N,)
    prototypes: Floats  # (N, D)
    aerial: Floats  # (N, D)
    num_photos: npt.NDArray[np.int64]  # (N,) training photos in the cell
    prototype_photos: Floats  # (N,) training photos behind the prototype: it is a mix of several
    kappa: float
    shrink_photos: float = 0.0  # a prototype that so many photos stand behind counts half; 0: all
    provenance: Mapping[str, Any] = field(default_factory=dict)
    kappa_choice: str = BY_HAND  # or VALIDATED, NO_VALIDATION, NO_IMAGERY

    @property
    def cell_codes(self) -> Floats:
        """The sum, (N, D)."""
        trust = shrinkage(self.prototype_photos, self.shrink_photos)
        return mix(trust[:, None] * self.prototypes, self.aerial, kappa=self.kappa)

    @property
    def photographed(self) -> npt.NDArray[np.bool_]:
        """Whether training photos stand behind the prototype, (N,)."""
        return np.asarray(self.prototype_photos > 0)

    @property
    def mixing(self) -> dict[str, float]:
        """How the parts are mixed, as packs keep it."""
        return {"kappa": self.kappa, "shrink_photos": self.shrink_photos}

    def with_kappa(
        self, kappa: float, *, shrink_photos: float | None = None, choice: str = BY_HAND
    ) -> "CellCodes":
        """Return the same parts, mixed otherwise.

        Args:
            kappa: the weight of prototypes.
            shrink_photos: stays where it is not given.
            choice: how kappa was chosen.

        Raises:
            ValueError: a number below 0, or none.
        """
        shrink_photos = self.shrink_photos if shrink_photos is None else shrink_photos
        if not kappa >= 0:
            raise ValueError(f"kappa is {kappa}, want 0 or more")
        if not 0 <= shrink_photos < np.inf:
            raise ValueError(f"the shrinkage is {shrink_photos}, want 0 photos or more")
        return replace(self, kappa=kappa, shrink_photos=shrink_photos, kappa_choice=choice)


@dataclass(frozen=True)
class StoredCodes:
    """What a pack is built from, with the codes mapped from their file."""

    cells: npt.NDArray[np.uint64]  # (N,)
    cell_codes: Floats  # (N, D), the sum; read when it is touched
    photographed: npt.NDArray[np.bool_]  # (N,) whether training photos stand behind the prototype
    provenance: Mapping[str, Any]


@dataclass(frozen=True)
class Queries:
    """Photos with known place, embedded: for choosing kappa and for calibration."""

    embeddings: Floats  # (Q, D)
    latlon: npt.NDArray[np.float64]  # (Q, 2)
    slices: tuple[str, ...] = ()
    image_statistics: Floats | None = None  # (Q, 12), what geofix tells strange pictures by


def mix(prototypes: Floats, aerial: Floats, *, kappa: float) -> Floats:
    """Return aerial + kappa x prototypes, (N, D). An infinite kappa means prototypes alone."""
    if np.isinf(kappa):
        return prototypes
    return np.asarray(aerial + np.float32(kappa) * prototypes)


def shrinkage(prototype_photos: Floats, shrink_photos: float) -> Floats:
    """Return what kappa is multiplied by in each cell, (N,): n / (n + n0), or 1 where n0 is 0.

    A mean of n noisy embeddings varies by their own variance over n; n / (n + n0) is the weight
    that such a mean deserves beside a second estimate (shrinkage, as of Stein and of credibility).

    Args:
        prototype_photos: n, (N,).
        shrink_photos: n0.
    """
    if shrink_photos == 0:
        return np.ones_like(prototype_photos)
    return np.asarray(prototype_photos / (prototype_photos + shrink_photos), np.float32)


def upsample(grid: PrototypeGrid, prototypes: Floats, cells: npt.NDArray[np.uint64]) -> Floats:
    """Return a prototype of unit length for each cell of a finer level, (N, D).

    Bilinear at the cell's centre; a cell whose own parent has no prototype gets zeros.
    """
    mixed = _at_centres(grid, prototypes, cells)
    mixed /= np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-12)
    return np.asarray(mixed, np.float32)


def upsample_counts(
    grid: PrototypeGrid, counts: npt.NDArray[np.float64], cells: npt.NDArray[np.uint64]
) -> Floats:
    """Return what each cell's mix of prototypes has of a number (C,) of each, (N,).

    In the same shares as `upsample` mixes them; zero where that gives zeros.
    """
    return np.asarray(_at_centres(grid, counts[:, None], cells)[:, 0], np.float32)


def write_cell_codes(codes: CellCodes, path: Path) -> None:
    """Write `codes.safetensors`."""
    metadata = {
        "format": str(CODES_FORMAT),
        "kappa": json.dumps(codes.kappa),
        "kappa_choice": json.dumps(codes.kappa_choice),
        "shrink_photos": json.dumps(codes.shrink_photos),
        "provenance": json.dumps(dict(codes.provenance), sort_keys=True),
    }
    tensors: dict[str, npt.NDArray[Any]] = {
        "cells": codes.cells,
        "cell_codes": codes.cell_codes,
        "prototypes": codes.prototypes,
        "aerial": codes.aerial,
        "num_photos": codes.num_photos,
        "prototype_photos": codes.prototype_photos,
    }
    _save(tensors, path, metadata)


def read_cell_codes(path: Path) -> CellCodes:
    """Read `codes.safetensors`; raise CellCodesError where it is not one, or of another format."""
    parts = ("cells", "prototypes", "aerial", "num_photos", "prototype_photos")
    tensors, metadata = _load(path, parts, wanted_format=CODES_FORMAT)
    kappa, kappa_choice, shrink_photos, provenance = (
        _metadata(metadata, name, path)
        for name in ("kappa", "kappa_choice", "shrink_photos", "provenance")
    )
    return CellCodes(
        cells=tensors["cells"],
        prototypes=tensors["prototypes"],
        aerial=tensors["aerial"],
        num_photos=tensors["num_photos"],
        prototype_photos=tensors["prototype_photos"],
        kappa=kappa,
        shrink_photos=shrink_photos,
        provenance=provenance,
        kappa_choice=kappa_choice,
    )


def map_cell_codes(path: Path) -> StoredCodes:
    """Map `codes.safetensors`, which may be larger than memory.

    Raises:
        CellCodesError: it is not one, or of another format.
    """
    wanted = ("cells", "prototype_photos")
    tensors, metadata = _load(path, wanted, wanted_format=CODES_FORMAT)
    names = ("kappa", "kappa_choice", "shrink_photos", "provenance")
    kappa, kappa_choice, shrink_photos, provenance = (_metadata(metadata, n, path) for n in names)
    return StoredCodes(
        cells=tensors["cells"],
        cell_codes=_mapped(path, "cell_codes"),
        photographed=tensors["prototype_photos"] > 0,
        provenance={
            **provenance,
            "kappa": kappa if np.isfinite(kappa) else "infinite",  # which JSON has no number for
            "kappa_choice": kappa_choice,
            "shrink_photos": shrink_photos,
        },
    )


def write_queries(queries: Queries, path: Path) -> None:
    """Write `queries.safetensors`."""
    tensors: dict[str, npt.NDArray[Any]] = {
        "embeddings": queries.embeddings,
        "latlon": queries.latlon,
    }
    if queries.image_statistics is not None:
        tensors["image_statistics"] = queries.image_statistics
    metadata = {"format": str(QUERIES_FORMAT), "slices": json.dumps(list(queries.slices))}
    _save(tensors, path, metadata)


def read_queries(path: Path) -> Queries:
    """Read `queries.safetensors`; raise CellCodesError where it is not one."""
    tensors, metadata = _load(
        path,
        ("embeddings", "latlon"),
        wanted_format=QUERIES_FORMAT,
        optional=("image_statistics",),
    )
    slices = tuple(_metadata(metadata, "slices", path))
    statistics = tensors.get("image_statistics")  # files of earlier versions have none
    if statistics is not None and statistics.shape != (len(tensors["latlon"]), NUM_STATISTICS):
        raise CellCodesError(
            f"{path}: image_statistics is {statistics.shape}, want "
            f"{(len(tensors['latlon']), NUM_STATISTICS)}"
        )
    return Queries(tensors["embeddings"], tensors["latlon"], slices, statistics)


def _at_centres(
    grid: PrototypeGrid, values: npt.NDArray[np.floating], cells: npt.NDArray[np.uint64]
) -> npt.NDArray[np.floating]:
    """Return the mean of values (C, K) at each cell's centre, (N, K); zero without a prototype."""
    rows, weights = grid.mix(*s2.latlon_from_cell(cells).T)
    mixed = (values[rows] * weights[..., None]).sum(axis=1)
    mixed[~np.isin(s2.parent(cells, level=grid.level), grid.cells)] = 0.0
    return np.asarray(mixed)


def _metadata(metadata: dict[str, str], name: str, path: Path) -> Any:
    try:
        return json.loads(metadata[name])
    except (KeyError, ValueError) as e:
        raise CellCodesError(f"{path}: metadata lacks a readable {name!r}: {e}") from e


def _save(tensors: dict[str, npt.NDArray[Any]], path: Path, metadata: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    with whole_file(path) as part:
        save_file(whole, part, metadata)


def _load(
    path: Path, wanted: tuple[str, ...], *, wanted_format: int, optional: tuple[str, ...] = ()
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, str]]:
    """Return tensors and metadata; the first of `wanted` tells this kind of file from others."""
    if path.is_dir():
        raise CellCodesError(
            f"{path}: is a folder, want a file that geofix-train codes wrote, such as "
            "RUN/codes/codes.safetensors"
        )
    if not path.is_file():
        raise CellCodesError(f"{path}: no such file: make it by geofix-train codes")
    try:
        with safe_open(path, framework="numpy") as file:
            there = [name for name in (*wanted, *optional) if name in file.keys()]
            tensors = {name: file.get_tensor(name) for name in there}
            metadata = file.metadata() or {}
            names = sorted(file.keys())
    except (OSError, SafetensorError) as e:
        raise CellCodesError(f"{path}: unreadable: {e}") from e
    _check_has(names, wanted[:1], path)
    if metadata.get("format") != str(wanted_format):
        raise CellCodesError(
            f"{path}: format {metadata.get('format')!r}, want {wanted_format}: make it again by "
            "geofix-train codes"
        )
    _check_has(names, wanted, path)
    return tensors, metadata


def _mapped(path: Path, name: str) -> Floats:
    """Return a float32 tensor of a safetensors file in place.

    The file is the length of its header (u64), the header in JSON, and the tensors, which the
    header places; https://github.com/huggingface/safetensors describes it.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    _check_has(list(header), (name,), path)
    tensor = header[name]
    if tensor["dtype"] != "F32":
        raise CellCodesError(f"{path}: {name} is {tensor['dtype']}, want F32")
    start = 8 + length + tensor["data_offsets"][0]
    return np.memmap(path, "<f4", mode="r", offset=start, shape=tuple(tensor["shape"]))


def _check_has(names: Sequence[str], wanted: tuple[str, ...], path: Path) -> None:
    for name in wanted:
        if name not in names:
            raise CellCodesError(f"{path}: no tensor {name!r}; it has {', '.join(names)}")
