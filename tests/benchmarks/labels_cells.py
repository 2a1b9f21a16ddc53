"""The cells of the bench: what each rung reaches on one draw of labels, found once and kept.

A cell is a stage of the work folder like any other: named after all that it depends on, finished
when its `done.json` is written. What was killed half-way is measured again, the rest is not.
"""

import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from handful_train import HandfulTrain
from labels_plan import RECIPES, ImageSet
from numpy.typing import NDArray

from handful_bundle.bundle import Bundle
from handful_bundle.head import Head
from handful_bundle.manifest import ImageSpec, Provenance
from handful_training import export, metrics
from handful_training.adapt import rounds
from handful_training.adapt.hold_out import hold_out
from handful_training.adapt.rounds import Kept, Labelled
from handful_training.config import Config, HeadConfig, load_config
from handful_training.embedding import embed_rows
from handful_training.graph import agreement, knn, pool_graph, prior, solve, spreading
from handful_training.graph.pool_graph import PoolGraph
from handful_training.head import (
    calibration,
    choice,
    fit,
    linear,
    nodes,
    selection,
    stacking,
    student,
    teacher,
    teaching,
)
from handful_training.head.fit import fit_head
from handful_training.labels.choice import LabelChoice
from handful_training.labels.labels import Labels
from handful_training.ladder import climb as climbing
from handful_training.ladder import known as knowing
from handful_training.ladder import rungs, spaces
from handful_training.ladder.climb import Rungs, Standing, climb
from handful_training.ladder.known import Known, Prior
from handful_training.ladder.rungs import Graph
from handful_training.ladder.spaces import Pixels, encoder_rungs
from handful_training.likelihood import held_out_elbo
from handful_training.packs.pack import Pack
from handful_training.pipeline.inputs import read_inputs
from handful_training.pipeline.networks import find_network
from handful_training.pipeline.pool_stage import open_pool
from handful_training.pipeline.work import code_digest, open_stage
from handful_training.pretrain import Budget
from handful_training.tracking import Tracker

