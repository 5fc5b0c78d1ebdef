"""A run folder: what it keeps of settings, and the trained model in it.

`config.json` has the settings, `backbone.json` says what a pretrained backbone is, if there is one,
`checkpoint.safetensors` has the weights, and `left_out.txt` names what was not used.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from geofix_train.architecture import (
    Architecture,
    read_architecture,
    read_run_architecture,
    write_run_architecture,
)
from geofix_train.checkpoint import WEIGHTS, CheckpointError, load_finished, load_weights
from geofix_train.config import (
    CONV,
    RUN_CONFIG,
    ConfigError,
    FitConfig,
    differences,
    read_run_config,
)
from geofix_train.model import Encoder, Model, make_encoders

LEFT_OUT = "left_out.txt"  # a line for each row and photo that was not used
_GROUND = "ground."


def check_settings(config: FitConfig, run: Path) -> None:
    """Refuse to go on with a run that has other settings, and to write among other files."""
    if not (run / WEIGHTS).exists():
        _check_folder(run)
        return
    changed = differences(read_run_config(run), config)
    if changed:
        raise ConfigError(
            f"{run} holds a run with other settings ({', '.join(changed)}): choose another folder"
        )


def architecture_of(config: FitConfig, run: Path) -> Architecture | None:
    """Return that of the pretrained backbone: a run that goes on keeps the one it has."""
    if config.model.backbone == CONV:
        return None
    if (run / WEIGHTS).exists():
        return read_run_architecture(run)
    return read_architecture(config.model.backbone)


def begin_run(
    config: FitConfig, architecture: Architecture | None, problems: Sequence[str], run: Path
) -> None:
    """Begin a run folder: all but what training itself writes."""
    run.mkdir(parents=True, exist_ok=True)
    if not (run / WEIGHTS).exists():  # a full disk must not take the settings from a run
        (run / RUN_CONFIG).write_text(config.to_json() + "\n")
    (run / LEFT_OUT).write_text("".join(f"{problem}\n" for problem in problems))
    if architecture is not None:
        write_run_architecture(architecture, run)


def load_model(run: Path) -> tuple[FitConfig, Model, npt.NDArray[np.uint64]]:
    """Return the settings of a finished run, its model, and the cells of its prototypes.

    Raises:
        ConfigError: no settings in the folder, or its backbone needs transformers.
        CheckpointError: the run is not finished, or its weights are not of these settings.
    """
    config = read_run_config(run)
    weights, prototype_cells = load_finished(run)
    if all(name.startswith(_GROUND) for name in weights):
        raise CheckpointError(
            f"{run}: a student's run, which has a query encoder and no map of its own: make codes "
            "and evaluations of its teacher's run"
        )
    architecture = _run_architecture(config, run)
    model = Model(*make_encoders(config, architecture), len(prototype_cells))
    load_weights(model, weights, run)
    return config, model.eval(), prototype_cells


def load_query_encoder(run: Path) -> tuple[FitConfig, Encoder]:
    """Return the settings of a finished run, and its ground encoder: that of a student, too.

    Raises:
        ConfigError, CheckpointError: as `load_model`.
    """
    config = read_run_config(run)
    weights, _ = load_finished(run)
    encoder, _ = make_encoders(config, _run_architecture(config, run))
    own = {n.removeprefix(_GROUND): value for n, value in weights.items() if n.startswith(_GROUND)}
    load_weights(encoder, own, run)
    return config, encoder.eval()


def _run_architecture(config: FitConfig, run: Path) -> Architecture | None:
    return None if config.model.backbone == CONV else read_run_architecture(run)


def _check_folder(run: Path) -> None:
    """Refuse a folder that is neither empty nor a run that stopped before its first checkpoint."""
    if run.exists() and not run.is_dir():
        raise ConfigError(f"{run}: is a file, want a folder for the run")
    if not run.exists() or not any(run.iterdir()):
        return
    try:
        read_run_config(run)
    except ConfigError:
        raise ConfigError(
            f"{run} holds files and no run: choose another folder, or remove it"
        ) from None
