"""The real Ray operator does with our releases what the stand-in does: its pods follow every overlay through plan and deploy.

On a cluster of its own, without the Stages that play the operator's part elsewhere.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from syntho_deploy.cluster import crds, local
from syntho_deploy.cluster.readiness import ray_group
from syntho_deploy.errors import PreflightError
from syntho_deploy.vendor import load_pin, vendor
from tests.components.test_pin_2026 import PIN, with_charts
from tests.e2e.kuberay import KubeRay, operator
from tests.e2e.ray_operator import RayOperator
from tests.e2e.site import Site
from tests.e2e.test_other_managers import SMALL, autoscale, numbers
from tests.e2e.test_pin_2026_dry_run import CANARIES

pytestmark = pytest.mark.upstream

Eventually = Callable[..., Any]
CHARTS = {"sandbox": "vendor/sandbox.yaml", "98ec265": "vendor/charts.yaml"}
PLAYED = ("raycluster-crd", "raycluster-look-again", "raycluster")


@contextmanager
def cluster_for(name: str) -> Iterator[local.Cluster]:
    """A cluster where nobody plays the operator's part."""
    try:
        cluster = local.create(f"{name}-{os.getpid()}", provider="kwok")
        client = Site(Path(), "", cluster, "").client()
        for stage in PLAYED:
            client.delete("kwok.x-k8s.io/v1alpha1", "Stage", "", stage)
        yield cluster
    finally:
        local.delete(f"{name}-{os.getpid()}")


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[local.Cluster]:
    with cluster_for("ray") as cluster:
        yield cluster


