import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import geofix
from geofix.errors import (
    BackendUnavailable,
    PackCorruptError,
    PackVersionError,
    PriorOutsidePack,
)
from geofix.localizer import Localizer
from geofix.posterior import Calibration
from geofix.prior import Prior
from geofix_index import cells as s2
from tests.geofix.forgery import flipped, pack_bytes, read_contents
from tests.tiny_pack import (
    CALIBRATION,
    TinyRegion,
    make_onnx,
    projection,
)


@pytest.fixture(scope="module")
def bare_pack_path(region: TinyRegion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of a pack without encoders, calibrated."""
    path = tmp_path_factory.mktemp("packs") / "bare.geofix"
    return region.write(path, encoders=[], calibration=CALIBRATION)


def damaged_pack(path: Path, entry_ending: str, out: Path) -> Path:
    """Write a pack with one flipped bit in an entry, under headers that fit."""
    contents = read_contents(path)
    name = next(name for name in contents if name.endswith(entry_ending))
    changed = contents | {name: flipped(contents[name], len(contents[name]) // 2)}
    out.write_bytes(pack_bytes(changed.items()))
    return out


@pytest.mark.parametrize("backend", ["tflite", "", "ONNX"])
def test_an_unknown_backend_is_an_error_that_names_the_choices(
    pack_path: Path, backend: str
) -> None:
    with pytest.raises(ValueError, match="want one of auto, onnx, tensorrt, coreml"):
        Localizer.open(pack_path, backend=backend)


@pytest.mark.parametrize("backend", ["tensorrt", "coreml"])
def test_a_backend_without_an_encoder_is_unavailable(pack_path: Path, backend: str) -> None:
    with pytest.raises(BackendUnavailable, match=f"no encoder for '{backend}'; it has onnx"):
        Localizer.open(pack_path, backend=backend)


@pytest.mark.parametrize("backend", ["auto", "onnx"])
def test_the_backend_is_logged_and_shown(
    pack_path: Path, backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "geofix"), Localizer.open(pack_path, backend=backend) as got:
        assert got.backend == "onnx"
    assert "backend onnx for encoders/onnx-fp32/encoder.onnx" in caplog.text


def test_a_pack_without_an_encoder_searches_and_does_not_localize(
    bare_pack_path: Path, region: TinyRegion
) -> None:
    with Localizer.open(bare_pack_path) as localizer:
        fix = localizer.search(region.cell_codes[5])
        assert localizer.backend == ""
        assert (fix.cell, fix.status) == (region.tokens[5], "fixed")
        with pytest.raises(BackendUnavailable, match="no encoder"):
            localizer.localize(region.pictures[5])
        with pytest.raises(BackendUnavailable, match="no encoder"):
            localizer.embed([region.pictures[5]])
    with pytest.raises(BackendUnavailable, match="it has none"):
        Localizer.open(bare_pack_path, backend="onnx")


@pytest.mark.parametrize("num_encoders", [0, 1])
def test_without_calibration_fixes_are_ambiguous(
    region: TinyRegion, tmp_path: Path, num_encoders: int
) -> None:
    encoder = replace(region.encoder, calibration=None)
    path = region.write(tmp_path / "bare.geofix", encoders=[encoder][:num_encoders])
    with Localizer.open(path) as localizer:
        fix = localizer.search(region.cell_codes[5])
    assert (fix.cell, fix.status) == (region.tokens[5], "ambiguous")
    unknown = [fix.accuracy_m, fix.radius95_m, fix.covariance_m2, fix.confidence]
    assert unknown == [None] * 4
    assert {candidate.probability for candidate in fix.candidates} == {None}


def test_each_encoder_has_its_own_calibration(region: TinyRegion, tmp_path: Path) -> None:
    doubtful = Calibration(CALIBRATION.temperature, elsewhere=2.0)
    encoder = replace(region.encoder, calibration=doubtful)
    with Localizer.open(region.write(tmp_path / "a.geofix", encoders=[encoder])) as localizer:
        assert localizer.localize(region.pictures[0]).status == "unknown"


def test_an_encoder_of_another_dimension_is_unavailable(region: TinyRegion, tmp_path: Path) -> None:
    smaller = make_onnx(projection(np.random.default_rng(0), dim=16))
    path = region.write(tmp_path / "a.geofix", encoders=[replace(region.encoder, data=smaller)])
    with pytest.raises(BackendUnavailable, match=r"16 dimensions, the pack's cell codes have\s+32"):
        Localizer.open(path)


def test_damage_in_a_shard_is_found_at_the_first_search(
    pack_path: Path, region: TinyRegion, tmp_path: Path
) -> None:
    parents = [parent for parent, _ in region.shards]
    damaged = damaged_pack(pack_path, f"{s2.token_from_cell(parents[0])}.cells", tmp_path / "d")
    with Localizer.open(damaged) as localizer:
        # A search that does not need the shard does not see it.
        intact = Prior.cells([s2.token_from_cell(parents[1])])
        assert localizer.localize(region.pictures[-1], prior=intact).candidates
        for _ in range(2):
            with pytest.raises(PackCorruptError, match=r"\.cells has SHA-256"):
                localizer.localize(region.pictures[-1])


@pytest.mark.parametrize("entry", ["encoder.onnx", "codebook.pq"])
def test_damage_in_an_encoder_or_the_codebook_is_found_at_open(
    pack_path: Path, tmp_path: Path, entry: str
) -> None:
    with pytest.raises(PackCorruptError, match=entry):
        Localizer.open(damaged_pack(pack_path, entry, tmp_path / "d"))


def test_all_is_checked_at_open_if_asked_for(pack_path: Path, tmp_path: Path) -> None:
    Localizer.open(pack_path, verify="all").close()
    damaged = damaged_pack(pack_path, ".cells", tmp_path / "d")
    with pytest.raises(PackCorruptError):
        Localizer.open(damaged, verify="all")
    with pytest.raises(ValueError, match="want 'lazy' or 'all'"):
        Localizer.open(pack_path, verify="none")


def test_an_older_pack_than_asked_for_is_a_version_error(
    region: TinyRegion, tmp_path: Path
) -> None:
    path = region.write(tmp_path / "a.geofix", pack_version=4)
    Localizer.open(path, min_version=4).close()
    with pytest.raises(PackVersionError, match="pack version 4, want at least 5"):
        Localizer.open(path, min_version=5)


def test_a_closed_localizer_is_an_error(pack_path: Path, region: TinyRegion) -> None:
    with Localizer.open(pack_path) as localizer:
        pass
    localizer.close()
    for use in (
        lambda: localizer.localize(region.pictures[0]),
        lambda: localizer.embed([region.pictures[0]]),
        lambda: localizer.search(region.cell_codes[0]),
        lambda: localizer.coverage,
    ):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_without_onnx_runtime_the_error_names_the_extra(
    pack_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendUnavailable, match=r"pip install 'geofix\[onnx\]'"):
        Localizer.open(pack_path)


def test_one_call_localizes_one_photo(pack_path: Path, region: TinyRegion) -> None:
    assert geofix.localize(region.pictures[9], pack_path).cell == region.tokens[9]
    with pytest.raises(PriorOutsidePack):
        geofix.localize(region.pictures[9], pack_path, prior=Prior.disk(0, 0, radius_m=10))


def two_encoders(region: TinyRegion, out: Path) -> Path:
    """Write a pack whose first encoder is for TensorRT."""
    for_gpu = replace(region.encoder, target="tensorrt", precision="fp16")
    return region.write(out, encoders=[for_gpu, region.encoder])


def test_auto_takes_the_first_encoder_that_runs_here_and_says_what_it_passes_over(
    region: TinyRegion, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = two_encoders(region, tmp_path / "two.geofix")
    with caplog.at_level(logging.INFO, "geofix"), Localizer.open(path) as localizer:
        assert localizer.backend == "onnx"
        assert localizer.localize(region.pictures[3]).cell == region.tokens[3]
    passed, chosen = (record.getMessage() for record in caplog.records)
    assert passed.startswith("passing over encoders/tensorrt-fp16/encoder.onnx: ")
    assert chosen == "backend onnx for encoders/onnx-fp32/encoder.onnx, on CPU"


def test_a_wanted_backend_that_does_not_run_here_is_not_replaced(
    region: TinyRegion, tmp_path: Path
) -> None:
    path = two_encoders(region, tmp_path / "two.geofix")
    with pytest.raises(BackendUnavailable, match="TensorRT"):
        Localizer.open(path, backend="tensorrt")


def test_where_no_encoder_runs_the_reason_is_the_first_ones(
    region: TinyRegion, tmp_path: Path
) -> None:
    for_gpu = replace(region.encoder, target="tensorrt")
    path = region.write(tmp_path / "gpu.geofix", encoders=[for_gpu])
    with pytest.raises(BackendUnavailable, match="TensorRT"):
        Localizer.open(path)


def test_a_pack_of_another_region_is_refused(pack_path: Path) -> None:
    Localizer.open(pack_path, region="tiny").close()
    with pytest.raises(PackVersionError, match="pack 'tiny', want 'town'"):
        Localizer.open(pack_path, region="town")


def test_a_prior_that_is_none_is_a_type_error_that_shows_one(
    pack_path: Path, region: TinyRegion
) -> None:
    with (
        Localizer.open(pack_path) as localizer,
        pytest.raises(TypeError, match=r"want a Prior: Prior\.disk\(lat, lon"),
    ):
        localizer.localize(region.pictures[0], prior=(47.37, 8.54, 500))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "code",
    [
        "Localizer.open(path, verify='all')",
        "RegionPack.open(path).verify(); Localizer.open(path)",
        "RegionPack.open(path).coverage.around(47.37, 8.54); Localizer.open(path)",
    ],
)
def test_shards_may_be_opened_before_the_encoder(pack_path: Path, code: str) -> None:
    # In a process of its own, where nothing has imported onnxruntime before usearch.
    program = f"import sys; from geofix import Localizer, RegionPack; path = sys.argv[1]; {code}"
    done = subprocess.run([sys.executable, "-c", program, str(pack_path)], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
