"""The pack that comes with geofix, its photos, and the program that makes them."""

from pathlib import Path

import numpy as np
from PIL import Image

from geofix import Localizer, RegionPack
from geofix.exif import place_from_exif
from geofix.geo import distance_m
from samples.make_town_pack import COMMAND, NUM_PHOTOS, write_with_place

TOWN = Path("samples/town")


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
    write_with_place(TOWN / "photo_1.jpg", moved, -33.0, -70.0)
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


def test_a_place_is_written_beside_an_untouched_picture(tmp_path: Path) -> None:
    photo, copy = tmp_path / "photo.jpg", tmp_path / "copy.jpg"
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(photo)
    write_with_place(photo, copy, -33.4489, -70.6693)
    place = place_from_exif(copy)
    assert place is not None
    assert (round(place.lat, 4), round(place.lon, 4)) == (-33.4489, -70.6693)
    with Image.open(photo) as before, Image.open(copy) as after:
        np.testing.assert_array_equal(np.asarray(before), np.asarray(after))
