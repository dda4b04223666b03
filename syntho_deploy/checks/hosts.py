"""Names of Services in text: in variables, arguments, ConfigMaps, wherever an address is written out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from syntho_deploy.checks.context import Context, Finding, Item, of_object
from syntho_deploy.checks.databases import service_of
from syntho_deploy.documents import Keys, walk

# host.namespace.svc, with a cluster's domain or without; a pod's name may stand before the Service's.
IN_CLUSTER = re.compile(r"(?<![\w.-])((?:[a-z0-9-]+\.)*?)([a-z0-9-]+)\.([a-z0-9-]+)\.svc(?:\.cluster\.local)?(?![\w-])")
URL = re.compile(
    r"(?:https?|wss?|rediss?|postgres(?:ql)?(?:\+\w+)?|amqps?|ray|tcp|grpc)://(?:[^/\s@]*@)?([a-zA-Z0-9.-]+)(?::([0-9]{1,5}))?(?![\w$:])"
)
HOST_VARIABLE = re.compile(r"(^|_)HOST(NAME)?$")
LABEL = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
NAMESPACE_FLAG = re.compile(r"--?[\w-]*namespace")
API = ("kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
SYSTEM = ("kube-system",)  # whose Services every cluster has


class Address(NamedTuple):
    """A Service in an object's text. service: its name; namespace: "" for the object's own; port: "" where none is written."""

    item: Item
    keys: Keys
    text: str
    service: str
    namespace: str
    port: str


def is_inside(context: Context, host: str) -> bool:
    """Is a host a name of the cluster's DNS, of this namespace or of another?"""
    return bool(service_of(context, host) or IN_CLUSTER.fullmatch(host.lower().rstrip(".")))


def addresses(context: Context) -> Iterator[Address]:
    """Every name of a Service that stands in an object's text, with its port where it is in a URL."""
    for item in context.objects.values():
        for keys, value in walk(item):
            if not isinstance(value, str) or ("svc" not in value and "://" not in value and not _is_host(item, keys)):
                continue
            ports = {match[1].rstrip("."): match[2] or "" for match in URL.finditer(value)}
            for match in IN_CLUSTER.finditer(value):
                yield Address(item, keys, match[0], match[2], match[3], ports.get(match[0], ""))
            for host, port in ports.items() if "annotations" not in keys else ():
                name = service_of(context, host)
                if name and not IN_CLUSTER.fullmatch(host) and name != "localhost":
                    yield Address(item, keys, host, name, "", port)
            if _is_host(item, keys) and LABEL.fullmatch(value) and value != "localhost":
                yield Address(item, keys, value, value, "", "")


def _is_host(item: Item, keys: Keys) -> bool:
    if keys[-1:] != ("value",) or len(keys) < 3 or keys[-3] != "env":
        return False
    entry: Any = item
    for key in keys[:-1]:
        entry = entry[key]
    return bool(HOST_VARIABLE.search(str(entry.get("name"))))


def unknown_host(context: Context) -> Iterator[Finding]:
    """The name of a Service, in a variable, an argument or a ConfigMap, that nothing provides: it does not resolve, and what asks it waits or
    fails at its first request. Hosts of databases, Redis and Ray have rules of their own."""
    here = context.environment.target.namespace
    of_roles = " ".join(str(context.value(name)) for name in context.roles.values if name.endswith(".host") or name == "ray.address")
    for one in addresses(context):
        if one.namespace in ("", here) and one.service not in context.services and one.text not in of_roles:
            todo = f"correct it; there are: {', '.join(sorted(context.services)) or 'none'}; or cluster.present.services: [{one.service}]"
            yield of_object(one.item, one.keys, f"there is no Service {one.service}, which {one.text} names", todo)


def unserved_url(context: Context) -> Iterator[Finding]:
    """A URL with a port that its Service does not have: the request is not answered. A headless Service has the ports of its pods."""
    here = context.environment.target.namespace
    services = {item["metadata"]["name"]: item["spec"] for item in context.kind("Service")}
    for one in addresses(context):
        spec = services.get(one.service) if one.port and one.namespace in ("", here) else None
        if spec is None or spec.get("clusterIP") == "None" or spec.get("type") == "ExternalName":
            continue
        ports = [str(port.get("port")) for port in spec.get("ports") or []]
        if one.port not in ports:
            what = f"the Service {one.service} has no port {one.port}, only {', '.join(ports) or 'none'}"
            yield of_object(one.item, one.keys, what, "write the Service's port, which need not be the container's")


def hard_coded_namespace(context: Context) -> Iterator[Finding]:
    """Another namespace than the environment's, in an object's metadata, in the name of a Service, in a flag of a command, or for an account of
    the environment. The charts' address of Ray's head has the namespace syntho in it, up to 1.9.6 that of the backend too. What the
    environment's own `vars` have, the whole name or the namespace, is meant."""
    here = context.environment.target.namespace
    said = {text for _, text in walk(context.environment.vars) if isinstance(text, str)}
    meant = said | {match[0] for text in said for match in IN_CLUSTER.finditer(text)}
    for item in context.objects.values():
        if item["metadata"].get("namespace", here) != here:
            todo = "remove the namespace from the object: it is deployed into the environment's"
            yield of_object(item, ("metadata", "namespace"), f"the object goes into {item['metadata']['namespace']}, not into {here}", todo)
    for one in addresses(context):
        if one.namespace not in ("", here, *SYSTEM) and one.text not in meant and one.namespace not in meant and one.text not in API:
            todo = "write ${namespace} in the overlay; component ray/address for Ray"
            yield of_object(one.item, one.keys, f"{one.text} is in the namespace {one.namespace}, not in {here}", todo)
    for pod in context.pods:
        for keys, container in pod.containers():
            for part in ("command", "args"):
                words = [str(word) for word in container.get(part) or []]
                for index, word in enumerate(words):
                    flag, equals, value = word.partition("=")
                    value = value if equals else words[index + 1] if index + 1 < len(words) else ""
                    if NAMESPACE_FLAG.fullmatch(flag) and LABEL.fullmatch(value) and value not in (here, *meant):
                        what = f"{flag} names the namespace {value}, not {here}"
                        yield of_object(pod.item, (*keys, part, index + (not equals)), what, "write ${namespace} in the overlay")
    for item in context.kind("RoleBinding", "ClusterRoleBinding"):
        for index, subject in enumerate(item.get("subjects") or []):
            where = subject.get("namespace", here)
            if subject.get("kind") == "ServiceAccount" and where != here and subject.get("name") in context.names("ServiceAccount"):
                what = f"the rights go to an account {subject['name']} in {where}, and that of the environment is in {here}"
                yield of_object(item, ("subjects", index, "namespace"), what, "write ${namespace} there")
