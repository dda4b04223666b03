"""Where does this value come from? For a value of a chart, for a field of a manifest, and for an environment as a whole."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from syntho_deploy import documents
from syntho_deploy.compile import Compiled, Project
from syntho_deploy.documents import Json, Keys
from syntho_deploy.errors import InputError, Mark, nearest, shown
from syntho_deploy.helm import Helm
from syntho_deploy.overlays import pointer
from syntho_deploy.overlays.liveness import Reach, leaves, reach, switched_off
from syntho_deploy.overlays.manifests import Manifest
from syntho_deploy.overlays.origins import Layers, Setter
from syntho_deploy.secrets.sentinels import label, placeholders
from syntho_deploy.trace import Origin, origin, origins

DEFAULT = "chart default"
GONE = object()  # what is not there: null is a value
_OBJECT = re.compile(r"[A-Z]\w*/[^/]+")  # Kind/name
REACH = "3"  # raised when `reach` finds other things in the same renders, so that what is kept of before is not used


@dataclass(frozen=True)
class Explained:
    """One value or field. of: the chart, or `Kind/name`; default: the chart's own value; origins: none for a chart's default;
    reaches: the fields of manifests that a value arrives in, or for a field the values that arrive there; removed: it is not there any more."""

    of: str
    path: str
    value: Json
    default: Json
    origins: tuple[Origin, ...]
    reaches: tuple[str, ...]
    removed: bool = False


def reaches(project: Project, helm: Helm) -> dict[str, Reach]:
    """For each chart which values it reads and where they arrive; kept in `.cache/reach` by the digest of all that it depends on."""
    if not project.reached:
        values = project.values()
        with ThreadPoolExecutor(len(values)) as pool:
            found = zip(values, pool.map(lambda chart: _reach(project, helm, chart, values[chart]), values), strict=True)
            project.reached = dict(found)
    return project.reached


def _reach(project: Project, helm: Helm, chart: str, values: Json) -> Reach:
    release, target = project.roles.release_of(chart).name, project.environment.target
    asked = sorted({_asked(keys) for keys in project.origins[chart].set_by}, key=str)
    lock = project.vendored.lock.charts[chart]
    parts = (helm.version, lock.sha256, documents.canonical(values), release, target.namespace, target.kubernetes, json.dumps(asked), REACH)
    folder, charts = project.environment.root / ".cache" / "reach", project.vendored.charts
    cached, hidden = folder / documents.sha256(*parts)[:32], folder / f"hidden-{documents.sha256(lock.sha256, project.environment.name)[:25]}"
    if cached.is_file():
        return _read(cached)
    if hidden.is_file():  # what was so with the values before is likely so again
        silent: Iterable[Keys] = map(tuple, json.loads(hidden.read_text(encoding="utf-8")))
    else:
        templates = (path for path in (charts[chart] / "templates").rglob("*") if path.suffix in (".yaml", ".yml", ".tpl") and path.is_file())
        silent = switched_off(values, (path.read_text("utf-8", "replace") for path in templates), asked)
    found = reach(values, lambda variants: helm.variants(charts[chart], variants, release, target.namespace, target.kubernetes), asked, silent)
    documents.write(cached, json.dumps(_written(found)))
    documents.write(hidden, json.dumps(sorted(map(list, found.hidden), key=str)))
    return found


def _written(found: Reach) -> Json:
    fields = [[*key, sorted(map(list, leaves_), key=str)] for key, leaves_ in found.fields.items()]
    alive, dead_ = (sorted(map(list, leaves_), key=str) for leaves_ in (found.alive, found.dead))
    return {"alive": alive, "dead": dead_, "fields": fields, "unstable": sorted(found.unstable)}


def _read(file: Path) -> Reach:
    content = json.loads(file.read_text(encoding="utf-8"))
    fields = {(of, path): {tuple(keys) for keys in reached} for of, path, reached in content["fields"]}
    return Reach({tuple(keys) for keys in content["alive"]}, {tuple(keys) for keys in content["dead"]}, fields, set(content["unstable"]))


def _asked(keys: Keys) -> Keys:
    """The path whose perturbation tells whether a path is read; for an item that left a list, that of the list."""
    gone = next((place for place, key in enumerate(keys) if isinstance(key, int) and key < 0), None)
    return keys[:gone]


def _left_list(keys: Keys) -> bool:
    return any(isinstance(key, int) and key < 0 for key in keys)


class Dead(NamedTuple):
    """An operation without effect. of: the chart, or the target of a manifest patch; path: the value that it sets; shared: it is in a
    component, not in the environment's own overlay."""

    of: str
    path: str
    what: str
    todo: str
    mark: Mark
    shared: bool


