"""What doctor concludes from what it was told: of versions, clocks, quotas, nodes, classes, hosts, certificates and permissions."""

from __future__ import annotations

import base64
import re
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from syntho_deploy import tools
from syntho_deploy.checks import amounts
from syntho_deploy.checks.amounts import amount
from syntho_deploy.cluster import kubeconfig
from syntho_deploy.cluster.client import ApiError
from syntho_deploy.doctor import cluster, examine, ingress, machine, namespace, nodes, permissions, ray, storage, workloads
from syntho_deploy.doctor.permissions import Need
from syntho_deploy.doctor.subject import Missing, Result, Subject, forbidden
from syntho_deploy.doctor.workloads import Asked
from syntho_deploy.errors import InputError, InputErrors, Mark, PreflightError
from tests.unit.test_certificates import HOST, MIDDLE, OTHER, Authority

ROOT = Path(__file__).resolve().parents[2]
Object = dict[str, Any]


def container(name: str = "c", **resources: Object) -> Object:
    return {"name": name, "image": "i", "resources": resources}


def asked(name: str = "Deployment/core", least: int = 1, most: int | None = None, **spec: Any) -> Asked:
    spec.setdefault("containers", [container(requests={"cpu": "1", "memory": "2Gi"})])
    return Asked(name, spec, {"app": "core"}, least, most or least)


