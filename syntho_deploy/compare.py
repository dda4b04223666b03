"""Two compiles of one environment side by side: the objects and pods that a change of its files makes different."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syntho_deploy import diff
from syntho_deploy.cluster.readiness import ray_groups
from syntho_deploy.diff import Change
from syntho_deploy.secrets.sentinels import label

Object = dict[str, Any]
ADDED, REMOVED, CHANGED = "added", "removed", "changed"
SIGNS = {ADDED: "+", REMOVED: "-", CHANGED: "~"}


@dataclass(frozen=True)
class ObjectChange:
    """An object that is added, removed or changed. pods: what it runs that is replaced: "core: 1 pod"."""

    what: str
    label: str
    changes: tuple[Change, ...] = ()
    pods: tuple[str, ...] = ()


def objects(before: Iterable[Object], after: Iterable[Object]) -> list[ObjectChange]:
    """The objects in which two compiles differ, in the order of the second, those that leave last."""
    old, new = ({label(item): item for item in items} for items in (before, after))
    found = []
    for name, item in new.items():
        if name not in old:
            found.append(ObjectChange(ADDED, name))
        elif changes := diff.changes(old[name], item):
            templates = {group: (template, count) for group, template, count in pod_templates(old[name])}
            pods = [_counted(group, count) for group, template, count in pod_templates(item) if templates.get(group, (None,))[0] != template]
            found.append(ObjectChange(CHANGED, name, tuple(changes), tuple(pods)))
    return found + [ObjectChange(REMOVED, name) for name in old if name not in new]


def pod_templates(item: Object) -> list[tuple[str, Object, int]]:
    """The pods that an object makes: (the name of the group, the template, how many; 0: one on each node)."""
    spec = item.get("spec") or {}
    if item["kind"] == "RayCluster":
        return [(group or "head", template, count) for group, template, count in ray_groups(item)]
    if item["kind"] == "CronJob":
        spec = (spec.get("jobTemplate") or {}).get("spec") or {}
    if not isinstance(spec.get("template"), dict):
        return []
    count = 0 if item["kind"] == "DaemonSet" else spec.get("replicas", 1)
    return [(item["metadata"]["name"], spec["template"], count)]


def _counted(group: str, count: int) -> str:
    return f"{group}: {count or 'a'} pod{'s' if count > 1 else '' if count else ' on each node'}"


@contextmanager
def mirrored(root: Path, files: Mapping[Path, bytes]) -> Iterator[Path]:
    """The repository as it is with other contents of some files: a folder of links, with copies only of what is changed."""
    with tempfile.TemporaryDirectory(prefix="syntho-deploy-") as made:
        copied = {path.relative_to(root).parts[0] for path in files}
        for entry in sorted(root.iterdir()):
            if entry.name not in copied:
                (Path(made) / entry.name).symlink_to(entry.absolute())
            elif entry.is_dir():
                shutil.copytree(entry, Path(made) / entry.name, symlinks=True)
        for path, content in files.items():
            place = Path(made) / path.relative_to(root)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True)
            place.write_bytes(content)
        yield Path(made)


def lines(found: list[ObjectChange]) -> list[str]:
    """The differences as people read them."""
    from syntho_deploy.plan import shown

    text = []
    for item in found:
        text.append(f"{SIGNS[item.what]} {item.label}")
        text += [f"    {change.path}: {shown(change.before)} -> {shown(change.after)}" for change in item.changes]
        text += [f"    restarts {', '.join(item.pods)}"] if item.pods else []
    return text


def as_json(found: list[ObjectChange]) -> list[dict[str, Any]]:
    """The differences as JSON: [{"what", "object", "changes": [{"path", "before", "after"}], "pods"}]."""
    return [
        {
            "what": item.what, "object": item.label, "pods": list(item.pods),
            "changes": [{"path": change.path, "before": change.before, "after": change.after} for change in item.changes],
        }
        for item in found
    ]  # fmt: skip
