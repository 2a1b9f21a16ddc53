"""Laws of the answers that probabilities and novelty are turned into, and of the manifest's blocks
that they depend on.
"""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from handful_bundle.arrays import pack_arrays, unpack_arrays
from handful_bundle.bundle import Bundle
from handful_bundle.errors import BundleCorrupt
from handful_bundle.head import Judgement
from handful_bundle.manifest import ConformalInfo, HeadInfo, NoveltyInfo, digest
from handful_bundle.predictions import predict

LABELS = ("a", "b", "c", "d")
ROWS = np.random.default_rng(0).dirichlet(np.full(4, 0.4), 300).astype(np.float32)
TIES = np.array([[0.25, 0.25, 0.25, 0.25], [0, 0.5, 0.5, 0], [0, 0, 0, 1]], np.float32)


def info(threshold: float | None = 0.5, novel_above: float | None = 0.99) -> HeadInfo:
    return HeadInfo(
        kind="logistic",
        digest="sha256:" + "0" * 64,
        label_count=40,
        temperature=1.0,
        conformal={"method": "lac", "level": 0.9, "threshold": threshold, "count": 40},
        novelty={
            "method": "m",
            "threshold": novel_above,
            "false_alarm_rate": 0.01,
            "count": 1000,
        },
    )


def sets(threshold: float | None, rows: np.ndarray = ROWS) -> list[list[str]]:
    found = [one["prediction_set"] for one in predict(Judgement(rows), LABELS, info(threshold))]
    assert all(one is not None for one in found)
    return [one for one in found if one is not None]


def test_the_set_is_what_its_definition_says() -> None:
    """A set holds just the classes with 1 - p <= threshold and the most probable one, the most
    probable first.
    """
    for threshold in (0.0, 0.3, 0.75, 1.0):
        rows = np.concatenate([ROWS, TIES])
        for row, found in zip(rows.astype(float), sets(threshold, rows), strict=True):
            expected = {
                label for label, p in zip(LABELS, row, strict=True) if 1 - p <= threshold
            } | {LABELS[int(row.argmax())]}
            assert set(found) == expected
            chances = [row[LABELS.index(label)] for label in found]
            assert chances == sorted(chances, reverse=True)


def test_sets_are_nested_and_never_empty() -> None:
    """A higher threshold never takes a class out, the label is always in, and without a threshold
    the set is every class.
    """
    thresholds = np.linspace(0, 1, 21).tolist()
    found = [sets(threshold) for threshold in thresholds]
    for smaller, larger in itertools.pairwise(found):
        assert all(set(one) <= set(other) for one, other in zip(smaller, larger, strict=True))
    labels = [one["label"] for one in predict(Judgement(ROWS), LABELS, info())]
    assert all(one[0] == label for one, label in zip(found[0], labels, strict=True))
    assert all(set(one) == set(LABELS) for one in sets(None))


def test_the_label_is_the_most_probable_class() -> None:
    """Label and confidence are the argmax, the first one of equals; probabilities are as given."""
    rows = np.concatenate([ROWS, TIES])
    for row, one in zip(rows, predict(Judgement(rows), LABELS, info()), strict=True):
        assert one["label"] == LABELS[int(row.argmax())]
        assert one["confidence"] == float(row.max())
        assert list(one["probabilities"].items()) == list(zip(LABELS, row.tolist(), strict=True))


def test_only_what_is_above_the_threshold_abstains() -> None:
    """Novelty above the threshold abstains with a reason that names both; equal or below does not;
    without a threshold nothing does.
    """
    novelty = np.array([0, 0.98, np.float32(0.99), 0.9901, 1, 1.0000001], np.float32)
    rows = ROWS[: len(novelty)]
    threshold = float(np.float32(0.99))
    found = predict(Judgement(rows, novelty), LABELS, info(novel_above=threshold))
    assert [one["abstained"] for one in found] == [False] * 3 + [True] * 3
    for one in found:
        assert 0 <= (one["novelty"] or 0) <= 1
        assert (one["reason"] is not None) == one["abstained"]
        if one["reason"] is not None:
            assert "novelty" in one["reason"]
            assert "0.99 " not in one["reason"].split("threshold")[0]
            assert "threshold 0.99" in one["reason"]
    never = predict(Judgement(rows, novelty), LABELS, info(novel_above=None))
    assert not any(one["abstained"] for one in never)
    assert [one["novelty"] for one in never] == [one["novelty"] for one in found]


def test_a_head_without_either_says_null() -> None:
    """A head from before there were sets and novelty gives null for both and never abstains."""
    old = HeadInfo(kind="logistic", digest="sha256:" + "0" * 64, label_count=9, temperature=1.0)
    for one in predict(Judgement(ROWS), LABELS, old):
        assert one["prediction_set"] is one["novelty"] is one["reason"] is None
        assert one["abstained"] is False
    assert predict(Judgement(ROWS[:0]), LABELS, old) == []