def a_node(name: str = "n", labels: dict[str, str] | None = None, taints: list[Object] | None = None, **room: str) -> Object:
    status = {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"} | room, "conditions": [{"type": "Ready", "status": "True"}]}
    return {"metadata": {"name": name, "labels": labels or {}}, "spec": {"taints": taints or []}, "status": status}


def of(*items: Object) -> list[nodes.Node]:
    return [found for item in items if (found := nodes.node(item))]


def results(*lines: Result) -> str:
    return examine.text("prod", list(lines))


def test_the_worst_comes_first_with_its_remedy_under_it() -> None:
    text = results(Result("helm", "ok", "4.3.1"), Result("nodes", "warning", "full", "add one"), Result("lease", "error", "held", "wait\nor unlock"))
    assert text.splitlines() == [
        "prod: 1 error, 1 warning, 1 ok",
        "error    lease  held",
        "         -> wait",
        "            or unlock",
        "warning  nodes  full",
        "         -> add one",
        "ok       helm   4.3.1",
    ]


def test_what_could_not_be_asked_for_one_reason_is_one_line() -> None:
    gone = [Result(name, "unknown", "not asked, for want of the cluster") for name in ("nodes", "quota", "lease")]
    lines = results(gone[0], Result("tls", "unknown", "the account may not get secrets"), *gone[1:]).splitlines()
    assert lines[1:] == [
        "unknown  3 checks  not asked, for want of the cluster: nodes, quota, lease",
        "unknown  tls       the account may not get secrets",
    ]


def result_of(name: str, check: examine.Check, subject: Any = None) -> list[Result]:
    found: list[Result] = []
    examine._ask(name, check, cast(Subject, subject), found)
    return found


def test_what_a_check_raises_is_its_result() -> None:
    def raising(error: Exception) -> Result:
        def check(subject: Subject) -> Any:
            yield Result("x", "ok", "first")
            raise error

        first, second = result_of("x", check)
        assert first.what == "first"
        return second

    assert raising(Missing("not asked")) == Result("x", "unknown", "not asked")
    assert raising(PreflightError("bad", todo="mend")) == Result("x", "error", "bad", "mend")
    several = raising(InputErrors([InputError("bad", Mark("a.yaml", 2), "mend"), InputError("worse", todo="mend")]))
    assert several == Result("x", "error", "a.yaml:2: bad; worse", "mend")
    words = 'nodes is forbidden: User "a" cannot list resource "nodes" in API group "" at the cluster scope'
    assert raising(ApiError(403, "Forbidden", words, "GET /")).what == "the account may not list nodes"
    assert raising(ApiError(500, "", "sick", "GET /")).state == "unknown"
    assert re.fullmatch(r"a fault of syntho-deploy: KeyError in test_doctor.py:[0-9]+", raising(KeyError("a secret")).what)


def test_a_check_that_does_not_come_to_an_end_keeps_no_other_back(monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()

    def hangs(subject: Subject) -> Any:
        yield Result("hangs", "ok", "first")
        never.wait()

    def ends(subject: Subject) -> Any:
        yield Result("ends", "ok", "well")

    monkeypatch.setattr(examine, "checks", lambda: {"hangs": hangs, "ends": ends})
    monkeypatch.setattr(examine, "PATIENCE", 0.0)
    monkeypatch.setattr(examine, "LOOK", 0.05)
    found = examine.examine(cast(Subject, SimpleNamespace(in_cluster=False)))
    assert [one[:3] for one in found] == [("hangs", "ok", "first"), ("hangs", "unknown", "no end within 0 s"), ("ends", "ok", "well")]
    never.set()


def test_a_fault_of_ours_is_met_once_and_told_in_one_line() -> None:
    subject, tried = Subject(cast(Any, None)), []

    def compiles() -> None:
        tried.append(1)
        raise KeyError("x")

    def check(subject: Subject) -> Any:
        yield subject.once("the compiled charts", compiles)

    found = [one for name in ("a", "b") for one in result_of(name, check, subject)]
    assert len(tried) == 1
    (_, line, _) = examine.text("prod", found).splitlines()
    assert re.match(r"unknown  2 checks  a fault of syntho-deploy: KeyError in test_doctor.py:[0-9]+: a, b", line)


def test_a_missing_permission_is_told_in_short() -> None:
    def told(rest: str) -> str:
        return forbidden(ApiError(403, "", f'x is forbidden: User "u" cannot {rest}', "GET /x"))

    assert told('list resource "pods" in API group "" at the cluster scope') == "the account may not list pods in all namespaces"
    assert (
        told('get resource "leases" in API group "coordination.k8s.io" in the namespace "a"')
        == "the account may not get leases.coordination.k8s.io in a"
    )
    assert forbidden(ApiError(403, "", 'pods "x" is forbidden: violates PodSecurity', "POST /x")) == ""


def test_the_page_has_the_table_of_the_checks() -> None:
    text = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    assert examine.page(text) == text, "python -m syntho_deploy.doctor.examine writes it"


@pytest.mark.parametrize("name", examine.checks())
def test_a_check_says_what_it_asks(name: str) -> None:
    why = re.sub(r"\s+", " ", examine.checks()[name].__doc__ or "").strip()
    assert len(why) > 30
    assert why.endswith((".", ")"))


def test_packages_are_those_of_the_lock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (found,) = machine.python(cast(Subject, None))
    assert found.state == "ok", found
    lock = tmp_path / "requirements.lock"
    lock.write_text("pyyaml==0.1 \\\n    --hash=sha256:00\nno-such-package-for-this-platform==1.0 \\\n")
    monkeypatch.setattr(machine, "LOCK", lock)
    (found,) = machine.python(cast(Subject, None))
    assert found.state == "warning"
    assert "(locked 0.1)" in found.what
    assert "no-such-package" not in found.what


def test_tools_of_a_local_cluster_that_are_missing_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = cast(Subject, SimpleNamespace(environment=SimpleNamespace(target=SimpleNamespace(local="box"))))
    monkeypatch.setattr(machine.local, "status", lambda name: {"provider": "kwok"})
    made = [tools.Status(name, "1", "", None, {}, "") for name in ("kwok", "etcd", "kind")]
    monkeypatch.setattr(machine.tools, "status", lambda: made)
    assert list(machine.local_tools(subject)) == [
        Result("local-tools", "warning", "kwok, etcd of kwok not here", "invoke tools --provision=kwok,etcd")
    ]


def test_who_we_are_is_not_known_to_an_old_server() -> None:
    def told(user: Object) -> Result:
        return next(cluster.account(cast(Subject, SimpleNamespace(connection=SimpleNamespace(user=user)))))

    assert told({}).state == "unknown"
    assert told({"username": "ann", "groups": ["team", "system:authenticated"]}).what == "ann of team"


def test_a_clock_that_is_wrong_is_told() -> None:
    assert machine.skewed(0.9).state == "ok"
    assert machine.skewed(-30).what == "this machine is 30 s ahead of the API server"
    assert machine.skewed(90)[1:3] == ("error", "this machine is 90 s behind the API server")


@pytest.mark.parametrize(
    ("server", "state"), [("https://10.1.2.3:6443", "warning"), ("https://api.internal", "warning"), ("https://api.example.com", "ok")]
)
def test_a_private_api_server_behind_a_proxy_is_told(monkeypatch: pytest.MonkeyPatch, server: str, state: str) -> None:
    for name in machine.PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://me:sec@ret@proxy.example.com:3128")
    client = SimpleNamespace(server=server, proxy="http://me:sec@ret@proxy.example.com:3128")
    (found,) = machine.proxies(cast(Subject, SimpleNamespace(client=client)))
    assert found.state == state
    assert "through http://***@proxy.example.com:3128" in found.what
    assert "ret@" not in str(found)
    assert found.todo == ("" if state == "ok" else f"export NO_PROXY={server.removeprefix('https://').partition(':')[0]}")


@pytest.mark.parametrize(
    ("running", "said", "state"),
    [
        ("v1.31.4", "1.31", "ok"), ("v1.31.4-gke.100", "1.31.1", "ok"), ("v1.32.0", "1.31", "warning"), ("v1.24.9+k3s1", "1.24", "error"),
        ("v1.40.0", "1.40", "warning"),
    ],
)  # fmt: skip
def test_a_version_of_kubernetes_is_held_against_the_environment_and_what_is_supported(running: str, said: str, state: str) -> None:
    found = cluster.versions(running, said, ["1.25", "1.31", "1.37"], "prod.yaml")
    assert found.state == state
    if running == "v1.32.0":
        assert found.todo == 'in envs/prod.yaml, under cluster: kubernetes: "1.32"'


def test_rules_give_what_they_name_and_no_more() -> None:
    rules = [
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "list"]},
        {"apiGroups": ["*"], "resources": ["*/log"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["one"], "verbs": ["get"]},
    ]
    assert permissions.covers(rules, Need("apps", "deployments", "get"))
    assert not permissions.covers(rules, Need("apps", "deployments", "patch"))
    assert not permissions.covers(rules, Need("apps", "statefulsets", "get"))
    assert permissions.covers(rules, Need("", "pods/log", "get"))
    assert not permissions.covers(rules, Need("", "secrets", "get"))
    assert permissions.covers(rules, Need("", "secrets", "get", name="one"))
    assert permissions.covers([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}], Need("", "pods/log", "get"))


