"""The CRDs of a chart: applied before the charts, since helm never upgrades them.

They are too large for the annotation of a client-side apply (262,144 bytes) and slow to parse (0.7 MB each). So a new one goes to
the API server as YAML, by server-side apply, with annotations that tell the next run that it is there: the digest of the file,
and the generation that the API server gave it, which moves when anybody edits the CRD. One that is there and differs gets the
file's spec whole: an apply would leave in it what another hand has added.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from syntho_deploy.cluster.client import MANAGER, ApiError, Client, Object
from syntho_deploy.cluster.schema import altered, lacking, pruned
from syntho_deploy.documents import canonical, load_chart, sha256
from syntho_deploy.errors import InputError, NotHealthyError, PreflightError

DIGEST = "syntho-deploy/digest"
GENERATION = "syntho-deploy/generation"  # that the CRD has as long as nobody edits it
GROUP = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
PARTIAL = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList"
DISCOVERY = ",".join([_AGGREGATED.format("v2"), _AGGREGATED.format("v2beta1"), "application/json"])
SERVED_SECONDS, DISCOVERY_SECONDS = 30.0, 0.02  # to wait for a CRD that was written; between two looks
OTHERS_SECONDS = 10.0  # to wait for one that another run may just have written
SHOWN = 6  # fields, or objects, that a line names


@dataclass(frozen=True)
class CrdChange:
    """What a deploy does to one CRD. changes: of one that is there, a line for each version that comes, goes or differs, and who edited
    it since it was applied from here."""

    name: str
    new: bool
    changes: tuple[str, ...]


def name_of(file: Path) -> str:
    """The metadata.name of a CRD, read without parsing the rest. Raises `InputError` when there is none."""
    metadata, _, _ = _head(file)
    return str(metadata["name"])


def marked(file: Path, generation: int = 1) -> str:
    """A CRD's text with its marks among the annotations: a second write for them would have the API server work out the schema again."""
    text = file.read_text(encoding="utf-8")
    metadata, begin, end = _head(file)
    annotations = {**(metadata.get("annotations") or {}), **_marks(file, generation)}
    return f"{text[:begin]}{canonical({**metadata, 'annotations': annotations})}\n{text[end:]}"


def _marks(file: Path, generation: int) -> dict[str, str]:
    return {DIGEST: sha256(file.read_bytes()), GENERATION: str(generation)}


def _head(file: Path) -> tuple[dict[str, Any], int, int]:
    """A CRD's metadata, and where it begins and ends in the text. What comes behind it, nearly all of the file, is not read."""
    text, depth, key, mark = file.read_text(encoding="utf-8"), 0, "", None
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if mark and depth == 1:
            begin, end = mark.index, (event.end_mark or mark).index
            found = yaml.load(" " * mark.column + text[begin:end], Loader=yaml.CSafeLoader)
            if isinstance(found.get("name"), str):
                return found, begin, end
            break
        if depth == 1 and key == "metadata" and isinstance(event, yaml.MappingStartEvent):
            mark = event.start_mark
        if depth == 1:
            key = event.value if isinstance(event, yaml.ScalarEvent) and not key else ""
        depth += isinstance(event, yaml.CollectionStartEvent)
    raise InputError("a CRD needs metadata.name", file)


class Installed(NamedTuple):
    """A CRD of a chart, and the metadata of the cluster's, if it has one: empty where the account may not look."""

    file: Path
    live: dict[str, Any] | None

    @property
    def current(self) -> bool:
        """Is the file what the cluster has, and has nobody edited it there?"""
        live = self.live or {}
        return mark(live, DIGEST) == sha256(self.file.read_bytes()) and not edited(live)


def mark(live: dict[str, Any], name: str) -> str:
    """An annotation of a CRD's metadata, or ""."""
    return str((live.get("annotations") or {}).get(name, ""))


def edited(live: dict[str, Any]) -> bool:
    """Was a CRD changed since it was written from here? live: its metadata. True, too, of one that was never written from here."""
    return mark(live, GENERATION) != str(live.get("generation"))


