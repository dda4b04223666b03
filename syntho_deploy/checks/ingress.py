"""The site as users reach it: hosts, TLS, and paths that not every controller takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from syntho_deploy.checks.context import Context, Finding, Item, issued, of_object

COMPONENTS = "one of the components ingress/tls-secret and ingress/cert-manager"


def _tls(item: Item) -> list[dict[str, Any]]:
    return [entry for entry in item["spec"].get("tls") or [] if isinstance(entry, dict)]


def _covered(item: Item) -> set[str]:
    return {host for entry in _tls(item) for host in entry.get("hosts") or []}


def _hosts(item: Item) -> list[str]:
    return [rule["host"] for rule in item["spec"].get("rules") or [] if rule.get("host")]


def tls_without_secret(context: Context) -> Iterator[Finding]:
    """TLS for hosts without a certificate: no Secret is named, or one that nothing provides and no issuer makes. The controller then
    answers with a certificate of its own, which no browser trusts."""
    for item in context.kind("Ingress"):
        if "tls" in item["spec"] and not _tls(item):
            yield of_object(item, ("spec", "tls"), "TLS is on and names no host", COMPONENTS)
        for index, entry in enumerate(_tls(item)):
            name = entry.get("secretName")
            if not name:
                yield of_object(item, ("spec", "tls", index), "TLS without a Secret", COMPONENTS)
            elif name not in context.secrets and not issued(item):
                todo = f"component ingress/cert-manager; or, where it is there already, cluster.present.secrets: [{name}]"
                yield of_object(item, ("spec", "tls", index, "secretName"), f"nothing provides the TLS Secret {name}", todo)


def host_without_tls(context: Context) -> Iterator[Finding]:
    """A host of an Ingress that has TLS for other hosts only, and so not for this one."""
    for item in context.kind("Ingress"):
        for index, rule in enumerate(item["spec"].get("rules") or []):
            if _tls(item) and rule.get("host") and rule["host"] not in _covered(item):
                listed = ", ".join(sorted(_covered(item))) or "no host"
                yield of_object(item, ("spec", "rules", index, "host"), f"TLS is on for {listed}, not for {rule['host']}", COMPONENTS)


def host_differs_from_url(context: Context) -> Iterator[Finding]:
    """The Ingress has other hosts than the site's URL. The backend answers to the URL's host alone, and every link leads there; it is
    written in two places of the values."""
    role = context.role("url.host")
    hosts = [host for item in context.kind("Ingress") for host in _hosts(item)]
    if role and hosts and role.value not in hosts:
        todo = "one variable for both: the ingress/ components with host"
        yield context.of_value(role, f"the URL's host is {role.value}, the Ingress has {', '.join(hosts)}", todo)


def http_with_tls(context: Context) -> Iterator[Finding]:
    """The site's URL says http where the Ingress has TLS: links in what is sent, and the addresses that a browser asks, are not encrypted."""
    role = context.role("url.protocol")
    if role and role.value == "http" and any(_tls(item) for item in context.kind("Ingress")):
        yield context.of_value(role, "the URL says http, and the Ingress has TLS", f"set it to https, as do {COMPONENTS}")


def https_without_tls(context: Context) -> Iterator[Finding]:
    """The site's URL says https where the Ingress has no TLS: nothing answers there, unless something before the Ingress ends TLS."""
    role = context.role("url.protocol")
    found = context.kind("Ingress")
    if role and role.value == "https" and found and not any(_tls(item) for item in found):
        yield context.of_value(role, "the URL says https, and the Ingress has no TLS", COMPONENTS)


def http_site(context: Context) -> Iterator[Finding]:
    """A protected environment whose site is http only: passwords are readable on the way. The frontend asks for `wss` whatever the
    protocol is, and later charts set cookies that a browser sends over https only."""
    role = context.role("url.protocol")
    found = context.kind("Ingress")
    if role and role.value == "http" and found and not any(_tls(item) for item in found):
        yield context.of_value(role, "the site is reached by http", COMPONENTS)


def regex_path(context: Context) -> Iterator[Finding]:
    """A path with a wildcard, which ingress-nginx alone understands, and only with its annotation use-regex: elsewhere, no request of the
    API arrives. The chart's Ingress has `/api/*` for each host. A controller's kind is known from the name of the class only."""
    for item in context.kind("Ingress"):
        annotations = item["metadata"].get("annotations") or {}
        nginx = "nginx" in str(item["spec"].get("ingressClassName") or annotations.get("kubernetes.io/ingress.class") or "")
        if nginx and annotations.get("nginx.ingress.kubernetes.io/use-regex") == "true":
            continue
        for index, rule in enumerate(item["spec"].get("rules") or []):
            for number, path in enumerate((rule.get("http") or {}).get("paths") or []):
                if path.get("pathType") == "ImplementationSpecific" and "*" in str(path.get("path")):
                    keys = ("spec", "rules", index, "http", "paths", number, "path")
                    what = f"the path {path['path']} needs ingress-nginx and its annotation use-regex"
                    yield of_object(item, keys, what, "patch it in <chart>.manifests.yaml: path: /api, pathType: Prefix")
