"""The site as users reach it: hosts, TLS, and paths that not every controller takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from syntho_deploy.checks.context import Context, Finding, Item, issued, of_object

ISSUERS = ("cert-manager.io/cluster-issuer", "cert-manager.io/issuer")
REWRITE = "nginx.ingress.kubernetes.io/rewrite-target"
COMPONENTS = "one of the components ingress/tls-secret and ingress/cert-manager"


def _tls(item: Item) -> list[dict[str, Any]]:
    return [entry for entry in item["spec"].get("tls") or [] if isinstance(entry, dict)]


def _covered(item: Item) -> set[str]:
    """The hosts that have TLS; `*` for all, where an entry names none."""
    return {host for entry in _tls(item) for host in entry.get("hosts") or ["*"]}


def _is_of(host: Any, patterns: Iterable[str]) -> bool:
    """Is a host one of these, `*.example.com` and `*` among them?"""
    name = str(host).lower()
    return any(one in ("*", name) or (one.startswith("*.") and name.partition(".")[2] == one[2:]) for one in (each.lower() for each in patterns))


def _sites(context: Context) -> list[Item]:
    """The Ingresses that serve the URL's host, or all where none does."""
    role, found = context.role("url.host"), context.kind("Ingress")
    host = str(role.value).partition(":")[0] if role else ""
    return [item for item in found if _is_of(host, [rule.get("host") or "*" for rule in item["spec"].get("rules") or []])] or found


def _hosts(item: Item) -> list[str]:
    return [rule.get("host") or "*" for rule in item["spec"].get("rules") or []]


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
            if _tls(item) and rule.get("host") and not _is_of(rule["host"], _covered(item)):
                listed = ", ".join(sorted(_covered(item))) or "no host"
                yield of_object(item, ("spec", "rules", index, "host"), f"TLS is on for {listed}, not for {rule['host']}", COMPONENTS)


def host_differs_from_url(context: Context) -> Iterator[Finding]:
    """The Ingress has other hosts than the site's URL. The backend answers to the URL's host alone, and every link leads there; it is
    written in two places of the values."""
    role = context.role("url.host")
    hosts = [host for item in context.kind("Ingress") for host in _hosts(item)]
    if role and hosts and not _is_of(str(role.value).partition(":")[0], hosts):
        todo = "one variable for both: the ingress/ components with host"
        yield context.of_value(role, f"the URL's host is {role.value}, the Ingress has {', '.join(hosts)}", todo)


def http_with_tls(context: Context) -> Iterator[Finding]:
    """The site's URL says http where the Ingress has TLS: links in what is sent, and the addresses that a browser asks, are not encrypted."""
    role = context.role("url.protocol")
    if role and role.value == "http" and any(_tls(item) for item in _sites(context)):
        yield context.of_value(role, "the URL says http, and the Ingress has TLS", f"set it to https, as do {COMPONENTS}")


def https_without_tls(context: Context) -> Iterator[Finding]:
    """The site's URL says https where the Ingress has no TLS: nothing answers there, unless something before the Ingress ends TLS."""
    role = context.role("url.protocol")
    found = _sites(context)
    if role and role.value == "https" and found and not any(_tls(item) for item in found):
        yield context.of_value(role, "the URL says https, and the Ingress has no TLS", COMPONENTS)


def http_site(context: Context) -> Iterator[Finding]:
    """A protected environment whose site is http only: passwords are readable on the way. The frontend asks for `wss` whatever the
    protocol is, and later charts set cookies that a browser sends over https only."""
    role = context.role("url.protocol")
    found = _sites(context)
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


def two_issuers(context: Context) -> Iterator[Finding]:
    """Two issuers of certificates for one Ingress, of the namespace and of the cluster: cert-manager makes no certificate then."""
    for item in context.kind("Ingress"):
        annotations = item["metadata"].get("annotations") or {}
        if all(annotations.get(key) for key in ISSUERS):
            what = f"{' and '.join(ISSUERS)} are both there"
            yield of_object(item, ("metadata", "annotations", ISSUERS[1]), what, "remove one: component ingress/cert-manager has the cluster's")


def unknown_protocol(context: Context) -> Iterator[Finding]:
    """A protocol of the site's URL other than http and https: it is put before :// in every link."""
    role = context.role("url.protocol")
    if role and role.value not in ("http", "https"):
        yield context.of_value(role, f"the protocol is {role.value!r}", "write http or https")


def rewritten_path(context: Context) -> Iterator[Finding]:
    """A path that ingress-nginx replaces whole: each request arrives at the target, so that neither the API nor the site's files can be reached.
    The guide's `rewrite-target: /` is of a chart with an Ingress for each application; since then one serves both."""
    for item in context.kind("Ingress"):
        target = (item["metadata"].get("annotations") or {}).get(REWRITE)
        if not target or "$" in str(target):
            continue
        for rule in item["spec"].get("rules") or []:
            lost = [path.get("path") for path in (rule.get("http") or {}).get("paths") or [] if path.get("pathType") != "Exact"]
            if lost:
                what = f"every request for {' and '.join(map(str, lost))} is rewritten to {target}"
                yield of_object(item, ("metadata", "annotations", REWRITE), what, "remove the annotation")
                break
