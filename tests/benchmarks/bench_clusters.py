"""Fashion-MNIST grouped without a label into 10 clusters, beside k-means on PCA of pixels.

The encoder is that of `accuracy`: it sees the 60,000 training images without labels. These are
grouped (seeds 0 to 4), and the clusters compared with the labels, which play no other part. The
controls are grouped by the same code, with the same number and seeds. All by the real command.
"""

import statistics

from bench_accuracy import command
from handful_train import fashion

SEEDS = range(5)
SCORES = ("nmi", "ari", "accuracy", "purity")
ROWS = {
    "embeddings, half whitened": "",
    "PCA(50) of pixels": "baseline_pca_",
    "PCA(50) of pixels, half whitened": "baseline_pca_whitened_",
}


def main() -> None:
    """Train unless `accuracy` has, and print a table."""
    data = fashion()
    trained = command("run", data.train, "--time-budget", "5m")
    compare(f"{trained['name']}/{trained['version']}", data.train, data.train_labels)


def compare(model: str, images: str, labels: str) -> None:
    """Group `images` by `model`, and by the controls, once per seed; print a table."""
    found = [
        command("clusters", model, images, "-k", "10", "--labels", labels, "--seed", str(seed))
        for seed in SEEDS
    ]
    print(f"| {found[0]['images']:,} images, 10 clusters | NMI | ARI | accuracy | purity |")
    print("|---|---|---|---|---|")
    for name, prefix in ROWS.items():
        values = [_mean([said[prefix + score] for said in found]) for score in SCORES]
        print(f"| {name} | {' | '.join(values)} |")
    chosen = command("clusters", model, images)
    print(f"\nChosen by itself: {chosen['k']} clusters, silhouette {chosen['silhouette']:.3f}")


def _mean(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"
