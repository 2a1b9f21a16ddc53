"""Which classifier is fitted: what each says of labels that it has not seen, and a rule for few.

Candidates are compared by calibrated log loss in the same folds. It needs fewer labels than
accuracy, which of 20 labels knows 21 values. A favourite is kept unless another's loss is lower by
more than two standard errors of the paired difference:

    fewer than 8 labels per class, with a pool   graph: a line between classes takes more labels
    8 and more, with a pool                      graph and linear combined
    an encoder that was adapted to labels        graph: a line between rows that the encoder learnt
                                                 by heart is far too sure of all others
    without a pool                               logistic regression

Two, for with a dozen candidates and a dozen labels one is exceeded by chance more often than not.

With one label per class nothing can be held out, and the favourite is taken unseen.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from handful_training.config import HeadConfig
from handful_training.head.calibration import fit_temperature, row_losses
from handful_training.head.linear import Family, Lda, Logistic, NearestMean, Standardised
from handful_training.head.onnx_graph import View
from handful_training.head.selection import held_out_logits, judged, row_weights, select
from handful_training.head.stacking import (
    GRAPH_ALONE,
    GRAPH_AND_LINEAR,
    combine,
    fit_scales,
)

MARGIN = 2.0  # standard errors
FEW = 8  # labels per class, the median over classes
CLOSED_FORM: tuple[Family, ...] = (Lda(), NearestMean())


class Judged(NamedTuple):
    """A candidate, and what it says of labels that it has not seen."""

    kind: str
    family: Family | None  # the linear part
    view: View  # what the linear part looks at
    linear_scale: float  # what its logits are multiplied by
    graph_scale: float  # what the graph's log probabilities are multiplied by; 0: no graph
    logits: NDArray[np.float64] | None = None  # out of fold, scaled, [R, n, K]
    log_loss: float | None = None  # nats, out of fold; None: nothing could be held out

    @property
    def shown(self) -> str:
        """Name for people."""
        linear = "" if self.family is None else f"{self.family.name} on {self.view}"
        return {"graph": "graph", "combined": f"graph x {linear}"}.get(self.kind, linear)


def judge_linear(
    views: dict[View, Standardised], target: NDArray[np.int64], config: HeadConfig, *, seed: int
) -> list[Judged]:
    """Return the linear candidates, those that the configuration allows."""
    found = []
    wanted = config.family
    for view, standardised in views.items():
        if wanted not in ("lda", "nearest_mean"):
            chosen = select(standardised.rows, target, config, seed=seed)
            family, scale = Logistic(chosen.C), 1 / chosen.temperature
            found.append(Judged("logistic", family, view, scale, 0, chosen.logits, chosen.log_loss))
        found += [
            _judge(other, view, standardised.rows, target, config, seed)
            for other in CLOSED_FORM
            if wanted == other.name or (wanted in ("auto", "combined") and _fits(other, target))
        ]
    return found


def judge_graph(
    graph: NDArray[np.float64],
    linear: Judged,
    target: NDArray[np.int64],
    config: HeadConfig,
    judges: NDArray[np.bool_] | None = None,
) -> list[Judged]:
    """Return the candidates with a graph, alone and with the `linear` one.

    Args:
        graph: log probabilities out of fold, [R, n, K]; R may be less than the linear one's.
        linear: what it is combined with.
        target: class of each row, [n].
        config: which of them are allowed.
        judges: the rows that scales are fitted on, [n]; None: all that can be held out.
    """
    scored = judged(target)
    assert linear.logits is not None
    assert scored is not None
    if judges is not None:
        scored = scored & judges
    both = [graph, linear.logits[: len(graph)]]
    weight = row_weights(target[scored], config)
    found = []
    for kind, experts, centre in (
        ("graph", both[:1], GRAPH_ALONE),
        ("combined", both, GRAPH_AND_LINEAR),
    ):
        if config.family not in ("auto", kind):
            continue
        scales = fit_scales([e[:, scored] for e in experts], target[scored], weight, centre)
        logits = combine(experts, scales.values)
        of_graph, *of_linear = scales.values
        found.append(
            unseen(kind, linear)._replace(
                graph_scale=of_graph,
                linear_scale=sum(of_linear) * linear.linear_scale,
                logits=logits,
                log_loss=scales.log_loss,
            )
        )
    return found


def unseen(kind: str, linear: Judged) -> Judged:
    """Return a candidate with a graph whose factors are the constants: nothing can be held out."""
    if kind == "graph":
        return Judged(kind, None, "whitened", 0, GRAPH_ALONE[0])
    a, b = GRAPH_AND_LINEAR
    return linear._replace(kind=kind, linear_scale=b * linear.linear_scale, graph_scale=a)


def favourite(
    target: NDArray[np.int64], config: HeadConfig, *, pool: bool, adapted: bool = False
) -> str:
    """Return the kind that the rule prefers; `adapted`: the encoder has seen some of the labels."""
    if config.family != "auto":
        return config.family
    if not pool:
        return "logistic"
    few = float(np.median(np.bincount(target))) < FEW
    return "graph" if few or adapted else "combined"


def judged_by(
    judges: NDArray[np.bool_] | None, candidates: list[Judged], target: NDArray[np.int64]
) -> list[Judged]:
    """Return the candidates with the temperature and the loss that the `judges` [n] give them.

    An encoder that was adapted to labels makes their images look easy: what is calibrated on them
    is far too sure of all others. None: all rows judge, as they did.
    """
    if judges is None:
        return candidates
    found = []
    for candidate in candidates:
        if candidate.logits is None:
            found.append(candidate)
            continue
        fitted = fit_temperature(candidate.logits[:, judges], target[judges])
        scale = 1 / fitted.value
        found.append(
            candidate._replace(
                linear_scale=scale * candidate.linear_scale,
                graph_scale=scale * candidate.graph_scale,
                logits=scale * candidate.logits,
                log_loss=fitted.log_loss,
            )
        )
    return found


def choose(
    candidates: Sequence[Judged],
    preferred: str,
    target: NDArray[np.int64],
    config: HeadConfig,
    judges: NDArray[np.bool_] | None = None,
) -> Judged:
    """Return the preferred candidate, or the best that is clearly better.

    `judges` are the rows that say so, [n]; None: all that can be held out.
    """
    best = min(
        (c for c in candidates if c.kind == preferred),
        key=lambda c: np.inf if c.log_loss is None else c.log_loss,
    )
    scored = judged(target)
    if best.logits is None or scored is None:
        return best
    if judges is not None:
        scored = scored & judges
    weight = row_weights(target[scored], config)
    repeats = min(len(c.logits) for c in candidates if c.logits is not None)

    def losses(candidate: Judged) -> NDArray[np.float64]:
        assert candidate.logits is not None
        return row_losses(candidate.logits[:repeats, scored], target[scored]) * weight

    standing = losses(best)
    better = []
    for candidate in candidates:
        gain = standing - losses(candidate)
        error = float(gain.std(ddof=1)) / len(gain) ** 0.5 if len(gain) > 1 else np.inf
        if gain.mean() > MARGIN * error:
            better.append((float(gain.mean()), candidate))
    return max(better, key=lambda pair: pair[0])[1] if better else best


def describe(
    candidates: Sequence[Judged],
    chosen: Judged,
    target: NDArray[np.int64],
    judges: NDArray[np.bool_] | None = None,
) -> dict[str, Any]:
    """Return the choice for logs: accuracy and log loss out of fold of the best of each kind."""
    kinds: dict[str, dict[str, float]] = {}
    for candidate in candidates:
        if candidate.logits is None or candidate.log_loss is None:
            continue
        if candidate.log_loss < kinds.get(candidate.kind, {}).get("log_loss", np.inf):
            right = candidate.logits.argmax(axis=2) == target
            if judges is not None:
                right = right[:, judges]
            kinds[candidate.kind] = {
                "log_loss": candidate.log_loss,
                "accuracy": float(right.mean()),
            }
    return {
        "kind": chosen.kind,
        "chosen": chosen.shown,
        "recipe": {
            "family": None if chosen.family is None else chosen.family.name,
            "C": chosen.family.C if isinstance(chosen.family, Logistic) else None,
            "view": chosen.view,
            "linear_scale": chosen.linear_scale,
            "graph_scale": chosen.graph_scale,
        },
        "labels_per_class": float(np.median(np.bincount(target))),
        "out_of_fold": kinds,
    }


def in_words(choice: dict[str, Any]) -> str:
    """Say in a line which head it is, and what it stood against."""
    said = f"{choice['chosen']} head ({choice['labels_per_class']:g} labels per class)"
    found = {kind: 100 * scores["accuracy"] for kind, scores in choice["out_of_fold"].items()}
    mine = found.pop(choice["kind"], None)
    if mine is None:
        return f"{said}: too few labels to hold any out, taken by rule"
    others = ", ".join(f"{kind} {accuracy:.1f} %" for kind, accuracy in found.items())
    return f"{said}: out of fold {mine:.1f} % right" + (f" against {others}" if others else "")


def _fits(family: Family, target: NDArray[np.int64]) -> bool:
    """Return whether a covariance within classes can be told from as few labels as folds leave."""
    return family.name != "lda" or bool(np.median(np.bincount(target)) >= FEW)


def _judge(
    family: Family,
    view: View,
    rows: NDArray[np.float64],
    target: NDArray[np.int64],
    config: HeadConfig,
    seed: int,
) -> Judged:
    scored = judged(target)
    if scored is None:
        return Judged(family.name, family, view, 1.0, 0)
    logits = held_out_logits(family, rows, target, config, seed=seed)
    weight = row_weights(target[scored], config)
    temperature = fit_temperature(logits[:, scored], target[scored], weight)
    scale = 1 / temperature.value
    return Judged(family.name, family, view, scale, 0, logits * scale, temperature.log_loss)
