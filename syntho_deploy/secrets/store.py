"""The Secrets of an environment in the cluster: created once, before the releases; only `replace` changes an existing value."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote

from syntho_deploy.cluster import record
from syntho_deploy.cluster.client import ApiError, Client, Object
from syntho_deploy.compile import Compiled
from syntho_deploy.environment import SecretSpec
from syntho_deploy.errors import InputError, PreflightError
from syntho_deploy.redact import register
from syntho_deploy.secrets import certificates, sources
from syntho_deploy.secrets.sentinels import URL_SUFFIX, SecretObject, pod_specs, secret_keys

LABELS = {"app.kubernetes.io/managed-by": "syntho-deploy"}
ENVIRONMENT = "syntho-deploy/environment"
CREATED = "syntho-deploy/created"  # when each key came, as JSON
PLACEHOLDER = re.compile(r"(\$\$)|\$\{secret:([^}|]+)(\|url)?\}")
DOCKER_CONFIG, TLS = "kubernetes.io/dockerconfigjson", "kubernetes.io/tls"
DOCKER_KEY, CERTIFICATE, PRIVATE_KEY = ".dockerconfigjson", "tls.crt", "tls.key"
ATTEMPTS = 5
FAULT_TODO = "remove it, or wait until it is gone, or give the environment's secret another name"


@dataclass(frozen=True)
class Wanted:
    """A Secret that must be there: content by key, each made only when it is missing.

    registries: of a pull secret, which has one key for all of them: each is added only when it is missing.
    """

    name: str
    type: str
    data: dict[str, Callable[[Values], str]]
    registries: tuple[SecretSpec, ...] = ()

    def missing(self, live: Object | None) -> list[str]:
        """What a live Secret lacks: its keys, sorted, or the servers of registries. One that is being deleted lacks all."""
        live = None if live and live["metadata"].get("deletionTimestamp") else live
        data = (live or {}).get("data") or {}
        keys = sorted(key for key in self.data if key not in data)
        known = {} if keys or not self.registries else auths(live or {})
        return keys or [spec.server for spec in self.registries if known_as(spec.server, known) is None]


class Values:
    """The values of an environment's secrets in this run: what the cluster has, else what the source gives; each got once."""

    def __init__(self, client: Client, compiled: Compiled) -> None:
        self._client, self._compiled = client, compiled
        self._known: dict[str, str] = {}
        self._certificates: dict[str, tuple[str, str]] = {}

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

    def registry(self, spec: SecretSpec) -> dict[str, str]:
        """The credentials of a registry, as a pull secret has them."""
        return sources.registry_entry(spec, self._compiled.environment.root)

    def certificate(self, spec: SecretSpec) -> tuple[str, str]:
        """A certificate and its key, read and checked together."""
        if spec.name not in self._certificates:
            self._certificates[spec.name] = certificate_now(self._compiled, spec)
        return self._certificates[spec.name]


def source_value(client: Client, compiled: Compiled, spec: SecretSpec) -> str:
    """What a secret's source gives now, checked. Raises `PreflightError` as sources do."""
    found = _referred(client, compiled, spec) if spec.kubernetes else sources.value(spec, compiled.environment.root)
    _check(compiled, spec, found)
    return found


def _check(compiled: Compiled, spec: SecretSpec, found: str) -> None:
    kind, public = compiled.roles.checks.get(spec.name, ""), compiled.public.get(spec.name, frozenset())
    sources.check(spec, found, kind, public, compiled.environment.protected)


def _referred(client: Client, compiled: Compiled, spec: SecretSpec) -> str:
    name, key = spec.kubernetes or ("", "")
    found = decoded(client.get("v1", "Secret", compiled.environment.target.namespace, name), key)
    if not found:
        state = "which is not there" if found is None else "which is empty"
        raise PreflightError(f'the secret "{spec.name}" is the key {key} of the Secret {name}, {state}', spec.mark, "have it made first")
    return found


