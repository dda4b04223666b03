"""What protects data: refusals that name the volume, a backup before a database's pod is replaced, CRDs that lose nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from syntho_deploy import plan as planning
from syntho_deploy.cluster import crds
from syntho_deploy.cluster.client import MANAGER
from syntho_deploy.errors import NotHealthyError, PreflightError
from syntho_deploy.plan import ObjectPlan
from tests.e2e.permissions import account
from tests.e2e.site import Site

Eventually = Callable[..., Any]


def _postgres(site: Site, tag: str, **more: Any) -> None:
    operations = [{"op": "replace", "path": "/db/image/tag", "value": tag}]
    site.overlay("syntho-ui.values.yaml", [*operations, *({"op": "replace", "path": path, "value": value} for path, value in more.items())])


def _plan(site: Site, name: str) -> ObjectPlan:
    return next(item for item in planning.make(site.client(), site.compile()).objects if item.label == name)


# --- volumes ----------------------------------------------------------------------------------------------------------------


def test_a_postgres_of_another_major_version_is_not_put_on_a_volume(site: Site) -> None:
    _postgres(site, "14.2-bookworm")
    site.deploy()
    _postgres(site, "16-alpine")
    ran = site.invoke("plan", code=4)
    what = "x Deployment/postgres  (syntho.azurecr.io/postgres:16-alpine cannot read the volume database-data-1, which is of "
    assert f"{what}syntho.azurecr.io/postgres:14.2-bookworm, another major version; keep the major version; or dump the data" in ran.stdout
    assert "cannot read the volume database-data-1" in site.invoke("deploy", code=4).stderr
    assert site.helm("history", "syntho-ui", "-o", "json").count("revision") == 1
    _postgres(site, "14.3")
    found = _plan(site, "Deployment/postgres")
    assert (found.action, found.reason, found.data) == (planning.UPDATE, "", ("database-data-1",))
    _postgres(site, "latest")
    found = _plan(site, "Deployment/postgres")
    assert found.action == planning.UPDATE
    assert "no major version can be told from syntho.azurecr.io/postgres:latest" in found.reason


@pytest.mark.thorough
def test_a_volume_that_is_found_again_is_of_an_unknown_version(site: Site, eventually: Eventually) -> None:
    _postgres(site, "14")
    site.deploy()
    site.invoke("undeploy")
    found = _plan(site, "Deployment/postgres")
    assert found.action == planning.CREATE
    assert found.reason == "the volume database-data-1 is there already, and which version wrote it is not known"


def _resize(site: Site, size: str) -> None:
    patch = [{"op": "replace", "path": "/spec/resources/requests/storage", "value": size}]
    site.overlay("syntho-ui.manifests.yaml", [{"target": {"kind": "PersistentVolumeClaim", "name": "database-data-1"}, "patch": patch}])


def test_a_volume_changes_neither_its_class_nor_to_a_smaller_size(site: Site) -> None:
    site.deploy()
    _resize(site, "50Mi")
    found = _plan(site, "PersistentVolumeClaim/database-data-1")
    assert found.action == planning.REFUSED
    assert found.reason.startswith("it would shrink from 100Mi to 50Mi, which no volume can; write 100Mi or more, or move the data")
    site.overlay("syntho-ui.manifests.yaml", [])
    site.overlay(
        "syntho-ui.values.yaml", [{"op": "replace", "path": f"/{part}/storageClassName", "value": "kwok-volume"} for part in ("db", "redis")]
    )
    found = _plan(site, "PersistentVolumeClaim/database-data-1")
    assert found.action == planning.REFUSED
    assert found.reason.startswith("its class would change from default to kwok-volume, which no volume can; keep it, or move the data")
    found = _plan(site, "StatefulSet/redis")
    assert found.action == planning.REFUSED
    assert "volume templates cannot change: redis-claim: its class would change from default to kwok-volume" in found.reason


@pytest.mark.thorough
def test_a_volume_grows_where_its_class_allows_that(site: Site) -> None:
    fixed = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": site.namespace}, "provisioner": "kwok.x-k8s.io/volume"}
    site.client().apply(fixed)
    site.overlay("syntho-ui.values.yaml", [{"op": "replace", "path": "/db/storageClassName", "value": site.namespace}])
    site.deploy()
    _resize(site, "200Mi")
    found = _plan(site, "PersistentVolumeClaim/database-data-1")
    assert found.action == planning.REFUSED
    assert found.reason.startswith(f"it would grow from 100Mi to 200Mi, and its class {site.namespace} has no allowVolumeExpansion: true")
    site.client().apply({**fixed, "allowVolumeExpansion": True})
    found = _plan(site, "PersistentVolumeClaim/database-data-1")
    assert (found.action, found.reason) == (planning.UPDATE, "it grows from 100Mi to 200Mi; its class allows that")
    site.deploy()
    claim = site.get("PersistentVolumeClaim", "database-data-1", "v1")
    assert claim is not None
    assert claim["spec"]["resources"]["requests"]["storage"] == "200Mi"
    site.client().delete("storage.k8s.io/v1", "StorageClass", "", site.namespace)


# --- before_upgrade ---------------------------------------------------------------------------------------------------------

BACKUP = ["sh", "-c", "echo saving the data; echo x >> saved; test ! -e fail"]


def test_a_backup_runs_before_the_pod_of_a_database_is_replaced_and_at_no_other_time(site: Site) -> None:
    site.write({**site.read(), "before_upgrade": [BACKUP]})
    saved = site.root / "saved"
    _postgres(site, "14")
    site.deploy()
    _postgres(site, "14", **{"/core/image/tag": "2.0.0"})
    assert "before_upgrade" not in site.invoke("plan", code=2).stdout
    site.deploy()
    assert not saved.exists()
    _postgres(site, "14.3", **{"/core/image/tag": "2.0.0"})
    ran = site.invoke("plan", code=2)
    assert ", a database with the volume database-data-2" in ran.stdout
    assert "before all that, before_upgrade runs: sh -c 'echo saving the data;" in ran.stdout
    assert not saved.exists()
    (site.root / "fail").touch()
    ran = site.invoke("deploy", code=4)
    assert "before_upgrade failed, and nothing was written: sh failed: " in ran.stderr
    assert "envs/here.yaml:" in ran.stderr
    assert site.helm("history", "syntho-ui", "-o", "json").count("revision") == 2
    (site.root / "fail").unlink()
    ran = site.invoke("deploy")
    assert ran.stderr.index("saving the data") < ran.stderr.index("release syntho-ui")
    assert saved.read_text() == "x\nx\n"
    assert "nothing to do" in site.invoke("deploy").stdout
    assert saved.read_text() == "x\nx\n"


@pytest.mark.thorough
def test_going_back_by_itself_makes_no_second_backup(site: Site) -> None:
    site.write({**site.read(), "before_upgrade": [BACKUP], "grace": {"unschedulable": "1s"}})
    _postgres(site, "14")
    site.deploy()
    _postgres(site, "14.3")
    patch = [{"op": "add", "path": "/spec/template/spec/nodeSelector", "value": {"no": "such"}}]
    site.overlay("syntho-ui.manifests.yaml", [{"target": {"kind": "Deployment", "name": "postgres"}, "patch": patch}])
    assert "the last good state was deployed again" in site.invoke("deploy", code=5).stderr
    assert (site.root / "saved").read_text() == "x\n"


@pytest.mark.administrator
def test_a_protected_environment_without_a_backup_asks_for_a_word_of_its_own(site: Site) -> None:
    site.write({**site.read(), "protected": True})
    _postgres(site, "14")
    site.invoke("deploy", "--yes=here")
    _postgres(site, "14.3")
    assert "no backup comes before that: here has no before_upgrade" in site.invoke("plan", code=2).stdout
    ran = site.invoke("deploy", "--yes=here", code=4)
    assert "this replaces the pods of Deployment/" in ran.stderr
    assert "--no-backup=here" in ran.stderr
    assert site.helm("history", "syntho-ui", "-o", "json").count("revision") == 1
    assert "deployed and verified" in site.invoke("deploy", "--yes=here", "--no-backup=here").stdout
    assert "--no-backup=here" in site.invoke("rollback", "--yes=here", code=4).stderr
    assert "deployed again and verified" in site.invoke("rollback", "--yes=here", "--no-backup=here").stdout


# --- the volumes of a StatefulSet ----------------------------------------------------------------------------------------------


def _claims(site: Site) -> dict[str, str]:
    """The volume claims that nobody deletes: name to uid."""
    found = site.client().objects("v1", "PersistentVolumeClaim", site.namespace)
    return {item["metadata"]["name"]: item["metadata"]["uid"] for item in found if "deletionTimestamp" not in item["metadata"]}


def _without_redis(site: Site, on: bool) -> None:
    site.overlay("syntho-ui.manifests.yaml", [{"target": {"kind": "StatefulSet", "name": "redis"}, "delete": True}] if on else [])


def test_the_volumes_of_a_statefulset_stay_when_it_leaves_and_are_found_again(site: Site) -> None:
    policy = {"whenDeleted": "Delete", "whenScaled": "Delete"}
    operation = {"op": "add", "path": "/spec/persistentVolumeClaimRetentionPolicy", "value": policy}
    site.overlay("syntho-ui.manifests.yaml", [{"target": {"kind": "StatefulSet", "name": "redis"}, "patch": [operation]}])
    site.deploy()
    before = _claims(site)
    mine = sorted(name for name in before if "-redis-" in name)
    assert mine
    _without_redis(site, True)
    ran = site.invoke("plan", code=2)
    for name in mine:
        assert f"= PersistentVolumeClaim/{name}  (a volume of StatefulSet/redis, which leaves; it stays on the cluster)" in ran.stdout
    site.deploy()
    assert site.get("StatefulSet", "redis") is None
    assert _claims(site) == before
    _without_redis(site, False)
    assert f"+ StatefulSet/redis  (it finds its volumes again: {', '.join(mine)})" in site.invoke("plan", code=2).stdout
    site.deploy()
    assert _claims(site) == before
    live = site.get("StatefulSet", "redis")
    assert live is not None
    site.client().request(
        "PATCH", site.client().path("apps/v1", "StatefulSet", site.namespace, "redis"),
        {"spec": {"persistentVolumeClaimRetentionPolicy": policy}}, {"fieldManager": "person"}, "application/merge-patch+json",
    )  # fmt: skip
    assert "the volumes of StatefulSet/redis would go" in site.invoke("undeploy", code=4).stderr
    _without_redis(site, True)
    assert "x StatefulSet/redis  (its persistentVolumeClaimRetentionPolicy" in site.invoke("plan", code=4).stdout
    assert _claims(site) == before


def test_data_that_left_the_releases_is_deleted_too_when_all_is(site: Site) -> None:
    site.deploy()
    client = site.client()
    stranger = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    for name in ("theirs", "redis-data-theirs-0"):
        metadata = {"name": name, "namespace": site.namespace}
        client.create({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": stranger})
    _without_redis(site, True)
    site.overlay("syntho-ui.values.yaml", [{"op": "replace", "path": "/core/database_enabled", "value": False}])
    site.deploy()
    assert "database-data-1" in _claims(site)
    site.invoke("undeploy", "--delete-data")
    assert sorted(_claims(site)) == ["redis-data-theirs-0", "theirs"]


# --- CRDs -------------------------------------------------------------------------------------------------------------------


def _crd(group: str, fields: list[str], versions: tuple[str, ...] = ("v1",), stored: str = "v1") -> str:
    spec = {"type": "object", "properties": {name: {"type": "string"} for name in fields}}
    status = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": status}}}
    served = [{"name": name, "served": True, "storage": name == stored, "schema": schema} for name in versions]
    names = {"kind": "Thing", "listKind": "ThingList", "plural": "things", "singular": "thing"}
    body = {"group": f"{group}.example.com", "names": names, "scope": "Namespaced", "versions": served}
    metadata = {"name": f"things.{group}.example.com"}
    return yaml.safe_dump({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": metadata, "spec": body})


def test_a_crd_that_would_drop_a_field_in_use_is_refused_and_names_the_object(site: Site, tmp_path: Path) -> None:
    client, file = site.client(), tmp_path / "crd.yaml"

    def review(*fields: str, versions: tuple[str, ...] = ("v1",), written: Any = (), stored: str = "v1") -> list[crds.CrdChange]:
        file.write_text(_crd(site.namespace, list(fields), versions, stored))
        return crds.review(client, crds.due(client, [file], True), written)

    name = f"things.{site.namespace}.example.com"
    assert review("a", "b", "c") == [crds.CrdChange(name, True, ())]
    crds.apply(client, crds.due(client, [file], True))
    client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": site.namespace}})
    thing = {"apiVersion": f"{site.namespace}.example.com/v1", "kind": "Thing", "metadata": {"name": "one", "namespace": site.namespace}}
    client.create({**thing, "spec": {"a": "1", "b": "2"}, "status": {"x": "y"}})
    assert review("a", "b", "d") == [crds.CrdChange(name, False, ("v1 adds .spec.d and removes .spec.c",))]
    assert review("a", "b", "c", versions=("v1", "v2"))[0].changes == ("v2 comes",)
    with pytest.raises(PreflightError, match=rf"would drop them: Thing {site.namespace}/one \(\.spec\.b\)"):
        review("a", "c")
    assert review("a", "c", written=[{**thing, "spec": {"a": "1"}}])  # the same deploy takes the field out
    review("a", "b", "c", versions=("v1", "v2"), stored="v2")
    crds.apply(client, crds.due(client, [file], True))
    with pytest.raises(PreflightError, match="does not serve v2"):
        review("a", "b", "c")


def test_a_crd_that_somebody_edited_gets_the_charts_content_again(site: Site, tmp_path: Path) -> None:
    client, file = site.client(), tmp_path / "crd.yaml"
    name = f"things.{site.namespace}.example.com"
    file.write_text(_crd(site.namespace, ["a", "b"]))
    crds.apply(client, crds.due(client, [file], True))
    before = client.request("GET", f"{crds.GROUP}/{name}")["spec"]

    def edit(operations: list[dict[str, Any]]) -> tuple[str, ...]:
        query = {"fieldManager": "kubectl-edit"}
        client.request("PATCH", f"{crds.GROUP}/{name}", json.dumps(operations), query, "application/json-patch+json")
        (found,) = crds.review(client, crds.due(client, [file], True), [])
        crds.apply(client, crds.due(client, [file], True))
        assert client.request("GET", f"{crds.GROUP}/{name}")["spec"] == before
        assert crds.due(client, [file], True) == {}
        return found.changes

    fields = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties"
    (who, what) = edit([{"op": "remove", "path": f"{fields}/b"}, {"op": "add", "path": f"{fields}/c", "value": {"type": "string"}}])
    assert who.startswith("edited since it was applied from here, by kubectl-edit at 20")
    assert what == "v1 adds .spec.b and removes .spec.c"
    assert edit([{"op": "replace", "path": f"{fields}/a/type", "value": "integer"}])[1] == "v1 changes .spec.a (type)"
    assert edit([{"op": "remove", "path": f"{fields}/b"}])[-1] == "v1 adds .spec.b"
    column = [{"name": "A", "type": "string", "jsonPath": ".spec.a"}]
    assert edit([{"op": "add", "path": "/spec/versions/0/additionalPrinterColumns", "value": column}])[-1] == "v1 changes additionalPrinterColumns"
    assert edit([{"op": "add", "path": "/spec/names/shortNames", "value": ["th"]}])


def test_a_crd_that_another_run_has_just_written_is_waited_for(site: Site, tmp_path: Path) -> None:
    """It is as this run would write it, most of a second before there can be objects of its kind, when it is as large as Ray's."""
    client, file, group = site.client(), tmp_path / "crd.yaml", f"{site.namespace}.example.com"
    (ray,) = (site.root / "sandbox/charts/ray/crds").glob("*rayclusters.yaml")
    file.write_text(ray.read_text(encoding="utf-8").replace("ray.io", group), encoding="utf-8")
    version = f"{group}/v1alpha1"
    client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": site.namespace}})
    query = {"fieldManager": MANAGER, "force": "true"}
    client.request("PATCH", f"{crds.GROUP}/rayclusters.{group}", crds.marked(file), query, "application/apply-patch+yaml")
    assert crds.due(client, [file], True) == {}
    crds.await_listed(client, {(version, "RayCluster")}, time.monotonic() + crds.OTHERS_SECONDS)
    spec = {"headGroupSpec": {"rayStartParams": {}, "template": {"spec": {"containers": [{"name": "a"}]}}}}
    one = {"apiVersion": version, "kind": "RayCluster", "metadata": {"name": "one"}, "spec": spec}
    client.request("POST", f"/apis/{version}/namespaces/{site.namespace}/rayclusters", one)
    assert crds._listed(client, set()) >= {(version, "RayCluster"), ("apps/v1", "Deployment")}
    with pytest.raises(NotHealthyError, match=rf"did not begin to serve Nothing of {group}/v1alpha1 in time"):
        crds.await_listed(client, {(version, "Nothing")}, time.monotonic())
    client.request("DELETE", f"{crds.GROUP}/rayclusters.{group}")


