"""Photos of folders in the order in which they were taken, for `geofix localize --track`."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from geofix.errors import ImageError
from geofix.images import PHOTO_ENDINGS, load_photo
from geofix.input_spec import InputSpec

_COARSE = InputSpec(width=16, height=16)  # of a JPEG this decodes an eighth


def frames_in_order(images: Sequence[Path]) -> tuple[dict[Path, float], bool]:
    """Return files, and those of folders, in the order of a drive, with their times in seconds.

    The second value says whether the times are known.

    Where every photo's EXIF has a time, they are taken then; else one a second, in the order of the
    names. What cannot be read keeps its place, since its error is told there.

    Raises:
        ValueError: there is no photo.
    """
    paths = list(_files(images))
    if not paths:
        wanted = ", ".join(PHOTO_ENDINGS)
        raise ValueError(f"no photo in {', '.join(map(str, images))}: want {wanted}")
    captured: dict[Path, datetime | None] = {}
    for path in paths:
        try:
            captured[path] = load_photo(path, target=_COARSE).captured_at
        except (ImageError, OSError):
            continue
    times = [time for time in captured.values() if time is not None]
    if not times or len(times) < len(captured):
        return {path: float(number) for number, path in enumerate(paths)}, False
    first = min(times, key=_seconds)
    known = {path: _seconds(captured.get(path) or first) for path in paths}
    return dict(sorted(known.items(), key=lambda item: item[1])), True


def _files(images: Sequence[Path]) -> Iterator[Path]:
    for path in images:
        if path.is_dir():
            yield from sorted(
                inside for inside in path.iterdir() if inside.suffix.lower() in PHOTO_ENDINGS
            )
        else:
            yield path


def _seconds(time: datetime) -> float:
    """Return seconds; where EXIF has no time zone, all photos are of one."""
    return time.timestamp()
