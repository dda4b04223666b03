"""Overlay operations: RFC 6902 as it stands, and our strict rules around it."""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import jsonpatch
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from syntho_deploy import documents
from syntho_deploy.documents import walk
from syntho_deploy.errors import InputError, InputErrors, Mark, raise_all
from syntho_deploy.helm import Helm
from syntho_deploy.overlays import patch, pointer
from syntho_deploy.overlays.origins import Layers, Operation
from syntho_deploy.overlays.patch import apply, load_manifest_patches, load_operations, load_values_patch
from syntho_deploy.overlays.variables import substitute
from tests.conftest import write_files

FILE = Path("/nowhere/core.values.yaml")
VARIABLES: dict[str, Any] = {"host": "h.example.com", "port": 5432, "on": True, "half": 0.5, "list": [1, {"a": "b"}]}


def lookup(name: str, where: Mark) -> Any:
    if name not in VARIABLES:
        raise InputError(f'there is no variable "{name}"', where)
    return VARIABLES[name]


def operations(text: str) -> list[Operation]:
    errors: list[InputError] = []
    found = load_operations(documents.load(FILE, text), (), errors)
    raise_all(errors)
    return found


def patched(document: Any, text: str, layer: str = "dev", layers: Layers | None = None, values: bool = True) -> Any:
    errors: list[InputError] = []
    result, plain = apply(document, operations(text), lookup, layer, layers or Layers(), errors, values)
    raise_all(errors)
    assert jsonpatch.apply_patch(document, plain) == result
    return result


def refusal(document: Any, text: str, **more: Any) -> InputError:
    before = copy.deepcopy(document)
    with pytest.raises(InputError) as caught:
        patched(document, text, **more)
    assert document == before
    return caught.value


def flow(*items: dict[str, Any]) -> str:
    return yaml.safe_dump(list(items), sort_keys=False)


