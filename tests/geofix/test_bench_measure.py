"""Runs on tiny packs: what is measured, and what is left when a run stops early."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from geofix.backends.onnx import OnnxEncoder
from geofix.bench import STAGES, LatencyReport, MovingPrior, measure, photos
from geofix.bench.collect import Collector
from geofix.bench.machine import UNKNOWN
from geofix.bench.measure import _notes
from geofix.bench.photos import image_files, read_photos
from geofix.errors import BackendUnavailable, PriorOutsidePack
from geofix.exif import place_from_exif
from geofix.geo import LatLon, distance_m
from geofix.localizer import Localizer
from geofix.pack import RegionPack
from geofix_index import cells as s2
from tests.tiny_pack import TinyRegion

BRIEFLY = 0.2  # seconds


@pytest.fixture(scope="module")
def folder(region: TinyRegion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of photos whose EXIF says where they were taken: two right, one 1 km off."""
    out = tmp_path_factory.mktemp("photos")
    for number in range(3):
        lat, lon = s2.latlon_from_cell(region.cells[number]).tolist()
        lat += 0.009 if number == 2 else 0
        picture = Image.fromarray(region.pictures[number])
        picture.save(out / f"{number}.png", exif=exif_of(picture, lat, lon))
    return out


def exif_of(picture: Image.Image, lat: float, lon: float) -> Image.Exif:
    exif = picture.getexif()
    exif[0x8825] = {
        1: "N" if lat >= 0 else "S", 2: (abs(lat), 0.0, 0.0),
        3: "E" if lon >= 0 else "W", 4: (abs(lon), 0.0, 0.0),
    }  # fmt: skip
    return exif


@pytest.fixture(scope="module")
def report(pack_path: Path, folder: Path) -> LatencyReport:
    """Return what a short run finds."""
    return measure(pack_path, images=folder, duration_s=BRIEFLY, num_threads=2, label="here")


def test_each_stage_is_measured_alike(report: LatencyReport) -> None:
    assert list(report.stages) == list(STAGES)
    assert len({stage.num for stage in report.stages.values()}) == 1
    for stage in report.stages.values():
        assert 0 <= stage.p50_ms <= stage.p90_ms <= stage.p95_ms <= stage.p99_ms <= stage.max_ms
        assert stage.max_ms > 0


def test_a_total_holds_its_parts(report: LatencyReport) -> None:
    lasting = {name: np.array(stage.samples_ms) for name, stage in report.stages.items()}
    assert (lasting["total_jpeg"] > lasting["decode"]).all()
    assert (lasting["total_array"] > lasting["preprocess"] + lasting["encode"]).all()


def test_a_run_tells_what_it_was_made_with(report: LatencyReport, pack_path: Path) -> None:
    pack = RegionPack.open(pack_path)
    assert report.is_complete
    assert (report.label, report.backend, report.precision) == ("here", "onnx", "fp32")
    assert report.compute_unit == "CPU"
    assert report.runtime.startswith("onnxruntime ")
    assert report.pack is not None
    assert report.pack.manifest_sha256 == pack.manifest_sha256
    assert report.pack.num_bytes == pack_path.stat().st_size
    assert report.pack.encoder_bytes == len(pack.read(report.pack.encoder))
    assert report.photos is not None
    assert (report.photos.num, report.photos.width, report.photos.height) == (3, 64, 48)
    assert not report.photos.is_synthetic
    assert "CPUExecutionProvider" in report.machine.providers
    assert report.open_ms is not None
    assert report.first_call_ms is not None
    assert report.warm_up is not None
    assert min(report.open_ms, report.first_call_ms, report.warm_up.total_ms) > 0


def test_memory_is_that_of_a_process_of_its_own(report: LatencyReport) -> None:
    assert report.memory is not None
    assert 20e6 < report.memory.steady_bytes <= report.memory.peak_bytes < 1e9


def test_threads_share_the_localizer(report: LatencyReport) -> None:
    assert report.throughput is not None
    assert report.throughput.num_threads == 2
    assert report.throughput.num_fixes >= 2
    assert report.throughput.fixes_per_s > 0