def test_a_crd_that_another_hand_installed_is_taken_over_once(site: Site, tmp_path: Path) -> None:
    client, file = site.client(), tmp_path / "crd.yaml"
    file.write_text(_crd(site.namespace, ["a"]))
    query = {"fieldManager": "kubectl", "force": "true"}
    client.request("PATCH", f"{crds.GROUP}/things.{site.namespace}.example.com", file.read_text(), query, "application/apply-patch+yaml")
    (found,) = crds.review(client, crds.due(client, [file], True), [])
    assert found.changes == ("no version or field comes, goes or changes",)
    crds.apply(client, crds.due(client, [file], True))
    assert crds.due(client, [file], True) == {}
    file.write_text(_crd(site.namespace, ["b"]))
    crds.apply(client, crds.due(client, [file], True))
    found_now = client.request("GET", f"{crds.GROUP}/things.{site.namespace}.example.com")["spec"]
    schema = found_now["versions"][0]["schema"]["openAPIV3Schema"]
    assert list(schema["properties"]["spec"]["properties"]) == ["b"]


def test_the_plan_shows_what_becomes_of_a_crd(site: Site) -> None:
    site.deploy()
    file = site.root / "sandbox/charts/ray/crds/rayclusters.yaml"
    crd = yaml.safe_load(file.read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["more"] = {"type": "string"}
    file.write_text(yaml.safe_dump(crd))
    site.run("vendor", "--pin=vendor/sandbox.yaml", "--update")
    ran = site.invoke("plan", code=2)
    assert "~ CustomResourceDefinition/rayclusters.ray.io (applied before the charts)\n    v1alpha1 adds .spec.more\n" in ran.stdout
    del spec["properties"]["headGroupSpec"]["properties"]["serviceType"]
    file.write_text(yaml.safe_dump(crd))
    site.run("vendor", "--pin=vendor/sandbox.yaml", "--update")
    ran = site.invoke("plan", code=4)
    assert f"RayCluster {site.namespace}/ray-cluster (.spec.headGroupSpec.serviceType)" in ran.stderr


@pytest.mark.thorough
def test_an_account_that_may_not_look_at_all_custom_resources_loses_none(site: Site, tmp_path: Path) -> None:
    client, file = site.client(), tmp_path / "crd.yaml"
    file.write_text(_crd(site.namespace, ["a", "b"]))
    crds.apply(client, crds.due(client, [file], True))
    account(site, cluster_wide=True)
    from syntho_deploy.cluster.client import Access, Client

    limited = Client(Access(str(site.root / "kubeconfig"), site.cluster.context, "of the test"))
    file.write_text(_crd(site.namespace, ["a"]))
    with pytest.raises(PreflightError, match="may not list things in all namespaces"):
        crds.review(limited, crds.due(limited, [file], True), [])
