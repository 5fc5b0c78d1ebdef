"""Fixtures for the tests of tracking."""

import numpy as np
import pytest

from geofix import Localizer
from tests.geofix.streets import Streets, open_streets


@pytest.fixture(scope="session")
def streets() -> Streets:
    """Return synthetic streets."""
    return Streets.make()


@pytest.fixture(scope="session")
def streets_localizer(streets: Streets, tmp_path_factory: pytest.TempPathFactory) -> Localizer:
    """Return a localizer of the streets' pack."""
    return open_streets(streets, tmp_path_factory.mktemp("streets"))


@pytest.fixture
def rng() -> np.random.Generator:
    """Return the randomness of a test."""
    return np.random.default_rng(3)
