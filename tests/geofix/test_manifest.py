import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from geofix.canonical_json import canonical_json
from geofix.errors import PackError, PackFormatError, PackVersionError
from geofix.image_statistics import fit_statistics
from geofix.manifest import Manifest
from geofix.posterior import Calibration
from tests.geofix.forgery import read_contents

DOCS = Path(__file__).parents[2] / "docs"
CONFORMANCE = Path(__file__).parents[1] / "golden" / "conformance"

Json = dict[str, Any]
Place = tuple[str | int, ...]  # keys that lead to a value

VALIDATION: Place = ("encoders", 0, "calibration", "validation", "all")
REQUIRED: dict[Place, type] = {
    ("format",): str,
    ("format_version",): int,
    ("pack_id",): str,
    ("pack_version",): int,
    ("title",): str,
    ("attribution",): str,
    ("license",): str,
    ("bounds",): list,
    ("coverage",): list,
    ("cell_level",): int,
    ("num_cells",): int,
    ("embedding",): dict,
    ("embedding", "dim"): int,
    ("embedding", "metric"): str,
    ("codebook",): dict,
    ("codebook", "entry"): str,
    ("codebook", "num_subspaces"): int,
    ("codebook", "bits"): int,
    ("encoders",): list,
    ("encoders", 0, "entry"): str,
    ("encoders", 0, "target"): str,
    ("encoders", 0, "precision"): str,
    ("encoders", 0, "dim"): int,
    ("encoders", 0, "input_spec"): dict,
    ("encoders", 0, "input_spec", "width"): int,
    ("encoders", 0, "input_spec", "height"): int,
    ("encoders", 0, "calibration", "temperature"): float,
    ("encoders", 0, "calibration", "elsewhere"): float,
    (*VALIDATION, "num_photos"): int,
    (*VALIDATION, "share_fixed"): float,
    (*VALIDATION, "within_100m"): float,
    (*VALIDATION, "median_error_m"): float,
    ("shards",): list,
    ("shards", 0, "parent"): str,
    ("shards", 0, "kind"): str,
    ("shards", 0, "num_cells"): int,
    ("shards", 0, "cells"): str,
    ("shards", 0, "payload"): str,
    ("entries",): dict,
    ("entries", "codebook.pq"): dict,
    ("entries", "codebook.pq", "bytes"): int,
    ("entries", "codebook.pq", "sha256"): str,
    ("provenance",): dict,
}
OPTIONAL: dict[Place, type] = {
    ("required_features",): list,
    ("encoders", 0, "calibration"): dict,
    ("encoders", 0, "calibration", "validation"): dict,
    VALIDATION: dict,
    (*VALIDATION, "fixed_within_100m"): float,
    ("encoders", 0, "parity"): dict,
    ("encoders", 0, "input_spec", "resize"): str,
    ("encoders", 0, "input_spec", "mean"): list,
}
OF_ANOTHER_TYPE = [
    (place, wrong)
    for place, right in [*REQUIRED.items(), *OPTIONAL.items()]
    for wrong in (None, True, "text", 7, -1.5, ["x"], {"x": 1})
    if type(wrong) is not right and not (right is float and type(wrong) is int)
]


@pytest.fixture(scope="module")
def manifest() -> Json:
    """Return a manifest with all that one can have, as JSON."""
    content: Json = json.loads(read_contents(CONFORMANCE / "photographed.geofix")["manifest.json"])
    content["required_features"] = []
    content["encoders"][0]["parity"] = {"cosine": 0.9999}
    return content


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    """Return the published schema."""
    content = json.loads((DOCS / "manifest.schema.json").read_text())
    Draft202012Validator.check_schema(content)
    return Draft202012Validator(content)


def edited(manifest: Json, place: Place, edit: Callable[[Any, str | int], None]) -> bytes:
    """Return the manifest's file after an edit of what a place's last key leads to."""
    content = json.loads(json.dumps(manifest))
    holder = content
    for key in place[:-1]:
        holder = holder[key]
    edit(holder, place[-1])
    return canonical_json(content)


def with_value(manifest: Json, place: Place, value: Any) -> bytes:
    def put(holder: Any, key: str | int) -> None:
        holder[key] = value

    return edited(manifest, place, put)


def without(manifest: Json, place: Place) -> bytes:
    def remove(holder: Any, key: str | int) -> None:
        del holder[key]

    return edited(manifest, place, remove)


