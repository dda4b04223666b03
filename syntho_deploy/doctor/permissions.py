"""What the account may do: the verbs that the compiled objects and the work around them need (docs/rbac.md), and no others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

from syntho_deploy.cluster import crds
from syntho_deploy.cluster.client import ApiError, Client
from syntho_deploy.doctor.subject import Result, Subject, side_by_side, told
from syntho_deploy.errors import DeployError

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubject{}reviews"
EVERY = ("get", "list", "watch", "create", "update", "patch", "delete")
RBAC = "rbac.authorization.k8s.io"
# What a deploy does beside writing the compiled objects: API group, resource, verbs.
WORK: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("", "secrets", EVERY),  # Helm's release records, the environment's secrets, the records of deploys
    ("", "services", ("list",)),
    ("coordination.k8s.io", "leases", ("get", "create", "update")),
    ("", "pods", ("get", "list", "watch", "delete")),
)
# Without these a deploy works, and something else does not.
BESIDE: tuple[tuple[str, str, str, str], ...] = (
    ("autoscaling", "horizontalpodautoscalers", "list", "the replicas that an autoscaler has set are taken back"),
    ("apps", "replicasets", "list", "why a pod does not run is told late"),
    ("", "events", "list", "why a pod does not run is told late"),
    ("", "pods/log", "get", "invoke logs shows nothing"),
)


class Need(NamedTuple):
    """One permission. namespace: "" for the whole cluster; resource: with its subresource; name: of the one object, or ""."""

    group: str
    resource: str
    verb: str
    namespace: str = ""
    name: str = ""


def permissions(subject: Subject) -> Iterator[Result]:
    """The account may do in the namespace what a deploy does there: read and write each kind that is compiled, Secrets, its Lease, and pods."""
    rules = _rules(subject)
    wanted = in_namespace(subject, rules)
    yield _result(subject, "permissions", _lacking(subject.client, wanted, rules), len(wanted), f"Role in {subject.namespace}")


def cluster_permissions(subject: Subject) -> Iterator[Result]:
    """The account may do in the whole cluster what `manage` says that deploy does there: CRDs, the namespace; and read the cluster's uid, where
    the environment names it."""
    wanted = in_cluster(subject)
    lacking = _lacking(subject.client, wanted, None)
    spare = [need for need in lacking if need.verb in ("create", "patch") and _is_there(subject, need.resource)]
    if spare:
        yield _told("cluster-permissions", "warning", spare, "ClusterRole", ", which is not needed today, since it is there")
    if len(lacking) > len(spare) or not spare:
        yield _result(subject, "cluster-permissions", [need for need in lacking if need not in spare], len(wanted), "ClusterRole")


def _is_there(subject: Subject, resource: str) -> bool:
    """Is what is written of a resource there already: the namespace, or every CRD as vendored?"""
    if resource == "namespaces":
        return subject.namespace_there
    try:
        return not crds.due(subject.client, [file for chart in subject.compiled.charts.values() for file in chart.crds], True)
    except DeployError:
        return False


def more_permissions(subject: Subject) -> Iterator[Result]:
    """The account may do what is not needed, and is missed: read logs, events, ReplicaSets and autoscalers."""
    rules = _rules(subject)
    for group, resource, verb, loss in BESIDE:
        if lacking := _lacking(subject.client, [Need(group, resource, verb, subject.namespace)], rules):
            yield _told("more-permissions", "warning", lacking, f"Role in {subject.namespace}", f": {loss}")


def _result(subject: Subject, check: str, lacking: list[Need], count: int, role: str) -> Result:
    if lacking:
        return _told(check, "error", lacking, role)
    where = "in the whole cluster" if role == "ClusterRole" else f"in {subject.namespace}"
    return Result(check, "ok", f"all {count} that a deploy needs {where}" if count else f"a deploy needs none {where}")


def _told(check: str, state: str, lacking: list[Need], role: str, loss: str = "") -> Result:
    verbs: dict[str, list[str]] = {}
    for need in lacking:
        verbs.setdefault(".".join(filter(None, (need.resource, need.group))), []).append(need.verb)
    listed = "; ".join(f"{', '.join(found)} {resource}" for resource, found in verbs.items())
    return Result(check, state, f"the account may not {listed}{loss}", f"add to its {role}, as docs/rbac.md has it:\n" + "\n".join(rules_of(lacking)))


def rules_of(lacking: Iterable[Need]) -> list[str]:
    """The rules of a Role that give these permissions, a line of YAML each; what has the same verbs in one group is one rule."""
    verbs: dict[tuple[str, str, str], list[str]] = {}
    for need in lacking:
        verbs.setdefault((need.group, need.resource, need.name), []).append(need.verb)
    together: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for (group, resource, name), found in verbs.items():
        together.setdefault((group, name, tuple(dict.fromkeys(found))), []).append(resource)
    return [
        f"- {{apiGroups: [{group or chr(34) * 2}], resources: [{', '.join(resources)}]"
        f"{f', resourceNames: [{name}]' if name else ''}, verbs: [{', '.join(found)}]}}"
        for (group, name, found), resources in together.items()
    ]


def _of(work: Iterable[tuple[str, str, tuple[str, ...]]], namespace: str) -> list[Need]:
    return [Need(group, resource, verb, namespace) for group, resource, verbs in work for verb in verbs]


def in_namespace(subject: Subject, rules: list[dict[str, Any]] | None) -> list[Need]:
    """What a deploy needs in its namespace. rules: what the account may do there, None where that is not known."""
    return list(dict.fromkeys([*_objects(subject), *_of(WORK, subject.namespace), *_grants(subject, rules)]))


def _objects(subject: Subject) -> list[Need]:
    """What writing the compiled objects needs."""
    ours = [name.partition(".") for name in _crds(subject)]
    kinds = dict.fromkeys((item["apiVersion"], item["kind"]) for item in subject.compiled.objects)
    needs = []
    for api, kind in kinds:
        group = api.rpartition("/")[0]
        resource = _resource(subject.client, api, kind, [plural for plural, _, of in ours if of == group])
        needs += [Need(group, resource, verb, subject.namespace) for verb in EVERY if (group, resource) != ("", "secrets")]
    return needs


def _resource(client: Client, api: str, kind: str, plurals: list[str]) -> str:
    """A kind's resource: as the server says, or, where it comes with our CRDs, as these do."""
    try:
        return client.path(api, kind).rpartition("/")[2]
    except ApiError as error:
        if error.status != 404:
            raise
    return next((plural for plural in plurals if plural.startswith(kind.lower())), f"{kind.lower()}s")


