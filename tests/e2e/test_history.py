"""The way back, the record it goes by, and what moved since."""

from __future__ import annotations

import base64
import re
import uuid
from typing import Any

import pytest
import yaml

from syntho_deploy.cluster import crds, record
from tests.e2e.site import Site


def _tag(site: Site, tag: str) -> None:
    site.overlay("syntho-ui.values.yaml", [{"op": "replace", "path": "/core/image/tag", "value": tag}])


def _image(site: Site) -> str:
    core = site.get("Deployment", "core")
    assert core is not None
    return str(core["spec"]["template"]["spec"]["containers"][0]["image"].rpartition(":")[2])


def _unschedulable(site: Site) -> None:
    operations = [{"op": "add", "path": "/spec/template/spec/nodeSelector", "value": {"no": "such"}}]
    site.overlay("syntho-ui.manifests.yaml", [{"target": {"kind": "Deployment", "name": "core"}, "patch": operations}])


def test_each_verified_deploy_is_recorded_and_nothing_to_do_is_not(site: Site) -> None:
    site.invoke("deploy", "--reason=first")
    site.invoke("deploy")
    _tag(site, "2.0.0")
    site.invoke("deploy", "--reason=release 2.0.0")
    found = site.invoke("history", "--json").json
    assert [(item["number"], item["reason"]) for item in found] == [(1, "first"), (2, "release 2.0.0")]
    assert re.fullmatch(r"0\.1\.6\+[0-9a-f]{12}\.[0-9a-f]{12}", found[1]["charts"]["syntho-ui"])
    assert found[0]["charts"]["ray-cluster"] == found[1]["charts"]["ray-cluster"]
    assert "release 2.0.0" in site.invoke("history").stdout


def test_a_rollback_brings_the_state_before_and_can_be_taken_back(site: Site) -> None:
    for tag in ("1.0.0", "2.0.0"):
        _tag(site, tag)
        site.deploy()
    assert "-> syntho.azurecr.io/syntho-core-api:1.0.0" in site.invoke("rollback", "--dry-run").stdout
    assert _image(site) == "2.0.0"
    assert "record 1 of" in site.invoke("rollback").stdout
    assert _image(site) == "1.0.0"
    site.invoke("rollback", "--to=2")
    assert _image(site) == "2.0.0"
    assert "nothing to do" in site.invoke("rollback", "--to=2").stdout
    assert "there is no record 99" in site.invoke("rollback", "--to=99", code=3).stderr


def test_only_the_last_ten_records_are_kept(site: Site) -> None:
    site.deploy()
    compiled = site.compile()
    for _ in range(11):
        record.write(site.client(), compiled, "again", record.records(site.client(), site.name, site.namespace), {})
    assert [item.number for item in record.records(site.client(), site.name, site.namespace)] == list(range(3, 13))


def test_an_unhealthy_deploy_goes_back_by_itself(site: Site) -> None:
    _tag(site, "1.0.0")
    site.deploy()
    _tag(site, "2.0.0")
    _unschedulable(site)
    ran = site.invoke("deploy", "--timeout=5s", code=5)
    assert "Deployment/core: " in ran.stderr
    assert "the last good state was deployed again and verified" in ran.stderr
    assert _image(site) == "1.0.0"
    assert len(site.invoke("history", "--json").json) == 1


@pytest.mark.thorough
def test_an_unhealthy_deploy_stays_when_told_to(site: Site) -> None:
    _tag(site, "1.0.0")
    site.deploy()
    _tag(site, "2.0.0")
    _unschedulable(site)
    ran = site.invoke("deploy", "--timeout=4s", "--stay", code=5)
    assert "last good state" not in ran.stderr
    assert _image(site) == "2.0.0"


def test_drift_names_what_changed_by_whom(site: Site) -> None:
    site.deploy()
    assert "left it" in site.invoke("drift").stdout
    client = site.client()

    def edit(kind: str, name: str, change: dict[str, Any], manager: str) -> None:
        version = "v1" if kind == "Service" else "apps/v1"
        path = client.path(version, kind, site.namespace, name)
        client.request("PATCH", path, change, {"fieldManager": manager}, "application/strategic-merge-patch+json")

    container = {"name": "core", "image": "evil:latest"}
    edit("Deployment", "core", {"spec": {"template": {"spec": {"containers": [container]}}}}, "kubectl-edit")
    edit("Deployment", "frontend", {"spec": {"replicas": 5}}, "autoscaler")
    client.delete("v1", "Service", site.namespace, "backend")
    found = site.invoke("drift", "--json", code=2).json
    assert ("Service/backend", "deleted") in [(item["label"], item["what"]) for item in found]
    changed = {(item["label"], item["path"], item["now"], item["deployed"], item["by"]) for item in found if item["what"] == "changed"}
    image = "/spec/template/spec/containers/[name=core]/image"
    assert changed == {
        ("Deployment/frontend", "/spec/replicas", 5, 1, "autoscaler"),
        ("Deployment/core", image, "evil:latest", "syntho.azurecr.io/syntho-core-api:latest", "kubectl-edit"),
    }
    assert all(item["when"] for item in found if item["what"] == "changed")
    text = site.invoke("drift", code=2).stdout
    assert "changed Deployment/frontend /spec/replicas: deployed 1, now 5  (by autoscaler at 20" in text
    site.invoke("deploy", "--force-conflicts")
    assert "left it" in site.invoke("drift").stdout


