"""Engines that TensorRT built on this device, kept as files from one start to the next.

An engine is code for one GPU and one TensorRT, and is loaded without a check: whoever can write to
the folder can run code. So the folder is its user's alone, and an engine is loaded only where its
SHA-256, kept beside it, still holds; that tells damage, not malice.
"""

import contextlib
import hashlib
import json
import logging
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineKey:
    """All that an engine depends on. Where one part differs, it is another engine."""

    model_sha256: str
    tensorrt: str  # version
    gpu: str  # name
    compute_capability: str
    system: str  # JetPack's or the driver's version
    precision: str  # how float32 is computed: "fp32" or "tf32"; the rest is in the model
    max_batch: int  # images
    tensors: str  # the names of input and output

    @property
    def name(self) -> str:
        """What the engine's files are called, without their endings."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def engine_path(folder: Path, key: EngineKey) -> Path:
    """Return where an engine is kept, a file that `trtexec --loadEngine` reads, too."""
    return folder / f"{key.name}.engine"


def read_engine(folder: Path, key: EngineKey) -> bytes | None:
    """Return an engine that was kept; None where there is none or its file is damaged."""
    path = engine_path(folder, key)
    try:
        note = json.loads(path.with_suffix(".json").read_bytes())
        data = path.read_bytes()
        intact = note["key"] == asdict(key)
        intact = intact and note["sha256"] == hashlib.sha256(data).hexdigest()
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as e:
        _log.warning("%s cannot be used and is built again: %s: %s", path, type(e).__name__, e)
        return None
    if not intact:
        _log.warning("%s does not match its checksum and is built again", path)
        return None
    return data


def keep_engine(folder: Path, key: EngineKey, data: bytes) -> None:
    """Keep an engine; where the folder cannot be written, say so in the log and go on without."""
    path = engine_path(folder, key)
    note = {"key": asdict(key), "sha256": hashlib.sha256(data).hexdigest()}
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write_atomic(path, data)
        _write_atomic(path.with_suffix(".json"), json.dumps(note, indent=2).encode() + b"\n")
    except OSError as e:
        _log.warning("the engine is not kept, and the next start builds it again: %s", e)


def _write_atomic(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, durably."""
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise
