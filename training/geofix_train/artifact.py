"""An encoder ready to ship: a folder with the model file and `encoder.json`, which describes it.

Beside them lie, as `queries.safetensors`, the validation photos as this encoder embeds them: a pack
is calibrated with them, since each precision of a network scores otherwise.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geofix.input_spec import InputSpec
from geofix_train.cell_codes import Queries, read_queries, write_queries
from geofix_train.whole_file import whole_file

DESCRIPTION = "encoder.json"
QUERIES = "queries.safetensors"


class ArtifactError(ValueError):
    """A folder that holds no usable encoder."""


@dataclass(frozen=True)
class EncoderArtifact:
    """A model file and what one must know to run it."""

    target: str  # "onnx"
    precision: str  # "fp32"
    filename: str
    data: bytes
    dim: int
    input_spec: InputSpec
    provenance: Mapping[str, Any] = field(default_factory=dict)
    parity: Mapping[str, Any] | None = None  # how close it stayed to the trained encoder
    # Validation photos, embedded by this encoder.
    queries: Queries | None = field(default=None, compare=False)

    @property
    def sha256(self) -> str:
        """The hash of the model file."""
        return hashlib.sha256(self.data).hexdigest()


def write_artifact(artifact: EncoderArtifact, folder: Path) -> None:
    """Write an encoder to a folder, each file whole or not at all, the description last.

    Raises:
        OSError: the disk is full. The folder's former encoder is still there, or, if a stop came
            between two files, refused: the description names the hash of its model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "target": artifact.target,
        "precision": artifact.precision,
        "file": artifact.filename,
        "sha256": artifact.sha256,
        "dim": artifact.dim,
        "input_spec": artifact.input_spec.to_json(),
        "provenance": dict(artifact.provenance),
    }
    if artifact.parity is not None:
        content["parity"] = dict(artifact.parity)
    _write(folder / artifact.filename, artifact.data)
    if artifact.queries is None:
        (folder / QUERIES).unlink(missing_ok=True)
    else:
        write_queries(artifact.queries, folder / QUERIES)
    _write(folder / DESCRIPTION, (json.dumps(content, indent=2) + "\n").encode())


def _write(path: Path, data: bytes) -> None:
    with whole_file(path) as part:
        part.write_bytes(data)


def read_artifact(folder: Path) -> EncoderArtifact:
    """Read an encoder's folder.

    Raises:
        ArtifactError: no description, or the model file is not the described one.
    """
    path = folder / DESCRIPTION
    try:
        content = json.loads(path.read_text())
        wanted = content["sha256"]
        artifact = EncoderArtifact(
            target=content["target"],
            precision=content["precision"],
            filename=content["file"],
            data=(folder / content["file"]).read_bytes(),
            dim=content["dim"],
            input_spec=InputSpec.from_json(content["input_spec"]),
            provenance=content.get("provenance", {}),
            parity=content.get("parity"),
            queries=read_queries(folder / QUERIES) if (folder / QUERIES).exists() else None,
        )
    except (OSError, KeyError, TypeError, ValueError) as e:
        raise ArtifactError(f"{path}: not a readable encoder: {type(e).__name__}: {e}") from e
    if artifact.sha256 != wanted:
        raise ArtifactError(
            f"{folder / artifact.filename}: SHA-256 is {artifact.sha256[:16]}..., "
            f"{DESCRIPTION} says {str(wanted)[:16]}...: export the encoder again"
        )
    return artifact
