"""Make docs/results.md from the records.

python -m benchmarks.report
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.record import RESULTS

DOCUMENT = Path(__file__).parent.parent / "docs" / "results.md"
_HEAD = """# Results

Made by `make results` from the records in `benchmarks/results/`; do not edit. Each record keeps the
command that measures it again, the machine, the date and the commit (with `+`: and changes since).
"""


def main() -> None:
    """Write the document."""
    DOCUMENT.write_text(render(sorted(RESULTS.glob("*.json"))))


def render(records: list[Path]) -> str:
    """Return the document for records, one section each, in the order of their names."""
    sections = ["\n".join(_section(json.loads(path.read_text()))) for path in records]
    return "\n".join([_HEAD, *sections])


def _section(record: dict[str, Any]) -> Iterator[str]:
    machine = record["machine"]
    yield f"## {record['title']}\n"
    yield f"{record['meaning']}\n"
    yield from _grid(record["values"]) or _list(record["values"])
    gpu = f", {machine['gpu']}" if machine.get("gpu") else ""
    yield f"\n`{record['command']}` on {machine['cpu']}, {machine['cores']} cores{gpu}, "
    yield f"Python {machine['python']}, {record['date']}, commit {record['commit']}.\n"


def _list(values: list[dict[str, Any]]) -> list[str]:
    """Return a table of one value a line."""
    lines = [f"| {value['what']} | {_shown(value)} |" for value in values]
    return ["| what | value |", "|---|---|", *lines]


def _grid(values: list[dict[str, Any]]) -> list[str]:
    """Return a table of two ways where each value is called "row: column"; else nothing."""
    cells: dict[str, dict[str, str]] = {}
    for value in values:
        row, _, column = value["what"].rpartition(": ")
        cells.setdefault(row, {})[column] = _shown(value)
    columns = list(next(iter(cells.values())))
    if len(cells) < 2 or len(columns) < 2 or any(list(row) != columns for row in cells.values()):
        return []
    lines = [f"| {name} | {' | '.join(row.values())} |" for name, row in cells.items()]
    return [f"| | {' | '.join(columns)} |", "|" + "---|" * (len(columns) + 1), *lines]


def _shown(value: dict[str, Any]) -> str:
    return f"{_number(value['value'])} {value['unit']}"


def _number(value: float) -> str:
    """Return the shortest decimal form, with commas."""
    return f"{value:,}".removesuffix(".0")


if __name__ == "__main__":
    main()
