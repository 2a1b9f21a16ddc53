"""How commands name a model and its versions: NAME, NAME@ALIAS, NAME/VERSION."""

import re
from typing import NamedTuple

from handful_training.errors import InputError

PREFIX = "models:/"
_NAME = re.compile(r"\w[\w. -]{0,198}\w|\w")
_REFERENCE = re.compile(r"(?P<name>[^@/:]+)(?:@(?P<alias>[\w-]+)|/(?P<version>[1-9]\d*))?")


class Reference(NamedTuple):
    """A version as a user names it; neither alias nor version: the champion, else the newest."""

    name: str
    alias: str | None = None
    version: str | None = None


def check_name(name: str) -> str:
    """Return `name` if it can be a model's.

    Raises:
        InputError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot be a model's name: use letters, digits, dots, dashes and underscores"
        )
    return name


def parse(text: str) -> Reference:
    """Read NAME, NAME@ALIAS or NAME/VERSION, with or without `models:/` before it.

    Raises:
        InputError: it is none of them.
    """
    match = _REFERENCE.fullmatch(text.removeprefix(PREFIX))
    if match is None:
        raise InputError(f"{text!r} names no model: write NAME, NAME@champion or NAME/3")
    return Reference(check_name(match["name"]), match["alias"], match["version"])
