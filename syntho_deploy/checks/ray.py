"""Ray: the cluster's groups, the operator that serves it, its shared volume, and the address by which it is found."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from syntho_deploy.checks.amounts import amount
from syntho_deploy.checks.context import RAY, Context, Finding, Item, Pod, at, of_object
from syntho_deploy.checks.schema import used
from syntho_deploy.documents import load, walk

HEAD_MEMORY = 2e9
WORKER_MEMORY = 1e9
UNBOUNDED = 1000


@cache
def block_classes() -> frozenset[str]:
    """Classes of block storage that clouds and distributions come with, which no two nodes can mount at once."""
    return frozenset(load(Path(__file__).parent / "block_classes.yaml").data)


def small_head(context: Context) -> Iterator[Finding]:
    """A Ray head with less than 2G of memory: below that it is killed while it starts."""
    for pod in _ray_pods(context, "headGroupSpec"):
        yield from _small(pod, HEAD_MEMORY, "for Ray's head, which needs 2G", "component ray/head-only: head_memory")


def small_worker(context: Context) -> Iterator[Finding]:
    """A Ray worker with less than 1G of memory: Ray's own processes and the shared store of a node take most of it, and the first task has the
    pod killed."""
    for pod in _ray_pods(context, "workerGroupSpecs"):
        yield from _small(pod, WORKER_MEMORY, "for a worker of Ray, which needs 1G", "components ray/two-pools, ray/pool: more memory")


def _ray_pods(context: Context, part: str) -> list[Pod]:
    return [pod for pod in context.pods if pod.item["kind"] == RAY and part in pod.keys]


def _small(pod: Pod, least: float, why: str, todo: str) -> Iterator[Finding]:
    """The memory of Ray's container, the first of its pod, where it is below the least."""
    resources = at(pod.spec, ("containers", 0, "resources")) or {}
    for part in ("limits", "requests"):
        size = (resources.get(part) or {}).get("memory")
        value = amount(size) if size is not None else None
        if value is not None and value < least:
            yield of_object(pod.item, (*pod.keys, "containers", 0, "resources", part, "memory"), f"{size} of memory {why}", todo)
            return


def min_above_max(context: Context) -> Iterator[Finding]:
    """Fewer pods at most than at least, or a number outside both bounds, in a group of Ray's workers or an autoscaler. Ray's operator takes
    the bound then, without a word."""
    for item in context.objects.values():
        for keys, group in walk(item.get("spec")):
            if not isinstance(group, dict) or not {"maxReplicas", "minReplicas"} & set(group):
                continue
            least, most, now = (_number(group.get(key)) for key in ("minReplicas", "maxReplicas", "replicas"))
            if least is not None and most is not None and least > most:
                yield of_object(item, ("spec", *keys, "minReplicas"), f"at least {least} and at most {most}", "raise maxReplicas")
            elif now is not None and most is not None and now > most:
                yield of_object(item, ("spec", *keys, "replicas"), f"{now} of at most {most}", "raise maxReplicas")
            elif now is not None and least is not None and now < least:
                yield of_object(item, ("spec", *keys, "replicas"), f"{now} of at least {least}", "lower minReplicas, or disable the group")


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _autoscaling(item: Item) -> bool:
    return item["spec"].get("enableInTreeAutoscaling") is True


def autoscaler_with_forced_upgrade(context: Context) -> Iterator[Finding]:
    """Ray's autoscaler with an operator that is started with -forced-cluster-upgrade, as the chart does: it finds the head with its sidecar to
    differ from the RayCluster, and deletes it over and over (ray-project/kuberay#1317)."""
    forced = [
        (pod.item, (*keys, part, index))
        for pod in context.pods
        for keys, container in pod.containers(init=False)
        for part in ("command", "args")
        for index, word in enumerate(container.get(part) or [])
        if re.fullmatch(r"--?forced-cluster-upgrade(=.*)?", str(word))
    ]
    if any(_autoscaling(item) for item in context.kind(RAY)):
        for item, keys in forced:
            yield of_object(item, keys, "the operator replaces the head that Ray's autoscaler changes, without end", "component ray/autoscaling")


def unbounded_autoscaling(context: Context) -> Iterator[Finding]:
    """Ray's autoscaler with a group that has no bound: the chart's default for the large pool is 2147483647 workers."""
    for item in context.kind(RAY):
        for index, group in enumerate(item["spec"].get("workerGroupSpecs") or [] if _autoscaling(item) else []):
            if isinstance(group.get("maxReplicas"), int) and group["maxReplicas"] >= UNBOUNDED:
                keys = ("spec", "workerGroupSpecs", index, "maxReplicas")
                yield of_object(item, keys, f"the autoscaler may start {group['maxReplicas']} workers", "component ray/autoscaling, which says 3")


