"""Objects as helm printed them and as they are deployed: what is said twice, what is lost on the way, what does not fit."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import yaml

from syntho_deploy.checks.amounts import amount, effective, shown
from syntho_deploy.checks.context import RAY, Context, Finding, Item, of_object
from syntho_deploy.documents import Keys, walk
from syntho_deploy.overlays import pointer
from syntho_deploy.overlays.manifests import is_custom

RELEASE_LIMIT = 900_000  # of the 1 MiB that etcd takes of an object
SMALL = 250_000  # text below this cannot become a release of that size


def duplicate_variable(context: Context) -> Iterator[Finding]:
    """A variable that a container has twice. The last one counts, and server-side apply refuses the list. The values `env` of core, backend and
    frontend can name one that the templates have already."""
    for pod in context.pods:
        for keys, container in pod.containers():
            seen: set[str] = set()
            for index, entry in enumerate(container.get("env") or []):
                name = entry.get("name") or ""
                if name in seen:
                    todo = "replace the one that is there by a manifest patch: /spec/…/env/[name=X]/value"
                    yield of_object(pod.item, (*keys, "env", index), f"the variable {name} stands twice", todo)
                seen.add(name)


def duplicate_name(context: Context) -> Iterator[Finding]:
    """Two containers, volumes, ports or mounts of a pod, or two groups of Ray's workers, of one name: the API server refuses the first four, of
    two groups the operator counts the pods together and deletes those that it takes for too many."""
    for item in context.objects.values():
        if item["kind"] == RAY:
            groups = item["spec"].get("workerGroupSpecs") or []
            yield from _twins(item, ("spec", "workerGroupSpecs"), "groupName", groups, "the group of workers")
    for pod in context.pods:
        containers = list(pod.containers())
        yield from _twins(pod.item, (), "name", [one for _, one in containers], "the container", [keys for keys, _ in containers])
        yield from _twins(pod.item, (*pod.keys, "volumes"), "name", pod.spec.get("volumes") or [], "the volume")
        for keys, container in pod.containers():
            yield from _twins(pod.item, (*keys, "ports"), "name", container.get("ports") or [], "the port")
            yield from _twins(pod.item, (*keys, "volumeMounts"), "mountPath", container.get("volumeMounts") or [], "the mount")


def _twins(item: Item, keys: Keys, field: str, several: list[Item], what: str, places: list[Keys] | None = None) -> Iterator[Finding]:
    seen: set[str] = set()
    for index, one in enumerate(several):
        name = one.get(field)
        if name and name in seen:
            yield of_object(item, places[index] if places else (*keys, index), f"{what} {name} stands twice", f"give one another {field}")
        seen.add(str(name))


def duplicate_key(context: Context) -> Iterator[Finding]:
    """A key that stands twice in a mapping that helm printed: the last one counts, strict readers refuse the file. The Services of both databases
    have their name twice, and a start parameter `storage` of one's own for Ray is overruled by the chart's. What is deployed has it once."""
    for chart, text in context.project.render(context.helm).items():
        for of, path, same in _duplicates(text):
            what = f"the chart writes {path} twice, " + ("with the same value" if same else "with different values, of which the last one counts")
            yield Finding(of if of in context.objects else chart, path, what, "nothing, or remove the value that is overruled")


@lru_cache(maxsize=256)
def _duplicates(text: str) -> tuple[tuple[str, str, bool], ...]:
    found: list[tuple[str, str, bool]] = []

    def search(node: Any, keys: Keys, of: str) -> None:
        if isinstance(node, yaml.MappingNode):
            seen: dict[str, Any] = {}
            for key, value in node.value:
                if key.value in seen:
                    found.append((of, pointer.text((*keys, key.value)), _plain(seen[key.value]) == _plain(value)))
                seen[key.value] = value
                search(value, (*keys, key.value), of)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                search(value, (*keys, index), of)

    for node in yaml.compose_all(text, yaml.CSafeLoader):
        if isinstance(node, yaml.MappingNode):
            top = {key.value: value for key, value in node.value}
            name = next((v.value for k, v in top["metadata"].value if k.value == "name"), "") if "metadata" in top else ""
            search(node, (), f"{top['kind'].value}/{name}" if "kind" in top else "")
    return tuple(found)


def _plain(node: Any) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return node.value
    return [(_plain(k), _plain(v)) for k, v in node.value] if isinstance(node, yaml.MappingNode) else [_plain(v) for v in node.value]


def null_in_custom_resource(context: Context) -> Iterator[Finding]:
    """A null in a custom resource. Helm 4 cannot apply the object: its schema refuses the null. Upstream's RayCluster has some, without
    workers even in the place of their list. Compiling removes them."""
    for of, item in context.patched.items():
        keys = next((keys for keys, value in walk(item.get("spec")) if value is None), None) if is_custom(item) else None
        if keys is not None and of in context.objects:
            yield Finding(of, pointer.text(("spec", *keys)), "the chart prints a null here", "nothing: compiling removes it")


def unstable_render(context: Context) -> Iterator[Finding]:
    """A render that differs from the one before, with the same values: each deploy is a change, and what is random is new each time. At 98ec265
    the backend's key is random unless the undeclared backend.secretKey is set, which ends all sessions."""
    for chart, reach in context.reach.items():
        for of in sorted(reach.unstable):
            yield Finding(of, "", f"the chart {chart} renders this differently each time", "set the value that it makes up: component keys")


