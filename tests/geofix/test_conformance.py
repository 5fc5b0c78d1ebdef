"""The conformance files, read as their `cases.json` says."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import geofix
from geofix.pack import RegionPack

FOLDER = Path(__file__).parents[1] / "golden" / "conformance"
CASES: list[dict[str, Any]] = json.loads((FOLDER / "cases.json").read_text())


def read(case: dict[str, Any]) -> RegionPack:
    """Open a pack as its case says, and look at all of it."""
    pack = RegionPack.open(
        FOLDER / case["file"],
        public_key=FOLDER / case["key"] if "key" in case else None,
        min_version=case.get("min_version", 0),
    )
    pack.verify()
    return pack


@pytest.mark.parametrize("case", [c for c in CASES if c["take"]], ids=lambda c: c["file"])
def test_a_good_pack_is_taken(case: dict[str, Any]) -> None:
    pack = read(case)
    assert pack.manifest.num_cells == 40
    box = pack.manifest.bounds
    assert (box.west > box.east) == case["file"].startswith("antimeridian")
    assert len(pack.index().search(np.ones(4, np.float32), k=40).cells) == 40


@pytest.mark.parametrize("case", [c for c in CASES if not c["take"]], ids=lambda c: c["file"])
def test_a_bad_pack_is_refused_with_the_error_that_its_case_names(case: dict[str, Any]) -> None:
    with pytest.raises(getattr(geofix, case["error"])) as caught:
        read(case)
    assert type(caught.value) is getattr(geofix, case["error"])
    assert case["file"] in str(caught.value)


def test_each_file_has_a_case() -> None:
    files = sorted(path.name for path in FOLDER.glob("*.geofix"))
    assert sorted(case["file"] for case in CASES) == files
    assert len({case["why"] for case in CASES}) == len(CASES)
