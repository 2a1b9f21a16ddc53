"""Alarms, dashboard and page speak of metrics that a running service has, in words that parse."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text()
DASHBOARD = json.loads((ROOT / "deploy" / "dashboards" / "handful.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ROWS = re.findall(
    r"^\| `(handful_\w+)` \| (\w+) \| ([\w, –]+) \| .+ \| `(.+)` \|$", PAGE, re.MULTILINE
)
GRAFANA = {"$__rate_interval": "5m", "$job": ".*", "$instance": ".*"}


class Exposition(NamedTuple):
    """What a service says on /metrics."""

    text: str
    kinds: dict[str, str]  # metric → type
    labels: dict[str, set[str]]  # metric → its labels

    def knows(self, series: str) -> bool:
        base = re.sub(r"_(bucket|sum|count)$", "", series)
        return series in self.kinds or self.kinds.get(base) == "histogram"


@pytest.fixture(scope="module")
def live(bundle_dir, tmp_path_factory) -> Iterator[Exposition]:
    """The metrics of a service that has answered requests, good and bad ones."""
    log = tmp_path_factory.mktemp("service") / "log"
    command = [Path(sys.executable).with_name("handful-serve"), "--port", "0"]
    with (
        log.open("wb") as output,
        subprocess.Popen([*command, "--model", bundle_dir], stderr=output) as process,
    ):
        try:
            url = _address(process, log)
            assert httpx.post(f"{url}/sample", json={"count": 2}).is_success
            assert httpx.get(f"{url}/no/such/route").status_code == 404
            yield _read(httpx.get(f"{url}/metrics").text)
        finally:
            process.terminate()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        if found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text()):
            with suppress(httpx.TransportError):
                if httpx.get(f"{found[0]}/readyz").is_success:
                    return found[0]
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def _read(text: str) -> Exposition:
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    labels: dict[str, set[str]] = {name: set() for name in kinds}
    for series, inner in re.findall(r"^(\w+)\{(.*)\} ", text, re.MULTILINE):
        base = re.sub(r"_(bucket|sum|count)$", "", series)
        name = series if series in kinds else base
        labels[name] |= set(re.findall(r'(\w+)="', inner)) - {"le"}
    return Exposition(text, kinds, labels)


def _promql(expression: str) -> str:
    for name, value in GRAFANA.items():
        expression = expression.replace(name, value)
    return expression


def _metrics_in(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:handful|process|python)_\w+", expression))


def _expressions() -> dict[str, str]:
    rules = yaml.safe_load((ROOT / "deploy" / "alerts" / "handful.yaml").read_text())
    found = {
        rule.get("alert") or rule["record"]: rule["expr"]
        for group in rules["groups"]
        for rule in group["rules"]
    }
    for panel in PANELS:
        for target in panel["targets"]:
            found[f"panel {panel['title']} {target['refId']}"] = target["expr"]
    found |= {f"page, {name}": example for name, _, _, example in ROWS}
    return found


EXPRESSIONS = _expressions()


def test_the_service_s_metrics_pass_prometheus_own_linter(live, program) -> None:
    """`promtool check metrics` finds nothing to say about /metrics."""
    path = program("promtool", "apt-get install --no-install-recommends prometheus")
    done = subprocess.run(
        [path, "check", "metrics"], input=live.text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_expressions_name_what_exists(live, name) -> None:
    """Each metric in an alarm, a panel or an example of the page is one that a service exposes, and
    so is each label that it is selected by.
    """
    expression = EXPRESSIONS[name]
    assert not {metric for metric in _metrics_in(expression) if not live.knows(metric)}
    for metric, selector in re.findall(r"\b(handful_\w+)\{(.*?)\}", expression):
        base = metric if metric in live.kinds else re.sub(r"_(bucket|sum|count)$", "", metric)
        selected = set(re.findall(r"(\w+)(?:=|!=|=~|!~)\"", selector))
        assert selected <= live.labels[base] | {"job", "instance"}, metric


def test_expressions_parse(program, tmp_path) -> None:
    """Prometheus' own parser accepts each expression of the dashboard and of the page."""
    path = program("promtool", "apt-get install --no-install-recommends prometheus")
    rules = [
        {"record": f"parsed:n{number}", "expr": _promql(expression)}
        for number, expression in enumerate(EXPRESSIONS.values())
    ]
    (tmp_path / "rules.json").write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}))
    done = subprocess.run(
        [path, "check", "rules", "rules.json"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(EXPRESSIONS)} rules found" in done.stdout


def test_each_metric_has_its_row(live) -> None:
    """The page lists each metric of ours with its type and its labels, and no other."""
    ours = {name: kind for name, kind in live.kinds.items() if name.startswith("handful_")}
    assert {name: kind for name, kind, _, _ in ROWS} == ours
    told = {name: set(re.findall(r"\w+", labels)) for name, _, labels, _ in ROWS}
    assert told == {name: live.labels[name] for name in ours}


def test_each_example_is_about_its_metric() -> None:
    """The example in a metric's row uses that metric."""
    for name, _, _, example in ROWS:
        assert any(metric.startswith(name) for metric in _metrics_in(example)), name


def test_the_dashboard_shows_each_metric_of_ours(live) -> None:
    """No metric is left out of the dashboard."""
    shown = {
        metric for panel in PANELS for t in panel["targets"] for metric in _metrics_in(t["expr"])
    }
    shown = {re.sub(r"_(bucket|sum|count)$", "", metric) for metric in shown}
    ours = {name for name in live.kinds if name.startswith("handful_")}
    assert ours <= shown


def test_the_dashboard_can_be_imported_anywhere() -> None:
    """It names no data source of one Grafana, ids are unique, and each panel is explained."""
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert variables == {"datasource", "job", "instance"}
    for panel in PANELS:
        assert panel["description"].endswith("."), panel["title"]
        for part in (panel, *panel["targets"]):
            assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        for target in panel["targets"]:
            assert 'job=~"$job", instance=~"$instance"' in target["expr"], panel["title"]


def test_panels_do_not_overlap() -> None:
    """Each panel has a place of its own on Grafana's 24 columns."""

    def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        return {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }

    for one, other in combinations(DASHBOARD["panels"], 2):
        assert not cells(one) & cells(other), (one["title"], other["title"])
