"""Confidence intervals by drawing groups of photos with replacement (percentile bootstrap).

Photos of a sequence are found or missed together, so sequences are drawn, not photos: intervals
over photos would be too narrow.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95
_DRAWN_AT_ONCE = 2_000_000  # draws x photos, of 8 bytes each

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bootstrap:
    """The same draws of groups for everything that is measured on the same photos."""

    group: npt.NDArray[np.intp]  # (Q,) of each photo, from 0
    num_groups: int
    num_resamples: int = 1000
    seed: int = 0

    @classmethod
    def of_sequences(
        cls, sequence: npt.NDArray[np.str_], *, num_resamples: int = 1000, seed: int = 0
    ) -> "Bootstrap":
        """Return draws of sequences (Q,); a photo whose sequence is empty is one by itself."""
        names, group = np.unique(sequence, return_inverse=True)
        alone = np.flatnonzero(sequence == "")
        group[alone] = len(names) + np.arange(len(alone))
        found, group = np.unique(group, return_inverse=True)
        return cls(group, len(found), num_resamples, seed)

    def of_shares(self, hits: npt.NDArray[np.bool_]) -> Floats:
        """Return low and high of the share of photos that hit, (F, 2), for F columns (Q, F).

        NaN where there is one group: nothing tells how much groups differ. Where all photos hit, or
        none does, low and high are the same.
        """
        return self._of_means(hits.astype(np.float64))

    def of_differences(self, hits: npt.NDArray[np.bool_], others: npt.NDArray[np.bool_]) -> Floats:
        """Return low and high of how much more photos hit than `others`, both (Q, F), as (F, 2).

        Paired: both shares are taken over the same drawn photos. NaN as in `of_shares`.
        """
        return self._of_means(hits.astype(np.float64) - others)

    def of_median(self, values: npt.ArrayLike) -> Floats:
        """Return low and high of the median of values (Q,), as (2,); NaN as in `of_shares`."""
        values = np.asarray(values, float)
        order = np.argsort(values)
        ordered, group = values[order], self.group[order]
        medians = [_weighted_median(ordered, drawn[:, group]) for drawn in self._draws()]
        return self._interval(np.concatenate(medians))

    def _of_means(self, values: Floats) -> Floats:
        """Return low and high of the mean over photos, (F, 2), for F columns (Q, F)."""
        by_group = np.zeros((self.num_groups, values.shape[1]))
        np.add.at(by_group, self.group, values)
        sizes = np.bincount(self.group, minlength=self.num_groups)
        means = [(drawn @ by_group) / (drawn @ sizes)[:, None] for drawn in self._draws()]
        return self._interval(np.concatenate(means))

    def _draws(self) -> Iterator[Floats]:
        """Yield how often each group was drawn, (draws, num_groups), in parts."""
        rng = np.random.default_rng(self.seed)
        at_once = max(1, _DRAWN_AT_ONCE // len(self.group))
        evenly = np.full(self.num_groups, 1 / self.num_groups)
        for start in range(0, self.num_resamples, at_once):
            size = min(at_once, self.num_resamples - start)
            yield rng.multinomial(self.num_groups, evenly, size=size).astype(np.float64)

    def _interval(self, measured: npt.NDArray[Any]) -> Floats:
        """Return low and high over the draws (draws, ...), as (..., 2)."""
        tail = (1 - CONFIDENCE) / 2
        ends = np.moveaxis(np.quantile(measured, [tail, 1 - tail], axis=0), 0, -1)
        return np.asarray(ends if self.num_groups > 1 else np.full_like(ends, np.nan))


def _weighted_median(ordered: Floats, weights: Floats) -> Floats:
    """Return the median of ordered values (Q,) for each row of whole weights (draws, Q)."""
    reached = weights.cumsum(axis=1)
    half = reached[:, -1:] / 2
    lower, upper = (reached >= half).argmax(axis=1), (reached > half).argmax(axis=1)
    return np.asarray((ordered[lower] + ordered[upper]) / 2)
