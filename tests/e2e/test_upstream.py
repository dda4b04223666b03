"""The real charts, at the default pin and at 1.9.7, through the same pipeline on the same cluster.

They are not ours to ship, so they are fetched: from SYNTHO_CHARTS_URL, or from where the pin says.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from syntho_deploy import helm
from syntho_deploy.cluster.local import Cluster
from syntho_deploy.compile import Project
from syntho_deploy.errors import PreflightError
from syntho_deploy.secrets.sentinels import TOKEN
from syntho_deploy.tools import find
from syntho_deploy.vendor import load_pin, vendor
from tests.e2e.ray_operator import RayOperator
from tests.e2e.site import ROOT, Site

pytestmark = pytest.mark.upstream

PINS = {"98ec265": "vendor/charts.yaml", "1.9.7": "vendor/charts-1.9.7.yaml"}
ENVIRONMENTS = ("dev", "staging", "prod")
CANARIES = {"SYNTHO_LICENSE": "canary-license/=+A1", "SYNTHO_REGISTRY_USER": "robot", "SYNTHO_REGISTRY_PASSWORD": "canary-registry-B2"}


@pytest.fixture(params=PINS)
def upstream(request: pytest.FixtureRequest, cluster: Cluster, tmp_path: Path) -> Iterator[Site]:
    """A site with the real charts of one pin vendored, whose environment is dev's. Skips where they cannot be had."""
    site = Site.make(tmp_path, "here", cluster, f"u-{uuid.uuid4().hex[:8]}", base="dev")
    pin = PINS[request.param]
    try:
        vendor(site.root, load_pin(site.root, site.root / pin))
    except PreflightError as error:
        pytest.skip(f"the real charts are missing: set SYNTHO_CHARTS_URL to a mirror of them ({error.what})")
    for name in ("here", *ENVIRONMENTS):
        file = site.root / "envs" / f"{name}.yaml"
        file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), "charts": pin}))
    site.variables = dict(CANARIES)
    yield site
    site.remove()


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_each_shipped_environment_compiles_to_the_same_bytes_under_both_helms(upstream: Site, name: str) -> None:
    compiled = []
    for tool in ("helm", "helm3"):
        found = find(tool)
        binary = helm.Helm(found.path, found.version, upstream.root / "home")
        compiled.append(Project.load(upstream.root, name).compile(binary))
    assert {chart: one.files for chart, one in compiled[0].charts.items()} == {chart: one.files for chart, one in compiled[1].charts.items()}
    whole = "".join(text for chart in compiled[0].charts.values() for text in chart.files.values())
    assert not TOKEN.search(whole)
    for public in ("syntho-local-password", "ZzXj2az_", "postgres:postgres@", "put-your-own-license"):
        assert public not in "".join(
            text for chart in compiled[0].charts.values() for name, text in chart.files.items() if name.startswith("manifests/")
        )


def test_the_real_charts_become_a_verified_release(upstream: Site) -> None:
    with RayOperator(upstream.client(), upstream.namespace):
        ran = upstream.invoke("deploy")
        assert "deployed and verified" in ran.stdout
        assert upstream.get("Service", "ray-cluster-head-svc", "v1")
        assert "nothing to do" in upstream.invoke("deploy").stdout
    listed = upstream.helm("list")
    for chart in upstream.compile().charts.values():
        assert re.search(rf"^{chart.release.name}\s.*\bdeployed\b.*{re.escape(chart.version)}", listed, re.MULTILINE)
    everything = ran.stdout + ran.stderr + "".join(upstream.helm("get", "all", name) for name in ("ray-cluster", "syntho-ui"))
    everything += "".join(
        path.read_text(errors="replace") for folder in (".build", ".cache") for path in (upstream.root / folder).rglob("*.*") if path.is_file()
    )
    assert not any(value in everything for value in CANARIES.values() if value != "robot")
    address = f"ray-cluster-head-svc.{upstream.namespace}.svc.cluster.local"
    core = upstream.get("Deployment", "core")
    assert core is not None
    assert {"name": "RAY_ADDRESS", "value": address} in core["spec"]["template"]["spec"]["containers"][0]["env"]


@pytest.mark.parametrize("upstream", ["1.9.7"], indirect=True)
def test_an_upgrade_from_197_to_98ec265_keeps_volumes_and_secrets(upstream: Site) -> None:
    upstream.invoke("deploy")
    client = upstream.client()
    claims = {item["metadata"]["uid"] for item in client.objects("v1", "PersistentVolumeClaim", upstream.namespace)}
    secret = upstream.get("Secret", "syntho-ui-secrets", "v1")
    vendor(upstream.root, load_pin(upstream.root, upstream.root / PINS["98ec265"]))
    upstream.write({**upstream.read(), "charts": PINS["98ec265"]})
    assert "deployed and verified" in upstream.invoke("deploy").stdout
    assert {item["metadata"]["uid"] for item in client.objects("v1", "PersistentVolumeClaim", upstream.namespace)} == claims
    after = upstream.get("Secret", "syntho-ui-secrets", "v1")
    assert secret is not None
    assert after is not None
    assert after["data"] == secret["data"]


@pytest.mark.parametrize("upstream", ["98ec265"], indirect=True)
def test_the_sandbox_charts_have_the_objects_and_values_of_the_real_ones(upstream: Site) -> None:
    for chart in ("ray", "syntho-ui"):
        ours, theirs = ROOT / "sandbox" / "charts" / chart, upstream.root / "vendor" / "charts" / chart
        assert yaml.safe_load((ours / "values.yaml").read_text()) == yaml.safe_load((theirs / "values.yaml").read_text())
        rendered = []
        for folder in (ours, theirs):
            values = yaml.safe_load((folder / "values.yaml").read_text())
            text = helm.find(print).template(folder, values, "r", "n", "1.31")
            rendered.append({(item["kind"], item["metadata"]["name"]) for item in yaml.safe_load_all(text) if item})
        assert rendered[0] == rendered[1]
