"""Novelty in the pipeline: fitted once per encoder, and served by every head of it."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handful_bundle.bundle import Bundle
from handful_training.config import HeadConfig
from handful_training.embedding import embed_rows
from handful_training.labels.choice import LabelChoice
from handful_training.pipeline.head_stage import Base, add_head
from handful_training.pipeline.inputs import read_inputs
from handful_training.pipeline.novelty_stage import FILE, open_novelty
from handful_training.tracking import Tracker

IMAGES = 240


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """A folder of dim pictures in two classes, reddish and bluish."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for index in range(IMAGES):
        pixels = rng.integers(0, 60, (16, 16, 3), np.uint8)
        pixels[..., 2 * (index % 2)] += rng.integers(40, 90, dtype=np.uint8)
        path = root / ("red", "blue")[index % 2] / f"{index:03}.png"
        path.parent.mkdir(exist_ok=True)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        path.write_bytes(buffer.getvalue())
    return root


@pytest.fixture
def encoder(make_bundle, tmp_path) -> Bundle:
    return Bundle.load(make_bundle(tmp_path / "encoder", with_head=False), device="cpu", threads=1)


def test_every_head_gets_it_and_the_second_finds_it(photos, encoder, tmp_path) -> None:
    """Two heads of one encoder, on other labels, tell the same novelty: it was fitted once. Their
    bundles load, name the threshold, and call white images novel and the pool's own not.
    """
    work, config = tmp_path / "work", HeadConfig(repeats=1)
    tracker = Tracker.open(f"sqlite:///{tmp_path}/mlflow.db")
    heads = []
    for draw in (0, 1):
        choice = LabelChoice(spec="folders", per_class=20, seed=draw)
        inputs = read_inputs(
            str(photos), work, choice=choice, spec=encoder.manifest.image, minimum=1
        )
        assert inputs.labels is not None
        with tracker.run("dim") as run:
            made = add_head(
                Base(encoder), inputs.pack, inputs.labels, config, work, run,
                name="dim", seed=draw, force=False,
            )  # fmt: skip
        heads.append(Bundle.load(made.bundle, device="cpu", threads=1))
    assert len(list((work / "novelty").glob(f"*/{FILE}"))) == 1
    pool = embed_rows(encoder.encoder, inputs.pack.images).embedding
    far = encoder.encoder(np.full((3, 16, 16, 3), 255, np.uint8)).embedding
    said = [head.head.judge(pool).novelty for head in heads]
    np.testing.assert_array_equal(*said)
    for head in heads:
        info = head.manifest.head.novelty
        assert info.method == "mahalanobis+distortion"
        assert info.false_alarm_rate == 0.01
        assert info.count == IMAGES
        assert (head.head.judge(pool).novelty > info.threshold).mean() < 0.03
        assert (head.head.judge(far).novelty > info.threshold).all()
    assert not np.array_equal(heads[0].head(pool), heads[1].head(pool))


def test_a_tiny_pool_and_a_missing_decoder(photos, encoder, make_bundle, tmp_path) -> None:
    """Without a decoder the distances alone tell novelty; of fewer than 100 images nothing does,
    and the manifest's block says how many there were.
    """
    work = tmp_path / "work"
    pack = read_inputs(str(photos), work, spec=encoder.manifest.image, minimum=1).pack
    root = make_bundle(tmp_path / "blind", with_head=False, with_decoder=False)
    blind = Bundle.load(root, device="cpu", threads=1)
    rows = np.arange(IMAGES)
    embedding = embed_rows(blind.encoder, pack.images).embedding
    found = open_novelty(blind, pack, rows, embedding, work, false_alarm_rate=0.05)
    assert found.info.method == "mahalanobis"
    assert found.part is not None
    again = open_novelty(blind, pack, rows, embedding, work, false_alarm_rate=0.05)
    assert again == found
    few = open_novelty(encoder, pack, rows[:60], embedding[:60], work, false_alarm_rate=0.05)
    assert few.part is None
    assert few.info.method is few.info.threshold is None
    assert few.info.count == 60
