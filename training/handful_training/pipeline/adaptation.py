"""Adapt an encoder, export it as a bundle with a space of its own, and judge it by held-out labels.

The judge is the gate's paired test, turned round: the adapted encoder has to be shown better. Both
encoders get the ordinary head, fitted on all labels; they are compared out of fold on those labels
that the adaptation has not seen.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handful_bundle.bundle import Bundle
from handful_bundle.manifest import ImageSpec
from handful_training.gate import GateDecision, OutOfFold, shown_better
from handful_training.model import Vae
from handful_training.pipeline.adapt_stage import RANDOM, AdaptedVae, Order, adapt_vae
from handful_training.pipeline.export_stage import ExportedVae, export_vae
from handful_training.pipeline.head_stage import Base, HeadBundle, add_head
from handful_training.pipeline.inputs import Inputs
from handful_training.pipeline.networks import keep_network
from handful_training.tracking import Run

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Adaptation:
    """An adapted encoder and what the labels say of it."""

    base: Base  # to put a head on; refused if it was not shown to be better
    metrics: dict[str, float]  # of its export
    plots: Path
    decision: GateDecision  # `promoted`: it is better than the encoder that it came from
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return what `--json` says of it."""
        better = self.decision.promoted
        found = {"adapted": better, "adapt_reason": self.decision.reason}
        if better:  # it takes the other one's place
            found |= {key: self.metrics[key] for key in ("neg_elbo_nats", "neg_iwae_nats")}
        return found | {"adapt_seconds": self.seconds}


def adapt_and_judge(
    frozen: Base, network: Vae, inputs: Inputs, order: Order, work: Path, parent: Run
) -> Adaptation:
    """Adapt the encoder of `frozen` to the labels; each step becomes a run below `parent`.

    Args:
        frozen: the encoder's bundle; its head, if any, plays no part.
        network: the same encoder, in torch.
        inputs: images and labels.
        order: how.
        work: the work folder.
        parent: the command's run.
    """
    space = frozen.bundle.manifest.space
    adapted, exported = _adapted(network, space, inputs, order, work, parent)
    bundle = Bundle.load(exported.bundle, device="cpu")
    keep_network(work, bundle.manifest.space, adapted.trained.model, order.config)
    seen = tuple(sorted({*frozen.seen, *adapted.seen}))
    base = Base(bundle, seen, before=frozen.bundle)
    predictions = [
        _with_head(encoder, inputs, order, work, parent, title=f"judge {title}").out_of_fold
        for title, encoder in (("frozen", frozen), ("adapted", base))
    ]
    decision = judge(*predictions, held_out=adapted.held_out)
    _log.info("the adapted encoder is %s", decision.reason)
    parent.tags(
        {
            "handful.adapt.better": str(decision.promoted).lower(),
            "handful.adapt.reason": decision.reason,
        }
    )
    if not decision.promoted:
        base = base._replace(refusal=decision.reason)
    return Adaptation(base, exported.metrics, exported.plots, decision, adapted.trained.seconds)


def adapt_control(
    spec: ImageSpec, inputs: Inputs, order: Order, work: Path, parent: Run
) -> HeadBundle:
    """Adapt a network that has learnt nothing to the same labels, and give it a head.

    What an adapted VAE has over it is what pretraining was good for. It is never registered.

    Args:
        spec: of the images.
        inputs: images and labels.
        order: how, as for the VAE.
        work: the work folder.
        parent: the command's run.
    """
    adapted, exported = _adapted(spec, RANDOM, inputs, order, work, parent, suffix=" control")
    base = Base(Bundle.load(exported.bundle, device="cpu"), tuple(sorted(adapted.seen)))
    return _with_head(base, inputs, order, work, parent, title="head control")


def judge(frozen: OutOfFold | None, adapted: OutOfFold | None, *, held_out: int) -> GateDecision:
    """Return whether the adapted encoder is shown to be better, by labels that it has not seen."""
    if frozen is None or adapted is None or not held_out:
        return GateDecision(
            promoted=False,
            decided=False,
            reason="not shown to be better: "
            + (
                "no class has enough labels to hold one out"
                if not held_out
                else "a class has one label, so there are no out-of-fold predictions"
            ),
        )
    return shown_better(frozen, adapted)


def _adapted(
    start: Vae | ImageSpec,
    space: str,
    inputs: Inputs,
    order: Order,
    work: Path,
    parent: Run,
    *,
    suffix: str = "",
) -> tuple[AdaptedVae, ExportedVae]:
    """Adapt `start` and export what came of it, in two runs whose titles end in `suffix`."""
    assert inputs.labels is not None
    with parent.child(f"adapt{suffix}") as child:
        adapted = adapt_vae(start, space, inputs.pack, inputs.labels, order, work, child)
    with parent.child(f"export{suffix}") as child:
        exported = export_vae(
            adapted.trained, inputs.pack, order.config, work, child,
            name=order.name, seed=order.seed, force=order.force,
        )  # fmt: skip
    return adapted, exported


def _with_head(
    encoder: Base, inputs: Inputs, order: Order, work: Path, parent: Run, *, title: str
) -> HeadBundle:
    """Give an encoder the ordinary head, fitted on all labels."""
    assert inputs.labels is not None
    with parent.child(title) as child:
        return add_head(
            encoder, inputs.pack, inputs.labels, order.config.head, work, child,
            name=order.name, seed=order.label_seed, force=order.force,
        )  # fmt: skip
