"""No bundle that is damaged or made to harm is opened, whatever family it is of."""

import os
import shutil
import tracemalloc
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest

from handful_bundle.bundle import Bundle, check_listing
from handful_bundle.canary import ROWS, canary_images
from handful_bundle.encoder import Encoder
from handful_bundle.errors import BundleCorrupt, BundleError, BundleMissing
from handful_bundle.golden import TOLERANCE
from handful_bundle.manifest import ImageSpec

FLIPS = int(os.environ.get("HANDFUL_FLIPS", "150"))
SPEC = ImageSpec(height=16, width=16, channels=3)


def load(root: Path) -> Bundle:
    return Bundle.load(root, device="cpu", threads=1)


def test_each_hostile_graph_is_refused_for_what_it_is(
    bundle_dir: Path, bad_bundles: ModuleType
) -> None:
    """Each of the hostile graphs is refused from its bytes, by a message that names its fault."""
    data = (bundle_dir / "encoder.onnx").read_bytes()
    Encoder.open(data, SPEC, 8, 4, "cpu", 1)
    mutations = bad_bundles.bad_graphs.MUTATIONS
    assert len(mutations) > 40
    for name, (mutate, reason) in mutations.items():
        model = onnx.load_model_from_string(data)
        mutate(model)
        with pytest.raises(BundleCorrupt, match=reason) as found:
            Encoder.open(model.SerializeToString(), SPEC, 8, 4, "cpu", 1)
        assert "encoder.onnx" in str(found.value), name
    print(f"0 of {len(mutations)} hostile graphs opened")


def test_other_formats_are_not_read_as_onnx(bundle_dir: Path) -> None:
    """A file that onnxruntime would take for its own format, or with fields that ONNX does not
    have, is refused although it reads as ONNX.
    """
    data = (bundle_dir / "encoder.onnx").read_bytes()
    for odd in (b"\x08\x0a\x12\x10ORTM" + bytes(12) + data, data + b"\xfa\x3e\x01x"):
        onnx.load_model_from_string(odd)
        with pytest.raises(BundleCorrupt, match="more than an ONNX model"):
            Encoder.open(odd, SPEC, 8, 4, "cpu", 1)


def test_names_that_are_no_text_are_refused(bundle_dir: Path) -> None:
    """Names of ports that are not UTF-8 give a typed error, not a failure of ours."""
    data = (bundle_dir / "encoder.onnx").read_bytes()
    for name in (b"embedding", b"images", b"log_variance"):
        odd = data.replace(name, b"\xff" + name[1:])
        with pytest.raises(BundleCorrupt, match=r"encoder\.onnx"):
            Encoder.open(odd, SPEC, 8, 4, "cpu", 1)


def test_bad_bundles_are_refused(bundle_dir: Path, bad_bundles: ModuleType, tmp_path) -> None:
    """Two bundles of each family: none is opened, each error is typed, the honest one is."""
    count = 2 * len(bad_bundles.FAMILIES)
    tried: Counter[str] = Counter()
    for bad in bad_bundles.offers(bundle_dir, tmp_path, count):
        tried[bad.family] += 1
        with pytest.raises(BundleError):
            load(bad.root)
        shutil.rmtree(bad.root.parent)
    assert tried == dict.fromkeys(bad_bundles.FAMILIES, 2)
    assert len(tried) > 20
    shutil.copytree(bundle_dir, tmp_path / "sound")
    bad_bundles.restamp(tmp_path / "sound", 0)
    load(tmp_path / "sound")
    print(f"0 of {count} bad bundles opened")


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("hidden_nan", "not finite for a black"),
        ("nosy_rows", "with the rows beside it"),
        ("no_probabilities", "not to 1"),
        ("other_pixels", "inconsistent|expected"),
        ("pickled_array", "not a plain .npz"),
    ],
)
def test_what_golden_examples_hide_is_found(
    family: str, reason: str, bundle_dir: Path, bad_bundles: ModuleType, tmp_path
) -> None:
    """What passes the golden examples that it brings along is refused by inputs of our own."""
    rng = np.random.default_rng(0)
    for number in range(4):
        root = tmp_path / str(number)
        shutil.copytree(bundle_dir, root)
        bad_bundles.FAMILIES[family](root, rng)
        with pytest.raises(BundleCorrupt, match=reason):
            load(root)


def test_flipped_bits_change_no_answer(bundle_dir: Path, bad_bundles: ModuleType, tmp_path) -> None:
    """One flipped bit under a new digest is refused, or embeds and classifies as before."""
    images = bad_bundles.golden(bundle_dir)["images"]
    honest = answers(load(bundle_dir), images)
    rng = np.random.default_rng(0)
    opened = 0
    for number in range(FLIPS):
        root = tmp_path / str(number)
        shutil.copytree(bundle_dir, root)
        path = bad_bundles.sealed_file(root, rng)
        bad_bundles.resign(root, path.name, bad_bundles.flip(path.read_bytes(), rng))
        try:
            bundle = load(root)
        except BundleError:
            continue
        finally:
            shutil.rmtree(root)
        opened += 1
        for found, wanted in zip(answers(bundle, images), honest, strict=True):
            np.testing.assert_allclose(found, wanted, atol=2 * TOLERANCE["cpu"])
    print(f"{opened} of {FLIPS} bundles with a flipped bit opened, 0 answered otherwise")
    assert 0 < opened < FLIPS


def answers(bundle: Bundle, images: np.ndarray) -> tuple[np.ndarray, ...]:
    encoding = bundle.encoder(images)
    assert bundle.head is not None
    return encoding.embedding, encoding.mean, bundle.head(encoding.embedding)


def test_canary_images() -> None:
    """The canary shows black, white and noise, the same each time."""
    images = canary_images(SPEC)
    assert images.shape == (ROWS, 16, 16, 3)
    assert images[0].max() == 0
    assert images[1].min() == 255
    assert images[2:].std() > 50
    np.testing.assert_array_equal(images, canary_images(SPEC))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"weights.bin": 1}, BundleCorrupt),
        ({"encoder.onnx": 2**31 + 1}, BundleCorrupt),
        ({"golden.npz": 100 * 2**20}, BundleCorrupt),
        ({"manifest.json": 5 * 2**20}, BundleCorrupt),
    ],
)
def test_listings_are_checked_before_anything_is_fetched(
    change: dict[str, int], error: type[BundleError]
) -> None:
    """A store's list of files with a stranger or a giant among them is refused unread."""
    honest = {"manifest.json": 1000, "encoder.onnx": 10**6, "golden.npz": 10**4}
    check_listing(honest)
    with pytest.raises(error):
        check_listing(honest | change)
    with pytest.raises(BundleMissing):
        check_listing({"encoder.onnx": 1})


def test_readers_allocate_what_a_file_holds(bundle_dir: Path) -> None:
    """Loading a small bundle reserves no more than a small amount of memory."""
    tracemalloc.start()
    try:
        load(bundle_dir)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * 2**20
