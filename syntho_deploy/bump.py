"""Moving an environment to another release: the tags of all its images at once, in its own files, checked against the registry."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from syntho_deploy import compare, documents, tags, transaction
from syntho_deploy.compare import ObjectChange
from syntho_deploy.compile import Project
from syntho_deploy.console import table
from syntho_deploy.errors import DeployError, InputError, PreflightError, shown
from syntho_deploy.helm import Helm
from syntho_deploy.overlays import pointer
from syntho_deploy.registry import TAG, Login, Reference, Registries, host, with_tag
from syntho_deploy.secrets import sources
from syntho_deploy.tags import Files, Tag, release_in, tag_of
from syntho_deploy.vendor import Vendored


@dataclass(frozen=True)
class Way:
    """How to bump. tag: of the release, "" for the newest; apps: with commas, "" for all; digest: pin each image by its digest."""

    tag: str = ""
    apps: str = ""
    digest: bool = False
    offline: bool = False
    allow_downgrade: bool = False


@dataclass
class Bump:
    """What a bump does to one environment. before, after: by application; wanted: the tags that move; notes: for a person."""

    environment: str
    release: str
    before: dict[str, Tag]
    after: dict[str, Tag]
    where: dict[str, str]
    wanted: dict[str, str]
    objects: list[ObjectChange] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    checked: bool = False


@dataclass
class Result:
    """A whole run: each environment, and the files that it changes."""

    root: Path
    bumps: list[Bump]
    files: Files

    @property
    def names(self) -> list[str]:
        """The files that change, as the user would type them."""
        return [str(path.relative_to(self.root)) for path in self.files.changed]

    def write(self) -> None:
        """Write all files, as one."""
        if self.files.changed:
            transaction.write(self.root, self.files.changed)


def login(project: Project) -> Login:
    """The environment's own credentials of a registry, from their source, when they are asked for."""
    specs = {host(spec.server): spec for spec in project.environment.secrets.values() if spec.server and not spec.generate}

    def find(registry: str) -> tuple[str, str] | None:
        spec = specs.get(registry)
        return sources.login(spec, project.environment.root) if spec else None

    return find


def bump(projects: list[Project], way: Way, helm: Helm) -> Result:
    """Find the edits that bring each environment to a release, and what they change. Writes nothing: `Result.write` does.

    Raises `InputError` for a tag that is none and for files that cannot be edited, `PreflightError` for what is refused: a
    downgrade, a floating tag where protected, a tag that the registry lacks, a state that is half bumped, a registry that does
    not answer. Of several environments the faults of all are raised.
    """
    _check(way)
    root = projects[0].environment.root
    files, bumps, faults = Files(root), [], list[DeployError]()
    bumped = [project.environment.name for project in projects]
    for project in projects:
        try:
            bumps.append(_bump(project, way, files, bumped))
        except DeployError as error:
            faults.append(error)
    if faults:
        raise faults[0] if len(faults) == 1 else _Several(faults)
    _compile(projects, bumps, files, helm)
    return Result(root, bumps, files)


