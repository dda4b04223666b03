"""The namespace: there, and with room for what is compiled, by its quota, its limits and what it allows pods to do."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from syntho_deploy.checks.amounts import Amounts, amount, effective, of_container, shown, summed
from syntho_deploy.checks.context import HEAD_SERVICE
from syntho_deploy.cluster.client import ApiError, Client
from syntho_deploy.doctor.storage import claims_of, default_class, is_claim
from syntho_deploy.doctor.subject import RULES, Missing, Result, Subject, forbidden, side_by_side
from syntho_deploy.doctor.workloads import Asked, asked, containers, defaulted
from syntho_deploy.documents import walk

ENFORCE = "pod-security.kubernetes.io/enforce"
NEW = "none in a namespace that is yet to be made"
WEBHOOK = "failed calling webhook"  # what an API server says (as 500) of one that does not answer and must
OF_PRIORITY = "PriorityClass"
# What admission says of these kinds, when it refuses a pod.
OF_OTHERS = ((r"^(exceeded|failed) quota", "ResourceQuota"), (r" usage per |limit to request", "LimitRange"))

Object = dict[str, Any]


def namespace(subject: Subject) -> Iterator[Result]:
    """The namespace is there, or deploy may make it; it is not on its way out."""
    name = subject.namespace
    try:
        found = subject.found("v1", "Namespace", name)
    except Missing:
        found = None
        if subject.namespace_there:
            yield Result("namespace", "ok", f"{name} is there; the account may not read more of it")
            return
    if found is None and subject.environment.manage_namespace:
        yield Result("namespace", "ok", f"{name} is not there; deploy makes it")
    elif found is None:
        yield Result("namespace", "error", f"{name} is not there, and manage.namespace is false", f"kubectl create namespace {name}")
    elif found["metadata"].get("deletionTimestamp"):
        reasons = [one["message"] for one in found.get("status", {}).get("conditions") or [] if one.get("status") == "True"]
        todo = f"wait until it is gone; what keeps it: kubectl get namespace {name} -o yaml"
        what = f"{name} is being deleted since {found['metadata']['deletionTimestamp']}: {'; '.join(reasons)[:300]}"
        yield Result("namespace", "error", what, todo)
    else:
        yield Result("namespace", "ok", f"{name}, since {found['metadata']['creationTimestamp'][:10]}")


def quota(subject: Subject) -> Iterator[Result]:
    """Each ResourceQuota has room for what is compiled, as far as its scopes select it: what it counts now, less what is ours already, plus all
    pods, volumes and objects; and for the pods that a rolling update adds. Where one counts a resource, each container must say how much it
    asks for, or the pod is refused."""
    if not subject.namespace_there:
        yield Result("quota", "ok", NEW)
        return
    quotas = subject.listed("v1", "ResourceQuota", subject.namespace)
    for one in quotas:
        name, selects = one["metadata"]["name"], scopes(one)
        if selects is None:
            yield Result("quota", "unknown", f"{name} has a scope that is not known here", f"kubectl describe quota {name} -n {subject.namespace}")
            continue
        pods = [pod for pod in _pods(subject) if selects(pod.spec)]
        wanted, there = _counted(subject, pods), _there(subject, selects)
        more = _of_pods([(pod.spec, pod.surge) for pod in pods])
        yield from exceeded(one, wanted, there, _silent(pods, one), more)
    if not quotas:
        yield Result("quota", "ok", "none")


def exceeded(one: Object, wanted: Amounts, there: Amounts, silent: dict[str, list[str]], surge: Amounts | None = None) -> list[Result]:
    """What a ResourceQuota means for what is wanted in all. there: what of it is counted already; silent: which pods say nothing of a
    resource, and are therefore refused; surge: what a rolling update adds meanwhile."""
    name, hard, used = one["metadata"]["name"], one.get("spec", {}).get("hard") or {}, one.get("status", {}).get("used") or {}
    found, faults, later, rooms = [], [], [], []
    if silent:
        listed = "; ".join(f"{resource}: {', '.join(pods)}" for resource, pods in silent.items())
        todo = "component resources sets them; or have a LimitRange with defaults made in the namespace"
        found.append(Result("quota", "error", f"{name} counts what these pods do not say, and refuses them: {listed}", todo))
    for key, limit in hard.items():
        need = wanted.get(_plain(key))
        if need is None or (most := amount(limit)) is None:
            continue
        others = max(0.0, (amount(used.get(key, "0")) or 0.0) - there.get(_plain(key), 0.0))
        more = (surge or {}).get(_plain(key), 0.0)
        beside = f" beside {shown(key, others)} of others" if others > 1e-6 else ""
        if others + need > most + 1e-6:
            faults.append(f"{key}: {shown(key, need)}{beside} of {limit}")
        elif others + need + more > most + 1e-6:
            later.append(f"{key}: {shown(key, need)} and {shown(key, more)}{beside} of {limit}")
        rooms.append((others + need) / most if most else 0.0)
    if faults:
        todo = f"have the quota raised, or ask for less (component resources): kubectl describe quota {name}"
        found.append(Result("quota", "error", f"{name} is too small for all that is compiled: {'; '.join(faults)}", todo))
    if later:
        todo = "have the quota raised by so much; where it cannot be, deploy waits for pods that nothing makes, when all change at once"
        found.append(Result("quota", "warning", f"{name} has no room for the pods that a rolling update adds: {'; '.join(later)}", todo))
    return found or [Result("quota", "ok", f"{name} has room" + (f"; then it is {max(rooms):.0%} used at most" if rooms else ""))]


def scopes(one: Object) -> Callable[[Object], bool] | None:
    """Which pods (by their spec) a ResourceQuota counts, by its scopes; None where one of these is not known.

    https://kubernetes.io/docs/concepts/policy/resource-quotas/#quota-scopes
    """
    rules = [{"scopeName": scope, "operator": "Exists"} for scope in one["spec"].get("scopes") or ()]
    rules += (one["spec"].get("scopeSelector") or {}).get("matchExpressions") or []
    if any(rule["scopeName"] not in (*SCOPES, OF_PRIORITY) for rule in rules):
        return None

    def counts(rule: Object, spec: Object) -> bool:
        if rule["scopeName"] != OF_PRIORITY:
            return SCOPES[rule["scopeName"]](spec)
        name, values = spec.get("priorityClassName"), rule.get("values") or []
        return {"Exists": bool(name), "DoesNotExist": not name, "In": name in values, "NotIn": name not in values}[rule["operator"]]

    return lambda spec: all(counts(rule, spec) for rule in rules)


def _best_effort(spec: Object) -> bool:
    """Does no container say anything of CPU and memory?"""
    return not any(key in of_container(one, part) for one in containers(spec) for part in ("requests", "limits") for key in ("cpu", "memory"))


def _crosses(spec: Object) -> bool:
    """Does a pod ask to be near or apart from pods of other namespaces?"""
    terms = [value for keys, value in walk(spec.get("affinity") or {}) if keys and isinstance(value, dict) and "topologyKey" in value]
    return any(term.get("namespaces") or term.get("namespaceSelector") is not None for term in terms)


SCOPES: dict[str, Callable[[Object], bool]] = {
    "Terminating": lambda spec: spec.get("activeDeadlineSeconds") is not None,
    "NotTerminating": lambda spec: spec.get("activeDeadlineSeconds") is None,
    "BestEffort": _best_effort, "NotBestEffort": lambda spec: not _best_effort(spec), "CrossNamespacePodAffinity": _crosses,
}  # fmt: skip


def _plain(key: str) -> str:
    """`cpu` and `memory` of a quota are requests, and so on."""
    return f"requests.{key}" if key in ("cpu", "memory", "ephemeral-storage") else key


def _silent(pods: list[Asked], one: Object) -> dict[str, list[str]]:
    """Which pods say nothing of a resource that a quota counts."""
    found: dict[str, list[str]] = {}
    for key in one.get("spec", {}).get("hard") or {}:
        part, _, resource = _plain(key).partition(".")
        if part in ("requests", "limits") and resource in ("cpu", "memory"):
            silent = {pod.name for pod in pods if any(resource not in of_container(each, part) for each in containers(pod.spec))}
            found |= {key: sorted(silent)} if silent else {}
    return found


def _pods(subject: Subject) -> list[Asked]:
    """The compiled pods with what the namespace's LimitRanges give them."""
    limits = _limits(subject)
    return [replace(one, spec=defaulted(one.spec, limits)) for one in asked(subject.context)]


