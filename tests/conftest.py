"""Fixtures for all packages: tiny regions and their packs, made once per run."""

from pathlib import Path

import pytest
from hypothesis import settings

from tests.tiny_pack import CAPE_TOWN, TAVEUNI, TinyRegion, make_region

# The same examples on each machine, however slow it is: a failure there can be repeated here.
settings.register_profile("geofix", deadline=None, derandomize=True, database=None)
settings.load_profile("geofix")


@pytest.fixture(scope="session")
def region() -> TinyRegion:
    """Return a region in the north-east of the globe."""
    return make_region()


@pytest.fixture(scope="session")
def southern_region() -> TinyRegion:
    """Return a region in the south."""
    return make_region(CAPE_TOWN, seed=1)


@pytest.fixture(scope="session")
def antimeridian_region() -> TinyRegion:
    """Return a region on both sides of the antimeridian."""
    return make_region(TAVEUNI, seed=2)


@pytest.fixture(scope="session")
def pack_path(region: TinyRegion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of the region's pack, with an encoder and calibrated."""
    return region.write(tmp_path_factory.mktemp("packs") / "tiny.geofix")


@pytest.fixture(scope="session")
def southern_pack_path(
    southern_region: TinyRegion, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return the path of the southern region's pack."""
    return southern_region.write(tmp_path_factory.mktemp("packs") / "southern.geofix")
