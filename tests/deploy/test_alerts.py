"""deploy/alerts, judged by Prometheus' own promtool."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "deploy" / "alerts"
PAGE = (ROOT / "docs" / "operations.md").read_text()
RULES = [
    rule
    for group in yaml.safe_load((ALERTS / "handful.yaml").read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
]
TESTS = yaml.safe_load((ALERTS / "handful_test.yaml").read_text())["tests"]
NAMES = {rule["alert"] for rule in RULES}


@pytest.fixture(scope="module")
def promtool(program):
    """Run promtool on files of a folder."""
    path = program("promtool", "apt-get install --no-install-recommends prometheus")

    def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [path, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=60
        )

    return run


def test_the_rules_are_sound(promtool) -> None:
    """promtool accepts every rule, and its linter finds nothing."""
    done = promtool(ALERTS, "check", "rules", "--lint=all", "--lint-fatal", "handful.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alarm_does_what_its_tests_say(promtool) -> None:
    """promtool's unit tests of the rules pass."""
    done = promtool(ALERTS, "test", "rules", "handful_test.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alarm_is_seen_to_fire_and_to_keep_quiet() -> None:
    """Of each alarm one unit test wants it to fire and one wants it not to."""
    cases = [case for test in TESTS for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == NAMES
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == NAMES


def test_the_unit_tests_can_fail(promtool, tmp_path) -> None:
    """An alarm whose threshold is moved out of reach fails its unit test."""
    rules = (ALERTS / "handful.yaml").read_text()
    (tmp_path / "handful.yaml").write_text(rules.replace("> 0.9", "> 9.9"))
    cases = yaml.safe_load((ALERTS / "handful_test.yaml").read_text())
    cases["tests"] = [test for test in TESTS if test["name"].startswith("memory")]
    (tmp_path / "handful_test.yaml").write_text(yaml.safe_dump(cases))
    done = promtool(tmp_path, "test", "rules", "handful_test.yaml")
    assert done.returncode != 0
    assert "HandfulMemoryHigh" in done.stdout + done.stderr


def test_each_alarm_says_how_bad_it_is_and_what_to_do() -> None:
    """An alarm bears a severity, a summary and the anchor of its own section of the page."""
    for rule in RULES:
        assert rule["labels"]["severity"] in {"page", "ticket"}, rule["alert"]
        notes = rule["annotations"]
        assert notes["summary"], rule["alert"]
        assert notes["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"


def test_each_alarm_has_its_section() -> None:
    """Each alarm has a section on the page that begins with its severity; no other is there."""
    sections = dict(re.findall(r"^#### (Handful\w+)\n\n(\w+)\.", PAGE, re.MULTILINE))
    assert sections == {rule["alert"]: rule["labels"]["severity"] for rule in RULES}


def test_the_example_of_a_configuration_is_one(promtool, tmp_path) -> None:
    """Prometheus accepts the page's scrape configuration, with the rules where it says."""
    (example,) = re.findall(r"```yaml\n(rule_files:.*?)```", PAGE, re.DOTALL)
    shutil.copytree(ALERTS, tmp_path / "deploy" / "alerts")
    (tmp_path / "prometheus.yml").write_text(example)
    done = promtool(tmp_path, "check", "config", "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    (scrape,) = yaml.safe_load(example)["scrape_configs"]
    assert all(
        f'job="{scrape["job_name"]}"' in rule["expr"] or ":" in rule["expr"] for rule in RULES
    )
