"""Other charts for a pin: fetched beside the ones in use, and compared with them for every environment that has the pin."""

from __future__ import annotations

import base64
import binascii
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from syntho_deploy import compare, diff, documents, edit, explain, helm, transaction
from syntho_deploy.compare import ObjectChange
from syntho_deploy.compile import Project
from syntho_deploy.diff import ABSENT, Change
from syntho_deploy.documents import Json, Keys
from syntho_deploy.environment import load_environment, names
from syntho_deploy.errors import DeployError, InputError, InputErrors, PreflightError, shown
from syntho_deploy.helm import Helm
from syntho_deploy.images import names_in
from syntho_deploy.overlays import pointer
from syntho_deploy.overlays.origins import Setter
from syntho_deploy.plan import REPLACEABLE
from syntho_deploy.plan import shown as shown_value
from syntho_deploy.secrets.sentinels import TOKEN, label, placeholders, sentinel
from syntho_deploy.vendor import Pin, Vendored, load_lock, load_pin, vendor
from syntho_deploy.vendor.pin import REF

IMMUTABLE = {  # what the API server lets no update change, by kind: https://kubernetes.io/docs/concepts/workloads/
    "Deployment": ("/spec/selector",),
    "DaemonSet": ("/spec/selector",),
    "StatefulSet": ("/spec/selector", "/spec/volumeClaimTemplates", "/spec/serviceName", "/spec/podManagementPolicy"),
    "Job": ("/spec/selector", "/spec/template", "/spec/completionMode"),
    "PersistentVolumeClaim": ("/spec/storageClassName", "/spec/accessModes", "/spec/selector", "/spec/volumeName", "/spec/volumeMode"),
    "RoleBinding": ("/roleRef",),
    "ClusterRoleBinding": ("/roleRef",),
}
LISTED = 12  # fields of a CRD that are named
LOOKUP = "plain helm takes over what it finds there, at each upgrade; here nothing is asked, so give it a value by the environment's secrets"
_READ = re.compile(r"\.Values((?:\.[A-Za-z_][A-Za-z0-9_]*)+)")
_LOOKUP = re.compile(r"""\blookup\s+"[^"]*"\s+"([^"]*)"\s+(?:\([^)]*\)|\S+)\s+("[^"]*"|\([^)]*\)|[^\s)}]+)""")  # its kind and its name


@dataclass(frozen=True)
class ChartDiff:
    """How a chart itself differs. before, after: its version; values: its defaults; newly_read, no_longer_read: the values that its
    templates name, which need not stand in its values.yaml; lookups, no_longer_asked: what templates ask of the cluster while they
    render; crds: sentences."""

    name: str
    before: str
    after: str
    values: tuple[Change, ...]
    newly_read: tuple[str, ...]
    no_longer_read: tuple[str, ...]
    lookups: tuple[str, ...]
    no_longer_asked: tuple[str, ...]
    crds: tuple[str, ...]


@dataclass
class EnvironmentDiff:
    """What other charts do to one environment; each a list of sentences, but for the objects.

    faults: why it does not compile, with the lines of overlays to edit; images: that come and go; dead, alive: operations that
    lose or get an effect; random: objects that are others at each render; defaults: operations that set what has another default
    now, or none; immutable: fields that no update changes; secrets: places that they leave and arrive at; notes: what else is to be
    known.
    """

    environment: str
    faults: list[str] = field(default_factory=list)
    objects: list[ObjectChange] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    alive: list[str] = field(default_factory=list)
    random: list[str] = field(default_factory=list)
    defaults: list[str] = field(default_factory=list)
    immutable: list[str] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


SENTENCES = {
    "faults": "does not compile, edit", "dead": "no effect any more", "alive": "now has an effect", "random": "differs at each render",
    "defaults": "has another default now",
    "immutable": "no update can change", "secrets": "secrets move", "images": "images", "notes": "note",
}  # fmt: skip


