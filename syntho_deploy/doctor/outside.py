"""Postgres and Redis outside the charts: where they are, how the pods reach them, and what for a password."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote

from syntho_deploy.checks.context import Context, Item
from syntho_deploy.checks.databases import applications, running, service_of
from syntho_deploy.doctor.subject import Missing, Subject
from syntho_deploy.errors import DeployError
from syntho_deploy.redact import register
from syntho_deploy.secrets import sources, store
from syntho_deploy.secrets.sentinels import URL_SUFFIX

NAMES = {"postgres": ("database", "name"), "redis": ("redis", "db")}  # a service's roles, and the one that tells two databases of it apart
SECRET = re.compile(r"\$\{secret:([^}]+)\}")
URL = re.compile(
    r"redis(?P<s>s?)://(?:(?P<user>[^:@/]*)(?::(?P<password>[^@/]*))?@)?(?P<host>\[[^\]]+\]|[^:/?@]+)(?::(?P<port>\d+))?(?:/[^?]*)?(?:\?(?P<query>.*))?"
)
CERTIFICATES = {"none": "require", "optional": "verify-ca", "required": "verify-full"}  # redis-py's ssl_cert_reqs in libpq's words


@dataclass(frozen=True)
class Reference:
    """A key of a Secret (or of a ConfigMap: `kind`). encoded: is it percent-encoded, for a URL?"""

    name: str
    key: str
    encoded: bool = False
    kind: str = "Secret"


@dataclass(frozen=True)
class Trust:
    """The CA that a container trusts. path: in the container; reference: what is mounted there, None for a file of its image."""

    path: str
    reference: Reference | None
    volume: Item
    mount: Item


@dataclass(frozen=True)
class Service:
    """One service as an application reaches it. mode: of TLS, in libpq's words, "" for what is not said; password: where it is, or a
    text that is written down; secret: what people call it; trust: a CA that is named; system: do the image's own CAs count without
    one? pod, container: of the application, {} where there is none."""

    kind: str
    application: str
    host: str
    port: str
    name: str
    user: str
    mode: str
    password: Reference | str
    secret: str
    trust: Trust | None
    system: bool
    pod: Item
    container: Item

    def question(self) -> dict[str, Any]:
        """What `probe.ask` is asked, without password and CA."""
        return {
            "service": self.kind, "application": self.application, "host": self.host, "port": self.port, "name": self.name,
            "user": self.user, "mode": self.mode, "system": self.system, "secret": self.secret, "unknown": "",
        }  # fmt: skip


def outside(context: Context) -> list[Service]:
    """The services that the charts do not bring, of every application."""
    found = []
    for kind, (role, name) in NAMES.items():
        for application in applications(context, role):
            host = context.value(f"{role}.{application}.host")
            if host is None or running(context, service_of(context, host)):
                continue
            values = {key: context.value(f"{role}.{application}.{key}") for key in ("port", name, "user")}
            port, number, user = ("" if value is None else str(value) for value in values.values())
            pod, container = _container(context, application)
            make = _postgres if kind == "postgres" else _redis
            found.append(make(context, application, str(host), port, number, user, pod, container))
    return found


def _container(context: Context, application: str) -> tuple[Item, Item]:
    """The application's own container, and the pod that it is in."""
    for pod in context.pods:
        for _, container in pod.containers(init=False):
            if context.runs(container, application):
                return pod.spec, container
    return {}, {}


def _postgres(context: Context, application: str, host: str, port: str, name: str, user: str, pod: Item, container: Item) -> Service:
    variables = _variables(container)
    mode, ca = str(variables.get("PGSSLMODE", {}).get("value", "")), str(variables.get("PGSSLROOTCERT", {}).get("value", ""))
    trust = None if ca == "system" else _trust(pod, container, ca)
    if trust and mode == "require":
        mode = "verify-ca"  # as libpq and asyncpg do where there is a root certificate
    text = str(context.value(f"credential.{application}.db.password") or "")
    secret = SECRET.fullmatch(text)
    password: Reference | str = _kept(context, secret[1]) if secret else text
    called = secret[1] if secret else ""
    return Service("postgres", application, host, port or "5432", name, user, mode, password, called, trust, ca == "system", pod, container)


def _kept(context: Context, secret: str) -> Reference | str:
    """The key of a Secret that holds the value of a secret, and nothing else."""
    spec = context.environment.secrets[secret]
    if spec.kubernetes:
        return Reference(*spec.kubernetes)
    found = [Reference(item.name, key, bool(match[3])) for item in context.compiled.secrets for key, template in item.data.items()
             if (match := store.PLACEHOLDER.fullmatch(template)) and match[2] == secret]  # fmt: skip
    return min(found, key=lambda one: one.encoded, default=Reference(context.compiled.secret, spec.key))


