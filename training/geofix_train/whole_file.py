"""Files that are written whole or not at all: a full disk or a stop leaves the former file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a name beside `path` to write to; the file takes its place durably if nothing failed.

    Raises:
        OSError: the disk is full, or the file cannot be written; `path` is as it was.
    """
    part = path.with_name(path.name + ".part")
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except SafetensorError as e:  # its writer reports a full disk in words of its own
        part.unlink(missing_ok=True)
        raise OSError(f"{path}: cannot be written: {e}") from e
    except BaseException:
        part.unlink(missing_ok=True)
        raise
