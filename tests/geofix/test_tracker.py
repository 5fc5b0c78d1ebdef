"""A camera that drives through synthetic streets is followed, lost, and found again."""

from pathlib import Path

import numpy as np
import pytest

from geofix import LatLon, Localizer, Motion, Prior, Tracker, distance_m
from geofix_index import cells as s2
from tests.geofix.streets import (
    EDGE_M,
    Embedding,
    Floats,
    Streets,
    along,
    drive,
    nothing,
    open_streets,
    photos_of,
    steps,
    told,
)
from tests.tiny_pack import TAVEUNI

STREET = [(-900.0, -500.0), (900.0, 400.0)]
CUBE_CORNER_LAT = np.degrees(np.arctan(np.sqrt(0.5)))  # at 45 degrees east
STILL = Motion(0.0, 0.0, ((0.0, 0.0), (0.0, 0.0)))


def test_the_first_fix_is_that_of_the_photo(
    streets: Streets, streets_localizer: Localizer, rng: np.random.Generator
) -> None:
    photo = streets.seen_from(np.array([200.0, 300.0]), rng, noise=1.0)
    alone, first = streets_localizer.search(photo), Tracker(streets_localizer).update(photo, time=0)
    assert first.cell == alone.cell
    assert first.status == alone.status == "fixed"
    assert alone.confidence is not None
    assert first.confidence == pytest.approx(alone.confidence, abs=0.1)
    assert first.pack_id == alone.pack_id
    assert set(first.timings_ms) == {"search", "track", "total"}
    assert first.candidates[0].score == pytest.approx(alone.candidates[0].score, abs=1e-6)


def test_motion_tells_where_in_its_cell_a_camera_is(
    streets: Streets, streets_localizer: Localizer, rng: np.random.Generator
) -> None:
    way = along(STREET, step_m=20)
    photos = photos_of(streets, way, rng)
    alone = [
        streets.error_m(streets_localizer.search(p), at) for p, at in zip(photos, way, strict=True)
    ]
    fixes = drive(Tracker(streets_localizer), photos, list(steps(way, rng)))
    tracked = [streets.error_m(fix, place) for fix, place in zip(fixes, way, strict=True)]
    assert np.median(tracked[10:]) < np.median(alone) / 2
    assert max(tracked[10:]) < EDGE_M / 2
    assert all(fix.status == "fixed" for fix in fixes[1:])
    inside = [e <= (fix.accuracy_m or 0) for e, fix in zip(tracked, fixes, strict=True)]
    assert np.mean(inside) > 0.68


def test_a_turn_is_followed(
    streets: Streets, streets_localizer: Localizer, rng: np.random.Generator
) -> None:
    way = along([(-700.0, -300.0), (100.0, -200.0), (20.0, 700.0)], step_m=20)
    fixes = drive(Tracker(streets_localizer), photos_of(streets, way, rng), list(steps(way, rng)))
    tracked = [streets.error_m(fix, place) for fix, place in zip(fixes, way, strict=True)]
    assert max(tracked[10:]) < EDGE_M / 2


def test_motion_within_a_cell_is_kept_to_the_metre(
    streets: Streets, streets_localizer: Localizer, rng: np.random.Generator
) -> None:
    tracker = Tracker(streets_localizer)
    first = tracker.update(streets.seen_from(np.zeros(2), rng), time=0)
    exact = Motion(3.0, 1.0, ((0.0, 0.0), (0.0, 0.0)))
    dark = nothing(streets)
    for second in range(1, 41):
        fix = tracker.update(dark, time=second, motion=exact)
    start = streets.error_m(first, np.zeros(2))
    moved = streets.error_m(fix, np.array([120.0, 40.0]))
    assert moved == pytest.approx(start, abs=EDGE_M / 8)


def test_a_covered_camera_is_tracked_by_motion_and_less_and_less_sure(
    streets: Streets, streets_localizer: Localizer, rng: np.random.Generator
) -> None:
    way = along(STREET, step_m=20)
    photos = photos_of(streets, way, rng)
    photos[30:50] = [nothing(streets)] * 20
    assert streets_localizer.search(photos[30]).status == "unknown"
    fixes = drive(Tracker(streets_localizer), photos, list(steps(way, rng, error=0.15)))
    dark = fixes[29:50]
    assert all(fix.status == "fixed" for fix in dark)
    radii = [fix.radius95_m for fix in dark if fix.radius95_m is not None]
    variances = [np.trace(np.array(fix.covariance_m2)) for fix in dark]
    assert variances[-1] > variances[0]
    assert len(radii) > 1
    assert streets.error_m(fixes[49], way[49]) < 100
    assert streets.error_m(fixes[60], way[60]) < EDGE_M / 2