def look(client: Client, files: list[Path], manage: bool) -> dict[str, Installed]:
    """What the cluster has of these CRDs, by name. manage: when false, an account that may not look is no fault."""
    with ThreadPoolExecutor(max(1, len(files))) as pool:
        names = list(pool.map(name_of, files))
        live = pool.map(lambda name: metadata(client, name, manage), names)
        return {name: Installed(file, found) for name, file, found in zip(names, files, live, strict=True)}


def due(client: Client, files: list[Path], manage: bool) -> dict[str, Path]:
    """As `due_of`, of what `look` finds."""
    return due_of(client, look(client, files, manage), manage)


def due_of(client: Client, installed: dict[str, Installed], manage: bool) -> dict[str, Path]:
    """Those CRDs that are missing or differ, by name; none is written yet.

    manage: when false, they are only checked to be there. Raises `PreflightError`: missing and not managed; the account may not
    write CRDs.
    """
    for name, one in installed.items():
        if one.live is None and not manage:
            what = f"the CRD {name} is not installed, and manage.crds is false"
            raise PreflightError(what, todo=f"have it installed: kubectl apply --server-side -f {one.file}")
        if one.live and one.live.get("deletionTimestamp"):
            what = f"the CRD {name} is being deleted since {one.live['deletionTimestamp']}, with all objects of its kind"
            raise PreflightError(what, todo="wait until it is gone, then run it again; a finalizer of its objects may hold it")
    found = {name: one.file for name, one in installed.items() if manage and not one.current}
    if found:
        for verb in ("create", "patch"):
            _allowed(client, verb)
    return found


def apply(client: Client, files: dict[str, Path], seconds: float = SERVED_SECONDS) -> None:
    """Write these CRDs side by side, and return when all are served, within so many seconds at most. What another environment of this
    run has written is left."""
    end = time.monotonic() + min(seconds, SERVED_SECONDS)
    with client.once, ThreadPoolExecutor(max(1, len(files))) as pool:
        there = look(client, list(files.values()), True)
        left = [name for name in files if not there[name].current]
        list(pool.map(lambda name: _apply(client, name, there[name]), left))
        list(pool.map(lambda name: _established(client, name, end), files))


def _allowed(client: Client, verb: str) -> None:
    attributes = {"group": "apiextensions.k8s.io", "resource": "customresourcedefinitions", "verb": verb}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": attributes}}
    if not client.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)["status"]["allowed"]:
        what = f"the account lacks the permission to {verb} customresourcedefinitions.apiextensions.k8s.io, which is forbidden to it"
        raise PreflightError(what, todo="have the CRDs installed and set manage.crds to false, or use an account with this permission")


def review(client: Client, files: dict[str, Path], written: Iterable[Object]) -> list[CrdChange]:
    """What applying these CRDs changes. written: the objects that the same deploy writes, as they will be.

    Raises `PreflightError` when a version goes that is served or stored, or a field that an object uses, naming the objects.
    """
    objects = list(written)
    with ThreadPoolExecutor(max(1, len(files))) as pool:
        return list(pool.map(lambda name: _review(client, name, files[name], objects), sorted(files)))


def _review(client: Client, name: str, file: Path, written: list[Object]) -> CrdChange:
    try:
        live = client.request("GET", f"{GROUP}/{name}")
    except ApiError as error:
        if error.status != 404:
            raise
        return CrdChange(name, True, ())
    offered = load_chart(file)
    new = {version["name"]: version for version in offered["spec"]["versions"]}
    old = {version["name"]: version for version in live["spec"]["versions"]}
    _keeps_versions(name, live, new)
    changes = [_by(live["metadata"])] if mark(live["metadata"], DIGEST) and edited(live["metadata"]) else []
    changes += [f"{version} {'comes' if version in new else 'goes'}" for version in sorted(new.keys() ^ old.keys())]
    lost: dict[str, list[str]] = {}
    for version in sorted(new.keys() & old.keys()):
        before, after = _schema(old[version]), _schema(new[version])
        more, less = sorted(lacking(after, before)), sorted(lacking(before, after))
        other = [*altered(before, after), *(key for key in ("served", "storage", "subresources", "additionalPrinterColumns", "deprecated")
                                            if (old[version].get(key) or None) != (new[version].get(key) or None))]  # fmt: skip
        parts = [f"{verb} {_few(names)}" for verb, names in (("adds", more), ("removes", less), ("changes", other)) if names]
        changes += [f"{version} {' and '.join(parts)}"] * bool(parts)
        if less and old[version]["served"]:
            lost |= _losers(client, offered["spec"], version, after, written)
    if lost:
        listed = "; ".join(f"{who} ({', '.join(fields)})" for who, fields in list(lost.items())[:SHOWN])
        what = f"the CRD {name} of this chart lacks fields that are in use, and the API server would drop them: {listed}"
        rest = f" and {len(lost) - SHOWN} more" if len(lost) > SHOWN else ""
        raise PreflightError(f"{what}{rest}", todo="take these fields out of the objects, set manage.crds to false, or use a pin whose CRD has them")
    changes += [f"changes {key}" for key in ("group", "scope", "names") if not _within(offered["spec"].get(key), live["spec"].get(key))]
    return CrdChange(name, False, tuple(changes) or ("no version or field comes, goes or changes",))


