"""Export the query encoder of a run by a recipe, and refuse to where it does not retrieve alike."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

import geofix
from geofix.input_spec import InputSpec
from geofix_export.build import build_index
from geofix_export.parity import Parity, ParityError, measure_parity
from geofix_export.recipe import ExportRecipe, read_recipe
from geofix_export.targets import TARGETS, Target
from geofix_train.artifact import ArtifactError, EncoderArtifact, read_artifact
from geofix_train.cell_codes import CODES, Queries, map_cell_codes
from geofix_train.checkpoint import WEIGHTS, CheckpointError
from geofix_train.codes import make_queries
from geofix_train.model import Encoder, embed
from geofix_train.photo_table import PhotoTable, read_photo_table
from geofix_train.photos import read_photos
from geofix_train.run_folder import load_query_encoder
from geofix_train.training_data import input_spec

_COMPARED_PHOTOS = 8  # that layers are compared on
_SEED = 0  # of which photos are drawn

Images = npt.NDArray[np.uint8]


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
        CheckpointError: the run is not finished, or its encoder has weights that are no numbers.
        CellCodesError: it has no cell codes.
        RecipeError: no such recipe.
        CalibrationError: photos that int8 cannot learn its ranges from.
        ParityError: the exported encoder is not close enough; the message names the numbers that
            are missed, and the first layer that diverges.
    """
    if isinstance(recipe, str):
        recipe = read_recipe(recipe)
    source, target = _open_run(run, on_error), TARGETS[recipe.target]
    codes = map_cell_codes(run / CODES)
    held_out, images = source.photos(~source.table.is_train, most=target.max_photos)
    if len(held_out) == 0:
        raise ParityError("all photos were trained on: none is left to measure parity with")
    data = target.convert(
        source.encoder, source.spec, recipe, lambda: source.calibration_photos(recipe)
    )
    parity = measure_parity(
        target.embed(data, source.spec, images),
        embed(source.encoder, images),
        source.table[held_out].latlon,
        build_index(codes.cells, codes.cell_codes),
    )
    failures = parity.failures(recipe)
    if failures:
        layer = target.divergence(source.encoder, source.spec, data, images[:_COMPARED_PHOTOS])
        raise ParityError(_refusal(recipe, parity, failures, layer))
    return EncoderArtifact(
        target=recipe.target,
        precision=recipe.precision,
        filename=target.filename,
        data=data,
        dim=source.dim,
        input_spec=source.spec,
        provenance={
            **target.facts(data, recipe),
            "torch": torch.__version__,
            "recipe": recipe.to_json(),
            "source_sha256": _source_hash(run, recipe),
        },
        parity=parity.to_json(),
        queries=None if recipe.precision == "fp32" else _queries(data, target, source),
    )


def _refusal(recipe: ExportRecipe, parity: Parity, failures: list[str], layer: str) -> str:
    """Return why an encoder is not written."""
    return (
        f"the {recipe.target} encoder in {recipe.precision} is not close enough to the trained "
        f"one on {parity.num_photos} photos: {'; '.join(failures)}"
        f"{layer and f'; first layer that diverges: {layer}'}"
    )


def exported_before(folder: Path, run: Path, recipe: ExportRecipe) -> EncoderArtifact | None:
    """Return what a folder holds if it is the export of this run by this recipe, and whole.

    Known by the hash of checkpoint, cell codes, recipe and version, not by the file's name or age.
    """
    try:
        made = read_artifact(folder)
        wanted = _source_hash(run, recipe)
    except (ArtifactError, OSError):
        return None
    return made if made.provenance.get("source_sha256") == wanted else None


@dataclass(frozen=True)
class _Source:
    """A run that is exported."""

    encoder: Encoder
    spec: InputSpec
    dim: int
    table: PhotoTable
    blur: str
    on_error: str

    def photos(
        self, wanted: npt.NDArray[np.bool_], *, most: int
    ) -> tuple[npt.NDArray[np.int64], Images]:
        """Return the rows that are wanted, and their photos; of many rows, `most` drawn ones."""
        rows = np.sort(np.random.default_rng(_SEED).permutation(np.flatnonzero(wanted))[:most])
        images, is_read, _ = read_photos(
            self.table[rows], self.spec, blur=self.blur, on_error=self.on_error
        )
        return rows[is_read], images[is_read]

    def calibration_photos(self, recipe: ExportRecipe) -> Images:
        """Return training photos to learn ranges from."""
        return self.photos(self.table.is_train, most=recipe.calibration_photos)[1]


def _open_run(run: Path, on_error: str) -> _Source:
    config, encoder = load_query_encoder(run)
    _check_finite(encoder, run)
    table, _ = read_photo_table(Path(config.data.photos), on_error=on_error)
    return _Source(encoder, input_spec(config), config.model.dim, table, config.data.blur, on_error)


def _check_finite(encoder: Encoder, run: Path) -> None:
    """Refuse weights that are not numbers: what they give would be refused later, and not say why.

    A NaN in one channel may change few embeddings.
    """
    for name, value in encoder.state_dict().items():
        if not torch.isfinite(value).all():
            raise CheckpointError(
                f"{run}: the encoder's {name} has {int((~torch.isfinite(value)).sum())} values "
                "that are not finite: train it again"
            )


def _queries(data: bytes, target: Target, source: _Source) -> Queries | None:
    """Return the validation photos as the exported encoder embeds them; None: there are none."""
    rows, images = source.photos(source.table.split == "val", most=target.max_photos)
    if len(rows) == 0:
        return None
    return make_queries(source.table, rows, images, target.embed(data, source.spec, images))


def _source_hash(run: Path, recipe: ExportRecipe) -> str:
    """Return what an export is known by: a hash of checkpoint, cell codes, recipe and version."""
    content = hashlib.sha256(geofix.__version__.encode())
    for path in (run / WEIGHTS, run / CODES):
        content.update(hashlib.sha256(path.read_bytes()).digest())
    content.update(json.dumps(recipe.to_json(), sort_keys=True).encode())
    return content.hexdigest()