# The situations of RFC 6902 appendix A, with data of our own; None: the RFC wants an error.
APPENDIX: dict[str, tuple[Any, str, Any]] = {
    "A.1 a member": ({"a": 1}, "[{op: add, path: /b, value: 2}]", {"a": 1, "b": 2}),
    "A.2 an element": ({"l": ["a", "c"]}, "[{op: add, path: /l/1, value: b}]", None),
    "A.2 an element, vouched": ({"l": ["a", "c"]}, "[{op: test, path: /l/1, value: c}, {op: add, path: /l/1, value: b}]", {"l": ["a", "b", "c"]}),
    "A.3 removes a member": ({"a": 1, "b": 2}, "[{op: remove, path: /a}]", {"b": 2}),
    "A.4 removes an element": ({"l": ["a", "x", "b"]}, "[{op: test, path: /l/1, value: x}, {op: remove, path: /l/1}]", {"l": ["a", "b"]}),
    "A.5 replaces": ({"a": 1, "b": 2}, "[{op: replace, path: /a, value: new}]", {"a": "new", "b": 2}),
    "A.6 moves a value": ({"a": {"x": 1, "y": 2}, "b": {}}, "[{op: move, from: /a/x, path: /b/z}]", {"a": {"y": 2}, "b": {"z": 1}}),
    "A.7 moves an element": (
        {"l": ["all", "grass", "cows", "eat"]},
        "[{op: test, path: /l/1, value: grass}, {op: test, path: /l/3, value: eat}, {op: move, from: /l/1, path: /l/3}]",
        {"l": ["all", "cows", "eat", "grass"]},
    ),
    "A.8 a test that holds": (
        {"a": "x", "l": [1, "b", 3]},
        "[{op: test, path: /a, value: x}, {op: test, path: /l/1, value: b}]",
        {"a": "x", "l": [1, "b", 3]},
    ),
    "A.9 a test that fails": ({"a": "x"}, "[{op: test, path: /a, value: y}]", None),
    "A.10 a nested member": ({"a": 1}, "[{op: add, path: /b, value: {c: {}}}]", {"a": 1, "b": {"c": {}}}),
    "A.11 an unknown member is an error here": ({"a": 1}, "[{op: add, path: /b, value: 2, xyz: 3}]", None),
    "A.12 no parent": ({"a": 1}, "[{op: add, path: /b/c, value: 2}]", None),
    "A.13 an operation twice": ({"a": 1}, "[{op: add, path: /b, value: 2, op: remove}]", None),
    "A.14 escapes": ({"/": 9, "~1": 10}, "[{op: test, path: /~01, value: 10}]", {"/": 9, "~1": 10}),
    "A.15 text is no number": ({"a": 10}, '[{op: test, path: /a, value: "10"}]', None),
    "A.16 a list appended": ({"l": ["a"]}, "[{op: add, path: /l/-, value: [b, c]}]", {"l": ["a", ["b", "c"]]}),
    "4.1 add replaces a member": ({"a": 1}, "[{op: add, path: /a, value: null}]", {"a": None}),
    "4.1 the whole document": ({"a": 1}, '[{op: add, path: "", value: {b: 1}}]', {"b": 1}),
    "4.2 nothing is left": ({"a": 1}, '[{op: remove, path: ""}]', None),
    "4.3 the whole document": ({"a": 1}, '[{op: replace, path: "", value: [1]}]', [1]),
    "4.4 into itself": ({"a": {"b": 1}}, "[{op: move, from: /a, path: /a/b}]", None),
    "4.4 to the end of its list": ({"l": [{"n": "a"}, {"n": "b"}]}, '[{op: move, from: "/l/[n=a]", path: /l/-}]', {"l": [{"n": "b"}, {"n": "a"}]}),
    "4.5 copy": ({"a": {"b": [1]}}, "[{op: copy, from: /a, path: /c}, {op: add, path: /c/b/-, value: 2}]", {"a": {"b": [1]}, "c": {"b": [1, 2]}}),
    "4.5 copy of all": ({"a": 1}, '[{op: copy, from: "", path: /c}]', {"a": 1, "c": {"a": 1}}),
    "4.6 numbers by value": ({"a": 1, "b": [1.0]}, "[{op: test, path: /a, value: 1.0}, {op: test, path: /b, value: [1]}]", {"a": 1, "b": [1.0]}),
    "4.6 true is not 1": ({"a": True}, "[{op: test, path: /a, value: 1}]", None),
    "4.6 0 is not false, deep down": ({"a": [{"b": 0}]}, "[{op: test, path: /a, value: [{b: false}]}]", None),
    "4.6 null": ({"a": None}, "[{op: test, path: /a, value: null}]", {"a": None}),
    "4.6 null is not absent": ({}, "[{op: test, path: /a, value: null}]", None),
    "4.6 the whole document": ({"a": 1}, '[{op: test, path: "", value: {a: 1}}]', {"a": 1}),
}


@pytest.mark.parametrize("case", APPENDIX)
def test_the_situations_of_rfc_6902(case: str) -> None:
    document, text, expected = APPENDIX[case]
    if expected is None:
        assert refusal(document, text).exit_code == 3
    else:
        assert documents.canonical(patched(document, text)) == documents.canonical(expected)


