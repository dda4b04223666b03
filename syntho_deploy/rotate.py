"""A new value for one secret of an environment: stored beside the old one, its users restarted with it, verified, or all put back.

What is in a Secret under a fixed name (registry credentials, a certificate) is replaced there, and nothing restarts for it. Every
other value gets the key of a new generation, which the environment's file names, so that a rotation is a deploy like any other.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import count
from typing import Any

from syntho_deploy import documents, edit, release
from syntho_deploy.cluster import record
from syntho_deploy.cluster.client import Client, Object
from syntho_deploy.cluster.lease import Lease
from syntho_deploy.cluster.record import Record
from syntho_deploy.compile import Compiled, Project
from syntho_deploy.environment import Effect, Environment, SecretSpec
from syntho_deploy.errors import InputError, LockedError, NotHealthyError, PreflightError, nearest, shown
from syntho_deploy.helm import Helm
from syntho_deploy.secrets import manage, store
from syntho_deploy.secrets.sentinels import label, pod_specs, secret_keys
from syntho_deploy.steps import Steps

Place = tuple[str, str]  # a Secret and a key of it
# The statement and the password in it are its input: so they stand in no argument and are shown nowhere.
PSQL = 'psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d "$POSTGRES_DB"'
STATEMENT = "ALTER ROLE CURRENT_USER PASSWORD $syntho${{{{index .data {key} | base64decode}}}}$syntho$;"


@dataclass(frozen=True)
class Database:
    """A Postgres of the charts: its workload and container, and where the password before and the new one are kept."""

    workload: str
    container: str
    before: Place
    after: Place


@dataclass(frozen=True)
class Rotation:
    """A rotation that can begin. notes: what a person should read before it does.

    compiled: the environment with the new value; given: that value, unless it is generated. The rest is for what is not replaced in
    place. generation: the new one; last: the record that it begins from; found, old, new: the text of the environment's file as
    it is, with the generation of that record, and with the new one; before, after: where the old and the new value are kept;
    ready: the new one is there already; users: `Kind/name` of what restarts; database: the one that has to be told.
    """

    project: Project
    compiled: Compiled
    spec: SecretSpec
    notes: tuple[str, ...]
    given: Any = field(default=None, repr=False)
    generation: int = 0
    last: Record | None = None
    found: bytes = b""
    old: bytes = b""
    new: bytes = b""
    before: tuple[Place, ...] = ()
    after: tuple[Place, ...] = ()
    ready: bool = False
    users: tuple[str, ...] = ()
    database: Database | None = None


@dataclass(frozen=True)
class Rotated:
    """What a rotation did. generation: 0 for a replacement in place; next: what is left for a person to do."""

    secret: str
    generation: int
    users: tuple[str, ...]
    releases: tuple[str, ...]
    ray_pods: tuple[str, ...]
    next: tuple[str, ...]


def prepare(client: Client, project: Project, helm: Helm, name: str, accept_loss: bool) -> Rotation:
    """Find out what a rotation of a secret would do, and whether it can begin. Nothing is written.

    accept_loss: what the new value makes unreadable may be lost. Raises `InputError` for an unknown name, `PreflightError` where
    the source still gives the value that is stored, something would be lost, or other changes would be deployed with it.
    """
    environment = project.environment
    spec = environment.secrets.get(name)
    if spec is None:
        known = ", ".join(environment.secrets) or "none"
        raise InputError(f'there is no secret "{name}"{nearest(name, environment.secrets)}', environment.file, f"secrets: {known}")
    if spec.kubernetes:
        what = f'the secret "{name}" is the Secret {spec.kubernetes[0]}, which others make'
        raise PreflightError(what, spec.mark, "have the new value put under another key or name, name that here, and deploy: its users restart")
    return _of_generation(client, project, helm, spec, accept_loss) if spec.named else _in_place(client, project, project.compile(helm), spec)


def _in_place(client: Client, project: Project, compiled: Compiled, spec: SecretSpec) -> Rotation:
    name = store.object_name(compiled, spec)
    live = client.get("v1", "Secret", project.environment.target.namespace, name)
    if live is None or (spec.server and store.known_as(spec.server, store.auths(live)) is None):
        raise PreflightError(f'the secret "{spec.name}" is not stored yet', spec.mark, f"invoke secrets --env={project.environment.name}")
    stored, given = manage.values(client, compiled, spec, {name: live})
    _refuse_same(spec, stored, given)
    when = "the kubelet reads it at the next pull" if spec.server else "the Ingress controller reads it by itself"
    return Rotation(project, compiled, spec, (f"it is replaced in Secret/{name} and nothing restarts: {when}",), given)


def _of_generation(client: Client, project: Project, helm: Helm, spec: SecretSpec, accept_loss: bool) -> Rotation:
    environment, name = project.environment, spec.name
    records = record.records(client, environment.name, environment.target.namespace)
    if not records:
        raise PreflightError(f"nothing was deployed to {environment.name} from here yet", todo=f"invoke deploy --env={environment.name}")

    @cache
    def at(generation: int) -> Compiled:
        return project.with_generation(name, generation).compile(helm)

    base = next((number for number in range(spec.generation, 0, -1) if release.versions(at(number)) == records[-1].charts), 0)
    if not base:  # one below the file's is that before a rotation which was interrupted
        what = f"{environment.name} is not as it was deployed last (record {records[-1].number}), and a rotation would deploy those changes too"
        raise PreflightError(what, todo=f"invoke plan --env={environment.name} shows them: deploy them first, or get the files that were deployed")
    effect = project.roles.rotation.get(name, Effect())
    if effect.loses and not accept_loss:
        what = f'a new value of "{name}" would make unreadable: {effect.loses}'
        raise PreflightError(
            what, todo="if that may be lost, or is made anew: --accept-loss. The old value stays, and invoke rollback goes back to it"
        )
    given = None
    if not spec.generate:
        stored, given = manage.values(client, at(base), spec, _live(client, at(base)))
        _refuse_same(spec, stored, given)
    used = {(item["name"], key) for one in records for item in one.content["secrets"] for key in item["data"]}
    generation, ready = next(_free(client, at, spec, base, given, used))
    before, after = (tuple(store.kept_at(at(number), name)) for number in (base, generation))
    users = tuple(sorted(label(item) for item in at(generation).objects if _reads(item, after)))
    database = _database(at(base), at(generation), effect.database, before, after)
    notes = [f"generation {generation}; restarts {', '.join(users)}"]
    notes += [text for text in (effect.note, effect.loses and f"it makes unreadable: {effect.loses}") if text]
    return Rotation(
        project, at(generation), spec, tuple(notes), given, generation, records[-1],
        environment.file.read_bytes(), _text(project, spec, base), _text(project, spec, generation), before, after, ready, users, database,
    )  # fmt: skip


def _free(
    client: Client, at: Callable[[int], Compiled], spec: SecretSpec, base: int, given: str | None, used: set[Place]
) -> Iterator[tuple[int, bool]]:
    """The generations after `base` that can be taken, and whether the value is there already.

    One is there after a rotation that was prepared, interrupted or failed; it is good when no verified state had it, and an outside
    source still gives it.
    """
    for generation in count(base + 1):
        compiled = at(generation)
        live, places = _live(client, compiled), set(store.kept_at(compiled, spec.name))
        if all(store.decoded(live[secret], key) is None for secret, key in places):
            yield generation, False
        elif not used & places and (spec.generate or store.stored_values(compiled, live).get(spec.name) == given):
            yield generation, True


def _live(client: Client, compiled: Compiled) -> dict[str, Object | None]:
    return client.each("v1", "Secret", compiled.environment.target.namespace, (item.name for item in compiled.secrets))


def _refuse_same(spec: SecretSpec, stored: Any, given: Any) -> None:
    if stored == given:
        raise PreflightError(
            f'the source of "{spec.name}" ({spec.source}) still gives the value that is stored', spec.mark, "put the new one there first"
        )


def _reads(item: Object, places: tuple[Place, ...]) -> bool:
    return any((name, key) in places or (key is None and name in dict(places)) for name, key, _ in secret_keys(item))


def _database(base: Compiled, compiled: Compiled, workload: str, before: tuple[Place, ...], after: tuple[Place, ...]) -> Database | None:
    old, new = reader(base, workload, before), reader(compiled, workload, after)
    return Database(workload, new[0], old[1], new[1]) if old and new else None


def reader(compiled: Compiled, workload: str, places: tuple[Place, ...]) -> tuple[str, Place] | None:
    """The container of a workload (`Kind/name`) that reads one of the places, and which; None where there is none."""
    for item in compiled.objects:
        for pod in pod_specs(item) if label(item) == workload else ():
            for container in pod["containers"]:
                for name, key, _ in secret_keys(container):
                    if (name, key) in places:
                        return container["name"], (name, str(key))
    return None


def _text(project: Project, spec: SecretSpec, generation: int) -> bytes:
    """The environment's file with that generation of a secret, every other byte as it is."""
    file = project.environment.file
    content = file.read_bytes()
    if generation == spec.generation:
        return content
    entry, keys = documents.load(file).data["secrets"][spec.name], ("secrets", spec.name, "generation")
    try:
        change = edit.replace if "generation" in entry else edit.add
        return change(content.decode("utf-8"), keys, generation).encode()
    except InputError as error:
        raise InputError(error.what, spec.mark, f"write generation: {generation} there, and deploy") from None


