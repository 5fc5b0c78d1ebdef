"""Could fixes on Union Square be surer of their own place? Two ways beyond one temperature.

    python -m benchmarks.sdk_surer unionsquare5k.npz

A radius of a few metres needs the photo's own place to have 68 % of the posterior, as the next is
10 m away; sharp would be that half of the photos have it. Fitted on one half, told of the other.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import cross_entropy

from benchmarks.record import Value, write_record
from benchmarks.sdk_figures import area_under, roc, share
from benchmarks.vector_sets import read_union_square
from geofix.geo import LatLon, east_north_m

SURE = 0.68
DIM = 16
MASS_WITHIN_M = (15.0, 30.0, 60.0, 150.0, 400.0)
PENALTIES = (1.0, 10.0)  # on the weights of the logistic regression
DECAYS = (0.0, 1e-3, 1e-2)  # of the metric towards the inner product
_MEANING = """5,000 places in Manhattan, their own is there; exact scores. *One temperature*: the
softmax that packs have. *Logistic*: whether the best place is right, by {num} features: scores and
gaps between them, entropy, how alike codes are around the best place, and how much of the softmax
lies within {within} m of it. *Metric*: a bilinear form instead of the inner product, and a
quadratic one of the place's code. *Sure*: the share of test photos whose best place has at least
68 %. Wanted for a sharp radius: half. None comes there."""

Floats = npt.NDArray[np.float64]


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("codes", type=Path, metavar="unionsquare5k.npz")
    latlon, *vectors = read_union_square(parser.parse_args().codes)
    codes, queries = (np.asarray(each, np.float64) for each in vectors)
    places_m = east_north_m(*latlon.T, origin=LatLon(*latlon.mean(axis=0).tolist()))
    rows = np.random.default_rng(0).permutation(len(codes))
    fit, test = np.split(rows, 2)
    scores = queries @ codes.T
    temperature = min(
        np.geomspace(0.003, 0.2, 60).tolist(), key=lambda t: _loss(scores[fit] / t, fit)
    )
    posterior = _softmax(scores / temperature)
    is_right = posterior.argmax(axis=1) == np.arange(len(codes))
    values = _told("one temperature", posterior.max(axis=1)[test], is_right[test])
    features = _features(scores, posterior, codes, places_m)
    for penalty in PENALTIES:
        sure = _logistic(features, is_right, fit, penalty=penalty)
        values += _told(f"logistic, penalty {penalty:g}", sure[test], is_right[test])
    for decay in DECAYS:
        fitted = _softmax(_metric(queries, codes, fit, temperature, decay=decay))
        right = fitted.argmax(axis=1) == np.arange(len(codes))
        values += _told(f"metric, decay {decay:g}", fitted.max(axis=1)[test], right[test])
    within = " to ".join(f"{within_m:.0f}" for within_m in MASS_WITHIN_M[:: len(MASS_WITHIN_M) - 1])
    write_record(
        "surer",
        title="How sure one can be in Manhattan",
        meaning=_MEANING.format(num=features.shape[1], within=within),
        values=values,
        command="python -m benchmarks.sdk_surer unionsquare5k.npz",
    )


def _told(name: str, confidence: Floats, is_right: npt.NDArray[np.bool_]) -> list[Value]:
    false, true = roc(confidence[is_right], confidence[~is_right])
    return [
        share(f"{name}: sure", confidence >= SURE),
        share(f"{name}: right", is_right),
        Value(f"{name}: area under the ROC of right ones", round(area_under(false, true), 3), ""),
    ]


def _features(scores: Floats, posterior: Floats, codes: Floats, places_m: Floats) -> Floats:
    """Return what might tell whether the best place is right, (Q, F)."""
    best = posterior.argmax(axis=1)
    ranked = -np.sort(-scores, axis=1)
    apart_m = np.linalg.norm(places_m[best][:, None] - places_m[None], axis=2)
    near = (apart_m < 30) & (apart_m > 0)
    alike = codes @ codes.T
    closest = -np.sort(-alike, axis=1)[:, 1:6].mean(axis=1)  # codes, but itself
    columns = [
        _logit(posterior.max(axis=1)),
        ranked[:, 0],
        *(ranked[:, 0] - ranked[:, rank] for rank in (1, 4, 49)),
        scores.mean(axis=1),
        scores.std(axis=1),
        -(posterior * np.log(posterior + 1e-12)).sum(axis=1),
        closest[best],
        _mean(scores, near) - ranked[:, 0],
        _mean(alike[best], near),
        *(_logit((posterior * (apart_m < within_m)).sum(axis=1)) for within_m in MASS_WITHIN_M),
    ]
    return np.stack(columns, axis=1)


def _logistic(
    features: Floats, is_right: npt.NDArray[np.bool_], fit: npt.NDArray[np.int64], *, penalty: float
) -> Floats:
    """Return the probability that each is right, by Newton's method."""
    scaled = (features - features[fit].mean(axis=0)) / features[fit].std(axis=0)
    inputs = np.column_stack([np.ones(len(scaled)), np.clip(scaled, -4, 4)])
    weights = np.zeros(inputs.shape[1])
    for _ in range(40):
        told = 1 / (1 + np.exp(-inputs[fit] @ weights))
        slope = inputs[fit].T @ (is_right[fit] - told) - penalty * weights
        curve = (inputs[fit] * (told * (1 - told))[:, None]).T @ inputs[fit]
        weights += np.linalg.solve(curve + penalty * np.eye(len(weights)), slope)
    return np.asarray(1 / (1 + np.exp(-inputs @ weights)))


def _metric(
    queries: Floats, codes: Floats, fit: npt.NDArray[np.int64], temperature: float, *, decay: float
) -> Floats:
    """Return logits by a bilinear form of queries and codes, and a quadratic one of codes."""
    asked, places, own = torch.tensor(queries), torch.tensor(codes), torch.tensor(fit)
    start = torch.eye(DIM, dtype=torch.float64) / temperature
    bilinear = start.clone().requires_grad_()
    quadratic = torch.zeros_like(start, requires_grad=True)
    steps = torch.optim.LBFGS([bilinear, quadratic], max_iter=150, line_search_fn="strong_wolfe")

    def logits(rows: torch.Tensor) -> torch.Tensor:
        return asked[rows] @ bilinear @ places.T + ((places @ quadratic) * places).sum(dim=1)

    def loss() -> torch.Tensor:
        steps.zero_grad()
        moved = ((bilinear - start) ** 2).sum() + (quadratic**2).sum()
        value = cross_entropy(logits(own), own) + decay / 100 * moved
        value.backward()  # type: ignore[no-untyped-call]
        return value

    steps.step(loss)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        return np.asarray(logits(torch.arange(len(queries))).numpy())


def _loss(logits: Floats, own: Sequence[int] | npt.NDArray[np.int64]) -> float:
    return -float(np.log(_softmax(logits)[np.arange(len(own)), own]).mean())


def _softmax(logits: Floats) -> Floats:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def _mean(values: Floats, chosen: npt.NDArray[np.bool_]) -> Floats:
    return np.asarray((values * chosen).sum(axis=1) / np.maximum(chosen.sum(axis=1), 1))


def _logit(share: Floats) -> Floats:
    share = np.clip(share, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(share / (1 - share)))


if __name__ == "__main__":
    main()
