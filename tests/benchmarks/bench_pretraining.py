"""What reading from the pack, averaging weights and keeping books cost a training.

The bare loop has the same model, loss, augmentation, optimiser and batch, and its data in memory.
Both run in turn in this process; the figure is their ratio.
"""

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from handful_bundle.manifest import ImageSpec
from handful_bundle.session import cpu_quota
from handful_training.augment import Augment
from handful_training.config import Config
from handful_training.loss import training_loss
from handful_training.model import Vae
from handful_training.pretrain import Budget, pretrain
from handful_training.sizing import default_batch_size

IMAGES = 12_800
ROUNDS = 5


def bare(images: np.ndarray, spec: ImageSpec, config: Config) -> float:
    """Return images per second of the loop that a paper's appendix would print."""
    model = Vae(spec, config.model, config.objective.projection_dim)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=1e-3, weight_decay=config.optimiser.weight_decay
    )
    augment = Augment(config.augment)
    data = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).contiguous()
    size = config.optimiser.batch_size or default_batch_size(len(data))
    order = torch.randperm(len(data))
    steps, every = len(data) // size, config.objective.elbo_every
    start = time.monotonic()
    for step in range(steps):
        target = data[order[step * size : (step + 1) * size]].float() / 255
        views = augment(target), augment(target)
        target = target[step % every :: every]
        output = model(target, views)
        loss, _ = training_loss(target, output, model.likelihood, config.objective, step / steps)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.optimiser.clip_norm)
        optimiser.step()
    return steps * size / (time.monotonic() - start)


def ours(images: np.ndarray, spec: ImageSpec, config: Config) -> float:
    """Return images per second of `pretrain` on a memory map, after its neighbours are found."""
    with tempfile.TemporaryDirectory() as folder:
        trained = pretrain(images, spec, config, Budget(1, None), Path(folder), device="cpu")
    return trained.history[0].images_per_second


def main() -> None:
    """Print the ratio for small grey and for colour images."""
    torch.set_num_threads(cpu_quota())
    config = Config()
    print("| images | bare loop, images/s | `pretrain`, images/s | ratio (median of 5) |")
    print("|---|---|---|---|")
    for height, width, channels, count in ((28, 28, 1, IMAGES), (32, 32, 3, IMAGES // 4)):
        spec = ImageSpec(height=height, width=width, channels=channels)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "images.npy"
            rng = np.random.default_rng(0)
            np.save(path, rng.integers(0, 256, (count, *spec.shape), np.uint8))
            images = np.load(path, mmap_mode="r")
            pairs = [
                (bare(images, spec, config), ours(images, spec, config)) for _ in range(ROUNDS)
            ]
        ratio = statistics.median(mine / theirs for theirs, mine in pairs)
        slow, fast = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(
            f"| {height}×{width}×{channels} | {slow:.0f} | {fast:.0f} | {ratio:.2f} |", flush=True
        )
