"""Localization: a pack, an encoder, one photo in, one fix out."""

import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from geofix.backends import BACKENDS, open_encoder
from geofix.coverage import Coverage
from geofix.encoder import QueryEncoder
from geofix.encoder_files import read_model
from geofix.errors import BackendUnavailable, PriorOutsidePack
from geofix.fix import Candidate, Fix
from geofix.geo import LatLon
from geofix.images import ImageSource, fit_image, load_photo, prepare_image
from geofix.input_spec import InputSpec
from geofix.manifest import EncoderEntry, Manifest
from geofix.pack import RegionPack
from geofix.posterior import NUM_CANDIDATES, Calibration, posterior
from geofix.prior import Prior
from geofix.signing import Key
from geofix_index import CellIndex, Matches
from geofix_index import cells as s2

_log = logging.getLogger("geofix")


class Localizer:
    """Localizes photos with a region pack. Use it as a context manager; threads may share it.

    Attributes:
        backend: the runtime of the encoder, "" where the pack carries none.
    """

    def __init__(
        self,
        pack: RegionPack,
        *,
        backend: str = "auto",
        encoder: Path | None = None,
        cache_dir: Path | None = None,
        num_threads: int = 0,
    ) -> None:
        """Take an opened pack; `open` does this for a file."""
        self._pack: RegionPack | None = pack
        self._index: CellIndex | None = pack.index()
        self._encoder: QueryEncoder | None = None
        self._entry: EncoderEntry | None = None
        reasons: list[BackendUnavailable] = []
        for entry in _wanted_encoders(pack.manifest.encoders, backend):
            try:
                model = read_model(pack, entry, given=encoder, cache_dir=cache_dir)
                self._encoder = _open_encoder(pack, entry, model, num_threads, cache_dir)
            except BackendUnavailable as e:
                _log.warning("passing over %s: %s", entry.entry, e)
                reasons.append(e)
                continue
            self._entry = entry
            _log.info("backend %s for %s", entry.target, entry.entry)
            break
        if self._entry is None and reasons:
            raise reasons[0]
        self.backend = "" if self._entry is None else self._entry.target

    @classmethod
    def open(
        cls,
        source: str | os.PathLike[str],
        *,
        backend: str = "auto",
        encoder: str | os.PathLike[str] | None = None,
        verify: str = "lazy",
        public_key: Key | None = None,
        min_version: int = 0,
        region: str = "",
        cache_dir: str | os.PathLike[str] | None = None,
        num_threads: int = 0,
    ) -> "Localizer":
        """Open a region pack.

        Args:
            source: path of the pack.
            backend: the runtime that is wanted: "onnx", "tensorrt" or "coreml"; "auto" takes the
                first encoder of the pack that can be run here, and logs which ones it passes over.
            encoder: model file that the pack names and does not carry, or a folder that holds it.
            verify: "lazy" checks the hash of each entry before its first use, "all" checks every
                entry now.
            public_key: of who must have signed the pack: a PEM file, its content, or 32 raw bytes.
            min_version: the oldest pack version that is accepted.
            region: the pack id that is wanted; empty accepts any. One key may sign many regions.
            cache_dir: a folder whose subfolder `encoders` holds model files that packs name, and
                whose subfolders `engines` and `coreml` keep what TensorRT and Core ML make of them;
                None is $GEOFIX_CACHE_DIR, or geofix in the user's cache folder.
            num_threads: of one inference; 0 lets the runtime choose.

        Raises:
            PackError: the file is no pack, is damaged, needs a newer geofix, is older than
                `min_version`, another region's, or not signed with the key.
            BackendUnavailable: the wanted runtime is absent, the pack has no encoder for it, or the
                encoder that it names is not there.
            ValueError: an unknown backend or value of `verify`.
            OSError: the file cannot be read.
        """
        if backend not in BACKENDS:
            raise ValueError(f"backend is {backend!r}, want one of {', '.join(BACKENDS)}")
        if verify not in ("lazy", "all"):
            raise ValueError(f"verify is {verify!r}, want 'lazy' or 'all'")
        pack = RegionPack.open(
            source, public_key=public_key, min_version=min_version, region=region
        )
        if verify == "all":
            pack.verify()
        return cls(
            pack,
            backend=backend,
            encoder=None if encoder is None else Path(encoder),
            cache_dir=None if cache_dir is None else Path(cache_dir),
            num_threads=num_threads,
        )

    def __enter__(self) -> "Localizer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the pack and the encoder. Closing twice is fine."""
        self._pack = self._index = self._encoder = None

    @property
    def coverage(self) -> Coverage:
        """Where the pack can place a photo, and how well with this encoder."""
        pack, index = self._opened()
        return pack.coverage_of(index, self._calibration())

    def localize(
        self,
        image: ImageSource,
        *,
        prior: Prior | None = None,
        k: int = 5,
        encoding: str = "rgb8",
        hfov_deg: float | None = None,
    ) -> Fix:
        """Return where a photo was taken.

        Args:
            image: a path, the bytes of a file, a PIL image, or an array (H, W, 3) uint8.
            prior: where the camera can be.
            k: number of candidates in the fix.
            encoding: of an array: "rgb8", "bgr8" (what OpenCV gives) or "mono8" (H, W).
            hfov_deg: horizontal field of view, where known.

        Raises:
            ImageError: the image cannot be decoded.
            PriorOutsidePack: the prior admits no cell of the pack.
            BackendUnavailable: the pack has no encoder.
            ValueError, TypeError: an argument out of range or of a wrong type.
            OSError: the file cannot be read.
        """
        clock = _Clock()
        embedding, captured_at = self._embed_photo(image, encoding, hfov_deg, clock)
        return self._fix(embedding, prior, k, clock, captured_at=captured_at)

    def embed(self, images: Iterable[ImageSource], *, encoding: str = "rgb8") -> npt.NDArray[Any]:
        """Return the embeddings of photos, (B, D) float32, each of unit length.

        Raises:
            ImageError: an image cannot be decoded.
            BackendUnavailable: the pack has no encoder.
        """
        encoder, spec = self._query_encoder()
        if isinstance(images, (str, bytes, os.PathLike)):
            raise TypeError("images is one image, want a list of images")
        pixels = [prepare_image(image, spec, encoding=encoding) for image in images]
        if not pixels:
            return np.zeros((0, encoder.dim), np.float32)
        return encoder.encode(np.stack(pixels))

    def search(
        self, embedding: npt.NDArray[np.float32], *, prior: Prior | None = None, k: int = 5
    ) -> Fix:
        """Return the place of an embedding (D,), by this pack's encoder or the team's own.

        Raises:
            PriorOutsidePack: the prior admits no cell of the pack.
            ValueError: an embedding of another length, or not finite.
        """
        return self._fix(embedding, prior, k, _Clock(), captured_at=None)

    def _embed_photo(
        self, image: ImageSource, encoding: str, hfov_deg: float | None, clock: "_Clock"
    ) -> tuple[npt.NDArray[np.float32], datetime | None]:
        """Return the embedding of one photo (D,), and when it was taken."""
        encoder, spec = self._query_encoder()
        photo = load_photo(image, encoding=encoding, target=spec, hfov_deg=hfov_deg)
        clock.stop("decode")
        pixels = fit_image(photo.pixels, spec, hfov_deg=hfov_deg)
        clock.stop("preprocess")
        embedding = encoder.encode(pixels[None])[0]
        clock.stop("encode")
        return embedding, photo.captured_at

    def _fix(
        self,
        embedding: npt.NDArray[np.float32],
        prior: Prior | None,
        k: int,
        clock: "_Clock",
        *,
        captured_at: datetime | None,
    ) -> Fix:
        pack, index = self._opened()
        if k < 1:
            raise ValueError(f"k is {k}, want at least 1")
        if prior is not None and not isinstance(prior, Prior):
            raise TypeError(f"prior is {prior!r}, want a Prior: Prior.disk(lat, lon, radius_m=500)")
        region = None if prior is None else prior.region
        matches = index.search(embedding, k=max(k, NUM_CANDIDATES), region=region)
        if prior is not None and len(matches.cells) == 0:
            raise PriorOutsidePack(_nothing_inside(prior, pack.manifest))
        clock.stop("search")
        fix = _fix_from_matches(matches, self._calibration(), k, pack.manifest.pack_id)
        clock.stop("posterior")
        return replace(fix, captured_at=captured_at, timings_ms=clock.timings_ms())

    def _calibration(self) -> Calibration | None:
        if self._entry is not None:
            return self._entry.calibration
        return self._opened()[0].manifest.calibration

    def _opened(self) -> tuple[RegionPack, CellIndex]:
        pack, index = self._pack, self._index
        if pack is None or index is None:
            raise ValueError("this Localizer is closed: open it again")
        return pack, index

    def _query_encoder(self) -> tuple[QueryEncoder, InputSpec]:
        self._opened()
        if self._encoder is None or self._entry is None:
            raise BackendUnavailable(
                "this pack carries no encoder: embed the photo yourself and call `search`"
            )
        return self._encoder, self._entry.input_spec


