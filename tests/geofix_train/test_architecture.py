import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from geofix_train.architecture import (
    Architecture,
    load_pretrained,
    read_architecture,
    read_run_architecture,
    write_run_architecture,
)
from geofix_train.cli import main
from geofix_train.config import ConfigError
from tests.geofix_train.tiny_backbones import FAMILIES, save_tiny, tiny_backbone_config
from tests.geofix_train.tiny_data import write_toml

IMAGENET_MEAN = (123.675, 116.28, 103.53)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a tiny model."""
    save_tiny("mobilenet_v2", tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Refuse connections; return those that were tried."""
    tried: list[Any] = []

    def connect(self: socket.socket, address: Any) -> None:
        tried.append(address)
        raise OSError("no network in tests")

    monkeypatch.setattr(socket.socket, "connect", connect)
    return tried


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_can_be_built_from_what_a_run_keeps_of_it(family: str, tmp_path: Path) -> None:
    model = save_tiny(family, tmp_path / "tiny")
    write_run_architecture(read_architecture(str(tmp_path / "tiny")), tmp_path)
    built = read_run_architecture(tmp_path).build()
    built.load_state_dict(model.state_dict())
    assert type(built) is type(model)
    assert str(tmp_path) not in (tmp_path / "backbone.json").read_text()


def test_pretrained_weights_are_read_as_they_were_saved(tmp_path: Path) -> None:
    model = save_tiny("dinov3_vit", tmp_path)
    loaded = load_pretrained(str(tmp_path)).state_dict()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(loaded[name], value, rtol=0, atol=0, msg=name)


def test_weights_in_half_precision_become_float32(folder: Path) -> None:
    weights = {
        name: value.half() for name, value in load_file(folder / "model.safetensors").items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "float16"}))
    for model in (load_pretrained(str(folder)), read_architecture(str(folder)).build()):
        assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_a_folder_is_read_without_a_look_at_the_network(
    folder: Path, no_network: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    read_architecture(str(folder))
    load_pretrained(str(folder))
    monkeypatch.chdir(folder.parent)
    read_architecture("tiny")
    assert no_network == []


@pytest.mark.parametrize(
    ("processor", "mean", "scale", "color"),
    [
        (None, IMAGENET_MEAN, (58.395, 57.12, 57.375), "rgb"),
        ({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}, (127.5,) * 3, (127.5,) * 3, "rgb"),
        (
            {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "do_normalize": False},
            (0.0,) * 3,
            (255.0,) * 3,
            "rgb",
        ),
        ({"do_flip_channel_order": True, "rescale_factor": 0.5}, (0.0,) * 3, (2.0,) * 3, "bgr"),
        (
            {"image_mean": [100] * 3, "image_std": [50] * 3, "do_rescale": False},
            (100.0,) * 3,
            (50.0,) * 3,
            "rgb",
        ),
    ],
)
def test_pixels_are_scaled_as_the_image_processor_says(
    folder: Path,
    processor: dict[str, Any] | None,
    mean: tuple[float, ...],
    scale: tuple[float, ...],
    color: str,
) -> None:
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    found = read_architecture(str(folder))
    assert found.mean == pytest.approx(mean)
    assert found.scale == pytest.approx(scale)
    assert found.color == color


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def unknown_kind(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "perceptron"}')


def broken_processor(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text("{")


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def broken_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"PK")


def a_weight_missing(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights.pop("layer.3.conv_3x3.convolution.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (no_config, "not readable as a model of transformers"),
        (broken_config, "not readable as a model of transformers"),
        (unknown_kind, "not readable as a model of transformers"),
        (broken_processor, "JSON"),
        (no_weights, "not readable as a model of transformers"),
        (broken_weights, "not readable as a model of transformers"),
        (a_weight_missing, "1 weights are missing, first layer.3.conv_3x3.convolution.weight"),
    ],
)
def test_a_damaged_folder_is_named_with_what_is_wrong(
    folder: Path, no_network: list[Any], damage: Callable[[Path], None], reason: str
) -> None:
    damage(folder)
    with pytest.raises(ConfigError, match=re.escape(str(folder)) + ".*" + re.escape(reason)):
        load_both(str(folder))
    assert no_network == []


def load_both(backbone: str) -> tuple[Architecture, nn.Module]:
    return read_architecture(backbone), load_pretrained(backbone)


@pytest.mark.parametrize("name", ["/no/such/folder", "./no-such-folder", "~/no-such-folder"])
def test_a_folder_that_is_not_there_is_not_looked_for_on_the_hub(
    name: str, no_network: list[Any]
) -> None:
    with pytest.raises(ConfigError, match=f"model.backbone '{name}': no such folder"):
        read_architecture(name)
    assert no_network == []


def test_a_hub_that_cannot_be_reached_is_an_error_that_names_the_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, no_network: list[Any]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"'nobody/dinov9': not readable .* cannot be reached"):
        read_architecture("nobody/dinov9")
    assert no_network == []


def test_without_transformers_the_error_names_the_extra(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_backbone_config("mobilenet_v2", data, tmp_path / "tiny")
    settings = write_toml(config, tmp_path / "my.toml")
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert main(["fit", str(settings), "-o", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert "needs transformers: pip install 'geofix[backbones]'" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_run_folder_without_its_architecture_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"backbone\.json: not readable as the backbone of a run"):
        read_run_architecture(tmp_path)
    (tmp_path / "backbone.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"backbone\.json: not readable as the backbone of a run"):
        read_run_architecture(tmp_path)


def test_training_our_own_backbone_never_imports_transformers() -> None:
    code = (
        "import sys, geofix_train.fit as f, geofix_train.config as c, geofix_export; "
        "f.make_encoders(c.FitConfig(c.DataConfig(photos='p.csv'))); "
        "print('transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