def test_rules_that_lack_are_written_together() -> None:
    lacking = [Need("", kind, verb) for kind in ("pods", "services") for verb in ("get", "list")]
    assert permissions.rules_of([*lacking, Need("apps", "deployments", "patch"), Need("", "namespaces", "get", name="a")]) == [
        '- {apiGroups: [""], resources: [pods, services], verbs: [get, list]}',
        "- {apiGroups: [apps], resources: [deployments], verbs: [patch]}",
        '- {apiGroups: [""], resources: [namespaces], resourceNames: [a], verbs: [get]}',
    ]


def test_a_pod_asks_for_its_containers_or_the_largest_that_runs_before_them() -> None:
    main, limit_only = container(requests={"cpu": "1"}), container(limits={"memory": "1Gi"})
    sidecar = container(requests={"cpu": "500m"}) | {"restartPolicy": "Always"}
    spec = {"containers": [main, limit_only], "initContainers": [container(requests={"cpu": "3"}), sidecar], "overhead": {"cpu": "250m"}}
    assert amounts.effective(spec, "requests") == {"cpu": 3.25, "memory": 2.0**30}
    spec["initContainers"] = [sidecar]
    assert amounts.effective(spec, "requests")["cpu"] == 1.75


def test_a_limit_range_gives_what_containers_do_not_say() -> None:
    limits = [{"type": "Container", "default": {"cpu": "2"}, "defaultRequest": {"cpu": "100m", "memory": "1Gi"}}]
    spec = workloads.defaulted({"containers": [container(limits={"memory": "3Gi"})]}, limits)
    assert amounts.effective(spec, "requests") == {"cpu": 0.1, "memory": 3 * 2.0**30}
    assert amounts.effective(spec, "limits") == {"cpu": 2.0, "memory": 3 * 2.0**30}


@pytest.mark.parametrize(
    "text", ["16384256Ki", "2Gi", "1.5Gi", "1Ei", "1E", "250m", "100n", "5u", "1e3", "1E3", "12e-1", ".5", "5.", "+1", "0", "20k", "7P"]
)
def test_an_amount_is_what_kubernetes_reads(text: str) -> None:
    assert amount(text) == pytest.approx(float(kubeconfig.quantity(text)))


