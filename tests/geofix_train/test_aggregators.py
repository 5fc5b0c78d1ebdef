import pytest
import torch
from torch import Tensor

from geofix_train.aggregators import (
    SINKHORN_ITERATIONS,
    Gem,
    Mean,
    Salad,
    make_aggregator,
    sinkhorn,
)
from geofix_train.config import ModelConfig


def tokens_of(num: int, *, channels: int = 12) -> tuple[Tensor, Tensor]:
    """Return feature maps and their means."""
    tokens = torch.randn(num, channels, 5, 7, generator=torch.manual_seed(0))
    return tokens, tokens.mean(dim=(2, 3))


def norms(vectors: Tensor) -> Tensor:
    return torch.sqrt((vectors * vectors).sum(dim=1))


@pytest.mark.parametrize(("num_clusters", "num_tokens"), [(4, 30), (8, 8), (16, 4)])
def test_each_token_goes_somewhere_whole(num_clusters: int, num_tokens: int) -> None:
    scores = 3 * torch.randn(5, num_clusters, num_tokens, generator=torch.manual_seed(0))
    plan = sinkhorn(scores, torch.tensor(1.0), iterations=SINKHORN_ITERATIONS)
    assert plan.shape == (5, num_clusters + 1, num_tokens)
    assert (plan >= 0).all()
    torch.testing.assert_close(plan.sum(dim=1), torch.ones(5, num_tokens))


def test_after_many_iterations_each_cluster_takes_one_token_and_the_dustbin_the_rest() -> None:
    scores = torch.randn(2, 4, 30, generator=torch.manual_seed(0))
    plan = sinkhorn(scores, torch.tensor(1.0), iterations=200)
    wanted = torch.tensor([1.0, 1.0, 1.0, 1.0, 26.0]).expand(2, 5)
    torch.testing.assert_close(plan.sum(dim=2), wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("spread", [1.0, 1e3])
def test_gradients_of_the_transport_are_finite(spread: float) -> None:
    scores = (spread * torch.randn(2, 4, 30, generator=torch.manual_seed(0))).requires_grad_()
    dustbin = torch.tensor(1.0, requires_grad=True)
    plan = sinkhorn(scores, dustbin, iterations=SINKHORN_ITERATIONS)
    (plan[:, :-1] ** 2).sum().backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    assert dustbin.grad is not None
    assert torch.isfinite(scores.grad).all()
    assert torch.isfinite(dustbin.grad)


@pytest.mark.parametrize("channels", [12, 600])  # wider than SALAD's own layers, too
def test_salad_descriptors_have_unit_length_and_the_stated_size(channels: int) -> None:
    salad = Salad(channels, num_clusters=4, cluster_dim=6, global_dim=10)
    descriptors = salad(*tokens_of(3, channels=channels))
    assert descriptors.shape == (3, salad.dim) == (3, 4 * 6 + 10)
    torch.testing.assert_close(norms(descriptors), torch.ones(3))


def test_salad_does_not_care_where_a_token_lies() -> None:
    salad = Salad(12, num_clusters=4, cluster_dim=6, global_dim=10)
    tokens, mean = tokens_of(2)
    shuffled = tokens.flatten(2)[:, :, torch.randperm(35)].reshape(2, 12, 5, 7)
    torch.testing.assert_close(salad(shuffled, mean), salad(tokens, mean))


def test_the_global_token_makes_the_last_part_of_salad_and_nothing_else() -> None:
    salad = Salad(12, num_clusters=4, cluster_dim=6, global_dim=10)
    tokens, mean = tokens_of(2)
    one, other = salad(tokens, mean), salad(tokens, -mean)
    torch.testing.assert_close(one[:, :24], other[:, :24])
    assert (one[:, 24:] - other[:, 24:]).abs().max() > 0.01


def test_full_size_salad_is_that_of_the_paper() -> None:
    config = ModelConfig(num_clusters=64, cluster_dim=128, global_dim=256)
    assert make_aggregator(config, 768).dim == 8448


@torch.no_grad()
def test_mean_and_generalized_mean_are_what_they_say() -> None:
    tokens, mean = tokens_of(3)
    found = make_aggregator(ModelConfig(aggregator="mean"), 12)(tokens, -mean)
    torch.testing.assert_close(found, mean / norms(mean)[:, None])
    gem = make_aggregator(ModelConfig(aggregator="gem"), 12)(tokens, -mean)
    cubes = (tokens.clamp(min=1e-6) ** 3).mean(dim=(2, 3)) ** (1 / 3)
    torch.testing.assert_close(gem, cubes / norms(cubes)[:, None])


@pytest.mark.parametrize("aggregator", [Mean(12), Gem(12)], ids=["mean", "gem"])
def test_gradients_reach_tokens_through_means(aggregator: torch.nn.Module) -> None:
    tokens, mean = tokens_of(3)
    tokens.requires_grad_()
    aggregator(tokens, mean)[:, 0].sum().backward()
    assert tokens.grad is not None
    assert torch.isfinite(tokens.grad).all()
    assert tokens.grad.abs().max() > 0
