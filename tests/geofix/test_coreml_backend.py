"""The backend for Core ML with a stand-in for coremltools; the real one runs on macOS alone."""

import enum
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import geofix.backends.coreml
from geofix.backends import open_encoder
from geofix.backends.coreml import COMPUTE_UNITS, CoreMLEncoder
from geofix.encoder import QueryEncoder
from geofix.errors import BackendUnavailable
from geofix.input_spec import InputSpec
from geofix.mlpackage import FOLDER, MANIFEST, MODEL, WEIGHTS, pack_mlpackage

SPEC = InputSpec(width=6, height=4)
PACKAGE = pack_mlpackage({MANIFEST: b"{}", MODEL: b"a model", WEIGHTS: b"weights"})
Images = npt.NDArray[np.uint8]


def images(num: int) -> Images:
    return np.random.default_rng(0).integers(0, 256, (num, 4, 6, 3), dtype=np.uint8)


class FakeCoreML:
    """What the backend uses of coremltools; a model gives mean red, green and blue, and 1."""

    class ComputeUnit(enum.Enum):
        ALL, CPU_ONLY, CPU_AND_GPU, CPU_AND_NE = range(4)

    def __init__(self) -> None:
        self.compiled: list[Path] = []
        self.loaded: list[tuple[Path, enum.Enum]] = []
        self.output: Any = None
        self.failure: Exception | None = None

    def compile_model(self, source: str, destination: str) -> str:
        if self.failure is not None:
            raise self.failure
        assert (Path(source) / MODEL).read_bytes() == b"a model"
        self.compiled.append(Path(source))
        shutil.copytree(source, destination)
        return destination

    def load(self, path: str, unit: enum.Enum) -> Any:
        assert (Path(path) / MODEL).exists()
        self.loaded.append((Path(path), unit))
        return SimpleNamespace(predict=self.predict)

    def predict(self, given: dict[str, Image.Image]) -> dict[str, Any]:
        (image,) = given.values()
        assert list(given) == ["images"]
        assert (image.mode, image.size) == ("RGB", (6, 4))
        if self.output is not None:
            return {"embeddings": self.output}
        means = np.asarray(image, np.float32).mean(axis=(0, 1)) / 255
        return {"embeddings": np.append(means, 1).astype(np.float16)[None]}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeCoreML:
    """Return a stand-in, on what looks like macOS."""
    fake = FakeCoreML()
    module: Any = ModuleType("coremltools")
    module.ComputeUnit = fake.ComputeUnit
    module.models = SimpleNamespace(
        CompiledMLModel=fake.load, utils=SimpleNamespace(compile_model=fake.compile_model)
    )
    monkeypatch.setitem(sys.modules, "coremltools", module)
    on_macos(monkeypatch)
    return fake


def on_macos(monkeypatch: pytest.MonkeyPatch, version: str = "15.1") -> None:
    system = SimpleNamespace(mac_ver=lambda: (version, ("", "", ""), "arm64"))
    monkeypatch.setattr(geofix.backends.coreml, "sys", SimpleNamespace(platform="darwin"))
    monkeypatch.setattr(geofix.backends.coreml, "platform", system)


@pytest.mark.parametrize("num", [0, 1, 5])
def test_each_image_is_handed_over_and_its_embedding_gets_unit_length(
    fake: FakeCoreML, tmp_path: Path, num: int
) -> None:
    encoder = CoreMLEncoder(PACKAGE, SPEC, cache_dir=tmp_path)
    assert encoder.dim == 4
    found = encoder.encode(images(num))
    wanted = np.concatenate([images(num).mean(axis=(1, 2)) / 255, np.ones((num, 1))], axis=1)
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_a_model_is_compiled_once(fake: FakeCoreML, tmp_path: Path) -> None:
    for _ in range(3):
        CoreMLEncoder(PACKAGE, SPEC, cache_dir=tmp_path)
    assert len(fake.compiled) == 1
    assert len({path for path, _ in fake.loaded}) == 1
    (home,) = (tmp_path / "coreml").iterdir()
    assert {path.name for path in home.iterdir()} == {FOLDER, "encoder-15.1.mlmodelc"}


