"""What is known to change between the releases of Syntho's charts is found: real charts, real refs, the shipped components."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from syntho_deploy import bumpcharts
from syntho_deploy.bumpcharts import ChartDiff, EnvironmentDiff, Result
from syntho_deploy.errors import DeployError
from syntho_deploy.helm import Helm
from syntho_deploy.vendor import load_pin, vendor
from tests.conftest import copy_project, write_files

pytestmark = pytest.mark.upstream

HEAD = "98ec265fb8ade47ff444ce723c37fe58791d3202"
TOOLS_URL = "SYNTHO_DEPLOYMENT_TOOLS_URL"


@pytest.fixture
def site(root: Path, tmp_path: Path) -> Path:
    """A repository whose one environment is dev's, in a namespace that is not the charts' own."""
    folder = copy_project(root, tmp_path / "site")
    text = (folder / "envs/dev.yaml").read_text().replace("namespace: syntho-dev", "namespace: analytics")
    for file in (folder / "envs").glob("*"):
        file.unlink()
    write_files(folder, {"envs/dev.yaml": f"{text}charts: vendor/own.yaml\n"})
    return folder


def at(site: Path, ref: str) -> None:
    """Have the environment's pin at a ref. Skips where the charts cannot be had."""
    overlays = "[overlays]" if ref == HEAD else "[overlays/pins/1.9.7, overlays]"
    source = load_pin(site, site / "vendor/charts.yaml").source
    pin = f"source: {source}\nref: {ref}\ncharts: {{ray: helm/ray, syntho-ui: helm/syntho-ui}}\noverlays: {overlays}\n"
    write_files(site, {"vendor/own.yaml": pin})
    try:
        vendor(site, load_pin(site, site / "vendor/own.yaml"), update=True)
    except DeployError as error:
        pytest.skip(f"the real charts are missing: set SYNTHO_CHARTS_URL to a mirror of them ({error.what})")


def compared(site: Path, helm: Helm, old: str, new: str) -> tuple[Result, dict[str, ChartDiff], EnvironmentDiff]:
    at(site, old)
    result = bumpcharts.to_ref(site, load_pin(site, site / "vendor/own.yaml"), new, None, helm)
    return result, {chart.name: chart for chart in result.charts}, result.environments[0]


def changes(one: EnvironmentDiff) -> dict[str, tuple[object, object]]:
    """Every changed field by `Kind/name:/path`."""
    return {f"{item.label}:{change.path}": (change.before, change.after) for item in one.objects for change in item.changes}


def test_from_alpha_1_to_1_9_0(site: Path, helm: Helm) -> None:
    _, charts, dev = compared(site, helm, "0.1.0-alpha.1", "1.9.0")
    assert [chart.values for chart in charts.values()] == [(), ()]
    assert dev.faults == dev.immutable == dev.secrets == dev.images == []
    found = changes(dev)
    limit = "resources/limits/cpu"
    assert found[f"Deployment/backend-worker:/spec/template/spec/containers/[name=backend-worker]/{limit}"] == ("500m", "1000m")
    assert found[f"Deployment/core:/spec/template/spec/containers/[name=core]/{limit}"] == ("1000m", "1250m")
    assert "-forced-cluster-upgrade" in str([change for path, change in found.items() if path.startswith("Deployment/kuberay-operator:")])


def test_from_1_9_0_to_1_9_7(site: Path, helm: Helm) -> None:
    _, charts, dev = compared(site, helm, "1.9.0", "1.9.7")
    assert [chart.values for chart in charts.values()] == [(), ()]
    assert {item.label for item in dev.objects if "uster" in item.label or "operator" in item.label} == set()  # Ray stays as it is
    assert dev.immutable == dev.faults == []
    worker = "Deployment/core-worker:/spec/template/spec/containers/[name=core-worker]"
    found = changes(dev)
    assert found[f"{worker}/resources/limits/cpu"] == ("1000m", "1250m")
    assert any(path.startswith(f"{worker}/") and "Probe" in path for path in found)
    moved = [(str(old), str(new)) for old, new in found.values() if ".syntho.svc" in str(old)]
    assert moved
    assert all(".syntho.svc" not in new and ".analytics.svc" in new for _, new in moved)
    tls = ("/frontend/ingress/conf/tls", "/frontend/ingress/tls/conf")  # what was read to turn TLS on, and what is now
    assert tls[0] in charts["syntho-ui"].no_longer_read
    assert tls[1] in charts["syntho-ui"].newly_read


