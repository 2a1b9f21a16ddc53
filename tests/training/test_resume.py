"""A training that was interrupted goes on as if nothing had happened, or says why it cannot."""

import logging
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from handful_bundle.manifest import ImageSpec
from handful_training.checkpoint import load_checkpoint
from handful_training.config import Config
from handful_training.errors import TrainingError
from handful_training.interrupts import Interrupted
from handful_training.meter import Epoch
from handful_training.pretrain import CHECKPOINT, Budget, Pretrained, Watcher, pretrain

pytestmark = pytest.mark.usefixtures("one_core")

EPOCHS = 12  # of 5 steps; a checkpoint may be written after steps 20, 40 and 60
CLOCK = {"seconds", "images_per_second"}


class Killed(BaseException):
    """Stands for the end of the process: nothing below may handle it."""


class Killer(Watcher):
    """Ends the training when the epochs, or the looks at the clock, have reached a number."""

    def __init__(self, *, epoch: int | None = None, look: int | None = None) -> None:
        self._epoch, self._look, self._looks = epoch, look, 0

    def epoch(self, row: Epoch) -> None:
        if row.epoch == self._epoch:
            raise Killed

    def progress(self, share: float) -> None:  # noqa: ARG002 - its number is enough
        self._looks += 1
        if self._looks == self._look:
            raise Killed


class Notes(Watcher):
    def __init__(self) -> None:
        self.found: list[tuple[int, float]] = []
        self.epochs: list[int] = []

    def resumed(self, history: list[Epoch], share: float) -> None:
        self.found.append((len(history), share))

    def epoch(self, row: Epoch) -> None:
        self.epochs.append(row.epoch)


@pytest.fixture(scope="module")
def images(shapes: tuple[NDArray[np.uint8], NDArray]) -> NDArray[np.uint8]:
    return shapes[0]


@pytest.fixture(scope="module")
def eager(small: Config) -> Config:
    """Writes a checkpoint whenever it looks at the clock."""
    optimiser = small.optimiser.model_copy(update={"checkpoint_seconds": 1e-9})
    return small.model_copy(update={"optimiser": optimiser})


@pytest.fixture(scope="module")
def train(images: NDArray[np.uint8], grey: ImageSpec, eager: Config) -> Any:
    def call(folder: Path, watcher: Watcher | None = None, **changes: Any) -> Pretrained:
        options: dict[str, Any] = {"resume": True, "device": "cpu", "watcher": watcher} | changes
        config = options.pop("config", eager)
        budget = options.pop("budget", Budget(EPOCHS, None))
        return pretrain(images, grey, config, budget, folder, **options)

    return call


@pytest.fixture(scope="module")
def whole(train: Any, tmp_path_factory: pytest.TempPathFactory) -> Pretrained:
    """The training that nothing interrupted."""
    return train(tmp_path_factory.mktemp("whole"))


def assert_same(found: Pretrained, expected: Pretrained) -> None:
    """Bit for bit the same: weights, average, optimiser, curve."""
    one, other = load_checkpoint(found.checkpoint), load_checkpoint(expected.checkpoint)
    for part in ("model", "average"):
        assert one[part].keys() == other[part].keys()
        assert all(torch.equal(one[part][name], other[part][name]) for name in one[part])
    for name, moments in one["optimiser"]["state"].items():
        for key, value in moments.items():
            assert torch.equal(value, other["optimiser"]["state"][name][key])
    assert [timeless(row) for row in found.history] == [timeless(row) for row in expected.history]


def timeless(row: Epoch) -> dict[str, Any]:
    return {key: value for key, value in asdict(row).items() if key not in CLOCK}


