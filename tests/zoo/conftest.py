"""The zoo's own settings."""

import pytest

from tests.zoo.torchvision_operators import named_operators

pytest.register_assert_rewrite("tests.zoo.case")
collect_ignore = ["preload.py"]  # importing it loads the libraries, and it has no doctest


@pytest.fixture(scope="session", autouse=True)
def torchvision_operators() -> object:
    """Let torchvision be imported, for the whole session."""
    return named_operators()