def test_from_1_9_7_to_the_head(site: Path, helm: Helm) -> None:
    result, charts, dev = compared(site, helm, "1.9.7", HEAD)
    assert [(change.path, change.before, change.after) for change in charts["syntho-ui"].values] == [
        ("/core/celery_args/4", "--concurrency=1", "--concurrency=4")
    ]
    ray = {change.path: change.after for change in charts["ray"].values}
    assert ray.keys() == {
        f"/{group}/resources/{kind}/{what}" for group in ("head", "worker") for kind in ("limits", "requests") for what in ("cpu", "memory")
    }
    assert set(ray.values()) == {"8000m", "32G"}
    assert [line for line in dev.defaults if "ray/head-only" in line and "/head/resources/limits/cpu: 1000m -> 8000m" in line]
    assert "/backend/secret_key" in charts["syntho-ui"].no_longer_read
    assert {"/backend/secretKey", "/backend/manualSecretName", "/core/manualSecretName"} <= set(charts["syntho-ui"].newly_read)
    keys = "overlays/pins/1.9.7/components/keys/syntho-ui.values.yaml:6:3"
    assert [line for line in dev.faults if line.startswith(keys) and 'the secret "backend.secret_key" reaches no manifest' in line]
    assert [line for line in dev.dead if line.startswith(f"{keys}: replace syntho-ui:/backend/secret_key has no effect")]
    assert {item.label for item in dev.objects if item.what == "added"} == {"Secret/backend-secret", "Secret/core-secret"}
    assert dev.immutable == []
    for arrival in ("core.secret_key arrives at Secret/core-secret", "backend.user.password arrives at Secret/backend-secret"):
        assert [line for line in dev.secrets if line.startswith(arrival)]
    assert [path for path in changes(dev) if path.endswith("/env/[name=SECRET_KEY_2]")]
    # the admin's password, and the key, are wrapped once more, or made up, by what the template finds in the cluster
    assert charts["syntho-ui"].lookups == ('Secret "backend-secret" in templates/backend/backend-secret.yaml',)
    assert [line.partition(":")[0] for line in dev.random] == ["Secret/backend-secret"]
    with pytest.raises(DeployError, match="dev would not compile"):
        result.write(None, force=False)


def test_from_the_head_to_deployment_tools(site: Path, helm: Helm) -> None:
    at(site, HEAD)
    other = load_pin(site, site / "vendor/charts-2026.1.1.yaml")
    url = os.environ.get(TOOLS_URL) or other.source
    try:
        vendor(site, other, url)
    except DeployError as error:
        pytest.skip(f"the charts of deployment-tools are missing: set {TOOLS_URL} to a mirror of them ({error.what})")
    result = bumpcharts.to_pin(site, load_pin(site, site / "vendor/own.yaml"), other, url, helm)
    charts, dev = {chart.name: chart for chart in result.charts}, result.environments[0]
    ui = {change.path: (change.before, change.after) for change in charts["syntho-ui"].values}
    assert {"/backend/env", "/core/core_address", "/frontend/busyboxImage", "/redis/podDisruptionBudget"} <= ui.keys()
    assert ui["/db/image/tag"] == ("latest", "14-bookworm")
    assert ui["/resources"][1] == "(absent)"
    ray = {change.path: change.after for change in charts["ray"].values}
    assert ray["/operatorImage"] == ray["/clustername"] == "(absent)"
    assert {"/kuberay-operator", "/ray-cluster"} <= ray.keys()
    assert not {"/SynthoLicense/", "/storage/storageClassName"} & ray.keys()
    assert [line for line in charts["ray"].crds if line.startswith("rayclusters.ray.io stores v1 and not v1alpha1")]
    assert {line.partition(":")[0] for line in dev.immutable} == {"Deployment/postgres", "Deployment/database", "Deployment/kuberay-operator"}
    by_what = {what: {item.label for item in dev.objects if item.what == what} for what in ("added", "removed")}
    assert {"PersistentVolumeClaim/ray-data-claim", "Role/kuberay-operator-leader-election"} <= by_what["added"]
    assert by_what["removed"] == {"Role/rayjob-editor-role", "Role/rayjob-viewer-role"}
    assert "license arrives at Secret/ray-secret:/stringData/license_key" in dev.secrets
    found = changes(dev)
    assert found["RayCluster/ray-cluster:/apiVersion"] == ("ray.io/v1alpha1", "ray.io/v1")
    assert found["Deployment/core:/spec/template/spec/containers/[name=core]/imagePullPolicy"] == ("Always", "IfNotPresent")