def dead_operations(project: Project, helm: Helm) -> list[Dead]:
    """The operations without effect.

    An operation is dead when no change of what it sets changes the render, at none of the paths that it sets or takes away; one that sets
    the chart's default is not. So is one of the environment's own that another of them overwrites, and a manifest patch when all that it
    matches is deleted.
    """
    found, own = [], project.environment.name
    for chart, known in reaches(project, helm).items():
        layers = project.origins[chart]
        alive: set[Mark] = set()
        idle: dict[Mark, tuple[Keys, Setter, Setter]] = {}  # the path, the operation, and the one in force there
        for keys in layers.set_by:
            told = layers.history(keys)
            read = _asked(keys) not in known.dead
            for at, one, in_force in told:
                if in_force and read:
                    alive.add(one.mark)
                elif at == keys and not one.carried:
                    idle[one.mark] = (keys, one, told[-1][1])
        for keys, one, last in (idle[mark] for mark in idle if mark not in alive):
            path = _written_path(layers, keys)
            what, todo = (
                f"{one.operation.op} {path} has no effect: the chart {chart} does not read it here",
                "remove it; or turn on what it belongs to",
            )
            if last.mark != one.mark:
                what, todo = f"{one.operation.op} {path} has no effect: {shown(last.mark)} overwrites it", "remove one of the two"
            if last.mark == one.mark or one.layer == last.layer == own:
                found.append(Dead(chart, path, what, todo, one.mark, one.layer != own))
    project.compile(helm)
    for unused in (unused for manifests in project.manifests.values() for unused in manifests.idle):
        what = f"the patch of {unused.target} has no effect: {shown(unused.deleted.mark)} deletes it"
        found.append(Dead(unused.target, "", what, "remove one of the two", unused.patch.mark, unused.layer != own))
    return [*found, *_overwritten_patches(project)]


def _overwritten_patches(project: Project) -> Iterator[Dead]:
    """The operations of the environment's own manifest patches that others of them overwrite in every object."""
    alive: set[Mark] = set()
    idle: dict[Mark, Dead] = {}
    for manifest in (manifest for manifests in project.manifests.values() for manifest in manifests.kept):
        for keys in manifest.origins.set_by:
            told = manifest.origins.history(keys)
            for at, one, in_force in told:
                last, path = told[-1][1], pointer.text(keys)
                if in_force:
                    alive.add(one.mark)
                elif at == keys and not one.carried and one.layer == last.layer == project.environment.name:
                    what = f"{one.operation.op} {path} has no effect: {shown(last.mark)} overwrites it"
                    idle[one.mark] = Dead(manifest.label, path, what, "remove one of the two", one.mark, False)
    yield from (idle[mark] for mark in idle if mark not in alive)


def dead(project: Project, helm: Helm) -> tuple[list[InputError], list[str]]:
    """The operations without effect: errors for the environment's own, notes for those of shared components."""
    found = dead_operations(project, helm)
    return [InputError(one.what, one.mark, one.todo) for one in found if not one.shared], [
        f"{shown(one.mark)}: {one.what}" for one in found if one.shared
    ]


