import os
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch

from benchmarks.mobilenet_v2 import convert_mobilenet
from geofix_train.architecture import load_pretrained, read_architecture
from geofix_train.backbones import PretrainedBackbone
from tests.tiny_pack import make_onnx, projection

DATA = Path(os.environ.get("GEOFIX_DATA") or Path(__file__).parents[3] / "shared" / "data")
MODEL = DATA / "mobilenet_v2_050" / "mobilenet_v2_050_224_fp32.onnx"


@pytest.mark.skipif(not MODEL.is_file(), reason=f"no real data at {DATA}; GEOFIX_DATA may name it")
@torch.no_grad()
def test_the_converted_model_gives_the_feature_maps_of_the_original(tmp_path: Path) -> None:
    folder = str(convert_mobilenet(MODEL, tmp_path / "mobilenet"))
    backbone = PretrainedBackbone(read_architecture(folder), height=224, width=224)
    backbone.take_weights(load_pretrained(folder))
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 3), dtype=np.uint8)
    images = images.repeat(8, axis=1).repeat(8, axis=2)
    found, mean = backbone.eval()(torch.from_numpy(images))
    session = ort.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    pixels = (images.transpose(0, 3, 1, 2).astype(np.float32) - 127.5) / 127.5
    (wanted,) = session.run(["fmap"], {"image": pixels})
    assert wanted.max() > 1
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-3)
    np.testing.assert_allclose(mean.numpy(), wanted.mean(axis=(2, 3)), atol=1e-3)


def test_another_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(make_onnx(projection(np.random.default_rng(0))))
    with pytest.raises(
        ValueError, match=r"model\.onnx: 0 convolutions, not those of a MobileNetV2"
    ):
        convert_mobilenet(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
