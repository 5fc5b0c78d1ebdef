"""The command `geofix bench`: how fast a pack answers on this device, and tables over devices."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from geofix import cli_arguments
from geofix.backends import BACKENDS

if TYPE_CHECKING:
    from geofix.bench import MovingPrior

_INTERRUPTED = 130  # what a shell says of a program that Ctrl-C ended


def add_bench(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `bench` and its actions to the commands of `geofix`."""
    text = "Measure how fast a pack answers on this device; put devices into a table; compare."
    bench = commands.add_parser("bench", help=text, description=text)
    actions = bench.add_subparsers(required=True, metavar="ACTION")
    _add_run(actions)
    _add_report(actions)
    _add_compare(actions)
    _add_import(actions)


def _add_run(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "Measure how long a fix takes on this device, stage by stage. It takes half a minute."
    run = actions.add_parser("run", help=text, description=text)
    run.add_argument("pack", type=Path, metavar="PACK", help="a region pack with an encoder")
    source = run.add_mutually_exclusive_group()
    text = "photos to localize; with a GPS position in their EXIF, recall is reported, too"
    source.add_argument("--images", type=Path, metavar="DIR", help=text)
    text = "draw photos of 1920 x 1080 pixels (so without --images)"
    source.add_argument("--synthetic", action="store_true", help=text)
    run.add_argument("--backend", choices=BACKENDS, default="auto")
    text = "model file that the pack names and does not carry, or a folder that holds it"
    run.add_argument("--encoder", type=Path, metavar="FILE", help=text)
    text = "where the disk of the moving prior moves (500 m, where the first photo is found)"
    run.add_argument("--prior", type=_moving_prior, metavar="LAT,LON,RADIUS_M", help=text)
    text = "seconds of measuring (20)"
    run.add_argument("--duration", type=_seconds, default=20.0, metavar="S", help=text)
    text = "that localize at once while throughput is measured (1)"
    run.add_argument("--threads", type=int, default=1, metavar="N", help=text)
    text = "of one inference (the runtime's choice); a small encoder may be as fast with 1"
    run.add_argument("--encoder-threads", type=int, default=0, metavar="N", help=text)
    text = 'how the device is called in tables, as "Orin Nano 15 W"'
    run.add_argument("--label", default="", help=text)
    text = "keep the results for `report` and `compare`"
    run.add_argument("-o", "--output", type=Path, metavar="OUT.json", help=text)
    run.set_defaults(run_command=_run)


def _add_report(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "Put the results of devices into a table, with plots as HTML or SVG."
    report = actions.add_parser("report", help=text, description=text)
    text = "of `run`, or the times of `trtexec --exportTimes`"
    report.add_argument("results", type=Path, nargs="+", metavar="RESULTS", help=text)
    form = report.add_mutually_exclusive_group()
    for name, text in (
        ("md", "Markdown (so without any of these)"), ("csv", "all percentiles of all stages"),
        ("html", "a page with plots that needs no network"), ("svg", "the plots alone"),
    ):  # fmt: skip
        form.add_argument(f"--{name}", dest="form", action="store_const", const=name, help=text)
    report.add_argument("-o", "--output", type=Path, metavar="FILE", help="(stdout)")
    report.set_defaults(run_command=_report)


def _add_compare(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "Compare two runs with one pack: ratios of medians with intervals."
    compare = actions.add_parser("compare", help=text, description=text)
    compare.add_argument("before", type=Path, metavar="BEFORE")
    compare.add_argument("after", type=Path, metavar="AFTER")
    text = "exit status 1 where a stage's whole interval lies above, as 1.1 for 10 %% slower"
    compare.add_argument("--fail-above", type=float, metavar="RATIO", help=text)
    compare.set_defaults(run_command=_compare)


def _add_import(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "Make results of what `trtexec --exportTimes` wrote on a device without Python."
    importer = actions.add_parser("import", help=text, description=text)
    importer.add_argument("times", type=Path, metavar="TIMES.json")
    importer.add_argument("--label", default="", help="of the device (the file's name)")
    text = "with its version, as 'TensorRT 10.3'"
    importer.add_argument("--runtime", default="TensorRT", help=text)
    importer.add_argument("--precision", default="", help="of the engine, as fp16")
    importer.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.json")
    importer.set_defaults(run_command=_import)


def _moving_prior(text: str) -> "MovingPrior":
    from geofix.bench import MovingPrior

    cli_arguments.disk(text)  # which says what is wrong with it
    lat, lon, radius_m = map(float, text.split(","))
    return MovingPrior(lat, lon, radius_m)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not seconds > 0:
        raise argparse.ArgumentTypeError(f"want more than 0, got {text!r}")
    return seconds


def _run(arguments: argparse.Namespace) -> int:
    from geofix.bench import measure
    from geofix.bench.table import run_text

    said = f"measuring for {arguments.duration:g} s, Ctrl-C keeps what is there"
    try:
        print(said, file=sys.stderr)
        report = measure(
            arguments.pack,
            images=arguments.images,
            backend=arguments.backend,
            encoder=arguments.encoder,
            prior=arguments.prior,
            duration_s=arguments.duration,
            num_threads=arguments.threads,
            encoder_threads=arguments.encoder_threads,
            label=arguments.label,
        )
    except KeyboardInterrupt:
        print("geofix: interrupted before anything was measured", file=sys.stderr)
        return _INTERRUPTED
    if arguments.output is not None:
        report.write(arguments.output)
    print("\n".join(run_text(report)))
    if report.is_complete:
        return 0
    print(f"geofix: the run is partial: {report.stopped}", file=sys.stderr)
    return _INTERRUPTED if report.stopped == "interrupted" else 1


def _report(arguments: argparse.Namespace) -> int:
    from geofix.bench import read_results
    from geofix.bench.html import html_page
    from geofix.bench.plots import card
    from geofix.bench.table import csv_text, markdown

    forms = {"md": markdown, "csv": csv_text, "html": html_page, "svg": card}
    text = forms[arguments.form or "md"]([read_results(path) for path in arguments.results])
    if arguments.output is None:
        print(text, end="")
    else:
        arguments.output.write_text(text)
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from geofix.bench import compare_reports, read_report
    from geofix.bench.table import name_of, ratio_text

    before, after = read_report(arguments.before), read_report(arguments.after)
    ratios = compare_reports(before, after)
    print(f"before: {name_of(before)}\nafter:  {name_of(after)}\n")
    print("\n".join(ratio_text(ratios)))
    for which, report in (("before", before), ("after", after)):
        for note in report.notes:
            print(f"geofix: {which}: {note}", file=sys.stderr)
    print("\nintervals are of these two runs: others of the same code and device differ, too")
    limit = arguments.fail_above
    slower = [r for r in ratios if limit is not None and r.low > limit]
    for ratio in slower:
        said = f"{ratio.low:.3f} times as long or longer, the limit is {limit:g}"
        print(f"geofix: {ratio.stage} takes {said}", file=sys.stderr)
    return 1 if slower else 0


def _import(arguments: argparse.Namespace) -> int:
    from geofix.bench import read_trtexec
    from geofix.bench.table import run_text

    report = read_trtexec(
        arguments.times,
        label=arguments.label,
        runtime=arguments.runtime,
        precision=arguments.precision,
    )
    report.write(arguments.output)
    print("\n".join(run_text(report)))
    return 0
