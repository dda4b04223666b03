"""Which images run, where they come from, and whether a cluster may pull them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from syntho_deploy.checks.context import Context, Finding, Pod, of_object
from syntho_deploy.documents import Keys

FLOATING = re.compile(r"latest|stable|edge|main|master|develop|dev|nightly|canary|rolling|current")
PRERELEASE = re.compile(r"[-.](rc|alpha|beta|pre)\.?[0-9]*(?![a-z])")
HUB = "docker.io"


@dataclass(frozen=True)
class Image:
    """An image as written, in its parts. registry: the host, `docker.io` where the name has none; tag and digest: "" where there is none."""

    text: str
    registry: str
    name: str
    tag: str
    digest: str


def image(text: str) -> Image:
    """The parts of an image's name, as container runtimes read it: the first part is a host if it looks like one."""
    rest, _, digest = text.partition("@")
    tag = rest.rpartition("/")[2].partition(":")[2]
    name = rest[: len(rest) - len(tag) - 1] if tag else rest
    host, slash, path = name.partition("/")
    if slash and (re.search(r"[.:]", host) or host == "localhost"):
        return Image(text, host, path, tag, digest)
    return Image(text, HUB, name if slash else f"library/{name}", tag, digest)


def images(context: Context) -> Iterator[tuple[Pod, Keys, Image]]:
    """The image of every container, with its pod and its place."""
    for pod in context.pods:
        for keys, container in pod.containers():
            if isinstance(container.get("image"), str):
                yield pod, (*keys, "image"), image(container["image"])


def floating_tag(context: Context) -> Iterator[Finding]:
    """An image without a tag, or with one that moves. What runs then depends on when a node pulled it, and no way back restores it. The
    charts' own tags are `latest`, also of Postgres, whose next major version does not read the data of the one before."""
    for pod, keys, one in images(context):
        if one.digest or (one.tag and not FLOATING.fullmatch(one.tag.partition("-")[0])):
            continue
        what = f"the image {one.text} has {'the tag ' + one.tag + ', which moves' if one.tag else 'no tag, which means latest'}"
        yield of_object(pod.item, keys, what, "name a release: component images with tag, operator_tag, postgres_tag, redis_tag and busybox_tag")


def prerelease_tag(context: Context) -> Iterator[Finding]:
    """An image of a release candidate, an alpha or a beta version. The charts' own Redis is 7.2-rc2."""
    for pod, keys, one in images(context):
        if PRERELEASE.search(one.tag):
            yield of_object(pod.item, keys, f"the image {one.text} is not a release", 'name a release: component images with redis_tag: "7.2"')


def missing_digest(context: Context) -> Iterator[Finding]:
    """An image without a digest where the environment asks for them (`policy.digests`): a tag can be moved, a digest cannot."""
    for pod, keys, one in images(context) if context.environment.policy.digests else ():
        if not one.digest:
            todo = 'component images/digests, and a digest in the other tags: "14@sha256:…"'
            yield of_object(pod.item, keys, f"the image {one.text} has no digest", todo)


def foreign_registry(context: Context) -> Iterator[Finding]:
    """An image from elsewhere than the registries that the environment allows (`policy.registries`). The charts have busybox and Redis
    from Docker Hub, one of them written into a template."""
    allowed = context.environment.policy.registries
    for pod, keys, one in images(context) if allowed else ():
        whole = f"{one.registry}/{one.name}"
        if not any(whole == prefix.rstrip("/") or whole.startswith(f"{prefix.rstrip('/')}/") for prefix in allowed):
            what = f"the image {one.text} is from {one.registry}, not from {' or '.join(allowed)}"
            yield of_object(pod.item, keys, what, "mirror it, and name the mirror: component images with registry")


def missing_pull_secret(context: Context) -> Iterator[Finding]:
    """A pod without a pull secret whose image is from a registry that needs one: the environment has credentials for it, or other pods
    have a pull secret for the same registry. The chart gives Redis none, which matters as soon as its image is in the site's mirror."""
    private = {spec.server.removeprefix("https://").rstrip("/") for spec in context.environment.secrets.values() if spec.server}
    private |= {one.registry for pod, _, one in images(context) if pod.spec.get("imagePullSecrets")} - {HUB}
    accounts = {item["metadata"]["name"] for item in context.kind("ServiceAccount") if item.get("imagePullSecrets")}
    seen: set[tuple[str, Keys]] = set()
    for pod, _, one in images(context):
        if pod.spec.get("imagePullSecrets") or pod.spec.get("serviceAccountName", "default") in accounts or (pod.of, pod.keys) in seen:
            continue
        if one.registry in private:
            seen.add((pod.of, pod.keys))
            what = f"no pull secret, but {one.text} is from {one.registry}, which needs one"
            yield of_object(pod.item, (*pod.keys, "imagePullSecrets"), what, "component pull-secret")


def mixed_releases(context: Context) -> Iterator[Finding]:
    """Core, backend, frontend and Ray of different releases. They are released together and speak to each other without a version;
    nothing in the charts holds them to one tag."""
    found = {}
    for name, role in context.roles.images.items():
        value = context.image_role(role)
        if value and isinstance(value.value, dict):
            tag = str(value.value.get("tag", "")).partition("@")[0]
            before, _, after = role.tag.partition("${tag}")
            found[name] = (tag.removeprefix(before).removesuffix(after), value)
    tags = {tag for tag, _ in found.values()}
    if len(tags) > 1:
        listed = ", ".join(f"{name} {tag}" for name, (tag, _) in sorted(found.items()))
        most = max(sorted(tags), key=[tag for tag, _ in found.values()].count)
        for tag, value in found.values():
            if tag != most:
                yield context.of_value(value, f"the applications are of different releases: {listed}", "one tag for all: component images with tag")


def unpinned_pull_policy(context: Context) -> Iterator[Finding]:
    """An image by digest that is pulled at each start all the same: `Always`, which the chart has for its applications in the templates. A
    registry that does not answer then stops a pod from starting although its node has the image."""
    for pod, keys, one in images(context):
        if one.digest and context.at(pod, keys[:-1]).get("imagePullPolicy") == "Always":
            todo = "patch imagePullPolicy to IfNotPresent in <chart>.manifests.yaml"
            yield of_object(pod.item, (*keys[:-1], "imagePullPolicy"), f"{one.text} cannot change and is pulled at each start", todo)
