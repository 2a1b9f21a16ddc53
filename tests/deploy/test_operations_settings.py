"""docs/operations.md on settings: complete, with the defaults and bounds that the code has."""

import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from handful_service.settings import Settings
from handful_training.config import Config

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text()
SIGNS = {Ge: ("≥", "ge"), Gt: (">", "gt"), Le: ("≤", "le"), Lt: ("<", "lt")}


def row(name: str, field: FieldInfo) -> str:
    """Return how the row of a setting must begin: name, default, what it may be."""
    default = shown(field.get_default(call_default_factory=True))
    return f"| `{name}` | {default} | {bounds(field)} |"


def shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, tuple):
        text = f"[{', '.join(f'{part:g}' for part in value)}]"
    elif isinstance(value, Path):
        text = str(value).replace(str(Path.home()), "~")
    else:
        text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"`{text}`"


def bounds(field: FieldInfo) -> str:
    choices = list(literals(field.annotation))
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    limits = [
        f"{sign} {getattr(limit, attribute):g}"
        for limit in field.metadata
        for kind, (sign, attribute) in SIGNS.items()
        if isinstance(limit, kind)
    ]
    return ", ".join(limits) or "–"


def literals(annotation: Any) -> Iterator[Any]:
    if typing.get_origin(annotation) is Literal:
        yield from typing.get_args(annotation)
    else:
        for part in typing.get_args(annotation):
            yield from literals(part)


def config_rows() -> dict[str, str]:
    found = {}
    for block, part in Config.model_fields.items():
        assert isinstance(part.annotation, type)
        assert issubclass(part.annotation, BaseModel)
        for key, field in part.annotation.model_fields.items():
            found[f"{block}.{key}"] = row(f"{block}.{key}", field)
    return found


def service_rows() -> dict[str, str]:
    return {
        f"HANDFUL_{name.upper()}": row(f"HANDFUL_{name.upper()}", field)
        for name, field in Settings.model_fields.items()
    }


def section(title: str) -> str:
    """Return the page's section of this title."""
    found = re.search(rf"^### {re.escape(title)}\n(.*?)(?=^##)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


@pytest.mark.parametrize(
    ("title", "rows"),
    [("Settings of the service", service_rows()), ("Settings of a training", config_rows())],
    ids=["service", "training"],
)
def test_each_setting_has_its_row(title: str, rows: dict[str, str]) -> None:
    """Each setting stands in its table with its default and its bounds, and nothing else does."""
    text = section(title)
    missing = [start for start in rows.values() if f"\n{start} " not in text]
    assert not missing, f"docs/operations.md, {title!r}: add or correct the rows that begin so"
    named = set(re.findall(r"^\| `([\w.]+)` \|", text, re.MULTILINE))
    assert named == set(rows)


def test_each_variable_is_named() -> None:
    """Each environment variable that the code or a deploy file reads or sets is on the page."""
    files = [
        path
        for folder in ("bundle", "service", "training", "clients/python/handful_client", "deploy")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".yaml", ".yml", ".mlflow", ".service", ".training", ""}
        and path.is_file()
        and not {"demo", "secrets"} & set(path.parts)
    ]
    files.append(ROOT / "docker-compose.yml")
    text = "\n".join(path.read_text() for path in files)
    named = set(re.findall(r"\b(?:HANDFUL|MLFLOW|POSTGRES|AWS)_[A-Z][A-Z0-9_]*[A-Z0-9]\b", text))
    assert {"HANDFUL_WORK", "HANDFUL_URL", "MLFLOW_ALLOWED_HOSTS"} <= named
    missing = sorted(name for name in named if f"`{name}`" not in PAGE)
    assert not missing, "docs/operations.md, Settings: say what these mean"
