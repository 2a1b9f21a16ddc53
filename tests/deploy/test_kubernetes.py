"""deploy/kubernetes as kubectl renders it: valid to the newest API, hardened, and of one piece."""

import json
import tomllib
from pathlib import Path

import kubernetes_validate
import pytest

from handful_service.settings import Settings

OVERLAYS = ("base", "overlays/cpu", "overlays/gpu")


@pytest.fixture(params=OVERLAYS)
def overlay(request) -> str:
    return request.param


@pytest.fixture
def objects(rendered, overlay) -> list[dict]:
    return rendered[overlay]


@pytest.fixture
def pods(templates, overlay) -> dict[str, dict]:
    return templates[overlay]


def of_kind(objects: list[dict], kind: str) -> dict[str, dict]:
    return {o["metadata"]["name"]: o for o in objects if o["kind"] == kind}


def selects(selector: dict, pod: dict) -> bool:
    """Whether a label selector, matchLabels alone, selects a pod template."""
    wanted = selector.get("matchLabels", {})
    assert set(selector) <= {"matchLabels"}, selector
    return wanted.items() <= pod["metadata"]["labels"].items()


def test_every_object_is_valid(rendered):
    """The strict schema of the newest Kubernetes that the validator knows accepts every object."""
    newest = kubernetes_validate.latest_version()
    unique = {json.dumps(item): item for objects in rendered.values() for item in objects}
    for item in unique.values():
        kubernetes_validate.validate(item, newest, strict=True)


def test_the_validator_can_fail(rendered):
    """The same check does object to a field that does not exist."""
    deployment = json.loads(json.dumps(of_kind(rendered["base"], "Deployment")["handful"]))
    deployment["spec"]["template"]["spec"]["containers"][0]["readyProbe"] = {}
    newest = kubernetes_validate.latest_version()
    with pytest.raises(kubernetes_validate.ValidationError, match="readyProbe"):
        kubernetes_validate.validate(deployment, newest, strict=True)


def test_no_object_names_a_namespace(objects):
    """Everything goes to the namespace that the user names, and no two objects clash there."""
    assert all("namespace" not in item["metadata"] for item in objects)
    names = [(item["kind"], item["metadata"]["name"]) for item in objects]
    assert len(names) == len(set(names))


def test_overlays_hold_what_they_promise(rendered):
    """Each overlay brings service, training, MLflow and its database; CPUs alone are scaled."""
    for name, objects in rendered.items():
        kinds = {(item["kind"], item["metadata"]["name"]) for item in objects}
        assert {("Deployment", "handful"), ("CronJob", "handful-retrain"), ("Service", "handful"),
                ("PodDisruptionBudget", "handful")} <= kinds  # fmt: skip
        own = {("Deployment", "mlflow"), ("StatefulSet", "postgres")}
        assert own & kinds == (set() if name == "base" else own)
        scaled = ("HorizontalPodAutoscaler", "handful") in kinds
        assert scaled == (name == "overlays/cpu")
        replicas = of_kind(objects, "Deployment")["handful"]["spec"].get("replicas")
        assert replicas == (1 if name == "overlays/gpu" else None)  # an autoscaler's to say


def test_pods_are_restricted(pods):
    """Each pod keeps to the Pod Security Standard `restricted`, and can write to no image."""
    for name, pod in pods.items():
        spec = pod["spec"]
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] > 0, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is False, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        kinds = {kind for volume in spec["volumes"] for kind in volume if kind != "name"}
        assert kinds <= {"emptyDir", "persistentVolumeClaim", "secret", "configMap"}, name
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False, name
            assert security["readOnlyRootFilesystem"] is True, name
            assert security["capabilities"] == {"drop": ["ALL"]}, name


def test_pods_get_no_variables_from_services(pods, objects):
    """Kubernetes turns Services into variables such as HANDFUL_PORT: no pod takes them."""
    assert "handful" in of_kind(objects, "Service")  # whose HANDFUL_PORT is the service's setting
    assert "port" in Settings.model_fields
    for name, pod in pods.items():
        assert pod["spec"]["enableServiceLinks"] is False, name


