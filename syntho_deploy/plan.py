"""What a deploy would change on the cluster, object by object and field by field; nothing is written.

The target of every object is asked of the API server (`cluster.predict`), so that defaulting makes no noise, what another
manager owns is not a change, and what would be refused is known before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from syntho_deploy import diff, documents
from syntho_deploy.cluster import crds, predict, readiness
from syntho_deploy.cluster.client import ApiError, Client, Object
from syntho_deploy.cluster.readiness import Live
from syntho_deploy.cluster.releases import Stored, stored
from syntho_deploy.cluster.watch import snapshot
from syntho_deploy.compile import KEEP, Compiled, CompiledChart
from syntho_deploy.diff import Change
from syntho_deploy.errors import InputError, LockedError, PreflightError
from syntho_deploy.redact import redact
from syntho_deploy.secrets import store
from syntho_deploy.secrets.sentinels import label

CREATE, UPDATE, DELETE, REPLACE, KEPT, UNCHANGED, CONFLICT, REFUSED = [
    "create",
    "update",
    "delete",
    "replace",
    "keep",
    "unchanged",
    "conflict",
    "refused",
]
SIGNS = {CREATE: "+", UPDATE: "~", DELETE: "-", REPLACE: "!", KEPT: "=", CONFLICT: "x", REFUSED: "x"}
STAYS = ("PersistentVolumeClaim", "Secret")  # what leaves a release and is kept on the cluster
REPLACEABLE = ("Deployment",)  # an immutable field of anything else needs a person: it holds data, or a name others know
WORKERS = 8


@dataclass(frozen=True)
class ObjectPlan:
    """What happens to one object. reason: why it is refused, kept or replaced. pods: those that stop or restart."""

    action: str
    chart: str
    kind: str
    name: str
    changes: tuple[Change, ...] = ()
    reason: str = ""
    conflicts: tuple[predict.Conflict, ...] = ()
    pods: tuple[str, ...] = ()
    checked: bool = True
    origins: dict[str, str] = field(default_factory=dict)  # of the changed fields: path to what set it

    @property
    def label(self) -> str:
        """`Kind/name`."""
        return f"{self.kind}/{self.name}"


@dataclass
class Plan:
    """A deploy's effect. inputs: digests of all that it depends on; live: digest of each live object it looked at."""

    environment: str
    cluster: str
    inputs: dict[str, str]
    objects: list[ObjectPlan]
    crds: list[str] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)
    releases: dict[str, str] = field(default_factory=dict)
    live: dict[str, str] = field(default_factory=dict)
    foreign: list[str] = field(default_factory=list)  # releases that were not made from a compiled chart

    @property
    def changed(self) -> list[ObjectPlan]:
        """The objects that something happens to."""
        return [item for item in self.objects if item.action != UNCHANGED]

    @property
    def blocked(self) -> list[ObjectPlan]:
        """The objects that a deploy cannot bring to the compiled state."""
        return [item for item in self.objects if item.action in (CONFLICT, REFUSED)]

    def __bool__(self) -> bool:
        return bool(self.changed or self.crds or self.secrets or self.releases)


