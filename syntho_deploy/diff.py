"""What differs between two states of an object, field by field, for people and machines."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from syntho_deploy.documents import Json
from syntho_deploy.overlays.pointer import identity, text
from syntho_deploy.redact import MASK

SERVER_METADATA = (
    "managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds",
)  # fmt: skip
SERVER_ANNOTATIONS = ("deployment.kubernetes.io/revision",)
ABSENT = "(absent)"
CONTENT = ("data", "stringData")  # of a Secret
MAY_HOLD_SECRETS = (*CONTENT, "env", "command", "args", "annotations", "httpHeaders", "rayStartParams")


@dataclass(frozen=True)
class Change:
    """One field: its JSON Pointer, with `[name=x]` for items of lists that have a name, and the value before and after; where only the
    order of such a list changes, its names before and after."""

    path: str
    before: Json
    after: Json


def stable(item: dict[str, Any]) -> dict[str, Any]:
    """An object without what the server and its controllers write: status, versions, the revision that restarts move."""
    found = {key: value for key, value in item.items() if key != "status"}
    metadata = {key: value for key, value in item.get("metadata", {}).items() if key not in SERVER_METADATA}
    if annotations := {key: value for key, value in (metadata.get("annotations") or {}).items() if key not in SERVER_ANNOTATIONS}:
        metadata["annotations"] = annotations
    else:
        metadata.pop("annotations", None)
    found["metadata"] = metadata
    return found


def changes(before: dict[str, Any], after: dict[str, Any], foreign: bool = False) -> list[Change]:
    """The fields in which two states of one object differ, what the server writes left aside.

    A value is masked where it may be a secret: everything of a Secret's content, and an environment value that gives way to
    a reference, or to text with one in it. foreign: `before` was not made from a compiled chart, so whatever of it may hold a
    secret is masked (`MAY_HOLD_SECRETS`).
    """
    secret = before.get("kind") == "Secret" or after.get("kind") == "Secret"
    found = _differences(stable(before), stable(after), ())
    old, new = MAY_HOLD_SECRETS if foreign else CONTENT if secret else (), CONTENT if secret else ()
    return [Change(text(keys), _masked(one, keys, old), _masked(other, keys, new)) for keys, one, other in found]


def differences(before: Json, after: Json) -> list[Change]:
    """The places in which two documents that are no objects differ, such as values."""
    return [Change(text(keys), one, other) for keys, one, other in _differences(before, after, ())]


def _masked(value: Json, keys: tuple[str, ...], where: tuple[str, ...]) -> Json:
    """The value with all that is under one of these keys as `***`."""
    if value is ABSENT or value == MASK:
        return value
    if any(key in where for key in keys):
        return MASK
    if isinstance(value, dict):
        return {key: _masked(item, (key,), where) for key, item in value.items()}
    return [_masked(item, (), where) for item in value] if isinstance(value, list) else value


def _differences(one: Json, other: Json, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Json, Json]]:
    if one == other and isinstance(one, bool) == isinstance(other, bool):
        return
    if isinstance(one, dict) and isinstance(other, dict):
        if keys and _is_env(one, other, keys):
            yield from _env(one, other, keys)
            return
        for key in sorted({*one, *other}):
            yield from _differences(one.get(key, ABSENT), other.get(key, ABSENT), (*keys, key))
    elif isinstance(one, list) and isinstance(other, list):
        yield from _lists(one, other, keys)
    elif not (one is ABSENT and other is ABSENT):
        yield keys, one, other


def _lists(one: list[Any], other: list[Any], keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Json, Json]]:
    names = {identity(items) for items in (one, other) if items}
    name_of = names.pop() if len(names) == 1 else None
    if name_of is None:
        for index in range(max(len(one), len(other))):
            left = one[index] if index < len(one) else ABSENT
            yield from _differences(left, other[index] if index < len(other) else ABSENT, (*keys, str(index)))
        return
    left, right = ({str(item[name_of]): item for item in items} for items in (one, other))
    if [name for name in left if name in right] != [name for name in right if name in left]:
        yield keys, list(left), list(right)  # an init container, or a variable that another one names, has its place
    for name in [*left, *(name for name in right if name not in left)]:
        yield from _differences(left.get(name, ABSENT), right.get(name, ABSENT), (*keys, f"[{name_of}={name}]"))


def _is_env(one: dict[str, Any], other: dict[str, Any], keys: tuple[str, ...]) -> bool:
    return len(keys) >= 2 and keys[-2] == "env" and "name" in one and "name" in other


def _env(one: dict[str, Any], other: dict[str, Any], keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Json, Json]]:
    """An environment variable: one change, whose old text is masked where the new one comes from a Secret."""
    hide = "valueFrom" in other or "$(SECRET_" in str(other.get("value"))
    before, after = copy.copy(one), copy.copy(other)
    if hide and "value" in before:
        before["value"] = MASK
    if "valueFrom" in before or "valueFrom" in after:
        yield keys, {k: v for k, v in before.items() if k != "name"}, {k: v for k, v in after.items() if k != "name"}
    else:
        yield from _differences(before.get("value", ABSENT), after.get("value", ABSENT), (*keys, "value"))