class _Several(DeployError):
    """The faults of several environments."""

    def __init__(self, faults: list[DeployError]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.exit_code = max(fault.exit_code for fault in faults)


def _check(way: Way) -> None:
    if way.tag and not TAG.fullmatch(way.tag):
        raise InputError(f'"{way.tag}" is no tag of an image', todo="letters, digits, dots, dashes and underscores, at most 128")
    if way.offline and not way.tag:
        raise InputError("without the registry nothing tells the newest release", todo="--tag=VERSION")
    if way.offline and way.digest:
        raise InputError("a digest comes from the registry", todo="leave out --offline or --digest")


def _bump(project: Project, way: Way, files: Files, bumped: list[str]) -> Bump:
    found, chosen = tags.find(project), tags.app_names(project, way.apps)
    name, notes = project.environment.name, list[str]()
    for app in chosen:
        if way.tag and found[app].role.tag != "${tag}" and (inner := release_in(found[app].role, way.tag)):
            raise InputError(f"{way.tag} is the tag of {app} alone: that of the release is {inner}", todo=f"--tag={inner}")
    registries = Registries(login(project))
    release = way.tag or _newest(registries, found, chosen, notes)
    _refuse_half(project, found, bool(way.apps))
    _refuse_floating(project, release)
    older = [app for app in chosen if _is_older(release, found[app].release)]
    if older and not way.tag:
        release, chosen = found[older[0]].release, []
        notes.append(f"nothing newer than {release} is in the registry")
    elif older and not way.allow_downgrade:
        what = f"{release} is older than {found[older[0]].release}, which {name} has; a database does not go back with the images"
        raise PreflightError(what, found[older[0]].mark, "--allow-downgrade if you mean it")
    wanted = {app: tag_of(found[app].role, release) for app in chosen}
    pinned = [app for app in chosen if way.digest or found[app].digest]
    if pinned and way.offline:
        what = f"{', '.join(pinned)} of {name} is pinned by a digest, which comes from the registry"
        raise PreflightError(what, found[pinned[0]].mark, "leave out --offline")
    if not way.offline:
        digests = _digests(registries, found, wanted)
        wanted |= {app: f"{wanted[app]}@{digests[app]}" for app in pinned}
    others = {app: tag.release for app, tag in found.items() if app not in chosen and tag.release != release}
    if others and chosen:
        notes.append(_half(name, {app: release if app in chosen else tag.release for app, tag in found.items()}))
    if way.offline and chosen:
        notes.append("not checked: whether the registry has these images (--offline)")
    tags.move(project, found, wanted, files, bumped)
    where = {app: tag.where(project) for app, tag in found.items()}
    return Bump(name, release, found, found, where, wanted, [], notes, not way.offline)


def _newest(registries: Registries, found: dict[str, Tag], chosen: list[str], notes: list[str]) -> str:
    """The newest release that the registry has of every chosen application; no pre-release."""
    with ThreadPoolExecutor(len(chosen)) as pool:
        listed = dict(zip(chosen, pool.map(lambda app: registries.tags(with_tag(found[app].image, "")), chosen), strict=True))
    releases: dict[str, set[str]] = {}
    for app, names in listed.items():
        if names is None:
            raise PreflightError(f"the registry has no repository {found[app].image}", found[app].mark, "correct the name, or push it there")
        inner = {one for name in names if (one := release_in(found[app].role, name))}
        releases[app] = {one for one in inner if (parsed := version(one)) and not parsed.is_prerelease}
    common = set.intersection(*releases.values())
    if not common:
        counts = ", ".join(f"{app}: {len(names)}" for app, names in releases.items())
        raise PreflightError(f"the registry has no release of all of {', '.join(chosen)} ({counts})", todo="--tag=TAG takes any tag")
    newest = max(common, key=_key)
    for one in sorted(set.union(*releases.values()) - common, key=_key):
        if _key(one) > _key(newest):
            lacking = ", ".join(app for app in chosen if one not in releases[app])
            notes.append(f"{one} is newer than {newest}, and the registry has no such image of {lacking}")
    return newest


def version(tag: str) -> Version | None:
    """A release's tag as a version (PEP 440, which reads 1.9.7, v1.9.7, 0.1.0-alpha.1 and 1.9.1.alpha.2 alike); None for one that
    is none, such as latest, stable or a date."""
    try:
        found = Version(tag)
    except InvalidVersion:
        return None
    return found if len(found.release) > 1 else None


def _key(tag: str) -> tuple[Version, str]:
    return version(tag) or Version("0"), tag


def _is_older(release: str, than: str) -> bool:
    one, other = version(release), version(than)
    return one is not None and other is not None and one < other


def _refuse_floating(project: Project, release: str) -> None:
    if project.environment.protected and version(release) is None:
        what = f"{release} is no version, so it may be another image tomorrow, and {project.environment.name} is protected"
        raise PreflightError(what, project.environment.marks.get("protected"), "give a version: --tag=1.2.3")


def _refuse_half(project: Project, found: dict[str, Tag], named: bool) -> None:
    """Refuse to move the whole of a release whose applications are at different ones: that was left half done, or is meant.
    Applications that are named one by one are meant."""
    before = {app: tag.release for app, tag in found.items()}
    if named or len(set(before.values())) < 2:
        return
    stands = "".join(f"\n  {app}: {tag.text or 'no tag'} ({tag.where(project)})" for app, tag in found.items())
    raise PreflightError(f"{_half(project.environment.name, before)}:{stands}", todo=_completing(project.environment.name, before))


def _half(name: str, releases: dict[str, str]) -> str:
    groups: dict[str, list[str]] = {}
    for app, release in releases.items():
        groups.setdefault(release, []).append(app)
    return f"{name} is half bumped: " + "; ".join(f"{', '.join(apps)} at {release or 'no tag'}" for release, apps in groups.items())


def _completing(name: str, releases: dict[str, str]) -> str:
    newest = max(releases.values(), key=_key)
    return f"bring the others to it: --env={name} --tag={newest} --app={','.join(app for app, one in releases.items() if one != newest)}"


def _digests(registries: Registries, found: dict[str, Tag], wanted: dict[str, str]) -> dict[str, str]:
    """The digest of each wanted image. Raises `PreflightError` naming all that the registry does not have."""
    images: dict[str, Reference] = {app: with_tag(found[app].image, tag) for app, tag in wanted.items()}
    if not images:
        return {}
    with ThreadPoolExecutor(len(images)) as pool:
        digests = dict(zip(images, pool.map(registries.digest, images.values()), strict=True))
    missing = [str(images[app]) for app, digest in digests.items() if digest is None]
    if missing:
        raise PreflightError(f"the registry has no {', no '.join(missing)}", todo="see the tags that it has; --offline does not ask")
    return {app: digest for app, digest in digests.items() if digest}


def _compile(projects: list[Project], bumps: list[Bump], files: Files, helm: Helm) -> None:
    """Compile each environment as it is and as it would be, and note the difference. Raises `InputError` where it would not work."""
    changed = {path: new for path, (_, new) in files.changed.items()}
    if not changed:
        return
    root = files.root
    with compare.mirrored(root, changed) as folder:
        checked: dict[Path, Vendored] = {}
        for project, one in zip(projects, bumps, strict=True):
            try:
                after = Project.load(folder, one.environment, checked)
                one.after = tags.find(after)
                compiled = after.compile(helm)
            except DeployError as error:
                words = str(error).replace(f"{folder}", f"{root}")
                raise InputError(f"{one.environment} would not compile with these edits:\n{words}", todo="nothing was written") from None
            for app, tag in one.after.items():
                wanted = one.wanted.get(app, one.before[app].text)
                if tag.text != wanted:
                    raise InputError(f"{app} of {one.environment} would get {tag.text} and not {wanted}", one.before[app].mark, "edit it by hand")
            one.notes += _reached(project, after, one)
            one.objects = compare.objects(project.compile(helm).objects, compiled.objects)
            _refuse_unseen(project, one, compiled.objects)


def _reached(project: Project, after: Project, one: Bump) -> list[str]:
    """A note on what else of the charts' values the edits change, by a variable that is also used elsewhere."""
    mine = {(tag.role.chart, tag.keys) for tag in one.before.values()}
    old, new = (
        {
            (chart, keys): value
            for chart, values in of.values().items()
            for keys, value in documents.walk(values)
            if not isinstance(value, dict | list)
        }
        for of in (project, after)
    )
    found = [key for key, value in new.items() if old.get(key, value) != value and key not in mine]
    return [f"this changes too: {', '.join(f'{chart}:{pointer.text(keys)}' for chart, keys in found)}"] if found else []


def _refuse_unseen(project: Project, one: Bump, objects: Iterable[Any]) -> None:
    """A tag whose image no pod has is set once more elsewhere: by a patch of the manifests."""
    images = {container["image"] for item in objects for _, template, _ in compare.pod_templates(item) for container in containers(template)}
    for app in one.wanted:
        wanted = f"{one.after[app].image}:{one.after[app].text}"
        if wanted in images or one.before[app].text == one.after[app].text:
            continue
        manifests = [manifest for found in project.manifests.values() for manifest in found.kept]
        patched = [setter.mark for manifest in manifests for keys, setters in manifest.origins.set_by.items()
                   for setter in setters if keys[-1:] == ("image",)]  # fmt: skip
        by = f": an image is set at {', '.join(dict.fromkeys(shown(mark) for mark in patched))}" if patched else ""
        raise InputError(f"no pod of {one.environment} would run {wanted}{by}", one.before[app].mark, "set it once only")


def containers(template: Any) -> list[dict[str, Any]]:
    """All containers of a pod template, init containers too."""
    spec = template.get("spec") or {}
    return [item for key in ("initContainers", "containers") for item in spec.get(key) or [] if isinstance(item.get("image"), str)]


def text(result: Result, written: bool) -> str:
    """A bump as people read it."""
    found = []
    for one in result.bumps:
        rows = [(app, one.before[app].image, one.before[app].text, one.after[app].text, one.where[app]) for app in one.before]
        olds = ", ".join(dict.fromkeys(tag.release for tag in one.before.values()))
        found += [
            f"{one.environment}: {olds} -> {one.release}" if olds != one.release else f"{one.environment}: {olds}",
            table([("APP", "IMAGE", "BEFORE", "AFTER", "STANDS AT"), *rows]),
        ]
        found += compare.lines(one.objects)
        found += [f"note: {note}" for note in one.notes]
    verb = "written" if written else "would write"
    return "\n".join([*found, f"{verb}: {', '.join(result.names)}" if result.names else "nothing to do"])


def as_json(result: Result, written: bool) -> dict[str, Any]:
    """A bump as JSON: {"written", "files", "environments": [{"environment", "release", "checked", "notes", "objects", "images": [{"app",
    "image", "before", "after", "where"}]}]}."""
    rows = [
        {
            "environment": one.environment, "release": one.release, "checked": one.checked, "notes": one.notes,
            "objects": compare.as_json(one.objects),
            "images": [
                {"app": app, "image": tag.image, "before": tag.text, "after": one.after[app].text, "where": one.where[app]}
                for app, tag in one.before.items()
            ],
        }
        for one in result.bumps
    ]  # fmt: skip
    return {"written": written, "files": result.names, "environments": rows}


def pull_request(result: Result) -> str:
    """A bump as the text of a pull request, in Markdown."""
    found = []
    for one in result.bumps:
        found += [f"## {one.environment}: {one.release}", "", "| application | image | before | after |", "|---|---|---|---|"]
        found += [f"| {app} | `{tag.image}` | `{tag.text}` | `{one.after[app].text}` |" for app, tag in one.before.items()]
        found += ["", *(f"* {note}" for note in one.notes)]
        if restarts := [f"{item.label} ({', '.join(item.pods)})" for item in one.objects if item.pods]:
            found += [f"Restarts: {'; '.join(restarts)}.", ""]
        if one.objects:
            found += ["```diff", *compare.lines(one.objects), "```"]
        found.append("")
    return "\n".join(found)
