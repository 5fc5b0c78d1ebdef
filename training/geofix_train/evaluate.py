"""Localize the photos of a split with a finished run and all baselines; keep the predictions.

The figures are made from the saved predictions by `report`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

import geofix_index.cells as s2
from geofix_train.cell_codes import CellCodes, CellCodesError, mix, read_cell_codes, upsample
from geofix_train.codes import EncodedRun, areas, encode_run, make_codes, slices
from geofix_train.degrade import LOOKS, degrade
from geofix_train.model import embed
from geofix_train.photo_slices import photo_slices
from geofix_train.photo_table import PhotoTable
from geofix_train.photos import read_photos
from geofix_train.predictions import (
    NUM_BEST,
    ORIGINAL,
    Answers,
    CodesFacts,
    Predictions,
    errors_m,
    join_predictions,
    predictions_path,
    write_predictions,
)
from geofix_train.privacy import load_find_boxes, private_photo
from geofix_train.run_folder import load_model
from geofix_train.training_data import input_spec

METHODS = ("image_nn", "mean_prototypes", "prototypes", "aerial", "hybrid_kappa_1", "hybrid")
ON_DEVICE = "on_device"
_SEARCHED_AT_ONCE = 256  # photos

Photos = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class CellLayers:
    """What maps of all cells show: the prototypes, and how well one photo fits each cell."""

    cells: npt.NDArray[np.uint64]  # (N,)
    prototypes: npt.NDArray[np.float32]  # (N, D), zeros where a cell has none
    scores: npt.NDArray[np.float32]  # (N,) of the photo
    row: int  # of the photo in the predictions
    photo: Photos  # (H, W, 3) RGB, as the encoder sees it


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate_run` returns."""

    predictions: Predictions
    layers: CellLayers
    problems: tuple[str, ...]  # a sentence for each row and photo that was left out


@dataclass(frozen=True)
class Database:
    """Vectors that photos are compared with, and the place that each stands for."""

    cells: npt.NDArray[np.uint64]  # (N,)
    latlon: npt.NDArray[np.float64]  # (N, 2)
    vectors: npt.NDArray[np.float32]  # (N, D)

    @classmethod
    def of_cells(
        cls, cells: npt.NDArray[np.uint64], vectors: npt.NDArray[np.float32]
    ) -> "Database":
        """Return the cells that something is known of, those whose vector is not zero."""
        known = vectors.any(axis=1)
        return cls(cells[known], s2.latlon_from_cell(cells[known]), vectors[known])

    @classmethod
    def of_photos(cls, table: PhotoTable, embeddings: npt.NDArray[np.float32]) -> "Database":
        """Return photos, each with the leaf cell it stands in, which is 1 cm wide."""
        cells = s2.cell_from_latlon(table.lat, table.lon, level=s2.MAX_LEVEL)
        return cls(cells, table.latlon, embeddings)

    def answer(self, embeddings: npt.NDArray[np.float32]) -> Answers:
        """Return what fits photos (Q, D) best; among equals the first."""
        num = len(embeddings)
        width = min(NUM_BEST, len(self.cells))
        cells = np.zeros((num, NUM_BEST), np.uint64)
        scores = np.full((num, NUM_BEST), np.nan, np.float32)
        first = np.zeros(num, np.intp)
        for start in range(0, num, _SEARCHED_AT_ONCE):
            part = slice(start, start + _SEARCHED_AT_ONCE)
            similarity = embeddings[part] @ self.vectors.T
            best = _best(similarity, width)
            cells[part, :width] = self.cells[best]
            scores[part, :width] = np.take_along_axis(similarity, best, axis=1)
            first[part] = best[:, 0]
        return Answers(self.latlon[first], cells, scores, self.vectors.nbytes)


def _best(similarity: npt.NDArray[np.float32], num: int) -> npt.NDArray[np.intp]:
    """Return where the `num` largest of each row are, (Q, num), best first; among equals the first.

    Sorts only what reaches the smallest of them, since a row may be as long as all photos.
    """
    least = np.partition(similarity, -num, axis=1)[:, -num]
    best = np.empty((len(similarity), num), np.intp)
    for row, (scores, smallest) in enumerate(zip(similarity, least, strict=True)):
        reaching = np.flatnonzero(scores >= smallest)
        best[row] = reaching[np.argsort(-scores[reaching], kind="stable")][:num]
    return best