def _by(live: dict[str, Any]) -> str:
    who, when = writer(live)
    return f"edited since it was applied from here{f', by {who} at {when}' if who else ''}: it gets the chart's content again"


def writer(live: dict[str, Any]) -> tuple[str, str]:
    """The field manager other than ours that last wrote a CRD's spec, and when; "" where the API server does not tell. live: its metadata."""
    others = [one for one in live.get("managedFields") or [] if one.get("manager") != MANAGER and not one.get("subresource")]
    when, who = max(
        ((str(one.get("time", "")), str(one.get("manager", ""))) for one in others if "f:spec" in one.get("fieldsV1", {})), default=("", "")
    )
    return who, when


def _within(wanted: Any, found: Any) -> bool:
    """Is all that is wanted there? The API server fills in more."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return all(_within(value, found.get(key)) for key, value in wanted.items())
    return bool(wanted == found)


def _schema(version: dict[str, Any]) -> dict[str, Any]:
    return (version.get("schema") or {}).get("openAPIV3Schema") or {}


def _few(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _losers(client: Client, spec: dict[str, Any], version: str, schema: dict[str, Any], written: list[Object]) -> dict[str, list[str]]:
    """The custom resources with fields that a schema lacks, and which. What a controller writes (the status) does not count."""
    api_version, kind = f"{spec['group']}/{version}", spec["names"]["kind"]
    try:
        live = client.objects(api_version, kind, "")
    except ApiError as error:
        if error.status != 403:
            raise
        what = f"the CRD of {kind} in this chart lacks fields that the cluster's has, and the account may not list {spec['names']['plural']}"
        raise PreflightError(f"{what} in all namespaces, to see whether one uses them", todo="give it this permission (docs/rbac.md)") from None
    mine = {_place(item): item for item in written if item["kind"] == kind and item["apiVersion"].startswith(f"{spec['group']}/")}
    used = [item for item in live if _place(item) not in mine] + [item for item in mine.values() if item["apiVersion"] == api_version]
    found = {_place(item): sorted(set(pruned({key: value for key, value in item.items() if key != "status"}, schema))) for item in used}
    return {f"{kind} {place}": fields for place, fields in sorted(found.items()) if fields}


def _place(item: Object) -> str:
    return f"{item['metadata'].get('namespace', '')}/{item['metadata']['name']}".lstrip("/")


def _apply(client: Client, name: str, installed: Installed) -> None:
    file, path, query = installed.file, f"{GROUP}/{name}", {"fieldManager": MANAGER}
    if not installed.live:
        made = client.request("PATCH", path, marked(file), {**query, "force": "true"}, "application/apply-patch+yaml", PARTIAL)
        written = 1
    else:
        offered, live = load_chart(file), installed.live
        written = live["generation"] + 1
        notes = {**(live.get("annotations") or {}), **(offered["metadata"].get("annotations") or {}), **_marks(file, written)}
        labels = {**(live.get("labels") or {}), **(offered["metadata"].get("labels") or {})}
        operations = [{"op": "add", "path": f"/spec/{key}", "value": value} for key, value in offered["spec"].items()]
        operations += [{"op": "add", "path": f"/metadata/{key}", "value": value} for key, value in (("annotations", notes), ("labels", labels))]
        made = client.request("PATCH", path, canonical(operations), query, "application/json-patch+json", PARTIAL)
    found = made["metadata"]["generation"]
    if found != written:  # the spec was as it is now: one that another hand installed
        note = {"metadata": {"annotations": {GENERATION: str(found)}}}
        client.request("PATCH", path, note, query, "application/merge-patch+json", PARTIAL)


def metadata(client: Client, name: str, manage: bool) -> dict[str, Any] | None:
    """The metadata of the cluster's CRD, None where there is none. manage: when false, that of one that may not be read is empty."""
    try:
        found: dict[str, Any] = client.request("GET", f"{GROUP}/{name}", accept=PARTIAL)["metadata"]
    except ApiError as error:
        if error.status == 404:
            return None
        if error.status == 403 and not manage:
            return {}  # who may not look is told by the first object of that kind
        raise
    return found


