"""Every image that an environment runs: who runs it, where it stands, what a registry has of it; and copies of all of them in a mirror."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from syntho_deploy import documents, explain, process, tags
from syntho_deploy.bump import login
from syntho_deploy.compile import HOOK, Project
from syntho_deploy.console import table
from syntho_deploy.errors import DeployError, InputError, PreflightError, raise_all, shown
from syntho_deploy.helm import Helm
from syntho_deploy.overlays import pointer
from syntho_deploy.registry import DOCKER_HUB, Found, Reference, Registries, host, is_local, parse
from syntho_deploy.secrets.sentinels import label

COPY_TIMEOUT = 3600.0  # seconds for one image: Ray's has several GB
NOT_RUN = ("ConfigMap", "Secret", "CustomResourceDefinition")
LITERAL = "the chart's template"
BY_HOOK = " (hook)"

Progress = Callable[[int, int, str], None]  # images done, images in all, and what is said of the last


@dataclass
class Image:
    """One image. name: as it stands in the manifests; apps: of the roles, or the chart; used_by: `Kind/name:/path`; where: the lines or
    values that set it. With a check: what the registry has, or why that is not known."""

    name: str
    apps: list[str] = field(default_factory=list)
    used_by: list[str] = field(default_factory=list)
    where: list[str] = field(default_factory=list)
    found: Found | None = None
    fault: str = ""

    @property
    def deployed(self) -> bool:
        """Does anything run it that is deployed? Hooks are left out of what is."""
        return any(not one.endswith(BY_HOOK) for one in self.used_by)


def images(project: Project, helm: Helm) -> list[Image]:
    """Every image of an environment in the order of the manifests, those of hooks last: of containers, init containers, the pods
    of custom resources, from values or written into a template."""
    compiled = project.compile(helm)
    found: dict[str, Image] = {}
    known = {f"{tag.image}:{tag.text}": app for app, tag in tags.find(project).items()} if project.roles.images else {}
    for chart in compiled.charts.values():
        for item in chart.objects:
            for keys, name in _names(item):
                of, at = label(item), pointer.named(item, keys)
                sources = explain.sources_of(project, helm, of, at)
                where = [origin.at if origin else source for origin, source in sources if origin is None or origin.in_force]
                _add(found, name, known.get(name, chart.release.chart), f"{of}:{at}", where or _in_values(project, name) or [LITERAL])
    for chart_name, text in project.render(helm).items():
        for item in documents.load_manifests(text):
            hook = HOOK in ((item.get("metadata") or {}).get("annotations") or {})
            for keys, name in _names(item) if hook else ():
                _add(found, name, known.get(name, chart_name), f"{label(item)}:{pointer.named(item, keys)}{BY_HOOK}", [LITERAL])
    return list(found.values())


def names_in(objects: Iterable[dict[str, Any]]) -> set[str]:
    """The names of all images in objects."""
    return {name for item in objects for _, name in _names(item)}


def _in_values(project: Project, name: str) -> list[str]:
    """The values that an image may come from by what they say: for a container whose own name is a value, which has no path to
    follow."""
    found = []
    for chart, values in project.values().items():
        for keys, value in documents.walk(values):
            if value == name or (isinstance(value, dict) and f"{value.get('repository')}:{value.get('tag')}" == name):
                setters = project.origins[chart].origin((*keys, "tag") if isinstance(value, dict) else keys)
                found.append(shown(setters[-1].mark) if setters else f"{chart}:{pointer.named(values, keys)} ({explain.DEFAULT})")
    return found


def _names(item: dict[str, Any]) -> Iterator[tuple[documents.Keys, str]]:
    if item["kind"] not in NOT_RUN:
        for keys, value in documents.walk(item):
            if keys and keys[-1] == "image" and isinstance(value, str) and value:
                yield keys, value


def _add(found: dict[str, Image], name: str, app: str, used_by: str, where: list[str]) -> None:
    image = found.setdefault(name, Image(name))
    for items, new in ((image.apps, [app]), (image.used_by, [used_by]), (image.where, where)):
        items += [one for one in dict.fromkeys(new) if one not in items]


def check(project: Project, found: list[Image]) -> None:
    """Ask the registries for each image; what is missing or not answered is noted with it."""
    registries = Registries(login(project))

    def look(image: Image) -> None:
        try:
            image.found = registries.look(parse(image.name))
            image.fault = "" if image.found else "the registry does not have it"
        except DeployError as error:
            image.fault = error.what

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(look, found))


@dataclass(frozen=True)
class Copy:
    """One image and its place in the mirror. done: the same digest was there already."""

    source: Reference
    target: Reference
    digest: str
    done: bool = False


def plan_copies(project: Project, found: list[Image], mirror: str) -> list[Copy]:
    """What a mirror needs: each image that is deployed, under its last name there, with its tag, by the digest that it has now.

    Raises `InputError` where two images would have one name there, `PreflightError` where a registry does not have an image or
    does not answer. An image that is in the mirror's place already is none of these.
    """
    base = mirror.removesuffix("/")
    registries, places = Registries(login(project)), dict[str, tuple[str, str]]()
    errors, copies = [], list[Copy]()
    wanted = [(image, parse(image.name)) for image in found if image.deployed and not image.name.startswith(f"{base}/")]
    with ThreadPoolExecutor(4) as pool:
        digests = list(pool.map(lambda pair: registries.digest(pair[1]), wanted))
    missing = [image.name for (image, _), digest in zip(wanted, digests, strict=True) if digest is None]
    if missing:
        raise PreflightError(f"the registry has no {', no '.join(missing)}", todo="nothing was copied; correct the environment, or push it there")
    for (image, source), digest in zip(wanted, digests, strict=True):
        tag = source.tag or ("" if source.digest else "latest")
        name = f"{base}/{source.repository.rpartition('/')[2]}"
        target = replace(parse(name), tag=tag, digest="" if tag else str(digest))
        other, other_digest = places.setdefault(str(target), (image.name, str(digest)))
        if other_digest != digest:
            errors.append(InputError(f"{other} and {image.name} are two images, and both would be {target}", todo="give one of them another tag"))
        elif other == image.name:
            copies.append(Copy(replace(source, tag="", digest=str(digest)), target, str(digest)))
    raise_all(errors)
    with ThreadPoolExecutor(4) as pool:
        there = list(pool.map(lambda copy: registries.digest(copy.target), copies))
    return [replace(copy, done=digest == copy.digest) for copy, digest in zip(copies, there, strict=True)]


def copy(project: Project, copies: list[Copy], crane: Path, progress: Progress) -> None:
    """Copy what is not there yet, all platforms, and see that the mirror has it by the same digest.

    After an interrupt the next run goes on: images that are there are left out, and crane leaves out layers that are.
    Raises `PreflightError` with crane's words.
    """
    registries = Registries(login(project))
    hosts = sorted({reference.registry for one in copies for reference in (one.source, one.target)})
    with _docker_config(project, hosts) as (env, inherit):
        for number, one in enumerate(copies):
            if one.done:
                progress(number + 1, len(copies), f"{one.target} is there")
                continue
            progress(number, len(copies), f"{one.source} to {one.target}")
            try:
                process.run([crane, "copy", str(one.source), str(one.target)], timeout=COPY_TIMEOUT, env=env, inherit=inherit)
            except process.ProcessError as error:
                raise PreflightError(f"{one.source} cannot be copied: {error.what}", todo="run the command again; it goes on where it was") from None
            if (digest := registries.digest(one.target)) != one.digest:
                raise PreflightError(f"{one.target} has the digest {digest} after the copy, not {one.digest}", todo="is someone else pushing there?")
            progress(number + 1, len(copies), f"{one.target} copied")


@contextmanager
def _docker_config(project: Project, hosts: list[str]) -> Iterator[tuple[dict[str, str], list[int]]]:
    """The environment and the descriptors by which crane finds the logins: the user's own configuration and, before it, the
    environment's. It is a file in memory, since a secret is on no disk; the folder holds only a link to it."""
    find = login(project)
    config = _users_config()
    for name in hosts:
        if pair := find(name):
            key = "https://index.docker.io/v1/" if name == DOCKER_HUB else name
            config.setdefault("auths", {})[key] = {"username": pair[0], "password": pair[1]}
            config.get("credHelpers", {}).pop(key, None)
            if config.get("credsStore"):  # it would be asked instead of auths
                config.setdefault("credHelpers", {})[key] = ""
    env = {"SSL_CERT_FILE": bundle} if (bundle := os.environ.get("REQUESTS_CA_BUNDLE")) and "SSL_CERT_FILE" not in os.environ else {}
    memory = os.memfd_create("docker-config")
    try:
        os.write(memory, json.dumps(config).encode())
        with tempfile.TemporaryDirectory(prefix="syntho-deploy-") as folder:
            (Path(folder) / "config.json").symlink_to(f"/proc/self/fd/{memory}")
            yield {**env, "DOCKER_CONFIG": folder}, [memory]
    finally:
        os.close(memory)


