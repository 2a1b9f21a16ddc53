"""Image, docker-compose.yml and Kubernetes start the same containers, but for what is named."""

from dataclasses import asdict

import pytest

# Compose's service, the kustomization, its container.
PAIRS = [
    ("service", "overlays/cpu", "service"),
    ("service-gpu", "overlays/gpu", "service"),
    ("train", "overlays/cpu", "train"),
    ("train-gpu", "overlays/gpu", "train"),
    *(
        (name, overlay, name)
        for overlay in ("overlays/cpu", "overlays/gpu")
        for name in ("mlflow", "postgres")
    ),
]
# A cluster collects logs by machine. The root of a new volume is not empty there.
ONLY_IN_KUBERNETES = {
    "service": {"HANDFUL_LOG_FORMAT": "json"},
    "postgres": {"PGDATA": "/var/lib/postgresql/data/pgdata"},
}
PAIR = pytest.mark.parametrize(("service", "overlay", "name"), PAIRS)


@PAIR
def test_the_same_command_with_the_same_environment(composed, orchestrated, service, overlay, name):
    """Command, environment, user and folder are equal, but for the variables named above."""
    left, right = composed[service], orchestrated[overlay][name]
    assert left.argv == right.argv
    assert left.environment | ONLY_IN_KUBERNETES.get(name, {}) == right.environment
    assert (left.user, left.directory, left.ports) == (right.user, right.directory, right.ports)


@PAIR
def test_the_same_bounds(composed, orchestrated, service, overlay, name):
    """CPUs, memory and GPUs are limited to the same."""
    assert composed[service].limits == orchestrated[overlay][name].limits


@PAIR
def test_the_same_folders_are_writable(composed, orchestrated, service, overlay, name):
    """What may be written is the same; only the service's cache is kept by Compose alone, and
    Kubernetes gives PostgreSQL its shared memory as a folder.
    """
    left, right = composed[service], orchestrated[overlay][name]
    cache = {left.environment["HANDFUL_CACHE"]} if name == "service" else set()
    shared = {"/dev/shm"} if name == "postgres" else set()
    assert left.scratch | cache | shared == right.scratch
    assert left.volumes == right.volumes | cache
    for path in left.read_only:
        assert any(path == other or path.startswith(f"{other}/") for other in right.read_only)


def test_commands_and_arguments_are_the_images_own(composed, images, stack):
    """Compose overrides no entry point, and no arguments but those of the training."""
    for name, service in stack["services"].items():
        image = images[service["image"]]
        assert composed[name].entrypoint == image.entrypoint, asdict(image)
        overridden = composed[name].arguments != image.arguments
        assert overridden == name.startswith("train"), name
