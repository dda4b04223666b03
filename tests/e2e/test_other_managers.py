"""What another manager sets on the cluster is its own: no change of the plan, no drift, and a deploy leaves it as it is.

The writes are those that such managers make: Ray's autoscaler's JSON patch, the scale subresource, an added container.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from syntho_deploy import plan as planning
from tests.e2e.ray_operator import RayOperator
from tests.e2e.site import Site
from tests.e2e.test_plan import _settled, _truth

Eventually = Callable[..., Any]
RAY = ("ray.io/v1alpha1", "RayCluster")
SMALL = "/additionalWorkerGroups/smallGroup"


@pytest.fixture
def scaled(site: Site) -> Iterator[Site]:
    """A site whose Ray has two pools and an autoscaler, with an operator."""
    environment = site.read()
    kept = [name for name in environment["components"] if name != "ray/head-only"]
    used = {name: value for name, value in environment["vars"].items() if not name.startswith("head_")}
    site.write({**environment, "vars": used, "components": [*kept, "ray/two-pools", "ray/autoscaling"]})
    with RayOperator(site.client(), site.namespace):
        yield site


def patch(site: Site, kind: tuple[str, str], name: str, body: Any, manager: str, more: str = "") -> None:
    """A write of another manager. body: a JSON patch, or a merge patch."""
    client = site.client()
    content_type = "application/json-patch+json" if isinstance(body, list) else "application/merge-patch+json"
    client.request("PATCH", client.path(*kind, site.namespace, name) + more, body, {"fieldManager": manager}, content_type)


def autoscale(site: Site, group: str, replicas: int, delete: list[str] | None = None) -> None:
    """What Ray's autoscaler sends (ray/autoscaler/_private/kuberay/node_provider.py)."""
    groups = pools(site)
    number = [one["groupName"] for one in groups].index(group)
    operations: list[dict[str, Any]] = [{"op": "replace", "path": f"/spec/workerGroupSpecs/{number}/replicas", "value": replicas}]
    operations.append({"op": "replace", "path": f"/spec/workerGroupSpecs/{number}/scaleStrategy", "value": {"workersToDelete": delete or []}})
    patch(site, RAY, "ray-cluster", operations, "python-requests")


def pools(site: Site) -> list[dict[str, Any]]:
    """The worker groups of the live RayCluster."""
    found = site.get("RayCluster", "ray-cluster", RAY[0])
    assert found is not None
    return list(found["spec"]["workerGroupSpecs"])


def numbers(site: Site) -> dict[str, int]:
    """The replicas of each live worker group."""
    return {one["groupName"]: one["replicas"] for one in pools(site)}


def test_the_number_that_the_autoscaler_chose_is_no_change_no_drift_and_healthy(scaled: Site, eventually: Eventually) -> None:
    scaled.invoke("deploy")
    autoscale(scaled, "smallGroup", 3)
    eventually(lambda: len(scaled.client().objects("v1", "Pod", scaled.namespace, "ray.io/group=smallGroup")) >= 3)  # 0.6 may make one too many
    assert "nothing to do" in scaled.invoke("plan").stdout
    scaled.invoke("drift")
    eventually(lambda: scaled.run("verify", f"--env={scaled.name}").code == 0)
    assert "nothing to do" in scaled.invoke("deploy").stdout
    assert numbers(scaled)["smallGroup"] == 3


def test_a_change_of_the_overlay_keeps_the_number_that_the_autoscaler_chose(scaled: Site, eventually: Eventually) -> None:
    scaled.deploy()
    autoscale(scaled, "smallGroup", 3)
    scaled.overlay("ray.values.yaml", [{"op": "add", "path": f"{SMALL}/containerEnv/-", "value": {"name": "NEW", "value": "1"}}])
    found = scaled.invoke("plan", "--json", code=2).json
    (changed,) = [item for item in found["objects"] if item["action"] != "unchanged"]
    assert (changed["object"], changed["action"], changed["reason"]) == (
        "RayCluster/ray-cluster",
        "update",
        "pods have another variable NEW of ray-worker",
    )
    assert len(changed["pods"]) in (3, 4)
    assert [change["path"].rpartition("containers/")[2] for change in changed["changes"]] == ["[name=ray-worker]/env/[name=NEW]"]
    _truth(scaled, eventually)
    assert numbers(scaled)["smallGroup"] == 3
    pods = scaled.client().objects("v1", "Pod", scaled.namespace, "ray.io/group=smallGroup")
    assert len(pods) in (3, 4)  # operator 0.6 counts by its cache and may make one too many, which it leaves to the autoscaler
    assert all({"name": "NEW", "value": "1"} in pod["spec"]["containers"][0]["env"] for pod in pods)
    assert "as compiled" in scaled.invoke("verify").stdout
    scaled.invoke("drift")


