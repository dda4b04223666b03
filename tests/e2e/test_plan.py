"""A plan says what the next deploy changes, and nothing else: on objects of Helm 4, of Helm 3 and of other hands."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from syntho_deploy import diff
from syntho_deploy import plan as planning
from syntho_deploy.cluster import predict
from syntho_deploy.errors import PreflightError
from syntho_deploy.secrets.sentinels import label
from tests.e2e.site import Site

Objects = dict[str, dict[str, Any]]
Eventually = Callable[..., Any]


def _objects(site: Site, compiled: Any) -> Objects:
    """Every object of the namespace, of the kinds that the charts have, that helm made or would make."""
    client = site.client()
    kinds = {(item["apiVersion"], item["kind"]) for item in compiled.objects} | {("v1", "Secret")}
    found = [item for kind in kinds for item in client.objects(*kind, site.namespace)]
    return {label(item): item for item in found if "meta.helm.sh/release-name" in (item["metadata"].get("annotations") or {})}


def _truth(site: Site, eventually: Eventually) -> None:
    """Plan, deploy, and compare what the plan said with what became of every object, field by field."""
    compiled = site.compile()
    eventually(lambda: _settled(site))
    before = _objects(site, compiled)
    plan = planning.make(site.client(), compiled)
    assert not plan.blocked, planning.text(plan)
    site.deploy()
    after = _objects(site, compiled)
    said = {item.label: item for item in plan.objects}
    for name in sorted({*before, *after}):
        planned = said.get(name)
        if name not in before:
            assert planned is not None, name
            assert planned.action == planning.CREATE, name
        elif name not in after:
            assert planned is not None, name
            assert planned.action == planning.DELETE, name
        elif planned and planned.action == planning.KEPT:
            assert before[name]["metadata"]["uid"] == after[name]["metadata"]["uid"]
        else:
            assert planned is None or planned.action in (planning.UPDATE, planning.UNCHANGED), f"{name}: {planned.action}"
            foreign = planned is not None and compiled.charts[planned.chart].release.name in plan.foreign
            changed = {change.path: change for change in diff.changes(before[name], after[name], foreign)}
            expected = {change.path: change for change in planned.changes} if planned else {}
            assert changed == expected, f"{name}: {changed} is not {expected}"
            if planned and planned.action == planning.UNCHANGED:
                assert not changed


def _settled(site: Site) -> bool:
    """Have the controllers ended their work? They write too: a bound volume's name, a service's address."""
    claims = site.client().objects("v1", "PersistentVolumeClaim", site.namespace)
    workloads = [item for kind in ("Deployment", "StatefulSet") for item in site.client().objects("apps/v1", kind, site.namespace)]
    bound = all(item.get("status", {}).get("phase") == "Bound" for item in claims)
    return bound and all(item.get("status", {}).get("observedGeneration") == item["metadata"]["generation"] for item in workloads)


OVERLAYS: dict[str, dict[str, list[dict[str, Any]]]] = {
    "tag and replicas": {
        "syntho-ui.values.yaml": [
            {"op": "replace", "path": "/core/image/tag", "value": "2.0.0"},
            {"op": "replace", "path": "/frontend/replicaCount", "value": 2},
            {"op": "add", "path": "/backend/env", "value": {"EXTRA": "1"}},
        ]
    },
    "ray and removal": {
        "ray.values.yaml": [
            {"op": "replace", "path": "/head/containerEnv/[name=RAY_SCHEDULER_SPREAD_THRESHOLD]/value", "value": "0.5"},
            {"op": "replace", "path": "/worker/disabled", "value": False, "overrides": True},
        ],
        "syntho-ui.manifests.yaml": [
            {"target": {"kind": "Ingress", "name": "frontend-ingress"}, "delete": True},
            {
                "target": {"kind": "Deployment", "name": "backend"},
                "patch": [{"op": "remove", "path": "/spec/template/spec/containers/[name=backend]/livenessProbe"}],
            },
        ],
    },
    "ports, annotations and a volume that leaves": {
        "syntho-ui.values.yaml": [
            {"op": "replace", "path": "/core/database_enabled", "value": False},
            {"op": "remove", "path": "/frontend/ingress/annotations/nginx.ingress.kubernetes.io~1affinity"},
            {"op": "add", "path": "/frontend/annotations", "value": {"team": "a"}},
            {"op": "replace", "path": "/core/port", "value": 9090},
        ]
    },
}


HANDS = ("helm 4", "helm 3", "guide")
AT_ONCE = (*(("helm 4", change) for change in OVERLAYS), ("helm 3", "tag and replicas"))
EACH = [pytest.param(hand, change, marks=() if (hand, change) in AT_ONCE else pytest.mark.thorough) for hand in HANDS for change in OVERLAYS]


@pytest.mark.parametrize(("hand", "change"), EACH)
def test_the_plan_tells_what_the_deploy_changes(site: Site, eventually: Eventually, hand: str, change: str) -> None:
    if hand == "helm 4":
        site.deploy()
    else:
        site.install_by_hand(compiled=hand == "helm 3")
        if hand == "helm 3":
            _truth(site, eventually)
    for file, content in OVERLAYS[change].items():
        site.overlay(file, content)
    _truth(site, eventually)
    assert not planning.make(site.client(), site.compile())


@pytest.mark.administrator
def test_a_plan_of_an_empty_cluster_creates_all_and_writes_nothing(site: Site) -> None:
    ran = site.invoke("plan", code=2)
    assert "+ Deployment/core" in ran.stdout
    assert "28 create" in ran.stdout
    assert "+ Secret/syntho-ui-secrets (" in ran.stdout
    assert site.client().get("v1", "Namespace", "", site.namespace) is None


def test_a_plan_with_nothing_to_do_exits_0(site: Site) -> None:
    site.deploy()
    assert "nothing to do" in site.invoke("plan").stdout


def test_a_plan_names_the_pods_that_restart(site: Site) -> None:
    site.deploy()
    site.overlay("syntho-ui.values.yaml", [{"op": "replace", "path": "/core/image/tag", "value": "2.0.0"}])
    found = site.invoke("plan", "--json", code=2).json
    core = next(item for item in found["objects"] if item["object"] == "Deployment/core")
    assert core["action"] == "update"
    (change,) = core["changes"]
    assert change["path"] == "/spec/template/spec/containers/[name=core]/image"
    assert (change["before"], change["after"]) == ("syntho.azurecr.io/syntho-core-api:latest", "syntho.azurecr.io/syntho-core-api:2.0.0")
    assert change["origin"] == "syntho-ui:/core/image/repository (chart default), overlays/here/syntho-ui.values.yaml:1:3"
    assert len(core["pods"]) == 1
    assert core["pods"][0].startswith("core-")
    assert [item["object"] for item in found["objects"] if item["action"] != "unchanged"] == ["Deployment/core", "Deployment/core-worker"]


def test_an_immutable_selector_is_replaced_without_two_pods_at_once(site: Site) -> None:
    site.deploy()
    before = site.get("Deployment", "postgres")
    label_path = "/spec/{}/labels/io.kompose.service"
    operations = [
        {"op": "replace", "path": path, "value": "pg"}
        for path in ("/spec/selector/matchLabels/io.kompose.service", label_path.format("template/metadata"))
    ]
    site.overlay("syntho-ui.manifests.yaml", [{"target": {"kind": "Deployment", "name": "postgres"}, "patch": operations}])
    ran = site.invoke("plan", code=2)
    assert "! Deployment/postgres" in ran.stdout
    assert "restarts: postgres-" in ran.stdout
    site.deploy()
    after = site.get("Deployment", "postgres")
    assert before is not None
    assert after is not None
    assert before["metadata"]["uid"] != after["metadata"]["uid"]
    assert not planning.make(site.client(), site.compile())


def test_a_field_that_cannot_change_on_a_volume_is_refused_before_any_write(site: Site) -> None:
    site.deploy()
    site.overlay("syntho-ui.values.yaml", [{"op": "replace", "path": "/db/storageClassName", "value": "kwok-volume"}])
    ran = site.invoke("deploy", code=4)
    assert "PersistentVolumeClaim/database-data-1" in ran.stderr
    assert site.helm("history", "syntho-ui", "-o", "json").count("revision") == 1


def test_a_volume_stays_when_its_database_goes_and_is_found_again(site: Site) -> None:
    site.install_by_hand()
    claim = site.get("PersistentVolumeClaim", "database-data-1", "v1")
    site.overlay("syntho-ui.values.yaml", [{"op": "replace", "path": "/core/database_enabled", "value": False}])
    ran = site.invoke("plan", code=2)
    assert "= PersistentVolumeClaim/database-data-1" in ran.stdout
    assert "- Deployment/postgres" in ran.stdout
    site.deploy()
    assert site.get("Deployment", "postgres") is None
    (site.root / "overlays" / "here" / "syntho-ui.values.yaml").unlink()
    site.deploy()
    again = site.get("PersistentVolumeClaim", "database-data-1", "v1")
    assert claim is not None
    assert again is not None
    assert again["metadata"]["uid"] == claim["metadata"]["uid"]


def test_an_object_of_another_hand_is_not_taken(site: Site) -> None:
    client = site.client()
    client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": site.namespace}})
    client.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "redis-configuration", "namespace": site.namespace}, "data": {"a": "b"}}
    )
    ran = site.invoke("plan", code=4)
    assert "x ConfigMap/redis-configuration  (it exists and belongs to no release)" in ran.stdout
    with pytest.raises(PreflightError, match="ConfigMap/redis-configuration"):
        site.deploy()


@pytest.mark.thorough
def test_marks_of_helm_that_somebody_took_off_come_back(site: Site, eventually: Eventually) -> None:
    site.deploy()
    client = site.client()
    marks = {
        "annotations": {"meta.helm.sh/release-name": None, "meta.helm.sh/release-namespace": None},
        "labels": {"app.kubernetes.io/managed-by": None},
    }
    path = client.path("v1", "Service", site.namespace, "core-service")
    client.request("PATCH", path, {"metadata": marks}, {"fieldManager": "person"}, "application/merge-patch+json")
    assert "~ Service/core-service" in site.invoke("plan", code=2).stdout
    site.deploy()
    assert "nothing to do" in site.invoke("plan").stdout


@pytest.mark.thorough
def test_a_kept_object_that_another_tool_has_marked_is_not_taken_again(site: Site) -> None:
    site.deploy()
    site.overlay("syntho-ui.values.yaml", [{"op": "replace", "path": "/core/database_enabled", "value": False}])
    site.deploy()
    client = site.client()
    path = client.path("v1", "PersistentVolumeClaim", site.namespace, "database-data-1")
    label = {"metadata": {"labels": {"app.kubernetes.io/managed-by": "other"}}}
    client.request("PATCH", path, label, {"fieldManager": "person"}, "application/merge-patch+json")
    (site.root / "overlays" / "here" / "syntho-ui.values.yaml").unlink()
    words = "it exists and its label app.kubernetes.io/managed-by is other, not Helm"
    assert f"x PersistentVolumeClaim/database-data-1  ({words})" in site.invoke("plan", code=4).stdout
    assert words in site.invoke("deploy", code=4).stderr


def test_what_the_api_server_would_refuse_is_in_the_plan(site: Site) -> None:
    site.deploy()
    patch = {"target": {"kind": "Deployment", "name": "core"}, "patch": [{"op": "add", "path": "/spec/replicaz", "value": 2}]}
    site.overlay("syntho-ui.manifests.yaml", [patch])
    ran = site.invoke("plan", code=4)
    assert "x Deployment/core" in ran.stdout
    assert "replicaz" in ran.stdout


def test_an_install_by_hand_keeps_its_secrets_when_it_is_taken_over(site: Site, eventually: Eventually) -> None:
    site.install_by_hand()
    eventually(lambda: _settled(site))
    ran = site.invoke("deploy")
    assert "core.db.password taken over from Deployment/" in ran.stderr
    secret = site.get("Secret", "syntho-ui-secrets", "v1")
    assert secret is not None
    values = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    assert values["core.db.password"] == "postgres"
    assert values["backend.db.password"] == "syntho-local-password"
    assert values["core.secret_key"] == "ZzXj2az_fnnM59mviJc0hmU_jhcdIVaI51dbEkuiXLk="
    own = site.get("Secret", "backend-secret", "v1")
    assert own is not None
    assert values["backend.secret_key"] == base64.b64decode(own["data"]["backend.secret_key"]).decode()
    assert values["backend.user.password"] == "password"
    assert values["license"] == "<put-your-own-license>"


def test_what_a_failed_release_had_begun_is_deleted_as_the_plan_says(site: Site, eventually: Eventually) -> None:
    site.deploy()
    extra = site.root / "overlays" / "here" / "syntho-ui.objects" / "extra.yaml"
    extra.parent.mkdir(parents=True)
    extra.write_text("{apiVersion: v1, kind: ConfigMap, metadata: {name: extra}}")
    path = "/spec/template/spec/containers/[name=core]/imagePullPolicy"
    site.overlay(
        "syntho-ui.manifests.yaml", [{"target": {"kind": "Deployment", "name": "core"}, "patch": [{"op": "replace", "path": path, "value": "No"}]}]
    )
    folder = site.compile().charts["syntho-ui"].write(site.root / "broken")
    with pytest.raises(AssertionError, match="imagePullPolicy"):
        site.helm("upgrade", "syntho-ui", str(folder), "--server-side=true")
    assert site.get("ConfigMap", "extra", "v1")
    extra.unlink()
    (site.root / "overlays" / "here" / "syntho-ui.manifests.yaml").unlink()
    assert "- ConfigMap/extra" in site.invoke("plan", code=2).stdout
    _truth(site, eventually)
    assert site.get("ConfigMap", "extra", "v1") is None


@pytest.mark.thorough
def test_whatever_is_said_to_be_kept_stays(site: Site, eventually: Eventually) -> None:
    keep = [{"op": "add", "path": "/metadata/annotations", "value": {"helm.sh/resource-policy": "keep"}}]
    site.overlay("syntho-ui.manifests.yaml", [{"target": {"kind": "Deployment", "name": "frontend"}, "patch": keep}])
    site.deploy()
    site.overlay("syntho-ui.manifests.yaml", [{"target": {"kind": "Deployment", "name": "frontend"}, "delete": True}])
    assert "= Deployment/frontend" in site.invoke("plan", code=2).stdout
    _truth(site, eventually)
    assert site.get("Deployment", "frontend")


def test_a_change_that_is_taken_back_leaves_nothing_to_do(site: Site, eventually: Eventually) -> None:
    path = "/spec/template/spec/containers/[name=core]/securityContext"
    patch = [{"op": "add", "path": f"{path}/runAsUser", "value": 3}]
    site.overlay("syntho-ui.manifests.yaml", [{"target": {"kind": "Deployment", "name": "core"}, "patch": patch}])
    site.deploy()
    (site.root / "overlays" / "here" / "syntho-ui.manifests.yaml").unlink()
    _truth(site, eventually)
    assert not planning.make(site.client(), site.compile())
    site.overlay("syntho-ui.values.yaml", [{"op": "replace", "path": "/frontend/replicaCount", "value": 2}])
    _truth(site, eventually)


def test_what_a_controller_writes_to_an_object_meanwhile_is_no_refusal(site: Site) -> None:
    """A plan reads all objects at once; that of Helm 3's is asked with the version that was read, which the next write of a status makes old."""
    client, namespace = site.client(), site.namespace
    client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    item = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one", "namespace": namespace}, "data": {"a": "1"}}
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    read = client.request("POST", path, item, {"fieldManager": "helm"})
    client.request(
        "PATCH", f"{path}/one", {"metadata": {"annotations": {"other": "hand"}}}, {"fieldManager": "other"}, "application/merge-patch+json"
    )
    found = predict.predict(client, {**item, "data": {"a": "2"}}, read)
    assert (found.refused, found.conflicts) == ("", ())
    assert found.result is not None
    assert found.result["data"] == {"a": "2"}
    assert found.result["metadata"]["annotations"] == {"other": "hand"}
