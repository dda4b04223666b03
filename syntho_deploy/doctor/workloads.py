"""The pods that compiled objects become: how many, what they ask for, and which pods of the cluster are those already."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from syntho_deploy.checks.amounts import Amounts, effective
from syntho_deploy.checks.context import Context, Pod, at

COUNTABLE = ("cpu", "memory", "ephemeral-storage")


@dataclass(frozen=True)
class Asked:
    """Pods of one template. name: `Kind/name`, of Ray with the group; least, most: how many there may be; labels: those that are known;
    volumes: which each pod gets of its own; surge: how many more there are while a rolling update goes on."""

    name: str
    spec: dict[str, Any]
    labels: dict[str, str]
    least: int
    most: int
    volumes: tuple[str, ...] = ()
    surge: int = 0

    @property
    def requests(self) -> Amounts:
        """What the scheduler reserves for one pod."""
        return effective(self.spec, "requests")

    def covers(self, pod: dict[str, Any]) -> bool:
        """Is a pod of the namespace one of these?"""
        return self.labels.items() <= (pod["metadata"].get("labels") or {}).items()


def asked(context: Context) -> list[Asked]:
    """The pods of all compiled objects."""
    return [_asked(pod) for pod in context.pods]


def _asked(pod: Pod) -> Asked:
    owner = at(pod.item, pod.keys[:-2]) if len(pod.keys) > 1 else None
    group = owner if isinstance(owner, dict) else {}
    labels = {key: str(value) for key, value in pod.labels.items() if value is not None}
    name = pod.of
    if pod.item["kind"] == "RayCluster":
        labels = {key: value for key, value in labels.items() if key in ("ray.io/cluster", "ray.io/node-type")}
        name += " head" if "headGroupSpec" in pod.keys else f" {group.get('groupName')}"
    if "maxReplicas" in group or "minReplicas" in group:
        count = _number(group.get("replicas"), _number(group.get("minReplicas"), 1))
        scaled = bool(pod.item["spec"].get("enableInTreeAutoscaling"))
        return Asked(name, pod.spec, labels, count, max(count, _number(group.get("maxReplicas"), count)) if scaled else count)
    count = _number(group.get("replicas"), 1)
    volumes = tuple(one["metadata"]["name"] for one in group.get("volumeClaimTemplates") or [])
    return Asked(name, pod.spec, labels, count, count, volumes, _surge(pod.item, count))


def _surge(item: dict[str, Any], count: int) -> int:
    """How many pods a rolling update of a Deployment adds: a number, or a part that is rounded up.

    https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#max-surge
    """
    strategy = item["spec"].get("strategy") or {}
    if item["kind"] != "Deployment" or strategy.get("type") == "Recreate":
        return 0
    most = (strategy.get("rollingUpdate") or {}).get("maxSurge", "25%")
    return most if isinstance(most, int) else math.ceil(count * float(str(most).rstrip("%")) / 100)


def _number(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) else otherwise


def defaulted(spec: dict[str, Any], limits: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """A pod with what LimitRanges (their `spec.limits`) give to containers that do not say."""
    defaults: dict[str, Any] = {"limits": {}, "requests": {}}
    for one in limits:
        if one.get("type") == "Container":
            defaults["limits"] |= one.get("default") or {}
            defaults["requests"] |= one.get("defaultRequest") or {}
    if not any(defaults.values()):
        return spec

    def filled(container: dict[str, Any]) -> dict[str, Any]:
        own = container.get("resources") or {}
        limits = {**defaults["limits"], **(own.get("limits") or {})}
        requests = {**defaults["requests"], **(own.get("limits") or {}), **(own.get("requests") or {})}
        return {**container, "resources": {"limits": limits, "requests": requests}}

    return {**spec, **{part: [filled(one) for one in spec[part]] for part in ("containers", "initContainers") if spec.get(part)}}


def containers(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All containers of a pod, those that run before the others too."""
    yield from [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
