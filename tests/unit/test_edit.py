"""Edits of a user's YAML: the one place is as asked for, and no other byte has moved."""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from syntho_deploy import documents, edit
from syntho_deploy.documents import Json, Keys
from syntho_deploy.errors import InputError

REPLACED: dict[str, tuple[str, Keys, Json, str]] = {
    "plain": ("a: b # c\n", ("a",), "d", "a: d # c\n"),
    "a version stays plain": ("a: 1.9.7 # c\n", ("a",), "1.9.8-cpu", "a: 1.9.8-cpu # c\n"),
    "plain that must be quoted": ("a: b # c\n", ("a",), "1.10", 'a: "1.10" # c\n'),
    "double quotes stay": ('a: "1.9.7" # c\n', ("a",), "main", 'a: "main" # c\n'),
    "single quotes stay": ("a: '1.9.7'\n", ("a",), "it's", "a: 'it''s'\n"),
    "a number for a text": ('a: "1"\n', ("a",), 1, "a: 1\n"),
    "in a list of mappings": ("- op: replace\n  value: b # why\n- op: x\n", (0, "value"), "c", "- op: replace\n  value: c # why\n- op: x\n"),
    "in one line": ("a: {b: c, d: e}\n", ("a", "b"), "x, y", 'a: {b: "x, y", d: e}\n'),
    "nothing": ("a: # c\nb: 1\n", ("a",), "d", "a: d # c\nb: 1\n"),
    "a block of text": ("a: |\n  b\n  c\nd: 1\n", ("a",), "e", "a: e\nd: 1\n"),
    "several lines": ("a: b\n", ("a",), "c\nd", 'a: "c\\nd"\n'),
    "windows": ("a: b\r\nc: d\r\n", ("a",), "e", "a: e\r\nc: d\r\n"),
    "byte order mark": ("\ufeffa: b\nc: d\n", ("c",), "e", "\ufeffa: b\nc: e\n"),
    "beyond ASCII": ("é: 😀 # ü\nb: c\n", ("b",), "ö", 'é: 😀 # ü\nb: "ö"\n'),
    "a list in one line": ("a:\n  [b, c] # d\n", ("a",), ["e", "f/g"], "a:\n  [e, f/g] # d\n"),
    "a list of lines": ("a:\n  - b\n  - c\n# d\ne: 1\n", ("a",), ["x", "v", "z"], "a:\n  - x\n  - v\n  - z\n# d\ne: 1\n"),
    "a list of lines to none": ("a:\n  - b\n", ("a",), [], "a:\n  []\n"),
    "a mapping": ("a:\n  b: 1\n\n# c\nd: 2\n", ("a",), {"e": "f"}, "a:\n  {e: f}\n\n# c\nd: 2\n"),
}
REMOVED: dict[str, tuple[str, Keys, str]] = {
    "a line": ("a:\n  b: 1 # c\n  d: 2\n", ("a", "b"), "a:\n  d: 2\n"),
    "lines": ("a:\n  b:\n    - 1\n    - 2 # x\n  d: 2\n", ("a", "b"), "a:\n  d: 2\n"),
    "the last line": ("a: 1\nb: 2", ("b",), "a: 1\n"),
    "the only line": ("a: 1\nb:\n  c: 1\nd: 2\n", ("b", "c"), "a: 1\nb:\nd: 2\n"),
    "first in a line": ("a: {b: 1, c: 2}\n", ("a", "b"), "a: {c: 2}\n"),
    "last in a line": ("a: {b: 1, c: 2}\n", ("a", "c"), "a: {b: 1}\n"),
    "only one in a line": ("a: {b: 1}\n", ("a", "b"), "a: {}\n"),
}
ADDED: dict[str, tuple[str, Keys, Json, str]] = {
    "a line": ("a:\n  b: 1 # c\n\n# d\ne: 2\n", ("a", "f"), "g", "a:\n  b: 1 # c\n  f: g\n\n# d\ne: 2\n"),
    "at the end": ("a:\n  b: 1", ("a", "f"), [1], "a:\n  b: 1\n  f: [1]\n"),
    "in a line": ("a: {b: 1} # c\n", ("a", "f"), "g", "a: {b: 1, f: g} # c\n"),
    "in an empty one": ("a: {} # c\n", ("a", "f"), "g", "a: {f: g} # c\n"),
    "under nothing": ("a: # c\nb: 1\n", ("a", "f"), "g", "a: # c\n  f: g\nb: 1\n"),
    "nothing": ("a: 1\n", ("f",), None, "a: 1\nf:\n"),
    "nothing in a line": ("{a: 1}\n", ("f",), None, "{a: 1, f: null}\n"),
    "at the top": ("a:\n- 1\n", ("f",), {"g": "1"}, 'a:\n- 1\nf: {g: "1"}\n'),
    "to comments": ("# c\n", ("f",), "g", "# c\nf: g\n"),
    "to an empty file": ("", ("f",), "g", "f: g\n"),
    "after a block of text": ("a:\n  b: |\n    c\nd: 1\n", ("a", "f"), "g", "a:\n  b: |\n    c\n  f: g\nd: 1\n"),
}


