"""The public API as an app uses it: type checkers see this file, and a test that it runs.

Nothing here is private, and nothing is `Any`: mypy strict and pyright strict both pass.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from geofix import (
    Bounds,
    Candidate,
    Coverage,
    Fix,
    GeofixError,
    LatLon,
    LocalCoverage,
    Localizer,
    Motion,
    Prior,
    PriorOutsidePack,
    QueryEncoder,
    RegionPack,
    Tracker,
    Unrestricted,
    Validation,
    distance_m,
    localize,
)


class Embeds:
    """An encoder is anything that has `dim` and `encode`."""

    @property
    def dim(self) -> int:
        """Of the embeddings."""
        return 3

    def encode(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return embeddings (B, D)."""
        return np.zeros((len(images), self.dim), np.float32)


def as_encoder(encoder: QueryEncoder) -> int:
    """Take what satisfies the protocol."""
    return encoder.dim


def priors(last: Fix) -> list[Prior]:
    """Return a prior of each kind."""
    covariance: tuple[tuple[float, float], tuple[float, float]] = ((9.0, 0.0), (0.0, 9.0))
    return [
        Prior.disk(47.37, 8.54, radius_m=5000),
        Prior.bbox(47.0, 8.0, 48.0, 9.0),
        Prior.cells(["479"]),
        Prior.gaussian(47.37, 8.54, sigma_m=500),
        Prior.covariance(47.37, 8.54, covariance),
        Prior.from_android(47.37, 8.54, accuracy_m=500.0),
        Prior.from_core_location(47.37, 8.54, horizontal_accuracy_m=500.0),
        Prior.from_nav_sat_fix(
            47.37, 8.54, position_covariance=[2.5e5, 0, 0, 0, 2.5e5, 0, 0, 0, 9], covariance_type=3
        ),
        Prior.from_last_fix(last.latlon, seconds=20, speed_mps=20.0),
    ]


def read(fix: Fix) -> tuple[str, float, float]:
    """Read each field of a fix as its type says."""
    status: str = fix.status
    place: LatLon = fix.latlon
    accuracy_m: float = 0.0 if fix.accuracy_m is None else fix.accuracy_m
    radius95_m: float = fix.radius95_m or 0.0
    covariance: tuple[tuple[float, float], tuple[float, float]] | None = fix.covariance_m2
    confidence: float = fix.confidence or 0.0
    best: Candidate = fix.candidates[0]
    conflict: bool = fix.prior_conflict
    gain: float = fix.prior_gain or 0.0
    outside: Unrestricted | None = fix.unrestricted
    apart_m = 0.0 if outside is None else distance_m(outside.latlon, place)
    assert not conflict or outside is not None
    assert not (conflict and fix.is_sure(radius95_m=200.0, confidence=0.9))
    assert covariance is None or covariance[0][0] > 0
    stages: dict[str, float] = fix.timings_ms
    return status, accuracy_m + radius95_m + confidence + gain, best.score + apart_m + len(stages)


def use(path: Path, image: npt.NDArray[np.uint8]) -> list[Fix]:
    """Return fixes of an image with each kind of prior, from several views, and by embedding."""
    with Localizer.open(path) as localizer:
        fixes = [localizer.localize(image), localizer.localize(image, encoding="bgr8", k=3)]
        for prior in priors(fixes[0]):
            try:
                fixes.append(localizer.localize(image, prior=prior))
            except PriorOutsidePack as e:
                problem: GeofixError = e
                assert str(problem)
        fixes.append(localizer.localize_views([image, image], prior=None))
        embeddings: npt.NDArray[np.float32] = localizer.embed([image])
        fixes.append(localizer.search(embeddings[0]))
        tracker = Tracker(localizer, speed_mps=2.0)
        fixes.append(tracker.update(image, time=0.0))
        moved = Motion.odometry(1.0, 0.0, relative_error=0.05)
        here = Prior.gaussian(47.37, 8.54, sigma_m=500)
        fixes.append(tracker.update(embeddings[0], time=1.0, motion=moved, prior=here))
        coverage: Coverage = localizer.coverage
        around: LocalCoverage = coverage.around(47.37, 8.54)
        expected: Validation | None = around.expected
        assert expected is None or expected.num_photos > 0
    fixes.append(localize(path, path) if path.suffix == ".jpg" else fixes[-1])
    bounds: Bounds = RegionPack.open(path).manifest.bounds
    assert bounds.width_deg >= 0
    return fixes
