"""The CRDs of a chart: applied before the charts, since helm never upgrades them.

They are too large for the annotation of a client-side apply (262,144 bytes) and slow to parse (0.7 MB each), so a file goes
to the API server as it is, as YAML, by server-side apply; an annotation with its digest tells the next run that it is there.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from syntho_deploy.cluster.client import ApiError, Client
from syntho_deploy.documents import load_chart, sha256
from syntho_deploy.errors import InputError, NotHealthyError, PreflightError

DIGEST = "syntho-deploy/digest"
GROUP = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
PARTIAL = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"


def name_of(file: Path) -> str:
    """The metadata.name of a CRD, read without parsing the rest. Raises `InputError` when there is none."""
    keys: list[str] = []
    key = ""
    for event in yaml.parse(file.read_bytes(), Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            keys.append(key)
            key = ""
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            keys.pop()
            key = ""
        elif isinstance(event, yaml.ScalarEvent) and not key:
            key = event.value
        elif isinstance(event, yaml.ScalarEvent):
            if keys == ["", "metadata"] and key == "name":
                return str(event.value)
            key = ""
    raise InputError("a CRD needs metadata.name", file)


def ensure(client: Client, files: list[Path], manage: bool) -> list[str]:
    """Apply those CRDs that are missing or differ, side by side, and wait until all are served.

    manage: when false, only check that they are there. Returns the names of those written.
    Raises `PreflightError`: missing and not managed; or one would take away a version that the live CRD serves.
    """
    with ThreadPoolExecutor(max(1, len(files))) as pool:
        written = [name for name in pool.map(lambda file: _ensure(client, file, manage), files) if name]
        list(pool.map(lambda name: _established(client, name), written))
    return written


def _ensure(client: Client, file: Path, manage: bool) -> str:
    name = name_of(file)
    digest = sha256(file.read_bytes())
    live = _metadata(client, name)
    if live is None and not manage:
        raise PreflightError(f"the CRD {name} is not installed, and manage.crds is false", todo=f"have it installed: kubectl apply --server-side -f {file}")
    if not manage or (live or {}).get("annotations", {}).get(DIGEST) == digest:
        return ""
    if live is not None:
        _keeps_versions(client, name, file)
    query = {"fieldManager": "syntho-deploy", "force": "true"}
    client.request("PATCH", f"{GROUP}/{name}", file.read_text(encoding="utf-8"), query, "application/apply-patch+yaml", PARTIAL)
    note = {"metadata": {"annotations": {DIGEST: digest}}}
    client.request("PATCH", f"{GROUP}/{name}", note, {"fieldManager": "syntho-deploy"}, "application/merge-patch+json", PARTIAL)
    return name


def _metadata(client: Client, name: str) -> dict[str, dict[str, str]] | None:
    try:
        metadata: dict[str, dict[str, str]] = client.request("GET", f"{GROUP}/{name}", accept=PARTIAL)["metadata"]
    except ApiError as error:
        if error.status == 404:
            return None
        raise
    return metadata


def _keeps_versions(client: Client, name: str, file: Path) -> None:
    served = {version["name"] for version in client.request("GET", f"{GROUP}/{name}")["spec"]["versions"] if version["served"]}
    offered = {version["name"] for version in load_chart(file)["spec"]["versions"] if version["served"]}
    if served - offered:
        gone = ", ".join(sorted(served - offered))
        what = f"the CRD {name} of this chart does not serve {gone}, which the cluster's does: objects of that version would be lost"
        raise PreflightError(what, todo="a newer chart installed it; set manage.crds to false, or use a pin that serves that version")


def _established(client: Client, name: str) -> None:
    """Return once the API server serves a CRD."""
    query = {"fieldSelector": f"metadata.name={name}", "timeoutSeconds": "30", "resourceVersion": "0"}
    for event in client.stream(GROUP, query):
        conditions = event["object"].get("status", {}).get("conditions") or []  # null at first, where the file says []
        if any(item["type"] == "Established" and item["status"] == "True" for item in conditions):
            return
    raise NotHealthyError(f"the API server did not begin to serve the CRD {name} within 30 s")