def test_a_kidnapped_camera_is_found_within_ten_photos(
    streets: Streets, streets_localizer: Localizer, rng: np.random.Generator
) -> None:
    before, after = along(STREET, step_m=20)[:40], along([(600.0, -700.0), (0, 0)], step_m=20)[:10]
    tracker = Tracker(streets_localizer)
    drive(tracker, photos_of(streets, before, rng), list(steps(before, rng)))
    motions = [STILL, *list(steps(after, rng))[1:]]
    fixes = drive(tracker, photos_of(streets, after, rng), motions, start=40)
    assert streets.error_m(fixes[-1], after[-1]) < EDGE_M
    assert fixes[-1].status == "fixed"
    unsure = [fix.confidence for fix in fixes if fix.confidence is not None]
    assert min(unsure) < 0.9  # on the way there it says so


def test_one_photo_that_shows_another_place_moves_nothing(
    streets: Streets, streets_localizer: Localizer, rng: np.random.Generator
) -> None:
    way = along(STREET, step_m=20)[:40]
    photos = photos_of(streets, way, rng)
    photos[30] = streets.seen_from(np.array([600.0, -700.0]), rng)
    fixes = drive(Tracker(streets_localizer), photos, list(steps(way, rng)))
    assert all(streets.error_m(fixes[i], way[i]) < EDGE_M for i in range(30, 40))


def test_a_late_photo_is_an_error_that_changes_nothing(
    streets: Streets, streets_localizer: Localizer, rng: np.random.Generator
) -> None:
    photos = photos_of(streets, along(STREET, step_m=20)[:3], rng)
    tracker, other = Tracker(streets_localizer), Tracker(streets_localizer)
    for each in (tracker, other):
        each.update(photos[0], time=10.0)
    with pytest.raises(ValueError, match=r"time is 9.5, 0.5 s before that of the last update"):
        tracker.update(photos[1], time=9.5)
    assert told(tracker.update(photos[2], time=10.0)) == told(other.update(photos[2], time=10.0))


def test_a_gap_widens_what_a_camera_could_have_reached(
    streets: Streets, streets_localizer: Localizer, rng: np.random.Generator
) -> None:
    way = along(STREET, step_m=20)[:20]
    photos, motions = photos_of(streets, way, rng), list(steps(way, rng))
    radii = []
    for speed_mps, gap_s in ((2.0, 1.0), (2.0, 60.0), (8.0, 60.0)):
        tracker = Tracker(streets_localizer, speed_mps=speed_mps)
        drive(tracker, photos, motions)
        fix = tracker.update(nothing(streets), time=19 + gap_s)
        assert fix.accuracy_m is not None
        radii.append(fix.accuracy_m)
    assert radii[0] < radii[1] < radii[2]
    # 68 % of a disk of 480 m that is taken for a normal distribution: 1.51 x 480 / 2
    assert 250 < radii[2] < 500


def test_a_gap_is_as_long_in_pieces(
    streets: Streets, streets_localizer: Localizer, rng: np.random.Generator
) -> None:
    photo, dark = streets.seen_from(np.zeros(2), rng), nothing(streets)
    at_once, in_pieces = (
        Tracker(streets_localizer, speed_mps=5.0),
        Tracker(streets_localizer, speed_mps=5.0),
    )
    for tracker in (at_once, in_pieces):
        tracker.update(photo, time=0)
    whole = at_once.update(dark, time=40)
    for second in (10, 20, 30, 40):
        parts = in_pieces.update(dark, time=second)
    wide = np.trace(np.array(whole.covariance_m2)), np.trace(np.array(parts.covariance_m2))
    assert wide[1] == pytest.approx(wide[0], rel=0.2)
    assert wide[0] > EDGE_M**2 / 2


def test_after_a_day_a_camera_can_be_anywhere(
    streets: Streets, streets_localizer: Localizer, rng: np.random.Generator
) -> None:
    tracker = Tracker(streets_localizer)
    drive(tracker, photos_of(streets, along(STREET, step_m=20)[:20], rng), [None] * 20)
    assert tracker.update(nothing(streets), time=86_400).status == "unknown"
    place = np.array([500.0, -600.0])
    fix = tracker.update(streets.seen_from(place, rng), time=86_401)
    assert (fix.status, streets.error_m(fix, place) < EDGE_M) == ("fixed", True)


def test_without_odometry_a_drive_is_followed_too(
    streets: Streets, streets_localizer: Localizer, rng: np.random.Generator
) -> None:
    way = along(STREET, step_m=12)
    photos = photos_of(streets, way, rng)
    fixes = drive(Tracker(streets_localizer), photos, [None] * len(way))
    assert all(streets.error_m(f, at) < EDGE_M for f, at in zip(fixes, way, strict=True))


