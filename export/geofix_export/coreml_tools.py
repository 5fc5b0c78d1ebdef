"""The only place that imports coremltools; it talks a lot, for one of what Linux does not have."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any


def import_coremltools() -> Any:
    """Return the module coremltools.

    Raises:
        ImportError: it is not installed.
    """
    try:
        with quiet():
            import coremltools
            import coremltools.optimize.coreml
    except ImportError as e:
        raise ImportError("Core ML needs coremltools: pip install 'geofix[export]'") from e
    return coremltools


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep progress bars, and warnings about untried versions of torch, off the screen."""
    logger = logging.getLogger("coremltools")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
