"""Following a real MLflow registry: hot swap under load, refused versions, and its absence."""

import asyncio
import io
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from handful_bundle.bundle import Bundle
from handful_service import registry as service_registry
from handful_service.registry import Reference

NPY = {"Content-Type": "application/x-npy"}
POLL = "0.1"
MODEL_CODE = """\
import mlflow.models
import mlflow.pyfunc


class Echo(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: list[str], params=None) -> list[str]:
        return model_input


mlflow.models.set_model(Echo())
"""


class Registry:
    """A registry in a database file of its own."""

    def __init__(self, root: Path) -> None:
        import mlflow

        self.database = root / "mlflow.db"
        self.uri = f"sqlite:///{self.database}"
        self.root = root
        self._mlflow = mlflow
        mlflow.set_tracking_uri(self.uri)
        self.client = mlflow.MlflowClient(self.uri, self.uri)
        self._experiment = self.client.create_experiment("e", (root / "artifacts").as_uri())

    def log(self, name: str, bundle: Path) -> str:
        """Register `bundle` as training does: an MLflow model with the bundle as an artifact."""
        code = self.root / "model_code.py"
        code.write_text(MODEL_CODE)
        with (
            warnings.catch_warnings(),
            self._mlflow.start_run(experiment_id=self._experiment),
        ):
            warnings.simplefilter("ignore")  # advice on how else to write the model's code
            logged = self._mlflow.pyfunc.log_model(
                name=name,
                python_model=str(code),
                artifacts={"bundle": str(bundle)},
                pip_requirements=["numpy"],
                registered_model_name=name,
            )
        return str(logged.registered_model_version)

    def add(self, name: str, bundle: Path) -> str:
        """Register `bundle` in the same layout, without the minutes of MLflow's own checks."""
        folder = self.root / "sources" / f"{name}-{len(list(self.root.glob('sources/*')))}"
        shutil.copytree(bundle, folder / "artifacts" / "bundle")
        return str(self.client.create_model_version(name, folder.as_uri()).version)

    def promote(self, name: str, version: str) -> None:
        self.client.set_registered_model_alias(name, "champion", version)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """One for the module: MLflow takes seconds to make its tables."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what MLflow's own imports deprecate
        return Registry(tmp_path_factory.mktemp("registry"))


@pytest.fixture(scope="module")
def bundles(
    tmp_path_factory: pytest.TempPathFactory, make_bundle: Callable[..., Path]
) -> list[Path]:
    """Three models: the second differs from the first in its head, the third in its encoder."""
    root = tmp_path_factory.mktemp("versions")
    return [
        make_bundle(root / "a" / "bundle"),
        make_bundle(root / "b" / "bundle", head_seed=1),
        make_bundle(root / "c" / "bundle", seed=1),
    ]


@pytest.fixture(scope="module")
def name(registry: Registry, bundles: list[Path]) -> str:
    """A registered model with the three as versions 1, 2 and 3."""
    registry.log("animals", bundles[0])
    for bundle in bundles[1:]:
        registry.add("animals", bundle)
    registry.promote("animals", "1")
    return "animals"


def settings(registry: Registry, cache: Path) -> dict[str, str]:
    return {
        "MLFLOW_TRACKING_URI": registry.uri,
        "HANDFUL_CACHE": str(cache),
        "HANDFUL_POLL_SECONDS": POLL,
    }


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def follower(serve_session, registry: Registry, name: str, cache: Path) -> Any:
    """A server that follows the champion, started with an empty cache."""
    return serve_session(f"models:/{name}@champion", **settings(registry, cache)).wait_ready()


@pytest.fixture
def server(follower: Any, registry: Registry, name: str) -> Any:
    """The follower, back at version 1."""
    registry.promote(name, "1")
    follower.wait_until(lambda: version_of(follower) == "1")
    return follower


def version_of(server: Any) -> str:
    return server.client.get("/livez").headers["X-Model-Version"]


def offline(bundles: list[Path], rows: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return embeddings and probabilities of `rows` by version."""
    out = {}
    for number, root in enumerate(bundles, 1):
        bundle = Bundle.load(root, device="cpu", threads=1)
        embeddings = bundle.encoder(rows).embedding
        out[str(number)] = embeddings, bundle.head(embeddings)
    return out