TURN = 30  # of its photos, where a street turns north, while the one that looks alike goes on


def two_streets(streets: Streets, rng: np.random.Generator) -> tuple[Floats, list[Embedding]]:
    """Return a way that turns, and photos that look as much like one that goes straight on."""
    turning = along([(-800.0, -700.0), (-200.0, -700.0), (-200.0, 100.0)], step_m=20)
    straight = along([(-800.0, 500.0), (600.0, 500.0)], step_m=20)
    looks = [
        streets.codes[streets.row_of(here)] + streets.codes[streets.row_of(there)]
        for here, there in zip(turning, straight, strict=True)
    ]
    return turning, [streets.noisy(look / np.sqrt(2), rng, noise=0.1) for look in looks]


def test_streets_that_look_alike_stay_ambiguous_until_motion_tells_them_apart(
    streets: Streets, streets_localizer: Localizer, rng: np.random.Generator
) -> None:
    way, photos = two_streets(streets, rng)
    fixes = drive(Tracker(streets_localizer), photos, list(steps(way, rng)))
    for fix in fixes[10:TURN]:
        assert fix.confidence is not None
        assert 0.05 < fix.confidence < 0.95  # neither is dropped
        assert fix.radius95_m is None or fix.radius95_m > 500  # the other lies 1.2 km away
    for fix, place in zip(fixes[-15:], way[-15:], strict=True):
        assert fix.status == "fixed"
        assert streets.error_m(fix, place) < EDGE_M


def test_without_motion_streets_that_look_alike_stay_ambiguous(
    streets: Streets, streets_localizer: Localizer, rng: np.random.Generator
) -> None:
    way, photos = two_streets(streets, rng)
    fixes = drive(Tracker(streets_localizer), photos, [None] * len(way))
    assert min(fix.confidence or 0.0 for fix in fixes[-15:]) < 0.8


def test_a_prior_tells_streets_that_look_alike_apart(
    streets: Streets, streets_localizer: Localizer, rng: np.random.Generator
) -> None:
    way, photos = two_streets(streets, rng)
    tracker = Tracker(streets_localizer)
    drive(tracker, photos[:20], list(steps(way[:20], rng)))
    seen = Prior.gaussian(*streets.latlon(way[20]).tolist(), sigma_m=50)
    fix = tracker.update(photos[20], time=20, motion=Motion.odometry(20, 0), prior=seen)
    assert fix.status == "fixed"
    assert streets.error_m(fix, way[20]) < EDGE_M


def test_one_wrong_prior_does_not_end_a_track(
    streets: Streets, streets_localizer: Localizer, rng: np.random.Generator
) -> None:
    way = along(STREET, step_m=20)[:40]
    photos, motions = photos_of(streets, way, rng), list(steps(way, rng))
    tracker = Tracker(streets_localizer)
    drive(tracker, photos[:30], motions[:30])
    wrong = Prior.gaussian(*streets.latlon(np.array([0.0, 900.0])).tolist(), sigma_m=10)
    tracker.update(photos[30], time=30, motion=motions[30], prior=wrong)
    fixes = drive(tracker, photos[31:], motions[31:], start=31)
    assert streets.error_m(fixes[-1], way[-1]) < EDGE_M


def test_a_prior_finds_a_camera_that_sees_nothing(
    streets: Streets, streets_localizer: Localizer
) -> None:
    place = np.array([300.0, -400.0])
    seen = Prior.gaussian(*streets.latlon(place).tolist(), sigma_m=20)
    tracker = Tracker(streets_localizer)
    tracker.update(nothing(streets), time=0, prior=seen)
    fix = tracker.update(nothing(streets), time=1, motion=Motion.odometry(50, 0), prior=seen)
    assert streets.error_m(fix, place) < EDGE_M


def test_standing_still_makes_a_track_no_surer_and_no_less_sure(
    streets: Streets, streets_localizer: Localizer, rng: np.random.Generator
) -> None:
    look = streets.seen_from(np.array([100.0, -200.0]), rng, noise=1.8)
    tracker = Tracker(streets_localizer)
    first = tracker.update(look, time=0)
    for frame in range(1, 300):
        again = streets.noisy(look, rng, noise=0.05)
        fix = tracker.update(again, time=frame / 30, motion=STILL)
    assert first.confidence is not None
    assert first.confidence < 0.95
    assert fix.confidence == pytest.approx(first.confidence, abs=0.02)
    assert fix.accuracy_m == pytest.approx(first.accuracy_m, rel=0.1)


