"""Takes the Syntho platform from its pinned charts to a running, verified release. Each task is one step of that way."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

# invoke keeps Python from writing .pyc files (unless --write-pyc), and compiling our modules takes longer than running them
sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))

from syntho_deploy.console import command, confirm, duration, say, show, table  # noqa: E402

if TYPE_CHECKING:
    from syntho_deploy.compile import Compiled, Project
    from syntho_deploy.errors import DeployError
    from syntho_deploy.helm import Helm
    from syntho_deploy.vendor import Vendored

ROOT = Path(__file__).resolve().parent
ENV = "the environment: a file in envs/ (invoke envs lists them)"
JSON = "print JSON on stdout"


def _project(env: str) -> Project:
    from syntho_deploy.compile import Project
    from syntho_deploy.secrets import sources

    project = Project.load(ROOT, env)
    sources.hide(project.environment)
    return project


def _projects(env: str) -> tuple[list[Project], list[DeployError]]:
    """The projects of the environments that an option names, and the faults of those that cannot be read; of a single one it raises."""
    projects, faults = _named_projects(env)
    if faults and not projects and len(faults) == 1:
        raise faults[0][1]
    return projects, [fault for _, fault in faults]


def _named_projects(env: str) -> tuple[list[Project], list[tuple[str, DeployError]]]:
    """The projects of the environments that an option names, and those that cannot be read, each with its fault."""
    from syntho_deploy.compile import Project
    from syntho_deploy.environment import chosen
    from syntho_deploy.errors import DeployError
    from syntho_deploy.secrets import sources

    checked: dict[Path, Vendored] = {}
    projects, faults = [], []
    for name in chosen(ROOT, env):
        try:
            projects.append(Project.load(ROOT, name, checked))
            sources.hide(projects[-1].environment)
        except DeployError as error:
            faults.append((name, error))
    return projects, faults


def _finish(faults: list[DeployError]) -> None:
    """End with the faults of several environments, and the worst of their exit codes."""
    if faults:
        raise Exit("\n".join(f"error: {fault}" for fault in faults), max(fault.exit_code for fault in faults))


def _refuse_dead(project: Project, binary: Helm) -> None:
    """Refuse an environment whose own overlay has operations without effect; a shared component may have some."""
    from syntho_deploy import explain
    from syntho_deploy.errors import raise_all

    errors, _ = explain.dead(project, binary)
    raise_all(errors)


@task(
    help={
        "url": "fetch from this mirror instead (also: SYNTHO_CHARTS_URL)",
        "update": "resolve the ref anew and write the lock",
        "check": "verify only",
        "pin": "the pin file",
    }
)
@command
def vendor(c: Context, url: str = "", update: bool = False, check: bool = False, pin: str = "vendor/charts.yaml") -> None:
    """Fetch the pinned charts, or verify them: their bytes are the ones the lock names."""
    from syntho_deploy.vendor import load_pin
    from syntho_deploy.vendor import vendor as run

    print("\n".join(run(ROOT, load_pin(ROOT, ROOT / pin), url or None, update, check).lines))


@task(help={"json": JSON})
@command
def envs(c: Context, json: bool = False) -> None:
    """List the environments, with their cluster, namespace and pin."""
    from syntho_deploy.environment import load_environment, names

    found = [load_environment(ROOT, name) for name in names(ROOT)]
    rows = [
        {
            "name": item.name, "cluster": item.target.local or item.target.context, "local": bool(item.target.local),
            "namespace": item.target.namespace, "pin": os.path.relpath(item.pin_file, ROOT), "protected": item.protected,
        }
        for item in found
    ]  # fmt: skip
    if json:
        show(rows)
    else:
        shown = [(str(r["name"]), f"{'local cluster' if r['local'] else 'context'} {r['cluster']}", str(r["namespace"]), str(r["pin"])) for r in rows]
        print(table([("ENVIRONMENT", "CLUSTER", "NAMESPACE", "PIN"), *shown]))


@task(
    iterable=["vars", "secrets"],
    help={
        "env": "the name of the new environment",
        "from": "the environment to begin with",
        "context": "the context of your kubeconfig",
        "namespace": "where the releases go",
        "kubernetes": "the Kubernetes version to render for",
        "components": "these instead, with commas",
        "vars": "a variable, name=value; again for each",
        "secrets": "a secret's source, name=generate:KIND, env:VARIABLE, file:PATH, or a registry's server:HOST; again for each",
        "dry-run": "print it instead of writing",
    },
)
@command
def new_env(
    c: Context,
    env: str,
    from_: str = "prod",
    context: str = "",
    namespace: str = "",
    kubernetes: str = "",
    components: str = "",
    vars: list[str] | None = None,
    secrets: list[str] | None = None,
    dry_run: bool = False,
) -> None:
    """Write a new environment, made from one that is there. On a terminal it asks for whatever no option gives."""
    from syntho_deploy import newenv

    answers = newenv.Answers(
        context or None, namespace or None, kubernetes or None, components or None,
        dict(newenv.pairs(vars or [], "vars")), tuple(newenv.pairs(secrets or [], "secrets")),
    )  # fmt: skip
    terminal = newenv.Terminal() if sys.stdin.isatty() else None
    draft = newenv.draft(ROOT, env, from_, answers, terminal, say)
    if dry_run:
        print(draft.text, end="")
    else:
        draft.write()
    for note in draft.notes:
        say(f"note: {note}")
    say(f"{'would write' if dry_run else 'written'}: {', '.join(os.path.relpath(path, ROOT) for path in draft.files)}")
    say("\n".join(["next:", *(f"  {line}" for line in draft.commands)]))


@task(
    help={
        "env": f"{ENV}; several with commas, or all",
        "chart": "only this chart",
        "stage": "operations, values, rendered or compiled",
        "output": "write into this folder instead of stdout",
    }
)
@command
def template(c: Context, env: str, chart: str = "", stage: str = "compiled", output: str = "") -> None:
    """Print what would be installed: YAML that `kubectl apply` takes, without hooks and Secrets."""
    from syntho_deploy import stages

    projects, faults = _projects(env)
    faults += stages.template(projects, chart, stage, Path(output) if output else None, sys.stdout)
    _finish(faults)


@task(help={"env": ENV, "path": "a value (/core/image/tag), a field (Deployment/core:/spec/replicas), or nothing: all that is changed", "json": JSON})
@command
def explain(c: Context, env: str, path: str = "", json: bool = False) -> None:
    """Tell where a value or a manifest's field comes from: file and line, what it shadows, what it reaches."""
    from dataclasses import asdict

    from syntho_deploy import explain as explaining
    from syntho_deploy import helm

    found = explaining.explain(_project(env), helm.find(say), path)
    if json:
        show([asdict(one) for one in found])
    else:
        print(explaining.text(found))


