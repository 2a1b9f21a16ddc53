"""What the checks of the deploy files share: where the repository is."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "deploy"))  # `demo` is no installed package


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return ROOT
