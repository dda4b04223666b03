"""Helm's releases as they are stored in the cluster, read without starting helm.

Storage of both majors: a Secret `sh.helm.release.v1.<name>.v<revision>` with the labels owner, name, status and version;
its data.release is base64 of base64 of gzip of JSON.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from syntho_deploy.cluster.client import Client

OURS = re.compile(r"[+.][0-9a-f]{12}\.[0-9a-f]{12}$")  # what compile adds to a chart's version


@dataclass(frozen=True)
class Stored:
    """The last revision of a release: number, status (deployed, failed, pending-…), chart and version, when (RFC 3339), manifest."""

    name: str
    revision: int
    status: str
    chart: str
    version: str
    updated: str
    manifest: str

    @property
    def ours(self) -> bool:
        """Was it made from a compiled chart?"""
        return bool(OURS.search(self.version))


def stored(client: Client, namespace: str, names: Iterable[str]) -> dict[str, Stored]:
    """The last revision of each of these releases that is in the namespace."""
    listed = ",".join(names)
    secrets = client.objects("v1", "Secret", namespace, f"owner=helm,name in ({listed}),status!=superseded")
    last: dict[str, Stored] = {}
    for secret in sorted(secrets, key=lambda item: int(item["metadata"]["labels"]["version"])):
        name = secret["metadata"]["labels"]["name"]
        release = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(secret["data"]["release"]))))
        chart = release["chart"]["metadata"]
        updated = release["info"].get("last_deployed", "")
        last[name] = Stored(
            name, release["version"], release["info"]["status"], chart["name"], chart["version"], updated, release.get("manifest", "")
        )
    return last
