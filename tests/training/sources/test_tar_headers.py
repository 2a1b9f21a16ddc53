"""Headers of tars, against the standard library as the reference."""

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handful_training.sources.tar_headers import TarDamaged, read_headers

NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)
FILES = st.lists(
    st.tuples(NAMES.filter(lambda name: not name.endswith("/")), st.binary(max_size=2000)),
    max_size=5,
)
FORMS = st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])


def archive(files: list[tuple[str, bytes]], form: int) -> bytes:
    """Return a tar of `files`."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=form) as tar:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return data.getvalue()


@given(FILES, FORMS)
@settings(max_examples=150, deadline=None)
def test_names_and_places_are_those_of_the_standard_library(files: list, form: int):
    """For any names, lengths and each of the three formats."""
    try:
        data = archive(files, form)
    except ValueError:
        return  # the name is too long for ustar
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        expected = [(info.name, info.offset_data, info.size) for info in tar]
    found = list(read_headers(io.BytesIO(data)))
    assert [(header.name, header.offset, header.size) for header in found] == expected
    assert {header.kind for header in found} <= {"file"}


@given(
    st.binary(max_size=3000),
    st.integers(0, 3000),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
@settings(max_examples=200, deadline=None)
def test_no_bytes_can_do_more_than_be_refused(noise: bytes, at: int, form: int):
    """Noise, alone or over a tar, gives members within the file or `TarDamaged`, nothing else."""
    whole = archive([("a" * 150, b"x" * 700), ("b.jpg", b"y" * 100)], form)
    for data in (noise, whole[:at] + noise + whole[at + len(noise) :]):
        try:
            for header in read_headers(io.BytesIO(data)):
                assert header.offset <= len(data)
        except TarDamaged:
            pass


def test_a_hostile_length_is_not_believed():
    """A name of 4 GB is refused before anything of that size is read."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**32 - 1
    with pytest.raises(TarDamaged, match="a header of 4,294,967,295 bytes"):
        list(read_headers(io.BytesIO(info.tobuf(tarfile.GNU_FORMAT))))


@pytest.mark.parametrize("form", ["gnu", "oldgnu", "posix", "ustar", "v7"])
def test_what_gnu_tar_writes_is_read(tmp_path: Path, form: str):
    """Folders, links and sparse files among files; each is told for what it is."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.jpg").write_bytes(b"a" * 3000)
    (folder / "link.jpg").symlink_to("sub/a.jpg")
    with (folder / "hole.jpg").open("wb") as file:
        for i in range(30):  # more pieces than fit into the header itself
            file.seek(i * 200_000)
            file.write(b"x" * 5000)
    (folder / "z.jpg").write_bytes(b"z")
    command = ["tar", f"--format={form}", "--sort=name", "-cf", tmp_path / "a.tar", "-C", tmp_path]
    if form in {"gnu", "oldgnu", "posix"}:
        command.insert(1, "--sparse")
    subprocess.run([*command, "in"], check=True)
    with (tmp_path / "a.tar").open("rb") as file:
        found = {header.name.rstrip("/"): header for header in read_headers(file)}
        assert found["in/sub"].kind == "folder"
        assert found["in/link.jpg"].kind == "special"
        for name, content in (("in/sub/a.jpg", b"a" * 3000), ("in/z.jpg", b"z")):
            assert found[name].kind == "file"
            file.seek(found[name].offset)
            assert file.read(found[name].size) == content
    holes = [header.kind for name, header in found.items() if "hole" in name]
    assert holes == ["special" if "--sparse" in command else "file"]
