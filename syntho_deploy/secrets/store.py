"""The Secrets of an environment in the cluster: created once, before the releases; an existing value is never changed."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from syntho_deploy.cluster.client import ApiError, Client, Object
from syntho_deploy.compile import Compiled
from syntho_deploy.errors import InputError, PreflightError
from syntho_deploy.redact import register
from syntho_deploy.secrets import sources
from syntho_deploy.secrets.sentinels import URL_SUFFIX, SecretObject, pod_specs, secret_keys

LABELS = {"app.kubernetes.io/managed-by": "syntho-deploy"}
ENVIRONMENT = "syntho-deploy/environment"
PLACEHOLDER = re.compile(r"(\$\$\{secret:)|\$\{secret:([^}|]+)(\|url)?\}")
DOCKER_CONFIG = "kubernetes.io/dockerconfigjson"
ATTEMPTS = 5


@dataclass(frozen=True)
class Wanted:
    """A Secret that must be there: content by key, each made only when it is missing."""

    name: str
    type: str
    data: dict[str, Callable[[dict[str, str]], str]]


def wanted(compiled: Compiled) -> list[Wanted]:
    """The Secrets that an environment needs. Raises `InputError` where a pull secret's name cannot be told."""
    found = [_of_object(compiled, item) for item in compiled.secrets]
    for spec in compiled.environment.secrets.values():
        if spec.server:
            name = spec.object_name or _pull_secret(compiled, spec.name)
            data = {".dockerconfigjson": lambda _, spec=spec: sources.registry_config(spec, compiled.environment.root)}
            found.append(Wanted(name, DOCKER_CONFIG, data))  # type: ignore[arg-type]
    return found


def _of_object(compiled: Compiled, item: SecretObject) -> Wanted:
    def content(template: str) -> Callable[[dict[str, str]], str]:
        def fill(values: dict[str, str]) -> str:
            def part(match: re.Match[str]) -> str:
                if match[1]:
                    return "${secret:"
                name = str(match[2])
                if name not in values and name not in compiled.environment.secrets:
                    raise PreflightError(f'the Secret {item.name} lacks the secret "{name}", and the environment has no source of it any more')
                if name not in values:
                    values[name] = sources.value(compiled.environment.secrets[name], compiled.environment.root)
                found = str(values[name])
                return quote(found, safe="") if match[3] else found

            return str(PLACEHOLDER.sub(part, template))

        return fill

    return Wanted(item.name, item.type, {key: content(template) for key, template in item.data.items()})


def _pull_secret(compiled: Compiled, secret: str) -> str:
    pulls = [pull for item in compiled.objects for pod in pod_specs(item) for pull in pod.get("imagePullSecrets") or []]
    names = {pull["name"] for pull in pulls if pull.get("name")}
    if len(names) != 1:
        spec = compiled.environment.secrets[secret]
        listed = ", ".join(sorted(names)) or "none"
        raise InputError(f'the name of the pull secret for "{secret}" cannot be told: the pods use {listed}', spec.mark, "add name: <one of them>")
    return str(names.pop())


def ensure(client: Client, compiled: Compiled) -> list[str]:
    """Create what is missing, all values got before anything is written. Returns `name (keys)` for each Secret written.

    Two runs at once make one set of values: the second sees the first's by the conflict, and takes them. Raises
    `PreflightError` for a source that has no value, or a Secret of that name and another type.
    """
    needs, namespace = wanted(compiled), compiled.environment.target.namespace
    for _ in range(ATTEMPTS):
        live = {need.name: client.get("v1", "Secret", namespace, need.name) for need in needs}
        values = _known(compiled, live)
        writes = [item for need in needs if (item := _completed(compiled, need, live[need.name], values))]
        try:
            return [_write(client, item, live[item["metadata"]["name"]]) for item in writes]
        except ApiError as error:
            if error.status != 409:
                raise
    raise PreflightError("the Secrets were changed by another run again and again", todo="wait for the other run, then deploy again")


