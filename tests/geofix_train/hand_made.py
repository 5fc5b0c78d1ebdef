"""Predictions made by hand: how far each answer is off is known."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

import geofix_index.cells as s2
from geofix_index.sphere import EARTH_RADIUS_M
from geofix_train.predictions import NUM_BEST, ORIGINAL, Answers, CodesFacts, Predictions
from tests.geofix_train.tiny_data import LAT, LON

ERRORS_M = (10.0, 30.0, 60.0, 150.0, 400.0, 600.0)
FACTS = CodesFacts(
    kappa=4.7312,
    kappa_choice="chosen on validation photos",
    shrink_photos=0.0,
    cell_level=17,
    num_cells=1234,
    num_training_photos=4900,
)
PLACES = ("seen", "seen", "seen", "unseen", "unseen", "unseen")


def truth(num: int) -> npt.NDArray[np.float64]:
    """Return places in a row from west to east, 750 m apart, (num, 2)."""
    return np.column_stack([np.full(num, LAT), LON + 0.01 * np.arange(num)])


def answers_off(
    *best_m: Sequence[float], num_bytes: int = 1000, latlon: npt.NDArray[np.float64] | None = None
) -> Answers:
    """Return answers that miss the places of `truth` to the north.

    Args:
        best_m: for each of the best cells, first the answer, how far it is off for each photo.
        num_bytes: of the database.
        latlon: places that are missed in place of `truth`.
    """
    num = len(best_m[0])
    places = truth(num) if latlon is None else latlon
    cells = np.zeros((num, NUM_BEST), np.uint64)
    scores = np.full((num, NUM_BEST), np.nan, np.float32)
    for rank, off_m in enumerate(best_m):
        north = np.degrees(np.array(off_m) / EARTH_RADIUS_M)
        cells[:, rank] = s2.cell_from_latlon(places[:, 0] + north, places[:, 1], level=30)
        scores[:, rank] = 1 - 0.1 * rank
    answer = places + np.column_stack(
        [np.degrees(np.array(best_m[0]) / EARTH_RADIUS_M), np.zeros(num)]
    )
    return Answers(answer, cells, scores, num_bytes)


def predictions_of(
    answers: Mapping[str, Answers],
    *,
    sequence: Sequence[str] | None = None,
    slices: Mapping[str, Sequence[str]] | None = None,
) -> Predictions:
    """Return predictions of photos that stand where `truth` says."""
    num = len(next(iter(answers.values())).latlon)
    return Predictions(
        path=np.array([f"{number}.png" for number in range(num)]),
        latlon=truth(num),
        answers=answers,
        sequence=np.array([""] * num if sequence is None else sequence),
        look=np.full(num, ORIGINAL),
        slices={name: np.array(values) for name, values in (slices or {}).items()},
    )


def six_photos() -> Predictions:
    """Return six photos; "north" misses each by its own distance, "exact" by none."""
    answers = {"north": answers_off(ERRORS_M), "exact": answers_off([0.0] * 6, num_bytes=50)}
    return predictions_of(answers, slices={"place": PLACES})
