"""Fashion-MNIST with 100 labels: one encoder, draws 0 to 4, beside PCA + LR on the same labels.

The encoder sees the 60,000 training images without labels; 10 labels per class are drawn by the
seed; accuracy is on the 10,000 test images. Everything goes through the real commands.
"""

import statistics
from pathlib import Path

from handful_train import HandfulTrain, fashion

command = HandfulTrain(Path("handful-work/bench/accuracy"))
DRAWS = range(5)


def main() -> None:
    """Train once, fit and test five heads, print a table."""
    data = fashion()
    trained = command("run", data.train, "--time-budget", "5m")
    encoder = f"{trained['name']}/{trained['version']}"
    rows = []
    for draw in DRAWS:
        fitted = command(
            "head", encoder, data.train, "--labels", data.train_labels,
            "--labels-per-class", "10", "--seed", str(draw),
        )  # fmt: skip
        tested = command(
            "evaluate", f"{fitted['name']}/{fitted['version']}",
            "--images", data.test, "--labels", data.test_labels,
        )  # fmt: skip
        rows.append((tested["accuracy"], tested["baseline_pca_accuracy"], tested["ece"],
                     tested["log_loss"], fitted["head_seconds"]))  # fmt: skip
    print("| draw | VAE, test % | PCA + LR, test % | ECE | log loss | head seconds |")
    print("|---|---|---|---|---|---|")
    for draw, (accuracy, baseline, ece, loss, seconds) in zip(DRAWS, rows, strict=True):
        print(f"| {draw} | {100 * accuracy:.1f} | {100 * baseline:.1f} | {ece:.3f} | {loss:.3f} "
              f"| {seconds:.1f} |")  # fmt: skip
    accuracies, baselines = [row[0] for row in rows], [row[1] for row in rows]
    print(
        f"| mean ± sd | **{_mean(accuracies)}** | {_mean(baselines)} | "
        f"{statistics.mean(row[2] for row in rows):.3f} | "
        f"{statistics.mean(row[3] for row in rows):.3f} | |"
    )
    print(
        f"\n−ELBO on held-out images: {trained['neg_elbo_nats']:.1f} nats; "
        f"pretraining {trained['pretrain_seconds']:.0f} s"
    )


def _mean(values: list[float]) -> str:
    return f"{100 * statistics.mean(values):.1f} ± {100 * statistics.stdev(values):.1f}"
