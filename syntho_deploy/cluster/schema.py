"""The structural schemas of CRDs: which fields one has that another lacks, and what of an object it would prune.

https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#field-pruning
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

PRESERVES = "x-kubernetes-preserve-unknown-fields"
OWN = ("apiVersion", "kind", "metadata")  # which every object has, declared or not

Schema = dict[str, Any]


def lacking(one: Schema, other: Schema, path: str = "") -> Iterator[str]:
    """The fields that `one` takes and `other` does not, the topmost of each branch: `.spec.a[].b`."""
    if other.get(PRESERVES) and not other.get("properties"):
        return
    if one.get(PRESERVES) and not other.get(PRESERVES):
        yield f"{path}.*"
    here, there = one.get("properties") or {}, other.get("properties") or {}
    for name, inner in here.items():
        if name in there:
            yield from lacking(inner, there[name], f"{path}.{name}")
        elif isinstance(other.get("additionalProperties"), dict):
            yield from lacking(inner, other["additionalProperties"], f"{path}.{name}")
        elif not other.get(PRESERVES) and not other.get("additionalProperties"):
            yield f"{path}.{name}"
    for key, mark in (("items", "[]"), ("additionalProperties", ".*")):
        inner, outer = one.get(key), other.get(key)
        if isinstance(inner, dict) and isinstance(outer, dict):
            yield from lacking(inner, outer, f"{path}{mark}")
        elif inner and not outer and not (key == "additionalProperties" and other.get(PRESERVES)):
            yield f"{path}{mark}"


def altered(one: Schema, other: Schema, path: str = "") -> Iterator[str]:
    """The fields that both have and that are not the same, with what differs: `.spec.a (type)`. Descriptions do not count."""
    for key in sorted({*one, *other} - {"properties", "items", "additionalProperties", "description"}):
        if one.get(key) != other.get(key):
            yield f"{path or '.'} ({key})"
    here, there = one.get("properties") or {}, other.get("properties") or {}
    for name in sorted(here.keys() & there.keys()):
        yield from altered(here[name], there[name], f"{path}.{name}")
    for key, mark in (("items", "[]"), ("additionalProperties", ".*")):
        inner, outer = one.get(key), other.get(key)
        if isinstance(inner, dict) and isinstance(outer, dict):
            yield from altered(inner, outer, f"{path}{mark}")


def pruned(value: Any, schema: Schema, path: str = "") -> Iterator[str]:
    """The fields of an object that the API server drops under this schema, the topmost of each branch."""
    if isinstance(value, list):
        for item in value:
            yield from pruned(item, schema.get("items") or {}, f"{path}[]")
    if not isinstance(value, dict):
        return
    known, others = schema.get("properties") or {}, schema.get("additionalProperties")
    own = OWN if not path or schema.get("x-kubernetes-embedded-resource") else ()
    for name, inner in value.items():
        if name in own:
            continue
        if name in known:
            yield from pruned(inner, known[name], f"{path}.{name}")
        elif isinstance(others, dict):
            yield from pruned(inner, others, f"{path}.{name}")
        elif not others and not schema.get(PRESERVES):
            yield f"{path}.{name}"
