"""What README and docs say is there: commands, options, files and names.

Command lines are parsed by the programs they are meant for and not run; the Python of the README is
run, with the golden pack and its photo in place of the demo's.
"""

import argparse
import dataclasses
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import geofix
import geofix.cli
import geofix_export.cli
import geofix_train.cli
from geofix.fix import STATUSES
from geofix.input_spec import InputSpec
from geofix.pack_writer import sign_pack
from geofix.signing import generate_key
from geofix_train.config import DataConfig, FitConfig, read_config
from geofix_train.photo_table import read_photo_table
from tests.golden_pack import PHOTO
from tests.tiny_pack import make_region

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = DOCUMENTS[0].read_text()
PROGRAMS: dict[str, ModuleType] = {
    "geofix": geofix.cli,
    "geofix-train": geofix_train.cli,
    "geofix-export": geofix_export.cli,
}
TOP_FOLDERS = "benchmarks|docs|export|on_device_index|recipes|samples|sdk|tests|training"


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language, "" for those that name none."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for name, block in fenced if name == language]


def spans(text: str) -> list[str]:
    """Return what stands between single backticks, outside of blocks and tables."""
    prose = re.sub(r"^```.*?^```$|^\|[^\n]*$", "", text, flags=re.MULTILINE | re.DOTALL)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]


def parser_of(program: str) -> argparse.ArgumentParser:
    """Return the parser of a program."""
    parser: argparse.ArgumentParser = PROGRAMS[program]._parser()
    return parser


