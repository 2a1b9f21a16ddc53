import csv
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from handful_bundle.manifest import ImageSpec
from handful_bundle.pixels import decode, resize
from handful_training.errors import InputError
from handful_training.labels.labels import read_labels
from handful_training.packs.fingerprint import fingerprint
from handful_training.packs.pack import Pack, pack_source
from handful_training.sources.source import open_source

SPEC = ImageSpec(height=24, width=32, channels=3)
WriteIdx = Callable[[Path, NDArray[np.uint8]], Path]


def test_a_pack_holds_the_pixels_of_every_readable_image(photos: Path, tmp_path: Path):
    """Row by row what `pixels.decode` gives, in the order of the source, without the broken."""
    source = open_source(photos)
    pack = pack_source(source, SPEC, tmp_path / "work", workers=2)
    assert pack.images.shape == (60, 24, 32, 3)
    assert pack.images.dtype == np.uint8
    assert len(pack.keys) == len(pack) == 60
    for key, pixels in zip(pack.keys, pack.images, strict=True):
        assert np.array_equal(pixels, decode((photos / key).read_bytes(), SPEC))
    for i, key in enumerate(source.keys):
        row = pack.row_of[i]
        assert (row == -1) == (key in {entry.key for entry in pack.rejected})
        assert row == -1 or pack.keys[row] == key


def test_rejected_images_are_listed_with_the_reason(photos: Path, tmp_path: Path):
    """`rejected.csv` names path, code and detail, and so does the pack when it is opened again."""
    (photos / "=cmd.jpg").write_bytes(b"")
    pack = pack_source(open_source(photos), SPEC, tmp_path / "work", workers=2)
    assert {(entry.key, entry.code) for entry in pack.rejected} == {
        ("=cmd.jpg", "image_empty"),
        ("cat/empty.jpg", "image_empty"),
        ("cat/text.png", "image_unsupported"),
        ("cat/cut.png", "image_unreadable"),
    }
    with pack.rejected_csv.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [
        "'=cmd.jpg", "cat/cut.png", "cat/empty.jpg", "cat/text.png"
    ]  # fmt: skip
    assert all(row["detail"] for row in rows)
    assert Pack.load(pack.root).rejected == pack.rejected


def test_the_arrays_are_plain_numpy_files(photos: Path, tmp_path: Path):
    """Anything that reads .npy can map the images; nothing needs pickle."""
    pack = pack_source(open_source(photos), SPEC, tmp_path / "work", workers=2)
    images = np.load(pack.root / "images.npy", mmap_mode="r", allow_pickle=False)
    assert np.array_equal(images, pack.images)
    assert (pack.root / "images.npy").stat().st_size == images.offset + images.nbytes
    with pytest.raises(ValueError, match="read-only"):
        pack.images[0] = 0


def test_exact_duplicates_are_counted(photos: Path, tmp_path: Path):
    """Three copies of one image are two duplicates; they stay in the pack."""
    first = next(photos.rglob("0000*"))
    for i in range(2):
        (photos / f"copy{i}{first.suffix}").write_bytes(first.read_bytes())
    pack = pack_source(open_source(photos), SPEC, tmp_path / "work", workers=2)
    assert (len(pack), pack.duplicates) == (62, 2)


def test_the_same_inputs_are_read_once(photos: Path, tmp_path: Path):
    """A second run opens the pack of the first, and writes nothing."""
    first = pack_source(open_source(photos), SPEC, tmp_path / "work", workers=2)
    before = {path: path.stat().st_mtime_ns for path in first.root.iterdir()}
    again = pack_source(open_source(photos), SPEC, tmp_path / "work", workers=2)
    assert {path: path.stat().st_mtime_ns for path in again.root.iterdir()} == before
    assert again.content_digest == first.content_digest
    assert again.keys == first.keys


def test_the_fingerprint_follows_the_inputs(photos: Path):
    """It changes with size, time, name and number of files and with the pixels asked for."""
    path = photos / "cat" / "0000.jpg"
    data, times = path.read_bytes(), path.stat()

    def current(spec: ImageSpec = SPEC) -> str:
        return fingerprint(open_source(photos), spec)

    seen = [current()]
    assert current() == seen[0]
    seen.append(current(SPEC.model_copy(update={"resize": "crop"})))
    path.write_bytes(data + b"\0")
    seen.append(current())
    path.write_bytes(data[:-1] + b"\0")  # other bytes under the old size and time
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    seen.append(current())
    path.rename(photos / "cat" / "0000b.jpg")
    seen.append(current())
    (photos / "cat" / "0000b.jpg").unlink()
    seen.append(current())
    assert len(set(seen)) == 6


def test_equal_pixels_have_one_content_digest(photos: Path, tmp_path: Path):
    """Touching a file means reading again, but later stages see that nothing changed."""
    first = pack_source(open_source(photos), SPEC, tmp_path / "work", workers=2)
    os.utime(photos / "cat" / "0000.jpg", (0, 0))
    second = pack_source(open_source(photos), SPEC, tmp_path / "work", workers=2)
    assert second.fingerprint != first.fingerprint
    assert second.content_digest == first.content_digest
    (photos / "cat" / "0000.jpg").unlink()
    third = pack_source(open_source(photos), SPEC, tmp_path / "work", workers=2)
    assert third.content_digest != first.content_digest


