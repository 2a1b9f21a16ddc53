"""Following a real MLflow registry: hot swap under load, refused versions, and its absence."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from handful_service import registry as service_registry
from handful_service.registry import Reference

SWAPS = int(os.environ.get("HANDFUL_SWAPS", "6"))
OFFERS = int(os.environ.get("HANDFUL_OFFERS", "26"))  # one of each family
Registry = Any  # of followed_registry.py
FILL = """\
import errno
import json
import sys
from functools import partial
from pathlib import Path
from handful_service.cache import Cache
from handful_service.registry import Reference, Registry

cache = Cache(Path("/mnt/cache"))
registry = Registry(Reference.parse("models:/animals@champion"))
root = cache.fetch(partial(registry.download, "1"))
cache.remember(registry.key, "1", root)
try:
    cache.fetch(partial(registry.download, sys.argv[1]))
    failed = None
except OSError as error:
    failed = errno.errorcode[error.errno]
known = cache.recall(registry.key)
files = {path.name: path.stat().st_size for path in known.root.iterdir()}
left = [str(path) for path in Path("/mnt/cache/partial").iterdir()]
print(json.dumps({"failed": failed, "version": known.version, "files": files, "left": left}))
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, followed_registry: ModuleType) -> Registry:
    """One for the module: MLflow takes seconds to make its tables."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what MLflow's own imports deprecate
        return followed_registry.Registry(tmp_path_factory.mktemp("registry"))


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


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def follower(serve_session, registry: Registry, name: str, cache: Path) -> Any:
    """A server that follows the champion, started with an empty cache."""
    return serve_session(f"models:/{name}@champion", **registry.settings(cache)).wait_ready()


def version_of(server: Any) -> str:
    return server.client.get("/livez").headers["X-Model-Version"]


@pytest.fixture
def server(follower: Any, registry: Registry, name: str) -> Any:
    """The follower, back at version 1."""
    registry.promote(name, "1")
    follower.wait_until(lambda: version_of(follower) == "1")
    return follower


def test_hot_swap_under_load(server, registry, name, bundles, followed_registry) -> None:
    """While versions are swapped under load no request fails, each answer is wholly of the one
    version that its header names, at most two models are in memory, and files come over once.
    """
    swaps = server.metric("handful_swaps_total")
    fetched = server.metric("handful_fetched_bytes_total")
    cycle = ["2", "3", "1", "3", "2", "1"]
    order = [cycle[number % len(cycle)] for number in range(SWAPS)]
    models: list[float] = []
    sizes: list[float] = []  # resident bytes after each swap

    async def flip(client: httpx.AsyncClient) -> None:
        for version in order:
            async with asyncio.timeout(60):
                await asyncio.to_thread(registry.promote, name, version)
                while (await client.get("/livez")).headers["X-Model-Version"] != version:
                    models.append(await asyncio.to_thread(server.metric, "handful_models"))
            sizes.append(await asyncio.to_thread(server.metric, "process_resident_memory_bytes"))

    load = followed_registry.Load(server.url, bundles)
    load.run_while(flip)
    answers = sum(load.answers.values())
    print(
        f"{len(order)} swaps under load: {len(load.failed)} failures and {len(load.mixed)} mixed "
        f"versions in {answers} answers; at most {max(models):g} models in memory; "
        f"{sizes[0] / 2**20:.0f} MiB after the first swap, {sizes[-1] / 2**20:.0f} after the last"
    )
    assert load.failed == []
    assert load.mixed == []
    assert set(load.answers) == {"1", "2", "3"}
    assert max(models) <= 2
    if len(order) >= 100:
        assert sizes[-1] < 1.1 * sizes[20]
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


def test_bad_bundles_are_never_activated(
    server, registry, name, bundles, bad_bundles, followed_registry, cache, tmp_path
) -> None:
    """Whatever bad bundle the registry offers is counted and refused, and the one before answers
    every request with its own numbers.
    """
    load = followed_registry.Load(server.url, bundles, pause=0.05)
    survived: list[str] = []
    unnoticed: list[str] = []
    before = server.metric("handful_swap_failures_total")

    async def offer(_client: httpx.AsyncClient) -> None:
        for bad in bad_bundles.offers(bundles[0], tmp_path, OFFERS):
            version = await asyncio.to_thread(registry.add, name, bad.root)
            await asyncio.to_thread(registry.promote, name, version)
            deadline = time.monotonic() + 60
            while f"version {version} is refused" not in server.logged():
                if version_of(server) != "1":
                    survived.append(bad.family)
                    return
                if time.monotonic() > deadline:
                    unnoticed.append(bad.family)
                    break
                await asyncio.sleep(0.01)
            shutil.rmtree(bad.root.parent)

    load.run_while(offer, counts=(1, 32))
    print(
        f"{OFFERS} bad bundles offered: {len(survived)} activated, {len(unnoticed)} unnoticed; "
        f"meanwhile {len(load.failed)} failures and {len(load.mixed)} wrong answers in "
        f"{sum(load.answers.values())}"
    )
    assert (survived, unnoticed, load.failed, load.mixed) == ([], [], [], [])
    assert set(load.answers) == {"1"}
    assert server.metric("handful_swap_failures_total") >= before + OFFERS
    assert server.metric("handful_models") == 1
    assert "Traceback" not in server.logged()
    assert not list((cache / "partial").iterdir())
    registry.promote(name, "2")
    server.wait_until(lambda: version_of(server) == "2")


def test_flapping_is_coalesced(serve, registry, name, server, cache) -> None:
    """An alias that moves 50 times between two looks is one swap, to what it means at last."""
    assert version_of(server) == "1"  # so the cache has it
    slow = {**registry.settings(cache), "HANDFUL_POLL_SECONDS": "4"}
    server = serve(f"models:/{name}@champion", **slow).wait_ready()
    server.wait_until(lambda: server.metric("handful_registry_polls_total") > 0)
    seen = server.metric("handful_registry_polls_total")
    for number in range(49):
        registry.promote(name, "123"[number % 3])
    registry.promote(name, "3")
    looks = server.metric("handful_registry_polls_total") - seen
    server.wait_until(lambda: version_of(server) == "3")
    swaps = server.metric("handful_swaps_total") - 1
    print(f"{swaps:g} swaps after 50 moves of the alias and {looks:g} looks during them")
    assert swaps <= looks + 1  # each look may meet one meaning
    assert server.metric("handful_swap_failures_total") == 0


def test_a_full_disk_keeps_the_last_good_version(
    registry, name, bundles, make_bundle, program, tmp_path
) -> None:
    """On a disk that is full half way through a download, the error is the system's, nothing of
    the new version is left, and the last good one is whole.
    """
    bubblewrap = program("bwrap", "apt-get install bubblewrap")
    large = make_bundle(tmp_path / "large" / "bundle", height=96, width=96)
    version = registry.add(name, large)
    sizes = {path.name: path.stat().st_size for path in bundles[0].iterdir()}
    room = str(2 * sum(sizes.values()) + 2**17)
    done = subprocess.run(
        [
            *(bubblewrap, "--dev-bind", "/", "/", "--size", room, "--tmpfs", "/mnt"),
            *(sys.executable, "-c", FILL, version),
        ],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "MLFLOW_TRACKING_URI": registry.uri},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told == {"failed": "ENOSPC", "version": "1", "files": sizes, "left": []}


def test_recorded_manifest(server, registry, name, make_bundle, tmp_path) -> None:
    """A manifest other than the one that was registered is refused, though all else agrees."""
    other = make_bundle(tmp_path / "other" / "bundle", head_seed=8)
    version = registry.add(name, other)
    registry.client.set_model_version_tag(name, version, "handful.manifest", "sha256:" + "0" * 64)
    before = server.metric("handful_swap_failures_total")
    registry.promote(name, version)
    server.wait_until(lambda: server.metric("handful_swap_failures_total") > before)
    assert version_of(server) == "1"
    assert "the registry recorded" in server.logged()


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
        again = serve(champion, **registry.settings(cache)).wait_ready()
        assert version_of(again) == "1"
        assert again.metric("handful_fetched_bytes_total") == 0
        again.stop()

        bare = serve(champion, **registry.settings(damaged))
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
