"""Is what runs what was compiled? Workloads, images, volumes, Secrets and Ray's pods, each fault a sentence."""

from __future__ import annotations

from dataclasses import dataclass

from syntho_deploy.cluster import readiness, watch
from syntho_deploy.cluster.client import Client
from syntho_deploy.cluster.readiness import Live
from syntho_deploy.compile import Compiled
from syntho_deploy.secrets import store
from syntho_deploy.secrets.sentinels import label


@dataclass(frozen=True)
class Fault:
    """One thing that is not as compiled. changed: only helm can mend it, waiting cannot. chart: whose object it is, or ""."""

    chart: str
    what: str
    changed: bool


def look(client: Client, compiled: Compiled) -> Live:
    """What is in the namespace now, of the kinds that the compiled charts have."""
    kinds = {(item["apiVersion"], item["kind"]) for item in compiled.objects} | {("v1", "Pod"), ("v1", "Service")}
    return watch.snapshot(client, compiled.environment.target.namespace, sorted(kinds))


def faults(client: Client, compiled: Compiled, live: Live) -> list[Fault]:
    """Everything that is not as compiled: objects that are missing, images that differ, workloads and volumes that are not
    ready, Secrets and keys that are referred to and absent, Ray pods of an older spec, a head Service that should be there."""
    found = []
    for name, chart in compiled.charts.items():
        for item in chart.objects:
            other = live.get(item["kind"], item["metadata"]["name"])
            if other is None:
                found.append(Fault(name, f"{label(item)} does not exist", True))
                continue
            if difference := _images(item, other):
                found.append(Fault(name, f"{label(item)}: {difference}", True))
            elif reason := readiness.unready(item, live):
                found.append(Fault(name, f"{label(item)}: {reason}", False))
            if item["kind"] == "RayCluster" and (fault := _head_service(item, live)):
                found.append(Fault(name, fault, False))
    return found + [Fault("", what, False) for what in store.missing(client, compiled)]


def _images(item: readiness.Object, other: readiness.Object) -> str:
    if item["kind"] not in readiness.WORKLOADS or item["kind"] == "RayCluster":
        return ""
    wanted, running = readiness.images(item), readiness.images(other)
    return "; ".join(f"{name} runs {running.get(name, 'nothing')}, compiled is {image}" for name, image in wanted.items() if running.get(name) != image)


def _head_service(item: readiness.Object, live: Live) -> str:
    """Where an operator made pods, it also made the Service that the other chart talks to."""
    name = item["metadata"]["name"]
    service = name + readiness.HEAD_SERVICE_SUFFIX
    return f"Service/{service} of {label(item)} does not exist" if live.ray_pods(name) and live.get("Service", service) is None else ""
