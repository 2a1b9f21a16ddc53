"""Several processes that train one network: who they are and what they tell each other.

`torchrun` starts them and says so in the environment. They share the rows of every batch; what is
random, timed or searched comes from process 0. Their backend is gloo, and NCCL for tensors on
GPUs.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed

from handful_bundle.session import Device
from handful_training.draws import Part
from handful_training.errors import InputError, TrainingError

# Longest silence of a process in training: its neighbour search, or a registry that is away.
SILENCE = timedelta(minutes=10)
READING = timedelta(days=30)  # longest reading of images that others wait for


@dataclass(frozen=True)
class Team:
    """The processes of one training, seen from one of them."""

    rank: int = 0  # 0 leads
    size: int = 1
    local_rank: int = 0  # among those on this host
    local_size: int = 1
    patient: Any = None  # the group in which to wait for the reading of images

    def packed(self) -> None:
        """Return once the first process of every host has said so too."""
        if self.size > 1:
            distributed.barrier(self.patient)

    def share(self, value: Any) -> Any:
        """Return process 0's `value`; what the others pass is ignored."""
        if self.size == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, group=self.patient)
        return values[0]

    def agree(self, progress: float, *, stop: bool) -> tuple[float, bool]:
        """Return process 0's `progress`, and whether anybody wants to stop."""
        if self.size == 1:
            return progress, stop
        votes = torch.tensor([0.0 if self.rank else progress, float(stop)], dtype=torch.float64)
        distributed.all_reduce(votes)
        return float(votes[0]), bool(votes[1] > 0)


_ALONE = Team()
_current = _ALONE


def current_team() -> Team:
    """Return the team that this process has joined, or one of it alone."""
    return _current


def leave() -> None:
    """Part from the others: the training is over."""
    global _current  # noqa: PLW0603 - as torch's own process group, one in a process
    if _current.size > 1:
        distributed.destroy_process_group()
    _current = _ALONE


def join(device: Device) -> Team:
    """Meet the processes that `torchrun` started, if it did.

    Raises:
        InputError: this host has fewer GPUs than processes.
    """
    global _current  # noqa: PLW0603 - as above
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if not distributed.is_torchelastic_launched() or size == 1:
        return _ALONE
    local_rank, local_size = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    backend = "gloo"
    if device == "cuda" or (device == "auto" and torch.cuda.is_available()):
        backend = "cpu:gloo,cuda:nccl"
        if (found := torch.cuda.device_count()) < local_size:
            raise InputError(
                f"{local_size} processes on a host with {found} GPUs; use "
                f"--nproc_per_node {max(1, found)}, or --device cpu"
            )
        torch.cuda.set_device(local_rank)
    distributed.init_process_group(backend, timeout=SILENCE)
    patient = distributed.new_group(timeout=READING, backend="gloo")
    _current = Team(int(os.environ["RANK"]), size, local_rank, local_size, patient)
    return _current


@contextmanager
def losing_others(team: Team) -> Iterator[None]:
    """Say in one line that another process is gone: what is left to this one is a failed sum.

    Raises:
        TrainingError: it is.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # gloo has no class of its own for it
        if team.size == 1:
            raise
        raise TrainingError(
            f"process {team.rank} of {team.size} lost the others, one of them was killed or "
            f"cannot be reached ({str(error).splitlines()[0][:200]}); start the same command "
            "again: it goes on from the last checkpoint"
        ) from error


class Gather:
    """Puts the rows of all processes together, for a loss that looks at the whole batch.

    Every process then computes the same loss. The gradient of its own rows is multiplied by the
    number of processes, because gradients of weights are averaged over them.
    """

    def __init__(self, team: Team) -> None:
        self._team = team

    def __call__(self, part: Part, *rows: Tensor) -> tuple[Tensor, ...]:
        """Return each of `rows` [b, ...], which are `part`, for the whole, [B, ...], at once."""
        if self._team.size == 1:
            return rows
        flat = torch.cat([own.flatten(1) if own.ndim > 1 else own[:, None] for own in rows], 1)
        widths = [own.shape[1:].numel() for own in rows]  # a process may have none
        whole = _GatherRows.apply(flat, part, self._team.size)  # type: ignore[no-untyped-call]  # torch's
        return tuple(
            columns.reshape(len(whole), *own.shape[1:])
            for columns, own in zip(whole.split(widths, 1), rows, strict=True)
        )


class _GatherRows(torch.autograd.Function):
    """A sum over processes, each of which has zeros in the others' rows: parts may differ."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, part: Part, size: int) -> Tensor:
        ctx.rows, ctx.size = part.rows, size
        whole = rows.new_zeros(part.whole, *rows.shape[1:])
        whole[part.rows] = rows
        distributed.all_reduce(whole)
        return whole

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0][ctx.rows] * ctx.size, None, None