@dataclass
class Result:
    """A comparison. before, after: ref and commit; files: the pin and its lock as they would be written."""

    root: Path
    pin: Pin
    before: str
    after: str
    charts: list[ChartDiff]
    environments: list[EnvironmentDiff]
    files: dict[Path, tuple[bytes | None, bytes]]

    @property
    def changed(self) -> bool:
        """Are they other charts, or another ref?"""
        return any(old != new for old, new in self.files.values()) or self.before != self.after

    def write(self, url: str | None, force: bool) -> None:
        """Write the pin and its lock, and vendor. Raises `PreflightError` where an environment does not compile, unless forced."""
        broken = [one.environment for one in self.environments if one.faults]
        if broken and not force:
            raise PreflightError(
                f"with these charts {', '.join(broken)} would not compile; nothing was written",
                self.pin.path,
                "edit the lines above, then run it again; --force writes the pin all the same",
            )
        if changed := {path: texts for path, texts in self.files.items() if texts[0] != texts[1]}:
            transaction.write(self.root, changed)
        vendor(self.root, load_pin(self.root, self.pin.path), url)


def to_ref(root: Path, pin: Pin, ref: str, url: str | None, binary: Helm) -> Result:
    """Compare a pin with another ref of its source. Writes nothing into the repository.

    url: in the place of the source. Raises `InputError`: a ref that is none, or that the source does not have; a pin of a
    directory, which has no refs; an environment that cannot be read. `PreflightError`: the source does not answer.
    """
    if pin.ref is None:
        raise InputError("this pin has a directory and no ref", pin.mark("source"), "invoke vendor --update takes what is there now")
    if not REF.fullmatch(ref):
        raise InputError(f'"{ref}" is no ref', todo="a commit of 40 hex digits, a tag or a branch")
    old = pin.path.read_bytes()
    new = edit.replace(old.decode("utf-8"), ("ref",), ref).encode()
    with compare.mirrored(root, {pin.path: new}) as folder:
        place = folder / pin.path.relative_to(root)
        try:
            lock = vendor(folder, load_pin(folder, place), url, update=True).lock
        except DeployError as error:
            for one in error.errors if isinstance(error, InputErrors) else [error]:
                one.where = pin.mark("ref")  # and not its place in the copy
            raise
        charts, found = _environments(root, folder, pin, None, binary)
        lock_path = pin.lock_path.relative_to(root)
        files = {
            pin.path: (old, new),
            root / lock_path: ((root / lock_path).read_bytes() if (root / lock_path).exists() else None, (folder / lock_path).read_bytes()),
        }
    return Result(root, pin, _name(pin), f"{ref} ({lock.short})", charts, found, files)


def to_pin(root: Path, pin: Pin, other: Pin, url: str | None, binary: Helm) -> Result:
    """Compare a pin with another pin, of another source perhaps, as if its environments had that one. There is nothing to write:
    an environment changes its pin by its `charts`."""
    with compare.mirrored(root, {other.path: other.path.read_bytes()}) as folder:
        moved = load_pin(folder, folder / other.path.relative_to(root))
        vendor(folder, moved, url)
        charts, found = _environments(root, folder, pin, moved, binary)
    return Result(root, pin, _name(pin), _name(other), charts, found, {})


def _name(pin: Pin) -> str:
    return f"{pin.ref or pin.source} ({load_lock(pin).short})"


def _environments(root: Path, folder: Path, pin: Pin, other: Pin | None, binary: Helm) -> tuple[list[ChartDiff], list[EnvironmentDiff]]:
    """The comparison of each environment that has `pin`, in the repository and in its mirror."""
    mine = [name for name in names(root) if load_environment(root, name).pin_file.resolve() == pin.path.resolve()]
    if not mine:
        raise InputError("no environment has this pin", pin.path, "name another: --pin=FILE")
    old_checked: dict[Path, Vendored] = {}
    new_checked: dict[Path, Vendored] = {}
    charts: list[ChartDiff] = []
    found = []
    for name in mine:
        if other:
            file = folder / "envs" / f"{name}.yaml"
            _own_copy(folder, root, "envs")
            text, path = file.read_bytes().decode("utf-8"), str(other.path.relative_to(folder))
            change = edit.replace if "charts" in (documents.load(file).data or {}) else edit.add
            documents.write(file, change(text, ("charts",), path))
        one = EnvironmentDiff(name)
        before, after = (_Side(of, name, checked, binary, folder) for of, checked in ((root, old_checked), (folder, new_checked)))
        one.faults = after.faults
        if before.faults:
            one.notes += [f"it does not compile with the charts in use: {fault}" for fault in before.faults]
        if not charts and before.project and after.project:
            charts = [_chart(before.project, after.project, chart) for chart in before.project.pin.charts if chart in after.project.pin.charts]
        if before.project and after.project:
            _compared(one, before, after, binary, {chart.name: chart for chart in charts})
        found.append(one)
    return charts, found


