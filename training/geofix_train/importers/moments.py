"""Capture times as texts: ISO 8601, with an offset only where the source knows it."""

import math
from datetime import datetime, timezone

_MILLISECONDS_FROM = 1e11  # a larger number counts milliseconds: as seconds it is the year 5138


def iso_time(value: object) -> str:
    """Return a moment in ISO 8601; empty where it is None or empty.

    Args:
        value: ISO 8601, EXIF's "2024:05:01 12:00:00", or seconds or milliseconds since 1970 (UTC),
            as a number or a text.

    Raises:
        ValueError: anything else.
    """
    text = "" if value is None else str(value).strip("\0 ")
    if text == "":
        return ""
    number = _number(text)
    if number is not None:
        return _from_epoch(number)
    for form in ("%Y:%m:%d %H:%M:%S", "%Y:%m:%d %H:%M:%S%z"):
        try:
            return datetime.strptime(text, form).isoformat()
        except ValueError:
            continue
    try:
        return _parse_iso(text).isoformat()
    except ValueError:
        raise ValueError(f"captured_at is {value!r}, want ISO 8601 or seconds since 1970") from None


def seconds_since_1970(text: str) -> float:
    """Return an ISO 8601 moment in seconds, one without an offset taken as UTC; NaN if unknown."""
    try:
        moment = _parse_iso(text)
    except ValueError:
        return math.nan
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def _parse_iso(text: str) -> datetime:
    # Python 3.10 takes neither "Z" nor other than 3 or 6 digits of a second.
    whole, dot, rest = text.replace("Z", "+00:00").partition(".")
    if not dot:
        return datetime.fromisoformat(whole)
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    return datetime.fromisoformat(f"{whole}.{digits[:6]:0<6}{rest[len(digits) :]}")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _from_epoch(number: float) -> str:
    seconds = number / 1000 if abs(number) >= _MILLISECONDS_FROM else number
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).isoformat()
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"captured_at is {number}, want seconds since 1970") from None
