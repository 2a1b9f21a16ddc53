"""What was left open, decided from the images, the budget and the machine, and told.

After this every setting that the training reads has a value: the run logs it, and the processes
of a team agree on it.
"""

import logging
from dataclasses import replace

import torch

from handful_bundle.session import Device, cpu_quota
from handful_training.config import Config
from handful_training.packs.pack import Pack
from handful_training.presets import looks_at_the_pool, resolved
from handful_training.pretrain import Budget, held_out_rows
from handful_training.sizing import SIDES, Means, default_epochs, side_limit, sized
from handful_training.symmetry import pool_symmetry

_log = logging.getLogger(__name__)


def means_of(budget: Budget, device: Device) -> Means:
    """Return what a training on `device` has to do with."""
    gpu = device != "cpu" and torch.cuda.is_available()
    return Means(gpu, cpu_quota(), budget.seconds)


def keep_side(budget: Budget, device: Device, count: int) -> int:
    """Return the longer side up to which `count` images keep their size, and say it if that bites.

    On the CPU large images would be shown too seldom; `image.height` and `image.width` overrule.
    """
    means = means_of(budget, device)
    limit = side_limit(count, means)
    if limit < SIDES[0]:
        _log.info(
            "sides of at most %d pixels, so that %d images are shown a few times in %.0f s on %d "
            "CPU cores; set image.height and image.width to overrule",
            limit,
            count,
            means.seconds,
            means.cores,
        )
    return limit


def settle(config: Config, budget: Budget, pack: Pack, device: Device) -> tuple[Config, Budget]:
    """Return settings and budget with nothing left open but `config.image`, which is the pack's.

    Args:
        config: what the user asked for.
        budget: the same; a time budget alone gets a bound on epochs too.
        pack: the images.
        device: where the training will be.
    """
    count = len(pack.images) - len(held_out_rows(len(pack.images), config.optimiser.held_out))
    config = sized(config, pack.spec, count, means_of(budget, device))
    model, batch_size = config.model, config.optimiser.batch_size
    assert batch_size is not None  # `sized` has set it
    if budget.epochs is None:
        budget = replace(budget, epochs=default_epochs(count, batch_size))
    _log.info(
        "network: %s, width %s, embeddings of %s numbers, latents of %s; batches of %d; at most "
        "%d epochs",
        model.family,
        model.width,
        model.embedding_dim,
        model.latent_dim,
        batch_size,
        budget.epochs,
    )
    symmetry = None
    if config.objective.invariance_weight > 0 and looks_at_the_pool(config.augment):
        symmetry = pool_symmetry(pack.images)
    return config.model_copy(update={"augment": resolved(config.augment, symmetry)}), budget