CHART = {
    "core": {"image": {"tag": "latest"}, "replicas": 1},
    "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}, {"name": "C", "value": "3"}],
    "a/b": {"m~n": 0},
}
STRICT = {
    "replace of nothing": ("- {op: replace, path: /core/image/tga, value: x}", 1, 'no "/core/image/tga"', "/core/image/tag"),
    "replace of nothing, what to do": ("- {op: replace, path: /core/image/tga, value: x}", 1, "", "use op: add"),
    "remove of nothing": ("\n- {op: remove, path: /cor}", 2, 'no "/cor"', "/core"),
    "test of nothing": ("- {op: test, path: /core/replica, value: 1}", 1, "test:", "/core/replicas"),
    "an escaped path": ("- {op: replace, path: /a~1b/m~0, value: x}", 1, "", "/a~1b/m~0n"),
    "an unknown member": ("- {op: remove, path: /core, wy: x}", 1, 'no key "wy"; did you mean "why"', "known keys"),
    "an unknown operation": ("- {op: replce, path: /core, value: x}", 1, 'did you mean "replace"', "one of add"),
    "no operation": ("- {path: /core}", 1, 'needs the key "op"', ""),
    "no path": ("- {op: remove}", 1, 'needs "path"', ""),
    "no value": ("- {op: add, path: /x}", 1, 'needs "value"', ""),
    "no from": ("- {op: move, path: /x}", 1, 'needs "from"', ""),
    "a value too many": ("- {op: remove, path: /core, value: 1}", 1, 'takes no "value"', ""),
    "a from too many": ("- {op: add, path: /x, from: /core, value: 1}", 1, 'takes no "from"', ""),
    "a null path": ("- {op: remove, path: }", 1, "a path must be text", 'write ""'),
    "a number as path": ("- {op: remove, path: 1}", 1, 'must be text ("1" in quotes)', ""),
    "overrides as text": ("- {op: remove, path: /core, overrides: 'yes'}", 1, "must be true or false", ""),
    "no mapping": ("- add", 1, "must be a mapping", ""),
    "no list": ("op: add", 1, "must be a list of operations", "- op: replace"),
    "a move into itself": ("- {op: move, from: /core, path: /core/image/x}", 1, "nothing moves into itself", "copy it there"),
    "a path with an open reference": ("- {op: add, path: '/core/${host', value: 1}", 1, '"${host" has no end', "close it"),
    "a bare index": ("- {op: replace, path: /env/1/value, value: x}", 1, "nothing says which item /env/1 is", "[name=…]"),
    "a bare index in from": ("- {op: copy, from: /env/1, path: /x}", 1, "nothing says which item /env/1 is", "op: test on /env/1"),
    "a test of another index": ("- {op: test, path: /env/0/name, value: A}\n- {op: remove, path: /env/1}", 2, "nothing says which", ""),
    "a test that another item has moved to": (
        '- {op: test, path: /env/1/name, value: B}\n- {op: remove, path: "/env/[name=A]"}\n- {op: remove, path: /env/1}',
        3,
        "nothing says which",
        "",
    ),
    "a test that fails": ("- {op: test, path: /core/replicas, value: 2}", 1, "it is 1", "review this file"),
    "a large number": (
        "- {op: add, path: /x, value: {y: [20230308]}}",
        1,
        "Helm prints the number 20230308 at /y/0 as 2.023031e+07",
        'quote it: "20230308"',
    ),
    "a large negative number": ("- {op: add, path: /x, value: -1000000}", 1, "Helm prints", "quote it"),
    "a large fraction": ("- {op: add, path: /x, value: 1234567.5}", 1, "Helm prints", "quote it"),
    "a tiny fraction": ("- {op: add, path: /x, value: 0.00001}", 1, "as 1.000000e-05", "quote it"),
    "an exponent": ("- {op: add, path: /x, value: 1e3}", 1, "read as different values", "quote it"),
    "an unknown variable": ("- {op: add, path: /x, value: {y: 'a${hsot}'}}", 1, 'no variable "hsot"', ""),
    "a duplicate key": ("- op: add\n  path: /x\n  path: /y\n  value: 1", 3, '"path" stands twice, first in line 2', ""),
    "an index past the end": ("- {op: add, path: /env/4, value: x}", 1, "has 3 items, so no item 4", ""),
    "no such item": ("- {op: remove, path: '/env/[name=D]'}", 1, "name=D", "A, B, C"),
}


@pytest.mark.parametrize("case", STRICT)
def test_a_strict_rule_names_line_and_what_to_do(case: str) -> None:
    text, line, words, todo = STRICT[case]
    error = refusal(CHART, text)
    first = error.errors[0] if isinstance(error, InputErrors) else error
    assert isinstance(first.where, Mark)
    assert (first.where.path, first.where.line) == (str(FILE), line)
    assert words in str(first)
    assert todo in first.todo


@pytest.mark.parametrize("number", [999_999, -999_999, 0.0001, 0, 0.5, 123456.75])
def test_numbers_that_helm_prints_plainly_may_stay_bare_and_others_not(helm: Helm, tmp_path: Path, number: float) -> None:
    chart = {
        "Chart.yaml": "apiVersion: v2\nname: c\nversion: 0.1.0\n",
        "templates/a.yaml": "x: {{ quote .Values.n }}\nz: {{ quote .Values.large }}\n",
    }
    text = helm.template(write_files(tmp_path / "c", chart), {"n": number, "large": patch.UNQUOTED_LIMIT}, "r", "n", "1.31")
    found = documents.load_manifests(text)[0]
    assert float(found["x"]) == number
    assert "e" not in found["x"]
    assert "e+" in found["z"]
    patched({}, flow({"op": "add", "path": "/n", "value": number}))


