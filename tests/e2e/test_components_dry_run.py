"""A real API server takes every object that the components make, field by field: a strict server-side dry run."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from syntho_deploy.cluster import crds
from syntho_deploy.cluster.local import Cluster
from syntho_deploy.errors import PreflightError
from syntho_deploy.helm import Helm
from syntho_deploy.vendor import load_pin, vendor
from tests.components.conftest import EACH_PIN, PINS, Pinned
from tests.components.test_components import BASE, COMBINATIONS, EVERYTHING
from tests.e2e.site import Site

SETS = {
    "everything in the chart": [*BASE, *EVERYTHING],
    "outside": [*BASE, *COMBINATIONS["outside"], "images/tags", "security/network-policies"],
    "outside with passwords": [*BASE, *COMBINATIONS["outside with passwords"], "storage-class"],
    "two servers": [*BASE, *COMBINATIONS["two servers"]],
    "small": [*BASE, *COMBINATIONS["small"], "volumes", "postgres/external-backend", "postgres/tls/backend"],
}


@pytest.mark.parametrize("pin", EACH_PIN)
def test_the_api_server_takes_what_the_components_make(cluster: Cluster, tmp_path: Path, helm: Helm, pin: str) -> None:
    site = Site.make(tmp_path, "here", cluster, f"c-{uuid.uuid4().hex[:8]}")
    try:
        vendor(site.root, load_pin(site.root, site.root / PINS[pin]))
    except PreflightError as error:
        pytest.skip(f"the real charts are missing: set SYNTHO_CHARTS_URL to a mirror of them ({error.what})")
    pinned, client = Pinned(pin, site.root, helm), site.client()
    client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": site.namespace}})
    try:
        for name, components in SETS.items():
            compiled = pinned.compile(components, namespace=site.namespace)
            crds.apply(client, {crds.name_of(path): path for chart in compiled.charts.values() for path in chart.crds})
            for item in compiled.objects:
                taken = client.apply(item, "test", dry_run=True)
                assert (taken["kind"], taken["metadata"]["name"]) == (item["kind"], item["metadata"]["name"]), name
    finally:
        site.remove()