def test_it_does_not_matter_how_many_photos_a_second_there_are(
    streets: Streets, streets_localizer: Localizer, rng: np.random.Generator
) -> None:
    fixes = []
    for step_m in (10.0, 0.5):
        way = along(STREET, step_m=step_m)
        photos = photos_of(streets, way, np.random.default_rng(5), noise=1.2)
        fixes.append(
            drive(Tracker(streets_localizer), photos, list(steps(way, rng, error=0.01)))[-1]
        )
    for fix in fixes:
        assert streets.error_m(fix, np.array(STREET[-1])) < EDGE_M / 2
        assert fix.confidence is not None
        assert fix.confidence > 0.9
    often, seldom = (fix.accuracy_m or 0.0 for fix in fixes)
    assert often == pytest.approx(seldom, rel=0.25)


def test_a_covered_camera_that_stands_still_stays_where_it_is(
    streets: Streets, streets_localizer: Localizer, rng: np.random.Generator
) -> None:
    tracker = Tracker(streets_localizer)
    first = tracker.update(streets.seen_from(np.zeros(2), rng), time=0)
    for frame in range(1, 300):
        fix = tracker.update(nothing(streets), time=frame / 30, motion=STILL)
    assert fix.status == "fixed"
    assert distance_m(fix.latlon, first.latlon) < 0.01
    assert fix.accuracy_m == pytest.approx(first.accuracy_m, rel=0.1)


def test_a_reset_tracker_is_a_new_one(
    streets: Streets, streets_localizer: Localizer, rng: np.random.Generator
) -> None:
    photos = photos_of(streets, along(STREET, step_m=20)[:5], rng)
    used = Tracker(streets_localizer)
    drive(used, photos, [None] * 5)
    used.reset()
    assert told(used.update(photos[4], time=0)) == told(
        Tracker(streets_localizer).update(photos[4], time=0)
    )


def test_the_same_drive_gives_the_same_fixes(
    streets: Streets, streets_localizer: Localizer, rng: np.random.Generator
) -> None:
    way = along(STREET, step_m=20)[:20]
    photos, motions = photos_of(streets, way, rng), list(steps(way, rng))
    once, again = (drive(Tracker(streets_localizer), photos, motions) for _ in range(2))
    assert [told(fix) for fix in once] == [told(fix) for fix in again]


def test_a_camera_that_leaves_the_pack_is_followed_for_a_while(
    streets: Streets, streets_localizer: Localizer, rng: np.random.Generator
) -> None:
    way = along([(700.0, 0.0), (1700.0, 0.0)], step_m=20)
    inside = way[:20]  # the pack ends at 1200
    tracker = Tracker(streets_localizer)
    motions = list(steps(way, rng))
    drive(tracker, photos_of(streets, inside, rng), motions[:20])
    fixes = drive(tracker, [nothing(streets)] * (len(way) - 20), motions[20:], start=20)
    assert streets.error_m(fixes[-1], way[-1]) < EDGE_M
    assert {candidate.cell for candidate in fixes[-1].candidates} <= {
        s2.token_from_cell(int(cell)) for cell in streets.cells
    }


def test_a_track_crosses_the_antimeridian(tmp_path: Path, rng: np.random.Generator) -> None:
    streets = Streets.make(LatLon(TAVEUNI.lat, 180.0))
    way = along([(-400.0, -200.0), (500.0, 200.0)], step_m=20)
    tracker = Tracker(open_streets(streets, tmp_path))
    fixes = drive(tracker, photos_of(streets, way, rng), list(steps(way, rng)))
    assert {np.sign(fix.latlon.lon) for fix in fixes} == {-1, 1}
    tracked = [streets.error_m(fix, place) for fix, place in zip(fixes, way, strict=True)]
    assert max(tracked[10:]) < EDGE_M / 2


def test_a_track_passes_a_corner_of_the_cube(tmp_path: Path, rng: np.random.Generator) -> None:
    streets = Streets.make(LatLon(CUBE_CORNER_LAT, 45.0))
    way = along([(-400.0, -50.0), (400.0, 30.0)], step_m=20)
    tracker = Tracker(open_streets(streets, tmp_path))
    fixes = drive(tracker, photos_of(streets, way, rng), list(steps(way, rng)))
    tracked = [streets.error_m(fix, place) for fix, place in zip(fixes, way, strict=True)]
    assert max(tracked[10:]) < EDGE_M


def test_a_covered_camera_that_looks_like_some_place_does_not_move_there(
    streets: Streets, streets_localizer: Localizer, rng: np.random.Generator
) -> None:
    way = along(STREET, step_m=20)
    photos = photos_of(streets, way, rng)
    photos[30:50] = [streets.seen_from(np.array([600.0, -700.0]), rng, noise=0.0)] * 20
    assert streets_localizer.search(photos[30]).status == "fixed"
    fixes = drive(Tracker(streets_localizer), photos, list(steps(way, rng)))
    assert all(streets.error_m(fixes[i], way[i]) < EDGE_M for i in range(30, 50))