@pytest.mark.parametrize("text", ["", "Gi", "1 Gi", "1gi", "1KI", "1_000", "nan", "inf", "1Gi2", "e3", None, True])
def test_what_is_no_quantity_is_no_amount(text: Any) -> None:
    assert amount(text) is None


def test_amounts_are_shown_as_people_write_them() -> None:
    shown = [amounts.shown(*one) for one in (("cpu", 0.25), ("cpu", 4.13), ("memory", 2e9), ("requests.memory", 1.5 * 2**30), ("pods", 12))]
    assert shown == ["250m", "4.13", "2G", "1.5Gi", "12"]


def quota(hard: dict[str, str], used: dict[str, str] | None = None, **spec: Any) -> Object:
    return {"metadata": {"name": "q"}, "spec": {"hard": hard, **spec}, "status": {"used": used or {}}}


def test_a_quota_counts_others_and_what_is_ours_once() -> None:
    full = quota({"cpu": "10", "pods": "5"}, {"cpu": "9", "pods": "4"})
    wanted = {"requests.cpu": 3.0, "pods": 2.0}
    (found,) = namespace.exceeded(full, wanted, {}, {})
    assert found.what.endswith("cpu: 3 beside 9 of others of 10; pods: 2 beside 4 of others of 5")
    (found,) = namespace.exceeded(full, wanted, {"requests.cpu": 3.0, "pods": 2.0}, {})
    assert found == Result("quota", "ok", "q has room; then it is 90% used at most")


def test_a_quota_counts_the_pods_that_its_scopes_select() -> None:
    sized, silent = asked().spec, {"containers": [container()]}
    first, dated = {**sized, "priorityClassName": "first"}, {**sized, "activeDeadlineSeconds": 60}
    near = {**silent, "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "z", "namespaces": ["b"]}]}}}

    def counted(**spec: Any) -> list[Object]:
        selects = namespace.scopes(quota({}, **spec))
        assert selects
        return [one for one in (sized, silent, first, dated, near) if selects(one)]

    def of_priority(operator: str, *values: str) -> list[Object]:
        return counted(scopeSelector={"matchExpressions": [{"scopeName": "PriorityClass", "operator": operator, "values": list(values)}]})

    assert counted() == [sized, silent, first, dated, near]
    assert counted(scopes=["BestEffort"]) == [silent, near]
    assert counted(scopes=["NotBestEffort", "NotTerminating"]) == [sized, first]
    assert counted(scopes=["Terminating"]) == [dated]
    assert counted(scopes=["CrossNamespacePodAffinity"]) == [near]
    assert of_priority("In", "first", "second") == of_priority("Exists") == [first]
    assert of_priority("NotIn", "first") == of_priority("DoesNotExist") == [sized, silent, dated, near]
    assert namespace.scopes(quota({}, scopes=["OfLaterKubernetes"])) is None


def test_a_quota_without_room_for_a_rolling_update_is_told() -> None:
    (found,) = namespace.exceeded(quota({"pods": "9", "requests.cpu": "9"}), {"pods": 9.0, "requests.cpu": 2.0}, {}, {}, {"pods": 2.0})
    assert found.what == "q has no room for the pods that a rolling update adds: pods: 9 and 2 of 9"
    assert found.state == "warning"


@pytest.mark.parametrize(
    ("strategy", "replicas", "surge"),
    [
        ({}, 1, 1),
        ({}, 8, 2),
        ({"rollingUpdate": {"maxSurge": "10%"}}, 11, 2),
        ({"rollingUpdate": {"maxSurge": 0}}, 3, 0),
        ({"type": "Recreate"}, 3, 0),
    ],
)
def test_a_rolling_update_adds_pods(strategy: Object, replicas: int, surge: int) -> None:
    item = {"kind": "Deployment", "metadata": {"name": "a"}, "spec": {"strategy": strategy, "replicas": replicas}}
    assert workloads._surge(item, replicas) == surge
    assert workloads._surge(item | {"kind": "StatefulSet"}, replicas) == 0


def test_claims_have_the_names_that_they_get() -> None:
    template = {"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": "1Gi"}}}}
    several = [{"kind": "StatefulSet", "metadata": {"name": "redis"}, "spec": {"replicas": 2, "volumeClaimTemplates": [template]}}]
    assert [one["metadata"]["name"] for one in storage.claims_of(several)] == ["data-redis-0", "data-redis-1"]
    assert storage.is_claim(several, "data-redis-7")
    assert not storage.is_claim(several, "data-redis-other-0")
    assert not storage.is_claim(several, "data-redis")


