"""Pretrained backbones in encoders and in training; reading them is tested in test_architecture."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from geofix_train.architecture import Architecture, read_architecture
from geofix_train.backbones import PretrainedBackbone
from geofix_train.checkpoint import WEIGHTS
from geofix_train.config import ConfigError, FitConfig, ModelConfig
from geofix_train.fit import fit
from geofix_train.model import Encoder
from geofix_train.run_folder import load_model
from tests.geofix_train.stopping import stop_before
from tests.geofix_train.tiny_backbones import FAMILIES, SIZES, save_tiny, tiny_backbone_config

NUM_EXTRA = {"dinov2": 1, "dinov3_vit": 5, "dinov3_convnext": 1}  # class token and registers
GRIDS = {"dinov2": (4, 6), "dinov3_vit": (4, 6)}  # the others shrink images by 32
each_family = pytest.mark.parametrize("family", FAMILIES)


def images(family: str, num: int = 3) -> Tensor:
    size = (num, *SIZES[family], 3)
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.manual_seed(1))


def backbone_of(family: str, folder: Path, **options: Any) -> tuple[PretrainedBackbone, nn.Module]:
    """Return a backbone with the weights of a tiny model, and that model."""
    model = save_tiny(family, folder)
    height, width = SIZES[family]
    backbone = PretrainedBackbone(
        read_architecture(str(folder)), height=height, width=width, **options
    )
    backbone.take_weights(model)
    return backbone, model


def values_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


@each_family
@torch.no_grad()
def test_tokens_are_those_of_the_model_without_class_and_register_tokens(
    family: str, tmp_path: Path
) -> None:
    backbone, model = backbone_of(family, tmp_path)
    photos = images(family)
    tokens, global_token = backbone.eval()(photos)
    mean, scale = torch.tensor((123.675, 116.28, 103.53)), torch.tensor((58.395, 57.12, 57.375))
    states = model(((photos - mean) / scale).permute(0, 3, 1, 2)).last_hidden_state
    num_extra = NUM_EXTRA.get(family, 0)
    wanted = states[:, num_extra:].transpose(1, 2) if num_extra else states.flatten(2)
    assert tokens.shape[2:] == GRIDS.get(family, (2, 3))
    torch.testing.assert_close(tokens.flatten(2), wanted)
    wanted_global = states[:, 0] if num_extra else states.mean(dim=(2, 3))
    torch.testing.assert_close(global_token, wanted_global)


@each_family
def test_embeddings_have_unit_length_and_every_trained_weight_learns(
    family: str, tmp_path: Path
) -> None:
    backbone, _ = backbone_of(family, tmp_path)
    encoder = Encoder(ModelConfig(num_clusters=4, cluster_dim=4, dim=16), backbone).eval()
    embeddings = encoder(images(family))
    assert embeddings.shape == (3, 16)
    torch.testing.assert_close((embeddings**2).sum(dim=1), torch.ones(3))
    embeddings[:, 0].sum().backward()
    without = [name for name, p in encoder.named_parameters() if p.grad is None]
    assert [name for name in without if "mask_token" not in name] == []  # only for pretraining


@each_family
def test_frozen_blocks_stay_bit_equal_in_training_and_the_others_learn(
    family: str, data: Path, tmp_path: Path
) -> None:
    model = save_tiny(family, tmp_path / "tiny")
    config = tiny_backbone_config(family, data, tmp_path / "tiny", frozen_layers=1)
    run = fit(config, tmp_path / "run")
    for encoder in ("ground", "aerial"):
        after = values_after(run, encoder)
        moved = changed(values_of(model), after)
        frozen = {name for name in after if is_before_second_block(family, name)}
        assert len(frozen) >= 3
        assert moved & frozen - positions(family) == set()
        assert moved - frozen
    states = {name for name in load_file(run / WEIGHTS) if name.startswith("optimizer.0.")}
    trained = [p for p in load_model(run)[1].ground.parameters() if p.requires_grad]
    assert len({name.split(".")[2] for name in states}) <= 2 * len(trained)


@each_family
def test_a_frozen_model_stays_bit_equal_with_its_batch_statistics(
    family: str, data: Path, tmp_path: Path
) -> None:
    model = save_tiny(family, tmp_path / "tiny")
    config = tiny_backbone_config(family, data, tmp_path / "tiny", frozen_layers=-1)
    run = fit(config, tmp_path / "run")
    for encoder in ("ground", "aerial"):
        assert changed(values_of(model), values_after(run, encoder)) <= positions(family)


def values_after(run: Path, encoder: str) -> dict[str, Tensor]:
    """Return the backbone's weights and buffers of a finished run."""
    prefix = f"model.{encoder}.backbone.model."
    content = load_file(run / WEIGHTS)
    return {n.removeprefix(prefix): v for n, v in content.items() if n.startswith(prefix)}


