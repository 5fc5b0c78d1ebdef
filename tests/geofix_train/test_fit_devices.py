"""Training on a GPU gives what training on the CPU gives, and bfloat16 stays inside the encoders.

What needs CUDA is skipped where there is none.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import geofix_train.compiled
import geofix_train.fit
import geofix_train.loop
import geofix_train.step
from geofix_train.batches import Batch, make_batch
from geofix_train.checkpoint import load_checkpoint, load_finished
from geofix_train.codes import encode_run
from geofix_train.config import FitConfig
from geofix_train.fit import fit
from geofix_train.model import Model, make_encoders
from geofix_train.start import start_encoders, start_prototypes
from geofix_train.step import compile_for, make_optimizers, take_step
from geofix_train.training_data import TrainingData, load_training_data
from tests.geofix_train.stopping import stop_before
from tests.geofix_train.tiny_data import tiny_config

LOSSES = ("info_nce", "multi_similarity")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture(params=LOSSES)
def config(data: Path, request: pytest.FixtureRequest) -> FitConfig:
    """Return settings of a short training with each loss; some photos look old."""
    config = tiny_config(data / "photos.parquet", data / "aerial", old_share=0.3)
    return replace(config, objective=replace(config.objective, loss=request.param))


@pytest.fixture
def data_set(config: FitConfig) -> TrainingData:
    return load_training_data(config)


@pytest.fixture
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Train on the CPU also where there is a GPU."""
    with monkeypatch.context() as patch:
        patch.setattr(geofix_train.fit, "best_device", lambda: torch.device("cpu"))
        patch.setattr(geofix_train.loop, "best_device", lambda: torch.device("cpu"))
        yield patch


def started(data: TrainingData, config: FitConfig, device: str = "cpu") -> tuple[Model, Any]:
    """Return a model that has started, and its optimizers."""
    torch.manual_seed(config.run.seed)
    model = Model(*make_encoders(config), len(data.grid.cells)).to(device)
    optimizers = make_optimizers(model, config)
    start_encoders(model, data, config)
    start_prototypes(model, data)
    return model, optimizers


def batch_of(data: TrainingData, config: FitConfig, step: int = 0) -> Batch:
    return make_batch(data, config, step, with_prototypes=True)


def test_losses_of_encoders_in_bfloat16_are_close_and_in_float32(
    data_set: TrainingData, config: FitConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = started(data_set, config)
    batch = batch_of(data_set, config)
    wanted = dict(geofix_train.step._losses(model, batch, config))
    coarse = torch.autocast("cpu", torch.bfloat16)
    monkeypatch.setattr(geofix_train.step, "bf16_where_faster", lambda device: coarse)
    got = dict(geofix_train.step._losses(model, batch, config))
    assert list(got) == list(wanted)
    for name, loss in got.items():
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, wanted[name], rtol=0.02, atol=0.005)
        assert loss != wanted[name], "nothing was computed in bfloat16"


def test_embeddings_of_encoders_in_bfloat16_have_unit_length(
    data_set: TrainingData, config: FitConfig
) -> None:
    model, _ = started(data_set, config)
    plain = model.ground(batch_of(data_set, config).photos)
    with torch.autocast("cpu", torch.bfloat16):
        embeddings = model.ground(batch_of(data_set, config).photos)
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(len(embeddings)))
    assert (embeddings * plain).sum(dim=1).min() > 0.99