@pytest.mark.thorough
def test_what_the_autoscaler_wants_deleted_is_kept_in_the_list(scaled: Site) -> None:
    scaled.deploy()
    autoscale(scaled, "smallGroup", 1, ["ray-cluster-worker-smallgroup-00009"])
    scaled.overlay("ray.values.yaml", [{"op": "add", "path": f"{SMALL}/containerEnv/-", "value": {"name": "NEW", "value": "1"}}])
    scaled.deploy()
    (small,) = [one for one in pools(scaled) if one["groupName"] == "smallGroup"]
    assert small["scaleStrategy"] == {"workersToDelete": ["ray-cluster-worker-smallgroup-00009"]}


@pytest.mark.thorough
def test_other_bounds_arrive_and_bound_the_number(scaled: Site, eventually: Eventually) -> None:
    scaled.deploy()
    autoscale(scaled, "smallGroup", 3)
    autoscale(scaled, "workergroup", 2)
    bounds = [{"op": "replace", "path": f"{SMALL}/minReplicas", "value": 4}, {"op": "replace", "path": f"{SMALL}/maxReplicas", "value": 6}]
    scaled.overlay("ray.values.yaml", bounds)
    _truth(scaled, eventually)
    (small,) = [one for one in pools(scaled) if one["groupName"] == "smallGroup"]
    assert (small["minReplicas"], small["maxReplicas"], small["replicas"]) == (4, 6, 4)
    assert numbers(scaled)["workergroup"] == 2
    assert not planning.make(scaled.client(), scaled.compile())


@pytest.mark.thorough
def test_a_pool_that_is_new_begins_with_its_own_number(scaled: Site) -> None:
    scaled.deploy()
    autoscale(scaled, "smallGroup", 3)
    more = {"pool": "gpu", "pool_replicas": 2, "pool_max": 4, "pool_cpu": "1", "pool_memory": "1G"}
    environment = scaled.read()
    scaled.write({**environment, "components": [*environment["components"], "ray/pool"], "vars": {**environment["vars"], **more}})
    scaled.deploy()
    assert numbers(scaled) == {"gpu": 2, "smallGroup": 3, "workergroup": 1}


@pytest.mark.thorough
def test_the_autoscalers_number_does_not_move_a_plan_file(scaled: Site) -> None:
    scaled.deploy()
    scaled.overlay("syntho-ui.values.yaml", [{"op": "replace", "path": "/core/image/tag", "value": "2.0.0"}])
    scaled.invoke("plan", "--out=plan.json", code=2)
    autoscale(scaled, "smallGroup", 2)
    assert "deployed and verified" in scaled.invoke("deploy", "--plan=plan.json").stdout
    assert numbers(scaled)["smallGroup"] == 2


@pytest.mark.thorough
def test_without_the_autoscaler_the_number_is_ours_again(scaled: Site, eventually: Eventually) -> None:
    scaled.deploy()
    autoscale(scaled, "smallGroup", 3)
    environment = scaled.read()
    scaled.write({**environment, "components": [name for name in environment["components"] if name != "ray/autoscaling"]})
    _truth(scaled, eventually)
    assert numbers(scaled)["smallGroup"] == 1
    autoscale(scaled, "smallGroup", 2)
    words = "changed RayCluster/ray-cluster /spec/workerGroupSpecs/[groupName=smallGroup]/replicas: deployed 1, now 2  (by python-requests at "
    assert words in scaled.invoke("drift", code=2).stdout
    assert "RayCluster/ray-cluster: .spec.workerGroupSpecs is owned by python-requests" in scaled.invoke("deploy", code=4).stderr
    scaled.invoke("deploy", "--force-conflicts")
    assert numbers(scaled)["smallGroup"] == 1