def run(
    client: Client, rotation: Rotation, helm: Helm, steps: Steps, timeout: float, database_changed: bool, accept: Callable[[str], None]
) -> Rotated:  # fmt: skip
    """Rotate. timeout: seconds for all of it; database_changed: the database in the charts was told the new password; accept: as
    `release.Way` has it.

    Raises what a deploy raises, with everything put back as far as a deploy puts it back, the environment's file too; and
    `PreflightError` with what to do where a database has to be told first: then only the new value was stored.
    """
    if not rotation.generation:
        return _replaced(client, rotation, steps)
    environment, database = rotation.project.environment, rotation.database
    values = {} if rotation.given is None else {rotation.spec.name: rotation.given}
    if database and not (database_changed and rotation.ready):
        if not rotation.ready:
            with Lease(client, environment.target.namespace, "rotate"), steps.step("secrets") as step:
                step.result = "; ".join(store.ensure(client, rotation.compiled, values))
        raise _to_be_told(client, rotation, database)
    good = record.restored(rotation.project, rotation.last) if rotation.last and not database else None
    reason = f"rotate {rotation.spec.name} to generation {rotation.generation}"
    forcing = "invoke deploy --force-conflicts, then rotate again"
    way = release.Way(helm, timeout, forcing=forcing, reason=reason, accept=accept, values=values, held=partial(_file_changed, client, rotation))
    try:
        outcome = release.deploy(client, rotation.compiled, steps, way, lambda: good)
    except NotHealthyError as error:
        raise (_half_told(client, rotation, database, error) if database else error) from None
    except KeyboardInterrupt:
        steps.say(f"{shown(environment.file)} may have generation {rotation.generation} now: the same command, or invoke deploy, completes it")
        raise
    restarted = tuple(one.removeprefix("pod ") for one in outcome.restarted)
    return Rotated(rotation.spec.name, rotation.generation, rotation.users, tuple(outcome.releases), restarted, _next(client, rotation))