def _own_copy(folder: Path, root: Path, part: str) -> None:
    """Have a folder of the mirror as a copy, to be changed."""
    if (folder / part).is_symlink():
        (folder / part).unlink()
        shutil.copytree(root / part, folder / part, symlinks=True)


class _Side:
    """An environment with the old or the new charts: as far as it can be made, and what was wrong."""

    def __init__(self, root: Path, name: str, checked: dict[Path, Vendored], binary: Helm, mirror: Path) -> None:
        self.project: Project | None = None
        self.objects: list[dict[str, Any]] = []
        self.faults: list[str] = []
        self.mirror = mirror
        try:
            self.project = Project.load(root, name, checked)
            self.objects = self.project.compile(binary).objects
        except DeployError as error:
            self.faults = self.words(str(error)).replace("\n  ->", " ->").splitlines()

    def manifests(self) -> list[dict[str, Any]]:
        """The manifests before secrets were cut out, which are there also where only the secrets were wrong."""
        assert self.project
        return [placeholders(item, self.project.environment.secrets) for item in _manifests(self.project)]

    def words(self, text: str) -> str:
        """A message with the places in the mirror named as those in the repository."""
        return text.replace(f"{self.mirror}/", "")

    def where(self, setter: Setter) -> str:
        return self.words(shown(setter.mark))


def _compared(one: EnvironmentDiff, before: _Side, after: _Side, binary: Helm, charts: dict[str, ChartDiff]) -> None:
    assert before.project
    assert after.project
    for chart, found in charts.items():
        one.defaults += _defaults(after, chart, found)
    old, new = (before.objects, after.objects) if before.objects and after.objects else (before.manifests(), after.manifests())
    if not old or not new:
        return
    one.objects = compare.objects(old, new)
    old_images, new_images = names_in(old), names_in(new)
    one.images = [f"+ {name}" for name in sorted(new_images - old_images)] + [f"- {name}" for name in sorted(old_images - new_images)]
    for item in one.objects:
        kind = item.label.partition("/")[0]
        fields = [change.path for change in item.changes if change.path.startswith(IMMUTABLE.get(kind, ()) or ("\0",))]
        if fields:
            how = "invoke deploy replaces it" if kind in REPLACEABLE else "a person has to delete it, and what it holds"
            one.immutable.append(f"{item.label}: {', '.join(fields)} ({how})")
    one.secrets = _moved(before.project, after.project)
    old_dead, new_dead = _dead(before, binary), _dead(after, binary)
    one.dead = [line for key, line in new_dead.items() if key not in old_dead]
    still = {(chart, keys) for chart, origins in after.project.origins.items() for keys in origins.set_by}
    one.random = _random(before.project, after.project, binary)
    one.alive = [line.replace("has no effect", "has an effect") for key, line in old_dead.items() if key not in new_dead and key in still]


def _random(before: Project, after: Project, binary: Helm) -> list[str]:
    """The objects that are others at each render, though nothing was changed, and were not before; and the reverse."""
    old, new = ({of for known in explain.reaches(project, binary).values() for of in known.unstable} for project in (before, after))
    todo = "each deploy would change it; set the value that the chart makes up (invoke lint says it too)"
    return [f"{of}: {todo}" for of in sorted(new - old)] + [f"{of} no longer" for of in sorted(old - new)]


def _dead(side: _Side, binary: Helm) -> dict[tuple[str, Keys], str]:
    """The operations without effect, as sentences by chart and path."""
    assert side.project
    found = {}
    for chart, known in explain.reaches(side.project, binary).items():
        for keys, setters in side.project.origins[chart].set_by.items():
            if keys in known.dead and side.project.origins[chart].origin(keys)[-1] == setters[-1]:
                found[chart, keys] = f"{side.where(setters[-1])}: {setters[-1].operation.op} {chart}:{pointer.text(keys)} has no effect"
    return found


