"""A plan says what the next deploy changes, and nothing else: random changes of overlays and by other hands, compared with what became
of every object of the namespace, field by field.

SYNTHO_TEST_PLANS: how many plans for each kind of release, more than the few of a normal run; SYNTHO_TEST_SEED: where they begin.
A failure names the seed of its plan.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from syntho_deploy import diff, release
from syntho_deploy import helm as helms
from syntho_deploy import plan as planning
from syntho_deploy.cluster import preflight
from syntho_deploy.cluster.client import ApiError, Client, Object
from syntho_deploy.cluster.predict import CHOSEN
from syntho_deploy.compile import KEEP, Compiled
from syntho_deploy.errors import DeployError, InputError, PreflightError
from syntho_deploy.overlays.pointer import identity
from syntho_deploy.redact import MASK
from syntho_deploy.secrets.sentinels import label
from syntho_deploy.steps import Steps
from tests.conftest import write_files
from tests.e2e import hands
from tests.e2e.site import Site
from tests.e2e.test_plan import _settled

Objects = dict[str, Object]
SEED, PLANS = (int(os.environ.get(f"SYNTHO_TEST_{name}", default)) for name, default in (("SEED", "1"), ("PLANS", "0")))
SERVERS_OWN = ("Pod", "ReplicaSet", "Event", "Endpoints", "EndpointSlice", "ControllerRevision", "Lease")  # made by controllers, or our lock
RELEASE, RECORD = "helm.sh/release.v1", "syntho-deploy/record.v1"
OTHERS = ("kubectl-edit", "flux", "argocd-controller")


def everything(site: Site, kinds: list[tuple[str, str]]) -> Objects:
    """Every object of the namespace that a person or a tool makes."""
    client = site.client()
    found = [item for kind in kinds for item in client.objects(*kind, site.namespace)]
    mine = [item for item in found if item.get("type") != RELEASE and not item.get("type", "").startswith("syntho") and not _servers(item)]
    return {label(item): item for item in mine}


def _servers(item: Object) -> bool:
    return (item["kind"], item["metadata"]["name"]) in (("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default"))


def namespaced_kinds(site: Site) -> list[tuple[str, str]]:
    """(apiVersion, kind) of all that can be in a namespace, each in one version."""
    client, found = site.client(), []
    groups = client.request("GET", "/apis")["groups"]
    for version in ["v1", *(group["preferredVersion"]["groupVersion"] for group in groups)]:
        served = client.request("GET", f"/apis/{version}" if "/" in version else f"/api/{version}")["resources"]
        kinds = {item["kind"] for item in served if item["namespaced"] and "list" in item["verbs"] and "/" not in item["name"]}
        found += [(version, kind) for kind in sorted(kinds) if kind not in SERVERS_OWN and not version.startswith("ray.io")]
    return [*found, ("ray.io/v1alpha1", "RayCluster")]


# -- what the plan said, and what became of it ---------------------------------------------------------------------------------


def lies(before: Objects, plan: dict[str, Any], after: Objects) -> list[str]:
    """All in which a plan (as JSON) and what happened are not the same."""
    said = {item["object"]: item for item in plan["objects"]}
    secrets = {text.split(" ")[0] for text in plan["secrets"]}
    found = [f"{name} was planned, and is not there" for name in said if name not in before and name not in after]
    for name in sorted({*before, *after}):
        kind, _, of = name.partition("/")
        if kind == "Secret" and name not in said:
            happened = before.get(name, {}).get("data") != after.get(name, {}).get("data")
            found += [f"{name}: planned {of in secrets}, happened {happened}"] * (happened != (of in secrets))
            continue
        if kind == "PersistentVolumeClaim" and name not in {*said, *before}:
            continue  # of a new pod of a StatefulSet: its controller makes it
        planned = said.get(name, {"action": "unchanged", "changes": []})
        happened_to = _happened(before.get(name), after.get(name))
        expected = {"keep": ("update", "unchanged"), "conflict": (), "refused": ()}.get(planned["action"], (planned["action"],))
        if happened_to not in expected and not (planned["action"] == "update" and planned.get("pods") and not planned["changes"]):
            found.append(f"{name}: planned {planned['action']}, happened {happened_to} {_fields(before.get(name), after.get(name))}")
        if name in before and name in after:
            found += [f"{name}: {text}" for text in _wrong_fields(before[name], planned["changes"], after[name])]
    return found


def thefts(before: Objects, plan: dict[str, Any], after: Objects) -> list[str]:
    """The fields that another manager owned and does not any more, though the plan did not name them."""
    found = []
    for item in plan["objects"]:
        name, named = item["object"], [(one["owner"], one["field"]) for one in item["conflicts"]]
        if name not in before or name not in after or before[name]["metadata"]["uid"] != after[name]["metadata"]["uid"]:
            continue
        for owner, field in sorted(_owned(before[name]) - _owned(after[name])):
            if not any(owner == who and f"{field}.".startswith((f"{what}.", f"{what}[")) for who, what in named):
                found.append(f"{name}: {field} was taken from {owner}, which was not planned")
    return found


def _owned(item: Object) -> set[tuple[str, str]]:
    """(manager, field) of all that others than helm own, a field as the API server writes it in a conflict."""
    entries = [entry for entry in item["metadata"].get("managedFields") or [] if entry["manager"] in OTHERS]
    return {(entry["manager"], path) for entry in entries for path in _owned_paths(entry["fieldsV1"], "")}


def _owned_paths(fields: Object, path: str) -> Iterator[str]:
    for key, inner in fields.items():
        if key.startswith("f:"):
            place = f"{path}.{key[2:]}"
        elif key.startswith("k:"):
            place = f"{path}[{','.join(f'{name}={json.dumps(value)}' for name, value in sorted(json.loads(key[2:]).items()))}]"
        else:
            continue
        if inner:
            yield from _owned_paths(inner, place)
        else:
            yield place


def _happened(before: Object | None, after: Object | None) -> str:
    if before is None:
        return "create"
    if after is None:
        return "delete"
    if before["metadata"]["uid"] != after["metadata"]["uid"]:
        return "replace"
    return "unchanged" if diff.stable(before) == diff.stable(after) else "update"


def _fields(before: Object | None, after: Object | None) -> list[str]:
    if before is None or after is None:
        return []
    return [f"{path}: {old!r} -> {new!r}" for path, (old, new) in sorted(leaves(diff.stable(before), diff.stable(after)).items())]


def leaves(one: Any, other: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    """The leaves that differ, lists compared by index: a comparison of our own, not that of the product."""
    if one == other:
        return {}
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted({*one, *other})
        return {name: pair for key in keys for name, pair in leaves(one.get(key), other.get(key), f"{path}/{key}").items()}
    if isinstance(one, list) and isinstance(other, list):
        pairs = [(one[at] if at < len(one) else None, other[at] if at < len(other) else None) for at in range(max(len(one), len(other)))]
        return {name: pair for at, (left, right) in enumerate(pairs) for name, pair in leaves(left, right, f"{path}/{at}").items()}
    return {path: (one, other)}


def _wrong_fields(before: Object, changes: list[dict[str, Any]], after: Object) -> list[str]:
    """What is left of the difference when the planned changes are made in the object that was there."""
    made, wrong = diff.stable(copy.deepcopy(before)), []
    end = diff.stable(copy.deepcopy(after))
    numbered = [change for change in changes if change["after"] == diff.ABSENT and change["path"].rpartition("/")[2].isdigit()]
    for change in [*(one for one in changes if one not in numbered), *reversed(numbered)]:
        try:
            old = _put(made, change["path"], change["after"], end)
        except (KeyError, ValueError, IndexError) as error:
            wrong.append(f"planned {change}, and there is no such place ({error!r})")
            continue
        if not _same(old, change["before"]):
            wrong.append(f"planned {change}, and it was {old!r}")
    told = {change["path"] for change in changes}
    wrong += [f"not planned: the order of {path}" for path in _reordered(diff.stable(before), end) if path not in told]
    return wrong + [f"not planned: {path}: {old!r} -> {new!r}" for path, (old, new) in leaves(_sorted(made), _sorted(end)).items()]


def _same(real: Any, told: Any) -> bool:
    """Is this the value that was told, what is masked aside?"""
    if told in (MASK, CHOSEN):
        return True
    if isinstance(real, dict) and isinstance(told, dict):
        return {*real} - {"name"} == {*told} - {"name"} and all(_same(real[key], value) for key, value in told.items())
    if isinstance(real, list) and isinstance(told, list):
        return len(real) == len(told) and all(map(_same, real, told))
    return bool(real == told)


def _put(item: Any, path: str, value: Any, end: Any) -> Any:
    """Set a value at a path of a change; what is masked comes from `end`. Returns what was there."""
    parts = [part.replace("~1", "/").replace("~0", "~") for part in _split(path)]
    for at, part in enumerate(parts):
        last, other = at == len(parts) - 1, None
        if isinstance(item, list) and part.startswith("["):
            name, _, text = part[1:-1].partition("=")
            number = next((n for n, one in enumerate(item) if str(one.get(name)) == text), len(item))
            other = next((one for one in end if str(one.get(name)) == text), None) if isinstance(end, list) else None
        elif isinstance(item, list):
            number = int(part)
            other = end[number] if isinstance(end, list) and number < len(end) else None
        else:
            other = end.get(part) if isinstance(end, dict) else None
        key: Any = number if isinstance(item, list) else part
        if not last:
            item, end = item[key], other
            continue
        there = item[key] if (key < len(item) if isinstance(item, list) else key in item) else diff.ABSENT
        new = _unmasked(value, other)
        if isinstance(item, list) and part.startswith("[") and isinstance(new, dict):
            new = {**({"name": other["name"]} if isinstance(other, dict) and "name" in other else {}), **new}
        if new == diff.ABSENT:
            if there != diff.ABSENT:
                del item[key]
        elif isinstance(item, list) and key == len(item):
            item.append(new)
        elif _is_order(there, new):
            there = [str(one[identity(there)]) for one in there]
        else:
            item[key] = new
        return there
    raise KeyError(path)


def _is_order(there: Any, new: Any) -> bool:
    """Is this change only of the order of a list whose items have names? It is told by the names."""
    return isinstance(there, list) and isinstance(new, list) and bool(identity(there)) and bool(new) and all(isinstance(one, str) for one in new)


def _sorted(value: Any) -> Any:
    """The value with the items of lists sorted, where they have names."""
    if isinstance(value, dict):
        return {key: _sorted(one) for key, one in value.items()}
    if not isinstance(value, list):
        return value
    name = identity(value)
    return [_sorted(one) for one in (sorted(value, key=lambda one: str(one[name])) if name else value)]


def _reordered(one: Any, other: Any, path: str = "") -> list[str]:
    """The paths of lists in which what is in both has another order."""
    if isinstance(one, dict) and isinstance(other, dict):
        both = [key for key in one if key in other]
        return [found for key in both for found in _reordered(one[key], other[key], f"{path}/{key.replace('~', '~0').replace('/', '~1')}")]
    if not (isinstance(one, list) and isinstance(other, list) and (name := identity(one)) and identity(other) == name):
        return []
    left, right = ({str(item[name]): item for item in items} for items in (one, other))
    inside = [found for key in left if key in right for found in _reordered(left[key], right[key], f"{path}/[{name}={key.replace('/', '~1')}]")]
    return [path] * ([key for key in left if key in right] != [key for key in right if key in left]) + inside


def _split(path: str) -> list[str]:
    """The segments of a pointer; a slash inside of `[mountPath=/x]` is written as ~1."""
    return path.split("/")[1:]


def _unmasked(value: Any, real: Any) -> Any:
    if value in (MASK, CHOSEN):
        return real
    if isinstance(value, dict) and isinstance(real, dict):
        return {key: _unmasked(one, real.get(key)) for key, one in value.items()}
    if isinstance(value, list) and isinstance(real, list) and len(value) == len(real):
        return [_unmasked(one, other) for one, other in zip(value, real, strict=True)]
    return value


# -- random changes ------------------------------------------------------------------------------------------------------------

VALUES: list[dict[str, Any]] = [
    {"op": "replace", "path": "/core/image/tag", "value": "2.0.0"},
    {"op": "replace", "path": "/frontend/replicaCount", "value": 2},
    {"op": "add", "path": "/backend/env", "value": {"EXTRA": "1"}},
    {"op": "replace", "path": "/core/database_enabled", "value": False},
    {"op": "remove", "path": "/frontend/ingress/annotations/nginx.ingress.kubernetes.io~1affinity"},
    {"op": "replace", "path": "/core/port", "value": 9090},
    {"op": "replace", "path": "/backend/image/tag", "value": "2.0.1"},
]
RAY_VALUES: list[dict[str, Any]] = [
    {"op": "replace", "path": "/head/containerEnv/[name=RAY_SCHEDULER_SPREAD_THRESHOLD]/value", "value": "0.5"},
    {"op": "replace", "path": "/image/tag", "value": "2.0.0-cpu"},
]
TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "frontend"}
MORE = {
    "HorizontalPodAutoscaler": {
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "extra"},
        "spec": {"scaleTargetRef": TARGET, "minReplicas": 1, "maxReplicas": 5},
    },
    "NetworkPolicy": {
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "extra"},
        "spec": {"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]},
    },
    "PodDisruptionBudget": {
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "extra"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "core"}}},
    },
    "ConfigMap": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "extra"}, "data": {"a": "b"}},
    "Service": {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "extra"}, "spec": {"selector": {"app": "core"}, "ports": [{"port": 99}]}},
    "Deployment": {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "extra"},
        "spec": {
            "selector": {"matchLabels": {"app": "extra"}},
            "template": {"metadata": {"labels": {"app": "extra"}}, "spec": {"containers": [{"name": "a", "image": "a:1"}]}},
        },
    },
}  # fmt: skip


def change_overlays(rng: random.Random, site: Site, base: Compiled) -> str:
    """Other overlays for the environment, of random changes. Returns what was chosen."""
    shutil.rmtree(site.root / "overlays" / site.name, ignore_errors=True)
    values = rng.sample(VALUES, rng.choice([0, 0, 1, 2]))
    chart_of = {label(item): name for name, chart in base.charts.items() for item in chart.objects}
    patches: dict[str, list[dict[str, Any]]] = {}
    gone = ("postgres", "database-data-1") if any(one["path"] == "/core/database_enabled" for one in values) else ()
    for item in rng.sample([one for one in base.objects if one["metadata"]["name"] not in gone], rng.choice([0, 1, 2, 4])):
        if (item["metadata"].get("annotations") or {}).keys() == {KEEP}:  # not in the chart: the compile adds it
            item = {**item, "metadata": {key: value for key, value in item["metadata"].items() if key != "annotations"}}
        target = {"kind": item["kind"], "name": item["metadata"]["name"]}
        if item["kind"] in ("Service", "Ingress", "ConfigMap", "Role") and rng.random() < 0.1 and item["metadata"]["name"] != "redis-configuration":
            patches.setdefault(chart_of[label(item)], []).append({"target": target, "delete": True})
            continue
        new = hands.edited(rng, item)
        if item["kind"] == "Deployment" and rng.random() < 0.15:
            for part in (new["spec"]["selector"]["matchLabels"], new["spec"]["template"]["metadata"]["labels"]):
                part["selected"] = rng.choice(["a", "b"])
        if operations := [{**one, "overrides": True} for one in hands.operations(item, new)]:
            patches.setdefault(chart_of[label(item)], []).append({"target": target, "patch": operations})
    if ray := rng.sample(RAY_VALUES, rng.choice([0, 0, 1, 2])):
        _write(site, "ray.values.yaml", ray)
    if values:
        _write(site, "syntho-ui.values.yaml", values)
    for chart, found in patches.items():
        _write(site, f"{chart}.manifests.yaml", found)
    for kind in rng.sample(list(MORE), rng.choice([0, 0, 1, 2])):
        item = copy.deepcopy(MORE[kind])
        hands.metadata(rng, item)
        if rng.random() < 0.3:
            item["metadata"]["annotations"] = {**(item["metadata"].get("annotations") or {}), KEEP: "keep"}
        _write(site, f"syntho-ui.objects/{kind}.yaml", item)
    return f"values {[*values, *ray]}, manifests {patches}, objects {sorted((site.root / 'overlays' / site.name).glob('*/*'))}"


def _write(site: Site, name: str, content: Any) -> None:
    """A file of the environment's overlay, as JSON, whose texts every reader of YAML takes for the same."""
    write_files(site.root / "overlays" / site.name, {name: json.dumps(content)})


