"""The command `geofix-train codes`: of a run, of a run again, or without training."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

import geofix_index.cells as s2
from geofix.input_spec import InputSpec
from geofix_train.cli_parts import add_on_error, say_left_out

if TYPE_CHECKING:
    from geofix_train.cell_codes import CellCodes, Queries


def add_codes_arguments(codes: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    codes.add_argument("run", type=Path, nargs="?", metavar="RUN", help="a finished run folder")
    codes.add_argument("--encoder", type=Path, metavar="MODEL.onnx", help="instead of a run")
    codes.add_argument("--photos", type=Path, metavar="TABLE", help="with --encoder: the photos")
    codes.add_argument(
        "--input-spec", type=Path, metavar="FILE", help="with --encoder: JSON, what it takes"
    )
    codes.add_argument(
        "--blur", default="", metavar="HOOK",
        help="with --encoder: finds faces to blur, package.module:function or DETECTOR.onnx",
    )  # fmt: skip
    codes.add_argument("--level", type=int, help="S2 level of the cells (the run's code_level; 16)")
    codes.add_argument("--kappa", type=float, help="weight of prototypes (chosen by validation)")
    codes.add_argument(
        "--shrink", type=_shrinkage, default=0.0, metavar="N0",
        help="trust a prototype less that few photos made: kappa x n / (n + N0) for one of n "
        "photos; 'auto' chooses by validation (0, which is off)",
    )  # fmt: skip
    codes.add_argument(
        "--remix", action="store_true",
        help="mix codes that were made before by another kappa or N0, without encoding again",
    )  # fmt: skip
    codes.add_argument(
        "--codes", type=Path, metavar="DIR", help="with --remix: where these lie (RUN/codes)"
    )
    codes.add_argument(
        "-o", "--output", type=Path, metavar="DIR",
        help="receives codes.safetensors and queries.safetensors (RUN/codes, with --codes that "
        "folder); with --encoder also encoder/",
    )  # fmt: skip
    add_on_error(codes)


def run_codes(arguments: argparse.Namespace) -> None:
    """Run the command.

    Raises:
        argparse.ArgumentError: arguments that do not go together.
    """
    if (arguments.run is None) == (arguments.encoder is None):
        raise argparse.ArgumentError(
            None, "give either a run folder or --encoder MODEL.onnx with --photos TABLE"
        )
    if arguments.codes is not None and not arguments.remix:
        raise argparse.ArgumentError(None, "--codes says which codes to --remix")
    if arguments.encoder is not None:
        _codes_without_training(arguments)
    elif arguments.remix:
        _remix(arguments)
    else:
        _codes_of_run(arguments)


def _codes_of_run(arguments: argparse.Namespace) -> None:
    from geofix_train.codes import encode_run, make_codes

    out = arguments.output or arguments.run / "codes"
    encoded = encode_run(arguments.run, level=arguments.level, on_error=arguments.on_error)
    say_left_out(encoded.problems)
    codes = make_codes(encoded, kappa=arguments.kappa, shrink_photos=arguments.shrink)
    queries = encoded.queries("val")
    _write(codes, queries, out)
    if len(queries.latlon) == 0:
        _say_nothing_chosen(arguments)
    print(f"{_codes_text(codes, out)}\n{_area(codes.cells)}")


def _remix(arguments: argparse.Namespace) -> None:
    from geofix_train.cell_codes import Queries, read_cell_codes, read_queries
    from geofix_train.mixing import choose_mixing

    if arguments.level is not None:
        raise argparse.ArgumentError(None, "--remix keeps the cells: make other codes for --level")
    source = arguments.codes or arguments.run / "codes"
    codes = read_cell_codes(source / "codes.safetensors")
    queries = Queries(codes.prototypes[:0], np.zeros((0, 2)))
    if (source / "queries.safetensors").exists():
        queries = read_queries(source / "queries.safetensors")
    else:
        _say_nothing_chosen(arguments)
    out = arguments.output or source
    if out == source:
        was = f"{_codes_text(codes, source)}, {codes.kappa_choice}"
        print(f"geofix-train: replaces {was}; reports so far are of those", file=sys.stderr)
    codes = choose_mixing(codes, queries, kappa=arguments.kappa, shrink_photos=arguments.shrink)
    _write(codes, queries, out)
    print(_codes_text(codes, out))


def _write(codes: "CellCodes", queries: "Queries", out: Path) -> None:
    from geofix_train.cell_codes import write_cell_codes, write_queries

    write_cell_codes(codes, out / "codes.safetensors")
    if len(queries.latlon):
        write_queries(queries, out / "queries.safetensors")
    else:
        (out / "queries.safetensors").unlink(missing_ok=True)  # of codes made before


def _codes_text(codes: "CellCodes", out: Path) -> str:
    text = f"{out}: {len(codes.cells)} cells, kappa {codes.kappa:.3g}"
    if codes.shrink_photos == 0:
        return text
    return f"{text} x n / (n + {codes.shrink_photos:g}) for n photos"


def _say_nothing_chosen(arguments: argparse.Namespace) -> None:
    if arguments.kappa is None or arguments.shrink is None:
        print(
            "geofix-train: no photo has split 'val' to choose by: kappa is 1 and the shrinkage 0 "
            "where they are not given",
            file=sys.stderr,
        )


def _codes_without_training(arguments: argparse.Namespace) -> None:
    from geofix_train.photo_table import read_photo_table
    from geofix_train.training_free import (
        encode_photos,
        training_free_codes,
        write_training_free,
    )

    if arguments.photos is None or arguments.output is None:
        raise argparse.ArgumentError(None, "--encoder needs --photos TABLE and --output DIR")
    if arguments.remix or arguments.kappa is not None or arguments.shrink != 0:
        raise argparse.ArgumentError(None, "--kappa, --shrink and --remix are for codes of a run")
    spec = None
    if arguments.input_spec is not None:
        spec = _read_spec(arguments.input_spec)
    table, bad_rows = read_photo_table(arguments.photos, on_error=arguments.on_error)
    say_left_out(bad_rows)
    photos = encode_photos(
        arguments.encoder,
        table,
        input_spec=spec,
        blur=arguments.blur,
        on_error=arguments.on_error,
    )
    say_left_out(photos.problems)
    level = 16 if arguments.level is None else arguments.level
    made = training_free_codes(photos, level=level)
    write_training_free(made, arguments.output)
    num_queries = 0 if made.queries is None else len(made.queries.latlon)
    print(
        f"{arguments.output}: {len(made.codes.cells)} cells of level {level} from "
        f"{made.codes.num_photos.sum()} photos, {made.encoder.dim} dimensions; "
        f"{num_queries} photos kept aside to calibrate with\n{_area(made.codes.cells)}"
    )


def _area(cells: npt.NDArray[np.uint64]) -> str:
    """Return where cells lie, so that a wrong table shows."""
    lat, lon = s2.latlon_from_cell(cells).T
    return f"from {lat.min():.4f}, {lon.min():.4f} to {lat.max():.4f}, {lon.max():.4f}"


def _shrinkage(text: str) -> float | None:
    """Return a number of photos, None for "auto"."""
    try:
        return None if text == "auto" else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}, want a number of photos or auto") from None


def _read_spec(path: Path) -> InputSpec:
    try:
        spec = InputSpec.from_json(json.loads(path.read_text()))
    except (OSError, ValueError) as e:
        raise ValueError(f"{path}: not readable as an input spec: {e}") from e
    if max(map(abs, spec.scale)) < 1:
        raise ValueError(
            f"{path}: scale is {spec.scale}, which would blow pixels up to "
            f"{255 / spec.scale[0]:.0f}: mean and scale count in pixel values from 0 to 255"
        )
    return spec
