"""Does a head, trained on a frozen pretrained backbone, find more real photos than no training?

    python -m benchmarks.real_head PHOTOS.csv ENCODER.onnx

PHOTOS.csv is a table of panorama faces with `picture_id`; ENCODER.onnx is a MobileNetV2. Panoramas
are dealt to folds along their drives, so that neighbours part; each fold is localized by what was
made of the others, by every method.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.mobilenet_v2 import convert_mobilenet
from benchmarks.record import Value, write_record
from geofix import InputSpec
from geofix.backends.onnx import OnnxEncoder
from geofix_index.sphere import great_circle_m
from geofix_train.bootstrap import Bootstrap
from geofix_train.codes import encode_run, make_codes
from geofix_train.config import DataConfig, FitConfig, ModelConfig, ObjectiveConfig, RunConfig
from geofix_train.evaluate import Database, predict
from geofix_train.fit import fit
from geofix_train.photo_table import PhotoTable, read_photo_table, write_photo_table
from geofix_train.photos import read_photos
from geofix_train.predictions import Answers, Predictions, errors_m, join_predictions
from geofix_train.training_free import EncodedPhotos, encode_photos, training_free_codes

SPEC = Path("recipes/mobilenet_v2.json")
NUM_FOLDS = 8
LEVEL = 17  # of cells: 70 m, for panoramas that stand 10 to 100 m apart
DISTANCES_M = (25, 100, 200)
NUM_RESAMPLES = 2000
METHODS = {  # as predictions call them -> as the record does
    "image_nn_training_free": "image retrieval",
    "prototypes_training_free": "training-free prototypes",
    "image_nn": "image retrieval, trained head",
    "mean_prototypes": "class means, trained head",
    "prototypes": "prototypes, trained head",
}
MODEL = ModelConfig(frozen_layers=-1, aggregator="gem", dim=128)
OBJECTIVE = ObjectiveConfig(
    labels="hard", prototype_level=LEVEL, code_level=LEVEL, temperature=0.1, min_images=1
)
RUN = RunConfig(
    epochs=4,
    batch_size=31,
    learning_rate=3e-4,
    prototype_learning_rate=1e-3,
    old_share=0.0,
    zoom=0.5,
)

_MEANING = f"""248 street photos, the four faces of 62 panoramas around Lege-Cap-Ferret (Panoramax),
in {NUM_FOLDS} folds: panoramas are dealt out along their drives, all faces of one into one fold,
and each fold is localized by what the others teach. All methods see the same folds and the same
frozen MobileNetV2 0.5. *Training-free*: generalized mean of its feature map, PCA whitening, mean
per cell of S2 level {LEVEL}. *Trained head*: generalized mean with a learned power and a linear
projection that starts as PCA whitening; both, and the prototypes, are trained for {RUN.epochs}
epochs. Intervals are 95 %, bootstrapped over panoramas. *Ceiling*: photos with a photo of another
fold within that distance. Nothing is compressed. The head's settings are the best of some twenty
tries on these same photos, which flatters it; SALAD, more epochs and higher rates found fewer. All
the same it finds no more than training-free prototypes do; 54 panoramas are few to learn from.
Single photos find more than cells by either, perhaps as a cell's mean mixes directions of view."""


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, metavar="PHOTOS.csv")
    parser.add_argument("encoder", type=Path, metavar="ENCODER.onnx")
    arguments = parser.parse_args()
    table, _ = read_photo_table(arguments.photos)
    spec = InputSpec.from_json(json.loads(SPEC.read_text()))
    photos = encode_photos(arguments.encoder, table, input_spec=spec)
    with tempfile.TemporaryDirectory() as folder:
        backbone = convert_mobilenet(arguments.encoder, Path(folder) / "mobilenet")
        predictions = localize_folds(photos, _config(backbone), Path(folder))
    ceiling_m = nearest_other_fold_m(table, deal_folds(table))
    write_record(
        "real_head",
        title="Real photos, with a trained head on a frozen backbone",
        meaning=_meaning(predictions),
        values=_values(predictions, ceiling_m),
        command="python -m benchmarks.real_head PHOTOS.csv ENCODER.onnx",
    )


def deal_folds(table: PhotoTable) -> npt.NDArray[np.intp]:
    """Return the fold of each photo: panoramas in the order of their drives, dealt out in turn."""
    pictures, first, of_photo = np.unique(
        table.columns["picture_id"], return_index=True, return_inverse=True
    )
    when, drive = table.columns["captured_at"][first], table.columns["sequence_id"][first]
    rank = np.empty(len(pictures), np.intp)
    rank[np.lexsort((when, drive))] = np.arange(len(pictures))
    return rank[of_photo] % NUM_FOLDS


