"""What is stuck is told early, what may still come is waited for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from syntho_deploy.cluster.doomed import doomed
from syntho_deploy.cluster.readiness import Live

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def _ago(seconds: float) -> str:
    return f"{NOW - timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"


def _live(reason: str, age: float, kind: str = "containerStatuses") -> Live:
    status = {kind: [{"name": "main", "state": {"waiting": {"reason": reason, "message": "in its words"}}}]}
    pod = {"kind": "Pod", "metadata": {"name": "core-1", "creationTimestamp": _ago(age)}, "status": status}
    return Live({("Pod", "core-1"): pod, ("ReplicaSet", "core"): {"metadata": {"name": "core"}}}, lambda name: "")


@pytest.mark.parametrize(
    ("reason", "age", "stuck"),
    [
        ("ImagePullBackOff", 61, True), ("ImagePullBackOff", 30, False), ("InvalidImageName", 1, True), ("CreateContainerConfigError", 21, True),
        ("CrashLoopBackOff", 100, False), ("CrashLoopBackOff", 300, True), ("ContainerCreating", 9999, False), ("PodInitializing", 9999, False),
    ],
)  # fmt: skip
def test_a_container_is_stuck_when_its_reason_lasts(reason: str, age: float, stuck: bool) -> None:
    for kind in ("containerStatuses", "initContainerStatuses"):
        assert doomed(_live(reason, age, kind), [], NOW) == ([f"pod core-1: main: {reason}: in its words"] if stuck else [])


def _event(reason: str, first: float, last: float, name: str = "core", kind: str = "Warning") -> dict[str, Any]:
    about = {"kind": "ReplicaSet", "name": name}
    return {
        "type": kind,
        "reason": reason,
        "message": "exceeded quota",
        "involvedObject": about,
        "firstTimestamp": _ago(first),
        "lastTimestamp": _ago(last),
    }


@pytest.mark.parametrize(
    ("event", "stuck"),
    [
        (_event("FailedCreate", 30, 5), True),
        (_event("FailedCreate", 5, 5), False),
        (_event("FailedCreate", 3000, 300), False),
        (_event("FailedCreate", 30, 5, "somebody-elses"), False),
        (_event("FailedCreate", 30, 5, "core-7d9f"), True),
        (_event("FailedCreate", 30, 5, kind="Normal"), False),
        (_event("Scheduled", 30, 5), False),
        (_event("FailedMount", 200, 5), True),
    ],
)
def test_an_event_counts_when_it_goes_on_and_is_of_ours(event: dict[str, Any], stuck: bool) -> None:
    assert bool(doomed(_live("ContainerCreating", 1), [event], NOW)) == stuck
