"""The live cluster against what was deployed last: what was changed, deleted or made anew since, by whom and when."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from syntho_deploy import plan as planning
from syntho_deploy.cluster import crds, predict, readiness
from syntho_deploy.cluster.client import MANAGER, ApiError, Client, Object
from syntho_deploy.cluster.record import Record
from syntho_deploy.cluster.releases import stored
from syntho_deploy.compile import Compiled
from syntho_deploy.secrets import store
from syntho_deploy.secrets.sentinels import label

CHANGED, DELETED, ANEW, TAKEN, UNCLEAR = "changed", "deleted", "made anew", "taken", "unclear"


@dataclass(frozen=True)
class Drift:
    """One difference. label: `Kind/name`, or `release name`; what: changed, deleted, made anew, taken (a field with its old value,
    by another manager), or unclear (`now` says why it cannot be told); path: the field's JSON Pointer; now, deployed: its values, or
    in `now` what else to know; by: the field manager that wrote it, when: RFC 3339, both "" where the API server does not tell."""

    label: str
    what: str
    path: str = ""
    now: Any = None
    deployed: Any = None
    by: str = ""
    when: str = ""


def drift(client: Client, deployed: Compiled, last: Record) -> list[Drift]:
    """Everything that is no longer as it was deployed. deployed: the state that `last` records. Reads only."""
    plan = planning.make(client, deployed, force_conflicts=True)
    compiled = {label(item) for item in deployed.objects}
    found: list[Drift] = []
    for item in plan.objects:
        if item.label in compiled:
            live = plan.seen.get(item.kind, item.name) if plan.seen else None
            found += _of_object(item, live, last.uids.get(item.label, ""))
    return [*found, *_of_secrets(client, deployed, last), *_of_crds(client, last), *_of_releases(client, deployed)]


def _of_object(item: planning.ObjectPlan, live: Object | None, uid: str) -> Iterator[Drift]:
    if live is None:
        yield Drift(item.label, DELETED)
        return
    if since := readiness.going(live):
        yield Drift(item.label, DELETED, now=since)
        return
    anew = bool(uid) and uid != live["metadata"]["uid"]
    if anew:  # who made it owns its fields
        yield _anew(item.label, live)
    if item.action == planning.REFUSED and not item.changes:
        yield Drift(item.label, UNCLEAR, now=item.reason)
    if item.action in (planning.UPDATE, planning.REPLACE, planning.REFUSED):
        for change in item.changes:
            by, when = _writer(live, change.path)
            yield Drift(item.label, CHANGED, change.path, change.before, change.after, by, when)
        if item.conflicts and not item.changes and not anew:
            for conflict in item.conflicts:
                when = max((str(entry.get("time", "")) for entry in _entries(live) if entry.get("manager") == conflict.owner), default="")
                yield Drift(item.label, TAKEN, conflict.field, by=conflict.owner, when=when)
        if item.pods and not item.changes:
            yield Drift(item.label, CHANGED, now=f"pods of another state: {', '.join(item.pods)}")


def _anew(name: str, live: Object) -> Drift:
    """An object of that name that is not the one that was deployed: somebody deleted that."""
    whole = [entry for entry in _entries(live) if not entry.get("subresource")]
    first = min(whole, key=lambda entry: (str(entry.get("time", "")), str(entry.get("manager", "")).startswith("kube-")), default={})
    return Drift(name, ANEW, by=str(first.get("manager", "")), when=str(live["metadata"].get("creationTimestamp", "")))


def _of_secrets(client: Client, deployed: Compiled, last: Record) -> Iterator[Drift]:
    """The Secrets made from here: gone, made anew, without a key, or with one that another hand has written. No value is looked at."""
    needs = store.wanted(deployed)
    live = client.each("v1", "Secret", deployed.environment.target.namespace, (need.name for need in needs))
    for need in needs:
        name, found = f"Secret/{need.name}", live[need.name]
        if found is None or readiness.going(found):
            yield Drift(name, DELETED, now=readiness.going(found) if found else None)
            continue
        if last.uids.get(name, found["metadata"]["uid"]) != found["metadata"]["uid"]:
            yield _anew(name, found)
        yield from (Drift(name, DELETED, f"/data/{key}") for key in need.missing(found))
        for key in sorted(need.data):
            by, when = _writer(found, f"/data/{key}", MANAGER)
            if when > last.made:
                yield Drift(name, CHANGED, f"/data/{key}", by=by, when=when)


def _of_crds(client: Client, last: Record) -> Iterator[Drift]:
    with ThreadPoolExecutor(max(1, len(last.crds))) as pool:
        looked = list(pool.map(lambda name: _crd(client, name, last.crds[name]), last.crds))
    for (name, managed), found in zip(last.crds.items(), looked, strict=True):
        by, when = crds.writer(found or {})
        if found is None:
            yield Drift(f"CustomResourceDefinition/{name}", DELETED)
        elif since := readiness.going({"metadata": found}):
            yield Drift(f"CustomResourceDefinition/{name}", DELETED, now=since)
        elif managed and found and not crds.mark(found, crds.DIGEST):
            yield Drift(f"CustomResourceDefinition/{name}", ANEW, by=by, when=when)
        elif managed and found and crds.edited(found):
            yield Drift(f"CustomResourceDefinition/{name}", CHANGED, now="invoke plan shows what", by=by, when=when)


def _crd(client: Client, name: str, managed: bool) -> dict[str, Any] | None:
    """The metadata of a CRD, empty where the account may not look."""
    try:
        return crds.metadata(client, name, managed)
    except ApiError as error:
        if error.status != 403:
            raise
        return {}


def _of_releases(client: Client, deployed: Compiled) -> Iterator[Drift]:
    """The releases that are gone, or were written since by a hand that did not verify and record it."""
    found = stored(client, deployed.environment.target.namespace, [chart.release.name for chart in deployed.charts.values()])
    for chart in deployed.charts.values():
        name, release = f"release {chart.release.name}", found.get(chart.release.name)
        if release is None:
            yield Drift(name, DELETED)
        elif (release.chart, release.version) != (chart.name, chart.version):
            now = f"{release.chart} {release.version}, revision {release.revision}"
            yield Drift(name, CHANGED, now=now, deployed=f"{chart.name} {chart.version}", when=release.updated)


def _entries(live: Object) -> list[Object]:
    return live["metadata"].get("managedFields") or []


def _writer(live: Object, path: str, mine: str = predict.HELM) -> tuple[str, str]:
    """The manager, other than `mine`, that last wrote at `path` or inside it, and when."""
    names = [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:] if not part.startswith("[")]
    writers = [
        (str(entry.get("time", "")), str(entry.get("manager", "")))
        for entry in _entries(live)
        if entry.get("manager") != mine and _mentions(entry.get("fieldsV1") or {}, names)
    ]
    when, by = max(writers, default=("", ""))
    return by, when


def _mentions(fields: Object, names: list[str]) -> bool:
    """Does fieldsV1 hold a field of these names, whatever the keys of list items on the way? What is owned as a whole holds all in it."""
    if not names:
        return True
    inner = [value for key, value in fields.items() if key.startswith(("k:", "v:"))]
    within = fields.get(f"f:{names[0]}")
    return (within is not None and (not within or _mentions(within, names[1:]))) or any(_mentions(value, names) for value in inner)


def text(found: list[Drift]) -> str:
    """A list of differences as people read it; "" for none."""
    lines = []
    for item in found:
        who = f"  (by {item.by}{' at ' + item.when if item.when else ''})" if item.by else f"  (at {item.when})" if item.when else ""
        values = f": {item.now}" if item.now is not None else ""
        if item.what == CHANGED and item.deployed is not None:
            values = f": deployed {planning.shown(item.deployed)}, now {planning.shown(item.now)}"
        lines.append(f"{item.what} {item.label}{' ' + item.path if item.path else ''}{values}{who}")
    return "\n".join(lines)