def localize_folds(photos: EncodedPhotos, config: FitConfig, folder: Path) -> Predictions:
    """Return the predictions of all photos, each fold's made by the others."""
    fold = deal_folds(photos.table)
    parts = []
    for number in range(NUM_FOLDS):
        room = folder / f"fold-{number}"
        room.mkdir()
        table = _with_split(photos.table, np.where(fold == number, "test", "train"))
        parts.append(_localize_fold(replace(photos, table=table), config, room))
    return join_predictions(parts)


def nearest_other_fold_m(table: PhotoTable, fold: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """Return how near a photo of another fold stands: no retrieval can come nearer."""
    gap = great_circle_m(table.lat[:, None], table.lon[:, None], table.lat, table.lon)
    return np.asarray(np.where(fold[:, None] == fold, np.inf, gap).min(axis=1))


def _localize_fold(photos: EncodedPhotos, config: FitConfig, folder: Path) -> Predictions:
    """Train on split "train" and localize split "test", by every method."""
    path = folder / "photos.parquet"
    write_photo_table(photos.table, path)
    config = replace(config, data=replace(config.data, photos=str(path)))
    encoded = encode_run(fit(config, folder / "run"), level=LEVEL)
    predictions = predict(encoded, make_codes(encoded, kappa=1.0))
    for method, answers in _training_free_answers(photos).items():
        predictions = predictions.with_answers(method, answers)
    return predictions


def _training_free_answers(photos: EncodedPhotos) -> dict[str, Answers]:
    table, made = photos.table, training_free_codes(photos, level=LEVEL)
    pixels, _, _ = read_photos(table, made.encoder.input_spec)
    encoder = OnnxEncoder(made.encoder.data, made.encoder.input_spec)
    parts = np.array_split(pixels, NUM_FOLDS)
    embeddings = np.concatenate([encoder.encode(part) for part in parts])
    known = Database.of_photos(table[table.is_train], embeddings[table.is_train])
    cells = Database.of_cells(made.codes.cells, made.codes.cell_codes)
    queries = embeddings[table.split == "test"]
    return {
        "image_nn_training_free": known.answer(queries),
        "prototypes_training_free": cells.answer(queries),
    }


def _config(backbone: Path) -> FitConfig:
    return FitConfig(
        data=DataConfig(photos="", photo_width=224, photo_height=224),
        model=replace(MODEL, backbone=str(backbone)),
        objective=OBJECTIVE,
        run=RUN,
    )


def _with_split(table: PhotoTable, split: npt.NDArray[np.str_]) -> PhotoTable:
    """Return the table with a split, absolute paths, and panoramas for what is drawn together."""
    columns: dict[str, Any] = dict(table.columns)
    columns["path"] = [str(table.photo_path(row).resolve()) for row in range(len(table))]
    columns["split"], columns["sequence_id"] = split, table.columns["picture_id"]
    return PhotoTable.from_columns(columns)


def _values(predictions: Predictions, ceiling_m: npt.NDArray[np.float64]) -> list[Value]:
    draws = Bootstrap.of_sequences(predictions.sequence, num_resamples=NUM_RESAMPLES)
    values = []
    for method, name in METHODS.items():
        hits = errors_m(predictions, method)[:, None] <= np.array(DISTANCES_M)
        for distance, share, (low, high) in zip(
            DISTANCES_M, hits.mean(axis=0), draws.of_shares(hits), strict=True
        ):
            values.append(
                Value(f"{name}: within {distance} m", round(share, 4), f"[{low:.3f}, {high:.3f}]")
            )
    for distance in DISTANCES_M:
        share = float((ceiling_m <= distance).mean())
        values.append(Value(f"ceiling of {distance} m", round(share, 4), ""))
    return values


def _meaning(predictions: Predictions) -> str:
    """Say what was compared, and what each of the two prototypes finds that the other misses."""
    found, by_trained = (
        errors_m(predictions, method) <= 100
        for method in ("prototypes_training_free", "prototypes")
    )
    return (
        _MEANING + f" Within 100 m, the trained head's prototypes find "
        f"{(by_trained & ~found).sum()} photos that training-free prototypes miss, and miss "
        f"{(found & ~by_trained).sum()} that those find."
    )


if __name__ == "__main__":
    main()