def test_a_large_number_is_fine_in_a_manifest_which_helm_does_not_print() -> None:
    assert patched({}, "- {op: add, path: /x, value: 20230308}", values=False) == {"x": 20230308}


def test_all_faults_of_a_file_come_at_once_and_nothing_is_applied() -> None:
    text = "- {op: add, path: /x, value: 1}\n- {op: remove, path: /y}\n- {op: add, path: /core/x, value: '${no}'}\n- {op: remove, path: /env/0}"
    error = refusal(CHART, text)
    assert isinstance(error, InputErrors)
    assert [item.where.line for item in error.errors if isinstance(item.where, Mark)] == [2, 3, 4]
    faults = "- {op: ad, path: /x, value: 1}\n- {op: remove}\n- {path: /x}\n"
    with pytest.raises(InputErrors) as caught:
        operations(faults)
    assert [item.where.line for item in caught.value.errors if isinstance(item.where, Mark)] == [1, 2, 3]


# --- layers -----------------------------------------------------------------------------------------------------------

CLASHES = {
    "the same path": ("- {op: replace, path: /core/replicas, value: 2}", "- {op: replace, path: /core/replicas, value: 3}", "this path was set by"),
    "above": ("- {op: replace, path: /core, value: {}}", "- {op: add, path: /core/x, value: 3}", "/core, above it, was set by"),
    "below": ("- {op: replace, path: /core/replicas, value: 2}", "- {op: remove, path: /core}", "a path below it was set by"),
    "the whole": ("- {op: replace, path: /core/replicas, value: 2}", '- {op: replace, path: "", value: {}}', "a path below it was set by"),
    "moved away": ("- {op: replace, path: /core/replicas, value: 2}", "- {op: move, from: /core/replicas, path: /x}", "this path was set by"),
    "what was removed": ("- {op: remove, path: /core/replicas}", "- {op: add, path: /core/replicas, value: 3}", "this path was set by"),
    "an item by its name": ("- {op: replace, path: '/env/[name=B]/value', value: x}", "- {op: remove, path: '/env/[name=B]'}", "a path below it"),
    "an item that moved": (
        "- {op: replace, path: '/env/[name=C]/value', value: x}\n- {op: remove, path: '/env/[name=A]'}",
        "- {op: replace, path: '/env/[name=C]/value', value: y}",
        "this path was set by",
    ),
    "an item that made room": (
        "- {op: replace, path: '/env/[name=A]/value', value: x}\n- {op: test, path: /env/0/name, value: A}\n- {op: add, path: /env/0, value: {}}",
        "- {op: remove, path: '/env/[name=A]'}",
        "a path below it was set by",
    ),
    "a list that lost an item": ("- {op: remove, path: '/env/[name=A]'}", "- {op: replace, path: /env, value: []}", "a path below it was set by"),
}


@pytest.mark.parametrize("case", CLASHES)
def test_a_later_layer_sets_a_path_again_only_when_it_says_so(case: str) -> None:
    first, second, words = CLASHES[case]
    layers = Layers()
    document = patched(CHART, first, "one", layers)
    error = refusal(document, second, layer="two", layers=copy.deepcopy(layers))
    assert words in str(error)
    assert f"{FILE}:1" in str(error)
    assert "overrides: true" in error.todo
    patched(document, second.replace("- {", "- {overrides: true, "), "two", layers)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("- {op: add, path: /env/-, value: {name: X}}", "- {op: add, path: /env/-, value: {name: Y}}"),
        ("- {op: remove, path: '/env/[name=A]'}", "- {op: remove, path: '/env/[name=B]'}"),
        ("- {op: remove, path: '/env/[name=A]'}", "- {op: replace, path: '/env/[name=B]/value', value: x}"),
        ("- {op: replace, path: '/env/[name=B]/value', value: x}", "- {op: replace, path: '/env/[name=C]/value', value: x}"),
        ("- {op: move, from: '/env/[name=A]', path: /env/-}", "- {op: replace, path: '/env/[name=B]/value', value: x}"),
        ("- {op: add, path: /core/one, value: 1}", "- {op: add, path: /core/two, value: 2}"),
        ("- {op: test, path: /core/replicas, value: 1}", "- {op: replace, path: /core/replicas, value: 2}"),
    ],
)
def test_layers_that_touch_different_things_do_not_clash(first: str, second: str) -> None:
    layers = Layers()
    patched(patched(CHART, first, "one", layers), second, "two", layers)


