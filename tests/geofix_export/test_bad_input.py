"""What cannot be exported is refused with a reason, and leaves what was there before."""

import errno
import gc
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from geofix.input_spec import InputSpec
from geofix_export.cli import main
from geofix_export.coreml import CoreMLConversionError, convert_to_coreml
from geofix_export.encoder import export_encoder, exported_before
from geofix_export.onnx_model import UnsupportedOperator, to_onnx
from geofix_export.recipe import read_recipe
from geofix_train.artifact import ArtifactError, EncoderArtifact, read_artifact, write_artifact
from geofix_train.checkpoint import CheckpointError
from tests.command_line import Run, runner

pytestmark = pytest.mark.xdist_group("export")

SPEC = InputSpec(32, 24)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(main, capsys)


class Bessel(nn.Module):
    """What no runtime has an operator for."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)  # type: ignore[no-any-return]


class Branching(nn.Module):
    """What depends on the data, and so is no graph."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class OddEncoder(nn.Module):
    """An encoder with a module that cannot be exported."""

    def __init__(self, odd: nn.Module) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), odd)
        self.projection = nn.Linear(4, 8)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.backbone(images.float().permute(0, 3, 1, 2))
        return nn.functional.normalize(self.projection(maps.mean((2, 3))), dim=1)


def test_an_operator_that_onnx_lacks_is_named_with_its_module() -> None:
    wanted = r"no operator for prims.bessel_j0.default, which module backbone.1 \(Bessel\) uses"
    with pytest.raises(UnsupportedOperator, match=wanted):
        to_onnx(OddEncoder(Bessel()).eval(), SPEC)


# coremltools leaves the removal of a folder to the garbage collector where it fails.
@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")
def test_an_operator_that_core_ml_lacks_is_named_with_its_module() -> None:
    with pytest.raises(CoreMLConversionError, match=r"special_bessel_j0, of module backbone\.1;"):
        convert_to_coreml(OddEncoder(Bessel()).eval(), SPEC, precision="fp16")
    gc.collect()


def test_an_encoder_that_is_no_graph_is_refused_in_a_sentence() -> None:
    with pytest.raises(UnsupportedOperator, match=r"^the encoder cannot be exported: .*data") as e:
        to_onnx(OddEncoder(Branching()).eval(), SPEC)
    assert "\n" not in str(e.value)


def test_a_checkpoint_with_nan_is_refused(finished_run: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(finished_run, broken)
    weights = load_file(broken / "checkpoint.safetensors")
    name = "model.ground.projection.bias"
    weights[name][0] = float("nan")
    progress = {"step": "1", "finished": "true"}
    save_file(weights, broken / "checkpoint.safetensors", progress)
    with pytest.raises(CheckpointError, match=r"projection\.bias has 1 values that are not finite"):
        export_encoder(broken)


def test_a_disk_that_fills_leaves_the_former_encoder(
    artifact: EncoderArtifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_artifact(artifact, tmp_path)
    real = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        real(path, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    changed = EncoderArtifact(**{**vars(artifact), "data": artifact.data + b"more"})
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left"):
            write_artifact(changed, tmp_path)
    assert read_artifact(tmp_path) == artifact
    assert not list(tmp_path.glob("*.part"))


def test_an_encoder_whose_description_was_not_written_is_refused(
    artifact: EncoderArtifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_artifact(artifact, tmp_path)
    (tmp_path / artifact.filename).write_bytes(artifact.data + b"more")
    with pytest.raises(ArtifactError, match="export the encoder again"):
        read_artifact(tmp_path)


@pytest.mark.parametrize(
    ("package", "recipe", "wanted"),
    [
        ("onnx", "onnx-fp32", "needs onnx: pip install 'geofix[export]'"),
        ("coremltools", "coreml-fp16", "coremltools: pip install 'geofix[export]'"),
    ],
)
def test_a_package_that_is_missing_is_named_with_its_extra(
    finished_run: Path, tmp_path: Path, package: str, recipe: str, wanted: str
) -> None:
    words = ["encoder", str(finished_run), "--recipe", recipe, "-o", str(tmp_path / "out")]
    code = (
        f"import sys; sys.modules[{package!r}] = None; from geofix_export.cli import main; "
        f"sys.exit(main({words!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    assert wanted in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_export_is_not_made_twice(
    artifact: EncoderArtifact,
    finished_run: Path,
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_artifact(artifact, tmp_path)
    monkeypatch.setattr("geofix_export.encoder.export_encoder", None)  # would fail
    again = run("encoder", finished_run, "-o", tmp_path)
    assert again.status == 0
    assert "as exported before" in again.out
    assert f"mean_cosine         {artifact.parity['mean_cosine']:g}" in again.out  # type: ignore[index]


@pytest.mark.parametrize("what", ["nothing", "checkpoint", "codes", "recipe", "file"])
def test_an_export_is_known_by_all_that_made_it(
    artifact: EncoderArtifact, finished_run: Path, tmp_path: Path, what: str
) -> None:
    source, out, recipe = tmp_path / "run", tmp_path / "out", read_recipe("onnx-fp32")
    shutil.copytree(finished_run, source)
    write_artifact(artifact, out)
    if what == "recipe":
        recipe = replace(recipe, min_same_cell=0.5)
    elif what != "nothing":
        path = {
            "checkpoint": source / "checkpoint.safetensors",
            "codes": source / "codes" / "codes.safetensors",
            "file": out / "encoder.onnx",
        }[what]
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    assert (exported_before(out, source, recipe) is not None) == (what == "nothing")
