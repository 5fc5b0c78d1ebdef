"""Encoders: an image in, a unit-length embedding out.

Images enter as (B, H, W, 3) uint8 RGB, and normalization happens inside, so that what is exported
is exactly what was trained. Nothing here depends on the data, so every encoder exports as it is.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from geofix_train.config import ModelConfig

PATCH_PX = 8  # side of the squares that the first layer cuts an image into
SINKHORN_ITERATIONS = 3
_MEAN = (118.0, 118.0, 114.0)  # of street photos and orthophotos, 0 to 255
_SCALE = (62.0, 62.0, 62.0)
_NUM_PATCHES = 20_000  # that the first layer starts from
_MIN_VARIANCE = 0.01  # weaker components are noise and are not blown up further


class Salad(nn.Module):
    """Aggregates patch tokens by optimal transport to clusters.

    SALAD (arXiv 2311.15937, section 3): tokens are assigned to m clusters and a dustbin, by
    Sinkhorn in log space; each cluster sums the features assigned to it; the sums and a global
    token make up the descriptor.
    """

    def __init__(self, channels: int, *, num_clusters: int, cluster_dim: int, global_dim: int):
        super().__init__()
        self.num_clusters = num_clusters
        self.scores = nn.Sequential(
            nn.Conv2d(channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, num_clusters, 1)
        )
        self.features = nn.Sequential(
            nn.Conv2d(channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, cluster_dim, 1)
        )
        self.summary = nn.Sequential(
            nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, global_dim)
        )
        self.dustbin = nn.Parameter(torch.tensor(1.0))
        self.dim = num_clusters * cluster_dim + global_dim

    def forward(self, tokens: Tensor) -> Tensor:
        """Return descriptors (B, dim) of unit length from a feature map (B, channels, h, w)."""
        # In float32, also where layers run in bfloat16: Sinkhorn takes differences of logarithms.
        scores = self.scores(tokens).flatten(2).float()  # (B, m, n)
        assignment = sinkhorn(scores, self.dustbin, iterations=SINKHORN_ITERATIONS)
        features = self.features(tokens).flatten(2)  # (B, d, n)
        clusters = features @ assignment[:, : self.num_clusters].transpose(1, 2)  # (B, d, m)
        local = functional.normalize(clusters, dim=1).flatten(1)
        summary = functional.normalize(self.summary(tokens.mean(dim=(2, 3))), dim=1)
        return functional.normalize(torch.cat([local, summary], dim=1), dim=1)


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


class _Block(nn.Module):
    """A residual 3 x 3 convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.norm(self.conv(x)))


def _down(channels_in: int, channels_out: int, kernel: int, stride: int) -> nn.Sequential:
    padding = (kernel - stride + 1) // 2
    conv = nn.Conv2d(channels_in, channels_out, kernel, stride, padding, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out), nn.ReLU())


class Encoder(nn.Module):
    """A small convolutional network with SALAD on top: 0.3 million weights at width 32."""

    mean: Tensor
    scale: Tensor

    def __init__(self, config: ModelConfig):
        super().__init__()
        width = config.width
        self.backbone = nn.Sequential(
            _down(3, 2 * width, PATCH_PX, PATCH_PX),
            _Block(2 * width),
            _down(2 * width, 4 * width, 3, 2),
            _Block(4 * width),
        )
        self.aggregator = Salad(
            4 * width,
            num_clusters=config.num_clusters,
            cluster_dim=config.cluster_dim,
            global_dim=2 * width,
        )
        self.projection = nn.Linear(self.aggregator.dim, config.dim)
        self.register_buffer("mean", torch.tensor(_MEAN), persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE), persistent=False)

    @torch.no_grad()
    def start_from(self, images: Tensor, generator: torch.Generator) -> None:
        """Let the first layer start from the principal components of patches of images.

        Each is whitened, and there twice with opposite signs, since a ReLU follows. A layer that
        starts at random spends a good part of a short training on finding them.

        Args:
            images: (N, H, W, 3), 0 to 255.
            generator: draws the patches.
        """
        stem = self.backbone[0][0]  # type: ignore[index]
        pixels = ((images.float() - self.mean) / self.scale).permute(0, 3, 1, 2)
        patches = functional.unfold(pixels, PATCH_PX, stride=PATCH_PX).transpose(1, 2).flatten(0, 1)
        chosen = torch.randperm(len(patches), generator=generator)[:_NUM_PATCHES]
        patches = patches[chosen] - patches[chosen].mean(dim=0)
        variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
        num = len(stem.weight) // 2
        scale = (variances[-num:] + _MIN_VARIANCE).sqrt()
        filters = (directions[:, -num:] / scale).T.flip(0)
        stem.weight.copy_(torch.cat([filters, -filters]).view_as(stem.weight))

    def forward(self, images: Tensor) -> Tensor:
        """Embed images (B, H, W, 3), 0 to 255; return (B, dim), each row of unit length."""
        pixels = ((images.float() - self.mean) / self.scale).permute(0, 3, 1, 2)
        descriptor = self.aggregator(self.backbone(pixels))
        # float32 from here on: losses and searches tell embeddings apart by less than bfloat16 can.
        return functional.normalize(self.projection(descriptor).float(), dim=1)
