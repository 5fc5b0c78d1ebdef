"""Where each method puts each photo, and the Parquet file that keeps it.

Positions are WGS84 degrees, latitude first. A row of the file is a photo and a method: the photo's
path, truth (lat, lon), sequence, look and slices (columns `slice_NAME`); the method's answer and
the best cells with their scores; the metadata tells of the cell codes. All figures follow from
this file alone.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import geofix_index.cells as s2
from geofix_index.sphere import great_circle_m
from geofix_train.whole_file import whole_file

FORMAT = 3  # 2 had no codes
NUM_BEST = 10
ORIGINAL = "original"  # the look of a photo that nothing was done to
_ANY_CELL = np.uint64(1)  # stands in where there is none; 0 is no cell
_METADATA, _SLICE = b"geofix_predictions", "slice_"
_COLUMNS = ("path", "lat", "lon", "sequence", "look", "method", "answer_lat", "answer_lon")

Texts = npt.NDArray[np.str_]


class PredictionsError(ValueError):
    """A file of predictions that cannot be used."""


@dataclass(frozen=True)
class CodesFacts:
    """What is told of the cell codes that photos were compared with."""

    kappa: float  # weight of prototypes; infinite: prototypes alone
    kappa_choice: str  # how it was chosen, in the words of cell_codes
    shrink_photos: float  # N0: a prototype that so many photos made counts half; 0 is off
    cell_level: int
    num_cells: int
    num_training_photos: int


@dataclass(frozen=True)
class Answers:
    """What one method says of Q photos: where each was taken, and the cells that fit best."""

    latlon: npt.NDArray[np.float64]  # (Q, 2)
    cells: npt.NDArray[np.uint64]  # (Q, NUM_BEST), best first, 0 where there are fewer
    scores: npt.NDArray[np.float32]  # (Q, NUM_BEST), NaN where there are fewer
    database_bytes: int  # of what the photos were compared with

    def __getitem__(self, rows: npt.NDArray[Any]) -> "Answers":
        return replace(
            self, latlon=self.latlon[rows], cells=self.cells[rows], scores=self.scores[rows]
        )


@dataclass(frozen=True)
class Predictions:
    """The answers of all methods, beside the truth. Select photos with `predictions[rows]`."""

    path: Texts  # (Q,)
    latlon: npt.NDArray[np.float64]  # (Q, 2), the truth
    answers: Mapping[str, Answers]  # method -> its answers
    sequence: Texts  # (Q,), empty where the photo belongs to none
    look: Texts  # (Q,), ORIGINAL or how the photo was degraded
    slices: Mapping[str, Texts] = field(default_factory=dict)  # for instance season -> (Q,)
    codes: CodesFacts | None = None  # where they are known

    def __len__(self) -> int:
        return len(self.path)

    def __getitem__(self, rows: npt.NDArray[Any]) -> "Predictions":
        return Predictions(
            self.path[rows],
            self.latlon[rows],
            {method: answers[rows] for method, answers in self.answers.items()},
            self.sequence[rows],
            self.look[rows],
            {name: values[rows] for name, values in self.slices.items()},
            self.codes,
        )

    @property
    def originals(self) -> "Predictions":
        """The photos that nothing was done to."""
        return self[self.look == ORIGINAL]

    def with_answers(self, method: str, answers: Answers) -> "Predictions":
        """Return the predictions with one more method."""
        return replace(self, answers={**self.answers, method: answers})


def join_predictions(parts: Sequence[Predictions]) -> Predictions:
    """Return the photos of all parts, which have the same methods, slices and codes."""
    first = parts[0]
    answers = {}
    for method in first.answers:
        of_parts = [part.answers[method] for part in parts]
        answers[method] = Answers(
            np.concatenate([a.latlon for a in of_parts]),
            np.concatenate([a.cells for a in of_parts]),
            np.concatenate([a.scores for a in of_parts]),
            of_parts[0].database_bytes,
        )
    return Predictions(
        np.concatenate([part.path for part in parts]),
        np.concatenate([part.latlon for part in parts]),
        answers,
        np.concatenate([part.sequence for part in parts]),
        np.concatenate([part.look for part in parts]),
        {name: np.concatenate([part.slices[name] for part in parts]) for name in first.slices},
        first.codes,
    )


def predictions_path(folder: Path, split: str, looks: Iterable[str] = ()) -> Path:
    """Return where a folder keeps the predictions of a split, with photos of these looks, too."""
    return folder / f"predictions-{'-'.join([split, *looks])}.parquet"


def errors_m(predictions: Predictions, method: str) -> npt.NDArray[np.float64]:
    """Return the distance of each answer from the truth, (Q,)."""
    return np.asarray(great_circle_m(*predictions.latlon.T, *predictions.answers[method].latlon.T))


def errors_of_best_m(predictions: Predictions, method: str) -> npt.NDArray[np.float64]:
    """Return how near the best of the first 1, 2, ... guesses is to the truth, (Q, NUM_BEST).

    The first guess is the answer, the others are the centres of the next best cells.
    """
    cells = predictions.answers[method].cells
    found = cells != 0
    centres = s2.latlon_from_cell(np.where(found, cells, _ANY_CELL))
    lat, lon = predictions.latlon.T[:, :, None]
    errors = np.where(found, great_circle_m(lat, lon, centres[..., 0], centres[..., 1]), np.inf)
    errors[:, 0] = errors_m(predictions, method)
    return np.asarray(np.minimum.accumulate(errors, axis=1))


def write_predictions(predictions: Predictions, path: Path) -> None:
    """Write predictions as Parquet, one row a photo and method."""
    import pyarrow as pa
    from pyarrow import parquet

    num, methods = len(predictions), list(predictions.answers)
    answers = list(predictions.answers.values())
    tiled = {
        "path": predictions.path,
        "lat": predictions.latlon[:, 0],
        "lon": predictions.latlon[:, 1],
        "sequence": predictions.sequence,
        "look": predictions.look,
        **{_SLICE + name: values for name, values in predictions.slices.items()},
    }
    latlon = np.concatenate([a.latlon for a in answers])
    columns = {name: pa.array(np.tile(values, len(methods))) for name, values in tiled.items()}
    columns["method"] = pa.array(np.repeat(methods, num))
    columns["answer_lat"], columns["answer_lon"] = pa.array(latlon[:, 0]), pa.array(latlon[:, 1])
    for name in ("cells", "scores"):
        values = np.concatenate([getattr(a, name) for a in answers])
        columns[name] = pa.FixedSizeListArray.from_arrays(values.ravel(), NUM_BEST)
    bytes_by_method = {
        method: answers.database_bytes for method, answers in predictions.answers.items()
    }
    codes = None if predictions.codes is None else asdict(predictions.codes)
    about = {"format": FORMAT, "database_bytes": bytes_by_method, "codes": codes}
    data = pa.table(columns).replace_schema_metadata({_METADATA: json.dumps(about)})
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part:
        parquet.write_table(data, part)


def read_predictions(path: Path) -> Predictions:
    """Read what `write_predictions` wrote.

    Raises:
        PredictionsError: no predictions, or of another format.
    """
    data, about = _read_table(path)
    columns = {
        name: np.asarray(data[name].to_pylist())
        for name in data.column_names
        if name in _COLUMNS or name.startswith(_SLICE)
    }
    for name in ("cells", "scores"):
        columns[name] = data[name].combine_chunks().flatten().to_numpy().reshape(-1, NUM_BEST)
    answers = {}
    for method, num_bytes in about["database_bytes"].items():
        of_method = columns["method"] == method
        latlon = np.column_stack([columns["answer_lat"], columns["answer_lon"]])[of_method]
        cells, scores = columns["cells"][of_method], columns["scores"][of_method]
        answers[method] = Answers(latlon, cells, scores, num_bytes)
    photos = {name: c[columns["method"] == next(iter(answers))] for name, c in columns.items()}
    return Predictions(
        photos["path"],
        np.column_stack([photos["lat"], photos["lon"]]),
        answers,
        photos["sequence"],
        photos["look"],
        {
            name.removeprefix(_SLICE): values
            for name, values in photos.items()
            if name.startswith(_SLICE)
        },
        None if about["codes"] is None else CodesFacts(**about["codes"]),
    )


def _read_table(path: Path) -> tuple[Any, dict[str, Any]]:
    """Return the table and the metadata."""
    import pyarrow as pa
    from pyarrow import parquet

    if not path.is_file():
        raise PredictionsError(f"{path}: no such file")
    try:
        data = parquet.read_table(path)
    except (pa.ArrowInvalid, OSError) as e:
        raise PredictionsError(f"{path}: unreadable: {e}") from e
    about = json.loads((data.schema.metadata or {}).get(_METADATA, b"{}"))
    if about.get("format") != FORMAT:
        raise PredictionsError(
            f"{path}: predictions of format {about.get('format')}, want {FORMAT}: evaluate again"
        )
    missing = {*_COLUMNS, "cells", "scores"} - set(data.column_names)
    if missing:
        raise PredictionsError(f"{path}: no column {sorted(missing)[0]!r}")
    return data, about