def test_one_layer_may_set_a_path_twice() -> None:
    text = "- {op: replace, path: /core, value: {a: []}}\n- {op: add, path: /core/a/-, value: 1}\n- {op: replace, path: /core, value: 2}"
    assert patched(CHART, text)["core"] == 2


def test_a_failed_test_names_the_line_that_set_what_is_there() -> None:
    layers = Layers()
    document = patched(CHART, "\n- {op: replace, path: /core/replicas, value: 2}", "one", layers)
    error = refusal(document, "- {op: test, path: /core/replicas, value: 1}", layer="two", layers=layers)
    assert error.what == f"the test of /core/replicas failed: it is 2, set by {FILE}:2:3"
    assert error.todo == "correct one of the two"
    error = refusal(CHART, "- {op: test, path: /core/replicas, value: 7}")
    assert (error.what, error.todo) == ("the test of /core/replicas failed: it is 1", "the chart changed: review this file")


# --- variables --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${port}", 5432),
        ("${on}", True),
        ("${half}", 0.5),
        ("${host}", "h.example.com"),
        (" ${port}", " 5432"),
        ("${port}${port}", "54325432"),
        ("is ${on}", "is true"),
        ("https://${host}:${port}/", "https://h.example.com:5432/"),
        ("$${port}", "${port}"),
        ("$$${port}", "$${port}"),
        ("a$${b}${port}", "a${b}5432"),
        ("$port $(port) ${", "$port $(port) ${"),
        ("$$", "$$"),
        ("${list}", [1, {"a": "b"}]),
    ],
)
def test_a_variable_alone_keeps_its_type_and_in_text_becomes_text(text: str, expected: Any) -> None:
    found = patched({}, flow({"op": "add", "path": "/x", "value": {"deep": [text]}}))["x"]["deep"][0]
    assert documents.canonical(found) == documents.canonical(expected)


def test_a_value_that_a_variable_gave_is_not_shared() -> None:
    result = patched({}, "- {op: add, path: /x, value: '${list}'}\n- {op: add, path: /x/-, value: 2}")
    assert result["x"] == [*VARIABLES["list"], 2]
    assert VARIABLES["list"] == [1, {"a": "b"}]


def test_a_key_may_hold_a_variable_and_two_may_not_become_one() -> None:
    values = {"a": "x", "b": "x"}
    assert substitute({"${a}.y": ["${b}"], "$${k}": 1}, lambda name, where: values[name], Mark("f")) == {"x.y": ["x"], "${k}": 1}
    with pytest.raises(InputError, match="become the same"):
        substitute({"${a}": 1, "${b}": 2}, lambda name, where: values[name], Mark("f"))


@pytest.mark.parametrize("value", ["${host", "a ${host b", {"x": ["${secret:a.b"]}, {"${host": 1}])
def test_a_reference_without_an_end_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match="has no end"):
        substitute(value, lambda name, where: "x", Mark("f"))


def test_a_mapping_inside_a_text_is_refused() -> None:
    assert "no text can hold" in str(refusal({}, "- {op: add, path: /x, value: 'a ${list}'}"))


# --- what comes out is plain RFC 6902 ---------------------------------------------------------------------------------