ELBO_IMAGES = 1000  # of the test set
_CODE = (
    agreement, knn, pool_graph, prior, solve, spreading, calibration, choice, fit, linear, nodes,
    selection, stacking, student, teacher, teaching, metrics, climbing, knowing, rungs, spaces,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Data:
    """Training and test images of a set, packed at the same size."""

    set: ImageSet
    train: Pack
    test: Pack
    labels: Labels  # of all training images
    truth: NDArray[np.int64]  # of the test images, [m]

    @property
    def digest(self) -> str:
        """Of the pixels and the labels."""
        parts = (self.train.content_digest, self.test.content_digest, self.labels.digest)
        return sha256(" ".join(parts).encode()).hexdigest()

    @property
    def test_rows(self) -> NDArray[np.int64]:
        """Which rows the test images are, where they follow the training images."""
        return np.arange(len(self.test)) + len(self.train)

    def known(self, per_class: int, draw: int, prior: Prior) -> Known:
        """Return the labels of a draw, those that `--labels-per-class` and `--seed` give."""
        taken = self.labels.take(per_class, draw)
        return Known(taken.index, taken.target, len(taken.names), prior)

    def images(self) -> NDArray[np.uint8]:
        """Return the training images and after them the test images, in memory."""
        return np.concatenate([self.train.images, self.test.images])


@dataclass(frozen=True, eq=False)
class Encoded:
    """A set as an encoder sees it.

    Attributes:
        recipe: how the encoder was trained.
        bundle: of the encoder.
        embedding: of training and test images, float32 [N, E].
        graph: of the whitened embeddings of both.
    """

    recipe: str
    bundle: Bundle
    embedding: NDArray[np.float32]
    graph: PoolGraph


@dataclass(frozen=True)
class Bench:
    """Where everything is kept, and what it may cost."""

    command: HandfulTrain
    pretrain: str  # --time-budget
    adapt_seconds: float
    device: str
    settings: tuple[str, ...]  # of every recipe

    @property
    def work(self) -> Path:
        """The work folder of the commands, and of the cells."""
        return self.command.work.absolute()

    def data(self, image_set: ImageSet, spec: ImageSpec) -> Data:
        """Read a set at the size that its encoder takes."""
        sides = []
        for images, labels in (
            (image_set.train, image_set.train_labels),
            (image_set.test, image_set.test_labels),
        ):
            sides.append(
                read_inputs(images, self.work, choice=LabelChoice(labels), spec=spec, minimum=1)
            )
        train, test = sides
        assert train.labels is not None
        assert test.labels is not None
        assert train.labels.names == test.labels.names, "training and test classes differ"
        assert len(test.labels) == len(test.pack), "a test image has no label"
        return Data(image_set, train.pack, test.pack, train.labels, test.labels.target)

    def train(self, image_set: ImageSet, recipe: str) -> dict[str, Any]:
        """Train an encoder by the command, or find it trained; return what the command says."""
        settings = (*self.settings, *RECIPES[recipe])
        return self.command(
            "export", image_set.train, "--name", f"{image_set.name}-{recipe}",
            "--time-budget", self.pretrain, "--device", self.device,
            *(f"--set={setting}" for setting in settings),
        )  # fmt: skip

    def encoded(self, data: Data, bundle: Bundle, recipe: str) -> Encoded:
        """Embed both parts of a set, once."""
        stage = open_stage(
            self.work, "bench-spaces",
            {"space": bundle.manifest.space, "data": data.digest, "code": code_digest(*_CODE)},
        )  # fmt: skip
        embedding, graph = stage.folder / "embedding.npy", stage.folder / "graph.npz"
        if stage.result() is None:
            parts = [
                embed_rows(bundle.encoder, p.images).embedding for p in (data.train, data.test)
            ]
            found = np.concatenate(parts)
            np.save(embedding, found)
            # W is fitted on training images alone, as everything that is fitted.
            features = spaces.whitening_of(found[: len(data.train)])(found)
            graph.write_bytes(PoolGraph.build(features).pack())
            stage.finish({})
        return Encoded(
            recipe, bundle, np.load(embedding, mmap_mode="r"), PoolGraph.unpack(graph.read_bytes())
        )

    def elbo(self, data: Data, bundle: Bundle) -> float:
        """Return -ELBO of test images, nats."""
        stage = open_stage(
            self.work, "bench-elbo", {"files": bundle.manifest.files, "data": data.digest}
        )
        found = stage.result()
        if found is None:
            assert bundle.decoder is not None
            rows = np.linspace(0, len(data.test) - 1, min(ELBO_IMAGES, len(data.test)))
            images = np.array(data.test.images[rows.astype(np.int64)])
            elbo = held_out_elbo(images, bundle.encoder, bundle.decoder)
            found = {"neg_elbo": float(elbo.neg_elbo)}
            stage.finish(found)
        return float(found["neg_elbo"])

    def controls(self, data: Data, per_class: int, draw: int, prior: Prior) -> dict[str, Any]:
        """Return the scores of what learns nothing, by rung."""
        identity = {"data": data.digest, "per_class": per_class, "draw": draw, "prior": prior}

        def measure() -> dict[str, Standing]:
            images = data.images()
            every = np.arange(len(images))
            ladder = self._pixels(data, images).rungs(images, every)
            return self._climbed(ladder, data, per_class, draw, prior)

        return self._cell("controls", identity, measure)

    def frozen(
        self, data: Data, encoded: Encoded, per_class: int, draw: int, prior: Prior
    ) -> dict[str, Any]:
        """Return the scores of an encoder's rungs, the head that would be served among them."""
        identity = {
            "space": encoded.bundle.manifest.space, "data": data.digest,
            "per_class": per_class, "draw": draw, "prior": prior,
        }  # fmt: skip

        def measure() -> dict[str, Standing]:
            ladder = encoder_rungs(encoded.embedding, encoded.graph)
            found = self._climbed(ladder, data, per_class, draw, prior)
            known = data.known(per_class, draw, prior)
            found["vae_served"] = self._served(data, encoded, known, None)
            return found

        return self._cell("frozen", identity, measure)

    def adapted(
        self, data: Data, start: dict[str, Any] | None, spec: ImageSpec, per_class: int, draw: int
    ) -> dict[str, Any]:
        """Return the scores of an encoder trained on with the labels.

        Args:
            data: the set.
            start: what the command said that trained the encoder; None: a random start, which
                gets the seconds of the adaptation alone.
            spec: of the images.
            per_class: labels of each class.
            draw: which.
        """
        prefix = "random" if start is None else "adapted"
        config = load_config(None, self.settings)
        source: Any = spec
        if start is not None:
            tracker = Tracker.open(self.command.tracking)
            version = tracker.registry.resolve(f"{start['name']}/{start['version']}")
            space = Bundle.load(Path(start["bundle"]), device="cpu").manifest.space
            network = find_network(tracker, version, space, self.work)
            source, config = network.model, network.settings(config)
        identity = {
            "data": data.digest, "per_class": per_class, "draw": draw,
            "start": "random" if start is None else space,
            "config": config.model_dump(mode="json"), "seconds": self.adapt_seconds,
            "device": self.device, "adapt": code_digest(rounds),
        }  # fmt: skip

        def measure() -> dict[str, Standing]:
            known = data.known(per_class, draw, None)
            unseen = hold_out(known.target, config.adapt.held_out, seed=draw)
            bundle = self._adapt(data, known, source, config, identity)
            encoded = self.encoded(data, bundle, prefix)
            ladder: Rungs = {f"{prefix}_graph": Graph(encoded.graph)}
            found = self._climbed(ladder, data, per_class, draw, None)
            found[f"{prefix}_served"] = self._served(data, encoded, known, unseen)
            return found

        return self._cell(prefix, identity, measure)

    def _adapt(
        self, data: Data, known: Known, start: Any, config: Config, identity: dict[str, Any]
    ) -> Bundle:
        """Adapt as the command does, the labels that would judge it left out, and export."""
        stage = open_stage(self.work, "bench-adaptations", identity)
        folder = stage.folder / "bundle"
        if stage.result() is None:
            left_out = hold_out(known.target, config.adapt.held_out, seed=int(identity["draw"]))
            adapted = rounds.adapt(
                data.train.images,
                Labelled(known.rows[~left_out], known.target[~left_out]),
                start,
                config,
                Budget(None, self.adapt_seconds),
                kept=Kept(stage.folder, {"start": identity["start"]}),
                seed=int(identity["draw"]),
                device=self.device,  # type: ignore[arg-type]
            )
            real = np.array(data.train.images[:64])
            exported, _ = export.export(adapted.model, real)
            manifest, files = export.make_bundle(
                exported, real, name="bench", metrics={}, provenance=Provenance()
            )
            Bundle.save(folder, manifest, files)
            stage.finish({"seconds": adapted.seconds})
        return Bundle.load(folder, device="cpu")

    def _pixels(self, data: Data, images: NDArray[np.uint8]) -> Pixels:
        stage = open_stage(
            self.work, "bench-pixels", {"data": data.digest, "code": code_digest(*_CODE)}
        )
        paths = [stage.folder / name for name in ("features.npy", "graph.npz", "whitened.npz")]
        if stage.result() is None:
            found = Pixels.of(images, np.arange(len(images)), fit=data.train.images)
            np.save(paths[0], found.features)
            paths[1].write_bytes(found.graph.pack())
            paths[2].write_bytes(found.whitened.pack())
            stage.finish({})
        graphs = [PoolGraph.unpack(path.read_bytes()) for path in paths[1:]]
        return Pixels(np.load(paths[0], mmap_mode="r"), *graphs)

    def _climbed(
        self, ladder: Rungs, data: Data, per_class: int, draw: int, prior: Prior
    ) -> dict[str, Standing]:
        known = data.known(per_class, draw, prior)
        return climb(ladder, known, data.test_rows, data.truth, seed=draw)

    def _served(
        self, data: Data, encoded: Encoded, known: Known, judges: NDArray[np.bool_] | None
    ) -> Standing:
        """Fit the head as the commands do: on training images alone, to answer for others."""
        pool = open_pool(encoded.bundle, data.train, self.work)
        start = time.monotonic()
        fitted = fit_head(
            np.asarray(encoded.embedding[known.rows]),
            known.target,
            data.labels.names,
            HeadConfig(class_prior=known.prior or "estimated"),
            pool=pool,
            positions=pool.positions(known.rows),
            judges=judges,
            seed=0,
        )
        seconds = time.monotonic() - start
        head = Head.open(fitted.onnx, embedding_dim=encoded.embedding.shape[1],
                         labels=data.labels.names, device="cpu")  # fmt: skip
        return Standing(head(np.asarray(encoded.embedding[data.test_rows])), data.truth, seconds)

    def _cell(self, kind: str, identity: dict[str, Any], measure: Any) -> dict[str, Any]:
        stage = open_stage(self.work, f"bench-{kind}", {**identity, "code": code_digest(*_CODE)})
        found = stage.result()
        if found is None:
            found = {key: standing.scores() for key, standing in measure().items()}
            stage.finish(found)
        return found
