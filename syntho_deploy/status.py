"""What of an environment runs, for `invoke status`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from syntho_deploy import verify
from syntho_deploy.cluster import readiness
from syntho_deploy.cluster.client import Client
from syntho_deploy.cluster.readiness import Live
from syntho_deploy.cluster.releases import stored
from syntho_deploy.cluster.watch import View
from syntho_deploy.compile import Compiled
from syntho_deploy.console import redrawn, show_line, table
from syntho_deploy.redact import redact
from syntho_deploy.secrets import store

BURST_SECONDS = 0.2  # what moves together is shown together
HOUR = 3600.0


def status(client: Client, compiled: Compiled, seen: Live | None = None) -> dict[str, Any]:
    """The releases and workloads of an environment beside what is compiled. seen: what is in the namespace, else it is asked for.

    {"environment", "namespace", "cluster", "healthy", "releases": [{"name", "chart", "version", "status", "revision", "updated",
    "current"}], "workloads": [{"kind", "name", "ready", "reason"}], "faults": [text]}; a release that is not there has status "absent".
    """
    namespace = compiled.environment.target.namespace
    store.learn(client, compiled)
    found = stored(client, namespace, [chart.release.name for chart in compiled.charts.values()])
    releases = []
    for chart in compiled.charts.values():
        release = found.get(chart.release.name)
        current = release is not None and release.version == chart.version and release.status == "deployed"
        known = {key: getattr(release, key) for key in ("chart", "version", "status", "revision", "updated")} if release else {"status": "absent"}
        releases.append({"name": chart.release.name, **known, "current": current})
    live = seen or verify.look(client, compiled)
    workloads = []
    for item in compiled.objects:
        if item["kind"] in readiness.RULES:
            reason = readiness.unready(item, live)
            workloads.append({"kind": item["kind"], "name": item["metadata"]["name"], "ready": not reason, "reason": reason})
    faults = verify.faults(client, compiled, live)
    healthy = not faults and all(release["current"] for release in releases)
    return {
        "environment": compiled.environment.name, "namespace": namespace, "cluster": client.access.what, "healthy": healthy,
        "releases": releases, "workloads": workloads, "faults": faults,
    }  # fmt: skip


def text(found: dict[str, Any]) -> str:
    """A status as people read it."""
    releases = [(r["name"], r["status"], r.get("version", ""), "as compiled" if r["current"] else "not as compiled") for r in found["releases"]]
    workloads = [(f"{w['kind']}/{w['name']}", "ready" if w["ready"] else w["reason"]) for w in found["workloads"]]
    faults = [fault for fault in found["faults"] if not any(fault.startswith(f"{w['kind']}/{w['name']}:") for w in found["workloads"])]
    todo = f": invoke plan --env={found['environment']} shows what differs" if _otherwise(found) else ""
    head = f"{found['environment']} in namespace {found['namespace']} of the cluster {found['cluster']}: {line(found)}{todo}"
    return "\n".join([head, "", table([("RELEASE", "STATUS", "VERSION", ""), *releases]), "", table([("OBJECT", "STATE"), *workloads]), *faults])


def follow(client: Client, compiled: Compiled, json: bool) -> None:
    """Print the status, and again whenever it has changed, until interrupted: in place on a terminal, else a line for each change;
    as JSON, a document on each line."""
    before: dict[str, Any] = {}
    with redrawn() as redraw:
        for found in _changing(client, compiled):
            if json:
                show_line(found)
            elif redraw:
                redraw(text(found))
            elif before:
                print("\n".join(redact(f"{datetime.now(UTC):%H:%M:%SZ} {change}") for change in changes(before, found)), flush=True)
            else:
                print(redact(text(found)), flush=True)
            before = found


def _changing(client: Client, compiled: Compiled) -> Iterator[dict[str, Any]]:
    """The status, each time that it differs from the last one; without end."""
    last: dict[str, Any] = {}
    with View(client, compiled.environment.target.namespace, sorted({*verify.kinds(compiled), ("v1", "Secret")})) as view:
        while True:
            found = status(client, compiled, view.live())
            if found != last:
                yield found
            last = found
            view.wait(HOUR)
            threading.Event().wait(BURST_SECONDS)


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What differs between two statuses, a line each."""
    old, new = _rows(before), _rows(after)
    found = [f"{name}: {state}" for name, state in new.items() if old.get(name) != state]
    return found + [f"no longer: {name}" for name in old if name not in new]


def _rows(found: dict[str, Any]) -> dict[str, str]:
    rows = {f"release {one['name']}": f"{one['status']} {one.get('version', '')}".strip() for one in found["releases"]}
    rows |= {f"{one['kind']}/{one['name']}": one["reason"] or "ready" for one in found["workloads"]}
    rows |= {fault: "fault" for fault in found["faults"] if fault.partition(":")[0] not in rows}
    return {**rows, found["environment"]: line(found)}


def line(found: dict[str, Any]) -> str:
    """A status on one line."""
    if found["healthy"]:
        return "healthy"
    return "ready, but NOT as compiled" if _otherwise(found) else f"NOT healthy, {len(found['faults'])} faults" if found["faults"] else "NOT healthy"


def _otherwise(found: dict[str, Any]) -> bool:
    """Is all that was deployed ready, and only something else than the files say: as after a bump?"""
    deployed = all(release["status"] == "deployed" for release in found["releases"]) and all(one["ready"] for one in found["workloads"])
    return deployed and not all(release["current"] for release in found["releases"])
