"""Export the query encoder of a run by a recipe, and refuse to where it does not retrieve alike."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from geofix.backends.onnx import OnnxEncoder
from geofix.input_spec import InputSpec
from geofix_export.build import build_index
from geofix_export.divergence import first_divergence
from geofix_export.onnx_model import OPSET, to_onnx
from geofix_export.parity import Parity, ParityError, measure_parity
from geofix_export.precision import to_fp16, to_int8
from geofix_export.recipe import ExportRecipe, read_recipe
from geofix_export.tensorrt_rules import check_for_tensorrt
from geofix_train.artifact import EncoderArtifact
from geofix_train.cell_codes import Queries, map_cell_codes
from geofix_train.fit import load_model
from geofix_train.model import Encoder, embed
from geofix_train.photo_table import PhotoTable, read_photo_table
from geofix_train.photos import read_photos
from geofix_train.training_data import input_spec

MAX_HELD_OUT = 1000  # photos that parity is measured on
_COMPARED_PHOTOS = 8  # that layers are compared on
_SEED = 0  # of which photos are drawn

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def export_encoder(
    run: Path, recipe: ExportRecipe | str = "onnx-fp32", *, on_error: str = "stop"
) -> EncoderArtifact:
    """Return the ground encoder of a run, exported by a recipe.

    Parity is measured on photos that training did not see, at most a thousand, by what they find
    among the run's cell codes, compressed as in a pack.

    Args:
        run: a finished run with cell codes.
        recipe: or the name of one that comes with geofix, or the path of a TOML file.
        on_error: "stop" or "skip" bad rows and unreadable photos.

    Raises:
        CheckpointError: the run is not finished.
        CellCodesError: it has no cell codes.
        RecipeError: no such recipe.
        CalibrationError: photos that int8 cannot learn its ranges from.
        ParityError: the exported encoder is not close enough; the message names the numbers that
            are missed, and the first layer that diverges.
    """
    if isinstance(recipe, str):
        recipe = read_recipe(recipe)
    source = _open_run(run, on_error)
    codes = map_cell_codes(run / "codes" / "codes.safetensors")
    held_out, images = source.photos(_drawn(~source.table.is_train, MAX_HELD_OUT))
    if len(held_out) == 0:
        raise ParityError("all photos were trained on: none is left to measure parity with")
    reference = to_onnx(source.encoder, source.spec)
    data = _convert(reference, recipe, source)
    if recipe.target == "tensorrt":
        _check_rules(data)
    parity = measure_parity(
        _embed(data, source.spec, images),
        embed(source.encoder, images),
        np.column_stack([held_out.lat, held_out.lon]),
        build_index(codes.cells, codes.cell_codes),
    )
    _check(parity, recipe, reference, data, images)
    return EncoderArtifact(
        target=recipe.target,
        precision=recipe.precision,
        filename="encoder.onnx",
        data=data,
        dim=source.dim,
        input_spec=source.spec,
        provenance={
            "opset": OPSET,
            "torch": torch.__version__,
            "recipe": recipe.to_json(),
            "source_sha256": _source_hash(run, recipe),
        },
        parity=parity.to_json(),
        queries=None if recipe.precision == "fp32" else _queries(data, source),
    )


@dataclass(frozen=True)
class _Source:
    """A run that is exported."""

    encoder: Encoder
    spec: InputSpec
    dim: int
    table: PhotoTable
    blur: str
    on_error: str

    def photos(self, rows: npt.NDArray[np.intp]) -> tuple[PhotoTable, Images]:
        """Return rows of the table and their photos."""
        table = self.table[rows]
        if len(table) == 0:
            return table, np.zeros((0, self.spec.height, self.spec.width, 3), np.uint8)
        images, is_read, _ = read_photos(table, self.spec, blur=self.blur, on_error=self.on_error)
        return table[is_read], images[is_read]


def _open_run(run: Path, on_error: str) -> _Source:
    config, model, _ = load_model(run)
    table, _ = read_photo_table(Path(config.data.photos), on_error=on_error)
    return _Source(
        model.ground, input_spec(config), config.model.dim, table, config.data.blur, on_error
    )


def _drawn(wanted: npt.NDArray[np.bool_], most: int) -> npt.NDArray[np.intp]:
    """Return rows that are wanted, in order; if there are more than `most`, so many of them."""
    rows = np.flatnonzero(wanted)
    return np.sort(np.random.default_rng(_SEED).permutation(rows)[:most])


def _convert(reference: bytes, recipe: ExportRecipe, source: _Source) -> bytes:
    if recipe.precision == "fp16":
        return to_fp16(reference)
    if recipe.precision == "int8":
        _, images = source.photos(_drawn(source.table.is_train, recipe.calibration_photos))
        return to_int8(reference, images, symmetric=recipe.target == "tensorrt", keep=recipe.keep)
    return reference


def _check_rules(data: bytes) -> None:
    violations = check_for_tensorrt(data)
    if violations:
        raise ParityError(f"TensorRT would refuse this encoder: {'; '.join(map(str, violations))}")


def _embed(data: bytes, spec: InputSpec, images: Images) -> Floats:
    """Embed by ONNX Runtime, which also runs what is made for TensorRT."""
    return OnnxEncoder(data, spec).encode(images)


def _check(
    parity: Parity, recipe: ExportRecipe, reference: bytes, data: bytes, images: Images
) -> None:
    failures = parity.failures(recipe)
    if not failures:
        return
    layer = first_divergence(reference, data, images[:_COMPARED_PHOTOS])
    where = (
        ""
        if layer is None
        else f"; first layer that diverges: {layer.node} ({layer.op}, off by {layer.error:.0%})"
    )
    raise ParityError(
        f"the {recipe.target} encoder in {recipe.precision} is not close enough to the trained "
        f"one on {parity.num_photos} photos: {'; '.join(failures)}{where}"
    )


def _queries(data: bytes, source: _Source) -> Queries | None:
    """Return the validation photos as the exported encoder embeds them; None: there are none."""
    table, images = source.photos(np.flatnonzero(source.table.split == "val"))
    if len(table) == 0:
        return None
    latlon = np.column_stack([table.lat, table.lon])
    return Queries(_embed(data, source.spec, images), latlon)


def _source_hash(run: Path, recipe: ExportRecipe) -> str:
    """Return what an export is known by: a hash of checkpoint and recipe."""
    content = hashlib.sha256((run / "checkpoint.safetensors").read_bytes())
    content.update(json.dumps(recipe.to_json(), sort_keys=True).encode())
    return content.hexdigest()