def explain(project: Project, helm: Helm, path: str) -> list[Explained]:
    """Explain a values pointer (`/core/image/tag`, or `syntho-ui:/core/…`), a field (`Deployment/core:/spec/…`), or for "" all
    that the environment changes. Raises `InputError` for what is not there, with the nearest."""
    whole = _OBJECT.fullmatch(path)
    of, _, inner = path.partition(":") if ":" in path and not path.startswith("/") else (path if whole else "", "", "" if whole else path)
    if "/" in of:
        return [_field(project, helm, of, inner)]
    if of and of not in project.pin.charts:
        raise InputError(
            f'there is no chart "{of}"{nearest(of, project.pin.charts)}', todo=f"charts: {', '.join(project.pin.charts)}; or write Kind/name:/path"
        )
    charts = [of] if of else list(project.pin.charts)
    if not inner:
        return [one for chart in charts for one in _changed(project, chart)] + ([] if of else list(_patched(project, helm)))
    return _values(project, helm, charts, inner)


def _values(project: Project, helm: Helm, charts: list[str], path: str) -> list[Explained]:
    values, found, failed = project.values(), [], []
    for chart in charts:
        try:
            keys, _ = pointer.compile_pointer(values[chart], path)
        except pointer.PointerError as error:
            failed.append(f"{chart}: {error}{'; ' + error.todo if error.todo else ''}")
            continue
        for leaf in [keys + inner for inner in leaves(_at(values[chart], keys))] or [keys]:
            arrives = reaches(project, helm)[chart].fields
            where = tuple(sorted(f"{of}:{at}" for (of, at), reached in arrives.items() if leaf in reached))
            found.append(_explained(project, chart, leaf, where))
    if not found:
        first = path.split("/")[1] if "/" in path else path
        near = [chart for chart in charts if isinstance(values[chart], dict) and first in values[chart]] or charts
        raise InputError("; ".join(failed[charts.index(chart)] for chart in near), todo="invoke template --stage=values shows all values")
    return found


def _explained(project: Project, chart: str, keys: Keys, where: tuple[str, ...]) -> Explained:
    values = project.shown_values()[chart]
    default = _default(project, chart, keys)
    return Explained(chart, pointer.named(values, keys), _at(values, keys), default, origins(project, project.origins[chart], keys), where)


def _default(project: Project, chart: str, keys: Keys) -> Json:
    """What the chart's own values have at a path; None where that is nothing."""
    found = _at(project.defaults(chart), keys)
    return None if found is GONE else found


def _changed(project: Project, chart: str) -> Iterator[Explained]:
    """Every value of a chart that an operation set or removed."""
    values, layers = project.shown_values()[chart], project.origins[chart]
    told: set[Keys] = set()
    for keys in sorted(layers.set_by, key=str):
        inside = [keys + inner for inner in leaves(at)] or [keys] if (at := _at(values, keys)) is not GONE else []
        for leaf in inside:
            if leaf not in told:
                yield _explained(project, chart, leaf, ())
        told.update(inside)
        if not inside:
            yield Explained(chart, _written_path(layers, keys), None, _default(project, chart, keys), origins(project, layers, keys), (), True)


def _written_path(layers: Layers, keys: Keys) -> str:
    """The path of what is not there any more; that of a list's item as the operation had it which took it away."""
    operation = layers.set_by[keys][-1].operation
    return (operation.source or operation.path) if _left_list(keys) else pointer.text(keys)


def _patched(project: Project, helm: Helm) -> Iterator[Explained]:
    """Every object that a layer added or deleted, and every field of one that a manifest patch set."""
    project.compile(helm)
    everything = [manifest for manifests in project.manifests.values() for manifest in manifests.everything]
    for manifest in sorted(everything, key=lambda manifest: manifest.label):
        if manifest.deleted:
            yield Explained(manifest.label, "", None, None, (origin(project, manifest.deleted, True),), (), True)
            continue
        item, layers = placeholders(manifest.item, project.environment.secrets), manifest.origins
        if manifest.added:
            yield Explained(manifest.label, "", item, None, (origin(project, manifest.added, True),), ())
        for keys in sorted(layers.set_by, key=str):
            value, set_by = _at(item, keys), origins(project, layers, keys)
            if value is GONE:
                yield Explained(manifest.label, _written_path(layers, keys), None, None, set_by, (), True)
            else:
                yield Explained(manifest.label, pointer.named(item, keys), value, None, set_by, ())