def _made_anew(site: Site, version: str, kind: str, name: str) -> None:
    """Delete an object, and create it again with the same content, as somebody."""
    client, found = site.client(), site.get(kind, name, version)
    assert found is not None
    path = client.path(version, kind, site.namespace, name)
    client.request("DELETE", path, query={"propagationPolicy": "Orphan"} if kind == "Deployment" else None)
    while client.get(version, kind, site.namespace, name):
        pass
    for key in ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"):
        found["metadata"].pop(key, None)
    client.request("POST", path.rpartition("/")[0], {**found, "apiVersion": version, "kind": kind}, {"fieldManager": "person"})


def test_drift_names_what_was_made_anew_and_what_is_beside_the_objects(site: Site, eventually: Any) -> None:
    site.deploy()
    client = site.client()
    _made_anew(site, "v1", "ServiceAccount", "kuberay-operator")
    _made_anew(site, "apps/v1", "Deployment", "frontend")
    client.delete("v1", "Secret", site.namespace, "syntho-cr-secret")
    found = site.invoke("drift", "--json", code=2).json
    rows = [(item["label"], item["what"], item["by"]) for item in found]
    assert ("ServiceAccount/kuberay-operator", "made anew", "person") in rows
    assert ("Deployment/frontend", "made anew", "person") in rows
    assert ("Secret/syntho-cr-secret", "deleted", "") in rows
    assert len(rows) == 3
    site.invoke("deploy", "--force-conflicts")  # whoever made one owns its fields
    assert "left it" in site.invoke("drift").stdout
    site.helm("uninstall", "ray-cluster")
    assert "deleted release ray-cluster" in site.invoke("drift", code=2).stdout


def test_drift_sees_a_secret_and_a_crd_that_somebody_edited(site: Site, eventually: Any) -> None:
    site.deploy()
    client = site.client()
    (last,) = record.records(client, site.name, site.namespace)
    path = client.path("v1", "Secret", site.namespace, "syntho-ui-secrets")
    crd = f"{crds.GROUP}/rayjobs.ray.io"

    def edited() -> bool:  # the times that the API server keeps are whole seconds
        value = base64.b64encode(uuid.uuid4().bytes).decode()
        live = client.request("PATCH", path, {"data": {"license": value}}, {"fieldManager": "kubectl-edit"}, "application/merge-patch+json")
        return any(entry["manager"] == "kubectl-edit" and entry["time"] > last.made for entry in live["metadata"]["managedFields"])

    eventually(edited)
    client.request("PATCH", path, {"data": {"core.secret_key": None}}, {"fieldManager": "kubectl-edit"}, "application/merge-patch+json")
    names = {"spec": {"names": {"shortNames": ["rj"]}}}
    client.request("PATCH", crd, names, {"fieldManager": "kubectl-edit"}, "application/merge-patch+json")
    found = {(item["label"], item["what"], item["path"], item["by"]) for item in site.invoke("drift", "--json", code=2).json}
    assert found == {
        ("Secret/syntho-ui-secrets", "changed", "/data/license", "kubectl-edit"),
        ("Secret/syntho-ui-secrets", "deleted", "/data/core.secret_key", ""),
        ("CustomResourceDefinition/rayjobs.ray.io", "changed", "", "kubectl-edit"),
    }
    assert "edited since it was applied from here, by kubectl-edit at 20" in site.invoke("plan", code=2).stdout
    site.invoke("deploy")
    assert "left it" in site.invoke("drift").stdout