def localize(
    image: ImageSource, pack: str | os.PathLike[str], *, prior: Prior | None = None
) -> Fix:
    """Open a pack, localize one photo, close it. For more than one photo keep a `Localizer`."""
    with Localizer.open(pack) as localizer:
        return localizer.localize(image, prior=prior)


def _wanted_encoders(encoders: tuple[EncoderEntry, ...], backend: str) -> list[EncoderEntry]:
    """Return the encoders to try, in the order of the pack; none where it has none."""
    if backend == "auto":
        return list(encoders)
    wanted = [encoder for encoder in encoders if encoder.target == backend]
    if not wanted:
        has = ", ".join(encoder.target for encoder in encoders) or "none"
        raise BackendUnavailable(f"the pack has no encoder for {backend!r}; it has {has}")
    return wanted


def _open_encoder(
    pack: RegionPack,
    entry: EncoderEntry,
    model: bytes | memoryview,
    num_threads: int,
    cache_dir: Path | None,
) -> QueryEncoder:
    encoder = open_encoder(
        entry.target,
        model,
        input_spec=entry.input_spec,
        num_threads=num_threads,
        cache_dir=cache_dir,
    )
    if encoder.dim != pack.manifest.dim:
        raise BackendUnavailable(
            f"encoder {entry.entry} gives {encoder.dim} dimensions, the pack's cell codes have "
            f"{pack.manifest.dim}"
        )
    return encoder


