"""What upstream's charts do to who deploys them as they are, or with one value changed: lint finds it.

The traps are numbered: U of the UI chart, R of Ray's, the others by what they are about. Those with a change need it to show; `{}` is the
charts with no overlay at all. What compiling takes away (hooks, nulls, keys that stand twice) is a note.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from syntho_deploy.errors import PreflightError
from syntho_deploy.helm import Helm
from syntho_deploy.vendor import load_pin, vendor
from tests.checks.conftest import SECRETS, Site
from tests.checks.test_rules import add, replace
from tests.components.test_pin_2026 import with_charts
from tests.conftest import copy_project

Change = dict[str, Any]
AUTOSCALING = add("/head/enableInTreeAutoscaling", True)
SMALL = "/additionalWorkerGroups/smallGroup"
TRAPS: list[tuple[str, str, Change]] = [
    # secrets
    ("public defaults: keys, passwords, licence", "public-credential", {}),
    ("a random key in each render", "unstable-render", {}),
    ("a literal in the pods", "literal-secret", {}),
    ("a Secret of one's own, under another name", "missing-secret", {"ui": add("/core/manualSecretName", "mine")}),
    ("a raw licence cut at #", "altered-secret", {"ui": replace("/SynthoLicense", "abc #def")}),
    ("a raw licence that is a number", "invalid-field", {"ui": replace("/SynthoLicense", "12345678")}),
    ("a password with @ in a URL", "literal-secret", {"ui": replace("/core/db/password", "p@ss:w/rd#1")}),
    ("a value that nothing reads: the key of 1.9.7", "dead-operation", {"ui": replace("/backend/secret_key", "x" * 50)}),
    # Postgres and Redis
    ("two applications, one database", "same-database", {"ui": [
        *replace("/backend/db/host", "postgres"), *replace("/backend/db/name", "rwdb"),
    ]}),
    ("user and username", "does-not-compile", {"ui": replace("/core/db/user", "x")}),
    ("the switch without the host", "missing-database", {"ui": replace("/core/database_enabled", False)}),
    ("the host without the switch", "unused-database", {"ui": replace("/core/db/host", "pg.example.com")}),
    ("Redis at 0 replicas with its host", "missing-redis", {"ui": replace("/redis/replicaCount", 0)}),
    ("Redis outside, its own still on", "unused-redis", {"ui": [
        *replace("/core/redis/host", "r.example.com"), *replace("/backend/redis/host", "r.example.com"),
    ]}),
    ("two pods of Redis", "replicated-redis", {"ui": replace("/redis/replicaCount", 2)}),
    ("no switch for Redis", "dead-operation", {"ui": add("/redis/enabled", False)}),
    ("a host that is a Service of something else: the guide's", "missing-database", {"ui": [
        *replace("/core/db/host", "backend"), *replace("/core/database_enabled", False),
    ]}),
    ("no value for TLS", "unencrypted-database", {"ui": [
        *replace("/core/db/host", "pg.example.com"), *replace("/core/database_enabled", False),
    ]}),
    ("one Redis outside, one in the chart", "split-redis", {"ui": replace("/core/redis/host", "r.example.com")}),
    # Ray
    ("a pool of none at least", "replaced-zero", {"ray": [*replace("/worker/disabled", False), *add("/worker/minReplicas", 0)]}),
    ("nulls in the RayCluster", "null-in-custom-resource", {}),
    ("a head in the namespace syntho", "ray-address-elsewhere", {}),
    ("a namespace in the default", "hard-coded-namespace", {}),
    ("a pool without volumes", "does-not-compile", {"ray": add("/additionalWorkerGroups/more", {"disabled": False, "replicas": 1})}),
    ("disabled as a text", "does-not-compile", {"ray": replace("/worker/disabled", "true")}),
    ("a storage parameter of one's own", "duplicate-key", {"ray": add("/head/rayStartParams/storage", "/x")}),
    ("the autoscaler and the forced upgrade", "autoscaler-with-forced-upgrade", {"ray": AUTOSCALING}),
    ("no bound for the large pool", "unbounded-autoscaling", {"ray": [*AUTOSCALING, *replace("/worker/disabled", False)]}),
    ("an account that nothing makes", "missing-account", {"ray": replace("/serviceAccount/create", False)}),
    # the UI chart
    ("U3", "does-not-compile", {"ui": replace("/frontend/ingress/tls", [{"hosts": ["h"], "secretName": "s"}])}),
    ("U4", "missing-port", {}),
    ("U5", "regex-path", {"ui": replace("/frontend/ingress/className", "traefik")}),
    ("U6, the Ingress", "missing-service", {"ui": replace("/frontend/name", "web")}),
    ("U6, the Service", "selector-without-pods", {"ui": replace("/frontend/name", "web")}),
    ("U8", "missing-pull-secret", {"ui": replace("/redis/image/repository", "syntho.azurecr.io/redis")}),
    ("U8, a release candidate", "prerelease-tag", {}),
    ("U9 and U10", "floating-tag", {}),
    ("U10, elsewhere", "foreign-registry", {"environment": {"policy": {"registries": ["syntho.azurecr.io"]}}}),
    ("U11", "tiny-volume", {}),
    ("U12", "unknown-storage-class", {}),
    ("U12, of Redis", "replaced-zero", {"ui": replace("/redis/storageClassName", "")}),
    ("a path that is rewritten: the guide's", "rewritten-path", {"ui": add(
        "/frontend/ingress/annotations/nginx.ingress.kubernetes.io~1rewrite-target", "/",
    )}),
    ("U14, probes", "missing-probe", {}),
    ("U14, resources", "missing-requests", {}),
    ("U15", "http-site", {}),
    ("U16", "ray-address-elsewhere", {"ui": replace("/core/ray_address", "ray://h:10001")}),
    ("U17", "duplicate-key", {}),
    ("U18", "hook-pod", {}),
    ("U19", "invalid-field", {"ui": add("/core/celery_args/-", "8")}),
    ("a port of the container alone", "unserved-port", {"ui": replace("/backend/port", 9000)}),
    ("a variable that is there already", "duplicate-variable", {"ui": add("/core/env", {"CELERY_BROKER_URL": "x"})}),
    # the ray chart
    ("R1", "does-not-compile", {"ray": [*replace(f"{SMALL}/envFrom", [{"secretRef": {"name": "x"}}]), *replace(f"{SMALL}/disabled", False)]}),
    ("R2", "does-not-compile", {"ray": replace("/head/volumes", [])}),
    ("R3", "dead-operation", {"ray": add("/worker/volumes/-", {"name": "x", "emptyDir": {}})}),
    ("R4, the licence", "invalid-field", {"ray": replace("/SynthoLicense", "12345678")}),
    ("R4, the version", "invalid-field", {"ray": add("/head/rayVersion", 2.1)}),
    ("R5", "mode-as-owner", {"ray": replace("/head/init_container_enabled", True)}),
    ("R6", "rwo-shared-volume", {}),
    ("R7", "operator-newer-than-crds", {}),
    ("R10, the account", "invalid-field", {"ray": replace("/serviceAccount/name", "")}),
    ("R10, the name", "does-not-compile", {"ray": replace("/clustername", "123")}),
    ("R11", "oversized-pod", {"present": {"largest_node": {"cpu": "4", "memory": "16Gi"}}}),
    ("the dashboard in the open", "exposed-dashboard", {"ray": replace("/service/type", "LoadBalancer")}),
]  # fmt: skip
NEWER: list[tuple[str, str, Change]] = [
    ("U20", "does-not-compile", {"ui": add("/backend/annotations", {"a": "b"})}),
    ("U21, no name", "selector-without-pods", {"ui": replace("/redis/podDisruptionBudget", {"maxUnavailable": 1})}),
    ("U21, no database", "selector-without-pods", {"ui": [
        *replace("/db/podDisruptionBudget", {"maxUnavailable": 1}), *replace("/core/database_enabled", False),
    ]}),
    ("R12, two registries", "foreign-registry", {"environment": {"policy": {"registries": ["syntho.azurecr.io"]}}}),
]  # fmt: skip
# Compiling leaves nothing of these: U1 (NOTES.txt is not rendered), U2 and U13 (of tags before, and of an upgrade: plan tells), keep of claims.


NOTHING_THERE = {"secrets": [], "storage_classes": {}, "ingress_classes": []}


def found(site: Site, change: Change) -> set[tuple[str, str, str, str]]:
    """What lint finds in the charts with this change and nothing else."""
    change = {"present": NOTHING_THERE, **change}
    return {(one.rule, one.object, one.path, one.what) for one in site.lint("nothing", secrets=dict.fromkeys(SECRETS), **change)}


def finds(site: Site, rule: str, change: Change) -> bool:
    """Does lint find it, and where it takes a change, only with that?"""
    if "bare" not in site.known:
        site.known["bare"] = found(site, {})
    new = found(site, change) - (site.known["bare"] if change else set())
    return rule in {of for of, *_ in new}


@pytest.fixture(scope="module")
def upstream(root: Path, helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A project with Syntho's charts and no environment. Skips where they cannot be had."""
    folder = copy_project(root, tmp_path_factory.mktemp("traps") / "project")
    shutil.rmtree(folder / "envs")
    try:
        vendor(folder, load_pin(folder, folder / "vendor/charts.yaml"))
    except PreflightError as error:
        pytest.skip(f"the real charts are missing: set SYNTHO_CHARTS_URL to a mirror of them ({error.what})")
    return Site(folder, helm, "vendor/charts.yaml")


