"""Cell codes: aerial embedding + kappa x upsampled prototype, and the file that holds them.

The parts are stored beside the sum, so that codes can be mixed again without encoding again.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from geofix_index import cells as s2
from geofix_index.sphere import great_circle_m
from geofix_train.prototypes import PrototypeGrid

KAPPA_STEPS = 2.0 ** np.arange(-4, 4.5, 0.5)  # tried around the Fisher estimate
FORMAT = 1

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
    kappa: float
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cell_codes(self) -> Floats:
        """The sum, (N, D)."""
        return mix(self.prototypes, self.aerial, kappa=self.kappa)

    def with_kappa(self, kappa: float) -> "CellCodes":
        """Return the same parts, mixed otherwise."""
        return replace(self, kappa=kappa)


@dataclass(frozen=True)
class Queries:
    """Photos with known place, embedded: for choosing kappa and for calibration."""

    embeddings: Floats  # (Q, D)
    latlon: npt.NDArray[np.float64]  # (Q, 2)
    slices: tuple[str, ...] = ()


def mix(prototypes: Floats, aerial: Floats, *, kappa: float) -> Floats:
    """Return aerial + kappa x prototypes, (N, D). An infinite kappa means prototypes alone."""
    if np.isinf(kappa):
        return prototypes
    return np.asarray(aerial + np.float32(kappa) * prototypes)


def upsample(grid: PrototypeGrid, prototypes: Floats, cells: npt.NDArray[np.uint64]) -> Floats:
    """Return a prototype of unit length for each cell of a finer level, (N, D).

    Bilinear at the cell's centre; a cell whose own parent has no prototype gets zeros.
    """
    centre = s2.latlon_from_cell(cells)
    rows, weights = grid.mix(centre[:, 0], centre[:, 1])
    mixed = (prototypes[rows] * weights[..., None]).sum(axis=1)
    mixed /= np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-12)
    mixed[~np.isin(s2.parent(cells, level=grid.level), grid.cells)] = 0.0
    return np.asarray(mixed, np.float32)


def choose_kappa(
    prototypes: Floats, aerial: Floats, cells: npt.NDArray[np.uint64], queries: Queries
) -> float:
    """Return the middle of the kappas that find the most validation queries.

    Tried are steps around the Fisher estimate. A query counts 1 where the best cell is within
    200 m, and 1 more within 100 m. Kappas that differ from the best by less than one standard error
    of the difference count as equally good: without this, a few queries would decide.
    """
    kappas = fisher_kappa(prototypes, aerial, cells, queries) * KAPPA_STEPS
    centres = s2.latlon_from_cell(cells)

    def points(kappa: float) -> npt.NDArray[np.float64]:
        scores = queries.embeddings @ mix(prototypes, aerial, kappa=kappa).T
        error = great_circle_m(*queries.latlon.T, *centres[scores.argmax(axis=1)].T)
        return (error <= 100).astype(np.float64) + (error <= 200)

    scored = np.stack([points(kappa) for kappa in kappas.tolist()])  # (K, Q)
    behind = scored[scored.mean(axis=1).argmax()] - scored
    is_best = behind.mean(axis=1) <= behind.std(axis=1) / np.sqrt(len(queries.latlon))
    return float(np.exp(np.log(kappas[is_best]).mean()))


def fisher_kappa(
    prototypes: Floats, aerial: Floats, cells: npt.NDArray[np.uint64], queries: Queries
) -> float:
    """Return the ratio of the parts' mean margin over variance (Fisher's linear discriminant).

    Taken over the queries whose own cell has both parts; 1.0 where there are none.
    """
    level = int(s2.level_of(cells[:1])[0])
    own = s2.cell_from_latlon(*queries.latlon.T, level=level)
    row = np.minimum(np.searchsorted(cells, own), len(cells) - 1)
    has_both = (cells[row] == own) & prototypes[row].any(axis=1) & aerial[row].any(axis=1)
    if not has_both.any():
        return 1.0
    weights = []
    for part in (prototypes, aerial):
        scores = queries.embeddings[has_both] @ part[part.any(axis=1)].T
        true = (queries.embeddings[has_both] * part[row[has_both]]).sum(axis=1)
        margin = float((true - scores.mean(axis=1)).mean())
        weights.append(max(margin, 1e-3) / max(float(scores.var(axis=1).mean()), 1e-9))
    return weights[0] / weights[1]


def write_cell_codes(codes: CellCodes, path: Path) -> None:
    """Write `codes.safetensors`."""
    metadata = {
        "format": str(FORMAT),
        "kappa": json.dumps(codes.kappa),
        "provenance": json.dumps(dict(codes.provenance), sort_keys=True),
    }
    tensors: dict[str, npt.NDArray[Any]] = {
        "cells": codes.cells,
        "cell_codes": codes.cell_codes,
        "prototypes": codes.prototypes,
        "aerial": codes.aerial,
        "num_photos": codes.num_photos,
    }
    _save(tensors, path, metadata)


def read_cell_codes(path: Path) -> CellCodes:
    """Read `codes.safetensors`; raise CellCodesError where it is not one."""
    tensors, metadata = _load(path, ("cells", "prototypes", "aerial", "num_photos"))
    kappa, provenance = (_metadata(metadata, name, path) for name in ("kappa", "provenance"))
    return CellCodes(
        tensors["cells"], tensors["prototypes"], tensors["aerial"], tensors["num_photos"],
        kappa, provenance,
    )  # fmt: skip


def write_queries(queries: Queries, path: Path) -> None:
    """Write `queries.safetensors`."""
    tensors: dict[str, npt.NDArray[Any]] = {
        "embeddings": queries.embeddings,
        "latlon": queries.latlon,
    }
    _save(tensors, path, {"format": str(FORMAT), "slices": json.dumps(list(queries.slices))})


def read_queries(path: Path) -> Queries:
    """Read `queries.safetensors`; raise CellCodesError where it is not one."""
    tensors, metadata = _load(path, ("embeddings", "latlon"))
    slices = tuple(_metadata(metadata, "slices", path))
    return Queries(tensors["embeddings"], tensors["latlon"], slices)


def _metadata(metadata: dict[str, str], name: str, path: Path) -> Any:
    try:
        return json.loads(metadata[name])
    except (KeyError, ValueError) as e:
        raise CellCodesError(f"{path}: metadata lacks a readable {name!r}: {e}") from e


def _save(tensors: dict[str, npt.NDArray[Any]], path: Path, metadata: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    save_file({name: np.ascontiguousarray(t) for name, t in tensors.items()}, part, metadata)
    part.replace(path)


def _load(
    path: Path, wanted: tuple[str, ...]
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, str]]:
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as e:
        raise CellCodesError(f"{path}: unreadable: {e}") from e
    for name in wanted:
        if name not in tensors:
            raise CellCodesError(f"{path}: no tensor {name!r}; it has {', '.join(tensors)}")
    if metadata.get("format") != str(FORMAT):
        raise CellCodesError(f"{path}: format {metadata.get('format')!r}, want {FORMAT}")
    return tensors, metadata
