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


def due(client: Client, files: list[Path], manage: bool) -> dict[str, Path]:
    """Those CRDs that are missing or differ, by name; none is written yet.

    manage: when false, they are only checked to be there. Raises `PreflightError`: missing and not managed; one would take
    away a version that the live CRD serves; the account may not write CRDs.
    """
    with ThreadPoolExecutor(max(1, len(files))) as pool:
        found = {name: file for name, file in pool.map(lambda file: _due(client, file, manage), files) if name}
    if found:
        for verb in ("create", "patch"):
            _allowed(client, verb)
    return found


def apply(client: Client, files: dict[str, Path]) -> None:
    """Write these CRDs side by side, and return when all are served. What another environment of this run has written is left."""
    with client.once, ThreadPoolExecutor(max(1, len(files))) as pool:
        there = pool.map(lambda name: _is_applied(client, name, files[name]), files)
        left = [name for name, applied in zip(files, there, strict=True) if not applied]
        list(pool.map(lambda name: _apply(client, name, files[name]), left))
        list(pool.map(lambda name: _established(client, name), files))


def _allowed(client: Client, verb: str) -> None:
    attributes = {"group": "apiextensions.k8s.io", "resource": "customresourcedefinitions", "verb": verb}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": attributes}}
    if not client.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)["status"]["allowed"]:
        what = f"the account lacks the permission to {verb} customresourcedefinitions.apiextensions.k8s.io, which is forbidden to it"
        raise PreflightError(what, todo="have the CRDs installed and set manage.crds to false, or use an account with this permission")


def _due(client: Client, file: Path, manage: bool) -> tuple[str, Path]:
    name = name_of(file)
    live = _metadata(client, name, manage)
    if live is None and not manage:
        raise PreflightError(
            f"the CRD {name} is not installed, and manage.crds is false", todo=f"have it installed: kubectl apply --server-side -f {file}"
        )
    if not manage or (live or {}).get("annotations", {}).get(DIGEST) == sha256(file.read_bytes()):
        return "", file
    if live is not None:
        _keeps_versions(client, name, file)
    return name, file


def _is_applied(client: Client, name: str, file: Path) -> bool:
    return ((_metadata(client, name, True) or {}).get("annotations") or {}).get(DIGEST) == sha256(file.read_bytes())


def _apply(client: Client, name: str, file: Path) -> None:
    query = {"fieldManager": "syntho-deploy", "force": "true"}
    client.request("PATCH", f"{GROUP}/{name}", file.read_text(encoding="utf-8"), query, "application/apply-patch+yaml", PARTIAL)
    note = {"metadata": {"annotations": {DIGEST: sha256(file.read_bytes())}}}
    client.request("PATCH", f"{GROUP}/{name}", note, {"fieldManager": "syntho-deploy"}, "application/merge-patch+json", PARTIAL)


def _metadata(client: Client, name: str, manage: bool) -> dict[str, dict[str, str]] | None:
    try:
        metadata: dict[str, dict[str, str]] = client.request("GET", f"{GROUP}/{name}", accept=PARTIAL)["metadata"]
    except ApiError as error:
        if error.status == 404:
            return None
        if error.status == 403 and not manage:
            return {}  # who may not look is told by the first object of that kind
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