@pytest.fixture(params=["sandbox"])
def site(own_cluster: local.Cluster, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """A site with two pools of workers and the charts of one pin."""
    made = Site.make(tmp_path, "here", own_cluster, f"k-{uuid.uuid4().hex[:8]}")
    try:
        vendor(made.root, load_pin(made.root, made.root / CHARTS[request.param]))
    except PreflightError as error:
        pytest.skip(f"the real charts are missing: set SYNTHO_CHARTS_URL to a mirror of them ({error.what})")
    environment = made.read()
    kept = [name for name in environment["components"] if name != "ray/head-only"]
    made.write({**environment, "charts": CHARTS[request.param], "components": [*kept, "ray/two-pools"]})
    yield made
    made.remove()


def running(site: Site, version: str = "0.6.0") -> KubeRay:
    """The operator for a site, started with the flags that its chart has. Before it starts, the kinds that it watches are served."""
    program, compiled, client = operator(version), site.compile(), site.client()
    due = crds.due(client, [file for chart in compiled.charts.values() for file in chart.crds], True)
    for name, file in due.items():  # side by side, those of two versions take a busy machine longer than the API server waits
        crds.apply(client, {name: file})
    deployment = next(item for item in compiled.objects if item["metadata"]["name"] == "kuberay-operator" and item["kind"] == "Deployment")
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    flags = [flag for flag in [*container["command"][1:], *(container.get("args") or [])] if "leader-election" not in flag]
    return KubeRay(program, site.cluster, flags, site.root / "operator.log")


def pods(site: Site) -> dict[str, list[dict[str, Any]]]:
    """The Ray pods by group; "" is the head's."""
    found: dict[str, list[dict[str, Any]]] = {}
    for pod in site.client().objects("v1", "Pod", site.namespace, "ray.io/cluster=ray-cluster"):
        if "deletionTimestamp" not in pod["metadata"]:
            found.setdefault(ray_group(pod), []).append(pod)
    return found


def counts(site: Site) -> dict[str, int]:
    """The number of Ray pods by group."""
    return {group: len(members) for group, members in pods(site).items()}


def deployed(site: Site) -> None:
    """Plan and deploy, and see that this was all."""
    site.invoke("plan", code=2)
    assert "deployed and verified" in site.invoke("deploy").stdout
    assert "as compiled" in site.invoke("verify").stdout
    assert "nothing to do" in site.invoke("deploy").stdout


@pytest.mark.parametrize("site", CHARTS, indirect=True)
def test_the_head_service_and_the_pools_appear_and_follow_the_overlays(site: Site) -> None:
    with running(site):
        deployed(site)
        assert counts(site) == {"": 1, "smallGroup": 1, "workergroup": 1}
        core = site.get("Deployment", "core")
        assert core is not None
        (address,) = [one["value"] for one in core["spec"]["template"]["spec"]["containers"][0]["env"] if one["name"] == "RAY_ADDRESS"]
        assert address.removesuffix(f".{site.namespace}.svc.cluster.local") == "ray-cluster-head-svc"
        assert site.get("Service", "ray-cluster-head-svc", "v1")
        before = pods(site)
        new = {"name": "NEW", "value": "1"}
        changes = [
            {"op": "add", "path": f"{SMALL}/containerEnv/-", "value": new},
            {"op": "replace", "path": f"{SMALL}/replicas", "value": 2},
            {"op": "add", "path": "/head/containerEnv/-", "value": new},
        ]
        site.overlay("ray.values.yaml", changes)
        stale = {pod["metadata"]["name"] for group in ("", "smallGroup") for pod in before[group]}
        found = next(item for item in site.invoke("plan", "--json", code=2).json["objects"] if item["object"] == "RayCluster/ray-cluster")
        assert set(found["pods"]) == stale
        deployed(site)
        after = pods(site)
        assert counts(site) == {"": 1, "smallGroup": 2, "workergroup": 1}
        assert all(new in pod["spec"]["containers"][0]["env"] for pod in [*after["smallGroup"], *after[""]])
        assert after["workergroup"][0]["metadata"]["uid"] == before["workergroup"][0]["metadata"]["uid"]


def test_an_image_arrives_in_every_pod_though_the_operator_deletes_them_too(site: Site) -> None:
    with running(site):
        deployed(site)
        site.overlay("ray.values.yaml", [{"op": "replace", "path": "/image/tag", "value": "2.9"}])
        deployed(site)
        images = {pod["spec"]["containers"][0]["image"].rpartition(":")[2] for members in pods(site).values() for pod in members}
        assert images == {"2.9"}
        assert counts(site) == {"": 1, "smallGroup": 1, "workergroup": 1}


def test_where_pods_run_arrives_too_and_a_pool_that_leaves_takes_its_pods_along(site: Site) -> None:
    with running(site):
        deployed(site)
        place = [{"op": "replace", "path": f"{part}/nodeSelector", "value": {"type": "kwok"}} for part in ("/worker", "/head")]
        gone = {"op": "replace", "path": f"{SMALL}/disabled", "value": True, "overrides": True}
        site.overlay("ray.values.yaml", [*place, gone])
        deployed(site)
        assert counts(site) == {"": 1, "workergroup": 1}
        assert all(pod["spec"]["nodeSelector"] == {"type": "kwok"} for members in pods(site).values() for pod in members)


def test_more_workers_than_a_pool_may_have_are_named(site: Site) -> None:
    with running(site):
        site.overlay("ray.values.yaml", [{"op": "replace", "path": f"{SMALL}/replicas", "value": 5}])
        ran = site.invoke("deploy", "--timeout=15s", code=5)
        assert "RayCluster/ray-cluster: group smallGroup: 5 replicas are more than its maxReplicas 3" in ran.stderr
        assert counts(site)["smallGroup"] == 3


def test_the_autoscaler_comes_with_the_head_and_keeps_its_number(site: Site, eventually: Eventually) -> None:
    with running(site):
        deployed(site)
        site.write({**site.read(), "components": [*site.read()["components"], "ray/autoscaling"]})
    with running(site):  # anew, as its Deployment has other flags now
        deployed(site)
        assert [container["name"] for container in pods(site)[""][0]["spec"]["containers"]] == ["ray-head", "autoscaler"]
        autoscale(site, "smallGroup", 3)
        eventually(lambda: counts(site)["smallGroup"] == 3)
        eventually(lambda: "as compiled" in site.run("verify", f"--env={site.name}").stdout)
        assert "nothing to do" in site.invoke("deploy").stdout
        site.invoke("drift")
        autoscale(site, "smallGroup", 2, [pods(site)["smallGroup"][0]["metadata"]["name"]])
        eventually(lambda: counts(site)["smallGroup"] == 2)
        site.overlay("ray.values.yaml", [{"op": "add", "path": f"{SMALL}/containerEnv/-", "value": {"name": "NEW", "value": "1"}}])
        deployed(site)
        assert numbers(site)["smallGroup"] == 2
        small = pods(site)["smallGroup"]
        assert len(small) >= 2  # it counts from a cache and may make one more, which only the autoscaler takes away
        assert all({"name": "NEW", "value": "1"} in pod["spec"]["containers"][0]["env"] for pod in small)


@pytest.mark.parametrize("more", [[], ["ray/autoscaling"]])
def test_the_stand_in_makes_what_the_real_operator_makes(site: Site, eventually: Eventually, more: list[str]) -> None:
    site.write({**site.read(), "components": [*site.read()["components"], *more]})
    with running(site):
        site.deploy()
        real = described(site)
    for pod in [pod for members in pods(site).values() for pod in members]:
        site.client().delete("v1", "Pod", site.namespace, pod["metadata"]["name"])
    site.client().delete("v1", "Service", site.namespace, "ray-cluster-head-svc")
    eventually(lambda: not pods(site))
    with RayOperator(site.client(), site.namespace):
        eventually(lambda: counts(site) == {"": 1, "smallGroup": 1, "workergroup": 1})
        assert described(site) == real


def described(site: Site) -> dict[str, Any]:
    """What is relied on of the operator's work: the head's Service, and the pods."""
    service = site.get("Service", "ray-cluster-head-svc", "v1")
    assert service is not None
    ports = {port["name"]: (port["port"], port["targetPort"]) for port in service["spec"]["ports"]}
    found: dict[str, Any] = {"Service": (service["metadata"]["labels"], service["spec"]["selector"], ports, service["spec"]["type"])}
    for group, members in pods(site).items():
        for pod in members:
            spec, metadata = pod["spec"], pod["metadata"]
            found[group] = {
                "name": metadata["name"].rpartition("-")[0], "labels": metadata["labels"], "annotations": metadata["annotations"],
                "containers": [(one["name"], [entry["name"] for entry in one.get("env", [])]) for one in spec["containers"]][:1],
                "all": [one["name"] for one in spec["containers"]], "before": [one["name"] for one in spec.get("initContainers", [])],
                "account": spec["serviceAccountName"], "owner": metadata["ownerReferences"][0]["kind"],
                "mounts": sorted(one["mountPath"] for one in spec["containers"][0]["volumeMounts"]),
            }  # fmt: skip
    return found


def test_a_later_operator_holds_at_the_third_pin(tmp_path: Path) -> None:
    with cluster_for("ray-later") as cluster:
        site = Site.make(tmp_path, "here", cluster, "later", base="dev")
        with_charts(site.root)
        kept = [name for name in site.read()["components"] if name != "ray/head-only"]
        site.write({**site.read(), "charts": PIN, "protected": False, "components": [*kept, "ray/two-pools"]})
        site.variables = dict(CANARIES)
        with running(site, "1.4.0"):
            deployed(site)
            assert counts(site) == {"": 1, "smallGroup": 1, "workergroup": 1}
            small, new = "/ray-cluster/additionalWorkerGroups/smallGroup", {"name": "NEW", "value": "1"}
            changes = [
                {"op": "replace", "path": "/ray-cluster/image/tag", "value": "2.9", "overrides": True},
                {"op": "replace", "path": f"{small}/replicas", "value": 2, "overrides": True},
                {"op": "add", "path": f"{small}/containerEnv", "value": [new]},
            ]
            site.overlay("ray.values.yaml", changes)
            deployed(site)
            after = pods(site)
            assert counts(site) == {"": 1, "smallGroup": 2, "workergroup": 1}
            assert {pod["spec"]["containers"][0]["image"].rpartition(":")[2] for members in after.values() for pod in members} == {"2.9"}
            assert all(new in pod["spec"]["containers"][0]["env"] for pod in after["smallGroup"])