def _replaced(client: Client, rotation: Rotation, steps: Steps) -> Rotated:
    spec, compiled, environment = rotation.spec, rotation.compiled, rotation.project.environment
    name = store.object_name(compiled, spec)

    def content(live: Object) -> dict[str, str]:
        if spec.tls:
            return dict(zip((store.CERTIFICATE, store.PRIVATE_KEY), rotation.given, strict=True))
        entries = store.auths(live)
        return {store.DOCKER_KEY: store.docker_config({**entries, store.known_as(spec.server, entries) or spec.server: rotation.given})}

    with Lease(client, environment.target.namespace, f"rotate {spec.name}"), steps.step("secrets") as step:
        store.replace(client, compiled, name, content)
        step.result = f"{name} replaced"
    for note in manage.notes(client, compiled):
        steps.say(f"note: {note}")
    when = "once a pod was started with an image that it had to pull" if spec.server else "once the site answers with the new one"
    return Rotated(spec.name, 0, (), (), (), (f"{when}, revoke the old one where it was issued",))


@contextmanager
def _file_changed(client: Client, rotation: Rotation) -> Iterator[None]:
    """The environment's file with the new generation; with the old one again when the deploy fails, unless that leaves the new
    value at work. Whoever is killed here leaves either, and a deploy of either is right."""
    environment, last = rotation.project.environment, rotation.last
    file, namespace = environment.file, environment.target.namespace
    if file.read_bytes() != rotation.found or record.records(client, environment.name, namespace)[-1:] != [last]:
        raise LockedError(f"{environment.name} was changed by another run meanwhile", file, "run it again")
    mode = file.stat().st_mode & 0o777
    documents.write(file, rotation.new, mode)
    try:
        yield
    except Exception as error:
        stays = rotation.database and isinstance(error, NotHealthyError)
        if not stays and file.read_bytes() == rotation.new:
            documents.write(file, rotation.old, mode)
        raise


