"""Fixtures for all packages: tiny regions and their packs, made once per run; a fake TensorRT."""

import gc
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from geofix.backends import cuda, tensorrt_engine
from tests.fake_tensorrt import FakeTensorRT, live
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


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the library that stands for CUDA's driver."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("the fake driver needs Linux and a C compiler")
    library = tmp_path_factory.mktemp("driver") / "libcuda.so.1"
    source = Path(__file__).with_name("fake_cuda.c")
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, str(source), "-o", str(library)], check=True)
    return library


@pytest.fixture(params=["10.3.0", "11.0.0.1"])
def trt(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    driver: Path,
    tmp_path: Path,
) -> Iterator[FakeTensorRT]:
    """Put fakes in the place of TensorRT and of the driver; check that nothing is left behind."""
    module = FakeTensorRT(request.param)
    monkeypatch.setattr(cuda, "LIBRARY", str(driver))
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    release = tmp_path / "nv_tegra_release"
    release.write_text("# R36 (release), REVISION: 4.3\nanother line\n")
    monkeypatch.setattr(tensorrt_engine, "_SYSTEM_FILES", (release, tmp_path / "absent"))
    yield module
    gc.collect()
    assert live() == 0


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Return a folder for what the device keeps, not there yet."""
    return tmp_path / "cache"
