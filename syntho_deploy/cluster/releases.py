"""Helm's releases as they are stored in the cluster, read without starting helm.

Storage of both majors: a Secret `sh.helm.release.v1.<name>.v<revision>` with the labels owner, name, status and version;
its data.release is base64 of base64 of gzip of JSON.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from syntho_deploy.cluster.client import MANAGER, Client, Object
from syntho_deploy.documents import load_manifests
from syntho_deploy.errors import PreflightError

OURS = re.compile(r"[+.][0-9a-f]{12}\.[0-9a-f]{12}$")  # what compile adds to a chart's version


@dataclass(frozen=True)
class Stored:
    """The last revision of a release: number, status (deployed, failed, pending-…), chart and version, when (RFC 3339).

    manifests: of this revision, and of the last deployed one where that is another: helm compares with that one. ours: were both
    made from compiled charts?
    """

    name: str
    revision: int
    status: str
    chart: str
    version: str
    updated: str
    manifests: tuple[str, ...]
    ours: bool

    @property
    def pending(self) -> bool:
        """Is helm at it, or was killed while it was? Helm then refuses every other write."""
        return self.status.startswith("pending")

    @property
    def objects(self) -> list[dict[str, Any]]:
        """What the manifests hold, each object once, as the last of them has it."""
        items = [item for manifest in self.manifests for item in load_manifests(manifest)]
        named = [item for item in items if item.get("kind") and (item.get("metadata") or {}).get("name")]
        return list({(item["kind"], item["metadata"]["name"]): item for item in named}.values())


def stored(client: Client, namespace: str, names: Iterable[str]) -> dict[str, Stored]:
    """The last revision of each of these releases that is in the namespace."""
    listed = ",".join(names)
    secrets = client.objects("v1", "Secret", namespace, f"owner=helm,name in ({listed}),status!=superseded")
    last: dict[str, Stored] = {}
    deployed: dict[str, tuple[str, bool]] = {}
    for secret in sorted(secrets, key=lambda item: int(item["metadata"]["labels"]["version"])):
        name = secret["metadata"]["labels"]["name"]
        release = _decoded(secret)
        chart, info = release["chart"]["metadata"], release["info"]
        manifest, ours = release.get("manifest", ""), bool(OURS.search(chart["version"]))
        if info["status"] == "deployed":
            deployed[name] = manifest, ours
        before, all_ours = deployed.get(name, (manifest, ours))
        manifests = (manifest,) if before == manifest else (before, manifest)
        updated = info.get("last_deployed", "")
        last[name] = Stored(name, release["version"], info["status"], chart["name"], chart["version"], updated, manifests, ours and all_ours)
    return last


def fail(client: Client, namespace: str, release: Stored, why: str) -> None:
    """Mark a pending revision as failed, as helm itself does when it is interrupted: what it had begun to write stays known to the
    next upgrade, which a deletion of the revision would lose. Raises `ApiError` 409 when helm writes it at the same time."""
    path = client.path("v1", "Secret", namespace, f"sh.helm.release.v1.{release.name}.v{release.revision}")
    secret = client.request("GET", path)
    content = _decoded(secret)
    content["info"] |= {"status": "failed", "description": why}
    secret["data"]["release"] = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(content).encode()))).decode()
    secret["metadata"]["labels"]["status"] = "failed"
    client.request("PUT", path, secret, {"fieldManager": MANAGER})


def _decoded(secret: Object) -> dict[str, Any]:
    """What helm wrote into a release's Secret. Raises `PreflightError` where that is not there any more."""
    try:
        found: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(secret["data"]["release"]))))
        if found["name"] and found["version"] and found["info"]["status"] and found["chart"]["metadata"]["version"]:
            return found
    except (ValueError, OSError, EOFError, zlib.error, LookupError, TypeError):  # OSError: no gzip; ValueError: no base64, no JSON
        pass
    name, namespace = secret["metadata"]["name"], secret["metadata"].get("namespace", "")
    what = f"the Secret {name}, in which helm keeps a release, cannot be read: somebody has changed it"
    raise PreflightError(what, todo=f"restore it, or have helm forget that revision: kubectl delete secret {name} -n {namespace}")
