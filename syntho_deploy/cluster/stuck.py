"""Pods that waiting does not bring to run: those of the current revision, in trouble for longer than its grace (`graces.py`).

A pod of an older revision, or an event from before this run, says nothing of what is being deployed. And most trouble mends
itself, so only what this run saw last for the whole grace counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from syntho_deploy.cluster import readiness
from syntho_deploy.cluster.client import ApiError, Client
from syntho_deploy.cluster.readiness import Live, Object
from syntho_deploy.errors import PreflightError
from syntho_deploy.graces import GRACES, NO_POD
from syntho_deploy.redact import redact

LOOK_SECONDS = 2.0  # how often events and ReplicaSets are asked for while something is not ready
HEALED_SECONDS = 30.0  # a container in a crash loop runs for a while in between
TEXT = 500
GRACE_OF = {reason: name for name, grace in GRACES.items() for reason in grace.waiting}

Events = Mapping[str, Sequence[Object]]  # by the uid of the object that they are about


@dataclass(frozen=True)
class Trouble:
    """What keeps a workload from its pods, or a pod from running. grace: a key of `GRACES`; uid: of the pod, or of what fails to
    make it; workload: `Kind/name`; restarts: of the container until now."""

    grace: str
    uid: str
    workload: str
    reason: str
    text: str
    pod: str = ""
    container: str = ""
    restarts: int = 0

    @property
    def where(self) -> str:
        """The place, for people."""
        return f"{self.workload}{self.pod and f', pod {self.pod}'}{self.container and f', container {self.container}'}"


@dataclass(frozen=True)
class Current:
    """The pods of a workload's current revision, and the objects that make them."""

    name: str
    pods: list[Object]
    makers: list[Object]


def current(item: Object, live: Live, replica_sets: Iterable[Object]) -> Current:
    """What belongs to the revision that `item` (a compiled manifest) asks for; nothing before its controller has seen it.

    A DaemonSet tells the revision of its pods nowhere, so it has none here.
    """
    kind, name = item["kind"], f"{item['kind']}/{item['metadata']['name']}"
    found = live.get(kind, item["metadata"]["name"])
    if found is None:
        return Current(name, [], [])
    if kind == "Deployment":  # the rule of its controller: the ReplicaSet with the same template
        sets = [one for one in replica_sets if _owner(one) == found["metadata"]["uid"] and _template(one) == _template(found)]
        uids = {one["metadata"]["uid"] for one in sets}
        return Current(name, [pod for pod in live.pods() if _owner(pod) in uids], sets)
    if kind == "StatefulSet":
        status, label = found.get("status", {}), "controller-revision-hash"
        if status.get("observedGeneration", 0) < found["metadata"].get("generation", 0):
            return Current(name, [], [])
        mine = [pod for pod in live.pods() if _owner(pod) == found["metadata"]["uid"]]
        return Current(name, [pod for pod in mine if (pod["metadata"].get("labels") or {}).get(label) == status.get("updateRevision")], [found])
    if kind == "RayCluster":
        templates = {group: template for group, template, _ in readiness.ray_groups(item)}
        pods = [pod for pod in live.ray_pods(item["metadata"]["name"]) if readiness.ray_group(pod) in templates]
        return Current(name, [pod for pod in pods if not readiness.pod_difference(templates[readiness.ray_group(pod)], pod)], [found])
    if kind == "Job":
        return Current(name, [pod for pod in live.pods() if _owner(pod) == found["metadata"]["uid"]], [found])
    return Current(name, [found] if kind == "Pod" else [], [])


def troubles(workloads: Iterable[Current], live: Live, events: Events) -> list[Trouble]:
    """The troubles that these workloads have now. events: those of this run, the newest last."""
    found = []
    for workload in workloads:
        for pod in workload.pods:
            found += _of_pod(workload.name, pod, live, events)
        for maker in workload.makers:
            found += _of_maker(workload.name, maker, live, events.get(maker["metadata"]["uid"], ()))
    return found


