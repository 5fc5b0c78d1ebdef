"""The golden pack, and the comparison of what comes of its photo with what once came of it.

Every version of geofix that reads pack format 1 must give this fix; tests/golden/make_tiny.py wrote
pack, photo and answer. An answer may have further fields; those that stand here must not change.
"""

import json
from pathlib import Path
from typing import Any

import pytest

GOLDEN = Path(__file__).parent / "golden"
PACK, PHOTO = GOLDEN / "tiny.geofix", GOLDEN / "tiny.png"
ANSWER: dict[str, Any] = json.loads((GOLDEN / "tiny.json").read_text())

# Runtimes add up in another order, which changes an embedding by about 1e-6.
_TOLERANCES = {
    "embedding": 1e-4,
    "score": 1e-4,
    "probability": 1e-3,
    "confidence": 1e-3,
    "lat": 2e-6,  # degrees, 0.2 m
    "lon": 2e-6,
    "accuracy_m": 0.5,
    "radius95_m": 2.0,
    "covariance_m2": 5.0,
}


def assert_same_answer(got: Any, wanted: Any, *, name: str = "answer") -> None:
    """Compare an answer, or a part of one, as closely as its name allows."""
    if isinstance(wanted, dict):
        assert set(wanted) <= set(got), name
        for key, value in wanted.items():
            assert_same_answer(got[key], value, name=key)
    elif isinstance(wanted, list):
        assert len(got) == len(wanted), name
        for got_item, wanted_item in zip(got, wanted, strict=True):
            assert_same_answer(got_item, wanted_item, name=name)
    elif isinstance(wanted, float):
        assert got == pytest.approx(wanted, abs=_TOLERANCES.get(name, 0.0)), name
    else:
        assert got == wanted, name