def _limits(subject: Subject) -> list[Object]:
    return [limit for one in subject.listed("v1", "LimitRange", subject.namespace) for limit in one["spec"].get("limits") or []]


def _of_pods(specs: Iterable[tuple[Object, int]]) -> Amounts:
    """What quotas count of pods: of each spec so many."""
    total: Amounts = {}
    for spec, count in specs:
        asks = [{f"{part}.{key}": value for key, value in effective(spec, part).items()} for part in ("requests", "limits")]
        total = summed([total, *({key: value * count for key, value in {"pods": 1.0, "count/pods": 1.0, **each}.items()} for each in [summed(asks)])])
    return total


def _counted(subject: Subject, pods: list[Asked]) -> Amounts:
    """What quotas count of these pods and of all compiled objects."""
    counts = Counter[str]()
    for item in _objects(subject):
        counts += _kinds(subject, item)
    # each deploy adds a revision of each release, and a record
    counts["secrets"] += len(subject.wanted) + len(subject.compiled.charts) + 1
    volumes = [claim["spec"] for claim in claims_of(subject.compiled.objects)]
    return summed([_of_pods((pod.spec, pod.least) for pod in pods), _of_counts(counts), _of_volumes(subject, volumes)])


def _there(subject: Subject, selects: Callable[[Object], bool]) -> Amounts:
    """What quotas count already of what is compiled: pods as they are, objects by their names, volumes by those of their claims."""
    client, where, mine = subject.client, subject.namespace, asked(subject.context)
    live = [one for one in subject.listed("v1", "Pod", where) if _counts(one) and any(pod.covers(one) for pod in mine)]
    counts = Counter[str]()
    for item in _objects(subject):
        if _is_there(client, item, where):
            counts += _kinds(subject, item)
    wanted = {need.name for need in subject.wanted}
    counts["secrets"] += sum(item["metadata"]["name"] in wanted for item in subject.listed("v1", "Secret", where))
    claims = subject.listed("v1", "PersistentVolumeClaim", where)
    volumes = [one["spec"] for one in claims if is_claim(subject.compiled.objects, one["metadata"]["name"])]
    return summed([_of_pods((one["spec"], 1) for one in live if selects(one["spec"])), _of_counts(counts), _of_volumes(subject, volumes)])