def test_a_class_that_makes_no_volumes_needs_some_that_are_free() -> None:
    local = storage_class("local", "kubernetes.io/no-provisioner")

    def volume(size: str, *modes: str) -> Object:
        return {"spec": {"capacity": {"storage": size}, "accessModes": list(modes)}}

    def asks(name: str, size: str, mode: str = "ReadWriteOnce") -> Object:
        return {"metadata": {"name": name}, "spec": {"accessModes": [mode], "resources": {"requests": {"storage": size}}}}

    two, once = [asks("a", "1Gi"), asks("b", "5Gi")], "ReadWriteOnce"
    assert storage.of_class("local", two, local, {}, lambda name: [volume("9Gi", once), volume("1Gi", once)], two).state == "ok"
    found = storage.of_class("local", two, local, {}, lambda name: [volume("9Gi", once)], two)
    assert found.what == "local makes no volumes itself, and none of the 1 that wait for a claim is right for a"
    assert storage.of_class("local", two, local, {}, lambda name: [volume("2Gi", once)] * 2, two).what.endswith("is right for b")
    shared = [asks("c", "1Gi", "ReadWriteMany")]
    assert storage.of_class("local", shared, local, {}, lambda name: [volume("2Gi", once)], shared).what.endswith("is right for c")
    assert storage.of_class("local", shared, local, {}, lambda name: [volume("2Gi", once, "ReadWriteMany")], shared).state == "ok"  # of NFS, say
    assert storage.of_class("local", two, local, {}, lambda name: [], []).state == "ok"  # they have theirs
    assert storage.of_class("local", two, local, {}, lambda name: None, two).state == "ok"  # which may not be seen


def test_limits_are_at_least_at_most_and_a_ratio() -> None:
    pod = asked(containers=[container(requests={"cpu": "100m"}, limits={"cpu": "1", "memory": "2Gi"})])
    claim = {"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": "10Gi"}}}}

    def told(**limit: Any) -> list[str]:
        return namespace.outside([{"type": "Container", **limit}], [pod], [claim])

    assert told(min={"cpu": "50m"}, max={"memory": "2Gi"}, maxLimitRequestRatio={"cpu": "10"}) == []
    assert told(min={"cpu": "200m"}) == ["Deployment/core c: asks for 100m of cpu, less than 200m"]
    assert told(max={"memory": "1Gi"}) == ["Deployment/core c: may take 2Gi of memory, more than 1Gi"]
    assert told(max={"ephemeral-storage": "1Gi"}) == ["Deployment/core c: has no limit of ephemeral-storage, at most 1Gi is allowed"]
    assert told(maxLimitRequestRatio={"cpu": "4"}) == ["Deployment/core c: its limit of cpu is 10 times its request, more than 4"]
    silent = asked(containers=[container()])
    words = ["Deployment/core c: has no request of cpu, and their ratio may be 2 at most"]
    assert namespace.outside([{"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}}], [silent], []) == words
    assert told(type="Pod", max={"cpu": "500m"}) == ["Deployment/core: may take 1 of cpu, more than 500m"]
    assert told(type="PersistentVolumeClaim", max={"storage": "5Gi"}) == ["data: may take 10Gi of storage, more than 5Gi"]


def why(pod: Asked, *items: Object, largest: dict[str, str] | None = None) -> list[tuple[str, str]]:
    return [(state, what) for state, what, _ in nodes.misfits([pod], of(*items), largest or {})]


def test_a_pod_fits_a_node_with_its_labels_its_taints_and_its_size() -> None:
    gpu = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}
    assert why(asked(), a_node()) == []
    assert why(asked(), a_node(cpu="3920m", memory="16384256Ki", **{"ephemeral-storage": "47093746742"})) == []  # as kubelets write it
    assert why(asked(nodeSelector={"disk": "ssd"}), a_node()) == [("error", "Deployment/core fits no node: no label disk=ssd (1 of 1 nodes)")]
    assert why(asked(nodeSelector={"disk": "ssd"}), a_node(labels={"disk": "ssd"})) == []
    assert why(asked(), a_node(taints=[gpu])) == [
        ("error", "Deployment/core fits no node: the taint gpu=yes:NoSchedule is not tolerated (1 of 1 nodes)")
    ]
    assert why(asked(), a_node(taints=[gpu | {"effect": "PreferNoSchedule"}])) == []
    large = asked(containers=[container(requests={"memory": "16Gi"})])
    assert why(large, a_node()) == [("error", "Deployment/core fits no node: 16Gi memory asked, 8Gi there (1 of 1 nodes)")]
    assert why(large, a_node(), largest={"memory": "64Gi"})[0][0] == "warning"  # such a node may come


def test_pods_that_must_be_apart_need_as_many_nodes() -> None:
    rule = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "core"}}}
    three = asked(least=3, affinity={"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [rule]}})
    several = [a_node(name, {"kubernetes.io/hostname": name, "zone": "a"}, cpu="99", memory="99Gi") for name in "abc"]
    assert why(three, *several) == []
    assert [state for state, _ in why(three, *several[:2])] == ["warning"]
    rule["labelSelector"] = {"matchLabels": {"app": "other"}}
    assert why(three, *several[:1]) == []
    rule |= {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "core"}}}
    assert [state for state, _ in why(three, *several)] == ["warning"]


