"""Several processes learn what one learns from the same batches, and a lost one ends the job.

Real processes, started by torchrun and joined by gloo on the loopback interface.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from handful_bundle.manifest import ImageSpec
from handful_training.augment import Augment
from handful_training.checkpoint import load_checkpoint
from handful_training.config import AugmentConfig, Config
from handful_training.draws import Draws, Part
from handful_training.pretrain import CHECKPOINT, Budget, pretrain

pytestmark = pytest.mark.usefixtures("one_core")

EPOCHS = 4
# One process of a team: it trains as `handful-train pretrain` does, on pixels that are packed.
PROCESS = """
import os, sys, json, pathlib, time
import numpy as np
from handful_bundle.manifest import ImageSpec
from handful_training import interrupts
from handful_training.config import Config
from handful_training.distributed import join, leave
from handful_training.errors import TrainingError
from handful_training.pretrain import Budget, Watcher, assist, pretrain

class Slow(Watcher):
    def epoch(self, row):
        print("epoch", row.epoch, flush=True)
        time.sleep(float(os.environ.get("PAUSE", "0")))

folder = pathlib.Path(sys.argv[1])
config = Config.model_validate_json((folder / "config.json").read_text())
images = np.load(folder / "images.npy", mmap_mode="r")
spec = ImageSpec(height=16, width=16, channels=1)
task = (images, spec, config, Budget(int(sys.argv[2]), None))
team = join("cpu")
(folder / f"pid{team.rank}").write_text(str(os.getpid()))
try:
    with interrupts.raising():
        if team.rank:
            assist(*task, device="cpu")
        else:
            pretrain(*task, folder, device="cpu", resume=True, watcher=Slow())
except TrainingError as error:
    sys.exit(f"process {team.rank} says: {error}")
except interrupts.Interrupted as error:
    print(error, file=sys.stderr)
    sys.exit(error.status)
leave()
"""


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start a team of `size` that trains what is in a folder."""

    def call(folder: Path, size: int, epochs: int = EPOCHS, **environment: str) -> Any:
        script = tmp_path / "process.py"
        script.write_text(PROCESS)
        command = (
            "--nnodes=1", f"--nproc_per_node={size}", "--rdzv_backend=c10d",
            "--rdzv_endpoint=127.0.0.1:0", "--local_addr=127.0.0.1", script, folder, str(epochs),
        )  # fmt: skip
        return subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *command],
            env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return call


def prepared(folder: Path, images: NDArray[np.uint8], config: Config) -> Path:
    folder.mkdir()
    np.save(folder / "images.npy", images)
    (folder / "config.json").write_text(config.model_dump_json())
    return folder


def every_step_counts(small: Config, **objective: Any) -> Config:
    """A checkpoint at every look, gradients that are clipped, and parts of unequal size."""
    optimiser = {"checkpoint_seconds": 1e-9, "clip_norm": 0.5, "batch_size": 63}
    return small.model_copy(
        update={
            "optimiser": small.optimiser.model_copy(update=optimiser),
            "objective": small.objective.model_copy(update=objective),
        }
    )


@pytest.mark.parametrize(
    ("objective", "epochs"),
    [
        ({"free_bits": 0.05, "elbo_every": 1}, EPOCHS),
        # A third of the images: Adam magnifies what is rounded otherwise from the second epoch on.
        ({"elbo_every": 3}, 1),
        pytest.param({"invariance_weight": 0.0, "binarise": True}, EPOCHS, marks=pytest.mark.slow),
    ],
)
def test_two_processes_learn_what_one_learns(
    shapes: tuple[NDArray[np.uint8], NDArray],
    grey: ImageSpec,
    small: Config,
    start: Callable[..., subprocess.Popen[str]],
    objective: dict[str, Any],
    epochs: int,
    tmp_path: Path,
) -> None:
    """The same global batches give the same curve and the same weights, average and batch
    statistics included, but for rounding; and the state of two is one that a single one reads.
    """
    config = every_step_counts(small, **objective)
    team = prepared(tmp_path / "team", shapes[0], config)
    process = start(team, 2, epochs)
    alone = pretrain(shapes[0], grey, config, Budget(epochs, None), tmp_path, device="cpu")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    found = pretrain(shapes[0], grey, config, Budget(epochs, None), team, device="cpu", resume=True)
    assert len(found.history) == len(alone.history) == epochs
    for one, other in zip(found.history, alone.history, strict=True):
        for term in ("loss", "distortion", "rate", "invariance"):
            assert getattr(one, term) == pytest.approx(getattr(other, term), rel=1e-4)
    one, other = (load_checkpoint(run.checkpoint) for run in (found, alone))
    for part in ("model", "average"):
        for name, value in one[part].items():
            torch.testing.assert_close(value, other[part][name], rtol=1e-3, atol=1e-4)