def _objects(subject: Subject) -> list[Object]:
    """The compiled objects, and the Service that comes with each RayCluster."""
    heads = [f"{item['metadata']['name']}{HEAD_SERVICE}" for item in subject.compiled.objects if item["kind"] == "RayCluster"]
    return [*subject.compiled.objects, *({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}} for name in heads)]


def _of_counts(counts: Counter[str]) -> Amounts:
    return summed({key: float(value), f"count/{key}": float(value)} for key, value in counts.items())


def _kinds(subject: Subject, item: Object) -> Counter[str]:
    """How an object counts, volumes aside: by its kind, and a Service by what it is to the world."""
    counts = Counter({_resource(subject.client, item): item["kind"] != "PersistentVolumeClaim"})
    kind = item.get("spec", {}).get("type") if item["kind"] == "Service" else ""
    counts["services.loadbalancers"] = kind == "LoadBalancer"
    counts["services.nodeports"] = kind in ("LoadBalancer", "NodePort")
    return counts


def _of_volumes(subject: Subject, volumes: list[Object]) -> Amounts:
    """What quotas count of claims (their specs), of all together and by class."""
    total: Amounts = {}
    for spec in volumes:
        size, name = of_container(spec, "requests").get("storage", 0.0), spec.get("storageClassName")
        of = f"{default_class(subject) if name is None else name}.storageclass.storage.k8s.io/"
        counted = {"requests.storage": size, "persistentvolumeclaims": 1.0, "count/persistentvolumeclaims": 1.0}
        total = summed([total, counted, {f"{of}requests.storage": size, f"{of}persistentvolumeclaims": 1.0}])
    return total


