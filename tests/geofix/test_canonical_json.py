import contextlib
import json
import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geofix.canonical_json import canonical_json, parse_canonical_json

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)

# RFC 8785, appendix B: a double's bits and its spelling.
NUMBER_SAMPLES = [
    ("0000000000000000", "0"),
    ("8000000000000000", "0"),
    ("0000000000000001", "5e-324"),
    ("8000000000000001", "-5e-324"),
    ("7fefffffffffffff", "1.7976931348623157e+308"),
    ("ffefffffffffffff", "-1.7976931348623157e+308"),
    ("4340000000000000", "9007199254740992"),
    ("c340000000000000", "-9007199254740992"),
    ("4430000000000000", "295147905179352830000"),
    ("44b52d02c7e14af5", "9.999999999999997e+22"),
    ("44b52d02c7e14af6", "1e+23"),
    ("44b52d02c7e14af7", "1.0000000000000001e+23"),
    ("444b1ae4d6e2ef4e", "999999999999999700000"),
    ("444b1ae4d6e2ef4f", "999999999999999900000"),
    ("444b1ae4d6e2ef50", "1e+21"),
    ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
    ("3eb0c6f7a0b5ed8d", "0.000001"),
    ("41b3de4355555553", "333333333.3333332"),
    ("41b3de4355555554", "333333333.33333325"),
    ("41b3de4355555555", "333333333.3333333"),
    ("41b3de4355555556", "333333333.3333334"),
    ("41b3de4355555557", "333333333.33333343"),
    ("becbf647612f3696", "-0.0000033333333333333333"),
    ("43143ff3c1cb0959", "1424953923781206.2"),
]


@pytest.mark.parametrize(("bits", "text"), NUMBER_SAMPLES)
def test_numbers_are_spelled_as_in_rfc_8785(bits: str, text: str) -> None:
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical_json(value) == text.encode()


def test_the_example_of_rfc_8785_has_its_bytes() -> None:
    # Section 3.2.2 (input) and 3.2.4 (output).
    text = (
        r'{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],'
        r' "string": "\u20ac$\u000F\u000aA'
        r"'"
        r'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}'
    )
    wanted = (
        r'{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        r'"string":"€$\u000f\nA'
        r"'"
        r'B\"\\\\\"/"}'
    )
    assert canonical_json(json.loads(text)) == wanted.encode()


def test_keys_are_in_the_order_of_utf_16_code_units() -> None:
    # Section 3.2.3; by code point, the smiley would come last.
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    wanted = ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    assert list(json.loads(canonical_json(dict.fromkeys(keys)))) == wanted


@given(VALUES)
def test_any_value_comes_back(value: Any) -> None:
    data = canonical_json(value)
    assert parse_canonical_json(data) == value
    assert canonical_json(parse_canonical_json(data)) == data


@pytest.mark.parametrize(
    "value",
    [
        *(math.nan, math.inf, -math.inf, 2**53 + 1, 10**400),
        *({1: 2}, {None: 1}, "\ud800", {"\udfff": 1}, b"bytes", {1, 2}, 1j),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_what_json_cannot_hold_is_an_error(value: object) -> None:
    with pytest.raises(ValueError, match=r"JSON|keys|exact"):
        canonical_json({"deep": [value]} if not isinstance(value, dict) else value)


@pytest.mark.parametrize(
    "text",
    [
        *('{"b":1,"a":2}', '{"a":1,"a":1}', "[1, 2]", "1.0", "1e2", "-0", "[1]\n", '"\\u0041"'),
        *('"\\/"', "NaN", "Infinity", "1e999", "[1", "", "'a'", '"\\ud800"', "9007199254740993"),
        "9" * 5000,
    ],
)
def test_other_spellings_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_canonical_json(text.encode())


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32-le", "latin-1"])
def test_other_encodings_are_refused(encoding: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_canonical_json('{"name":"Zürich"}'.encode(encoding))


def test_deep_nesting_is_refused_at_any_depth() -> None:
    assert parse_canonical_json(b"[" * 50 + b"]" * 50)
    # Around the interpreter's limit parsing may succeed where spelling does not.
    for depth in (*range(2000, 100, -100), 100_000):
        data = b"[" * depth + b"]" * depth
        with contextlib.suppress(ValueError):
            parse_canonical_json(data)
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_canonical_json(data)