def test_every_container_has_a_ceiling_and_a_floor(pods):
    """CPU, memory and disk are asked for and bounded, scratch folders too."""
    for name, pod in pods.items():
        for container in pod["spec"]["containers"]:
            resources = container["resources"]
            for part in ("requests", "limits"):
                assert resources[part].keys() >= {"cpu", "memory", "ephemeral-storage"}, name
        for volume in pod["spec"]["volumes"]:
            assert "emptyDir" not in volume or volume["emptyDir"]["sizeLimit"], name


def test_servers_are_probed(pods):
    """Each server is probed while it starts, lives and serves; the service as it promises."""
    for name, pod in pods.items():
        for container in pod["spec"]["containers"]:
            probes = {key for key in container if key.endswith("Probe")}
            wanted = {"startupProbe", "livenessProbe", "readinessProbe"}
            assert probes == (set() if container["name"] == "train" else wanted), name
    (service,) = pods["handful"]["spec"]["containers"]
    assert service["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert service["startupProbe"]["httpGet"]["path"] == "/livez"
    assert service["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_mlflow_is_probed_by_a_host_that_it_allows(templates):
    """MLflow answers only to known Hosts, so its probes and its clients use one of them."""
    for overlay in ("overlays/cpu", "overlays/gpu"):
        (mlflow,) = templates[overlay]["mlflow"]["spec"]["containers"]
        environment = {entry["name"]: entry["value"] for entry in mlflow["env"]}
        allowed = environment["MLFLOW_ALLOWED_HOSTS"].split(",")
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            (header,) = mlflow[probe]["httpGet"]["httpHeaders"]
            assert header["name"] == "Host"
            assert header["value"] in allowed


def test_a_pod_leaves_its_service_before_it_stops(objects, orchestrated, overlay):
    """SIGTERM comes after endpoints were told, and requests in flight get their time after it."""
    deployment = of_kind(objects, "Deployment")["handful"]["spec"]
    spec = deployment["template"]["spec"]
    pause = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    settings = settings_of(orchestrated[overlay]["service"])
    assert pause >= 5
    needed = pause + settings.drain_seconds + settings.grace_seconds
    assert spec["terminationGracePeriodSeconds"] > needed
    rolling = deployment["strategy"]["rollingUpdate"]
    spare = {"maxUnavailable": 1, "maxSurge": 0}  # of GPUs there is none
    assert rolling == (spare if overlay == "overlays/gpu" else {"maxUnavailable": 0, "maxSurge": 1})


def settings_of(container) -> Settings:
    return Settings.model_validate({
        key.removeprefix("HANDFUL_").lower(): value
        for key, value in container.environment.items() if key.startswith("HANDFUL_")
    })  # fmt: skip


def test_variables_are_settings(objects, orchestrated, overlay):
    """Every HANDFUL_* of the service is a setting with a value that it accepts, and what it says
    agrees with ports, mounts and the name that the training registers.
    """
    container = orchestrated[overlay]["service"]
    for name, config in of_kind(objects, "ConfigMap").items():
        fields = {key.removeprefix("HANDFUL_").lower() for key in config["data"]}
        known = set(Settings.model_fields) | {"mlflow_tracking_uri"}
        assert fields <= known, name
    settings = settings_of(container)
    assert container.ports == {settings.port}
    assert settings.host == "0.0.0.0"
    assert str(settings.cache) in container.scratch
    assert settings.device == ("cuda" if overlay == "overlays/gpu" else "cpu")
    assert settings.model == "models:/handful@champion"
    assert "--name" not in orchestrated[overlay]["train"].argv  # whose default is handful


def test_volumes_exist(objects, pods):
    """Each mount names a volume of its pod, and each claim is one that comes along."""
    claims = of_kind(objects, "PersistentVolumeClaim")
    used = set()
    for name, pod in pods.items():
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        for container in pod["spec"]["containers"]:
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            templates = {"database"} if name == "postgres" else set()
            assert mounted == set(volumes) | templates, name
        used |= {v["persistentVolumeClaim"]["claimName"] for v in volumes.values()
                 if "persistentVolumeClaim" in v}  # fmt: skip
    assert used == set(claims)


def test_services_and_budgets_select_pods(objects, pods):
    """Each Service, budget, workload and spread constraint selects the pods that it means."""
    for name, service in of_kind(objects, "Service").items():
        chosen = [key for key, pod in pods.items()
                  if selects({"matchLabels": service["spec"]["selector"]}, pod)]  # fmt: skip
        assert chosen == [name]
        (port,) = service["spec"]["ports"]
        ports = [p["name"] for c in pods[name]["spec"]["containers"] for p in c["ports"]]
        assert port["targetPort"] in ports
    for name, budget in of_kind(objects, "PodDisruptionBudget").items():
        chosen = [key for key, pod in pods.items() if selects(budget["spec"]["selector"], pod)]
        assert chosen == [name]
        assert "minAvailable" not in budget["spec"]  # it can block the drain of a node for ever
    for kind in ("Deployment", "StatefulSet"):
        for name, item in of_kind(objects, kind).items():
            assert selects(item["spec"]["selector"], pods[name])
    for constraint in pods["handful"]["spec"]["topologySpreadConstraints"]:
        assert selects(constraint["labelSelector"], pods["handful"])


def test_the_autoscaler_scales_the_service(rendered):
    """It names the Deployment, keeps two replicas, and measures a CPU that is asked for."""
    objects = rendered["overlays/cpu"]
    spec = of_kind(objects, "HorizontalPodAutoscaler")["handful"]["spec"]
    target = of_kind(objects, spec["scaleTargetRef"]["kind"])[spec["scaleTargetRef"]["name"]]
    assert target["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"]
    assert 2 <= spec["minReplicas"] < spec["maxReplicas"]


def test_retraining_never_overlaps_and_goes_on_after_a_kill(objects):
    """One run at a time, bounded, tried again after a kill, and not after bad input."""
    spec = of_kind(objects, "CronJob")["handful-retrain"]["spec"]
    job = spec["jobTemplate"]["spec"]
    pod = job["template"]["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert job["backoffLimit"] > 0
    assert job["activeDeadlineSeconds"] > 0
    assert job["podReplacementPolicy"] == "Failed"
    assert pod["restartPolicy"] == "Never"  # a podFailurePolicy needs it
    assert pod["shareProcessNamespace"] is True  # so that SIGTERM reaches the command
    (fails, ignores) = job["podFailurePolicy"]["rules"]
    names = [container["name"] for container in pod["containers"]]
    assert fails["onExitCodes"]["containerName"] in names
    assert (fails["action"], fails["onExitCodes"]["values"]) == ("FailJob", [2])
    assert ignores["action"] == "Ignore"


def test_gpus_are_asked_for_where_they_are_used(orchestrated):
    """The GPU overlay gives one GPU each to service and training; elsewhere there is none."""
    for overlay, containers in orchestrated.items():
        asking = {name for name, each in containers.items() if each.limits["nvidia.com/gpu"]}
        assert asking == ({"service", "train"} if overlay == "overlays/gpu" else set())
    assert orchestrated["overlays/gpu"]["train"].argv[-2:] == ["--device", "cuda"]


def test_versions_are_the_projects_own(root, rendered, stack):
    """Our images bear the project's version, MLflow's its own, and Compose names the same."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    pins = dict(
        line.split("==") for line in (root / "constraints.txt").read_text().split() if "==" in line
    )
    versions = {"handful-mlflow": pins["mlflow"]}
    used = {service["image"] for service in stack["services"].values()}
    for image in used:
        name, tag = image.split(":")
        if name.startswith("handful-"):
            assert tag == versions.get(name, project["version"]), image
    for objects in rendered.values():
        for item in objects:
            for image in images_in(item):
                assert image in used


def images_in(value: object) -> list[str]:
    """Return each `image` in an object, at any depth."""
    if isinstance(value, list):
        return [image for item in value for image in images_in(item)]
    if not isinstance(value, dict):
        return []
    own = [value["image"]] if isinstance(value.get("image"), str) else []
    return own + [image for item in value.values() for image in images_in(item)]


def test_no_secret_is_in_the_manifests(root: Path, rendered):
    """The password is a secret that the user makes: nothing rendered is one, and none is named
    outside of the one volume that the comment in the component tells how to fill.
    """
    component = (root / "deploy/kubernetes/components/mlflow/kustomization.yaml").read_text()
    for objects in rendered.values():
        assert not of_kind(objects, "Secret")
        named = {
            volume["secret"]["secretName"]
            for item in objects if item["kind"] in ("Deployment", "StatefulSet")
            for volume in item["spec"]["template"]["spec"]["volumes"] if "secret" in volume
        }  # fmt: skip
        for name in named:
            assert f"create secret generic {name} --from-file=postgres_password" in component
