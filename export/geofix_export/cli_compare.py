"""The command `geofix-export compare`: which encoder to ship on this device."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from geofix_export.compare import Comparison


def add_compare(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `compare` to the commands of `geofix-export`."""
    text = "Time exported encoders on this device, in turns, and say which is fastest."
    compare = commands.add_parser("compare", help=text, description=text)
    compare.add_argument("encoders", type=Path, nargs="+", metavar="DIR", help="of `encoder`")
    text = "photos to run them on (noise, whose cosines say little)"
    compare.add_argument("--images", type=Path, nargs="+", default=[], metavar="FILE", help=text)
    compare.add_argument("--json", action="store_true", help="print one JSON object an encoder")
    compare.set_defaults(run_command=_compare)


def _compare(arguments: argparse.Namespace) -> None:
    import numpy as np

    from geofix.images import prepare_image
    from geofix_export.compare import compare_encoders, fastest
    from geofix_train.artifact import read_artifact

    artifacts = [read_artifact(folder) for folder in arguments.encoders]
    spec = artifacts[0].input_spec
    if arguments.images:
        images = np.stack([prepare_image(path, spec) for path in arguments.images])
    else:
        size = (8, spec.height, spec.width, 3)
        images = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    found = compare_encoders(artifacts, images)
    for folder, comparison in zip(arguments.encoders, found, strict=True):
        if arguments.json:
            print(json.dumps({"folder": str(folder), **asdict(comparison)}))
        else:
            print(_line(folder, comparison, found))
    if not arguments.json:
        best = fastest(found)
        print(f"fastest here: {arguments.encoders[found.index(best)]}, {best.name}")


def _line(folder: Path, comparison: "Comparison", found: "list[Comparison]") -> str:
    size = f"{folder}, {comparison.name}:{comparison.num_bytes / 1e6:8.2f} MB"
    if comparison.median_ms is None:
        return f"{size}  does not run here: {comparison.reason}"
    first = next(other.median_ms for other in found if other.median_ms is not None)
    return (
        f"{size}{comparison.median_ms:9.2f} ms (p95 {comparison.p95_ms:.2f}), "
        f"{comparison.median_ms / first:.2f} x the first, "
        f"cosine with it {comparison.mean_cosine:.4f}"
    )
