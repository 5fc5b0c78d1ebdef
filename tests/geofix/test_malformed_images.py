"""A file that is no picture is an ImageError that says so; nothing else comes of it.

Through `Localizer.localize`, as a user would notice it.
"""

import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from geofix.errors import ImageError
from geofix.fix import Fix
from geofix.images import MAX_PIXELS, load_image
from geofix.localizer import Localizer
from geofix.pillow_warnings import no_pillow_warnings
from tests.geofix.malformed_images import (
    damaged,
    extreme_pictures,
    made_by_design,
    png_of,
    whole_files,
)
from tests.tiny_pack import TinyRegion

FEW, MANY = 100, 1000
_LONGEST_MESSAGE = 300
_BYTES_A_PIXEL = 12  # in memory at once, while a picture is decoded


@pytest.fixture(scope="module")
def localizer(pack_path: Path) -> Iterator[Localizer]:
    """Return an opened localizer."""
    with Localizer.open(pack_path, num_threads=1) as opened:
        yield opened


def outcome(localizer: Localizer, data: bytes) -> str:
    """Return what is said of a file, "" where it is a picture; fail on what must not happen."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            fix = localizer.localize(data)
        except ImageError as e:
            said = str(e)
        else:
            assert fix.status in ("fixed", "ambiguous", "unknown")
            said = ""
    assert [str(warning.message) for warning in warned] == []
    if said:
        assert said.startswith(f"image of {len(data)} bytes: ")
        assert len(said) <= _LONGEST_MESSAGE
        assert "\n" not in said
        assert " object at 0x" not in said
    return said


def assert_silent(capfd: pytest.CaptureFixture[str], data: bytes) -> None:
    """Check that nothing was printed; of damaged TIFFs libtiff prints, which nothing keeps off."""
    out, err = capfd.readouterr()
    assert out == ""
    assert err == "" or data.startswith((b"II", b"MM"))


def without_times(fix: Fix) -> Fix:
    return replace(fix, timings_ms={})


@pytest.mark.parametrize("num", [FEW, pytest.param(MANY, marks=pytest.mark.stress)])
def test_damaged_files_are_pictures_or_image_errors(
    localizer: Localizer, region: TinyRegion, capfd: pytest.CaptureFixture[str], num: int
) -> None:
    good = region.pictures[7]
    before = without_times(localizer.localize(good))
    said = []
    for i in range(num):
        name, data = damaged(i)
        said.append((name, outcome(localizer, data)))
        assert_silent(capfd, data)
        assert without_times(localizer.localize(good)) == before, name
    num_refused = sum(1 for _, sentence in said if sentence)
    assert 0.2 * num < num_refused < 0.9 * num  # the damage is neither trivial nor total


@pytest.mark.parametrize("name", whole_files())
def test_each_format_and_mode_is_a_picture(localizer: Localizer, name: str) -> None:
    assert outcome(localizer, whole_files()[name]) == ""


def test_pictures_of_odd_shapes_are_pictures(localizer: Localizer) -> None:
    for name, data in extreme_pictures():
        assert outcome(localizer, data) == "", name


def test_files_that_lie_are_pictures_or_image_errors(
    localizer: Localizer, capfd: pytest.CaptureFixture[str]
) -> None:
    said = {}
    for name, data in made_by_design():
        said[name] = outcome(localizer, data)
        assert_silent(capfd, data)
    for name, sentence in said.items():
        if any(size in name for size in ("30000 x 30000", "65535 x 65535", "2147483647")):
            assert "claims" in sentence or "not a readable image" in sentence, name
        if " x 0" in name or "claims 0 " in name:
            assert sentence, name
    assert "claims more than" in said["png that claims 30000 x 30000"]
    wanted = "not a readable image: no format that is known, want JPEG, PNG, WebP, TIFF or BMP"
    assert said["svg"] == f"image of 62 bytes: {wanted}"
    assert said["png cut off at 99%"].endswith(": not a readable image: image file is truncated")


def test_a_wrong_ending_is_no_hindrance(localizer: Localizer, tmp_path: Path) -> None:
    fixes = []
    for ending in ("jpg", "png", "txt"):
        path = tmp_path / f"photo.{ending}"
        path.write_bytes(whole_files()["png"])
        fixes.append(without_times(localizer.localize(path)))
    assert fixes[0] == fixes[1] == fixes[2]


def test_of_an_animation_the_first_picture_is_taken() -> None:
    for name in ("animated png", "mpo"):
        np.testing.assert_array_equal(
            load_image(whole_files()[name]).shape, load_image(whole_files()["bmp"]).shape
        )
    np.testing.assert_array_equal(
        load_image(whole_files()["animated png"]), load_image(whole_files()["bmp"])
    )


def test_bad_files_in_several_threads_leave_no_trace(localizer: Localizer) -> None:
    files = [damaged(i)[1] for i in range(40)]
    filters = list(warnings.filters)
    alone = [_said(localizer, data) for data in files]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda data: _said(localizer, data), files * 3))
    assert together == alone * 3
    assert list(warnings.filters) == filters


def _said(localizer: Localizer, data: bytes) -> str:
    try:
        return str(without_times(localizer.localize(data)))
    except ImageError as e:
        return str(e)


def test_only_pillows_warnings_are_silenced_and_only_meanwhile() -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with no_pillow_warnings(), no_pillow_warnings():
            _warn_as("PIL.Image", "hidden")
            _warn_as("PILLOWS", "of another package")
            _warn_as("app", "of the app")
        _warn_as("PIL.Image", "afterwards")
    said = [str(warning.message) for warning in warned]
    assert said == ["of another package", "of the app", "afterwards"]


def test_filters_that_others_set_meanwhile_stay() -> None:
    with warnings.catch_warnings():
        inside, go_on = threading.Event(), threading.Event()

        def decode() -> None:
            with no_pillow_warnings():
                inside.set()
                go_on.wait(10)

        thread = threading.Thread(target=decode)
        thread.start()
        assert inside.wait(10)
        warnings.filterwarnings("ignore", message="set meanwhile")
        go_on.set()
        thread.join()
        assert any(f[1] is not None and "set meanwhile" in str(f[1]) for f in warnings.filters)


def _warn_as(module: str, message: str) -> None:
    warnings.warn_explicit(message, UserWarning, "somewhere.py", 1, module=module)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_bounded_by_the_largest_picture_that_is_taken() -> None:
    """In a process of its own, whose peak is that of these files alone."""
    code = "from tests.geofix.test_malformed_images import peak_of_decoding; peak_of_decoding()"
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < _BYTES_A_PIXEL * MAX_PIXELS, int(done.stdout) / MAX_PIXELS


def peak_of_decoding() -> None:
    """Decode what claims much; print by how many bytes the process grew at most."""
    import resource

    def peak() -> int:
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    files = [*made_by_design(), ("zeros", png_of(9_000, 9_900, bytes(9_900 * 27_001)))]
    before = peak()
    for _, data in files:
        try:
            load_image(data)
        except ImageError:
            continue
    print(peak() - before)  # noqa: T201
