"""Whether the nodes can pull what the environment runs, by the credentials that they will use."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import NamedTuple

from syntho_deploy import images
from syntho_deploy.bump import login
from syntho_deploy.doctor.subject import Missing, Result, Subject, side_by_side
from syntho_deploy.errors import DeployError
from syntho_deploy.redact import register
from syntho_deploy.registry import Found, Reference, Registries, RegistryError, host, parse
from syntho_deploy.secrets import store

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
    wanted = [parse(name) for name in sorted(images.names_in(subject.compiled.objects))]
    logins = {registry: _login(subject, registry) for registry in sorted({image.registry for image in wanted})}
    registries = Registries(lambda registry: found.pair if isinstance(found := logins[registry], _Login) else None, TIMEOUTS)
    asked = side_by_side([_look(registries, image) for image in wanted])
    for registry, used in logins.items():
        mine = [one for one in asked if one.image.registry == registry]
        faults = [fault for fault in [_fault(subject, one, used, platforms) for one in mine] if fault]
        for what, todo, state in dict.fromkeys(faults):
            yield Result("images-pullable", state, what, todo)
        if not faults:
            by = f"by the credentials of {used.source}" if isinstance(used, _Login) else "without credentials"
            yield Result("images-pullable", "ok", f"{registry} has all of {len(mine)} for {', '.join(platforms)}, {by}")


def _look(registries: Registries, image: Reference) -> Callable[[], _Asked]:
    def look() -> _Asked:
        try:
            # a GET: HEAD would tell that the image is there, but not for which platforms
            return _Asked(image, registries.look(image))
        except DeployError as error:
            return _Asked(image, None, error)

    return look


def _platforms(subject: Subject) -> list[str] | None:
    """The architectures of the cluster's nodes; the usual one where they are not known, None where no node pulls anything."""
    try:
        nodes = subject.listed("v1", "Node")
    except (Missing, DeployError):  # another check tells
        if subject.environment.target.local:
            raise Missing("not asked, since the nodes cannot be seen, and those of a cluster on this machine may pull nothing") from None
        nodes = []
    if nodes and all(SIMULATED in (node["metadata"].get("annotations") or {}) for node in nodes):
        return None
    found = {node["status"]["nodeInfo"]["architecture"] for node in nodes if "nodeInfo" in node.get("status", {})}
    return sorted(found) or [USUAL]


def _login(subject: Subject, registry: str) -> _Login | DeployError | None:
    """What the pods will send: what the pull secrets in the cluster have, else what the environment's source gives, which deploy puts there.
    A source without a value is an error, which counts where the registry asks for credentials."""
    names = {pull["name"] for pod in subject.context.pods for pull in pod.spec.get("imagePullSecrets") or [] if pull.get("name")}
    for name in sorted(names):
        try:
            live = subject.found("v1", "Secret", name, subject.namespace)
            entries = store.auths(live) if live else {}
        except (Missing, DeployError):  # another check tells
            continue
        for server, entry in entries.items():
            if host(server) == registry and (pair := _pair(entry)):
                return _Login(pair, f"the Secret {name} in the cluster")
    try:
        pair = login(subject.project)(registry)
    except DeployError as error:
        return error
    spec = next((spec for spec in subject.environment.secrets.values() if host(spec.server) == registry), None)
    return _Login(pair, f"{spec.name} ({spec.source})") if pair and spec else None


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
        todo = {
            "tls": "name the file of your CA in REQUESTS_CA_BUNDLE; the nodes' runtime needs it too",
            "proxy": "see HTTPS_PROXY and NO_PROXY here; the nodes have settings of their own",
            "unreachable": "see that this machine may reach it, by a proxy perhaps; that the nodes may is not seen from here",
        }.get(one.fault.kind, one.fault.todo)
        return one.fault.what, todo, "unknown" if one.fault.kind in ("tls", "proxy", "unreachable") else "error"
    if one.fault:
        return one.fault.what, one.fault.todo, "error"
    if one.found is None:
        return f"{registry} has no {one.image}", "correct name and tag, or push it there (invoke images --mirror=…)", "error"
    has = {platform.split("/")[1] for platform in one.found.platforms if "/" in platform}
    missing = [platform for platform in platforms if has and platform not in has]
    if not missing:
        return None
    what = f"{one.image} is for {', '.join(sorted(has))} only, and the cluster has nodes of {', '.join(missing)}"
    some = len(missing) < len(platforms)
    return what, "have its pods select the other nodes" if some else "push it for that architecture", "warning" if some else "error"


def _refused(subject: Subject, one: _Asked, fault: RegistryError, used: _Login | DeployError | None) -> tuple[str, str, str]:
    if isinstance(used, DeployError):
        return f"{one.image.registry} wants credentials: {used.what}", used.todo, "error"
    if used:
        env = subject.environment.name
        todo = f"correct them at their source; those in the cluster are replaced by: invoke secrets --env={env} --rotate=NAME"
        return f"{fault.what}, by the credentials of {used.source}", todo, "error"
    what = f"{one.image.registry} wants credentials for {one.image.repository}, and no pull secret has any"
    return what, "component pull-secret, unless the nodes have a login of their own", "unknown"