def test_a_manifest_is_read_as_it_was_written(pack_path: Path) -> None:
    data = read_contents(pack_path)["manifest.json"]
    manifest = Manifest.from_bytes(data)
    assert manifest.to_bytes() == data
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest


def test_the_example_of_the_specification_is_a_manifest() -> None:
    text = (DOCS / "pack_spec.md").read_text()
    (example,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    stored = read_contents(CONFORMANCE / "photographed.geofix")["manifest.json"]
    assert canonical_json(json.loads(example)) == stored


def test_a_calibration_outside_the_encoders_is_read_as_it_was_written(manifest: Json) -> None:
    calibration = Calibration(temperature=0.25, elsewhere=-1.5)
    read = Manifest.from_bytes(
        with_value(manifest, ("calibration",), {"temperature": 0.25, "elsewhere": -1.5})
    )
    assert read.calibration == calibration
    assert Manifest.from_bytes(read.to_bytes()) == read


@pytest.mark.parametrize("place", REQUIRED, ids=str)
def test_a_missing_field_is_a_format_error(manifest: Json, place: Place) -> None:
    with pytest.raises(PackFormatError, match=str(place[-1])):
        Manifest.from_bytes(without(manifest, place))


@pytest.mark.parametrize("place", OPTIONAL, ids=str)
def test_an_optional_field_may_be_absent(manifest: Json, place: Place) -> None:
    assert Manifest.from_bytes(without(manifest, place)).pack_id == manifest["pack_id"]


@pytest.mark.parametrize(("place", "wrong"), OF_ANOTHER_TYPE, ids=str)
def test_a_field_of_another_type_is_a_format_error(
    manifest: Json, place: Place, wrong: Any
) -> None:
    with pytest.raises(PackFormatError):
        Manifest.from_bytes(with_value(manifest, place, wrong))


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        (("format",), "geofix"),
        (("format_version",), 0),
        (("pack_version",), 0),
        (("pack_id",), ""),
        (("bounds",), [1, 2, 3]),
        (("bounds",), [1, 2, 3, "4"]),
        (("bounds",), [1, 2, True, 4]),
        (("bounds",), [48, 8, 47, 9]),
        (("cell_level",), 31),
        (("cell_level",), -1),
        (("num_cells",), 1),
        (("embedding", "dim"), 0),
        (("embedding", "metric"), "cosine"),
        (("codebook",), "absent.pq"),
        (("encoders", 0, "dim"), 7),
        (("encoders", 0, "input_spec", "resize"), "fill"),
        (("encoders", 0, "input_spec", "unknown"), 1),
        (("encoders", 0, "calibration", "temperature"), 0),
        (("shards",), []),
        (("shards", 0, "parent"), "xyz"),
        (("shards", 0, "parent"), "0"),
        (("shards", 0, "kind"), "hnsw"),
        (("shards", 0, "num_cells"), -1),
        (("entries", "codebook.pq", "bytes"), -1),
        (("entries", "codebook.pq", "sha256"), "00"),
        (("entries", "codebook.pq", "sha256"), "G" * 64),
    ],
    ids=str,
)
def test_a_value_out_of_range_is_a_format_error(manifest: Json, place: Place, wrong: Any) -> None:
    with pytest.raises(PackFormatError, match=r".+"):
        Manifest.from_bytes(with_value(manifest, place, wrong))


def test_shards_that_overlap_are_a_format_error(manifest: Json) -> None:
    shard = dict(manifest["shards"][0])
    for parent in (shard["parent"], "479"):  # the same cell, one that holds it
        twice = with_value(manifest, ("shards", 1), {**manifest["shards"][1], "parent": parent})
        with pytest.raises(PackFormatError, match="overlap"):
            Manifest.from_bytes(twice)


@pytest.mark.parametrize(
    "place", [(), ("encoders", 0), ("shards", 0), ("embedding",), ("entries", "codebook.pq")]
)
def test_unknown_optional_fields_are_ignored(manifest: Json, place: Place) -> None:
    read = Manifest.from_bytes(with_value(manifest, (*place, "a_later_field"), {"x": [1]}))
    known = replace(read, encoders=tuple(replace(e, extra={}) for e in read.encoders), extra={})
    assert known == Manifest.from_bytes(canonical_json(manifest))


@pytest.mark.parametrize("place", [(), ("encoders", 0)])
def test_unknown_fields_are_kept_at_the_top_and_of_encoders(manifest: Json, place: Place) -> None:
    content = with_value(manifest, (*place, "a_later_field"), {"x": [1]})
    assert Manifest.from_bytes(content).to_bytes() == content


