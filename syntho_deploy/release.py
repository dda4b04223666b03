"""Deploy and undeploy: from compiled charts to releases that run and were verified."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from syntho_deploy import plan as planning
from syntho_deploy import planfile, process, verify
from syntho_deploy.cluster import crds, predict, preflight, readiness, record, volumes
from syntho_deploy.cluster.client import AT_ONCE, MANAGER, Client, Object
from syntho_deploy.cluster.ignore import SCALER, Ignored
from syntho_deploy.cluster.lease import Lease
from syntho_deploy.cluster.readiness import Live
from syntho_deploy.cluster.releases import Stored, stored
from syntho_deploy.cluster.stuck import Patience
from syntho_deploy.cluster.watch import View
from syntho_deploy.compile import KEEP, Compiled, CompiledChart
from syntho_deploy.errors import DeployError, LockedError, NotHealthyError, PreflightError
from syntho_deploy.helm import Helm
from syntho_deploy.overlays.manifests import is_custom
from syntho_deploy.plan import Plan
from syntho_deploy.planfile import PlanFile
from syntho_deploy.secrets import manage, store
from syntho_deploy.secrets.sentinels import label
from syntho_deploy.steps import Step, Steps

LEAST_SECONDS = 5.0  # that a helm gets which has to begin, now that the other release is written
QUIET_SECONDS = 1.0  # how long to wait for the next event before looking at the deadline again


@dataclass
class Outcome:
    """What a deploy did. An empty one says that there was nothing to do."""

    crds: list[str] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)
    releases: list[str] = field(default_factory=list)
    restarted: list[str] = field(default_factory=list)
    began: bool = False  # was anything of a release written?
    live: Live | None = field(default=None, repr=False)  # as it was verified

    def __bool__(self) -> bool:
        return bool(self.crds or self.secrets or self.releases or self.restarted)


def _refuse(what: str) -> None:
    raise PreflightError(what)


@dataclass(frozen=True)
class Way:
    """How to deploy. timeout: seconds for all of it since `began` (monotonic), but for the time that `before_upgrade` takes; going back
    has as many of its own. plan_file: refuse when anything moved since that plan was made;
    force_conflicts: take the fields that another manager owns; reason: kept in the record. accept: gets the sentence of a loss that may
    come, and raises where it is not accepted; backup: run `before_upgrade`, or ask so; values: of secrets that are not in the cluster
    yet, before those that their sources give; held: entered when the Lease is taken, and left with what the deploy raised; forcing:
    what to do for force_conflicts, where it is not given."""

    helm: Helm
    timeout: float
    plan_file: PlanFile | None = None
    force_conflicts: bool = False
    reason: str = "deploy"
    accept: Callable[[str], None] = _refuse
    backup: bool = True
    values: dict[str, str] = field(default_factory=dict, repr=False)
    held: Callable[[], AbstractContextManager[None]] = nullcontext
    began: float = field(default_factory=time.monotonic)
    forcing: str = "say --force-conflicts"


def deploy(client: Client, compiled: Compiled, steps: Steps, way: Way, last_good: Callable[[], Compiled | None] = lambda: None) -> Outcome:
    """Bring the cluster to the compiled state and return when that was verified and recorded.

    What already runs as compiled is left alone. last_good: the state to go back to when the new one does not get healthy.
    Raises `PreflightError` before anything but the Lease is written, `LockedError` while another process is at it,
    `NotHealthyError` naming what is not ready or not as compiled, and whether the last good state runs again.
    """
    namespace = compiled.environment.target.namespace
    _ensure_namespace(client, namespace, compiled.environment.manage_namespace)
    with Lease(client, namespace, way.reason) as lease, way.held():
        outcome = Outcome()
        try:
            _bring(client, compiled, steps, way, lease, outcome)
        except DeployError as failed:
            process.stop_if_interrupted()
            if isinstance(failed, LockedError) or not (outcome.began or isinstance(failed, NotHealthyError)):
                raise
            error = failed if isinstance(failed, NotHealthyError) else NotHealthyError(f"it failed half-way: {failed.what}", todo=failed.todo)
            good = _known(last_good, steps)
            if good is None or versions(good) == versions(compiled):  # nowhere to go: what is ill is not what changed
                raise error from None
            raise _gone_back(client, good, steps, way, lease, error) from None
        kept = record.records(client, compiled.environment.name, namespace)
        uids = _uids(client, compiled, outcome)
        last = (kept[-1].charts, kept[-1].uids) if kept and kept[-1].readable else None
        if outcome or last != (versions(compiled), uids):  # also what an interrupted run had brought, and what another hand made anew
            with steps.step("record") as step:
                lease.check(write=True)
                step.result = f"number {record.write(client, compiled, way.reason, kept, uids)}"
    return outcome


def _uids(client: Client, compiled: Compiled, outcome: Outcome) -> dict[str, str]:
    """The identity of each object and Secret that was verified, by `Kind/name`."""
    found = [outcome.live.get(item["kind"], item["metadata"]["name"]) for item in compiled.objects] if outcome.live else []
    names = [need.name for need in store.wanted(compiled)]
    secrets = client.each("v1", "Secret", compiled.environment.target.namespace, names)
    mine = {label(item): str(item["metadata"]["uid"]) for item in found if item}
    return {**mine, **{f"Secret/{name}": str(item["metadata"]["uid"]) for name, item in secrets.items() if item}}


def _known(last_good: Callable[[], Compiled | None], steps: Steps) -> Compiled | None:
    """The state to go back to; None where it cannot be read now."""
    try:
        return last_good()
    except Exception as error:  # a record that somebody has changed, too: what is told is why the deploy failed
        steps.say(f"there is no way back, since the records cannot be read: {getattr(error, 'what', type(error).__name__)}")
        return None


def versions(compiled: Compiled) -> dict[str, str]:
    """Release name to compiled version: what tells two states apart."""
    return {chart.release.name: chart.version for chart in compiled.charts.values()}


def _gone_back(client: Client, good: Compiled, steps: Steps, way: Way, lease: Lease, error: NotHealthyError) -> NotHealthyError:
    """Go back to the last good state. Returns the error to raise: the first one, and how the way back ended."""
    steps.say(f"not healthy, going back:\n{error}")
    try:
        _bring(client, good, steps, replace(way, plan_file=None, backup=False, began=time.monotonic()), lease, Outcome())
    except DeployError as second:
        return NotHealthyError(f"{error.what}\nand the way back failed too: {second.what}", todo=second.todo or error.todo)
    return NotHealthyError(f"{error.what}\nthe last good state was deployed again and verified", todo="mend the cause, then deploy again")


def _bring(client: Client, compiled: Compiled, steps: Steps, way: Way, lease: Lease, outcome: Outcome) -> None:
    """Plan, secrets, writes, readiness, verification. What was done is noted in `outcome` as it is done."""
    deadline, namespace, whole = way.began + way.timeout, compiled.environment.target.namespace, client
    client = whole.until(deadline)
    found = _planned(client, compiled, steps, way)
    if found.databases and way.backup:
        begun = time.monotonic()
        _back_up(client, compiled, found, way, steps)
        lease.check()
        deadline += time.monotonic() - begun
        client = whole.until(deadline)
        found = _planned(client, compiled, steps, way)  # it may have taken hours
    _await_going(client, compiled, found, steps, deadline)
    with steps.step("secrets") as step:
        adopted = manage.adopt(client, compiled) if found.foreign else {}
        lease.check(write=True)
        outcome.secrets = store.ensure(client, compiled, {**way.values, **{name: one.value for name, one in adopted.items()}})
        step.result = "; ".join([*outcome.secrets, *(f"{name} taken over from {one.places[0]}" for name, one in adopted.items())]) or "nothing to add"
    for note in manage.notes(client, compiled):
        steps.say(f"note: {note}")
    patience = None
    if found.releases or found.crds:
        if time.monotonic() > deadline:
            raise PreflightError(f"the {way.timeout:.0f} s of this deploy were over before a release was written", todo="give it a longer --timeout")
        patience = Patience(client, namespace, compiled.environment.graces, steps.say)
        lease.check(write=True)
        outcome.began = True
        _write(client, compiled, found, way, steps, deadline, lease, outcome)
    live = None if found.releases else verify.look(client, compiled)
    if live is None or verify.faults(client, compiled, live):
        patience = patience or Patience(client, namespace, compiled.environment.graces, steps.say)
        outcome.restarted, live = _settle(client, compiled, steps, deadline, lease, patience)
        with steps.step("verify") as step:
            live = verify.look(client, compiled, live)
            left = verify.faults(client, compiled, live)
            if left:  # a controller may have replaced a pod since all was ready: what does not get ready again is named by this
                restarted, live = _settle(client, compiled, steps, deadline, lease, patience)
                outcome.restarted += restarted
                live = verify.look(client, compiled, live)
                left = verify.faults(client, compiled, live)
            if left:
                todo = f"invoke status --env={compiled.environment.name}"
                raise NotHealthyError(_listed("the releases were written, but are not as compiled", left), todo=todo)
            step.result = f"{len(compiled.objects)} objects as compiled"
    outcome.live = live


def _planned(client: Client, compiled: Compiled, steps: Steps, way: Way) -> Plan:
    """The plan, where nothing stands in its way."""
    with steps.step("plan") as step:
        found = planning.make(client, compiled, way.force_conflicts)
        if way.plan_file:
            planfile.refuse_moved(way.plan_file, found, way.helm.version)
        _refuse_blocked(found, way.forcing)
        step.result = f"{len(found.changed)} of {len(found.objects)} objects change" if found.changed else "every object is as compiled"
    for item in found.objects:
        for conflict in item.conflicts:
            steps.say(f"takes by force: {item.label} {conflict.field} from {conflict.owner}")
    return found


def _back_up(client: Client, compiled: Compiled, found: Plan, way: Way, steps: Steps) -> None:
    """Run what the environment wants to be run before the pod of a database is replaced; nothing was written yet.

    Raises `PreflightError` when a command fails, or when there is none and a protected environment is not said to go without.
    """
    environment = compiled.environment
    where = environment.marks.get("before_upgrade")
    if not environment.before_upgrade and environment.protected:
        databases = ", ".join(f"{item.label} with the volume {', '.join(item.data)}" for item in found.databases)
        way.accept(f"this replaces the pods of {databases}, and {environment.name} has no before_upgrade that makes a backup")
    for words in environment.before_upgrade:
        with steps.step("before_upgrade") as step:
            try:
                kubeconfig = {"KUBECONFIG": client.access.kubeconfig}
                process.run(words, timeout=way.timeout, env=kubeconfig, cwd=environment.root, writes=True, say=steps.say)
            except process.ProcessError as error:
                raise PreflightError(f"before_upgrade failed, and nothing was written: {error.what}", where, error.todo) from None
            step.result = process.quoted(words)


def make_secrets(client: Client, compiled: Compiled, steps: Steps, adopt: bool) -> list[str]:
    """Create the Secrets that are missing. adopt: with the values that run now, before those of the sources."""
    namespace = compiled.environment.target.namespace
    _ensure_namespace(client, namespace, compiled.environment.manage_namespace)
    with Lease(client, namespace, "secrets"), steps.step("secrets") as step:
        adopted = manage.adopt(client, compiled) if adopt else {}
        written = store.ensure(client, compiled, {name: one.value for name, one in adopted.items()})
        step.result = "; ".join(f"{name} taken over from {', '.join(one.places)}" for name, one in adopted.items())
    return written


def _refuse_blocked(found: Plan, forcing: str) -> None:
    if blocked := found.blocked:
        lines = [f"{item.label}: {item.reason}" for item in blocked if not item.conflicts]
        lines += [f"{item.label}: {conflict.field} is owned by {conflict.owner}" for item in blocked for conflict in item.conflicts]
        todo = f"undo the other tool's change, or take it into an overlay; to take the fields: {forcing}"
        raise PreflightError(_listed("the cluster would refuse this", lines), todo=todo if any(item.conflicts for item in blocked) else "")


def _write(client: Client, compiled: Compiled, found: Plan, way: Way, steps: Steps, deadline: float, lease: Lease, outcome: Outcome) -> None:
    """Write the CRDs and the releases that are due, side by side, but that a chart with custom resources waits for the CRDs."""
    root = compiled.environment.root
    due = {name: chart for name, chart in compiled.charts.items() if chart.release.name in found.releases}
    files = {crds.name_of(file): file for chart in compiled.charts.values() for file in chart.crds} if found.crds else {}
    missing = {crd.name: files[crd.name] for crd in found.crds}
    _keep(client, compiled, found)
    _clear(client, compiled, found, steps, deadline)
    with ThreadPoolExecutor(len(due) + 1) as pool:
        applied = pool.submit(_apply_crds, client, missing, steps, deadline)
        after = {name: applied if any(is_custom(item) for item in chart.objects) else None for name, chart in due.items()}
        writes = [pool.submit(_release, root, way, client, chart, found, steps, deadline, lease, after[name]) for name, chart in due.items()]
        _await_all([applied, *writes])
    for item in found.objects:
        if item.action == planning.DELETE:  # helm compares with the last deployed manifest: what a failed one had begun is left by it
            client.delete(item.version, item.kind, compiled.environment.target.namespace, item.name)
    outcome.crds = list(missing)
    outcome.releases = [f"{chart.release.name} {chart.version}" for chart in due.values()]


def _keep(client: Client, compiled: Compiled, found: Plan) -> None:
    """Have helm keep the volumes and Secrets that leave a release: an upgrade reads the policy from the live object."""
    for item in found.objects:
        if item.action == planning.KEPT and item.changes:
            path = client.path(item.version, item.kind, compiled.environment.target.namespace, item.name)
            note = {"metadata": {"annotations": {KEEP: "keep"}}}
            client.request("PATCH", path, note, {"fieldManager": MANAGER}, "application/merge-patch+json")


def _clear(client: Client, compiled: Compiled, found: Plan, steps: Steps, deadline: float) -> None:
    """Delete what cannot change in place, in the foreground, so that no old pod runs beside a new one on the same volume."""
    replaced = [item for item in found.objects if item.action == planning.REPLACE]
    if not replaced:
        return
    namespace = compiled.environment.target.namespace
    versions = {label(item): item["apiVersion"] for item in compiled.objects}
    with steps.step("replace") as step:
        for item in replaced:
            path = client.path(versions[item.label], item.kind, namespace, item.name)
            client.request("DELETE", path, query={"propagationPolicy": "Foreground"})
        _await_gone(client, namespace, [(versions[item.label], item.kind, item.name) for item in replaced], deadline - time.monotonic())
        step.result = ", ".join(item.label for item in replaced)


def _await_going(client: Client, compiled: Compiled, found: Plan, steps: Steps, deadline: float) -> None:
    """Wait for what somebody else is deleting, before anything is written. Raises `PreflightError` when it is not gone in time."""
    versions = {label(item): item["apiVersion"] for item in compiled.objects}
    items = [(versions[item.label], item.kind, item.name) for item in found.objects if item.going]
    if not items:
        return
    with steps.step("being deleted") as step:
        try:
            _await_gone(client, compiled.environment.target.namespace, items, deadline - time.monotonic())
        except NotHealthyError as error:
            todo = "what holds it (its finalizers, in brackets) has to let go; then deploy again"
            raise PreflightError(f"somebody is deleting what this deploys, and nothing was written: {error.what}", todo=todo) from None
        step.result = f"gone: {', '.join(f'{kind}/{name}' for _, kind, name in items)}"


def _settle(client: Client, compiled: Compiled, steps: Steps, deadline: float, lease: Lease, patience: Patience) -> tuple[list[str], Live]:
    """Wait until all is ready. Returns the pods that had to be deleted for it, and what was there then."""
    kinds = readiness.watched_kinds(compiled.objects)
    with View(client, compiled.environment.target.namespace, kinds) as view, steps.step("ready") as step:
        return _until_ready(client, compiled, view, step, deadline, lease, patience)


def _apply_crds(client: Client, missing: dict[str, Path], steps: Steps, deadline: float) -> None:
    if missing:
        with steps.step("CRDs") as step:
            crds.apply(client, missing, deadline - time.monotonic())
            step.result = ", ".join(missing)


def _ensure_namespace(client: Client, name: str, manage: bool) -> None:
    if preflight.namespace_due(client, name, manage):
        client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})


def _release(
    root: Path, way: Way, client: Client, chart: CompiledChart, found: Plan, steps: Steps, deadline: float, lease: Lease, after: Future[None] | None
) -> None:  # fmt: skip
    if after:
        after.result()
        kinds = {(item["apiVersion"], item["kind"]) for item in chart.objects if is_custom(item)}
        with suppress(NotHealthyError):  # helm then says what is missing
            crds.await_listed(client, kinds, min(deadline, time.monotonic() + crds.OTHERS_SECONDS))
    with steps.step(f"release {chart.release.name}") as step:
        lean = {item.label for item in found.objects if item.lean}
        leaving = {item.name for item in found.objects if item.kind == SCALER[1] and item.action == planning.DELETE}
        mine = {label(item) for item in chart.objects}
        taken = {(item.label, conflict.field) for item in found.objects if item.label in mine for conflict in item.conflicts}
        ignored = Ignored.read(client, root, chart.namespace)
        written = ignored.after(leaving).chart(client, chart, lean)
        folder = written.write(build_folder(root, chart))
        shared = {item.label for item in found.objects if item.label in mine and item.shared}
        if force := bool(taken or shared or any(ignored.paths(item) for item in chart.objects)):
            # helm takes whatever others own: that may only be what was planned, and what is another's anyway, which gets its live value
            _refuse_other_conflicts(client, written, ignored, taken, shared)
        left = max(LEAST_SECONDS, deadline - time.monotonic())
        lease.check(write=True)
        way.helm.upgrade(folder, chart.release.name, chart.namespace, client.access.kubeconfig, client.access.context, left, force)
        step.result = f"{chart.name} {chart.version}"


def _refuse_other_conflicts(
    client: Client, chart: CompiledChart, ignored: Ignored, taken: Container[tuple[str, str]], shared: Container[str]
) -> None:  # fmt: skip
    """Raise `PreflightError` for a field that another manager has taken since the plan. taken: (`Kind/name`, field) that the plan had;
    shared: the objects of which it had to take what another controller set."""

    def look(item: Object) -> list[tuple[str, predict.Conflict]]:
        live = client.get(item["apiVersion"], item["kind"], chart.namespace, item["metadata"]["name"])
        found = predict.predict(client, predict.owned(item, chart.release.name, chart.namespace), live).conflicts
        return [(label(item), one) for one in found if (label(item), one.field) not in taken and not ignored.within(one.field, item)]

    with ThreadPoolExecutor(AT_ONCE) as pool:
        looked = pool.map(look, (item for item in chart.objects if label(item) not in shared))
        others = [f"{name}: {one.field} is owned by {one.owner}" for found in looked for name, one in found]
    if others:
        raise PreflightError(_listed("these fields were taken since it was planned", others), todo="plan again, and review it")


def build_folder(root: Path, chart: CompiledChart) -> Path:
    """Where the static chart of a deploy is written: by release and digest, so that two deploys never share half a chart."""
    return root / ".build" / chart.namespace / f"{chart.release.name}-{chart.digest[:12]}" / chart.name


def _await_all(futures: list[Future[None]]) -> None:
    """Wait for all; when one fails, the others come to their end first, so that no helm is left half-way."""
    wait(futures)
    for future in futures:
        future.result()


def _until_ready(
    client: Client, compiled: Compiled, view: View, step: Step, deadline: float, lease: Lease, patience: Patience
) -> tuple[list[str], Live]:  # fmt: skip
    """Wait until every object is ready, deleting the pods of an older state that nobody else replaces. Returns the deleted pods, and what
    was there then."""
    items = [item for item in compiled.objects if item["kind"] in readiness.RULES]
    clusters, sets = ([item for item in items if item["kind"] == kind] for kind in ("RayCluster", "StatefulSet"))
    deleted: dict[str, str] = {}
    while True:
        process.stop_if_interrupted()
        lease.check()
        live = view.live()
        stale = [pod for item in clusters for pod in readiness.stale_ray_pods(item, live)]
        for pod in [*stale, *(pod for item in sets for pod in readiness.blocking_pods(item, live))]:
            if pod["metadata"]["uid"] not in deleted:
                lease.check(write=True)
                deleted[pod["metadata"]["uid"]] = f"pod {pod['metadata']['name']}"
                client.delete("v1", "Pod", pod["metadata"]["namespace"], pod["metadata"]["name"])
        reasons = {label(item): reason for item in items if (reason := readiness.unready(item, live))}
        if not reasons:
            step.result = f"{len(items)} objects" + (f"; replaced {', '.join(deleted.values())}" if deleted else "")
            return list(deleted.values()), live
        step.note(f"{len(items) - len(reasons)} of {len(items)} ready")
        if lines := patience.ended([item for item in items if label(item) in reasons], live):
            raise NotHealthyError(_listed("these will not get ready by waiting", lines), todo="mend that, then deploy again")
        if time.monotonic() > deadline:
            raise NotHealthyError(
                _listed("not ready in time", (f"{name}: {reason}" for name, reason in reasons.items())),
                todo="invoke status shows it again; a longer --timeout gives it more time",
            )
        view.wait(min(QUIET_SECONDS, max(0.05, deadline - time.monotonic())))


def _listed(title: str, lines: Iterable[str]) -> str:
    return title + ":\n" + "\n".join(f"  {line}" for line in lines)


def undeploy(client: Client, compiled: Compiled, helm: Helm, steps: Steps, timeout: float, delete_data: bool) -> list[str]:
    """Uninstall both releases, side by side. Volumes and secrets stay unless `delete_data`. Returns what was removed.

    Raises `PreflightError` for a release that was not made from a compiled chart: its manifest does not keep its volumes.
    """
    namespace = compiled.environment.target.namespace
    store.learn(client, compiled)
    releases = stored(client, namespace, [chart.release.name for chart in compiled.charts.values()])
    foreign = [release.name for release in releases.values() if not release.ours]
    if foreign and not delete_data:
        what = f"the release {', '.join(foreign)} was not deployed from here: uninstalling it would delete its volumes"
        raise PreflightError(what, todo="deploy first, which takes it over and keeps the volumes; or say --delete-data")
    if not delete_data:
        sets = client.objects("apps/v1", "StatefulSet", namespace)
        mine = {label(item) for release in releases.values() for item in release.objects}
        if lost := [label(item) for item in sets if label(item) in mine and volumes.lost_with(item)]:
            raise PreflightError(f"the volumes of {', '.join(lost)} would go: {volumes.LOST_WITH}")
    if (not releases and not delete_data) or not preflight.has_namespace(client, namespace, compiled.environment.manage_namespace):
        return []
    with Lease(client, namespace, "undeploy") as lease:
        return _remove(client, compiled, releases, helm, steps, timeout, delete_data, lease)


def _remove(
    client: Client, compiled: Compiled, releases: dict[str, Stored], helm: Helm, steps: Steps, timeout: float, delete_data: bool, lease: Lease
) -> list[str]:  # fmt: skip
    namespace, removed, deadline = compiled.environment.target.namespace, [], time.monotonic() + timeout
    ours = _ours(client, compiled, releases.values()) if delete_data else []
    if releases:
        with ThreadPoolExecutor(len(releases)) as pool:
            list(pool.map(lambda name: _uninstall(helm, client, name, namespace, steps, timeout), releases))
        removed = [f"release {name}" for name in releases]
        with steps.step("gone") as step:
            items = [item for item in compiled.objects if (item["metadata"].get("annotations") or {}).get(KEEP) != "keep"]
            _await_gone(
                client, namespace, [(item["apiVersion"], item["kind"], item["metadata"]["name"]) for item in items], deadline - time.monotonic()
            )
            step.result = f"{len(items)} objects"
    if delete_data:
        with steps.step("delete data") as step:
            lease.check(write=True)
            data = _delete_data(client, compiled, deadline - time.monotonic(), ours)
            step.result = ", ".join(data)
            removed += data
    return removed


def _uninstall(helm: Helm, client: Client, name: str, namespace: str, steps: Steps, timeout: float) -> None:
    with steps.step(f"uninstall {name}"):
        helm.uninstall(name, namespace, client.access.kubeconfig, client.access.context, timeout)


def _delete_data(client: Client, compiled: Compiled, timeout: float, ours: list[Object]) -> list[str]:
    """Delete the volume claims of this environment's releases, those that left them and those of their StatefulSets too, and the
    Secrets made for it.

    ours: the objects that its releases have, or had. A claim that belongs to another release stays: helm marks its claims. Those of
    a StatefulSet bear no mark, so only those of our StatefulSets go.
    Returns when the claims are gone: a claim stays while a pod mounts it.
    """
    namespace = compiled.environment.target.namespace
    releases = {(chart.release.name, chart.namespace) for chart in compiled.charts.values()}
    prefixes = [prefix for item in ours if item["kind"] == "StatefulSet" for prefix in volumes.set_prefixes(item)]
    removed = []
    for live in client.objects("v1", "PersistentVolumeClaim", namespace):
        name, notes = live["metadata"]["name"], live["metadata"].get("annotations") or {}
        marked = (notes.get("meta.helm.sh/release-name"), notes.get("meta.helm.sh/release-namespace")) in releases
        if (marked or volumes.is_of(name, prefixes)) and client.delete("v1", "PersistentVolumeClaim", namespace, name):
            removed.append(name)
    _await_gone(client, namespace, [("v1", "PersistentVolumeClaim", name) for name in removed], timeout)
    record.delete(client, compiled.environment.name, namespace)
    return [f"volume claim {name}" for name in removed] + [f"Secret {name}" for name in store.delete(client, compiled.environment.name, namespace)]


def _ours(client: Client, compiled: Compiled, releases: Iterable[Stored]) -> list[Object]:
    """The objects that this environment's releases have or had, as far as they or the records tell; none where nothing of it is known."""
    found = [item for release in releases for item in release.objects]
    for one in record.records(client, compiled.environment.name, compiled.environment.target.namespace):
        found += [item for chart in one.content["charts"].values() for item in chart["manifests"].values()] if one.readable else []
    return [*found, *compiled.objects] if found else []


def _await_gone(client: Client, namespace: str, names: list[tuple[str, str, str]], timeout: float) -> None:
    """Wait until none of these (apiVersion, kind, name) is there. Raises `NotHealthyError` naming what is, and the pods that are."""
    deadline = time.monotonic() + timeout
    kinds = {(version, kind) for version, kind, _ in names} | {("v1", "Pod")}
    with View(client, namespace, sorted(kinds)) as view:
        while True:
            process.stop_if_interrupted()
            live = view.live()
            there = [(f"{kind}/{name}", item) for _, kind, name in names if (item := live.get(kind, name))]
            left = [f"{one} ({held})" if (held := ", ".join(item["metadata"].get("finalizers") or [])) else one for one, item in there]
            if not left:
                return
            if time.monotonic() > deadline:
                pods = ", ".join(pod["metadata"]["name"] for pod in live.pods()) or "none"
                raise NotHealthyError(
                    f"still there after {max(0.0, timeout):.0f} s: {', '.join(left)}", todo=f"pods that are there: {pods}; run it again"
                )
            view.wait(QUIET_SECONDS)
