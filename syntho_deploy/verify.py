"""Is what runs what was compiled? Workloads, images, volumes, Secrets and Ray's pods, each fault a sentence."""

from __future__ import annotations

from syntho_deploy.cluster import readiness, watch
from syntho_deploy.cluster.client import Client
from syntho_deploy.cluster.readiness import Live
from syntho_deploy.compile import Compiled
from syntho_deploy.secrets import store
from syntho_deploy.secrets.sentinels import label


def look(client: Client, compiled: Compiled, followed: Live | None = None) -> Live:
    """What is in the namespace now, of the kinds that the compiled charts have. followed: what a view of `readiness.watched_kinds` has
    now, which is not asked for again."""
    known = readiness.watched_kinds(compiled.objects) if followed else []
    rest = watch.snapshot(client, compiled.environment.target.namespace, sorted(kinds(compiled) - set(known)))
    return rest.joined(followed) if followed else rest


def kinds(compiled: Compiled) -> set[tuple[str, str]]:
    """The (apiVersion, kind) pairs that `faults` looks at."""
    return {(item["apiVersion"], item["kind"]) for item in compiled.objects} | {("v1", "Pod"), ("v1", "Service")}


def faults(client: Client, compiled: Compiled, live: Live) -> list[str]:
    """Everything that is not as compiled: objects that are missing, images that differ, workloads and volumes that are not
    ready, Secrets and keys that are referred to and absent, Ray pods of an older spec, a head Service that should be there."""
    found = []
    for item in compiled.objects:
        other = live.get(item["kind"], item["metadata"]["name"])
        if other is None:
            found.append(f"{label(item)} does not exist")
            continue
        if fault := _images(item, other) or readiness.unready(item, live):
            found.append(f"{label(item)}: {fault}")
        if item["kind"] == "RayCluster" and (fault := _head_service(item, live)):
            found.append(fault)
    return found + store.missing(client, compiled)


def _images(item: readiness.Object, other: readiness.Object) -> str:
    if item["kind"] not in readiness.WORKLOADS or item["kind"] == "RayCluster":
        return ""
    wanted, running = readiness.images(item), readiness.images(other)
    return "; ".join(
        f"{name} runs {running.get(name, 'nothing')}, compiled is {image}" for name, image in wanted.items() if running.get(name) != image
    )


def _head_service(item: readiness.Object, live: Live) -> str:
    """Where an operator made pods, it also made the Service that the other chart talks to."""
    name = item["metadata"]["name"]
    service = name + readiness.HEAD_SERVICE_SUFFIX
    return f"Service/{service} of {label(item)} does not exist" if live.ray_pods(name) and live.get("Service", service) is None else ""
