"""Put a bundle into MLflow as a model that `mlflow models serve` can run, and get it out again."""

import base64
import shutil
import sys
import tempfile
import threading
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import handful_bundle
from handful_bundle.bundle import Bundle, read_manifest
from handful_bundle.errors import BundleError
from handful_bundle.manifest import Manifest
from handful_bundle.pixels import encode_png
from handful_training.errors import TrainingError
from handful_training.gate import OutOfFold
from handful_training.tracking.lineage import MANIFEST_TAG, manifest_digest
from handful_training.tracking.store import Store, quiet

FOLDER = "artifacts/bundle"  # where a version keeps its bundle: the service reads it there too
OUT_OF_FOLD = "artifacts/out_of_fold.npz"
SCRIPT = Path(__file__).with_name("pyfunc.py")
REQUIRED = ("mlflow", "numpy", "onnx", "pandas", "pillow", "pydantic", "simplejpeg")
RUNTIMES = ("onnxruntime-gpu", "onnxruntime")
GPU_WHEELS = "sys_platform == 'linux' and platform_machine == 'x86_64'"
NO_GPU_WHEELS = "sys_platform != 'linux' or platform_machine != 'x86_64'"

_logging = threading.Lock()  # MLflow tries the model out in this process, through globals


class Logged(NamedTuple):
    """A model that is logged with a run and not yet a version of anything."""

    model_id: str
    place: str  # URI of its files


def log_bundle(
    store: Store,
    experiment: str,
    run_id: str,
    bundle_dir: Path,
    out_of_fold: OutOfFold | None = None,
) -> Logged:
    """Log the bundle with the run, and check what MLflow then holds.

    Raises:
        TrainingError: MLflow failed, or holds something else; no logged model stays.
    """
    # Made here rather than by `log`, which would put it into the process's default experiment
    # and tag it with the user's name.
    with store.errors():
        made = store.client.create_logged_model(
            experiment,
            name="bundle",
            source_run_id=run_id,
            tags={MANIFEST_TAG: manifest_digest(bundle_dir)},
        )
    logged = Logged(str(made.model_id), str(made.artifact_location))
    try:
        manifest = read_manifest(bundle_dir)
        _upload(store, logged, run_id, bundle_dir, manifest, out_of_fold)
        _check_upload(store, logged, manifest)
    except BaseException:
        discard(store, logged.model_id)
        raise
    return logged


def discard(store: Store, model_id: str) -> None:
    """Delete a logged model, if MLflow still lets us: it is no version's."""
    with suppress(TrainingError), store.errors():
        store.client.delete_logged_model(model_id)


def discard_leftovers(store: Store, experiment: str, run_id: str, digest: str) -> None:
    """Delete logged models of this bundle that attempts which came to nothing left behind.

    They come from a connection that was lost: the answer to a request that MLflow then repeated,
    or the word that it should be undone. What a run that is under way is uploading stays.
    """
    client = store.client
    with suppress(TrainingError), store.errors():  # tidiness: the next attempt has another go
        for model in client.search_logged_models(
            [experiment], f"tags.`{MANIFEST_TAG}` = '{digest}'"
        ):
            run = client.get_run(model.source_run_id)
            under_way = run.info.status == "RUNNING" and run.info.run_id != run_id
            if not under_way and not client.search_model_versions(
                f"source_path = 'models:/{model.model_id}'", max_results=1
            ):
                discard(store, model.model_id)


