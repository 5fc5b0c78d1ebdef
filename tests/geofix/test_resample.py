import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import geofix
from geofix import resample as resampling
from geofix.images import resize_image
from geofix.resample import RESAMPLE_VERSION, load_resampler, resample, resampler
from tests.golden import make_resample

Pixels = npt.NDArray[np.uint8]

if "GEOFIX_TEST_RESAMPLE" in os.environ:  # another build, as `make sanitize` makes it
    resampling._LIBRARY = Path(os.environ["GEOFIX_TEST_RESAMPLE"]).resolve()

GOLDEN = json.loads(make_resample.PATH.read_text())["cases"]
CHECK = Path(__file__).with_name("resample_check.c")
SOURCE = Path(geofix.__file__).with_name("geofix_resample.c")
FLAGS = ["-O3", "-std=c11", "-Wall", "-Wextra", "-Werror"]  # those of hatch_build.py

SIDES = st.one_of(st.integers(1, 70), st.integers(70, 700))
RESULT_SIDES = st.integers(1, 40)
SEEDS = st.integers(0, 2**32 - 1)

# A frame (H, W, 4), and a picture (H, W, 3) that lies in it in some way.
VIEWS: dict[str, Callable[[Pixels], Pixels]] = {
    "rgb": lambda frame: np.ascontiguousarray(frame[..., :3]),
    "bgr": lambda frame: np.ascontiguousarray(frame[..., :3])[..., ::-1],
    "rgbx": lambda frame: frame[..., :3],
    "xrgb": lambda frame: frame[..., 1:],
    "bgrx": lambda frame: frame[..., 2::-1],
    "gray": lambda frame: np.broadcast_to(frame[..., :1].copy(), (*frame.shape[:2], 3)),
    "gray, far apart": lambda frame: np.broadcast_to(frame[..., :1], (*frame.shape[:2], 3)),
    "part": lambda frame: np.ascontiguousarray(frame[..., :3])[1:, 2:],
    "upside down": lambda frame: np.ascontiguousarray(frame[..., :3])[::-1],
    "mirrored": lambda frame: np.ascontiguousarray(frame[..., :3])[:, ::-1],
    "each third": lambda frame: np.ascontiguousarray(frame[..., :3])[::2, ::3],
    "turned": lambda frame: np.ascontiguousarray(frame[..., :3]).swapaxes(0, 1),
    "planes": lambda frame: np.ascontiguousarray(frame[..., :3].transpose(2, 0, 1)).transpose(
        1, 2, 0
    ),
}


@pytest.fixture
def kernel() -> None:
    """Skip the test where no kernel was built."""
    if load_resampler() is None:
        pytest.skip("the C kernel was not built: there was no C compiler")


@pytest.fixture
def without_kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take the kernel's file away."""
    monkeypatch.setattr(resampling, "_LIBRARY", Path("missing.so"))
    load_resampler.cache_clear()
    yield
    load_resampler.cache_clear()