def test_recall_is_counted_where_photos_have_a_place(report: LatencyReport) -> None:
    assert report.recall is not None
    assert report.recall.num_photos == 3
    assert report.recall.within_100m == pytest.approx(2 / 3, abs=1e-4)
    assert report.recall.median_error_m < 50


def test_a_report_of_a_run_comes_back_and_names_no_folder(
    report: LatencyReport, tmp_path: Path, pack_path: Path
) -> None:
    report.write(tmp_path / "out.json")
    text = (tmp_path / "out.json").read_text()
    assert LatencyReport.from_json(json.loads(text)) == report
    for folder in (pack_path.parent, Path.home(), Path(__file__).parent):
        assert str(folder) not in text


def test_without_images_photos_of_a_camera_are_drawn(pack_path: Path) -> None:
    report = measure(pack_path, duration_s=BRIEFLY, encoder_threads=1)
    assert "threads of the encoder: 1" in report.notes
    assert report.photos is not None
    assert report.photos.is_synthetic
    assert (report.photos.width, report.photos.height) == (1920, 1080)
    assert report.photos.jpeg_bytes > 200_000  # a picture without detail is decoded too fast
    assert report.recall is None


@pytest.fixture
def fail_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, BaseException], None]:
    """Return a function that makes encoders raise after some calls."""

    def set_up(num_calls: int, error: BaseException) -> None:
        encode, calls = OnnxEncoder.encode, iter(range(num_calls))

        def failing(self: OnnxEncoder, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
            if next(calls, None) is None:
                raise error
            return encode(self, images)

        monkeypatch.setattr(OnnxEncoder, "encode", failing)

    return set_up


@pytest.mark.parametrize(
    ("error", "stopped"),
    [
        (KeyboardInterrupt(), "interrupted"),
        (
            BackendUnavailable("C:/models/secret.onnx: the GPU fell off the bus"),
            "BackendUnavailable",
        ),
        (RuntimeError("out of memory"), "RuntimeError"),
    ],
)
def test_what_was_measured_before_a_run_stopped_is_kept(
    pack_path: Path,
    folder: Path,
    fail_after: Callable[[int, BaseException], None],
    error: BaseException,
    stopped: str,
) -> None:
    fail_after(60, error)
    report = measure(pack_path, images=folder, duration_s=60)
    assert report.stopped == stopped
    assert not report.is_complete
    assert 10 <= report.stages["encode"].num <= 30
    assert report.throughput is None
    assert report.memory is None
    assert "secret" not in json.dumps(report.to_json())


def test_threads_end_when_one_of_them_fails(
    pack_path: Path, folder: Path, fail_after: Callable[[int, BaseException], None]
) -> None:
    fail_after(60, RuntimeError("out of memory"))
    with Localizer.open(pack_path) as localizer:
        run = Collector(localizer, read_photos(image_files(folder)), prior=None)
        with pytest.raises(RuntimeError, match="out of memory"):
            run.measure_throughput(3600.0, num_threads=3)
    assert run.throughput is None


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_ends_the_command_without_a_traceback(pack_path: Path) -> None:
    # Programs in the background of a shell begin with Ctrl-C ignored.
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "from geofix.cli import main; sys.exit(main())"
    program = [sys.executable, "-c", code]
    words = ["bench", "run", str(pack_path), "--duration", "3600"]
    with subprocess.Popen([*program, *words], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "Ctrl-C keeps" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        errors = process.stderr.read()
    assert process.returncode == 130
    assert errors.startswith("geofix: ")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), BackendUnavailable("no GPU")])
def test_a_run_that_measured_nothing_raises(
    pack_path: Path,
    folder: Path,
    fail_after: Callable[[int, BaseException], None],
    error: BaseException,
) -> None:
    fail_after(10, error)  # in the warm-up
    with pytest.raises(type(error)):
        measure(pack_path, images=folder, duration_s=60)


