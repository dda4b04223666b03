"""The whole life of a release whose images everybody can pull: what kind_e2e runs where containers run, and kwok_e2e elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.e2e import report
from tests.e2e.site import Site, with_stand_ins

pytestmark = pytest.mark.containers

TAGS = "2.63.0", "2.55"  # of agnhost, and both exist


def test_from_the_first_deploy_to_the_last_undeploy(site: Site, eventually: Callable[..., object]) -> None:
    site.write(with_stand_ins(site.read()))
    site.invoke("deploy")
    site.invoke("verify")
    site.invoke("plan")  # exit 0: nothing to do
    site.overlay("syntho-ui.values.yaml", [{"op": "replace", "path": "/core/image/tag", "value": TAGS[1], "overrides": True}])
    planned = site.invoke("plan", "--exit-zero", f"--markdown={site.root}/plan.md")
    assert f"{TAGS[0]} -> " in planned.stdout
    page = (site.root / "plan.md").read_text()
    assert page.startswith(f"## {site.name}: ")
    assert "\n```diff\n~ Deployment/core\n" in page
    site.invoke("deploy")
    assert _image(site).endswith(f":{TAGS[1]}")
    site.invoke("rollback")
    assert _image(site).endswith(f":{TAGS[0]}")
    client = site.client()
    client.apply(
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "core", "namespace": site.namespace}, "spec": {"replicas": 2}},
        force=True,
    )
    assert site.invoke("drift", code=2)
    site.invoke("undeploy", "--delete-data", f"--yes={site.name}")
    eventually(lambda: not client.objects("apps/v1", "Deployment", site.namespace))


def test_a_report_has_the_workloads_the_pods_and_the_events_and_no_secret(site: Site) -> None:
    site.write(with_stand_ins(site.read()))
    site.invoke("deploy")
    page = report.of(site.client(), site.namespace)
    assert "Deployment/core: 1 of 1 ready" in page
    assert "Pod/core-" in page
    assert "ScalingReplicaSet" in page
    assert "Secret/" not in page


def _image(site: Site) -> str:
    found = site.get("Deployment", "core")
    assert found
    return str(found["spec"]["template"]["spec"]["containers"][0]["image"])
