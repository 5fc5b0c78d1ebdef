"""`geofix-export` from the words of its command line to its files and its exit status."""

import json
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from safetensors import safe_open

import geofix
import geofix.cli
import geofix_export.encoder
import geofix_train.cli
from geofix_export.cli import main
from geofix_export.parity import ParityError
from geofix_index import cells as s2
from geofix_train.artifact import EncoderArtifact, read_artifact, write_artifact
from tests.command_line import Outcome, Run, runner
from tests.tiny_pack import KIND

pytestmark = pytest.mark.xdist_group("export")

COMMANDS = ["", "encoder", "pack", "tensorrt"]


class Made(NamedTuple):
    """What the commands before `pack` left."""

    codes: Path
    queries: Path
    encoder: Path


Words = list[Any]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a command line and catches what it prints."""
    return runner(main, capsys)


@pytest.fixture(scope="module")
def made(
    finished_run: Path, artifact: EncoderArtifact, tmp_path_factory: pytest.TempPathFactory
) -> Made:
    """Return codes, queries and encoder of the run."""
    out = tmp_path_factory.mktemp("codes")
    assert geofix_train.cli.main(["codes", str(finished_run), "-o", str(out)]) == 0
    write_artifact(artifact, out / "encoder")
    return Made(out / "codes.safetensors", out / "queries.safetensors", out / "encoder")


@pytest.fixture
def pack_words(made: Made, tmp_path: Path) -> Words:
    """Return the words of a `pack` command that succeeds."""
    out = tmp_path / "out" / "tiny.geofix"
    return ["pack", made.codes, "--encoder", made.encoder, "--index", KIND, "-o", out]


def test_from_a_run_to_a_fix(
    run: Run, data: Path, finished_run: Path, made: Made, tmp_path: Path
) -> None:
    encoder, pack = tmp_path / "new" / "encoder", tmp_path / "new" / "tiny.geofix"
    exported = run("encoder", finished_run, "-o", encoder)
    assert (exported.status, exported.err) == (0, "")
    assert exported.out.startswith(f"{encoder}: encoder.onnx, 0.")
    packed = run(
        *("pack", made.codes, "--encoder", encoder, "--queries", made.queries),
        *("--index", KIND, "-o", pack),
    )
    size = f"{pack.stat().st_size / 1e6:.2f} MB"
    said = f"{pack}: tiny, version 1, 31 cells, {size}, calibrated, not signed\n"
    assert packed == (0, said, "")
    verified = run("pack", "verify", pack, program=geofix.cli.main)
    assert (verified.status, verified.err) == (0, "")
    photos = sorted(data.glob("*.png"))[:3]
    found = run("localize", pack, *photos, "--json", program=geofix.cli.main)
    assert (found.status, found.err) == (0, "")
    fixes = [json.loads(line) for line in found.out.splitlines()]
    assert [fix["image"] for fix in fixes] == [str(photo) for photo in photos]
    with safe_open(made.codes, framework="numpy") as file:
        cells = file.get_tensor("cells")
    assert {s2.cell_from_token(fix["cell"]) for fix in fixes} <= set(cells.tolist())
    assert all(fix["pack_id"] == "tiny" and fix["confidence"] is not None for fix in fixes)


def test_the_exported_folder_is_read_back(
    run: Run, artifact: EncoderArtifact, finished_run: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(geofix_export.encoder, "export_encoder", lambda *_, **__: artifact)
    (tmp_path / "encoder.json").write_text("of an earlier encoder")
    size = f"{len(artifact.data) / 1e6:.2f} MB"
    outcome = run("encoder", finished_run, "--output", tmp_path)
    assert outcome.out.startswith(f"{tmp_path}: encoder.onnx, {size}\n  num_photos ")
    assert (outcome.status, outcome.err) == (0, "")
    assert read_artifact(tmp_path) == artifact


def test_what_is_said_of_a_region_stands_in_its_manifest(
    run: Run, pack_words: Words, made: Made
) -> None:
    flags = {"pack-id": "town", "title": "Our town", "attribution": "A. Mapper", "license": "CC0"}
    named = [word for flag, text in flags.items() for word in (f"--{flag}", text)]
    assert run(*pack_words, *named, "--pack-version", 4).status == 0
    manifest = geofix.RegionPack.open(pack_words[-1]).manifest
    assert (manifest.pack_id, manifest.title) == ("town", "Our town")
    assert (manifest.attribution, manifest.license) == ("A. Mapper", "CC0")
    assert manifest.pack_version == 4
    with safe_open(made.codes, framework="numpy") as file:
        metadata = file.metadata()
    mixing = {name: json.loads(metadata[name]) for name in ("kappa", "shrink_photos")}
    wanted = {**json.loads(metadata["provenance"]), **mixing}
    assert wanted.items() <= manifest.provenance.items()


@pytest.mark.parametrize("index", sorted({"scan", KIND}))
def test_the_index_is_of_the_wanted_kind(run: Run, pack_words: Words, index: str) -> None:
    assert run(*pack_words, "--index", index).status == 0
    manifest = geofix.RegionPack.open(pack_words[-1]).manifest
    assert {shard.kind for shard in manifest.shards} == {index}


def test_a_pack_may_carry_several_encoders_or_none(
    run: Run, made: Made, artifact: EncoderArtifact, tmp_path: Path
) -> None:
    other = EncoderArtifact(**{**vars(artifact), "precision": "int8"})
    write_artifact(other, tmp_path / "int8")
    pack = tmp_path / "tiny.geofix"
    for folders in ([], [made.encoder, tmp_path / "int8"]):
        flags = ["--encoder", *folders] if folders else []
        assert run("pack", made.codes, "--index", "scan", "-o", pack, *flags).status == 0
        assert len(geofix.RegionPack.open(pack).manifest.encoders) == len(folders)


def test_the_same_words_give_the_same_bytes(run: Run, pack_words: Words, made: Made) -> None:
    packs = []
    for _ in range(2):
        assert run(*pack_words, "--queries", made.queries).status == 0
        packs.append(pack_words[-1].read_bytes())
    assert packs[0] == packs[1]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(run: Run, command: str) -> None:
    outcome = run(*command.split(), "--help")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.startswith(f"usage: geofix-export {command}".rstrip())


def test_the_version_is_printed(run: Run) -> None:
    assert run("--version") == (0, f"geofix {geofix.__version__}\n", "")


@pytest.mark.parametrize(
    "words",
    [
        "",
        "fly",
        "encoder",
        "encoder RUN",
        "encoder -o DIR",
        "pack",
        "pack CODES",
        "pack CODES -o PACK --encoder",
        "pack CODES -o PACK --index hnsw",
        "pack CODES -o PACK --pack-version one",
        "pack CODES CODES -o PACK",
    ],
)
def test_wrong_usage_exits_with_2(run: Run, words: str) -> None:
    outcome = run(*words.split())
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith("usage: geofix-export")


def assert_one_line(outcome: Outcome, *, naming: str) -> None:
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith("geofix-export: ")
    assert outcome.err.count("\n") == 1
    assert naming in outcome.err


@pytest.mark.parametrize("lacks", ["everything", "checkpoint.safetensors", "config.json"])
def test_a_folder_that_is_no_finished_run_is_one_line_and_leaves_nothing(
    run: Run, finished_run: Path, tmp_path: Path, lacks: str
) -> None:
    folder = tmp_path / "run"
    if lacks != "everything":
        shutil.copytree(finished_run, folder, ignore=shutil.ignore_patterns(lacks))
    outcome = run("encoder", folder, "-o", tmp_path / "encoder")
    assert_one_line(outcome, naming=str(folder))
    assert not (tmp_path / "encoder").exists()


def test_settings_of_another_model_are_one_line(
    run: Run, finished_run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    settings = json.loads((folder / "config.json").read_text())
    settings["model"]["dim"] += 8
    (folder / "config.json").write_text(json.dumps(settings))
    assert_one_line(run("encoder", folder, "-o", tmp_path / "encoder"), naming=str(folder))


def test_a_model_that_gives_other_numbers_is_one_line_and_leaves_nothing(
    run: Run, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> EncoderArtifact:
        raise ParityError("the ONNX encoder's embeddings have cosine 0.5")

    monkeypatch.setattr(geofix_export.encoder, "export_encoder", refuse)
    outcome = run("encoder", finished_run, "-o", tmp_path / "encoder")
    assert_one_line(outcome, naming="cosine 0.5")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bad", ["codes", "queries", "encoder"])
@pytest.mark.parametrize("kind", ["absent", "text", "cut"])
def test_an_input_that_cannot_be_read_is_one_line_and_leaves_no_pack(
    run: Run, made: Made, tmp_path: Path, bad: str, kind: str
) -> None:
    path = getattr(made, bad) / ("encoder.json" if bad == "encoder" else "")
    copy = tmp_path / "input" / path.name
    copy.parent.mkdir()
    content = {"text": b"no input", "cut": path.read_bytes()[: path.stat().st_size // 2]}.get(kind)
    if content is not None:
        copy.write_bytes(content)
    inputs = made._replace(**{bad: copy.parent if bad == "encoder" else copy})
    outcome = run(
        *("pack", inputs.codes, "--queries", inputs.queries, "--encoder", inputs.encoder),
        *("--index", KIND, "-o", tmp_path / "tiny.geofix"),
    )
    assert_one_line(outcome, naming=str(copy))
    assert [entry.name for entry in tmp_path.iterdir()] == ["input"]


def test_an_encoder_that_does_not_fit_the_codes_is_one_line(
    run: Run, pack_words: Words, artifact: EncoderArtifact, tmp_path: Path
) -> None:
    write_artifact(EncoderArtifact(**{**vars(artifact), "dim": 24}), tmp_path / "encoder")
    outcome = run(*pack_words, "--encoder", tmp_path / "encoder")
    assert_one_line(outcome, naming="24 dimensions, the cell codes have 16")
    assert not pack_words[-1].exists()


@pytest.mark.parametrize("step", ["fsync", "chmod", "replace"])
@pytest.mark.parametrize("earlier", [None, b"an earlier pack"], ids=["new", "over an earlier one"])
def test_a_pack_is_whole_or_not_there(
    run: Run,
    pack_words: Words,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    earlier: bytes | None,
) -> None:
    out: Path = pack_words[-1]
    out.parent.mkdir()
    if earlier is not None:
        out.write_bytes(earlier)

    def fail(*arguments: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, step, fail)
    assert_one_line(run(*pack_words), naming="no space left on device")
    left = {path.name: path.read_bytes() for path in out.parent.iterdir()}
    assert left == ({} if earlier is None else {out.name: earlier})
