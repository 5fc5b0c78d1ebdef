"""JSON with exactly one spelling for a value (RFC 8785), so that it can be hashed and signed."""

import json
import math
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any

_MAX_EXACT = 2**53  # integers beyond are not exact in every JSON reader


def canonical_json(value: Any) -> bytes:
    """Return the canonical UTF-8 form of a JSON value.

    Raises:
        ValueError: what JSON cannot hold: NaN, infinity, integers that a double cannot, keys that
            are no strings, lone surrogates, other types; or too deep a nesting.
    """
    try:
        return _text(value).encode()
    except UnicodeEncodeError as e:
        raise ValueError(f"text with a lone surrogate cannot be JSON: {e}") from e
    except RecursionError as e:
        raise ValueError("JSON that is nested too deeply") from e


def parse_canonical_json(data: bytes) -> Any:
    """Return the value of a canonical JSON text; numbers beyond 2^53 are floats.

    Raises:
        ValueError: not JSON, or not spelled canonically (which also excludes duplicate keys).
    """
    try:
        value = json.loads(data, parse_int=_int_or_float)
    except RecursionError as e:
        raise ValueError("JSON that is nested too deeply") from e
    if canonical_json(value) != data:
        raise ValueError("not in canonical form (RFC 8785)")
    return value


def _text(value: Any) -> str:
    if isinstance(value, str):
        return encode_basestring(value)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int):
        return _int_text(value)
    if isinstance(value, float):
        return _float_text(value)
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_text, value))}]"
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ValueError(f"keys {list(value)!r}, want strings")
        # Order of UTF-16 code units, as RFC 8785 wants it.
        keys = sorted(value, key=lambda key: key.encode("utf-16-be", "surrogatepass"))
        return "{" + ",".join(f"{_text(key)}:{_text(value[key])}" for key in keys) + "}"
    raise ValueError(f"a {type(value).__name__} cannot be JSON")


def _int_or_float(digits: str) -> int | float:
    """Return the value of an integer's text; a large one is how a double below 1e21 is spelled."""
    value = float(digits)
    return int(digits) if abs(value) < _MAX_EXACT else value


def _int_text(value: int) -> str:
    if abs(value) < _MAX_EXACT:
        return str(value)
    if abs(value) < 10**300 and float(value) == value:
        return _float_text(float(value))
    raise ValueError(f"integer {value if abs(value) < 10**300 else '> 10^300'} is no exact double")


def _float_text(value: float) -> str:
    """Spell a number as ECMAScript does (Number::toString)."""
    if not math.isfinite(value):
        raise ValueError(f"{value} cannot be JSON")
    if value == 0:
        return "0"
    sign, digit_tuple, exponent = Decimal(repr(float(value))).as_tuple()
    digits = "".join(map(str, digit_tuple))
    point = len(digits) + int(exponent)  # where the decimal point stands
    digits = digits.rstrip("0")
    num = len(digits)
    if num <= point <= 21:
        text = digits + "0" * (point - num)
    elif 0 < point <= 21:
        text = f"{digits[:point]}.{digits[point:]}"
    elif -6 < point <= 0:
        text = f"0.{'0' * -point}{digits}"
    else:
        fraction = f".{digits[1:]}" if num > 1 else ""
        text = f"{digits[0]}{fraction}e{point - 1:+d}"
    return f"-{text}" if sign else text
