"""Stop a training in the middle, as Ctrl-C or a crash does."""

from typing import Any

import pytest

import geofix_train.fit
import geofix_train.step
from geofix_train.batches import Batch


def stop_before(monkeypatch: pytest.MonkeyPatch, stop: int) -> None:
    """Let a training break off when `stop` steps are done."""
    real = geofix_train.step.take_step

    def step(model: Any, optimizers: Any, batch: Batch, config: Any) -> Any:
        if batch.step == stop:
            raise KeyboardInterrupt
        return real(model, optimizers, batch, config)

    monkeypatch.setattr(geofix_train.fit, "take_step", step)
