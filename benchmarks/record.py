"""A record of what was measured: command, values with units, machine, date and commit."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("numpy", "onnxruntime", "pillow", "torch", "usearch")


@dataclass(frozen=True)
class Value:
    """One figure."""

    what: str
    value: float
    unit: str


def write_record(
    name: str, *, title: str, meaning: str, values: Sequence[Value], command: str = ""
) -> Path:
    """Write a record and print it; `make results` shows it in docs/results.md.

    Args:
        name: of the file, without its ending.
        title: of the section in docs/results.md.
        meaning: what the figures say and where they fall short, in Markdown.
        values: what was measured.
        command: that measures again; the one that runs now, if empty.
    """
    record = {
        "title": title,
        "meaning": meaning,
        "command": command or _command(),
        "values": [vars(value) for value in values],
        "machine": machine_facts(),
        "date": datetime.now(timezone.utc).date().isoformat(),
        "commit": _commit(),
    }
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    print(json.dumps(record["values"], ensure_ascii=False))
    return path


def machine_facts() -> dict[str, Any]:
    """Return what a figure depends on: processor, cores, memory, system, versions."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "gpu": _gpu(),
        "memory_gib": round(memory / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": dict(_versions()),
    }


def _versions() -> Iterator[tuple[str, str]]:
    """Yield the packages that are installed; no benchmark needs all of them."""
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            yield package, version(package)


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _gpu() -> str:
    """Return what CUDA calls the GPU; empty without one."""
    if "torch" not in sys.modules:  # a measurement that did not use it had no GPU either
        return ""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else ""


def _command() -> str:
    spec = sys.modules["__main__"].__spec__
    program = f"-m {spec.name}" if spec else sys.argv[0]
    return " ".join(["python", program, *sys.argv[1:]])


def _commit() -> str:
    """Return the commit that was measured, with "+" where the code differed from it.

    Raises CalledProcessError outside a git checkout: a figure of unknown code says nothing. There,
    as on a machine that the code was copied to, GEOFIX_COMMIT names it.
    """
    if named := os.environ.get("GEOFIX_COMMIT"):
        return named

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout

    changed = git("status", "--porcelain", "--", "sdk", "on_device_index", "export", "training")
    return git("rev-parse", "--short", "HEAD").strip() + ("+" if changed.strip() else "")