def test_a_future_format_asks_for_a_newer_geofix(manifest: Json) -> None:
    with pytest.raises(PackVersionError, match=r"the pack has format 2, .*: update geofix"):
        Manifest.from_bytes(canonical_json({**manifest, "format_version": 2}))


@pytest.mark.parametrize("rest", [{}, {"shards": "of another kind"}])
def test_an_unknown_required_feature_asks_for_a_newer_geofix(manifest: Json, rest: Json) -> None:
    content = {**manifest, "required_features": ["heading", "tides"], **rest}
    with pytest.raises(PackVersionError, match=r"needs heading, tides, .*: update geofix"):
        Manifest.from_bytes(canonical_json(content))


def test_a_future_format_may_differ_in_all_other_fields() -> None:
    with pytest.raises(PackVersionError):
        Manifest.from_bytes(b'{"format":"geofix-region-pack","format_version":2}')


@pytest.mark.parametrize("value", [None, 1, "text", [], [1]])
def test_json_that_is_no_object_is_a_format_error(value: Any) -> None:
    with pytest.raises(PackFormatError):
        Manifest.from_bytes(canonical_json(value))


def test_json_that_is_not_canonical_is_a_format_error(manifest: Json) -> None:
    with pytest.raises(PackFormatError, match="canonical"):
        Manifest.from_bytes(json.dumps(manifest).encode())


def test_the_schema_takes_manifests_that_the_reader_takes(
    schema: Draft202012Validator, manifest: Json
) -> None:
    assert list(schema.iter_errors(manifest)) == []
    for path in CONFORMANCE.glob("[!b]*.geofix"):
        assert schema.is_valid(json.loads(read_contents(path)["manifest.json"])), path
    for place in OPTIONAL:
        assert schema.is_valid(json.loads(without(manifest, place))), place


CALIBRATION = Calibration(
    0.25,
    -1.5,
    levels=(0.6, 0.9),
    conflict=2.0,
    image_statistics=fit_statistics(np.random.default_rng(0).normal(0, 1, (40, 12))),
)


def test_the_second_version_of_a_calibration_is_taken_by_schema_and_reader(
    schema: Draft202012Validator, manifest: Json
) -> None:
    content = with_value(manifest, ("calibration",), CALIBRATION.to_json())
    assert schema.is_valid(json.loads(content))
    assert Manifest.from_bytes(content).calibration == CALIBRATION


@pytest.mark.parametrize(
    "change",
    [
        {"version": 3},
        {"version": "2"},
        {"levels": [0.5]},
        {"levels": [0.5, 2]},
        {"levels": None},
        {"conflict": "x"},
        {"image_statistics": {"mean": [0] * 12}},
        {"image_statistics": {**CALIBRATION.to_json()["image_statistics"], "limit": 0}},
        {"image_statistics": {**CALIBRATION.to_json()["image_statistics"], "mean": [0] * 11}},
    ],
)
def test_a_calibration_with_something_wrong_is_refused_by_schema_and_reader(
    schema: Draft202012Validator, manifest: Json, change: Json
) -> None:
    content = with_value(manifest, ("calibration",), {**CALIBRATION.to_json(), **change})
    assert not schema.is_valid(json.loads(content))
    with pytest.raises(PackFormatError):
        Manifest.from_bytes(content)


def test_the_schema_refuses_what_is_missing_or_of_another_type(
    schema: Draft202012Validator, manifest: Json
) -> None:
    listed = ("entries", "codebook.pq")  # a schema cannot know which entries there are
    wrong = [without(manifest, place) for place in REQUIRED if place != listed]
    wrong += [with_value(manifest, place, value) for place, value in OF_ANOTHER_TYPE]
    for content in wrong:
        assert not schema.is_valid(json.loads(content)), content


def test_the_reader_refuses_whatever_the_schema_refuses(
    schema: Draft202012Validator, manifest: Json
) -> None:
    numbers, texts = (0, -1, 1.5, 31, 1e9), ("", "0", "x" * 64)
    values: list[Any] = [None, True, *numbers, *texts, [], [0, 0, 0], {}, {"x": 1}]
    num_refused = 0
    for place in [*REQUIRED, *OPTIONAL]:
        for value in values:
            content = with_value(manifest, place, value)
            if not schema.is_valid(json.loads(content)):
                num_refused += 1
                with pytest.raises(PackError):
                    Manifest.from_bytes(content)
    assert num_refused > 500
