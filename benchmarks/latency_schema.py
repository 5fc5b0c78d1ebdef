"""Make the JSON Schema of latency reports from the classes that are written.

python -m benchmarks.latency_schema
"""

import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from geofix.bench import STAGES, LatencyReport
from geofix.bench.report import FORMAT, MAX_SAMPLES, SCHEMA_VERSION

DOCUMENT = Path(__file__).parent.parent / "docs" / "latency_report.schema.json"
_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean"}


def main() -> None:
    """Write the schema."""
    DOCUMENT.write_text(render())


def render() -> str:
    """Return the schema as a file."""
    report = _schema(LatencyReport)
    properties = report["properties"]
    properties["stages"]["propertyNames"] = {"enum": list(STAGES)}
    properties["stages"]["required"] = ["encode"]
    stage = properties["stages"]["additionalProperties"]["properties"]
    stage["samples_ms"] |= {"minItems": 1, "maxItems": MAX_SAMPLES}
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Latency report of geofix, schema version {SCHEMA_VERSION}",
        "description": "What `geofix bench run` writes. Times in milliseconds, sizes in bytes; "
        "null where a device does not tell. The classes of geofix.bench say what each field means.",
        "type": "object",
        "required": ["format", "schema_version", *report["required"]],
        "properties": {
            "format": {"const": FORMAT},
            "schema_version": {"const": SCHEMA_VERSION},
            **properties,
        },
    }
    return json.dumps(schema, indent=2) + "\n"


def _schema(hint: Any) -> dict[str, Any]:
    """Return the schema of a type, as `geofix.bench.typed_json` reads it."""
    if isinstance(hint, UnionType):  # X | None
        return {"anyOf": [{"type": "null"}, *(_schema(k) for k in get_args(hint)[:1])]}
    if is_dataclass(hint):
        hints, names = get_type_hints(hint), [field.name for field in fields(hint)]
        properties = {name: _schema(hints[name]) for name in names}
        return {"type": "object", "required": names, "properties": properties}
    if get_origin(hint) is tuple:
        return {"type": "array", "items": _schema(get_args(hint)[0])}
    if get_origin(hint) is dict:
        return {"type": "object", "additionalProperties": _schema(get_args(hint)[1])}
    return {"type": _PLAIN[hint]} | ({"minimum": 0} if hint in (int, float) else {})


if __name__ == "__main__":
    main()
