"""The main job end to end, on the built-in town: draw, train, export, pack, localize.

    python samples/town_demo.py build/demo

Leaves town.geofix, map.png, report.json and a few test photos in the folder, and prints how many
test photos each method finds within which distance. Run again, it keeps a finished town and goes on
with its training, each where it has the same settings; all else is made anew.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from geofix import LatLon, Localizer
from geofix.map_image import draw_map
from geofix_export import build_pack, export_encoder
from geofix_train.aerial import read_imagery
from geofix_train.cell_codes import CODES, QUERIES, write_cell_codes, write_queries
from geofix_train.checkpoint import WEIGHTS
from geofix_train.cli_parts import messages_on_stderr
from geofix_train.codes import encode_run, make_codes
from geofix_train.config import ConfigError, FitConfig, differences, read_config, read_run_config
from geofix_train.evaluate import predict, predict_on_device
from geofix_train.fit import fit
from geofix_train.photo_table import PhotoTable
from geofix_train.predictions import Predictions, predictions_path, write_predictions
from geofix_train.report import report, summarize
from geofix_train.report_summary import summary_text
from geofix_train.town import TOWN_VERSION, make_town

SIZE_KM, NUM_PHOTOS, SEED = 1.0, 7000, 1
RECIPE = Path(__file__).parent.parent / "recipes" / "town_demo.toml"
NUM_SAMPLE_PHOTOS = 8
_DRAWN_WITH = "drawn_with.json"  # in the town's folder: its settings
_RESULTS = ("town.geofix", "map.png", "report.json", "photos")


def main(
    out: Path,
    *,
    size_km: float = SIZE_KM,
    num_photos: int = NUM_PHOTOS,
    seed: int = SEED,
    recipe: Path = RECIPE,
) -> None:
    """Run every step into the folder `out`; keep the town and the training of an earlier call.

    The report's seconds are those of the steps that this call ran from their beginning.
    """
    seconds: dict[str, float] = {}
    _remove(out, *_RESULTS)
    draw_town(out, seconds, size_km=size_km, num_photos=num_photos, seed=seed)
    run = train(town_config(recipe, out / "town"), out, seconds)
    with _timed("codes", seconds):
        encoded = encode_run(run)
        codes = make_codes(encoded)
        write_cell_codes(codes, run / CODES)
        write_queries(encoded.queries("val"), run / QUERIES)
    with _timed("export", seconds):
        encoder = export_encoder(run)
    pack = out / "town.geofix"
    with _timed("pack", seconds):
        build_pack(
            pack,
            cells=codes.cells,
            cell_codes=codes.cell_codes,
            encoders=[encoder],
            queries=encoded.queries("val"),
            photographed=codes.photographed,
            title="Synthetic town",
            attribution="geofix built-in town",
            license="Apache-2.0",
            provenance={**codes.provenance, **codes.mixing},
        )
    test = encoded.table.of_split("test")
    with _timed("evaluate", seconds):
        predictions = predict(encoded, codes)
        predictions = predictions.with_answers("on_device", predict_on_device(pack, test))
        write_predictions(predictions, predictions_path(run, "test"))
    with _timed("map", seconds):
        picked = _copy_photos(test, out / "photos")
        _draw(out, pack, predictions)
    facts = {
        "seconds": {stage: round(s, 1) for stage, s in seconds.items()},
        "num_cells": len(codes.cells),
        "num_photos": num_photos,
        "kappa": round(codes.kappa, 4),
        **summarize(predictions),
        "pack_bytes": pack.stat().st_size,
    }
    (out / "report.json").write_text(json.dumps(facts, indent=2) + "\n")
    print(f"\n{facts['seconds']} s\n\n{summary_text(report(predictions))}")
    geofix = Path(os.path.relpath(sys.executable)).parent / "geofix"
    print(f"\n{out / 'map.png'} shows the fixes. Try:\n  {geofix} localize {pack} {picked[0]}")


def draw_town(
    out: Path, seconds: dict[str, float], *, size_km: float, num_photos: int, seed: int
) -> None:
    """Draw OUT/town, whole or not at all, unless one of these settings is there.

    A run on another town is removed.
    """
    town, part = out / "town", out / "town.part"
    settings = {
        "town_version": TOWN_VERSION,
        "size_km": size_km,
        "num_photos": num_photos,
        "seed": seed,
    }
    stamp = json.dumps(settings, indent=2) + "\n"
    drawn_with = town / _DRAWN_WITH
    if drawn_with.exists() and drawn_with.read_text() == stamp:
        print(f"== town: {town} was drawn before; remove it to draw it anew", flush=True)
        return
    _remove(
        out, f"{town.name}/{_DRAWN_WITH}", "run", town.name, part.name
    )  # it vouches for the rest
    with _timed("town", seconds):
        make_town(part, size_km=size_km, num_photos=num_photos, seed=seed)
    (part / _DRAWN_WITH).write_text(stamp)
    part.rename(town)


def train(config: FitConfig, out: Path, seconds: dict[str, float]) -> Path:
    """Train into OUT/run, or go on with that run if it has the same settings; return it."""
    run = out / "run"
    if (run / WEIGHTS).exists() and _changes(run, config) == "":
        print(f"== fit: goes on with {run}; remove it to train anew", flush=True)
        return fit(config, run)
    if (run / WEIGHTS).exists():
        print(f"== fit: anew, since settings changed: {_changes(run, config)}", flush=True)
    _remove(out, run.name)
    with _timed("fit", seconds):
        return fit(config, run)


def _changes(run: Path, config: FitConfig) -> str:
    """Return in which settings a run differs, "" where it does not."""
    try:
        return ", ".join(differences(read_run_config(run), config))
    except ConfigError as e:
        return str(e)


def _remove(folder: Path, *names: str) -> None:
    """Remove files and folders that the demo made, where they exist."""
    for name in names:
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
        else:
            (folder / name).unlink(missing_ok=True)


def town_config(recipe: Path, town: Path) -> FitConfig:
    """Return the recipe's settings for a town that may lie elsewhere than the recipe says."""
    config = read_config(recipe)
    town = town.resolve()  # so that the run is found from other folders, too
    photos, aerial = str(town / "photos.parquet"), str(town / "aerial")
    return replace(config, data=replace(config.data, photos=photos, aerial=aerial))


