"""The whole path on Fashion-MNIST, each step by the command that a user would type."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo import fashion_mnist
from demo.cut import read_pair
from demo.load import Tally, classify, load
from demo.stack import StackError, service, train, train_json
from handful_client import Handful, ModelInfo

MODEL = "handful"  # the default name, so that `make serve` finds the demo's champion
LABELS_PER_CLASS = 10
SWAP_SECONDS = 60
# Batches of other sizes round differently; further apart, two models answered.
SERVED_TOLERANCE = 0.001


@dataclass(frozen=True)
class Plan:
    """What to run on.

    Attributes:
        data: folder with the four idx files.
        work: where the demo's logs go.
        time_budget: of all optimisation, as `handful-train run --time-budget` takes it.
    """

    data: Path
    work: Path
    time_budget: str

    @property
    def train_pair(self) -> tuple[str, str, str]:
        """The images and labels to train on, as arguments."""
        images = str(self.data / fashion_mnist.TRAIN_IMAGES)
        return images, "--labels", str(self.data / fashion_mnist.TRAIN_LABELS)

    @property
    def test_pair(self) -> tuple[Path, Path]:
        """The images and labels to judge by."""
        return self.data / fashion_mnist.TEST_IMAGES, self.data / fashion_mnist.TEST_LABELS


def run(plan: Plan) -> dict[str, Any]:
    """Take the whole path and return the demo's summary.

    Raises:
        StackError: a command failed, or an answer is not what it must be.
    """
    say("Pretraining on unlabelled images, then a head on 10 labels per class")
    trained = train_json(
        "run", *plan.train_pair, *_labels(seed=0), "--time-budget", plan.time_budget
    )
    _make_champion(trained)

    say("Judging it on the test images, beside PCA + logistic regression on the same labels")
    images, labels = plan.test_pair
    judged = train_json("evaluate", MODEL, "--images", str(images), "--labels", str(labels))

    log = plan.work / "serve.log"
    say(f"Starting the service, its log in {log}")
    with (
        service(f"models:/{MODEL}@champion", log) as url,
        Handful(url, max_retries=0) as client,  # every request that fails shall count
    ):
        first, swap = _use(client, plan, str(trained["version"]))
    say("Everything is stopped")

    _check_served(first, judged, plan)
    return {
        "dataset": fashion_mnist.NAME,
        "images": trained["images"],
        "labels": trained["labels"],
        "accuracy": judged["accuracy"],
        "accuracy_ci": judged["accuracy_ci"],
        "baseline_pca_accuracy": judged["baseline_pca_accuracy"],
        "neg_elbo_nats": trained["neg_elbo_nats"],
        "pretrain_seconds": trained["pretrain_seconds"],
        "head_seconds": trained["head_seconds"],
        "images_per_second": round(first.answered / first.seconds, 1),
        "failed_requests": len(first.failures) + len(swap.tally.failures),
        "classified_images": first.answered + swap.tally.answered,
        "test_images": judged["n"],
        "model_version": swap.version,
        "swapped_from": str(trained["version"]),
        "swapped_head": swap.head_digest,
        "refit_head_seconds": swap.head_seconds,
        "plots": trained["folder"],
    }


@dataclass(frozen=True)
class Swap:
    """A head that was refitted and taken into service under load."""

    version: str
    head_digest: str
    head_seconds: float
    tally: Tally


def _use(client: Handful, plan: Plan, champion: str) -> tuple[Tally, Swap]:
    images, labels = plan.test_pair
    pixels, truth = read_pair(images, labels)
    before = _await_version(client, champion)
    say(f"Classifying {len(pixels):,} test images with version {before.model.version}")
    first = Tally()
    classify(client, pixels, first)
    say(f"  {first.accuracy(truth):.2%} right, {first.answered / first.seconds:,.0f} images/s")

    say("Refitting the head on other labels and swapping it in while the load goes on")
    with load(client, pixels) as tally:
        refitted = train_json("head", MODEL, *plan.train_pair, *_labels(seed=1))
        _make_champion(refitted)
        version = str(refitted["version"])
        if not tally.wait_for(version, SWAP_SECONDS):
            raise StackError(
                f"version {version} is champion, but after {SWAP_SECONDS} s "
                f"only {sorted(tally.versions)} had answered; see {plan.work}/serve.log"
            )
    after = client.model()
    say(f"  {tally.answered:,} images meanwhile, by versions {', '.join(sorted(tally.versions))}")
    digests = [(info.manifest.head or {}).get("digest") for info in (before, after)]
    if after.model.version != version or digests[0] == digests[1]:
        raise StackError(
            f"after the swap the service names version {after.model.version}, head {digests[1]}; "
            f"due was version {version} with another head than {digests[0]}"
        )
    return first, Swap(version, str(digests[1]), refitted["head_seconds"], tally)


def _await_version(client: Handful, version: str) -> ModelInfo:
    """Return what the service serves once that is `version`.

    It starts with what its cache remembers, and asks the registry right afterwards.
    """
    deadline = time.monotonic() + SWAP_SECONDS
    while (found := client.model()).model.version != version:
        if time.monotonic() > deadline:
            raise StackError(f"the service serves {found.model.version}, the champion is {version}")
        time.sleep(0.1)
    return found


def _labels(*, seed: int) -> tuple[str, ...]:
    return "--labels-per-class", str(LABELS_PER_CLASS), "--seed", str(seed)


def _make_champion(result: dict[str, Any]) -> None:
    """Promote by hand what the gate held back: the demo shows this model, better or not."""
    if not result["promoted"]:
        say(f"  the gate kept the champion; promoting version {result['version']} by hand")
        train("promote", MODEL, str(result["version"]))


def _check_served(first: Tally, judged: dict[str, Any], plan: Plan) -> None:
    _, truth = read_pair(*plan.test_pair)
    served = first.accuracy(truth)
    if abs(served - judged["accuracy"]) > SERVED_TOLERANCE:
        raise StackError(
            f"the service is right on {served:.2%}, the same model offline on "
            f"{judged['accuracy']:.2%}; its failures: {first.failures[:3] or 'none'}"
        )


def say(line: str) -> None:
    """Tell how far the demo is. On stderr: stdout holds the summary alone."""
    print(line, file=sys.stderr, flush=True)