def make(client: Client, compiled: Compiled) -> Plan:
    """Plan a deploy of `compiled`. Reads only; all dry runs side by side.

    Raises `PreflightError`, `LockedError` as the reads do; a change that is impossible is in the plan, not an error.
    """
    namespace, environment = compiled.environment.target.namespace, compiled.environment
    store.learn(client, compiled)
    releases = stored(client, namespace, [chart.release.name for chart in compiled.charts.values()])
    _refuse_pending(releases.values(), namespace)
    files = [file for chart in compiled.charts.values() for file in chart.crds]
    missing = crds.due(client, files, environment.manage_crds)
    old = {name: _old_objects(found) for name, found in releases.items()}
    kinds = {(item["apiVersion"], item["kind"]) for item in [*compiled.objects, *(item for items in old.values() for item in items)]}
    live = snapshot(client, namespace, sorted(kinds | {("v1", "Pod")}))
    foreign = [name for name, release in releases.items() if not release.ours]
    with ThreadPoolExecutor(WORKERS) as pool:
        work = [(name, chart, item) for name, chart in compiled.charts.items() for item in chart.objects]
        objects = list(pool.map(lambda one: _of_object(client, one[0], one[1], one[2], live, one[1].release.name in foreign), work))
    for name, chart in compiled.charts.items():
        objects += _leaving(name, chart, old.get(chart.release.name, []), live)
    due = {chart.release.name: chart.version for name, chart in compiled.charts.items() if _is_due(releases.get(chart.release.name), name, objects)}
    namespaces = {label(item): _live_of(item, live) for item in compiled.objects}
    return Plan(
        environment.name, _cluster_id(client), _inputs(compiled), objects, sorted(missing), store.due(client, compiled), due,
        {key: documents.sha256(documents.canonical(diff.stable(item))) for key, item in sorted(namespaces.items()) if item},
        foreign,
    )  # fmt: skip


def _refuse_pending(releases: Iterable[Stored], namespace: str) -> None:
    for release in releases:
        if release.status == "uninstalling":
            raise LockedError(
                f"the release {release.name} is being uninstalled, or that was interrupted", todo="run invoke undeploy again, then deploy"
            )
        if release.status.startswith("pending"):
            todo = (
                f"wait for it; if its process was killed: kubectl -n {namespace} delete secret sh.helm.release.v1.{release.name}.v{release.revision}"
            )
            raise LockedError(
                f"the release {release.name} is {release.status} since {release.updated}: another process is at it, or was killed", todo=todo
            )


def add_origins(plan: Plan, sources: Callable[[str, str], list[tuple[Any, str]]]) -> None:
    """Note for each changed field what set it. sources: `Kind/name` and pointer to (operation or None, value it came by)."""
    for item in plan.objects:
        for change in item.changes:
            found = [f"{origin.at}" if origin else source for origin, source in sources(item.label, change.path) if origin is None or origin.in_force]
            item.origins[change.path] = ", ".join(dict.fromkeys(found)) or "the chart's template"


def _is_due(found: Stored | None, chart: str, objects: Iterable[ObjectPlan]) -> bool:
    """Has a release to be written? Not when only its version differs, or only pods are stale: the objects would stay the same."""
    mine = [item for item in objects if item.chart == chart and item.action != UNCHANGED]
    return found is None or found.status != "deployed" or any(item.action != UPDATE or item.changes for item in mine)


def _of_object(client: Client, name: str, chart: CompiledChart, item: Object, live: Live, foreign: bool) -> ObjectPlan:
    found = _live_of(item, live)
    kind, object_name = item["kind"], item["metadata"]["name"]
    if found is not None and (owner := _other_owner(found, chart)):
        return ObjectPlan(REFUSED, name, kind, object_name, reason=f"it exists and {owner}")
    predicted = predict.predict(client, predict.owned(item, chart.release.name, chart.namespace), found)
    if predicted.conflicts:
        owners = ", ".join(sorted({conflict.owner for conflict in predicted.conflicts}))
        return ObjectPlan(CONFLICT, name, kind, object_name, reason=f"fields are owned by {owners}", conflicts=predicted.conflicts)
    if predicted.immutable:
        action = REPLACE if kind in REPLACEABLE else REFUSED
        pods = tuple(sorted(pod["metadata"]["name"] for pod in live.pods() if found and _selects(found, pod)))
        return ObjectPlan(action, name, kind, object_name, reason=_short(predicted.immutable), pods=pods if action == REPLACE else ())
    if predicted.refused:
        return ObjectPlan(REFUSED, name, kind, object_name, reason=_short(predicted.refused))
    if found is None:
        return ObjectPlan(CREATE, name, kind, object_name, checked=predicted.checked)
    result = predicted.result or {}
    changed = tuple(diff.changes(found, {"apiVersion": item["apiVersion"], "kind": kind, **result}, foreign))
    pods = _restarting(item, found, result, live)
    if not changed and not pods:
        return ObjectPlan(UNCHANGED, name, kind, object_name)
    return ObjectPlan(UPDATE, name, kind, object_name, changed, pods=pods)


