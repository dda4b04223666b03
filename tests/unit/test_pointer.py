"""JSON Pointers (RFC 6901) and the selectors that we add to them."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syntho_deploy.documents import walk
from syntho_deploy.overlays import pointer

RFC = {"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, 'k"l': 6, " ": 7, "m~n": 8}
POD = {
    "containers": [
        {"name": "core", "image": "a", "ports": [{"port": 80}, {"port": 81, "https": True}]},
        {"name": "side", "image": "b", "env": [{"name": "a/b~c", "value": 1}, {"name": "x=y]", "value": None}]},
    ],
    "hosts": [{"host": "one"}, {"host": "two"}, {"host": "two"}, "text"],
}


def at(document: Any, text: str) -> Any:
    for key in pointer.compile_pointer(document, text)[0]:
        document = document[key]
    return document


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", RFC),
        ("/foo", ["bar", "baz"]),
        ("/foo/0", "bar"),
        ("/", 0),
        ("/a~1b", 1),
        ("/c%d", 2),
        ("/e^f", 3),
        ("/g|h", 4),
        ("/i\\j", 5),
        ('/k"l', 6),
        ("/ ", 7),
        ("/m~0n", 8),
    ],
)
def test_the_examples_of_rfc_6901_section_5(text: str, expected: Any) -> None:
    assert at(RFC, text) == expected


def test_tilde_one_is_unescaped_before_tilde_zero() -> None:
    assert pointer.parse("/~01") == ("~1",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/containers/[name=core]/image", "a"),
        ("/containers/[name=side]/env/[name=a~1b~0c]/value", 1),
        ("/containers/[name=side]/env/[name=x=y]]/value", None),
        ("/containers/[name=core]/ports/[port=81]", {"port": 81, "https": True}),
        ("/containers/[name=core]/ports/[https=true]/port", 81),
        ("/containers/[name=side]/env/[value=null]/name", "x=y]"),
        ("/hosts/[host=one]/host", "one"),
    ],
)
def test_a_selector_finds_the_one_item_with_that_field(text: str, expected: Any) -> None:
    assert at(POD, text) == expected


@pytest.mark.parametrize(
    ("text", "words", "todo"),
    [
        ("containers/0", "does not begin with a slash", "write /containers/0"),
        ("core.image", "does not begin with a slash", "write /core/image"),
        ("/a~2b", "neither ~0 nor ~1", "~1 for /"),
        ("/a~", "neither ~0 nor ~1", "~1 for /"),
        ("/containers/[name=cor]/image", "no item of the list /containers with name=cor", "core, side"),
        ("/containers/[nome=core]", "no item", "no item there has a field nome"),
        ("/hosts/[host=two]", "2 items of the list /hosts", "a field that only one has"),
        ("/containers/2", "has 2 items, so no item 2", ""),
        ("/containers/01", "is no index", "[field=value]"),
        ("/containers/-", "is no index", "[field=value]"),
        ("/containers/-1", "is no index", "[field=value]"),
        ("/containers/" + "9" * 5000, "is no index", ""),
        ("/containers/core", "is no index", "[field=value]"),
        ("/container", 'there is no "/container"', "the nearest path is /containers"),
        ("/containers/0/imge/tag", 'there is no "/containers/0/imge"', "the nearest path is /containers/0/image"),
        ("/containers/0/image/tag", 'there is no "/containers/0/image/tag"', "/containers/0/image"),
    ],
)
def test_a_pointer_that_leads_nowhere_says_what_is_near(text: str, words: str, todo: str) -> None:
    with pytest.raises(pointer.PointerError) as caught:
        pointer.compile_pointer(POD, text)
    assert words in str(caught.value)
    assert todo in caught.value.todo


def test_an_addition_may_name_what_is_not_there_yet_at_the_end_only() -> None:
    assert pointer.compile_pointer(POD, "/hosts/-", adding=True) == (("hosts", 4), [])
    assert pointer.compile_pointer(POD, "/hosts/4", adding=True) == (("hosts", 4), [("hosts", 4)])
    assert pointer.compile_pointer(POD, "/new", adding=True)[0] == ("new",)
    for text in ("/hosts/5", "/new/deeper", "/hosts/-/x"):
        with pytest.raises(pointer.PointerError):
            pointer.compile_pointer(POD, text, adding=True)


def test_only_indexes_that_were_written_as_numbers_are_told() -> None:
    assert pointer.compile_pointer(POD, "/containers/[name=core]/ports/1/port")[1] == [("containers", 0, "ports", 1)]


KEYS = st.one_of(st.text(max_size=4), st.text(alphabet="~/01[]=-", max_size=4))
DOCUMENTS = st.recursive(st.integers(), lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)), max_leaves=10)


@given(DOCUMENTS)
def test_every_path_of_a_document_survives_being_written(document: Any) -> None:
    for keys, value in walk(document):
        found, _ = pointer.compile_pointer(document, pointer.text(keys))
        assert found == keys
        assert at(document, pointer.text(keys)) == value


@given(DOCUMENTS, st.one_of(st.text(max_size=8), st.text(alphabet="~/01[]=-a", max_size=8)))
def test_any_text_is_a_path_or_a_sentence(document: Any, text: str) -> None:
    with suppress(pointer.PointerError):  # anything else is a traceback
        at(document, text)


def test_the_nearest_path_of_a_key_that_moved_is_the_one_that_ends_with_it() -> None:
    document = {"ray-cluster": {"more": {"head": 1}, "head": {"image": "x"}}, "worker": 1}
    assert pointer.nearest_path(document, ("head",)) == "/ray-cluster/head"
    assert pointer.nearest_path(document, ("nothing-like-it",)) == ""
