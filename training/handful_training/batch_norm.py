"""Batch normalisation over the rows of all processes, on any device.

torch's own SyncBatchNorm runs on GPUs only. Means and variances of the parts are combined as by
Chan, Golub & LeVeque 1979, "Updating Formulae and a Pairwise Algorithm for Computing Sample
Variances".
"""

from typing import Any

import torch
from torch import Tensor, distributed, nn

from handful_training.distributed import Team


class GlobalBatchNorm(nn.Module):
    """Takes the place, the weights and the names of a BatchNorm while a team trains it."""

    def __init__(self, local: nn.BatchNorm1d | nn.BatchNorm2d, team: Team) -> None:
        super().__init__()
        assert local.momentum is not None
        assert local.running_mean is not None
        assert local.running_var is not None
        assert local.num_batches_tracked is not None
        self.weight, self.bias = local.weight, local.bias
        self.running_mean: Tensor
        self.running_var: Tensor
        self.num_batches_tracked: Tensor
        self.register_buffer("running_mean", local.running_mean)
        self.register_buffer("running_var", local.running_var)
        self.register_buffer("num_batches_tracked", local.num_batches_tracked)
        self._eps, self._momentum, self._team = local.eps, local.momentum, team

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [B, C, ...] in training mode: each channel over all rows everywhere."""
        variance, mean = torch.var_mean(
            x.float(), [d for d in range(x.ndim) if d != 1], correction=0
        )
        count = mean.new_full((1,), x.numel() / x.shape[1])
        mine = torch.cat([mean, variance, count])
        everyone = _Sum.apply(  # type: ignore[no-untyped-call]  # torch's
            torch.stack(
                [mine if i == self._team.rank else mine.new_zeros(len(mine))
                 for i in range(self._team.size)]
            )
        )  # fmt: skip
        means, variances, counts = everyone.split([len(mean), len(mean), 1], 1)
        total = counts.sum()
        share = counts / total
        mean = (share * means).sum(0)
        variance = (share * (variances + (means - mean).square())).sum(0)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self._momentum)
            self.running_var.lerp_(variance * total / (total - 1), self._momentum)
            self.num_batches_tracked += 1
        scale = self.weight * torch.rsqrt(variance + self._eps)
        shape = (1, -1) + (1,) * (x.ndim - 2)
        shift = (self.bias - mean * scale).view(shape)
        return torch.addcmul(shift, x.float(), scale.view(shape)).to(x.dtype)


def normalise_globally(module: nn.Module, team: Team) -> None:
    """Replace every batch normalisation below `module`, so that the team shares its statistics."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
            setattr(module, name, GlobalBatchNorm(child, team))
        else:
            normalise_globally(child, team)


class _Sum(torch.autograd.Function):
    """Sum over processes; so is its gradient, since what follows differs from one to the next."""

    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        distributed.all_reduce(total)
        return total
