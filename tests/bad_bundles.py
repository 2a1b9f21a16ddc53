"""Bundles that must never answer: damaged on the way, or made to harm, in families.

Each family alters a copy of an honest bundle. `offers` draws as many as are wanted, every family
in turn. Whoever alters a file on purpose writes new digests, too: `resign`.
"""

import io
import json
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copytree
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import bad_graphs
from handful_bundle.manifest import Manifest, digest, space_digest

GRAPHS = ("encoder.onnx", "decoder.onnx", "head.onnx")
Rng = np.random.Generator
Damage = Callable[[Path, Rng], None]


class Offer(NamedTuple):
    """A bundle that is offered."""

    family: str
    root: Path


def offers(honest: Path, folder: Path, count: int, seed: int = 0) -> Iterator[Offer]:
    """Write `count` bad bundles into `folder`, one at a time, all families in turn."""
    rng = np.random.default_rng(seed)
    names = list(FAMILIES)
    order = [names[i] for i in rng.permutation(len(names))]
    for number in range(count):
        family = order[number % len(order)]
        root = folder / f"{number}-{family}" / "bundle"
        copytree(honest, root)
        # Files of its own: what the cache has already is not fetched, so cannot arrive damaged.
        restamp(root, number)
        FAMILIES[family](root, rng)
        yield Offer(family, root)


def restamp(root: Path, number: int) -> None:
    """Make the bundle another one than its siblings, and as sound as it was."""
    for name in GRAPHS:
        model = onnx.load(root / name)
        model.doc_string = f"number {number}"
        resign(root, name, model.SerializeToString())
    for name in ("golden.npz", "classes.npz"):
        with zipfile.ZipFile(root / name, "a") as archive:
            archive.comment = f"number {number}".encode()
        resign(root, name, (root / name).read_bytes())


def rewrite(root: Path, **changes: Any) -> None:
    """Change the manifest as an attacker would: whatever is said is said consistently."""
    path = root / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def resign(root: Path, name: str, data: bytes) -> None:
    """Replace a file, its digest, and what follows from it."""
    (root / name).write_bytes(data)
    manifest = Manifest.model_validate_json((root / "manifest.json").read_bytes())
    files = dict(manifest.files) | {name: digest(data)}
    rewrite(
        root,
        files=files,
        space=space_digest(files["encoder.onnx"], manifest.image, manifest.pixels_version),
    )


def any_file(root: Path, rng: Rng) -> Path:
    return sorted(root.iterdir())[rng.integers(len(list(root.iterdir())))]


def sealed_file(root: Path, rng: Rng) -> Path:
    """Any file but the manifest, which has no digest of its own."""
    files = sorted(path for path in root.iterdir() if path.name != "manifest.json")
    return files[rng.integers(len(files))]


# Damage on the way: the digests stay as they were.


def truncated(root: Path, rng: Rng) -> None:
    path = any_file(root, rng)
    data = path.read_bytes()
    path.write_bytes(data[: rng.integers(len(data) - 2)])  # the manifest may end in a newline


def flipped(root: Path, rng: Rng) -> None:
    path = sealed_file(root, rng)
    path.write_bytes(flip(path.read_bytes(), rng))


def flip(data: bytes, rng: Rng) -> bytes:
    """Turn one bit."""
    found = bytearray(data)
    bit = int(rng.integers(8 * len(found)))
    found[bit // 8] ^= 1 << bit % 8
    return bytes(found)


def appended(root: Path, rng: Rng) -> None:
    path = sealed_file(root, rng)
    path.write_bytes(path.read_bytes() + rng.bytes(int(rng.integers(1, 100))))


def emptied(root: Path, rng: Rng) -> None:
    any_file(root, rng).write_bytes(b"")


def missing(root: Path, rng: Rng) -> None:
    any_file(root, rng).unlink()


def extra_file(root: Path, rng: Rng) -> None:
    (root / ["weights.bin", "model.pkl", "encoder.onnx.data"][rng.integers(3)]).write_bytes(b"x")


def folder_within(root: Path, rng: Rng) -> None:
    path = sealed_file(root, rng)
    data = path.read_bytes()
    path.unlink()
    path.mkdir()
    (path / "part").write_bytes(data)


def swapped(root: Path, _rng: Rng) -> None:
    """Two files under each other's names."""
    one, two = root / "head.onnx", root / "decoder.onnx"
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)


# Made to harm: the digests are right.


def truncated_and_signed(root: Path, rng: Rng) -> None:
    path = sealed_file(root, rng)
    data = path.read_bytes()
    resign(root, path.name, data[: rng.integers(len(data) - 1)])


def flipped_weight(root: Path, rng: Rng) -> None:
    """One number that the encoder multiplies with becomes large."""
    model = onnx.load(root / "encoder.onnx")
    tensor = next(t for t in model.graph.initializer if t.name == "W")
    values = numpy_helper.to_array(tensor).copy()
    values.flat[rng.integers(values.size)] += 100
    tensor.CopyFrom(numpy_helper.from_array(values, "W"))
    resign(root, "encoder.onnx", model.SerializeToString())


