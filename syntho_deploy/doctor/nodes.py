"""The nodes: does each compiled pod fit on one, by its selectors, the taints, and the room that is left?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from syntho_deploy.checks.amounts import Amounts, amount, effective, shown, summed
from syntho_deploy.checks.context import selects
from syntho_deploy.cluster.client import ApiError
from syntho_deploy.doctor.subject import Result, Subject, forbidden
from syntho_deploy.doctor.workloads import Asked, asked

PAGE = "500"  # pods: of a large cluster only what they reserve is kept, page by page
STOP = ("NoSchedule", "NoExecute")
RUNS = "status.phase!=Succeeded,status.phase!=Failed"

Object = dict[str, Any]


@dataclass
class Node:
    """A node as the scheduler sees it. room: what it has for pods; taken: what pods reserve of it that are not ours; ours: the labels of those
    that were given a place on it."""

    name: str
    labels: dict[str, str]
    taints: list[Object]
    room: Amounts
    taken: Amounts = field(default_factory=dict)
    ours: list[dict[str, str]] = field(default_factory=list)

    def free(self, key: str) -> float:
        """What is left of a resource."""
        return self.room.get(key, 0.0) - self.taken.get(key, 0.0)


def nodes(subject: Subject) -> Iterator[Result]:
    """Each compiled pod finds a node: one with the labels that it selects, whose taints it tolerates, large enough, apart from those of ours that
    it must not be beside, and with room beside what runs there. Those that run already count as ours. A pod that no node could ever take is an
    error, unless `cluster.present.largest_node` says that such nodes come; one for which there is no room now is a warning, since nodes may be
    added. Ray's workers count at their minimum, and with Ray's autoscaler at their maximum too."""
    found = [made for item in subject.listed("v1", "Node") if (made := node(item))]
    pods = asked(subject.context)
    known = _reserve(subject, found, pods)
    archs = Counter(one.labels.get("kubernetes.io/arch", "?") for one in found)
    room = " and ".join(f"{shown(key, sum(one.free(key) for one in found))} {key}" for key in ("cpu", "memory"))
    listed = ", ".join(f"{count} {arch}" for arch, count in archs.items())
    faults = list(misfits(pods, found, subject.environment.present.largest_node))
    for state, what, todo in faults:
        yield Result("nodes", state, what, todo)
    if not found:
        coming = subject.environment.present.largest_node
        what = "no node is ready that takes pods" + (", and some are to come (cluster.present.largest_node)" if coming else "")
        yield Result("nodes", "warning" if coming else "error", what, "kubectl get nodes; kubectl uncordon NODE lets pods come to one again")
    elif not faults:
        left = f"{room} free" if known else "what runs there may not be read, so that the room left is not known"
        yield Result("nodes", "ok", f"{listed}, {left}; every pod fits")


def node(item: Object) -> Node | None:
    """A node, or None for one that takes no pods now."""
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in item.get("status", {}).get("conditions") or [])
    if not ready or item.get("spec", {}).get("unschedulable"):
        return None
    room = {key: value for key, text in (item["status"].get("allocatable") or {}).items() if (value := amount(text)) is not None}
    return Node(item["metadata"]["name"], item["metadata"].get("labels") or {}, item.get("spec", {}).get("taints") or [], room)


def _reserve(subject: Subject, found: list[Node], pods: list[Asked]) -> bool:
    """Note what the pods of the cluster reserve on its nodes. False where the account may not list them."""
    by_name = {one.name: one for one in found}
    client, query = subject.client, {"limit": PAGE, "fieldSelector": RUNS}
    while True:
        try:
            page = client.request("GET", "/api/v1/pods", query=dict(query))
        except ApiError as error:
            if forbidden(error):
                return False
            raise
        for pod in page["items"]:
            ours = pod["metadata"]["namespace"] == subject.namespace and any(one.covers(pod) for one in pods)
            if not ours and (place := by_name.get(pod["spec"].get("nodeName", ""))):
                place.taken = summed([place.taken, effective(pod["spec"], "requests"), {"pods": 1}])
        query["continue"] = page["metadata"].get("continue") or ""
        if not query["continue"]:
            return True


def misfits(pods: Iterable[Asked], found: list[Node], largest: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    """Those pods that fit no node: (state, why, what to do). Places are given to the largest first, as many as there are at least; then to those
    that an autoscaler may add. largest: what a node that is not there yet may have."""
    left = sorted(pods, key=lambda pod: (pod.requests.get("memory", 0), pod.requests.get("cpu", 0)), reverse=True)
    impossible = {pod.name for pod in left if not any(refusal(pod, one) == "" for one in found)}
    nowhere: dict[tuple[str, str], list[str]] = {}
    for pod in left if found else []:
        if pod.name in impossible:
            reasons = Counter(refusal(pod, one) for one in found)
            why = "; ".join(f"{reason} ({count} of {len(found)} nodes)" for reason, count in reasons.most_common(3))
            coming = bool(largest) and all(pod.requests.get(key, 0.0) <= (amount(text) or 0.0) for key, text in largest.items() if text)
            nowhere.setdefault(("warning" if coming else "error", why), []).append(pod.name)
    for (state, why), names in nowhere.items():
        todo = "component scheduling sets selectors and tolerations, resources what a pod asks for; or have such a node added"
        yield state, f"{', '.join(names)} fit{'s' * (len(names) == 1)} no node: {why}", todo
    lacking: dict[str, list[Asked]] = {"least": [], "most": []}
    for when in lacking:
        for pod in left if found else []:
            count = pod.least if when == "least" else pod.most - pod.least
            placed = sum(_place(pod, found) for _ in range(min(count, 200))) if pod.name not in impossible else count
            lacking[when] += [pod] if placed < min(count, 200) else []
    for when, several in lacking.items():
        if several:
            listed = ", ".join(f"{pod.name} ({_needs(pod)})" for pod in several)
            scaled = "" if when == "least" else ", when Ray's autoscaler asks for all of them"
            yield "warning", f"no room is left for {listed}{scaled}", "free some, have nodes added, or ask for less: kubectl describe nodes"


def _needs(pod: Asked) -> str:
    needs = [f"{shown(key, pod.requests[key])} {key}" for key in ("cpu", "memory") if key in pod.requests]
    return ", ".join([*needs, *(["each apart"] if _apart(pod) else [])])


def _place(pod: Asked, found: list[Node]) -> bool:
    """Put a pod on the node with the most memory left that takes it. False when there is none."""
    wanted = {**pod.requests, "pods": 1.0}
    apart = _too_near(pod, found)
    able = [one for one in found if one.name not in apart and not refusal(pod, one)]
    able = [one for one in able if all(one.free(key) >= value for key, value in wanted.items() if value)]
    if able:
        chosen = max(able, key=lambda one: one.free("memory"))
        chosen.taken = summed([chosen.taken, wanted])
        chosen.ours.append(pod.labels)
    return bool(able)


def _apart(pod: Asked) -> list[Object]:
    rules = ((pod.spec.get("affinity") or {}).get("podAntiAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution")
    return list(rules or ())


def _too_near(pod: Asked, found: list[Node]) -> set[str]:
    """The nodes that a pod must not come to because of those of ours that have a place already: its podAntiAffinity, as far as that must be."""
    near: set[str] = set()
    for rule in _apart(pod):
        key, selector = rule.get("topologyKey", ""), rule.get("labelSelector")
        taken = {one.labels.get(key) for one in found for labels in one.ours if selector is not None and selects(selector, labels)}
        near |= {one.name for one in found if one.labels.get(key) in taken - {None}}
    return near


def refusal(pod: Asked, one: Node) -> str:
    """Why a node could never take a pod, however empty it is, or ""."""
    for key, value in (pod.spec.get("nodeSelector") or {}).items():
        if one.labels.get(key) != value:
            return f"no label {key}={value}"
    rules = ((pod.spec.get("affinity") or {}).get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = rules.get("nodeSelectorTerms") or []
    if terms and not any(_matches(term, one) for term in terms):
        return "the node affinity does not match"
    for taint in one.taints:
        if taint.get("effect") in STOP and not any(_tolerates(toleration, taint) for toleration in pod.spec.get("tolerations") or []):
            value = f"={taint['value']}" if taint.get("value") else ""
            return f"the taint {taint['key']}{value}:{taint['effect']} is not tolerated"
    for key, value in pod.requests.items():
        if value > one.room.get(key, 0.0):
            return f"{shown(key, value)} {key} asked, {shown(key, one.room.get(key, 0.0))} there"
    return ""


def _matches(term: Object, one: Node) -> bool:
    """https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#node-affinity"""
    for part, labels in (("matchExpressions", one.labels), ("matchFields", {"metadata.name": one.name})):
        for rule in term.get(part) or []:
            found, values, operator = labels.get(rule["key"]), rule.get("values") or [], rule["operator"]
            number = amount(found) if found is not None else None
            right = {
                "In": found in values, "NotIn": found not in values, "Exists": found is not None, "DoesNotExist": found is None,
                "Gt": number is not None and bool(values) and number > float(values[0]),
                "Lt": number is not None and bool(values) and number < float(values[0]),
            }  # fmt: skip
            if not right.get(operator, False):
                return False
    return bool(term.get("matchExpressions") or term.get("matchFields"))


def _tolerates(toleration: Object, taint: Object) -> bool:
    """https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/"""
    if toleration.get("effect") not in (None, "", taint.get("effect")):
        return False
    if not toleration.get("key"):
        return toleration.get("operator") == "Exists"
    same = toleration["key"] == taint["key"]
    return bool(same and (toleration.get("operator") == "Exists" or (toleration.get("value") or "") == (taint.get("value") or "")))
