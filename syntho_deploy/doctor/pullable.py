"""Whether the nodes can pull what the environment runs, by the credentials that they will use."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from syntho_deploy import images
from syntho_deploy.doctor.nodes import Node, node, refusal
from syntho_deploy.doctor.subject import Missing, Result, Subject, side_by_side
from syntho_deploy.doctor.workloads import asked, containers
from syntho_deploy.errors import DeployError
from syntho_deploy.redact import register
from syntho_deploy.registry import Found, Login, Reference, Registries, RegistryError, host, parse
from syntho_deploy.secrets import sources, store

TIMEOUTS = (5.0, 5.0)  # seconds
SIMULATED = "kwok.x-k8s.io/node"  # the annotation of a node that runs nothing
USUAL = "amd64"  # where the nodes are not known: https://kubernetes.io/docs/reference/node/node-labels/#kubernetes-io-arch


class _Login(NamedTuple):
    """Credentials of a registry, and where they are, for people."""

    pair: tuple[str, str]
    source: str


class _Asked(NamedTuple):
    """An image and what its registry has: None where it has no such image; fault: why that is not known."""

    image: Reference
    found: Found | None
    fault: DeployError | None = None


def images_pullable(subject: Subject) -> Iterator[Result]:
    """Every image is in its registry, for the nodes' architecture, and the pull secret opens it: what else is found out by ImagePullBackOff."""
    platforms = _platforms(subject)
    if platforms is None:
        yield Result("images-pullable", "ok", "the nodes are simulated, and pull nothing")
        return
    wanted = []
    for name in sorted(images.names_in(subject.compiled.objects)):
        try:
            wanted.append(parse(name))
        except DeployError as error:
            yield Result("images-pullable", "error", error.what, error.todo)
    known = _sources(subject)
    logins = {image: next((found for server, found in known if serves(server, image)), None) for image in wanted}
    where = {image: _where(subject, image, platforms) for image in wanted}
    registries = {used: Registries(_always(used), TIMEOUTS) for used in logins.values()}
    looked = side_by_side([_look(registries[logins[image]], image) for image in wanted])
    for registry, used in dict.fromkeys((image.registry, logins[image]) for image in wanted):
        mine = [one for one in looked if one.image.registry == registry and logins[one.image] == used]
        faults = [fault for fault in [_fault(subject, one, used, where[one.image]) for one in mine] if fault]
        for what, todo, state in dict.fromkeys(faults):
            yield Result("images-pullable", state, what, todo)
        if not faults:
            by = f"by the credentials of {used.source}" if isinstance(used, _Login) else "without credentials"
            listed = ", ".join(sorted({name for one in mine for name in where[one.image]}))
            yield Result("images-pullable", "ok", f"{registry} has all of {len(mine)} for {listed}, {by}")


def _look(registries: Registries, image: Reference) -> Callable[[], _Asked]:
    def look() -> _Asked:
        try:
            # a GET: HEAD would tell that the image is there, but not for which platforms
            return _Asked(image, registries.look(image))
        except DeployError as error:
            return _Asked(image, None, error)

    return look


def _platforms(subject: Subject) -> list[tuple[str, Node | None]] | None:
    """The architectures of the cluster's nodes, each with a node as pods see it; the usual one where they are not known, None where no node
    pulls anything."""
    try:
        found = subject.listed("v1", "Node")
    except (Missing, DeployError):  # another check tells
        if subject.environment.target.local:
            raise Missing("not asked, since the nodes cannot be seen, and those of a cluster on this machine may pull nothing") from None
        found = []
    if found and all(SIMULATED in (one["metadata"].get("annotations") or {}) for one in found):
        return None
    known = [(one["status"]["nodeInfo"]["architecture"], node(one)) for one in found if "nodeInfo" in one.get("status", {})]
    return known or [(USUAL, None)]


def _where(subject: Subject, image: Reference, platforms: list[tuple[str, Node | None]]) -> list[str]:
    """The architectures of the nodes that may run an image; of all, where none may: another check tells that."""
    pods = [pod for pod in asked(subject.context) if any(parse(str(one.get("image"))) == image for one in containers(pod.spec))]
    found = {name for name, one in platforms if one and any(not refusal(pod, one) for pod in pods)}
    return sorted(found or {name for name, _ in platforms})


def serves(server: str, image: Reference) -> bool:
    """Are the credentials that stand under this name of a registry for an image? It may have a path, and wildcards within parts of the host.

    https://kubernetes.io/docs/concepts/containers/images/#config-json
    """
    name, _, path = re.sub(r"/v[12]$", "", re.sub(r"^https?://", "", server).rstrip("/")).partition("/")
    wanted, found = image.registry.split("."), host(name).split(".")
    same = len(wanted) == len(found) and all(fnmatchcase(part, pattern) for part, pattern in zip(wanted, found, strict=True))
    return same and image.repository.startswith(path)


