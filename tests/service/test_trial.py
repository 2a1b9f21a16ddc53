"""A version is tried in a process of its own: what it breaks there, it breaks nowhere else."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from handful_bundle.bundle import Bundle
from handful_bundle.errors import BundleError
from handful_service.settings import Settings
from handful_service.trial import Trial


def live(root: Path, bad_bundles: ModuleType, nodes: list, weights: dict) -> None:
    """Let the decoder compute `nodes` first, from `latent` to `bad`, and add that times 0."""
    model = onnx.load(root / "decoder.onnx")
    first = model.graph.node[0]
    first.input[0] = "sum"
    weights = {**weights, "none": np.float32(0)}
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in weights.items())
    more = [
        *nodes,
        helper.make_node("Mul", ["bad", "none"], ["nothing"]),
        helper.make_node("Add", ["latent", "nothing"], ["sum"]),
    ]
    for place, node in enumerate(more):
        model.graph.node.insert(place, node)
    bad_bundles.resign(root, "decoder.onnx", model.SerializeToString())


def slow(root: Path, bad_bundles: ModuleType) -> None:
    """Products of 3,000 x 3,000, one after the other: small in memory, minutes of time."""
    nodes = [
        helper.make_node("ReduceMean", ["latent", "both"], ["scale"], keepdims=1),
        helper.make_node("Mul", ["ones", "scale"], ["m0"]),
        *(helper.make_node("MatMul", [f"m{i}", "ones"], [f"m{i + 1}"]) for i in range(500)),
        helper.make_node("ReduceMean", ["m500", "both"], ["bad"], keepdims=1),
    ]
    ones = np.full((3000, 3000), 1 / 3000, np.float32)
    live(root, bad_bundles, nodes, {"ones": ones, "both": np.array([0, 1])})


def greedy(root: Path, bad_bundles: ModuleType) -> None:
    """Tensors below the limit for each, and far above it together."""
    nodes = [helper.make_node("ReduceMean", ["latent", "both"], ["scale"], keepdims=1)]
    for number in range(40):
        nodes.append(helper.make_node("Expand", ["scale", "size"], [f"e{number}"]))
        nodes.append(helper.make_node("Exp", [f"e{number}"], [f"x{number}"]))
    nodes.append(helper.make_node("Sum", [f"x{i}" for i in range(40)], ["all"]))
    nodes.append(helper.make_node("ReduceMean", ["all", "both"], ["bad"], keepdims=1))
    weights = {"both": np.array([0, 1]), "size": np.array([16_384, 16_384])}
    live(root, bad_bundles, nodes, weights)


@pytest.fixture
def root(make_bundle: Callable[..., Path], tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle")


def test_a_sound_bundle_passes_once(root: Path) -> None:
    """A sound bundle passes; it is not tried again by the same process."""
    trial = Trial(Settings(trial_seconds=60))
    trial.run(root)
    (root / "encoder.onnx").unlink()
    trial.run(root)
    with pytest.raises(BundleError, match="missing or unexpected"):
        Trial(Settings(trial_seconds=60)).run(root)


def test_a_slow_model_is_given_up(root: Path, bad_bundles: ModuleType) -> None:
    """A model that computes for minutes is refused when its time is over, with the remedy."""
    slow(root, bad_bundles)
    started = time.monotonic()
    with pytest.raises(BundleError, match=r"within 4 s .*HANDFUL_TRIAL_SECONDS"):
        Trial(Settings(trial_seconds=4)).run(root)
    assert time.monotonic() - started < 60


def test_a_greedy_model_is_refused(root: Path, bad_bundles: ModuleType) -> None:
    """A model that takes more memory than is left below the ceiling is refused, and not by the
    kernel.
    """
    greedy(root, bad_bundles)
    with pytest.raises(BundleError, match=r"does not run|not fit|ended the process"):
        Trial(Settings(trial_seconds=60, memory_share=0.001)).run(root)


@pytest.mark.parametrize("under_way", [True, False])
def test_closing_ends_a_trial(root: Path, bad_bundles: ModuleType, under_way: bool) -> None:
    """A service that stops does not wait for a trial under way, nor for one that it comes upon."""
    slow(root, bad_bundles)
    trial = Trial(Settings(trial_seconds=60))

    def close() -> None:
        while under_way and trial._process is None:
            time.sleep(0.01)
        trial.close()

    closing = threading.Thread(target=close)
    closing.start()
    if not under_way:
        closing.join()
    with pytest.raises(BundleError, match="SIGKILL"):
        trial.run(root)
    closing.join()


def test_the_controls_are_bad_for_their_reason_only(root: Path, bad_bundles: ModuleType) -> None:
    """The same graph with one small product, instead of 500 large ones, is sound."""
    nodes = [
        helper.make_node("ReduceMean", ["latent", "both"], ["scale"], keepdims=1),
        helper.make_node("Mul", ["one", "scale"], ["bad"]),
    ]
    one = np.full((1, 1), 1, np.float32)
    live(root, bad_bundles, nodes, {"one": one, "both": np.array([0, 1])})
    Trial(Settings(trial_seconds=60)).run(root)
    Bundle.load(root, device="cpu", threads=1)