def decoded(live: Object | None, key: str) -> str | None:
    """The text under a key of a live Secret, or None where there is none."""
    data = (live or {}).get("data") or {}
    return base64.b64decode(data[key]).decode("utf-8", "surrogateescape") if key in data else None


def wanted(compiled: Compiled) -> list[Wanted]:
    """The Secrets that an environment needs. Raises `InputError` where the name of a pull secret or a TLS Secret cannot be told."""
    found = [_of_object(item) for item in compiled.secrets]
    registries: dict[str, list[SecretSpec]] = {}
    certificates_of: dict[str, SecretSpec] = {}
    for spec, name in objects_of_their_own(compiled):
        if spec.server:
            together = registries.setdefault(name, [])
            if twins := [other.name for other in together if _host(other.server) == _host(spec.server)]:
                what = f'"{twins[0]}" and "{spec.name}" are both credentials for {spec.server} in one pull secret'
                raise InputError(what, spec.mark, "remove one, or give them different names of pull secrets")
            together.append(spec)
        if spec.tls and (twin := certificates_of.setdefault(name, spec)) is not spec:
            raise InputError(f'"{twin.name}" and "{spec.name}" are both the TLS Secret {name}', spec.mark, "remove one")
    found += [Wanted(name, DOCKER_CONFIG, {DOCKER_KEY: _pull_config(specs)}, tuple(specs)) for name, specs in registries.items()]
    return found + [_of_certificate(name, spec) for name, spec in certificates_of.items()]


def objects_of_their_own(compiled: Compiled) -> Iterator[tuple[SecretSpec, str]]:
    """The registry credentials and certificates of an environment, each with the Secret that it becomes; of a past state those that it used."""
    for spec in compiled.environment.secrets.values():
        if not spec.named:
            try:
                yield spec, object_name(compiled, spec)
            except InputError:
                if not compiled.past:
                    raise


def object_name(compiled: Compiled, spec: SecretSpec) -> str:
    """The Secret that registry credentials or a certificate become: the one that is named, or the only one that pods or an Ingress name.

    Raises `InputError` where that cannot be told, or no Ingress uses the one that is named.
    """
    if spec.server and spec.object_name:
        return spec.object_name
    if spec.server:
        pulls = [pull for item in compiled.objects for pod in pod_specs(item) for pull in pod.get("imagePullSecrets") or []]
        names, what, users = {pull["name"] for pull in pulls if pull.get("name")}, "pull secret", "the pods use"
    else:
        names, what, users = set(_tls_of(compiled)), "TLS Secret", "the Ingresses use"
    listed = ", ".join(sorted(names)) or "none"
    if spec.object_name in names:
        return spec.object_name
    if spec.object_name:
        raise InputError(f'nothing uses the {what} "{spec.object_name}": {users} {listed}', spec.mark, "correct the name, or remove the secret")
    if len(names) != 1:
        raise InputError(f'the name of the {what} for "{spec.name}" cannot be told: {users} {listed}', spec.mark, "add name: <one of them>")
    return str(names.pop())


def _tls_of(compiled: Compiled) -> dict[str, list[str]]:
    """The TLS Secrets that Ingresses name, each with the hosts that it serves."""
    found: dict[str, list[str]] = {}
    for item in compiled.objects:
        spec = item.get("spec") or {} if item["kind"] == "Ingress" else {}
        rules = [rule["host"] for rule in spec.get("rules") or [] if rule.get("host")]
        for entry in spec.get("tls") or []:
            if entry.get("secretName"):
                found.setdefault(entry["secretName"], []).extend(entry.get("hosts") or rules)
    return found


def hosts(compiled: Compiled, name: str) -> list[str]:
    """The hosts that a TLS Secret serves, each once."""
    return list(dict.fromkeys(_tls_of(compiled).get(name, [])))


def certificate_now(compiled: Compiled, spec: SecretSpec) -> tuple[str, str]:
    """The certificate and the key that the source gives now, checked for the hosts that use them."""
    found, key = sources.certificate(spec, compiled.environment.root)
    certificates.check(spec, found, key, hosts(compiled, object_name(compiled, spec)))
    return found, key


