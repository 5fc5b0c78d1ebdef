"""Localization: a pack, an encoder, one photo in, one fix out."""

import logging
import os
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from geofix.answer import (
    elsewhere_logit,
    find,
    fix_from_found,
    nothing_inside,
    summed_views,
    unrestricted,
)
from geofix.backends import BACKENDS
from geofix.clock import Clock
from geofix.coverage import Coverage
from geofix.encoder import QueryEncoder
from geofix.errors import BackendUnavailable, PriorOutsidePack
from geofix.fix import Fix
from geofix.image_statistics import image_statistics
from geofix.images import ImageSource, fit_image, load_photo, prepare_image
from geofix.input_spec import InputSpec
from geofix.pack import RegionPack
from geofix.pack_encoder import open_pack_encoder
from geofix.posterior import Calibration
from geofix.prior import Prior
from geofix.signing import Key
from geofix_index import CellIndex

_log = logging.getLogger("geofix")


class Localizer:
    """Localizes photos with a region pack. Use it as a context manager.

    Threads may share one: each gets what it would get alone. What is closed meanwhile ends what
    they do next with a ValueError. A child of `os.fork` may go on with its parent's, and opens a
    session of ONNX Runtime of its own; TensorRT and Core ML raise BackendUnavailable there. No
    fix depends on the clock or on a connection, so that a process may be suspended.

    Attributes:
        backend: the runtime of the encoder, "" where the pack carries none.
        device: what it computes on, for people: "CPU", "CUDA", "GPU", "chosen by Core ML".
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
        self._entry, self._encoder = open_pack_encoder(
            pack, backend=backend, given=encoder, cache_dir=cache_dir, num_threads=num_threads
        )
        self.backend = "" if self._entry is None else self._entry.target
        self.device: str = getattr(self._encoder, "device", "")

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

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied."""
        raise TypeError(
            "a Localizer cannot be pickled or copied: send the pack's path, and open it there with "
            "Localizer.open"
        )

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
            hfov_deg: horizontal field of view, where known; else a file's EXIF may say it.

        Raises:
            ImageError: the image cannot be decoded.
            PriorOutsidePack: a hard prior admits no cell of the pack.
            BackendUnavailable: the pack has no encoder.
            ValueError, TypeError: an argument out of range or of a wrong type; a soft prior in a
                pack that is not calibrated.
            OSError: the file cannot be read.
        """
        clock = Clock()
        seen = self._embed_photo(image, encoding, hfov_deg, clock)
        return self._fix(
            seen.embedding,
            prior,
            k,
            clock,
            captured_at=seen.captured_at,
            strangeness=seen.strangeness,
        )

    def localize_views(
        self,
        images: Iterable[ImageSource],
        *,
        prior: Prior | None = None,
        k: int = 5,
        encoding: str = "rgb8",
        hfov_deg: float | None = None,
    ) -> Fix:
        """Return where several cameras of one rig were at an instant, their evidence summed.

        V views count like sqrt(V) independent ones, and a candidate's score is the sum of its
        scores over sqrt(V). A view that looks like no photo is left out where there are others.

        Args:
            images: at least one, from cameras a few metres apart.
            prior: where the rig can be.
            k: number of candidates in the fix.
            encoding: of arrays.
            hfov_deg: horizontal field of view of all cameras, where known.

        Raises what `localize` does, and ValueError without an image.
        """
        if isinstance(images, (str, bytes, os.PathLike, np.ndarray)):
            raise TypeError("images is one image, want a list of images")
        clock = Clock()
        # One by one: an engine may be bound to a batch of one.
        seen = [self._embed_photo(image, encoding, hfov_deg, clock) for image in images]
        if not seen:
            raise ValueError("images is empty, want at least one image")
        embedding, strangeness, num_views = summed_views(
            np.stack([view.embedding for view in seen]), np.array([v.strangeness for v in seen])
        )
        return self._fix(
            embedding,
            prior,
            k,
            clock,
            captured_at=seen[0].captured_at,
            strangeness=strangeness,
            num_views=num_views,
        )

    def embed(
        self, images: Iterable[ImageSource], *, encoding: str = "rgb8"
    ) -> npt.NDArray[np.float32]:
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

        The picture is not seen, so that one of nothing may find a place.

        Raises:
            PriorOutsidePack: a hard prior admits no cell of the pack.
            ValueError: an embedding of another length, or not finite; or as in `localize`.
        """
        return self._fix(embedding, prior, k, Clock(), captured_at=None)

    def _embed_photo(
        self, image: ImageSource, encoding: str, hfov_deg: float | None, clock: Clock
    ) -> "SeenPhoto":
        """Return what is known of a photo, as far as the search."""
        encoder, spec = self._query_encoder()
        photo = load_photo(image, encoding=encoding, target=spec, hfov_deg=hfov_deg)
        clock.stop("decode")
        pixels = fit_image(photo.pixels, spec, hfov_deg=photo.hfov_deg)
        clock.stop("preprocess")
        embedding = encoder.encode(pixels[None])[0]
        clock.stop("encode")
        return SeenPhoto(embedding, self._strangeness(pixels), photo.captured_at)

    def _fix(
        self,
        embedding: npt.NDArray[np.float32],
        prior: Prior | None,
        k: int,
        clock: Clock,
        *,
        captured_at: datetime | None,
        strangeness: float = 0.0,
        num_views: int = 1,
    ) -> Fix:
        pack, index = self._opened()
        if k < 1:
            raise ValueError(f"k is {k}, want at least 1")
        if prior is not None and not isinstance(prior, Prior):
            raise TypeError(f"prior is {prior!r}, want a Prior: Prior.disk(lat, lon, radius_m=500)")
        calibration = self._calibration()
        elsewhere = 0.0
        if calibration is not None:
            elsewhere = elsewhere_logit(
                calibration,
                num_cells=index.num_cells,
                strangeness=strangeness,
                num_views=num_views,
            )
        found = find(index, embedding, calibration, prior=prior, k=k, elsewhere=elsewhere)
        if prior is not None and prior.density is None and found.num_inside == 0:
            raise PriorOutsidePack(nothing_inside(prior, pack.manifest))
        clock.stop("search")
        fix = fix_from_found(
            found,
            calibration,
            prior=prior,
            k=k,
            elsewhere=elsewhere,
            pack_id=pack.manifest.pack_id,
        )
        if fix.prior_conflict:
            answer = unrestricted(index, embedding, calibration, elsewhere=elsewhere)
            fix = replace(fix, unrestricted=answer)
        clock.stop("posterior")
        return replace(fix, captured_at=captured_at, timings_ms=clock.timings_ms())

    def _strangeness(self, pixels: npt.NDArray[np.uint8]) -> float:
        """Return how little a picture looks like those of the calibration, in nats."""
        calibration = self._calibration()
        if calibration is None or calibration.image_statistics is None:
            return 0.0
        return float(calibration.image_statistics.strangeness(image_statistics(pixels)))

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
        encoder = self._encoder  # before the check, since another thread may close meanwhile
        self._opened()
        if encoder is None or self._entry is None:
            raise BackendUnavailable(
                "this pack carries no encoder: embed the photo yourself and call `search`"
            )
        return encoder, self._entry.input_spec


def localize(
    image: ImageSource, pack: str | os.PathLike[str], *, prior: Prior | None = None
) -> Fix:
    """Open a pack, localize one photo, close it. For more than one photo keep a `Localizer`."""
    with Localizer.open(pack) as localizer:
        return localizer.localize(image, prior=prior)


class SeenPhoto(NamedTuple):
    """What is known of a photo before the search."""

    embedding: npt.NDArray[np.float32]  # (D,)
    strangeness: float  # nats, of `geofix.image_statistics`
    captured_at: datetime | None
