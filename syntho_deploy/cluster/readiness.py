"""When is a deployed object ready? One rule a kind; and for what is not ready, the reason that its pods or events give.

Helm's own wait is not used: it says nothing of a RayCluster (with status.state "failed", `helm --wait` returns 0), and on a
failure it undoes what happened before the evidence is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from syntho_deploy.cluster.kubeconfig import quantity
from syntho_deploy.redact import redact

Object = dict[str, Any]
Key = tuple[str, str]  # kind, name

RAY_CLUSTER, RAY_GROUP, RAY_TYPE = "ray.io/cluster", "ray.io/group", "ray.io/node-type"  # labels that the operator gives its pods
HEAD_SERVICE_SUFFIX = "-head-svc"  # KubeRay: GenerateServiceName
AUTOSCALER = "autoscaler"  # the container that KubeRay adds to the head of an autoscaled cluster


class Live:
    """What is in the namespace: objects by kind and name. `storage_mode` gives a StorageClass's volumeBindingMode, or ""."""

    def __init__(self, objects: Mapping[Key, Object], storage_mode: Callable[[str | None], str]) -> None:
        self.objects, self.storage_mode = objects, storage_mode

    def get(self, kind: str, name: str) -> Object | None:
        """One object, or None."""
        return self.objects.get((kind, name))

    def joined(self, other: Live) -> Live:
        """What is in either; the other's goes first."""
        return Live({**self.objects, **other.objects}, other.storage_mode)

    def pods(self) -> list[Object]:
        """All pods that are not being deleted."""
        return [item for (kind, _), item in self.objects.items() if kind == "Pod" and "deletionTimestamp" not in item["metadata"]]

    def ray_pods(self, cluster: str) -> list[Object]:
        """The pods that the operator made for a RayCluster."""
        return [pod for pod in self.pods() if (pod["metadata"].get("labels") or {}).get(RAY_CLUSTER) == cluster]


def unready(item: Object, live: Live) -> str:
    """Why the object that `item` (a compiled manifest) describes is not ready yet, or "" when it is.

    Kinds without a rule are ready when they exist.
    """
    found = live.get(item["kind"], item["metadata"]["name"])
    if found is None:
        return "does not exist"
    if since := going(found):
        return since
    rule = RULES.get(item["kind"])
    return rule(item, found, live) if rule else ""


def going(found: Object) -> str:
    """That an object is being deleted, since when and what holds it, or ""."""
    since, held = found["metadata"].get("deletionTimestamp"), found["metadata"].get("finalizers") or []
    return f"it is being deleted since {since}{', held by ' + ', '.join(held) if held else ''}" if since else ""


def _generation(found: Object) -> str:
    seen = found.get("status", {}).get("observedGeneration", 0)
    return "" if seen >= found["metadata"].get("generation", 0) else "its controller has not seen the last change yet"


def _deployment(item: Object, found: Object, live: Live) -> str:
    """All replicas updated and available, none of an older revision left."""
    if waiting := _generation(found):
        return waiting
    wanted, status = found["spec"].get("replicas", 1), found.get("status", {})
    updated, total, available = (status.get(key, 0) for key in ("updatedReplicas", "replicas", "availableReplicas"))
    if updated >= wanted and total == updated and available >= wanted:
        return ""
    return f"{available} of {wanted} pods available{_old(total - updated)}{_pod_reasons(found, live)}"


def _stateful_set(item: Object, found: Object, live: Live) -> str:
    """All replicas of the current revision and ready."""
    if waiting := _generation(found):
        return waiting
    wanted, status = found["spec"].get("replicas", 1), found.get("status", {})
    updated, ready = status.get("updatedReplicas", 0), status.get("readyReplicas", 0)
    if ready >= wanted and (updated >= wanted or status.get("currentRevision") == status.get("updateRevision")):
        return ""
    return f"{ready} of {wanted} pods ready{_old(status.get('replicas', 0) - updated)}{_pod_reasons(found, live)}"


def _daemon_set(item: Object, found: Object, live: Live) -> str:
    """Updated and available on every node that it wants."""
    if waiting := _generation(found):
        return waiting
    status = found.get("status", {})
    wanted = status.get("desiredNumberScheduled", 0)
    updated, available = status.get("updatedNumberScheduled", 0), status.get("numberAvailable", 0)
    return "" if updated >= wanted and available >= wanted else f"{available} of {wanted} pods available{_pod_reasons(found, live)}"


def _job(item: Object, found: Object, live: Live) -> str:
    """Complete."""
    conditions = _conditions(found)
    if conditions.get("Complete", {}).get("status") == "True":
        return ""
    failed = conditions.get("Failed", {})
    return f"failed: {failed.get('message', '')}" if failed.get("status") == "True" else f"not complete{_pod_reasons(found, live)}"


def _pod(item: Object, found: Object, live: Live) -> str:
    """Ready, or ended well."""
    if found.get("status", {}).get("phase") == "Succeeded" or _conditions(found).get("Ready", {}).get("status") == "True":
        return ""
    return pod_reason(found) or "not ready"