def _of_certificate(name: str, spec: SecretSpec) -> Wanted:
    def part(index: int) -> Callable[[Values], str]:
        return lambda values: values.certificate(spec)[index]

    return Wanted(name, TLS, {CERTIFICATE: part(0), PRIVATE_KEY: part(1)})


def _pull_config(specs: list[SecretSpec]) -> Callable[[Values], str]:
    return lambda values: docker_config({spec.server: values.registry(spec) for spec in specs})


def docker_config(entries: dict[str, Any]) -> str:
    """The content of a pull secret. entries: `auths`, by server."""
    return json.dumps({"auths": entries})


def auths(live: Object) -> dict[str, Any]:
    """The registries of a live pull secret, by server. Raises `PreflightError` when it is not what such a Secret holds."""
    try:
        found = json.loads(decoded(live, DOCKER_KEY) or "{}").get("auths") or {}
        return dict(found)
    except (ValueError, AttributeError, TypeError):
        what = f"the Secret {live['metadata']['name']} is a pull secret, but holds no JSON with auths"
        raise PreflightError(what, todo="delete it, and it is made anew") from None


def known_as(server: str, entries: dict[str, Any]) -> str | None:
    """The name under which a registry stands in a pull secret: `https://` and `/v1/` around it mean nothing to the kubelet."""
    return next((name for name in entries if _host(name) == _host(server)), None)


def _host(server: str) -> str:
    return re.sub(r"/v[12]$", "", re.sub(r"^https?://", "", server).rstrip("/"))


def _of_object(item: SecretObject) -> Wanted:
    def content(template: str) -> Callable[[Values], str]:
        def part(match: re.Match[str], values: Values) -> str:
            if match[1]:
                return "$"
            found = values.get(match[2])
            return quote(found, safe="", errors="surrogateescape") if match[3] else found

        return lambda values: PLACEHOLDER.sub(lambda match: part(match, values), template)

    return Wanted(item.name, item.type, {key: content(template) for key, template in item.data.items()})


def ensure(client: Client, compiled: Compiled, given: dict[str, str] | None = None) -> list[str]:
    """Create what is missing, all values got before anything is written. Returns `name (keys)` for each Secret written.

    given: values that go before the sources, for what is not in the cluster yet. Two runs at once make one set of values: the
    second sees the first's by the conflict, and takes them. Raises `PreflightError` for a source that has no value, a value that
    cannot be right, or a Secret of that name and another type.
    """
    needs, namespace = wanted(compiled), compiled.environment.target.namespace
    _check_referred(client, compiled)
    for _ in range(ATTEMPTS):
        live = client.each("v1", "Secret", namespace, (need.name for need in needs))
        values = Values(client, compiled)
        for name, value in {**(given or {}), **stored_values(compiled, live)}.items():
            values.learn(name, value)
        writes = [(need, item) for need in needs if (item := _completed(compiled, need, live[need.name], values))]
        try:
            for need, item in writes:
                _write(client, item, live[need.name])
            return [f"{need.name} ({', '.join(need.missing(live[need.name]))})" for need, _ in writes]
        except ApiError as error:
            if error.status != 409:
                raise
    raise PreflightError("the Secrets were changed by another run again and again", todo="wait for the other run, then deploy again")


def _check_referred(client: Client, compiled: Compiled) -> None:
    """Refuse a value of a Secret that is referred to in place, and there, which cannot be right. Another may make it after us."""
    for spec in compiled.environment.secrets.values():
        name, key = spec.kubernetes or ("", "")
        if name and decoded(client.get("v1", "Secret", compiled.environment.target.namespace, name), key) is not None:
            _check(compiled, spec, _referred(client, compiled, spec))


def due(compiled: Compiled, live: dict[str, Object | None]) -> list[str]:
    """The Secrets, and what is missing in them, that `ensure` would write: `name (keys)`. No source is asked.

    live: what `learn` found.
    """
    absent = {need.name: need.missing(live[need.name]) for need in wanted(compiled) if not _fault(need, live[need.name])}
    return [f"{name} ({', '.join(missing)})" for name, missing in absent.items() if missing]


