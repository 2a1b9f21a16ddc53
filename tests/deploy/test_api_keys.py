"""API keys where the service is deployed: what the additions change, and nothing else."""

import json
import os
import subprocess
from pathlib import Path, PurePosixPath

import kubernetes_validate
import pytest
import yaml

from handful_service.settings import Settings

ROOT = Path(__file__).parents[2]
KEYED = ("service", "service-gpu")


@pytest.fixture(scope="module")
def keyed(program) -> dict:
    """docker-compose.yml with deploy/docker-compose.keys.yml, as Compose understands them."""
    command = [
        program("docker-compose"), "--project-directory", ROOT, "--profile", "*",
        "--file", ROOT / "docker-compose.yml", "--file", ROOT / "deploy/docker-compose.keys.yml",
        "config", "--format", "json",
    ]  # fmt: skip
    done = subprocess.run(
        command,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_compose_gives_the_services_their_keys_and_changes_nothing_else(stack, keyed) -> None:
    """Both services read the file from a folder that is mounted read-only and must be there;
    without the variable and the folder all is as in docker-compose.yml.
    """
    for name in KEYED:
        service = keyed["services"][name]
        file = PurePosixPath(service["environment"].pop("HANDFUL_API_KEYS_FILE"))
        (mount,) = [one for one in service["volumes"] if one["target"] == str(file.parent)]
        service["volumes"].remove(mount)
        assert mount["type"] == "bind"
        assert mount["read_only"] is True
        assert not mount.get("bind", {}).get("create_host_path", False)
        assert Path(mount["source"]) == ROOT / "deploy/secrets/keys"  # which git does not take
    assert keyed == stack


@pytest.mark.parametrize("overlay", ["base", "overlays/cpu", "overlays/gpu"])
def test_kubernetes_gives_the_service_its_keys(program, tmp_path, rendered, overlay) -> None:
    """With the component each overlay mounts the secret as a folder, read-only, and names the file
    in it; every object stays valid, and no pod but the service's knows of it.
    """
    folder = ROOT / "deploy" / "kubernetes"
    names = {
        "resources": [os.path.relpath(folder / overlay, tmp_path)],
        "components": [os.path.relpath(folder / "components/keys", tmp_path)],
    }
    head = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(head | names))
    done = subprocess.run(
        [program("kubectl"), "kustomize", tmp_path], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    objects = list(yaml.safe_load_all(done.stdout))
    for item in objects:
        kubernetes_validate.validate(item, kubernetes_validate.latest_version(), strict=True)
    assert len(objects) == len(rendered[overlay])

    (pod,) = [
        item["spec"]["template"]["spec"]
        for item in objects
        if (item["kind"], item["metadata"]["name"]) == ("Deployment", "handful")
    ]
    (container,) = pod["containers"]
    used = {source["configMapRef"]["name"] for source in container["envFrom"]}
    given = {}
    for item in objects:
        if item["kind"] == "ConfigMap" and item["metadata"]["name"] in used:
            given |= item["data"]
    settings = Settings.model_validate(
        {name.removeprefix("HANDFUL_").lower(): value for name, value in given.items()}
    )
    assert settings.api_keys_file is not None
    (mount,) = [
        one
        for one in container["volumeMounts"]
        if one["mountPath"] == str(settings.api_keys_file.parent)
    ]
    assert mount["readOnly"] is True
    assert "subPath" not in mount  # it would not be renewed
    (volume,) = [one for one in pod["volumes"] if one["name"] == mount["name"]]
    assert volume["secret"]["secretName"] == "handful-api-keys"
    assert done.stdout.count("handful-api-keys") == 1
    plain = [item for item in rendered[overlay] if item["kind"] not in ("Deployment", "ConfigMap")]
    assert [item for item in objects if item["kind"] not in ("Deployment", "ConfigMap")] == plain
