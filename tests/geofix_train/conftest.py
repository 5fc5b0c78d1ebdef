"""A tiny town and a short run on it, each made once; what uses them belongs to one worker."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from geofix_train.cli import main
from geofix_train.codes import EncodedRun, encode_run
from geofix_train.config import FitConfig
from geofix_train.fit import fit
from geofix_train.photo_table import PhotoTable, read_photo_table
from geofix_train.town import dataset, make_town
from geofix_train.town.drives import Shot, plan_drives
from geofix_train.town.raster import Warp, World, streets_around
from tests.command_line import Run, runner
from tests.geofix_train.tiny_data import tiny_config, write_data, write_toml

SIZE_KM, NUM_PHOTOS, SEED = 0.8, 60, 1
# West and north edges of the orthophoto tiles that are drawn: four of 16, since they take long.
MIDDLE_SQUARES = tuple((x, y) for x in (-307.2, 0.0) for y in (0.0, 307.2))


@dataclass(frozen=True)
class Town:
    """The folder of a town and what `make_town` returned."""

    folder: Path
    table: PhotoTable


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> Town:
    """Return the smallest town, with imagery of its middle alone."""
    folder = tmp_path_factory.mktemp("towns") / "town"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "_squares", lambda half_m: iter(MIDDLE_SQUARES))
        table = make_town(folder, size_km=SIZE_KM, num_photos=NUM_PHOTOS, seed=SEED, num_workers=2)
    return Town(folder, table)


@pytest.fixture(scope="session")
def town_table(town: Town) -> PhotoTable:
    """Return the town's photo table as a user reads it."""
    table, problems = read_photo_table(town.folder / "photos.parquet")
    assert problems == []
    return table


@pytest.fixture(scope="session")
def world() -> World:
    """Return the world that the town shows."""
    (sector,) = dataset._sectors(SEED, SIZE_KM * 500 + dataset.MARGIN_M)
    return dataset._world(sector)


@pytest.fixture(scope="session")
def shots() -> list[Shot]:
    """Return the photos that the town holds, as they were planned."""
    return plan_shots(num_photos=NUM_PHOTOS)


def plan_shots(
    *,
    num_photos: int,
    size_m: float = SIZE_KM * 1000,
    seed: int = SEED,
    photographed: float = 1.0,
) -> list[Shot]:
    """Return photos of drives through a town."""
    reach = size_m / 2 + dataset.MARGIN_M
    warp = Warp.from_seed(seed)
    streets = streets_around(seed, warp, x0=-reach, y0=-reach, x1=reach, y1=reach)
    return plan_drives(
        streets, warp, size_m=size_m, num_photos=num_photos, seed=seed,
        photographed=photographed,
    )  # fmt: skip


@pytest.fixture(scope="session")
def town_config(town: Town) -> FitConfig:
    """Return settings of a few dozen steps on the town."""
    return tiny_config(town.folder / "photos.parquet", town.folder / "aerial", epochs=6)


@pytest.fixture(scope="session")
def town_run(town_config: FitConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished run on the town."""
    return fit(town_config, tmp_path_factory.mktemp("runs") / "town")


@pytest.fixture(scope="session")
def encoded(town_run: Path) -> EncodedRun:
    """Return the run on the town, applied to it."""
    return encode_run(town_run)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny data set: `photos.parquet` and `aerial/`."""
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def fitted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that the command line has finished, beside its `my.toml`."""
    folder = tmp_path_factory.mktemp("cli")
    config = tiny_config(data / "photos.parquet", data / "aerial", epochs=1)
    toml = write_toml(config, folder / "my.toml")
    assert main(["fit", str(toml), "-o", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the command line and catches what it prints."""
    return runner(main, capsys)
