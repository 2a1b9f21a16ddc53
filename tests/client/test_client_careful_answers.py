"""Prediction sets, novelty and abstention as the SDK and the command give them."""

import csv
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from handful_client import Handful
from handful_client.cli import main


@pytest.fixture(scope="module")
def careful_service(service_of, careful_bundle_dir):
    with service_of(careful_bundle_dir) as url:
        yield url


@pytest.fixture(scope="module")
def images():
    """From black, which is familiar, to bright noise, which is novel."""
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3))
    return list((noise * np.linspace(0, 1, 12)[:, None, None, None]).astype(np.uint8))


def test_service_and_bundle_give_one_answer(careful_service, careful_bundle_dir, images):
    """`Handful(url)` and `Handful.local` say the same of images and of kept embeddings: label, set,
    novelty, abstention and reason; some abstain and some do not.
    """
    with (
        Handful(careful_service) as remote,
        Handful.local(careful_bundle_dir, threads=1) as local,
    ):
        by_service, by_bundle = remote.classify(images), local.classify(images)
        kept = [client.classify(embeddings=client.embed(images)) for client in (remote, local)]
    for one, *others in zip(by_service, by_bundle, *kept, strict=True):
        for other in others:
            assert one.label == other.label
            assert one.prediction_set == other.prediction_set
            assert one.abstained == other.abstained == (one.novelty > 0.4)
            assert one.novelty == pytest.approx(other.novelty, abs=1e-5)
            assert (one.reason is None) == (other.reason is None) == (not one.abstained)
            assert one.label == one.prediction_set[0]
    assert {one.abstained for one in by_service} == {True, False}


@pytest.mark.parametrize("where", ["--url", "--bundle"])
def test_the_command_writes_them(
    careful_service, careful_bundle_dir, images, tmp_path, monkeypatch, capsys, where
):
    """CSV, Parquet and JSON hold set, novelty, abstention and reason of each file, all the same."""
    monkeypatch.chdir(tmp_path)
    for index, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{index:02}.png")
    model = careful_service if where == "--url" else str(careful_bundle_dir)
    for name in ("out.csv", "out.parquet"):
        assert main(["classify", ".", where, model, "-o", name]) == 0
    capsys.readouterr()
    assert main(["classify", ".", where, model, "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["results"]
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    table = pq.read_table(tmp_path / "out.parquet").to_pylist()
    with Handful.local(careful_bundle_dir, threads=1) as client:
        wanted = client.classify(images)
    for row, record, item, want in zip(rows, table, listed, wanted, strict=True):
        assert json.loads(row["prediction_set"]) == want.prediction_set
        assert record["prediction_set"] == item["prediction_set"] == want.prediction_set
        assert row["abstained"] == str(want.abstained).lower()
        assert record["abstained"] == item["abstained"] == want.abstained
        for reason in (row["reason"] or None, record["reason"], item["reason"]):
            assert (reason is not None) == want.abstained
            assert reason is None or "above the threshold 0.4" in reason
        for novelty in (row["novelty"], record["novelty"], item["novelty"]):
            assert float(novelty) == pytest.approx(want.novelty, abs=1e-5)
