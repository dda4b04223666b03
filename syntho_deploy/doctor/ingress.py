"""The way in: the class of the Ingress and its controller, hosts that are free and lead there, and certificates."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from syntho_deploy.checks.context import issued
from syntho_deploy.doctor.secrets import not_coming
from syntho_deploy.doctor.subject import RULES, Missing, Result, Subject, side_by_side
from syntho_deploy.secrets import certificates, store
from syntho_deploy.secrets.sentinels import label

API = "networking.k8s.io/v1"
ISSUERS = "cert-manager.io/v1"
DEFAULT = "ingressclass.kubernetes.io/is-default-class"
OLD = "kubernetes.io/ingress.class"
CANARY = "nginx.ingress.kubernetes.io/canary"
DNS_SECONDS = 2.5
HERE = ".localhost"  # a browser takes such a name to this machine, without DNS

Object = dict[str, Any]


def _ingresses(subject: Subject) -> list[Object]:
    return [item for item in subject.compiled.objects if item["kind"] == "Ingress"]


def _hosts(item: Object) -> list[str]:
    return list(dict.fromkeys(rule["host"] for rule in item["spec"].get("rules") or [] if rule.get("host")))


def ingress_class(subject: Subject) -> Iterator[Result]:
    """The class that an Ingress names is there, with a controller; or one class is the default. Without it nothing answers for the hosts."""
    found = _ingresses(subject)
    if not found:
        yield Result("ingress-class", "ok", "no Ingress is compiled")
        return
    classes = subject.listed(API, "IngressClass")
    for item in found:
        annotations = item["metadata"].get("annotations") or {}
        # a controller may look for the annotation without an IngressClass; a cluster of this machine has no controller
        lenient = OLD in annotations or bool(subject.environment.target.local)
        yield of_class(item["metadata"]["name"], item["spec"].get("ingressClassName") or annotations.get(OLD), classes, lenient)


def of_class(ingress: str, name: str | None, classes: list[Object], lenient: bool = False) -> Result:
    """What an Ingress's class is like. name: None where it names none; classes: those of the cluster; lenient: one that is not there may be so."""
    known = {item["metadata"]["name"]: item for item in classes}
    listed = ", ".join(sorted(known)) or "none"
    defaults = [each for each, item in known.items() if (item["metadata"].get("annotations") or {}).get(DEFAULT) == "true"]
    if not name and len(defaults) != 1:
        what = f"{ingress} names no class, and {', '.join(defaults) or 'none'} is the default"
        return Result("ingress-class", "error" if not defaults else "warning", what, f"set the variable ingress_class; there is: {listed}")
    name = name or defaults[0]
    if name not in known:
        todo = f"set the variable ingress_class (there is: {listed}), or have a controller with this class installed"
        return Result("ingress-class", "warning" if lenient else "error", f"there is no class {name}, which {ingress} names", todo)
    controller = known[name].get("spec", {}).get("controller") or ""
    if not controller:
        return Result("ingress-class", "error", f"the class {name} names no controller", f"kubectl describe ingressclass {name}")
    return Result("ingress-class", "ok", f"{name}, of {controller}")


def ingress_hosts(subject: Subject) -> Iterator[Result]:
    """No other Ingress, in any namespace, has a host and path of ours: one of the two would get nothing, or the controller refuses ours. One with
    another path of our host gets what is asked below that, and is told."""
    ours = _ingresses(subject)
    if not any(_hosts(item) for item in ours):
        yield Result("ingress-hosts", "ok", "no host is named")
        return
    listed, everywhere = _others(subject)
    taken = conflicts(ours, listed, subject.namespace)
    for (host, paths), where in taken.items():
        todo = "set the variable host to another name, or have the other Ingress removed"
        yield Result("ingress-hosts", "error", f"{host} with {paths} is taken by {where}", todo)
    beside = conflicts(ours, listed, subject.namespace, same=False)
    for (host, paths), where in beside.items():
        todo = "see that nothing of ours is below that path, and that both have one certificate; or set the variable host to a name of its own"
        yield Result("ingress-hosts", "warning", f"{host} with {paths} leads to {where}", todo)
    if not taken and not beside and everywhere:
        hosts = dict.fromkeys(host for item in ours for host in _hosts(item))
        yield Result("ingress-hosts", "ok", f"{', '.join(hosts)}: no other Ingress has {'them' if len(hosts) > 1 else 'it'}")
    if not taken and not everywhere:
        what = f"the account may not list ingresses in all namespaces; in {subject.namespace} no other has the same hosts and paths"
        yield Result("ingress-hosts", "unknown", what, RULES)