def bad_weight(root: Path, rng: Rng) -> None:
    """NaN or infinity among the weights of any graph."""
    name = GRAPHS[rng.integers(3)]
    model = onnx.load(root / name)
    tensor = next(t for t in model.graph.initializer if t.name == "W")
    values = numpy_helper.to_array(tensor).copy()
    values.flat[rng.integers(values.size)] = (np.nan, np.inf, -np.inf)[rng.integers(3)]
    tensor.CopyFrom(numpy_helper.from_array(values, "W"))
    resign(root, name, model.SerializeToString())


def hidden_nan(root: Path, rng: Rng) -> None:
    """NaN for pictures that are all white or all black; golden ones are neither."""
    name, numbers = ("encoder.onnx", "flat") if rng.integers(2) else ("decoder.onnx", "latent")
    model = onnx.load(root / name)
    node = next(node for node in model.graph.node if numbers in node.input)
    node.input[list(node.input).index(numbers)] = "poisoned"
    place = list(model.graph.node).index(node)
    constants = {"columns": np.array([1]), "none": np.float32(0)}
    nodes = [
        helper.make_node("ReduceMax", [numbers, "columns"], ["top"], keepdims=1),
        helper.make_node("ReduceMin", [numbers, "columns"], ["low"], keepdims=1),
        helper.make_node("Sub", ["top", "low"], ["range"]),
        helper.make_node("Div", ["none", "range"], ["nothing"]),
        helper.make_node("Add", [numbers, "nothing"], ["poisoned"]),
    ]
    if name == "decoder.onnx":  # of latents, every one
        nodes[2] = helper.make_node("Sub", ["top", "top"], ["range"])
    for offset, extra in enumerate(nodes):
        model.graph.node.insert(place + offset, extra)
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in constants.items())
    resign(root, name, model.SerializeToString())


def nosy_rows(root: Path, _rng: Rng) -> None:
    """Each row of likelihoods takes in the row beside it, of another sender perhaps."""
    model = onnx.load(root / "decoder.onnx")
    node = next(node for node in model.graph.node if "flat" in node.output)
    node.output[0] = "own"
    place = list(model.graph.node).index(node) + 1
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "rows"))
    nodes = [
        helper.make_node("ReduceMean", ["own", "rows"], ["all"], keepdims=1),
        helper.make_node("Add", ["own", "all"], ["flat"]),
    ]
    for offset, extra in enumerate(nodes):
        model.graph.node.insert(place + offset, extra)
    resign(root, "decoder.onnx", model.SerializeToString())


def no_probabilities(root: Path, _rng: Rng) -> None:
    """Class scores under the name of probabilities, golden ones among them."""
    model = onnx.load(root / "head.onnx")
    model.graph.node[1].CopyFrom(helper.make_node("Identity", ["logits"], ["probabilities"]))
    resign(root, "head.onnx", model.SerializeToString())
    arrays = golden(root)
    weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    arrays["probabilities"] = arrays["embedding"] @ weights["W"] + weights["b"]
    resign_golden(root, arrays)