def _defaults(side: _Side, chart: str, found: ChartDiff) -> list[str]:
    """The operations that set a value whose default is another one now: whether that is still wanted, a person knows."""
    assert side.project
    lines = []
    for change in found.values:
        keys = tuple(pointer.parse(change.path)) if "[" not in change.path else ()
        setters = side.project.origins[chart].origin(keys) if keys and chart in side.project.origins else []
        if setters:
            what = f"{chart}:{change.path}: {shown_value(change.before)} -> {shown_value(change.after)}"
            lines.append(f"{side.where(setters[-1])}: {setters[-1].operation.op} {pointer.text(keys)} sets {what}")
    return lines


def _moved(before: Project, after: Project) -> list[str]:
    """The places in the manifests that each secret leaves and arrives at."""
    lines = []
    for name in before.environment.secrets:
        old, new = (set(_places(project, sentinel(name))) for project in (before, after))
        if old != new:
            lines += [f"{name} leaves {place}" for place in sorted(old - new)] + [f"{name} arrives at {place}" for place in sorted(new - old)]
    return lines


def _places(project: Project, token: str) -> Iterator[str]:
    for item in _manifests(project):
        for keys, value in documents.walk(item):
            if isinstance(value, str) and token in TOKEN.findall(_decoded(value) if item["kind"] == "Secret" and keys[:1] == ("data",) else value):
                yield f"{label(item)}:{pointer.named(item, keys)}"


def _manifests(project: Project) -> list[dict[str, Any]]:
    """The manifests of all charts, patched, before secrets are cut out."""
    return [manifest.item for manifests in project.manifests.values() for manifest in manifests.kept]


