"""Which images run, where they come from, and whether a cluster may pull them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from syntho_deploy.checks.context import Context, Finding, Item, Pod, Role, at, of_object
from syntho_deploy.documents import Keys
from syntho_deploy.errors import InputError
from syntho_deploy.overlays import pointer
from syntho_deploy.secrets import store

FLOATING = re.compile(r"(?i)latest|stable|edge|main|master|develop|dev|head|snapshot|nightly|canary|rolling|current")
PRERELEASE = re.compile(r"(?i)[-.](rc|alpha|beta|pre)\.?[0-9]*(?![a-z])")
HUB = "docker.io"
HUBS = ("index.docker.io", "registry-1.docker.io", "registry.hub.docker.com")
# https://github.com/distribution/reference: a name in lower case, a tag, a digest
REPOSITORY = re.compile(r"[a-z0-9]+((\.|_{1,2}|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_{1,2}|-+)[a-z0-9]+)*)*")
HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*(:[0-9]+)?|\[[0-9a-fA-F:]+\](:[0-9]+)?")
TAG = re.compile(r"\w[\w.-]{0,127}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


@dataclass(frozen=True)
class Image:
    """An image as written, in its parts. registry: the host, `docker.io` where the name has none; tag and digest: "" where there is none."""

    text: str
    registry: str
    name: str
    tag: str
    digest: str

    @property
    def fault(self) -> str:
        """What no container runtime takes of it, or ""."""
        if not REPOSITORY.fullmatch(self.name):
            return f"the name {self.name or 'is missing'}, which must be in lower case and without blanks" if self.name else "no name"
        if not HOST.fullmatch(self.registry):
            return f"the registry {self.registry}"
        if "@" in self.text and not DIGEST.fullmatch(self.digest):
            return "a digest that is not sha256: and 64 digits of a to f and 0 to 9"
        tagged = self.text.partition("@")[0].rpartition("/")[2]
        return "a tag of other characters than letters, digits, _, . and -" if ":" in tagged and not TAG.fullmatch(self.tag) else ""


def image(text: str) -> Image:
    """The parts of an image's name, as container runtimes read it: the first part is a host if it looks like one."""
    rest, _, digest = text.partition("@")
    _, colon, tag = rest.rpartition("/")[2].partition(":")
    name = rest[: len(rest) - len(tag) - 1] if colon else rest
    host, slash, path = name.partition("/")
    if not slash or not (re.search(r"[.:A-Z]", host) or host == "localhost"):
        host, path = HUB, name
    host = host.lower()
    host = HUB if host in HUBS else host
    return Image(text, host, f"library/{path}" if host == HUB and "/" not in path and path else path, tag, digest)


def images(context: Context) -> Iterator[tuple[Pod, Keys, Image]]:
    """Every image that a node pulls, with its pod and its place: of containers, of volumes, and of the autoscaler that KubeRay adds to a head."""
    for pod in context.pods:
        for keys, container in pod.containers():
            if isinstance(container.get("image"), str):
                yield pod, (*keys, "image"), image(container["image"])
        for index, volume in enumerate(pod.spec.get("volumes") or []):
            reference = at(volume, ("image", "reference"))
            if isinstance(reference, str):
                yield pod, (*pod.keys, "volumes", index, "image", "reference"), image(reference)
        autoscaler = at(pod.item, ("spec", "autoscalerOptions", "image"))
        if isinstance(autoscaler, str) and "headGroupSpec" in pod.keys:
            yield pod, ("spec", "autoscalerOptions", "image"), image(autoscaler)


def invalid_image(context: Context) -> Iterator[Finding]:
    """An image whose name no container runtime takes: capitals, blanks, https:// before it, an empty tag, a digest that is cut. The API server
    takes it, and the pod stays in InvalidImageName."""
    for pod, keys, one in images(context):
        if one.fault:
            yield of_object(pod.item, keys, f"the image {one.text} has {one.fault}", "write [registry/]name:tag, or [registry/]name:tag@sha256:…")


def floating_tag(context: Context) -> Iterator[Finding]:
    """An image without a tag, or with one that moves. What runs then depends on when a node pulled it, and no way back restores it. The
    charts' own tags are `latest`, also of Postgres, whose next major version does not read the data of the one before."""
    for pod, keys, one in images(context):
        parts = re.split(r"[-_]", one.tag)
        if one.fault or one.digest or (one.tag and not FLOATING.fullmatch(parts[0]) and parts[-1].lower() != "latest"):
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
        if not one.digest and not one.fault:
            todo = 'component images/digests, and a digest in the other tags: "14@sha256:…"'
            yield of_object(pod.item, keys, f"the image {one.text} has no digest", todo)


def foreign_registry(context: Context) -> Iterator[Finding]:
    """An image from elsewhere than the registries that the environment allows (`policy.registries`). The charts have busybox and Redis
    from Docker Hub, one of them written into a template."""
    allowed = context.environment.policy.registries
    for pod, keys, one in images(context) if allowed else ():
        whole = f"{one.registry}/{one.name}/"
        if not one.fault and not any(whole.startswith(prefix) for prefix in (_prefix(text) for text in allowed)):
            what = f"the image {one.text} is from {one.registry}, not from {' or '.join(allowed)}"
            yield of_object(pod.item, keys, what, "mirror it, and name the mirror: component images with registry")