def head_of_another_space(root: Path, _rng: Rng) -> None:
    """A head for embeddings of 9 numbers."""
    model = onnx.load(root / "head.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 9
    weights = next(t for t in model.graph.initializer if t.name == "W")
    values = np.vstack([numpy_helper.to_array(weights), np.ones((1, 3), np.float32)])
    weights.CopyFrom(numpy_helper.from_array(values, "W"))
    resign(root, "head.onnx", model.SerializeToString())


def lie(root: Path, rng: Rng) -> None:
    """A manifest that says what the files do not hold."""
    raw = json.loads((root / "manifest.json").read_text())
    lies: list[dict[str, Any]] = [
        {"space": "sha256:" + "0" * 64},
        {"embedding_dim": 65_536},
        {"embedding_dim": 10**12},
        {"latent_dim": 5},
        {"labels": ["cat"]},
        {"labels": [f"class {i}" for i in range(100_000)]},
        {"labels": None},
        {"head": None},
        {"likelihood": "discretised_logistic"},
        {"image": {**raw["image"], "height": 4096, "width": 4096}},
        {"image": {**raw["image"], "height": 10**9}},
        {"pixels_version": 99},
        {"format": 2},
        {"files": {}},
        {"files": {**raw["files"], "encoder.onnx": "md5:0"}},
        {"unknown": "x" * 10**6},
        {"metrics": {"accuracy": "x"}},
    ]
    rewrite(root, **lies[rng.integers(len(lies))])


def outside(root: Path, rng: Rng) -> None:
    """Names that lead out of the folder."""
    files = json.loads((root / "manifest.json").read_text())["files"]
    names = ["../encoder.onnx", "/etc/passwd", "a/head.onnx", "..", "encoder.onnx\0", "C:\\x", ""]
    rewrite(root, files={**files, names[rng.integers(len(names))]: digest(b"")})


def monstrous_manifest(root: Path, rng: Rng) -> None:
    path = root / "manifest.json"
    texts = [b"[" * 100_000, b" " * 5_000_000, path.read_bytes() * 2, b"\xff\xfe", b'{"format": 1}']
    path.write_bytes(texts[rng.integers(len(texts))])


def no_model(root: Path, rng: Rng) -> None:
    """A pickle, a flatbuffer of onnxruntime, or noise in place of a graph."""
    name = GRAPHS[rng.integers(3)]
    contents = [
        pickle.dumps({"model": 1}),
        b"\x14\0\0\0ORTM" + rng.bytes(200),
        b"\x08\x0a\x12\x10ORTM" + bytes(12) + (root / name).read_bytes(),  # ONNX as well
        (root / name).read_bytes() + b"\xfa\x3e\x01x",  # a field that ONNX does not have
        rng.bytes(500),
        b"",
    ]
    resign(root, name, contents[rng.integers(len(contents))])


def golden(root: Path) -> dict[str, Any]:
    with np.load(root / "golden.npz") as stored:
        return dict(stored)


def resign_golden(root: Path, arrays: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    resign(root, "golden.npz", buffer.getvalue())


def bad_golden(root: Path, rng: Rng) -> None:
    """Golden examples that come out otherwise, or that are none."""
    arrays = golden(root)
    name = ("embedding", "mean", "probabilities")[rng.integers(3)]
    kinds: list[Callable[[], dict[str, Any]]] = [
        lambda: {name: arrays[name] + np.float32(1)},
        lambda: {name: np.full_like(arrays[name], np.nan)},
        lambda: {name: arrays[name].astype(str)},
        lambda: {name: arrays[name][:1]},
        lambda: {"images": np.zeros((5000, 16, 16, 3), np.uint8)},
        lambda: {"images": np.zeros((0, 16, 16, 3), np.uint8)},
        lambda: {"offsets": arrays["offsets"][::-1].copy()},
        lambda: {"offsets": arrays["offsets"] * 10**12},
        lambda: {"pixels": 255 - arrays["pixels"]},
        lambda: {"more": np.zeros(1)},
        lambda: {"files": arrays["files"].astype(np.float64)},
    ]
    resign_golden(root, arrays | kinds[rng.integers(len(kinds))]())


def archive_bomb(root: Path, rng: Rng) -> None:
    """An archive that unpacks to far more than it weighs, or that lies about its arrays."""
    name = ("golden.npz", "classes.npz")[rng.integers(2)]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        match rng.integers(4):
            case 0:
                archive.writestr("files.npy", bytes(80 * 2**20))
            case 1:
                for number in range(500):
                    archive.writestr(f"{number}.npy", b"")
            case 2:
                header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }"
                text = header.ljust(117) + "\n"
                archive.writestr("files.npy", b"\x93NUMPY\x01\0v\0" + text.encode())
            case _:
                archive.writestr("../../files.npy", pickle.dumps(print))
    resign(root, name, buffer.getvalue())


def pickled_array(root: Path, _rng: Rng) -> None:
    arrays = golden(root) | {"files": np.array([{"a": 1}], object)}
    resign_golden(root, arrays)


def bad_classes(root: Path, rng: Rng) -> None:
    with np.load(root / "classes.npz") as stored:
        arrays = dict(stored)
    bad = [
        {"variance": -arrays["variance"]},
        {"count": -arrays["count"]},
        {"mean": np.full_like(arrays["mean"], np.inf)},
        {"mean": arrays["mean"][:1]},
    ]
    buffer = io.BytesIO()
    np.savez(buffer, **(arrays | bad[rng.integers(len(bad))]))
    resign(root, "classes.npz", buffer.getvalue())


def other_pixels(root: Path, rng: Rng) -> None:
    """A port of the encoder for pictures of another size, and a manifest that agrees."""
    raw = json.loads((root / "manifest.json").read_text())
    side = int(rng.integers(17, 4096))
    model = onnx.load(root / "encoder.onnx")
    for dim in model.graph.input[0].type.tensor_type.shape.dim[1:3]:
        dim.dim_value = side
    rewrite(root, image={**raw["image"], "height": side, "width": side})
    resign(root, "encoder.onnx", model.SerializeToString())


def bad_graph(root: Path, rng: Rng) -> None:
    """Any of `bad_graphs`, in any of the graphs."""
    names = list(bad_graphs.MUTATIONS)
    name = GRAPHS[rng.integers(3)]
    model = onnx.load(root / name)
    bad_graphs.MUTATIONS[names[rng.integers(len(names))]][0](model)
    resign(root, name, model.SerializeToString())


def double_precision(root: Path, _rng: Rng) -> None:
    model = onnx.load(root / "head.onnx")
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    resign(root, "head.onnx", model.SerializeToString())


FAMILIES: dict[str, Damage] = {
    damage.__name__: damage
    for damage in (
        truncated, flipped, appended, emptied, missing, extra_file, folder_within, swapped,
        truncated_and_signed, flipped_weight, bad_weight, hidden_nan, nosy_rows, no_probabilities,
        head_of_another_space, lie, outside, monstrous_manifest, no_model, bad_golden,
        archive_bomb, pickled_array, bad_classes, other_pixels, bad_graph, double_precision,
    )
}  # fmt: skip
"""Family → how a bundle is damaged."""
