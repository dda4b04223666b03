"""The secrets of an environment beside what runs: their state, and the values that an install by other hands runs with."""

from __future__ import annotations

import base64
import binascii
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from syntho_deploy.cluster.client import Client, Object
from syntho_deploy.compile import Compiled
from syntho_deploy.console import table
from syntho_deploy.environment import SecretSpec
from syntho_deploy.errors import DeployError, PreflightError
from syntho_deploy.redact import register
from syntho_deploy.secrets import certificates, sources, store
from syntho_deploy.secrets.sentinels import URL_SUFFIX, label, pod_specs, secret_keys

EMPTY = "it is there and empty"
_VARIABLE = re.compile(r"\$\$|\$\(([^()$]+)\)")


@dataclass(frozen=True)
class State:
    """A secret as it is. source: in words; created: RFC 3339, or "" where unknown; used_by: `Kind/name` of the objects that
    read it; same: does its value equal the source's (yes, no, or why that cannot be told); note: what a person should know of
    it. No value, length or hash."""

    name: str
    source: str
    exists: bool
    created: str
    generation: int
    used_by: tuple[str, ...]
    same: str
    note: str = ""


@dataclass(frozen=True)
class Adopted:
    """A value that runs, and where it was found."""

    value: str
    places: tuple[str, ...]


def states(client: Client, compiled: Compiled) -> list[State]:
    """The state of every secret of the environment. Sources are asked and compared in memory; nothing is written."""
    namespace, found = compiled.environment.target.namespace, []
    live: dict[str, Object | None] = {}
    for spec in compiled.environment.secrets.values():
        places = _places(compiled, spec)
        live |= {name: client.get("v1", "Secret", namespace, name) for name, _ in places if name not in live}
        exists = bool(places) and all(store.decoded(live[name], key) is not None for name, key in places)
        used = {
            label(item) for item in compiled.objects for of, at, _ in secret_keys(item) if (of, at) in places or (at is None and of in dict(places))
        }
        if spec.server and exists:
            exists = store.known_as(spec.server, store.auths(live[places[0][0]] or {})) is not None
        created = store.created(live[places[0][0]], places[0][1]) if exists else ""
        same = _same(client, compiled, spec, live) if exists else "not stored yet"
        note = "; ".join(_notes(compiled, spec, live) or _ends(compiled, spec, live)) if exists and spec.tls else ""
        if exists and any(store.decoded(live[name], key) == "" for name, key in places):
            note = EMPTY
        found.append(State(spec.name, spec.source, exists, created, spec.generation, tuple(sorted(used)), same, note))
    return found


def text(found: list[State]) -> str:
    """The states as a table."""
    rows = [(s.name, s.source, "yes" if s.exists else "NO", s.created, str(s.generation), s.same, ", ".join(s.used_by)) for s in found]
    return table([("SECRET", "SOURCE", "EXISTS", "SINCE", "GENERATION", "AS THE SOURCE", "USED BY"), *rows]) + "".join(
        f"\n{s.name}: {s.note}" for s in found if s.note
    )


def _places(compiled: Compiled, spec: SecretSpec) -> list[tuple[str, str]]:
    """The Secrets and keys that hold a secret; of a certificate that is not its key, so that both are there or none."""
    if spec.kubernetes:
        return [spec.kubernetes, *store.kept_at(compiled, spec.name)]
    if spec.named:
        return list(store.kept_at(compiled, spec.name))
    return [(store.object_name(compiled, spec), store.DOCKER_KEY if spec.server else store.CERTIFICATE)]


def _same(client: Client, compiled: Compiled, spec: SecretSpec, live: dict[str, Object | None]) -> str:
    if spec.generate or spec.kubernetes:
        return "made here" if spec.generate else "referred to"
    try:
        stored, now = values(client, compiled, spec, live)
    except DeployError as error:
        return f"the source does not answer: {error.what}"
    if stored is None:
        return "stored only inside of other text"
    return "yes" if stored == now else "no: secrets --rotate takes the source's"


def values(client: Client, compiled: Compiled, spec: SecretSpec, live: dict[str, Object | None]) -> tuple[Any, Any]:
    """What is stored of a secret, None where that cannot be told, and what its source gives now. live: the Secrets by name.

    Of registry credentials it is their entry in a pull secret, of a certificate itself and its key. Raises as sources do.
    """
    if spec.server:
        entries = store.auths(live[store.object_name(compiled, spec)] or {})
        return _credentials(entries[store.known_as(spec.server, entries) or ""]), sources.registry_entry(spec, compiled.environment.root)
    if spec.tls:
        found = live[store.object_name(compiled, spec)]
        return tuple(store.decoded(found, key) for key in (store.CERTIFICATE, store.PRIVATE_KEY)), store.certificate_now(compiled, spec)
    return store.stored_values(compiled, live).get(spec.name), store.source_value(client, compiled, spec)


def _credentials(found: object) -> dict[str, str]:
    """A registry's entry as we write it; other tools write only `auth`, which is user name and password. What is no entry has neither."""
    entry = found if isinstance(found, dict) else {}
    try:
        name, _, password = base64.b64decode(entry.get("auth") or "").decode("utf-8", "replace").partition(":")
    except binascii.Error:
        name = password = ""
    return sources.credentials(entry.get("username") or name, entry.get("password") or password)


