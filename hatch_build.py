"""Compile the search kernel into the wheel; where there is no C compiler, build without it.

The kernel is plain C behind `geofix_kernel.h` and is loaded with ctypes, so one wheel a platform
serves every Python version. Without it, geofix_index searches in NumPy and `geofix info` says so.
GEOFIX_KERNEL=require turns a missing compiler into an error, GEOFIX_KERNEL=skip leaves it out.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = Path("on_device_index/geofix_index")
SOURCE = PACKAGE / "geofix_kernel.c"
LIBRARY = PACKAGE / "geofix_kernel.so"
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
    """Builds `geofix_kernel.so` next to its Python loader and marks the wheel with the platform."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before hatchling collects the files of the wheel."""
        library = Path(self.root) / LIBRARY
        library.unlink(missing_ok=True)
        if not self._compile(library):
            return
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"

    def _compile(self, library: Path) -> bool:
        wish = os.environ.get("GEOFIX_KERNEL", "auto")
        compiler = shutil.which(os.environ.get("CC", "cc"))
        if wish == "skip" or (compiler is None and wish != "require") or sys.platform == "win32":
            self.app.display_warning("geofix: no C kernel in this build; search runs in NumPy")
            return False
        if compiler is None:
            raise RuntimeError("GEOFIX_KERNEL=require, but no C compiler was found: set CC")
        source = Path(self.root) / SOURCE
        subprocess.run([compiler, *FLAGS, str(source), "-o", str(library), "-lm"], check=True)
        return True
