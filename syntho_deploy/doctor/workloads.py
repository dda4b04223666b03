"""The pods that compiled objects become: how many, what they ask for, and which pods of the cluster are those already."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from syntho_deploy.checks.context import Context, Pod, amount, at

Amounts = dict[str, float]
COUNTABLE = ("cpu", "memory", "ephemeral-storage")


@dataclass(frozen=True)
class Asked:
    """Pods of one template. name: `Kind/name`, of Ray with the group; least, most: how many there may be; labels: those that are known;
    volumes: which each pod gets of its own."""

    name: str
    spec: dict[str, Any]
    labels: dict[str, str]
    least: int
    most: int
    volumes: tuple[str, ...] = ()

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
    return Asked(name, pod.spec, labels, count, count, volumes)


def _number(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) else otherwise


def effective(spec: dict[str, Any], part: str) -> Amounts:
    """What a pod has of `requests` or `limits`: its containers and sidecars together, or the largest that runs before them; and its overhead.

    https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#resource-sharing-within-containers
    """
    inits = spec.get("initContainers") or []
    total = summed(of_container(one, part) for one in [*(spec.get("containers") or []), *(one for one in inits if _sidecar(one))])
    for one in inits:
        if not _sidecar(one):
            total = {key: max(total.get(key, 0.0), value) for key, value in {**total, **of_container(one, part)}.items()}
    return summed([total, {key: amount(value) or 0.0 for key, value in (spec.get("overhead") or {}).items()}])


def _sidecar(container: dict[str, Any]) -> bool:
    return container.get("restartPolicy") == "Always"


def of_container(container: dict[str, Any], part: str) -> Amounts:
    """What a container has of `requests` or `limits`; a request that is missing is its limit."""
    resources = container.get("resources") or {}
    found = dict(resources.get("limits") or {}) if part == "requests" else {}
    found |= resources.get(part) or {}
    return {key: value for key, text in found.items() if (value := amount(text)) is not None}


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


def summed(several: Iterable[Amounts]) -> Amounts:
    """Amounts added up."""
    total: Amounts = {}
    for one in several:
        for key, value in one.items():
            total[key] = total.get(key, 0.0) + value
    return total


def shown(resource: str, value: float) -> str:
    """An amount as people write it: 250m, 1.5, 2Gi, 300Mi."""
    if resource.endswith(("memory", "storage")):
        decimal = value % 1e6 == 0 and value % 2**20 != 0  # written as 2G
        units = (("T", 1e12), ("G", 1e9), ("M", 1e6)) if decimal else (("Ti", 2.0**40), ("Gi", 2.0**30), ("Mi", 2.0**20), ("Ki", 2.0**10))
        return next((f"{value / size:.3g}{unit}" for unit, size in units if value >= size), f"{value:.0f}")
    if resource.endswith("cpu") and 0 < abs(value) < 1:
        return f"{value * 1000:.0f}m"
    return f"{value:.4g}"
