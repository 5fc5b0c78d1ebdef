"""The command `geofix`: each subcommand is a thin call of a public function."""

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import geofix
from geofix import cli_arguments
from geofix.backends import BACKENDS
from geofix.cli_bench import add_bench
from geofix.cli_pack import add_pack, add_trust
from geofix.cli_track import frames_in_order
from geofix.fix import Fix, Unrestricted
from geofix.tracking.tracker import SPEED_MPS

_MAP_MARGIN_M = 400.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = _parser().parse_args(cli_arguments.join_numbers(words))
    try:
        status: int = arguments.run_command(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has had enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, OSError, geofix.GeofixError) as e:
        print(f"geofix: {_reason(e)}", file=sys.stderr)
        return 1
    return status


def _reason(error: Exception) -> str:
    """Return what went wrong, without Python's number of it."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="geofix", description="Localize photos with a region pack, offline."
    )
    parser.add_argument("--version", action="version", version=f"geofix {geofix.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_localize(commands)
    add_pack(commands)
    add_bench(commands)
    text = "Show versions, backends and whether the C kernel runs."
    info = commands.add_parser("info", help=text, description=text)
    info.set_defaults(run_command=_info)
    return parser


def _add_localize(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "Say where photos were taken."
    command = commands.add_parser("localize", help=text, description=text)
    command.add_argument("pack", type=Path, metavar="PACK", help="a region pack, *.geofix")
    text = "a photo, or a pattern such as 'photos/*.jpg'; with --track also a folder of them"
    command.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help=text)
    prior = command.add_mutually_exclusive_group()
    prior.add_argument(
        "--prior",
        type=cli_arguments.disk,
        metavar="LAT,LON,RADIUS_M",
        help="the camera is in this disk",
    )
    text = "it is about here, 68 %% within the accuracy, unless the photo clearly says otherwise"
    prior.add_argument(
        "--gps",
        dest="prior",
        type=cli_arguments.gps,
        metavar="LAT,LON,ACCURACY_M",
        help=text,
    )
    command.add_argument("--backend", choices=BACKENDS, default="auto")
    text = "model file that the pack names and does not carry, or a folder that holds it"
    command.add_argument("--encoder", type=Path, metavar="FILE", help=text)
    add_trust(command)
    command.add_argument("-k", type=int, default=5, metavar="N", help="number of candidates (5)")
    text = "take the photos for one camera's drive, in the order of their EXIF times or names"
    command.add_argument("--track", action="store_true", help=text)
    text = "with --track: the camera is not faster (15)"
    command.add_argument("--speed-mps", type=float, default=SPEED_MPS, metavar="S", help=text)
    form = command.add_mutually_exclusive_group()
    form.add_argument(
        "--json", action="store_true", help="print one JSON object a photo, a line each"
    )
    form.add_argument("--geojson", action="store_true", help="print a GeoJSON FeatureCollection")
    command.add_argument(
        "--map", type=cli_arguments.png, metavar="OUT.png", help="draw the fixes on a map"
    )
    command.set_defaults(run_command=_localize)


def _localize(arguments: argparse.Namespace) -> int:
    found: list[tuple[Path, Fix]] = []
    status = 0
    with geofix.Localizer.open(
        arguments.pack,
        backend=arguments.backend,
        encoder=arguments.encoder,
        public_key=arguments.key,
        min_version=arguments.min_version,
        region=arguments.region,
    ) as localizer:
        paths, answer = _answering(localizer, arguments)
        for path in paths:
            try:
                fix = answer(path)
            except (geofix.ImageError, OSError) as e:
                status = 1
                print(f"geofix: {_reason(e)}", file=sys.stderr)
                if arguments.json:
                    print(json.dumps({"image": str(path), "error": _reason(e)}))
                continue
            found.append((path, fix))
            if arguments.json:
                print(json.dumps({"image": str(path), **fix.to_json()}), flush=True)
            elif not arguments.geojson:
                print(_line(path, fix), flush=True)
        if arguments.geojson:
            features = [_feature(path, fix) for path, fix in found]
            print(json.dumps({"type": "FeatureCollection", "features": features}))
        if arguments.map is not None and found:
            _draw(arguments.map, localizer, found, is_drive=arguments.track)
    return status


def _answering(
    localizer: geofix.Localizer, arguments: argparse.Namespace
) -> tuple[list[Path], Callable[[Path], Fix]]:
    """Return the photos in their order, and what answers each."""
    if not arguments.track:
        for path in arguments.images:
            if path.is_dir():
                raise ValueError(f"{path} is a folder: want photos, or --track to follow a drive")
        return cli_arguments.expanded(arguments.images), lambda path: localizer.localize(
            path, prior=arguments.prior, k=arguments.k
        )
    if arguments.prior is not None:
        raise ValueError("--track starts anywhere in the pack: want no prior, or a smaller pack")
    times, are_known = frames_in_order(cli_arguments.expanded(arguments.images))
    if not are_known:
        print("geofix: no EXIF times: taken to be one photo a second, by name", file=sys.stderr)
    tracker = geofix.Tracker(localizer, speed_mps=arguments.speed_mps, k=arguments.k)
    return list(times), lambda path: tracker.update(path, time=times[path])


def _line(path: Path, fix: Fix) -> str:
    if fix.confidence is None:
        place = f"{fix.latlon.lat:.5f}, {fix.latlon.lon:.5f}"
        return f"{path}: {fix.status}  {place}  (the pack is not calibrated)"
    line = f"{path}: {_answer(fix)}"
    if fix.is_sure(radius95_m=math.inf):
        return f"{line}  sure"
    if fix.unrestricted is not None:
        return f"{line}  prior conflict, the photo alone says: {_answer(fix.unrestricted)}"
    return line


def _answer(told: Fix | Unrestricted) -> str:
    accuracy = "accuracy unknown"
    if told.accuracy_m is not None:
        accuracy = f"within {told.accuracy_m:.0f} m (68 %)"
    if told.radius95_m is not None:
        accuracy += f", {told.radius95_m:.0f} m (95 %)"
    lat, lon = told.latlon
    return f"{told.status}  {lat:.5f}, {lon:.5f}  {accuracy}  confidence {told.confidence:.2f}"


def _feature(path: Path, fix: Fix) -> dict[str, Any]:
    return {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [fix.latlon.lon, fix.latlon.lat]},
        "properties": {"image": str(path), **fix.to_json()},
    }


def _draw(
    out: Path,
    localizer: geofix.Localizer,
    found: Sequence[tuple[Path, Fix]],
    *,
    is_drive: bool,
) -> None:
    from geofix.exif import place_from_exif
    from geofix.map_image import MAX_DRAWN_CELLS, bounds_around, draw_map

    fixes = [fix for _, fix in found]
    truths = [place_from_exif(path) for path, _ in found]
    radii = sorted(fix.accuracy_m or 0.0 for fix in fixes)
    reach = radii[len(radii) // 2] if is_drive else radii[-1]  # a drive's first ones may be wide
    places = [fix.latlon for fix in fixes] + [truth for truth in truths if truth is not None]
    margin_m = reach if is_drive else _MAP_MARGIN_M + reach
    bounds = bounds_around(places, margin_m=margin_m)
    cells = localizer.coverage.cells_in(bounds)[:MAX_DRAWN_CELLS]
    photographed = localizer.coverage.photographed_in(bounds)
    numbers = [str(number) for number in range(1, len(found) + 1)]
    if is_drive:  # numbers of neighbours would hide each other
        numbers[1:-1] = [""] * (len(numbers) - 2)
    draw_map(
        out,
        bounds=bounds,
        fixes=fixes,
        truths=truths,
        labels=numbers if len(found) > 1 else (),
        cells=cells,
        photographed=None if photographed is None else photographed[:MAX_DRAWN_CELLS],
        is_drive=is_drive,
    )


def _info(arguments: argparse.Namespace) -> int:
    from geofix.info import facts, warnings

    for name, text in facts():
        print(f"{name:<12}{text}")
    for text in warnings():
        print(f"geofix: {text}", file=sys.stderr)
    return 0
