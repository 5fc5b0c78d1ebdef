"""How an encoder is exported, and how close it must stay: data, in TOML or in code.

The recipes that come with geofix lie in `recipes/`; their names are those of the files.
"""

import dataclasses
import difflib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECIPES = Path(__file__).parent / "recipes"
PRECISIONS = {
    "onnx": ("fp32", "fp16", "int8"),
    "tensorrt": ("fp16", "int8"),
    "coreml": ("fp16", "int8", "int8_activations", "palettized6", "palettized4"),
}


class RecipeError(ValueError):
    """A recipe that cannot be followed."""


@dataclass(frozen=True)
class ExportRecipe:
    """What to export, and the gate that it must pass on photos that training did not see."""

    target: str  # the runtime, a key of `PRECISIONS`
    precision: str  # one of `PRECISIONS` of the target
    min_mean_cosine: float  # of embeddings with the trained encoder's
    min_p01_cosine: float  # 1st percentile of the same
    max_recall_loss: float  # of recall@1 at 100 m, as a share of the photos
    min_same_cell: float  # share of photos whose best cell is that of the trained encoder
    calibration_photos: int = 500  # training photos that int8 learns its ranges from
    keep: tuple[str, ...] = ()  # nodes of an ONNX graph that stay in fp32
    keep_costliest: int = 0  # so many more do: those whose rounding turns embeddings most, measured

    def __post_init__(self) -> None:
        if self.target not in PRECISIONS:
            raise RecipeError(f"target is {self.target!r}, want one of {', '.join(PRECISIONS)}")
        if self.precision not in PRECISIONS[self.target]:
            wanted = ", ".join(PRECISIONS[self.target])
            raise RecipeError(
                f"precision is {self.precision!r}, for {self.target} want one of {wanted}"
            )
        for name in ("min_mean_cosine", "min_p01_cosine", "max_recall_loss", "min_same_cell"):
            if not 0 <= getattr(self, name) <= 1:
                raise RecipeError(f"{name} is {getattr(self, name)}, want 0 to 1")
        if self.calibration_photos < 1:
            raise RecipeError(f"calibration_photos is {self.calibration_photos}, want at least 1")
        if self.keep_costliest < 0:
            raise RecipeError(f"keep_costliest is {self.keep_costliest}, want 0 or more")
        keeps = bool(self.keep) or self.keep_costliest > 0
        if keeps and (self.precision != "int8" or self.target == "coreml"):
            raise RecipeError("keep and keep_costliest are for int8 of onnx and tensorrt")

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "ExportRecipe":
        """Return a recipe; raise RecipeError for a key that is unknown or missing."""
        known = {field.name: field for field in dataclasses.fields(cls)}
        for key in content:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
                raise RecipeError(f"unknown key {key!r} in a recipe{hint}")
        for name, field in known.items():
            if name not in content and field.default is dataclasses.MISSING:
                raise RecipeError(f"a recipe has no {name!r}")
        return cls(**{**content, "keep": tuple(content.get("keep", ()))})

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**dataclasses.asdict(self), "keep": list(self.keep)}


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with geofix."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def read_recipe(name: str | Path) -> ExportRecipe:
    """Return a recipe by its name, or from a TOML file.

    Raises:
        RecipeError: no such recipe, or it is wrong.
    """
    path = Path(name)
    if path.suffix != ".toml":
        if str(name) not in recipe_names():
            raise RecipeError(
                f"no recipe {str(name)!r}: there are {', '.join(recipe_names())}; or give a .toml"
            )
        path = RECIPES / f"{name}.toml"
    try:
        content = tomllib.loads(path.read_text())
    except FileNotFoundError as e:
        raise RecipeError(f"{path}: no such file") from e
    except tomllib.TOMLDecodeError as e:
        raise RecipeError(f"{path}: {e}") from e
    try:
        return ExportRecipe.from_dict(content)
    except (RecipeError, TypeError) as e:
        raise RecipeError(f"{path}: {e}") from e