def replace_head_block(root: Path, **changes: object) -> None:
    manifest = json.loads((root / "manifest.json").read_text())
    manifest["head"] |= changes
    (root / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "block",
    [
        {"novelty": {"method": "m", "threshold": 1.5, "false_alarm_rate": 0.01, "count": 9}},
        {"novelty": {"method": "m", "threshold": 0.9, "false_alarm_rate": 0, "count": 9}},
        {"novelty": {"method": None, "threshold": 0.9, "false_alarm_rate": 0.01, "count": 9}},
        {
            "novelty": {
                "method": "m",
                "threshold": float("nan"),
                "false_alarm_rate": 0.1,
                "count": 9,
            }
        },
        {"novelty": {"method": "m"}},
        {"conformal": {"method": "m", "level": 1, "threshold": 0.9, "count": 9}},
        {"conformal": {"method": "m", "level": 0.9, "threshold": -0.1, "count": 9}},
        {"conformal": {"method": "m", "level": 0.9, "threshold": 0.1, "count": 9, "x": [1]}},
    ],
)
def test_impossible_blocks_are_refused(
    make_bundle: Callable[..., Path], careful: dict[str, dict], tmp_path: Path, block: dict
) -> None:
    """A threshold outside 0 ... 1, one that is not finite, or one of nothing is a corrupt
    manifest.
    """
    root = make_bundle(tmp_path / "bundle", **careful)
    Bundle.load(root, device="cpu")
    replace_head_block(root, **block)
    with pytest.raises(BundleCorrupt, match=r"manifest\.json: head"):
        Bundle.load(root, device="cpu")


@pytest.fixture
def careful() -> dict[str, dict]:
    return {
        "conformal": {"method": "m", "level": 0.9, "threshold": 0.5, "count": 9, "note": "x"},
        "novelty": {"method": "m", "threshold": 0.9, "false_alarm_rate": 0.01, "count": 9},
    }


def test_blocks_survive_their_own_json(
    make_bundle: Callable[..., Path], careful: dict[str, dict], tmp_path: Path
) -> None:
    """What a bundle says of sets and novelty is read back as written, further facts included."""
    head = Bundle.load(make_bundle(tmp_path / "bundle", **careful), device="cpu").manifest.head
    assert head is not None
    assert head.conformal == ConformalInfo(**careful["conformal"])
    assert head.novelty == NoveltyInfo(**careful["novelty"])
    assert head.model_dump()["conformal"]["note"] == "x"
    with pytest.raises(ValidationError):
        NoveltyInfo(method="m", threshold=0.5, false_alarm_rate=0.1, count=9, note=float("inf"))


def test_head_and_manifest_agree_about_novelty(
    make_bundle: Callable[..., Path], careful: dict[str, dict], tmp_path: Path
) -> None:
    """A manifest that promises novelty of a head that tells none is refused, and the reverse."""
    told, silent = tmp_path / "told", tmp_path / "silent"
    make_bundle(told, **careful)
    make_bundle(silent)
    replace_head_block(told, novelty=None)
    replace_head_block(silent, novelty=careful["novelty"])
    for root in (told, silent):
        with pytest.raises(BundleCorrupt, match=r"head\.onnx .*fit the head again"):
            Bundle.load(root, device="cpu")
    replace_head_block(silent, novelty={**careful["novelty"], "method": None, "threshold": None})
    assert Bundle.load(silent, device="cpu").head is not None


def test_golden_examples_hold_novelty(
    make_bundle: Callable[..., Path], careful: dict[str, dict], tmp_path: Path
) -> None:
    """A head that tells another novelty than when the bundle was written is refused at load."""
    root = make_bundle(tmp_path / "bundle", **careful)
    arrays = unpack_arrays((root / "golden.npz").read_bytes(), "golden.npz")
    bundle = Bundle.load(root, device="cpu")
    assert bundle.head is not None
    novelty = bundle.head.judge(arrays["embedding"]).novelty
    np.testing.assert_allclose(novelty, arrays["novelty"], atol=1e-6)
    np.testing.assert_array_equal(bundle.head(arrays["embedding"]), arrays["probabilities"])
    changed = pack_arrays(arrays | {"novelty": arrays["novelty"] + np.float32(0.01)})
    (root / "golden.npz").write_bytes(changed)
    manifest = json.loads((root / "manifest.json").read_text())
    manifest["files"]["golden.npz"] = digest(changed)
    (root / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleCorrupt, match="`novelty` differs"):
        Bundle.load(root, device="cpu")