def _keeps_versions(name: str, live: Object, new: dict[str, Any]) -> None:
    served = {version["name"] for version in live["spec"]["versions"] if version["served"]}
    offered = {version for version, one in new.items() if one["served"]}
    todo = "a newer chart installed it; set manage.crds to false, or use a pin that {} that version"
    if gone := served - offered:
        what = (
            f"the CRD {name} of this chart does not serve {', '.join(sorted(gone))}, which the cluster's does: objects of that version would be lost"
        )
        raise PreflightError(what, todo=todo.format("serves"))
    if gone := set(live.get("status", {}).get("storedVersions") or ()) - new.keys():
        what = f"the CRD {name} of this chart lacks {', '.join(sorted(gone))}, in which objects may be stored on the cluster"
        raise PreflightError(what, todo=todo.format("has"))


def _established(client: Client, name: str, end: float) -> None:
    """Return once the API server serves a CRD, and says so where helm and controllers look for kinds: a little later. end: monotonic."""
    left = max(1.0, end - time.monotonic())
    query = {"fieldSelector": f"metadata.name={name}", "timeoutSeconds": f"{left:.0f}", "resourceVersion": "0"}
    for event in client.stream(GROUP, query):
        conditions = event["object"].get("status", {}).get("conditions") or []  # null at first, where the file says []
        if any(item["type"] == "Established" and item["status"] == "True" for item in conditions):
            spec = event["object"]["spec"]
            await_listed(client, {(f"{spec['group']}/{one['name']}", spec["names"]["kind"]) for one in spec["versions"] if one["served"]}, end)
            return
    raise NotHealthyError(f"the API server did not begin to serve the CRD {name} within {left:.0f} s")


def await_listed(client: Client, kinds: set[tuple[str, str]], end: float) -> None:
    """Return once the API server lists these kinds (`group/version`, kind) where helm looks for them. A CRD that another run has just written is
    there most of a second before. end: monotonic. Raises `NotHealthyError`."""
    while left := kinds - _listed(client, kinds):
        if time.monotonic() > end:
            names = ", ".join(f"{kind} of {version}" for version, kind in sorted(left))
            raise NotHealthyError(f"the API server did not begin to serve {names} in time", todo="kubectl get crds; kubectl api-resources")
        threading.Event().wait(DISCOVERY_SECONDS)


def _listed(client: Client, kinds: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The kinds that discovery has: all in one list (since 1.26), or those of these versions in a list of each.

    https://kubernetes.io/docs/concepts/overview/kubernetes-api/#aggregated-discovery
    """
    found = client.request("GET", "/apis", accept=DISCOVERY)
    if found.get("kind") == "APIGroupDiscoveryList":
        versions = ((f"{group['metadata']['name']}/{one['version']}", one) for group in found["items"] for one in group.get("versions") or [])
        fresh = ((version, one) for version, one in versions if one.get("freshness") != "Stale")
        return {(version, (resource.get("responseKind") or {}).get("kind", "")) for version, one in fresh for resource in one.get("resources") or []}
    listed = set()
    for version in {version for version, _ in kinds}:
        try:
            listed |= {(version, one["kind"]) for one in client.request("GET", f"/apis/{version}")["resources"]}
        except ApiError as error:
            if error.status != 404:
                raise
    return listed
