"""Takes the Syntho platform from its pinned charts to a running, verified release. Each task is one step of that way."""

from __future__ import annotations

import atexit
import gc
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

# invoke keeps Python from writing .pyc files (unless --write-pyc), and compiling our modules takes longer than running them
sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
# at its end Python searches all that was made for garbage, twice, though the process goes: a tenth of a template
atexit.register(gc.freeze)
# and while it makes objects that mostly stay, it searches them for garbage again and again
gc.set_threshold(100_000, 20, 50)

from syntho_deploy.console import acknowledge, command, confirm, duration, say, show, show_line, table, until_interrupted  # noqa: E402

if TYPE_CHECKING:
    from syntho_deploy.compile import Compiled, Project
    from syntho_deploy.environment import Environment
    from syntho_deploy.errors import DeployError
    from syntho_deploy.several import Answer, Place, Work
    from syntho_deploy.vendor import Vendored

ROOT = Path(__file__).resolve().parent
NO_BACKUP = "the environment's name, to replace the pods of a database without a before_upgrade"
ENV = "the environment: a file in envs/ (invoke envs lists them)"
ENVS = f"{ENV}; several with commas, or all"
JSON = "print JSON on stdout"


def _project(env: str) -> Project:
    from syntho_deploy.compile import Project
    from syntho_deploy.secrets import sources

    _hide_sources()
    project = Project.load(ROOT, env)
    sources.hide(project.environment)
    return project


def _hide_sources() -> None:
    """Keep the variables that secrets come from, of all environments, out of every program that is started."""
    from syntho_deploy.secrets import sources

    sources.hide_all(ROOT)


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

    _hide_sources()
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
        from syntho_deploy.several import worst

        raise Exit("\n".join(f"error: {fault}" for fault in faults), worst(fault.exit_code for fault in faults))


def _each(env: str, json: bool, work: Work, yes: str = "", what: str = "") -> None:
    """Do something for one environment or for several, print what it says, and end with its exit code. what: asks for confirmation first."""
    from syntho_deploy import several

    def confirmed(environments: list[Environment]) -> None:
        if what:
            confirm({environment.name: environment.protected for environment in environments}, yes, what)

    code, error = several.run(ROOT, env, json, work, confirmed)
    if code:
        raise Exit(f"error: {error}" if error else None, code)


def _single(env: str, option: str) -> None:
    """Refuse an option that makes sense for one environment only."""
    from syntho_deploy.environment import chosen
    from syntho_deploy.errors import InputError

    if len(names := chosen(ROOT, env)) > 1:
        raise InputError(f"{option} is for one environment, and --env names {len(names)}", todo="run it once for each")


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

    _hide_sources()
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
    help={
        "base": "a commit, a branch or a tag: only the environments that are touched by what changed since HEAD left it",
        "env": f"{ENVS}, of which it chooses",
        "remote": "without those whose cluster is on this machine",
        "github": "also as the outputs matrix and any of a step of GitHub Actions",
        "json": JSON,
    }
)
@command
def ci_matrix(c: Context, base: str = "", env: str = "all", remote: bool = False, github: bool = False, json: bool = False) -> None:
    """Tell which environments a change touches, by the files that each is made of, for the matrix of a CI system."""
    from json import dumps

    from syntho_deploy import affected
    from syntho_deploy import github as actions
    from syntho_deploy.environment import chosen

    _hide_sources()
    found = affected.affected(ROOT, base, chosen(ROOT, env))
    found = affected.remote(found) if remote else found
    if github:
        rows = [{"environment": one.name, "local": one.local, "pin": one.pin} for one in found.environments]
        actions.output(matrix=dumps({"include": rows}), any=dumps(bool(rows)))
    if json:
        show(affected.as_json(found))
    else:
        print(affected.text(found))


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
    from syntho_deploy.redact import unmasked

    _hide_sources()
    answers = newenv.Answers(
        context or None, namespace or None, kubernetes or None, components or None,
        dict(newenv.pairs(vars or [], "vars")), tuple(newenv.pairs(secrets or [], "secrets")),
    )  # fmt: skip
    terminal = newenv.Terminal() if sys.stdin.isatty() else None
    draft = newenv.draft(ROOT, env, from_, answers, terminal, say)
    if dry_run:
        print(draft.text, end="", file=unmasked(sys.stdout))
    else:
        draft.write()
    for note in draft.notes:
        say(f"note: {note}")
    say(f"{'would write' if dry_run else 'written'}: {', '.join(os.path.relpath(path, ROOT) for path in draft.files)}")
    say("\n".join(["next:", *(f"  {line}" for line in draft.commands)]))


