"""Who can reach whom under security/network-policies, by a model of what a NetworkPolicy means.

https://kubernetes.io/docs/concepts/services-networking/network-policies/: policies add up, a pod that none selects for a direction
is open in it, and a connection needs both ends.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from syntho_deploy.doctor import job
from syntho_deploy.secrets.sentinels import pod_specs
from tests.components.conftest import NAMESPACE, Objects, Pinned
from tests.components.test_components import BASE

ALL_IN_CHART = [*BASE, "ray/two-pools", "postgres/in-chart", "redis/in-chart", "ingress/nginx", "security/network-policies"]
HOME = NAMESPACE
HEAD_PORTS = frozenset([6379, 8265, 10001])


@dataclass(frozen=True)
class End:
    """One end of a connection: a pod of a namespace, or an address outside (no namespace)."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()
    namespace: str = ""
    address: str = "100.64.0.9"
    ports: frozenset[int] = field(default_factory=frozenset)


OUTSIDE = [
    End("controller", namespace="ingress-nginx"),
    End("dns", (("k8s-app", "kube-dns"),), "kube-system", ports=frozenset([53, 8080])),
    End("stranger", (("app", "backend"),), "elsewhere", ports=frozenset([5432])),  # with a label that means nothing there
    End("node's dns", address="169.254.20.10", ports=frozenset([53])),
    End("data", address="10.9.8.7", ports=frozenset([5432, 6379, 1521])),
    End("apiserver", address="10.0.0.1", ports=frozenset([443, 6443, 10250])),
    End("internet", address="93.184.216.34", ports=frozenset([443])),
]
GUESTS = [  # pods of the namespace that others make, at times
    End("doctor", tuple(job.LABELS.items()), HOME),
    End("acme solver", (("acme.cert-manager.io/http01-solver", "true"),), HOME, ports=frozenset([8089])),
]


def ends(objects: Objects) -> list[End]:
    """The pods of all workloads, and those that KubeRay makes of a RayCluster, with the labels that it gives them.

    A head that declares no ports gets KubeRay's.
    """
    found = []
    for name, item in objects.items():
        if item["kind"] in ("Deployment", "StatefulSet"):
            found.append(_end(name.partition("/")[2], item["spec"]["template"]))
        if item["kind"] == "RayCluster":
            groups = [("head", "head", item["spec"]["headGroupSpec"])]
            groups += [("worker", one["groupName"], one) for one in item["spec"].get("workerGroupSpecs") or []]
            for kind, group, spec in groups:
                made = _end(f"ray {group}", spec["template"], {"ray.io/is-ray-node": "yes", "ray.io/node-type": kind})
                found.append(replace(made, ports=HEAD_PORTS) if kind == "head" and not made.ports else made)
    return found


