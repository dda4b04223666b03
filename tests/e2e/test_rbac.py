"""The permissions that docs/rbac.md lists are enough, with and without those for the whole cluster."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from syntho_deploy.cluster import crds
from syntho_deploy.cluster.client import Client
from tests.e2e.site import ROOT, Site

DOCUMENTED = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "rbac.md").read_text(), re.DOTALL)]


def account(site: Site, cluster_wide: bool, without: tuple[str, ...] = ()) -> None:
    """Have the site's environment use an account with the documented permissions and no others. without: resources of which it has none."""
    client = site.client()
    client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": site.namespace}})
    client.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "deployer", "namespace": site.namespace}})
    for role in DOCUMENTED if cluster_wide else DOCUMENTED[:1]:
        rules = [rule for rule in role["rules"] if not set(without) & set(rule["resources"])]
        _bind(client, {**role, "rules": rules, "metadata": {"name": f"{role['metadata']['name']}-{site.namespace}"}}, site.namespace)
    path = client.path("v1", "ServiceAccount", site.namespace, "deployer") + "/token"
    token = client.request("POST", path, {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}})["status"]["token"]
    config = yaml.safe_load(Path(site.cluster.kubeconfig).read_text())
    config["users"][0]["user"] = {"token": token}
    (site.root / "kubeconfig").write_text(yaml.safe_dump(config))
    environment = site.read()
    environment["cluster"] = {"context": site.cluster.context, "kubeconfig": str(site.root / "kubeconfig"), "namespace": site.namespace}
    environment["manage"] = {"crds": cluster_wide, "namespace": cluster_wide}
    site.write(environment)


def _bind(client: Client, role: dict[str, Any], namespace: str) -> None:
    kind = role["kind"]
    where = {} if kind == "ClusterRole" else {"namespace": namespace}
    role["metadata"] |= where
    client.apply(role)
    subject = {"kind": "ServiceAccount", "name": "deployer", "namespace": namespace}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role["metadata"]["name"]}
    metadata = {"name": role["metadata"]["name"], **where}
    client.apply({"apiVersion": role["apiVersion"], "kind": f"{kind}Binding", "metadata": metadata, "roleRef": reference, "subjects": [subject]})


@pytest.mark.parametrize("cluster_wide", [False, pytest.param(True, marks=pytest.mark.thorough)])
def test_the_documented_permissions_are_enough(site: Site, cluster_wide: bool) -> None:
    crds.apply(site.client(), crds.due(site.client(), sorted((site.root / "sandbox/charts/ray/crds").glob("*.yaml")), True))
    account(site, cluster_wide)
    site.invoke("plan", code=2)
    assert "deployed and verified" in site.invoke("deploy").stdout
    site.invoke("secrets", "--rotate=backend.secret_key")
    site.invoke("secrets", "--rotate=registry")
    site.overlay("syntho-ui.values.yaml", [{"op": "replace", "path": "/core/image/tag", "value": "2.0.0"}])
    assert "deployed and verified" in site.invoke("deploy").stdout
    assert "record 2 of" in site.invoke("rollback").stdout
    assert site.invoke("status", "--json").json["workloads"]
    site.invoke("drift")
    assert "no logs found" in site.invoke("logs", "--component=core").stderr  # the kubelet's words: it was asked
    assert "nothing locks" in site.invoke("unlock", "--reason=test").stdout
    site.invoke("secrets", "--status")
    assert "release syntho-ui" in site.invoke("undeploy", "--delete-data").stdout


def test_an_account_that_may_not_write_crds_is_told_before_anything_is_written(site: Site) -> None:
    account(site, cluster_wide=False)
    site.write({**site.read(), "manage": {"crds": True, "namespace": False}})
    changed = site.root / "sandbox/charts/ray/crds/rayjobs.yaml"
    changed.write_text(changed.read_text() + "# another digest\n")
    site.run("vendor", "--pin=vendor/sandbox.yaml", "--update")
    ran = site.invoke("deploy", code=4)
    assert "forbidden" in ran.stderr
    assert site.client().objects("apps/v1", "Deployment", site.namespace) == []