def by_other_hands(rng: random.Random, site: Site, compiled: Compiled) -> list[str]:
    """Random writes of other managers on the live objects of the environment."""
    client, done = site.client(), []
    if rng.random() < 0.15:
        chart = rng.choice(list(compiled.charts.values()))
        with contextlib.suppress(AssertionError):  # it fails half-way where the API server refuses an object, as a volume that shrinks
            site.helm("upgrade", chart.release.name, str(chart.write(site.root / "by-hand" / chart.name)), program="helm3")
        done.append(f"helm3 upgrade {chart.release.name}")
    for item in rng.sample(compiled.objects, rng.choice([0, 1, 2, 4])):
        live = client.get(item["apiVersion"], item["kind"], site.namespace, item["metadata"]["name"])
        if live is None or live["kind"] == "PersistentVolumeClaim":
            continue
        if live["kind"] in ("Service", "Ingress", "Deployment", "Role") and rng.random() < 0.1:
            client.delete(item["apiVersion"], item["kind"], site.namespace, item["metadata"]["name"])
            done.append(f"deleted {label(item)}")
            continue
        live["metadata"].pop("managedFields")
        new, manager = hands.edited(rng, live), rng.choice(OTHERS)
        try:
            if manager == "kubectl-edit":
                hands.update(client, new, manager)
            else:
                hands.apply(client, live, new, manager)
        except ApiError as error:
            if error.status not in (409, 422):
                raise
            continue  # no such change is possible
        done.append(f"{manager} {label(item)} {list(leaves(live, new))}")
    return done


