"""One photo in, one position out, offline.

from geofix import Localizer, Prior

with Localizer.open("town.geofix") as localizer:
    fix = localizer.localize("photo.jpg", prior=Prior.disk(47.37, 8.54, radius_m=5000))
"""

from geofix.coverage import Coverage, LocalCoverage
from geofix.encoder import QueryEncoder
from geofix.errors import (
    BackendUnavailable,
    GeofixError,
    ImageError,
    PackCorruptError,
    PackError,
    PackFormatError,
    PackSignatureError,
    PackVersionError,
    PriorOutsidePack,
)
from geofix.fix import Candidate, Fix, Unrestricted
from geofix.geo import Bounds, LatLon, distance_m
from geofix.input_spec import InputSpec
from geofix.localizer import Localizer, localize
from geofix.manifest import Manifest
from geofix.pack import RegionPack
from geofix.prior import Prior
from geofix.tracking.motion import Motion
from geofix.tracking.tracker import Tracker
from geofix.validation import Validation

__version__ = "0.1.0"

__all__ = [
    "BackendUnavailable",
    "Bounds",
    "Candidate",
    "Coverage",
    "Fix",
    "GeofixError",
    "ImageError",
    "InputSpec",
    "LatLon",
    "LocalCoverage",
    "Localizer",
    "Manifest",
    "Motion",
    "PackCorruptError",
    "PackError",
    "PackFormatError",
    "PackSignatureError",
    "PackVersionError",
    "Prior",
    "PriorOutsidePack",
    "QueryEncoder",
    "RegionPack",
    "Tracker",
    "Unrestricted",
    "Validation",
    "__version__",
    "distance_m",
    "localize",
]