def _upload(
    store: Store,
    logged: Logged,
    run_id: str,
    bundle_dir: Path,
    manifest: Manifest,
    out_of_fold: OutOfFold | None,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        staged = Path(folder)
        shutil.copytree(bundle_dir, staged / Path(FOLDER).name)
        artifacts = {"bundle": str(staged / Path(FOLDER).name)}
        if out_of_fold is not None:
            path = staged / Path(OUT_OF_FOLD).name
            path.write_bytes(out_of_fold.pack())
            artifacts["out_of_fold"] = str(path)
        # A copy: MLflow notes the path that it was given, and ours may hold somebody's name.
        script = shutil.copy(SCRIPT, staged)
        with _logging, quiet(), store.errors():
            search_path = list(sys.path)
            try:
                store.mlflow.models.Model.log(
                    artifact_path=None,
                    model_id=logged.model_id,
                    flavor=store.mlflow.pyfunc,
                    flavor_name="pyfunc.ModelFromCode",
                    run_id=run_id,
                    python_model=str(script),
                    code_paths=[str(Path(handful_bundle.__file__).parent)],
                    artifacts=artifacts,
                    signature=_signature(store, manifest),
                    input_example=_example(manifest),
                    pip_requirements=requirements(),
                )
            finally:  # the copy of handful_bundle that it put first is gone by now
                sys.path[:] = search_path


def _check_upload(store: Store, logged: Logged, sent: Manifest) -> None:
    with tempfile.TemporaryDirectory() as folder:
        if read_manifest(fetch_bundle(store, logged.place, Path(folder))) != sent:
            raise TrainingError("MLflow gave back another bundle than was sent; try again")


def requirements() -> list[str]:
    """Return what serving a version needs: the very versions that are installed here."""
    pins = [f"{name}=={version(name)}" for name in REQUIRED]
    for name in RUNTIMES:
        try:
            runtime = version(name)
        except PackageNotFoundError:
            continue
        return [
            *pins,
            f"onnxruntime-gpu=={runtime}; {GPU_WHEELS}",
            f"onnxruntime=={runtime}; {NO_GPU_WHEELS}",
        ]
    raise TrainingError("onnxruntime is not installed; `pip install handful`")


def fetch_bundle(store: Store, place: str, into: Path) -> Path:
    """Download the bundle of the model at `place` below `into`; return its folder, checked.

    Raises:
        TrainingError: MLflow failed, or what came is not a valid bundle.
    """
    path = _download(store, place, FOLDER, into)
    try:
        Bundle.load(path, device="cpu")
    except BundleError as error:
        raise TrainingError(f"what MLflow holds is not a valid bundle: {error}") from error
    return path


def fetch_manifest(store: Store, place: str) -> bytes:
    """Return the bundle's manifest alone.

    Raises:
        TrainingError: MLflow failed, or the model holds no bundle.
    """
    with tempfile.TemporaryDirectory() as folder:
        return _download(store, place, f"{FOLDER}/manifest.json", Path(folder)).read_bytes()


def fetch_out_of_fold(store: Store, place: str) -> OutOfFold | None:
    """Return the out-of-fold predictions that the model was logged with, or None.

    Raises:
        TrainingError: MLflow failed, or they are damaged.
    """
    name = Path(OUT_OF_FOLD).name
    with store.errors():
        listed = store.mlflow.artifacts.list_artifacts(
            artifact_uri=f"{place}/artifacts", tracking_uri=store.uri
        )
    if not any(Path(item.path).name == name for item in listed):
        return None
    with tempfile.TemporaryDirectory() as folder:
        return OutOfFold.unpack(_download(store, place, OUT_OF_FOLD, Path(folder)).read_bytes())


def _download(store: Store, place: str, path: str, into: Path) -> Path:
    with store.errors():
        return Path(
            store.mlflow.artifacts.download_artifacts(
                artifact_uri=f"{place}/{path}", dst_path=str(into), tracking_uri=store.uri
            )
        )


def _signature(store: Store, manifest: Manifest) -> Any:
    from mlflow.types import ColSpec, DataType, Schema  # noqa: PLC0415 - slow, see load_mlflow
    from mlflow.types.schema import Array  # noqa: PLC0415 - slow, see load_mlflow

    outputs: list[Any]
    if manifest.labels is None:
        outputs = [ColSpec(Array(DataType.float), "embedding")]
    else:
        outputs = [ColSpec(DataType.float, label) for label in manifest.labels]
    return store.mlflow.models.ModelSignature(
        Schema([ColSpec(DataType.string, "image")]), Schema(outputs)
    )


def _example(manifest: Manifest) -> Any:
    """Return a grey picture as a caller would send it: nobody's data."""
    import pandas as pd  # noqa: PLC0415 - slow, and MLflow's own dependency

    png = encode_png(np.full(manifest.image.shape, 128, np.uint8))
    return pd.DataFrame({"image": [base64.b64encode(png).decode()]})
