"""The permissions that docs/rbac.md lists are enough, with and without those for the whole cluster."""

from __future__ import annotations

import pytest

from syntho_deploy.cluster import crds
from tests.e2e.permissions import account
from tests.e2e.site import Site

pytestmark = pytest.mark.administrator


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
