"""Tracking: a stream of photos and the motion between them in, one fix after another out.

A recursive Bayes filter. Between photos the belief (belief.py) moves by the odometry, or spreads as
far as `speed_mps` allows. A photo weighs it (likelihood.py): each node by the mean of the cells
around it, of which evidence.py has the likelihoods. Photos taken a few metres
apart repeat each other's mistakes, so that the exponent of their likelihood is below 1
(`_photo_weight`). With each photo a little of the weight leaks to "lost", and returns at the cells
that the photo matches best, wherever they are: so does a first photo find a place, and so is a
kidnapped robot found again. A photo that matches neither the track nor any other place says
nothing: the track goes on by motion alone.

What a street's photos have in common, such as a camera that looks ahead, motion does not average
out: it is taken for a bias of BIAS_EDGES cells, and added to what the belief says of its accuracy.

Why a grid that moves along: photos tell cells apart, 70 to 140 m wide, and motion is known to the
metre. The grid loses none of it, keeps places that look alike apart for as long as it takes, and
gives the same answer each time; particles would need luck, or many of them.
"""

import math
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import numpy.typing as npt

from geofix.clock import Clock
from geofix.fix import Fix
from geofix.images import ImageSource
from geofix.localizer import Localizer, SeenPhoto
from geofix.posterior import ELSEWHERE_SHARE
from geofix.prior import Gaussian, Prior
from geofix.tracking import belief as beliefs
from geofix.tracking import likelihood
from geofix.tracking.belief import Belief
from geofix.tracking.evidence import Evidence, evidence
from geofix.tracking.fix_from_belief import fix_from_belief
from geofix.tracking.likelihood import LogLikelihood, cells_near
from geofix.tracking.motion import Motion
from geofix_index import cells as s2

# Chosen on drives through the demo's town by benchmarks/tracker.py (docs/results.md).
LOST_SHARE = 0.02  # of the weight leaks with each photo that is all new
DECORRELATION_M = 40.0  # photos this far apart have 1/e of their mistakes in common
SIMILAR_COSINE = 0.7  # embeddings that are less alike are new evidence, however near
SAME_COSINE = 0.97  # embeddings that are more alike are one picture, however far the camera went
BIAS_EDGES = 0.25  # of a cell, east and north
SPEED_MPS = 15.0
_NUM_FOUND = 64  # cells at most, at which "lost" returns
_MIN_FOUND = 1e-4  # of all weight, that a cell must have for it
_MIN_NEW = 0.1  # weight of a photo that counts: every four metres

Floats = npt.NDArray[np.float64]
Cells = npt.NDArray[np.uint64]
Embedding = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _State:
    """What a tracker remembers."""

    belief: Belief
    time: float = -math.inf  # of the last update
    heard_time: float = -math.inf  # of the last photo that said something
    heard: Embedding | None = None  # that photo
    step_m: float = 0.0  # how far the camera went since the update before
    since_photo_m: float = math.inf  # since the last photo that said something
    since_prior_m: float = math.inf  # since the last prior