@pytest.mark.thorough
def test_a_record_and_a_release_that_somebody_changed_are_told(site: Site) -> None:
    site.deploy()
    client = site.client()

    def spoil(name: str, key: str, value: str) -> str:
        path = client.path("v1", "Secret", site.namespace, name)
        before = client.request("GET", path)["data"][key]
        client.request("PATCH", path, {"data": {key: value}}, {}, "application/merge-patch+json")
        return str(before)

    for value in ("AAAA", "", base64.b64encode(base64.b64encode(b"{}")).decode()):
        spoil(f"syntho-deploy-{site.name}-record-1", "record", value)
        assert "the record 1 cannot be read: its Secret" in site.invoke("drift", code=4).stderr
    assert "cannot be read" in site.invoke("history").stdout
    assert "nothing to do" in site.invoke("deploy").stdout
    assert [item["number"] for item in site.invoke("history", "--json").json] == [1, 2]
    assert "left it" in site.invoke("drift").stdout
    name = "sh.helm.release.v1.syntho-ui.v1"
    before = spoil(name, "release", "AAAA")
    assert f"the Secret {name}, in which helm keeps a release, cannot be read" in site.invoke("plan", code=4).stderr
    assert f"kubectl delete secret {name} -n {site.namespace}" in site.invoke("deploy", code=4).stderr
    spoil(name, "release", before)
    assert "nothing to do" in site.invoke("plan").stdout


def test_drift_needs_a_deploy_to_compare_with(site: Site) -> None:
    assert "nothing was deployed to here from here yet" in site.invoke("drift", code=3).stderr


def test_a_change_of_the_overlays_is_no_drift(site: Site) -> None:
    site.deploy()
    _tag(site, "9.9.9")
    assert "left it" in site.invoke("drift").stdout


def test_a_state_that_an_interrupted_run_brought_is_recorded_by_the_next(site: Site) -> None:
    site.deploy()
    record.delete(site.client(), site.name, site.namespace)
    assert "nothing to do" in site.invoke("deploy").stdout
    assert [item["number"] for item in site.invoke("history", "--json").json] == [1]


def test_an_illness_that_is_not_the_changes_is_waited_for_once(site: Site) -> None:
    site.deploy()
    client = site.client()
    _cordon(site, True)
    try:
        for pod in client.objects("v1", "Pod", site.namespace, "app=core"):
            client.delete("v1", "Pod", site.namespace, pod["metadata"]["name"])
        ran = site.invoke("deploy", "--timeout=4s", code=5)
    finally:
        _cordon(site, False)
    assert "not ready in time" in ran.stderr
    assert "going back" not in ran.stderr


def _cordon(site: Site, on: bool) -> None:
    client = site.client()
    for node in client.objects("v1", "Node", ""):
        path = client.path("v1", "Node", "", node["metadata"]["name"])
        client.request("PATCH", path, {"spec": {"unschedulable": on or None}}, {}, "application/merge-patch+json")


def test_the_volumes_of_another_environment_are_not_deleted(site: Site) -> None:
    site.deploy()
    other = {**site.read(), "releases": {"ray": "ray-two", "ui": "ui-two"}}
    (site.root / "envs" / "other.yaml").write_text(yaml.safe_dump(other))
    assert "belongs to the release" in site.run("deploy", "--env=other", code=4).stderr
    site.run("undeploy", "--env=other", "--delete-data")
    claims = site.client().objects("v1", "PersistentVolumeClaim", site.namespace)
    assert len(claims) == 5
    assert not any("deletionTimestamp" in claim["metadata"] for claim in claims)


def test_a_volume_of_the_last_deployed_revision_stays_though_a_later_one_failed(site: Site) -> None:
    chart = site.root / "theirs"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: syntho-ui\nversion: 1.0.0\n")
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "old-data"}, "spec": spec}
    (chart / "templates" / "claim.yaml").write_text(yaml.safe_dump(claim))
    site.helm("install", "syntho-ui", str(chart), "--create-namespace")
    (chart / "templates" / "claim.yaml").write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Nope", "metadata": {"name": "x"}}))
    with pytest.raises(AssertionError):
        site.helm("upgrade", "syntho-ui", str(chart))
    assert "= PersistentVolumeClaim/old-data" in site.invoke("plan", code=2).stdout
    site.invoke("deploy")
    assert site.get("PersistentVolumeClaim", "old-data", "v1")


@pytest.mark.thorough
def test_rollback_after_a_deploy_that_stayed_ill_goes_to_the_last_good_state(site: Site) -> None:
    for tag in ("1.0.0", "2.0.0"):
        _tag(site, tag)
        site.deploy()
    _tag(site, "3.0.0")
    _unschedulable(site)
    site.invoke("deploy", "--timeout=4s", "--stay", code=5)
    site.invoke("rollback")
    assert _image(site) == "2.0.0"