def evaluate_run(
    run: Path,
    *,
    pack: Path | None = None,
    split: str = "test",
    looks: Iterable[str] = (),
    codes: Path | None = None,
    keep_in: Path | None = None,
    on_error: str = "stop",
) -> Evaluation:
    """Predict a split by a finished run and all baselines; keep the predictions.

    Args:
        run: a finished run folder. Codes that were made before (RUN/codes) are used as they are.
        pack: a pack of this run; its photos are localized by the SDK as method "on_device".
        split: of the photos.
        looks: of `degrade`; the photos are localized once more with each.
        codes: a folder with other codes of this run, in place of RUN/codes.
        keep_in: the folder that receives the predictions (`codes`, or RUN); see `predictions_path`.
        on_error: "stop" or "skip" bad rows and unreadable photos.

    Raises:
        TableError: the photos cannot be used, or none has this split.
        CellCodesError: there are no codes, or they are of another run.
        ValueError: a look is unknown.
    """
    looks = tuple(dict.fromkeys(looks))
    for look in looks:
        if look not in LOOKS:
            raise ValueError(f"look is {look!r}, want one of {', '.join(LOOKS)}")
    encoded, made = _encoded_with_codes(run, codes, split=split, on_error=on_error)
    predictions = predict(encoded, made, split=split)
    if pack is not None:
        answers = predict_on_device(
            pack, encoded.table.of_split(split), blur=encoded.config.data.blur
        )
        predictions = predictions.with_answers(ON_DEVICE, answers)
    layers = _layers(encoded, made, predictions, split)
    if looks:
        degraded = predict_degraded(run, encoded, made, looks, pack=pack, split=split)
        predictions = join_predictions([predictions, *degraded])
    write_predictions(predictions, predictions_path(keep_in or codes or run, split, looks))
    return Evaluation(predictions, layers, encoded.problems)


def predict(
    encoded: EncodedRun,
    codes: CellCodes,
    *,
    split: str = "test",
    embeddings: npt.NDArray[np.float32] | None = None,
    look: str = ORIGINAL,
) -> Predictions:
    """Localize the photos of a split with the method and with each of its baselines.

    Args:
        encoded: the run and its photos.
        codes: of its cells.
        split: of the photos.
        embeddings: of these photos with another look, (Q, D).
        look: how they look.

    Raises:
        ValueError: no photo has this split.
    """
    rows = encoded.table.split == split
    if not rows.any():
        raise ValueError(f"no photo has split {split!r}")
    table = encoded.table[rows]
    if embeddings is None:
        embeddings = encoded.embeddings[rows]
    return Predictions(
        path=table.columns["path"],
        latlon=table.latlon,
        answers={
            method: database.answer(embeddings)
            for method, database in _databases(encoded, codes).items()
        },
        sequence=table.columns["sequence_id"],
        look=np.full(len(table), look),
        # A table may say itself, in a column slice_area, which districts it held out.
        slices={
            "place": slices(encoded.table)[rows],
            "area": areas(encoded.table, level=encoded.grid.level)[rows],
            **photo_slices(table),
        },
        codes=_facts(encoded, codes),
    )


def predict_on_device(
    pack: Path, table: PhotoTable, *, photos: Photos | None = None, blur: str = ""
) -> Answers:
    """Localize photos through a finished pack, as the SDK does it.

    Args:
        pack: the file.
        table: Q photos.
        photos: (Q, H, W, 3), to be localized in place of the table's files.
        blur: what finds faces in these files; see `privacy.load_find_boxes`.
    """
    from geofix import Localizer, RegionPack

    manifest = RegionPack.open(pack).manifest
    entries = [
        name for shard in manifest.shards for name in (shard.cells_entry, shard.payload_entry)
    ]
    num_bytes = sum(manifest.entries[name].num_bytes for name in entries)
    cells = np.zeros((len(table), NUM_BEST), np.uint64)
    scores = np.full((len(table), NUM_BEST), np.nan, np.float32)
    latlon = np.zeros((len(table), 2))
    find_boxes = load_find_boxes(blur)
    with Localizer.open(pack) as localizer:
        for row in range(len(table)):
            if photos is None:
                fix = localizer.localize(
                    private_photo(table, row, find_boxes=find_boxes), k=NUM_BEST
                )
            else:
                fix = localizer.localize(photos[row], k=NUM_BEST)
            latlon[row] = fix.latlon.lat, fix.latlon.lon
            for rank, candidate in enumerate(fix.candidates):
                cells[row, rank] = s2.cell_from_token(candidate.cell)
                scores[row, rank] = candidate.score
    return Answers(latlon, cells, scores, num_bytes)


