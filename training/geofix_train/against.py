"""Two evaluations of the same photos: which of them finds more, method by method.

Both are drawn on the same sequences, as the methods of one evaluation are (see order.py), so that
what makes an area hard for both cancels.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geofix_index.sphere import great_circle_m
from geofix_train.bootstrap import Bootstrap
from geofix_train.order import difference, hits
from geofix_train.predictions import Predictions, PredictionsError, read_predictions
from geofix_train.report import NUM_RESAMPLES, codes_figures

_SAME_PLACE_M = 0.1


@dataclass(frozen=True)
class Against:
    """Predictions that others are compared with."""

    name: str  # where they come from
    predictions: Predictions


def read_against(path: Path, filename: str) -> Against:
    """Read a file of predictions, or the one of this name in a folder.

    Raises:
        PredictionsError: there is none, or it cannot be used.
    """
    file = path / filename if path.is_dir() else path
    if path.is_dir() and not file.is_file():
        raise PredictionsError(
            f"{file}: no such file: evaluate that run first, with the same --split and --degrade"
        )
    return Against(str(path), read_predictions(file))


def compare(
    predictions: Predictions,
    against: Against,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Return how many more photos each method finds than the same method of other predictions.

    Args:
        predictions: of any methods; those that the others lack are left out.
        against: of the same photos, in any order; looks that they lack are left out.
        num_resamples: draws of the bootstrap.
        seed: of the draws.

    Raises:
        PredictionsError: the photos are not the same.
    """
    differences = []
    for look in dict.fromkeys(predictions.look.tolist()):
        ours, theirs = (p[p.look == look] for p in (predictions, against.predictions))
        if len(theirs) == 0:
            continue
        theirs = _in_the_order_of(ours, theirs, against.name)
        draws = Bootstrap.of_sequences(ours.sequence, num_resamples=num_resamples, seed=seed)
        differences += [
            {
                "look": look,
                "method": method,
                **difference(hits(ours, method), hits(theirs, method), draws),
            }
            for method in ours.answers
            if method in theirs.answers
        ]
    return {
        "name": against.name,
        "codes": codes_figures(against.predictions),
        "differences": differences,
    }


def _in_the_order_of(ours: Predictions, theirs: Predictions, name: str) -> Predictions:
    """Return `theirs` with its photos in the order of `ours`."""
    _check_same_paths(ours, theirs, name)
    our_order, their_order = (np.argsort(p.path, kind="stable") for p in (ours, theirs))
    rows = np.empty_like(their_order)
    rows[our_order] = their_order
    theirs = theirs[rows]
    apart_m = great_circle_m(*ours.latlon.T, *theirs.latlon.T)
    if (apart_m > _SAME_PLACE_M).any():
        row = int(np.argmax(apart_m))
        raise PredictionsError(
            f"{name}: {ours.path[row]} stands {apart_m[row]:.1f} m from where it stands here: "
            "want predictions of the same photos"
        )
    return theirs


def _check_same_paths(ours: Predictions, theirs: Predictions, name: str) -> None:
    if sorted(ours.path.tolist()) == sorted(theirs.path.tolist()):
        return
    here = sorted(set(ours.path.tolist()) - set(theirs.path.tolist()))
    there = sorted(set(theirs.path.tolist()) - set(ours.path.tolist()))
    example = [*here, *there, "a photo is listed twice"][0]
    raise PredictionsError(
        f"{name}: other photos: {len(ours)} here, of which {len(here)} are not there, and "
        f"{len(theirs)} there, of which {len(there)} are not here ({example}): want predictions "
        "of the same photos"
    )
