"""The program of docs/index.md runs and finds what it looks for."""

from typing import Any

from tests.test_readme import ROOT, blocks


def test_the_program_of_the_page_finds_the_cell() -> None:
    names: dict[str, Any] = {}
    (program,) = blocks((ROOT / "docs" / "index.md").read_text(), "python")
    exec(program, names)
    assert names["found"].cells[0] == names["cells"][7]
    assert len(names["near"].cells) == 10
    assert names["Disk"](47.0, 8.3, 5000).admits(names["near"].cells).all()
