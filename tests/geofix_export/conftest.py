"""A short run on tiny data, and its exported encoder; what uses them belongs to one worker."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geofix import Manifest
from geofix_export import build_pack, export_encoder
from geofix_index import cells as s2
from geofix_train.artifact import EncoderArtifact
from geofix_train.cell_codes import Queries, write_cell_codes
from geofix_train.codes import encode_run, make_codes
from geofix_train.fit import fit
from tests.geofix_train.tiny_data import tiny_config, write_data
from tests.tiny_pack import KIND, TinyRegion

Build = Callable[..., Manifest]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny data set: photos, `photos.parquet` and `aerial/`."""
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def finished_run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished run."""
    config = tiny_config(data / "photos.parquet", data / "aerial")
    return with_codes(fit(config, tmp_path_factory.mktemp("runs") / "tiny"))


def with_codes(run: Path) -> Path:
    """Make a run's cell codes; return its folder."""
    write_cell_codes(make_codes(encode_run(run)), run / "codes" / "codes.safetensors")
    return run


@pytest.fixture(scope="session")
def artifact(finished_run: Path) -> EncoderArtifact:
    """Return the encoder of the run as it is exported."""
    return export_encoder(finished_run)


@pytest.fixture(scope="module")
def encoder(region: TinyRegion) -> EncoderArtifact:
    """Return the region's encoder as the exporter gives it."""
    file = region.encoder
    return EncoderArtifact(
        file.target, file.precision, file.filename, bytes(file.data), file.dim, file.input_spec
    )


@pytest.fixture(scope="module")
def queries(region: TinyRegion) -> Queries:
    """Return a query near each cell: its code with noise."""
    rng = np.random.default_rng(0)
    noisy = region.cell_codes + 0.05 * rng.standard_normal(region.cell_codes.shape)
    noisy /= np.linalg.norm(noisy, axis=1, keepdims=True)
    return Queries(noisy.astype(np.float32), s2.latlon_from_cell(region.cells))


@pytest.fixture
def build(region: TinyRegion) -> Build:
    """Return `build_pack` with arguments that are right; a test changes some."""

    def build_region(out: Path, **changes: Any) -> Manifest:
        arguments: dict[str, Any] = {
            "cells": region.cells,
            "cell_codes": region.cell_codes,
            "quantizer": region.quantizer,
            "index": KIND,
        }
        return build_pack(out, **(arguments | changes))

    return build_region
