"""The short list on other processors: compiled for them, run under an emulator where that is."""

import shutil
import subprocess
from pathlib import Path

import pytest

import geofix_index

KERNEL = Path(geofix_index.__file__).parent
CHECK = Path(__file__).with_name("kernel_check.c")
# With the flags of hatch_build.py, but for those of a library.
FLAGS = ["-O3", "-std=c11", "-Wall", "-Wextra", "-Werror"]
ARM: tuple[str, list[str], list[str], str] = (
    "aarch64-linux-gnu-gcc",
    ["-static"],
    ["qemu-aarch64"],
    "neon",
)
PORTABLE: tuple[str, list[str], list[str], str] = ("cc", ["-DGEOFIX_PORTABLE"], [], "portable")


@pytest.mark.parametrize(
    ("compiler", "flags", "runner", "instructions"), [PORTABLE, ARM], ids=["portable", "neon"]
)
def test_the_short_list_is_right(
    tmp_path: Path, compiler: str, flags: list[str], runner: list[str], instructions: str
) -> None:
    for tool in (compiler, *runner):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool}: on Debian, apt install gcc-aarch64-linux-gnu qemu-user")
    program = tmp_path / "check"
    sources = [str(CHECK), str(KERNEL / "geofix_kernel.c"), f"-I{KERNEL}"]
    subprocess.run([compiler, *FLAGS, *flags, *sources, "-o", str(program), "-lm"], check=True)
    done = subprocess.run([*runner, str(program)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{instructions}\n")
