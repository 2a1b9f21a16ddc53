"""The version of this distribution, as its metadata has it."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("handful-client")
except PackageNotFoundError:  # read from a checkout that was never installed
    __version__ = "0+unknown"
