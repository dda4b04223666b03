"""Amounts as Kubernetes writes them, and what a pod asks for, as the scheduler counts it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from syntho_deploy.documents import Json

Amounts = dict[str, float]
UNITS = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
UNITS |= {f"{letter}i": 1024.0 ** (power + 1) for power, letter in enumerate("KMGTPE")}
QUANTITY = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?)([numkMGTPE]|[KMGTPE]i|)")


def amount(value: Json) -> float | None:
    """A Kubernetes quantity as a number; None for what is none.

    https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
    """
    match = QUANTITY.fullmatch(str(value)) if not isinstance(value, bool) else None
    return float(match[1]) * UNITS[match[2]] if match else None


def effective(spec: dict[str, Any], part: str) -> Amounts:
    """What a pod has of `requests` or `limits`: its containers and sidecars together, or the largest that runs before them; and its overhead.

    https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#resource-sharing-within-containers
    """
    before: Amounts = {}  # of the sidecars that run already when an init container does
    most: Amounts = {}
    for one in spec.get("initContainers") or []:
        own = summed([before, of_container(one, part)])
        if _sidecar(one):
            before = own
        most = {key: max(most.get(key, 0.0), own.get(key, 0.0)) for key in {**most, **own}}
    total = summed([before, *(of_container(one, part) for one in spec.get("containers") or [])])
    total = {key: max(most.get(key, 0.0), total.get(key, 0.0)) for key in {**most, **total}}
    return summed([total, {key: amount(value) or 0.0 for key, value in (spec.get("overhead") or {}).items()}])


def _sidecar(container: dict[str, Any]) -> bool:
    return container.get("restartPolicy") == "Always"


def of_container(container: dict[str, Any], part: str) -> Amounts:
    """What a container has of `requests` or `limits`; a request that is missing is its limit."""
    resources = container.get("resources") or {}
    found = dict(resources.get("limits") or {}) if part == "requests" else {}
    found |= resources.get(part) or {}
    return {key: value for key, text in found.items() if (value := amount(text)) is not None}


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
