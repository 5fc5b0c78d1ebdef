import dataclasses
import json
import math
from typing import Any

import pytest

from geofix.input_spec import MAX_SIDE_PX, InputSpec, check_hfov

FULL = InputSpec(
    width=320, height=240, resize="crop", color="bgr", layout="nchw", dtype="float32",
    mean=(123.7, 116.3, 103.5), scale=(58.4, 57.1, 57.4), input_name="x", output_name="y",
    hfov_deg=70.5,
)  # fmt: skip


@pytest.mark.parametrize("spec", [FULL, InputSpec(width=32, height=24)], ids=["full", "default"])
def test_a_spec_comes_back_from_json(spec: InputSpec) -> None:
    assert InputSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_the_defaults_feed_raw_rgb_pixels() -> None:
    spec = InputSpec.from_json({"width": 32, "height": 24})
    assert (spec.resize, spec.color, spec.layout, spec.dtype) == ("stretch", "rgb", "nhwc", "uint8")
    assert (spec.mean, spec.scale, spec.hfov_deg) == ((0, 0, 0), (1, 1, 1), None)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        *(("width", wrong) for wrong in (0, -1, MAX_SIDE_PX + 1, 2.5, "32", True, None)),
        *(("height", wrong) for wrong in (0, MAX_SIDE_PX + 1)),
        *(("resize", wrong) for wrong in ("fill", "", None, ["crop"])),
        ("color", "gray"),
        ("layout", "hwcn"),
        ("dtype", "float16"),
        *(("mean", wrong) for wrong in (0, [1, 2], [1, 2, "3"], [1, 2, math.nan], "123", None)),
        *(("mean", wrong) for wrong in ([1, 2, True], {"r": 1})),
        *(("scale", wrong) for wrong in ([1, 0, 1], [1, 1, math.inf], [1, 1, 1, 1])),
        *(("input_name", wrong) for wrong in ("", 1, None)),
        ("output_name", ""),
        *(("hfov_deg", wrong) for wrong in (0, 180, -60, math.nan, "60", True)),
    ],
    ids=repr,
)
def test_a_value_out_of_range_is_an_error_that_names_the_field(name: str, wrong: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} is"):
        InputSpec.from_json({**FULL.to_json(), name: wrong})


@pytest.mark.parametrize("name", ["width", "height"])
def test_a_missing_size_is_an_error(name: str) -> None:
    content = FULL.to_json()
    del content[name]
    with pytest.raises(ValueError, match=f"no '{name}'"):
        InputSpec.from_json(content)


@pytest.mark.parametrize(
    ("key", "hint"), [("colour", "did you mean 'color'"), ("zzz", "known are width, height")]
)
def test_an_unknown_key_is_an_error_with_a_hint(key: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        InputSpec.from_json({**FULL.to_json(), key: 1})


@pytest.mark.parametrize("content", [None, [], "text", 1])
def test_json_that_is_no_object_is_an_error(content: Any) -> None:
    with pytest.raises(ValueError, match="want an object"):
        InputSpec.from_json(content)


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        FULL.width = 1  # type: ignore[misc]


@pytest.mark.parametrize("hfov_deg", [0.1, 60, 179.9])
def test_a_field_of_view_below_180_degrees_is_fine(hfov_deg: float) -> None:
    check_hfov(hfov_deg)
    assert dataclasses.replace(FULL, hfov_deg=hfov_deg).hfov_deg == hfov_deg