@pytest.mark.parametrize(
    "toleration",
    [
        {"operator": "Exists"},
        {"key": "gpu", "operator": "Exists"},
        {"key": "gpu", "value": "yes"},
        {"key": "gpu", "value": "yes", "effect": "NoSchedule"},
    ],
)
def test_a_toleration_lets_a_pod_in(toleration: Object) -> None:
    taint = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}
    assert why(asked(tolerations=[toleration]), a_node(taints=[taint])) == []
    assert why(asked(tolerations=[toleration | {"effect": "NoExecute"}]), a_node(taints=[taint])) != []


@pytest.mark.parametrize(
    ("rule", "fits"),
    [
        ({"key": "zone", "operator": "In", "values": ["a", "b"]}, True), ({"key": "zone", "operator": "NotIn", "values": ["a"]}, False),
        ({"key": "zone", "operator": "Exists"}, True), ({"key": "zone", "operator": "DoesNotExist"}, False),
        ({"key": "size", "operator": "Gt", "values": ["3"]}, True), ({"key": "size", "operator": "Lt", "values": ["3"]}, False),
    ],
)  # fmt: skip
def test_a_node_affinity_is_one_of_its_terms(rule: Object, fits: bool) -> None:
    required = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "none", "operator": "Exists"}]}, {"matchExpressions": [rule]}]}
    pod = asked(affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}})
    assert (why(pod, a_node(labels={"zone": "a", "size": "4"})) == []) is fits


def test_room_is_what_others_leave_and_is_given_once() -> None:
    busy = of(a_node(), a_node("m"))
    busy[0].taken = {"cpu": 3.5}
    assert list(nodes.misfits([asked(least=4)], busy, {})) == []
    assert why(asked(least=9), a_node(), a_node("m")) == [("warning", "no room is left for Deployment/core (1 cpu, 2Gi memory)")]
    assert why(asked(least=1, most=20), a_node())[0][1].endswith("when Ray's autoscaler asks for all of them")
    assert why(asked(), a_node(pods="0")) == [("warning", "no room is left for Deployment/core (1 cpu, 2Gi memory)")]


def test_a_node_that_is_not_ready_or_cordoned_takes_no_pod() -> None:
    cordoned, sick = a_node(), a_node()
    cordoned["spec"]["unschedulable"] = True
    sick["status"]["conditions"] = [{"type": "Ready", "status": "Unknown"}]
    assert of(cordoned, sick) == []


def claim(name: str = "data", mode: str = "ReadWriteOnce") -> Object:
    return {"metadata": {"name": name}, "spec": {"accessModes": [mode]}}


def storage_class(name: str, provisioner: str = "x", default: bool = False, **more: Any) -> dict[str, Object]:
    annotations = {storage.DEFAULT: "true"} if default else {}
    return {name: {"metadata": {"name": name, "annotations": annotations}, "provisioner": provisioner, **more}}


