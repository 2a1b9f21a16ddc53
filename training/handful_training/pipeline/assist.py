"""What every process but the first does in a distributed training: read, train along, leave."""

import logging
import signal
from typing import TYPE_CHECKING

from handful_training.distributed import Team, leave
from handful_training.errors import InputError
from handful_training.pipeline.work import work_folder
from handful_training.pretrain import assist as train_along

if TYPE_CHECKING:
    from handful_training.pipeline.run import Request


def assist(request: "Request", team: Team) -> None:
    """Take part in the pretraining. What is said, kept and exported is process 0's affair.

    Raises:
        InputError: this host sees other images than process 0.
        TrainingError: another process is gone.
    """
    logging.disable(logging.WARNING)
    # Waiting, it has nothing to save: when the first process fails, torchrun ends this one at once.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if team.local_rank > 0:  # one process of a host packs, the others find the pack
        team.packed()
    inputs = request.read(work_folder())
    if team.local_rank == 0:
        team.packed()
    shared = team.share(None)
    if shared is not None:
        content, config, budget = shared
        if content != inputs.pack.content_digest:
            raise InputError(
                f"process {team.rank} finds other images in {request.images} than process 0; "
                "give all hosts the same ones"
            )
        train_along(
            inputs.pack.images,
            inputs.spec,
            config,
            budget,
            seed=request.train_seed,
            device=request.device,
        )
    leave()
