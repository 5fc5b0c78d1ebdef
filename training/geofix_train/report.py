"""Figures from saved predictions: how many photos are found how near, and how sure that is.

A photo is found within a distance where the answer lies at most so far from the truth; among the k
best, where the answer or one of the next k - 1 cells does. Intervals are those of 95 %, over
sequences (see bootstrap). Distances are metres.
"""

import math
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from geofix_train.bootstrap import Bootstrap
from geofix_train.order import database_shares, differences
from geofix_train.predictions import ORIGINAL, Predictions, errors_m, errors_of_best_m

FORMAT = 1
DISTANCES_M = (25, 50, 100, 200, 500, 1000)
RANKS = (1, 5, 10)
LOOK = "look"  # the slice of degraded photos
NUM_RESAMPLES = 1000


def report(
    predictions: Predictions, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """Return all figures, to be written as JSON.

    Photos as they are make the figures of the whole and of each slice; degraded photos stand beside
    them in slice "look".

    Args:
        predictions: of any methods.
        num_resamples: draws of the bootstrap.
        seed: of the draws.
    """

    def figures(part: Predictions) -> dict[str, Any]:
        return _figures(part, num_resamples=num_resamples, seed=seed)

    originals = predictions.originals
    slices = {
        name: {value: figures(originals[values == value]) for value in np.unique(values).tolist()}
        for name, values in originals.slices.items()
    }
    if len(originals) < len(predictions):
        looks = dict.fromkeys([ORIGINAL, *predictions.look.tolist()])
        slices[LOOK] = {look: figures(predictions[predictions.look == look]) for look in looks}
    return {
        "format": FORMAT,
        "codes": codes_figures(predictions),
        **figures(originals),
        "database_bytes": {
            method: answers.database_bytes for method, answers in predictions.answers.items()
        },
        "database_share_of_image_nn": database_shares(predictions),
        "differences": differences(
            originals,
            Bootstrap.of_sequences(originals.sequence, num_resamples=num_resamples, seed=seed),
        ),
        "slices": slices,
        "bootstrap": {"num_resamples": num_resamples, "seed": seed},
    }


def summarize(predictions: Predictions) -> dict[str, Any]:
    """Return recalls and median errors alone, without intervals; by slice for seen and unseen."""
    originals = predictions.originals
    place = originals.slices["place"]
    parts = {name: originals[place == name] for name in np.unique(place).tolist()}
    return {
        "num_queries": len(originals),
        "recall_at_m": _recalls(originals),
        "recall_by_slice": {name: _recalls(part) for name, part in parts.items()},
        "num_queries_by_slice": {name: len(part) for name, part in parts.items()},
        "median_error_m": _medians(originals),
    }


def codes_figures(predictions: Predictions) -> dict[str, Any] | None:
    """Return what is told of the cell codes, None without it; an infinite kappa is None."""
    if predictions.codes is None:
        return None
    facts = asdict(predictions.codes)
    return {**facts, "kappa": round(facts["kappa"], 4) if math.isfinite(facts["kappa"]) else None}


def recall_name(rank: int) -> str:
    """Return how the recall of the k best is called in a report."""
    return "recall_at_m" if rank == 1 else f"recall_of_{rank}_at_m"


def _figures(predictions: Predictions, *, num_resamples: int, seed: int) -> dict[str, Any]:
    """Return the figures of some photos: a share for each method, rank and distance."""
    bootstrap = Bootstrap.of_sequences(predictions.sequence, num_resamples=num_resamples, seed=seed)
    methods = list(predictions.answers)
    errors = np.stack([errors_of_best_m(predictions, method) for method in methods], axis=1)
    of_ranks = errors[:, :, np.array(RANKS) - 1]  # (Q, methods, ranks)
    hits = of_ranks[..., None] <= np.array(DISTANCES_M)  # (Q, methods, ranks, distances)
    shares = hits.mean(axis=0)
    ends = bootstrap.of_shares(hits.reshape(len(hits), -1)).reshape(*shares.shape, 2)
    figures: dict[str, Any] = {
        "num_queries": len(predictions),
        "num_sequences": bootstrap.num_groups,
    }
    for number, rank in enumerate(RANKS):
        name = recall_name(rank)
        figures[name] = dict(zip(methods, map(_by_distance, shares[:, number]), strict=True))
        figures[f"{name}_interval95"] = {
            method: dict(zip(figures[name][method], _intervals(of_method, 4), strict=True))
            for method, of_method in zip(methods, ends[:, number], strict=True)
        }
    figures["median_error_m"] = _medians(predictions)
    medians = np.stack([bootstrap.of_median(errors[:, m, 0]) for m in range(len(methods))])
    figures["median_error_m_interval95"] = dict(zip(methods, _intervals(medians, 1), strict=True))
    return figures


def _by_distance(shares: npt.NDArray[np.float64]) -> dict[str, float]:
    return {str(d): round(float(s), 4) for d, s in zip(DISTANCES_M, shares, strict=True)}


def _recalls(predictions: Predictions) -> dict[str, dict[str, float]]:
    return {
        method: _by_distance(
            (errors_m(predictions, method)[:, None] <= np.array(DISTANCES_M)).mean(axis=0)
        )
        for method in predictions.answers
    }


def _medians(predictions: Predictions) -> dict[str, float]:
    return {
        method: round(float(np.median(errors_m(predictions, method))), 1)
        for method in predictions.answers
    }


def _intervals(ends: npt.NDArray[np.float64], digits: int) -> list[list[float] | None]:
    """Return low and high (F, 2) as lists, None where there are none."""
    return [
        None if np.isnan(low) else [round(low, digits), round(high, digits)]
        for low, high in ends.tolist()
    ]
