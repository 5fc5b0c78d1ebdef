"""What can go wrong.

* GeofixError
  - PackError
    · PackFormatError      not a pack, or a field is missing or wrong
    · PackVersionError     a pack this version cannot read, or one older than `min_version`
    · PackCorruptError     an entry does not match its checksum
    · PackSignatureError   a signature was asked for and is absent or does not hold
  - BackendUnavailable     the encoder, or the runtime it needs, is absent or not usable here
  - ImageError             an image that cannot be decoded
  - PriorOutsidePack       a hard prior admits no cell of the pack

Bad arguments raise ValueError or TypeError, a missing file OSError. A poor match is not an error:
read `Fix.status`.
"""


class GeofixError(Exception):
    """Anything that geofix raises beyond bad arguments."""


class PackError(GeofixError):
    """A region pack that cannot be used."""


class PackFormatError(PackError):
    """Not a region pack, or one whose structure or manifest is wrong."""


class PackVersionError(PackError):
    """A pack that needs a newer reader, or that is older than the caller accepts."""


class PackCorruptError(PackError):
    """An entry whose bytes do not match their checksum."""


class PackSignatureError(PackError):
    """A signature was asked for and is absent, does not hold, or cannot be checked here."""


class BackendUnavailable(GeofixError):
    """The encoder, or the runtime it needs, is absent or not usable here."""


class ImageError(GeofixError):
    """An image that cannot be decoded."""


class PriorOutsidePack(GeofixError):
    """A hard prior that admits no cell of the pack."""
