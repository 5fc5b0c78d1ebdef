"""The order of the methods: what the method claims of its parts, as paired differences of recall.

Two methods find or miss the same photos, so their recalls rise and fall together from draw to draw;
the interval of their difference, over the same drawn sequences, is narrower than those of the two
suggest. Distances are metres.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from geofix_train.bootstrap import Bootstrap
from geofix_train.predictions import Predictions, errors_m

ORDERED_AT_M = (100, 200)
ORDER = ("hybrid", "hybrid_kappa_1", "aerial", "prototypes", "mean_prototypes", "image_nn")
CLAIMS = (  # the first is to find more photos than the second
    ("hybrid", "hybrid_kappa_1"),
    ("hybrid", "aerial"),
    ("hybrid", "prototypes"),
    ("prototypes", "mean_prototypes"),
    ("hybrid", "image_nn"),
)
BESIDE = "image_nn"  # the method whose database others are measured by


def differences(predictions: Predictions, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """Return how much larger the recall of a method is than that of another, for each claim.

    Args:
        predictions: Q photos; claims of methods that are not there are left out.
        bootstrap: draws of their sequences.

    Returns:
        For each claim the two methods, shares by distance from -1 to 1, and their intervals (None
        where there is one sequence).
    """
    found = []
    for method, other in CLAIMS:
        if not {method, other} <= predictions.answers.keys():
            continue
        hits = [_hits(predictions, name) for name in (method, other)]
        shares = hits[0].mean(axis=0) - hits[1].mean(axis=0)
        ends = bootstrap.of_differences(*hits)
        found.append(
            {
                "method": method,
                "other": other,
                "recall_difference_at_m": {
                    str(d): round(float(share), 4)
                    for d, share in zip(ORDERED_AT_M, shares, strict=True)
                },
                "recall_difference_at_m_interval95": {
                    str(d): None if np.isnan(low) else [round(low, 4), round(high, 4)]
                    for d, (low, high) in zip(ORDERED_AT_M, ends.tolist(), strict=True)
                },
            }
        )
    return found


def is_clear(interval: list[float] | None) -> bool:
    """Return whether an interval tells a difference from zero."""
    return interval is not None and (interval[0] > 0 or interval[1] < 0)


def database_shares(predictions: Predictions) -> dict[str, float]:
    """Return the bytes of each method's database over those of `BESIDE`; empty without that."""
    if BESIDE not in predictions.answers:
        return {}
    whole = predictions.answers[BESIDE].database_bytes
    return {
        method: float(f"{answers.database_bytes / whole:.4g}")
        for method, answers in predictions.answers.items()
    }


def _hits(predictions: Predictions, method: str) -> npt.NDArray[np.bool_]:
    return np.asarray(errors_m(predictions, method)[:, None] <= np.array(ORDERED_AT_M))
