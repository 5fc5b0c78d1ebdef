"""Which of several exported encoders to ship on this device: measured here, in turns."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geofix.backends import open_encoder
from geofix.encoder import QueryEncoder
from geofix.errors import BackendUnavailable
from geofix_train.artifact import EncoderArtifact

NUM_TIMED = 100
_WARM_UP = 5

Images = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Comparison:
    """How an encoder does on this device."""

    name: str  # target and precision
    num_bytes: int
    median_ms: float | None  # of one photo; None: it does not run here
    p95_ms: float | None
    mean_cosine: float | None  # of embeddings with the first encoder's
    reason: str = ""  # why it does not run


def compare_encoders(
    artifacts: Sequence[EncoderArtifact], images: Images, *, num_timed: int = NUM_TIMED
) -> list[Comparison]:
    """Run encoders in turns, photo by photo, so that a busy device slows all of them alike.

    Args:
        artifacts: of one network; their input specs are alike.
        images: (N, H, W, 3) photos as the encoders take them.
        num_timed: how often each is run.

    Raises:
        ValueError: no photos, encoders of different input, or none that runs here.
    """
    if len(images) == 0 or not artifacts:
        raise ValueError("want at least one encoder and one photo")
    if any(other.input_spec != artifacts[0].input_spec for other in artifacts):
        raise ValueError("the encoders take different input: compare exports of one run")
    opened, reasons = _opened(artifacts)
    if not opened:
        raise ValueError(f"none of the encoders runs here: {'; '.join(reasons.values())}")
    seconds = _timed(opened, images, num_timed)
    embedded = {number: encoder.encode(images) for number, encoder in opened.items()}
    first = embedded[min(embedded)]
    return [
        _comparison(
            artifact, reasons.get(number, ""), seconds.get(number), embedded.get(number), first
        )
        for number, artifact in enumerate(artifacts)
    ]


def fastest(found: Sequence[Comparison]) -> Comparison:
    """Return the encoder with the smallest median among those that run here."""
    return min((c for c in found if c.median_ms is not None), key=lambda c: c.median_ms or 0.0)


def _opened(
    artifacts: Sequence[EncoderArtifact],
) -> tuple[dict[int, QueryEncoder], dict[int, str]]:
    opened: dict[int, QueryEncoder] = {}
    reasons: dict[int, str] = {}
    for number, artifact in enumerate(artifacts):
        try:
            opened[number] = open_encoder(
                artifact.target, artifact.data, input_spec=artifact.input_spec
            )
        except BackendUnavailable as e:
            reasons[number] = str(e)
    return opened, reasons


def _timed(
    opened: dict[int, QueryEncoder], images: Images, num_timed: int
) -> dict[int, npt.NDArray[np.float64]]:
    seconds: dict[int, list[float]] = {number: [] for number in opened}
    for turn in range(num_timed + _WARM_UP):
        image = images[turn % len(images)][None]
        for number, encoder in opened.items():
            start = time.perf_counter()
            encoder.encode(image)
            if turn >= _WARM_UP:
                seconds[number].append(time.perf_counter() - start)
    return {number: np.array(taken) for number, taken in seconds.items()}


def _comparison(
    artifact: EncoderArtifact,
    reason: str,
    seconds: npt.NDArray[np.float64] | None,
    embedded: npt.NDArray[np.float32] | None,
    first: npt.NDArray[np.float32],
) -> Comparison:
    name = f"{artifact.target} {artifact.precision}"
    if seconds is None or embedded is None:
        return Comparison(name, len(artifact.data), None, None, None, reason)
    return Comparison(
        name,
        len(artifact.data),
        median_ms=1000 * float(np.median(seconds)),
        p95_ms=1000 * float(np.quantile(seconds, 0.95)),
        mean_cosine=float((embedded * first).sum(axis=1).mean()),
    )