@pytest.fixture(scope="module")
def newer(root: Path, helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The same with the charts of deployment-tools."""
    folder = copy_project(root, tmp_path_factory.mktemp("newer") / "project")
    shutil.rmtree(folder / "envs")
    with_charts(folder)
    return Site(folder, helm, "vendor/charts-2026.1.1.yaml")


def ids(traps: list[tuple[str, str, Change]]) -> list[str]:
    return [number for number, _, _ in traps]


@pytest.mark.parametrize(("number", "rule", "change"), TRAPS, ids=ids(TRAPS))
def test_the_sandbox_has_the_trap_and_lint_finds_it(site: Site, number: str, rule: str, change: Change) -> None:
    assert finds(site, rule, change), number


@pytest.mark.upstream
@pytest.mark.parametrize(("number", "rule", "change"), TRAPS, ids=ids(TRAPS))
def test_upstreams_charts_have_the_trap_and_lint_finds_it(upstream: Site, number: str, rule: str, change: Change) -> None:
    assert finds(upstream, rule, change), number


@pytest.mark.upstream
@pytest.mark.parametrize(("number", "rule", "change"), NEWER, ids=ids(NEWER))
def test_the_charts_of_deployment_tools_have_the_trap_and_lint_finds_it(newer: Site, number: str, rule: str, change: Change) -> None:
    assert finds(newer, rule, change), number
