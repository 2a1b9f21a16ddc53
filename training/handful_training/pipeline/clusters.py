"""The command that groups images by what a version's encoder makes of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handful_bundle.bundle import Bundle
from handful_bundle.session import Device
from handful_training.clusters.agreement import Agreement, agreement
from handful_training.clusters.features import embedding_features, pixel_features
from handful_training.clusters.kmeans import CANDIDATES, Clustering, choose_k, find_clusters
from handful_training.clusters.page import clusters_page, known_of
from handful_training.errors import TrainingError
from handful_training.labels.choice import LabelChoice
from handful_training.labels.labels import Labels
from handful_training.packs.pack import Pack
from handful_training.pages.write import check_folder, write_page
from handful_training.pipeline.fetch import fetch
from handful_training.pipeline.finish import run_folder
from handful_training.pipeline.inputs import read_inputs
from handful_training.pipeline.work import work_folder
from handful_training.progress import progress
from handful_training.sources.table import write_table
from handful_training.tracking import Tracker, origin

TABLE = "clusters.csv"
MODEL = "this model"
CONTROLS = {"pca": "PCA(50) of pixels", "pca_whitened": "PCA(50) of pixels, half whitened"}


@dataclass(frozen=True, eq=False)
class Found:
    """A clustering and what it was compared with.

    Attributes:
        clustering: of all images.
        tried: silhouette by number of clusters, where that was chosen.
        model: agreement of the clustering with the labels; None without labels.
        controls: that of the controls, by their key in `CONTROLS`.
    """

    clustering: Clustering
    tried: dict[int, float]
    model: Agreement | None
    controls: dict[str, Agreement]

    @property
    def criterion(self) -> str:
        """How the number of clusters came about."""
        return "largest silhouette" if self.tried else "given"

    def numbers(self) -> dict[str, float]:
        """Return the figures for MLflow and `--json`."""
        named = self.model.named() if self.model else {}
        for key, scores in self.controls.items():
            named |= scores.named(f"baseline_{key}_")
        return {"silhouette": self.clustering.silhouette, **named}


def clusters(
    reference: str,
    images: str,
    k: int | None,
    choice: LabelChoice | None,
    *,
    output: Path | None,
    seed: int,
    device: Device,
) -> dict[str, Any]:
    """Group all readable images; write a table, contact sheets and one HTML page.

    Args:
        reference: of a version.
        images: what IMAGES names.
        k: number of clusters; None: by the largest silhouette.
        choice: labels to compare with. They play no part in the grouping.
        output: folder; None: one in the work folder.
        seed: of everything that is drawn.
        device: where the encoder runs.

    Raises:
        InputError: the images cannot be used, or are too few or too much alike.
    """
    check_folder(output)
    work = work_folder()
    tracker = Tracker.open(work=work)
    version, bundle = fetch(tracker, reference, work, device)
    inputs = read_inputs(images, work, choice=choice, spec=bundle.manifest.image, minimum=2)
    pack, labels = inputs.pack, inputs.labels
    found = find(bundle, pack.images, labels, k, seed=seed)
    page = _page(version.name, version.version, found, pack, labels, seed)
    with tracker.run(version.name, title="clusters", tags=origin()) as run:
        run.params({"version": version.version, "criterion": found.criterion, "seed": seed})
        run.dataset(
            f"{version.name}-clusters",
            pack.content_digest,
            source=images,
            context="clusters",
            profile={"images": len(pack), "labels": len(labels) if labels is not None else 0},
        )
        run.metrics({"clusters": len(found.clustering.sizes), **found.numbers()})
        folder = output or run_folder(work, version.name, run)
        written = [*write_page(page, folder), _write_table(found.clustering, pack, folder / TABLE)]
        for path in written:  # not the folder: it may hold what is not ours
            run.artifacts(path, folder="clusters")
    return {
        "name": version.name,
        "version": version.version,
        "images": len(pack),
        "rejected": len(pack.rejected),
        "labels": len(labels) if labels is not None else 0,
        "k": len(found.clustering.sizes),
        "k_chosen_by": found.criterion,
        "sizes": found.clustering.sizes.tolist(),
        **found.numbers(),
        "folder": str(folder),
        "page": str(written[0]),
        "table": str(written[-1]),
    }


def find(
    bundle: Bundle, images: NDArray[np.uint8], labels: Labels | None, k: int | None, *, seed: int
) -> Found:
    """Group images, and the controls as well where there are labels to compare with."""
    steps = 2 + (len(CANDIDATES) if k is None else 0) + (2 if labels is not None else 0)
    with progress(steps, desc="Grouping", unit="step") as bar:
        features = embedding_features(bundle.encoder, images, seed=seed)
        bar.update()
        tried: dict[int, float] = {}
        if k is None:
            k, tried = choose_k(features, seed=seed, advance=bar.update)
        clustering = find_clusters(features, k, seed=seed)
        bar.update()
        del features
        controls: dict[str, Agreement] = {}
        if labels is None:
            return Found(clustering, tried, None, controls)
        for key in CONTROLS:
            control = pixel_features(images, seed=seed, whitened=key == "pca_whitened")
            grouped = find_clusters(control, k, seed=seed)
            controls[key] = agreement(grouped.cluster[labels.index], labels.target)
            bar.update()
    model = agreement(clustering.cluster[labels.index], labels.target)
    return Found(clustering, tried, model, controls)


def _page(
    name: str, version: str, found: Found, pack: Pack, labels: Labels | None, seed: int
) -> Any:
    known = None
    if labels is not None and found.model is not None:
        scores = {MODEL: found.model} | {CONTROLS[key]: s for key, s in found.controls.items()}
        known = known_of(found.clustering, labels.index, labels.target, labels.names, scores)
    facts = (
        ("model", f"{name}, version {version}"),
        ("images", f"{len(pack):,}"),
        ("clusters", f"{len(found.clustering.sizes)} ({found.criterion})"),
        ("silhouette", f"{found.clustering.silhouette:.3f}"),
        ("seed", f"{seed}"),
    )
    keys = pack.keys
    return clusters_page(
        name, found.clustering, pack.images, keys.__getitem__, known, found.tried, facts=facts
    )


def _write_table(clustering: Clustering, pack: Pack, path: Path) -> Path:
    def rows() -> Iterator[tuple[str, str, str]]:
        columns = zip(
            pack.keys, clustering.cluster.tolist(), clustering.distance.tolist(), strict=True
        )
        for key, cluster, distance in columns:
            yield key, str(cluster), f"{distance:.6f}"

    unfinished = path.with_name(f".{path.name}.tmp")
    try:
        write_table(unfinished, ("path", "cluster", "distance"), rows())
        unfinished.replace(path)
    except OSError as error:
        raise TrainingError(f"cannot write {path} ({error}); free some space") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return path