def _users_config() -> dict[str, Any]:
    folder = Path(os.environ.get("DOCKER_CONFIG") or "~/.docker").expanduser()
    try:
        return dict(json.loads((folder / "config.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        return {}


def mirror_name(text: str) -> str:
    """A mirror as an option names it: a host and a prefix. Raises `InputError`."""
    name = text.removesuffix("/")
    first = name.partition("/")[0]
    if "://" in name or not name or not ("." in first or ":" in first or is_local(host(first))):
        raise InputError(f'"{text}" is no registry', todo="--mirror=HOST or --mirror=HOST/PREFIX, without https://")
    parse(f"{name}/x")
    return name


def text(found: list[Image], checked: bool) -> str:
    """The images as people read them."""
    rows: list[tuple[str, ...]] = [("IMAGE", "OF", "USED BY", "STANDS AT")]
    for image in found:
        of = ", ".join(dict.fromkeys(one.partition(":")[0] + (BY_HOOK if one.endswith(BY_HOOK) else "") for one in image.used_by))
        rows.append((image.name, ", ".join(image.apps), of, ", ".join(image.where)))
    if not checked:
        return table(rows)
    known = [(image.found.digest, ", ".join(image.found.platforms)) if image.found else (f"NOT FOUND: {image.fault}", "") for image in found]
    return table([(*row, *more) for row, more in zip(rows, [("DIGEST", "PLATFORMS"), *known], strict=True)])


def as_json(found: list[Image], copies: list[Copy]) -> dict[str, Any]:
    """The images as JSON: {"images": [{"image", "applications", "used_by", "where", "digest", "platforms", "fault"}], "copies": [{"source",
    "target", "digest", "was_there"}]}."""
    rows = [
        {
            "image": image.name, "applications": image.apps, "used_by": image.used_by, "where": image.where, "fault": image.fault,
            "digest": image.found.digest if image.found else "", "platforms": list(image.found.platforms) if image.found else [],
        }
        for image in found
    ]  # fmt: skip
    done = [{"source": str(one.source), "target": str(one.target), "digest": one.digest, "was_there": one.done} for one in copies]
    return {"images": rows, "copies": done}


@contextmanager
def progress_bar(say: Callable[[str], None], terminal: bool) -> Iterator[Progress]:
    """A bar on a terminal; elsewhere a line for each image."""
    if not terminal:
        yield lambda done, count, what: say(f"[{done}/{count}] {what}")
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    with Bar(*columns, console=Console(stderr=True)) as bar:
        row = bar.add_task("", total=None)
        yield lambda done, count, what: bar.update(row, completed=done, total=count, description=what)