def test_a_storage_class_is_there_and_serves_the_modes() -> None:
    disk, files = storage_class("disk", "disk.csi.azure.com"), storage_class("files", "file.csi.azure.com")
    shared = [claim("ray", "ReadWriteMany")]
    assert storage.of_class("disk", [claim()], disk | files, {}).state == "ok"
    assert storage.of_class("files", shared, disk | files, {}).state == "ok"
    assert "its provisioner is disk.csi.azure.com" in storage.of_class("disk", shared, disk | files, {}).what
    assert storage.of_class("disk", shared, disk, {"disk": ("ReadWriteMany",)}).state == "ok"  # the environment knows better
    assert "as the environment says" in storage.of_class("files", shared, files, {"files": ("ReadWriteOnce",)}).what
    missing = storage.of_class("fast", [claim()], disk | files, {})
    assert (missing.state, missing.todo) == ("error", "component storage-class with one that is there: disk, files")


def test_without_a_class_there_is_one_default() -> None:
    one, other = storage_class("a", default=True), storage_class("b", default=True)
    assert storage.of_class(None, [claim()], one, {}).what.startswith("a: x, binds at once")
    assert storage.of_class(None, [claim()], one | other, {}).state == "warning"
    assert storage.of_class(None, [claim()], storage_class("c"), {}).what == "data names no class, and none is the default"


def ingress_class(name: str, controller: str = "k8s.io/x", default: bool = False) -> Object:
    return {"metadata": {"name": name, "annotations": {ingress.DEFAULT: "true"} if default else {}}, "spec": {"controller": controller}}


def test_an_ingress_has_a_class_with_a_controller() -> None:
    assert ingress.of_class("i", "nginx", [ingress_class("nginx")]).what == "nginx, of k8s.io/x"
    assert ingress.of_class("i", "nginx", [ingress_class("nginx", "")]).state == "error"
    assert ingress.of_class("i", "nginx", [ingress_class("traefik")]).todo.startswith("set the variable ingress_class (there is: traefik)")
    assert ingress.of_class("i", None, [ingress_class("a", default=True), ingress_class("b")]).state == "ok"
    assert ingress.of_class("i", None, [ingress_class("a")]).what == "i names no class, and none is the default"


def an_ingress(name: str, namespace: str, *pairs: tuple[str, str]) -> Object:
    rules = [{"host": host, "http": {"paths": [{"path": path}]}} for host, path in pairs]
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"rules": rules}}


def test_a_host_and_path_of_another_ingress_is_taken() -> None:
    ours = an_ingress("site", "syntho", ("a.example.com", "/"), ("a.example.com", "/api"))
    others = [an_ingress("site", "other", ("a.example.com", "/")), an_ingress("more", "syntho", ("b.example.com", "/"), ("a.example.com", "/x"))]
    assert ingress.conflicts([ours], [ours, *others], "syntho") == {("a.example.com", "/"): "other/site"}


def test_a_host_leads_to_the_ingress() -> None:
    assert ingress.resolved("a.example.com", ["10.0.0.1"], {"10.0.0.1": []}).what == "a.example.com is 10.0.0.1, as its Ingress"
    assert ingress.resolved("a.example.com", ["10.0.0.1"], {}).state == "ok"
    assert ingress.resolved("a.example.com", ["10.0.0.1"], {"lb.example.com": ["10.0.0.1", "10.0.0.2"]}).state == "ok"
    elsewhere = ingress.resolved("a.example.com", ["10.0.0.1"], {"10.0.0.9": []})
    assert elsewhere[1:3] == ("warning", "a.example.com is 10.0.0.1, and its Ingress is at 10.0.0.9")
    assert ingress.resolved("a.example.com", [], {"10.0.0.9": []}).todo == "have an entry made: a.example.com -> 10.0.0.9"
    assert ingress.resolved("a.example.com", None, {}).state == "unknown"
    assert ingress.resolved("syntho.localhost", [], {}).state == "ok"


def tls_secret(certificate: str, key: str, kind: str = "kubernetes.io/tls") -> Object:
    data = {name: base64.b64encode(text.encode()).decode() for name, text in (("tls.crt", certificate), ("tls.key", key))}
    return {"metadata": {"name": "site-tls"}, "type": kind, "data": data}