def _manifest(project: Project, of: str) -> Manifest | None:
    """An object as the layers left it, before secrets were cut out."""
    return next((one for manifests in project.manifests.values() for one in manifests.kept if one.label == of), None)


def _field(project: Project, helm: Helm, of: str, path: str) -> Explained:
    compiled = project.compile(helm)
    item = _object(project, compiled, of)
    try:
        keys, _ = pointer.compile_pointer(item, path)
    except pointer.PointerError as error:
        raise InputError(f"{of}: {error}", todo=error.todo) from None
    at = pointer.named(item, keys)
    sources = sources_of(project, helm, of, at)
    return Explained(of, at, _at(item, keys), None, tuple(one for one, _ in sources if one), tuple(source for _, source in sources if source))


def _object(project: Project, compiled: Compiled, of: str) -> dict[str, Any]:
    items = {label(item): item for item in compiled.objects}
    if of not in items:
        if (left_out := _manifest(project, of)) is not None:  # a Secret of the chart, which becomes one of ours
            return dict(placeholders(left_out.item, project.environment.secrets))
        for manifest in (manifest for manifests in project.manifests.values() for manifest in manifests.everything):
            if manifest.label == of and manifest.deleted:
                raise InputError(f"{of} is deleted by {shown(manifest.deleted.mark)}")
        raise InputError(f"no manifest is {of}{nearest(of, items)}", todo=f"there are: {', '.join(sorted(items))}")
    return items[of]


def sources_of(project: Project, helm: Helm, of: str, at: str) -> list[tuple[Origin | None, str]]:
    """What set a field of a compiled manifest: (operation, value it came by). Without one, the chart's template did."""
    found: list[tuple[Origin | None, str]] = []
    manifest = _manifest(project, of)
    if manifest:
        keys = _nearest_keys(manifest.item, at)
        if gone := _removed_by(project, manifest, keys, at):
            return [(gone, "")]
        set_by = origins(project, manifest.origins, keys)
        found += [(origin(project, manifest.added, not set_by, keys), "")] if manifest.added else []
        found += [(one, "") for one in set_by]
        if set_by and set_by[-1].op in ("add", "replace"):
            return found  # what the chart had there does not arrive any more
    printed = _printed(project, *_behind(project, of, at))
    if printed is None:
        return found
    of, at = printed
    values = project.values()
    for chart, one in reaches(project, helm).items():
        mine = {field: reached for (object_, field), reached in one.fields.items() if object_ == of}
        exact = {leaf for field, reached in mine.items() if field == at or field.startswith(f"{at}/") for leaf in reached}
        around = {leaf for field, reached in mine.items() if at.startswith(f"{field}/") for leaf in reached}
        for leaf in sorted(exact or around, key=str):
            source = f"{chart}:{pointer.named(values[chart], leaf)}"
            set_by = origins(project, project.origins[chart], leaf)
            found += [(one, source) for one in set_by] or [(None, f"{source} ({DEFAULT})")]
    return found


def _removed_by(project: Project, manifest: Manifest, keys: Keys, at: str) -> Origin | None:
    """The operation that took a field out of an object, or something around it. keys: as far as the field's path is there."""
    there = pointer.named(manifest.item, keys)
    rest = pointer.parse(at.removeprefix(there)) if at.startswith(f"{there}/") else ()
    for end in range(1, len(rest) + 1):
        set_by = origins(project, manifest.origins, (*keys, *rest[:end]))
        if set_by and set_by[-1].op == "remove":
            return set_by[-1]
    return None


