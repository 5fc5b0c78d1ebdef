"""The command `geofix-export`: each subcommand is a thin call of a public function."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import geofix
from geofix_export.cli_compare import add_compare
from geofix_export.cli_tensorrt import add_tensorrt


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run_command(arguments)
    except ImportError as e:
        # An error of our own says itself which extra has the package.
        reason = f"needs {e.name}: pip install 'geofix[export]'" if e.name else str(e)
        print(f"geofix-export: {reason}", file=sys.stderr)
        return 1
    except (ValueError, OSError, geofix.GeofixError) as e:
        print(f"geofix-export: {e}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="geofix-export", description="Export encoders and build region packs."
    )
    parser.add_argument("--version", action="version", version=f"geofix {geofix.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    text = "Export the query encoder of a finished run, refused where it does not retrieve alike."
    encoder = commands.add_parser("encoder", help=text, description=text)
    encoder.add_argument("run", type=Path, metavar="RUN", help="a finished run folder")
    text = "by name (onnx-fp32), or a .toml file"
    encoder.add_argument("--recipe", default="onnx-fp32", metavar="NAME", help=text)
    text = "stop at bad rows and unreadable photos, or skip them"
    encoder.add_argument("--on-error", choices=("stop", "skip"), default="stop", help=text)
    encoder.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    encoder.set_defaults(run_command=_encoder)
    text = "Build a region pack from cell codes and encoders."
    pack = commands.add_parser("pack", help=text, description=text)
    pack.add_argument("codes", type=Path, metavar="CODES", help="codes.safetensors")
    pack.add_argument("--encoder", type=Path, nargs="+", default=[], metavar="DIR")
    text = "name the encoders by their hash and leave them out, so that many packs share one"
    pack.add_argument("--reference-encoders", action="store_true", help=text)
    text = "queries.safetensors, to calibrate encoders with that brought no validation photos along"
    pack.add_argument("--queries", type=Path, metavar="FILE", help=text)
    pack.add_argument("--index", choices=("usearch", "scan"), help="(the base's, or usearch)")
    text = "of a pq code (32, or half the dimensions where that is less)"
    pack.add_argument("--bytes-per-cell", type=int, metavar="N", help=text)
    text = "an earlier release: the same quantizer, so that what did not change keeps its bytes, "
    text += "the same id and texts, the next version"
    pack.add_argument("--base", type=Path, metavar="PACK", help=text)
    pack.add_argument("--pack-id", default="", help="stays with the region (the file's name)")
    pack.add_argument("--title", default="", help="of the region")
    pack.add_argument("--attribution", default="", help="of the imagery")
    pack.add_argument("--license", default="", help="of the imagery")
    pack.add_argument("--pack-version", type=int, help="grows with each release (1)")
    pack.add_argument("-o", "--output", type=Path, required=True, metavar="PACK")
    pack.set_defaults(run_command=_pack)
    add_compare(commands)
    add_tensorrt(commands)
    return parser


def _encoder(arguments: argparse.Namespace) -> None:
    from geofix_export.encoder import export_encoder, exported_before
    from geofix_export.recipe import read_recipe
    from geofix_train.artifact import write_artifact

    recipe = read_recipe(arguments.recipe)
    artifact = exported_before(arguments.output, arguments.run, recipe)
    is_new = artifact is None
    if artifact is None:
        artifact = export_encoder(arguments.run, recipe, on_error=arguments.on_error)
        write_artifact(artifact, arguments.output)
    size = f"{artifact.filename}, {len(artifact.data) / 1e6:.2f} MB"
    print(f"{arguments.output}: {size}{'' if is_new else ', as exported before'}")
    parity = artifact.parity or {}
    for name, value in parity.items():
        print(f"  {name:<20}{value:g}")


def _pack(arguments: argparse.Namespace) -> None:
    from geofix_export.build import build_pack
    from geofix_train.artifact import read_artifact
    from geofix_train.cell_codes import map_cell_codes, read_queries

    codes = map_cell_codes(arguments.codes)
    manifest = build_pack(
        arguments.output,
        cells=codes.cells,
        cell_codes=codes.cell_codes,
        encoders=[read_artifact(folder) for folder in arguments.encoder],
        embed_encoders=not arguments.reference_encoders,
        queries=read_queries(arguments.queries) if arguments.queries else None,
        photographed=codes.photographed,
        base=geofix.RegionPack.open(arguments.base) if arguments.base else None,
        index=arguments.index,
        bytes_per_cell=arguments.bytes_per_cell,
        pack_id=arguments.pack_id,
        title=arguments.title,
        attribution=arguments.attribution,
        license=arguments.license,
        pack_version=arguments.pack_version,
        provenance=codes.provenance,
    )
    given = [encoder.calibration for encoder in manifest.encoders] or [manifest.calibration]
    calibrated = "calibrated" if all(given) else "NOT CALIBRATED (give --queries)"
    size = arguments.output.stat().st_size / 1e6
    print(
        f"{arguments.output}: {manifest.pack_id}, version {manifest.pack_version}, "
        f"{manifest.num_cells} cells, {size:.2f} MB, {calibrated}, not signed"
    )
