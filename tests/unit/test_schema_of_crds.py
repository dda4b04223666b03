"""Which fields a schema lacks, and what it drops of an object."""

from __future__ import annotations

from typing import Any

import pytest

from syntho_deploy.cluster.schema import PRESERVES, lacking, pruned

Schema = dict[str, Any]
TEXT = {"type": "string"}
OPEN = {"type": "object", PRESERVES: True}


def record(**fields: Schema) -> Schema:
    return {"type": "object", "properties": fields}


def several(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def named(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}


@pytest.mark.parametrize(
    ("one", "other", "fields"),
    [
        (record(a=TEXT), record(a=TEXT), []),
        (record(a=TEXT, b=record(c=TEXT)), record(a=TEXT), [".b"]),
        (record(a=record(b=TEXT, c=TEXT)), record(a=record(c=TEXT)), [".a.b"]),
        (record(a=several(record(b=TEXT))), record(a=several(record())), [".a[].b"]),
        (record(a=named(record(b=TEXT))), record(a=named(record())), [".a.*.b"]),
        (record(a=TEXT), OPEN, []),
        (record(a=TEXT), named(TEXT), []),
        (record(a=record(b=TEXT)), record(a=OPEN), []),
        (record(a=OPEN), record(a=record(b=TEXT)), [".a.*"]),
        (record(a=named(TEXT)), record(a=record()), [".a.*"]),
        (record(a=named(TEXT)), record(a=OPEN), []),
    ],
)
def test_a_schema_lacks_the_topmost_of_each_branch(one: Schema, other: Schema, fields: list[str]) -> None:
    assert list(lacking(one, other)) == fields


@pytest.mark.parametrize(
    ("value", "schema", "fields"),
    [
        ({"apiVersion": "v1", "kind": "A", "metadata": {"x": 1}}, record(), []),
        ({"spec": {"a": "1", "b": "2"}}, record(spec=record(a=TEXT)), [".spec.b"]),
        ({"spec": {"metadata": {"a": "1"}}}, record(spec=record()), [".spec.metadata"]),
        ({"spec": [{"a": "1"}, {"b": "2"}]}, record(spec=several(record(a=TEXT))), [".spec[].b"]),
        ({"spec": {"x": {"a": "1"}}}, record(spec=named(record())), [".spec.x.a"]),
        ({"spec": {"x": {"a": "1"}}}, record(spec=OPEN), []),
        ({"spec": {"x": {"a": "1"}}}, record(spec={**OPEN, "properties": {"x": record()}}), [".spec.x.a"]),
        ({"spec": {"kind": "B", "metadata": {}}}, record(spec={**record(), "x-kubernetes-embedded-resource": True}), []),
        ({"spec": None}, record(spec=record()), []),
    ],
)
def test_what_is_dropped_is_what_no_schema_declares(value: Any, schema: Schema, fields: list[str]) -> None:
    assert list(pruned(value, schema)) == fields