def _sources(subject: Subject) -> list[tuple[str, _Login | DeployError]]:
    """What the pods will send, by the name of the registry, first what counts first: what the pull secrets in the cluster have, a longer name
    before a shorter; then what the environment's sources give, which deploy puts there. A source without a value is an error, which counts
    where the registry asks for credentials."""
    names, found = _pull_secrets(subject), list[tuple[str, _Login | DeployError]]()
    for name, entries in _entries(subject, names).items():
        for server in sorted(entries, key=len, reverse=True):
            if pair := _pair(entries[server]):
                found.append((server, _Login(pair, f"the Secret {name} in the cluster")))
    for spec in subject.environment.secrets.values():
        try:
            if spec.server and not spec.generate and store.object_name(subject.compiled, spec) in names:
                found.append((spec.server, _Login(sources.login(spec, subject.environment.root), f"{spec.name} ({spec.source})")))
        except DeployError as error:
            found.append((spec.server, error))
    return found


def _always(used: _Login | DeployError | None) -> Login:
    return lambda registry: used.pair if isinstance(used, _Login) else None


def _pull_secrets(subject: Subject) -> list[str]:
    """The names of the pull secrets that pods have: their own, else those of their accounts."""
    named: set[str] = set()
    for pod in subject.context.pods:
        pulls = pod.spec.get("imagePullSecrets")
        if not pulls:
            try:
                account = subject.found("v1", "ServiceAccount", pod.spec.get("serviceAccountName") or "default", subject.namespace)
            except (Missing, DeployError):
                account = None
            pulls = (account or {}).get("imagePullSecrets")
        named |= {pull["name"] for pull in pulls or [] if pull.get("name")}
    return sorted(named)


def _entries(subject: Subject, names: list[str]) -> dict[str, dict[str, Any]]:
    """What those pull secrets have that are there, by their name: entries by server."""
    found = {}
    for name in names:
        try:
            if live := subject.found("v1", "Secret", name, subject.namespace):
                found[name] = store.auths(live)
        except (Missing, DeployError):  # another check tells
            continue
    return found


def _pair(entry: object) -> tuple[str, str] | None:
    """The user and the password of an entry, which may have both in one text only."""
    if not isinstance(entry, dict):
        return None
    user, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if not password:
        try:
            user, _, password = base64.b64decode(str(entry.get("auth") or "")).decode().partition(":")
        except ValueError:
            return None
    register(password, str(entry.get("auth") or ""))
    return (user, password) if password else None


def _fault(subject: Subject, one: _Asked, used: _Login | DeployError | None, platforms: list[str]) -> tuple[str, str, str] | None:
    """What keeps an image from being pulled: what, todo, state; None where nothing does."""
    registry = one.image.registry
    if isinstance(one.fault, RegistryError) and one.fault.kind == "login":
        return _refused(subject, one, one.fault, used)
    if isinstance(one.fault, RegistryError):
        later = ("tls", "proxy", "unreachable", "busy")
        todo = {
            "tls": "name the file of your CA in REQUESTS_CA_BUNDLE; the nodes' runtime needs it too",
            "proxy": "see HTTPS_PROXY and NO_PROXY here; the nodes have settings of their own",
            "unreachable": "see that this machine may reach it, by a proxy perhaps; that the nodes may is not seen from here",
        }.get(one.fault.kind, one.fault.todo)
        return one.fault.what, todo, "unknown" if one.fault.kind in later else "error"
    if one.fault:
        return one.fault.what, one.fault.todo, "error"
    if one.found is None:
        return f"{registry} has no {one.image}", "correct name and tag, or push it there (invoke images --mirror=…)", "error"
    has = {platform.split("/")[1] for platform in one.found.platforms if "/" in platform}
    if not has:
        return f"{one.image} does not say for which architecture it is", f"docker buildx imagetools inspect {one.image}", "unknown"
    missing = [platform for platform in platforms if platform not in has]
    if not missing:
        return None
    what = f"{one.image} is for {', '.join(sorted(has))} only, and nodes that it may run on are {', '.join(missing)}"
    some = len(missing) < len(platforms)
    return what, "have its pods select the other nodes" if some else "push it for that architecture", "warning" if some else "error"


def _refused(subject: Subject, one: _Asked, fault: RegistryError, used: _Login | DeployError | None) -> tuple[str, str, str]:
    if isinstance(used, DeployError):
        return f"{one.image.registry} wants credentials: {used.what}", used.todo, "error"
    if used:
        env = subject.environment.name
        todo = f"correct them at their source; those in the cluster are replaced by: invoke secrets --env={env} --rotate=NAME"
        return f"{fault.what}, by the credentials of {used.source}", todo, "error"
    entries = _entries(subject, _pull_secrets(subject))
    have = "; ".join(f"{name} has {', '.join(servers) or 'none'}" for name, servers in entries.items())
    what = f"{one.image.registry} wants credentials for {one.image.repository}, and no pull secret has any" + (f" ({have})" if have else "")
    return what, "component pull-secret, unless the nodes have a login of their own", "unknown"
