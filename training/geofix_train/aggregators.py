"""From a backbone's feature map to one descriptor: SALAD, and two plain means to compare it with.

An aggregator takes a feature map (B, C, h, w) and a global token (B, C), the backbone's class token
or the mean of the map; it returns (B, `dim`) of unit length.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from geofix_train.config import ModelConfig

SINKHORN_ITERATIONS = 3
_MAX_HIDDEN = 512  # width of SALAD's perceptrons, as it was published; less where C is less
_GEM_POWER = 3.0  # at the start of training


class Salad(nn.Module):
    """Aggregates patch tokens by optimal transport to clusters.

    SALAD (arXiv 2311.15937, section 3): tokens are assigned to m clusters and a dustbin, by
    Sinkhorn in log space; each cluster sums the features assigned to it; the sums and a global
    token make up the descriptor.
    """

    def __init__(self, channels: int, *, num_clusters: int, cluster_dim: int, global_dim: int):
        super().__init__()
        self.num_clusters = num_clusters
        hidden = min(channels, _MAX_HIDDEN)
        self.scores = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, num_clusters, 1)
        )
        self.features = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, cluster_dim, 1)
        )
        self.summary = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, global_dim)
        )
        self.dustbin = nn.Parameter(torch.tensor(1.0))
        self.dim = num_clusters * cluster_dim + global_dim

    def forward(self, tokens: Tensor, global_token: Tensor) -> Tensor:
        """Return descriptors (B, dim) of unit length."""
        # In float32, also where layers run in bfloat16: Sinkhorn takes differences of logarithms.
        scores = self.scores(tokens).flatten(2).float()  # (B, m, n)
        assignment = sinkhorn(scores, self.dustbin, iterations=SINKHORN_ITERATIONS)
        features = self.features(tokens).flatten(2)  # (B, d, n)
        clusters = features @ assignment[:, : self.num_clusters].transpose(1, 2)  # (B, d, m)
        local = functional.normalize(clusters, dim=1).flatten(1)
        summary = functional.normalize(self.summary(global_token), dim=1)
        return functional.normalize(torch.cat([local, summary], dim=1), dim=1)


class Mean(nn.Module):
    """Averages the tokens."""

    def __init__(self, channels: int):
        super().__init__()
        self.dim = channels

    def forward(self, tokens: Tensor, global_token: Tensor) -> Tensor:
        """Return descriptors (B, C) of unit length; the global token is not used."""
        return functional.normalize(tokens.mean(dim=(2, 3)), dim=1)


class Gem(nn.Module):
    """Averages a learned power of the tokens (generalized mean, arXiv 1711.02512, section 3.2)."""

    def __init__(self, channels: int):
        super().__init__()
        self.power = nn.Parameter(torch.tensor(_GEM_POWER))
        self.dim = channels

    def forward(self, tokens: Tensor, global_token: Tensor) -> Tensor:
        """Return descriptors (B, C) of unit length; the global token is not used."""
        means = tokens.clamp(min=1e-6).pow(self.power).mean(dim=(2, 3))
        return functional.normalize(means.pow(1 / self.power), dim=1)


def make_aggregator(config: ModelConfig, channels: int) -> "Salad | Mean | Gem":
    """Return the aggregator of the settings for feature maps of `channels`."""
    if config.aggregator == "mean":
        return Mean(channels)
    if config.aggregator == "gem":
        return Gem(channels)
    return Salad(
        channels,
        num_clusters=config.num_clusters,
        cluster_dim=config.cluster_dim,
        global_dim=config.global_dim,
    )


def sinkhorn(scores: Tensor, dustbin: Tensor, *, iterations: int) -> Tensor:
    """Return how much of each token goes to each cluster and to the dustbin.

    Marginals as in SuperGlue (arXiv 1911.11763, section 3.2): every token gives 1; every cluster
    takes 1 and the dustbin the n - m tokens that are left (at least 1).

    Args:
        scores: (B, m, n) similarity of m clusters and n tokens.
        dustbin: scalar score of the dustbin.
        iterations: of row and column normalization.

    Returns:
        (B, m + 1, n), dustbin last; each column sums to 1.
    """
    batch, num_clusters, num_tokens = scores.shape
    bins = dustbin.expand(batch, 1, num_tokens)
    log_plan = torch.cat([scores, bins], dim=1)
    rest = float(max(num_tokens - num_clusters, 1))
    room = torch.cat([scores.new_ones(num_clusters), scores.new_full((1,), rest)]).log()
    for _ in range(iterations):
        log_plan = log_plan - log_plan.logsumexp(dim=2, keepdim=True) + room[:, None]
        log_plan = log_plan - log_plan.logsumexp(dim=1, keepdim=True)
    return log_plan.exp()