def notes(client: Client, compiled: Compiled) -> list[str]:
    """What a person should know of the secrets that are there: certificates that end soon, or lack a host of the Ingress."""
    found = []
    for spec, name in store.objects_of_their_own(compiled):
        if spec.tls:
            live = {name: client.get("v1", "Secret", compiled.environment.target.namespace, name)}
            found += [f"{name}: {note}" for note in _notes(compiled, spec, live)]
    return found


def _notes(compiled: Compiled, spec: SecretSpec, live: dict[str, Object | None]) -> list[str]:
    name = store.object_name(compiled, spec)
    return certificates.notes(store.decoded(live[name], store.CERTIFICATE) or "", store.hosts(compiled, name))


def _ends(compiled: Compiled, spec: SecretSpec, live: dict[str, Object | None]) -> list[str]:
    certificate = store.decoded(live[store.object_name(compiled, spec)], store.CERTIFICATE) or ""
    return [f"expires on {certificates.ends(certificate)}"]


def adopt(client: Client, compiled: Compiled) -> dict[str, Adopted]:
    """The values that the live workloads run with, of those secrets that are not stored yet.

    The compiled objects tell where each secret arrives; the live object of that name has the value in the same variable: as
    text, from a Secret of the chart's, or as a part of a URL. It is what the container sees: `$$` is `$`, `$(X)` is expanded.
    Raises `PreflightError` where two places hold different values, naming them.
    """
    namespace = compiled.environment.target.namespace
    stored = store.stored_values(compiled, {compiled.secret: client.get("v1", "Secret", namespace, compiled.secret)})
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    names = {spec.key: spec.name for spec in compiled.environment.secrets.values() if spec.named and not spec.kubernetes}
    for item in compiled.objects:
        live = client.get(item["apiVersion"], item["kind"], namespace, item["metadata"]["name"]) if any(pod_specs(item)) else None
        if live is None:
            continue
        for container, variable, key, pattern in _surfaces(item, compiled.secret):
            name = names.get(key.removesuffix(URL_SUFFIX), "") or names.get(key, "")
            seen = _seen(client, namespace, live, container, variable, compiled.secret)
            value = _part(seen, pattern, key.endswith(URL_SUFFIX)) if seen is not None else None
            if name and name not in stored and value:
                if value not in compiled.public.get(name, frozenset()):
                    register(value)
                found[name][value].append(f"{label(item)} {container} {variable}")
    adopted = {}
    for name, values in found.items():
        if len(values) > 1:
            places = "; ".join(", ".join(places) for places in values.values())
            raise PreflightError(f'the secret "{name}" runs with different values in different places: {places}', todo="make them one first")
        value, places_ = next(iter(values.items()))
        adopted[name] = Adopted(value, tuple(places_))
    return adopted


def _surfaces(item: Object, secret: str) -> Iterator[tuple[str, str, str, str | None]]:
    """Where an object reads the environment's Secret: (container, variable, key, text around it or None for the whole)."""
    for pod in pod_specs(item):
        for container in [*(pod.get("initContainers") or []), *(pod.get("containers") or [])]:
            helpers = {}
            for entry in container.get("env") or []:
                reference = (entry.get("valueFrom") or {}).get("secretKeyRef") or {}
                if reference.get("name") == secret:
                    helpers[entry["name"]] = reference["key"]
                    yield container["name"], entry["name"], reference["key"], None
            for entry in container.get("env") or []:
                used = [name for name in _VARIABLE.findall(entry.get("value") or "") if name in helpers]
                if len(used) == 1:
                    yield container["name"], entry["name"], helpers[used[0]], str(entry["value"]).replace("$$", "$")


def _seen(client: Client, namespace: str, live: Object, container: str, variable: str, ours: str) -> str | None:
    """What the kubelet gives a live container for a variable, or None: absent, or from our own Secret already."""
    for pod in pod_specs(live):
        for one in [*(pod.get("initContainers") or []), *(pod.get("containers") or [])]:
            if one["name"] != container:
                continue
            values: dict[str, str] = {}
            for entry in one.get("env") or []:
                reference = (entry.get("valueFrom") or {}).get("secretKeyRef")
                if reference and reference.get("name") == ours:
                    continue
                values[entry["name"]] = _of_secret(client, namespace, reference) if reference else _expanded(entry.get("value") or "", values)
            return values.get(variable)
    return None


def _of_secret(client: Client, namespace: str, reference: dict[str, Any]) -> str:
    data = (client.get("v1", "Secret", namespace, reference["name"]) or {}).get("data") or {}
    return base64.b64decode(data.get(reference.get("key"), "")).decode("utf-8", "surrogateescape")


def _expanded(text: str, values: dict[str, str]) -> str:
    """`$(X)` with the variables before it, `$$` as `$`, as Kubernetes does."""
    return _VARIABLE.sub(lambda match: "$" if match[1] is None else values.get(match[1], match[0]), text)


def _part(seen: str, pattern: str | None, in_url: bool) -> str | None:
    """The secret inside a text: all of it, what stands at `$(…)` of the pattern, or the password of a URL."""
    if pattern is None:
        return seen
    before, _, after = _VARIABLE.sub("\0", pattern, count=1).partition("\0")
    if len(seen) > len(before) + len(after) and seen.startswith(before) and seen.endswith(after):
        found = seen[len(before) : len(seen) - len(after)]
        return unquote(found) if in_url else found
    try:
        password = urlsplit(seen).password if in_url else None
    except ValueError:
        return None
    return unquote(password) if password else None
