"""What a tracker takes, what it refuses, and the form of its fixes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geofix import ImageError, LatLon, Localizer, Motion, Prior, Tracker
from geofix_index import cells as s2
from tests.geofix.streets import Streets, told
from tests.tiny_pack import CELL_LEVEL, TinyRegion

STILL = Motion(0.0, 0.0, ((0.0, 0.0), (0.0, 0.0)))


def test_a_photo_is_tracked_as_its_embedding(pack_path: Path, region: TinyRegion) -> None:
    with Localizer.open(pack_path) as localizer:
        by_photo, by_embedding = Tracker(localizer), Tracker(localizer)
        for number in (0, 1):
            picture = region.pictures[number]
            fix = by_photo.update(picture[..., ::-1], time=number, encoding="bgr8")
            (embedding,) = localizer.embed([picture])
            assert fix.candidates == by_embedding.update(embedding, time=number).candidates
        assert set(fix.timings_ms) == {"decode", "preprocess", "encode", "search", "track", "total"}
        assert fix.is_tracked
        by_photo.reset()
        assert by_photo.update(region.pictures[1], time=0).cell == region.tokens[1]


@pytest.mark.parametrize(
    ("named", "error", "message"),
    [
        ({"time": float("nan")}, ValueError, "time is nan, want seconds"),
        ({"motion": (1, 2)}, TypeError, "want a Motion"),
        ({"prior": LatLon(0, 0)}, TypeError, "want a soft Prior"),
        ({"prior": Prior.disk(0, 0, radius_m=9)}, TypeError, "want a soft Prior"),
        ({"photo": np.zeros(3, np.float32)}, ValueError, "3"),
        ({"photo": b"no image"}, ImageError, "image"),
        ({"photo": "absent.jpg"}, OSError, "absent"),
    ],
)
def test_an_update_that_fails_changes_nothing(
    pack_path: Path, region: TinyRegion, named: dict[str, Any], error: type[Exception], message: str
) -> None:
    with Localizer.open(pack_path) as localizer:
        tracker, other = Tracker(localizer), Tracker(localizer)
        for each in (tracker, other):
            each.update(region.pictures[0], time=0)
        with pytest.raises(error, match=message):
            tracker.update(**{"photo": region.pictures[1], "time": 1.0, **named})
        again = told(tracker.update(region.pictures[1], time=0.5))
        assert again == told(other.update(region.pictures[1], time=0.5))


def test_a_tracker_needs_a_calibrated_pack(tmp_path: Path, region: TinyRegion) -> None:
    path = region.write(tmp_path / "raw.geofix", encoders=[])
    with pytest.raises(ValueError, match=r"not calibrated.*--queries"):
        Tracker(Localizer.open(path))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda at: Tracker(at, speed_mps=0), "speed_mps is 0"),
        (lambda at: Tracker(at, speed_mps=float("inf")), "speed_mps is inf"),
        (lambda at: Tracker(at, k=0), "k is 0"),
        (lambda at: Motion(float("nan"), 0, ((1, 0), (0, 1))), "motion is nan, 0"),
        (lambda at: Motion(1, 0, ((1, 0), (0, -1))), "negative"),
        (lambda at: Motion(1, 0, ((1, 2), (0, 1))), "symmetric"),
        (lambda at: Motion.odometry(1, 0, relative_error=-1), "relative_error is -1"),
    ],
)
def test_arguments_out_of_range_are_errors(
    streets_localizer: Localizer, make: Callable[[Localizer], Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make(streets_localizer)


def test_candidates_are_as_many_as_asked_for_and_ordered(
    streets: Streets, streets_localizer: Localizer, rng: np.random.Generator
) -> None:
    tracker = Tracker(streets_localizer, k=12)
    fix = tracker.update(streets.seen_from(np.zeros(2), rng, noise=1.5), time=0)
    shares = [candidate.probability or 0.0 for candidate in fix.candidates]
    assert len(shares) == 12
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) <= 1


def test_cells_beyond_the_best_matches_are_scored_for_the_track(
    streets: Streets, streets_localizer: Localizer, rng: np.random.Generator
) -> None:
    place = np.array([-300.0, 300.0])
    tracker = Tracker(streets_localizer)
    tracker.update(streets.seen_from(place, rng), time=0)
    photo = -streets.codes[streets.row_of(place)]  # its place is the worst of 400 cells
    fix = tracker.update(photo, time=1, motion=STILL)
    cell = s2.cell_from_latlon(*streets.latlon(place), level=CELL_LEVEL)
    own = {candidate.cell: candidate.score for candidate in fix.candidates}
    assert own[s2.token_from_cell(int(cell))] == pytest.approx(-1.0, abs=0.1)