def _to_be_told(client: Client, rotation: Rotation, database: Database) -> PreflightError:
    environment, (secret, key) = rotation.project.environment, database.after
    what = (
        f"{database.workload} keeps its password until it is told the new one, which is stored in Secret/{secret} under {key}; nothing restarted yet"
    )
    accepted = " --accept-loss" if rotation.project.roles.rotation[rotation.spec.name].loses else ""
    steps = [
        "these two, one right after the other, since in between nothing that knows only the old password can connect:",
        f"1. {_statement(client, environment, database, database.after)}",
        "   (it answers ALTER ROLE; the password is shown nowhere)",
        f"2. invoke secrets --env={environment.name} --rotate={rotation.spec.name} --database-changed{accepted}",
    ]
    return PreflightError(what, todo="\n     ".join(steps))


def _half_told(client: Client, rotation: Rotation, database: Database, error: NotHealthyError) -> NotHealthyError:
    environment = rotation.project.environment
    steps = [
        "mend the cause and run the same command again; or go back:",
        f"1. {_statement(client, environment, database, database.before)}",
        f"2. invoke rollback --env={environment.name}",
        f"3. generation {rotation.generation} out of {shown(environment.file)} again",
    ]
    what = f"{error.what}\nnothing was put back, since {database.workload} has the new password"
    return NotHealthyError(what, todo="\n     ".join(steps))


def of_databases(client: Client, project: Project, target: Compiled) -> list[str]:
    """What a person has to do about databases in the charts before a recorded state runs that has another password than the last."""
    environment, notes = project.environment, []
    last = record.records(client, environment.name, environment.target.namespace)[-1]
    running = record.restored(project, last)
    for name, effect in project.roles.rotation.items():
        now, then = (reader(state, effect.database, tuple(store.kept_at(state, name))) for state in (running, target))
        if now and then and now != then:
            line = _statement(client, environment, Database(effect.database, then[0], now[1], then[1]), then[1])
            notes.append(f"{effect.database} has the password {now[1][1]}, and that state uses {then[1][1]}, which it has to be told: {line}")
    return notes


def _statement(client: Client, environment: Environment, database: Database, place: Place) -> str:
    """A line for a shell that has the database take the password from a Secret."""
    kubectl = _kubectl(client, environment)
    statement = STATEMENT.format(key=documents.canonical(place[1]))
    read = [*kubectl, "get", "secret", place[0], "-o", f"go-template={statement}"]
    tell = [*kubectl, "exec", "-i", database.workload.lower(), "-c", database.container, "--", "sh", "-c", PSQL]
    return f"{shlex.join(read)} | {shlex.join(tell)}"


def _kubectl(client: Client, environment: Environment) -> list[str]:
    access = client.access
    config = [] if os.pathsep in access.kubeconfig else [f"--kubeconfig={access.kubeconfig}"]  # several are in the user's variable
    return ["kubectl", *config, f"--context={access.context}", "-n", environment.target.namespace]


def _next(client: Client, rotation: Rotation) -> tuple[str, ...]:
    """What is left to do: keep the file, revoke the old value, and in the end remove it."""
    spec, environment = rotation.spec, rotation.project.environment
    kept = ", ".join(f"{key} of Secret/{secret}" for secret, key in rotation.before)
    revoke = "nothing that was verified accepts or uses it any more" if spec.generate else f"revoke it where it was issued ({spec.source})"
    if rotation.database:
        revoke = f"{rotation.database.workload} does not accept it any more"
    removal = [{"op": "remove", "path": f"/data/{key}"} for secret, key in rotation.before if secret == rotation.compiled.secret]
    remove = [*_kubectl(client, environment), "patch", "secret", rotation.compiled.secret, "--type=json", "-p", documents.canonical(removal)]
    return (
        f"commit {shown(environment.file)}: it has generation {rotation.generation} of {spec.name} now",
        f"the old value is still there ({kept}) for invoke rollback; {revoke}",
        *([f"when no way back needs it, remove it: {shlex.join(remove)}"] if removal else []),
    )


def text(done: Rotated) -> str:
    """What was done, as people read it."""
    how = f"generation {done.generation} is in use and verified; restarted: {', '.join(done.users)}" if done.generation else "replaced"
    pods = f"; replaced Ray pods: {', '.join(done.ray_pods)}" if done.ray_pods else ""
    return "\n".join([f"{done.secret}: {how}{pods}", *(f"  {line}" for line in done.next)])