def faults(compiled: Compiled, live: dict[str, Object | None]) -> dict[str, str]:
    """The Secrets that `ensure` would refuse to complete, by name, and why. live: what `learn` found."""
    return {need.name: fault for need in wanted(compiled) if (fault := _fault(need, live[need.name]))}


def _fault(need: Wanted, live: Object | None) -> str:
    """Why a live Secret cannot be completed; empty where it can."""
    if live is None:
        return ""
    if since := live["metadata"].get("deletionTimestamp"):
        return f"is being deleted since {since}, held by {', '.join(live['metadata'].get('finalizers') or []) or 'nothing'}"
    if live.get("type", "Opaque") != need.type:
        return f"exists with the type {live.get('type')}, this environment needs {need.type}"
    lacking = need.missing(live) if live.get("immutable") else []
    return f"is immutable, and lacks {', '.join(lacking)}" if lacking else ""


def stored_values(compiled: Compiled, live: dict[str, Object | None]) -> dict[str, str]:
    """The values that the cluster has already, by secret: so that a new `.url` key agrees with the key beside it."""
    whole: dict[str, str] = {}
    in_url: dict[str, str] = {}
    for item in compiled.secrets:
        for key, template in item.data.items():
            match, found = PLACEHOLDER.fullmatch(template), decoded(live.get(item.name), key)
            if match and match[2] and found is not None:
                (in_url if match[3] else whole)[match[2]] = unquote(found, errors="surrogateescape") if match[3] else found
    return in_url | whole


def kept_at(compiled: Compiled, name: str) -> Iterator[tuple[str, str]]:
    """The Secrets and keys that hold the value of a secret, alone or with text around it."""
    for item in compiled.secrets:
        for key, template in item.data.items():
            if any(match[2] == name for match in PLACEHOLDER.finditer(template)):
                yield item.name, key


def learn(client: Client, compiled: Compiled) -> dict[str, Object | None]:
    """Have the values that the cluster has of the environment's secrets masked from now on: what pods, other tools and older
    objects say may quote them. All generations of a value are; the charts' own ones, which are words such as "password", are not.

    Returns the Secrets by name, None for one that is not there: those that are wanted, and those that sources name.
    """
    referred = [spec.kubernetes for spec in compiled.environment.secrets.values() if spec.kubernetes]
    needs = wanted(compiled)
    names = {compiled.secret, *(need.name for need in needs), *(name for name, _ in referred)}
    live = client.each("v1", "Secret", compiled.environment.target.namespace, names)
    found = {*_texts(live[compiled.secret]).values(), *stored_values(compiled, live).values()}
    found |= {_texts(live[name]).get(key, "") for name, key in referred}
    for content in (_texts(live[need.name]) for need in needs if need.type in (DOCKER_CONFIG, TLS)):
        found |= {content.get(PRIVATE_KEY, ""), *passwords(content.get(DOCKER_KEY, ""))}
    register(*found.difference(*compiled.public.values()))
    return live


def passwords(config: str) -> set[str]:
    """What is secret in a Docker configuration (JSON); an entry of another tool may have `auth` alone. Nothing where it is none."""
    try:
        entries = list(json.loads(config)["auths"].values())
    except (ValueError, LookupError, TypeError, AttributeError):
        return set()
    return {str(entry[key]) for entry in entries if isinstance(entry, dict) for key in ("password", "auth") if key in entry}


def _texts(live: Object | None) -> dict[str, str]:
    """The content of a Secret, decoded."""
    return {key: base64.b64decode(value).decode("utf-8", "surrogateescape") for key, value in ((live or {}).get("data") or {}).items()}


