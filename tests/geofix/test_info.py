"""What `geofix info` says of this machine."""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import pytest

from geofix import info


def installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let these packages be installed, and no other."""

    def version(name: str) -> str:
        if name not in names:
            raise PackageNotFoundError(name)
        return "1.2.3"

    monkeypatch.setattr(info, "version", version)


def test_two_onnx_runtimes_that_hide_each_other_are_warned_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed(monkeypatch, "onnxruntime", "onnxruntime-gpu")
    (text,) = info.warnings()
    assert text.startswith("onnxruntime and onnxruntime-gpu are all installed, and one hides")
    assert "onnxruntime-gpu 1.2.3" in dict(info.facts())["onnxruntime"]


@pytest.mark.parametrize("names", [(), ("onnxruntime",), ("onnxruntime-gpu", "numpy")])
def test_one_onnx_runtime_or_none_is_no_reason_to_warn(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    installed(monkeypatch, *names)
    assert info.warnings() == []


def test_the_devices_of_the_runtime_are_named() -> None:
    assert "CPU" in dict(info.facts())["onnxruntime"]


def test_a_runtime_that_is_absent_is_said_to_be() -> None:
    code = "import sys; sys.modules['onnxruntime'] = None; from geofix import info; "
    code += "info.version = lambda name: (_ for _ in ()).throw(info.PackageNotFoundError(name)); "
    code += "print(dict(info.facts())['onnxruntime'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "not installed"
