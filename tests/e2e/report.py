"""What is in a namespace, for whoever reads why a test failed on a machine that is gone: workloads, pods, events. No Secrets."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from syntho_deploy.cluster.client import Client
from syntho_deploy.errors import DeployError

LOG_LINES = 50


def of(client: Client, namespace: str) -> str:
    """The report as text. It is made for reading, and says less rather than fail."""
    lines = []
    for kind in ("Deployment", "StatefulSet"):
        for item in client.objects("apps/v1", kind, namespace):
            ready, wanted = item.get("status", {}).get("readyReplicas", 0), item["spec"].get("replicas", 1)
            lines.append(f"{kind}/{item['metadata']['name']}: {ready} of {wanted} ready")
    for pod in client.objects("v1", "Pod", namespace):
        lines += _pod(client, namespace, pod)
    lines.append("events:")
    for event in sorted(client.objects("v1", "Event", namespace), key=lambda item: str(item.get("lastTimestamp") or item.get("eventTime") or "")):
        about = event.get("involvedObject", {})
        lines.append(f"  {event.get('lastTimestamp')} {about.get('kind')}/{about.get('name')} {event.get('reason')}: {event.get('message')}")
    return "\n".join([*lines, ""])


def _pod(client: Client, namespace: str, pod: dict[str, Any]) -> list[str]:
    name, status = pod["metadata"]["name"], pod.get("status", {})
    lines = [f"Pod/{name}: {status.get('phase')}"]
    for one in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        lines.append(f"  {one['name']}: ready {one.get('ready')}, {one.get('restartCount')} restarts, {one.get('state')}")
        if not one.get("ready"):
            with suppress(DeployError):
                query = {"container": one["name"], "tailLines": str(LOG_LINES)}
                said = client.lines(f"/api/v1/namespaces/{namespace}/pods/{name}/log", query)
                lines += [f"    {line.decode(errors='replace')}" for line in said]
    return lines