@task(
    help={
        "env": ENVS,
        "chart": "only this chart",
        "stage": "operations, values, rendered or compiled",
        "output": "write into this folder instead of stdout",
    }
)
@command
def template(c: Context, env: str, chart: str = "", stage: str = "compiled", output: str = "") -> None:
    """Print what would be installed: YAML that `kubectl apply` takes, without hooks and Secrets."""
    from syntho_deploy import stages
    from syntho_deploy.redact import unmasked

    projects, faults = _projects(env)
    faults += stages.template(projects, chart, stage, Path(output) if output else None, unmasked(sys.stdout))
    _finish(faults)


@task(
    help={
        "env": f"{ENV}; several with commas, or all",
        "tag": "of the release; without it, the newest in the registry",
        "app": "only these applications, with commas",
        "offline": "do not ask the registry whether it has the images",
        "allow-downgrade": "also to an older release",
        "digest": "pin each image by its digest",
        "dry-run": "show it and write nothing; exit 2 when something would change",
        "pr-body": "write the text of a pull request into this file",
        "json": JSON,
    }
)
@command
def bump_tag(
    c: Context,
    env: str,
    tag: str = "",
    app: str = "",
    offline: bool = False,
    allow_downgrade: bool = False,
    digest: bool = False,
    dry_run: bool = False,
    pr_body: str = "",
    json: bool = False,
) -> None:
    """Move all images of a release to another tag, in the environment's files: the tags change and no other byte, in all files or in none.

    Exit 2: --dry-run, and something would change; 6: another run edits these files.
    """
    from syntho_deploy import bump, documents, helm

    projects, faults = _projects(env)
    _finish(faults)
    result = bump.bump(projects, bump.Way(tag, app, digest, offline, allow_downgrade), helm.find(say))
    if not dry_run:
        result.write()
    if pr_body:
        documents.write(Path(pr_body), bump.pull_request(result))
    if json:
        show(bump.as_json(result, not dry_run))
    else:
        print(bump.text(result, not dry_run))
        if result.names and not dry_run:
            say(f"next: invoke plan --env={env}, then invoke deploy --env={env}")
    if dry_run and result.names:
        raise Exit(code=2)


@task(
    help={
        "ref": "a commit of 40 hex digits, a tag or a branch of the pin's source",
        "to": "instead of --ref: another pin file to compare with",
        "pin": "the pin file",
        "write": "write the pin and its lock, and vendor, if every environment still compiles",
        "force": "also if one does not",
        "url": "fetch from this mirror instead (also: SYNTHO_CHARTS_URL)",
        "json": JSON,
    }
)
@command
def bump_charts(
    c: Context,
    ref: str = "",
    to: str = "",
    pin: str = "vendor/charts.yaml",
    write: bool = False,
    force: bool = False,
    url: str = "",
    json: bool = False,
) -> None:
    """Show what other charts would change for every environment of a pin, with the lines of overlays to edit. Exit 2: changes, not written."""
    from syntho_deploy import bumpcharts, helm
    from syntho_deploy.errors import InputError
    from syntho_deploy.vendor import load_pin

    if bool(ref) == bool(to) or (to and write):
        raise InputError("give one of --ref and --to; --write goes with --ref", todo="an environment takes another pin by its key charts")
    _hide_sources()
    mine = load_pin(ROOT, ROOT / pin)
    binary = helm.find(say)
    if ref:
        result = bumpcharts.to_ref(ROOT, mine, ref, url or None, binary)
    else:
        result = bumpcharts.to_pin(ROOT, mine, load_pin(ROOT, ROOT / to), url or None, binary)
    if json:
        show(bumpcharts.as_json(result, write))
    else:
        print(bumpcharts.text(result))
    if write:
        result.write(url or None, force)
    elif result.changed:
        raise Exit(code=2)


