"""What stops a training, and that the run can go on: full disks, stops, files of other runs."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

import geofix_train.checkpoint
import geofix_train.step
from geofix_train.batches import Batch
from geofix_train.checkpoint import WEIGHTS, CheckpointError, load_finished
from geofix_train.config import ConfigError, FitConfig
from geofix_train.fit import fit
from geofix_train.model import Model
from tests.geofix_train.tiny_data import tiny_config, write_toml

MAIN = "import sys; from geofix_train.cli import main; sys.exit(main(sys.argv[1:]))"
STEPS = 12  # of the tiny settings: 32 training photos, 8 a batch, 3 epochs


@pytest.fixture
def config(data: Path) -> FitConfig:
    """Return settings of a short training that writes a checkpoint after every step."""
    return tiny_config(data / "photos.parquet", data / "aerial")


def fill_disk_at(monkeypatch: pytest.MonkeyPatch, number: int, error: Exception) -> None:
    """Let the disk be full when half of the checkpoint `number` is written, counted from 1."""
    calls = iter(range(1, 1000))

    def save_file(tensors: Any, path: Path, metadata: Any) -> None:
        safetensors.torch.save_file(tensors, path, metadata)
        if next(calls) == number:
            os.truncate(path, path.stat().st_size // 2)
            raise error

    monkeypatch.setattr(geofix_train.checkpoint, "save_file", save_file)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        ),
    ],
    ids=["of Python", "of the writer"],
)
def test_a_full_disk_leaves_the_last_checkpoint_and_no_half_file(
    config: FitConfig, tmp_path: Path, error: Exception
) -> None:
    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        fill_disk_at(patch, 5, error)
        with pytest.raises(OSError, match="No space left on device"):
            fit(config, run)
    with pytest.raises(CheckpointError, match="training stopped at step 4:"):
        load_finished(run)
    assert not list(run.glob("*.part"))
    whole = load_file(fit(config, tmp_path / "whole") / WEIGHTS)
    for name, value in load_file(fit(config, run) / WEIGHTS).items():
        torch.testing.assert_close(value, whole[name], rtol=0, atol=0, msg=name)


def test_a_resumed_run_on_a_full_disk_keeps_its_settings_and_its_log(
    config: FitConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    fill_disk_at(monkeypatch, 5, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(OSError, match="No space"):
        fit(config, run)
    kept = (run / "config.json").read_bytes()
    real = Path.write_text

    def write_text(path: Path, text: str, *arguments: Any, **options: Any) -> int:
        if path.name in ("config.json", "log.jsonl"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, text, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", write_text)
    fit(config, run)
    assert (run / "config.json").read_bytes() == kept
    steps = [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert steps == list(range(1, STEPS + 1))


def test_a_real_limit_on_files_stops_with_a_sentence_and_the_run_goes_on(
    config: FitConfig, tmp_path: Path
) -> None:
    # The limit lets the photos and the log through, but no checkpoint.
    size = (fit(config, tmp_path / "whole") / WEIGHTS).stat().st_size
    toml = write_toml(config, tmp_path / "my.toml")
    run = tmp_path / "run"
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size // 2},) * 2)"
    limited = subprocess.run(
        [sys.executable, "-c", f"{limit}\n{MAIN}", "fit", str(toml), "-o", str(run)],
        capture_output=True,
        text=True,
    )
    assert limited.returncode == 1, limited.stderr
    said = limited.stderr.splitlines()[-1]
    assert said.startswith("geofix-train: ")
    assert "File too large" in said
    assert not (run / WEIGHTS).exists()
    assert not list(run.glob("*.part"))
    load_finished(fit(config, run))


def test_an_interrupted_process_stops_with_a_sentence_and_the_same_command_goes_on(
    config: FitConfig, tmp_path: Path
) -> None:
    long = replace(config, run=replace(config.run, epochs=2000, checkpoint_seconds=3600.0))
    toml = write_toml(long, tmp_path / "my.toml")
    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, "fit", str(toml), "-o", str(run)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    log = run / "log.jsonl"
    until = time.monotonic() + 120
    while not (log.exists() and log.read_text().count("\n") > 3):
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "geofix-train: stopped; the same command goes on from here"
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    with pytest.raises(CheckpointError, match=f"training stopped at step {steps[-1]}:"):
        load_finished(run)
    assert steps == list(range(1, len(steps) + 1))
    assert (run / "log.png").exists()


def test_a_loss_that_is_not_a_number_names_the_photos_of_its_batch(
    config: FitConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, drawn = geofix_train.step._losses, []

    def losses(model: Model, batch: Batch, config: FitConfig) -> Iterator[tuple[str, Tensor]]:
        drawn.append(batch.paths)
        return _spoilt(real(model, batch, config), len(drawn) == 4)

    monkeypatch.setattr(geofix_train.step, "_losses", losses)
    with pytest.raises(FloatingPointError) as caught:
        fit(config, tmp_path / "run")
    assert re.match("loss is nan at step 4; the batch starts", str(caught.value))
    named = re.findall(r"\d{3}\.png", str(caught.value))
    assert named == drawn[3]
    assert len(named) == 4
    with pytest.raises(CheckpointError, match="training stopped at step 3:"):
        load_finished(tmp_path / "run")


def _spoilt(losses: Iterator[tuple[str, Tensor]], is_bad: bool) -> Iterator[tuple[str, Tensor]]:
    for name, value in losses:
        yield name, value * (float("nan") if is_bad else 1.0)


def test_a_checkpoint_of_a_run_with_another_model_is_refused(
    config: FitConfig, tmp_path: Path
) -> None:
    run = fit(config, tmp_path / "run")
    wider = replace(config, model=replace(config.model, dim=20))
    other = fit(wider, tmp_path / "other")
    shutil.copy(other / WEIGHTS, run / WEIGHTS)
    with pytest.raises(CheckpointError, match="the weights belong to another model"):
        fit(config, run)
    assert (run / WEIGHTS).read_bytes() == (other / WEIGHTS).read_bytes()


def test_a_checkpoint_over_other_cells_is_refused(config: FitConfig, tmp_path: Path) -> None:
    run = fit(config, tmp_path / "run")
    coarser = replace(config.objective, prototype_level=13, code_level=14)
    other = fit(replace(config, objective=coarser), tmp_path / "other")
    assert len(load_finished(other)[1]) < len(load_finished(run)[1])
    shutil.copy(other / WEIGHTS, run / WEIGHTS)
    with pytest.raises(CheckpointError, match="the weights belong to another model"):
        fit(config, run)


def test_a_checkpoint_without_settings_is_refused(config: FitConfig, tmp_path: Path) -> None:
    run = fit(config, tmp_path / "run")
    (run / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"run: no config\.json, want a run folder"):
        fit(config, run)


def test_a_finished_and_a_resumed_run_have_a_picture_of_their_losses(
    config: FitConfig, tmp_path: Path
) -> None:
    run = fit(config, tmp_path / "run")
    first = (run / "log.png").read_bytes()
    (run / "log.png").unlink()
    fit(config, run)
    assert (run / "log.png").read_bytes() == first