@pytest.mark.thorough
def test_what_a_person_changed_beside_the_autoscalers_number_is_a_conflict(scaled: Site) -> None:
    scaled.deploy()
    autoscale(scaled, "smallGroup", 3)
    edit = [{"op": "replace", "path": "/spec/workerGroupSpecs/0/template/spec/containers/0/image", "value": "other:1"}]
    patch(scaled, RAY, "ray-cluster", edit, "kubectl-edit")
    assert "kubectl-edit" in scaled.invoke("plan", code=4).stdout
    assert "(by kubectl-edit at " in scaled.invoke("drift", code=2).stdout
    scaled.overlay("ray.values.yaml", [{"op": "add", "path": f"{SMALL}/containerEnv/-", "value": {"name": "NEW", "value": "1"}}])
    scaled.invoke("deploy", code=4)
    scaled.invoke("deploy", "--force-conflicts")
    assert numbers(scaled)["smallGroup"] == 3


@pytest.mark.thorough
def test_an_install_by_hand_with_an_autoscaler_is_taken_over_with_its_number(scaled: Site, eventually: Eventually) -> None:
    scaled.install_by_hand(compiled=True)
    eventually(lambda: _settled(scaled))
    autoscale(scaled, "smallGroup", 3)
    _truth(scaled, eventually)
    assert numbers(scaled)["smallGroup"] == 3
    assert not planning.make(scaled.client(), scaled.compile())


DEPLOYMENT = ("apps/v1", "Deployment")
HANDS = pytest.mark.parametrize("hand", ["helm 4", pytest.param("helm 3", marks=pytest.mark.thorough)])


def installed(site: Site, hand: str) -> None:
    """Both charts, by our deploy or by Helm 3 with the same bytes."""
    if hand == "helm 4":
        site.deploy()
    else:
        site.install_by_hand(compiled=hand == "helm 3")


def unchanged(site: Site, *names: str) -> None:
    """Plan and drift see no difference in these objects."""
    found = {item.label: item for item in planning.make(site.client(), site.compile()).objects}
    assert {name: (found[name].action, found[name].changes) for name in names} == dict.fromkeys(names, (planning.UNCHANGED, ()))


def new_tag(site: Site) -> None:
    site.overlay("syntho-ui.values.yaml", [{"op": "replace", "path": "/core/image/tag", "value": "2.0.0"}])


def containers(site: Site, name: str) -> dict[str, str]:
    """Container to image, of a live Deployment."""
    found = site.get("Deployment", name)
    assert found is not None
    return {one["name"]: one["image"] for one in found["spec"]["template"]["spec"]["containers"]}


@HANDS
def test_a_container_that_an_injector_added_stays(site: Site, eventually: Eventually, hand: str) -> None:
    installed(site, hand)
    sidecar = [{"op": "add", "path": "/spec/template/spec/containers/-", "value": {"name": "proxy", "image": "proxy:1"}}]
    note = {"spec": {"template": {"metadata": {"annotations": {"injector/status": "injected"}}}}}
    for body in (sidecar, note):
        patch(site, DEPLOYMENT, "core", body, "injector")
    if hand == "helm 4":
        unchanged(site, "Deployment/core")
        assert "nothing to do" in site.invoke("deploy").stdout
        site.invoke("drift")
        assert "as compiled" in site.invoke("verify").stdout
    new_tag(site)
    _truth(site, eventually)
    assert containers(site, "core") == {"core": "syntho.azurecr.io/syntho-core-api:2.0.0", "proxy": "proxy:1"}


