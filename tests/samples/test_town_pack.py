"""The pack that comes with geofix, its photos, and the program that makes them."""

import csv
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from PIL import Image

from geofix import LatLon, Localizer, Motion, RegionPack, Tracker
from geofix.exif import place_from_exif
from geofix.geo import distance_m
from samples.make_town_pack import COMMAND, NUM_FRAMES, NUM_PHOTOS, write_with_facts

TOWN = Path("samples/town")
NOON = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)


def test_most_of_the_photos_are_found() -> None:
    with Localizer.open(TOWN / "town.geofix", verify="all") as localizer:
        errors_m = []
        for photo in sorted(TOWN.glob("*.jpg")):
            place, fix = place_from_exif(photo), localizer.localize(photo)
            assert place is not None
            errors_m.append(distance_m(place, fix.latlon))
    assert len(errors_m) == NUM_PHOTOS
    assert sum(error <= 100 for error in errors_m) >= 5


def test_a_fix_does_not_know_what_exif_says_of_the_place(tmp_path: Path) -> None:
    moved = tmp_path / "moved.jpg"
    write_with_facts(TOWN / "photo_1.jpg", moved, LatLon(-33.0, -70.0), NOON)
    with Localizer.open(TOWN / "town.geofix") as localizer:
        first, second = (localizer.localize(p) for p in (TOWN / "photo_1.jpg", moved))
    assert first.latlon == second.latlon


def test_the_pack_is_small_calibrated_and_says_how_it_was_made() -> None:
    pack = RegionPack.open(TOWN / "town.geofix")
    (encoder,) = pack.manifest.encoders
    assert (TOWN / "town.geofix").stat().st_size <= 3_000_000
    assert pack.manifest.entries[encoder.entry].num_bytes <= 1_000_000
    assert encoder.calibration is not None
    assert encoder.calibration.validation
    assert pack.manifest.provenance["command"] == COMMAND


def test_a_drive_is_tracked_better_than_its_photos_are_found_alone() -> None:
    single, tracked = [], []
    with Localizer.open(TOWN / "town.geofix") as localizer:
        tracker = Tracker(localizer)
        with (TOWN / "drive" / "odometry.csv").open() as rows:
            for row in csv.DictReader(rows):
                photo = TOWN / "drive" / row["image"]
                place, alone = place_from_exif(photo), localizer.localize(photo)
                moved = Motion.odometry(float(row["east_m"]), float(row["north_m"]))
                fix = tracker.update(photo, time=float(row["time"]), motion=moved)
                assert place is not None
                assert alone.captured_at is not None
                single.append(distance_m(place, alone.latlon))
                tracked.append(distance_m(place, fix.latlon))
    assert len(tracked) == NUM_FRAMES
    assert np.median(tracked) <= 0.5 * np.median(single)
    assert max(tracked) <= 60


def test_the_facts_are_written_beside_an_untouched_picture(tmp_path: Path) -> None:
    photo, copy = tmp_path / "photo.jpg", tmp_path / "copy.jpg"
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(photo)
    write_with_facts(photo, copy, LatLon(-33.4489, -70.6693), NOON)
    place = place_from_exif(copy)
    assert place is not None
    assert (round(place.lat, 4), round(place.lon, 4)) == (-33.4489, -70.6693)
    with Localizer.open(TOWN / "town.geofix") as localizer:
        assert localizer.localize(copy).captured_at == NOON
    with Image.open(photo) as before, Image.open(copy) as after:
        np.testing.assert_array_equal(np.asarray(before), np.asarray(after))
