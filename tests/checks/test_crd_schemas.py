"""The JSON Schemas that are made of CRDs: what they are made of is read without its descriptions, which changes nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from syntho_deploy import documents
from syntho_deploy.checks import schema
from syntho_deploy.errors import InputError

HEAD = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.com}
spec:
  group: example.com
  names: {kind: Thing}
  versions:
  - name: v1
    served: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
"""
PLAIN = {"p": {"type": "string"}, "q": {"type": "integer"}}
DESCRIBED: dict[str, tuple[str, Any]] = {
    "plain": ("p:\n  description: some text\n  type: string\nq:\n  type: integer\n  description: more", PLAIN),
    "folded plain": ("p:\n  description: some text\n    that goes on\n\n    and on\n  type: string\nq: {type: integer}", PLAIN),
    "literal": ("p:\n  description: |-\n    type: null\n\n    description: x\n  type: string\nq: {type: integer}", PLAIN),
    "folded": ("p:\n  description: >-\n    a\n      type: array\n    b\n  type: string\nq: {type: integer}", PLAIN),
    "quoted": ("p:\n  description: 'it''s\n\n    type: array'\n  type: string\nq: {type: integer}", PLAIN),
    "double quoted": ('p:\n  description: "a\n\n    b: [c\\\n    d"\n  type: string\nq: {type: integer}', PLAIN),
    "quoted, in the column of its key": ("p:\n  description: 'one\n  type: ''null'' '\n  type: string\nq: {type: integer}", PLAIN),
    "double quoted, so too": ('p:\n  description: "one \\" \n  two"\n  type: string\nq: {type: integer}', PLAIN),
    "in a text": ('p:\n  type: string\n  title: "one\n    description: two"\nq: {type: integer}', PLAIN),
    "CRLF": ("p:\r\n  description: 'a\r\n\r\n    b'\r\n  type: string\r\nq: {type: integer}\r\n", PLAIN),
    "last line": ("p: {type: string}\nq:\n  type: integer\n  description: the\n    end", PLAIN),
    "alone": ("p:\n  description: anything\nq: {type: integer}", {**PLAIN, "p": {}}),
    "a property of that name": (
        "description:\n  description: a text\n  type: string\nq: {type: integer, description: in braces}",
        {"description": PLAIN["p"], "q": PLAIN["q"]},
    ),
    "one in braces": ("description: {type: string}\nq: {type: integer}", {"description": PLAIN["p"], "q": PLAIN["q"]}),
    "one behind a comment": ("description: # text\n  type: string\nq: {type: integer}", {"description": PLAIN["p"], "q": PLAIN["q"]}),
    "one behind an anchor": ("description: &it\n  type: string\nq: *it", {"description": PLAIN["p"], "q": PLAIN["p"]}),
    "items": (
        "p:\n  type: array\n  items:\n    description: each\n    type: string\nq:\n  anyOf:\n  - description: one\n    type: string",
        {"p": {"type": "array", "items": {"type": "string"}}, "q": {"anyOf": [{"description": "one", "type": "string"}]}},
    ),
}


def made(file: Path, cache: Path) -> dict[str, Any]:
    """The JSON Schemas of a file by `group/version/Kind`."""
    served = schema._served(file, file.stat().st_mtime_ns, cache)
    return {f"{api}/{kind}": json.loads(path.read_text(encoding="utf-8")) for api, kinds in served.items() for kind, path in kinds.items()}


@pytest.mark.parametrize("name", DESCRIBED)
def test_a_description_is_left_out_and_nothing_else(name: str, tmp_path: Path) -> None:
    text, properties = DESCRIBED[name]
    file = tmp_path / "crd.yaml"
    file.write_bytes((HEAD + "".join(f"          {line}" for line in text.splitlines(keepends=True))).encode())
    (found,) = made(file, tmp_path / "cache").values()
    assert {key: value for key, value in found["properties"].items() if key not in ("apiVersion", "kind", "metadata")} == properties


@pytest.mark.parametrize("pattern", [r"^[\w-.]+$", r"^\Qa.b\E$", "a{,5}"])
def test_a_pattern_that_only_go_understands_is_not_looked_at(pattern: str, tmp_path: Path) -> None:
    """https://github.com/google/re2/wiki/Syntax"""
    properties = {"p": {"type": "string", "pattern": pattern}, "q": {"type": "string", "pattern": "^a+$"}}
    crd = {"type": "object", "required": ["p", "p"], "properties": properties}
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(schema.json_schema(crd, top=True)), encoding="utf-8")
    validator = schema._validator_of_crd(file)
    faults = [fault for error in validator.iter_errors({"p": "x", "q": "b", "r": 1}) for fault in schema._of_error(error)]
    assert {(fault.keys, fault.unknown) for fault in faults} == {(("q",), False), (("r",), True)}
    assert [fault.what for error in validator.iter_errors({}) for fault in schema._of_error(error)] == ["'p' is a required property"]


def test_a_schema_that_is_none_is_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "v1.Thing.json"
    file.write_text(json.dumps({"properties": {"p": {"minLength": -1}}}), encoding="utf-8")
    with pytest.raises(InputError, match=r"the CRD of v1\.Thing has a schema that is none, at /properties/p/minLength: -1 "):
        schema._validator_of_crd(file)


@pytest.mark.parametrize("file", sorted(Path(__file__).parents[2].glob("sandbox/charts/*/crds/*")), ids=lambda file: str(file.name))
def test_of_a_whole_crd_the_schema_is_that_of_all_its_text(file: Path, tmp_path: Path) -> None:
    whole = {
        f"{crd['spec']['group']}/{version['name']}/{crd['spec']['names']['kind']}": schema.json_schema(version["schema"]["openAPIV3Schema"], top=True)
        for crd in documents.load_manifests(file.read_text(encoding="utf-8"))
        for version in crd["spec"]["versions"]
        if version["served"]
    }
    assert made(file, tmp_path) == whole
    assert whole