@task(help={"env": f"{ENV}; several with commas, or all", "notes": "show also what needs no action, and what is allowed", "json": JSON})
@command
def lint(c: Context, env: str = "all", notes: bool = False, json: bool = False) -> None:
    """Check environments offline: all that can be known before a deploy. Exit 0: no errors, 3: errors."""
    from dataclasses import asdict

    from syntho_deploy import helm
    from syntho_deploy import lint as linting

    projects, faults = _named_projects(env)
    reports = linting.lint(projects, faults, helm.find(say))
    if json:
        show([asdict(report) for report in reports])
    else:
        print(linting.text(reports, notes))
    if linting.failed(reports):
        raise Exit(code=3)


@task(help={"json": JSON, "provision": "fetch or build what is missing, for these tools (comma-separated), or all"})
@command
def tools(c: Context, provision: str = "", json: bool = False) -> None:
    """Show which helm and which parts of the local cluster are used and why, or fetch and build them."""
    from syntho_deploy import tools as found

    if provision:
        found.provision([item.name for item in found.status()] if provision == "all" else provision.split(","), say)
    rows: list[dict[str, Any]] = [
        {
            "name": item.name, "version": item.tool.version if item.tool else item.version, "purpose": item.purpose,
            "path": str(item.tool.path) if item.tool else None, "from": item.tool.origin if item.tool else None,
            "why": item.tool.why if item.tool else item.next, "tried": item.reasons,
        }
        for item in found.status()
    ]  # fmt: skip
    if json:
        show(rows)
    else:
        print(
            table(
                [
                    ("TOOL", "VERSION", "FROM", "PATH, OR HOW IT WILL COME"),
                    *((r["name"], r["version"], r["from"] or "-", r["path"] or r["why"]) for r in rows),
                ]
            )
        )


@task(help={"env": ENV, "create": "create it, or start it", "delete": "delete it, with all in it", "status": "the default", "json": JSON})
@command
def cluster(c: Context, env: str = "local", create: bool = False, delete: bool = False, status: bool = False, json: bool = False) -> None:
    """Create, delete or show the cluster on this machine that an environment uses."""
    from syntho_deploy.cluster import local
    from syntho_deploy.environment import load_environment
    from syntho_deploy.errors import InputError

    if create + delete + status > 1:
        raise InputError("choose one of --create, --delete and --status")
    environment = load_environment(ROOT, env)
    if not environment.target.local:
        raise InputError(
            f"{env} uses the context {environment.target.context}, not a cluster of this machine", environment.marks.get("cluster.context")
        )
    if create:
        local.create(environment.target.local, say)
    if delete:
        local.delete(environment.target.local)
    found = local.status(environment.target.local)
    if json:
        show(found)
    else:
        print(table([(str(key), str(value)) for key, value in found.items()]))


