import pytest
import torch
from torch import Tensor

from geofix_train.config import ModelConfig
from geofix_train.model import Encoder, device_name

SMALL = ModelConfig(width=8, num_clusters=4, cluster_dim=4, dim=16)


@pytest.fixture
def encoder() -> Encoder:
    """Return an encoder whose batch norm has seen some images."""
    torch.manual_seed(0)
    encoder = Encoder(SMALL)
    encoder(images(8))
    return encoder.eval()


def images(num: int, *, height: int = 48, width: int = 64, seed: int = 0) -> Tensor:
    generator = torch.manual_seed(seed)
    return torch.randint(0, 256, (num, height, width, 3), dtype=torch.uint8, generator=generator)


def norms(vectors: Tensor) -> Tensor:
    return torch.sqrt((vectors * vectors).sum(dim=1))


@pytest.mark.parametrize("is_training", [True, False])
def test_embeddings_have_unit_length_and_the_asked_dimensions(
    encoder: Encoder, is_training: bool
) -> None:
    embeddings = encoder.train(is_training)(images(6, seed=1))
    assert embeddings.shape == (6, SMALL.dim)
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(norms(embeddings), torch.ones(6))


@pytest.mark.parametrize(("height", "width"), [(24, 32), (96, 128), (50, 70)])
def test_an_encoder_takes_images_of_any_size(encoder: Encoder, height: int, width: int) -> None:
    embeddings = encoder(images(2, height=height, width=width))
    torch.testing.assert_close(norms(embeddings), torch.ones(2))


@torch.no_grad()
def test_an_image_alone_embeds_as_in_a_batch(encoder: Encoder) -> None:
    batch = images(6, seed=1)
    together = encoder(batch)
    for row in range(len(batch)):
        torch.testing.assert_close(encoder(batch[row : row + 1])[0], together[row])


@torch.no_grad()
def test_bytes_and_floats_embed_alike(encoder: Encoder) -> None:
    batch = images(4, seed=1)
    torch.testing.assert_close(encoder(batch.float()), encoder(batch), rtol=0, atol=0)


@torch.no_grad()
def test_another_image_has_another_embedding(encoder: Encoder) -> None:
    one, other = encoder(torch.stack([torch.zeros(48, 64, 3), torch.full((48, 64, 3), 255.0)]))
    assert float(one @ other) < 0.999


@torch.no_grad()
def test_a_black_image_has_an_embedding_too(encoder: Encoder) -> None:
    torch.testing.assert_close(norms(encoder(torch.zeros(1, 48, 64, 3))), torch.ones(1))


def test_every_weight_of_an_encoder_learns(encoder: Encoder) -> None:
    encoder.train()
    # The sum of squares of unit vectors is constant: its gradient says nothing.
    encoder(images(4, seed=1))[:, 0].sum().backward()
    still = [name for name, p in encoder.named_parameters() if p.grad is None]
    assert still == []
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters() if p.grad is not None)


def test_scaling_constants_are_no_weights(encoder: Encoder) -> None:
    assert not {"mean", "scale"} & set(encoder.state_dict())


def test_messages_call_a_gpu_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100")
    assert device_name(torch.device("cuda")) == "GPU NVIDIA H100"
    assert device_name(torch.device("cpu")) == "CPU"