def _counts(pod: Object) -> bool:
    return pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")


def _is_there(client: Client, item: Object, where: str) -> bool:
    return any(one["metadata"]["name"] == item["metadata"]["name"] for one in client.objects(item["apiVersion"], item["kind"], where))


def _resource(client: Client, item: Object) -> str:
    """An object's resource as quotas name it: `services`, `deployments.apps`."""
    group = item["apiVersion"].rpartition("/")[0]
    try:
        plural = client.path(item["apiVersion"], item["kind"]).rpartition("/")[2]
    except ApiError:  # it comes with the CRDs
        plural = f"{item['kind'].lower()}s"
    return f"{plural}.{group}" if group else plural


def limit_range(subject: Subject) -> Iterator[Result]:
    """Each container, pod and volume is within the namespace's LimitRanges: at least, at most, and the ratio of limit to request."""
    if not subject.namespace_there:
        yield Result("limit-range", "ok", NEW)
        return
    limits = _limits(subject)
    claims = list(claims_of(subject.compiled.objects))
    faults = outside(limits, _pods(subject), claims)
    if faults:
        more = f" and {len(faults) - 4} more" if len(faults) > 4 else ""
        todo = "component resources sets what pods ask for, volume-sizes what volumes do; or: kubectl describe limitrange"
        yield Result("limit-range", "error", f"{'; '.join(faults[:4])}{more}", todo)
    else:
        yield Result("limit-range", "ok", f"all pods and volumes are within {len(limits)} limits" if limits else "none")


def outside(limits: list[Object], pods: list[Asked], claims: list[Object]) -> list[str]:
    """What LimitRanges (their `spec.limits`) refuse of these pods and volume claims, a sentence each."""
    faults = []
    for limit in limits:
        if limit.get("type") == "Container":
            each = [(pod.name, one) for pod in pods for one in containers(pod.spec)]
            found = [(f"{name} {one.get('name')}", of_container(one, "requests"), of_container(one, "limits")) for name, one in each]
            faults += [f"{name}: {fault}" for name, requests, most in found for fault in _outside(limit, requests, most)]
        if limit.get("type") == "Pod":
            found = [(pod.name, effective(pod.spec, "requests"), effective(pod.spec, "limits")) for pod in pods]
            faults += [f"{name}: {fault}" for name, requests, most in found for fault in _outside(limit, requests, most)]
        if limit.get("type") == "PersistentVolumeClaim":
            for item in claims:
                size = of_container(item["spec"], "requests")
                faults += [f"{item['metadata']['name']}: {fault}" for fault in _outside(limit, size, size)]
    return faults


def _outside(limit: Object, requests: Amounts, limits: Amounts) -> Iterator[str]:
    for key, text in (limit.get("min") or {}).items():
        if (found := requests.get(key)) is None:
            yield f"asks for no {key}, at least {text} is wanted"
        elif found < (amount(text) or 0.0):
            yield f"asks for {shown(key, found)} of {key}, less than {text}"
    for key, text in (limit.get("max") or {}).items():
        if (found := limits.get(key)) is None:
            yield f"has no limit of {key}, at most {text} is allowed"
        elif found > (amount(text) or 0.0):
            yield f"may take {shown(key, found)} of {key}, more than {text}"
    for key, text in (limit.get("maxLimitRequestRatio") or {}).items():
        if not requests.get(key) or not limits.get(key):
            yield f"has no {'limit' if requests.get(key) else 'request'} of {key}, and their ratio may be {text} at most"
        elif (ratio := limits[key] / requests[key]) > (amount(text) or 0.0) + 1e-9:
            yield f"its limit of {key} is {ratio:.3g} times its request, more than {text}"


