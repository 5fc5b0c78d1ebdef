"""A short run on tiny data, and its exported encoder; what uses them belongs to one worker."""

from pathlib import Path

import pytest

from geofix_export import export_encoder
from geofix_train.artifact import EncoderArtifact
from geofix_train.cell_codes import write_cell_codes
from geofix_train.codes import encode_run, make_codes
from geofix_train.fit import fit
from tests.geofix_train.tiny_data import tiny_config, write_data


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