def _of_pod(workload: str, pod: Object, live: Live, events: Events) -> list[Trouble]:
    uid, name, status = pod["metadata"]["uid"], pod["metadata"]["name"], pod.get("status", {})
    mine = events.get(uid, ())
    containers = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    found = []
    for one in containers:
        waiting = (one.get("state") or {}).get("waiting") or {}
        if grace := GRACE_OF.get(waiting.get("reason", "")):
            text = _container_text(one, waiting, mine, grace)
            found.append(Trouble(grace, uid, workload, waiting["reason"], text, name, one["name"], one.get("restartCount", 0)))
    scheduled: Object = next((item for item in status.get("conditions") or [] if item["type"] == "PodScheduled"), {})
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        claims = [item for (kind, claim), item in live.objects.items() if kind == "PersistentVolumeClaim" and readiness.mounts(pod, claim)]
        said = [event.get("message", "") for claim in claims for event in events.get(claim["metadata"]["uid"], ())[-1:]]
        found.append(Trouble("unschedulable", uid, workload, "Unschedulable", "; ".join([scheduled.get("message", ""), *said]), name))
    mounts = [event for event in mine if event.get("reason") in GRACES["mount"].events]
    begun = any((one.get("state") or {}).keys() - {"waiting"} for one in containers)
    pulled = any(event.get("reason") in ("Pulling", "Pulled") for event in mine)  # which comes after all volumes are mounted
    if mounts and not begun and not pulled and not found:
        found.append(Trouble("mount", uid, workload, mounts[-1]["reason"], mounts[-1].get("message", ""), name))
    return found


def _container_text(container: Object, waiting: Object, events: Sequence[Object], grace: str) -> str:
    """The longest of what status and events say of a container: the others repeat its reason only."""
    about = [event for event in events if f"{{{container['name']}}}" in event.get("involvedObject", {}).get("fieldPath", "")]
    texts = [waiting.get("message", ""), *(event.get("message", "") for event in about if event.get("reason") in GRACES[grace].events)]
    ended = (container.get("lastState") or {}).get("terminated") or {}
    code = [f"exit code {ended['exitCode']}, {ended.get('reason', '')}; {ended.get('message', '')}".rstrip("; ")] if "exitCode" in ended else []
    return "; ".join([*code, max(texts, key=len)])


def _of_maker(workload: str, maker: Object, live: Live, events: Sequence[Object]) -> list[Trouble]:
    """Pods that cannot be made: a ReplicaSet has a condition as long as it is so, the others only tell it by events."""
    failure: Object = next((item for item in maker.get("status", {}).get("conditions") or [] if item["type"] == "ReplicaFailure"), {})
    if maker["kind"] == "ReplicaSet":
        texts = [failure.get("message", "")] if failure.get("status") == "True" else []
    else:
        present = [pod["metadata"]["name"] for pod in live.pods()]
        texts = [event.get("message", "") for event in events if event.get("reason") in NO_POD]
        texts = [text for text in texts[-1:] if not any(f'"{name}"' in text for name in present)]  # it was made after all
    return [Trouble("quota" if "exceeded quota" in text else "denied", maker["metadata"]["uid"], workload, "FailedCreate", text) for text in texts]


def _owner(item: Object) -> str:
    return next((str(owner["uid"]) for owner in item["metadata"].get("ownerReferences") or [] if owner.get("controller")), "")


def _template(item: Object) -> Any:
    """A pod template as the Deployment controller compares it: without the label that it adds itself; empty is as good as absent."""
    template = _filled(item["spec"]["template"])
    labels = {key: value for key, value in template.get("metadata", {}).get("labels", {}).items() if key != "pod-template-hash"}
    return {**template, "metadata": {**template.get("metadata", {}), "labels": labels}}