def _claim(item: Object, found: Object, live: Live) -> str:
    """Bound; or waiting for a first pod, when its class binds then and no pod mounts it yet (Ray's, where no operator runs)."""
    phase = found.get("status", {}).get("phase", "Pending")
    if phase == "Bound":
        return ""
    name, storage_class = found["metadata"]["name"], found["spec"].get("storageClassName")
    mounted = any(mounts(pod, name) for pod in live.pods())
    if phase == "Pending" and not mounted and live.storage_mode(storage_class) == "WaitForFirstConsumer":
        return ""
    return f"the volume is {phase}, class {storage_class or '(none)'}"


def mounts(pod: Object, claim: str) -> bool:
    """Does a pod mount this volume claim?"""
    volumes = pod["spec"].get("volumes") or []
    return any((volume.get("persistentVolumeClaim") or {}).get("claimName") == claim for volume in volumes)


def _ray_cluster(item: Object, found: Object, live: Live) -> str:
    """The status says ready for the number of workers, and each pod of its groups is as compiled and Ready.

    The number comes from the compiled spec, or from the live one where Ray's autoscaler sets it: the v1alpha1 CRD has no
    observedGeneration, and the operator leaves the state at "ready" while a change is not in the pods. An autoscaler alone
    takes pods away, in its own time, so with one there may be more.
    """
    status, autoscaled = found.get("status", {}), bool(item["spec"].get("enableInTreeAutoscaling"))
    groups = ray_groups(item, found if autoscaled else item)
    if beyond := _beyond_bounds(item):
        return beyond
    wanted = sum(count for group, _, count in groups if group)
    state = status.get("state", "")
    if state != "ready":
        return f"state {state or '(none yet)'}{': ' + status['reason'] if status.get('reason') else ''}"
    available, desired = status.get("availableWorkerReplicas", 0), status.get("desiredWorkerReplicas", 0)
    if desired != wanted or available < wanted or (available > wanted and not autoscaled):
        return f"{available} of {wanted} workers available (the operator wants {desired})"
    pods = live.ray_pods(item["metadata"]["name"])
    if not pods:  # where no operator works, as on a local cluster, the status is played and names no head
        return "its pods are being made anew" if status.get("head") else ""
    for group, _, count in groups:
        members = [pod for pod in pods if ray_group(pod) == group]
        if len(members) < count or (len(members) > count and not (autoscaled and group)):
            return f"group {group or 'head'}: {len(members)} of {count} pods"
        for pod in members:
            if difference := ray_difference(item, pod):
                return f"pod {pod['metadata']['name']} is of an older {difference}"
            if _conditions(pod).get("Ready", {}).get("status") != "True":
                return f"pod {pod['metadata']['name']}: {pod_reason(pod) or 'not ready'}"
    return ""


def _beyond_bounds(item: Object) -> str:
    """Why the operator makes fewer workers than a group asks for, or ""."""
    for group in item["spec"].get("workerGroupSpecs") or []:
        wanted, most = group.get("replicas", 1), group.get("maxReplicas")
        if most is not None and wanted > most:
            return f"group {group['groupName']}: {wanted} replicas are more than its maxReplicas {most}, which the operator keeps to"
    return ""


RULES: dict[str, Callable[[Object, Object, Live], str]] = {
    "Deployment": _deployment, "StatefulSet": _stateful_set, "DaemonSet": _daemon_set, "Job": _job, "Pod": _pod,
    "PersistentVolumeClaim": _claim, "RayCluster": _ray_cluster,
}  # fmt: skip
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job", "RayCluster")


def ray_groups(item: Object, numbers: Object | None = None) -> list[tuple[str, Object, int]]:
    """The groups of a RayCluster: (name, pod template, number of pods). The head's name is "".

    numbers: the RayCluster whose numbers count, for the groups that it has.
    """
    spec = item["spec"]
    counts = {group["groupName"]: group.get("replicas", 1) for one in (item, numbers or item) for group in one["spec"].get("workerGroupSpecs") or []}
    workers = [(group["groupName"], group["template"], counts[group["groupName"]]) for group in spec.get("workerGroupSpecs") or []]
    return [("", spec["headGroupSpec"]["template"], 1), *workers]


def ray_group(pod: Object) -> str:
    """The group that a Ray pod is of; "" for the head."""
    labels = pod["metadata"].get("labels") or {}
    return "" if labels.get(RAY_TYPE) == "head" else labels.get(RAY_GROUP, "")


def stale_ray_pods(item: Object, live: Live) -> list[Object]:
    """The pods of a RayCluster that are not as compiled and that no operator will replace, the head last.

    KubeRay 0.6 compares container names, images and resources only, later ones nothing; neither looks at the pods of a group that
    left the spec.
    """
    stale = [pod for pod in live.ray_pods(item["metadata"]["name"]) if ray_difference(item, pod)]
    workers = [pod for pod in stale if ray_group(pod)]
    return workers or stale


