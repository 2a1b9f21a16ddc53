"""Distillation: a small network that answers for any image as a teacher does for the pool's.

A graph knows only its own nodes. The student, one hidden layer on W(embedding), is fitted on what
the teacher says of them, so that what is served is inductive and needs no pool (Hinton et al. 2015,
"Distilling the knowledge in a neural network", arXiv:1503.02531). The targets are the teacher's
calibrated probabilities as they are: cross entropy makes the student their mean given the features,
and the mean of calibrated probabilities is calibrated, so it needs no temperature of its own.
On Fashion-MNIST it loses 0.1 to 0.4 points against its teacher on the pool (docs/benchmarks.md).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import log_softmax
from torch.optim.adamw import adamw

from handful_training.head.onnx_graph import Layer, Term
from handful_training.schedule import one_cycle

HIDDEN = 128
STEPS = 400  # of SGD, whatever the pool's size; twice as many gain nothing
DRAFT_STEPS = 100  # enough to tell links within classes from others
BATCH = 512
LEARNING_RATE = 4e-3
WEIGHT_DECAY = 1e-2
CHECKED = 20  # one node in so many is kept to compare student and teacher on


def distil(
    features: NDArray[np.float32],
    teacher: NDArray[np.float32],
    offset: NDArray[np.float32] | None,
    *,
    seed: int,
    steps: int = STEPS,
) -> tuple[Term, float]:
    """Fit the student. The order of the rows makes no difference.

    Args:
        features: W(embedding) of the pool, [M, p].
        teacher: its calibrated probabilities, [M, K].
        offset: logits that are served beside the student's and added to them, [M, K].
        seed: draws first weights and batches.
        steps: of SGD.

    Returns:
        The student, and the share of nodes, of those kept from it, whose class is the teacher's.
    """
    order = np.lexsort(features.T[:4])
    rows = torch.from_numpy(np.ascontiguousarray(features[order]))
    # Unit rows of p numbers, brought to unit variance: what the first layer is made for.
    scale = features.shape[1] ** 0.5
    rows *= scale
    target = torch.from_numpy(np.ascontiguousarray(teacher[order]))
    beside = torch.zeros(1) if offset is None else torch.from_numpy(offset[order])
    kept = torch.arange(len(rows)) % CHECKED == CHECKED - 1
    network = _train(rows, target, beside, torch.nonzero(~kept)[:, 0], seed, steps)
    with torch.no_grad():
        found = network(rows[kept]) + (beside if offset is None else beside[kept])
    agreement = float((found.argmax(1) == target[kept].argmax(1)).double().mean())
    layers = [
        Layer(layer.weight.detach().numpy().T.astype(np.float64), layer.bias.detach().numpy())
        for layer in network
        if isinstance(layer, nn.Linear)
    ]
    layers[0] = Layer(layers[0].weight * scale, layers[0].bias)
    return Term("whitened", tuple(layers)), agreement


def _train(
    rows: Tensor, target: Tensor, beside: Tensor, shown: Tensor, seed: int, steps: int
) -> nn.Sequential:
    generator = torch.Generator().manual_seed(seed)
    network = nn.Sequential(
        nn.Linear(rows.shape[1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, target.shape[1])
    )
    for parameter in network[0].parameters():
        nn.init.uniform_(parameter, -1, 1, generator=generator)
        parameter.data /= rows.shape[1] ** 0.5
    for parameter in network[2].parameters():  # at first all that is served is the offset
        nn.init.zeros_(parameter)
    parameters: list[Tensor] = list(network.parameters())
    means, squares = ([torch.zeros_like(weight) for weight in parameters] for _ in range(2))
    counts = [torch.zeros(()) for _ in parameters]
    size = min(BATCH, max(1, len(shown) // 2))
    drawn = torch.zeros(0, dtype=torch.int64)
    for step in range(steps):
        if len(drawn) < size:
            drawn = shown[torch.randperm(len(shown), generator=generator)]
        batch, drawn = drawn[:size], drawn[size:]
        logits = network(rows[batch]) + (beside if beside.ndim == 1 else beside[batch])
        loss = -(log_softmax(logits, dim=1) * target[batch]).sum(dim=1).mean()
        gradients = list(torch.autograd.grad(loss, parameters))
        # The function and not the class, whose first use imports torch's compiler: a second, of the
        # three that a refit may take.
        with torch.no_grad():
            adamw(
                parameters, gradients, means, squares, [], counts,
                fused=True, amsgrad=False, beta1=0.9, beta2=0.999, eps=1e-8, maximize=False,
                lr=LEARNING_RATE * one_cycle(step / steps), weight_decay=WEIGHT_DECAY,
            )  # fmt: skip
    return network
