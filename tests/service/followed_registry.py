"""A real MLflow registry in a database file, and a load whose answers are all checked.

Shared by the tests of what follows the registry.
"""

import asyncio
import io
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from handful_bundle.bundle import Bundle

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

    def settings(self, cache: Path) -> dict[str, str]:
        """Return what lets a server follow this registry."""
        return {
            "MLFLOW_TRACKING_URI": self.uri,
            "HANDFUL_CACHE": str(cache),
            "HANDFUL_POLL_SECONDS": POLL,
        }

    def promote(self, name: str, version: str) -> None:
        self.client.set_registered_model_alias(name, "champion", version)


def offline(bundles: list[Path], rows: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return embeddings and probabilities of `rows` by version."""
    out = {}
    for number, root in enumerate(bundles, 1):
        bundle = Bundle.load(root, device="cpu", threads=1)
        embeddings = bundle.encoder(rows).embedding
        out[str(number)] = embeddings, bundle.head(embeddings)
    return out


class Load:
    """Requests one after the other, each answer checked against the version that it names."""

    def __init__(self, url: str, bundles: list[Path], pause: float = 0.0) -> None:
        self._url = url
        self._pause = pause  # seconds between an answer and the next request of its connection
        self._rows = np.random.default_rng(0).integers(0, 256, (300, 16, 16, 3), np.uint8)
        self._wanted = offline(bundles, self._rows)
        self._over = False
        self.answers: dict[str, int] = {}  # version → how many
        self.failed: list[str] = []  # what came instead of an answer
        self.mixed: list[str] = []  # answers whose numbers are not those of the version they name

    def run_while(
        self, flip: Callable[[httpx.AsyncClient], Any], counts: tuple[int, ...] = (1, 1, 32, 300)
    ) -> None:
        """Send requests of `counts` images until `flip` is done."""

        async def main() -> None:
            async with (
                httpx.AsyncClient(base_url=self._url, timeout=60) as client,
                asyncio.TaskGroup() as tasks,
            ):
                for count in counts:
                    for route in ("/embed", "/classify"):
                        tasks.create_task(self._send(client, route, count))
                await flip(client)
                self._over = True

        asyncio.run(main())

    async def _send(self, client: httpx.AsyncClient, route: str, count: int) -> None:
        body = io.BytesIO()
        np.save(body, self._rows[:count])
        while not self._over:
            await asyncio.sleep(self._pause)
            try:
                answer = await client.post(route, content=body.getvalue(), headers=NPY)
            except httpx.TransportError as error:
                self.failed.append(repr(error))
                continue
            if answer.status_code != 200:
                self.failed.append(answer.text)
                continue
            try:
                self._check(answer, count)
            except (AssertionError, KeyError) as error:
                self.mixed.append(str(error))

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