@HANDS
def test_what_cert_manager_notes_on_ingress_and_secret_stays(site: Site, eventually: Eventually, hand: str) -> None:
    installed(site, hand)
    notes = {"metadata": {"annotations": {"cert-manager.io/issue-temporary-certificate": "true"}, "labels": {"acme.cert-manager.io/token": "1"}}}
    patch(site, ("networking.k8s.io/v1", "Ingress"), "frontend-ingress", notes, "cert-manager-certificates-trigger")
    if hand == "helm 4":
        patch(site, ("v1", "Secret"), "syntho-ui-secrets", notes, "cert-manager-certificates-issuing")
        unchanged(site, "Ingress/frontend-ingress")
        assert "nothing to do" in site.invoke("deploy").stdout
        site.invoke("drift")
    site.overlay("syntho-ui.values.yaml", [{"op": "add", "path": "/frontend/ingress/annotations/a", "value": "b"}])
    _truth(site, eventually)
    found = site.get("Ingress", "frontend-ingress", "networking.k8s.io/v1")
    assert found is not None
    assert notes["metadata"]["annotations"].items() < found["metadata"]["annotations"].items()
    assert found["metadata"]["annotations"]["a"] == "b"


def scale(site: Site, name: str, replicas: int, manager: str) -> None:
    """A write of the scale subresource, as an autoscaler and `kubectl scale` make it."""
    patch(site, DEPLOYMENT, name, {"spec": {"replicas": replicas}}, manager, "/scale")


def scaler(site: Site, name: str) -> None:
    """A HorizontalPodAutoscaler for a Deployment."""
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    spec = {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 5}
    metadata = {"name": name, "namespace": site.namespace}
    site.client().create({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": spec})


@HANDS
def test_replicas_that_a_pod_autoscaler_set_stay_while_there_is_one(site: Site, eventually: Eventually, hand: str) -> None:
    installed(site, hand)
    scaler(site, "core")
    scale(site, "core", 3, "kube-controller-manager")
    if hand == "helm 4":
        unchanged(site, "Deployment/core")
        assert "nothing to do" in site.invoke("deploy").stdout
        site.invoke("drift")
    new_tag(site)
    _truth(site, eventually)
    core = site.get("Deployment", "core")
    assert core is not None
    assert core["spec"]["replicas"] == 3
    site.client().delete("autoscaling/v2", "HorizontalPodAutoscaler", site.namespace, "core")
    assert ".spec.replicas: owned by kube-controller-manager" in site.invoke("plan", code=4).stdout


@pytest.mark.thorough
def test_when_the_pod_autoscaler_leaves_its_number_goes_with_it(site: Site, eventually: Eventually) -> None:
    extra = site.root / "overlays" / "here" / "syntho-ui.objects" / "scaler.yaml"
    extra.parent.mkdir(parents=True)
    target = "{apiVersion: apps/v1, kind: Deployment, name: core}"
    spec = f"{{scaleTargetRef: {target}, minReplicas: 1, maxReplicas: 5}}"
    extra.write_text(f"{{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {{name: core}}, spec: {spec}}}")
    site.deploy()
    scale(site, "core", 3, "kube-controller-manager")
    extra.unlink()
    assert "/spec/replicas: 3 -> 1" in site.invoke("plan", code=2).stdout
    _truth(site, eventually)
    assert "nothing to do" in site.invoke("plan").stdout


def test_replicas_that_a_person_set_are_drift(site: Site) -> None:
    site.deploy()
    scaler(site, "backend")
    scale(site, "core", 3, "kubectl")
    assert "changed Deployment/core /spec/replicas: deployed 1, now 3  (by kubectl" in site.invoke("drift", code=2).stdout
    assert "Deployment/core: .spec.replicas is owned by kubectl" in site.invoke("deploy", code=4).stderr


@pytest.mark.thorough
def test_a_rollout_restart_of_a_person_is_no_change(site: Site, eventually: Eventually) -> None:
    site.deploy()
    note = {"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}}}}}
    patch(site, DEPLOYMENT, "core", note, "kubectl-rollout")
    unchanged(site, "Deployment/core")
    site.invoke("drift")
    new_tag(site)
    _truth(site, eventually)
    core = site.get("Deployment", "core")
    assert core is not None
    assert "kubectl.kubernetes.io/restartedAt" in core["spec"]["template"]["metadata"]["annotations"]
