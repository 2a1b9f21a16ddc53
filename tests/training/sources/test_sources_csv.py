from pathlib import Path

import pytest

from handful_training.errors import InputError
from handful_training.sources.source import open_source
from handful_training.sources.table import write_table


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("data/a.jpg", "data/sub/b, c.png", "elsewhere/d.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path


def test_paths_are_relative_to_the_table_or_absolute(folder: Path):
    """A path inside the table's folder gets a relative key however it is written, others don't."""
    table = folder / "data" / "list.csv"
    inside, outside = folder / "data" / "a.jpg", folder / "elsewhere" / "d.jpg"
    lines = ["\ufeffid, path ", "1,./a.jpg", '2,"sub/b, c.png"', "", f"3,{inside}", f"4,{outside}"]
    table.write_bytes("\r\n".join(lines).encode())
    source = open_source(table)
    assert list(source.keys) == ["a.jpg", "sub/b, c.png", outside.as_posix()]
    assert source.read(1) == b"data/sub/b, c.png"
    assert source.read(2) == b"elsewhere/d.jpg"
    assert "1 lines name a file again" in source.summary


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "no column `path`"),
        (b"file\na.jpg\n", "no column `path`.*found `file`"),
        (b"path;label\na.jpg;x\n", "commas between.*found `path;label`"),
        (b"path\n", "lists no image"),
        (b"path,label\na.jpg\n", "line 2: 1 cells, the header has 2"),
        (b"path,label\n,x\n", "line 2: the path is empty"),
        (b"path,path\na,b\n", "two columns are called `path`"),
        (b'path\n"a.jpg\n', "line 2"),
        ("path\na.jpg\n".encode("utf-16"), "UTF-16"),
    ],
)
def test_a_faulty_table_is_refused_with_the_remedy(folder: Path, text: bytes, message: str):
    """What is wrong with a table is said with its line or its header, as bad input."""
    table = folder / "list.csv"
    table.write_bytes(text)
    with pytest.raises(InputError, match=message):
        open_source(table)


def test_no_cell_that_is_written_can_act_as_a_formula(tmp_path: Path):
    """Cells that a spreadsheet would run get an apostrophe; others stay as they are."""
    cells = ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "a=b", "plain"]
    write_table(tmp_path / "out.csv", ["cell"], [[cell] for cell in cells])
    text = (tmp_path / "out.csv").read_bytes().decode()
    assert text == "cell\r\n'=1+1\r\n'+1\r\n'-1\r\n'@x\r\n'\tx\r\n\"'\rx\"\r\na=b\r\nplain\r\n"
