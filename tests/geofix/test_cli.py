"""`geofix` from the words of its command line to what it prints and its exit status."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import geofix
from geofix.cli import main
from geofix.geo import distance_m
from geofix_index import cells as s2
from tests.command_line import Run, runner
from tests.geofix.forgery import flipped, read_contents, with_manifest
from tests.tiny_pack import CALIBRATION, TinyRegion

PACK_COMMANDS = ["info", "verify", "diff", "extract", "keygen", "sign"]
BENCH_COMMANDS = ["run", "report", "compare", "import"]
COMMANDS = [
    *("", "localize", "info", "pack", *(f"pack {c}" for c in PACK_COMMANDS)),
    *("bench", *(f"bench {c}" for c in BENCH_COMMANDS)),
]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the command line and catches what it prints."""
    return runner(main, capsys)


@pytest.fixture(scope="module")
def photos(region: TinyRegion, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return files of the first three pictures."""
    return save_pictures(region, tmp_path_factory.mktemp("photos"))


def save_pictures(region: TinyRegion, folder: Path) -> list[Path]:
    paths = [folder / f"{number}.png" for number in range(3)]
    for path, picture in zip(paths, region.pictures, strict=False):
        Image.fromarray(picture).save(path)
    return paths


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(run: Run, command: str) -> None:
    for flag in ("-h", "--help"):
        outcome = run(*command.split(), flag)
        assert outcome.status == 0
        assert outcome.out.startswith(f"usage: geofix {command}".rstrip())
        assert len(outcome.out.splitlines()) > 3
        assert outcome.err == ""


def test_the_version_is_printed(run: Run) -> None:
    assert run("--version") == (0, f"geofix {geofix.__version__}\n", "")


def test_each_photo_gets_a_line(
    run: Run, pack_path: Path, photos: list[Path], region: TinyRegion
) -> None:
    outcome = run("localize", pack_path, *photos)
    assert (outcome.status, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert len(lines) == 3
    for line, path, cell in zip(lines, photos, region.cells, strict=False):
        lat, lon = s2.latlon_from_cell(cell)
        assert line.startswith(f"{path}: fixed  ")
        assert f"  {lat:.5f}, {lon:.5f}  within " in line  # the neighbours' shares are tiny
        assert re.search(r" m \(68 %\), \d+ m \(95 %\)  confidence (0\.9|1\.0)", line)


def test_a_prior_conflict_is_said(
    run: Run, photos: list[Path], region: TinyRegion, tmp_path: Path
) -> None:
    known = replace(CALIBRATION, levels=(0.7, 0.9), conflict=3.0)
    encoder = replace(region.encoder, calibration=known)
    pack = region.write(tmp_path / "known.geofix", encoders=[encoder])
    alone = r"  prior conflict, the photo alone says: fixed  \d+\.\d{5}, .* confidence 1\.00"
    for row, end in ((0, "  sure"), (-1, alone)):
        lat, lon = s2.latlon_from_cell(region.cells[row]).tolist()
        outcome = run("localize", pack, photos[0], "--prior", f"{lat},{lon},300")
        assert re.search(rf"confidence 0\.\d\d{end}\n|confidence 1\.00{end}\n", outcome.out), end
    answer = json.loads(
        run("localize", pack, photos[0], "--prior", f"{lat},{lon},300", "--json").out
    )
    assert answer["prior_conflict"] is True
    assert set(answer["unrestricted"]) == {
        *("lat", "lon", "status", "confidence", "accuracy_m", "radius95_m")
    }


def test_json_is_one_flat_object_a_line(
    run: Run, pack_path: Path, photos: list[Path], region: TinyRegion
) -> None:
    outcome = run("localize", pack_path, *photos, "--json", "-k", "2")
    assert (outcome.status, outcome.err) == (0, "")
    answers = [json.loads(line) for line in outcome.out.splitlines()]
    assert [answer["image"] for answer in answers] == [str(path) for path in photos]
    assert [answer["cell"] for answer in answers] == region.tokens[:3]
    for answer in answers:
        assert list(answer) == [
            *("image", "lat", "lon", "cell", "status", "accuracy_m", "radius95_m"),
            *("covariance_m2", "confidence", "candidates", "pack_id", "captured_at", "timings_ms"),
            *("prior_conflict", "prior_gain", "unrestricted", "is_tracked", "is_sure"),
        ]
        assert answer["status"] == "fixed"
        assert answer["pack_id"] == "tiny"
        assert len(answer["candidates"]) == 2
        assert answer["accuracy_m"] > 0
        centre = geofix.LatLon(*s2.latlon_from_cell(s2.cell_from_token(answer["cell"])).tolist())
        assert distance_m(geofix.LatLon(answer["lat"], answer["lon"]), centre) < 50


def test_json_of_an_uncalibrated_pack_has_nulls(
    run: Run, region: TinyRegion, photos: list[Path], tmp_path: Path
) -> None:
    encoder = replace(region.encoder, calibration=None)
    path = region.write(tmp_path / "bare.geofix", encoders=[encoder])
    (answer,) = map(json.loads, run("localize", path, photos[0], "--json").out.splitlines())
    assert answer["status"] == "ambiguous"
    assert answer["accuracy_m"] is None
    assert answer["confidence"] is None
    assert run("localize", path, photos[0]).out.count("%") == 0


def test_geojson_is_a_collection_of_points(
    run: Run, pack_path: Path, photos: list[Path], region: TinyRegion
) -> None:
    outcome = run("localize", pack_path, *photos, "--geojson")
    collection = json.loads(outcome.out)
    assert outcome.status == 0
    assert collection["type"] == "FeatureCollection"
    assert [feature["properties"]["cell"] for feature in collection["features"]] == region.tokens[
        :3
    ]
    for feature in collection["features"]:
        assert feature["type"] == "Feature"
        assert feature["geometry"]["type"] == "Point"
        lon, lat = feature["geometry"]["coordinates"]
        assert lon == pytest.approx(feature["properties"]["lon"], abs=1e-6)
        assert lat == pytest.approx(feature["properties"]["lat"], abs=1e-6)
        assert 8 < lon < 9 < 47 < lat < 48


@pytest.mark.parametrize("form", ["--json", "--geojson", None])
def test_a_bad_image_does_not_stop_the_others(
    run: Run, pack_path: Path, photos: list[Path], tmp_path: Path, form: str | None
) -> None:
    bad, absent = tmp_path / "bad.jpg", tmp_path / "absent.jpg"
    bad.write_bytes(b"text")
    flags = [] if form is None else [form]
    outcome = run("localize", pack_path, photos[0], bad, absent, photos[1], *flags)
    assert outcome.status == 1
    errors = outcome.err.splitlines()
    assert len(errors) == 2
    assert errors[0].startswith(f"geofix: {bad}: ")
    assert errors[1].startswith("geofix: ")
    assert "absent.jpg" in errors[1]
    if form == "--json":
        answers = [json.loads(line) for line in outcome.out.splitlines()]
        assert [Path(answer["image"]) for answer in answers] == [photos[0], bad, absent, photos[1]]
        assert set(answers[1]) == set(answers[2]) == {"image", "error"}
        assert "bad.jpg" in answers[1]["error"]
        assert answers[3]["status"] == "fixed"
    elif form == "--geojson":
        assert len(json.loads(outcome.out)["features"]) == 2
    else:
        assert len(outcome.out.splitlines()) == 2


def test_a_map_is_drawn(run: Run, pack_path: Path, photos: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "out" / "map.png"
    assert run("localize", pack_path, *photos, "--map", path).status == 0
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert len(np.unique(np.asarray(image).reshape(-1, 3), axis=0)) > 5


def test_a_prior_restricts(
    run: Run, pack_path: Path, photos: list[Path], region: TinyRegion
) -> None:
    lat, lon = s2.latlon_from_cell(region.cells[100])
    outcome = run("localize", pack_path, photos[0], "--prior", f"{lat},{lon},10", "--json")
    assert json.loads(outcome.out)["cell"] == region.tokens[100]


def test_a_soft_prior_is_weighed(
    run: Run, photos: list[Path], region: TinyRegion, tmp_path: Path
) -> None:
    known = replace(CALIBRATION, levels=(0.7, 0.9), conflict=3.0)
    pack = region.write(
        tmp_path / "known.geofix", encoders=[replace(region.encoder, calibration=known)]
    )
    lat, lon = s2.latlon_from_cell(region.cells[100]).tolist()  # away from the photo's place
    gains = []
    for accuracy_m in (2000, 100):
        words = ("localize", pack, photos[0], "--gps", f"{lat},{lon},{accuracy_m}", "--json")
        gains.append(json.loads(run(*words).out)["prior_gain"])
    with geofix.Localizer.open(pack) as localizer:
        prior = geofix.Prior.from_android(lat, lon, accuracy_m=100)
        wanted = localizer.localize(photos[0], prior=prior).prior_gain
    assert gains[0] > gains[1] == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize("join", [" ", "="])
@pytest.mark.parametrize("option", ["--prior", "--gps"])
def test_a_prior_with_a_negative_latitude_works(
    run: Run,
    southern_pack_path: Path,
    southern_region: TinyRegion,
    tmp_path: Path,
    option: str,
    join: str,
) -> None:
    lat, lon = s2.latlon_from_cell(southern_region.cells[1])
    flags = f"{option}{join}{lat:.6f},{lon:.6f},500".split()
    assert flags[-1].removeprefix(f"{option}=").startswith("-33.9")
    photos = save_pictures(southern_region, tmp_path)
    for words in ([*flags, southern_pack_path, photos[1]], [southern_pack_path, photos[1], *flags]):
        outcome = run("localize", "--json", *words)
        assert (outcome.status, outcome.err) == (0, "")
        assert json.loads(outcome.out)["cell"] == southern_region.tokens[1]


def test_a_prior_elsewhere_is_one_line(run: Run, pack_path: Path, photos: list[Path]) -> None:
    outcome = run("localize", pack_path, photos[0], "--prior", "-33.9,18.4,500")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith("geofix: the prior (disk of 500 m around -33.90000, 18.40000)")
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["fly"],
        ["localize"],
        ["localize", "PACK"],
        ["localize", "PACK", "IMAGE", "--prior"],
        ["localize", "PACK", "IMAGE", "--prior", "47,8"],
        ["localize", "PACK", "IMAGE", "--prior", "47,8,0"],
        ["localize", "PACK", "IMAGE", "--prior", "91,8,100"],
        ["localize", "PACK", "IMAGE", "--prior", "here"],
        ["localize", "PACK", "IMAGE", "--gps", "47,8,-1"],
        ["localize", "PACK", "IMAGE", "--prior", "47,8,9", "--gps", "47,8,9"],
        ["localize", "PACK", "IMAGE", "--backend", "abacus"],
        ["localize", "PACK", "IMAGE", "-k", "many"],
        ["localize", "PACK", "IMAGE", "--json", "--geojson"],
        ["pack"],
        ["pack", "burn", "PACK"],
        ["pack", "info"],
        ["pack", "verify"],
        ["info", "PACK"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(
    run: Run, pack_path: Path, photos: list[Path], words: list[str]
) -> None:
    names: dict[str, Any] = {"PACK": pack_path, "IMAGE": photos[0]}
    outcome = run(*(names.get(word, word) for word in words))
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith("usage: geofix")


@pytest.mark.parametrize(
    "words", [["localize", "PACK", "IMAGE"], ["pack", "info", "PACK"], ["pack", "verify", "PACK"]]
)
@pytest.mark.parametrize("kind", ["absent", "text", "empty", "cut", "later", "damaged", "folder"])
def test_a_pack_that_cannot_be_used_is_one_line(
    run: Run, pack_path: Path, photos: list[Path], tmp_path: Path, words: list[str], kind: str
) -> None:
    data = pack_path.read_bytes()
    content = {
        "text": b"not a pack" * 50,
        "empty": b"",
        "cut": data[: len(data) // 2],
        "later": with_manifest(read_contents(pack_path), lambda m: m.update(format_version=9)),
        "damaged": flipped(data, data.index(b"codebook.pq") + 300),
    }.get(kind)
    pack = tmp_path if kind == "folder" else tmp_path / "bad.geofix"
    if content is not None:
        pack.write_bytes(content)
    outcome = run(*({"PACK": pack, "IMAGE": photos[0]}.get(word, word) for word in words))
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith("geofix: ")
    assert str(pack) in outcome.err
    assert outcome.err.count("\n") == 1


def test_an_unavailable_backend_is_one_line(run: Run, pack_path: Path, photos: list[Path]) -> None:
    outcome = run("localize", pack_path, photos[0], "--backend", "tensorrt")
    assert outcome.status == 1
    assert outcome.err == "geofix: the pack has no encoder for 'tensorrt'; it has onnx\n"


def test_an_encoder_that_cannot_be_run_is_one_line(
    run: Run, region: TinyRegion, photos: list[Path], tmp_path: Path
) -> None:
    encoder = replace(region.encoder, data=region.encoder.data[:-500])
    outcome = run("localize", region.write(tmp_path / "a.geofix", encoders=[encoder]), photos[0])
    assert outcome.status == 1
    assert outcome.err.startswith("geofix: ONNX Runtime cannot")
    assert outcome.err.count("\n") == 1


def test_no_candidates_are_an_error(run: Run, pack_path: Path, photos: list[Path]) -> None:
    outcome = run("localize", pack_path, photos[0], "-k", "0")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err == "geofix: k is 0, want at least 1\n"


def test_a_pack_is_described(run: Run, region: TinyRegion, tmp_path: Path) -> None:
    path = region.write(
        tmp_path / "town.geofix", pack_version=3, attribution="A. Mapper", license="CC0-1.0"
    )
    outcome = run("pack", "info", path)
    assert outcome.status == 0
    rows = [line.split(None, 1) for line in outcome.out.splitlines()]
    described = dict(rows)
    assert described["pack"] == "town, version 3"
    assert described["attribution"] == "A. Mapper (CC0-1.0)"
    assert described["cells"] == f"{len(region.cells)} of S2 level 16"
    assert described["encoder"].startswith("onnx fp32, 32 x 24 px, 0.0")
    assert described["encoder"].endswith("MB, calibrated")
    assert described["size"] == f"{path.stat().st_size / 1e6:.2f} MB"
    assert "32 dimensions in 8 bytes (16 x 4 bits)" in outcome.out


def test_a_manifest_is_printed_as_json(run: Run, pack_path: Path) -> None:
    outcome = run("pack", "info", pack_path, "--json")
    assert outcome.status == 0
    assert json.loads(outcome.out) == json.loads(read_contents(pack_path)["manifest.json"])


def test_a_good_pack_is_verified(run: Run, pack_path: Path) -> None:
    num_entries = len(read_contents(pack_path))
    wanted = f"{pack_path}: {num_entries} entries, all as they should be; not signed\n"
    assert run("pack", "verify", pack_path) == (0, wanted, "")


def test_info_names_versions_and_the_kernel(run: Run) -> None:
    outcome = run("info")
    described = dict(line.split(None, 1) for line in outcome.out.splitlines())
    assert outcome.status == 0
    assert described["geofix"] == geofix.__version__
    assert described["numpy"] == np.__version__
    assert list(described)[2:4] == ["kernel", "resampling"]
    assert {"pillow", "usearch", "onnxruntime"} <= set(described)


def test_a_reader_that_has_had_enough_is_no_error(pack_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    code = "import sys; from geofix.cli import main; sys.exit(main())"
    words = [sys.executable, "-c", code, "pack", "info", str(pack_path)]
    done = subprocess.run(words, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_pattern_that_no_shell_expanded_names_its_files(run: Run) -> None:
    outcome = run("localize", "samples/town/town.geofix", "samples/town/photo_[12].jpg")
    assert outcome.status == 0
    assert [line.partition(":")[0] for line in outcome.out.splitlines()] == [
        "samples/town/photo_1.jpg",
        "samples/town/photo_2.jpg",
    ]


def test_a_pattern_without_files_is_an_error(run: Run) -> None:
    outcome = run("localize", "samples/town/town.geofix", "samples/town/*.xyz")
    assert outcome == (1, "", "geofix: samples/town/*.xyz: no file matches\n")


def test_the_map_shows_where_photos_say_that_they_were_taken(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "map.png"
    words = ("localize", "samples/town/town.geofix", "samples/town/photo_6.jpg")
    assert run(*words, "--map", out).status == 0
    with Image.open(out) as image:
        drawn = {colour for _, colour in image.convert("RGB").getcolors(1 << 24) or ()}
    assert (0, 158, 115) in drawn  # the true position, 800 m from the fix


def test_a_map_is_a_png(run: Run, tmp_path: Path) -> None:
    words = ("localize", "samples/town/town.geofix", "samples/town/photo_1.jpg")
    outcome = run(*words, "--map", tmp_path / "map.jpg")
    assert outcome.status == 2
    assert "want a name that ends in .png" in outcome.err