def _filled(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: filled for key, one in value.items() if (filled := _filled(one)) not in (None, {}, [])}
    return [_filled(one) for one in value] if isinstance(value, list) else value


@dataclass
class _Seen:
    first: float
    last: float
    restarts: int


class Clock:
    """Since when each trouble lasts. graces: seconds that go before those of `GRACES`."""

    def __init__(self, graces: Mapping[str, float]) -> None:
        self._seconds = {name: graces.get(name, grace.seconds) for name, grace in GRACES.items()}
        self._seen: dict[tuple[str, str, str], _Seen] = {}

    def overdue(self, found: Iterable[Trouble], starting: bool, now: float) -> list[tuple[Trouble, float]]:
        """The troubles that have outlasted their grace, with their seconds. starting: are other pods being created? now: monotonic."""
        over = []
        for one in found:
            key = (one.uid, one.container, one.grace)
            seen = self._seen.get(key)
            needed = GRACES[one.grace].restarts
            if seen is None or now - seen.last > HEALED_SECONDS or (needed and starting):
                seen = self._seen[key] = _Seen(now, now, one.restarts)
            seen.last = now
            if now - seen.first >= self._seconds[one.grace] and one.restarts - seen.restarts >= needed:
                over.append((one, now - seen.first))
        return over


class Patience:
    """Looks while a run waits. It begins before the run's first write: an event that is there then is not of this run."""

    def __init__(self, client: Client, namespace: str, graces: Mapping[str, float], say: Callable[[str], None]) -> None:
        self._client, self._namespace, self._say = client, namespace, say
        self._clock, self._next, self._refused = Clock(graces), 0.0, False
        self._before = {_version(event) for event in self._list("v1", "Event")}

    def ended(self, items: Iterable[Object], live: Live) -> list[str]:
        """Why it is in vain to wait for these compiled manifests, a sentence each; usually nothing."""
        now = time.monotonic()
        if now < self._next:
            return []
        self._next = now + LOOK_SECONDS
        try:
            replica_sets, events = self._list("apps/v1", "ReplicaSet"), self._events()
        except (ApiError, PreflightError):  # it is asked again
            return []
        workloads = [current(item, live, replica_sets) for item in items if item["kind"] in (*readiness.WORKLOADS, "Pod")]
        found = troubles(workloads, live, events)
        uids = {one.uid for one in found}
        pending = [pod for one in workloads for pod in one.pods if pod.get("status", {}).get("phase", "Pending") == "Pending"]
        starting = any(pod["metadata"]["uid"] not in uids for pod in pending)
        return [_sentence(one, seconds, self._namespace) for one, seconds in self._clock.overdue(found, starting, now)]

    def _events(self) -> Events:
        found: dict[str, list[Object]] = {}
        fresh = [event for event in self._list("v1", "Event") if _version(event) not in self._before]
        for event in sorted(fresh, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or ""):
            found.setdefault(event.get("involvedObject", {}).get("uid", ""), []).append(event)
        return found

    def _list(self, api_version: str, kind: str) -> list[Object]:
        try:
            return self._client.objects(api_version, kind, self._namespace)
        except ApiError as error:
            if error.status != 403:
                raise
            if not self._refused:
                self._say(f"note: the account may not list {kind}s, so this run may not tell early that a pod will not run (docs/rbac.md)")
            self._refused = True
            return []


def _version(event: Object) -> tuple[str, str]:
    """What tells an event from another, and from itself once it happened again."""
    return event["metadata"]["uid"], event["metadata"]["resourceVersion"]


def _sentence(trouble: Trouble, seconds: float, namespace: str) -> str:
    text = " ".join(redact(trouble.text).split())
    text = text if len(text) <= TEXT else f"{text[: TEXT - 3]}..."
    todo = GRACES[trouble.grace].todo.format(namespace=namespace, pod=trouble.pod, container=trouble.container)
    return f"{trouble.where}: {trouble.reason} for {seconds:.0f} s: {text}\n    -> {todo}"
