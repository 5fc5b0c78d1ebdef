from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw

from geofix_train.photo_table import PhotoTable
from geofix_train.same_pictures import Fingerprints, read_fingerprints, same_files, same_pictures


def scene(seed: int, *, shift: int = 0) -> Image.Image:
    """Return a picture of coarse random structure; `shift` moves the camera."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (12, 40, 3), dtype=np.uint8)
    wide = Image.fromarray(blocks).resize((1000, 300), Image.Resampling.BICUBIC)
    return wide.crop((100 + shift, 0, 500 + shift, 300))


def table_of(folder: Path, pictures: dict[str, Image.Image], **options: Any) -> PhotoTable:
    """Write pictures by name and return their table."""
    for name, picture in pictures.items():
        picture.save(folder / name, **options)
    num = len(pictures)
    return PhotoTable.from_columns(
        {"path": list(pictures), "lat": [47.0] * num, "lon": [8.0] * num}, root=folder
    )


def test_copies_are_the_same_file_and_the_same_picture(tmp_path: Path) -> None:
    table = table_of(tmp_path, {f"{n}.png": scene(n % 3) for n in range(5)})
    prints = read_fingerprints(table)
    assert same_files(prints) == [[0, 3], [1, 4]]
    assert same_pictures(prints) == [[0, 3], [1, 4]]


def test_a_picture_saved_anew_is_the_same_picture_and_another_file(tmp_path: Path) -> None:
    one = scene(1)
    pictures = {
        "a.png": one,
        "small.png": one.resize((200, 150), Image.Resampling.BILINEAR),
        "other.png": scene(2),
        "packed.jpg": one,
        "packed.webp": one,
    }
    prints = read_fingerprints(table_of(tmp_path, pictures, quality=50))
    assert same_files(prints) == []
    assert same_pictures(prints) == [[0, 1, 3, 4]]


@pytest.mark.parametrize("shift", [20, 60])
def test_a_step_further_is_another_picture(tmp_path: Path, shift: int) -> None:
    table = table_of(tmp_path, {"a.png": scene(1), "b.png": scene(1, shift=shift)})
    assert same_pictures(read_fingerprints(table)) == []


def test_pictures_of_one_structure_and_other_brightness_differ(tmp_path: Path) -> None:
    darker = scene(1).point(lambda value: value * 0.8)
    assert (
        same_pictures(read_fingerprints(table_of(tmp_path, {"a.png": scene(1), "b.png": darker})))
        == []
    )


def test_a_picture_with_a_drawing_on_it_differs(tmp_path: Path) -> None:
    changed = scene(1)
    ImageDraw.Draw(changed).rectangle((0, 0, 400, 90), fill="white")
    assert (
        same_pictures(read_fingerprints(table_of(tmp_path, {"a.png": scene(1), "b.png": changed})))
        == []
    )


def test_what_cannot_be_read_is_named_and_like_nothing(tmp_path: Path) -> None:
    table = table_of(tmp_path, {"a.png": scene(1), "b.png": scene(1), "c.png": scene(1)})
    (tmp_path / "a.png").write_text("I am no picture")
    (tmp_path / "c.png").unlink()
    prints = read_fingerprints(table)
    assert prints.is_read.tolist() == [False, True, False]
    assert prints.problems[0].startswith("row 1 (a.png): ")
    assert prints.problems[2].startswith("row 3 (c.png): ")
    assert same_files(prints) == same_pictures(prints) == []


def test_groups_join_over_any_number_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geofix_train.same_pictures._BLOCK", 7)
    rng = np.random.default_rng(0)
    scenes = rng.integers(0, 256, (20, 16, 17)).astype(np.float32)
    own = rng.integers(0, 20, 100)
    noise: npt.NDArray[np.float32] = rng.uniform(-1, 1, (100, 16, 17)).astype(np.float32)
    prints = Fingerprints(np.full(100, ""), scenes[own] + noise, ("",) * 100)
    wanted = {tuple(np.flatnonzero(own == n)) for n in range(20) if (own == n).sum() > 1}
    assert {tuple(group) for group in same_pictures(prints)} == wanted
