"""What a latency depends on: processor, memory, system, versions. No host and no user name."""

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from geofix.bench.jetson import jetpack_release, read_power_mode
from geofix_index import instructions, kernel_version

# Instructions that change how fast networks and scans run; the rest of a long list says nothing.
FEATURES = (
    "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16",
    "amx_int8", "asimd", "neon", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip
_PACKAGES = ("geofix", "numpy", "pillow", "usearch", "onnxruntime", "tensorrt", "coremltools")
_ROOT = Path("/")


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts of a machine; empty or 0 where it does not tell."""

    cpu: str
    cpu_features: tuple[str, ...]  # of `FEATURES`
    cores: int  # that this process may use
    memory_bytes: int
    board: str  # of a single-board computer
    gpu: str
    system: str
    jetpack: str
    power_mode: str
    governor: str  # of the CPU's clock
    load: float  # average number of running processes in the minute before
    python: str
    kernel: str  # of the search
    providers: tuple[str, ...]  # of ONNX Runtime, where it is in use
    packages: dict[str, str]


UNKNOWN = Machine("", (), 0, 0, "", "", "", "", "", "", 0.0, "", "", (), {})


def machine_facts(root: Path = _ROOT) -> Machine:
    """Return the facts of this machine.

    Args:
        root: where /proc, /sys and /etc lie.
    """
    cpuinfo = _read(root / "proc/cpuinfo")
    kernel = kernel_version()
    return Machine(
        cpu=_cpu(cpuinfo),
        cpu_features=_features(cpuinfo),
        cores=_cores(),
        memory_bytes=_memory_bytes(),
        board=_read(root / "proc/device-tree/model").rstrip("\0\n "),
        gpu=_gpu(root),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        jetpack=jetpack_release(_read(root / "etc/nv_tegra_release")),
        power_mode=read_power_mode(),
        governor=_read(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip(),
        load=_load(),
        python=platform.python_version(),
        kernel=f"C {kernel}, {instructions()}" if kernel else "NumPy",
        providers=_providers(),
        packages=dict(_versions()),
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _cpu(cpuinfo: str) -> str:
    """Return what the processor calls itself; ARM's Linux has "Model name" in `lscpu` alone."""
    for line in cpuinfo.splitlines():
        name, _, text = line.partition(":")
        if name.strip() in ("model name", "Hardware") and text.strip():
            return text.strip()
    return platform.processor() or platform.machine()


def _features(cpuinfo: str) -> tuple[str, ...]:
    words: set[str] = set()
    for line in cpuinfo.splitlines():
        name, _, text = line.partition(":")
        if name.strip() in ("flags", "Features"):
            words |= set(text.split())
    return tuple(feature for feature in FEATURES if feature in words)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0


def _gpu(root: Path) -> str:
    """Return the model that NVIDIA's driver states; a Jetson's is part of its board."""
    for path in sorted(root.glob("proc/driver/nvidia/gpus/*/information")):
        for line in _read(path).splitlines():
            name, _, text = line.partition(":")
            if name.strip() == "Model":
                return text.strip()
    return ""


def _load() -> float:
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return 0.0


def _providers() -> tuple[str, ...]:
    runtime = sys.modules.get("onnxruntime")  # not imported for this: it takes memory and time
    return () if runtime is None else tuple(runtime.get_available_providers())


def _versions() -> Iterator[tuple[str, str]]:
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            yield package, version(package)
    if "onnxruntime" in sys.modules:  # whose distribution may be onnxruntime-gpu
        yield "onnxruntime", str(sys.modules["onnxruntime"].__version__)