def large_release(context: Context) -> Iterator[Finding]:
    """A release near the limit of what the cluster takes of one object: helm keeps each revision in a Secret, and 1 MiB is the most."""
    for name, chart in context.compiled.charts.items():
        if sum(map(len, chart.files.values())) < SMALL:
            continue
        files = [{"name": path, "data": base64.b64encode(text.encode()).decode()} for path, text in chart.files.items()]
        packed = gzip.compress(json.dumps({"chart": files, "manifest": chart.stream, "config": {}}).encode(), 9)
        size = len(base64.b64encode(base64.b64encode(packed)))
        if size > RELEASE_LIMIT:
            yield Finding(name, "", f"a release of this chart takes {size // 1000} kB of 1 MiB", "move large data out of ConfigMaps")


def hook_pod(context: Context) -> Iterator[Finding]:
    """A hook of the chart's. `kubectl apply` of a plain `helm template` would run it; here hooks are left out of what is deployed."""
    for name, chart in context.compiled.charts.items():
        for hook in chart.hooks:
            yield Finding(name, "", f"{hook} is a hook and is left out", "nothing; what it should do can be an object of the overlay's")


def missing_requests(context: Context) -> Iterator[Finding]:
    """A container that asks for no CPU or memory: it is the first to be killed, and the scheduler puts it anywhere. The charts' databases and
    Redis are such."""
    for pod in context.pods:
        for keys, container in pod.containers(init=False):
            resources = container.get("resources") or {}
            missing = [kind for kind in ("cpu", "memory") if not any((resources.get(part) or {}).get(kind) for part in ("requests", "limits"))]
            if missing:
                todo = "components resources, resources/postgres, resources/redis"
                yield of_object(pod.item, (*keys, "resources"), f"this asks for no {' and no '.join(missing)}", todo)


def missing_probe(context: Context) -> Iterator[Finding]:
    """A container behind a Service without a readiness probe: it gets requests before it can answer. The charts' databases and Redis have none."""
    for item in context.kind("Service"):
        for pod in context.selected(item["spec"].get("selector")) if item["spec"].get("selector") else []:
            containers = [(keys, container) for keys, container in pod.containers(init=False) if container.get("ports")]
            if pod.item["kind"] != RAY and containers and not any(container.get("readinessProbe") for _, container in containers):
                what = f"the Service {item['metadata']['name']} sends requests here, and no probe says when they are answered"
                yield of_object(pod.item, (*containers[0][0], "readinessProbe"), what, "add a readinessProbe by a manifest patch")


def oversized_pod(context: Context) -> Iterator[Finding]:
    """A pod that asks for more than the largest node has (`cluster.present.largest_node`): it stays Pending, unless nodes are made for it. At
    98ec265 head and workers ask for 8 CPU and 32G each."""
    largest = context.environment.present.largest_node
    for pod in context.pods:
        wanted = effective(pod.spec, "requests")
        for kind, most in largest.items():
            limit = amount(most)
            if limit is not None and wanted.get(kind, 0.0) > limit:
                what = f"its containers ask for {shown(kind, wanted[kind])} of {kind}, the largest node has {most}"
                yield of_object(pod.item, pod.keys, what, "component ray/head-only or ray/two-pools with less, or a larger node")