def _restarting(item: Object, found: Object, result: Object, live: Live) -> tuple[str, ...]:
    """The pods that a change replaces: of a workload whose template differs, of a RayCluster those that are not as compiled."""
    if item["kind"] == "RayCluster":
        templates = {group: template for group, template, _ in readiness.ray_groups(item)}
        pods = live.ray_pods(item["metadata"]["name"])
        group_of = readiness.ray_group
        stale = [pod for pod in pods if group_of(pod) not in templates or readiness.pod_difference(templates[group_of(pod)], pod)]
        return tuple(sorted(pod["metadata"]["name"] for pod in stale))
    template = found.get("spec", {}).get("template")
    if template is None or template == result.get("spec", {}).get("template"):
        return ()
    return tuple(sorted(pod["metadata"]["name"] for pod in live.pods() if _selects(found, pod)))


def _selects(found: Object, pod: Object) -> bool:
    labels = (found["spec"].get("selector") or {}).get("matchLabels") or {}
    return bool(labels) and labels.items() <= (pod["metadata"].get("labels") or {}).items()


def _other_owner(found: Object, chart: CompiledChart) -> str:
    """Whose an object is that helm would refuse to take ("invalid ownership metadata"), or ""."""
    marks = found["metadata"].get("annotations") or {}
    name, namespace = marks.get("meta.helm.sh/release-name"), marks.get("meta.helm.sh/release-namespace")
    if (name, namespace) == (chart.release.name, chart.namespace):
        return ""
    return f"belongs to the release {name} in {namespace}" if name else "belongs to no release"


def _leaving(name: str, chart: CompiledChart, old: list[Object], live: Live) -> list[ObjectPlan]:
    """The objects of the last release that the compiled chart lacks."""
    new = {label(item) for item in chart.objects}
    found = []
    for item in old:
        if label(item) in new or not _live_of(item, live):
            continue
        present = _live_of(item, live) or {}
        keep = item["kind"] in STAYS or (present["metadata"].get("annotations") or {}).get(KEEP) == "keep"
        pods = tuple(
            sorted(
                pod["metadata"]["name"]
                for pod in live.pods()
                if "selector" in item.get("spec", {}) and item["kind"] != "Service" and _selects(present, pod)
            )
        )
        reason = "it leaves the release and stays on the cluster" if keep else ""
        found.append(ObjectPlan(KEPT if keep else DELETE, name, item["kind"], item["metadata"]["name"], reason=reason, pods=() if keep else pods))
    return found


def _old_objects(found: Stored) -> list[Object]:
    items = [item for manifest in found.manifests for item in documents.load_manifests(manifest)]
    return list({label(item): item for item in items if item.get("kind") and (item.get("metadata") or {}).get("name")}.values())


def _live_of(item: Object, live: Live) -> Object | None:
    return live.get(item["kind"], item["metadata"]["name"])


def _short(words: str) -> str:
    return words.split(": ", 1)[-1][:400]


def _cluster_id(client: Client) -> str:
    """What tells this cluster from all others; "" for an account that may not read it."""
    try:
        found = client.get("v1", "Namespace", "", "kube-system")
    except ApiError as error:
        if error.status != 403:
            raise
        found = None
    return str((found or {}).get("metadata", {}).get("uid", ""))


def _inputs(compiled: Compiled) -> dict[str, str]:
    """The digests of what a plan depends on; a plan file is good only while they are the same."""
    found = {f"chart {name}": f"{chart.version} {chart.digest}" for name, chart in compiled.charts.items()}
    found["environment"] = documents.sha256(compiled.environment.file.read_bytes())
    return found