def test_a_tls_secret_has_the_type_the_names_the_time_and_the_key() -> None:
    def told(authority: Authority, *names: str, days: int = 365, key: str = "", kind: str = "kubernetes.io/tls") -> tuple[str, str]:
        certificate, own = authority.issue(*names, days=days)
        found = ingress.of_secret(tls_secret(certificate + authority.certificate, key or own, kind), [HOST])
        return found.state, found.what

    assert told(MIDDLE, HOST)[0] == "ok"
    assert told(MIDDLE, "*.example.com")[0] == "ok"
    assert told(MIDDLE, HOST, days=20)[0] == "warning"
    assert "does not cover syntho.example.com" in told(MIDDLE, "other.example.com")[1]
    assert "expired" in told(MIDDLE, HOST, days=-1)[1]
    assert "not that of the certificate" in told(MIDDLE, HOST, key=OTHER.issue(HOST)[1])[1]
    assert "has the type Opaque" in told(MIDDLE, HOST, kind="Opaque")[1]
    assert ingress.of_secret(tls_secret("nothing", "nothing"), [HOST]).state == "error"


def operator(*words: str, image: str = "quay.io/kuberay/operator:v1.4.2", name: str = "op") -> Object:
    spec = {"template": {"spec": {"containers": [{"name": "c", "image": image, "args": list(words)}]}}}
    return {"metadata": {"name": name, "namespace": "ray"}, "spec": spec}


def test_an_operator_is_known_by_its_image_or_its_name() -> None:
    mine = "registry.example.com:5000/syntho-ray-operator"
    assert ray.is_operator(operator(), mine)
    assert ray.is_operator(operator(image=f"{mine}:1.9.7@sha256:00"), mine)
    assert ray.is_operator(operator(image="other:1", name="kuberay-operator"), mine)
    assert not ray.is_operator(operator(image="registry.example.com:5000/backend:1"), mine)


def test_an_operator_watches_all_or_what_it_is_told() -> None:
    assert ray.watches(operator(), "a")
    assert ray.watches(operator("-watch-namespace", "a", "-forced-cluster-upgrade", "true"), "a")
    assert not ray.watches(operator("-watch-namespace", "b"), "a")
    assert ray.watches(operator("--watch-namespace=b,a"), "a")
    assert ray.watches(operator("--watch-namespace="), "a")


@pytest.mark.parametrize("url", ["http://user:word@proxy:3128", "user:word@proxy:3128", "socks5h://us:wo/rd@proxy:1"])
def test_a_proxys_password_is_not_shown(url: str) -> None:
    assert machine._without_password(url).endswith(("***@proxy:3128", "***@proxy:1"))
    assert "wo" not in machine._without_password(url)


def test_an_ingress_of_another_controller_or_a_canary_takes_no_host() -> None:
    def item(name: str, kind: str = "", **annotations: str) -> Object:
        rule = {"host": "a.example.com", "http": {"paths": [{"path": "/"}]}}
        spec = {"rules": [rule], **({"ingressClassName": kind} if kind else {})}
        return {"metadata": {"name": name, "namespace": "other", "annotations": annotations}, "spec": spec}

    ours = [item("ours", "public")]
    assert ingress.conflicts(ours, [item("internal", "internal"), item("canary", "public", **{ingress.CANARY: "true"})], "syntho") == {}
    taken = ingress.conflicts(ours, [item("same", "public"), item("old", **{ingress.OLD: "public"}), item("any")], "syntho")
    assert taken == {("a.example.com", "/"): "other/same, other/old, other/any"}


def test_a_class_of_volumes_that_are_there_needs_no_object() -> None:
    assert storage.of_class("manual", [claim()], {}, {}, lambda name: [{}]).state == "warning"
    assert storage.of_class("manual", [claim()], {}, {}).state == "error"


def test_a_helm_that_cannot_be_had_is_an_error() -> None:
    class Place:
        @property
        def helm(self) -> None:
            raise PreflightError("helm is not here", todo="invoke tools --provision=helm")

    subject = cast(Subject, SimpleNamespace(place=Place()))
    assert result_of("helm", machine.helm, subject) == [Result("helm", "error", "helm is not here", "invoke tools --provision=helm")]
