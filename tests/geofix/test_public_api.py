import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import geofix

ROOT = Path(__file__).parents[2]


def test_the_public_names_are_sorted_and_there() -> None:
    assert geofix.__all__ == sorted(geofix.__all__)
    assert len(set(geofix.__all__)) == len(geofix.__all__)
    for name in geofix.__all__:
        assert getattr(geofix, name) is not None


def test_every_public_error_is_a_geofix_error_with_a_place_in_the_tree() -> None:
    errors = [
        value
        for value in map(geofix.__dict__.get, geofix.__all__)
        if isinstance(value, type) and issubclass(value, Exception)
    ]
    assert len(errors) == 9
    tree = importlib.import_module("geofix.errors").__doc__ or ""
    for error in errors:
        assert issubclass(error, geofix.GeofixError)
        assert error.__name__ in tree
    packs = [error for error in errors if error.__name__.startswith("Pack")]
    assert all(issubclass(error, geofix.PackError) for error in packs)


def test_the_version_is_the_distributions() -> None:
    # tomllib is not in Python 3.10.
    stated = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert stated is not None
    assert geofix.__version__ == stated[1]


@pytest.mark.parametrize("package", ["geofix", "geofix.cli", "geofix.bench"])
def test_import_is_light(package: str) -> None:
    heavy = {"torch", "onnx", "onnxruntime", "tensorrt", "coremltools", "scipy", "pandas"}
    heavy |= {"usearch", "usearch.index", "s2sphere", "PIL.ImageDraw", "PIL.ImageFont"}
    if package != "geofix.bench":
        heavy.add("numpy.random")  # a tenth of the import, for an annotation
    code = f"import sys, {package}; print(*({heavy!r} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == []
    assert out.stderr == ""


def test_the_types_are_published() -> None:
    assert (Path(geofix.__file__).parent / "py.typed").exists()