def _redis(context: Context, application: str, host: str, port: str, name: str, user: str, pod: Item, container: Item) -> Service:
    """By the URL that the application's container has: there alone stands whether there is TLS or a password."""
    variables, mode, secret = _variables(container), "", ""
    password: Reference | str = ""
    trust = None
    for entry in variables.values():
        url = URL.fullmatch(str(entry.get("value", "")))
        if url is None or (url["host"], url["port"] or "6379") != (host, port or "6379"):
            continue
        user, password = unquote(url["user"] or ""), unquote(url["password"] or "")
        if named := re.fullmatch(r"\$\(([^)]+)\)", password):
            reference = (variables.get(named[1], {}).get("valueFrom") or {}).get("secretKeyRef") or {}
            password = Reference(reference.get("name", ""), reference.get("key", ""), True)
            secret = str(reference.get("key", "")).removesuffix(URL_SUFFIX)
        if url["s"]:
            query = parse_qs(url["query"] or "")
            mode = CERTIFICATES.get(query.get("ssl_cert_reqs", ["required"])[0].lower().removeprefix("cert_"), "verify-full")
            ca = query.get("ssl_ca_certs", [str(variables.get("SSL_CERT_FILE", {}).get("value", ""))])[0]
            trust = _trust(pod, container, ca)
        break
    return Service("redis", application, host, port or "6379", name or "0", user, mode, password, secret, trust, True, pod, container)


def _variables(container: Item) -> dict[str, Item]:
    return {str(entry.get("name")): entry for entry in container.get("env") or []}


def _trust(pod: Item, container: Item, path: str) -> Trust | None:
    """What a file of a container is, by its mounts; None for no path."""
    if not path:
        return None
    for mount in container.get("volumeMounts") or []:
        if not PurePosixPath(path).is_relative_to(mount["mountPath"]):
            continue
        volume: Item = next((one for one in pod.get("volumes") or [] if one["name"] == mount["name"]), {})
        rest = mount.get("subPath") or str(PurePosixPath(path).relative_to(mount["mountPath"]))
        for source in (volume.get("projected") or {}).get("sources") or [volume]:
            for kind, field, key in (("ConfigMap", "configMap", "name"), ("Secret", "secret", "name"), ("Secret", "secret", "secretName")):
                holder = source.get(field) or {}
                items = {one["path"]: one["key"] for one in holder.get("items") or []}
                if holder.get(key) and (not items or rest in items):
                    return Trust(path, Reference(holder[key], items.get(rest, rest), kind=kind), volume, mount)
    return Trust(path, None, {}, {})


def certificate(subject: Subject, trust: Trust) -> str:
    """The PEM text of a CA. Raises `Missing` where it cannot be had from here."""
    reference = trust.reference
    if reference is None:
        raise Missing(f"its CA {trust.path} is a file of the image, and was not asked for from here: --in-cluster has it")
    held = subject.context.objects.get(f"{reference.kind}/{reference.name}")
    if held is None:
        held = subject.found("v1", reference.kind, reference.name, subject.namespace)
    content = (held or {}).get("data") or {}
    found = store.decoded(held, reference.key) if reference.kind == "Secret" else content.get(reference.key)
    if not found:
        raise Missing(f"its CA, the key {reference.key} of the {reference.kind} {reference.name}, is not there")
    return str(found)


def reveal(subject: Subject, reference: Reference) -> str:
    """What a key of a Secret holds or will hold, decoded: in the cluster, else by the environment's sources. Registered for redaction.

    Raises `Missing` where there is no such value yet, `PreflightError` for a source without one.
    """
    live = None
    try:
        live = store.decoded(subject.found("v1", "Secret", reference.name, subject.namespace), reference.key)
    except (Missing, DeployError):  # another check tells; the source may be enough
        pass
    if live is not None:
        found = unquote(live, errors="surrogateescape") if reference.encoded else live
        register(found, live)
        return found
    for item in subject.compiled.secrets:
        match = store.PLACEHOLDER.fullmatch(item.data.get(reference.key, "")) if item.name == reference.name else None
        spec = subject.environment.secrets.get(match[2]) if match else None
        if spec and spec.generate:
            raise Missing(f'the secret "{spec.name}" is generated, and not in the cluster yet')
        if spec:
            return sources.value(spec, subject.environment.root)
    raise Missing(f"the key {reference.key} of the Secret {reference.name} is not in the cluster, or cannot be read")