def test_a_step_in_bfloat16_learns(
    data_set: TrainingData, config: FitConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    coarse = torch.autocast("cpu", torch.bfloat16)
    monkeypatch.setattr(geofix_train.step, "bf16_where_faster", lambda device: coarse)
    model, optimizers = started(data_set, config)
    batch = batch_of(data_set, config)
    losses = [take_step(model, optimizers, batch, config)["loss"] for _ in range(8)]
    assert losses[-1] < losses[0]


@needs_cuda
def test_a_step_on_the_gpu_has_the_losses_of_the_cpu(
    data_set: TrainingData, config: FitConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = torch.autocast("cuda", enabled=False)
    monkeypatch.setattr(geofix_train.step, "bf16_where_faster", lambda device: plain)
    logs = {}
    for device in ("cpu", "cuda"):
        model, optimizers = started(data_set, config, device)
        assert {p.device.type for p in model.parameters()} == {device}
        batches = (batch_of(data_set, config, step) for step in range(3))
        logs[device] = [take_step(model, optimizers, batch, config)["loss"] for batch in batches]
    assert logs["cuda"] == pytest.approx(logs["cpu"], rel=0.1)
    assert logs["cuda"][0] == pytest.approx(logs["cpu"][0], rel=0.01)  # before the first update


@needs_cuda
def test_a_gpu_run_is_close_to_the_cpus(
    config: FitConfig, tmp_path: Path, on_the_cpu: pytest.MonkeyPatch
) -> None:
    fit(config, tmp_path / "cpu")
    on_the_cpu.undo()
    fit(config, tmp_path / "cuda")
    cpu, cuda = (_losses(tmp_path / device) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(cuda[0], cpu[0], rtol=0.1)
    np.testing.assert_allclose(np.mean(cuda[-4:]), np.mean(cpu[-4:]), rtol=0.3)


@needs_cuda
def test_a_stopped_gpu_run_goes_on_like_an_unbroken_one(
    config: FitConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    fit(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_before(patch, 5)
        with pytest.raises(KeyboardInterrupt):
            fit(config, tmp_path / "stopped")
    _check_state(config, tmp_path / "stopped")
    fit(config, tmp_path / "stopped")
    whole, stopped = (_losses(tmp_path / name) for name in ("whole", "stopped"))
    assert len(whole) == len(stopped)
    np.testing.assert_allclose(stopped, whole, rtol=0.01)  # kernels may sum in another order


def _check_state(config: FitConfig, run: Path) -> None:
    """Check that the optimizers go on where they stopped, on the GPU."""
    data = load_training_data(config)
    model = Model(*make_encoders(config), len(data.grid.cells)).to("cuda")
    optimizers = make_optimizers(model, config)
    assert load_checkpoint(run, model, optimizers) == 5
    states = [state for optimizer in optimizers for state in optimizer.state.values()]
    assert len(states) > 10
    assert {state["exp_avg"].device.type for state in states} == {"cuda"}


@needs_cuda
@pytest.mark.parametrize("config", LOSSES[:1], indirect=True)
@pytest.mark.filterwarnings("default")  # compilers warn of much; only a failure matters
def test_encoders_compile_and_give_the_same_losses(
    data_set: TrainingData, config: FitConfig
) -> None:
    losses = []
    for is_compiled in (False, True):
        model, optimizers = started(data_set, config, "cuda")
        if is_compiled:
            assert compile_for(model, batch_of(data_set, config))
        batches = (batch_of(data_set, config, step) for step in range(4))
        losses.append([take_step(model, optimizers, b, config)["loss"] for b in batches])
    assert losses[1] == pytest.approx(losses[0], rel=0.15)
    assert not any("_orig_mod" in name for name in model.state_dict())


@needs_cuda
@pytest.mark.parametrize("config", LOSSES[:1], indirect=True)
@pytest.mark.filterwarnings("default")
def test_a_long_gpu_run_compiles_once_for_each_encoder(
    config: FitConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(geofix_train.fit, "COMPILE_FROM_STEPS", 1)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    load_finished(fit(config, tmp_path / "run"))
    num_graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert 2 <= num_graphs <= 4  # a trial and the encoder itself, for photos and tiles


@needs_cuda
def test_codes_made_on_the_gpu_are_those_of_the_cpu(
    config: FitConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fit(config, tmp_path / "run")
    fast = encode_run(run)
    monkeypatch.setattr("geofix_train.codes.best_device", lambda: torch.device("cpu"))
    plain = encode_run(run)
    for name in ("embeddings", "aerial", "prototypes", "mean_prototypes"):
        got, wanted = getattr(fast, name), getattr(plain, name)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, wanted, atol=0.01)


def _losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]
