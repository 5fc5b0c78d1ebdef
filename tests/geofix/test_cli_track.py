"""`geofix localize --track`: the photos of a folder as one camera's drive."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image

from geofix import Localizer, Tracker
from geofix.cli import main
from tests.command_line import Run, runner
from tests.tiny_pack import TinyRegion

_DATE_TIME_ORIGINAL, _EXIF = 0x9003, 0x8769


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(main, capsys)


def save_drive(region: TinyRegion, folder: Path, *, seconds: list[int] | None = None) -> Path:
    """Save three pictures of one cell and two of another, with EXIF times where given."""
    folder.mkdir()
    start = datetime(2026, 5, 1, 12)
    for number, row in enumerate([0, 0, 0, 9, 9]):
        exif = Image.Exif()
        if seconds is not None:
            taken = start + timedelta(seconds=seconds[number])
            exif.get_ifd(_EXIF)[_DATE_TIME_ORIGINAL] = taken.strftime("%Y:%m:%d %H:%M:%S")
        Image.fromarray(region.pictures[row]).save(folder / f"{number}.jpg", quality=95, exif=exif)
    (folder / "notes.txt").write_text("no photo")
    return folder


def test_the_photos_of_a_folder_are_tracked_in_the_order_of_their_names(
    run: Run, pack_path: Path, region: TinyRegion, tmp_path: Path
) -> None:
    folder = save_drive(region, tmp_path / "drive")
    outcome = run("localize", pack_path, folder, "--track", "--json", "-k", 3)
    assumed = "geofix: no EXIF times: taken to be one photo a second, by name\n"
    assert (outcome.status, outcome.err) == (0, assumed)
    answers = [json.loads(line) for line in outcome.out.splitlines()]
    assert [answer["image"] for answer in answers] == [
        str(folder / f"{number}.jpg") for number in range(5)
    ]
    with Localizer.open(pack_path) as localizer:
        tracker = Tracker(localizer, k=3)
        for second, answer in enumerate(answers):
            fix = tracker.update(folder / f"{second}.jpg", time=second).to_json()
            assert {**answer, "timings_ms": 0, "image": 0} == {**fix, "timings_ms": 0, "image": 0}
    assert answers[3]["cell"] == region.tokens[0]  # one photo of cell 9 is not believed


def test_photos_with_times_are_tracked_in_their_order(
    run: Run, pack_path: Path, region: TinyRegion, tmp_path: Path
) -> None:
    folder = save_drive(region, tmp_path / "drive", seconds=[40, 30, 20, 10, 0])
    outcome = run("localize", pack_path, folder, "--track", "--json")
    answers = [json.loads(line) for line in outcome.out.splitlines()]
    assert [Path(answer["image"]).stem for answer in answers] == ["4", "3", "2", "1", "0"]


def test_a_slow_camera_stays_where_it_was(
    run: Run, pack_path: Path, region: TinyRegion, tmp_path: Path
) -> None:
    folder = save_drive(region, tmp_path / "drive")
    confidence = []
    for speed in ("0.1", "60"):
        words = ("--track", "--json", "--speed-mps", speed)
        outcome = run("localize", pack_path, *sorted(folder.glob("*.jpg"))[:4], *words)
        answer = json.loads(outcome.out.splitlines()[3])
        confidence.append({c["cell"]: c["probability"] for c in answer["candidates"]})
    first = region.tokens[0]
    assert confidence[0].get(first, 0) > confidence[1].get(first, 0)


def test_a_photo_that_cannot_be_read_is_told_and_the_drive_goes_on(
    run: Run, pack_path: Path, region: TinyRegion, tmp_path: Path
) -> None:
    folder = save_drive(region, tmp_path / "drive", seconds=[0, 1, 2, 3, 4])
    (folder / "2.jpg").write_bytes(b"broken")
    out = folder.parent / "drive.png"
    outcome = run("localize", pack_path, folder, "--track", "--map", out)
    assert out.exists()
    assert outcome.status == 1
    assert outcome.err.startswith(f"geofix: {folder / '2.jpg'}")
    assert len(outcome.out.splitlines()) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--track", "--prior", "47,8,900"], "want no prior"),
        (["--track", "--gps", "47,8,900"], "want no prior"),
        (["--track", "--speed-mps", "0"], "speed_mps is 0.0"),
    ],
)
def test_options_that_do_not_go_together_are_errors(
    run: Run, pack_path: Path, region: TinyRegion, tmp_path: Path, words: list[str], message: str
) -> None:
    outcome = run("localize", pack_path, save_drive(region, tmp_path / "drive"), *words)
    assert (outcome.status, outcome.out) == (1, "")
    assert message in outcome.err


def test_a_folder_without_photos_is_an_error(run: Run, pack_path: Path, tmp_path: Path) -> None:
    outcome = run("localize", pack_path, tmp_path, "--track")
    assert (outcome.status, outcome.out) == (1, "")
    assert f"no photo in {tmp_path}" in outcome.err


def test_a_folder_without_track_says_what_to_do(run: Run, pack_path: Path, tmp_path: Path) -> None:
    outcome = run("localize", pack_path, tmp_path)
    assert outcome.status == 1
    assert "--track" in outcome.err
