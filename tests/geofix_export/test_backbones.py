"""Encoders with pretrained backbones export as they are, and equal what was trained."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from geofix_export.encoder import export_encoder
from geofix_export.tensorrt_rules import check_for_tensorrt
from geofix_train.fit import fit
from geofix_train.model import embed
from geofix_train.run_folder import load_model
from tests.geofix_export.conftest import with_codes
from tests.geofix_train.tiny_backbones import FAMILIES, SIZES, save_tiny, tiny_backbone_config

pytestmark = pytest.mark.xdist_group("export")


@pytest.mark.parametrize("family", FAMILIES)
def test_an_exported_backbone_equals_the_trained_one_without_its_pretrained_model(
    family: str, data: Path, tmp_path: Path
) -> None:
    save_tiny(family, tmp_path / "tiny")
    config = tiny_backbone_config(family, data, tmp_path / "tiny", frozen_layers=1)
    run = with_codes(fit(config, tmp_path / "run"))
    shutil.rmtree(tmp_path / "tiny")
    artifact = export_encoder(run)
    session = ort.InferenceSession(artifact.data, providers=["CPUExecutionProvider"])
    photos = np.random.default_rng(3).integers(0, 256, (5, *SIZES[family], 3), dtype=np.uint8)
    wanted = embed(load_model(run)[1].ground, photos)
    for num in (1, 5):
        (got,) = session.run(["embeddings"], {"images": photos[:num]})
        np.testing.assert_allclose(got, wanted[:num], atol=1e-4)
    assert np.linalg.norm(wanted, axis=1) == pytest.approx(1, abs=1e-5)
    operators = {node.op_type for node in onnx.load_from_string(artifact.data).graph.node}
    assert "Resize" not in operators  # positions were brought to size before
    assert check_for_tensorrt(artifact.data) == []
