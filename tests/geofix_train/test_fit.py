import json
import logging
import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import geofix_train.fit
import geofix_train.step
from geofix_train.batches import Batch
from geofix_train.checkpoint import WEIGHTS, CheckpointError, load_finished
from geofix_train.config import ConfigError, FitConfig
from geofix_train.fit import fit
from geofix_train.model import best_device, device_name
from geofix_train.photo_table import TableError
from geofix_train.run_folder import LEFT_OUT
from tests.geofix_train.stopping import stop_before
from tests.geofix_train.tiny_data import FRAME, HALF_M, tiny_config, write_data

STEPS = 12  # of the tiny settings: 32 training photos, 8 a batch, 3 epochs
NUM = 40  # photos


@pytest.fixture
def config(data: Path) -> FitConfig:
    """Return settings of a short training on the tiny data set."""
    return config_of(data)


def config_of(folder: Path, **run: Any) -> FitConfig:
    return tiny_config(folder / "photos.parquet", folder / "aerial", **run)


def logged_steps(run: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()]


# STEPS // 3 is the first step of the second epoch; 2 is the step that prototypes start at.
@pytest.mark.parametrize("stop", [1, 2, STEPS // 3, STEPS - 1])
def test_a_stopped_run_goes_on_to_the_weights_of_an_unbroken_one(
    config: FitConfig, tmp_path: Path, stop: int
) -> None:
    whole = fit(config, tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        stop_before(patch, stop)
        with pytest.raises(KeyboardInterrupt):
            fit(config, tmp_path / "stopped")
    with pytest.raises(CheckpointError, match=f"training stopped at step {stop}:"):
        load_finished(tmp_path / "stopped")
    resumed = fit(config, tmp_path / "stopped")
    wanted, got = load_file(whole / WEIGHTS), load_file(resumed / WEIGHTS)
    assert set(wanted) == set(got)
    for name, value in wanted.items():
        torch.testing.assert_close(got[name], value, rtol=0, atol=0, msg=name)
    assert logged_steps(resumed) == logged_steps(whole)


def test_a_run_says_what_it_runs_on_and_from_where_it_goes_on(
    config: FitConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="geofix_train")
    device = device_name(best_device())
    with pytest.MonkeyPatch.context() as patch:
        stop_before(patch, 5)
        with pytest.raises(KeyboardInterrupt):
            fit(config, tmp_path / "run")
    fit(config, tmp_path / "run")
    fit(config, tmp_path / "run")
    messages = caplog.messages
    assert messages.pop(2).startswith(f"trained: {STEPS} steps, loss=")
    assert messages == [
        f"training on the {device}, {STEPS} steps",
        f"going on from step 5 of {STEPS}, on the {device}",
        f"finished already: {STEPS} of {STEPS} steps",
    ]


def test_a_run_that_stopped_before_its_first_checkpoint_begins_again(
    config: FitConfig, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stop_before(patch, 0)
        with pytest.raises(KeyboardInterrupt):
            fit(config, tmp_path / "run")
    assert (tmp_path / "run" / "config.json").exists()
    load_finished(fit(config, tmp_path / "run"))


def test_another_seed_gives_other_weights(data: Path, tmp_path: Path) -> None:
    runs = [fit(config_of(data, seed=seed), tmp_path / str(seed)) for seed in (0, 1)]
    one, other = (load_finished(run)[0]["prototypes.weight"] for run in runs)
    assert not torch.equal(one, other)


def test_the_log_has_a_line_for_each_step_and_prototypes_join_after_the_warm_up(
    config: FitConfig, tmp_path: Path
) -> None:
    run = fit(config, tmp_path / "run")
    assert logged_steps(run) == list(range(1, STEPS + 1))
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    num_warm = config.run.warmup_steps
    assert ["ground_to_prototype" in line for line in lines] == [False] * num_warm + [True] * (
        STEPS - num_warm
    )
    for line in lines:
        assert np.isfinite([float(value) for value in line.values()]).all()


def test_a_finished_run_is_left_as_it_is(config: FitConfig, tmp_path: Path) -> None:
    run = fit(config, tmp_path / "run")
    before = load_file(run / WEIGHTS)
    fit(config, run)
    for name, value in load_file(run / WEIGHTS).items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, msg=name)
    assert logged_steps(run) == list(range(1, STEPS + 1))


def test_a_folder_with_other_settings_is_an_error(config: FitConfig, tmp_path: Path) -> None:
    run = fit(config, tmp_path / "run")
    kept = (run / WEIGHTS).read_bytes()
    other = replace(config, run=replace(config.run, learning_rate=0.5))
    with pytest.raises(ConfigError, match=re.escape(f"{run} holds a run with other settings")):
        fit(other, run)
    assert (run / WEIGHTS).read_bytes() == kept
    assert FitConfig.from_json((run / "config.json").read_text()) == config


def test_a_loss_that_is_not_a_number_stops_at_its_step_and_keeps_the_checkpoint(
    config: FitConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = geofix_train.step._losses, iter(range(STEPS))

    def losses(*arguments: Any, **options: Any) -> Iterator[tuple[str, Tensor]]:
        bad = float("nan") if next(calls) == 3 else 1.0
        for name, value in real(*arguments, **options):
            yield name, value * bad

    monkeypatch.setattr(geofix_train.step, "_losses", losses)
    with pytest.raises(FloatingPointError, match=r"\bstep [34]\b"):
        fit(config, tmp_path / "run")
    with pytest.raises(CheckpointError, match="stopped at step 3:"):
        load_finished(tmp_path / "run")
    for value in load_file(tmp_path / "run" / WEIGHTS).values():
        assert value.isfinite().all()


def test_photos_elsewhere_are_an_error_that_names_both_places(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = write_data(tmp_path, num=NUM, lat=rng.uniform(40, 40.01, NUM))
    wanted = r"no photo lies in the imagery, which is around 47\.\d+, 8\.\d+; .* at 40\.0"
    with pytest.raises(TableError, match=wanted):
        fit(config_of(folder), tmp_path / "run")


def test_swapped_latitude_and_longitude_are_recognized(tmp_path: Path) -> None:
    latlon = FRAME.latlon(np.random.default_rng(0).uniform(-HALF_M, HALF_M, (NUM, 2)))
    folder = write_data(tmp_path, num=NUM, lat=latlon[:, 1], lon=latlon[:, 0])
    with pytest.raises(TableError, match="with lat and lon swapped some do"):
        fit(config_of(folder), tmp_path / "run")


def test_a_batch_of_more_photos_than_there_are_is_an_error(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch_size is 33, more than the 32 training photos"):
        fit(config_of(data, batch_size=33), tmp_path / "run")


def test_a_table_without_training_photos_is_an_error(tmp_path: Path) -> None:
    folder = write_data(tmp_path, num=NUM, split=["test"] * NUM)
    with pytest.raises(TableError, match=r"photos\.parquet: no photo has split 'train'"):
        fit(config_of(folder), tmp_path / "run")


def test_no_cell_with_enough_photos_is_an_error_that_tells_the_most(
    data: Path, tmp_path: Path
) -> None:
    config = tiny_config(data / "photos.parquet", data / "aerial", min_images=33)
    with pytest.raises(ConfigError, match=r"min_images = 33 training photos; the fullest has \d+"):
        fit(config, tmp_path / "run")


def test_an_unreadable_photo_stops_unless_it_may_be_left_out(tmp_path: Path) -> None:
    folder = write_data(tmp_path, num=NUM)
    (folder / "000.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"000\.png"):
        fit(config_of(folder), tmp_path / "run")
    load_finished(fit(config_of(folder), tmp_path / "run", on_error="skip"))


@pytest.mark.parametrize("warmup_steps", [0, 2])
def test_a_table_without_imagery_trains_too(data: Path, tmp_path: Path, warmup_steps: int) -> None:
    config = tiny_config(data / "photos.parquet", warmup_steps=warmup_steps)
    run = fit(config, tmp_path / "run")
    weights, cells = load_finished(run)
    assert len(weights["prototypes.weight"]) == len(cells)
    assert "ground_to_aerial" not in (run / "log.jsonl").read_text()


def test_a_table_without_splits_is_all_for_training(tmp_path: Path) -> None:
    folder = write_data(tmp_path, num=NUM, split=[""] * NUM)
    run = fit(config_of(folder), tmp_path / "run")
    assert len(logged_steps(run)) == NUM // 8 * 3


def test_a_run_shorter_than_the_warm_up_has_prototypes_too(data: Path, tmp_path: Path) -> None:
    run = fit(config_of(data, warmup_steps=1000), tmp_path / "run")
    weights, _ = load_finished(run)
    assert (weights["prototypes.weight"].norm(dim=1) > 0.1).all()


def test_what_was_left_out_is_listed_in_the_run_folder(tmp_path: Path) -> None:
    folder = write_data(tmp_path, num=NUM)
    (folder / "000.png").write_bytes(b"no picture")
    (folder / "001.png").unlink()
    run = fit(config_of(folder), tmp_path / "run", on_error="skip")
    lines = (run / LEFT_OUT).read_text().splitlines()
    assert [line.split(":")[0] for line in lines] == ["row 2 (001.png)", "row 1 (000.png)"]


@pytest.mark.parametrize("labels", ["hard", "bilinear", "frustum"])
def test_every_kind_of_label_trains(data: Path, tmp_path: Path, labels: str) -> None:
    config = config_of(data)
    code_level = 15 if labels == "hard" else 16
    objective = replace(config.objective, labels=labels, code_level=code_level)
    config = replace(config, objective=objective)
    run = fit(config, tmp_path / labels)
    losses = [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert np.mean(losses[-3:]) < np.mean(losses[2:5])


def test_a_run_on_some_of_the_negatives_trains_and_another_share_gives_other_numbers(
    data: Path, tmp_path: Path
) -> None:
    weights: list[torch.Tensor] = []
    for share in (1.0, 0.5, 0.5):
        config = config_of(data)
        config = replace(config, objective=replace(config.objective, negative_share=share))
        run = fit(config, tmp_path / str(len(weights)))
        weights.append(load_finished(run)[0]["prototypes.weight"])
    assert torch.equal(weights[1], weights[2])
    assert not torch.equal(weights[0], weights[1])


def test_a_start_that_failed_leaves_the_folder_free_for_other_settings(
    data: Path, tmp_path: Path
) -> None:
    wrong = tiny_config(tmp_path / "none.csv")
    with pytest.raises(TableError, match=r"none\.csv: no such file"):
        fit(wrong, tmp_path / "run")
    load_finished(fit(config_of(data), tmp_path / "run"))


def test_ctrl_c_saves_the_step_and_the_same_call_goes_on(
    config: FitConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background
    real = geofix_train.step.take_step

    def step(model: Any, optimizers: Any, batch: Batch, config: Any) -> Any:
        if batch.step == 5:
            signal.raise_signal(signal.SIGINT)
        return real(model, optimizers, batch, config)

    slow = replace(config, run=replace(config.run, checkpoint_seconds=3600.0))
    with monkeypatch.context() as patch:
        patch.setattr(geofix_train.fit, "take_step", step)
        with pytest.raises(KeyboardInterrupt):
            fit(slow, tmp_path / "run")
    assert logged_steps(tmp_path / "run") == list(range(1, 7))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    fit(slow, tmp_path / "run")
    assert logged_steps(tmp_path / "run") == list(range(1, STEPS + 1))
