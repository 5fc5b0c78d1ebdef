"""What runs here: versions, kernels, and runtimes of encoders."""

import sys
from importlib.metadata import PackageNotFoundError, version

import geofix
from geofix.resample import RESAMPLE_VERSION, resampler
from geofix_index import instructions, kernel_version
from geofix_index.onnx_runtime import import_onnxruntime

# Each brings the module `onnxruntime`: of two that are installed, one hides the other.
ONNX_RUNTIMES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
    "onnxruntime-rocm",
    "onnxruntime-silicon",
    "onnxruntime-training",
)


def facts() -> list[tuple[str, str]]:
    """Return names and values, for people."""
    kernel, images = kernel_version(), resampler()
    described = f"C, version {kernel}, {instructions()}" if kernel else "none: search runs in NumPy"
    resampling = "NumPy" if images == "numpy" else f"C, version {RESAMPLE_VERSION}, {images}"
    return [
        ("geofix", geofix.__version__),
        ("python", sys.version.split()[0]),
        ("kernel", described),
        ("resampling", resampling),
        *((name, _version(name) or "not installed") for name in ("numpy", "pillow", "usearch")),
        ("onnxruntime", _onnx_runtimes()),
        ("tensorrt", _version("tensorrt") or "not installed"),
        ("coremltools", _version("coremltools") or "not installed"),
    ]


def warnings() -> list[str]:
    """Return a sentence for each thing that keeps a runtime from being used."""
    installed = [name for name in ONNX_RUNTIMES if _version(name)]
    if len(installed) < 2:
        return []
    return [
        f"{' and '.join(installed)} are all installed, and one hides the others: uninstall them "
        f"all, then install the one you want ({installed[-1]} for its devices)"
    ]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _onnx_runtimes() -> str:
    """Return what is installed, and the devices that the module which is imported knows."""
    installed = [f"{name} {_version(name)}" for name in ONNX_RUNTIMES if _version(name)]
    try:
        onnxruntime = import_onnxruntime()
    except ImportError:
        return ", ".join(installed) or "not installed"
    devices = [
        name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()
    ]
    return f"{', '.join(installed) or onnxruntime.__version__} ({', '.join(devices)})"
