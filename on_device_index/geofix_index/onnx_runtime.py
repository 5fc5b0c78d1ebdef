"""Where ONNX Runtime is imported, so that nothing leaves the device."""

import os
from importlib import import_module
from typing import Any

# Builds for Linux and macOS from 1.29 on report models and machine to their maker, from a thread
# that a forked child hangs on at its end. Read once, when ONNX Runtime is first imported.
_NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"


def import_onnxruntime() -> Any:
    """Return ONNX Runtime, told to report nothing about model, machine or use.

    A program that imports it before geofix has to set the environment variable
    ORT_DISABLE_TELEMETRY=1 itself; there, only what it reports of later sessions is less.

    Raises:
        ImportError: it is not installed.
    """
    if os.environ.get(_NO_TELEMETRY) != "1":
        os.environ[_NO_TELEMETRY] = "1"
    runtime = import_module("onnxruntime")
    runtime.disable_telemetry_events()
    return runtime
