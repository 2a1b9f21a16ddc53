"""The containers' own commands as processes: a model is trained, registered, served, drained.

What stands for a container is in conftest.py beside this file.
"""

import base64
import json
import os
import signal
import subprocess
from pathlib import Path

CLASSIFY = """
import base64, sys, urllib.request as r
request = r.Request("http://service:8000/classify", base64.b64decode(sys.argv[1]),
                    {"Content-Type": "image/png"})
print(r.urlopen(request, timeout=30).read().decode())
"""
# Sends half a request, says so, and the other half after a line on stdin.
IN_TWO_HALVES = """
import base64, socket, sys
body = base64.b64decode(sys.argv[1])
to = socket.create_connection(("service", 8000), 30)
to.sendall(b"POST /classify HTTP/1.1\\r\\nHost: service\\r\\nContent-Type: image/png\\r\\n"
           b"Connection: close\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body[:50])
print("half", flush=True)
sys.stdin.readline()
to.sendall(body[50:])
print(to.recv(1000).split(b"\\r\\n")[0].decode(), flush=True)
"""
# What a shell or the sandbox adds, and the password that deploy/mlflow-server hands to libpq.
ADDED = {"PWD", "OLDPWD", "SHLVL", "_", "PGPASSWORD"}


def test_each_process_has_the_containers_environment(composed, servers, trained, service):
    """Each process sees the variables of its container with their values, and none of ours."""
    running = {**servers, "service": service}
    environments = {name: found.seen()[1] for name, found in running.items()}
    environments["train"] = trained.environment
    for name, environment in environments.items():
        left = {key: value for key, value in environment.items() if key not in ADDED}
        assert left == composed[name].environment, name


def test_each_process_is_the_containers_command(composed, servers, trained, service):
    """Each process was started by its container's command; MLflow's script has put itself away."""
    argv, _ = service.seen()
    assert [Path(argv[1]).name, *argv[2:]] == composed["service"].argv
    argv = trained.argv
    assert [Path(argv[1]).name, *argv[2:]] == [*composed["train"].argv, *trained.more]
    argv, _ = servers["postgres"].seen()
    assert composed["postgres"].argv == ["docker-entrypoint.sh", *argv]
    argv, _ = servers["mlflow"].seen()
    assert [Path(argv[1]).name, argv[2]] == ["mlflow", "server"]
    _, environment = servers["mlflow"].seen()
    assert environment["PGPASSWORD"] not in " ".join(argv)


def test_a_process_can_change_nothing_but_its_folders(composed, servers, service):
    """As in its container, a process has its user, no capabilities, and a read-only root."""
    probe = "id -u; grep CapEff /proc/self/status; touch /usr/x || touch /opt/handful/x || touch /x"
    for name, running in {**servers, "service": service}.items():
        container = composed[name]
        status, out, _ = running.run("sh", "-c", probe)
        uid, capabilities = out.splitlines()
        assert uid == container.user.partition(":")[0], name
        assert int(capabilities.split()[1], 16) == 0, name
        assert status != 0, name
        writable = container.scratch | container.volumes
        status, _, err = running.run("touch", *(f"{path}/x" for path in sorted(writable)))
        assert status == 0, err


def test_a_training_makes_a_model_that_the_service_finds(trained, service, photos):
    """The training registers a champion with MLflow on PostgreSQL; the service answers with it."""
    result = trained.result
    assert (result["name"], result["version"], result["promoted"]) == ("handful", "1", True)
    for label in ("above", "left"):
        status, out, err = service.run("python", "-c", CLASSIFY, picture(photos, label))
        assert status == 0, err
        answer = json.loads(out)
        assert answer["model"]["version"] == "1"
        assert answer["predictions"][0]["label"] == label


def test_sigterm_lets_a_request_finish(stack, service, photos):
    """SIGTERM in the middle of a request: it is answered, and the process ends with status 0."""
    words = ("python", "-c", IN_TWO_HALVES, picture(photos, "left"))
    check = stack["services"]["service"]["healthcheck"]["test"][1:]
    with service.enter(*words, stdin=subprocess.PIPE) as client:
        assert client.stdout.readline() == "half\n"
        os.kill(service.pid, signal.SIGTERM)
        service.wait(lambda: service.run(*check)[0] != 0)  # nothing new is taken on
        assert service.process.poll() is None
        out, err = client.communicate("go on\n", timeout=60)
        assert out == "HTTP/1.1 200 OK\n", err
    assert service.process.wait(60) == 0, service.log.read_text()


def picture(photos: Path, label: str) -> str:
    return base64.b64encode((photos / label / "0.png").read_bytes()).decode()
