"""What training minimizes: the multi-similarity loss, and prototypes interpolated between cells."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from geofix_index import cells
from geofix_index.sphere import great_circle_m
from geofix_train.config import ObjectiveConfig


def pair_loss(
    positive: Tensor, similarity: Tensor, is_negative: Tensor, config: ObjectiveConfig
) -> Tensor:
    """Return the loss of one pair of kinds by `config.loss`; arguments as of the losses."""
    losses = {"info_nce": info_nce, "multi_similarity": multi_similarity}
    return losses[config.loss](positive, similarity, is_negative, config)


def info_nce(
    positive: Tensor, similarity: Tensor, is_negative: Tensor, config: ObjectiveConfig
) -> Tensor:
    """Return the mean cross-entropy of picking the positive among the negatives.

    InfoNCE (arXiv 1807.03748, equation 4) with one positive a row.

    Args:
        positive: (B,) similarity of each row with its positive.
        similarity: (B, K) similarity of each row with the candidates.
        is_negative: (B, K) bool, which candidates are negatives of the row.
        config: temperature.
    """
    negatives = similarity.masked_fill(~is_negative, -torch.inf)
    logits = torch.cat([positive[:, None], negatives], dim=1) / config.temperature
    return -logits.log_softmax(dim=1)[:, 0].mean()


def multi_similarity(
    positive: Tensor, similarity: Tensor, is_negative: Tensor, config: ObjectiveConfig
) -> Tensor:
    """Return the mean multi-similarity loss (arXiv 1904.06627, equation 16), one positive a row.

    Pairs easier than the margin are left out: a negative counts where it comes within the margin
    of the positive, a positive where a negative comes within the margin of it.

    Args:
        positive: (B,) similarity of each row with its positive.
        similarity: (B, K) similarity of each row with the candidates.
        is_negative: (B, K) bool, which candidates are negatives of the row.
        config: alpha, beta, threshold, margin.
    """
    hard = is_negative & (similarity > positive[:, None] - config.margin)
    pull = functional.softplus(-config.alpha * (positive - config.threshold)) / config.alpha
    push = config.beta * (similarity - config.threshold)
    push = push.masked_fill(~hard, -torch.inf)
    zero = push.new_zeros(len(push), 1)  # the 1 in log(1 + sum exp)
    return (pull + torch.cat([zero, push], dim=1).logsumexp(dim=1) / config.beta).mean()


class PrototypeGrid:
    """Which cells have a prototype, and how a position mixes them.

    Rows of the prototype table follow `cells`, which is sorted. `candidates` are the cells of
    `code_level` below them, for which prototypes are upsampled.
    """

    def __init__(
        self, cells_with_photos: npt.NDArray[np.uint64], *, level: int, code_level: int
    ) -> None:
        self.cells = np.unique(cells_with_photos)
        self.level = level
        self.code_level = code_level
        self.candidates = cells.descendants(self.cells, level=code_level)
        self._candidate_centres = cells.latlon_from_cell(self.candidates)
        self.candidate_mix = self.mix(*self._candidate_centres.T)

    def mix(
        self, lat: npt.NDArray[np.float64], lon: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
        """Return rows (N, 4) of the four nearest cells and their bilinear weights (N, 4).

        Cells without a prototype get weight 0 and the rest is renormalized; where none of the
        four has one, all weights are 0.
        """
        near, weights = cells.bilinear_cells(lat, lon, level=self.level)
        rows = np.minimum(np.searchsorted(self.cells, near), len(self.cells) - 1)
        weights = np.where(self.cells[rows] == near, weights, 0.0)
        total = weights.sum(axis=1, keepdims=True)
        return rows, np.divide(weights, total, where=total > 0, out=weights).astype(np.float32)

    def negatives(
        self, lat: npt.NDArray[np.float64], lon: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.bool_]:
        """Return which candidates (N, F) are negatives of positions: farther than one cell edge."""
        distance = great_circle_m(lat[:, None], lon[:, None], *self._candidate_centres.T)
        return np.asarray(distance > cells.mean_edge_m(self.code_level))


def interpolate(prototypes: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Return mixed prototypes of unit length, (N, D); all weights 0 gives a zero row.

    Args:
        prototypes: (C, D), rows of unit length.
        rows: (N, 4) into `prototypes`.
        weights: (N, 4).
    """
    return functional.normalize((prototypes[rows] * weights[..., None]).sum(dim=1), dim=1)
