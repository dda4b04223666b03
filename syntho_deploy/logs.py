"""What the containers of an environment say: the logs of the pods of its deployed workloads, secrets masked by value."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

from syntho_deploy import documents
from syntho_deploy.cluster.client import ApiError, Client, Object
from syntho_deploy.cluster.readiness import WORKLOADS, Live
from syntho_deploy.cluster.releases import stored
from syntho_deploy.cluster.watch import View, snapshot
from syntho_deploy.errors import DeployError, InputError, nearest
from syntho_deploy.redact import redact
from syntho_deploy.secrets import store

TAIL = 100
WORKERS = 8
KINDS = (*WORKLOADS, "Pod")
PODS = [("v1", "Pod")]
WAITING = 400  # what the API server answers for a container that has no such log: not started yet, or never restarted

Say = Callable[[str], None]


@dataclass(frozen=True)
class Line:
    """One line of a container's log, redacted. time: RFC 3339, by the clock of its node."""

    pod: str
    container: str
    time: str
    text: str


@dataclass(frozen=True)
class Wanted:
    """Which logs. components: names of workloads, none for all; previous: of the container before its last restart; follow: go on
    until interrupted, with the pods that come meanwhile; tail: the last so many lines of each container, 0 for all there are."""

    components: tuple[str, ...] = ()
    previous: bool = False
    follow: bool = False
    tail: int = TAIL


def lines(client: Client, namespace: str, releases: list[str], wanted: Wanted, say: Say) -> Iterator[Line]:
    """The lines of the workloads that these releases have on the cluster, container by container; when followed, as they come.

    Raises `InputError` for an unknown component or a bad option; when all else was printed, the error of a log that could not be read.
    """
    if wanted.previous and wanted.follow:
        raise InputError("choose one of --previous and --follow", todo="a container that has ended says nothing more")
    if wanted.tail < 0:
        raise InputError(f"--tail={wanted.tail} is no number of lines", todo="0 shows all there are")
    items = [item for one in stored(client, namespace, releases).values() for text in one.manifests for item in documents.load_manifests(text)]
    workloads = {(item["kind"], item["metadata"]["name"]): item for item in items if item["kind"] in KINDS}
    if not workloads:
        raise InputError(f"nothing is deployed in the namespace {namespace}", todo="invoke status shows what should be")
    store.hide(client, namespace, list(workloads.values()))
    chosen = _chosen(list(workloads.values()), wanted.components)
    return _followed(client, namespace, chosen, wanted, say) if wanted.follow else _read(client, namespace, chosen, wanted, say)


def _chosen(workloads: list[Object], components: tuple[str, ...]) -> list[Object]:
    known = sorted({item["metadata"]["name"] for item in workloads})
    for name in components:
        if name not in known:
            raise InputError(f'there is no component "{name}"{nearest(name, known)}', todo=f"components: {', '.join(known)}")
    return [item for item in workloads if not components or item["metadata"]["name"] in components]


def _pods(items: list[Object], live: Live) -> list[Object]:
    return [pod for pod in live.pods() if any(_is_of(item, pod) for item in items)]


def _is_of(item: Object, pod: Object) -> bool:
    name, has = item["metadata"]["name"], pod["metadata"].get("labels") or {}
    if item["kind"] == "Pod":
        return bool(pod["metadata"]["name"] == name)
    labels = {"RayCluster": {"ray.io/cluster": name}, "Job": {"batch.kubernetes.io/job-name": name}}.get(item["kind"])
    labels = labels or (item["spec"].get("selector") or {}).get("matchLabels") or {}
    return bool(labels) and labels.items() <= has.items()


def _containers(pod: Object) -> list[str]:
    return [container["name"] for container in [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]]


def _statuses(pod: Object) -> dict[str, Object]:
    status = pod.get("status", {})
    return {one["name"]: one for one in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]}


def _read(client: Client, namespace: str, items: list[Object], wanted: Wanted, say: Say) -> Iterator[Line]:
    failed: list[DeployError] = []
    pods = _pods(items, snapshot(client, namespace, PODS))
    if wanted.previous:
        again = {pod["metadata"]["name"]: {name for name, one in _statuses(pod).items() if one.get("restartCount")} for pod in pods}
    else:
        again = {pod["metadata"]["name"]: set(_containers(pod)) for pod in pods}
    asked = [(pod["metadata"]["name"], name) for pod in pods for name in _containers(pod) if name in again[pod["metadata"]["name"]]]
    if not asked:
        say("no container was restarted" if wanted.previous and pods else "there are no pods")
    with ThreadPoolExecutor(WORKERS) as pool:  # all are asked for at once, and then read one after the other
        begun = pool.map(lambda one: _begun(_log(client, namespace, one[0], one[1], wanted, say, failed)), asked)
        yield from chain.from_iterable(begun)
    if failed:
        raise failed[0]


def _begun(log: Iterator[Line]) -> Iterator[Line]:
    """The same lines, the first of them here already."""
    return chain([line for line in [next(log, None)] if line], log)


def _log(client: Client, namespace: str, pod: str, container: str, wanted: Wanted, say: Say, failed: list[DeployError]) -> Iterator[Line]:
    """The log of one container. What keeps it from being read is said, and noted in `failed` unless there only is no log yet."""
    query = {"container": container, "timestamps": "true", "previous": str(wanted.previous).lower(), "follow": str(wanted.follow).lower()}
    query |= {"tailLines": str(wanted.tail)} if wanted.tail else {}
    path = f"{client.path('v1', 'Pod', namespace, pod)}/log"
    try:
        for raw in client.lines(path, query, None if wanted.follow else 60.0):
            time, _, text = raw.decode("utf-8", "replace").partition(" ")
            yield Line(pod, container, time, redact(text))
    except DeployError as error:
        words = error.message if isinstance(error, ApiError) else error.what
        say(f"{pod}/{container}: {words}")
        if not (isinstance(error, ApiError) and error.status in (WAITING, 404)):
            failed.append(error)


def _followed(client: Client, namespace: str, items: list[Object], wanted: Wanted, say: Say) -> Iterator[Line]:
    said: queue.Queue[Line | BaseException] = queue.Queue(1000)
    threading.Thread(target=_attend, args=(client, namespace, items, wanted, say, said), daemon=True, name="pods").start()
    while True:
        line = said.get()
        if isinstance(line, BaseException):
            raise line
        yield line


def _attend(client: Client, namespace: str, items: list[Object], wanted: Wanted, say: Say, said: queue.Queue[Line | BaseException]) -> None:
    """Begin to follow each container when it has started, and again when it was restarted; those that come later from their beginning."""
    known: set[tuple[str, str, int]] = set()
    later = Wanted(wanted.components, follow=True, tail=0)
    first = True
    try:
        with View(client, namespace, PODS) as view:
            while True:
                for pod in _pods(items, view.live()):
                    for name, status in _statuses(pod).items():
                        key = (pod["metadata"]["uid"], name, status.get("restartCount", 0))
                        if key not in known and {"running", "terminated"} & set(status.get("state") or {}):
                            known.add(key)
                            asked = (client, namespace, pod["metadata"]["name"], name, wanted if first else later, say)
                            threading.Thread(target=_pump, args=(asked, said), daemon=True, name=f"log-{name}").start()
                if first and not known:
                    say("there are no pods that have started; waiting for them")
                first = False
                view.wait(3600)
    except BaseException as error:  # told by the main thread
        said.put(error)


def _pump(asked: tuple[Client, str, str, str, Wanted, Say], said: queue.Queue[Line | BaseException]) -> None:
    for line in _log(*asked, []):
        said.put(line)
