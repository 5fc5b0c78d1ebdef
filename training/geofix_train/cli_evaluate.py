"""The command `geofix-train evaluate`: of a run, or of predictions that were kept."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from geofix_train.cli_parts import add_on_error, say_left_out

if TYPE_CHECKING:
    from geofix_train.against import Against
    from geofix_train.evaluate import CellLayers
    from geofix_train.predictions import Predictions


def add_evaluate_arguments(evaluate: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    evaluate.add_argument("run", type=Path, nargs="?", metavar="RUN", help="a finished run folder")
    evaluate.add_argument("--pack", type=Path, help="also localize through this finished pack")
    evaluate.add_argument(
        "--codes", type=Path, metavar="DIR",
        help="other codes of this run, made by geofix-train codes RUN -o DIR (RUN/codes)",
    )  # fmt: skip
    evaluate.add_argument("--split", default="test", help="which photos (test)")
    evaluate.add_argument(
        "--degrade", action="append", default=[], metavar="LOOK",
        choices=("gray", "lowres", "jpeg", "blur"),
        help="localize photos once more, made to look old: gray, lowres, jpeg or blur; may be "
        "repeated",
    )  # fmt: skip
    evaluate.add_argument(
        "--against", type=Path, metavar="OTHER",
        help="compare with predictions of the same photos: a file, or a folder that was evaluated "
        "before (another run, or a DIR of --output or --codes)",
    )  # fmt: skip
    evaluate.add_argument(
        "--predictions", type=Path, metavar="FILE", help="saved predictions, instead of a run"
    )
    evaluate.add_argument("--json", action="store_true", help="print JSON instead of a table")
    evaluate.add_argument(
        "-o", "--output", type=Path, metavar="DIR",
        help="receives report.json, report.md, plots and, of a run, predictions-SPLIT.parquet "
        "(RUN/report-SPLIT, with the predictions in RUN; with --codes in its folder)",
    )  # fmt: skip
    add_on_error(evaluate)


def run_evaluate(arguments: argparse.Namespace) -> None:
    """Run the command.

    Raises:
        argparse.ArgumentError: arguments that do not go together.
    """
    from geofix_train.predictions import read_predictions
    from geofix_train.report_summary import summary_text
    from geofix_train.report_text import write_report

    _check(arguments)
    against = _read_against(arguments)  # before the work, since it may be missing
    out = arguments.output or _report_folder(arguments)
    layers: CellLayers | None = None
    if arguments.predictions is not None:
        predictions = read_predictions(arguments.predictions)
        print(
            "geofix-train: left out: prototypes.png and scores.png, the maps of all cells, which "
            "need the run folder",
            file=sys.stderr,
        )
    else:
        predictions, layers = _predict(arguments)
    figures = write_report(predictions, out, layers=layers, against=against)
    print(json.dumps(figures) if arguments.json else f"{summary_text(figures)}\n\n{out}")


def _check(arguments: argparse.Namespace) -> None:
    if (arguments.run is None) == (arguments.predictions is None):
        raise argparse.ArgumentError(None, "give either a run folder or --predictions FILE")
    if arguments.predictions is None:
        return
    if arguments.output is None:
        raise argparse.ArgumentError(None, "--predictions needs --output DIR")
    if arguments.pack or arguments.codes or arguments.degrade:
        raise argparse.ArgumentError(None, "--pack, --codes and --degrade need a run folder")


def _read_against(arguments: argparse.Namespace) -> "Against | None":
    from geofix_train.against import read_against
    from geofix_train.predictions import predictions_path

    if arguments.against is None:
        return None
    kept_as = predictions_path(Path(), arguments.split, _looks(arguments)).name
    return read_against(arguments.against, kept_as)


def _predict(arguments: argparse.Namespace) -> "tuple[Predictions, CellLayers]":
    from geofix_train.evaluate import evaluate_run

    evaluation = evaluate_run(
        arguments.run,
        pack=arguments.pack,
        split=arguments.split,
        looks=arguments.degrade,
        codes=arguments.codes,
        keep_in=arguments.output,
        on_error=arguments.on_error,
    )
    say_left_out(evaluation.problems)
    return evaluation.predictions, evaluation.layers


def _report_folder(arguments: argparse.Namespace) -> Path:
    """Return where a report goes where nothing is said: one folder for each way to evaluate."""
    home: Path = arguments.codes or arguments.run
    return home / f"report-{'-'.join([arguments.split, *_looks(arguments)])}"


def _looks(arguments: argparse.Namespace) -> tuple[str, ...]:
    return tuple(dict.fromkeys(arguments.degrade))