def pod_security(subject: Subject) -> Iterator[Result]:
    """The namespace takes pods as they are compiled. Asked by a dry run of each: Pod Security, priority and runtime classes, and the webhooks
    of the cluster answer as they will; what they warn of is shown. What the namespace's limits or quota refuse gets no further answer; other
    checks tell that. The labels alone are told where the account may not create pods."""
    if not subject.namespace_there:
        yield Result("pod-security", "ok", "not asked: the namespace is yet to be made")
        return
    pods = asked(subject.context)
    answers = side_by_side([partial(_dry, subject, pod) for pod in pods])
    refused = [(pod.name, text) for pod, (text, _) in zip(pods, answers, strict=True) if text]
    before = [name for name, text in refused if _told_elsewhere(subject, text)]
    refused = [(name, text) for name, text in refused if name not in before]
    forbidden_to = next((text for _, text in refused if text.startswith("the account may not")), "")
    level = f"; the namespace enforces {enforced}" if (enforced := _level(subject)) else ""
    if forbidden_to:
        yield Result("pod-security", "unknown", f"{forbidden_to}, which a dry run asks for{level}", RULES)
        return
    for text in dict.fromkeys(text for _, text in refused):
        names = ", ".join(name for name, other in refused if other == text)
        todo = "component security/restricted" if "PodSecurity" in text else "ask who runs the cluster what these pods must be"
        if WEBHOOK in text:
            todo = "have what answers there mended, or its webhook removed: kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations"
        yield Result("pod-security", "error", f"{text}: {names}", todo)
    warned = list(dict.fromkeys(warning for _, warnings in answers for warning in warnings))
    for warning in warned:
        names = ", ".join(pod.name for pod, (_, warnings) in zip(pods, answers, strict=True) if warning in warnings)
        yield Result("pod-security", "warning", f"{warning}: {names}")
    if before:
        what = f"{', '.join(before)}: refused by a limit or a quota, which keeps the question from what comes after{level}"
        yield Result("pod-security", "unknown", what, "mend what the checks limit-range and quota tell, and ask again")
    if not refused and not warned and not before:
        yield Result("pod-security", "ok", f"{len(pods)} pods are taken by a dry run{level}")


def _told_elsewhere(subject: Subject, text: str) -> bool:
    """Is a refusal one of a LimitRange or a ResourceQuota that the checks of these have read?"""
    kind = next((kind for words, kind in OF_OTHERS if re.search(words, text)), "")
    try:
        return bool(kind and subject.listed("v1", kind, subject.namespace))
    except Missing:
        return False


def _level(subject: Subject) -> str:
    try:
        found = subject.found("v1", "Namespace", subject.namespace)
    except Missing:
        return ""
    return str(((found or {}).get("metadata", {}).get("labels") or {}).get(ENFORCE, ""))


def _dry(subject: Subject, pod: Asked) -> tuple[str, list[str]]:
    """Why a pod is refused, or ""; and what the API server warns of. The account of a pod may come with the release: it is left out."""
    spec = {key: value for key, value in pod.spec.items() if key not in ("serviceAccountName", "serviceAccount")}
    spec["volumes"] = [*(spec.get("volumes") or []), *({"name": name, "emptyDir": {}} for name in pod.volumes)]
    metadata = {"generateName": "syntho-doctor-", "namespace": subject.namespace, "labels": pod.labels}
    try:
        warnings = subject.client.create_dry({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        return "", list(map(_short, warnings))
    except ApiError as error:
        if error.status not in (400, 403, 422) and WEBHOOK not in error.message:
            raise
        words = re.sub(r'^pods "[^"]*" is forbidden: |^Pod "[^"]*" is invalid: ', "", error.message)
        return forbidden(error) or _short(words), []


def _short(words: str) -> str:
    """What Pod Security says, without the name of each container."""
    return re.sub(r" \((?:pod|container)[^)]*\)", "", words) if "PodSecurity" in words else words
