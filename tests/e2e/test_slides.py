"""From 12-bit TIFF files and an export of Label Studio to a model, through real processes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from handful_bundle.bundle import Bundle
from handful_bundle.pixels import decode
from handful_client import Handful
from handful_training.sources.sendable import as_sendable

SMALL = ("model.width=8", "model.embedding_dim=16", "model.latent_dim=4", "optimiser.batch_size=16")


def draw(label: str, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Return a spot or a bar as a microscope would count it: 12 bits, dark, noisy."""
    rows, columns = np.mgrid[:24, :24]
    y, x = rng.uniform(9, 15, 2)
    mask = np.hypot(rows - y, columns - x) < 5 if label == "spot" else np.abs(rows - y) < 2
    image = rng.poisson(np.where(mask, rng.uniform(900, 1500), 120))
    return image.astype(np.uint16)[:, :, None]


@pytest.fixture
def slides(tmp_path: Path, write_tiff: Callable[..., bytes]) -> Path:
    """A folder of 60 slides, of which an export beside it labels twelve."""
    folder = tmp_path / "slides"
    folder.mkdir()
    rng = np.random.default_rng(0)
    tasks = []
    for i in range(60):
        label = ("spot", "bar")[i % 2]
        data = write_tiff(draw(label, rng), compression="lzw", predictor=True)
        (folder / f"{i:02}.tif").write_bytes(data)
        if i < 12:
            result = {"type": "choices", "from_name": "what", "value": {"choices": [label]}}
            data = {"image": f"/data/local-files/?d=somewhere/slides/{i:02}.tif"}
            tasks.append({"id": i, "data": data, "annotations": [{"result": [result]}]})
    tasks.append({"id": 99, "data": {"image": "40.tif"}, "annotations": []})
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    return folder


@pytest.mark.slow
def test_slides_become_a_model(place: Any, slides: Path) -> None:
    """The model's window fits the counts, and the SDK classifies slides by the pixels of training.

    A second run finds everything done.
    """
    command = (
        "run", slides, "--labels", slides.parent / "export.json", "--name", "slides",
        "--epochs", "4", *(f"--set={setting}" for setting in SMALL),
    )  # fmt: skip
    trained = place.result(*command)
    assert trained["labels"] == 12
    bundle = Bundle.load(Path(trained["bundle"]), device="cpu", threads=1)
    low, high = bundle.manifest.image.window
    assert 60 < low < 110
    assert 1200 < high < 1700
    assert bundle.manifest.labels == ("bar", "spot")

    paths = sorted(slides.iterdir())
    pixels = np.stack(
        [decode(as_sendable(path.read_bytes()), bundle.manifest.image) for path in paths]
    )
    assert pixels.max() == 255
    assert pixels.min() == 0
    with Handful.local(bundle.root, threads=1) as client:
        found = client.embed(paths).raise_for_errors().embeddings
        np.testing.assert_allclose(found, bundle.encoder(pixels).embedding, rtol=1e-4, atol=1e-5)
        assert {one.label for one in client.classify(paths)} <= {"bar", "spot"}

    again = place.result(*command)
    assert again["version"] == trained["version"]
    assert again["bundle"] == trained["bundle"]