@pytest.mark.parametrize("name", ["images.npy", "digests.npy", "rows.npy", "keys.jsonl"])
@pytest.mark.parametrize("damage", ["cut", "gone", "changed"])
def test_a_damaged_pack_is_made_again(
    photos: Path, tmp_path: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
):
    """A file that is short, missing or altered in place is found, said and repaired."""
    first = pack_source(open_source(photos), SPEC, tmp_path / "work", workers=2)
    expected = np.array(first.images)
    path = first.root / name
    data = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(data[:-1])
    elif damage == "changed":
        path.write_bytes(data[:128] + bytes(len(data) - 128))
    again = pack_source(open_source(photos), SPEC, tmp_path / "work", workers=2)
    assert "packing again" in caplog.text
    assert np.array_equal(again.images, expected)
    assert path.read_bytes() == data


@pytest.mark.parametrize("text", ["", "{}", "nonsense", '{"format": 1}'])
def test_a_damaged_record_is_made_again(photos: Path, tmp_path: Path, text: str):
    """Without a valid `pack.json` there is no pack."""
    first = pack_source(open_source(photos), SPEC, tmp_path / "work", workers=2)
    (first.root / "pack.json").write_text(text)
    again = pack_source(open_source(photos), SPEC, tmp_path / "work", workers=2)
    assert json.loads((again.root / "pack.json").read_text())["packed"] == 60


def test_joined_sources_are_packed_in_order(
    make_photos: Callable[..., Path], write_idx: WriteIdx, tmp_path: Path
):
    """Pixels of an idx file and files of a folder of class folders lie in one pack."""
    array = np.random.default_rng(0).integers(0, 256, (70, 24, 32), dtype=np.uint8)
    images = write_idx(tmp_path / "images.gz", array)
    folder = make_photos(tmp_path / "labelled", 6, classes=("cat", "dog"))
    source, labels = read_labels(str(folder), open_source(images), images)
    pack = pack_source(source, SPEC, tmp_path / "work", workers=2)
    assert len(pack) == 76
    assert np.array_equal(pack.images[:70], np.repeat(array[..., np.newaxis], 3, axis=3))
    for row in labels.in_pack(pack).index:
        assert np.array_equal(pack.images[row], decode(Path(pack.keys[row]).read_bytes(), SPEC))


@pytest.mark.parametrize("spec", [SPEC, ImageSpec(height=16, width=16, channels=1)])
def test_idx_pixels_are_those_of_the_file(write_idx: WriteIdx, tmp_path: Path, spec: ImageSpec):
    """Taken as they are where the shape fits, else through `pixels.resize`."""
    array = np.random.default_rng(0).integers(0, 256, (100, 16, 16), dtype=np.uint8)
    source = open_source(write_idx(tmp_path / "images.gz", array))
    pack = pack_source(source, spec, tmp_path / "work")
    assert np.array_equal(pack.images, np.stack([resize(image, spec) for image in array]))
    assert pack.keys[:2] == ["00", "01"]


def test_the_content_digest_can_be_computed_by_hand(write_idx: WriteIdx, tmp_path: Path):
    """It is the SHA-256 over count, shape and the SHA-256 of each image."""
    array = np.random.default_rng(0).integers(0, 256, (60, 16, 16, 1), dtype=np.uint8)
    spec = ImageSpec(height=16, width=16, channels=1)
    pack = pack_source(open_source(write_idx(tmp_path / "i", array)), spec, tmp_path / "work")
    rows = b"".join(hashlib.sha256(image.tobytes()).digest() for image in array)
    expected = hashlib.sha256(b"60 (16, 16, 1)" + rows).hexdigest()
    assert pack.content_digest == f"sha256:{expected}"


def test_more_than_half_unreadable_is_refused(photos: Path, tmp_path: Path):
    """The message counts the reasons and names the list; nothing is left that looks like a pack."""
    for i in range(70):
        (photos / f"broken{i}.jpg").write_bytes(b"" if i < 60 else b"no image")
    with pytest.raises(
        InputError, match=r"more than half of 133 images.*times image_empty"
    ) as info:
        pack_source(open_source(photos), SPEC, tmp_path / "work", workers=2)
    (table,) = (tmp_path / "work" / "packs").glob("*.csv")
    assert str(table) in str(info.value)
    assert len(table.read_text().splitlines()) > 67
    assert not [path for path in (tmp_path / "work" / "packs").iterdir() if path.is_dir()]


def test_fewer_than_fifty_images_are_refused(photos: Path, tmp_path: Path):
    """Fewer files, or fewer readable ones; other commands may ask for less."""
    for path in sorted(photos.rglob("0*"))[:11]:
        path.write_bytes(b"")
    with pytest.raises(InputError, match="49 of 63 images could be read; at least 50"):
        pack_source(open_source(photos), SPEC, tmp_path / "work", workers=2)
    assert len(pack_source(open_source(photos), SPEC, tmp_path / "work", minimum=1)) == 49
    for path in sorted(photos.rglob("0*"))[:20]:
        path.unlink()
    with pytest.raises(InputError, match="43 images; at least 50 are needed"):
        pack_source(open_source(photos), SPEC, tmp_path / "work", workers=2)


def test_a_work_folder_that_cannot_be_is_bad_input(photos: Path, tmp_path: Path):
    """A file where the work folder should be is said with the setting that moves it."""
    (tmp_path / "work").write_text("a file")
    with pytest.raises(InputError, match="set HANDFUL_WORK"):
        pack_source(open_source(photos), SPEC, tmp_path / "work", workers=2)