def _behind(project: Project, of: str, at: str) -> tuple[str, str]:
    """For a variable that the chart takes from a Secret of its own, that Secret's key: it is where the values arrive."""
    manifest = _manifest(project, of)
    item = manifest.item if manifest else {}
    keys = _nearest_keys(item, at)
    for end in range(len(keys), 0, -1):
        here = _at(item, keys[:end])
        reference = ((here.get("valueFrom") or {}) if isinstance(here, dict) else {}).get("secretKeyRef") or {}
        holder = _manifest(project, f"Secret/{reference['name']}") if reference.get("name") else None
        secret = holder.item if holder else {}
        for part in ("data", "stringData"):
            if reference.get("key") in (secret.get(part) or {}):
                return label(secret), pointer.text((part, reference["key"]))
    return of, at


def _printed(project: Project, of: str, at: str) -> tuple[str, str] | None:
    """Where the chart printed what is a field now: patches give objects, and items of lists, other names and places. None where it did not, or
    where nobody can tell."""
    manifest = _manifest(project, of)
    if manifest is None or manifest.rendered is None:
        return of, at
    here: Json = manifest.item
    there: Json = manifest.rendered
    keys, places = _nearest_keys(here, at), Keys()
    for key in keys:
        place = _same_item(here, there, key) if isinstance(key, int) and isinstance(there, list) else key
        if place is None or _at(there, (place,)) is GONE:
            return None
        here, there, places = here[key], there[place], (*places, place)
    rest = pointer.text(pointer.parse(at)[len(keys) :])
    return label(manifest.rendered), pointer.named(manifest.rendered, places) + rest


def _same_item(here: list[Json], there: list[Json], index: int) -> int | None:
    """The index in a list as the chart printed it of an item that is in it now: of the one with the same name (or the same in all, where items
    have none); else the same index, in a list of the same length in which nothing else is what was there."""
    name = pointer.identity(there)
    ours, theirs = ([item.get(name) if name and isinstance(item, dict) else item for item in items] for items in (here, there))
    if theirs.count(ours[index]) == ours.count(ours[index]) == 1:
        return theirs.index(ours[index])
    return index if len(ours) == len(theirs) and (ours[index] == theirs[index] or theirs[index] not in ours) else None


def _nearest_keys(item: Json, at: str) -> Keys:
    """The path of a field in an object, or of the nearest thing around it that is there."""
    while at:
        try:
            return pointer.compile_pointer(item, at)[0]
        except pointer.PointerError:
            at = at.rpartition("/")[0]
    return ()


def _at(document: Json, keys: Keys) -> Json:
    """What stands at a path, or `GONE`."""
    here: Any = document
    key: Any
    for key in keys:
        if not isinstance(here, dict | list) or (isinstance(key, int) and key < 0):
            return GONE
        try:
            here = here[key]
        except (KeyError, IndexError, TypeError):
            return GONE
    return here


def text(found: list[Explained]) -> str:
    """Explanations as people read them."""
    lines = []
    for one in found:
        default = f" (chart default: {_short(one.default)})" if one.origins and one.default is not None else ""
        lines.append(f"{one.of}{':' + one.path if one.path else ''} = {'(removed)' if one.removed else _short(one.value)}{default}")
        for by in reversed(one.origins):
            why, op = f": {by.why}" if by.why else "", f"{by.op} from {by.source}" if by.source else by.op
            lines.append(f"    {'set' if by.in_force else 'shadowed'} by {by.at} ({op}, {by.layer}){why}")
            lines += [f"        {variable}" for variable in by.variables]
        if not one.origins and "/" not in one.of:
            lines.append(f"    {DEFAULT}")
        if not one.origins and not one.reaches and "/" in one.of:
            lines.append("    from the chart's template")
        lines += [f"    {'from' if '/' in one.of else 'reaches'} {field}" for field in one.reaches]
    return "\n".join(lines)


def _short(value: Json) -> str:
    shown = documents.canonical(value)
    return shown if len(shown) < 160 else shown[:157] + "..."
