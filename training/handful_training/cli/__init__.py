"""The command line of `handful-train`."""

from handful_training.cli.main import main

__all__ = ["main"]