def _completed(compiled: Compiled, need: Wanted, live: Object | None, values: Values) -> Object | None:
    """The Secret to write, or None when nothing is missing in the live one."""
    if fault := _fault(need, live):
        raise PreflightError(f"the Secret {need.name} {fault}", todo=FAULT_TODO)
    missing = need.missing(live)
    if live and not missing:
        return None
    if live and DOCKER_KEY in need.data and missing != [DOCKER_KEY]:
        added = {spec.server: values.registry(spec) for spec in need.registries if spec.server in missing}
        return changed(compiled, need, live, {DOCKER_KEY: docker_config({**auths(live), **added})})
    keys = sorted(missing, key=lambda key: key.endswith(URL_SUFFIX))
    return changed(compiled, need, live, {key: need.data[key](values) for key in keys})


def changed(compiled: Compiled, need: Wanted, live: Object | None, content: dict[str, str]) -> Object:
    """The live Secret, or a new one, with this content by key; what else it holds stays."""
    data = dict((live or {}).get("data") or {})
    data |= {key: base64.b64encode(text.encode("utf-8", "surrogateescape")).decode() for key, text in content.items()}
    annotations = (live or {}).get("metadata", {}).get("annotations") or {}
    times = {**_times(annotations), **dict.fromkeys(content, f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")}
    labels = (live or {}).get("metadata", {}).get("labels") or {}  # whoever made it stays named: the write is a forced one
    metadata: Object = {
        "name": need.name, "namespace": compiled.environment.target.namespace, "labels": {key: labels.get(key, LABELS[key]) for key in LABELS},
        "annotations": {ENVIRONMENT: compiled.environment.name, CREATED: json.dumps(times, sort_keys=True)},
    }  # fmt: skip
    if live:
        metadata["resourceVersion"] = live["metadata"]["resourceVersion"]
    return {"apiVersion": "v1", "kind": "Secret", "type": need.type, "metadata": metadata, "data": data}


def replace(client: Client, compiled: Compiled, name: str, content: Callable[[Object], dict[str, str]]) -> None:
    """Replace content of a Secret that is there, all of it in one write. content: of the live Secret, by key.

    Raises `PreflightError` where the Secret is not there, `ApiError` 409 where it moved meanwhile.
    """
    need = next(need for need in wanted(compiled) if need.name == name)
    live = client.get("v1", "Secret", compiled.environment.target.namespace, name)
    if live is None:
        raise PreflightError(f"the Secret {name} is not there", todo=f"invoke secrets --env={compiled.environment.name} makes it")
    _write(client, changed(compiled, need, live, content(live)), live)


def _times(annotations: Object) -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads(annotations.get(CREATED, "{}"))
    except ValueError:
        found = {}
    return found


def created(live: Object | None, key: str) -> str:
    """When a key came into a Secret (RFC 3339), or ""."""
    return _times(((live or {}).get("metadata") or {}).get("annotations") or {}).get(key, "")


def _write(client: Client, item: Object, live: Object | None) -> None:
    """Create the Secret, or complete it; a live one that has moved meanwhile is a conflict, never overwritten."""
    if live is None:
        client.create(item)
    else:
        client.apply(item, force=True)


def missing(client: Client, compiled: Compiled) -> list[str]:
    """Every reference of a compiled object to a Secret, or a key, that is not in the cluster."""
    namespace = compiled.environment.target.namespace
    references = {(name, key) for item in compiled.objects for name, key, optional in secret_keys(item) if not optional}
    live = client.each("v1", "Secret", namespace, (name for name, _ in references))
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
            content = _texts(secret)
            register(*content.values(), *passwords(content.get(DOCKER_KEY, "")))


def delete(client: Client, environment: str, namespace: str) -> list[str]:
    """Delete the Secrets that were made for an environment, and return their names."""
    selector = ",".join(f"{key}={value}" for key, value in LABELS.items())
    mine: Iterable[str] = [
        item["metadata"]["name"]
        for item in client.objects("v1", "Secret", namespace, selector)
        if (item["metadata"].get("annotations") or {}).get(ENVIRONMENT) == environment
    ]
    return [name for name in mine if client.delete("v1", "Secret", namespace, name)]
