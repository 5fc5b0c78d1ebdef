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

Hits = npt.NDArray[np.bool_]


def differences(predictions: Predictions, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """Return how much larger the recall of a method is than that of another, for each claim.

    Args:
        predictions: Q photos; claims of methods that are not there are left out.
        bootstrap: draws of their sequences.

    Returns:
        For each claim the two methods, and what `difference` says of them.
    """
    return [
        {
            "method": method,
            "other": other,
            **difference(hits(predictions, method), hits(predictions, other), bootstrap),
        }
        for method, other in CLAIMS
        if {method, other} <= predictions.answers.keys()
    ]


def difference(one: Hits, other: Hits, bootstrap: Bootstrap) -> dict[str, Any]:
    """Return how much larger one recall is than another, by distance, from -1 to 1.

    Args:
        one: (Q, distances), which photos are found; see `hits`.
        other: of the same photos, in the same order.
        bootstrap: draws of their sequences. Of one sequence there is no interval: None.
    """
    shares = one.mean(axis=0) - other.mean(axis=0)
    ends = bootstrap.of_differences(one, other)
    return {
        "recall_difference_at_m": {
            str(d): round(float(share), 4) for d, share in zip(ORDERED_AT_M, shares, strict=True)
        },
        "recall_difference_at_m_interval95": {
            str(d): None if np.isnan(low) else [round(low, 4), round(high, 4)]
            for d, (low, high) in zip(ORDERED_AT_M, ends.tolist(), strict=True)
        },
    }


def hits(predictions: Predictions, method: str) -> Hits:
    """Return which photos a method finds within each of ORDERED_AT_M, (Q, distances)."""
    return np.asarray(errors_m(predictions, method)[:, None] <= np.array(ORDERED_AT_M))


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
