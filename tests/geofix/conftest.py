"""Fakes of TensorRT and of CUDA's driver, for the tests of the backend."""

import gc
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from geofix.backends import cuda, tensorrt_engine
from tests.geofix.fake_tensorrt import FakeTensorRT, live


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
