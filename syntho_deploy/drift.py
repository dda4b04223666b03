"""The live cluster against what was deployed last: what was changed or deleted since, by whom and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from syntho_deploy import plan as planning
from syntho_deploy.cluster import predict
from syntho_deploy.cluster.client import Client, Object
from syntho_deploy.compile import Compiled


@dataclass(frozen=True)
class Drift:
    """One difference. what: changed, deleted, taken, or unclear (`now` says
    why it cannot be told); path: the field's JSON Pointer; now, deployed: its values;
    by: the field manager that wrote it, when: RFC 3339, both "" where the API server does not tell."""

    label: str
    what: str
    path: str = ""
    now: Any = None
    deployed: Any = None
    by: str = ""
    when: str = ""


def drift(client: Client, deployed: Compiled) -> list[Drift]:
    """Every object and field that is no longer as it was deployed. Reads only."""
    plan = planning.make(client, deployed)
    found: list[Drift] = []
    for item in plan.objects:
        if item.action == planning.REFUSED and not item.changes:
            there = client.get(_version(deployed, item.label), item.kind, deployed.environment.target.namespace, item.name)
            found.append(Drift(item.label, "unclear", now=item.reason) if there else Drift(item.label, "deleted"))
        elif item.action == planning.CREATE:
            found.append(Drift(item.label, "deleted"))
        elif item.action in (planning.UPDATE, planning.REPLACE, planning.CONFLICT, planning.REFUSED):
            live = client.get(_version(deployed, item.label), item.kind, deployed.environment.target.namespace, item.name) or {"metadata": {}}
            for change in item.changes:
                by, when = _writer(live, change.path)
                found.append(Drift(item.label, "changed", change.path, change.before, change.after, by, when))
            for conflict in item.conflicts:
                when = max((str(entry.get("time", "")) for entry in _entries(live) if entry.get("manager") == conflict.owner), default="")
                found.append(Drift(item.label, "taken", conflict.field, by=conflict.owner, when=when))
    return found


def _version(deployed: Compiled, name: str) -> str:
    return next(str(item["apiVersion"]) for item in deployed.objects if f"{item['kind']}/{item['metadata']['name']}" == name)


def _entries(live: Object) -> list[Object]:
    return live["metadata"].get("managedFields") or []


def _writer(live: Object, path: str) -> tuple[str, str]:
    """The manager, other than helm, that last wrote at `path` or inside it, and when."""
    names = [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:] if not part.startswith("[")]
    writers = [
        (str(entry.get("time", "")), str(entry.get("manager", "")))
        for entry in _entries(live)
        if entry.get("manager") != predict.HELM and _mentions(entry.get("fieldsV1") or {}, names)
    ]
    when, by = max(writers, default=("", ""))
    return by, when


def _mentions(fields: Object, names: list[str]) -> bool:
    """Does fieldsV1 hold a field of these names, whatever the keys of list items on the way?"""
    if not names:
        return True
    inner = [value for key, value in fields.items() if key.startswith(("k:", "v:"))]
    return (f"f:{names[0]}" in fields and _mentions(fields[f"f:{names[0]}"], names[1:])) or any(_mentions(value, names) for value in inner)


def text(found: list[Drift]) -> str:
    """A list of differences as people read it; "" for none."""
    lines = []
    for item in found:
        who = f"  (by {item.by}{' at ' + item.when if item.when else ''})" if item.by else ""
        values = f": deployed {planning.shown(item.deployed)}, now {planning.shown(item.now)}" if item.what == "changed" else ""
        values = f": {item.now}" if item.what == "unclear" else values
        lines.append(f"{item.what} {item.label}{' ' + item.path if item.path else ''}{values}{who}")
    return "\n".join(lines)
