"""The Secrets of an environment in the cluster: created once, before the releases; an existing value is never changed."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from syntho_deploy.cluster import record
from syntho_deploy.cluster.client import ApiError, Client, Object
from syntho_deploy.compile import Compiled
from syntho_deploy.environment import SecretSpec
from syntho_deploy.errors import InputError, PreflightError
from syntho_deploy.redact import register
from syntho_deploy.secrets import sources
from syntho_deploy.secrets.sentinels import URL_SUFFIX, SecretObject, pod_specs, secret_keys

LABELS = {"app.kubernetes.io/managed-by": "syntho-deploy"}
ENVIRONMENT = "syntho-deploy/environment"
CREATED = "syntho-deploy/created"  # when each key came, as JSON
PLACEHOLDER = re.compile(r"(\$\$)|\$\{secret:([^}|]+)(\|url)?\}")
DOCKER_CONFIG = "kubernetes.io/dockerconfigjson"
DOCKER_KEY = ".dockerconfigjson"
ATTEMPTS = 5


@dataclass(frozen=True)
class Wanted:
    """A Secret that must be there: content by key, each made only when it is missing."""

    name: str
    type: str
    data: dict[str, Callable[[Values], str]]


class Values:
    """The values of an environment's secrets in this run: what the cluster has, else what the source gives; each got once."""

    def __init__(self, client: Client, compiled: Compiled) -> None:
        self._client, self._compiled = client, compiled
        self._known: dict[str, str] = {}

    def learn(self, name: str, value: str) -> None:
        """Take a value that exists already. The charts' own values are public, and masking "password" would hide words."""
        if value not in self._compiled.public.get(name, frozenset()):
            register(value)
        self._known[name] = value

    def get(self, name: str) -> str:
        """The value of a secret, checked. Raises `PreflightError` when there is none, or it cannot be the right one."""
        if name not in self._known:
            spec = self._compiled.environment.secrets.get(name)
            if spec is None:
                raise PreflightError(f'the secret "{name}" is not in the cluster, and the environment has no source of it any more')
            self.learn(name, source_value(self._client, self._compiled, spec))
        return self._known[name]


def source_value(client: Client, compiled: Compiled, spec: SecretSpec) -> str:
    """What a secret's source gives now, checked. Raises `PreflightError` as sources do."""
    environment, roles = compiled.environment, compiled.roles
    found = _referred(client, environment.target.namespace, spec) if spec.kubernetes else sources.value(spec, environment.root)
    sources.check(spec, found, roles.checks.get(spec.name, ""), compiled.public.get(spec.name, frozenset()), environment.protected)
    return found


def content_now(client: Client, compiled: Compiled, spec: SecretSpec) -> str:
    """What would be stored for a secret now: its source's value, for registry credentials the whole configuration."""
    return sources.registry_config(spec, compiled.environment.root) if spec.server else source_value(client, compiled, spec)


def _referred(client: Client, namespace: str, spec: SecretSpec) -> str:
    name, key = spec.kubernetes or ("", "")
    data = (client.get("v1", "Secret", namespace, name) or {}).get("data") or {}
    if key not in data:
        raise PreflightError(f'the secret "{spec.name}" is the key {key} of the Secret {name}, which is not there', spec.mark, "have it made first")
    return base64.b64decode(data[key]).decode("utf-8", "surrogateescape")


def wanted(compiled: Compiled) -> list[Wanted]:
    """The Secrets that an environment needs. Raises `InputError` where a pull secret's name cannot be told."""
    found = [_of_object(item) for item in compiled.secrets]
    for spec in compiled.environment.secrets.values():
        if spec.server:
            name = spec.object_name or _pull_secret(compiled, spec.name)
            found.append(Wanted(name, DOCKER_CONFIG, {DOCKER_KEY: _registry(compiled, spec)}))
    names = [need.name for need in found]
    for spec in compiled.environment.secrets.values():
        if spec.server and names.count(spec.object_name) > 1:
            raise InputError(f'two registries have the pull secret "{spec.object_name}"', spec.mark, "give each a name of its own")
    return found


def _registry(compiled: Compiled, spec: SecretSpec) -> Callable[[Values], str]:
    return lambda values: sources.registry_config(spec, compiled.environment.root)


def _of_object(item: SecretObject) -> Wanted:
    def content(template: str) -> Callable[[Values], str]:
        def part(match: re.Match[str], values: Values) -> str:
            if match[1]:
                return "$"
            found = values.get(match[2])
            return quote(found, safe="") if match[3] else found

        return lambda values: PLACEHOLDER.sub(lambda match: part(match, values), template)

    return Wanted(item.name, item.type, {key: content(template) for key, template in item.data.items()})


def _pull_secret(compiled: Compiled, secret: str) -> str:
    pulls = [pull for item in compiled.objects for pod in pod_specs(item) for pull in pod.get("imagePullSecrets") or []]
    names = {pull["name"] for pull in pulls if pull.get("name")}
    if len(names) != 1:
        spec = compiled.environment.secrets[secret]
        listed = ", ".join(sorted(names)) or "none"
        raise InputError(f'the name of the pull secret for "{secret}" cannot be told: the pods use {listed}', spec.mark, "add name: <one of them>")
    return str(names.pop())


def ensure(client: Client, compiled: Compiled, given: dict[str, str] | None = None) -> list[str]:
    """Create what is missing, all values got before anything is written. Returns `name (keys)` for each Secret written.

    given: values that go before the sources, for what is not in the cluster yet. Two runs at once make one set of values: the
    second sees the first's by the conflict, and takes them. Raises `PreflightError` for a source that has no value, a value that
    cannot be right, or a Secret of that name and another type.
    """
    needs, namespace = wanted(compiled), compiled.environment.target.namespace
    for _ in range(ATTEMPTS):
        live = {need.name: client.get("v1", "Secret", namespace, need.name) for need in needs}
        values = Values(client, compiled)
        for name, value in {**(given or {}), **stored_values(compiled, live)}.items():
            values.learn(name, value)
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