# -- as text and as a file -------------------------------------------------------------------------------------------------


def text(plan: Plan) -> str:
    """A plan as people read it."""
    lines = [f"+ CustomResourceDefinition/{name} (applied before the charts)" for name in plan.crds]
    lines += [f"+ Secret/{name}" for name in plan.secrets]
    for item in plan.changed:
        note = f"  ({item.reason})" if item.reason else "" if item.checked else "  (checked offline: its kind or namespace is not there yet)"
        lines.append(f"{SIGNS[item.action]} {item.label}{note}")
        for change in item.changes:
            origin = f"  ({item.origins[change.path]})" if change.path in item.origins else ""
            lines.append(f"    {change.path}: {shown(change.before)} -> {shown(change.after)}{origin}")
        lines += [f"    {conflict.field}: owned by {conflict.owner}" for conflict in item.conflicts]
        if item.pods:
            lines.append(f"    restarts: {', '.join(item.pods)}")
    counts = {action: sum(item.action == action for item in plan.objects) for action in (*SIGNS, UNCHANGED)}
    summary = ", ".join(f"{count} {action}" for action, count in counts.items() if count)
    releases = ", ".join(f"{name} to {version}" for name, version in plan.releases.items())
    return "\n".join(
        [*lines, f"{plan.environment}: {summary}", *([f"releases to write: {releases}"] if releases else ["nothing to do"] if not plan else [])]
    )


def shown(value: Any) -> str:
    """A value on one line, cut when it is long."""
    words = redact(value if isinstance(value, str) else documents.canonical(value))
    return words if len(words) < 120 or not isinstance(value, str) else words[:117] + "..."


def as_json(plan: Plan) -> dict[str, Any]:
    """A plan as JSON: {"environment", "cluster", "inputs", "live", "crds", "secrets", "releases", "objects": [{"action", "chart", "object",
    "changes": [{"path", "before", "after"}], "reason", "conflicts": [{"field", "owner"}], "pods", "checked"}]}. It holds no secret."""
    objects = [
        {
            "action": item.action, "chart": item.chart, "object": item.label, "reason": item.reason, "pods": list(item.pods), "checked": item.checked,
            "changes": [{"path": c.path, "before": c.before, "after": c.after, "origin": item.origins.get(c.path, "")} for c in item.changes],
            "conflicts": [{"field": c.field, "owner": c.owner} for c in item.conflicts],
        }
        for item in plan.objects
    ]  # fmt: skip
    kept = {key: getattr(plan, key) for key in ("environment", "cluster", "inputs", "live", "crds", "secrets", "releases")}
    return {**kept, "objects": objects}


def refuse_moved(plan: Plan, file: Path) -> None:
    """Raise `PreflightError` naming what moved since the plan in `file` was made, `InputError` when that is no plan file."""
    recorded = documents.load(file).data
    if not isinstance(recorded, dict) or not {"environment", "cluster", "inputs", "live", "objects"} <= set(recorded):
        raise InputError("this is no plan file", file, "make one: invoke plan --env=… --out=FILE")
    now = as_json(plan)
    moved = [f"the {key}" for key in ("environment", "cluster") if recorded[key] != now[key]]
    for kind, what in (("inputs", "the {}"), ("live", "the live {}")):
        keys = sorted({*recorded[kind], *now[kind]})
        moved += [what.format(key) for key in keys if recorded[kind].get(key) != now[kind].get(key)]
    if not moved and _effects(recorded) != _effects(now):
        moved.append("what the API server answers")
    if moved:
        raise PreflightError(f"since this plan was made, these moved: {', '.join(moved)}", file, "plan again, and review it")


def _effects(plan: dict[str, Any]) -> str:
    """What a plan as JSON does to objects; not how far it could be checked, which a namespace made meanwhile changes."""
    return documents.canonical(
        [[item["object"], item["action"], [{**change, "origin": ""} for change in item["changes"]]] for item in plan["objects"]]
    )