@pytest.mark.parametrize("case", REPLACED)
def test_a_value_is_replaced(case: str) -> None:
    text, keys, value, wanted = REPLACED[case]
    assert edit.replace(text, keys, value) == wanted


@pytest.mark.parametrize("case", REMOVED)
def test_an_entry_is_removed(case: str) -> None:
    text, keys, wanted = REMOVED[case]
    assert edit.remove(text, keys) == wanted


@pytest.mark.parametrize("case", ADDED)
def test_an_entry_is_added(case: str) -> None:
    text, keys, value, wanted = ADDED[case]
    assert edit.add(text, keys, value) == wanted


def test_an_entry_can_come_first_and_say_why() -> None:
    assert edit.add("a:\n  # b\n  c: 1\n", ("a", "d"), 2, "why", first=True) == "a:\n  # b\n  d: 2 # why\n  c: 1\n"
    assert edit.add("a: {c: 1}\n", ("a", "d"), 2, "why", first=True) == "a: {d: 2, c: 1}\n"


def test_a_key_is_renamed_where_it_stands() -> None:
    assert edit.rename("a:\n  local: x # y\n  b: 1\n", ("a", "local"), "context") == "a:\n  context: x # y\n  b: 1\n"


@pytest.mark.parametrize(
    ("text", "keys"),
    [("a: 1\n", ("b",)), ("a: 1\n", ("a", "b")), ("- a: 1\n  b: 2\n", (0, "a")), ("- 1\n", (3,)), ("", ("a",)), ("a: 1\n", ())],
)
def test_what_cannot_be_done_at_that_place_alone_is_refused(text: str, keys: Keys) -> None:
    with pytest.raises(InputError, match="cannot be edited without touching"):
        edit.remove(text, keys)


def test_a_key_is_not_added_twice_and_an_alias_is_not_followed() -> None:
    with pytest.raises(InputError, match="cannot be edited"):
        edit.add("a: 1\n", ("a",), 2)
    with pytest.raises(InputError, match="aliases"):
        edit.replace("a: &x 1\nb: *x\n", ("a",), 2)


WORDS = st.one_of(st.text(max_size=8), st.sampled_from(["yes", "1.10", "a: b", "# x", "- a", "é", "x\ny\n", " a", "null", "{", "*a"]))
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(-(2**31), 2**31), WORDS)
TREES = st.recursive(LEAVES, lambda item: st.one_of(st.lists(item, max_size=3), st.dictionaries(WORDS, item, max_size=3)), max_leaves=12)
WRITERS = (documents.dump, lambda value: yaml.safe_dump(value, default_flow_style=None, width=40), lambda value: json.dumps(value, indent=2) + "\n")


