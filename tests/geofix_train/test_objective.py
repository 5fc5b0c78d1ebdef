import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from geofix_index import cells as s2
from geofix_index.sphere import great_circle_m
from geofix_train.config import ObjectiveConfig
from geofix_train.objective import (
    PrototypeGrid,
    info_nce,
    interpolate,
    multi_similarity,
    pair_loss,
)

LAT, LON = 47.37, 8.54
LEVEL, CODE_LEVEL = 15, 16
CONFIG = ObjectiveConfig(
    temperature=0.07, alpha=1.5, beta=40.0, threshold=0.1, margin=0.2, loss="info_nce"
)


@pytest.fixture(scope="module")
def grid() -> PrototypeGrid:
    """Return a grid over a cell and all that touch it but one."""
    middle = int(s2.cell_from_latlon(LAT, LON, level=LEVEL))
    around = s2.neighbours([middle]).ravel()
    return PrototypeGrid(np.array([middle, *around[1:]]), level=LEVEL, code_level=CODE_LEVEL)


@pytest.fixture
def similarities() -> tuple[Tensor, Tensor, Tensor]:
    """Return similarities with positives (B,), with candidates (B, K), and which are negatives."""
    rng = np.random.default_rng(0)
    positive = rng.uniform(0.2, 0.8, 7)
    similarity = rng.uniform(-0.5, 0.9, (7, 11))
    is_negative = rng.uniform(size=(7, 11)) < 0.7
    similarity[:, 0], is_negative[:, 0] = positive + 0.05, True  # a hard one in every row
    return torch.tensor(positive), torch.tensor(similarity), torch.tensor(is_negative)


def places(num: int, *, seed: int = 0, reach_deg: float = 0.006) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return LAT + rng.uniform(-1, 1, num) * reach_deg, LON + rng.uniform(-1, 1, num) * reach_deg


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


def test_weights_of_a_place_sum_to_one_or_to_nothing(grid: PrototypeGrid) -> None:
    rows, weights = grid.mix(*places(500, reach_deg=0.02))
    total = weights.sum(axis=1)
    assert rows.shape == weights.shape == (500, 4)
    assert (weights >= 0).all()
    assert (total == 0).any()
    np.testing.assert_allclose(total[total > 0], 1.0, atol=1e-6)


def test_only_cells_with_a_prototype_are_mixed(grid: PrototypeGrid) -> None:
    lat, lon = places(500, reach_deg=0.02)
    rows, weights = grid.mix(lat, lon)
    near, bilinear = s2.bilinear_cells(lat, lon, level=LEVEL)
    for place in range(len(lat)):
        wanted = {
            int(cell): weight
            for cell, weight in zip(near[place], bilinear[place], strict=True)
            if cell in grid.cells and weight > 0
        }
        whole = sum(wanted.values())
        got = {
            int(grid.cells[row]): weight
            for row, weight in zip(rows[place], weights[place], strict=True)
            if weight > 0
        }
        assert got == pytest.approx({c: w / whole for c, w in wanted.items()}, abs=1e-6)


def test_negatives_are_farther_than_an_edge_of_a_code_cell(grid: PrototypeGrid) -> None:
    lat, lon = places(50)
    far = grid.negatives(lat, lon)
    centres = s2.latlon_from_cell(grid.candidates)
    distance = great_circle_m(lat[:, None], lon[:, None], *centres.T)
    assert far.shape == (50, len(grid.candidates))
    np.testing.assert_array_equal(far, distance > s2.mean_edge_m(CODE_LEVEL))
    own = s2.cell_from_latlon(lat, lon, level=CODE_LEVEL)
    assert not far[own[:, None] == grid.candidates].any()


def test_candidates_are_the_children_of_cells_with_a_prototype(grid: PrototypeGrid) -> None:
    assert len(grid.candidates) == 4 * len(grid.cells)
    np.testing.assert_array_equal(
        np.unique(s2.parent(grid.candidates, level=LEVEL)), np.sort(grid.cells)
    )
    rows, weights = grid.candidate_mix
    assert rows.shape == weights.shape == (len(grid.candidates), 4)


def test_cells_are_kept_once_and_sorted() -> None:
    cell = int(s2.cell_from_latlon(LAT, LON, level=LEVEL))
    other = int(s2.neighbours([cell]).ravel()[0])
    grid = PrototypeGrid(
        np.array([cell, other, cell], np.uint64), level=LEVEL, code_level=CODE_LEVEL
    )
    assert grid.cells.tolist() == sorted([cell, other])


def test_mixed_prototypes_have_unit_length_or_are_nothing(grid: PrototypeGrid) -> None:
    prototypes = torch.randn(len(grid.cells), 6, generator=torch.manual_seed(0))
    rows, weights = map(torch.from_numpy, grid.mix(*places(200, reach_deg=0.02)))
    mixed = interpolate(prototypes, rows, weights)
    has_any = weights.sum(dim=1) > 0
    assert not has_any.all()
    torch.testing.assert_close(mixed[has_any].norm(dim=1), torch.ones(int(has_any.sum())))
    assert not mixed[~has_any].any()


def test_a_prototype_alone_is_found_at_the_centre_of_its_cell() -> None:
    cell = s2.cell_from_latlon([LAT], [LON], level=LEVEL)
    grid = PrototypeGrid(cell, level=LEVEL, code_level=CODE_LEVEL)
    prototype = torch.nn.functional.normalize(torch.tensor([[3.0, -1.0, 2.0]]), dim=1)
    centre = s2.latlon_from_cell(cell)
    mixed = interpolate(prototype, *map(torch.from_numpy, grid.mix(*centre.T)))
    torch.testing.assert_close(mixed, prototype)


def test_at_the_centre_of_a_cell_only_its_prototype_counts(grid: PrototypeGrid) -> None:
    rows, weights = grid.mix(*s2.latlon_from_cell(grid.cells).T)
    own = np.where(rows == np.arange(len(grid.cells))[:, None], weights, 0).max(axis=1)
    np.testing.assert_allclose(own, 1.0, atol=1e-5)
