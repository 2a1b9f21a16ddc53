"""docs/operations.md holds together: its links lead somewhere, its commands exist."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import typer
import yaml

from handful_training.cli.main import app

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text()
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)


def _anchor(heading: str) -> str:
    """Return the anchor that a heading gets (GitHub's rule)."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def test_links_lead_somewhere() -> None:
    """Each link within the page leads to one heading."""
    anchors = [_anchor(heading) for heading in re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)]
    assert len(set(anchors)) == len(anchors)
    links = re.findall(r"\]\(#([\w-]+)\)", PAGE)
    assert links
    assert set(links) <= set(anchors)


def test_files_that_the_page_names_are_there() -> None:
    """Each path below deploy/ that the page names exists, but for secrets."""
    named = set(re.findall(r"`(deploy/[\w./-]+)", PAGE))
    assert len(named) > 5
    for path in named:
        assert path.startswith("deploy/secrets") or (ROOT / path).exists(), path


def test_compose_knows_the_services_that_commands_name() -> None:
    """Each service, profile and volume that a command names is in docker-compose.yml."""
    verbs = "exec|restart|stop|up|logs|run"
    flags = r"(?: --tail \d+| --entrypoint \w+| --?[\w-]+)*"
    named = re.findall(rf"docker compose (?:--profile \w+ )?(?:{verbs}){flags} ([a-z][\w-]*)", PAGE)
    assert len(named) > 10
    assert set(named) <= set(COMPOSE["services"])
    profiles = {
        name for service in COMPOSE["services"].values() for name in service.get("profiles", [])
    }
    assert set(re.findall(r"--profile (\w+)", PAGE)) <= profiles
    assert set(re.findall(r"volumes? `([\w-]+)`", PAGE)) <= set(COMPOSE["volumes"]) | {
        "mlflow-artifacts"
    }


def test_kubernetes_knows_what_commands_name() -> None:
    """Each object that a kubectl command names is in deploy/kubernetes."""
    objects = {
        (document["kind"].lower(), document["metadata"]["name"])
        for path in (ROOT / "deploy" / "kubernetes").rglob("*.yaml")
        for document in yaml.safe_load_all(path.read_text())
        if document and "metadata" in document
    }
    named = re.findall(r" (deployment|statefulset|service|cronjob)/([\w-]+)", PAGE)
    assert len(named) > 4
    assert set(named) <= objects


def test_commands_of_ours_exist() -> None:
    """The page lists each command of `handful-train`, and names no other."""
    commands = set(typer.main.get_command(app).commands)
    (sentence,) = re.findall(r"^Commands of `handful-train`: (.*)$", PAGE, re.MULTILINE)
    assert set(re.findall(r"`([a-z]+)`", sentence)) == commands
    assert set(re.findall(r"handful-train ([a-z]+)\b", PAGE)) <= commands


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split("\n")[0][:40])
def test_blocks_are_sound_shell(block, program) -> None:
    """ShellCheck finds nothing in a block of commands."""
    done = subprocess.run(
        [program("shellcheck"), "--shell=sh", "-"],
        input=block, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_the_override_for_s3_is_one_that_compose_takes(program, tmp_path) -> None:
    """Compose merges the page's docker-compose.override.yml with the file that is there."""
    (override,) = re.findall(r"```yaml\n(services:.*?)```", PAGE, re.DOTALL)
    (tmp_path / "override.yml").write_text(override)
    done = subprocess.run(
        [program("docker-compose"), "--project-directory", ROOT,
         "--file", ROOT / "docker-compose.yml", "--file", tmp_path / "override.yml", "config"],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    server = yaml.safe_load(done.stdout)["services"]["mlflow"]
    assert server["environment"]["MLFLOW_ARTIFACTS"].startswith("s3://")
    assert server["environment"]["MLFLOW_DATABASE"]  # the rest stays
    targets = {secret["source"] for secret in server["secrets"]}
    assert targets == {"postgres_password", "aws"}
