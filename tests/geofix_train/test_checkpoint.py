from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from geofix_train.checkpoint import (
    WEIGHTS,
    CheckpointError,
    load_checkpoint,
    load_finished,
    save_checkpoint,
)

CELLS = np.array([2**63 + 5, 3], np.uint64)


class Trained:
    """A small model with optimizers that have taken some steps."""

    def __init__(self, *, seed: int = 0, width: int = 3, num_steps: int = 2) -> None:
        torch.manual_seed(seed)
        net, table = (
            nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width)),
            nn.Embedding(6, 2, sparse=True),
        )
        self.model = nn.ModuleDict({"net": net, "table": table})
        self.optimizers = (
            torch.optim.AdamW(net.parameters(), lr=0.1),
            torch.optim.SparseAdam(table.parameters(), lr=0.1),
        )
        for _ in range(num_steps):
            self.step()

    def step(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        (self.model["net"](torch.randn(6, 4)) ** 3).sum().backward()
        (self.model["table"](torch.randint(6, (3,))) ** 3).sum().backward()
        for optimizer in self.optimizers:
            optimizer.step()

    def weights(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.model.state_dict().items()}

    def save(self, run: Path, *, step: int, finished: bool = False) -> None:
        cells = CELLS if finished else None
        save_checkpoint(run, self.model, self.optimizers, step=step, prototype_cells=cells)


@pytest.fixture
def trained() -> Trained:
    """Return a model after two steps."""
    return Trained()


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert set(one) == set(other)
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=0, atol=0)


def test_a_new_run_starts_at_step_0(trained: Trained, tmp_path: Path) -> None:
    before = trained.weights()
    assert load_checkpoint(tmp_path, trained.model, trained.optimizers) == 0
    assert_equal(trained.weights(), before)


def test_a_restored_run_goes_on_to_the_same_weights(trained: Trained, tmp_path: Path) -> None:
    trained.save(tmp_path, step=7)
    other = Trained(seed=1, num_steps=0)
    assert load_checkpoint(tmp_path, other.model, other.optimizers) == 7
    assert_equal(other.weights(), trained.weights())
    for run in (trained, other):  # the optimizer's memory came along, too
        torch.manual_seed(5)
        run.step()
    assert_equal(other.weights(), trained.weights())


def test_a_later_checkpoint_replaces_the_earlier(trained: Trained, tmp_path: Path) -> None:
    trained.save(tmp_path, step=1)
    trained.step()
    trained.save(tmp_path, step=2)
    assert load_checkpoint(tmp_path, trained.model, trained.optimizers) == 2
    assert [path.name for path in tmp_path.iterdir()] == [WEIGHTS]


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained.save(tmp_path, step=1)
    kept = load_file(tmp_path / WEIGHTS)

    def fail(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", fail)
    trained.step()
    with pytest.raises(OSError, match="no space"):
        trained.save(tmp_path, step=2)
    assert_equal(load_file(tmp_path / WEIGHTS), kept)


def test_a_finished_run_gives_weights_and_cells(trained: Trained, tmp_path: Path) -> None:
    trained.save(tmp_path, step=9, finished=True)
    weights, cells = load_finished(tmp_path)
    assert_equal(weights, trained.weights())
    assert cells.dtype == np.uint64
    np.testing.assert_array_equal(cells, CELLS)


def test_an_unfinished_run_is_refused_with_its_step(trained: Trained, tmp_path: Path) -> None:
    trained.save(tmp_path, step=7)
    with pytest.raises(CheckpointError, match="training stopped at step 7: run fit again"):
        load_finished(tmp_path)


def test_a_folder_without_a_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=rf"{tmp_path}: no {WEIGHTS}; is it a run folder"):
        load_finished(tmp_path)


@pytest.mark.parametrize("kept_bytes", [0, 5, 200, -1])
def test_a_truncated_file_is_refused(trained: Trained, tmp_path: Path, kept_bytes: int) -> None:
    trained.save(tmp_path, step=7, finished=True)
    path = tmp_path / WEIGHTS
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(CheckpointError, match=rf"{WEIGHTS}: unreadable"):
        load_finished(tmp_path)
    with pytest.raises(CheckpointError, match=rf"{WEIGHTS}: unreadable"):
        load_checkpoint(tmp_path, trained.model, trained.optimizers)


@pytest.mark.parametrize("width", [2, 5])
def test_a_checkpoint_of_another_model_is_refused(
    trained: Trained, tmp_path: Path, width: int
) -> None:
    trained.save(tmp_path, step=7)
    other = Trained(width=width)
    with pytest.raises(CheckpointError, match=r"weights belong to another model"):
        load_checkpoint(tmp_path, other.model, other.optimizers)
