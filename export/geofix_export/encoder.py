"""Export the query encoder of a run by a recipe, and refuse to where it does not retrieve alike."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from geofix.backends.onnx import OnnxEncoder
from geofix.encoder import unit_length
from geofix.input_spec import InputSpec
from geofix_export import layer_differences
from geofix_export.build import build_index
from geofix_export.coreml import convert_to_coreml
from geofix_export.divergence import first_divergence
from geofix_export.layer_differences import compare_layers
from geofix_export.mil_evaluator import evaluate
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
MAX_EVALUATED = 200  # of a Core ML program, which the evaluator runs slowly
_EVALUATED_AT_ONCE = 8
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
    most = MAX_EVALUATED if recipe.target == "coreml" else MAX_HELD_OUT
    held_out, images = source.photos(_drawn(~source.table.is_train, most))
    if len(held_out) == 0:
        raise ParityError("all photos were trained on: none is left to measure parity with")
    data = _convert(recipe, source)
    if recipe.target == "tensorrt":
        _check_rules(data)
    parity = measure_parity(
        _embed(data, recipe, source.spec, images),
        embed(source.encoder, images),
        np.column_stack([held_out.lat, held_out.lon]),
        build_index(codes.cells, codes.cell_codes),
    )
    _check(parity, recipe, source, data, images[:_COMPARED_PHOTOS])
    return EncoderArtifact(
        target=recipe.target,
        precision=recipe.precision,
        filename="encoder.mlpackage.zip" if recipe.target == "coreml" else "encoder.onnx",
        data=data,
        dim=source.dim,
        input_spec=source.spec,
        provenance={
            **({} if recipe.target == "coreml" else {"opset": OPSET}),
            "torch": torch.__version__,
            "recipe": recipe.to_json(),
            "source_sha256": _source_hash(run, recipe),
        },
        parity=parity.to_json(),
        queries=None if recipe.precision == "fp32" else _queries(data, recipe, source),
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

    def calibration_photos(self, recipe: ExportRecipe) -> Images:
        """Return training photos to learn ranges from."""
        return self.photos(_drawn(self.table.is_train, recipe.calibration_photos))[1]


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


def _convert(recipe: ExportRecipe, source: _Source) -> bytes:
    if recipe.target == "coreml":
        rounds_activations = recipe.precision == "int8_activations"
        return convert_to_coreml(
            source.encoder,
            source.spec,
            precision=recipe.precision,
            calibration=source.calibration_photos(recipe) if rounds_activations else None,
        )
    reference = to_onnx(source.encoder, source.spec)
    if recipe.precision == "fp16":
        return to_fp16(reference)
    if recipe.precision == "int8":
        images = source.calibration_photos(recipe)
        return to_int8(reference, images, symmetric=recipe.target == "tensorrt", keep=recipe.keep)
    return reference


def _check_rules(data: bytes) -> None:
    violations = check_for_tensorrt(data)
    if violations:
        raise ParityError(f"TensorRT would refuse this encoder: {'; '.join(map(str, violations))}")


def _embed(data: bytes, recipe: ExportRecipe, spec: InputSpec, images: Images) -> Floats:
    """Embed as the target does: for Core ML by an evaluator, else by ONNX Runtime."""
    if recipe.target != "coreml":
        return OnnxEncoder(data, spec).encode(images)
    parts = [
        evaluate(data, images[at : at + _EVALUATED_AT_ONCE]).embeddings
        for at in range(0, len(images), _EVALUATED_AT_ONCE)
    ]
    return unit_length(np.concatenate(parts))


def _check(
    parity: Parity, recipe: ExportRecipe, source: _Source, data: bytes, images: Images
) -> None:
    failures = parity.failures(recipe)
    if failures:
        raise ParityError(
            f"the {recipe.target} encoder in {recipe.precision} is not close enough to the trained "
            f"one on {parity.num_photos} photos: {'; '.join(failures)}"
            f"{_where(recipe, source, data, images)}"
        )


def _where(recipe: ExportRecipe, source: _Source, data: bytes, images: Images) -> str:
    """Return what to say of the first layer that diverges; nothing where none can be told."""
    if recipe.target == "coreml":
        found = layer_differences.first_divergence(compare_layers(source.encoder, data, images))
        named = None if found is None else (found.name, found.module, found.relative_error)
    else:
        layer = first_divergence(to_onnx(source.encoder, source.spec), data, images)
        named = None if layer is None else (layer.node, layer.op, layer.error)
    if named is None:
        return ""
    return f"; first layer that diverges: {named[0]} ({named[1]}, off by {named[2]:.0%})"


def _queries(data: bytes, recipe: ExportRecipe, source: _Source) -> Queries | None:
    """Return the validation photos as the exported encoder embeds them; None: there are none."""
    most = MAX_EVALUATED if recipe.target == "coreml" else len(source.table)
    table, images = source.photos(_drawn(source.table.split == "val", most))
    if len(table) == 0:
        return None
    latlon = np.column_stack([table.lat, table.lon])
    return Queries(_embed(data, recipe, source.spec, images), latlon)


def _source_hash(run: Path, recipe: ExportRecipe) -> str:
    """Return what an export is known by: a hash of checkpoint and recipe."""
    content = hashlib.sha256((run / "checkpoint.safetensors").read_bytes())
    content.update(json.dumps(recipe.to_json(), sort_keys=True).encode())
    return content.hexdigest()
