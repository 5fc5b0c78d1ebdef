"""Students beside encoders of their size that learned alone: what distilling costs and gives.

    python -m benchmarks.student build/demo build/student

Trains on the demo's town a teacher with twice the demo's width; then, of two smaller sizes, an
encoder by itself, with cell codes of its own, and a student of the teacher, with the teacher's.
What is in the folder already is not trained again; half an hour on two cores.
"""

import os

os.environ["OMP_NUM_THREADS"] = "2"

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.export import times
from benchmarks.record import Value, write_record
from geofix.backends.onnx import OnnxEncoder
from geofix_export.encoder import export_encoder
from geofix_index import cells as s2
from geofix_index.sphere import great_circle_m
from geofix_train.artifact import EncoderArtifact
from geofix_train.bootstrap import Bootstrap
from geofix_train.cell_codes import (
    CODES,
    QUERIES,
    map_cell_codes,
    write_cell_codes,
    write_queries,
)
from geofix_train.codes import encode_run, make_codes
from geofix_train.config import FitConfig, read_config
from geofix_train.distil import distil
from geofix_train.fit import fit
from geofix_train.photo_table import read_photo_table
from geofix_train.photos import read_photos

TEACHER_WIDTH, WIDTHS = 64, (32, 16)
NUM_TIMED_PHOTOS = 100
_MEANING = """The demo's town, {num} test photos, recall@1 within 100 m by exact scores;
differences with 95 % intervals (bootstrap over sequences). The teacher is the network of the demo
with {teacher} instead of 32 channels. *Alone*: trained like the teacher, with cell codes of its
own; *student*: trained to score the teacher's cells as the teacher does, with the teacher's codes.
*int8*: exported by `onnx-int8`, past its gate. Times: median of single photos on {cores} cores, in
turns."""

Hits = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Trained:
    """A run, and its exports."""

    run: Path
    fp32: EncoderArtifact
    int8: EncoderArtifact


def main() -> None:
    """Train, measure and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demo", type=Path, help="folder of a finished make demo")
    parser.add_argument("out", type=Path, help="receives the runs")
    arguments = parser.parse_args()
    config = read_config(Path("recipes/town_demo.toml"))
    config = replace(
        config,
        data=replace(
            config.data,
            photos=str((arguments.demo / "town/photos.parquet").resolve()),
            aerial=str((arguments.demo / "town/aerial").resolve()),
        ),
    )
    runs = dict(_train(config, arguments.demo / "run", arguments.out))
    trained = {
        name: Trained(run, export_encoder(run), export_encoder(run, "onnx-int8"))
        for name, run in runs.items()
    }
    table, _ = read_photo_table(Path(config.data.photos))
    test = table.of_split("test")
    photos, _, _ = read_photos(test, trained["teacher"].fp32.input_spec)
    values = list(_measure(trained, photos, test.latlon, test.columns["sequence_id"]))
    write_record(
        "student",
        title="Students",
        meaning=_MEANING.format(num=len(test), teacher=TEACHER_WIDTH, cores=os.cpu_count()),
        values=values,
        command="python -m benchmarks.student build/demo build/student",
    )


def _train(config: FitConfig, demo: Path, out: Path) -> Iterator[tuple[str, Path]]:
    """Yield a name and the run folder of each encoder; the demo's own run is one of them."""
    teacher = _alone(config, TEACHER_WIDTH, out / "teacher")
    yield "teacher", teacher
    for width in WIDTHS:
        run = demo if width == config.model.width else out / f"alone_{width}"
        yield f"width {width}, alone", _alone(config, width, run)
        own = replace(_of_width(config, width), data=replace(config.data, aerial=""))
        yield f"width {width}, student", distil(own, teacher, out / f"student_{width}")


def _alone(config: FitConfig, width: int, run: Path) -> Path:
    fit(_of_width(config, width), run)
    if not (run / CODES).exists():
        encoded = encode_run(run)
        write_cell_codes(make_codes(encoded), run / CODES)
        write_queries(encoded.queries("val"), run / QUERIES)
    return run


def _of_width(config: FitConfig, width: int) -> FitConfig:
    return replace(config, model=replace(config.model, width=width))


def _measure(
    trained: dict[str, Trained],
    photos: npt.NDArray[np.uint8],
    places: npt.NDArray[np.float64],
    sequences: npt.NDArray[np.str_],
) -> Iterator[Value]:
    opened = {
        f"{name}, {artifact.precision}": OnnxEncoder(artifact.data, artifact.input_spec)
        for name, made in trained.items()
        for artifact in (made.fp32, made.int8)
    }
    hits = {
        name: _hits(encoder, trained[name.rsplit(", ", 1)[0]].run, photos, places)
        for name, encoder in opened.items()
    }
    bootstrap = Bootstrap.of_sequences(sequences)
    best = hits["teacher, fp32"]
    taken = times(opened, photos[:NUM_TIMED_PHOTOS])
    for name, artifact in (
        (f"{name}, {artifact.precision}", artifact)
        for name, made in trained.items()
        for artifact in (made.fp32, made.int8)
    ):
        yield Value(f"{name}: recall@1", round(float(hits[name].mean()), 4), "")
        low, high = bootstrap.of_differences(hits[name][:, None], best[:, None])[0].tolist()
        gain = 100 * (float(hits[name].mean()) - float(best.mean()))
        yield Value(f"{name}: points more than the teacher", round(gain, 2), "")
        yield Value(f"{name}: of these at least", round(100 * low, 2), "")
        yield Value(f"{name}: of these at most", round(100 * high, 2), "")
        yield Value(f"{name}: file", round(len(artifact.data) / 1e6, 3), "MB")
        yield Value(f"{name}: time", round(1e3 * taken[name], 3), "ms")


def _hits(
    encoder: OnnxEncoder,
    run: Path,
    photos: npt.NDArray[np.uint8],
    places: npt.NDArray[np.float64],
) -> Hits:
    codes = map_cell_codes(run / CODES)
    best = (encoder.encode(photos) @ np.asarray(codes.cell_codes).T).argmax(axis=1)
    centres = s2.latlon_from_cell(codes.cells[best])
    return np.asarray(great_circle_m(*places.T, *centres.T) <= 100.0)


if __name__ == "__main__":
    main()
