"""What a killed or hanging run leaves behind is shown, and taken away with a reason; the run that loses it stops."""

from __future__ import annotations

import base64
import gzip
import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from syntho_deploy.cluster import lease
from syntho_deploy.cluster.lease import Lease
from syntho_deploy.errors import LockedError
from tests.e2e.site import Site

LEASE = ("coordination.k8s.io/v1", "Lease")


def _unschedulable(site: Site) -> None:
    """Have a deploy wait for ever."""
    operations = [{"op": "add", "path": "/spec/template/spec/nodeSelector", "value": {"no": "such"}}]
    site.overlay("syntho-ui.manifests.yaml", [{"target": {"kind": "Deployment", "name": "core"}, "patch": operations}])


def _pending(site: Site, status: str) -> None:
    """What a helm that was killed leaves: its first revision, or another one after it, with this status."""
    path = f"/api/v1/namespaces/{site.namespace}/secrets"
    secret = site.client().request("GET", f"{path}/sh.helm.release.v1.syntho-ui.v1")
    content = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(secret["data"]["release"]))))
    content["info"]["status"] = secret["metadata"]["labels"]["status"] = status
    if status != "pending-install":
        content["version"], secret["metadata"]["labels"]["version"] = 2, "2"
        secret["metadata"] = {"name": "sh.helm.release.v1.syntho-ui.v2", "labels": secret["metadata"]["labels"]}
    secret["data"]["release"] = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(content).encode()))).decode()
    if status == "pending-install":
        site.client().request("PUT", f"{path}/{secret['metadata']['name']}", secret)
    else:
        site.client().request("POST", path, secret)


def _hold(site: Site, holder: str, monkeypatch: pytest.MonkeyPatch) -> Lease:
    monkeypatch.setattr(lease, "who", lambda: holder)
    return Lease(site.client(), site.namespace, "release 2.0.0")


@pytest.mark.parametrize(
    "status", ["pending-upgrade", *(pytest.param(status, marks=pytest.mark.thorough) for status in ("pending-install", "pending-rollback"))]
)
def test_a_release_that_a_killed_helm_left_is_freed_and_the_next_deploy_works(site: Site, status: str) -> None:
    site.deploy()
    _pending(site, status)
    ran = site.invoke("deploy", code=6)
    assert f"syntho-ui is {status}" in ran.stderr
    assert "invoke unlock --env=here --reason=" in ran.stderr
    assert f"is {status} since" in site.invoke("unlock").stdout
    ran = site.invoke("unlock", "--reason=the runner died")
    assert f"was {status} and is now failed" in ran.stdout
    assert "the runner died" in site.helm("history", "syntho-ui")
    assert "deployed and verified" in site.invoke("deploy").stdout
    assert "nothing locks here" in site.invoke("unlock").stdout


def test_a_run_whose_lease_is_taken_stops_with_exit_6_and_writes_nothing_more(site: Site, eventually: Callable[..., Any]) -> None:
    site.deploy()
    _unschedulable(site)
    running = site.start("deploy", "--env=here", "--reason=release 2.0.0")
    eventually(lambda: any("no" in (site.get("Deployment", "core") or {})["spec"]["template"]["spec"].get("nodeSelector", {}) for _ in "1"), 60)
    found = site.invoke("unlock", "--json").json["lease"]
    assert (found["state"], found["reason"]) == ("held", "release 2.0.0")
    assert "the Lease was taken from" in site.invoke("unlock", "--reason=it hangs").stdout
    _, err = running.communicate(timeout=60)
    assert running.returncode == 6
    assert "the Lease of this run was taken by" in err
    assert "(it hangs)" in err
    assert "going back" not in err
    assert "no" in (site.get("Deployment", "core") or {})["spec"]["template"]["spec"]["nodeSelector"]
    assert site.helm("history", "syntho-ui", "-o", "json").count("revision") == 2


def test_the_holder_asks_before_each_write(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.client().apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": site.namespace}})
    with _hold(site, "slow@here", monkeypatch) as held:
        held.check(write=True)
        lease.take(site.client(), site.namespace, "night shift")
        held.check()
        with pytest.raises(LockedError, match="night shift"):
            held.check(write=True)
    assert lease.look(site.client(), site.namespace).state == lease.FREE


def test_the_lease_is_shown_with_its_holder_and_goes_to_the_next_run(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.client().apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": site.namespace}})
    with _hold(site, "ann@laptop", monkeypatch):
        shown = site.invoke("unlock").stdout
        assert "ann@laptop" in shown
        assert "(release 2.0.0)" in shown
        assert "invoke unlock --env=here --reason=" in shown
        assert "ann@laptop" in site.invoke("deploy", code=6).stderr
        site.invoke("unlock", "--reason=ann is away")
    assert "it was taken by" in site.invoke("unlock").stdout
    assert "deployed and verified" in site.invoke("deploy").stdout
    live = site.get("Lease", lease.NAME, LEASE[0])
    assert live is not None
    assert lease.TAKEN not in live["metadata"]["annotations"]


def test_a_helm_that_still_runs_is_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.deploy()
    _pending(site, "pending-upgrade")
    secret = f"/api/v1/namespaces/{site.namespace}/secrets/sh.helm.release.v1.syntho-ui.v2"
    with _hold(site, "slow@here", monkeypatch):
        running = subprocess.Popen(
            site.argv("unlock", "--env=here", "--reason=it hangs"), cwd=site.root, env=site.environment(), text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert running.stderr is not None
        assert "its helm may still run" in running.stderr.readline()
        site.client().request("DELETE", secret)
        out, _ = running.communicate(timeout=60)
    assert "the Lease was taken from slow@here" in out
    assert "now failed" not in out


def test_a_protected_environment_is_unlocked_by_its_name_only(site: Site) -> None:
    target = {"context": site.cluster.context, "kubeconfig": str(site.cluster.kubeconfig), "namespace": site.namespace}
    uid = site.client().request("GET", "/api/v1/namespaces/kube-system")["metadata"]["uid"]
    site.write({**site.read(), "protected": True, "cluster": {**target, "uid": uid}})
    assert "nothing locks here" in site.invoke("unlock").stdout
    assert "--yes=here" in site.invoke("unlock", "--reason=now", code=4).stderr
    assert "nothing locks here" in site.invoke("unlock", "--reason=now", "--yes=here").stdout
