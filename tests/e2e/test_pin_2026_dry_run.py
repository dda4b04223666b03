"""deployment-tools 2026.1.1 on a real API server: every object of every shipped environment and of the components, and a deploy of dev.

On a cluster of its own: its CRDs serve a version that those of the other pins lack, so that these could not be deployed after it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from syntho_deploy import helm
from syntho_deploy.cluster import crds, local
from syntho_deploy.compile import Compiled, Project
from syntho_deploy.overlays.manifests import is_custom
from tests.components.conftest import PINS, Pinned
from tests.components.test_pin_2026 import PIN, with_charts
from tests.e2e.ray_operator import RayOperator
from tests.e2e.site import Site
from tests.e2e.test_components_dry_run import SETS

pytestmark = pytest.mark.upstream

CANARIES = {"SYNTHO_LICENSE": "canary-license/=+A1", "SYNTHO_REGISTRY_USER": "robot", "SYNTHO_REGISTRY_PASSWORD": "canary-registry-B2"}


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[local.Cluster]:
    name = f"pin-{os.getpid()}"
    try:
        yield local.create(name)
    finally:
        local.delete(name)


@pytest.fixture
def site(own_cluster: local.Cluster, tmp_path: Path, request: pytest.FixtureRequest) -> Site:
    """A site with the charts of this pin, whose environment is the one that the test names."""
    made = Site.make(tmp_path, "here", own_cluster, f"p-{request.param}", base=request.param)
    with_charts(made.root)
    made.write({**made.read(), "charts": PIN, "protected": False})
    made.variables = dict(CANARIES)
    return made


@pytest.mark.parametrize("site", ["dev", "staging", "prod"], indirect=True)
def test_the_api_server_takes_every_object(site: Site) -> None:
    taken_by_the_server(site, Project.load(site.root, "here").compile(helm.find(print)))


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("site", ["staging"], indirect=True)
def test_the_api_server_takes_what_the_components_make_here(site: Site, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(PINS, "2026.1.1", PIN)
    pinned = Pinned("2026.1.1", site.root, helm.find(print))
    taken_by_the_server(site, pinned.compile(SETS[name], namespace=site.namespace))


def taken_by_the_server(site: Site, compiled: Compiled) -> None:
    """Every object of a compiled environment passes a strict dry run."""
    client = site.client()
    files = {crds.name_of(file): file for chart in compiled.charts.values() for file in chart.crds}
    assert sorted(files) == ["rayclusters.ray.io", "rayjobs.ray.io", "rayservices.ray.io"]
    crds.apply(client, files)
    client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": site.namespace}})
    for item in compiled.objects:
        taken = client.apply(item, "test", dry_run=True)  # strict: an unknown field is an error
        assert (taken["kind"], taken["metadata"]["name"]) == (item["kind"], item["metadata"]["name"])
    assert any(item["apiVersion"] == "ray.io/v1" for item in compiled.objects)


def test_kubernetes_has_the_api_versions_that_helm_is_told(own_cluster: local.Cluster, tmp_path: Path) -> None:
    client = Site(tmp_path, "", own_cluster, "").client()
    minor = int(client.request("GET", "/version")["minor"].rstrip("+"))
    groups = client.request("GET", "/apis")["groups"]
    served = {"v1": "/api/v1", **{version["groupVersion"]: f"/apis/{version['groupVersion']}" for group in groups for version in group["versions"]}}
    own = [(api, path) for api, path in served.items() if not is_custom({"apiVersion": api})]
    found = {f"{api}/{item['kind']}" for api, path in own for item in client.request("GET", path)["resources"] if "/" not in item["name"]}
    never_in_a_chart = {name for name in found if name.endswith(("Review", "/ComponentStatus"))}
    assert set(helm.api_versions(f"1.{minor}")) == found - never_in_a_chart


@pytest.mark.parametrize("site", ["dev"], indirect=True)
def test_dev_becomes_a_verified_release(site: Site) -> None:
    with RayOperator(site.client(), site.namespace):
        ran = site.invoke("deploy")
        assert "deployed and verified" in ran.stdout
        assert "nothing to do" in site.invoke("deploy").stdout
    everything = ran.stdout + ran.stderr + "".join(site.helm("get", "all", name) for name in ("ray-cluster", "syntho-ui"))
    assert not any(value in everything for value in CANARIES.values() if value != "robot")
    core = site.get("Deployment", "core")
    assert core is not None
    address = f"ray-cluster-head-svc.{site.namespace}.svc.cluster.local"
    assert {"name": "RAY_ADDRESS", "value": address} in core["spec"]["template"]["spec"]["containers"][0]["env"]
