"""How many photos are found how near: predictions first, figures from the saved predictions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

import geofix_index.cells as s2
from geofix_index.sphere import great_circle_m
from geofix_train.cell_codes import CellCodes, mix, read_cell_codes, upsample
from geofix_train.codes import EncodedRun, encode_run, make_codes, slices
from geofix_train.photo_table import PhotoTable
from geofix_train.privacy import load_find_boxes, private_photo

DISTANCES_M = (25, 50, 100, 200, 500)
METHODS = ("image_nn", "mean_prototypes", "prototypes", "aerial", "hybrid_kappa_1", "hybrid")


@dataclass(frozen=True)
class Predictions:
    """Where each method puts each photo."""

    path: npt.NDArray[np.str_]  # (Q,)
    latlon: npt.NDArray[np.float64]  # (Q, 2), the truth
    slices: npt.NDArray[np.str_]  # (Q,)
    answers: Mapping[str, npt.NDArray[np.float64]]  # method -> (Q, 2)

    def with_answers(self, method: str, latlon: npt.NDArray[np.float64]) -> "Predictions":
        """Return the predictions with one more method."""
        return Predictions(self.path, self.latlon, self.slices, {**self.answers, method: latlon})


def evaluate_run(
    run: Path, *, pack: Path | None = None, split: str = "test", on_error: str = "stop"
) -> Predictions:
    """Predict a split by a finished run and all baselines; keep the predictions in the run folder.

    Args:
        run: a finished run folder. Codes that were made before (RUN/codes) are used as they are.
        pack: a pack of this run; its photos are localized by the SDK as method "on_device".
        split: of the photos.
        on_error: "stop" or "skip" bad rows and unreadable photos.
    """
    stored = run / "codes" / "codes.safetensors"
    codes = read_cell_codes(stored) if stored.exists() else None
    level = int(s2.level_of(codes.cells[:1])[0]) if codes else 16
    encoded = encode_run(run, level=level, on_error=on_error)
    predictions = predict(encoded, codes or make_codes(encoded), split=split)
    if pack is not None:
        table = encoded.table.of_split(split)
        predictions = predictions.with_answers(
            "on_device", predict_on_device(pack, table, blur=encoded.config.data.blur)
        )
    write_predictions(predictions, run / f"predictions-{split}.parquet")
    return predictions


def predict(encoded: EncodedRun, codes: CellCodes, *, split: str = "test") -> Predictions:
    """Localize the photos of a split with the method and with each of its baselines.

    Raises:
        ValueError: no photo has this split.
    """
    rows = encoded.table.split == split
    if not rows.any():
        raise ValueError(f"no photo has split {split!r}")
    table, embeddings = encoded.table[rows], encoded.embeddings[rows]
    is_train = encoded.table.is_train
    train, train_embeddings = encoded.table[is_train], encoded.embeddings[is_train]
    nearest = (embeddings @ train_embeddings.T).argmax(axis=1)
    centres = s2.latlon_from_cell(codes.cells)
    means = upsample(encoded.grid, encoded.mean_prototypes, codes.cells)
    databases = {
        "mean_prototypes": means,
        "prototypes": codes.prototypes,
        "aerial": codes.aerial,
        "hybrid_kappa_1": mix(codes.prototypes, codes.aerial, kappa=1.0),
        "hybrid": codes.cell_codes,
    }
    answers = {"image_nn": np.column_stack([train.lat, train.lon])[nearest]}
    for method, database in databases.items():
        if database.any():
            scores = embeddings @ database.T
            scores[:, ~database.any(axis=1)] = -np.inf  # a cell that the method knows nothing of
            answers[method] = centres[scores.argmax(axis=1)]
    return Predictions(
        path=table.columns["path"],
        latlon=np.column_stack([table.lat, table.lon]),
        slices=slices(encoded.table)[rows],
        answers=answers,
    )


def predict_on_device(pack: Path, table: PhotoTable, *, blur: str = "") -> npt.NDArray[np.float64]:
    """Localize photos through a finished pack, as the SDK does it; return (Q, 2)."""
    from geofix import Localizer

    find_boxes = load_find_boxes(blur)
    with Localizer.open(pack) as localizer:
        fixes = [
            localizer.localize(private_photo(table, row, find_boxes=find_boxes))
            for row in range(len(table))
        ]
    return np.array([(fix.latlon.lat, fix.latlon.lon) for fix in fixes])


def errors_m(predictions: Predictions, method: str) -> npt.NDArray[np.float64]:
    """Return the distance of each answer from the truth, (Q,)."""
    return np.asarray(great_circle_m(*predictions.latlon.T, *predictions.answers[method].T))


def summarize(predictions: Predictions) -> dict[str, object]:
    """Return recall by method and distance, whole and by slice, and the median errors."""
    errors = {method: errors_m(predictions, method) for method in predictions.answers}
    return {
        "num_queries": len(predictions.path),
        "recall_at_m": {method: _recall(error) for method, error in errors.items()},
        "recall_by_slice": {
            name: {
                method: _recall(error[predictions.slices == name])
                for method, error in errors.items()
            }
            for name in np.unique(predictions.slices).tolist()
        },
        "num_queries_by_slice": {
            name: int((predictions.slices == name).sum())
            for name in np.unique(predictions.slices).tolist()
        },
        "median_error_m": {
            method: round(float(np.median(error)), 1) for method, error in errors.items()
        },
    }


def table_text(predictions: Predictions) -> str:
    """Return recalls and median errors as a table for a terminal."""
    head = ["method", *(f"{d} m" for d in DISTANCES_M), "median", "seen 100 m", "unseen 100 m"]
    lines = [head]
    for method in predictions.answers:
        error = errors_m(predictions, method)
        parts = [error[predictions.slices == name] for name in ("seen", "unseen")]
        lines.append(
            [
                method,
                *(f"{(error <= d).mean():.1%}" for d in DISTANCES_M),
                f"{np.median(error):.0f} m",
                *(f"{(part <= 100).mean():.1%}" if len(part) else "-" for part in parts),
            ]
        )
    return _columns(lines)


def write_predictions(predictions: Predictions, path: Path) -> None:
    """Write predictions as Parquet, one row a photo and method."""
    import pyarrow as pa
    from pyarrow import parquet

    num, methods = len(predictions.path), list(predictions.answers)
    answers = np.concatenate([predictions.answers[method] for method in methods])
    data = pa.table(
        {
            "path": np.tile(predictions.path, len(methods)).tolist(),
            "slice": np.tile(predictions.slices, len(methods)).tolist(),
            "lat": np.tile(predictions.latlon[:, 0], len(methods)),
            "lon": np.tile(predictions.latlon[:, 1], len(methods)),
            "method": np.repeat(methods, num).tolist(),
            "answer_lat": answers[:, 0],
            "answer_lon": answers[:, 1],
        }
    )
    parquet.write_table(data, path)


def read_predictions(path: Path) -> Predictions:
    """Read what `write_predictions` wrote."""
    from pyarrow import parquet

    data = parquet.read_table(path).to_pydict()
    method = np.array(data["method"])
    first = method == method[0]
    answers = {
        str(name): np.column_stack(
            [np.array(data[column])[method == name] for column in ("answer_lat", "answer_lon")]
        )
        for name in dict.fromkeys(data["method"])
    }
    latlon = np.column_stack([np.array(data["lat"])[first], np.array(data["lon"])[first]])
    return Predictions(
        np.array(data["path"])[first], latlon, np.array(data["slice"])[first], answers
    )


def _recall(error: npt.NDArray[np.float64]) -> dict[str, float]:
    return {str(d): round(float((error <= d).mean()), 4) for d in DISTANCES_M}


def _columns(lines: Iterable[list[str]]) -> str:
    rows = list(lines)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
