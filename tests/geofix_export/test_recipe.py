from pathlib import Path
from typing import Any

import pytest

from geofix_export.recipe import ExportRecipe, RecipeError, read_recipe, recipe_names

GOOD: dict[str, Any] = {
    "target": "onnx", "precision": "int8", "min_mean_cosine": 0.97, "min_p01_cosine": 0.9,
    "max_recall_loss": 0.01, "min_same_cell": 0.85,
}  # fmt: skip


def test_the_recipes_that_come_with_geofix_are_read() -> None:
    assert set(recipe_names()) >= {
        "onnx-fp32", "onnx-fp16", "onnx-int8", "tensorrt-fp16", "tensorrt-int8",
    }  # fmt: skip
    for name in recipe_names():
        recipe = read_recipe(name)
        assert name == f"{recipe.target}-{recipe.precision}"
        assert recipe.max_recall_loss <= 0.01


def test_a_recipe_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    lines = [f"{key} = {value!r}" for key, value in GOOD.items()]
    path.write_text("\n".join([*lines, 'keep = ["node_a"]']))
    recipe = read_recipe(path)
    assert recipe == ExportRecipe(**GOOD, keep=("node_a",))
    assert ExportRecipe.from_dict(recipe.to_json()) == recipe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": "tflite"}, "target is 'tflite', want one of onnx, "),
        ({"precision": "int4"}, "precision is 'int4', for onnx want one of fp32, fp16, int8"),
        ({"target": "tensorrt", "precision": "fp32"}, "for tensorrt want one of fp16, int8"),
        ({"min_mean_cosine": 1.5}, r"min_mean_cosine is 1\.5, want 0 to 1"),
        ({"max_recall_loss": float("nan")}, "max_recall_loss is nan, want 0 to 1"),
        ({"calibration_photos": 0}, "calibration_photos is 0, want at least 1"),
        ({"keep_costliest": -1}, "keep_costliest is -1, want 0 or more"),
        ({"precision": "fp16", "keep_costliest": 1}, "keep_costliest are for int8 of onnx and"),
        ({"target": "coreml", "keep": ["node_a"]}, "keep_costliest are for int8 of onnx and"),
        ({"calibration_photo": 9}, "did you mean 'calibration_photos'"),
        ({"zzz": 9}, "unknown key 'zzz' in a recipe; known are target, precision"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_an_error(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        ExportRecipe.from_dict(GOOD | change)


@pytest.mark.parametrize("key", ["target", "min_same_cell"])
def test_a_recipe_without_a_number_of_its_gate_is_an_error(key: str) -> None:
    with pytest.raises(RecipeError, match=f"a recipe has no '{key}'"):
        ExportRecipe.from_dict({k: v for k, v in GOOD.items() if k != key})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("onnx-int4", "no recipe 'onnx-int4': there are coreml-fp16, "),
        ("absent.toml", r"absent\.toml: no such file"),
    ],
)
def test_an_absent_recipe_is_an_error(name: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        read_recipe(name)


def test_a_file_that_is_no_toml_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("target = ")
    with pytest.raises(RecipeError, match=r"bad\.toml: "):
        read_recipe(tmp_path / "bad.toml")
