"""Photos of a table, blurred where asked and decoded once, resampled as on the device."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from geofix.errors import ImageError
from geofix.images import prepare_image
from geofix.input_spec import InputSpec
from geofix_train.photo_table import PhotoTable, TableError
from geofix_train.privacy import BlurError, load_find_boxes, private_photo
from geofix_train.progress import Progress

_CHUNK = 256


def read_photos(
    table: PhotoTable,
    spec: InputSpec,
    *,
    blur: str = "",
    on_error: str = "stop",
    num_threads: int = 2,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_], list[str]]:
    """Read all photos of a table at the size an encoder takes.

    Args:
        table: N photos.
        spec: of the encoder; its size, resize rule and field of view are used.
        blur: what finds faces beside the table's own boxes; see `privacy.load_find_boxes`.
        on_error: "stop" raises at the first unreadable photo, "skip" leaves it black.
        num_threads: that decode side by side.

    Returns:
        Photos (N, height, width, 3) RGB, which of them were read (N,), and a sentence for each
        that was not.

    Raises:
        TableError: a photo is unreadable or a box is bad; the message names the row.
    """
    photos = np.zeros((len(table), spec.height, spec.width, 3), np.uint8)
    is_read = np.ones(len(table), bool)
    problems: list[str] = []
    find_boxes = load_find_boxes(blur)

    def read(row: int) -> str:
        try:
            source = private_photo(table, row, find_boxes=find_boxes)
            hfov_deg = float(table.hfov_deg[row])
            known = None if math.isnan(hfov_deg) else hfov_deg
            photos[row] = prepare_image(source, spec, hfov_deg=known)
        except (BlurError, ImageError, OSError) as e:
            return f"{table.row_name(row)}: {e}"
        return ""

    with (
        ThreadPoolExecutor(num_threads) as pool,
        Progress(desc="photos", unit="photo", total=len(table)) as progress,
    ):
        for row, problem in enumerate(pool.map(read, range(len(table)))):
            progress.advance()
            if problem and on_error == "stop":
                pool.shutdown(cancel_futures=True)
                raise TableError(problem)
            if problem:
                is_read[row] = False
                problems.append(problem)
    return photos, is_read, problems
