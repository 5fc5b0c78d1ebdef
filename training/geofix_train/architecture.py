"""Vision models of `transformers`: what they are, and their pretrained weights.

A model is named by a folder, which is then all that is read, or by its id on the hub. What it is
without its weights, its `Architecture`, stays in the run folder, so that a finished run needs
neither of them.
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from geofix_train.config import ConfigError

BACKBONE = "backbone.json"  # in a run folder
# ImageNet's, for a model that comes without the settings of its image processor.
_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_PROCESSORS = ("processor_config.json", "preprocessor_config.json")
_PATCH_PX = 32  # where a model that gives tokens states no patch size: DINOv3's ConvNeXt

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Architecture:
    """What a model is without its weights. Pixels count from 0 to 255, colours as it wants them."""

    config: dict[str, Any]  # of the transformers model, `model_type` among it
    mean: Triple
    scale: Triple
    color: str = "rgb"  # or "bgr"

    @property
    def name(self) -> str:
        """The kind of model, for instance "dinov2"."""
        return str(self.config["model_type"])

    @property
    def patch_px(self) -> tuple[int, int]:
        """Height and width of a patch."""
        patch = self.config.get("patch_size") or _PATCH_PX
        return (patch, patch) if isinstance(patch, int) else (patch[0], patch[1])

    def build(self) -> nn.Module:
        """Return the model with random weights; raise ConfigError where it cannot be built."""
        transformers = _transformers()
        try:
            with _quiet(transformers):
                config = transformers.AutoConfig.for_model(**self.config)
                model: nn.Module = transformers.AutoModel.from_config(config)
        except Exception as e:  # whatever a model's code raises
            raise ConfigError(f"model.backbone: {self.name} cannot be built: {_line(e)}") from e
        return model.float()  # a configuration may ask for half precision


def read_architecture(backbone: str) -> Architecture:
    """Return what a model is, from its folder or from the hub; no weights are read.

    Raises:
        ConfigError: transformers is not installed, or nothing usable has this name.
    """
    transformers = _transformers()
    source = _source(backbone)
    with _quiet(transformers), _named(backbone):
        config = transformers.AutoConfig.from_pretrained(**source, trust_remote_code=False)
    content = json.loads(config.to_json_string(use_diff=False))
    content.pop("_name_or_path", None)  # may name a folder of this machine
    return _architecture(content, _read_processor(backbone))


def load_pretrained(backbone: str) -> nn.Module:
    """Return a model with its weights, from its folder or from the hub.

    Raises:
        ConfigError: as `read_architecture`; or weights are missing.
    """
    transformers = _transformers()
    source = _source(backbone)
    with _quiet(transformers), _named(backbone):
        model, found = transformers.AutoModel.from_pretrained(
            **source, output_loading_info=True, trust_remote_code=False
        )
    # Many checkpoints lack the pooler, which comes after the tokens.
    missing = sorted(name for name in found["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise ConfigError(
            f"model.backbone {backbone!r}: {len(missing)} weights are missing, first {missing[0]}"
        )
    pretrained: nn.Module = model.float()
    return pretrained


def write_run_architecture(architecture: Architecture, run: Path) -> None:
    """Keep an architecture in a run folder."""
    (run / BACKBONE).write_text(json.dumps(asdict(architecture), indent=2, sort_keys=True) + "\n")


def read_run_architecture(run: Path) -> Architecture:
    """Read what `write_run_architecture` wrote; raise ConfigError where there is none."""
    path = run / BACKBONE
    try:
        content = json.loads(path.read_text())
        content["mean"], content["scale"] = tuple(content["mean"]), tuple(content["scale"])
        return Architecture(**content)
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise ConfigError(f"{path}: not readable as the backbone of a run: {e}") from e


def _architecture(config: dict[str, Any], processor: dict[str, Any]) -> Architecture:
    """Return an architecture whose pixels are scaled as an image processor does it."""
    unit = processor.get("rescale_factor", 1 / 255) if processor.get("do_rescale", True) else 1.0
    is_normalized = processor.get("do_normalize", True) and processor.get("image_mean") is not None
    mean = processor["image_mean"] if is_normalized else [0.0] * 3
    scale = processor["image_std"] if is_normalized else [1.0] * 3
    return Architecture(
        config,
        mean=(mean[0] / unit, mean[1] / unit, mean[2] / unit),
        scale=(scale[0] / unit, scale[1] / unit, scale[2] / unit),
        color="bgr" if processor.get("do_flip_channel_order") else "rgb",
    )


def _read_processor(backbone: str) -> dict[str, Any]:
    """Return the settings of a model's image processor, ImageNet's where it has none."""
    transformers, source = _transformers(), _source(backbone)
    name = source.pop("pretrained_model_name_or_path")
    try:
        processor: dict[str, Any]
        with _quiet(transformers):
            processor, _ = transformers.ImageProcessingMixin.get_image_processor_dict(
                name, **source
            )
    except (OSError, ValueError) as e:
        if any((Path(name) / file).exists() for file in _PROCESSORS):
            raise ConfigError(f"model.backbone {backbone!r}: {_line(e)}") from e
        return _IMAGENET
    return processor


def _source(backbone: str) -> dict[str, Any]:
    """Return where transformers is to read; from a folder, it never looks elsewhere."""
    is_path = Path(backbone).is_absolute() or backbone.startswith((".", "~"))
    if is_path and not Path(backbone).is_dir():
        raise ConfigError(f"model.backbone {backbone!r}: no such folder")
    return {
        "pretrained_model_name_or_path": backbone,
        "local_files_only": Path(backbone).is_dir(),
    }


def _transformers() -> ModuleType:
    """Return transformers; the only place that imports it."""
    try:
        import transformers
    except ImportError as e:
        raise ConfigError(
            "a pretrained model.backbone needs transformers: pip install 'geofix[backbones]'"
        ) from e
    module: ModuleType = transformers
    return module


@contextlib.contextmanager
def _named(backbone: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into a ConfigError that names the backbone."""
    try:
        yield
    except Exception as e:  # transformers, huggingface_hub, safetensors and HTTP have their own
        raise ConfigError(
            f"model.backbone {backbone!r}: not readable as a model of transformers, neither a "
            f"folder nor an id on the hub (or the hub cannot be reached): {_line(e)}"
        ) from e


@contextlib.contextmanager
def _quiet(transformers: ModuleType) -> Iterator[None]:
    """Keep reports of loading off the screen; what matters in them is checked."""
    logging = transformers.logging
    level, had_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if had_bar:
            logging.enable_progress_bar()


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