def test_a_killed_process_ends_the_job_and_any_number_goes_on(
    shapes: tuple[NDArray[np.uint8], NDArray],
    grey: ImageSpec,
    small: Config,
    start: Callable[..., subprocess.Popen[str]],
    tmp_path: Path,
) -> None:
    """When one of two is killed, the other says so in one line with the remedy and the job fails;
    one process then goes on from its checkpoint to what two would have learnt.
    """
    config = every_step_counts(small, elbo_every=1)
    folder = prepared(tmp_path / "team", shapes[0], config)
    process = start(folder, 2, 40, PAUSE="0.05")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 8"):
            break
    os.kill(int((folder / "pid1").read_text()), signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    (line,) = [line for line in errors.splitlines() if "process 0 says" in line]
    assert "lost the others" in line
    assert "start the same command again" in line
    step = load_checkpoint(folder / CHECKPOINT)["step"]
    assert 0 < step < 40 * 6
    found = pretrain(shapes[0], grey, config, Budget(40, None), folder, device="cpu", resume=True)
    assert found.history[-1].step == 40 * 6
    alone = pretrain(shapes[0], grey, config, Budget(40, None), tmp_path, device="cpu")
    assert found.history[8].loss == pytest.approx(alone.history[8].loss, rel=1e-3)
    assert found.history[-1].neg_elbo == pytest.approx(alone.history[-1].neg_elbo, rel=0.02)


@pytest.mark.slow
def test_sigterm_stops_all_at_the_same_step(
    shapes: tuple[NDArray[np.uint8], NDArray],
    small: Config,
    start: Callable[..., subprocess.Popen[str]],
    tmp_path: Path,
) -> None:
    """SIGTERM to one process that only helps stops all of them, with a checkpoint; three go on."""
    folder = prepared(tmp_path / "team", shapes[0], every_step_counts(small))
    process = start(folder, 2, 30, PAUSE="0.1")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 3"):
            break
    os.kill(int((folder / "pid1").read_text()), signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert errors.count("start it again to go on") == 2
    step = load_checkpoint(folder / CHECKPOINT)["step"]
    assert 18 <= step < 30 * 6
    process = start(folder, 3, 30)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert f"epoch {step // 6 + 1}\n" in output
    assert "epoch 1\n" not in output
    assert load_checkpoint(folder / CHECKPOINT)["step"] == 30 * 6


@pytest.mark.parametrize(("whole", "size"), [(64, 2), (63, 4), (5, 5), (7, 1)])
def test_parts_are_the_batch(whole: int, size: int) -> None:
    """The parts follow one another without gaps, and differ by at most one row."""
    parts = [Part.of(whole, rank, size) for rank in range(size)]
    assert np.array_equal(np.concatenate([np.arange(whole)[part.rows] for part in parts]),
                          np.arange(whole))  # fmt: skip
    lengths = [part.stop - part.start for part in parts]
    assert max(lengths) - min(lengths) <= 1


def test_every_number_of_processes_draws_the_same() -> None:
    """Views and noise of the parts, put together, are those of the whole batch."""
    images = torch.rand(7, 3, 16, 16)
    augment = Augment(AugmentConfig(erase=0.3, flip_vertical=True))

    def drawn(size: int) -> tuple[torch.Tensor, torch.Tensor]:
        views, noises = [], []
        for rank in range(size):
            part, draws = Part.of(7, rank, size), Draws(3, torch.device("cpu"))
            draws.begin(11)
            views.append(augment(images[part.rows], draws.generator, part))
            noises.append(draws.normal(part, 5))
        return torch.cat(views), torch.cat(noises)

    expected = drawn(1)
    for size in (2, 3, 7):
        for found, value in zip(drawn(size), expected, strict=True):
            torch.testing.assert_close(found, value)
    draws = Draws(3, torch.device("cpu"))
    draws.begin(12)
    assert (draws.normal(Part.of(7, 0, 1), 5) - expected[1]).abs().max() > 0.1