@task(
    help={
        "env": ENV,
        "check": "ask the registries for the digest and the platforms of each",
        "mirror": "copy all of them to this registry: HOST or HOST/PREFIX",
        "json": JSON,
    }
)
@command
def images(c: Context, env: str, check: bool = False, mirror: str = "", json: bool = False) -> None:
    """List every image that an environment runs, with the place where it stands; check them at their registries, or mirror them.

    Exit 4: an image is missing, or its registry does not answer.
    """
    from syntho_deploy import helm, tools
    from syntho_deploy import images as found

    base = found.mirror_name(mirror) if mirror else ""
    project = _project(env)
    listed, copies = found.images(project, helm.find(say)), list[found.Copy]()
    if check:
        found.check(project, listed)
    if base:
        copies = found.plan_copies(project, listed, base)
        for image in listed:
            if not image.deployed:
                say(f"left out: {image.name}, which only a hook runs")
        with found.progress_bar(say, sys.stderr.isatty()) as progress:
            found.copy(project, copies, tools.find("crane", say).path, progress)
    if json:
        show(found.as_json(listed, copies))
    else:
        print(found.text(listed, check))
    if faults := [image for image in listed if image.fault]:
        raise Exit("\n".join(f"error: {image.name}: {image.fault}" for image in faults), 4)


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


@task(help={"shell": "print the script that bash, zsh or fish sources", "words": "what such a script asks: the command line up to the cursor"})
@command
def completion(c: Context, shell: str = "", words: str = "") -> None:
    """Have the shell complete tasks, options, and names of environments, components and pins."""
    from invoke.collection import Collection

    from syntho_deploy import completion as completing
    from syntho_deploy.errors import InputError

    if bool(shell) == bool(words):
        raise InputError("give one of --shell and --words", todo=f"invoke completion --shell={'|'.join(completing.SHELLS)}")
    if shell:
        print(completing.script(shell), end="")
    else:
        known = Collection.from_module(sys.modules[__name__]).tasks
        print("\n".join(completing.candidates(ROOT, known, words)))


@task(
    help={
        "env": ENVS,
        "in-cluster": "ask Postgres and Redis from a Job in the namespace, made and deleted: all that doctor ever writes",
        "image": "for that Job: it has python3; otherwise an application's",
        "json": JSON,
    }
)
@command
def doctor(c: Context, env: str, in_cluster: bool = False, image: str = "", json: bool = False) -> None:
    """Ask the cluster, the machine and the services outside whether a deploy can succeed; change nothing. Exit 4: it cannot."""
    from syntho_deploy.doctor.examine import doctor as run
    from syntho_deploy.errors import InputError
    from syntho_deploy.registry import parse

    if image and not in_cluster:
        raise InputError("--image is for the Job of --in-cluster", todo="add --in-cluster, or leave it out")
    if image:
        parse(image)
    _each(env, json, lambda place: run(place, in_cluster, image))


@task(help={"json": JSON, "provision": "fetch or build what is missing, for these tools (comma-separated), or all"})
@command
def tools(c: Context, provision: str = "", json: bool = False) -> None:
    """Show which helm and which parts of the local cluster are used and why, or fetch and build them."""
    from syntho_deploy import tools as found

    _hide_sources()
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
    _hide_sources()
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


@task(
    help={
        "env": ENVS,
        "out": "write the plan into this file, for deploy --plan",
        "offline": "ask no cluster: show what differs from the charts' own defaults, and why",
        "markdown": "also write it into this file, as a comment on a pull request has it; in GitHub Actions, into the job's summary too",
        "exit-zero": "exit 0, not 2, when there are changes",
        "force-conflicts": "show what deploy --force-conflicts would do: which fields it takes, and from whom",
        "json": JSON,
    }
)
@command
def plan(
    c: Context, env: str, out: str = "", offline: bool = False, markdown: str = "", exit_zero: bool = False, force_conflicts: bool = False,
    json: bool = False,
) -> None:  # fmt: skip
    """Show what deploy would change on the cluster, object by object; write nothing. Exit 2: changes, 4: refused, 6: pending."""
    from syntho_deploy import documents, explain, github, process
    from syntho_deploy.errors import InputError
    from syntho_deploy.several import Answer

    def write(name: str, answer: Answer, note: str) -> Answer:
        if markdown:
            from syntho_deploy import plan as planning

            page = planning.markdown(name, answer.line, answer.text, note)
            documents.write(Path(markdown), page)
            github.summary(page)
        return answer

    def one(place: Place) -> Answer:
        name = place.environment.name
        if offline:
            from syntho_deploy import offline as without

            differences = without.differences(place.strict(), place.project, place.helm)
            answer = Answer(without.text(differences), without.as_json(differences), without.counted(differences))
            return write(name, answer, "No cluster was asked: this is what differs from the charts' own defaults.")
        with process.writes_forbidden():
            compiled = place.strict(online=True)
            from syntho_deploy import plan as planning

            found = planning.make(place.client(), compiled, force_conflicts)
            planning.add_origins(found, lambda of, path: explain.sources_of(place.project, place.helm, of, path))
        if out:
            from syntho_deploy import planfile

            planfile.write(Path(out), found, place.helm.version)
        refused = "deploy would refuse this; see the lines marked x" if found.blocked else ""
        if any(item.conflicts for item in found.blocked):
            refused += "; --force-conflicts shows what it would do to fields that others own"
        code = 4 if refused else 2 if found and not exit_zero else 0
        return write(name, Answer(planning.text(found), planning.as_json(found), planning.counted(found), code, refused), refused)

    for option, given in (("--out", bool(out)), ("--force-conflicts", force_conflicts)):
        if given and offline:
            raise InputError(f"{option} needs a cluster: it is about what deploy does to it", todo="leave out --offline")
    for option, value in (("--out", out), ("--markdown", markdown)):
        if value:
            _single(env, option)
    _each(env, json, one)