@task(help={"env": ENV, "out": "write the plan into this file, for deploy --plan", "json": JSON})
@command
def plan(c: Context, env: str, out: str = "", json: bool = False) -> None:
    """Show what deploy would change on the cluster, object by object; write nothing. Exit 0: nothing, 2: changes, 4: refused."""
    from syntho_deploy import documents, explain, helm, process
    from syntho_deploy import plan as planning
    from syntho_deploy.cluster.preflight import connect

    project = _project(env)
    binary = helm.find(say)
    with process.writes_forbidden():
        client = connect(project.environment, say)
        compiled = project.compile(binary)
        _refuse_dead(project, binary)
        found = planning.make(client, compiled)
        planning.add_origins(found, lambda of, path: explain.sources_of(project, binary, of, path))
    if out:
        documents.write(Path(out), documents.canonical(planning.as_json(found)) + "\n")
    if json:
        show(planning.as_json(found))
    else:
        print(planning.text(found))
    if found.blocked:
        raise Exit("error: deploy would refuse this; see the lines marked x", 4)
    if found:
        raise Exit(code=2)


@task(help={"env": ENV, "status": "only show each secret", "adopt": "take over the values that run now", "json": JSON})
@command
def secrets(c: Context, env: str, status: bool = False, adopt: bool = False, json: bool = False) -> None:
    """Create the Secrets that are missing, and nothing else; no value is shown. Existing values are never changed."""
    from dataclasses import asdict

    from syntho_deploy import helm, release
    from syntho_deploy.cluster.preflight import connect
    from syntho_deploy.errors import InputError
    from syntho_deploy.secrets import manage
    from syntho_deploy.steps import Steps

    if status and adopt:
        raise InputError("choose one of --status and --adopt")
    project = _project(env)
    compiled = project.compile(helm.find(say))
    client = connect(project.environment, say)
    if not status:
        written = release.make_secrets(client, compiled, Steps(), adopt)
        say("\n".join(f"written: {name}" for name in written) or "nothing is missing")
    found = manage.states(client, compiled)
    if json:
        show([asdict(one) for one in found])
    else:
        rows = [(s.name, s.source, "yes" if s.exists else "NO", s.created, str(s.generation), s.same, ", ".join(s.used_by)) for s in found]
        print(table([("SECRET", "SOURCE", "EXISTS", "SINCE", "GENERATION", "AS THE SOURCE", "USED BY"), *rows]))


@task(help={"env": ENV, "timeout": "for all of it: 90s, 15m, 1h", "yes": "the environment's name, to confirm a protected one",
            "plan": "deploy only what this plan file says (invoke plan --out)", "force-conflicts": "take fields that other tools own",
            "stay": "when it does not get healthy, leave it so instead of going back", "reason": "kept in the history"})  # fmt: skip
@command
def deploy(
    c: Context,
    env: str,
    timeout: str = "15m",
    yes: str = "",
    plan: str = "",
    force_conflicts: bool = False,
    stay: bool = False,
    reason: str = "deploy",
) -> None:
    """Install or upgrade both charts, wait until all is ready, verify and record it. Unhealthy, it goes back to the last good state."""
    from syntho_deploy import helm, release
    from syntho_deploy.cluster import record
    from syntho_deploy.cluster.preflight import connect
    from syntho_deploy.steps import Steps

    seconds, steps = duration(timeout), Steps()
    project = _project(env)
    confirm(env, project.environment.protected, yes, "deploy to")
    binary = helm.find(steps.say)
    with steps.step("compile") as step:
        compiled = project.compile(binary)
        _refuse_dead(project, binary)
        step.result = ", ".join(f"{chart.name} {chart.version}" for chart in compiled.charts.values())
    with steps.step("cluster") as step:
        client = connect(project.environment, steps.say, create=True)
        step.result = client.access.what

    def last_good() -> Compiled | None:
        found = record.records(client, env, project.environment.target.namespace)
        return record.restored(project, found[-1]) if found and not stay else None

    way = release.Way(binary, seconds, Path(plan) if plan else None, force_conflicts, reason)
    outcome = release.deploy(client, compiled, steps, way, last_good)
    print(f"{env}: {'deployed and verified' if outcome else 'nothing to do, everything runs as compiled'} ({steps.seconds:.1f} s)")


@task(help={"env": ENV, "to": "the number of a record (invoke history); else the last state that differs", "timeout": "90s, 15m, 1h",
            "yes": "the environment's name, to confirm", "dry-run": "only show what it would change"})  # fmt: skip