def autoscaler_without_api(context: Context) -> Iterator[Finding]:
    """Ray's autoscaler, a container of the head, under network policies that do not let the head ask the API server: no worker ever comes or
    goes. A policy lets it when it opens one of the server's usual ports, all ports to all, or all addresses."""
    policies = [item["spec"] for item in context.kind("NetworkPolicy")]
    for item in context.kind(RAY):
        heads = [pod for pod in context.pods if pod.item is item and "headGroupSpec" in pod.keys] if _autoscaling(item) else []
        for head in heads:
            mine = [spec for spec in policies if "Egress" in (spec.get("policyTypes") or []) and head in context.selected(spec.get("podSelector"))]
            if mine and not any(_asks(rule) for spec in mine for rule in spec.get("egress") or []):
                what = "Ray's autoscaler runs in the head, which the network policies do not let ask the API server"
                yield of_object(item, ("spec", "enableInTreeAutoscaling"), what, "component security/network-policies/autoscaling")


def _asks(rule: Item) -> bool:
    everywhere = not rule.get("to") or any((peer.get("ipBlock") or {}).get("cidr") in ("0.0.0.0/0", "::/0") for peer in rule["to"])
    ports = {port.get("port") for port in rule.get("ports") or []}
    return bool(ports & {443, 6443}) or (everywhere and not ports)


def operator_newer_than_crds(context: Context) -> Iterator[Finding]:
    """An operator that asks for a version of the API that the CRDs of the chart do not serve: it does not start. Those of 98ec265 and
    before serve v1alpha1 only, and `latest` is an operator of today."""
    crds = used(context.compiled)
    groups = {api.partition("/")[0] for api in crds}
    for name, needs in context.roles.needs.items():
        role = context.role(name)
        tag = str(role.value.get("tag", "")).partition("@")[0] if role and isinstance(role.value, dict) else ""
        for start, api in needs.items():
            if role and (tag == start or tag.startswith(f"{start}.")) and api.partition("/")[0] in groups and api not in crds:
                what = f"an operator {tag} needs the CRDs to serve {api}; they serve {', '.join(sorted(crds))}"
                yield context.of_value(role, what, "component images with an operator_tag of the release that the CRDs are of")


def ray_address_elsewhere(context: Context) -> Iterator[Finding]:
    """An address of Ray that is not this environment's head, or more than a host. The head's Service is named after the RayCluster; the
    chart's default has the namespace syntho in it, the guide's ray-cluster-ray-head exists at no version, and the backend makes a URL of
    what must be a bare host."""
    role, head = context.role("ray.address"), context.variable("ray.head")
    if not role or not isinstance(head, str):
        return
    parts = head.split(".")
    if role.value not in {".".join(parts[:length]) for length in (1, 2, 3, len(parts))}:
        yield context.of_value(role, f"Ray's address is {role.value}, and its head {head}", "component ray/address")


def rwo_shared_volume(context: Context) -> Iterator[Finding]:
    """A volume of several pods whose claim, or class, is for one node at a time: the pods on other nodes stay Pending. Ray's head and all of
    its workers share one. Which modes a class serves is said in the environment (`cluster.present.storage_classes`); the usual classes of
    block storage are known."""
    modes = context.storage_classes
    for item in context.kind("PersistentVolumeClaim"):
        name, spec = item["metadata"]["name"], item["spec"]
        users = [pod for pod in context.pods if name in _claims_of(pod.spec)]
        if not users or not (any(pod.many for pod in users) or len({(pod.of, pod.keys) for pod in users}) > 1 or _shared(spec)):
            continue
        todo = "component storage-class with a storage_class_rwx that serves ReadWriteMany"
        storage = spec.get("storageClassName")
        if not _shared(spec):
            listed = ", ".join(spec.get("accessModes") or [])
            yield of_object(item, ("spec", "accessModes"), f"several pods mount this volume, which is {listed}", "set it to ReadWriteMany")
        elif ("ReadWriteMany" not in modes[storage]) if modes.get(storage) else storage in block_classes():
            yield of_object(item, ("spec", "storageClassName"), f"the class {storage} serves one node at a time, and the volume is shared", todo)


def _claims_of(spec: Item) -> set[Any]:
    return {(volume.get("persistentVolumeClaim") or {}).get("claimName") for volume in spec.get("volumes") or []}


def _shared(spec: Item) -> bool:
    return any(mode in ("ReadWriteMany", "ReadOnlyMany") for mode in spec.get("accessModes") or [])


def exposed_dashboard(context: Context) -> Iterator[Finding]:
    """Ray's head behind a Service that is reached from outside: its dashboard and its client port take code from anyone. The chart has one
    value for the type of this Service and of the operator's."""
    for item in context.kind(RAY):
        kind = at(item, ("spec", "headGroupSpec", "serviceType"))
        if kind not in (None, "ClusterIP"):
            yield of_object(item, ("spec", "headGroupSpec", "serviceType"), f"Ray's head is reached from outside ({kind})", "leave it ClusterIP")


def mode_as_owner(context: Context) -> Iterator[Finding]:
    """`chown` with what looks like a mode: 777 is a user there. The chart's init container for the head has it so, and Syntho's own
    command line writes chmod instead."""
    for pod in context.pods:
        for keys, container in pod.containers():
            words = [str(word) for word in [*(container.get("command") or []), *(container.get("args") or [])]]
            if words and words[0].rpartition("/")[2] == "chown" and any(re.fullmatch(r"[0-7]{3,4}", word) for word in words[1:]):
                what = f"{' '.join(words)} makes a user the owner, and gives no right"
                yield of_object(pod.item, (*keys, "command"), what, "write chmod instead")