def _crds(subject: Subject) -> list[str]:
    return [crds.name_of(file) for chart in subject.compiled.charts.values() for file in chart.crds]


def _grants(subject: Subject, rules: list[dict[str, Any]] | None) -> list[Need]:
    """`escalate` and `bind`, where a compiled Role grants what the account has not itself: it could not create it.

    https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping
    """
    roles = [item for item in subject.compiled.objects if item["kind"] == "Role"]
    granted = [
        Need(group, resource, verb, subject.namespace, name)
        for role in roles for rule in role.get("rules") or [] for group in rule.get("apiGroups") or [] for resource in rule.get("resources") or []
        for verb in rule.get("verbs") or [] for name in rule.get("resourceNames") or [""]
    ]  # fmt: skip
    if not roles or (rules is not None and all(covers(rules, need) for need in granted)):
        return []
    bound = any(item["kind"] == "RoleBinding" for item in subject.compiled.objects)
    return [Need(RBAC, "roles", verb, subject.namespace) for verb in ("escalate", *(["bind"] if bound else []))]


def in_cluster(subject: Subject) -> list[Need]:
    """What a deploy needs in the whole cluster."""
    environment, needs = subject.environment, []
    if environment.manage_namespace:
        needs += [Need("", "namespaces", verb, name=subject.namespace if verb != "create" else "") for verb in ("get", "create", "patch")]
    if environment.target.uid:
        needs.append(Need("", "namespaces", "get", name="kube-system"))
    if environment.manage_crds and (names := _crds(subject)):
        needs += [Need("apiextensions.k8s.io", "customresourcedefinitions", verb) for verb in ("get", "list", "watch", "create", "patch")]
        needs += [Need(name.partition(".")[2], name.partition(".")[0], "list") for name in sorted(names)]
    return needs


def _rules(subject: Subject) -> list[dict[str, Any]] | None:
    """What the account may do in the namespace, in one answer; None where the API server cannot list all of it (a webhook decides)."""
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": subject.namespace}}
    client = subject.client

    def ask() -> dict[str, Any]:
        found: dict[str, Any] = client.request("POST", REVIEWS.format("rules"), body)["status"]
        return found

    status = told(lambda: subject.once("the permissions", ask))
    return None if status.get("incomplete") else list(status["resourceRules"])


def covers(rules: Iterable[dict[str, Any]], need: Need) -> bool:
    """Do these rules of an account give a permission?"""
    _, _, sub = need.resource.partition("/")
    resources = {"*", need.resource, *([f"*/{sub}"] if sub else [])}
    return any(
        {"*", need.verb} & set(rule.get("verbs") or ())
        and {"*", need.group} & set(rule.get("apiGroups") or ())
        and resources & set(rule.get("resources") or ())
        and (not rule.get("resourceNames") or need.name in rule["resourceNames"])
        for rule in rules
    )


def _lacking(client: Client, wanted: list[Need], rules: list[dict[str, Any]] | None) -> list[Need]:
    """Those of the permissions that the account has not: by its rules, or each asked for."""
    if rules is not None:
        return [need for need in wanted if not covers(rules, need)]

    def allowed(need: Need) -> bool:
        resource, _, subresource = need.resource.partition("/")
        namespace = need.name if need.resource == "namespaces" else need.namespace  # the API server sees a namespace as in itself
        attributes = {
            "group": need.group, "resource": resource, "subresource": subresource, "verb": need.verb, "namespace": namespace, "name": need.name,
        }  # fmt: skip
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": attributes}}
        return bool(client.request("POST", REVIEWS.format("access"), review)["status"]["allowed"])

    answers = side_by_side([partial(allowed, need) for need in wanted])
    return [need for need, yes in zip(wanted, answers, strict=True) if not yes]