@st.composite
def places(draw: st.DrawFn) -> tuple[str, Json, Keys]:
    """A document in one of several styles, comments between, and a path in it."""
    data = draw(st.dictionaries(WORDS, TREES, min_size=1, max_size=4))
    text = draw(st.sampled_from(WRITERS))(data)
    try:
        same = documents.load(Path(), text).data == data
    except InputError:  # written as only PyYAML reads it
        same = False
    text, data = (text, data) if same else (documents.dump(data), data)
    keys = draw(st.sampled_from([keys for keys, _ in documents.walk(data) if keys]))
    return f"# first\n{text}# last\n", data, keys


def at(data: Json, keys: Keys) -> Json:
    for key in keys:
        data = data[key]
    return data


def shared(one: str, other: str) -> int:
    """How many characters two texts have in common at their beginnings and at their ends."""
    texts = ((one, other), (one[::-1], other[::-1]))
    return sum(sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(*pair, strict=False))) for pair in texts)


@given(places(), LEAVES)
def test_whatever_the_document_only_the_one_value_changes(place: tuple[str, Json, Keys], value: Json) -> None:
    text, data, keys = place
    wanted = copy.deepcopy(data)
    at(wanted, keys[:-1])[keys[-1]] = value
    try:
        new = edit.replace(text, keys, value)
    except InputError:  # refused is allowed, wrong is not; a scalar is never refused
        assert isinstance(at(data, keys), dict | list)
        return
    assert documents.load(Path(), new).data == wanted
    if not isinstance(at(data, keys), dict | list):
        token = len(json.dumps(at(data, keys))) + 40  # its quotes and escapes, and the lines of a block
        assert len(text) - shared(text, new) <= token


@given(places())
def test_whatever_the_document_a_removal_only_takes_away(place: tuple[str, Json, Keys]) -> None:
    text, data, keys = place
    try:
        new = edit.remove(text, keys)
    except InputError:
        return
    wanted = copy.deepcopy(data)
    del at(wanted, keys[:-1])[keys[-1]]
    found = documents.load(Path(), new).data
    assert found == wanted or not at(wanted, keys[:-1])
    assert shared(text, new) >= len(new)


APPENDED = {
    "lines": ("- op: a\n  v: 1 # c\n# end\n", '- op: a\n  v: 1 # c\n- op: x\n  v: "1.0"\n# end\n'),
    "in one line": ("- {op: a}\n", '- {op: a}\n- {op: x, v: "1.0"}\n'),
    "one flow list": ("[{op: a}] # c\n", '[{op: a}, {op: x, v: "1.0"}] # c\n'),
    "an empty flow list": ("[]\n", '[{op: x, v: "1.0"}]\n'),
    "indented": ("# c\n  -   op: a\n      v: 'b'\n", "# c\n  -   op: a\n      v: 'b'\n  -   op: x\n      v: '1.0'\n"),
    "no line end": ("- op: a", '- op: a\n- op: x\n  v: "1.0"'),
    "windows": ("- op: a\r\n", '- op: a\r\n- op: x\r\n  v: "1.0"\r\n'),
    "only comments": ("# c\n", '# c\n- op: x\n  v: "1.0"\n'),
    "nothing": ("", '- op: x\n  v: "1.0"\n'),
    "byte order mark": ("\ufeff- op: a\n", '\ufeff- op: a\n- op: x\n  v: "1.0"\n'),
}


@pytest.mark.parametrize("case", APPENDED)
def test_an_item_is_appended_as_the_file_writes_items(case: str) -> None:
    text, wanted = APPENDED[case]
    assert edit.append(text, {"op": "x", "v": "1.0"}) == wanted


def test_nothing_is_appended_to_a_mapping() -> None:
    with pytest.raises(InputError, match="cannot be added to"):
        edit.append("a: 1\n", {"op": "x"})