@contextmanager
def _timed(stage: str, seconds: dict[str, float]) -> Iterator[None]:
    print(f"== {stage}", flush=True)
    start = time.monotonic()
    yield
    seconds[stage] = time.monotonic() - start


def _copy_photos(test: PhotoTable, folder: Path) -> list[Path]:
    """Copy some test photos, named after where they were taken, for the reader to try."""
    folder.mkdir()
    copies = []
    for row in np.linspace(0, len(test) - 1, NUM_SAMPLE_PHOTOS).astype(int):
        name = f"test-{row:04d}_lat{test.lat[row]:.5f}_lon{test.lon[row]:.5f}.jpg"
        copies.append(Path(shutil.copy(test.photo_path(row), folder / name)))
    return copies


def _draw(out: Path, pack: Path, predictions: Predictions) -> None:
    mosaic = read_imagery(out / "town" / "aerial", pixel_m=1.5)[0]
    picks = np.linspace(0, len(predictions.path) - 1, 60).astype(int)
    with Localizer.open(pack) as localizer:
        fixes = [localizer.localize(out / "town" / predictions.path[row]) for row in picks]
    truths = [LatLon(*predictions.latlon[row]) for row in picks]
    draw_map(
        out / "map.png",
        bounds=mosaic.bounds,
        background=mosaic.image,
        fixes=fixes,
        truths=truths,
    )


if __name__ == "__main__":
    try:
        with messages_on_stderr():
            main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/demo"))
    except KeyboardInterrupt:
        print("town_demo: stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
