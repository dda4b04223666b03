"""Pods that will not get ready by waiting: what the kubelet, the scheduler or a controller said of them, in its words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from syntho_deploy.cluster.readiness import Live, Object, pod_reason

# The reason that a container waits for, and for how many seconds it may before waiting longer is in vain.
CONTAINER_REASONS = {
    "ImagePullBackOff": 60, "ErrImagePull": 120, "InvalidImageName": 0, "CreateContainerConfigError": 20, "CreateContainerError": 60,
    "CrashLoopBackOff": 240, "RunContainerError": 60,
}  # fmt: skip
EVENT_REASONS = {"FailedCreate": 10, "FailedMount": 120, "FailedAttachVolume": 120, "ProvisioningFailed": 60}


def doomed(live: Live, events: list[Object], now: datetime | None = None) -> list[str]:
    """The pods and controllers that are stuck for longer than their reason may take, each with the words said of it.

    events: those of the namespace. An unschedulable pod is not among them: a new node may come.
    """
    clock = now or datetime.now(UTC)
    found = []
    for pod in live.pods():
        for status in [*(pod.get("status", {}).get("initContainerStatuses") or []), *(pod.get("status", {}).get("containerStatuses") or [])]:
            reason = ((status.get("state") or {}).get("waiting") or {}).get("reason", "")
            if reason in CONTAINER_REASONS and _age(pod["metadata"]["creationTimestamp"], clock) > CONTAINER_REASONS[reason]:
                found.append(f"pod {pod['metadata']['name']}: {pod_reason(pod)}")
                break
    names = {pod["metadata"]["name"] for pod in live.pods()} | {name for kind, name in live.objects if kind != "Pod"}
    for event in events:
        reason, about = event.get("reason", ""), event.get("involvedObject", {})
        first = event.get("firstTimestamp") or event.get("eventTime") or ""
        owner = about.get("name", "")
        known = owner in names or any(owner.startswith(f"{name}-") for name in names)
        warned = reason in EVENT_REASONS and first and known and event.get("type") == "Warning" and _fresh(event, clock)
        if warned and _age(first, clock) > EVENT_REASONS[reason]:
            found.append(f"{about.get('kind', '')}/{owner}: {reason}: {event.get('message', '')[:300]}")
    return sorted(set(found))


def _age(stamp: str, now: datetime) -> float:
    return (now - datetime.fromisoformat(stamp)).total_seconds()


def _fresh(event: dict[str, Any], now: datetime) -> bool:
    """Did it happen again lately? An event stays for an hour after its cause was mended."""
    last = event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp") or ""
    return bool(last) and _age(last, now) < 60
