"""Students: small encoders that learn to score a teacher's cells as the teacher does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

import geofix_train.distil
from geofix_train.cell_codes import CellCodesError, read_cell_codes, read_queries
from geofix_train.checkpoint import CheckpointError
from geofix_train.cli import main
from geofix_train.config import ConfigError, FitConfig, read_run_config, read_student_config
from geofix_train.distil import distil, lesson_losses
from geofix_train.fit import fit
from geofix_train.model import embed
from geofix_train.photo_table import read_photo_table
from geofix_train.photos import read_photos
from geofix_train.run_folder import load_model, load_query_encoder
from geofix_train.training_data import input_spec
from tests.geofix_train.tiny_data import tiny_config

pytestmark = pytest.mark.xdist_group("distil")

STUDENT = """
[data]
photo_width = 24
photo_height = 16

[model]
width = 2
num_clusters = 4
cluster_dim = 4
global_dim = 4

[run]
epochs = 30
batch_size = 16
learning_rate = 5e-3
seed = 1
"""


@pytest.fixture(scope="module")
def teacher(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a finished run with cell codes."""
    config = tiny_config(data / "photos.parquet", data / "aerial", epochs=8)
    run = fit(config, tmp_path_factory.mktemp("distil") / "teacher")
    assert main(["codes", str(run)]) == 0
    return run


@pytest.fixture(scope="module")
def toml(teacher: Path) -> Path:
    path = teacher.parent / "student.toml"
    path.write_text(STUDENT)
    return path


@pytest.fixture(scope="module")
def config(teacher: Path, toml: Path) -> FitConfig:
    return read_student_config(toml, read_run_config(teacher))


@pytest.fixture(scope="module")
def student(teacher: Path, toml: Path) -> Path:
    """Return the run folder of a student, made by the command line."""
    run = teacher.parent / "student"
    assert main(["distil", str(teacher), str(toml), "-o", str(run)]) == 0
    return run


def test_a_student_is_nearer_to_its_teacher_than_an_untrained_one(
    teacher: Path, student: Path, config: FitConfig, tmp_path: Path
) -> None:
    untrained = distil(
        replace(config, run=replace(config.run, epochs=1, learning_rate=0.0)), teacher, tmp_path
    )

    def agreement(run: Path) -> float:
        embeddings = []
        for own in (run, teacher):
            settings, encoder = load_query_encoder(own)
            table, _ = read_photo_table(Path(settings.data.photos))
            embeddings.append(embed(encoder, read_photos(table, input_spec(settings))[0]))
        return float((embeddings[0] * embeddings[1]).sum(axis=1).mean())

    assert agreement(student) > agreement(untrained) + 0.3


def test_a_students_cell_codes_are_its_teachers_to_the_byte(teacher: Path, student: Path) -> None:
    name = "codes/codes.safetensors"
    assert (student / name).read_bytes() == (teacher / name).read_bytes()


def test_a_student_leaves_its_validation_photos_as_it_embeds_them(
    teacher: Path, student: Path
) -> None:
    own, taught = (
        read_queries(run / "codes" / "queries.safetensors") for run in (student, teacher)
    )
    np.testing.assert_array_equal(own.latlon, taught.latlon)
    assert own.slices == taught.slices != ()
    assert own.embeddings.shape == taught.embeddings.shape
    assert own.image_statistics is not None
    assert not np.allclose(own.embeddings, taught.embeddings)
    np.testing.assert_allclose(np.linalg.norm(own.embeddings, axis=1), 1, rtol=1e-5)


def test_a_stopped_student_goes_on_to_the_same_weights(
    teacher: Path, config: FitConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = replace(config, run=replace(config.run, epochs=2, checkpoint_seconds=0.0))
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    distil(short, teacher, whole)
    real = geofix_train.distil._take_step

    def stop(*arguments: object) -> object:
        if arguments[2].step == 3:  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(geofix_train.distil, "_take_step", stop)
        with pytest.raises(KeyboardInterrupt):
            distil(short, teacher, stopped)
    distil(short, teacher, stopped)
    weights = [load_query_encoder(run)[1].state_dict() for run in (whole, stopped)]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=0, atol=0)


def test_losses_vanish_where_the_student_is_the_teacher_and_nowhere_else() -> None:
    generator = torch.Generator().manual_seed(0)
    taught, other = (
        functional.normalize(torch.randn(5, 8, generator=generator), dim=1) for _ in range(2)
    )
    codes = torch.randn(20, 8, generator=generator)
    same = lesson_losses(taught, taught, codes, temperature=0.1)
    apart = lesson_losses(other, taught, codes, temperature=0.1)
    for name, loss in same.items():
        assert abs(float(loss)) < 1e-5
        assert float(apart[name]) > 0.1


def test_the_loss_of_scores_is_the_divergence_of_the_students_probabilities() -> None:
    taught, own, codes = torch.tensor([[1.0, 0]]), torch.tensor([[0, 1.0]]), torch.eye(2)
    p = np.exp([2.0, 0]) / np.exp([2.0, 0]).sum()  # temperature 0.5
    wanted = float((p * np.log(p / p[::-1])).sum())
    losses = lesson_losses(own, taught, codes, temperature=0.5)
    assert float(losses["scores"]) == pytest.approx(wanted)
    assert float(losses["embeddings"]) == pytest.approx(1.0)


def test_a_student_is_of_one_teacher(
    teacher: Path, student: Path, config: FitConfig, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    assert main(["codes", str(teacher), "--kappa", "0.3", "-o", str(other / "codes")]) == 0
    for name in ("config.json", "checkpoint.safetensors"):
        (other / name).write_bytes((teacher / name).read_bytes())
    with pytest.raises(ConfigError, match="holds a student of other cell codes"):
        distil(config, other, student)


def test_a_teacher_needs_cell_codes(teacher: Path, config: FitConfig, tmp_path: Path) -> None:
    for name in ("config.json", "checkpoint.safetensors"):
        (tmp_path / name).write_bytes((teacher / name).read_bytes())
    with pytest.raises(CellCodesError, match="make it by geofix-train codes"):
        distil(config, tmp_path, tmp_path / "student")
    assert not (tmp_path / "student").exists()


def test_a_student_of_other_dimensions_is_an_error(
    teacher: Path, config: FitConfig, tmp_path: Path
) -> None:
    wide = replace(config, model=replace(config.model, dim=64))
    dim = read_cell_codes(teacher / "codes" / "codes.safetensors").cell_codes.shape[1]
    with pytest.raises(ConfigError, match=f"dim is 64, the teacher's cell codes have {dim}"):
        distil(wide, teacher, tmp_path / "student")


@pytest.mark.parametrize(
    ("section", "named"),
    [('[objective]\nlabels = "hard"', "labels"), ('[data]\nphotos = "x.csv"', "photos")],
    ids=["objective", "data"],
)
def test_what_is_the_teachers_to_say_is_an_error_of_the_student(
    teacher: Path, tmp_path: Path, section: str, named: str
) -> None:
    path = tmp_path / "student.toml"
    path.write_text(section)
    with pytest.raises(ConfigError, match=rf"{named}: a student learns from its teacher's data"):
        read_student_config(path, read_run_config(teacher))


def test_a_student_has_no_map_of_its_own(student: Path) -> None:
    with pytest.raises(CheckpointError, match="a student's run, which has a query encoder and no"):
        load_model(student)
