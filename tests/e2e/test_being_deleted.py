"""What somebody is deleting while a plan or a deploy runs: told, waited for, and of a volume refused."""

from __future__ import annotations

import pytest

from tests.e2e.site import Site

HELD = {"metadata": {"finalizers": ["example.com/held"]}}


def _delete_held(site: Site, version: str, kind: str, name: str) -> str:
    """Delete an object that a finalizer holds. Returns its path."""
    client = site.client()
    path = client.path(version, kind, site.namespace, name)
    client.request("PATCH", path, HELD, {}, "application/merge-patch+json")
    client.request("DELETE", path)
    return path


def _let_go(site: Site, path: str) -> None:
    site.client().request("PATCH", path, {"metadata": {"finalizers": None}}, {}, "application/merge-patch+json")


def test_an_object_that_is_being_deleted_is_told_waited_for_and_made_anew(site: Site) -> None:
    site.deploy()
    path = _delete_held(site, "apps/v1", "Deployment", "frontend")
    ran = site.invoke("plan", code=2)
    assert "+ Deployment/frontend  (it is being deleted since 20" in ran.stdout
    assert "held by example.com/held: it is waited for, then made anew)" in ran.stdout
    assert "Deployment/frontend: it is being deleted since 20" in site.invoke("verify", code=5).stdout
    ran = site.invoke("deploy", "--timeout=3s", code=4)
    assert "somebody is deleting what this deploys, and nothing was written" in ran.stderr
    assert "Deployment/frontend (example.com/held)" in ran.stderr
    assert site.helm("history", "syntho-ui", "-o", "json").count("revision") == 1
    before = site.get("Deployment", "frontend")
    running = site.start("deploy", f"--env={site.name}")
    assert running.stderr is not None
    assert any(line.startswith("  plan") for line in running.stderr)
    _let_go(site, path)
    out, err = running.communicate(timeout=120)
    assert "deployed and verified" in out, err
    assert "gone: Deployment/frontend" in err
    after = site.get("Deployment", "frontend")
    assert before is not None
    assert after is not None
    assert before["metadata"]["uid"] != after["metadata"]["uid"]


@pytest.mark.parametrize("leaves", [False, pytest.param(True, marks=pytest.mark.thorough)], ids=["deployed", "leaving the release"])
def test_a_volume_and_a_secret_that_are_being_deleted_are_refused(site: Site, leaves: bool) -> None:
    site.deploy()
    path = _delete_held(site, "v1", "PersistentVolumeClaim", "database-data-1")
    if leaves:
        site.overlay("syntho-ui.values.yaml", [{"op": "replace", "path": "/core/database_enabled", "value": False}])
    ran = site.invoke("plan", code=4)
    assert "x PersistentVolumeClaim/database-data-1  (it is being deleted since 20" in ran.stdout
    assert "back the data up while that pod runs" in site.invoke("deploy", code=4).stderr
    _let_go(site, path)
    if not leaves:
        path = _delete_held(site, "v1", "Secret", "syntho-ui-secrets")
        assert "x Secret/syntho-ui-secrets  (it is being deleted since 20" in site.invoke("plan", code=4).stdout
        assert "Secret/syntho-ui-secrets: it is being deleted since 20" in site.invoke("deploy", code=4).stderr
        _let_go(site, path)
