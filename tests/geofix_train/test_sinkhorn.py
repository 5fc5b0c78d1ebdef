"""Optimal transport of tokens to clusters, beside plain loops over shares (not logarithms)."""

import math

import pytest
import torch

from geofix_train.aggregators import SINKHORN_ITERATIONS, sinkhorn


def plan_by_loop(scores: list[list[float]], dustbin: float, iterations: int) -> list[list[float]]:
    """Return the plan of one image by Sinkhorn and Knopp: scale rows, then columns, in turn."""
    num_clusters, num_tokens = len(scores), len(scores[0])
    plan = [[math.exp(s) for s in row] for row in [*scores, [dustbin] * num_tokens]]
    room = [1.0] * num_clusters + [float(max(num_tokens - num_clusters, 1))]
    for _ in range(iterations):
        for row, wanted in zip(plan, room, strict=True):
            whole = sum(row)
            row[:] = [share * wanted / whole for share in row]
        for token in range(num_tokens):
            whole = sum(row[token] for row in plan)
            for row in plan:
                row[token] /= whole
    return plan


@pytest.mark.parametrize("iterations", [1, SINKHORN_ITERATIONS, 50])
@pytest.mark.parametrize(("num_clusters", "num_tokens"), [(4, 30), (8, 8), (6, 4)])
def test_the_plan_is_that_of_loops(num_clusters: int, num_tokens: int, iterations: int) -> None:
    generator = torch.manual_seed(0)
    scores = 2 * torch.randn(3, num_clusters, num_tokens, generator=generator, dtype=torch.float64)
    dustbin = torch.tensor(0.7, dtype=torch.float64)
    plans = sinkhorn(scores, dustbin, iterations=iterations)
    for plan, of_image in zip(plans, scores, strict=True):
        wanted = torch.tensor(plan_by_loop(of_image.tolist(), 0.7, iterations)).double()
        torch.testing.assert_close(plan, wanted, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("num_clusters", "num_tokens"), [(4, 30), (7, 8)])
def test_in_the_limit_both_marginals_hold(num_clusters: int, num_tokens: int) -> None:
    scores = torch.randn(2, num_clusters, num_tokens, generator=torch.manual_seed(1)).double()
    plan = sinkhorn(scores, torch.tensor(0.3).double(), iterations=2000)
    room = torch.tensor([1.0] * num_clusters + [float(num_tokens - num_clusters)]).double()
    torch.testing.assert_close(plan.sum(dim=2), room.expand(2, -1), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(plan.sum(dim=1), torch.ones(2, num_tokens).double())
