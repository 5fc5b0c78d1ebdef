import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from geofix_train.config import ObjectiveConfig
from geofix_train.objective import (
    info_nce,
    multi_similarity,
    pair_loss,
)

LAT, LON = 47.37, 8.54
LEVEL, CODE_LEVEL = 15, 16
CONFIG = ObjectiveConfig(
    temperature=0.07, alpha=1.5, beta=40.0, threshold=0.1, margin=0.2, loss="info_nce"
)


@pytest.fixture
def similarities() -> tuple[Tensor, Tensor, Tensor]:
    """Return similarities with positives (B,), with candidates (B, K), and which are negatives."""
    rng = np.random.default_rng(0)
    positive = rng.uniform(0.2, 0.8, 7)
    similarity = rng.uniform(-0.5, 0.9, (7, 11))
    is_negative = rng.uniform(size=(7, 11)) < 0.7
    similarity[:, 0], is_negative[:, 0] = positive + 0.05, True  # a hard one in every row
    return torch.tensor(positive), torch.tensor(similarity), torch.tensor(is_negative)


def test_info_nce_is_the_cross_entropy_of_the_formula(
    similarities: tuple[Tensor, Tensor, Tensor],
) -> None:
    positive, similarity, is_negative = (part.tolist() for part in similarities)
    losses = []
    for p, row, flags in zip(positive, similarity, is_negative, strict=True):
        whole = math.exp(p / 0.07)
        whole += sum(math.exp(s / 0.07) for s, flag in zip(row, flags, strict=True) if flag)
        losses.append(-math.log(math.exp(p / 0.07) / whole))
    assert float(info_nce(*similarities, CONFIG)) == pytest.approx(np.mean(losses))


def test_multi_similarity_is_the_formula_over_hard_pairs(
    similarities: tuple[Tensor, Tensor, Tensor],
) -> None:
    positive, similarity, is_negative = (part.tolist() for part in similarities)
    alpha, beta, lam, margin = 1.5, 40.0, 0.1, 0.2
    losses = []
    for p, row, flags in zip(positive, similarity, is_negative, strict=True):
        pull = math.log(1 + math.exp(-alpha * (p - lam))) / alpha
        hard = [s for s, flag in zip(row, flags, strict=True) if flag and s > p - margin]
        assert hard
        push = math.log(1 + sum(math.exp(beta * (s - lam)) for s in hard)) / beta
        losses.append(pull + push)
    assert float(multi_similarity(*similarities, CONFIG)) == pytest.approx(np.mean(losses))


@pytest.mark.parametrize("name", ["info_nce", "multi_similarity"])
def test_what_is_no_negative_does_not_count(
    similarities: tuple[Tensor, Tensor, Tensor], name: str
) -> None:
    positive, similarity, is_negative = similarities
    config = replace(CONFIG, loss=name)
    loss = pair_loss(positive, similarity, is_negative, config)
    changed = torch.where(is_negative, similarity, torch.rand_like(similarity))
    assert (changed != similarity).any()
    assert pair_loss(positive, changed, is_negative, config) == loss


def test_negatives_easier_than_the_margin_are_not_learned_from() -> None:
    positive = torch.tensor([0.8])
    flags = torch.tensor([[True, True]])
    easy = multi_similarity(positive, torch.tensor([[0.75, 0.59]]), flags, CONFIG)
    easier = multi_similarity(positive, torch.tensor([[0.75, -0.9]]), flags, CONFIG)
    hard = multi_similarity(positive, torch.tensor([[0.75, 0.61]]), flags, CONFIG)
    assert easy == easier < hard


@pytest.mark.parametrize("name", ["info_nce", "multi_similarity"])
def test_a_loss_falls_with_its_positive_and_rises_with_hard_negatives(
    similarities: tuple[Tensor, Tensor, Tensor], name: str
) -> None:
    positive, similarity, is_negative = similarities
    positive.requires_grad_()
    similarity.requires_grad_()
    loss = pair_loss(positive, similarity, is_negative, replace(CONFIG, loss=name))
    loss.backward()  # type: ignore[no-untyped-call]
    assert positive.grad is not None
    assert similarity.grad is not None
    assert (positive.grad < 0).all()
    assert (similarity.grad >= 0).all()
    assert (similarity.grad[:, 0] > 0).all()
    assert (similarity.grad[~is_negative] == 0).all()


@pytest.mark.parametrize("name", ["info_nce", "multi_similarity"])
def test_a_row_without_negatives_has_a_finite_loss(name: str) -> None:
    loss = pair_loss(
        torch.tensor([0.3, 0.5]),
        torch.zeros(2, 4),
        torch.zeros(2, 4, dtype=torch.bool),
        replace(CONFIG, loss=name),
    )
    assert torch.isfinite(loss)
