"""docs/operations.md on faults: each has tests that are there, and a code that can be answered."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from handful_service.errors import KINDS

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "operations.md").read_text()


class Row(NamedTuple):
    """One fault."""

    fault: str
    status: str
    code: str
    meaning: str
    remedy: str
    test: str

    @property
    def codes(self) -> list[str]:
        """None where the fault is no error."""
        return [] if self.code == "–" else [code.strip("`") for code in self.code.split()]


def _rows() -> list[Row]:
    title = "### Faults that the service survives"
    found = re.search(rf"^{title}\n(.*?)(?=^##)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    lines = re.findall(r"^\| (.*) \|$", found[1], re.MULTILINE)
    cells = [[cell.strip() for cell in line.split(" | ")] for line in lines]
    assert cells[0] == ["fault", "status", "code", "what it means", "remedy", "test"]
    return [Row(*row) for row in cells[1:]]


ROWS = _rows()


@cache
def _tests_in(path: Path) -> set[str]:
    """The tests that a file defines."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.fault)
def test_each_fault_has_tests_that_exist(row: Row) -> None:
    """Each row names at least one test, and each test that it names is there."""
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", row.test)
    assert named
    assert row.test == " ".join(f"`{file}::{name}`" for file, name in named)
    for file, name in named:
        assert name in _tests_in(TESTS / file), f"{file}::{name}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.fault)
def test_each_code_can_be_answered(row: Row) -> None:
    """A row's codes are the service's and have those statuses; no cell is empty."""
    assert all(row)
    assert set(row.codes) <= set(KINDS)
    assert row.status == (" ".join(str(KINDS[code].status) for code in row.codes) or "–")


def test_each_code_stands_in_the_table() -> None:
    """No code that the service can answer is without a fault, and so without a test."""
    assert {code for row in ROWS for code in row.codes} == set(KINDS)


def test_each_fault_stands_there_once() -> None:
    """No two rows are about the same fault."""
    assert len({row.fault for row in ROWS}) == len(ROWS) > 40
