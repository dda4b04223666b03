"""What a deploy would change on the cluster, object by object and field by field; nothing is written.

The target of every object is asked of the API server (`cluster.predict`), so that defaulting makes no noise, what another
manager owns is not a change, and what would be refused is known before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from syntho_deploy import diff, documents, process
from syntho_deploy.cluster import crds, predict, readiness, volumes
from syntho_deploy.cluster.client import AT_ONCE, ApiError, Client, Object
from syntho_deploy.cluster.crds import CrdChange
from syntho_deploy.cluster.ignore import SCALER, Ignored
from syntho_deploy.cluster.preflight import namespace_due, uid_of
from syntho_deploy.cluster.readiness import Live
from syntho_deploy.cluster.releases import Stored, stored
from syntho_deploy.cluster.watch import snapshot
from syntho_deploy.compile import KEEP, Compiled, CompiledChart
from syntho_deploy.diff import Change
from syntho_deploy.errors import LockedError
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
MARKDOWN_LIMIT = 10_000  # characters: GitHub takes 65,536 in a comment, which may have several plans


@dataclass(frozen=True)
class ObjectPlan:
    """What happens to one object. reason: why it is refused, kept or replaced, or what else to know of it. conflicts: the fields that
    other managers own, which a forced plan takes. pods: those that stop or restart; data: the volume claims of a database, of whose
    pods that is true."""

    action: str
    chart: str
    kind: str
    name: str
    changes: tuple[Change, ...] = ()
    reason: str = ""
    conflicts: tuple[predict.Conflict, ...] = ()
    pods: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    checked: bool = True
    version: str = ""  # apiVersion, of one that leaves
    lean: bool = False  # it is written as `predict.lean` makes it
    going: bool = False  # one of that name is being deleted now
    shared: bool = False  # helm has to take a field back, in which another controller set only what is its own
    origins: dict[str, str] = field(default_factory=dict)  # of the changed fields: path to what set it

    @property
    def label(self) -> str:
        """`Kind/name`."""
        return f"{self.kind}/{self.name}"


@dataclass
class Plan:
    """A deploy's effect. inputs: digests of the files that it depends on; live: of what it depends on in the cluster, which is
    objects, Secrets, CRDs and releases; before_upgrade: the commands that run first, because of `databases`; forced: the deploy
    takes the fields that other managers own."""

    environment: str
    cluster: str
    inputs: dict[str, str]
    objects: list[ObjectPlan]
    crds: list[CrdChange] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)
    releases: dict[str, str] = field(default_factory=dict)
    live: dict[str, str] = field(default_factory=dict)
    foreign: list[str] = field(default_factory=list)  # releases that were not made from a compiled chart
    before_upgrade: tuple[tuple[str, ...], ...] = ()
    forced: bool = False
    namespaces: list[str] = field(default_factory=list)  # that are made
    seen: Live | None = field(default=None, repr=False)  # the objects that it is of, as they were

    @property
    def changed(self) -> list[ObjectPlan]:
        """The objects that something happens to."""
        return [item for item in self.objects if item.action != UNCHANGED]

    @property
    def blocked(self) -> list[ObjectPlan]:
        """The objects that a deploy cannot bring to the compiled state."""
        return [item for item in self.objects if item.action in (CONFLICT, REFUSED)]

    @property
    def databases(self) -> list[ObjectPlan]:
        """The databases whose pods are replaced, or go."""
        return [item for item in self.objects if item.data and item.pods and item.action in (UPDATE, REPLACE, DELETE)]

    def __bool__(self) -> bool:
        return bool(self.changed or self.crds or self.secrets or self.releases)


def make(client: Client, compiled: Compiled, force_conflicts: bool = False) -> Plan:
    """Plan a deploy of `compiled`. Reads only; all dry runs side by side. force_conflicts: what deploy --force-conflicts does.

    Raises `PreflightError`, `LockedError` as the reads do; a change that is impossible is in the plan, not an error.
    """
    namespace, environment = compiled.environment.target.namespace, compiled.environment
    with ThreadPoolExecutor(AT_ONCE) as pool:
        homeless = pool.submit(_namespace_due, client, namespace, environment.manage_namespace)
        known = pool.submit(store.learn, client, compiled)
        installed = pool.submit(crds.look, client, _crd_files(compiled), environment.manage_crds)
        reviewed = pool.submit(lambda: crds.review(client, crds.due_of(client, installed.result(), environment.manage_crds), compiled.objects))
        identified = pool.submit(_cluster_id, client)
        scaled = pool.submit(Ignored.read, client, environment.root, namespace)
        kinds = {(item["apiVersion"], item["kind"]) for item in compiled.objects} | {("v1", "Pod"), ("v1", "PersistentVolumeClaim")}
        listed = pool.submit(snapshot, client, namespace, sorted(kinds))
        releases = stored(client, namespace, [chart.release.name for chart in compiled.charts.values()])
        new = [namespace] if homeless.result() else []
        _refuse_pending(releases.values(), environment.name)
        old = {name: found.objects for name, found in releases.items()}
        left = {(item["apiVersion"], item["kind"]) for items in old.values() for item in items} - kinds
        live = listed.result().joined(snapshot(client, namespace, sorted(left))) if left else listed.result()
        before = {name: {label(item): item for item in items} for name, items in old.items()}
        foreign = [name for name, release in releases.items() if not release.ours]
        work = [(name, chart, item) for name, chart in compiled.charts.items() for item in chart.objects]
        last = [before.get(chart.release.name, {}).get(label(item)) for _, chart, item in work]
        taken = [chart.release.name in foreign for _, chart, _ in work]
        missing, ignored, secrets = reviewed.result(), scaled.result(), known.result()  # what is refused next may quote one
        gone = [item for name, chart in compiled.charts.items() for item in _leaving(name, chart, old.get(chart.release.name, []), live)]
        later = ignored.after({item.name for item in gone if item.kind == SCALER[1] and item.action == DELETE})
        asked = partial(_of_object, client, live, ignored, later, force_conflicts)
        objects = list(pool.map(lambda one, old, over: asked(one[0], one[1], one[2], old, over), work, last, taken))
    objects = [_of_database(item, compiled, live) if item.label in compiled.roles.databases else item for item in [*objects, *gone]]
    objects += [
        ObjectPlan(REFUSED, "", "Secret", name, reason=f"it {why}; {store.FAULT_TODO}") for name, why in store.faults(compiled, secrets).items()
    ]
    due = {chart.release.name: chart.version for name, chart in compiled.charts.items() if _is_due(releases, chart, name, objects)}
    looked_at = {label(item): item for item in [*(item for items in old.values() for item in items), *compiled.objects]}
    return Plan(
        environment.name, identified.result(), _inputs(compiled), objects, missing, store.due(compiled, secrets), due,
        _digests(looked_at.values(), live, ignored, releases, secrets, installed.result()), foreign, environment.before_upgrade,
        force_conflicts, new, seen=live,
    )  # fmt: skip


def _namespace_due(client: Client, name: str, manage: bool) -> bool:
    """As `preflight.namespace_due`; an account that only plans may not be allowed to look."""
    try:
        return namespace_due(client, name, manage)
    except ApiError as error:
        if error.status != 403:
            raise
        return False


def _crd_files(compiled: Compiled) -> list[Path]:
    return [file for chart in compiled.charts.values() for file in chart.crds]


def _refuse_pending(releases: Iterable[Stored], environment: str) -> None:
    for release in releases:
        if release.status == "uninstalling":
            raise LockedError(
                f"the release {release.name} is being uninstalled, or that was interrupted", todo="run invoke undeploy again, then deploy"
            )
        if release.pending:
            what = f"the release {release.name} is {release.status} since {release.updated}: another process is at it, or was killed"
            raise LockedError(what, todo=f"wait for it; if its process was killed: invoke unlock --env={environment} --reason=…")


def add_origins(plan: Plan, sources: Callable[[str, str], list[tuple[Any, str]]]) -> None:
    """Note for each changed field what set it. sources: `Kind/name` and pointer to (operation or None, value it came by)."""
    for item in plan.objects:
        for change in item.changes if item.action != KEPT else ():
            found = [f"{origin.at}" if origin else source for origin, source in sources(item.label, change.path) if origin is None or origin.in_force]
            item.origins[change.path] = ", ".join(dict.fromkeys(found)) or _without_source(change)


def _without_source(change: Change) -> str:
    """What set a field that no value reaches and no operation names."""
    if change.after == diff.ABSENT:
        return "nothing sets it now"
    if change.path.endswith(f"/{KEEP.replace('/', '~1')}"):
        return "deploy keeps volumes"
    if re.search(r"/env/\[name=SECRET_\w+\]$", change.path) and "valueFrom" in str(change.after):
        return "made for the variable that names it"
    return "the chart's template"


def _is_due(releases: Mapping[str, Stored], chart: CompiledChart, name: str, objects: Iterable[ObjectPlan]) -> bool:
    """Has a release to be written? Also where only its version differs, as with a pin that changes nothing else: `helm list` tells
    what was deployed. Not where only pods are stale."""
    found, mine = releases.get(chart.release.name), [item for item in objects if item.chart == name and item.action != UNCHANGED]
    if found is None or found.status != "deployed" or (found.chart, found.version) != (chart.name, chart.version):
        return True
    return any(item.action != UPDATE or item.changes or item.conflicts for item in mine)


def _of_object(
    client: Client, live: Live, ignored: Ignored, later: Ignored, force: bool, name: str, chart: CompiledChart, item: Object,
    last: Object | None, foreign: bool,
) -> ObjectPlan:  # fmt: skip
    """The effect on one object. ignored, later: what is another's now, and after the deploy; last: its manifest in the release as it
    is; foreign: somebody else made the release."""
    found, kind, object_name = _live_of(item, live), item["kind"], item["metadata"]["name"]
    if found is not None and (owner := _other_owner(found, chart, last is not None)):
        return ObjectPlan(REFUSED, name, kind, object_name, reason=f"it exists and {owner}")
    if found is not None and (since := readiness.going(found)):
        return _of_going(name, item, since)
    claims = volumes.of_set(item, live) if kind == "StatefulSet" else []
    if lost := next((f"its volume {claim['metadata']['name']}: {since}" for claim in claims if (since := readiness.going(claim))), ""):
        return ObjectPlan(REFUSED, name, kind, object_name, reason=f"{lost}: {volumes.GOING}")
    kept = later.kept(item, found)
    target = predict.owned(predict.lean(kept, found), chart.release.name, chart.namespace)
    slim = target.get("spec") is not kept.get("spec")
    predicted = predict.predict(client, target, found, force)
    shared = bool(found and last and predicted.conflicts and _only_ignored(client, predicted.conflicts, chart, last, found, ignored))
    if shared and not force:
        predicted = predict.predict(client, target, found, force=True)
    conflicts = () if shared else predicted.conflicts
    if conflicts and not force:
        owners = ", ".join(sorted({conflict.owner for conflict in conflicts}))
        return ObjectPlan(CONFLICT, name, kind, object_name, reason=f"fields are owned by {owners}", conflicts=conflicts)
    if predicted.immutable and found and kind in REPLACEABLE:
        return _replaced(client, name, target, found, live, foreign, predicted.immutable)
    if predicted.immutable or predicted.refused:
        return ObjectPlan(
            REFUSED, name, kind, object_name, reason=_volume_fault(client, item, found) or _short(predicted.immutable or predicted.refused)
        )
    if found is None:
        again = f"it finds its volumes again: {', '.join(claim['metadata']['name'] for claim in claims)}" if claims else ""
        return ObjectPlan(CREATE, name, kind, object_name, reason=again, checked=predicted.checked)
    result = predicted.result or {}
    changed = tuple(diff.changes(found, {"apiVersion": item["apiVersion"], "kind": kind, **result}, foreign or bool(conflicts)))
    pods, why = _restarting(item, found, result, live)
    if not changed and not pods and not conflicts:
        return ObjectPlan(UNCHANGED, name, kind, object_name, lean=slim)
    reason = volumes.growth(item, found) if kind == "PersistentVolumeClaim" else why
    return ObjectPlan(UPDATE, name, kind, object_name, changed, reason, conflicts, pods=pods, shared=shared, lean=slim)


def _replaced(client: Client, name: str, target: Object, found: Object, live: Live, foreign: bool, why: str) -> ObjectPlan:
    """The effect on an object that is deleted and made anew: what other managers added to it goes too."""
    made, object_name = predict.anew(client, target), target["metadata"]["name"]
    if made.result is None:
        return ObjectPlan(REFUSED, name, target["kind"], object_name, reason=_short(made.refused or made.immutable))
    by_others = foreign or any(entry.get("manager") != predict.HELM for entry in predict.managers(found))
    changed = tuple(diff.changes(found, {"apiVersion": target["apiVersion"], "kind": target["kind"], **made.result}, by_others))
    pods = tuple(sorted(pod["metadata"]["name"] for pod in live.pods() if _selects(found, pod)))
    return ObjectPlan(REPLACE, name, target["kind"], object_name, changed, _short(why), pods=pods)


def _of_going(name: str, item: Object, since: str) -> ObjectPlan:
    """An object that is being deleted: it can only be waited for and made anew, which of a volume would be an empty one."""
    kind, object_name = item["kind"], item["metadata"]["name"]
    if kind == "PersistentVolumeClaim":
        return ObjectPlan(REFUSED, name, kind, object_name, reason=f"{since}: {volumes.GOING}")
    return ObjectPlan(CREATE, name, kind, object_name, reason=f"{since}: it is waited for, then made anew", going=True)


def _only_ignored(client: Client, conflicts: Iterable[predict.Conflict], chart: CompiledChart, last: Object, found: Object, ignored: Ignored) -> bool:
    """Did others change nothing but what is theirs, in the fields that conflict? Then the last manifest with that in it is what is there.

    A list that is applied as a whole has one owner, whoever changed one number of it last.
    """
    if not all(ignored.within(conflict.field, last) for conflict in conflicts):
        return False
    placed = {**last, "metadata": {"namespace": chart.namespace, **last["metadata"]}}
    again = predict.predict(client, predict.owned(ignored.kept(placed, found), chart.release.name, chart.namespace), found, force=True)
    return again.result is not None and not diff.changes(found, {"apiVersion": last["apiVersion"], "kind": last["kind"], **again.result})


def _volume_fault(client: Client, item: Object, found: Object | None) -> str:
    """What a refusal means for a volume, or "": the API server says neither which field it is nor what to do."""
    if found and item["kind"] == "PersistentVolumeClaim":
        return volumes.claim_fault(client, item, found)
    return volumes.templates_fault(item, found) if found and item["kind"] == "StatefulSet" else ""


def _of_database(item: ObjectPlan, compiled: Compiled, live: Live) -> ObjectPlan:
    """A database: refused where its new image could not read its volume; else with the volumes whose pods are replaced or go."""
    found = live.get(item.kind, item.name)
    wanted = next((one for one in compiled.objects if label(one) == item.label), None)
    if wanted and item.action in (CREATE, UPDATE, REPLACE):
        fault, note = volumes.image_faults(wanted, found, live, bool(item.pods))
        if fault:
            return replace(item, action=REFUSED, reason=fault, pods=())
        item = replace(item, reason="; ".join(filter(None, (item.reason, note))))
    return replace(item, data=tuple(volumes.claims_of(found, live))) if found and item.pods else item


def _restarting(item: Object, found: Object, result: Object, live: Live) -> tuple[tuple[str, ...], str]:
    """The pods that a change replaces: of a workload whose template differs, of a RayCluster those that are not as compiled; and why,
    where no change of the object says it."""
    if item["kind"] == "RayCluster":
        differing = {pod["metadata"]["name"]: readiness.ray_difference(item, pod) for pod in live.ray_pods(item["metadata"]["name"])}
        stale = {name: difference for name, difference in sorted(differing.items()) if difference}
        return tuple(stale), f"pods have another {', another '.join(sorted(set(stale.values())))}" if stale else ""
    template = found.get("spec", {}).get("template")
    if template is None or template == result.get("spec", {}).get("template"):
        return (), ""
    return tuple(sorted(pod["metadata"]["name"] for pod in live.pods() if _selects(found, pod))), ""


def _selects(found: Object, pod: Object) -> bool:
    labels = (found["spec"].get("selector") or {}).get("matchLabels") or {}
    return bool(labels) and labels.items() <= (pod["metadata"].get("labels") or {}).items()


def _other_owner(found: Object, chart: CompiledChart, known: bool) -> str:
    """Whose an object is that helm would refuse to take ("invalid ownership metadata"), or "". known: it is of the last release, where
    helm looks at no mark, and puts those back that somebody took off."""
    marks = found["metadata"].get("annotations") or {}
    name, namespace = marks.get("meta.helm.sh/release-name"), marks.get("meta.helm.sh/release-namespace")
    if name and (name, namespace) != (chart.release.name, chart.namespace):
        return f"belongs to the release {name} in {namespace}"
    if known:
        return ""
    by = (found["metadata"].get("labels") or {}).get(predict.MANAGED_BY)
    return "belongs to no release" if not name else f"its label {predict.MANAGED_BY} is {by}, not Helm" if by != "Helm" else ""


def _leaving(name: str, chart: CompiledChart, old: list[Object], live: Live) -> list[ObjectPlan]:
    """The objects of the last release that the compiled chart lacks, and the volumes that a StatefulSet leaves behind."""
    new = {label(item) for item in chart.objects}
    found = []
    for item in old:
        present = _live_of(item, live)
        if present is None or label(item) in new:
            continue
        found.append(_of_leaving(name, item, present, live))
        for claim in volumes.of_set(present, live) if item["kind"] == "StatefulSet" else ():
            reason = f"a volume of {label(item)}, which leaves; it stays on the cluster"
            found.append(_of_kept(name, claim, reason))
    return found


def _of_leaving(name: str, item: Object, present: Object, live: Live) -> ObjectPlan:
    kind, object_name = item["kind"], item["metadata"]["name"]
    if kind in STAYS or (present["metadata"].get("annotations") or {}).get(KEEP) == "keep":
        return _of_kept(name, present, "it leaves the release and stays on the cluster")
    if kind == "StatefulSet" and volumes.lost_with(present):
        return ObjectPlan(REFUSED, name, kind, object_name, reason=volumes.LOST_WITH)
    owns = "selector" in item.get("spec", {}) and kind != "Service"
    pods = tuple(sorted(pod["metadata"]["name"] for pod in live.pods() if owns and _selects(present, pod)))
    return ObjectPlan(DELETE, name, kind, object_name, pods=pods, version=item["apiVersion"])


def _of_kept(name: str, present: Object, reason: str) -> ObjectPlan:
    """What stays on the cluster, unless somebody is deleting it."""
    kind, since = present["kind"], readiness.going(present)
    lost = bool(since) and kind == "PersistentVolumeClaim"
    action = REFUSED if lost else DELETE if since else KEPT
    metadata = present["metadata"]
    marked = {**present, "metadata": {**metadata, "annotations": {**(metadata.get("annotations") or {}), KEEP: "keep"}}}
    changed = tuple(diff.changes(present, marked)) if action == KEPT else ()
    words = f"{since}: {volumes.GOING}" if lost else since or reason
    return ObjectPlan(action, name, kind, metadata["name"], changed, words, version=present["apiVersion"])


def _live_of(item: Object, live: Live) -> Object | None:
    return live.get(item["kind"], item["metadata"]["name"])


def _short(words: str) -> str:
    return words.split(": ", 1)[-1][:400]


def _cluster_id(client: Client) -> str:
    """What tells this cluster from all others; "" for an account that may not read it."""
    try:
        return uid_of(client)
    except ApiError as error:
        if error.status != 403:
            raise
        return ""


def _inputs(compiled: Compiled) -> dict[str, str]:
    """The digests of what a plan depends on; a plan file is good only while they are the same."""
    found = {"environment": documents.sha256(compiled.environment.file.read_bytes()), "roles": documents.sha256(compiled.roles.file.read_bytes())}
    for name, chart in compiled.charts.items():
        found[f"pin of {name}"] = documents.sha256(documents.canonical(chart.provenance["chart"]))
        found[f"overlays of {name}"] = str(chart.provenance.get("overlays", ""))  # a record of an earlier version has none
        found[f"chart {name}"] = f"{chart.version} {chart.digest}"
    return found


def _digests(
    objects: Iterable[Object], live: Live, ignored: Ignored, releases: Mapping[str, Stored], secrets: Mapping[str, Object | None],
    installed: Mapping[str, crds.Installed],
) -> dict[str, str]:  # fmt: skip
    """A digest of each thing on the cluster that a plan depends on; none of what is not there. Restarted pods change none.

    Of a Secret, its type and the names of its keys; of a CRD, its identity and the API server's count of its changes.
    """
    found: dict[str, Any] = {}
    for item in objects:
        if present := _live_of(item, live):
            found[label(item)] = [present["metadata"]["uid"], readiness.going(present), diff.stable(ignored.without(present, item))]
    for name, secret in secrets.items():
        if secret:
            found[f"Secret/{name}"] = [secret["metadata"]["uid"], secret.get("type"), sorted(secret.get("data") or {})]
    for name, crd in installed.items():
        if crd.live:
            found[f"CustomResourceDefinition/{name}"] = [crd.live["uid"], crd.live["generation"]]
    for name, release in releases.items():
        found[f"release {name}"] = [release.revision, release.status, release.version]
    return {name: documents.sha256(documents.canonical(one)) for name, one in sorted(found.items())}


# -- as text and as JSON --------------------------------------------------------------------------------------------------


def text(plan: Plan) -> str:
    """A plan as people read it."""
    lines = [f"+ Namespace/{name}" for name in plan.namespaces]
    for crd in plan.crds:
        lines += [
            f"{'+' if crd.new else '~'} CustomResourceDefinition/{crd.name} (applied before the charts)",
            *(f"    {one}" for one in crd.changes),
        ]
    lines += [f"+ Secret/{name}" for name in plan.secrets]
    for item in plan.changed:
        note = f"  ({item.reason})" if item.reason else "" if item.checked else "  (checked offline: its kind or namespace is not there yet)"
        lines.append(f"{SIGNS[item.action]} {item.label}{note}")
        for change in item.changes:
            origin = f"  ({item.origins[change.path]})" if change.path in item.origins else ""
            lines.append(f"    {change.path}: {shown(change.before)} -> {shown(change.after)}{origin}")
        owned = "taken from" if plan.forced else "owned by"
        lines += [f"    {conflict.field}: {owned} {conflict.owner}" for conflict in item.conflicts]
        if item.pods:
            data = f", a database with the volume {', '.join(item.data)}" if item.data else ""
            lines.append(f"    {'stops' if item.action == DELETE else 'restarts'}: {', '.join(item.pods)}{data}")
    if plan.databases:
        lines.append(_backup(plan))
    releases = ", ".join(f"{name} to {version}" for name, version in plan.releases.items())
    return "\n".join(
        [*lines, f"{plan.environment}: {counted(plan)}", *([f"releases to write: {releases}"] if releases else ["nothing to do"] if not plan else [])]
    )


def markdown(environment: str, line: str, text: str, note: str = "") -> str:
    """A plan as a section of a comment on a pull request: its one line, a note, and its text, cut where it is very long."""
    text = redact(text)  # before it is cut: half a secret would not be known
    kept = text if len(text) <= MARKDOWN_LIMIT else f"{text[:MARKDOWN_LIMIT]}\n… cut here: the job's log has all of it"
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", kept)), default=0))
    return redact("\n".join([f"## {environment}: {line}", "", *([note, ""] if note else []), f"{fence}diff", kept, fence, ""]))


def counted(plan: Plan) -> str:
    """How many objects each action is for, on one line."""
    counts = {action: sum(item.action == action for item in plan.objects) for action in (*SIGNS, UNCHANGED)}
    return ", ".join(f"{count} {action}" for action, count in counts.items() if count)


def _backup(plan: Plan) -> str:
    if plan.before_upgrade:
        return f"before all that, before_upgrade runs: {'; '.join(process.quoted(words) for words in plan.before_upgrade)}"
    return f"no backup comes before that: {plan.environment} has no before_upgrade"


def shown(value: Any) -> str:
    """A value on one line, cut when it is long."""
    plain = isinstance(value, str) and bool(value) and "\n" not in value
    words = redact(value if plain else documents.canonical(value))
    return words if len(words) < 120 or not isinstance(value, str) else words[:117] + "..."


def as_json(plan: Plan) -> dict[str, Any]:
    """A plan as JSON: {"environment", "cluster", "forced", "namespaces", "inputs", "live", "secrets", "releases",
    "crds": [{"name", "new", "changes": [text]}],
    "objects": [{"action", "chart", "object", "changes": [{"path", "before", "after", "origin"}], "reason", "conflicts": [{"field", "owner"}],
    "pods", "data", "checked"}], "before_upgrade": [argv]}. It holds no secret."""
    objects = [
        {
            "action": item.action, "chart": item.chart, "object": item.label, "reason": item.reason, "pods": list(item.pods),
            "data": list(item.data), "checked": item.checked,
            "changes": [{"path": c.path, "before": c.before, "after": c.after, "origin": item.origins.get(c.path, "")} for c in item.changes],
            "conflicts": [{"field": c.field, "owner": c.owner} for c in item.conflicts],
        }
        for item in plan.objects
    ]  # fmt: skip
    kept = {key: getattr(plan, key) for key in ("environment", "cluster", "forced", "namespaces", "inputs", "live", "secrets", "releases")}
    before = plan.before_upgrade if plan.databases else ()
    return {**kept, "crds": [asdict(one) for one in plan.crds], "objects": _redacted(objects), "before_upgrade": _redacted(before)}


def _redacted(value: Any) -> Any:
    """A document with every known secret in its texts masked."""
    if isinstance(value, dict):
        return {key: _redacted(one) for key, one in value.items()}
    return [_redacted(one) for one in value] if isinstance(value, list | tuple) else redact(value) if isinstance(value, str) else value
