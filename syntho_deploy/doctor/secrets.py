"""Secrets: there, or to be had from their sources. No value is shown."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from syntho_deploy.doctor.subject import Result, Subject, side_by_side, told
from syntho_deploy.environment import SecretSpec
from syntho_deploy.errors import DeployError
from syntho_deploy.secrets import manage, sources, store
from syntho_deploy.secrets.sentinels import secret_keys


def secrets(subject: Subject) -> Iterator[Result]:
    """Each secret of the environment is in the cluster, or its source gives a value that can be right. Where the two differ, nothing happens
    until a rotation."""
    client, compiled = subject.client, subject.compiled
    told(lambda: subject.wanted)
    found = manage.states(client, compiled)
    by_name = {spec.name: spec for spec in subject.environment.secrets.values()}
    absent = [one.name for one in found if not one.exists]
    faults = dict(zip(absent, side_by_side([partial(_source_fault, subject, by_name[name]) for name in absent]), strict=True))
    for one in found:
        if fault := faults.get(one.name):
            yield Result("secrets", "error", f'"{one.name}" is not there, and {one.source} gives none: {fault.what}', fault.todo)
        elif one.note == manage.EMPTY:
            todo = f"invoke secrets --env={subject.environment.name} --rotate={one.name}"
            yield Result("secrets", "error", f'"{one.name}" is there and empty, and the pods would get it so', todo)
        elif one.exists and one.same.startswith("no:"):
            todo = f"invoke secrets --env={subject.environment.name} --rotate={one.name}"
            yield Result("secrets", "warning", f'"{one.name}" is another than {one.source} gives now', todo)
    there = sum(one.exists for one in found)
    silent = [one.name for one in found if one.exists and one.same.startswith("the source does not answer")]
    left = f", {len(found) - there - sum(map(bool, faults.values()))} to be made by deploy" if there < len(found) else ""
    unasked = f"; here no source answers for {', '.join(silent)}, which only a rotation asks for" if silent else ""
    yield Result("secrets", "ok", f"{there} of {len(found)} are there{left}{unasked}")


def _source_fault(subject: Subject, spec: SecretSpec) -> DeployError | None:
    """Why a source gives no value, or None. A command is run, as deploy would."""
    try:
        if spec.server:
            sources.registry_entry(spec, subject.environment.root)
        elif spec.tls:
            store.certificate_now(subject.compiled, spec)
        elif not spec.generate:
            store.source_value(subject.client, subject.compiled, spec)
    except DeployError as error:
        return error
    return None


def not_coming(subject: Subject, name: str) -> str:
    """Why a Secret that is not there, and that deploy does not make, will not be there; "" where an object that comes with the deploy has
    another program make it, or has just come."""
    maker = subject.context.makers.get(name)
    if maker is None:
        return f"the Secret {name} is not there, and nothing here makes it"
    what = f"the {maker['kind']} {maker['metadata']['name']}"
    live = subject.found(maker["apiVersion"], maker["kind"], maker["metadata"]["name"], subject.namespace)
    conditions = ((live or {}).get("status") or {}).get("conditions") or []
    bad = next((one for one in conditions if one.get("type") in ("Ready", "Synced") and one.get("status") == "False"), None)
    return f"{what} has not made the Secret {name}: {bad.get('message') or bad.get('reason') or 'it is not ready'}" if bad else ""


def secret_references(subject: Subject) -> Iterator[Result]:
    """Each Secret and key that a pod names is there, unless deploy makes it, or an object has another program do so (cert-manager, an operator for
    secrets); and each pull secret is of the type that a kubelet takes."""
    made = {need.name for need in subject.wanted}
    names = {(name, key) for item in subject.compiled.objects for name, key, optional in secret_keys(item) if not optional}
    others = sorted({(name, key) for name, key in names if name not in made}, key=str)
    faults: dict[str, str] = {}
    for name, key in others:
        live = subject.found("v1", "Secret", name, subject.namespace)
        if live is None:
            if fault := not_coming(subject, name):
                faults[name] = fault
        elif key and key not in (live.get("data") or {}):
            faults[name] = f"the Secret {name} has no key {key}; it has {', '.join(sorted(live.get('data') or {})) or 'none'}"
    for fault in faults.values():
        yield Result("secret-references", "error", fault, "have it made first, or name another in the overlays")
    pulls = {pull["name"] for pod in subject.context.pods for pull in pod.spec.get("imagePullSecrets") or [] if pull.get("name")}
    for name in sorted(pulls):
        live = subject.found("v1", "Secret", name, subject.namespace)
        if live and live.get("type") not in (store.DOCKER_CONFIG, "kubernetes.io/dockercfg"):
            what = f"the pull secret {name} has the type {live.get('type')}, which no kubelet takes"
            todo = f"delete it, and deploy makes it: kubectl delete secret {name} -n {subject.namespace}"
            yield Result("secret-references", "error", what, todo)
            faults[name] = what
    if not faults:
        yield Result("secret-references", "ok", f"all {len({name for name, _ in names} | pulls)} Secrets that are named are there or made")