KEYS = st.sampled_from(["a", "b", "c", "/", "~", "~1", "", "0"])
VALUES = st.recursive(
    st.one_of(st.integers(0, 3), st.booleans(), st.none(), st.text(alphabet="ab", max_size=2)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=8,
)


@settings(max_examples=150)
@given(st.dictionaries(KEYS, VALUES, max_size=4), st.data())
def test_plain_operations_do_the_same_to_the_original(document: Any, data: st.DataObject) -> None:
    items: list[dict[str, Any]] = []
    for _ in range(data.draw(st.integers(1, 6))):
        paths = [pointer.text(keys) for keys, _ in walk(document)]
        path = data.draw(st.sampled_from([*paths, *(f"{path}/-" for path in paths), *(f"{path}/new" for path in paths)]))
        items.append(
            {
                "op": data.draw(st.sampled_from(list(patch.NEEDS))),
                "path": path,
                "from": data.draw(st.sampled_from(paths)),
                "value": data.draw(VALUES),
            }
        )
    ours = [{"op": item["op"], **{member: item[member] for member in patch.NEEDS[item["op"]]}} for item in items]
    errors: list[InputError] = []
    before = copy.deepcopy(document)
    result, plain = apply(document, operations(yaml.safe_dump(ours)), lookup, "dev", Layers(), errors, True)
    assert documents.canonical(document) == documents.canonical(before)
    assert all(str(error) for error in errors)
    assert documents.canonical(jsonpatch.apply_patch(document, plain)) == documents.canonical(result)


# --- manifests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("- target: {kind: Service}\n", 1, 'one of "patch" and "delete: true"'),
        ("- target: {kind: Service}\n  patch:\n", 1, 'one of "patch" and "delete: true"'),
        ("- target: {kind: Service}\n  delete: true\n  patch: []\n", 1, 'one of "patch" and "delete: true"'),
        ("- target: {nme: a, kind: Service}\n  delete: true\n", 1, 'did you mean "name"'),
        ("- target: {name: a}\n  delete: true\n", 1, 'needs the key "kind"'),
        ("- delete: true\n", 1, 'needs the key "kind"'),
        ("- target: {kind: Service}\n  patch:\n    - op: replace\n      path: /x\n", 3, 'needs "value"'),
        ("- target: {kind: Service}\n  delte: true\n  patch: []\n", 2, 'did you mean "delete"'),
        ("target: {}\n", 1, "must be a list of targets"),
        ("", 1, "must be a list of targets"),
    ],
)
def test_a_wrong_manifest_patch_names_its_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    file = write_files(tmp_path, {"x.yaml": text}) / "x.yaml"
    with pytest.raises(InputError) as caught:
        load_manifest_patches(file)
    first = caught.value.errors[0] if isinstance(caught.value, InputErrors) else caught.value
    assert isinstance(first.where, Mark)
    assert first.where.line == line
    assert words in str(first)


def test_files_of_operations_are_read_whole(tmp_path: Path) -> None:
    write_files(tmp_path, {"v.yaml": "# nothing\n", "m.yaml": "- target: {kind: A, name: b}\n  why: x\n  patch: [{op: remove, path: /x, why: y}]\n"})
    assert list(load_values_patch(tmp_path / "v.yaml")) == []
    (found,) = load_manifest_patches(tmp_path / "m.yaml")
    assert (found.kind, found.name, found.delete, [item.why for item in found.operations]) == ("A", "b", False, ["y"])


def test_an_empty_operation_is_none(tmp_path: Path) -> None:
    file = tmp_path / "ray.values.yaml"
    file.write_text('- {op: "", path: /a, value: 1}\n')
    with pytest.raises(InputError, match='"" is no operation'):
        load_values_patch(file)


MANY = 2500
START = {"l": [{"name": "last"}], **{f"x{number}": number for number in range(MANY)}}
FIRST = ["last", *(f"n{number}" for number in range(MANY - 1))]
GROWING = {
    "appended": [("add", "/l/-", "", {"name": f"n{number}"}) for number in range(MANY)],
    "inserted before the first": [("add", f"/l/[name={item}]", "", {"name": f"n{number}"}) for number, item in enumerate(FIRST)],
    "moved": [("move", f"/y{number}", f"/x{number}", None) for number in range(MANY)],
    "copied": [("copy", f"/y{number}", f"/x{number}", None) for number in range(MANY)],
    "set below one that was set": [("add", f"/l/[name=last]/v{number}", "", number) for number in range(MANY)],
}


@pytest.mark.parametrize("kind", GROWING)
def test_an_operation_costs_the_same_after_thousands_of_others(kind: str) -> None:
    wanted = [Operation(op, path, Mark("f", number), value, source) for number, (op, path, source, value) in enumerate(GROWING[kind])]
    errors: list[InputError] = []
    begun = time.process_time()
    _, plain = apply(START, wanted, lambda name, where: None, "dev", Layers(), errors, True)
    assert time.process_time() - begun < 1.5  # most take a tenth of a second; what grows with the square takes several
    assert (errors, len(plain)) == ([], MANY)