def test_another_model_and_another_system_are_compiled_anew(
    fake: FakeCoreML, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    CoreMLEncoder(PACKAGE, SPEC, cache_dir=tmp_path)
    other = pack_mlpackage({MANIFEST: b"{}", MODEL: b"a model", WEIGHTS: b"others"})
    CoreMLEncoder(other, SPEC, cache_dir=tmp_path)
    on_macos(monkeypatch, "26.0")
    CoreMLEncoder(PACKAGE, SPEC, cache_dir=tmp_path)
    assert len(fake.compiled) == 3
    assert len({path for path, _ in fake.loaded}) == 3


@pytest.mark.parametrize("name", [WEIGHTS, "Data/extra"])
def test_a_cache_that_holds_something_else_is_made_anew(
    fake: FakeCoreML, tmp_path: Path, name: str
) -> None:
    CoreMLEncoder(PACKAGE, SPEC, cache_dir=tmp_path)
    (home,) = (tmp_path / "coreml").iterdir()
    (home / FOLDER / name).write_bytes(b"torn")
    CoreMLEncoder(PACKAGE, SPEC, cache_dir=tmp_path)
    assert len(fake.compiled) == 2
    assert not (home / FOLDER / "Data/extra").exists()
    assert (home / FOLDER / WEIGHTS).read_bytes() == b"weights"


def test_nothing_is_left_where_compiling_fails(fake: FakeCoreML, tmp_path: Path) -> None:
    fake.failure = RuntimeError("error: no such operation")
    with pytest.raises(BackendUnavailable, match="cannot compile the encoder: error: no such op"):
        CoreMLEncoder(PACKAGE, SPEC, cache_dir=tmp_path)
    (home,) = (tmp_path / "coreml").iterdir()
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(("units", "name"), COMPUTE_UNITS.items())
def test_what_computes_can_be_chosen(
    fake: FakeCoreML, tmp_path: Path, units: str, name: str
) -> None:
    CoreMLEncoder(PACKAGE, SPEC, compute_units=units, cache_dir=tmp_path)
    assert fake.loaded[0][1].name == name


def test_unknown_compute_units_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="compute_units is 'gpu', want one of all, cpu, "):
        CoreMLEncoder(PACKAGE, SPEC, compute_units="gpu", cache_dir=tmp_path)


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (np.zeros(4), r"has shape \(4,\), want \(1, D\)"),
        (np.zeros((2, 4)), r"has shape \(2, 4\), want \(1, D\)"),
    ],
)
def test_an_output_of_another_shape_is_an_error(
    fake: FakeCoreML, tmp_path: Path, output: Any, reason: str
) -> None:
    fake.output = output
    with pytest.raises(BackendUnavailable, match=reason):
        CoreMLEncoder(PACKAGE, SPEC, cache_dir=tmp_path)


def test_an_output_of_another_name_is_an_error(fake: FakeCoreML, tmp_path: Path) -> None:
    spec = InputSpec(width=6, height=4, output_name="codes")
    with pytest.raises(BackendUnavailable, match="gives embeddings; its input spec names 'codes'"):
        CoreMLEncoder(PACKAGE, spec, cache_dir=tmp_path)


def test_an_embedding_that_is_not_finite_is_an_error(fake: FakeCoreML, tmp_path: Path) -> None:
    encoder = CoreMLEncoder(PACKAGE, SPEC, cache_dir=tmp_path)
    fake.output = np.full((1, 4), np.nan)
    with pytest.raises(BackendUnavailable, match="NaN or infinity"):
        encoder.encode(images(1))


def test_an_embedding_of_zeros_stays_zero(fake: FakeCoreML, tmp_path: Path) -> None:
    encoder = CoreMLEncoder(PACKAGE, SPEC, cache_dir=tmp_path)
    fake.output = np.zeros((1, 4))
    np.testing.assert_array_equal(encoder.encode(images(2)), np.zeros((2, 4)))


@pytest.mark.parametrize(
    "given", [images(1)[0], images(1)[:, :-1], images(1).astype(np.float32), images(1)[..., :1]]
)
def test_images_of_another_kind_are_an_error(
    fake: FakeCoreML, tmp_path: Path, given: npt.NDArray[Any]
) -> None:
    encoder = CoreMLEncoder(PACKAGE, SPEC, cache_dir=tmp_path)
    with pytest.raises(ValueError, match=r"want uint8 of shape \(B, 4, 6, 3\)"):
        encoder.encode(given)


@pytest.mark.parametrize("spec", [InputSpec(6, 4, color="bgr"), InputSpec(6, 4, dtype="float32")])
def test_an_encoder_that_takes_no_rgb_pixels_is_refused(
    fake: FakeCoreML, tmp_path: Path, spec: InputSpec
) -> None:
    with pytest.raises(BackendUnavailable, match="want rgb uint8"):
        CoreMLEncoder(PACKAGE, spec, cache_dir=tmp_path)


def test_bytes_that_are_no_package_never_reach_core_ml(fake: FakeCoreML, tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match="cannot load the encoder: the package is no"):
        CoreMLEncoder(b"model", SPEC, cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "darwin", reason="says what other systems say")
def test_elsewhere_the_error_says_that_core_ml_is_apples(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match=r"Apple systems only, and this is .*\[onnx\]"):
        CoreMLEncoder(PACKAGE, SPEC, cache_dir=tmp_path)


def test_without_coremltools_the_error_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    on_macos(monkeypatch)
    monkeypatch.setitem(sys.modules, "coremltools", None)
    with pytest.raises(BackendUnavailable, match=r"pip install 'geofix\[coreml\]'"):
        CoreMLEncoder(PACKAGE, SPEC, cache_dir=tmp_path)


def test_an_opened_encoder_is_a_query_encoder(fake: FakeCoreML, tmp_path: Path) -> None:
    encoder: QueryEncoder = open_encoder(
        "coreml", memoryview(PACKAGE), input_spec=SPEC, cache_dir=tmp_path
    )
    assert encoder.dim == 4
    assert (tmp_path / "coreml").exists()


def test_a_forked_child_is_told_to_open_its_own(
    fake: FakeCoreML, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, parent = CoreMLEncoder(PACKAGE, SPEC, cache_dir=tmp_path), os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    with pytest.raises(BackendUnavailable, match=r"Core ML does not work in a child.*spawn"):
        encoder.encode(images(1))
