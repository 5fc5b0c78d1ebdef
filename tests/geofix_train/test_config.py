import re
from dataclasses import replace
from pathlib import Path

import pytest

from geofix_train.config import (
    ConfigError,
    DataConfig,
    FitConfig,
    ModelConfig,
    ObjectiveConfig,
    RunConfig,
    read_config,
    read_run_config,
)

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    """Return where a test writes its settings."""
    return tmp_path / "settings" / "my.toml"


def write(toml: Path, text: str) -> Path:
    toml.parent.mkdir(exist_ok=True)
    toml.write_text(text)
    return toml


def test_what_a_file_does_not_say_has_its_default(toml: Path) -> None:
    config = read_config(write(toml, '[data]\nphotos = "photos.csv"'))
    photos = str((toml.parent / "photos.csv").resolve())
    assert config == FitConfig(DataConfig(photos=photos))


def test_paths_are_relative_to_the_file_and_become_absolute(toml: Path, tmp_path: Path) -> None:
    config = read_config(write(toml, '[data]\nphotos = "../a/photos.csv"\naerial = "/imagery"'))
    assert config.data.photos == str((tmp_path / "a" / "photos.csv").resolve())
    assert config.data.aerial == "/imagery"


def test_a_backbone_that_is_a_folder_becomes_absolute_and_an_id_stays(toml: Path) -> None:
    (toml.parent / "models" / "mine").mkdir(parents=True)

    def read(backbone: str) -> str:
        text = f'[data]\nphotos = "p.csv"\n[model]\nbackbone = "{backbone}"\nfrozen_layers = -1'
        return read_config(write(toml, text)).model.backbone

    assert read("models/mine") == str((toml.parent / "models" / "mine").resolve())
    assert read("../models/mine") == str((toml.parent.parent / "models" / "mine").resolve())
    assert read("facebook/dinov2-small") == "facebook/dinov2-small"


def test_settings_are_read(toml: Path) -> None:
    text = '[data]\nphotos = "p.csv"\n[run]\nepochs = 3\nlearning_rate = 1\n[model]\ndim = 64'
    config = read_config(write(toml, text))
    assert (config.run.epochs, config.model.dim) == (3, 64)
    assert config.run.learning_rate == 1.0
    assert isinstance(config.run.learning_rate, float)  # as it is after a round trip, too


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_each_recipe_can_be_read(recipe: Path) -> None:
    assert read_config(recipe).data.photos.endswith("photos.parquet")


def test_json_gives_the_same_settings_back() -> None:
    config = FitConfig(
        DataConfig(photos="/p.csv", aerial="/aerial", tile_side_m=100.5),
        ModelConfig(dim=32),
        replace(ObjectiveConfig(), loss="multi_similarity"),
        RunConfig(epochs=2, seed=7),
    )
    assert FitConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[run]\nepoch = 3", "unknown key in [run]: 'epoch'; did you mean 'epochs'?"),
        ("[run]\nzzz = 3", "unknown key in [run]: 'zzz'; known: epochs, "),
        ("[modell]\ndim = 3", "unknown section: 'modell'; did you mean 'model'?"),
        ("[run]\nepochs = 2.5", "run.epochs is 2.5, want int"),
        ("[run]\nepochs = true", "run.epochs is True, want int"),
        ('[run]\nlearning_rate = "fast"', "run.learning_rate is 'fast', want float"),
        ("[objective]\nloss = 1", "objective.loss is 1, want str"),
        ("[run]\nepochs = 0", "run.epochs is 0, want 1 or more"),
        ("[run]\nzoom = 2", "run.zoom is 2.0, want 0.1 to 1"),
        (
            '[objective]\nlabels = "hard"',
            "objective.labels 'hard' wants code_level = prototype_level",
        ),
        ("[model]\ndim = 0", "model.dim is 0, want 4 to 4096"),
        ("[model]\nfrozen_layers = 2", "model.frozen_layers is 2, want 0: backbone 'conv' has no"),
        ('[model]\naggregator = "max"', "model.aggregator is 'max', want salad or mean or gem"),
        ('[objective]\nloss = "l2"', "objective.loss is 'l2', want info_nce or multi_similarity"),
        (
            "[objective]\ncode_level = 14",
            "objective.code_level is 14, want prototype_level (15) to 4 more",
        ),
        ("[run]\nlearning_rate = -0.1", "run.learning_rate is -0.1, want 0 or more"),
        ("run = 3", "run is 3, want a section [run]"),
    ],
)
def test_a_wrong_setting_is_named_with_what_was_wanted(toml: Path, text: str, reason: str) -> None:
    top, tables = ("", text) if text.startswith("[") else (text, "")
    path = write(toml, f'{top}\n[data]\nphotos = "photos.csv"\n{tables}')
    with pytest.raises(ConfigError, match=re.escape(f"{path}: {reason}")):
        read_config(path)


@pytest.mark.parametrize("text", ["", "[run]\nepochs = 3", '[data]\naerial = "aerial"'])
def test_settings_without_photos_are_refused(toml: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"\[data\] needs photos = TABLE"):
        read_config(write(toml, text))


def test_a_file_that_is_no_toml_or_not_there_is_named(toml: Path) -> None:
    wanted = "want a TOML file of settings"
    with pytest.raises(ConfigError, match=rf"my\.toml: No such file or directory, {wanted}$"):
        read_config(toml)
    with pytest.raises(ConfigError, match=rf"my\.toml: unreadable, {wanted}: .*line 1"):
        read_config(write(toml, "[data\nphotos = 1"))
    toml.write_bytes(b"PAR1\xff")
    with pytest.raises(ConfigError, match=rf"my\.toml: unreadable, {wanted}: 'utf-8' codec"):
        read_config(toml)
    with pytest.raises(ConfigError, match=rf"settings: Is a directory, {wanted}$"):
        read_config(toml.parent)


def test_a_folder_without_settings_is_no_run(tmp_path: Path) -> None:
    wanted = "want a run folder of geofix-train fit"
    with pytest.raises(ConfigError, match=rf"nosuch: no such folder, {wanted}$"):
        read_run_config(tmp_path / "nosuch")
    with pytest.raises(ConfigError, match=rf"{tmp_path.name}: no config\.json, {wanted}$"):
        read_run_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config\.json: not readable as the settings of a run"):
        read_run_config(tmp_path)