class Load:
    """Requests without pause, each answer checked against the version that it names."""

    def __init__(self, url: str, bundles: list[Path]) -> None:
        self._url = url
        self._rows = np.random.default_rng(0).integers(0, 256, (300, 16, 16, 3), np.uint8)
        self._wanted = offline(bundles, self._rows)
        self._over = False
        self.answers: dict[str, int] = {}  # version → how many

    def run_while(self, flip: Callable[[httpx.AsyncClient], Any]) -> None:
        async def main() -> None:
            async with (
                httpx.AsyncClient(base_url=self._url, timeout=60) as client,
                asyncio.TaskGroup() as tasks,
            ):
                for count in (1, 1, 7, 300):
                    for route in ("/embed", "/classify"):
                        tasks.create_task(self._send(client, route, count))
                await flip(client)
                self._over = True

        asyncio.run(main())

    async def _send(self, client: httpx.AsyncClient, route: str, count: int) -> None:
        body = io.BytesIO()
        np.save(body, self._rows[:count])
        while not self._over:
            answer = await client.post(route, content=body.getvalue(), headers=NPY)
            assert answer.status_code == 200, answer.text
            self._check(answer, count)

    def _check(self, answer: httpx.Response, count: int) -> None:
        version, found = answer.headers["X-Model-Version"], answer.json()
        assert found["model"]["version"] == version
        assert found["model"]["space"] == answer.headers["X-Embedding-Space"]
        embeddings, probabilities = self._wanted[version]
        if "embeddings" in found:
            values, wanted = found["embeddings"], embeddings
        else:
            values = [list(p["probabilities"].values()) for p in found["predictions"]]
            wanted = probabilities
        np.testing.assert_allclose(values, wanted[:count], rtol=1e-5, atol=1e-6)
        self.answers[version] = self.answers.get(version, 0) + 1


def test_hot_swap_under_load(server, registry, name, bundles) -> None:
    """While versions are swapped under load no request fails, and each answer is wholly of the one
    version that its header names; files come over once.
    """
    swaps = server.metric("handful_swaps_total")
    fetched = server.metric("handful_fetched_bytes_total")
    order = ["2", "3", "1", "3", "2", "1"]

    async def flip(client: httpx.AsyncClient) -> None:
        async with asyncio.timeout(120):
            for version in order:
                await asyncio.to_thread(registry.promote, name, version)
                while (await client.get("/livez")).headers["X-Model-Version"] != version:
                    continue

    load = Load(server.url, bundles)
    load.run_while(flip)
    assert set(load.answers) == {"1", "2", "3"}
    assert server.metric("handful_swaps_total") == swaps + len(order)
    assert server.metric("handful_swap_failures_total") == 0
    # Version 2 has the encoder and decoder of 1, and what was here once stays: beyond the files
    # that 2 and 3 have of their own, only a manifest is read for each look at a version.
    files = {file.read_bytes() for root in bundles for file in root.iterdir()}
    new = files - {file.read_bytes() for file in bundles[0].iterdir()}
    manifests = len(order) * max((root / "manifest.json").stat().st_size for root in bundles)
    more = server.metric("handful_fetched_bytes_total") - fetched
    assert more <= sum(len(data) for data in new) + manifests