@contextmanager
def full_disk() -> Iterator[None]:
    """Let no file grow beyond 4 kB meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    "moments",
    [
        [Killer(epoch=1)],  # before the first checkpoint but that of the beginning
        [Killer(look=2)],  # at step 40, of which no checkpoint was written yet
        [Killer(epoch=7)],  # five epochs, or 15 steps, after the last one
        [Killer(look=1), Killer(epoch=6), Killer(look=2)],
    ],
)
def test_killed_and_continued_is_the_same_training(
    train: Any, whole: Pretrained, moments: list[Killer], tmp_path: Path
) -> None:
    """Whenever it is killed, the weights, their average, the optimiser and the curve end up bit
    for bit as without.
    """
    for killer in moments:
        with pytest.raises(Killed):
            train(tmp_path, killer)
    assert_same(train(tmp_path), whole)


def test_it_goes_on_in_the_middle_of_an_epoch(
    images: NDArray[np.uint8], grey: ImageSpec, eager: Config, tmp_path: Path
) -> None:
    """With 36 steps an epoch it is step 20 of the second that is found, and the epoch's mean is
    over all its images.
    """
    config = eager.model_copy(
        update={"optimiser": eager.optimiser.model_copy(update={"batch_size": 10})}
    )
    budget = Budget(3, None)
    expected = pretrain(images, grey, config, budget, tmp_path, device="cpu")
    assert expected.history[0].step == 38
    folder = tmp_path / "killed"
    folder.mkdir()
    with pytest.raises(Killed):
        pretrain(images, grey, config, budget, folder, device="cpu", watcher=Killer(look=4))
    assert load_checkpoint(folder / CHECKPOINT)["step"] == 60
    assert load_checkpoint(folder / CHECKPOINT)["meter"]["images"] == (60 - 38) * 10
    notes = Notes()
    found = pretrain(images, grey, config, budget, folder, device="cpu", resume=True, watcher=notes)
    assert notes.found == [(1, pytest.approx(60 / 38 / 3))]
    assert notes.epochs == [2, 3]
    assert_same(found, expected)


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_writes_a_checkpoint_of_that_very_step(
    train: Any, whole: Pretrained, small: Config, signum: int, status: int, tmp_path: Path
) -> None:
    """Asked to stop, it stops before the next step, says how to go on, and loses nothing."""

    class Asking(Watcher):
        def epoch(self, row: Epoch) -> None:
            if row.epoch == 3:
                os.kill(os.getpid(), signum)

    before = signal.getsignal(signum)
    with pytest.raises(Interrupted, match="start it again") as stopped:
        train(tmp_path, Asking(), config=small)  # a minute between other checkpoints
    assert stopped.value.status == status
    assert signal.getsignal(signum) is before
    assert load_checkpoint(tmp_path / CHECKPOINT)["step"] == 15
    assert_same(train(tmp_path, config=small), whole)


def test_seconds_already_spent_count(train: Any, eager: Config, tmp_path: Path) -> None:
    """With a time budget the training goes on where its clock stood, and ends when it is over."""
    optimiser = eager.optimiser.model_copy(update={"batch_size": 8})
    options = {
        "config": eager.model_copy(update={"optimiser": optimiser}),
        "budget": Budget(None, 4.0),
    }
    with pytest.raises(Killed):
        train(tmp_path, Killer(look=2), **options)
    spent = load_checkpoint(tmp_path / CHECKPOINT)["seconds"]
    notes = Notes()
    run = train(tmp_path, notes, **options)
    assert notes.found[0][1] >= spent / 4.0 > 0
    assert run.seconds >= 4.0
    times = [row.seconds for row in run.history]
    assert times == sorted(times)
    again = Notes()
    assert train(tmp_path, again, **options).history == run.history  # nothing left to do
    assert again.epochs == []


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [flip_a_bit, cut, empty])
def test_a_damaged_checkpoint_is_told_and_trained_anew(
    train: Any, whole: Pretrained, damage: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One flipped bit among the weights is noticed: a warning, and the training starts over."""
    with pytest.raises(Killed):
        train(tmp_path, Killer(epoch=10))
    damage(tmp_path / CHECKPOINT)
    notes = Notes()
    with caplog.at_level(logging.WARNING):
        found = train(tmp_path, notes)
    assert "damaged; the training starts over" in caplog.text
    assert notes.found == []
    assert_same(found, whole)


def test_a_checkpoint_of_another_training_is_not_continued(
    train: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Another seed in the same folder starts from its own beginning, and says so."""
    with pytest.raises(Killed):
        train(tmp_path, Killer(epoch=6))
    notes = Notes()
    with caplog.at_level(logging.WARNING):
        train(tmp_path, notes, seed=1)
    assert "another training" in caplog.text
    assert notes.epochs[0] == 1


def test_a_full_disk_is_told_before_the_training(train: Any, tmp_path: Path) -> None:
    """Where no checkpoint can be written, not one epoch is trained in vain."""
    notes = Notes()
    with full_disk(), pytest.raises(TrainingError, match="HANDFUL_WORK"):
        train(tmp_path, notes)
    assert notes.epochs == []
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_for_a_while_costs_no_training(
    train: Any, whole: Pretrained, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A checkpoint that cannot be written is a warning; the one before stays, the next succeeds."""

    class Filling(Watcher):
        def __init__(self) -> None:
            self._disk = full_disk()
            self.steps: list[int] = []

        def progress(self, share: float) -> None:  # noqa: ARG002 - that it was told is enough
            if not self.steps:
                self._disk.__enter__()
            self.steps.append(load_checkpoint(tmp_path / CHECKPOINT)["step"])

        def epoch(self, row: Epoch) -> None:
            if row.epoch == 5:
                self._disk.__exit__(None, None, None)

    filling = Filling()
    with caplog.at_level(logging.WARNING):
        found = train(tmp_path, filling)
    assert caplog.text.count("tries again later") == 1
    assert filling.steps == [0, 0, 40]  # at steps 20, 40 and 60
    assert_same(found, whole)
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]


def test_what_a_killed_process_was_writing_does_not_stay(train: Any, tmp_path: Path) -> None:
    """The half-written file of a killed process is gone once the next has written its own."""
    (tmp_path / f".{CHECKPOINT}.tmp").write_bytes(b"half")
    train(tmp_path, budget=Budget(1, None))
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]
