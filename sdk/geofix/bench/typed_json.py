"""Frozen dataclasses from the JSON objects that `dataclasses.asdict` makes of them."""

import math
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Any, NoReturn, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


def from_object(kind: type[T], content: Any, *, where: str) -> T:
    """Return a dataclass of a JSON object; keys that it does not know are passed over.

    Args:
        kind: a dataclass of texts, numbers, dataclasses, tuples and dictionaries of these.
        content: the parsed JSON.
        where: what the object is called in a message.

    Raises:
        ValueError: a field is missing or has a value of another type, or a number is not finite.
    """
    if not isinstance(content, dict):
        _refuse(content, where, "an object")
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for field in fields(kind):  # type: ignore[arg-type]  # T is a dataclass
        if field.name not in content:
            raise ValueError(f"{where} has no {field.name!r}")
        place = f"{where}.{field.name}"
        values[field.name] = _value(hints[field.name], content[field.name], place)
    try:
        return kind(**values)
    except ValueError as e:  # of a class that checks its values itself
        raise ValueError(f"{where}: {e}") from e


def _value(hint: Any, value: Any, where: str) -> Any:
    if isinstance(hint, UnionType):  # X | None
        (inner,) = (kind for kind in get_args(hint) if kind is not type(None))
        return None if value is None else _value(inner, value, where)
    if is_dataclass(hint):
        return from_object(hint, value, where=where)  # type: ignore[arg-type]
    if get_origin(hint) is tuple:
        parts = value if isinstance(value, list) else _refuse(value, where, "a list")
        return tuple(_value(get_args(hint)[0], part, where) for part in parts)
    if get_origin(hint) is dict:
        pairs = value if isinstance(value, dict) else _refuse(value, where, "an object")
        inner = get_args(hint)[1]
        return {key: _value(inner, held, f"{where}.{key}") for key, held in pairs.items()}
    return _plain(hint, value, where)


def _plain(hint: type, value: Any, where: str) -> Any:
    accepted = (int, float) if hint is float else (hint,)
    if type(value) not in accepted or (hint is float and not math.isfinite(value)):
        _refuse(value, where, hint.__name__)
    return hint(value)


def _refuse(value: Any, where: str, wanted: str) -> NoReturn:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    raise ValueError(f"{where} is {shown}, want {wanted}")
