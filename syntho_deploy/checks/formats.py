"""Texts and numbers of the right type that are still none of what they should be: what the API server refuses, or what never works."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Any

from syntho_deploy.checks.amounts import amount
from syntho_deploy.checks.context import Context, Finding, Item, Role, at, of_object
from syntho_deploy.checks.databases import applications
from syntho_deploy.documents import Json, Keys, walk

# https://kubernetes.io/docs/concepts/overview/working-with-objects/names/ and …/labels/
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
NAME = re.compile(rf"(?=.{{1,253}}$){LABEL.pattern}(\.{LABEL.pattern})*")
SERVICE = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
GROUP = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9]{0,40}[A-Za-z0-9])?")
PATHS = ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")  # whose names may be nearly anything
LABELS = ("labels", "matchLabels", "nodeSelector")
NAMES = ("secretName", "storageClassName", "ingressClassName", "claimName", "serviceAccountName", "priorityClassName")
ISSUERS = ("cert-manager.io/issuer", "cert-manager.io/cluster-issuer")
LONGEST_CLUSTER = 41  # KubeRay cuts `<name>-head-svc` to its last 50 characters
COUNTS = ("replicas", "minReplicas", "maxReplicas")
PORTS = ("containerPort", "port", "targetPort", "hostPort", "nodePort", "number")
LAST_PORT = 65535
LEAST = 2.0**20  # of bytes that anybody means
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
URL = re.compile(r"[a-z][a-z0-9+.-]*://([^/?#]*)(?:[/?#]\S*)?")
SEVERAL = re.compile(r"[\s,;]+[a-z][a-z0-9+.-]*://")
AUTHORITY = re.compile(r"(?:[^@\s]*@)?(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]+)?")
PLACEHOLDER = re.compile(r"<[A-Za-z][A-Za-z0-9 _-]*>")
LONG = 200  # a text with more is a file, which may have anything in it


def invalid_name(context: Context) -> Iterator[Finding]:
    """A name that Kubernetes does not take, of an object or of what it refers to, or a label's value: capitals, `_`, blanks, none at all. The
    name of a RayCluster becomes a part of its Service's, which KubeRay cuts when it is long; that of a group becomes a part of its pods'."""
    for item in context.objects.values():
        if item["kind"] not in PATHS and not (SERVICE if item["kind"] == "Service" else NAME).fullmatch(item["metadata"]["name"]):
            yield _of_name(item, ("metadata", "name"), item["metadata"]["name"])
        elif item["kind"] == "RayCluster" and not (LABEL.fullmatch(item["metadata"]["name"]) and len(item["metadata"]["name"]) <= LONGEST_CLUSTER):
            what = f'"{item["metadata"]["name"]}" names the head\'s Service: without dots, and at most {LONGEST_CLUSTER} characters'
            yield of_object(item, ("metadata", "name"), what, "choose another name")
        for keys, value in walk(item):
            if isinstance(value, str) and keys and not _is_name(keys, value):
                yield _of_name(item, keys, value)


def _is_name(keys: Keys, value: str) -> bool:
    """Is a text what its place asks for? True for all places that ask for no name."""
    last, above = keys[-1], keys[-2] if len(keys) > 1 else ""
    if above in LABELS and last != "kubernetes.io/metadata.name":
        return bool(VALUE.fullmatch(value))
    if above in LABELS:
        return bool(NAME.fullmatch(value))
    if last == "groupName":
        return bool(GROUP.fullmatch(value))
    if (
        (last in NAMES and value)
        or (last == "name" and len(keys) > 2 and keys[-3] == "imagePullSecrets")
        or (above == "annotations" and last in ISSUERS)
    ):
        return bool(NAME.fullmatch(value))
    return True


def _of_name(item: Item, keys: Keys, value: str) -> Finding:
    allowed = "letters, digits, -, _ and . in a label" if keys[-2] in LABELS else "small letters, digits and -, at both ends a letter or digit"
    return of_object(item, keys, f'"{value}" is no name that Kubernetes takes', f"use {allowed}")


def invalid_host(context: Context) -> Iterator[Finding]:
    """A host that is none: with a scheme, a port or a path, in capitals, or an address where an Ingress needs a name; of the site, an Ingress,
    a database, Redis."""
    for item in context.kind("Ingress"):
        spec = item["spec"]
        hosts: list[tuple[Keys, Any]] = [(("spec", "rules", index, "host"), rule.get("host")) for index, rule in enumerate(spec.get("rules") or [])]
        hosts += [
            (("spec", "tls", index, "hosts", place), host)
            for index, entry in enumerate(spec.get("tls") or [])
            for place, host in enumerate(entry.get("hosts") or [])
        ]
        for keys, host in hosts:
            if host is not None and (not NAME.fullmatch(str(host).removeprefix("*.")) or _is_address(str(host))):
                yield of_object(
                    item, keys, f'"{host}" is no host of an Ingress', "write a name such as syntho.example.com: no https://, no port, no path"
                )
    for name in context.roles.values:
        role = context.role(name) if name.endswith(".host") else None
        text = str(role.value if role else "").lower().removesuffix(".")
        if name == "url.host" and not context.kind("Ingress"):
            text = re.sub(":[0-9]+$", "", text)
        if role and not NAME.fullmatch(text) and not _is_address(text):
            yield context.of_value(role, f'"{role.value}" is no host', "write the name or the address alone: no scheme, no port, no path")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True


def invalid_quantity(context: Context) -> Iterator[Finding]:
    """An amount of CPU, memory or storage that Kubernetes cannot read (32GB, 4 cores), one below 0 or of some bytes, for want of a unit, or a
    request above its limit."""
    for item in context.objects.values():
        for keys, value in walk(item):
            if isinstance(value, dict) and keys and keys[-1] in ("limits", "requests"):
                for resource, size in value.items():
                    found = amount(size)
                    if found is None or found < 0 or (resource == "storage" and not found):
                        yield of_object(item, (*keys, resource), f'"{size}" is no amount of {resource}', "write it as 500m, 2, 512Mi, 32G")
                    elif resource.endswith(("memory", "storage")) and 0 < found < LEAST:
                        yield of_object(item, (*keys, resource), f"{size} of {resource} means {found:g} bytes", "write a unit: 512Mi, 32G")
            if isinstance(value, dict) and isinstance(value.get("limits"), dict) and isinstance(value.get("requests"), dict):
                for resource, size in value["requests"].items():
                    asked, most = amount(size), amount(value["limits"].get(resource))
                    if asked is not None and most is not None and asked > most:
                        what = f"{resource}: {size} is asked for, and {value['limits'][resource]} is the limit"
                        yield of_object(item, (*keys, "requests", resource), what, "raise the limit, or ask for less")


def empty_value(context: Context) -> Iterator[Finding]:
    """A value with a meaning (a host, a user, the administrator's address) that is empty: what reads it fails, or takes something else."""
    for name in context.roles.values:
        role = context.role(name)
        if role and role.value == "":
            yield context.of_value(role, f"{name} is empty", "write it out")


def out_of_range(context: Context) -> Iterator[Finding]:
    """A port that is none from 1 to 65535, a number of pods below 0, or a number of a Redis database that is no number."""
    for item in context.objects.values():
        for keys, value in walk(item):
            if type(value) is not int or not keys:
                continue
            if keys[-1] in PORTS and not 1 <= value <= LAST_PORT:
                yield of_object(item, keys, f"{value} is no port", f"write one from 1 to {LAST_PORT}")
            if keys[-1] in COUNTS and value < 0:
                yield of_object(item, keys, f"{value} is no number of pods", "write 0 or more")
    for service, part, least, most in (("database", "port", 1, LAST_PORT), ("redis", "port", 1, LAST_PORT), ("redis", "db", 0, None)):
        for application in applications(context, service):
            role = context.role(f"{service}.{application}.{part}")
            if role and not _within(role.value, least, most):
                kind = "port" if part == "port" else "number of a database in Redis"
                yield context.of_value(role, f'"{role.value}" is no {kind}', f"write a number from {least}{f' to {most}' if most else ' on'}")


def _within(value: Json, least: int, most: int | None) -> bool:
    text = str(value)
    return text.isascii() and text.isdigit() and int(text) >= least and (most is None or int(text) <= most)


def invalid_cidr(context: Context) -> Iterator[Finding]:
    """A network of a NetworkPolicy that is none: an address without its length, a length that is too large, a word."""
    for item in context.kind("NetworkPolicy"):
        for keys, value in walk(item["spec"]):
            for place, network in _networks(keys, value):
                try:
                    right = "/" in str(network) and bool(ipaddress.ip_network(str(network), strict=False))
                except ValueError:
                    right = False
                if not right:
                    yield of_object(item, ("spec", *place), f'"{network}" is no network', "write it as 10.0.0.0/16; one address is 10.0.0.1/32")


def _networks(keys: Keys, value: Json) -> Iterator[tuple[Keys, Json]]:
    if isinstance(value, dict) and keys and keys[-1] == "ipBlock":
        yield (*keys, "cidr"), value.get("cidr")
        yield from (((*keys, "except", index), one) for index, one in enumerate(value.get("except") or []))


def invalid_url(context: Context) -> Iterator[Finding]:
    """A URL in a variable that does not lead where it seems to: the charts put hosts, ports and users into URLs as they are, where a second
    `@`, a `/`, a scheme or a blank cuts them elsewhere."""
    for pod in context.pods:
        for keys, container in pod.containers():
            for index, entry in enumerate(container.get("env") or []):
                text = str(entry.get("value") or "")
                url = URL.fullmatch(text) if "://" in text and not SEVERAL.search(text) else None
                if url and not AUTHORITY.fullmatch(url[1]):
                    fault = "has @ twice before its path" if url[1].count("@") > 1 else "has no host, or host:port, before its path"
                    what = f"the URL in {entry.get('name')} {fault}"
                    yield of_object(pod.item, (*keys, "env", index), what, "write hosts without scheme, port and path; @ in a user's name as %40")


def unknown_ssl_mode(context: Context) -> Iterator[Finding]:
    """A mode of TLS that libpq does not have (PGSSLMODE): no connection to Postgres is made."""
    for pod in context.pods:
        for keys, container in pod.containers():
            for index, entry in enumerate(container.get("env") or []):
                if entry.get("name") == "PGSSLMODE" and "valueFrom" not in entry and str(entry.get("value")) not in SSL_MODES:
                    what = f'"{entry.get("value")}" is no mode of TLS for Postgres'
                    yield of_object(pod.item, (*keys, "env", index), what, f"one of {', '.join(SSL_MODES)}")


def left_placeholder(context: Context) -> Iterator[Finding]:
    """A value that still has a placeholder in it, `<hostname>` or `<tag>`, as the guide's snippets have where a value of the site belongs."""
    for chart, values in context.shown_values.items():
        for keys, value in walk(values):
            found = PLACEHOLDER.search(value) if isinstance(value, str) and len(value) < LONG else None
            if found and value != (was := at(context.project.defaults(chart), keys)) and found[0] not in str(was):
                yield context.of_value(Role(chart, keys, value, was), f"{found[0]} is still to be replaced", "write the value that belongs there")