def positions(family: str) -> set[str]:
    """Return what is brought to the size of the images, and so differs from the model's own."""
    return {"embeddings.position_embeddings"} if family == "dinov2" else set()


def is_before_second_block(family: str, name: str) -> bool:
    block = {
        "dinov2": r"embeddings\.|encoder\.layer\.0\.",
        "dinov3_vit": r"embeddings\.|rope_embeddings\.|(model\.)?layer\.0\.",
        "dinov3_convnext": r"(model\.)?stages\.0\.",
        "swiftformer": r"patch_embed\.|encoder\.network\.0\.",
        "mobilenet_v2": r"conv_stem\.|layer\.0\.",
    }
    return re.match(block[family], name) is not None


@pytest.mark.parametrize("family", ["dinov2", "mobilenet_v2"])
def test_a_finished_run_needs_its_pretrained_model_no_more(
    family: str, data: Path, tmp_path: Path
) -> None:
    save_tiny(family, tmp_path / "tiny")
    config = tiny_backbone_config(family, data, tmp_path / "tiny", frozen_layers=1)
    run = fit(config, tmp_path / "run")
    shutil.rmtree(tmp_path / "tiny")
    _, model, cells = load_model(run)
    stored = load_file(run / WEIGHTS)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, stored[f"model.{name}"], rtol=0, atol=0, msg=name)
    assert len(cells) == len(model.prototypes.weight)
    assert fit(config, run) == run  # as the same command would, which has nothing left to do