def _end(name: str, template: dict[str, Any], more: dict[str, str] | None = None) -> End:
    labels = {**template["metadata"].get("labels", {}), **(more or {})}
    ports = {port["containerPort"] for pod in pod_specs(template) for one in pod["containers"] for port in one.get("ports") or []}
    return End(name, tuple(labels.items()), HOME, ports=frozenset(ports))


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Does a label selector match? An empty one matches all."""
    assert set(selector) <= {"matchLabels", "matchExpressions"}
    expressions = selector.get("matchExpressions", [])
    assert {one["operator"] for one in expressions} <= {"In"}
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
        labels.get(one["key"]) in one["values"] for one in expressions
    )


def matches(peer: dict[str, Any], end: End) -> bool:
    """Is `end` what a peer of a policy in HOME means?"""
    if "ipBlock" in peer:
        return not end.namespace and ipaddress.ip_address(end.address) in ipaddress.ip_network(peer["ipBlock"]["cidr"])
    if "namespaceSelector" in peer:
        return bool(end.namespace) and selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": end.namespace})
    return end.namespace == HOME and selects(peer["podSelector"], dict(end.labels))


def allowed(policies: list[dict[str, Any]], way: str, this: End, other: End, port: int, protocol: str) -> bool:
    """Do the policies of HOME let `this` take part in a connection? way: Ingress or Egress, seen from `this`."""
    mine = [one["spec"] for one in policies if this.namespace == HOME and selects(one["spec"]["podSelector"], dict(this.labels))]
    mine = [spec for spec in mine if way in spec["policyTypes"]]
    if not mine:
        return True
    for rule in (rule for spec in mine for rule in spec.get(way.lower(), [])):
        peers = rule["from" if way == "Ingress" else "to"]
        assert peers, "an empty list of peers means everybody"
        by_port = not rule.get("ports") or any(one["port"] == port and one["protocol"] == protocol for one in rule["ports"])
        if by_port and any(matches(peer, other) for peer in peers):
            return True
    return False


def flows(objects: Objects, protocol: str = "TCP") -> set[tuple[str, str, int]]:
    """Every connection to a port that something listens on, of which one end is a pod of ours, that both ends let through."""
    policies = [item for item in objects.values() if item["kind"] == "NetworkPolicy"]
    every = [*ends(objects), *GUESTS, *OUTSIDE]
    return {
        (source.name, target.name, port)
        for source in every
        for target in every
        if source is not target and HOME in (source.namespace, target.namespace)
        for port in target.ports
        if allowed(policies, "Egress", source, target, port, protocol) and allowed(policies, "Ingress", target, source, port, protocol)
    }


CORES, BACKENDS = ("core", "core-worker"), ("backend", "backend-worker")
RAY = ("ray head", "ray smallGroup", "ray workergroup")
PODS = (*CORES, *BACKENDS, "frontend", "postgres", "database", "redis", "kuberay-operator", *RAY)
NAMES = {(source, target, 53) for source in (*PODS, "doctor", "acme solver") for target in ("dns", "node's dns")}
EXPECTED = {
    ("controller", "frontend", 3000), ("controller", "backend", 8000), ("frontend", "backend", 8000), ("backend", "ray head", 8265),
    ("controller", "acme solver", 8089),
    *((source, "core", 8080) for source in BACKENDS),
    *((source, "redis", 6379) for source in (*CORES, *BACKENDS)),
    *((source, "postgres", 5432) for source in CORES),
    *((source, "database", 5432) for source in BACKENDS),
    *((source, "ray head", port) for source in (*CORES, *RAY[1:]) for port in (6379, 8265, 10001)),
    ("kuberay-operator", "ray head", 8265), ("kuberay-operator", "apiserver", 443), ("kuberay-operator", "apiserver", 6443),
    *((source, "data", port) for source in (*CORES, *BACKENDS, *RAY, "doctor") for port in (5432, 6379, 1521)),
    *NAMES,
}  # fmt: skip


def test_only_the_flows_that_exist_are_let_through(pinned: Pinned) -> None:
    objects = pinned.objects(ALL_IN_CHART)
    assert {end.name for end in ends(objects)} == set(PODS)
    assert flows(objects) == EXPECTED
    assert {flow for flow in flows(objects, "UDP") if flow[2] == 53} == NAMES


def test_every_address_that_a_pod_is_told_of_can_be_reached(pinned: Pinned) -> None:
    """Each host and port in the variables of a container leads to pods that its own pod reaches."""
    objects = pinned.objects(ALL_IN_CHART)
    services = {item["metadata"]["name"]: item["spec"] for item in objects.values() if item["kind"] == "Service"}
    ports = [{"port": port, "targetPort": port} for port in (6379, 8265, 10001)]
    services["ray-cluster-head-svc"] = {"selector": {"ray.io/node-type": "head"}, "ports": ports}  # KubeRay's
    told = set()
    for name, item in objects.items():
        texts = [str(one.get("env")) for pod in pod_specs(item) for one in pod["containers"] if item["kind"] in ("Deployment", "StatefulSet")]
        for service, spec in services.items():
            for port in spec["ports"]:
                addresses = [
                    f"{before}{service}{after}:{port['port']}" for before in ("//", "@") for after in ("", f".{NAMESPACE}.svc.cluster.local")
                ]
                if any(address in text for address in addresses for text in texts):
                    targets = [end for end in ends(objects) if selects({"matchLabels": spec["selector"]}, dict(end.labels))]
                    told |= {(name.partition("/")[2], target.name, port["targetPort"]) for target in targets}
    assert {("core", "postgres", 5432), ("core-worker", "redis", 6379), ("backend", "core", 8080), ("backend", "ray head", 8265)} <= told
    assert told <= flows(objects)


def test_without_policies_everything_is_open(pinned: Pinned) -> None:
    found = flows(pinned.objects([name for name in ALL_IN_CHART if name != "security/network-policies"]))
    assert {("stranger", "postgres", 5432), ("frontend", "internet", 443)} <= found


@pytest.mark.parametrize("more", [["ray/autoscaling"], ["ray/autoscaling", "security/network-policies/autoscaling"]], ids="+".join)
def test_the_head_reaches_the_api_server_only_where_it_scales_and_may(pinned: Pinned, more: list[str]) -> None:
    extra = flows(pinned.objects([*ALL_IN_CHART, *more])) - EXPECTED
    assert extra == ({("ray head", "apiserver", port) for port in (443, 6443)} if len(more) == 2 else set())


def test_with_everything_outside_only_the_network_outside_is_reached(pinned: Pinned) -> None:
    names = [name for name in ALL_IN_CHART if not name.startswith(("postgres/", "redis/"))]
    found = flows(pinned.objects([*names, "postgres/external", "redis/external"]))
    assert found == {one for one in EXPECTED if not {one[0], one[1]} & {"postgres", "database", "redis"}}
