"""Settings of a training run: TOML in, frozen dataclasses inside, an unknown key is an error."""

import difflib
import json
import math
import sys
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Section = TypeVar("Section")

RUN_CONFIG = "config.json"  # in a run folder
CONV = "conv"  # model.backbone that needs no pretrained weights

# Smallest and largest value of the numbers that cannot be just anything from 0 on.
_LIMITS = {
    "photo_width": (16, 4096), "photo_height": (16, 4096), "tile_pixels": (16, 4096),
    "photo_hfov_deg": (0, 179),
    "tile_side_m": (1, 10_000), "aerial_zoom": (0, 30),
    "width": (1, 4096), "num_clusters": (1, 1024), "cluster_dim": (1, 4096),
    "global_dim": (1, 4096), "dim": (4, 4096), "frozen_layers": (-1, 1000),
    "prototype_level": (0, 30), "code_level": (0, 30), "temperature": (1e-4, 10),
    "negative_share": (0.001, 1), "local_share": (0, 0.9), "old_share": (0, 1),
    "gray_share": (0, 1), "recolor": (0, 5), "recolor_tiles": (0, 5), "zoom": (0.1, 1),
    "epochs": (1, math.inf), "batch_size": (2, math.inf),
}  # fmt: skip
_CHOICES = {
    "resize": ("crop", "stretch"),
    "aggregator": ("salad", "mean", "gem"),
    "loss": ("info_nce", "multi_similarity"),
    "labels": ("hard", "bilinear", "frustum"),
}


class ConfigError(ValueError):
    """A setting that cannot be used; the message names it and what was wanted."""


@dataclass(frozen=True)
class DataConfig:
    """What to learn from. Paths are relative to the TOML file."""

    photos: str  # the photo table, CSV or Parquet
    # A folder of rasters or XYZ tiles, or one subfolder for each date; empty: photos alone.
    aerial: str = ""
    aerial_zoom: int = 0  # which level of XYZ tiles; 0 chooses one as fine as the mosaic
    photo_width: int = 128  # pixels that photos are brought to
    photo_height: int = 96  # the same
    # Horizontal field of view that wider photos are cut to, here and on the device; 0: seen whole.
    photo_hfov_deg: float = 0.0
    resize: str = "crop"  # a photo of another shape is cut to this one, or squeezed: "stretch"
    tile_side_m: float = 154.0  # on the ground; roughly a level-16 cell, as in the paper
    tile_pixels: int = 64  # side of a tile as the aerial encoder sees it
    blur: str = ""  # finds faces: package.module:function or DETECTOR.onnx; see privacy.py


@dataclass(frozen=True)
class ModelConfig:
    """The encoders. Ground and aerial share this shape and no weights."""

    # "conv", a small network of our own; or a transformers model, its folder or its id on the hub.
    backbone: str = CONV
    frozen_layers: int = 0  # first blocks of a transformers model that are not trained; -1: all
    width: int = 32  # of "conv": its two stages have 2 and 4 times as many channels
    aggregator: str = "salad"  # of tokens; also "mean" and "gem" (generalized mean)
    num_clusters: int = 16  # SALAD clusters, without the dustbin; 64 in full size
    cluster_dim: int = 16  # features of a SALAD cluster; 128 in full size
    global_dim: int = 64  # features of SALAD's global token; 256 in full size
    dim: int = 128  # of an embedding; a multiple of 4


@dataclass(frozen=True)
class ObjectiveConfig:
    """The loss over three pairs: ground to prototype, ground to aerial, aerial to prototype."""

    labels: str = "frustum"  # which prototypes a photo is to be like; also "hard", "bilinear"
    prototype_level: int = 15  # S2 level of the prototypes
    code_level: int = 16  # S2 level that prototypes are upsampled to, and compared at
    ground_to_prototype: float = 1.0  # weight of this pair
    ground_to_aerial: float = 1.0  # weight of this pair
    aerial_to_prototype: float = 0.5  # weight of this pair
    loss: str = "info_nce"  # or "multi_similarity", the paper's
    temperature: float = 0.06  # of info_nce
    alpha: float = 1.0  # of multi_similarity: sharpness of positives, as SALAD is trained
    beta: float = 50.0  # of multi_similarity: sharpness of negatives
    threshold: float = 0.0  # of multi_similarity: similarity that separates them
    margin: float = 0.1  # of multi_similarity: negatives easier than this are left out
    tile_negative_m: float = 140.0  # nearer tiles are never negatives; one level-16 edge
    negative_share: float = 1.0  # of the candidates, drawn for each step; less for large regions
    min_images: int = 3  # a cell with fewer training photos has no prototype


