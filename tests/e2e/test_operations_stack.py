"""The how-tos of docs/operations.md about MLflow, PostgreSQL and S3, run as they stand there.

`docker compose exec` and `run` become the same commands as processes beside the real servers;
`/artifacts` becomes the server's folder. Nothing else of the page's commands is changed.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psycopg2
import pytest
import yaml

from handful_training.tracking import Tracker

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text()
PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1:]
REGISTRY = "http://127.0.0.1:5000"
NEW_PASSWORD = re.compile(r"[0-9a-f]{48}")
DOCKER = r"""#!{python}
import os, re, sys
assert sys.argv[1] == "compose"
verb, *words = sys.argv[2:]
entrypoint = []
while words and words[0].startswith("-"):
    flag = words.pop(0)
    if flag == "--entrypoint":
        entrypoint = [words.pop(0)]
service, command = (words[0], words[1:]) if words else ("", [])
with open("docker-calls", "a") as calls:
    print(verb, service, file=calls)
if verb in ("exec", "run"):
    command = [re.sub(r"(?<!\w)/artifacts\b", os.environ["ARTIFACTS"], word)
               for word in entrypoint + command]
    os.execvp(command[0], command)
"""

pytestmark = pytest.mark.slow


def blocks(title: str, language: str = "sh") -> list[str]:
    """Return the code blocks of a section of the page."""
    found = re.search(rf"^### {title}\n(.*?)^### ", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return re.findall(rf"```{language}\n(.*?)```", found[1], re.DOTALL)


class Site:
    """A folder that stands for the repository's root on a machine with Docker."""

    def __init__(self, stack: Any, root: Path, database: int, artifacts: Path, **more: str) -> None:
        self.stack = stack
        self.root = root
        self.database = database
        self.artifacts = artifacts
        artifacts.mkdir(exist_ok=True)
        tools = root / "tools"
        tools.mkdir(exist_ok=True)
        (tools / "docker").write_text(DOCKER.replace("{python}", sys.executable))
        (tools / "docker").chmod(0o755)
        self.environment = {
            **os.environ,
            "PATH": ":".join(map(str, [
                tools, Path(sys.executable).parent, *PROGRAMS, os.environ["PATH"],
            ])),
            "ARTIFACTS": str(artifacts),
            "PGHOST": "127.0.0.1",
            "PGPORT": str(database),
            "PGPASSWORD": stack.PASSWORD,
            "POSTGRES_PASSWORD_FILE": str(root / "secret"),
            "MLFLOW_DATABASE": f"postgresql+psycopg2://mlflow@127.0.0.1:{database}/mlflow",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            **more,
        }  # fmt: skip

    def run(self, block: str, registry: str = REGISTRY) -> list[str]:
        """Run a block of the page; returns what it asked of Compose."""
        calls = self.root / "docker-calls"
        calls.unlink(missing_ok=True)
        done = subprocess.run(
            ["sh", "-eu", "-c", block.replace(REGISTRY, registry)],
            cwd=self.root, env=self.environment, capture_output=True, text=True, check=False,
            timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return calls.read_text().splitlines() if calls.exists() else []

    @contextmanager
    def server(self, **more: str) -> Iterator[str]:
        """Run MLflow on this site's database and artifacts."""
        artifacts = more.pop("MLFLOW_ARTIFACTS", str(self.artifacts))
        with self.stack.mlflow_server(self.database, artifacts, self.root, **more) as url:
            yield url


def register(url: str, bundle: Path) -> str:
    tracker = Tracker.open(url)
    with tracker.run("handful") as run:
        version = tracker.registry.register("handful", bundle, run)
    tracker.registry.promote("handful", version)
    return version


def fetched(site: Site, block: str, url: str) -> dict[str, bytes]:
    """Run a block that downloads the champion, and return the bundle's files."""
    site.run("rm -rf champion\n" + block, url)
    bundle = site.root / "champion" / "artifacts" / "bundle"
    return files(bundle)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def databases(mlflow_stack: Any) -> Iterator[tuple[int, int]]:
    with mlflow_stack.postgres() as first, mlflow_stack.postgres() as second:
        yield first, second


@pytest.fixture(scope="module")
def two_bundles(make_bundle: Callable[..., Path], tmp_path_factory: Any) -> list[Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return [make_bundle(folder / f"head{seed}", head_seed=seed) for seed in (1, 2)]


@pytest.fixture(scope="module")
def restored(
    mlflow_stack: Any, databases: Any, two_bundles: list[Path], tmp_path_factory: Any
) -> Site:
    """A stack that was backed up while it ran, and restored into an empty one."""
    root = tmp_path_factory.mktemp("site")
    before = Site(mlflow_stack, root, databases[0], root / "artifacts-before")
    with before.server() as url:
        for bundle in two_bundles:
            register(url, bundle)
        (backup,) = blocks("Back up")
        assert before.run(backup) == ["exec postgres", "exec mlflow"]
    after = Site(mlflow_stack, root, databases[1], root / "artifacts-after")
    (restore,) = blocks("Restore")
    calls = after.run(restore)
    assert calls == ["up postgres", "exec postgres", "run mlflow", "up "]
    return after


def test_what_was_backed_up_comes_back_whole(restored: Site, two_bundles: list[Path]) -> None:
    """After a restore the champion, its files and the number of versions are what they were."""
    block = blocks("Serve without the registry")[0].split("handful-serve")[0]
    with restored.server() as url:
        assert fetched(restored, block, url) == files(two_bundles[1])
        registry = Tracker.open(url).registry
        assert registry.resolve("handful@champion").version == "2"
        assert registry.resolve("handful@previous").version == "1"


@contextmanager
def object_store(port: int) -> Iterator[str]:
    """An S3 of moto's with the bucket of the page; yields its address."""
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as moto:
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                with suppress(httpx.TransportError):
                    if httpx.put(f"{url}/handful-artifacts").is_success:
                        break
                time.sleep(0.1)
            yield url
        finally:
            moto.terminate()


def test_artifacts_move_to_s3_and_stay_valid(
    restored: Site, two_bundles: list[Path], make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    """After the page's move the server has every version from S3, under the addresses that it had,
    and keeps new ones there; the old folder is needed no more.
    """
    copy, check = blocks("Move artifacts to S3")
    (override,) = blocks("Move artifacts to S3", "yaml")
    container = yaml.safe_load(override)["services"]["mlflow"]["environment"]
    with object_store(restored.stack.free_port()) as store:
        credentials = tmp_path / "aws"
        credentials.write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
        more = {
            **container,
            "AWS_SHARED_CREDENTIALS_FILE": str(credentials),
            "MLFLOW_S3_ENDPOINT_URL": store,
        }
        site = Site(restored.stack, restored.root, restored.database, restored.artifacts, **more)
        assert site.run(copy) == ["stop mlflow", "run mlflow", "up mlflow"]
        site.artifacts.rename(site.root / "artifacts-put-away")
        with site.server(**more) as url:
            assert fetched(site, check, url) == files(two_bundles[1])
            third = make_bundle(tmp_path / "third", head_seed=3)
            assert register(url, third) == "3"
            assert fetched(site, check, url) == files(third)
        listed = httpx.get(f"{store}/handful-artifacts?list-type=2&prefix=mlflow/").text
        assert len(re.findall(r"encoder\.onnx</Key>", listed)) == 3
    assert not site.artifacts.exists()


def test_the_database_takes_the_new_password_only(restored: Site) -> None:
    """After the page's rotation the old password is refused, and the file holds the one that is
    taken; MLflow's container is made anew.
    """
    secrets = restored.root / "deploy" / "secrets"
    secrets.mkdir(parents=True)
    old = secrets / "postgres_password"
    old.write_text(restored.stack.PASSWORD)
    (rotate,) = blocks("Rotate the database's password")
    assert restored.run(rotate) == ["exec postgres", "up mlflow"]
    new = old.read_text().strip()
    assert NEW_PASSWORD.fullmatch(new)
    assert old.stat().st_mode & 0o777 == 0o444
    assert list(secrets.iterdir()) == [old]

    def connect(password: str) -> None:
        psycopg2.connect(
            host="127.0.0.1", port=restored.database, user="mlflow", dbname="mlflow",
            password=password,
        ).close()  # fmt: skip

    connect(new)
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        connect(restored.stack.PASSWORD)


def test_upgrading_a_new_schema_changes_nothing(databases: Any, restored: Site) -> None:
    """`mlflow db upgrade` as the page has it ends well on a database of this version."""
    (root, database) = (restored.root, databases[0])
    (root / "secret").write_text(restored.stack.PASSWORD)
    site = Site(restored.stack, root, database, root / "artifacts-before")
    site.environment.pop("PGPASSWORD")  # the page's command reads it from the file
    (upgrade,) = blocks("Upgrade")
    assert site.run(upgrade) == ["build ", "stop mlflow", "run mlflow", "up "]


def test_a_new_registry_gets_the_same_model_without_training(
    place: Any, trained: dict[str, Any], tmp_path: Path
) -> None:
    """The training's command with another registry's address trains nothing and registers the same
    bundle there, as version 1 and champion.
    """
    (block,) = blocks("Move from sqlite to PostgreSQL")
    assert "MLFLOW_TRACKING_URI" in block
    assert "handful-train run" in block
    elsewhere = f"sqlite:///{tmp_path}/mlflow.db"
    done = place.train(*place.run, "--json", MLFLOW_TRACKING_URI=elsewhere)
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout)
    assert (again["version"], again["promoted"]) == ("1", True)
    assert again["bundle"] == trained["bundle"]
    assert again["pretrain_seconds"] == trained["pretrain_seconds"]  # what it took then