def blocking_pods(item: Object, live: Live) -> list[Object]:
    """The pods of a StatefulSet that are of an older revision and not ready: its controller waits for them, and makes no other.

    https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#forced-rollback
    """
    found = live.get(item["kind"], item["metadata"]["name"])
    if found is None or _generation(found) or (found["spec"].get("updateStrategy") or {}).get("type") == "OnDelete":
        return []
    uid, revision = found["metadata"]["uid"], found.get("status", {}).get("updateRevision")
    mine = [pod for pod in live.pods() if any(owner["uid"] == uid for owner in pod["metadata"].get("ownerReferences") or [])]
    old = [pod for pod in mine if (pod["metadata"].get("labels") or {}).get("controller-revision-hash") != revision]
    return [pod for pod in old if _conditions(pod).get("Ready", {}).get("status") != "True"]


def ray_difference(item: Object, pod: Object) -> str:
    """In what a pod of a RayCluster differs from what the operator would make of it now ("image of ray-head"), or ""."""
    group = ray_group(pod)
    template = next((template for name, template, _ in ray_groups(item) if name == group), None)
    if template is None:
        return f"spec, which had the group {group}"
    names = {container["name"] for container in pod["spec"]["containers"]}
    if not group and (AUTOSCALER in names) != bool(item["spec"].get("enableInTreeAutoscaling")):
        return f"set of containers ({'with' if AUTOSCALER in names else 'without'} {AUTOSCALER})"
    return pod_difference(template, pod)


def pod_difference(template: Object, pod: Object) -> str:
    """In what a pod differs from the template it should be of ("image of ray-head"), or "". What is added to a pod is no difference.

    Not compared: what the operator writes anew (command, args, labels), and volumes, each of which a mount stands for.
    """
    wanted = {container["name"]: container for container in template["spec"]["containers"]}
    found = {container["name"]: container for container in pod["spec"]["containers"]}
    for name, container in wanted.items():
        other = found.get(name)
        if other is None:
            return f"set of containers (no {name})"
        if container.get("image") != other.get("image"):
            return f"image of {name}"
        if _quantities(container.get("resources")) != _quantities(other.get("resources")):
            return f"resources of {name}"
        env = {entry["name"]: entry for entry in other.get("env") or []}
        for entry in container.get("env") or []:
            if _entry(entry) != _entry(env.get(entry["name"], {})):
                return f"variable {entry['name']} of {name}"
        for key in ("envFrom", "volumeMounts", "securityContext"):
            if not _within(container.get(key), other.get(key)):
                return f"{key} of {name}"
    for key in ("nodeSelector", "tolerations", "affinity", "imagePullSecrets", "priorityClassName"):
        if not _within(template["spec"].get(key), pod["spec"].get(key)):
            return key
    return ""


def _within(wanted: Any, found: Any) -> bool:
    """Is all that is wanted there? More may be, and what is empty may be absent."""
    if isinstance(wanted, dict):
        return all(_within(value, (found or {}).get(key)) for key, value in wanted.items())
    if isinstance(wanted, list):
        return all(any(_within(one, other) for other in found or []) for one in wanted)
    return bool(wanted == found) or not (wanted or found)


def _entry(entry: Object) -> Any:
    return entry.get("valueFrom") or entry.get("value") or ""


def _quantities(resources: Object | None) -> dict[str, Decimal]:
    found = {}
    for kind in ("limits", "requests"):
        for name, amount in ((resources or {}).get(kind) or {}).items():
            found[f"{kind}.{name}"] = quantity(amount)
    for name, amount in list(found.items()):  # the API server takes a missing request from the limit
        found.setdefault(name.replace("limits.", "requests."), amount)
    return found


def _conditions(found: Object) -> dict[str, Object]:
    return {item["type"]: item for item in found.get("status", {}).get("conditions") or []}


def _old(count: int) -> str:
    return f", {count} of the old revision" if count > 0 else ""


def _pod_reasons(owner: Object, live: Live) -> str:
    labels = (owner["spec"].get("selector") or {}).get("matchLabels") or {}
    mine = [pod for pod in live.pods() if labels and labels.items() <= (pod["metadata"].get("labels") or {}).items()]
    reasons = sorted({reason for pod in mine if (reason := pod_reason(pod))})
    return f" ({'; '.join(reasons[:3])})" if reasons else ""


def pod_reason(pod: Object) -> str:
    """Why a pod is not running, in the words of its status: the scheduler's, or a container's."""
    status = pod.get("status", {})
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") not in (None, "PodInitializing", "ContainerCreating"):
            message = waiting.get("message", "")
            return f"{container['name']}: {waiting['reason']}{': ' + redact(message)[:200] if message else ''}"
    scheduled = _conditions(pod).get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return f"{scheduled.get('reason', 'not scheduled')}: {redact(scheduled.get('message', ''))[:200]}"
    return ""


def images(item: Object) -> dict[str, str]:
    """Container name to image, of the pod template of a workload."""
    spec = item["spec"].get("template", {}).get("spec", {})
    return {container["name"]: container.get("image", "") for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]}


def watched_kinds(items: Iterable[Object]) -> list[tuple[str, str]]:
    """The (apiVersion, kind) pairs whose objects decide about readiness, for these manifests; pods always."""
    found = {(item["apiVersion"], item["kind"]) for item in items if item["kind"] in RULES}
    return sorted(found | {("v1", "Pod")})
