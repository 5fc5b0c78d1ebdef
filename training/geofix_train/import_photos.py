"""From photo collections as they are to one photo table."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from geofix.images import PHOTO_ENDINGS
from geofix_train.importers.csv_table import read_csv
from geofix_train.importers.exif import read_exif
from geofix_train.importers.features import JSON_ENDINGS, Feature, json_files, read_features
from geofix_train.importers.mapillary import is_mapillary, read_mapillary
from geofix_train.importers.photo import BadPhoto, Found, ImportedPhoto
from geofix_train.importers.stac import is_stac, read_stac
from geofix_train.photo_table import NUMBERS, TEXTS, PhotoTable, TableError, keep_good_rows

KINDS = ("exif", "stac", "mapillary", "csv")
_CSV_ENDINGS = (".csv", ".tsv", ".txt")
_NUM_PROBED = 20  # JSON files of a folder that are looked into to tell what it holds


def import_photos(
    sources: Sequence[Path],
    *,
    root: Path,
    kind: str | None = None,
    photos: Path | None = None,
    columns: Mapping[str, str] | None = None,
    by_day: bool = False,
    on_error: str = "stop",
) -> tuple[PhotoTable, list[str]]:
    """Return a table of the photos of all sources, and a sentence for each that was left out.

    Args:
        sources: folders of photos, STAC items, Mapillary exports, CSV files; nothing is fetched.
        root: the folder that the table will lie in; its paths are relative to it.
        kind: one of `KINDS` for all sources; None tells each by what it holds.
        photos: where photos lie that a JSON or CSV names; by default beside it.
        columns: for CSV, from a column of photo tables to what it is called there.
        by_day: what a folder with EXIF holds of a day is a sequence of its own.
        on_error: "stop" raises at the first bad photo, "skip" leaves bad ones out.

    Raises:
        TableError: a source is unreadable or holds no photo, or (with "stop") a photo is bad.
    """
    if on_error not in ("stop", "skip"):
        raise ValueError(f"on_error is {on_error!r}, want 'stop' or 'skip'")
    good: list[ImportedPhoto] = []
    problems: list[str] = []
    from_source: dict[Path, str] = {}
    for found in _progress(_read_all(sources, kind, photos, columns, by_day=by_day)):
        if isinstance(found, ImportedPhoto):
            place = Path(os.path.abspath(found.path))  # not resolved: a link keeps its own name
            if place in from_source:
                found = BadPhoto(found.source, f"{place} came from {from_source[place]} already")
            else:
                from_source[place] = found.source
                good.append(found)
                continue
        if on_error == "stop":
            raise TableError(f"{found.source}: {found.reason}")
        problems.append(f"{found.source}: {found.reason}")
    if not good:
        said = f"; the first: {problems[0]}" if problems else ""
        raise TableError(f"no photo in {', '.join(map(str, sources))}{said}")
    table, bad_rows = keep_good_rows(_table(good, root), on_error=on_error, name="imported")
    return table, [*problems, *bad_rows]


def recognize(source: Path) -> str:
    """Return of which kind a source is.

    Raises:
        TableError: of none that is known.
    """
    if not source.exists():
        raise TableError(f"{source}: no such file or folder")
    ending = source.suffix.lower()
    if source.is_file() and ending in _CSV_ENDINGS:
        return "csv"
    if source.is_dir() or ending in JSON_ENDINGS:
        for content in _probe(source):
            if is_stac(content):
                return "stac"
            if is_mapillary(content):
                return "mapillary"
    if source.is_dir() or ending in PHOTO_ENDINGS:
        return "exif"
    raise TableError(f"{source}: not recognized; say what it is by --kind {'|'.join(KINDS)}")


def _probe(source: Path) -> Iterator[dict[str, Any]]:
    """Yield the first object of some JSON files."""
    for path in json_files(source)[:_NUM_PROBED]:
        first = next(iter(read_features(path)), None)
        if isinstance(first, Feature):
            yield first.content


def _read_all(
    sources: Iterable[Path],
    kind: str | None,
    photos: Path | None,
    columns: Mapping[str, str] | None,
    *,
    by_day: bool,
) -> Found:
    for source in sources:
        is_kind = kind or recognize(source)
        beside = photos or (source if source.is_dir() else source.parent)
        if is_kind == "exif":
            yield from read_exif(source, by_day=by_day)
        elif is_kind == "stac":
            yield from read_stac(source, photos=beside)
        elif is_kind == "mapillary":
            yield from read_mapillary(source, photos=beside)
        elif is_kind == "csv":
            yield from read_csv(source, photos=beside, columns=columns)
        else:
            raise ValueError(f"kind is {is_kind!r}, want one of {', '.join(KINDS)}")


def _table(photos: Sequence[ImportedPhoto], root: Path) -> PhotoTable:
    names = (*NUMBERS, *(name for name in TEXTS if name != "path"))
    columns: dict[str, list[Any]] = {
        "path": [_relative(photo.path, root) for photo in photos],
        **{name: [getattr(photo, name) for photo in photos] for name in names},
    }
    for more in dict.fromkeys(name for photo in photos for name in photo.more):
        columns[more] = [photo.more.get(more, "") for photo in photos]
    return PhotoTable.from_columns(columns, root=root)


def _relative(path: Path, root: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()


def _progress(found: Found) -> "tqdm[ImportedPhoto | BadPhoto]":
    return tqdm(found, desc="import", unit="photo", disable=None)
