"""The short samples, one for each kind of user, run as they are."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geofix.geo import LatLon, distance_m, east_north_m
from geofix.pack_writer import sign_pack
from geofix.signing import generate_key
from geofix_index import cells as s2
from geofix_train.photo_table import write_photo_table
from samples import ar_anchor, bring_your_own_encoder, robot_loop
from tests.geofix_train.tiny_data import make_table
from tests.tiny_pack import CALIBRATION, HEIGHT, WIDTH, TinyRegion, make_onnx, projection

SAMPLES = Path(__file__).parents[2] / "samples"
SHORT = ("robot_loop", "ar_anchor", "bring_your_own_encoder")


@pytest.mark.parametrize("name", SHORT)
def test_a_sample_is_short(name: str) -> None:
    assert len((SAMPLES / f"{name}.py").read_text().splitlines()) < 40


@pytest.fixture
def frames(region: TinyRegion, tmp_path: Path) -> Path:
    """Return a folder of frames in one cell after the other, and one of a covered camera."""
    folder = tmp_path / "frames"
    folder.mkdir()
    rows = [("image", "time", "east_m", "north_m")]
    for number, (east_m, north_m) in enumerate(steps_m(region)):
        picture = region.pictures[number] if number < 5 else np.zeros((48, 64, 3), np.uint8)
        Image.fromarray(picture).save(folder / f"{number}.png")
        rows.append((f"{number}.png", str(10 * number), str(east_m), str(north_m)))
    with (folder / "odometry.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def steps_m(region: TinyRegion) -> list[list[float]]:
    """Return the ways, east and north, into each of five cells; at last there is none."""
    centres = s2.latlon_from_cell(region.cells[[0, 0, 1, 2, 3, 4, 4]])
    offsets = east_north_m(*centres.T, origin=LatLon(*centres[0].tolist()))
    steps: list[list[float]] = np.diff(offsets, axis=0).tolist()
    return steps


def test_the_robot_publishes_a_position_for_each_frame_once_it_is_sure(
    pack_path: Path, region: TinyRegion, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    robot_loop.main(pack_path, frames)
    published = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(published) == 6
    assert published[0] == {"frame": "0.png", "status": -1, "position_covariance_type": 0}
    for number, fix in enumerate(published[3:], start=3):
        centre = LatLon(*s2.latlon_from_cell(region.cells[min(number, 4)]).tolist())
        assert fix["status"] == 0
        assert distance_m(LatLon(fix["latitude"], fix["longitude"]), centre) < 100
        covariance = np.array(fix["position_covariance"]).reshape(3, 3)
        assert (np.linalg.eigvalsh(covariance) > 0).all()
        assert (covariance == covariance.T).all()


class Phone:
    """A signed pack, the key, and a photo of a cell."""

    def __init__(self, region: TinyRegion, folder: Path) -> None:
        self.pack = region.write(folder / "ours.geofix", calibration=CALIBRATION)
        private, public = generate_key()
        sign_pack(self.pack, private)
        self.key = folder / "key.pub"
        self.key.write_bytes(public)
        self.photo = folder / "photo.png"
        Image.fromarray(region.pictures[0]).save(self.photo)
        self.place = s2.latlon_from_cell(region.cells[0]).tolist()

    def said(self, capsys: pytest.CaptureFixture[str], *location: float) -> str:
        """Return what the sample prints for a rough location."""
        ar_anchor.main(str(self.pack), str(self.key), str(self.photo), *map(str, location))
        return capsys.readouterr().out


def test_the_app_loads_the_block_that_the_photo_shows(
    region: TinyRegion, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    phone = Phone(region, tmp_path)
    careful, said = phone.said(capsys, *phone.place, 200).splitlines()
    assert careful.startswith("careful: ")  # the pack knows of no validation photos
    assert said.startswith("anchors: of the block around ")
    Image.new("RGB", (64, 48)).save(phone.photo)
    assert "the photo tells no more" in phone.said(capsys, *phone.place, 200)


def test_the_app_fetches_another_pack_where_this_one_has_no_cell(
    region: TinyRegion, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    phone = Phone(region, tmp_path)
    assert phone.said(capsys, 0.0, 0.0, 200) == "nothing: fetch the pack of this place\n"


def test_any_encoder_makes_a_pack_that_finds_its_photos(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    num = 60
    table = make_table(
        tmp_path,
        num=num,
        split=[""] * num,
        lat=47.37 + 0.003 * (np.arange(num) // 10),
        lon=8.54 + 0.004 * (np.arange(num) % 10),
    )
    encoder, spec = tmp_path / "model.onnx", tmp_path / "spec.json"
    encoder.write_bytes(make_onnx(projection(np.random.default_rng(0))))
    spec.write_text(json.dumps({"width": WIDTH, "height": HEIGHT}))
    write_photo_table(table, tmp_path / "photos.parquet")
    pack, photo = tmp_path / "mine.geofix", table.photo_path(0)
    bring_your_own_encoder.main(tmp_path / "photos.parquet", encoder, spec, pack, photo)
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{num} photos in ")
    status, lat, lon, _ = last.split()
    assert status == "fixed"
    assert distance_m(LatLon(float(lat), float(lon)), LatLon(*table.latlon[0].tolist())) < 150