@command
def rollback(c: Context, env: str, to: int = 0, timeout: str = "15m", yes: str = "", dry_run: bool = False) -> None:
    """Go back to a state that was deployed and verified before: by the same plan and deploy, not by `helm rollback`."""
    from syntho_deploy import helm, release
    from syntho_deploy import plan as planning
    from syntho_deploy.cluster import record
    from syntho_deploy.cluster.preflight import connect
    from syntho_deploy.steps import Steps

    seconds, steps = duration(timeout), Steps()
    project = _project(env)
    client = connect(project.environment, steps.say)
    chosen = record.find(client, project, to or None)
    compiled = record.restored(project, chosen)
    if dry_run:
        print(planning.text(planning.make(client, compiled)))
        return
    confirm(env, project.environment.protected, yes, "roll back")
    way = release.Way(helm.find(steps.say), seconds, reason=f"rollback to record {chosen.number}")
    outcome = release.deploy(client, compiled, steps, way)
    state = "deployed again and verified" if outcome else "is what runs, nothing to do"
    print(f"{env}: record {chosen.number} of {chosen.when} {state} ({steps.seconds:.1f} s)")


@task(help={"env": ENV, "json": JSON})
@command
def history(c: Context, env: str, json: bool = False) -> None:
    """List the states that were deployed and verified, newest last."""
    from syntho_deploy.cluster import record
    from syntho_deploy.cluster.preflight import connect

    project = _project(env)
    found = record.records(connect(project.environment, say), env, project.environment.target.namespace)
    if json:
        show([{"number": r.number, "when": r.when, "who": r.who, "reason": r.reason, "charts": r.charts} for r in found])
    else:
        rows = [(str(r.number), r.when, r.who, r.reason, ", ".join(f"{name} {version}" for name, version in r.charts.items())) for r in found]
        print(table([("NUMBER", "WHEN", "WHO", "REASON", "RELEASES"), *rows]))


@task(help={"env": ENV, "json": JSON})
@command
def drift(c: Context, env: str, json: bool = False) -> None:
    """Compare the cluster with the state that was deployed last: what was changed, by whom and when. Exit 2 when anything was."""
    from dataclasses import asdict

    from syntho_deploy import drift as drifting
    from syntho_deploy import process
    from syntho_deploy.cluster import record
    from syntho_deploy.cluster.preflight import connect

    project = _project(env)
    with process.writes_forbidden():
        client = connect(project.environment, say)
        last = record.last(client, project)
        found = drifting.drift(client, record.restored(project, last))
    if json:
        show([asdict(item) for item in found])
    else:
        print(drifting.text(found) or f"{env}: the cluster is as record {last.number} of {last.when} left it")
    if found:
        raise Exit(code=2)


@task(help={"env": ENV, "json": JSON})
@command
def verify(c: Context, env: str, json: bool = False) -> None:
    """Check that what runs is what is compiled: objects, images, readiness, volumes, Secrets, Ray's pods. Exit 5 if not."""
    _status(env, json, only_faults=True)


@task(help={"env": ENV, "json": JSON})
@command
def status(c: Context, env: str, json: bool = False) -> None:
    """Show the releases and workloads of an environment, and why something is not ready."""
    _status(env, json, only_faults=False)


def _status(env: str, json: bool, only_faults: bool) -> None:
    from syntho_deploy import helm, status
    from syntho_deploy.cluster.preflight import connect

    project = _project(env)
    client = connect(project.environment, say)
    found = status.status(client, project.compile(helm.find(say)))
    if json:
        show(found)
    elif only_faults:
        print("\n".join(found["faults"]) or f"{env}: everything runs as compiled")
    else:
        print(status.text(found))
    if only_faults and (found["faults"] or not found["healthy"]):
        raise Exit(code=5)


@task(
    help={
        "env": ENV,
        "delete-data": "also delete the volumes and the secrets, for good",
        "timeout": "90s, 15m, 1h",
        "yes": "the environment's name, to confirm",
    }
)
@command
def undeploy(c: Context, env: str, delete_data: bool = False, timeout: str = "10m", yes: str = "") -> None:
    """Uninstall both releases. Volumes and secrets stay, and the next deploy finds them again, unless --delete-data."""
    from syntho_deploy import helm, release
    from syntho_deploy.cluster.preflight import connect
    from syntho_deploy.steps import Steps

    seconds, steps = duration(timeout), Steps()
    project = _project(env)
    confirm(env, project.environment.protected, yes, "undeploy")
    binary = helm.find(steps.say)
    client = connect(project.environment, steps.say)
    removed = release.undeploy(client, project.compile(binary), binary, steps, seconds, delete_data)
    print(f"{env}: " + (", ".join(removed) if removed else "nothing was deployed"))
