"""What an environment makes of its charts, told without a cluster: each object beside the one that the chart's own values give."""

from __future__ import annotations

from typing import Any, NamedTuple

from syntho_deploy import diff, documents, errors, explain
from syntho_deploy.compile import HOOK, Compiled, Project
from syntho_deploy.diff import Change
from syntho_deploy.helm import Helm
from syntho_deploy.plan import shown
from syntho_deploy.secrets.sentinels import label

ADDED, REMOVED, CHANGED, SAME = "added", "removed", "changed", "same"
SIGNS = {ADDED: "+", REMOVED: "-", CHANGED: "~", SAME: " "}


class Difference(NamedTuple):
    """One object. what: added or removed by the environment, changed, or the same as by default; origin: the overlay that adds or deletes
    it, or "" where a value does; changes: each field with what set it."""

    chart: str
    label: str
    what: str
    origin: str = ""
    changes: tuple[tuple[Change, str], ...] = ()


def differences(compiled: Compiled, project: Project, helm: Helm) -> list[Difference]:
    """Every object of the compiled charts, and those that a chart has by default only.

    A field counts where an overlay or a variable set it, so what compile does to every chart is no difference. Raises `InputError`
    where a chart does not render with its own values.
    """
    found = []
    for name, text in project.render_defaults(helm).items():
        default = {label(item): item for item in documents.load_manifests(text) if HOOK not in (item["metadata"].get("annotations") or {})}
        ours = {label(item): item for item in compiled.charts[name].objects}
        setters = {manifest.label: manifest.added or manifest.deleted for manifest in project.manifests[name].everything}
        origins = {of: errors.shown(setter.mark) for of, setter in setters.items() if setter}
        for of, item in ours.items():
            if of not in default:
                found.append(Difference(name, of, ADDED, origins.get(of, "")))
                continue
            changes = [(change, _origin(project, helm, of, change.path)) for change in diff.changes(default[of], item)]
            set_here = tuple((change, origin) for change, origin in changes if origin)
            found.append(Difference(name, of, CHANGED if set_here else SAME, changes=set_here))
        found += [Difference(name, of, REMOVED, origins.get(of, "")) for of in default if of not in ours and not of.startswith("Secret/")]
    return found


def _origin(project: Project, helm: Helm, of: str, path: str) -> str:
    setters = [origin for origin, _ in explain.sources_of(project, helm, of, path) if origin and origin.in_force]
    return ", ".join(dict.fromkeys(origin.at for origin in setters))


def text(found: list[Difference]) -> str:
    """The differences as people read them."""
    lines = []
    for one in found:
        if one.what != SAME:
            lines.append(f"{SIGNS[one.what]} {one.label}{f'  ({one.origin})' if one.origin else ''}")
            lines += [f"    {change.path}: {shown(change.before)} -> {shown(change.after)}  ({origin})" for change, origin in one.changes]
    return "\n".join([*lines, f"{counted(found)}; compared with the charts' own values, no cluster was asked"])


def counted(found: list[Difference]) -> str:
    """How many objects there are of each kind of difference, on one line."""
    return ", ".join(f"{count} {what}" for what in SIGNS if (count := sum(one.what == what for one in found))) or "no objects"


def as_json(found: list[Difference]) -> list[dict[str, Any]]:
    """[{"chart", "object", "difference", "origin", "changes": [{"path", "default", "value", "origin"}]}]. It holds no secret of the environment's."""
    return [
        {
            "chart": one.chart, "object": one.label, "difference": one.what, "origin": one.origin,
            "changes": [{"path": c.path, "default": c.before, "value": c.after, "origin": origin} for c, origin in one.changes],
        }
        for one in found
    ]  # fmt: skip
