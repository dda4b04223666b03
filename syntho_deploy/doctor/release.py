"""What is installed: CRDs, the releases, who is at work on them, and the last record."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

from syntho_deploy import unlock
from syntho_deploy.checks import schema
from syntho_deploy.cluster import crds as definitions
from syntho_deploy.cluster import lease as leases
from syntho_deploy.cluster import record as kept
from syntho_deploy.cluster.client import ApiError
from syntho_deploy.cluster.releases import stored
from syntho_deploy.doctor.subject import NEW, RULES, Missing, Result, Subject, forbidden, side_by_side
from syntho_deploy.errors import DeployError

API = "apiextensions.k8s.io/v1"


def crds(subject: Subject) -> Iterator[Result]:
    """The CRDs are as vendored, or deploy may bring them there: no version goes that is served or stored, and no field that is used. Where
    `manage.crds` is false they are there."""
    environment = subject.environment
    files = [file for chart in subject.compiled.charts.values() for file in chart.crds]
    results = side_by_side([partial(_crd, subject, file) for file in files])
    yield from dict.fromkeys(one for one in results if one.state != "ok")
    good: dict[str, list[str]] = {}
    for one in results:
        if one.state == "ok":
            good.setdefault(one.what, []).append(one.check)
    managed = "" if environment.manage_crds else "; deploy leaves them alone"
    if good:
        yield Result("crds", "ok", "; ".join(f"{', '.join(names)}: {what}" for what, names in good.items()) + managed)
    elif not files:
        yield Result("crds", "ok", "the charts bring none")


def _crd(subject: Subject, file: Path) -> Result:
    """One CRD; where nothing is wrong, its name stands in the place of the check's."""
    managed = subject.environment.manage_crds
    try:
        name = definitions.name_of(file)
        due = definitions.due(subject.client, [file], managed)
        if due:
            change = definitions.review(subject.client, due, subject.compiled.objects)[0]
            return Result(name, "ok", "deploy brings it" if change.new else f"deploy changes it: {'; '.join(change.changes)}")
        if managed:
            return Result(name, "ok", "as vendored")
        live = subject.found(API, "CustomResourceDefinition", name) or {}
        group = name.partition(".")[2]
        ours = {api.rpartition("/")[2] for api in schema.served(subject.compiled) if api.startswith(f"{group}/")}
        versions = [one["name"] for one in live.get("spec", {}).get("versions") or [] if one.get("served")]
        newer = sorted(set(versions) - ours)
        return Result(name, "ok", f"serves {', '.join(versions)}" + (f"; {', '.join(newer)} is not in ours" if newer else ""))
    except Missing as missing:
        return Result("crds", "unknown", str(missing), missing.todo)
    except DeployError as error:
        words = forbidden(error) if isinstance(error, ApiError) else ""
        if words:
            return Result("crds", "unknown", words, RULES)
        return Result("crds", "unknown" if isinstance(error, ApiError) and error.status >= 500 else "error", error.what, error.todo)


def releases(subject: Subject) -> Iterator[Result]:
    """The two releases are not there yet, or deployed. One that helm left pending keeps every deploy out; one that failed is mended by the next."""
    env = subject.environment.name
    charts = {chart.release.name: chart for chart in subject.compiled.charts.values()}
    found = stored(subject.client, subject.namespace, list(charts))
    good: dict[str, list[str]] = {}
    for name, chart in charts.items():
        one = found.get(name)
        if one is None:
            good.setdefault("not installed yet", []).append(name)
        elif one.pending:
            todo = f"wait for it; if its process was killed: invoke unlock --env={env} --reason=…"
            yield Result("releases", "error", f"{name}, revision {one.revision}, is {one.status} since {one.updated[:19]}", todo)
        elif one.status == "uninstalling":
            yield Result("releases", "error", f"{name} is being uninstalled, or that was interrupted", f"invoke undeploy --env={env}, then deploy")
        elif one.status != "deployed":
            todo = f"invoke deploy --env={env} mends it; why it failed: helm history {name} -n {subject.namespace}"
            yield Result("releases", "warning", f"{name}, revision {one.revision}, is {one.status} since {one.updated[:19]}", todo)
        elif not one.ours:
            todo = f"what deploy takes over, and changes: invoke plan --env={env}"
            yield Result("releases", "warning", f"{name} {one.version} was installed by other hands", todo)
        else:
            state = "as compiled" if one.version == chart.version else "not as compiled: invoke plan shows how"
            good.setdefault(f"deployed, {state}", []).append(f"{name} (revision {one.revision})")
    if good:
        yield Result("releases", "ok", "; ".join(f"{', '.join(names)}: {what}" for what, names in good.items()))


def lease(subject: Subject) -> Iterator[Result]:
    """Nobody else works on the environment. A holder that gives no sign of life is passed over by the next run."""
    found = leases.look(subject.client, subject.namespace)
    text = unlock.text({"lease": asdict(found), "releases": []}, subject.environment.name)
    what, _, todo = text.partition("\n  -> ")
    yield Result("lease", "warning" if found.state == leases.HELD else "ok", "free" if text.startswith("nothing locks") else what, todo)


def record(subject: Subject) -> Iterator[Result]:
    """The last state that was deployed and verified, to which `invoke rollback` can go back."""
    found = kept.records(subject.client, subject.environment.name, subject.namespace)
    if not found:
        yield Result("record", "ok", NEW)
        return
    last = found[-1]
    now = {chart.release.name: chart.version for chart in subject.compiled.charts.values()}
    state = "as compiled" if last.charts == now else "not as compiled"
    yield Result("record", "ok", f"number {last.number}, {last.when} by {last.who} ({last.reason}), {state}")
