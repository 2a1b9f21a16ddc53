"""What the deploy files mean: containers as image, Compose and Kubernetes together make them."""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
OVERLAYS = ("base", "overlays/cpu", "overlays/gpu")
# What an official image sets by itself, as far as a command sees it.
BASE = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


@dataclass(frozen=True)
class Container:
    """What runs in a container, and what it may write to."""

    entrypoint: tuple[str, ...]
    arguments: tuple[str, ...]
    environment: dict[str, str]
    user: str
    directory: str
    ports: frozenset[int] = frozenset()
    scratch: frozenset[str] = frozenset()  # empty at each start
    volumes: frozenset[str] = frozenset()  # kept
    read_only: frozenset[str] = frozenset()
    limits: dict[str, float] = field(default_factory=dict)

    @property
    def argv(self) -> list[str]:
        return [*self.entrypoint, *self.arguments]


# The one image that is not ours: what its documentation says.
POSTGRES = Container(
    entrypoint=("docker-entrypoint.sh",),
    arguments=("postgres",),
    environment=BASE
    | {
        "PATH": f"{BASE['PATH']}:/usr/lib/postgresql/17/bin",
        "PGDATA": "/var/lib/postgresql/data",
    },
    user="999:999",
    directory="/",
    ports=frozenset({5432}),
)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return ROOT


def read_instructions(path: Path) -> list[tuple[str, str]]:
    """Return (keyword, rest) of each instruction, comments dropped and long lines joined."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


@pytest.fixture(scope="session")
def instructions() -> Callable[[Path], list[tuple[str, str]]]:
    return read_instructions


def read_image(dockerfile: Path, target: str | None) -> Container:
    """Return what the image of a stage runs by itself; without a target, the last stage's."""
    stages: dict[str, Container] = {}
    name = ""
    for keyword, rest in read_instructions(dockerfile):
        if keyword == "FROM":
            base, _, name = rest.split()
            stages[name] = stages.get(base, Container((), (), BASE, "0:0", "/"))
        elif keyword == "ENV":
            known = stages[name].environment
            given = dict(word.split("=", 1) for word in shlex.split(rest))
            given = {key: value.replace("$PATH", known["PATH"]) for key, value in given.items()}
            stages[name] = replace(stages[name], environment=known | given)
        elif keyword in ("ENTRYPOINT", "CMD"):
            part = {"ENTRYPOINT": "entrypoint", "CMD": "arguments"}[keyword]
            stages[name] = replace(stages[name], **{part: tuple(json.loads(rest))})
        elif keyword in ("USER", "WORKDIR"):
            part = {"USER": "user", "WORKDIR": "directory"}[keyword]
            stages[name] = replace(stages[name], **{part: rest.strip()})
        elif keyword == "EXPOSE":
            stages[name] = replace(stages[name], ports=frozenset(map(int, rest.split())))
    return stages[target or name]