def test_a_stopped_run_goes_on_to_the_same_weights_though_paths_are_dropped(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny("dinov2", tmp_path / "tiny")
    config = tiny_backbone_config("dinov2", data, tmp_path / "tiny")
    whole = load_file(fit(config, tmp_path / "whole") / WEIGHTS)
    with monkeypatch.context() as patch:
        stop_before(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            fit(config, tmp_path / "stopped")
    resumed = load_file(fit(config, tmp_path / "stopped") / WEIGHTS)
    assert changed(whole, resumed) == set()


@pytest.mark.parametrize(
    ("family", "size", "reason"),
    [
        ("dinov2", (64, 96), "sees patches of 14 x 14 pixels; want data.photo_width, photo_height"),
        ("dinov3_vit", (64, 90), "sees patches of 16 x 16 pixels; want data.photo_width"),
        ("dinov3_convnext", (64, 90), "sees patches of 32 x 32 pixels"),
        ("dinov3_convnext", (16, 16), "cannot take 16 x 16 pixels"),
    ],
)
def test_images_of_a_size_that_a_model_cannot_take_are_refused(
    family: str, size: tuple[int, int], reason: str, tmp_path: Path
) -> None:
    save_tiny(family, tmp_path)
    architecture = read_architecture(str(tmp_path))
    with pytest.raises(ConfigError, match=re.escape(reason)):
        PretrainedBackbone(architecture, height=size[0], width=size[1])


def test_the_size_of_tiles_matters_only_where_there_is_imagery(data: Path, tmp_path: Path) -> None:
    save_tiny("dinov2", tmp_path / "tiny")
    config = tiny_backbone_config("dinov2", data, tmp_path / "tiny")
    odd = replace(config, data=replace(config.data, tile_pixels=64))
    with pytest.raises(ConfigError, match="got 64 x 64 pixels"):
        fit(odd, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    load_model(fit(replace(odd, data=replace(odd.data, aerial="")), tmp_path / "run"))


def test_more_frozen_layers_than_there_are_blocks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"frozen_layers is 4, want -1 to 3 here"):
        backbone_of("dinov2", tmp_path, frozen_layers=4)


def test_a_model_that_gives_neither_patches_nor_a_map_is_refused(tmp_path: Path) -> None:
    config = {"model_type": "swin", "image_size": 64, "embed_dim": 8, "depths": [1, 1]}
    swin = Architecture({**config, "num_heads": [1, 2], "patch_size": 4}, (0.0,) * 3, (1.0,) * 3)
    with pytest.raises(ConfigError, match=r"swin gives \(1, 64, 16\) for 64 x 64 pixels, want a"):
        PretrainedBackbone(swin, height=64, width=64)


@torch.no_grad()
def test_a_model_that_wants_blue_first_sees_it_first(tmp_path: Path) -> None:
    backbone, _ = backbone_of("mobilenet_v2", tmp_path)
    architecture = backbone.architecture
    flipped = replace(
        architecture, mean=architecture.mean[::-1], scale=architecture.scale[::-1], color="bgr"
    )
    other = PretrainedBackbone(flipped, height=64, width=96).eval()
    stem = "conv_stem.first_conv.convolution.weight"
    weights = values_of(backbone.model)
    other.model.load_state_dict({**weights, stem: weights[stem].flip(1)})
    photos = images("mobilenet_v2")
    torch.testing.assert_close(other(photos)[0], backbone.eval()(photos)[0])


def test_the_seed_draws_the_head_of_both_encoders(data: Path, tmp_path: Path) -> None:
    save_tiny("mobilenet_v2", tmp_path / "tiny")
    config = tiny_backbone_config("mobilenet_v2", data, tmp_path / "tiny", frozen_layers=-1)
    assert isinstance(config, FitConfig)
    model = load_model(fit(config, tmp_path / "run"))[1]
    assert not torch.equal(model.ground.projection.weight, model.aerial.projection.weight)


@torch.no_grad()
def test_the_projection_starts_as_whitening_of_what_the_model_gives(tmp_path: Path) -> None:
    backbone, model = backbone_of("dinov2", tmp_path)
    encoder = Encoder(ModelConfig(aggregator="mean", dim=8), backbone)
    photos = images("dinov2", 40)
    encoder.start_from(photos, torch.manual_seed(0), pretrained=model)
    projected = encoder.eval().projection(encoder.aggregator(*backbone(photos)))
    torch.testing.assert_close(projected.mean(dim=0), torch.zeros(8), atol=1e-4, rtol=0)
    torch.testing.assert_close(projected.T @ projected / 40, torch.eye(8), atol=1e-3, rtol=0)


@torch.no_grad()
def test_of_few_or_equal_images_no_noise_is_blown_up(tmp_path: Path) -> None:
    backbone, model = backbone_of("dinov2", tmp_path)
    encoder = Encoder(ModelConfig(aggregator="mean", dim=8), backbone)
    random = encoder.projection.weight.clone()
    encoder.start_from(images("dinov2", 6), torch.manual_seed(0), pretrained=model)
    torch.testing.assert_close(encoder.projection.weight[3:], random[3:], rtol=0, atol=0)
    assert not torch.equal(encoder.projection.weight[:3], random[:3])
    encoder.start_from(
        images("dinov2", 1).expand(6, -1, -1, -1), torch.manual_seed(0), pretrained=model
    )
    assert torch.isfinite(encoder(images("dinov2"))).all()