def _decoded(value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return value


def _chart(before: Project, after: Project, name: str) -> ChartDiff:
    """How a chart itself differs."""
    old, new = (project.vendored.charts[name] for project in (before, after))
    locks = [project.vendored.lock.charts[name] for project in (before, after)]
    version, other = (f"{lock.name} {lock.version} (tree {lock.tree[:12]})" for lock in locks)
    values = tuple(diff.differences(*(documents.load_chart(folder / "values.yaml") for folder in (old, new))))
    old_reads, new_reads = reads(old), reads(new)
    old_lookups, new_lookups = lookups(old), lookups(new)
    return ChartDiff(
        name, version, other, values, tuple(sorted(new_reads - old_reads)), tuple(sorted(old_reads - new_reads)),
        tuple(sorted(new_lookups - old_lookups)), tuple(sorted(old_lookups - new_lookups)), tuple(_crds(old, new)),
    )  # fmt: skip


def reads(chart: Path) -> set[str]:
    """The values that the templates of a chart and of its subcharts name, as pointers. One that is read by `with` or a variable
    shows as what is around it."""
    found = set()
    for path in _templates(chart):
        parts = path.relative_to(chart).parts
        above = parts[: parts.index("templates")]
        prefix = "".join(f"/{folder}" for index, folder in enumerate(above) if index % 2)  # charts/<name>/…
        for match in _READ.finditer(path.read_text(encoding="utf-8", errors="replace")):
            found.add(prefix + match[1].replace(".", "/"))
    return found


def lookups(chart: Path) -> set[str]:
    """What the templates of a chart ask of the cluster while they render, each as `Kind name in file`."""
    found = set()
    for path in _templates(chart):
        for match in _LOOKUP.finditer(path.read_text(encoding="utf-8", errors="replace")):
            found.add(f"{match[1]} {match[2]} in {path.relative_to(chart)}")
    return found


def _templates(chart: Path) -> list[Path]:
    return [path for path in sorted(chart.rglob("*")) if "templates" in path.relative_to(chart).parts and path.is_file()]


def _crds(old: Path, new: Path) -> Iterator[str]:
    """How the CRDs differ: those that come and go, their versions, and the fields of each version."""
    sides = [{item["metadata"]["name"]: item for path in helm.crds(folder) for item in _load_crds(path)} for folder in (old, new)]
    before, after = sides
    for name in sorted({*before, *after}):
        if name not in after or name not in before:
            yield f"{name} {'comes' if name in after else 'goes'}"
            continue
        one, other = ({version["name"]: version for version in side[name]["spec"]["versions"]} for side in sides)
        if one == other:
            continue
        yield from (f"{name} serves {version}" for version in other if version not in one)
        yield from (f"{name} serves {version} no more: objects of it cannot be written" for version in one if version not in other)
        stored = [next((version["name"] for version in side.values() if version.get("storage")), "none") for side in (one, other)]
        if stored[0] != stored[1]:
            yield f"{name} stores {stored[1]} and not {stored[0]}: replace the CRDs before the charts (invoke deploy does)"
        for version in [version for version in one if version in other]:
            fields = [_fields(side[version].get("schema", {}).get("openAPIV3Schema", {})) for side in (one, other)]
            for verb, paths in (("gets", fields[1] - fields[0]), ("loses", fields[0] - fields[1])):
                if paths:
                    top = sorted(path for path in paths if path.rpartition("/")[0] not in paths)
                    more = f" and {len(top) - LISTED} more" if len(top) > LISTED else ""
                    yield f"{name} {version} {verb} {len(paths)} fields: {', '.join(top[:LISTED])}{more}"


def _load_crds(path: Path) -> list[dict[str, Any]]:
    try:
        found = documents.load_manifests(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"this is no file of CRDs: {error}", path) from None
    return [item for item in found if item.get("kind") == "CustomResourceDefinition"]


def _fields(schema: Json, path: str = "") -> set[str]:
    """The pointers of all fields in a schema; `*` for the items of lists and mappings."""
    found = set()
    for name, inner in (schema.get("properties") or {}).items():
        found |= {f"{path}/{name}"} | _fields(inner, f"{path}/{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            found |= _fields(schema[key], f"{path}/*")
    return found


def text(result: Result) -> str:
    """A comparison as people read it."""
    lines = [f"{shown(result.pin.path)}: {result.before} -> {result.after}"]
    for chart in result.charts:
        lines.append(f"\nchart {chart.name}: {chart.before} -> {chart.after}" if chart.before != chart.after else f"\nchart {chart.name}: the same")
        for change in chart.values:
            sign = "+" if change.before == ABSENT else "-" if change.after == ABSENT else "~"
            was = "" if change.before == ABSENT else f"{shown_value(change.before)}"
            lines.append(f"  {sign} value {change.path}: " + " -> ".join(filter(None, [was, "" if sign == "-" else shown_value(change.after)])))
        lines += [f"  + read {path}" for path in chart.newly_read] + [f"  - read {path}" for path in chart.no_longer_read]
        lines += [f"  + lookup {one}: {LOOKUP}" for one in chart.lookups] + [f"  - lookup {one}" for one in chart.no_longer_asked]
        lines += [f"  CRD {sentence}" for sentence in chart.crds]
    for one in result.environments:
        lines.append(f"\n{one.environment}: {_summary(one)}")
        for name, words in SENTENCES.items():
            lines += [f"  {words}: {sentence}" for sentence in getattr(one, name)]
        lines += [f"  {line}" for line in compare.lines(one.objects)]
    return "\n".join(lines)


def _summary(one: EnvironmentDiff) -> str:
    counts = {what: sum(item.what == what for item in one.objects) for what in compare.SIGNS}
    found = [f"{count} objects {what}" for what, count in counts.items() if count]
    return ", ".join([*(["does not compile with these charts"] if one.faults else []), *found]) or "the objects stay the same"


def as_json(result: Result, written: bool) -> dict[str, Any]:
    """A comparison as JSON: {"pin", "before", "after", "written", "charts": [{"name", "before", "after", "values": [{"path", "before",
    "after"}], "newly_read", "no_longer_read", "lookups", "no_longer_asked", "crds"}], "environments": [{"environment", "compiles",
    "objects", and the lists of `EnvironmentDiff`}]}."""
    charts = [
        {
            "name": chart.name, "before": chart.before, "after": chart.after, "crds": list(chart.crds),
            "newly_read": list(chart.newly_read), "no_longer_read": list(chart.no_longer_read),
            "lookups": list(chart.lookups), "no_longer_asked": list(chart.no_longer_asked),
            "values": [{"path": change.path, "before": change.before, "after": change.after} for change in chart.values],
        }
        for chart in result.charts
    ]  # fmt: skip
    environments = [
        {
            "environment": one.environment, "compiles": not one.faults, "objects": compare.as_json(one.objects),
            **{name: getattr(one, name) for name in SENTENCES},
        }
        for one in result.environments
    ]  # fmt: skip
    pin = str(result.pin.path.relative_to(result.root))
    return {"pin": pin, "before": result.before, "after": result.after, "written": written, "charts": charts, "environments": environments}
