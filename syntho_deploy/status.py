"""What of an environment runs, for `invoke status`."""

from __future__ import annotations

from typing import Any

from syntho_deploy import verify
from syntho_deploy.cluster import readiness
from syntho_deploy.cluster.client import Client
from syntho_deploy.cluster.releases import stored
from syntho_deploy.compile import Compiled
from syntho_deploy.console import table
from syntho_deploy.secrets import store


def status(client: Client, compiled: Compiled) -> dict[str, Any]:
    """The releases and workloads of an environment beside what is compiled.

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
    live = verify.look(client, compiled)
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
    state = "healthy" if found["healthy"] else "NOT healthy"
    head = f"{found['environment']} in namespace {found['namespace']} of the cluster {found['cluster']}: {state}"
    return "\n".join([head, "", table([("RELEASE", "STATUS", "VERSION", ""), *releases]), "", table([("OBJECT", "STATE"), *workloads]), *faults])
