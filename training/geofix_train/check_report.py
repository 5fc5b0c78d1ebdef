"""A data report as text, and its files."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from geofix_train.check import Checked, Report
from geofix_train.check_map import draw_table

_NUM_SHOWN = 5  # of each kind of finding; JSON has them all


def report_text(report: Report) -> str:
    """Return a report as lines: what there is, then a warning for each kind of finding."""
    warnings = list(_warnings(report))
    end = ["no warnings"] if not warnings else ["", *warnings]
    return "\n".join([*_facts(report), *end])


def write_report(checked: Checked, folder: Path) -> None:
    """Write report.txt, report.json and map.png."""
    report = checked.report
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.txt").write_text(report_text(report) + "\n")
    (folder / "report.json").write_text(json.dumps(report.to_json(), indent=2) + "\n")
    leaks = sorted({row for leak in report.leaks for row in leak.rows})
    draw_table(folder / "map.png", checked.table, mosaics=checked.mosaics, leaks=leaks)


def _facts(report: Report) -> Iterator[str]:
    bounds = report.bounds
    yield f"{report.table}: {report.num_photos} photos"
    for name, counts in report.counts.items():
        yield f"  {name:<8}{_counts(counts)}"
    yield (
        f"  {'bounds':<8}{bounds.south:.5f} to {bounds.north:.5f} north, "
        f"{bounds.west:.5f} to {bounds.east:.5f} east"
    )
    if report.imagery_dates:
        yield f"  {'imagery':<8}{', '.join(report.imagery_dates)}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{value or 'unknown'} {num}" for value, num in counts.items())


def _warnings(report: Report) -> Iterator[str]:
    yield from _finding("bad rows", report.bad_rows)
    yield from _finding("splits without photos", report.missing_splits)
    for kind, what in (
        ("sequence", "sequences in several splits"),
        ("picture", "pictures in several splits"),
        ("seconds", "photos of val and test within seconds of a training photo"),
    ):
        found = [leak.text for leak in report.leaks if leak.kind == kind]
        yield from _finding(f"{what} (a leak)", found)
    yield from _finding("files there several times", _groups(report.same_files))
    yield from _finding("pictures there several times", _groups(report.same_pictures))
    yield from _finding("positions with several photos in one heading", _groups(report.same_views))
    yield from _finding("photos outside the imagery", report.outside_imagery)
    for name, num in report.num_without.items():
        yield from _finding(f"photos without {name}", (), num=num)
    yield from _finding("headings from magnetic north", (), num=report.num_magnetic)


def _groups(groups: Sequence[Sequence[str]]) -> list[str]:
    return [", ".join(group) for group in groups]


def _finding(what: str, found: Sequence[str], *, num: int | None = None) -> Iterator[str]:
    num = len(found) if num is None else num
    if num == 0:
        return
    yield f"warning: {what}: {num}"
    yield from (f"  {text}" for text in found[:_NUM_SHOWN])
    if len(found) > _NUM_SHOWN:
        yield f"  and {len(found) - _NUM_SHOWN} more"