def noise(width: int, height: int, *, seed: int = 0, channels: int = 3) -> Pixels:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def by_pillow(image: Pixels, width: int, height: int) -> Pixels:
    """Return what Pillow's reduce and antialiased resize make of a picture, rounding thrice."""
    full_height, full_width = image.shape[:2]
    factors = max(1, full_width // width), max(1, full_height // height)
    box = (0.0, 0.0, full_width / factors[0], full_height / factors[1])
    reduced = Image.fromarray(image).reduce(factors)
    return np.asarray(reduced.resize((width, height), Image.Resampling.BILINEAR, box=box))


def golden_result(case: dict[str, Any]) -> Pixels:
    shape = case["result_height"], case["result_width"], 3
    return np.frombuffer(base64.b64decode(case["result"]), np.uint8).reshape(shape)


def golden_picture(case: dict[str, Any]) -> Pixels:
    return np.array(make_resample.draw(case["width"], case["height"]), np.uint8)


def test_the_kernel_is_there_where_a_c_compiler_is() -> None:
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None or sys.platform == "win32" or os.environ.get("GEOFIX_KERNEL") == "skip":
        pytest.skip("nothing to build the kernel with")
    assert resampler() in ("avx2", "portable")


@pytest.mark.parametrize("use_kernel", [True, False])
@pytest.mark.parametrize("case", GOLDEN, ids=lambda c: f"{c['width']}x{c['height']}")
def test_golden_results_come_back_to_the_bit(
    case: dict[str, Any], use_kernel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not use_kernel:
        monkeypatch.setattr(resampling, "load_resampler", lambda: None)
    size = {"width": case["result_width"], "height": case["result_height"]}
    got = resize_image(golden_picture(case), **size, resize=case["resize"])
    np.testing.assert_array_equal(got, golden_result(case))


def test_the_generator_writes_the_stored_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = make_resample.PATH.read_text()
    monkeypatch.setattr(make_resample, "PATH", tmp_path / "resample.json")
    make_resample.main()
    assert make_resample.PATH.read_text() == stored


@given(SIDES, SIDES, RESULT_SIDES, RESULT_SIDES, st.sampled_from(list(VIEWS)), SEEDS)
def test_kernel_and_numpy_agree_to_the_bit_on_any_strides(
    full_width: int, full_height: int, width: int, height: int, view: str, seed: int
) -> None:
    frame = noise(full_width + 3, full_height + 3, seed=seed, channels=4)
    picture = VIEWS[view](frame)
    by_kernel = resample(picture, width=width, height=height)
    assert by_kernel.shape == (height, width, 3)
    in_numpy = resample(np.ascontiguousarray(picture), width=width, height=height, use_kernel=False)
    np.testing.assert_array_equal(by_kernel, in_numpy)
    in_place = resample(picture, width=width, height=height, use_kernel=False)
    np.testing.assert_array_equal(in_place, in_numpy)


@pytest.mark.parametrize(
    "size", [(3, 70_000), (70_000, 3), (900, 2000), (2000, 1), (514, 1), (516, 1), (2, 257)]
)
@pytest.mark.parametrize("level", [0, 1, 254, 255])
def test_sums_of_large_boxes_do_not_overflow(size: tuple[int, int], level: int) -> None:
    image = np.full((size[1], size[0], 3), level, np.uint8)
    for use_kernel in (True, False):
        got = resample(image, width=2, height=1, use_kernel=use_kernel)
        np.testing.assert_array_equal(got, np.full((1, 2, 3), level))


def test_boxes_that_the_kernel_does_not_take_are_averaged_in_numpy() -> None:
    strip = np.broadcast_to(np.array([[[10, 20, 30]]], np.uint8), (2**23 + 5, 2, 3))
    got = resample(strip, width=1, height=1)
    np.testing.assert_array_equal(got, [[[10, 20, 30]]])


@given(SIDES, SIDES, RESULT_SIDES, RESULT_SIDES, SEEDS)
def test_it_is_pillows_reduce_and_resize_within_a_grey_level(
    full_width: int, full_height: int, width: int, height: int, seed: int
) -> None:
    image = noise(full_width, full_height, seed=seed)
    got = resample(image, width=width, height=height).astype(int)
    assert np.abs(got - by_pillow(image, width, height)).max() <= 1


def test_no_picture_is_read_beyond_its_last_byte(kernel: None) -> None:
    # A picture of four bytes a pixel whose last pixel has three: its memory ends there.
    frame = noise(31, 17, channels=4)
    for offset in (0, 1):
        memory = np.empty(frame.size - 1 + offset, np.uint8)
        memory[:] = frame.ravel()[: len(memory)]
        strides = (31 * 4, 4, 1)
        picture = np.lib.stride_tricks.as_strided(memory[offset:], (17, 31, 3), strides)
        wanted = resample(np.ascontiguousarray(picture), width=8, height=6)
        np.testing.assert_array_equal(resample(picture, width=8, height=6), wanted)


def test_a_picture_is_left_as_it_is_and_the_result_is_new() -> None:
    image = noise(8, 6)
    before = image.copy()
    got = resample(image, width=8, height=6)
    np.testing.assert_array_equal(got, before)
    got[:] = 0
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 3), np.uint8),
        np.zeros((4, 3, 4), np.uint8),
        np.zeros((0, 3, 3), np.uint8),
        np.zeros((4, 3, 3), np.float32),
    ],
    ids=lambda image: f"{image.dtype} {image.shape}",
)
def test_what_is_no_picture_is_an_error(image: Any) -> None:
    with pytest.raises(ValueError, match="want uint8"):
        resample(image, width=2, height=2)


@pytest.mark.parametrize("size", [(0, 2), (2, 0), (-1, 2)])
def test_a_result_without_pixels_is_an_error(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="want at least 1 x 1"):
        resample(noise(4, 3), width=size[0], height=size[1])


def test_without_the_kernel_numpy_resamples(without_kernel: None) -> None:
    assert resampler() == "numpy"
    assert resample(noise(40, 30), width=8, height=6).shape == (6, 8, 3)


def test_a_kernel_of_another_interface_is_left_alone(
    kernel: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resampling, "RESAMPLE_VERSION", RESAMPLE_VERSION + 1)
    load_resampler.cache_clear()
    try:
        assert load_resampler() is None
    finally:
        load_resampler.cache_clear()


@pytest.mark.parametrize("strides", ["three", "four", "far"])
@pytest.mark.parametrize(
    ("compiler", "flags", "runner"),
    [("cc", ["-DGEOFIX_PORTABLE"], []), ("aarch64-linux-gnu-gcc", ["-static"], ["qemu-aarch64"])],
    ids=["portable", "arm"],
)
def test_other_processors_give_the_same_bytes(
    tmp_path: Path, compiler: str, flags: list[str], runner: list[str], strides: str
) -> None:
    for tool in (compiler, *runner):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool}: on Debian, apt install gcc-aarch64-linux-gnu qemu-user")
    program = tmp_path / "check"
    sources = [str(CHECK), str(SOURCE), f"-I{SOURCE.parent}"]
    subprocess.run([compiler, *FLAGS, *flags, *sources, "-o", str(program)], check=True)
    for size in ((5, 4, 8, 6), (301, 200, 32, 24), (640, 480, 8, 6), (11, 700, 3, 2)):
        picture = noise(size[0], size[1])
        head = " ".join(map(str, size)).encode() + b"\n"
        done = subprocess.run(
            [*runner, str(program), strides], input=head + picture.tobytes(), capture_output=True
        )
        assert (done.returncode, done.stderr) == (0, b"portable")
        seen = picture[:, ::2] if strides == "far" else picture
        wanted = resample(seen, width=size[2], height=size[3], use_kernel=False)
        assert done.stdout == wanted.tobytes()
