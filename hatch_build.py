"""Compile the C kernels into the wheel; where there is no C compiler, build without them.

Search (`geofix_kernel.h`) and resampling (`geofix_resample.h`) are plain C and loaded with ctypes,
so one wheel a platform serves every Python version. Without them NumPy does both, and `geofix info`
says so. GEOFIX_KERNEL=require turns a missing compiler into an error, GEOFIX_KERNEL=skip leaves
them out.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = (
    Path("on_device_index/geofix_index/geofix_kernel.c"),
    Path("sdk/geofix/geofix_resample.c"),
)
FLAGS = [
    "-O3",
    "-std=c11",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
]


class KernelHook(BuildHookInterface[Any]):
    """Builds each kernel next to its Python loader and marks the wheel with the platform."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before hatchling collects the files of the wheel."""
        sources = [Path(self.root) / source for source in SOURCES]
        for source in sources:
            source.with_suffix(".so").unlink(missing_ok=True)
        if not self._compile(sources):
            return
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"

    def _compile(self, sources: list[Path]) -> bool:
        wish = os.environ.get("GEOFIX_KERNEL", "auto")
        compiler = shutil.which(os.environ.get("CC", "cc"))
        if wish == "skip" or (compiler is None and wish != "require") or sys.platform == "win32":
            self.app.display_warning("geofix: no C kernels in this build; NumPy does their work")
            return False
        if compiler is None:
            raise RuntimeError("GEOFIX_KERNEL=require, but no C compiler was found: set CC")
        for source in sources:
            library = source.with_suffix(".so")
            subprocess.run([compiler, *FLAGS, str(source), "-o", str(library), "-lm"], check=True)
        return True