def predict_degraded(
    run: Path,
    encoded: EncodedRun,
    codes: CellCodes,
    looks: Iterable[str],
    *,
    pack: Path | None = None,
    split: str = "test",
) -> Iterator[Predictions]:
    """Yield the predictions of a split's photos for each look."""
    _, model, _ = load_model(run)
    table = encoded.table.of_split(split)
    photos, _, _ = read_photos(table, input_spec(encoded.config), blur=encoded.config.data.blur)
    for look in looks:
        degraded = degrade(photos, look)
        embeddings = embed(model.ground, degraded)
        predictions = predict(encoded, codes, split=split, embeddings=embeddings, look=look)
        if pack is not None:
            answers = predict_on_device(pack, table, photos=degraded)
            predictions = predictions.with_answers(ON_DEVICE, answers)
        yield predictions


def _encoded_with_codes(
    run: Path, folder: Path | None, *, split: str, on_error: str
) -> tuple[EncodedRun, CellCodes]:
    """Return a run applied to its data, and the codes of a folder, of RUN/codes, or made anew."""
    stored = (folder or run / "codes") / "codes.safetensors"
    if folder is None and not stored.exists():
        encoded = encode_run(run, on_error=on_error, split=split)
        return encoded, make_codes(encoded)
    codes = read_cell_codes(stored)
    level = int(s2.level_of(codes.cells[:1])[0])
    encoded = encode_run(run, level=level, on_error=on_error, split=split)
    own = upsample(encoded.grid, encoded.prototypes, codes.cells)
    if own.shape != codes.prototypes.shape or not np.allclose(own, codes.prototypes, atol=1e-3):
        raise CellCodesError(
            f"{stored}: codes of another run, whose prototypes are not those of {run}: make them "
            f"again by geofix-train codes {run}"
        )
    return encoded, codes


def _facts(encoded: EncodedRun, codes: CellCodes) -> CodesFacts:
    return CodesFacts(
        kappa=codes.kappa,
        kappa_choice=codes.kappa_choice,
        shrink_photos=codes.shrink_photos,
        cell_level=int(s2.level_of(codes.cells[:1])[0]),
        num_cells=len(codes.cells),
        num_training_photos=int(encoded.table.is_train.sum()),
    )


def _databases(encoded: EncodedRun, codes: CellCodes) -> dict[str, Database]:
    """Return what each method compares photos with, without the methods that know nothing."""
    is_train = encoded.table.is_train
    vectors = {
        "mean_prototypes": upsample(encoded.grid, encoded.mean_prototypes, codes.cells),
        "prototypes": codes.prototypes,
        "aerial": codes.aerial,
        "hybrid_kappa_1": mix(codes.prototypes, codes.aerial, kappa=1.0),
        "hybrid": codes.cell_codes,
    }
    databases = {
        "image_nn": Database.of_photos(encoded.table[is_train], encoded.embeddings[is_train])
    }
    for method, of_cells in vectors.items():
        if of_cells.any():
            databases[method] = Database.of_cells(codes.cells, of_cells)
    return databases


def _layers(
    encoded: EncodedRun, codes: CellCodes, predictions: Predictions, split: str
) -> CellLayers:
    """Return the layers for the photo whose error is the median: neither the best nor the worst."""
    errors = errors_m(predictions, "hybrid")
    row = int(np.argsort(errors, kind="stable")[len(errors) // 2])
    of_split = np.flatnonzero(encoded.table.split == split)
    photos, _, _ = read_photos(
        encoded.table[of_split[[row]]],
        input_spec(encoded.config),
        blur=encoded.config.data.blur,
    )
    known = codes.cell_codes.any(axis=1)
    return CellLayers(
        cells=codes.cells[known],
        prototypes=codes.prototypes[known],
        scores=codes.cell_codes[known] @ encoded.embeddings[of_split[row]],
        row=row,
        photo=photos[0],
    )