def stored_values(compiled: Compiled, live: dict[str, Object | None]) -> dict[str, str]:
    """The values that the cluster has already, by secret: so that a new `.url` key agrees with the key beside it."""
    values = {}
    for item in compiled.secrets:
        data = (live.get(item.name) or {}).get("data") or {}
        for key, template in item.data.items():
            match = PLACEHOLDER.fullmatch(template)
            if match and match[2] and not match[3] and key in data:
                values[match[2]] = base64.b64decode(data[key]).decode("utf-8", "surrogateescape")
    return values


def learn(client: Client, compiled: Compiled) -> None:
    """Have the values that the cluster has of the environment's secrets masked from now on: what pods, other tools and older
    objects say may quote them. All generations of a value are; the charts' own ones, which are words such as "password", are not."""
    referred = [spec.kubernetes for spec in compiled.environment.secrets.values() if spec.kubernetes]
    pulls = [need.name for need in wanted(compiled) if need.type == DOCKER_CONFIG]
    names = {compiled.secret, *pulls, *(item.name for item in compiled.secrets), *(name for name, _ in referred)}
    live = {name: client.get("v1", "Secret", compiled.environment.target.namespace, name) for name in sorted(names)}
    found = {*_texts(live[compiled.secret]).values(), *stored_values(compiled, live).values()}
    found |= {_texts(live[name]).get(key, "") for name, key in referred}
    for config in (_texts(live[name]).get(DOCKER_KEY, "") for name in pulls):
        found |= _of_registries(config)
    register(*found.difference(*compiled.public.values()))


def _of_registries(config: str) -> set[str]:
    """The passwords in a Docker configuration; none in one that is not as ours are."""
    try:
        return {entry[key] for entry in json.loads(config)["auths"].values() for key in ("password", "auth")}
    except (ValueError, LookupError, TypeError, AttributeError):
        return set()


def _texts(live: Object | None) -> dict[str, str]:
    """The content of a Secret, decoded."""
    return {key: base64.b64decode(value).decode("utf-8", "surrogateescape") for key, value in ((live or {}).get("data") or {}).items()}


def _completed(compiled: Compiled, need: Wanted, live: Object | None, values: Values) -> Object | None:
    """The Secret to write, or None when nothing is missing in the live one."""
    if live and live.get("type", "Opaque") != need.type:
        what = f"the Secret {need.name} exists with the type {live.get('type')}, this environment needs {need.type}"
        raise PreflightError(what, todo="remove it, or give the environment's secret another name")
    data = dict((live or {}).get("data") or {})
    missing = sorted((key for key in need.data if key not in data), key=lambda key: key.endswith(URL_SUFFIX))
    if live and not missing:
        return None
    data |= {key: base64.b64encode(need.data[key](values).encode("utf-8", "surrogateescape")).decode() for key in missing}
    annotations = (live or {}).get("metadata", {}).get("annotations") or {}
    times = {**_times(annotations), **dict.fromkeys(missing, f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")}
    metadata: Object = {
        "name": need.name, "namespace": compiled.environment.target.namespace, "labels": dict(LABELS),
        "annotations": {ENVIRONMENT: compiled.environment.name, CREATED: json.dumps(times, sort_keys=True)},
    }  # fmt: skip
    if live:
        metadata["resourceVersion"] = live["metadata"]["resourceVersion"]
    return {"apiVersion": "v1", "kind": "Secret", "type": need.type, "metadata": metadata, "data": data}


def _times(annotations: Object) -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads(annotations.get(CREATED, "{}"))
    except ValueError:
        found = {}
    return found


def created(live: Object | None, key: str) -> str:
    """When a key came into a Secret (RFC 3339), or ""."""
    return _times(((live or {}).get("metadata") or {}).get("annotations") or {}).get(key, "")


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


def hide(client: Client, namespace: str, items: Iterable[Object]) -> None:
    """Have masked, in all output, the values of the Secrets in the cluster that these objects refer to, and of those made from here."""
    named = {name for item in items for name, _, _ in secret_keys(item)}
    for secret in client.objects("v1", "Secret", namespace, f"owner!=helm,!{record.LABEL}"):
        if secret["metadata"]["name"] in named or LABELS.items() <= (secret["metadata"].get("labels") or {}).items():
            values = [base64.b64decode(value).decode("utf-8", "surrogateescape") for value in (secret.get("data") or {}).values()]
            register(*values)
            if secret.get("type") == DOCKER_CONFIG:
                register(*(str(entry[key]) for entry in _registries(values) for key in ("password", "auth") if key in entry))


def _registries(configs: list[str]) -> list[Object]:
    try:
        return [entry for config in configs for entry in json.loads(config)["auths"].values()]
    except (ValueError, LookupError, TypeError, AttributeError):
        return []


def delete(client: Client, environment: str, namespace: str) -> list[str]:
    """Delete the Secrets that were made for an environment, and return their names."""
    selector = ",".join(f"{key}={value}" for key, value in LABELS.items())
    mine: Iterable[str] = [
        item["metadata"]["name"]
        for item in client.objects("v1", "Secret", namespace, selector)
        if (item["metadata"].get("annotations") or {}).get(ENVIRONMENT) == environment
    ]
    return [name for name in mine if client.delete("v1", "Secret", namespace, name)]