def _others(subject: Subject) -> tuple[list[Object], bool]:
    try:
        return subject.listed(API, "Ingress"), True
    except Missing:
        return subject.listed(API, "Ingress", subject.namespace), False


def conflicts(ours: list[Object], there: list[Object], namespace: str, same: bool = True) -> dict[tuple[str, str], str]:
    """Which hosts of ours another Ingress has, with our paths, or (not `same`) with others: (host, paths) to `namespace/name` of the others. One
    that another controller serves, or that shares the traffic on purpose (a canary of ingress-nginx), takes nothing away."""
    names = {item["metadata"]["name"] for item in ours}
    found: dict[tuple[str, str], str] = {}
    for item in there:
        where = item["metadata"]["namespace"], item["metadata"]["name"]
        if where[0] == namespace and where[1] in names:
            continue
        if (item["metadata"].get("annotations") or {}).get(CANARY) == "true":
            continue
        mine = {pair for our in ours if "" in (_class(our), _class(item)) or _class(our) == _class(item) for pair in _pairs(our)}
        theirs = {pair for pair in _pairs(item) if pair[0] in {host for host, _ in mine}}
        both = sorted(mine & theirs if same else theirs - mine)
        for host in dict.fromkeys(host for host, _ in both):
            key = host, ", ".join(path for each, path in both if each == host)
            found[key] = f"{found[key]}, {'/'.join(where)}" if key in found else "/".join(where)
    return found


def _class(item: Object) -> str:
    return str(item["spec"].get("ingressClassName") or (item["metadata"].get("annotations") or {}).get(OLD) or "")


def _pairs(item: Object) -> Iterator[tuple[str, str]]:
    for rule in item["spec"].get("rules") or []:
        for path in (rule.get("http") or {}).get("paths") or []:
            if rule.get("host"):
                yield rule["host"], path.get("path") or "/"