@dataclass(frozen=True)
class RunConfig:
    """How to train."""

    epochs: int = 16  # how often each photo is seen
    warmup_steps: int = 40  # without prototypes, which then start as class means
    batch_size: int = 64  # photos a step, with as many tiles
    learning_rate: float = 2e-3  # of the encoders, at its highest
    prototype_learning_rate: float = 2e-2  # larger, since each prototype is seen rarely
    weight_decay: float = 0.02  # of the encoders
    local_share: float = 0.0  # of a batch comes from within 800 m, to tell look-alikes apart
    recolor: float = 1.0  # how much photos vary in brightness and colour; 0: not at all
    recolor_tiles: float = 0.5  # the same of tiles, whose imagery is known beforehand
    gray_share: float = 0.05  # of photos lose their colour
    old_share: float = 0.1  # of photos are made to look old: low resolution, JPEG's blocks
    zoom: float = 0.85  # a photo is cut down to between this share of its sides and all of it
    shift_m: float = 40.0  # tiles are moved by up to this and turned by any angle
    seed: int = 0  # of everything that is drawn
    checkpoint_seconds: float = 60.0  # how often a run can be resumed from


@dataclass(frozen=True)
class FitConfig:
    """All settings of a run."""

    data: DataConfig
    model: ModelConfig = field(default_factory=ModelConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def to_json(self) -> str:
        """Return the settings as stored in a run folder."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "FitConfig":
        """Read what `to_json` wrote."""
        return _config(json.loads(text))


def read_run_config(run: Path) -> FitConfig:
    """Read the settings that a run folder keeps; raise ConfigError where there are none."""
    path = run / RUN_CONFIG
    if not path.is_file():
        what = f"no {RUN_CONFIG}" if run.is_dir() else "no such folder"
        raise ConfigError(f"{run}: {what}, want a run folder of geofix-train fit")
    try:
        return FitConfig.from_json(path.read_text())
    except (OSError, ValueError) as e:
        raise ConfigError(f"{path}: not readable as the settings of a run: {e}") from e


def differences(one: FitConfig, other: FitConfig) -> list[str]:
    """Return a phrase for each setting in which two runs differ."""
    return [
        f"{section}.{key} was {value!r}, is {asdict(other)[section][key]!r}"
        for section, values in asdict(one).items()
        for key, value in values.items()
        if value != asdict(other)[section][key]
    ]


def read_config(path: Path) -> FitConfig:
    """Read a TOML file; data paths become absolute.

    Raises:
        ConfigError: unreadable, an unknown key or section, a value of the wrong type.
    """
    content = _read_toml(path)
    data = content.get("data", {})
    for name in ("photos", "aerial", "blur"):
        if not isinstance(data, dict) or not isinstance(data.get(name), str):
            continue
        if data[name] and (name != "blur" or data[name].endswith(".onnx")):
            data[name] = str((path.parent / data[name]).resolve())
    model = content.get("model", {})
    if isinstance(model, dict) and isinstance(model.get("backbone"), str):
        model["backbone"] = _backbone(model["backbone"], path.parent)
    try:
        return _config(content)
    except ConfigError as e:
        raise ConfigError(f"{path}: {e}") from e


def read_student_config(path: Path, teacher: FitConfig) -> FitConfig:
    """Read the TOML file of a student: what it does not say of data and objective is the teacher's.

    Args:
        path: with sections [model] and [run] as any, and [data] for the size of photos alone.
        teacher: the settings of the teacher's run.

    Raises:
        ConfigError: as `read_config`; or a setting that is the teacher's to make.
    """
    content = _read_toml(path)
    for section, values in content.items():
        foreign = set(values) - {"photo_width", "photo_height", "resize"}
        if section == "objective" or (section == "data" and foreign):
            raise ConfigError(
                f"{path}: [{section}] {', '.join(sorted(foreign))}: a student learns from its "
                "teacher's data and cells; it may say photo_width, photo_height and resize"
            )
    model = content.setdefault("model", {})
    if isinstance(model.get("backbone"), str):
        model["backbone"] = _backbone(model["backbone"], path.parent)
    model.setdefault("dim", teacher.model.dim)
    own = {**asdict(teacher.data), **content.get("data", {}), "aerial": ""}
    try:
        return _config({**content, "data": own, "objective": asdict(teacher.objective)})
    except ConfigError as e:
        raise ConfigError(f"{path}: {e}") from e


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise ConfigError(f"{path}: {e.strerror}, want a TOML file of settings") from e
    except ValueError as e:  # neither UTF-8 nor TOML
        raise ConfigError(f"{path}: unreadable, want a TOML file of settings: {e}") from e


def _backbone(name: str, folder: Path) -> str:
    """Return the absolute path of a backbone that is a folder; any other name as it is."""
    if name == CONV or not (name.startswith(".") or (folder / name).is_dir()):
        return name
    return str((folder / name).resolve())


def _config(content: Any) -> FitConfig:
    if not isinstance(content, dict):
        raise ConfigError(f"settings are a {type(content).__name__}, want sections")
    sections = {
        "data": DataConfig, "model": ModelConfig, "objective": ObjectiveConfig, "run": RunConfig
    }  # fmt: skip
    _refuse_unknown(content, list(sections), "section")
    if "photos" not in content.get("data", {}):
        raise ConfigError("[data] needs photos = TABLE, the photo table")
    read: dict[str, Any] = {
        name: _section(kind, content.get(name, {}), name) for name, kind in sections.items()
    }
    config = FitConfig(**read)
    if config.model.backbone == CONV and config.model.frozen_layers != 0:
        raise ConfigError(
            f"model.frozen_layers is {config.model.frozen_layers}, want 0: backbone 'conv' has no "
            "pretrained layers"
        )
    levels = config.objective.prototype_level, config.objective.code_level
    if not levels[0] <= levels[1] <= levels[0] + 4:
        raise ConfigError(
            f"objective.code_level is {levels[1]}, want prototype_level ({levels[0]}) to 4 more"
        )
    if config.objective.labels == "hard" and levels[0] != levels[1]:
        raise ConfigError(
            "objective.labels 'hard' wants code_level = prototype_level: at a finer level, parts "
            "of a photo's own cell would be its negatives"
        )
    return config


def _section(kind: type[Section], values: Any, name: str) -> Section:
    if not isinstance(values, dict):
        raise ConfigError(f"{name} is {values!r}, want a section [{name}]")
    types = {f.name: f.type for f in fields(kind)}  # type: ignore[arg-type]
    _refuse_unknown(values, list(types), f"key in [{name}]")
    checked = {}
    for key, value in values.items():
        wanted: Any = types[key]
        if wanted is float and type(value) is int:
            value = float(value)
        if type(value) is not wanted:
            raise ConfigError(f"{name}.{key} is {value!r}, want {wanted.__name__}")
        low, high = _LIMITS.get(key, (0, math.inf))
        if wanted in (int, float) and not low <= value <= high:
            wish = f"{low} or more" if math.isinf(high) else f"{low} to {high}"
            raise ConfigError(f"{name}.{key} is {value!r}, want {wish}")
        if value not in _CHOICES.get(key, (value,)):
            raise ConfigError(f"{name}.{key} is {value!r}, want {' or '.join(_CHOICES[key])}")
        checked[key] = value
    return kind(**checked)


def _refuse_unknown(values: dict[str, Any], known: list[str], what: str) -> None:
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise ConfigError(f"unknown {what}: {key!r}; {hint}")
