"""Compiled encoders give the same embeddings, and keep the names of their weights."""

import functools
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from geofix_train.compiled import compile_encoders
from geofix_train.config import ModelConfig
from geofix_train.model import Encoder


@pytest.fixture
def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(ModelConfig(width=8, num_clusters=4, cluster_dim=4, dim=16))


@pytest.fixture
def images() -> Tensor:
    return torch.rand(4, 24, 32, 3, generator=torch.Generator().manual_seed(1)) * 255


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Compile without a C compiler; return what was compiled."""
    real, compiled = torch.compile, list[Any]()

    def compile(function: Any, **options: Any) -> Any:
        compiled.append(options)
        return real(function, backend="aot_eager", **options)

    monkeypatch.setattr(torch, "compile", compile)
    return compiled


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own
def test_a_compiled_encoder_gives_the_same_embeddings_and_weights(
    encoder: Encoder, images: Tensor, calls: list[Any]
) -> None:
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    plain = encoder.eval()(images)
    assert compile_encoders((encoder, images))
    assert calls
    assert all(options == {"dynamic": False} for options in calls)
    after = encoder.state_dict()
    assert list(after) == list(before)
    for name, value in after.items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, msg=name)
    assert all(parameter.grad is None for parameter in encoder.parameters())
    torch.testing.assert_close(encoder(images), plain)
    torch.testing.assert_close(encoder.forward(images), plain, rtol=0, atol=0)


def test_where_nothing_compiles_one_warning_tells_it_and_encoders_run_plain(
    encoder: Encoder, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = encoder.eval()(images)

    def compile(function: Any, **options: Any) -> Any:
        def fail(*arguments: Any) -> Any:
            raise RuntimeError("Failed to find C compiler\nat some place")

        return functools.wraps(function)(fail)

    monkeypatch.setattr(torch, "compile", compile)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert not compile_encoders((encoder, images), (encoder, images))
    assert [str(warning.message) for warning in caught] == [
        "encoders are not compiled, training is slower: Failed to find C compiler"
    ]
    torch.testing.assert_close(encoder(images), plain, rtol=0, atol=0)
