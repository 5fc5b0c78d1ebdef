"""The multi-similarity loss beside plain loops over pairs, and its gradient beside differences."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from geofix_train.config import ObjectiveConfig
from geofix_train.fit import fit
from geofix_train.objective import multi_similarity
from tests.geofix_train.tiny_data import tiny_config

CONFIG = ObjectiveConfig(alpha=1.5, beta=40.0, threshold=0.1, margin=0.2)
Rows = list[list[float]]
Flags = list[list[bool]]


def loss_by_loop(positive: list[float], similarity: Rows, is_negative: Flags) -> float:
    """Return arXiv 1904.06627, equations 11, 12 and 16, over pairs one by one."""
    alpha, beta, lam, margin = 1.5, 40.0, 0.1, 0.2
    total = 0.0
    for i, p in enumerate(positive):
        hardest, push = -math.inf, 0.0
        for k, s in enumerate(similarity[i]):
            if not is_negative[i][k]:
                continue
            hardest = max(hardest, s)
            if s > p - margin:  # equation 11: harder than the hardest (the only) positive
                push += math.exp(beta * (s - lam))
        pull = math.exp(-alpha * (p - lam)) if p < hardest + margin else 0.0  # equation 12
        total += math.log1p(pull) / alpha + math.log1p(push) / beta
    return total / len(positive)


def drawn(seed: int) -> tuple[list[float], Rows, Flags]:
    """Return similarities; no pair stands within 0.001 of the margin, where the loss jumps."""
    rng = np.random.default_rng(seed)
    positive = rng.uniform(-0.2, 0.9, 9)
    similarity = rng.uniform(-0.6, 0.6, (9, 12))
    near = np.abs(similarity - positive[:, None] + CONFIG.margin) < 1e-3
    similarity[near] += 4e-3
    is_negative = rng.uniform(size=(9, 12)) < 0.4
    is_negative[0] = False
    return positive.tolist(), similarity.tolist(), is_negative.tolist()


def loss_of(positive: Tensor, similarity: Tensor, is_negative: Flags) -> Tensor:
    return multi_similarity(positive, similarity, torch.tensor(is_negative), CONFIG)


@pytest.mark.parametrize("seed", range(5))
def test_the_loss_is_that_of_a_double_loop_with_mining(seed: int) -> None:
    positive, similarity, is_negative = drawn(seed)
    easy = [
        not any(s > p - 0.2 for s, flag in zip(row, flags, strict=True) if flag)
        for p, row, flags in zip(positive, similarity, is_negative, strict=True)
    ]
    assert 0 < sum(easy) < len(easy)  # rows with and without a pair that is learned from
    got = loss_of(
        torch.tensor(positive, dtype=torch.float64),
        torch.tensor(similarity, dtype=torch.float64),
        is_negative,
    )
    assert float(got) == pytest.approx(loss_by_loop(positive, similarity, is_negative), rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_the_gradient_is_that_of_finite_differences(seed: int) -> None:
    positive, similarity, is_negative = drawn(seed)
    p = torch.tensor(positive, dtype=torch.float64, requires_grad=True)
    s = torch.tensor(similarity, dtype=torch.float64, requires_grad=True)
    loss_of(p, s, is_negative).backward()  # type: ignore[no-untyped-call]
    assert p.grad is not None
    assert s.grad is not None
    step = 1e-6
    for i in range(len(positive)):
        ends = []
        for sign in (1, -1):
            moved = [*positive[:i], positive[i] + sign * step, *positive[i + 1 :]]
            ends.append(loss_by_loop(moved, similarity, is_negative))
        assert float(p.grad[i]) == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-8)
        for k in range(len(similarity[i])):
            ends = []
            for sign in (1, -1):
                moved_rows = [list(row) for row in similarity]
                moved_rows[i][k] += sign * step
                ends.append(loss_by_loop(positive, moved_rows, is_negative))
            assert float(s.grad[i, k]) == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-8)


def test_a_positive_that_no_negative_comes_near_is_left_alone() -> None:
    positive = torch.tensor([0.8, 0.8], dtype=torch.float64, requires_grad=True)
    similarity = torch.tensor([[0.5], [0.7]], dtype=torch.float64)
    loss_of(positive, similarity, [[True], [True]]).backward()  # type: ignore[no-untyped-call]
    assert positive.grad is not None
    assert positive.grad[0] == 0
    assert positive.grad[1] < 0


def test_a_run_with_it_learns(data: Path, tmp_path: Path) -> None:
    config = tiny_config(data / "photos.parquet", data / "aerial", epochs=10)
    objective = replace(config.objective, loss="multi_similarity")
    run = fit(replace(config, objective=objective), tmp_path / "run")
    losses = [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert np.isfinite(losses).all()
    assert np.mean(losses[-5:]) < 0.95 * np.mean(losses[2:7])
