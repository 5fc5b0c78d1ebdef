"""The command `geofix-train`: each subcommand is a thin call of a public function."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import geofix
from geofix_train.cli_codes import add_codes_arguments, run_codes
from geofix_train.cli_evaluate import add_evaluate_arguments, run_evaluate
from geofix_train.cli_parts import add_on_error, messages_on_stderr, say_left_out

Command = Callable[[argparse.Namespace], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    arguments = _parser().parse_args(argv)
    _let_idle_threads_sleep_soon()
    try:
        with messages_on_stderr():
            arguments.run_command(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has had enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("geofix-train: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except argparse.ArgumentError as e:
        print(f"geofix-train: {e}", file=sys.stderr)
        return 2
    except ImportError as e:
        # An error of our own says itself which extra has the package.
        reason = f"needs {e.name}: pip install 'geofix[train]'" if e.name else str(e)
        print(f"geofix-train: {reason}", file=sys.stderr)
        return 1
    except (ValueError, OSError, FloatingPointError, geofix.GeofixError) as e:
        print(f"geofix-train: {e}", file=sys.stderr)
        return 1
    return 0


def _let_idle_threads_sleep_soon() -> None:
    """Set how long GNU OpenMP waits awake, unless the user has; torch reads it at import, later.

    Threads that spin while they wait take the cores from those that they wait for. The number is a
    compromise by benchmarks/shared_cores.py: fast enough alone, better beside other programs.
    """
    if "OMP_WAIT_POLICY" not in os.environ:  # which GOMP_SPINCOUNT would overrule
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="geofix-train", description="Learn cell codes from street photos and aerial imagery."
    )
    parser.add_argument("--version", action="version", version=f"geofix {geofix.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_town(commands)
    _add_import(commands)
    _add_check(commands)
    _add_fit(commands)
    _add_distil(commands)
    text = "Make cell codes, from a finished run or, without training, from any ONNX encoder."
    add_codes_arguments(_add(commands, "codes", text, run_codes))
    text = "Recall of a run and its baselines: tables, figures and plots."
    add_evaluate_arguments(_add(commands, "evaluate", text, run_evaluate))
    return parser


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    text: str,
    run_command: Command,
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text)
    command.set_defaults(run_command=run_command)
    return command


def _add_town(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    town = _add(commands, "town", "Draw the built-in synthetic town as a data set.", _town)
    town.add_argument("out", type=Path, metavar="OUT", help="a new or empty folder")
    town.add_argument("--size-km", type=float, default=1.5, help="its side, 0.8 to 20 (1.5)")
    town.add_argument("--photos", type=int, default=4000, help="number of photos (4000)")
    town.add_argument("--seed", type=int, default=1, help="another seed is another town (1)")
    town.add_argument(
        "--photographed", type=float, default=1.0, metavar="SHARE",
        help="of the districts have ground photos, the others imagery alone (1.0); an eighth for "
        "test and half as many for validation are kept from training in any case",
    )  # fmt: skip


def _add_import(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "Make a photo table of folders with EXIF, STAC items, Mapillary exports or CSV files."
    command = _add(commands, "import", text, _import)
    command.add_argument("sources", type=Path, nargs="+", metavar="SOURCE")
    command.add_argument(
        "-o", "--output", type=Path, required=True, metavar="TABLE", help=".csv or .parquet"
    )
    command.add_argument(
        "--kind", choices=("exif", "stac", "mapillary", "csv"), help="of all sources (recognized)"
    )
    command.add_argument(
        "--photos",
        type=Path,
        metavar="DIR",
        help="where photos lie that a source names (beside it)",
    )
    command.add_argument(
        "--column", type=_pair, action="append", default=[], metavar="lat=LATITUDE",
        help="for CSV: what a column is called there; may be given several times",
    )  # fmt: skip
    command.add_argument(
        "--split", type=_shares, metavar="train=0.8,val=0.1,test=0.1",
        help="shares of photos; whole groups stay together",
    )  # fmt: skip
    command.add_argument(
        "--split-by", default="sequence_id", metavar="COLUMN",
        help="what groups are, a column or 'day' (sequence_id)",
    )  # fmt: skip
    command.add_argument("--seed", type=int, default=0, help="another seed, another split (0)")
    add_on_error(command)


def _add_check(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "Look through a photo table: what it holds, doubles, and leaks between its splits."
    check = _add(commands, "check", text, _check)
    check.add_argument("table", type=Path, metavar="TABLE")
    check.add_argument("--aerial", type=Path, metavar="DIR", help="imagery photos should lie in")
    check.add_argument(
        "-o", "--output", type=Path, metavar="REPORT_DIR",
        help="receives report.txt, report.json and map.png",
    )  # fmt: skip
    check.add_argument("--json", action="store_true", help="print JSON instead of text")
    check.add_argument(
        "--strict", action="store_true", help="exit with status 1 at a bad row or a leak"
    )


def _add_fit(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    fit = _add(commands, "fit", "Train encoders and prototypes, or go on with a run.", _fit)
    fit.add_argument("config", type=Path, metavar="CONFIG.toml")
    fit.add_argument(
        "-o", "--output", type=Path, metavar="RUN", help="the run folder (runs/CONFIG)"
    )
    add_on_error(fit)


def _add_distil(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "Train a smaller query encoder for the cell codes of a run, which stay as they are."
    distil = _add(commands, "distil", text, _distil)
    distil.add_argument("teacher", type=Path, metavar="TEACHER", help="its run folder, with codes")
    distil.add_argument("config", type=Path, metavar="STUDENT.toml")
    distil.add_argument(
        "-o", "--output", type=Path, metavar="RUN", help="the run folder (runs/STUDENT)"
    )
    add_on_error(distil)


def _town(arguments: argparse.Namespace) -> None:
    from geofix_train.town import make_town

    table = make_town(
        arguments.out,
        size_km=arguments.size_km,
        num_photos=arguments.photos,
        seed=arguments.seed,
        photographed=arguments.photographed,
    )
    splits = ", ".join(f"{(table.split == s).sum()} {s}" for s in ("train", "val", "test"))
    print(f"{arguments.out}: {len(table)} photos ({splits})")


def _import(arguments: argparse.Namespace) -> None:
    from geofix_train.import_photos import import_photos
    from geofix_train.photo_table import check_ending, unused_columns, write_photo_table
    from geofix_train.split import DAY, split_by_group

    out: Path = arguments.output
    check_ending(out)
    out.parent.mkdir(parents=True, exist_ok=True)  # paths relative to it must lead somewhere
    table, problems = import_photos(
        arguments.sources,
        root=out.parent,
        kind=arguments.kind,
        photos=arguments.photos,
        columns=dict(arguments.column),
        by_day=bool(arguments.split) and arguments.split_by == DAY,
        on_error=arguments.on_error,
    )
    say_left_out(problems)
    if arguments.split:
        table = split_by_group(table, arguments.split, by=arguments.split_by, seed=arguments.seed)
    write_photo_table(table, out)
    splits = ", ".join(f"{(table.split == s).sum()} {s}" for s in arguments.split or ())
    print(f"{out}: {len(table)} photos" + (f" ({splits})" if splits else ""))
    unused = [name for name in unused_columns(table) if name != arguments.split_by]
    if unused:
        print(
            f"kept without a use: {', '.join(unused)}; a column named slice_NAME has figures of "
            "its own in evaluations"
        )


def _check(arguments: argparse.Namespace) -> None:
    from geofix_train.check import check_table
    from geofix_train.check_report import report_text, write_report
    from geofix_train.photo_table import TableError

    checked = check_table(arguments.table, aerial=arguments.aerial)
    report = checked.report
    if arguments.output is not None:
        write_report(checked, arguments.output)
    print(json.dumps(report.to_json()) if arguments.json else report_text(report))
    if arguments.strict and not report.is_sound:
        raise TableError(
            f"{report.table}: bad rows: {len(report.bad_rows)}, leaks: {len(report.leaks)}"
        )


def _fit(arguments: argparse.Namespace) -> None:
    from geofix_train.config import read_config
    from geofix_train.fit import fit
    from geofix_train.run_folder import LEFT_OUT

    run = arguments.output or Path("runs") / arguments.config.stem
    fit(read_config(arguments.config), run, on_error=arguments.on_error)
    say_left_out((run / LEFT_OUT).read_text().splitlines())
    print(run)


def _distil(arguments: argparse.Namespace) -> None:
    from geofix_train.config import read_run_config, read_student_config
    from geofix_train.distil import distil
    from geofix_train.run_folder import LEFT_OUT

    run = arguments.output or Path("runs") / arguments.config.stem
    config = read_student_config(arguments.config, read_run_config(arguments.teacher))
    distil(config, arguments.teacher, run, on_error=arguments.on_error)
    say_left_out((run / LEFT_OUT).read_text().splitlines())
    print(run)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r}, want NAME=VALUE")
    return name, value


def _shares(text: str) -> dict[str, float]:
    try:
        return {name: float(share) for name, share in map(_pair, text.split(","))}
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}, want train=0.8,val=0.1,test=0.1") from None