def leaves(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the commands that do something, by the words that lead to them."""
    groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not groups:
        return {parser.prog: parser}
    found: dict[str, argparse.ArgumentParser] = {}
    for child in groups[0].choices.values():
        found |= leaves(child)
    return found


COMMANDS = {name: leaf for program in PROGRAMS for name, leaf in leaves(parser_of(program)).items()}
# The table of commands: what stands in the first column, and the whole row.
ROWS = {
    usage: row
    for row, usage in re.findall(r"^(\| `(geofix[\w-]* [^`]+)` \|.*)$", README, re.MULTILINE)
}


def command_of(usage: str) -> str:
    """Return the command that a row describes; the first words themselves where it is none."""
    found = [name for name in COMMANDS if f"{usage} ".startswith(f"{name} ")]
    return max(found, key=len, default=usage)


def options_of(command: argparse.ArgumentParser) -> set[str]:
    """Return the options of a command, of each its longest name."""
    named = [action.option_strings for action in command._actions if action.option_strings]
    return {max(names, key=len) for names in named} - {"--help"}


def command_lines(text: str) -> Iterator[list[str]]:
    """Yield the words of each command in `sh` blocks and prose, but not a command's bare name."""
    for block in blocks(text, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            yield shlex.split(line, comments=True)
    for span in spans(text):
        if re.match(rf"(make|{'|'.join(PROGRAMS)}) ", span) and span not in COMMANDS:
            yield shlex.split(span)


QUOTED = [words for path in DOCUMENTS for words in command_lines(path.read_text()) if words]
LINKS = [
    (path, target)
    for path in DOCUMENTS
    for target in sorted(set(re.findall(r"\]\(([^)\s#]+)[^)]*\)", path.read_text())))
    if "://" not in target
]


def test_the_readme_has_what_is_looked_for() -> None:
    assert len(COMMANDS) >= 10
    assert len(QUOTED) >= 10
    assert len(LINKS) >= 5
    assert len(ROWS) >= 10


def test_every_command_has_a_row_and_every_row_a_command() -> None:
    assert {command_of(usage) for usage in ROWS} == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_that_says_what_it_does(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    program, *words = name.split()
    with pytest.raises(SystemExit) as stop:
        PROGRAMS[program].main([*words, "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: {name} ")
    assert len((COMMANDS[name].description or "").split()) >= 3
    assert all(option in shown for option in options_of(COMMANDS[name]))


@pytest.mark.parametrize("usage", ROWS)
def test_the_options_of_a_row_exist(usage: str) -> None:
    quoted = {
        word
        for span in re.findall(r"`([^`]+)`", ROWS[usage])
        for word in span.split()
        if word.startswith("-")
    }
    actions = COMMANDS[command_of(usage)]._actions
    assert quoted <= {text for action in actions for text in action.option_strings}


@pytest.mark.parametrize("name", [name for name in COMMANDS if name.startswith("geofix ")])
def test_the_rows_of_the_device_name_every_option(name: str) -> None:
    (row,) = (row for usage, row in ROWS.items() if command_of(usage) == name)
    missing = {option for option in options_of(COMMANDS[name]) if f"`{option}" not in row}
    assert missing == set()


@pytest.mark.parametrize("words", QUOTED, ids=" ".join)
def test_a_quoted_command_line_is_understood(words: list[str]) -> None:
    program, *rest = words
    program = program.removeprefix(".venv/bin/")
    if program == "make":
        targets = [word for word in rest if "=" not in word]
        assert set(targets) <= set(re.findall(r"^([\w-]+):", makefile(), re.MULTILINE))
    elif program == "pip":
        (extras,) = re.findall(r"\.\[([\w,]+)\]", " ".join(rest))
        assert set(extras.split(",")) <= set(re.findall(r"^(\w+) = \[", pyproject(), re.MULTILINE))
    elif program == "python3":
        assert rest[:2] == ["-m", "venv"]
    elif program == "python":
        assert (ROOT / rest[0]).is_file()
    else:
        parser_of(program).parse_args(rest)


def makefile() -> str:
    return (ROOT / "Makefile").read_text()


def pyproject() -> str:
    return (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize(("path", "target"), LINKS, ids=lambda value: getattr(value, "name", value))
def test_a_relative_link_leads_somewhere(path: Path, target: str) -> None:
    assert (path.parent / target).exists()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_the_files_that_are_named_exist(path: Path) -> None:
    quoted = re.findall(r"`([^`\s]+)`", path.read_text())
    named = [span for span in quoted if re.match(rf"({TOP_FOLDERS})/", span)]
    assert [span for span in named if not (ROOT / span).exists()] == []


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = "\n".join(blocks(README, "python"))
    opened = dict.fromkeys(re.findall(r"open\(\s*\"(.+?)\"", code))
    (key,) = set(re.findall(r'public_key="(.+?)"', code))
    Path("samples").symlink_to(ROOT / "samples")
    private, public = generate_key()
    Path(key).write_bytes(public)
    for own in (Path(name) for name in opened if not name.startswith("samples/")):
        sign_pack(make_region().write(own, pack_version=3), private)
    names: dict[str, Any] = {}
    exec(code, names)
    assert isinstance(names["fix"], geofix.Fix)
    assert isinstance(names["here"], geofix.LocalCoverage)
    assert names["localizer"].coverage.num_cells > 0
    assert set(re.findall(r"`(fixed|ambiguous|unknown)`:", README)) == set(STATUSES)


def test_the_table_the_settings_and_the_input_spec_of_the_readme_are_read(tmp_path: Path) -> None:
    (photos,) = (block for block in blocks(README, "") if block.startswith("path,"))
    (tmp_path / "photos.csv").write_text(photos)
    (tmp_path / "img").mkdir()
    shutil.copy(PHOTO, tmp_path / "img" / "0001.jpg")
    table, problems = read_photo_table(tmp_path / "photos.csv")
    assert (len(table), problems) == (1, [])
    (settings,) = blocks(README, "toml")
    (tmp_path / "my.toml").write_text(settings)
    assert read_config(tmp_path / "my.toml").data.photos == str(tmp_path / "photos.csv")
    (spec,) = blocks(README, "json")
    assert InputSpec.from_json(json.loads(spec)).layout == "nchw"


SETTINGS = (ROOT / "docs" / "settings.md").read_text()


@pytest.mark.parametrize("settings", blocks(SETTINGS, "toml"))
def test_settings_that_their_page_shows_are_read(settings: str, tmp_path: Path) -> None:
    photos = "" if "[data]" in settings else '[data]\nphotos = "photos.csv"\n'
    (tmp_path / "my.toml").write_text(photos + settings)
    assert read_config(tmp_path / "my.toml").model.dim == 256


@pytest.mark.parametrize("section", ["data", "model", "objective", "run"])
def test_every_setting_stands_in_its_page_with_its_default(section: str) -> None:
    table = SETTINGS.split(f"## `[{section}]`")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\S+) \| (.+) \|$", table, re.MULTILINE)
    config = FitConfig(DataConfig(photos="required"))
    defaults = dataclasses.asdict(config)[section]
    assert {key: default for key, default, _ in rows} == {
        key: "required" if value == "required" else f"`{json.dumps(value)}`"
        for key, value in defaults.items()
    }
