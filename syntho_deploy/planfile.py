"""A plan as a file, which somebody has reviewed: deploy refuses it once anything that it was made of has moved.

It holds no secret: of the cluster it has digests only. Its own digest tells a file that was cut or edited from a whole one;
who may write the file can write that too, so it is no signature.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syntho_deploy import documents
from syntho_deploy import plan as planning
from syntho_deploy.errors import InputError, PreflightError
from syntho_deploy.plan import Plan

FORMAT = 1  # of the file: one of another number is not read
AGAIN = "make it again: invoke plan --env=… --out=FILE"


def _texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())


def _objects(value: Any) -> bool:
    keys = {"object": str, "action": str, "changes": list}
    return isinstance(value, list) and all(isinstance(one, dict) and all(isinstance(one.get(k), t) for k, t in keys.items()) for one in value)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


SHAPE: dict[str, Callable[[Any], bool]] = {
    "environment": _text, "cluster": _text, "forced": _flag, "helm": _text, "inputs": _texts, "live": _texts, "objects": _objects,
}  # fmt: skip


@dataclass(frozen=True)
class PlanFile:
    """A plan file that was read. content: `planning.as_json` of its plan, and `helm`, the version that would deploy it."""

    path: Path
    content: dict[str, Any]


def write(path: Path, plan: Plan, helm: str) -> None:
    """Write a plan file. helm: the version of the helm that would deploy it. Raises `InputError` when it cannot be written."""
    content = {**planning.as_json(plan), "format": FORMAT, "helm": helm}
    try:
        documents.write(path, documents.canonical({**content, "sha256": _digest(content)}) + "\n")
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", path) from None


def read(path: Path) -> PlanFile:
    """Read a plan file. Raises `InputError`: there is none, or it is not whole, not unchanged, or not of this format."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"this plan file cannot be read: {error.strerror}", path, AGAIN) from None
    except (ValueError, RecursionError):  # UnicodeDecodeError is one too
        raise InputError("this is no plan file, or only a part of one: it is no JSON", path, AGAIN) from None
    if not isinstance(content, dict) or "objects" not in content:
        raise InputError("this is no plan file", path, AGAIN)
    if content.get("format") != FORMAT:
        raise InputError("this plan file was written by another version of syntho-deploy", path, AGAIN)
    digest = content.pop("sha256", None)
    if digest != _digest(content) or not all(check(content.get(key)) for key, check in SHAPE.items()):
        raise InputError("this plan file was changed after it was written: its digest is another", path, AGAIN)
    return PlanFile(path, content)


def refuse_other_force(file: PlanFile, forced: bool) -> None:
    """Raise `InputError` where a plan was made with --force-conflicts and its deploy is without, or the other way round."""
    if file.content["forced"] and not forced:
        what = "this plan was made with --force-conflicts: it takes fields that other tools own, and this deploy is not told to"
        raise InputError(what, file.path, "deploy it with --force-conflicts too, or plan again without")
    if forced and not file.content["forced"]:
        what = "this plan was made without --force-conflicts: it does not say which fields of other tools are taken"
        raise InputError(what, file.path, "plan again with --force-conflicts, and review it")


def _digest(content: dict[str, Any]) -> str:
    return documents.sha256(documents.canonical(content))


def refuse_moved(file: PlanFile, plan: Plan, helm: str) -> None:
    """Raise `PreflightError` naming what moved between the plan in a file and one that was made now. helm: the version that deploys."""
    recorded, now = file.content, {**planning.as_json(plan), "helm": helm}
    if recorded["environment"] != now["environment"]:
        what = f"this plan is of the environment {recorded['environment']}, not of {now['environment']}"
        raise PreflightError(what, file.path, f"invoke plan --env={now['environment']} --out=FILE")
    moved = [f"the cluster (another one: {now['cluster'] or 'unknown'})"] if recorded["cluster"] != now["cluster"] else []
    moved += [f"helm ({recorded['helm']}, now {helm})"] if recorded["helm"] != helm else []
    for kind, what in (("inputs", "the {}"), ("live", "the live {}")):
        old, new = recorded[kind], now[kind]
        moved += [f"{what.format(key)}{_how(key, old, new)}" for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    if not moved and _effects(recorded) != _effects(now):
        moved.append("what the API server answers")
    if moved:
        raise PreflightError(f"since this plan was made, these moved: {', '.join(moved)}", file.path, "plan again, and review it")


def _how(key: str, old: dict[str, str], new: dict[str, str]) -> str:
    return " (which is new)" if key not in old else " (which is gone)" if key not in new else ""


def _effects(plan: dict[str, Any]) -> str:
    """What a plan as JSON does to objects; not how far it could be checked, which a namespace made meanwhile changes."""
    return documents.canonical(
        [
            [item["object"], item["action"], item.get("conflicts"), [{**change, "origin": ""} for change in item["changes"]]]
            for item in plan["objects"]
        ]
    )