@pytest.fixture(scope="session")
def compose(program: Callable[..., str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Compose on the repository's file, with none of the user's variables."""

    def run(*arguments: str, profiles: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        flags = [word for profile in profiles for word in ("--profile", profile)]
        return subprocess.run(
            [program("docker-compose"), "--project-directory", ROOT, *flags, *arguments],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


@pytest.fixture(scope="session")
def stack(compose: Callable[..., subprocess.CompletedProcess[str]]) -> dict[str, Any]:
    """docker-compose.yml as Compose understands it, every profile on."""
    done = compose("config", "--format", "json", profiles=("*",))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="session")
def images(stack: dict[str, Any]) -> dict[str, Container]:
    """Image name and tag → what it runs by itself."""
    found = {}
    for service in stack["services"].values():
        build = service.get("build")
        found[service["image"]] = (
            read_image(ROOT / build["dockerfile"], build.get("target")) if build else POSTGRES
        )
    return found


@pytest.fixture(scope="session")
def composed(stack: dict[str, Any], images: dict[str, Container]) -> dict[str, Container]:
    """Compose's service name → its container."""
    found = {}
    for name, service in stack["services"].items():
        image = images[service["image"]]
        mounts = service.get("volumes", [])
        limits = service["deploy"]["resources"]["limits"]
        reserved = service["deploy"]["resources"].get("reservations", {}).get("devices", [])
        found[name] = replace(
            image,
            arguments=tuple(service["command"] or image.arguments),
            environment=image.environment | service["environment"],
            user=service["user"],
            scratch=frozenset(mount.partition(":")[0] for mount in service["tmpfs"]),
            volumes=frozenset(m["target"] for m in mounts if not m.get("read_only")),
            read_only=frozenset(
                [m["target"] for m in mounts if m.get("read_only")]
                + [secret["target"] for secret in service.get("secrets", [])]
            ),
            limits={
                "cpu": float(limits["cpus"]),
                "memory": float(limits["memory"]),
                "nvidia.com/gpu": float(sum(device["count"] for device in reserved)),
            },
        )
    return found


@pytest.fixture(scope="session")
def rendered(program: Callable[..., str]) -> dict[str, list[dict[str, Any]]]:
    """Each kustomization → its objects, as kubectl renders them."""
    found = {}
    for name in OVERLAYS:
        command = [program("kubectl"), "kustomize", ROOT / "deploy" / "kubernetes" / name]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stderr) == (0, ""), name
        found[name] = list(yaml.safe_load_all(done.stdout))
    return found


def pod_templates(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the pod template of each object that makes pods."""
    for item in objects:
        spec = item.get("spec", {})
        if item["kind"] in ("Deployment", "StatefulSet"):
            yield item["metadata"]["name"], spec["template"]
        elif item["kind"] == "CronJob":
            yield item["metadata"]["name"], spec["jobTemplate"]["spec"]["template"]


@pytest.fixture(scope="session")
def templates(rendered: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Kustomization → object's name → its pod template."""
    return {name: dict(pod_templates(objects)) for name, objects in rendered.items()}


@pytest.fixture(scope="session")
def orchestrated(
    rendered: dict[str, list[dict[str, Any]]],
    templates: dict[str, dict[str, dict[str, Any]]],
    images: dict[str, Container],
) -> dict[str, dict[str, Container]]:
    """Kustomization → container's name → the container."""
    found: dict[str, dict[str, Container]] = {}
    for overlay, objects in rendered.items():
        maps = {o["metadata"]["name"]: o["data"] for o in objects if o["kind"] == "ConfigMap"}
        found[overlay] = {
            container["name"]: _orchestrated(container, template["spec"], maps, images)
            for template in templates[overlay].values()
            for container in template["spec"]["containers"]
        }
    return found


def _orchestrated(
    container: dict[str, Any],
    pod: dict[str, Any],
    maps: dict[str, dict[str, str]],
    images: dict[str, Container],
) -> Container:
    image = images[container["image"]]
    given: dict[str, str] = {}
    for source in container.get("envFrom", []):
        given |= maps[source["configMapRef"]["name"]]
    given |= {entry["name"]: entry["value"] for entry in container.get("env", [])}
    kinds = {volume["name"]: volume for volume in pod.get("volumes", [])}
    mounts = container["volumeMounts"]
    security = pod["securityContext"]
    return replace(
        image,
        entrypoint=tuple(container.get("command", image.entrypoint)),
        arguments=tuple(container.get("args", image.arguments)),
        environment=image.environment | given,
        user=f"{security['runAsUser']}:{security['runAsGroup']}",
        directory=container.get("workingDir", image.directory),
        ports=frozenset(port["containerPort"] for port in container.get("ports", [])),
        scratch=frozenset(m["mountPath"] for m in mounts if "emptyDir" in kinds.get(m["name"], {})),
        volumes=frozenset(
            m["mountPath"]
            for m in mounts
            if "emptyDir" not in kinds.get(m["name"], {}) and not m.get("readOnly")
        ),
        read_only=frozenset(m["mountPath"] for m in mounts if m.get("readOnly")),
        limits={
            name: quantity(container["resources"]["limits"].get(name, "0"))
            for name in ("cpu", "memory", "nvidia.com/gpu")
        },
    )


def quantity(text: str) -> float:
    """Return the number that a Kubernetes quantity means: 500m, 2, 3Gi."""
    found = re.fullmatch(r"(\d+)(m|Ki|Mi|Gi)?", text)
    assert found, text
    scale = {None: 1.0, "m": 1e-3, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}
    return int(found[1]) * scale[found[2]]