class Tracker:
    """Follows one camera with a localizer. One thread at a time calls it."""

    def __init__(self, localizer: Localizer, *, speed_mps: float = SPEED_MPS, k: int = 5) -> None:
        """Start with no idea where the camera is.

        Args:
            localizer: of a calibrated pack; trackers may share it.
            speed_mps: of the camera at most, for updates that come without a motion.
            k: number of candidates in a fix.

        Raises:
            ValueError: a pack that is not calibrated, or an argument out of range.
        """
        if not 0 < speed_mps < math.inf:
            raise ValueError(f"speed_mps is {speed_mps}, want a positive number")
        if k < 1:
            raise ValueError(f"k is {k}, want at least 1")
        calibration = localizer._calibration()
        if calibration is None:
            raise ValueError(
                "the pack is not calibrated, so photos cannot be weighed against motion: "
                "build it with --queries"
            )
        self._localizer = localizer
        self._calibration = calibration
        self._speed_mps = speed_mps
        self._k = k
        manifest = localizer._opened()[0].manifest
        self._pack_id, self._num_cells = manifest.pack_id, manifest.num_cells
        self._level = manifest.cell_level
        self.reset()

    def reset(self) -> None:
        """Forget where the camera was, and when."""
        self._state = _State(beliefs.nowhere(self._level))

    def update(
        self,
        photo: "ImageSource | Embedding",
        *,
        time: float,
        motion: Motion | None = None,
        prior: Prior | None = None,
        encoding: str = "rgb8",
        hfov_deg: float | None = None,
    ) -> Fix:
        """Return where the camera is, by all photos and motions until now.

        The fix reads as one of `Localizer.localize`, with "elsewhere" for a camera that is lost.
        An error leaves the tracker as it was.

        Args:
            photo: as `localize` takes it, or an embedding (D,) of floats.
            time: of the photo, in seconds; not before that of the last update.
            motion: since the last update. Without it the camera may have gone any way at up to
                `speed_mps`.
            prior: a soft one, of where the camera is now by another source, such as GPS.
            encoding: of an array (see `Localizer.localize`).
            hfov_deg: horizontal field of view, where known.

        Raises:
            ValueError: a time before that of the last update (drop such a photo), or an argument
                out of range.
            ImageError, BackendUnavailable, TypeError, OSError: as `Localizer.localize`.
        """
        density = self._check(time, motion, prior)
        clock = Clock()
        embedding, strangeness, captured_at = self._look(photo, encoding, hfov_deg, clock)
        state = self._moved(time, motion)
        cells, shares = s2.bilinear_cells(*state.belief.latlon.T, level=self._level)
        seen = self._seen(embedding, cells, density, strangeness=strangeness)
        clock.stop("search")
        self._state = state = self._weighed(state, seen, cells, shares, embedding, density)
        fix = fix_from_belief(
            state.belief, seen, bias_m=self._bias_m, pack_id=self._pack_id, k=self._k
        )
        clock.stop("track")
        return replace(fix, captured_at=captured_at, timings_ms=clock.timings_ms())

    def _check(self, time: float, motion: Motion | None, prior: Prior | None) -> Gaussian | None:
        """Return the density of a prior."""
        if not math.isfinite(time):
            raise ValueError(f"time is {time}, want seconds")
        if time < self._state.time:
            late_s = self._state.time - time
            raise ValueError(
                f"time is {time}, {late_s:g} s before that of the last update: drop the photo, "
                "and give its motion with the next one"
            )
        if not isinstance(motion, Motion | None):
            raise TypeError(
                f"motion is {motion!r}, want a Motion: Motion.odometry(east_m, north_m)"
            )
        if prior is None:
            return None
        if not isinstance(prior, Prior) or prior.density is None:
            raise TypeError(f"prior is {prior!r}, want a soft Prior: Prior.gaussian(...)")
        return prior.density

    def _look(
        self, photo: "ImageSource | Embedding", encoding: str, hfov_deg: float | None, clock: Clock
    ) -> SeenPhoto:
        if isinstance(photo, np.ndarray) and photo.ndim == 1:
            return SeenPhoto(
                np.asarray(photo, np.float32), 0.0, None
            )  # the index checks its values
        image = cast(ImageSource, photo)
        return self._localizer._embed_photo(image, encoding, hfov_deg, clock)

    @property
    def _bias_m(self) -> float:
        return BIAS_EDGES * s2.mean_edge_m(self._level)

    def _moved(self, time: float, motion: Motion | None) -> _State:
        """Return the state at a time, before its photo."""
        state = self._state
        if motion is not None:
            offset_m = (motion.east_m, motion.north_m)
            covariance_m2 = np.array(motion.covariance_m2)
        else:
            offset_m = (0.0, 0.0)
            covariance_m2 = np.eye(2) * self._wandered_m2(time)
        distance_m = math.sqrt(offset_m[0] ** 2 + offset_m[1] ** 2 + np.trace(covariance_m2))
        return replace(
            state,
            belief=beliefs.moved(state.belief, offset_m, covariance_m2),
            time=time,
            step_m=distance_m,
            since_photo_m=state.since_photo_m + distance_m,
            since_prior_m=state.since_prior_m + distance_m,
        )

    def _wandered_m2(self, time: float) -> float:
        """Return the variance, each way, of anywhere within reach since the last update.

        A camera keeps its speed for a while, so its reach grows with the time since a photo last
        said something: twenty silent seconds are as uncertain as one silence of twenty.
        """
        state = self._state
        if not math.isfinite(state.heard_time):
            return 0.0  # nothing is known that could become less certain
        before, now = state.time - state.heard_time, time - state.heard_time
        return self._speed_mps**2 * (now**2 - before**2) / 4  # a disk's variance is radius² / 4

    def _seen(
        self, embedding: Embedding, cells: Cells, prior: Gaussian | None, *, strangeness: float
    ) -> Evidence:
        """Compare a photo with the cells of the belief, of the prior, and the best of all."""
        index = self._localizer._opened()[1]
        wanted = np.unique(cells[cells != 0])  # a corner of the cube has no fourth cell
        if prior is not None:
            wanted = np.union1d(wanted, cells_near(prior, index, bias_m=self._bias_m))
        return evidence(
            index,
            embedding,
            calibration=self._calibration,
            num_cells=self._num_cells,
            wanted=wanted,
            strangeness=strangeness,
        )

    def _weighed(
        self,
        state: _State,
        seen: Evidence,
        cells: Cells,
        shares: Floats,
        embedding: Embedding,
        prior: Gaussian | None,
    ) -> _State:
        """Return the state after its photo and its prior.

        Args:
            state: before.
            seen: what the photo says of cells.
            cells: (N, 4) around each node.
            shares: (N, 4) of the node, that these have.
            embedding: of the photo.
            prior: of where the camera is.
        """
        ratios = (seen.ratios_of(cells) * shares).sum(axis=1)
        state, weight = _heard(state, seen, ratios, embedding)
        told = likelihood.of_photo(seen, ratios, weight=weight)
        if prior is not None:
            of_prior = likelihood.of_prior(
                prior,
                state.belief,
                seen,
                area_m2=self._num_cells * s2.mean_edge_m(self._level) ** 2,
                bias_m=self._bias_m,
                weight=_weight(state.since_prior_m),
            )
            told = told.plus(of_prior)
            state = replace(state, since_prior_m=0.0)
        return replace(state, belief=self._with_found(state.belief, seen.cells, told))

    def _with_found(self, belief: Belief, cells: Cells, told: LogLikelihood) -> Belief:
        """Return the belief after evidence, with what was lost at the cells that fit best.

        "Lost" is anywhere in the pack, or beyond it with the odds of `ELSEWHERE_SHARE`.
        """
        of_one = belief.lost * (1 - ELSEWHERE_SHARE) / self._num_cells
        shares = of_one * np.exp(told.cells)
        others = of_one * math.exp(told.others) * (self._num_cells - len(cells))
        beyond = belief.lost * ELSEWHERE_SHARE
        factors = np.exp(told.nodes)
        total = float(belief.weights @ factors) + float(shares.sum()) + others + beyond
        order = np.argsort(-shares)[:_NUM_FOUND]
        found = order[(shares[order] >= _MIN_FOUND * total) & (told.cells[order] > 0)]
        if len(belief.nodes) == 0 and len(found) == 0:
            found = order[:1]
        rest = others + beyond + float(shares.sum()) - float(shares[found].sum())
        return beliefs.updated(belief, factors, lost=rest, found=cells[found], shares=shares[found])


