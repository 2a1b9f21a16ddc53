"""Who may talk to whom in the cluster, worked out from the rendered network policies."""

import pytest


@pytest.fixture(params=("base", "overlays/cpu", "overlays/gpu"))
def overlay(request) -> str:
    return request.param


def selects(selector: dict, pod: dict) -> bool:
    """Whether a label selector, matchLabels alone, selects a pod template."""
    assert set(selector) <= {"matchLabels"}, selector
    return selector.get("matchLabels", {}).items() <= pod["metadata"]["labels"].items()


def test_nothing_talks_but_by_a_rule(rendered, templates, overlay):
    """All pods are closed both ways; the open ways are those that the parts need, and no other."""
    pods = templates[overlay]
    policies = {
        item["metadata"]["name"]: item
        for item in rendered[overlay]
        if item["kind"] == "NetworkPolicy"
    }
    deny = policies["handful-deny"]["spec"]
    assert set(deny) == {"podSelector", "policyTypes"}
    assert set(deny["policyTypes"]) == {"Ingress", "Egress"}
    assert all(selects(deny["podSelector"], pod) for pod in pods.values())
    ways = {
        (source, target)
        for source, left in pods.items()
        for target, entered in pods.items()
        if leaves(policies, left, entered) and enters(policies, entered, left)
    }
    servers = {("handful", "mlflow"), ("handful-retrain", "mlflow"), ("mlflow", "postgres")}
    assert ways == (servers if "mlflow" in pods else set())
    stranger = {"metadata": {"labels": {}}}
    assert {name for name, pod in pods.items() if enters(policies, pod, stranger)} == {"handful"}
    assert not any(leaves(policies, pod, stranger) for pod in pods.values())


def leaves(policies: dict, source: dict, target: dict) -> bool:
    return any(
        selects(peer["podSelector"], target)
        for policy in policies.values()
        if selects(policy["spec"]["podSelector"], source)
        for rule in policy["spec"].get("egress", [])
        for peer in rule["to"]
        if "podSelector" in peer and is_port_open(rule, target)
    )


def enters(policies: dict, target: dict, source: dict) -> bool:
    return any(
        "from" not in rule or any(selects(peer["podSelector"], source) for peer in rule["from"])
        for policy in policies.values()
        if selects(policy["spec"]["podSelector"], target)
        for rule in policy["spec"].get("ingress", [])
        if is_port_open(rule, target)
    )


def is_port_open(rule: dict, pod: dict) -> bool:
    """Whether a rule names a port, by name or number, that the pod listens on."""
    ports = [port for c in pod.get("spec", {}).get("containers", []) for port in c.get("ports", [])]
    known = {port["name"] for port in ports} | {port["containerPort"] for port in ports}
    return any(port["port"] in known for port in rule["ports"])