# -- the property --------------------------------------------------------------------------------------------------------------


class Told:
    """One environment on which plan after plan is told and deployed."""

    def __init__(self, site: Site, eventually: Callable[..., Any]) -> None:
        self.site, self.eventually = site, eventually
        self.base = site.compile()
        self.counts: dict[str, int] = {}

    def one(self, seed: str) -> None:
        """Random changes, a plan, a deploy, and a look at all that is there."""
        rng, site = random.Random(seed), self.site
        self.eventually(lambda: _settled(site))
        overlays = change_overlays(rng, site, self.base)
        touched = by_other_hands(rng, site, self.base)
        story = f"\nseed {seed}\noverlays: {overlays}\nother hands: {touched}"
        try:
            compiled = site.compile()
        except InputError as error:
            raise AssertionError(f"{error}{story}") from None
        self.eventually(lambda: _settled(site))
        kinds = namespaced_kinds(site)
        before = everything(site, kinds)
        client = preflight.connect(compiled.environment, print)
        plan = planning.make(client, compiled)
        way = release.Way(helms.find(print), 120)
        told = planning.as_json(plan)
        if plan.blocked:
            self._refuses(plan, client, compiled, way, before, story)
            plan = planning.make(client, compiled, force_conflicts=True)
            told, way = planning.as_json(plan), release.Way(helms.find(print), 120, force_conflicts=True)
        if plan.blocked:  # not for a conflict
            self._refuses(plan, client, compiled, way, before, story)
            return
        for item in plan.objects:
            self._count(item.action)
        try:
            release.deploy(client, compiled, Steps(), way)
        except DeployError as error:
            raise AssertionError(f"{error}\n{planning.text(plan)}{story}") from None
        self.eventually(lambda: _settled(site))
        after = everything(site, kinds)
        found = lies(before, told, after) + thefts(before, told, after)
        assert not found, "\n".join([*found, story, planning.text(plan)])
        again = planning.make(client, compiled)
        assert not again, f"after it: {planning.text(again)}{story}"

    def _refuses(self, plan: planning.Plan, client: Client, compiled: Compiled, way: release.Way, before: Objects, story: str) -> None:
        """The deploy refuses what the plan says is blocked, names it, and has written nothing."""
        for item in plan.blocked:
            self._count(f"{item.action}{' by force' if way.force_conflicts else ''}")
        with pytest.raises(PreflightError) as refused:
            release.deploy(client, compiled, Steps(), way)
        assert [item.label for item in plan.blocked if item.label not in refused.value.what] == [], story
        after = everything(self.site, namespaced_kinds(self.site))
        assert {name: diff.stable(one) for name, one in after.items()} == {name: diff.stable(one) for name, one in before.items()}, story

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1


@pytest.mark.administrator
@pytest.mark.parametrize(
    ("hand", "plans"), [("helm 4", 2), *(pytest.param(hand, plans, marks=pytest.mark.thorough) for hand, plans in (("helm 3", 4), ("guide", 4)))]
)
def test_a_random_plan_is_what_the_deploy_does(site: Site, eventually: Callable[..., Any], hand: str, plans: int) -> None:
    told = Told(site, eventually)
    for number in range(SEED, SEED + (PLANS or plans)):
        if number == SEED or (hand != "helm 4" and number % 3 == 0):
            if number != SEED:
                site.remove()
                eventually(lambda: site.client().get("v1", "Namespace", "", site.namespace) is None, 60)
                shutil.rmtree(site.root / "overlays" / site.name, ignore_errors=True)
            if hand == "helm 4":
                site.deploy()
            else:
                site.install_by_hand(compiled=hand == "helm 3")
        told.one(f"{hand} {number}")
    print(hand, told.counts)
