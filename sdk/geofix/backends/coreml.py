"""Core ML as backend, on macOS: a package is unpacked and compiled once, and kept by its hash.

`CACHE/coreml/SHA256/` holds `encoder.mlpackage` and, since a compiled model belongs to a version of
the system, `encoder-VERSION.mlmodelc`. Both come to be there whole, by renaming, or not at all.
"""

import hashlib
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from geofix.encoder import check_images, check_process, unit_length
from geofix.encoder_files import default_cache_dir
from geofix.errors import BackendUnavailable
from geofix.input_spec import InputSpec
from geofix.mlpackage import FOLDER, MlpackageError, read_mlpackage

# What may compute, and what coremltools calls it.
COMPUTE_UNITS = {
    "all": "ALL",
    "cpu": "CPU_ONLY",
    "cpu_and_gpu": "CPU_AND_GPU",
    "cpu_and_neural_engine": "CPU_AND_NE",
}


class CoreMLEncoder:
    """A query encoder from a Core ML package."""

    device = "chosen by Core ML"

    def __init__(
        self,
        model: bytes | memoryview,
        input_spec: InputSpec,
        *,
        compute_units: str = "all",
        cache_dir: Path | None = None,
    ) -> None:
        """Unpack and compile a model, unless that was done before, and run it once.

        Args:
            model: the bytes of `encoder.mlpackage.zip`.
            input_spec: what the model takes and gives.
            compute_units: what may compute, one of `COMPUTE_UNITS`; Core ML chooses among them.
            cache_dir: a folder whose subfolder `coreml` keeps compiled models; None:
                `geofix.encoder_files.default_cache_dir`.

        Raises:
            BackendUnavailable: this is not macOS, coremltools is absent, or Core ML cannot run the
                model as described.
            ValueError: unknown compute units.
            OSError: the cache cannot be written.
        """
        if compute_units not in COMPUTE_UNITS:
            known = ", ".join(COMPUTE_UNITS)
            raise ValueError(f"compute_units is {compute_units!r}, want one of {known}")
        if (input_spec.color, input_spec.dtype) != ("rgb", "uint8"):
            raise BackendUnavailable(
                f"the input spec says {input_spec.color} {input_spec.dtype}; Core ML takes RGB "
                "pixels, want rgb uint8: export the encoder again"
            )
        self.input_spec = input_spec
        self._process = os.getpid()
        ct = _import_coremltools()
        compiled = _compiled(ct, bytes(model), (cache_dir or default_cache_dir()) / "coreml")
        self._model = _load(ct, compiled, COMPUTE_UNITS[compute_units])
        self._dim = len(self._run(np.zeros((input_spec.height, input_spec.width, 3), np.uint8)))

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self._dim

    def encode(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed images (B, height, width, 3) RGB; return (B, D), each row of unit length.

        An embedding of zeros stays zero.
        """
        check_process(self._process, "Core ML")
        check_images(images, self.input_spec)
        rows = [self._run(image) for image in images]
        return unit_length(np.array(rows, np.float32).reshape(len(rows), self._dim))

    def _run(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the embedding (D,) of one image, as the model gives it."""
        spec = self.input_spec
        try:
            given = self._model.predict({spec.input_name: Image.fromarray(image)})
        except Exception as e:  # Core ML's errors share no base class but this
            raise BackendUnavailable(f"Core ML cannot run the encoder: {e}") from e
        if spec.output_name not in given:
            raise BackendUnavailable(
                f"the encoder gives {', '.join(given)}; its input spec names {spec.output_name!r}"
            )
        embedding = np.asarray(given[spec.output_name], np.float32)
        if embedding.ndim != 2 or len(embedding) != 1:
            raise BackendUnavailable(
                f"the encoder's output {spec.output_name!r} has shape {embedding.shape}, "
                "want (1, D)"
            )
        return np.asarray(embedding[0])


def _import_coremltools() -> Any:
    """Return coremltools; the only place of the runtime that imports it."""
    if sys.platform != "darwin":
        raise BackendUnavailable(
            f"Core ML runs on Apple systems only, and this is {sys.platform}: take a pack with an "
            "ONNX encoder, and pip install 'geofix[onnx]'"
        )
    try:
        import coremltools
    except ImportError as e:
        raise BackendUnavailable(
            "this encoder needs coremltools: pip install 'geofix[coreml]'"
        ) from e
    return coremltools


def _compiled(ct: Any, model: bytes, cache: Path) -> Path:
    """Return where the compiled model is, after making it if it was not there."""
    try:
        files = read_mlpackage(model)
    except MlpackageError as e:
        raise BackendUnavailable(f"Core ML cannot load the encoder: {e}") from e
    home = cache / hashlib.sha256(model).hexdigest()
    compiled = home / f"encoder-{platform.mac_ver()[0]}.mlmodelc"
    package = home / FOLDER
    if _holds(package, files) and compiled.is_dir():
        return compiled
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home) as room:
        new_package, new_compiled = Path(room) / FOLDER, Path(room) / "encoder.mlmodelc"
        _write(new_package, files)
        try:
            ct.models.utils.compile_model(str(new_package), str(new_compiled))
        except Exception as e:  # Core ML's errors share no base class but this
            raise BackendUnavailable(f"Core ML cannot compile the encoder: {e}") from e
        if not (_holds(package, files) and compiled.is_dir()):  # another process may have been here
            _replace(new_compiled, compiled)
            _replace(new_package, package)
    return compiled


def _load(ct: Any, compiled: Path, units: str) -> Any:
    try:
        return ct.models.CompiledMLModel(str(compiled), getattr(ct.ComputeUnit, units))
    except Exception as e:  # Core ML's errors share no base class but this
        raise BackendUnavailable(f"Core ML cannot load the encoder: {e}") from e


def _holds(folder: Path, files: Mapping[str, bytes]) -> bool:
    """Return whether a folder has exactly these files."""
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return found == set(files) and all(
        (folder / name).read_bytes() == data for name, data in files.items()
    )


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():  # names are plain relative paths: `read_mlpackage` checked
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _replace(new: Path, old: Path) -> None:
    """Move a folder to where another may be."""
    if old.exists():
        shutil.rmtree(old)
    os.replace(new, old)
