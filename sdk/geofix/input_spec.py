"""How an encoder wants its images: size, resize rule, colour order, layout, scaling, tensor names.

Travels with the encoder: in its folder, and in the manifest of every pack that carries it.
"""

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_SIDE_PX = 8192

_CHOICES = {
    "resize": ("stretch", "crop"),
    "color": ("rgb", "bgr"),
    "layout": ("nhwc", "nchw"),
    "dtype": ("uint8", "float32"),
}


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What is fed to an encoder.

    With dtype "uint8" the network sees raw pixels (normalization is inside its graph); with
    "float32" it sees (pixel - mean) / scale, mean and scale in pixel units of 0 to 255 and in the
    order of `color`.
    """

    width: int
    height: int
    resize: str = "stretch"  # "crop": centre crop to the aspect ratio first
    color: str = "rgb"
    layout: str = "nhwc"
    dtype: str = "uint8"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    input_name: str = "images"
    output_name: str = "embeddings"
    hfov_deg: float | None = None  # horizontal field of view the encoder was trained with, if known

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            _check_side(name, getattr(self, name))
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                wanted = " or ".join(repr(choice) for choice in choices)
                raise ValueError(f"{name} is {getattr(self, name)!r}, want {wanted}")
        for name in ("mean", "scale"):
            object.__setattr__(self, name, _three_numbers(name, getattr(self, name)))
        if 0 in self.scale:
            raise ValueError(f"scale is {self.scale}, want three numbers other than 0")
        for name in ("input_name", "output_name"):
            if not (isinstance(getattr(self, name), str) and getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)!r}, want the name of a tensor")
        if self.hfov_deg is not None:
            check_hfov(self.hfov_deg)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; `from_json` reads it."""
        content = dataclasses.asdict(self)
        content["mean"], content["scale"] = list(self.mean), list(self.scale)
        if self.hfov_deg is None:
            del content["hfov_deg"]
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "InputSpec":
        """Read the JSON form.

        Raises:
            ValueError: a key that is unknown, missing, or has a value out of range. An unknown key
                is refused because it may change what the encoder sees.
        """
        if not isinstance(content, Mapping):
            raise ValueError(f"an input spec is {type(content).__name__}, want an object")
        known = [field.name for field in dataclasses.fields(cls)]
        for key in content:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
                raise ValueError(f"unknown key {key!r} in an input spec{hint}")
        for key in ("width", "height"):
            if key not in content:
                raise ValueError(f"an input spec has no {key!r}")
        return cls(**content)


def check_hfov(hfov_deg: float) -> None:
    """Raise ValueError unless this is a horizontal field of view that a plane picture can have."""
    if not (_is_number(hfov_deg) and 0 < hfov_deg < 180):
        raise ValueError(f"hfov_deg is {hfov_deg!r}, want more than 0 and less than 180 degrees")


def _check_side(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_SIDE_PX:
        raise ValueError(f"{name} is {value!r}, want a whole number from 1 to {MAX_SIDE_PX}")


def _three_numbers(name: str, values: Any) -> tuple[float, float, float]:
    message = f"{name} is {values!r}, want three finite numbers"
    if not isinstance(values, (tuple, list)) or len(values) != 3:
        raise ValueError(message)
    if not all(_is_number(v) and math.isfinite(v) for v in values):
        raise ValueError(message)
    return float(values[0]), float(values[1]), float(values[2])


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
