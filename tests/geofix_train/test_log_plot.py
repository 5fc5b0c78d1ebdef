"""The picture of a run's losses."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import geofix_train.log_plot
from geofix_train.log_plot import LOG, LOG_PLOT, draw_log, read_log, smooth


def write_log(run: Path, *, num_steps: int = 100) -> None:
    """Write a log whose prototypes join after ten steps."""
    lines = []
    for step in range(1, num_steps + 1):
        losses = {"loss": 5.0 / step, "ground_to_aerial": 2.0 / step}
        if step > 10:
            losses["ground_to_prototype"] = 3.0 / step
        lines.append(json.dumps({"step": step, **losses}))
    (run / LOG).write_text("\n".join(lines) + "\n")


def test_a_log_is_read_by_loss(tmp_path: Path) -> None:
    write_log(tmp_path)
    losses = read_log(tmp_path)
    assert list(losses) == ["loss", "ground_to_aerial", "ground_to_prototype"]
    steps, values = losses["ground_to_prototype"]
    assert steps.tolist() == list(range(11, 101))
    np.testing.assert_allclose(values, 3.0 / steps)


def test_a_smoothed_value_is_the_mean_of_the_last_ones() -> None:
    values = np.random.default_rng(0).normal(size=20)
    wanted = [values[max(0, at - 3) : at + 1].mean() for at in range(20)]
    np.testing.assert_allclose(smooth(values, window=4), wanted)
    np.testing.assert_allclose(smooth(values, window=1), values)


def test_the_losses_are_drawn(tmp_path: Path) -> None:
    write_log(tmp_path)
    assert draw_log(tmp_path)
    with Image.open(tmp_path / LOG_PLOT) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    for colour in ((0, 0, 0), (86, 180, 233), (230, 159, 0)):
        assert (np.abs(pixels - colour).sum(axis=2) < 12).sum() > 200


def test_a_run_without_a_step_has_no_picture(tmp_path: Path) -> None:
    (tmp_path / LOG).write_text("")
    assert not draw_log(tmp_path)
    assert not (tmp_path / LOG_PLOT).exists()


def test_without_matplotlib_there_is_no_picture_and_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_log(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert not draw_log(tmp_path)


def test_a_folder_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_log(tmp_path)
    monkeypatch.setattr(geofix_train.log_plot, "LOG_PLOT", "none/log.png")
    assert not draw_log(tmp_path)
