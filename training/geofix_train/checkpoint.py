"""The checkpoint of a run: safetensors and JSON, replaced whole or not at all."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from geofix_train.whole_file import whole_file

WEIGHTS = "checkpoint.safetensors"


class CheckpointError(ValueError):
    """A checkpoint that cannot be used."""


def save_checkpoint(
    run: Path,
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    *,
    step: int,
    prototype_cells: npt.NDArray[np.uint64] | None = None,
) -> None:
    """Write weights and optimizer state; `prototype_cells` marks the run as finished.

    Raises:
        OSError: the disk is full, or the file cannot be written; the last checkpoint is kept.
    """
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {
        f"optimizer.{which}.{number}.{name}": torch.as_tensor(value)
        for which, optimizer in enumerate(optimizers)
        for number, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }
    if prototype_cells is not None:
        tensors["prototype_cells"] = torch.from_numpy(prototype_cells.view(np.int64).copy())
    # The step stands inside the file: weights and progress can never disagree.
    progress = {"step": json.dumps(step), "finished": json.dumps(prototype_cells is not None)}
    with whole_file(run / WEIGHTS) as part:
        save_file({name: value.contiguous() for name, value in tensors.items()}, part, progress)


def load_checkpoint(
    run: Path, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]
) -> int:
    """Restore model and optimizers; return the step to go on with, 0 for a new run."""
    path = run / WEIGHTS
    if not path.exists():
        return 0
    tensors, step, _ = _read(path)
    states: list[dict[int, dict[str, Any]]] = [{} for _ in optimizers]
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, which, number, key = name.split(".", 3)
            is_count = value.ndim == 0 and value.dtype == torch.int64  # SparseAdam counts in int
            states[int(which)].setdefault(int(number), {})[key] = (
                int(value.item()) if is_count else value
            )
    weights = {n.removeprefix("model."): v for n, v in tensors.items() if n.startswith("model.")}
    load_weights(model, weights, run)
    for optimizer, state in zip(optimizers, states, strict=True):
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    return step


def load_finished(run: Path) -> tuple[dict[str, Tensor], npt.NDArray[np.uint64]]:
    """Return the model's weights and the cells of its prototypes from a finished run."""
    path = run / WEIGHTS
    if not path.exists():
        raise CheckpointError(f"{run}: no {WEIGHTS}; is it a run folder of geofix-train fit?")
    tensors, step, finished = _read(path)
    if not finished:
        raise CheckpointError(f"{run}: training stopped at step {step}: run fit again to go on")
    cells = tensors["prototype_cells"].numpy().view(np.uint64)
    model = {n.removeprefix("model."): v for n, v in tensors.items() if n.startswith("model.")}
    return model, cells


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], run: Path) -> None:
    """Set a model's weights; raise CheckpointError where they belong to another model."""
    try:
        model.load_state_dict(weights)
    except RuntimeError as e:
        reasons = " ".join(str(e).split())
        raise CheckpointError(f"{run}: the weights belong to another model: {reasons}") from e


def _read(path: Path) -> tuple[dict[str, Tensor], int, bool]:
    from safetensors import safe_open

    try:
        tensors = load_file(path)
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, Any] = file.metadata() or {}
        return tensors, json.loads(metadata["step"]), json.loads(metadata["finished"])
    except (SafetensorError, KeyError, ValueError) as e:
        raise CheckpointError(f"{path}: unreadable: {e}") from e