def _nothing_inside(prior: Prior, manifest: Manifest) -> str:
    box, edge_m = manifest.bounds, s2.mean_edge_m(manifest.cell_level)
    return (
        f"the prior ({prior.description}) admits no cell of pack {manifest.pack_id!r}, which lies "
        f"in {box.south}, {box.west} to {box.north}, {box.east}. A cell counts where its centre "
        f"lies inside, and is {edge_m:.0f} m wide: widen a small prior; are lat and lon swapped?"
    )


def _fix_from_matches(
    matches: Matches, calibration: Calibration | None, k: int, pack_id: str
) -> Fix:
    # Whatever k is, as many cells share the probability as in the fit of the calibration.
    sharing = Matches(matches.cells[:NUM_CANDIDATES], matches.scores[:NUM_CANDIDATES])
    found = posterior(sharing, calibration)
    centres = s2.latlon_from_cell(matches.cells[:k])
    shares: list[float | None] = [None] * k
    if found.probabilities is not None:
        shares = [*found.probabilities.tolist(), *[0.0] * k]
    candidates = tuple(
        Candidate(s2.token_from_cell(int(cell)), LatLon(*centre), float(score), share)
        for cell, centre, score, share in zip(
            matches.cells[:k], centres.tolist(), matches.scores[:k], shares, strict=False
        )
    )
    return Fix(
        status=found.status,
        latlon=found.latlon,
        accuracy_m=found.accuracy_m,
        radius95_m=found.radius95_m,
        covariance_m2=found.covariance_m2,
        confidence=found.confidence,
        candidates=candidates,
        pack_id=pack_id,
    )


class _Clock:
    """Times stages that follow each other."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._start = self._last = now()
        self._timings_ms: dict[str, float] = {}

    def stop(self, stage: str) -> None:
        """End a stage; the next begins."""
        now = self._now()
        self._timings_ms[stage] = 1000 * (now - self._last)
        self._last = now

    def timings_ms(self) -> dict[str, float]:
        """Return the stages and their sum."""
        return {**self._timings_ms, "total": 1000 * (self._last - self._start)}
