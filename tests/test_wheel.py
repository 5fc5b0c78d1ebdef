"""The wheel, installed alone, does the main job: no source tree, no torch.

Builds by way of the source distribution, as a user of it would. Packages come from where pip is
configured to find them.
"""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import geofix
from tests.golden_pack import ANSWER, PACK, PHOTO, assert_same_answer

pytestmark = [pytest.mark.network, pytest.mark.xdist_group("wheel")]

ROOT = Path(__file__).parents[1]
PACKAGES = {"geofix", "geofix_index", "geofix_train", "geofix_export"}
EMBED = """
import json, sys
from geofix import Localizer

pack, photo = sys.argv[1:]
with Localizer.open(pack) as localizer:
    print(json.dumps(localizer.embed([photo])[0, :5].tolist()))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel built from a source distribution of this tree."""
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    run(*build)
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the programs of an environment with the wheel, what it needs, and ONNX Runtime."""
    room = tmp_path_factory.mktemp("room")
    run(sys.executable, "-m", "venv", "--without-pip", str(room))
    python = str(room / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    run(*pip, "install", "--quiet", "-c", str(ROOT / "constraints.txt"), f"{wheel}[onnx]")
    run(*pip, "check")
    return room / "bin"


def run(*words: str) -> str:
    """Run a program outside the source tree; return what it printed."""
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(words, capture_output=True, text=True, cwd="/", env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def localize(installed: Path, *flags: str) -> Mapping[str, Any]:
    """Return the fix of the golden photo as the installed program prints it."""
    line = run(str(installed / "geofix"), "localize", str(PACK), str(PHOTO), "--json", *flags)
    fix: dict[str, Any] = json.loads(line)
    return fix


def test_the_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
    stem = f"geofix-{geofix.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == PACKAGES | {stem}
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    assert f"{stem}/licenses/LICENSE" in names


@pytest.mark.skipif(shutil.which(os.environ.get("CC", "cc")) is None, reason="no C compiler")
def test_the_wheel_brings_the_kernels(wheel: Path, installed: Path) -> None:
    assert wheel.name.startswith(f"geofix-{geofix.__version__}-py3-none-")
    assert not wheel.name.endswith("-any.whl")
    rows = dict(line.split(None, 1) for line in run(str(installed / "geofix"), "info").splitlines())
    assert rows["kernel"].startswith("C, version ")
    assert rows["resampling"].startswith("C, version ")
    assert rows["geofix"] == geofix.__version__


def test_the_installed_wheel_gives_the_golden_fix(installed: Path) -> None:
    assert_same_answer(localize(installed), ANSWER["fix"])
    prior = ANSWER["prior"]
    disk = f"{prior['lat']},{prior['lon']},{prior['radius_m']}"
    assert_same_answer(localize(installed, "--prior", disk), ANSWER["fix_with_prior"])


def test_the_installed_wheel_gives_the_golden_embedding(installed: Path) -> None:
    found = json.loads(run(str(installed / "python"), "-c", EMBED, str(PACK), str(PHOTO)))
    assert_same_answer(found, ANSWER["embedding"], name="embedding")


def test_only_what_a_device_needs_is_installed(installed: Path) -> None:
    heavy = [
        "torch",
        "transformers",
        "onnx",
        "rasterio",
        "pyarrow",
        "safetensors",
        "scipy",
        "pandas",
    ]
    code = (
        "import importlib.util as u, geofix, geofix_index; "
        f"print(*(n for n in {heavy!r} if u.find_spec(n))); print(geofix.__file__)"
    )
    found, path = run(str(installed / "python"), "-c", code).split("\n")[:2]
    assert found == ""
    assert Path(path).is_relative_to(installed.parent)


@pytest.mark.parametrize("program", ["geofix", "geofix-train", "geofix-export"])
def test_every_program_is_installed_and_says_its_version(installed: Path, program: str) -> None:
    assert run(str(installed / program), "--version") == f"geofix {geofix.__version__}\n"
    assert run(str(installed / program), "--help").startswith(f"usage: {program} ")


@pytest.mark.parametrize("words", ["geofix-train codes RUN", "geofix-export encoder RUN -o DIR"])
def test_a_workshop_command_on_a_device_names_the_extra_in_one_line(
    installed: Path, tmp_path: Path, words: str
) -> None:
    program, *rest = words.split()
    done = subprocess.run(
        [str(installed / program), *rest], capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{program}: ")
    assert done.stderr.count("\n") == 1
    assert f"geofix[{program.removeprefix('geofix-')}]" in done.stderr
