"""A bundle is what its manifest says, byte for byte, or it is refused."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from handful_bundle.arrays import pack_arrays, unpack_arrays
from handful_bundle.bundle import Bundle, read_manifest
from handful_bundle.errors import (
    BundleCorrupt,
    BundleError,
    BundleIncompatible,
    BundleMissing,
    DeviceUnavailable,
)
from handful_bundle.manifest import Manifest, digest

MakeBundle = Callable[..., Path]


@pytest.fixture
def copy(bundle_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))


def rewrite(root: Path, **changes: object) -> None:
    """Change the manifest as an attacker would: whatever is said is said consistently."""
    path = root / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def replace_file(root: Path, name: str, data: bytes) -> None:
    """Replace a file and its digest."""
    (root / name).write_bytes(data)
    files = json.loads((root / "manifest.json").read_text())["files"]
    rewrite(root, files=files | {name: digest(data)})


def test_what_is_saved_is_loaded(bundle_dir: Path) -> None:
    """A saved bundle loads whole, on the CPU, with all its parts."""
    bundle = Bundle.load(bundle_dir, device="cpu")
    assert bundle.provider == "cpu"
    assert bundle.decoder is not None
    assert bundle.classes is not None
    assert bundle.head is not None
    assert bundle.head.labels == bundle.manifest.labels == ("cat", "dog", "owl")
    probabilities = bundle.head(bundle.encoder(np.zeros((5, 16, 16, 3), np.uint8)).embedding)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)


def test_an_encoder_alone_is_a_bundle(bundle_dir_grey: Path) -> None:
    """Decoder and head are optional: an encoder from elsewhere can be served."""
    bundle = Bundle.load(bundle_dir_grey)
    assert bundle.decoder is None
    assert bundle.head is None
    assert bundle.encoder(np.zeros((2, 28, 28, 1), np.uint8)).embedding.shape == (2, 8)


def test_equal_files_share_their_session(
    bundle_dir: Path, tmp_path: Path, make_bundle: MakeBundle
) -> None:
    """A new head on the same encoder reuses its session; another encoder does not."""
    old = Bundle.load(bundle_dir)
    other_head = Bundle.load(make_bundle(tmp_path / "head", head_seed=7), reuse=old)
    assert other_head.encoder is old.encoder
    assert other_head.decoder is old.decoder
    assert other_head.head is not old.head
    other_encoder = Bundle.load(make_bundle(tmp_path / "encoder", seed=7), reuse=old)
    assert other_encoder.encoder is not old.encoder
    assert other_encoder.manifest.space != old.manifest.space


def test_a_folder_without_manifest_is_missing(tmp_path: Path) -> None:
    """No manifest: not a bundle, and the message says how to get one."""
    with pytest.raises(BundleMissing, match="handful-train export"):
        Bundle.load(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"', "{}", "[" * 100_000, '{"format": NaN}'])
def test_a_manifest_that_is_none_is_refused(copy: Path, text: str) -> None:
    """Whatever stands in manifest.json, the error is typed."""
    (copy / "manifest.json").write_text(text)
    with pytest.raises(BundleError):
        Bundle.load(copy)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"pixels_version": 999},
    ],
)
def test_another_format_is_incompatible_not_corrupt(copy: Path, change: dict) -> None:
    """A bundle of another release is told apart from a broken one."""
    rewrite(copy, **change)
    with pytest.raises(BundleIncompatible, match="this release"):
        Bundle.load(copy)


@pytest.mark.parametrize(
    "change",
    [
        {"space": "sha256:" + "0" * 64},
        {"embedding_dim": 9},
        {"latent_dim": 5},
        {"labels": ["cat", "dog"]},
        {"labels": ["cat", "dog", "dog"]},
        {"labels": None},
        {"head": None},
        {"likelihood": "discretised_logistic"},
        {"likelihood": None},
        {"image": {"height": 15, "width": 16, "channels": 3, "resize": "fit"}},
        {"image": {"height": 16, "width": 16, "channels": 3, "resize": "crop"}},
        {"unknown": 1},
        {"files": {}},
        {"files": {"../encoder.onnx": "sha256:" + "0" * 64}},
    ],
)
def test_a_manifest_that_contradicts_the_files_is_refused(copy: Path, change: dict) -> None:
    """No statement of the manifest can be changed alone."""
    rewrite(copy, **change)
    with pytest.raises(BundleCorrupt):
        Bundle.load(copy)


@pytest.mark.parametrize(
    "file", ["encoder.onnx", "decoder.onnx", "head.onnx", "golden.npz", "classes.npz"]
)
def test_every_bit_counts(copy: Path, file: str) -> None:
    """A flipped bit, a cut tail or a missing file is refused before anything is opened."""
    data = (copy / file).read_bytes()
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    for damaged in (bytes(flipped), data[:-1], data + b"\0", b""):
        (copy / file).write_bytes(damaged)
        with pytest.raises(BundleCorrupt, match="fetch it again"):
            Bundle.load(copy)
    (copy / file).unlink()
    with pytest.raises(BundleCorrupt, match="missing or unexpected"):
        Bundle.load(copy)


def test_a_file_that_nobody_named_is_refused(copy: Path) -> None:
    """The manifest names every file, so a stowaway is seen."""
    (copy / "weights.bin").write_bytes(b"x")
    with pytest.raises(BundleCorrupt, match=r"weights\.bin"):
        Bundle.load(copy)


@pytest.mark.parametrize("kind", ["symlink", "hardlink"])
@pytest.mark.parametrize("file", ["encoder.onnx", "manifest.json"])
def test_links_are_refused(copy: Path, tmp_path: Path, kind: str, file: str) -> None:
    """A file that lives elsewhere too, by symbolic or hard link, is not trusted."""
    outside = tmp_path / "outside"
    shutil.move(copy / file, outside)
    (os.symlink if kind == "symlink" else os.link)(outside, copy / file)
    with pytest.raises(BundleCorrupt, match="link"):
        Bundle.load(copy)


def test_a_folder_or_pipe_in_place_of_a_file_is_refused(copy: Path) -> None:
    """What is no plain file is refused and not waited for."""
    for make in (os.mkdir, os.mkfifo):
        (copy / "head.onnx").unlink(missing_ok=True)
        make(copy / "head.onnx")
        with pytest.raises(BundleCorrupt):
            Bundle.load(copy)
        if make is os.mkdir:
            (copy / "head.onnx").rmdir()


def test_golden_outputs_are_compared(copy: Path) -> None:
    """Golden examples that come out otherwise refuse the bundle, by the output that differs."""
    arrays = unpack_arrays((copy / "golden.npz").read_bytes(), "golden.npz")
    for name in ("embedding", "mean", "probabilities"):
        changed = dict(arrays)
        changed[name] = arrays[name] + np.float32(2e-3)
        replace_file(copy, "golden.npz", pack_arrays(changed))
        with pytest.raises(BundleCorrupt, match=f"`{name}` differs"):
            Bundle.load(copy)
        changed[name] = np.full_like(arrays[name], np.nan)
        replace_file(copy, "golden.npz", pack_arrays(changed))
        with pytest.raises(BundleCorrupt, match=f"`{name}` differs"):
            Bundle.load(copy)


def test_golden_pixels_may_differ_by_one(copy: Path) -> None:
    """Decoding may differ by 1 of 255 between builds of a codec, not by more."""
    arrays = unpack_arrays((copy / "golden.npz").read_bytes(), "golden.npz")
    for delta, fine in ((1, True), (3, False)):
        changed = dict(arrays)
        pixels = arrays["pixels"].astype(int)
        changed["pixels"] = np.where(pixels < 128, pixels + delta, pixels - delta).astype(np.uint8)
        replace_file(copy, "golden.npz", pack_arrays(changed))
        if fine:
            Bundle.load(copy)
        else:
            with pytest.raises(BundleCorrupt, match="pixels differ"):
                Bundle.load(copy)


def test_object_arrays_and_oversized_archives_are_refused(copy: Path) -> None:
    """An .npz can neither run code nor claim more memory than the cap."""
    for array in (np.array([{"a": 1}], object), np.zeros(65 * 2**20, np.uint8)):
        np.savez_compressed(copy / "golden.npz", files=array, allow_pickle=True)
        replace_file(copy, "golden.npz", (copy / "golden.npz").read_bytes())
        with pytest.raises(BundleCorrupt, match=r"golden\.npz"):
            Bundle.load(copy)


def test_saving_is_all_or_nothing(bundle_dir: Path, tmp_path: Path) -> None:
    """Files that contradict the manifest write nothing; an existing folder is never overwritten."""
    manifest = read_manifest(bundle_dir)
    files = {name: (bundle_dir / name).read_bytes() for name in manifest.files}
    with pytest.raises(BundleError, match=r"head\.onnx"):
        Bundle.save(tmp_path / "new", manifest, files | {"head.onnx": b"x"})
    assert list(tmp_path.iterdir()) == []
    Bundle.save(tmp_path / "new", manifest, files)
    assert Bundle.load(tmp_path / "new").manifest == manifest
    with pytest.raises(BundleError, match="exists"):
        Bundle.save(tmp_path / "new", manifest, files)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_full_disk_leaves_no_trace(bundle_dir: Path, tmp_path: Path) -> None:
    """When a file cannot be written, the temporary folder is gone and the error is the system's."""
    manifest = read_manifest(bundle_dir)
    files = {name: (bundle_dir / name).read_bytes() for name in manifest.files}
    too_long = tmp_path / ("x" * 300)  # a name that no file system takes
    with pytest.raises(OSError, match="name too long"):
        Bundle.save(too_long, manifest, files)
    assert list(tmp_path.iterdir()) == []


def test_the_manifest_survives_its_own_json(bundle_dir: Path) -> None:
    """Reading what was written gives the same manifest."""
    manifest = read_manifest(bundle_dir)
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest


def test_cuda_is_never_replaced_by_the_cpu(bundle_dir: Path) -> None:
    """Asked for CUDA where there is none, the load fails and says what to install."""
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has a GPU: `make test-gpu` covers it")
    with pytest.raises(DeviceUnavailable, match=r"handful\[gpu\]"):
        Bundle.load(bundle_dir, device="cuda")
