"""`geofix pack` from the words of its command line to what it prints and its exit status."""

import json
import re
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geofix.cli import main
from geofix.manifest import EntryDigest
from geofix.pack import RegionPack
from geofix.pack_writer import PackText, PackWriter
from geofix.posterior import Calibration
from geofix.validation import Validation
from geofix_index import ShardFiles, build_shard
from geofix_index import cells as s2
from tests.command_line import Run, runner
from tests.geofix.forgery import flipped, read_contents, with_manifest
from tests.tiny_pack import CALIBRATION, TinyRegion

VALIDATED = Calibration(
    CALIBRATION.temperature,
    CALIBRATION.elsewhere,
    {"all": Validation(400, 0.48, 0.6, 61.2, 0.95), "photographed": Validation(300, 0.5, 0.7, 50)},
)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the command line and catches what it prints."""
    return runner(main, capsys)


@pytest.fixture(scope="module")
def told_pack(region: TinyRegion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of a pack that says which cells are photographed, and what to expect."""
    path = tmp_path_factory.mktemp("packs") / "told.geofix"
    with PackWriter(path, region.quantizer) as writer:
        for parent, files in region.shards:
            num = (s2.parent(region.cells, level=10) == parent).sum()
            writer.add_shard(files, photographed=np.ones(num, bool))
        encoder = replace(region.encoder, calibration=VALIDATED)
        writer.finish(PackText("told", "Told"), encoders=[encoder])
    return path


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of a secret key, with its public key beside it."""
    path = tmp_path_factory.mktemp("keys") / "release"
    assert main(["pack", "keygen", "-o", str(path)]) == 0
    return path


def rows(text: str) -> dict[str, str]:
    return {line[:12].strip(): line[12:] for line in text.splitlines()}


def test_info_tells_coverage_and_what_to_expect(run: Run, told_pack: Path) -> None:
    told = rows(run("pack", "info", told_pack).out)
    assert re.fullmatch(
        r"cells on (\S+) of the (\S+) km2 of the outline, 100 % with ground photos",
        told["coverage"],
    )
    assert told["expected"] == (
        "48 % of photos fixed (95 % of these within 100 m), median error 61 m, "
        "by 400 validation photos"
    )
    assert told["signed"] == "no"


def test_info_says_where_nothing_is_known_of_answers(run: Run, pack_path: Path) -> None:
    assert rows(run("pack", "info", pack_path).out)["expected"].startswith("not known: ")


def test_json_knows_no_places(run: Run, pack_path: Path) -> None:
    outcome = run("pack", "info", pack_path, "--at", "47,8", "--json")
    assert (outcome.status, outcome.out) == (1, "")
    assert "want --at without it" in outcome.err


def test_info_tells_of_a_place(run: Run, told_pack: Path, region: TinyRegion) -> None:
    lat, lon = s2.latlon_from_cell(region.cells[100]).tolist()
    told = rows(run("pack", "info", told_pack, "--at", f"{lat},{lon}").out)
    assert told["here"].startswith("a cell with ground photos; ")
    assert told["here"].endswith(" cells within 500 m, 100 % with ground photos")
    assert (
        told[""]
        == "in such cells 50 % of photos fixed, median error 50 m, by 300 validation photos"
    )
    lost = "no cell: a photo taken here has no right answer"
    told = rows(run("pack", "info", told_pack, "--at", "-47.37,8.54").out)
    assert told["here"] == f"{lost}; 0 cells within 500 m"
    told = rows(run("pack", "info", told_pack, "--at", f"{lon},{lat}").out)
    assert told["here"] == f"{lost} (are lat and lon swapped?); 0 cells within 500 m"


def test_info_draws_what_a_pack_covers(run: Run, told_pack: Path, tmp_path: Path) -> None:
    assert run("pack", "info", told_pack, "--map", tmp_path / "map.png").status == 0
    picture = np.asarray(Image.open(tmp_path / "map.png").convert("RGB")).reshape(-1, 3)
    colours, counts = np.unique(picture, axis=0, return_counts=True)
    assert (146, 190, 220) in {tuple(c) for c, n in zip(colours.tolist(), counts, strict=True)
                               if n > 0.3 * len(picture)}  # fmt: skip


def test_a_pack_is_signed_and_verified(
    run: Run, pack_path: Path, key: Path, tmp_path: Path
) -> None:
    signed = tmp_path / "signed.geofix"
    assert run("pack", "sign", pack_path, "--key", key, "-o", signed) == (
        0, f"{signed}: signed\n", "",
    )  # fmt: skip
    assert run("pack", "verify", signed, "--key", f"{key}.pub").out.endswith(
        "signed with this key\n"
    )
    assert run("pack", "verify", signed).out.endswith(
        "all as they should be; signed, but by whom was not checked: no --key\n"
    )
    assert rows(run("pack", "info", signed).out)["signed"].startswith("yes")


def test_a_pack_is_signed_in_place(run: Run, region: TinyRegion, key: Path, tmp_path: Path) -> None:
    path = region.write(tmp_path / "a.geofix")
    assert run("pack", "sign", path, "--key", key).status == 0
    RegionPack.open(path, public_key=f"{key}.pub").verify()


def test_an_unsigned_pack_is_refused_where_a_key_is_given(
    run: Run, pack_path: Path, key: Path, tmp_path: Path
) -> None:
    photo = tmp_path / "photo.png"
    for words in (["pack", "verify", pack_path], ["localize", pack_path, photo]):
        outcome = run(*words, "--key", f"{key}.pub")
        assert (outcome.status, outcome.out) == (1, "")
        assert outcome.err == (
            f"geofix: {pack_path}: the pack is not signed, and a key was given to check it with\n"
        )


def test_a_damaged_pack_is_not_signed(run: Run, pack_path: Path, key: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.geofix"
    data = pack_path.read_bytes()
    damaged.write_bytes(flipped(data, len(data) // 2))
    outcome = run("pack", "sign", damaged, "--key", key, "-o", tmp_path / "signed.geofix")
    assert outcome.status == 1
    assert "is damaged" in outcome.err
    assert not (tmp_path / "signed.geofix").exists()


def test_a_secret_key_is_for_its_owner_alone_and_never_replaced(run: Run, key: Path) -> None:
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes()
    outcome = run("pack", "keygen", "-o", key)
    assert outcome.status == 1
    assert outcome.err == f"geofix: {key}: there is one already, and keys are not replaced\n"
    assert key.read_bytes() == before


def test_no_secret_key_is_made_beside_a_public_key_of_another(run: Run, tmp_path: Path) -> None:
    (tmp_path / "new.pub").write_bytes(b"of another")
    outcome = run("pack", "keygen", "-o", tmp_path / "new")
    assert outcome.status == 1
    assert "new.pub: there is one already" in outcome.err
    assert not (tmp_path / "new").exists()
    assert run("pack", "keygen", "-o", tmp_path / "folder" / "new").status == 0


def test_an_older_pack_is_refused(run: Run, pack_path: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    for words in (["pack", "verify", pack_path], ["localize", pack_path, photo]):
        outcome = run(*words, "--min-version", "2")
        assert outcome.status == 1
        assert outcome.err.endswith("pack version 1, want at least 2: get the newer pack\n")


@pytest.mark.parametrize("option", ["--prior", "--bbox"])
def test_a_part_is_cut_out(run: Run, pack_path: Path, tmp_path: Path, option: str) -> None:
    box = RegionPack.open(pack_path).manifest.bounds
    lat, lon = (box.south + box.north) / 2, (box.west + box.east) / 2
    region = f"{lat},{lon},500" if option == "--prior" else f"{lat},{lon},{box.north},{box.east}"
    out = tmp_path / "part.geofix"
    outcome = run("pack", "extract", pack_path, option, region, "-o", out, "--title", "A part")
    part = RegionPack.open(out)
    part.verify()
    manifest = part.manifest
    named = f"{out}: {manifest.pack_id}, version 1, {manifest.num_cells} cells, "
    assert outcome.out.startswith(named)
    assert part.manifest.title == "A part"
    assert part.manifest.num_cells < RegionPack.open(pack_path).manifest.num_cells / 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--prior", "1,2"], "want LAT,LON,RADIUS_M, got '1,2'"),
        (["--bbox", "2,0,1,0"], "want SOUTH,WEST,NORTH,EAST, got '2,0,1,0'"),
        (["--bbox", "a,0,1,0"], "want SOUTH,WEST,NORTH,EAST, got 'a,0,1,0'"),
        ([], "one of the arguments --prior --bbox is required"),
    ],
)
def test_a_region_that_is_none_is_wrong_usage(
    run: Run, pack_path: Path, words: list[str], message: str
) -> None:
    outcome = run("pack", "extract", pack_path, *words, "-o", "part.geofix")
    assert outcome.status == 2
    assert message in outcome.err


def test_a_southern_box_and_place_are_understood(
    run: Run, southern_pack_path: Path, tmp_path: Path
) -> None:
    box = RegionPack.open(southern_pack_path).manifest.bounds
    out, words = tmp_path / "part.geofix", f"{box.south},{box.west},{box.north},{box.east}"
    assert run("pack", "extract", southern_pack_path, "--bbox", words, "-o", out).status == 0
    place = f"{(box.south + box.north) / 2},{(box.west + box.east) / 2}"
    assert "a cell" in rows(run("pack", "info", out, "--at", place).out)["here"]


def test_an_encoder_that_is_elsewhere_is_told_and_taken(
    run: Run, region: TinyRegion, tmp_path: Path
) -> None:
    digest = EntryDigest.of(region.encoder.data)
    encoder = replace(region.encoder, data=b"", referenced=digest)
    pack = region.write(tmp_path / "light.geofix", encoders=[encoder])
    assert f"not in the pack: SHA-256 {digest.sha256}" in run("pack", "info", pack).out
    model, photo = tmp_path / "encoder.onnx", tmp_path / "0.png"
    model.write_bytes(region.encoder.data)
    Image.fromarray(region.pictures[0]).save(photo)
    outcome = run("localize", pack, photo, "--encoder", model, "--json")
    assert json.loads(outcome.out)["cell"] == region.tokens[0]


def test_a_later_format_is_one_line(run: Run, pack_path: Path, tmp_path: Path) -> None:
    later = tmp_path / "later.geofix"
    later.write_bytes(with_manifest(read_contents(pack_path), lambda m: m.update(format_version=2)))
    outcome = run("pack", "info", later)
    assert outcome.status == 1
    assert outcome.err.endswith("the pack has format 2, this geofix reads up to 1: update geofix\n")


def test_a_pack_of_another_region_is_refused(run: Run, pack_path: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    for words in (["pack", "verify", pack_path], ["localize", pack_path, photo]):
        outcome = run(*words, "--region", "another")
        assert outcome.status == 1
        assert outcome.err.endswith("pack 'tiny', want 'another'\n")
    assert run("pack", "verify", pack_path, "--region", "tiny").status == 0


def test_what_a_later_release_has_anew_is_told(
    run: Run, region: TinyRegion, tmp_path: Path
) -> None:
    old = region.write(tmp_path / "old.geofix", pack_version=1)
    changed = replace(region, shards=(region.shards[0], *other_shards(region)))
    new = changed.write(tmp_path / "new.geofix", pack_version=2)
    told = json.loads(run("pack", "diff", old, new, "--json").out)
    (parent,) = {name.split("/")[-1].split(".")[0] for name in told if name != "manifest.json"}
    assert parent == s2.token_from_cell(region.shards[1][0])
    contents = read_contents(new)
    for name, (start, stop) in told.items():
        assert new.read_bytes()[start:stop] == contents[name]
    lines = run("pack", "diff", old, new).out.splitlines()
    assert len(lines) == len(told) + 1
    assert lines[-1].startswith(f"{sum(b - a for a, b in told.values())} bytes of {len(told)}")


def other_shards(region: TinyRegion) -> list[tuple[int, ShardFiles]]:
    """Return the shards after the first, the second with a changed code."""
    parent = region.shards[1][0]
    own = s2.parent(region.cells, level=10) == parent
    codes = region.cell_codes[own].copy()
    codes[0] *= -1
    pq_codes = region.quantizer.encode(codes)
    files = build_shard(
        region.cells[own], pq_codes, region.quantizer, parent=parent, kind=region.shards[1][1].kind
    )
    return [(parent, files), *region.shards[2:]]


def test_a_pack_is_not_cut_into_itself(run: Run, region: TinyRegion, tmp_path: Path) -> None:
    path = region.write(tmp_path / "a.geofix")
    before = path.read_bytes()
    outcome = run("pack", "extract", path, "--bbox=-90,-180,90,180", "-o", path)
    assert outcome.status == 1
    assert "is the pack to cut from: write the part to another file" in outcome.err
    assert path.read_bytes() == before


def test_a_folder_in_place_of_a_pack_is_one_line(
    run: Run, pack_path: Path, key: Path, tmp_path: Path
) -> None:
    for words in (
        ["extract", pack_path, "--bbox=-90,-180,90,180"],
        ["sign", pack_path, "--key", key],
    ):
        outcome = run("pack", *words, "-o", tmp_path)
        assert outcome.status == 1
        assert outcome.err == f"geofix: {tmp_path}: is a folder, want the path of a pack\n"
    assert list(tmp_path.iterdir()) == []