@task(
    help={
        "env": ENVS,
        "status": "only show each secret",
        "adopt": "take over the values that run now",
        "rotate": "replace the value of this secret by a new one",
        "accept-loss": "rotate, although what the old value protects cannot be read any more",
        "database-changed": "rotate, the database in the chart has been told the new password",
        "timeout": "for a rotation: 90s, 15m, 1h",
        "yes": "the environment's name, to confirm a rotation where it is protected",
        "no-backup": NO_BACKUP,
        "json": JSON,
    }
)
@command
def secrets(
    c: Context,
    env: str,
    status: bool = False,
    adopt: bool = False,
    rotate: str = "",
    accept_loss: bool = False,
    database_changed: bool = False,
    timeout: str = "15m",
    yes: str = "",
    no_backup: str = "",
    json: bool = False,
) -> None:
    """Create the Secrets that are missing, show them, or rotate one; no value is shown. Only a rotation replaces a value.

    Exit 5: after a rotation its users did not get ready; 6: another run holds the environment.
    """
    from dataclasses import asdict

    from syntho_deploy import release
    from syntho_deploy.errors import InputError
    from syntho_deploy.secrets import manage
    from syntho_deploy.several import Answer

    if status + adopt + bool(rotate) > 1:
        raise InputError("choose one of --status, --adopt and --rotate")
    if (accept_loss or database_changed) and not rotate:
        raise InputError("--accept-loss and --database-changed belong to --rotate")
    seconds = duration(timeout)

    def rotated(place: Place) -> Answer:
        from syntho_deploy import rotate as rotating

        client, name = place.client(), place.environment.name
        rotation = rotating.prepare(client, place.project, place.helm, rotate, accept_loss)
        say("\n".join(f"{rotate}: {note}" for note in rotation.notes))
        confirm({name: place.environment.protected}, yes, f"rotate {rotate} in")
        accept = partial(acknowledge, name, no_backup, True)
        done = rotating.run(client, rotation, place.helm, place.steps, seconds, database_changed, accept)
        return Answer(rotating.text(done), asdict(done))

    def one(place: Place) -> Answer:
        compiled, client = place.compile(), place.client()
        if not status:
            written = release.make_secrets(client, compiled, place.steps, adopt)
            place.steps.say("\n".join(f"written: {name}" for name in written) or "nothing is missing")
        found = manage.states(client, compiled)
        return Answer(manage.text(found), [asdict(one) for one in found], f"{sum(one.exists for one in found)} of {len(found)} are there")

    if rotate:
        _single(env, "--rotate")
    _each(env, json, rotated if rotate else one)