@pytest.mark.parametrize(("load", "num_notes"), [(0.0, 0), (0.9, 0), (1.0, 1), (7.5, 1)])
def test_a_machine_that_was_busy_before_is_noted(load: float, num_notes: int) -> None:
    notes = _notes(replace(UNKNOWN, cores=2, load=load))
    assert len(notes) == num_notes
    assert all(f"load {load:g} on 2 cores" in note for note in notes)


def test_a_prior_beside_the_pack_is_an_error(pack_path: Path, folder: Path) -> None:
    with pytest.raises(PriorOutsidePack):
        measure(pack_path, images=folder, prior=MovingPrior(0.0, 0.0, 500.0), duration_s=BRIEFLY)


def test_a_given_prior_is_used_and_reported(
    pack_path: Path, folder: Path, region: TinyRegion
) -> None:
    lat, lon = s2.latlon_from_cell(region.cells[0]).tolist()
    prior = MovingPrior(lat, lon, 777.0)
    report = measure(pack_path, images=folder, prior=prior, duration_s=BRIEFLY)
    assert report.photos is not None
    assert report.photos.prior_radius_m == 777.0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"duration_s": 0.0}, "duration_s is 0"),
        ({"duration_s": float("nan")}, "duration_s is nan"),
        ({"num_threads": 0}, "num_threads is 0"),
    ],
)
def test_arguments_out_of_range_are_named(
    pack_path: Path, options: dict[str, float], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        measure(pack_path, **options)  # type: ignore[arg-type]


def test_a_folder_without_images_says_which_endings_are_wanted(
    pack_path: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("no photo")
    with pytest.raises(ValueError, match=r"no images, want files that end in \.jpg"):
        measure(pack_path, images=tmp_path)
    with pytest.raises(NotADirectoryError):
        measure(pack_path, images=tmp_path / "absent")


def test_photos_that_cannot_be_read_are_passed_over(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no photo")
    with pytest.raises(ValueError, match="none of 1 images can be read"):
        read_photos(image_files(tmp_path))
    assert len(read_photos([tmp_path / "broken.jpg", *image_files(folder)])) == 3


def test_no_more_is_decoded_than_memory_should_hold(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photos, "MAX_ARRAY_BYTES", 2 * 64 * 48 * 3)
    assert len(read_photos(image_files(folder))) == 2
    monkeypatch.setattr(photos, "MAX_ARRAY_BYTES", 1)
    assert len(read_photos(image_files(folder))) == 1
    assert len(read_photos(image_files(folder) * 20)) == 1


def test_a_moving_prior_stays_around_its_place_and_does_not_repeat() -> None:
    prior = MovingPrior(47.37, 8.54, 600.0)
    texts = [prior.at(step).description for step in range(200)]
    assert len(set(texts)) == 200
    for text in texts[:50]:
        lat, lon = map(float, text.split("around ")[1].split(", "))
        assert distance_m(LatLon(lat, lon), LatLon(47.37, 8.54)) < 302
    with pytest.raises(ValueError, match="radius_m"):
        MovingPrior(47.37, 8.54, -1.0)


@pytest.mark.parametrize("place", [(47.37, 8.54), (-33.9, 18.4), (16.85, -179.98)])
def test_the_place_of_a_photo_is_read_from_its_exif(
    tmp_path: Path, place: tuple[float, float]
) -> None:
    picture = Image.new("RGB", (8, 8))
    picture.save(tmp_path / "a.jpg", exif=exif_of(picture, *place))
    found = place_from_exif(tmp_path / "a.jpg")
    assert found is not None
    assert distance_m(found, LatLon(*place)) < 0.5


def test_a_photo_that_does_not_say_its_place_has_none(tmp_path: Path) -> None:
    picture = Image.new("RGB", (8, 8))
    picture.save(tmp_path / "none.jpg")
    picture.save(tmp_path / "zero.jpg", exif=exif_of(picture, 0.0, 0.0))
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8")
    for name in ("none", "zero", "broken", "absent"):
        assert place_from_exif(tmp_path / f"{name}.jpg") is None