def _prefix(text: str) -> str:
    """A prefix of the images that a policy allows, with the host as `image` has it."""
    host, slash, path = text.removeprefix("https://").rstrip("/").partition("/")
    host = host.lower()
    return f"{HUB if host in HUBS else host}{slash}{path}/"


def missing_pull_secret(context: Context) -> Iterator[Finding]:
    """A pod without a pull secret whose image is from a registry that needs one: the environment has credentials for it, or other pods
    have a pull secret for the same registry. The chart gives Redis none, which matters as soon as its image is in the site's mirror. So has
    a pod whose pull secrets are all ours, and for other registries."""
    ours: dict[str, set[str]] = {}  # pull secret to the hosts that it is for
    with suppress(InputError):  # a rule of its own says so
        for spec, name in store.objects_of_their_own(context.compiled):
            ours.setdefault(name, set()).update({host_of(spec.server)} if spec.server else ())
    private = {host_of(spec.server) for spec in context.environment.secrets.values() if spec.server}
    private |= {one.registry for pod, _, one in images(context) if pod.spec.get("imagePullSecrets")} - {HUB}
    accounts = {item["metadata"]["name"]: item["imagePullSecrets"] for item in context.kind("ServiceAccount") if item.get("imagePullSecrets")}
    seen: set[tuple[str, Keys, str]] = set()
    for pod, _, one in images(context):
        pulls = pod.spec.get("imagePullSecrets") or accounts.get(pod.spec.get("serviceAccountName") or "default") or []
        names = {pull.get("name") for pull in pulls}
        covered = any(name not in ours or one.registry in ours[name] for name in names)
        if one.registry not in private or covered or (pod.of, pod.keys, one.registry) in seen:
            continue
        if names and not any(one.registry in hosts for hosts in ours.values()):
            continue  # a registry that none of ours is for, as that of a mirror beside it
        seen.add((pod.of, pod.keys, one.registry))
        listed = ", ".join(sorted(str(name) for name in names))
        what = f"{f'the pull secret {listed} is for another registry' if names else 'no pull secret'}, but {one.text} is from {one.registry}"
        yield of_object(pod.item, (*pod.keys, "imagePullSecrets"), f"{what}, which needs one", "component pull-secret")


def host_of(server: str) -> str:
    """The host of a registry as an image's name has it, from how a login names it."""
    host = server.partition("://")[2] or server
    host = host.partition("/")[0].lower()
    return HUB if host in HUBS else host


def mixed_releases(context: Context) -> Iterator[Finding]:
    """Core, backend, frontend and Ray of different releases. They are released together and speak to each other without a version;
    nothing in the charts holds them to one tag. What counts is what runs: a manifest patch that sets one image is seen too, and one image of
    an application by digest that differs from its others."""
    values: dict[str, Role] = {}
    running: dict[str, dict[str, tuple[Item, Keys]]] = {}  # application to the tags (with digest) that run of it, each with one place
    for name, role in context.roles.images.items():
        value = context.image_role(role)
        if value is None:
            continue
        values[name] = value
        for item, keys, text in _made_of(context, value):
            one = image(text)
            before, _, after = role.tag.partition("${tag}")
            tag = one.tag.removeprefix(before).removesuffix(after) if one.tag else ""
            running.setdefault(name, {}).setdefault(f"{tag}@{one.digest}" if one.digest else tag, (item, keys))
    tags = [tag for found in running.values() for whole in found if (tag := whole.partition("@")[0])]
    listed = ", ".join(f"{name} {' and '.join(sorted({one.partition('@')[0] or one for one in found}))}" for name, found in sorted(running.items()))
    todo = "one tag for all: component images with tag"
    most = max(sorted(set(tags)), key=tags.count) if tags else ""
    for name, found in running.items():
        wrong = [place for whole, place in found.items() if whole.partition("@")[0] not in ("", most)]
        written = at(values[name].value, ("tag",))
        if wrong and len(found) == 1 and written is not None:
            yield context.of_value(values[name], f"the applications are of different releases: {listed}", todo)
        elif wrong:
            yield from (of_object(*place, f"the applications are of different releases: {listed}", todo) for place in wrong)
        elif len(found) > 1:
            for place in list(found.values())[1:]:
                yield of_object(*place, f"{name} runs by different digests, or by one and without one", "one digest: component images/digests")


def _made_of(context: Context, value: Role) -> Iterator[tuple[Item, Keys, str]]:
    """The images in the objects that a value of a chart (repository and tag) reaches."""
    for (of, path), leaves in context.reach[value.chart].fields.items():
        item = context.objects.get(of)
        if item is None or not path.endswith("/image") or not any(leaf[: len(value.keys)] == value.keys for leaf in leaves):
            continue
        try:
            keys, _ = pointer.compile_pointer(item, path)
        except pointer.PointerError:
            continue
        text = at(item, keys)
        if isinstance(text, str):
            yield item, keys, text


def unpinned_pull_policy(context: Context) -> Iterator[Finding]:
    """An image by digest that is pulled at each start all the same: `Always`, which the chart has for its applications in the templates. A
    registry that does not answer then stops a pod from starting although its node has the image."""
    for pod, keys, one in images(context):
        if one.digest and context.at(pod, keys[:-1]).get("imagePullPolicy") == "Always":
            todo = "patch imagePullPolicy to IfNotPresent in <chart>.manifests.yaml"
            yield of_object(pod.item, (*keys[:-1], "imagePullPolicy"), f"{one.text} cannot change and is pulled at each start", todo)