@task(help={"env": ENVS, "timeout": "for all of it: 90s, 15m, 1h", "yes": "the names of protected environments, to confirm them",
            "plan": "deploy only what this plan file says (invoke plan --out)", "force-conflicts": "take fields that other tools own",
            "stay": "when it does not get healthy, leave it so instead of going back", "reason": "kept in the history",
            "no-backup": NO_BACKUP})  # fmt: skip
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
    no_backup: str = "",
) -> None:
    """Install or upgrade both charts, wait until all is ready, verify and record it. Unhealthy, it goes back to the last good state.

    Exit 5: it did not get healthy, also where it went back; 6: another run holds the environment.
    """
    from syntho_deploy.environment import chosen
    from syntho_deploy.several import Answer

    seconds, alone, reviewed = duration(timeout), len(chosen(ROOT, env)) == 1, None

    def one(place: Place) -> Answer:
        steps, environment = place.steps, place.environment
        binary = place.helm
        with steps.step("compile") as step:
            compiled = place.strict(online=True)
            step.result = ", ".join(f"{chart.name} {chart.version}" for chart in compiled.charts.values())
        from syntho_deploy import release
        from syntho_deploy.cluster import record

        began = time.monotonic()
        with steps.step("cluster") as step:
            client = place.client(create=True)
            step.result = client.access.what
        began = time.monotonic() if environment.target.local else began  # what it takes to make a cluster is not the deploy's time

        def last_good() -> Compiled | None:
            found = record.records(client, environment.name, environment.target.namespace)
            return record.restored(place.project, found[-1]) if found and not stay else None

        accept = partial(acknowledge, environment.name, no_backup, alone)
        way = release.Way(binary, seconds, reviewed, force_conflicts, reason, accept, began=began)
        outcome = release.deploy(client, compiled, steps, way, last_good)
        done = f"{'deployed and verified' if outcome else 'nothing to do, everything runs as compiled'} ({steps.seconds:.1f} s)"
        return Answer(f"{environment.name}: {done}", line=done)

    if plan:
        _single(env, "--plan")
        from syntho_deploy import planfile

        reviewed = planfile.read(Path(plan))
        planfile.refuse_other_force(reviewed, force_conflicts)
    _each(env, False, one, yes, "deploy to")


@task(help={"env": ENV, "to": "the number of a record (invoke history); else the last state that differs", "timeout": "90s, 15m, 1h",
            "yes": "the environment's name, to confirm", "dry-run": "only show what it would change",
            "force-conflicts": "take fields that other tools own", "no-backup": NO_BACKUP})  # fmt: skip
@command
def rollback(
    c: Context, env: str, to: int = 0, timeout: str = "15m", yes: str = "", dry_run: bool = False, force_conflicts: bool = False, no_backup: str = ""
) -> None:  # fmt: skip
    """Go back to a state that was deployed and verified before: by the same plan and deploy, not by `helm rollback`.

    Exit 5: it did not get healthy; 6: another run holds the environment.
    """
    from syntho_deploy import helm, release
    from syntho_deploy import plan as planning
    from syntho_deploy import rotate as rotating
    from syntho_deploy.cluster import record
    from syntho_deploy.cluster.preflight import connect
    from syntho_deploy.steps import Steps

    seconds, steps = duration(timeout), Steps()
    project = _project(env)
    client = connect(project.environment, steps.say)
    chosen = record.find(client, project, to or None)
    compiled = record.restored(project, chosen)
    if dry_run:
        print(planning.text(planning.make(client, compiled, force_conflicts)))
        return
    for note in rotating.of_databases(client, project, compiled):
        say(f"note: {note}")
    confirm({env: project.environment.protected}, yes, "roll back")
    reason = f"rollback to record {chosen.number}"
    way = release.Way(helm.find(steps.say), seconds, None, force_conflicts, reason=reason, accept=partial(acknowledge, env, no_backup, True))
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
        show([record.as_json(one) for one in found])
    else:
        print(record.text(found))


@task(help={"env": ENVS, "json": JSON})
@command
def drift(c: Context, env: str, json: bool = False) -> None:
    """Compare the cluster with the state that was deployed last: what was changed, by whom and when. Exit 2 when anything was."""
    from dataclasses import asdict

    from syntho_deploy import drift as drifting
    from syntho_deploy import process
    from syntho_deploy.cluster import record
    from syntho_deploy.several import Answer

    def one(place: Place) -> Answer:
        with process.writes_forbidden():
            client = place.client()
            last = record.last(client, place.project)
            found = drifting.drift(client, record.restored(place.project, last), last)
        same = f"the cluster is as record {last.number} of {last.when} left it"
        text = drifting.text(found) or f"{place.environment.name}: {same}"
        return Answer(text, [asdict(item) for item in found], f"{len(found)} differences" if found else same, 2 if found else 0)

    _each(env, json, one)