def dns(subject: Subject) -> Iterator[Result]:
    """Each host is known to the DNS of this machine and, once the Ingress has an address, leads there. Before another proxy it may not."""
    leads: dict[str, list[str]] = {}  # host to the addresses of its Ingress
    for item in _ingresses(subject):
        live = subject.found(API, "Ingress", item["metadata"]["name"], subject.namespace) or {}
        entries = ((live.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
        for host in _hosts(item):
            leads[host] = [one.get("ip") or one.get("hostname") for one in entries]
    names = sorted({*leads, *(one for several in leads.values() for one in several)})
    known = dict(zip(names, side_by_side([partial(addresses, name) for name in names]), strict=True))
    for host, several in leads.items():
        yield resolved(host, known[host], {one: known[one] or [] for one in several})


def resolved(host: str, found: list[str] | None, wanted: dict[str, list[str]]) -> Result:
    """What the addresses of a host mean. found: None when DNS did not answer in time; wanted: those of the Ingress, each as it resolves."""
    target = {address for each, several in wanted.items() for address in several or [each]}
    listed = ", ".join(sorted(wanted))
    if host.endswith(HERE) and not found:
        return Result("dns", "ok", f"{host} needs none")
    if found is None:
        return Result("dns", "unknown", f"no answer for {host} within {DNS_SECONDS} s", f"getent hosts {host}")
    if not found:
        todo = f"have an entry made: {host} -> {listed or 'the address of the ingress controller'}"
        return Result("dns", "warning", f"{host} is not known here", todo)
    shown = f"{host} is {', '.join(found[:3])}"
    if target and not target & set(found):
        todo = f"have the entry of {host} lead to {listed}, unless a proxy or load balancer stands before it"
        return Result("dns", "warning", f"{shown}, and its Ingress is at {listed}", todo)
    return Result("dns", "ok", shown + (", as its Ingress" if target else ""))


def addresses(host: str) -> list[str] | None:
    """The addresses of a host by this machine's resolver; [] for none, None when it does not answer in time. A resolver cannot be
    interrupted, so a thread that ends with the process waits for it."""
    answer: list[list[str]] = []

    def ask() -> None:
        try:
            answer.append(sorted({str(one[4][0]) for one in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}))
        except OSError:
            answer.append([])

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(DNS_SECONDS)
    return answer[0] if answer else None


def tls(subject: Subject) -> Iterator[Result]:
    """The TLS Secret of an Ingress has the right type, a certificate that covers the hosts and is valid for 30 days more, and its key; or it is
    made: by the environment's secrets, or by cert-manager, whose issuer is there and ready."""
    made = {need.name for need in subject.wanted}
    found = 0
    for item in _ingresses(subject):
        for entry in item["spec"].get("tls") or []:
            found += 1
            yield from _tls(subject, item, entry, made)
    if not found:
        yield Result("tls", "ok", "no Ingress has TLS")


def _tls(subject: Subject, item: Object, entry: Object, made: Iterable[str]) -> Iterator[Result]:
    name = entry.get("secretName")
    if issued(item):
        yield _issuer(subject, item)
    if not name:
        yield Result(
            "tls", "warning", f"{item['metadata']['name']} has TLS without a Secret: the controller's own certificate answers", "invoke lint"
        )
        return
    live = subject.found("v1", "Secret", name, subject.namespace)
    if live is None and issued(item):
        yield Result("tls", "ok", f"{name} is not there; cert-manager makes it")
    elif live is None and name in made:
        yield Result("tls", "ok", f"{name} is not there; deploy makes it")
    elif live is None and name in subject.context.makers:
        maker, fault = label(subject.context.makers[name]), not_coming(subject, name)
        todo = f"kubectl describe {maker} -n {subject.namespace}" if fault else ""
        yield Result("tls", "error" if fault else "ok", fault or f"{name} is not there; {maker} brings it", todo)
    elif live is None:
        todo = f"kubectl create secret tls {name} -n {subject.namespace} --cert=FILE --key=FILE; or component ingress/cert-manager"
        yield Result("tls", "error", f"the TLS Secret {name} is not there", todo)
    else:
        yield of_secret(live, entry.get("hosts") or _hosts(item))


def of_secret(live: Object, hosts: list[str]) -> Result:
    """What a TLS Secret is worth for these hosts."""
    name = live["metadata"]["name"]
    if live.get("type") != store.TLS:
        todo = f"have it made anew with the type {store.TLS}"
        return Result("tls", "error", f"{name} has the type {live.get('type')}, which controllers do not take for a certificate", todo)
    certificate, key = (store.decoded(live, part) or "" for part in (store.CERTIFICATE, store.PRIVATE_KEY))
    renew = f"have a new one stored in {name}; one of the environment: invoke secrets --rotate=<its name>"
    if fault := certificates.fault(certificate, key, hosts):
        return Result("tls", "error", f"{name}: {fault}", renew)
    if notes := certificates.notes(certificate, hosts):
        return Result("tls", "warning", f"{name}: {'; '.join(notes)}", renew)
    return Result("tls", "ok", f"{name} covers {', '.join(hosts) or 'no host'}, until {certificates.ends(certificate)}")


def _issuer(subject: Subject, item: Object) -> Result:
    annotations = item["metadata"].get("annotations") or {}
    kind, name = ("Issuer", annotations["cert-manager.io/issuer"]) if "cert-manager.io/issuer" in annotations else (
        "ClusterIssuer", annotations.get("cert-manager.io/cluster-issuer", ""),
    )  # fmt: skip
    found = subject.found(ISSUERS, kind, name, subject.namespace if kind == "Issuer" else "")
    if found is None:
        todo = f"have cert-manager and this {kind} installed: kubectl get {kind.lower()}s; or component ingress/tls-secret"
        return Result("tls", "error", f"there is no {kind} {name} of cert-manager", todo)
    ready: Object = next((one for one in found.get("status", {}).get("conditions") or [] if one["type"] == "Ready"), {})
    if ready.get("status") != "True":
        what = f"the {kind} {name} is not ready: {ready.get('message') or 'it has no status'}"
        return Result("tls", "error", what, f"kubectl describe {kind.lower()} {name}")
    return Result("tls", "ok", f"the {kind} {name} is ready")