def _heard(
    state: _State, seen: Evidence, ratios: Floats, embedding: Embedding
) -> tuple[_State, float]:
    """Return the state with the photo remembered and some weight lost; and the photo's weight.

    A photo that has hardly anything new is left to the next ones, so that it does not matter how
    many a second there are.
    """
    belief = state.belief
    if not _says_something(belief, ratios, seen):
        lost = LOST_SHARE * _weight(state.step_m)
        return replace(state, belief=beliefs.leaked(belief, lost)), 0.0
    weight = _photo_weight(state, embedding)
    if weight < _MIN_NEW:
        return state, 0.0
    heard = replace(
        state,
        belief=beliefs.leaked(belief, LOST_SHARE * weight),
        heard=embedding,
        heard_time=state.time,
        since_photo_m=0.0,
    )
    return heard, weight


def _says_something(belief: Belief, ratios: Floats, seen: Evidence) -> bool:
    """Return whether a photo fits the track, or any place by itself; the first one always does."""
    tracked = float(belief.weights.sum())
    return not seen.matches_nothing or tracked == 0 or float(ratios @ belief.weights) >= tracked


def _photo_weight(state: _State, embedding: Embedding) -> float:
    """Return how much of a photo's evidence is new: more where it was taken or looks elsewhere."""
    if state.heard is None:
        return 1.0
    lengths = float(np.linalg.norm(embedding) * np.linalg.norm(state.heard))
    cosine = float(embedding @ state.heard) / lengths if lengths > 0 else 0.0
    if cosine > SAME_COSINE:  # a covered lens, a lorry ahead, a frozen stream
        return 0.0
    return max(_weight(state.since_photo_m), 1 - max(cosine, 0.0) / SIMILAR_COSINE)


def _weight(distance_m: float) -> float:
    return 1 - math.exp(-distance_m / DECORRELATION_M)
