"""Optional packages, imported where they are needed, with the command that installs them."""

import importlib
import sys
from types import ModuleType
from typing import Any

from handful_client.errors import MissingExtra


def need(module: str, extra: str, purpose: str) -> Any:
    """Import an optional package.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise missing(module.partition(".")[0], extra, purpose) from error


def missing(package: str, extra: str, purpose: str) -> MissingExtra:
    """Return the error that says how to install what is missing."""
    return MissingExtra(f"{purpose} needs {package}: pip install 'handful-client[{extra}]'")


def numpy_or_none() -> ModuleType | None:
    """Return numpy where it is installed."""
    try:
        return importlib.import_module("numpy")
    except ImportError:
        return None


def is_array(value: object) -> bool:
    """Whether a value is a numpy array. Imports nothing: who made one has imported numpy."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def is_pillow(value: object) -> bool:
    """Whether a value is a PIL image. Imports nothing."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(value, pillow.Image)