def due(client: Client, compiled: Compiled) -> list[str]:
    """The Secrets, and the keys of them, that `ensure` would write: `name (keys)`. No source is asked."""
    namespace, found = compiled.environment.target.namespace, []
    for need in wanted(compiled):
        live = (client.get("v1", "Secret", namespace, need.name) or {}).get("data") or {}
        if missing := sorted(key for key in need.data if key not in live):
            found.append(f"{need.name} ({', '.join(missing)})")
    return found


def _known(compiled: Compiled, live: dict[str, Object | None]) -> dict[str, str]:
    """The values that exist already, by secret: so that a new `.url` key agrees with the key beside it."""
    values = {}
    for item in compiled.secrets:
        data = (live[item.name] or {}).get("data") or {}
        for key, template in item.data.items():
            match = PLACEHOLDER.fullmatch(template)
            if match and match[2] and key in data:
                content = base64.b64decode(data[key]).decode("utf-8", "surrogateescape")
                register(content)
                if not match[3]:
                    values[match[2]] = content
    return values


def _completed(compiled: Compiled, need: Wanted, live: Object | None, values: dict[str, str]) -> Object | None:
    """The Secret to write, or None when nothing is missing in the live one."""
    if live and live.get("type", "Opaque") != need.type:
        what = f"the Secret {need.name} exists with the type {live.get('type')}, this environment needs {need.type}"
        raise PreflightError(what, todo="remove it, or give the environment's secret another name")
    data = dict((live or {}).get("data") or {})
    missing = [key for key in need.data if key not in data]
    if live and not missing:
        return None
    plain_first = sorted(missing, key=lambda key: key.endswith(URL_SUFFIX))
    data |= {key: base64.b64encode(need.data[key](values).encode("utf-8", "surrogateescape")).decode() for key in plain_first}
    metadata: Object = {
        "name": need.name, "namespace": compiled.environment.target.namespace, "labels": dict(LABELS),
        "annotations": {ENVIRONMENT: compiled.environment.name},
    }  # fmt: skip
    if live:
        metadata["resourceVersion"] = live["metadata"]["resourceVersion"]
    return {"apiVersion": "v1", "kind": "Secret", "type": need.type, "metadata": metadata, "data": data}


def _write(client: Client, item: Object, live: Object | None) -> str:
    """Create the Secret, or complete it; a live one that has moved meanwhile is a conflict, never overwritten."""
    if live is None:
        client.create(item)
    else:
        client.apply(item, force=True)
    old = (live or {}).get("data") or {}
    return f"{item['metadata']['name']} ({', '.join(sorted(key for key in item['data'] if key not in old))})"


def missing(client: Client, compiled: Compiled) -> list[str]:
    """Every reference of a compiled object to a Secret, or a key, that is not in the cluster."""
    namespace = compiled.environment.target.namespace
    references = {(name, key) for item in compiled.objects for name, key, optional in secret_keys(item) if not optional}
    live = {name: client.get("v1", "Secret", namespace, name) for name in sorted({name for name, _ in references})}
    faults = []
    for name, key in sorted(references, key=str):
        found = live[name]
        if found is None:
            faults.append(f"the Secret {name} does not exist")
        elif key and key not in (found.get("data") or {}):
            faults.append(f"the Secret {name} has no key {key}")
    return sorted(set(faults))


def delete(client: Client, environment: str, namespace: str) -> list[str]:
    """Delete the Secrets that were made for an environment, and return their names."""
    selector = ",".join(f"{key}={value}" for key, value in LABELS.items())
    mine = [
        item["metadata"]["name"]
        for item in client.objects("v1", "Secret", namespace, selector)
        if (item["metadata"].get("annotations") or {}).get(ENVIRONMENT) == environment
    ]
    return [name for name in mine if client.delete("v1", "Secret", namespace, name)]
