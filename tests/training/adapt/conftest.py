"""A network that has learnt a little, and a few labels."""

from pathlib import Path

import numpy as np
import pytest

from handful_training.adapt.rounds import Labelled
from handful_training.config import AdaptConfig, Config
from handful_training.model import Vae
from handful_training.pretrain import Budget, pretrain


@pytest.fixture(scope="session")
def settings(small) -> Config:
    """The small network, adapted in two rounds."""
    return small.model_copy(update={"adapt": AdaptConfig(rounds=2, labelled=16)})


@pytest.fixture(scope="session")
def start(shapes, grey, settings, tmp_path_factory: pytest.TempPathFactory) -> Vae:
    """Pretrained for 15 epochs."""
    folder: Path = tmp_path_factory.mktemp("start")
    return pretrain(shapes[0], grey, settings, Budget(15, None), folder, device="cpu").model


@pytest.fixture(scope="session")
def labelled(shapes) -> Labelled:
    """Five images of each class."""
    rows = np.sort(np.concatenate([np.flatnonzero(shapes[1] == k)[:5] for k in (0, 1)]))
    return Labelled(rows, shapes[1][rows].astype(np.int64))
