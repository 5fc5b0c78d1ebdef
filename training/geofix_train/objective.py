"""What training minimizes: losses over pairs, and prototypes interpolated between cells."""

import torch
from torch import Tensor, nn
from torch.nn import functional

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
    pull = pull.masked_fill(~hard.any(dim=1), 0.0)
    push = config.beta * (similarity - config.threshold)
    push = push.masked_fill(~hard, -torch.inf)
    zero = push.new_zeros(len(push), 1)  # the 1 in log(1 + sum exp)
    return (pull + torch.cat([zero, push], dim=1).logsumexp(dim=1) / config.beta).mean()


def interpolate(prototypes: nn.Embedding, rows: Tensor, weights: Tensor) -> Tensor:
    """Return mixed prototypes of unit length, (N, D); all weights 0 gives a zero row.

    Args:
        prototypes: (C, D), of any length: the unit vectors along them are mixed.
        rows: (N, K) into `prototypes`.
        weights: (N, K).
    """
    parts = functional.normalize(prototypes(rows), dim=-1)  # (N, K, D)
    return functional.normalize((parts * weights[..., None]).sum(dim=1), dim=1)