def test_refused_versions_leave_the_old_one(
    server, registry, name, make_bundle, cache, tmp_path
) -> None:
    """A version that is cut off, altered, for other pixels code or no bundle at all is refused and
    counted; the old one answers on, and a good one is taken after.
    """
    # New ones: files that the cache has already are not fetched, so cannot arrive damaged.
    cut = make_bundle(tmp_path / "cut" / "bundle", head_seed=5)
    whole = (cut / "head.onnx").read_bytes()
    (cut / "head.onnx").write_bytes(whole[: len(whole) // 2])
    flipped = make_bundle(tmp_path / "flipped" / "bundle", seed=6)
    data = bytearray((flipped / "encoder.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (flipped / "encoder.onnx").write_bytes(data)
    other = make_bundle(tmp_path / "other" / "bundle", seed=7)
    manifest = (other / "manifest.json").read_text()
    (other / "manifest.json").write_text(
        manifest.replace('"pixels_version": 1', '"pixels_version": 99')
    )
    empty = tmp_path / "empty" / "bundle"
    empty.mkdir(parents=True)
    (empty / "readme").write_text("no bundle")
    for broken in (cut, flipped, other, empty):
        before = server.metric("handful_swap_failures_total")
        registry.promote(name, registry.add(name, broken))
        server.wait_until(lambda n=before: server.metric("handful_swap_failures_total") > n)
        assert version_of(server) == "1"
        assert server.status("/readyz") == 200
        assert server.metric("handful_model_behind") == 1
    registry.promote(name, "2")
    server.wait_until(lambda: version_of(server) == "2")
    server.wait_until(lambda: server.metric("handful_model_behind") == 0)
    assert "Traceback" not in server.logged()
    assert not list((cache / "partial").iterdir())


def test_registry_away(server, serve, registry, name, cache, tmp_path) -> None:
    """Without the registry a server answers on, a new one starts from the cache, and one whose
    cache is empty or damaged is alive but not ready until the registry is back.
    """
    hidden = registry.database.with_suffix(".hidden")
    registry.database.rename(hidden)
    damaged = shutil.copytree(cache, tmp_path / "damaged")
    for encoder in damaged.glob("bundles/*/encoder.onnx"):
        whole = encoder.read_bytes()
        encoder.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        failed = 'handful_registry_polls_total{outcome="failed"}'
        before = server.metric(failed)
        server.wait_until(lambda: server.metric(failed) > before)
        assert server.status("/readyz") == 200
        assert version_of(server) == "1"

        champion = f"models:/{name}@champion"
        again = serve(champion, **settings(registry, cache)).wait_ready()
        assert version_of(again) == "1"
        assert again.metric("handful_fetched_bytes_total") == 0
        again.stop()

        bare = serve(champion, **settings(registry, damaged))
        bare.wait_until(lambda: "cache is empty" in bare.client.get("/readyz").text)
        assert "the cached bundle is not used" in bare.logged()
        assert bare.status("/livez") == 200
        answer = bare.client.post("/embed", content=b"x", headers={"Content-Type": "image/png"})
        assert answer.status_code == 503
        assert answer.json()["code"] == "not_ready"
        assert answer.json()["retryable"] is True
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.headers["X-Model-Version"] == "none"
        assert str(registry.root) not in bare.client.get("/readyz").text
    finally:
        hidden.rename(registry.database)
    bare.wait_ready()
    assert version_of(bare) == "1"
    assert bare.metric("handful_fetched_bytes_total") > len(whole)


def test_pinned_version(registry, name, bundles, tmp_path, monkeypatch) -> None:
    """models:/NAME/VERSION means that version, and its files, whatever the champion is."""
    reference = Reference.parse(f"models:/{name}/3")
    assert reference == Reference(name, None, "3")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.uri)
    following = service_registry.Registry(reference)
    assert following.resolve() == "3"
    (tmp_path / "folder").mkdir()
    target = tmp_path / "folder" / "head.onnx"
    following.download("3", "head.onnx", target)
    assert target.read_bytes() == (bundles[2] / "head.onnx").read_bytes()


@pytest.mark.parametrize(
    "text",
    ["models:/", "models:/a", "models:/a@", "models:/a/b", "models:/a@b/c", "models:/a/../1"],
)
def test_other_references_are_refused(text) -> None:
    """Whatever is neither NAME@ALIAS nor NAME/VERSION is refused with both forms named."""
    with pytest.raises(service_registry.RegistryError, match="NAME@ALIAS, models:/NAME/VERSION"):
        Reference.parse(text)
