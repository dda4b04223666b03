"""Objects of a shape that their kind has not are refused once, with where; on what is left no rule raises."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest

from syntho_deploy.checks.context import Context
from syntho_deploy.checks.rules import rules
from syntho_deploy.compile import Compiled, Project
from syntho_deploy.documents import walk
from syntho_deploy.overlays.manifests import Manifest
from syntho_deploy.shapes import misshapen
from tests.checks.conftest import Operations, Site

SPEC = "/spec/template/spec"
CORE = f"{SPEC}/containers/[name=core]"
ODD: list[Any] = [None, "80", "a.b", "", 7, 0, 1.5, True, [], {}, [None], ["x"], {"x": 1}, [[]], [{}], [7]]
RBAC = "rbac.authorization.k8s.io"
LACKS = "an object needs apiVersion, kind and metadata.name, all text"
VARS = {"apiserver_cidr": "10.0.0.0/8", "external_cidr": "10.0.0.0/8", "ingress_namespace": "i"}


def pod(**more: Any) -> dict[str, Any]:
    return {"containers": [{"name": "c", "image": "b", "ports": [{"containerPort": 1, "name": "p"}]}], **more}


def extra(kind: str, spec: dict[str, Any], api: str = "v1", **more: Any) -> dict[str, Any]:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": f"x-{kind.lower()}", "labels": {"a": "b"}}, "spec": spec, **more}


EXTRA = [
    extra("PodDisruptionBudget", {"selector": {"matchLabels": {"app": "core"}, "matchExpressions": [{"key": "a", "operator": "In", "values": []}]}}),
    extra("Pod", pod(
        initContainers=[{"name": "i", "image": "a", "envFrom": [{"secretRef": {"name": "x"}}], "restartPolicy": "Always", "command": ["a", "7"]}],
        volumes=[
            {"name": "v", "projected": {"sources": [{"secret": {"name": "s", "items": [{"key": "k", "path": "p"}]}}, {"configMap": {"name": "s"}}]}},
            {"name": "w", "persistentVolumeClaim": {"claimName": "q"}},
            {"name": "x", "ephemeral": {"volumeClaimTemplate": {"spec": {"storageClassName": "z", "resources": {"requests": {"storage": "1Mi"}}}}}},
            {"name": "y", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "n"}}},
        ],
    )),
    extra("CronJob", {"jobTemplate": {"spec": {"template": {"spec": pod()}}}}, "batch/v1"),
    extra("HorizontalPodAutoscaler", {"minReplicas": 1, "maxReplicas": 2, "scaleTargetRef": {"kind": "Pod", "name": "core"}}, "autoscaling/v2"),
    extra("ServiceAccount", {}, imagePullSecrets=[{"name": "x"}]),
    extra("RoleBinding", {}, f"{RBAC}/v1", subjects=[{"kind": "ServiceAccount", "name": "x"}], roleRef={"kind": "Role", "name": "r"}),
    extra("ConfigMap", {}, data={"a": "b"}, binaryData={"c": "ZA=="}),
    extra("Thing", {"template": {"spec": pod()}, "list": [{"containers": ["not", "a pod"]}]}, "example.com/v1"),
    extra("Service", {"traffic": [{"percent": 100}], "template": {"spec": pod()}}, "serving.example.com/v1"),
]  # fmt: skip


@pytest.fixture(scope="module")
def whole(site: Site) -> tuple[Project, Compiled]:
    """An environment with objects of every kind that rules know."""
    policy = {"digests": True, "registries": ["x"]}
    site.write("it", "inside", add=["security/network-policies"], vars=VARS, environment={"policy": policy})
    project = Project.load(site.root, "it", site.checked)
    return project, project.compile(site.helm)


def altered(item: dict[str, Any], dice: random.Random) -> dict[str, Any]:
    """The object with odd values in two places, so far as its shape is what is let through."""
    places = [keys for keys, _ in walk(item) if keys and keys not in (("kind",), ("apiVersion",), ("metadata",), ("metadata", "name"))]
    while True:
        made = copy.deepcopy(item)
        for keys in dice.sample(places, 2):
            here: Any = made
            for key in keys[:-1]:
                here = (
                    here[key]
                    if (isinstance(here, dict) and key in here) or (isinstance(here, list) and isinstance(key, int) and key < len(here))
                    else None
                )
            if isinstance(here, dict) or (isinstance(here, list) and isinstance(keys[-1], int) and keys[-1] < len(here)):
                here[keys[-1]] = copy.deepcopy(dice.choice(ODD))
        if not misshapen(Manifest(made)):
            return made


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(block, marks=pytest.mark.thorough) for block in range(4, 40))])
def test_no_rule_raises(site: Site, whole: tuple[Project, Compiled], seed: int) -> None:
    project, compiled = whole
    for number in range(10):
        dice = random.Random(seed * 1000 + number)
        charts = {}
        for name, chart in compiled.charts.items():
            items = chart.manifests | ({item["metadata"]["name"]: item for item in EXTRA} if name == "syntho-ui" else {})
            manifests = {of: altered(item, dice) for of, item in items.items()}
            texts = {of: json.dumps(item) for of, item in manifests.items()}
            charts[name] = chart._replace(manifests=manifests, texts=texts, digest=f"{seed}-{number}-{name}")
        project._compiled = compiled._replace(charts=charts)
        context = Context(project, project._compiled, site.helm)
        for rule in rules().values():
            list(rule.check(context)) if rule.check else None


def refused(site: Site, **change: Any) -> list[str]:
    """What lint says where that is all that it says."""
    found = site.lint("inside", **change)
    assert {one.rule for one in found} == {"does-not-compile"}, found
    assert all(one.origins and one.todo for one in found)
    return [one.what for one in found]


def patched(path: str, value: Any, of: str = "Deployment/core") -> dict[str, dict[str, Operations]]:
    return {"patch": {of: [{"op": "add", "path": path, "value": value}]}}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (patched(f"{SPEC}/containers", {"core": {}}), "Deployment/core has a mapping in the place of a list at /spec/template/spec/containers"),
        (patched(f"{CORE}/ports", "80"), "Deployment/core has text in the place of a list at /spec/template/spec/containers/0/ports"),
        (patched(f"{CORE}/env/-", "A=b"), "Deployment/core has text in the place of a mapping at /spec/template/spec/containers/0/env/"),
        (patched(f"{CORE}/env/-", None), "Deployment/core has nothing in the place of a mapping at /spec/template/spec/containers/0/env/"),
        (patched(f"{CORE}/command", "run"), "Deployment/core has text in the place of a list at"),
        (patched("/spec", None, "Service/backend"), "Service/backend has nothing in the place of a mapping at /spec"),
        (patched("/metadata/labels", ["a"], "Service/backend"), "Service/backend has a list in the place of a mapping at /metadata/labels"),
        (patched("/metadata/annotations", "x", "PersistentVolumeClaim/database-data-1"), "PersistentVolumeClaim/database-data-1 has text"),
        (patched("/spec/tls", {"hosts": ["a"]}, "Ingress/frontend-ingress"), "Ingress/frontend-ingress has a mapping in the place of a list at"),
        (patched("/spec/headGroupSpec/template/spec/containers", {}, "RayCluster/ray-cluster"), "RayCluster/ray-cluster has a mapping in the place"),
        ({"objects": [{"apiVersion": "v1", "kind": "List", "metadata": {"name": "l"}, "items": []}]}, LACKS),
        ({"objects": [{"apiVersion": "v1", "kind": "ConfigMap", "data": {}}]}, LACKS),
        ({"objects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": "x"}]}, LACKS),
        ({"objects": [{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}}]}, "Deployment/d has nothing in the place of"),
    ],
)  # fmt: skip
def test_a_shape_that_the_kind_has_not_is_refused(site: Site, change: dict[str, Any], what: str) -> None:
    (found,) = refused(site, **change)
    assert found.startswith(what)


def test_every_misshapen_field_is_told_at_once(site: Site) -> None:
    both = {"Deployment/core": [{"op": "add", "path": f"{CORE}/ports", "value": "80"}, {"op": "add", "path": f"{CORE}/envFrom", "value": "x"}]}
    assert len(refused(site, patch=both)) == 2


def test_a_null_stands_for_what_is_not_there(site: Site) -> None:
    known = {one.rule for one in site.lint("inside")}
    gone = [{"op": "add", "path": f"{CORE}/{field}", "value": None} for field in ("envFrom", "lifecycle", "volumeMounts")]
    assert {one.rule for one in site.lint("inside", patch={"Deployment/core": gone})} <= known