@task(help={"env": ENVS, "json": JSON})
@command
def verify(c: Context, env: str, json: bool = False) -> None:
    """Check that what runs is what is compiled: objects, images, readiness, volumes, Secrets, Ray's pods. Exit 5 if not."""
    from syntho_deploy import status
    from syntho_deploy.several import Answer

    def one(place: Place) -> Answer:
        found = status.status(place.client(), place.compile())
        stale = [f"release {one['name']}: {one['status']}, not as compiled" for one in found["releases"] if not one["current"]]
        text = "\n".join([*found["faults"], *stale]) or f"{place.environment.name}: everything runs as compiled"
        return Answer(text, found, status.line(found), 0 if found["healthy"] else 5)

    _each(env, json, one)


@task(help={"env": ENVS, "watch": "go on until Ctrl-C: show it again whenever it changes", "json": f"{JSON}; with --watch a document a line"})
@command
def status(c: Context, env: str, watch: bool = False, json: bool = False) -> None:
    """Show the releases and workloads of an environment, and why something is not ready."""
    from syntho_deploy import status as states
    from syntho_deploy.several import Answer

    def one(place: Place) -> Answer:
        if watch:
            with until_interrupted():
                states.follow(place.client(), place.compile(), json)
        found = states.status(place.client(), place.compile())
        return Answer(states.text(found), found, states.line(found))

    if watch:
        _single(env, "--watch")
    _each(env, json, one)


@task(
    help={
        "env": ENV,
        "component": "only this workload, as status names it; several with commas",
        "previous": "of the containers before their last restart",
        "follow": "go on until Ctrl-C, with the pods that come meanwhile",
        "tail": "the last so many lines of each container; 0: all",
        "json": "print JSON on stdout, a document for each line",
    }
)
@command
def logs(c: Context, env: str, component: str = "", previous: bool = False, follow: bool = False, tail: int = 100, json: bool = False) -> None:
    """Print what the containers of an environment say, each line with its pod and container; secrets are masked."""
    from dataclasses import asdict

    from syntho_deploy import logs as logging
    from syntho_deploy.cluster.preflight import connect

    project = _project(env)
    wanted = logging.Wanted(tuple(filter(None, component.split(","))), previous, follow, tail)
    with until_interrupted(follow):
        releases = [release.name for release in project.roles.releases]
        for line in logging.lines(connect(project.environment, say), project.environment.target.namespace, releases, wanted, say):
            if json:
                show_line(asdict(line))
            else:
                print(f"{line.pod}/{line.container}: {line.text}", flush=follow)


@task(help={"env": ENV, "reason": "take the locks, and say why: it is kept and shown to whoever loses them",
            "yes": "the environment's name, to confirm a protected one", "json": JSON})  # fmt: skip
@command
def unlock(c: Context, env: str, reason: str = "", yes: str = "", json: bool = False) -> None:
    """Show what keeps a deploy from running: another run, or a release left pending. With --reason, remove it.

    Exit 6: the lock was renewed or taken at that moment.
    """
    from syntho_deploy import unlock as unlocking
    from syntho_deploy.cluster.preflight import connect

    project = _project(env)
    namespace, names = project.environment.target.namespace, [release.name for release in project.roles.releases]
    client, done = connect(project.environment, say), []
    if reason:
        confirm({env: project.environment.protected}, yes, "unlock")
        done = unlocking.unlock(client, namespace, names, reason, say)
    found = unlocking.locks(client, namespace, names)
    if json:
        show({**found, "done": done})
    else:
        print("\n".join(done) or unlocking.text(found, env))


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
    """Uninstall both releases. Volumes and secrets stay, and the next deploy finds them again, unless --delete-data.

    Exit 5: not all was gone in time; 6: another run holds the environment.
    """
    from syntho_deploy import helm, release
    from syntho_deploy.cluster.preflight import connect
    from syntho_deploy.steps import Steps

    seconds, steps = duration(timeout), Steps()
    project = _project(env)
    confirm({env: project.environment.protected}, yes, "undeploy")
    binary = helm.find(steps.say)
    client = connect(project.environment, steps.say)
    removed = release.undeploy(client, project.compile(binary), binary, steps, seconds, delete_data)
    print(f"{env}: " + (", ".join(removed) if removed else "nothing was deployed"))
