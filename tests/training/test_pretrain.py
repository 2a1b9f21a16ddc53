"""Training learns, repeats itself from a seed, keeps its budget, and says so when it breaks."""

import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from handful_bundle.manifest import ImageSpec
from handful_training.batches import Batches, find_neighbours
from handful_training.checkpoint import load_checkpoint, save_checkpoint
from handful_training.config import Config
from handful_training.errors import InputError, TrainingError
from handful_training.meter import Epoch
from handful_training.pipeline.pretrain_stage import load_vae
from handful_training.pretrain import Budget, Pretrained, Watcher, held_out_rows, pretrain

Shapes = tuple[NDArray[np.uint8], NDArray]


class Listener(Watcher):
    def __init__(self) -> None:
        self.rows: list[Epoch] = []
        self.shares: list[float] = []

    def epoch(self, row: Epoch) -> None:
        self.rows.append(row)

    def progress(self, share: float) -> None:
        self.shares.append(share)


@pytest.fixture(scope="module")
def trained(shapes: Shapes, grey: ImageSpec, small: Config, tmp_path_factory) -> Pretrained:
    folder = tmp_path_factory.mktemp("trained")
    return pretrain(shapes[0], grey, small, Budget(12, None), folder, device="cpu")


def test_the_bound_rises_and_views_are_told_apart(trained: Pretrained) -> None:
    """-ELBO and InfoNCE both fall well below where they began."""
    first, last = trained.history[0], trained.history[-1]
    assert last.neg_elbo < 0.7 * first.neg_elbo
    assert last.invariance < 0.8 * first.invariance
    assert last.neg_elbo == pytest.approx(last.distortion + last.rate)


def test_epochs_are_counted(trained: Pretrained) -> None:
    """Twelve epochs of 380 training images in batches of 64 are 12 x 5 steps."""
    assert [row.epoch for row in trained.history] == list(range(1, 13))
    assert trained.history[-1].step == 12 * 5


def test_the_checkpoint_holds_the_averaged_network(
    trained: Pretrained, small: Config, shapes: Shapes
) -> None:
    """The network read back from disk is the one that training returned."""
    loaded = load_vae(trained.checkpoint, small)
    x = torch.from_numpy(shapes[0][:5]).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        for one, other in zip(trained.model.encoder(x), loaded.encoder(x), strict=True):
            torch.testing.assert_close(one, other)


def test_the_seed_decides(shapes: Shapes, grey: ImageSpec, small: Config, tmp_path: Path) -> None:
    """On the CPU the same seed gives the same weights, another seed others."""

    def weights(seed: int) -> torch.Tensor:
        run = pretrain(shapes[0], grey, small, Budget(1, None), tmp_path, seed=seed, device="cpu")
        return torch.cat([value.flatten() for value in run.model.parameters()])

    one = weights(0)
    torch.testing.assert_close(weights(0), one, rtol=0, atol=0)
    assert (weights(1) - one).abs().max() > 1e-3


def test_weight_zero_is_a_plain_vae(
    shapes: Shapes, grey: ImageSpec, small: Config, tmp_path: Path
) -> None:
    """Without the invariance term its loss is zero and the projection is never moved."""
    objective = small.objective.model_copy(update={"invariance_weight": 0.0})
    config = small.model_copy(update={"objective": objective})
    run = pretrain(shapes[0], grey, config, Budget(1, None), tmp_path, device="cpu")
    assert run.history[0].invariance == 0
    assert run.history[0].loss == pytest.approx(run.history[0].neg_elbo / 256, rel=0.2)


def test_the_clock_bounds_the_training(
    shapes: Shapes, grey: ImageSpec, small: Config, tmp_path: Path
) -> None:
    """A budget of seconds ends the training with the learning rate run down."""
    watcher = Listener()
    run = pretrain(
        shapes[0],
        grey,
        small,
        Budget(10**6, 2.0),
        tmp_path,
        device="cpu",
        watcher=watcher,
    )
    assert watcher.rows == run.history
    assert watcher.shares == sorted(watcher.shares)
    assert run.history[-1].learning_rate < 0.2 * small.optimiser.learning_rate
    assert run.history[-1].step > 0


def test_a_loss_that_is_not_finite_stops_with_the_last_checkpoint_named(
    shapes: Shapes, grey: ImageSpec, small: Config, tmp_path: Path
) -> None:
    """An absurd learning rate ends in a message with the remedy and in a checkpoint of numbers."""
    optimiser = small.optimiser.model_copy(
        update={"learning_rate": 1e30, "checkpoint_seconds": 1e-9}
    )
    config = small.model_copy(update={"optimiser": optimiser})
    with pytest.raises(TrainingError, match=r"last good checkpoint is .*learning_rate"):
        pretrain(shapes[0], grey, config, Budget(20, None), tmp_path, device="cpu")
    state = load_checkpoint(tmp_path / "checkpoint.pt")
    assert all(value.isfinite().all() for value in state["model"].values())


def test_a_missing_gpu_is_bad_usage(
    shapes: Shapes, grey: ImageSpec, small: Config, tmp_path: Path
) -> None:
    """Asked for CUDA where torch sees none, training refuses at once."""
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(InputError, match="cpu"):
        pretrain(shapes[0], grey, small, Budget(1, None), tmp_path, device="cuda")


@pytest.mark.parametrize(("count", "kept"), [(4, 1), (50, 5), (500, 50), (60_000, 1000)])
def test_held_out_rows_are_few_distinct_and_in_range(count: int, kept: int) -> None:
    """At most a tenth and at most the setting, each once."""
    rows = held_out_rows(count, 1000)
    assert len(set(rows.tolist())) == len(rows) == kept
    assert rows.min() >= 0
    assert rows.max() < count


def test_an_epoch_shows_each_image_once_and_no_held_out_one(shapes: Shapes, small: Config) -> None:
    """Batches partition the training rows but for a short last batch; partners are rows too."""
    images = np.arange(400, dtype=np.uint16).view(np.uint8).reshape(400, 1, 2, 1)
    rows = np.delete(np.arange(400), held_out_rows(400, 20))
    batches = Batches(images, rows, small, 0, find_neighbours(images, rows, small, 0))
    seen = [batch for pair in batches.epoch(0) for batch in pair]
    first = np.concatenate(seen[::2]).reshape(-1, 2).copy().view(np.uint16).ravel()
    second = np.concatenate(seen[1::2]).reshape(-1, 2).copy().view(np.uint16).ravel()
    assert len(first) == len(set(first.tolist())) == batches.per_epoch * 64
    assert set(first.tolist()) | set(second.tolist()) <= set(rows.tolist())
    assert 0.3 < (first != second).mean() < 0.7  # neighbour_probability = 0.5
    again = [batch for pair in batches.epoch(1) for batch in pair]
    assert any((one != other).any() for one, other in zip(seen, again, strict=True))


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(tmp_path: Path) -> None:
    """A failed write names the checkpoint that is still there, and it is intact."""
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"step": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # as on a full disk
    try:
        with pytest.raises(TrainingError, match="last good checkpoint"):
            save_checkpoint(path, {"weights": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert load_checkpoint(path) == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    """What is no checkpoint ends in a message with the remedy."""
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"junk")
    with pytest.raises(TrainingError, match="remove it and train again"):
        load_checkpoint(path)
