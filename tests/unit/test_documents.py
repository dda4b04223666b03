"""YAML: a user's file is read strictly, a chart as the real helm reads it, and what we write everybody reads alike."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from syntho_deploy import documents
from syntho_deploy.errors import InputError, InputErrors, Mark
from syntho_deploy.helm import Helm
from tests.conftest import bare_template, rendered_json, write_files

FILE = Path("/nowhere/a.yaml")
CHART = "apiVersion: v2\nname: c\nversion: 0.1.0\n"


def refusal(text: str) -> InputError:
    with pytest.raises(InputError) as caught:
        documents.load(FILE, text)
    return caught.value


REFUSED = {
    "duplicate key": ("a: 1\nb: 2\na: 3\n", 3, 1, "first in line 1"),
    "nested duplicate key": ("a:\n  b: 1\n  b: 2\n", 3, 3, 'the key "b" stands twice'),
    "two documents": ("a: 1\n---\nb: 2\n", 2, 1, "another document"),
    "broken": ("a: [1\n", 2, 1, "broken YAML"),
    "tab": ("a:\n\t- b\n", 2, 1, "broken YAML"),
    "tag": ("a: !foo b\n", 1, 4, "tag !foo"),
    "tag of a type": ('a: !!int "1"\n', 1, 4, "no meaning here"),
    "tag of a list": ("a: !x [b]\n", 1, 4, "tag !x"),
    "merge key": ("a: &x {b: 1}\nc:\n  <<: *x\n", 3, 3, "merge keys"),
    "list as key": ("? [a]\n: b\n", 1, 3, "a key must be a word"),
    "alias in itself": ("a: &x [*x]\n", 1, 4, "contains itself"),
    "unknown alias": ("a: *x\n", 1, 4, "alias"),
    "yes": ("a:\n  - yes\n", 2, 5, 'quote it: "yes"'),
    "long whole number": (f"a: {'1' * 5000}\n", 1, 4, "read as different values"),
    "endless number": (f"a: {'1' * 400}.0\n", 1, 4, "read as different values"),
    "deep": (f"a: {'[' * 200}{']' * 200}\n", 1, 0, "nested more than"),
    "deeper than the stack": ("[" * 100_000, 1, 0, "nested more than"),
    "deep by aliases": ("- &a0 [x]\n" + "".join(f"- &a{i} [*a{i - 1}]\n" for i in range(1, 150)), 1, 0, "aliases repeat"),
    "wide by aliases": (
        "- &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(f"- &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)),
        1,
        0,
        "aliases repeat",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_names_the_place(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "NODE_LIMIT", 20_000)
    text, line, column, words = REFUSED[case]
    error = refusal(text)
    assert error.exit_code == 3
    assert words in str(error)
    assert isinstance(error.where, Mark)
    assert error.where.path == str(FILE)
    if column:
        assert (error.where.line, error.where.column) == (line, column)


DOUBTFUL = "no On OFF 010 0o17 0O17 0x1F 0b1 1_000 1e3 1E+3 1.5e3 .5 5. 0777 08 .inf -.INF .nan 00 +010"


@pytest.mark.parametrize("text", DOUBTFUL.split())
def test_what_programs_read_differently_is_to_be_quoted(text: str) -> None:
    assert f'quote it: "{text}"' in str(refusal(f"a: {text}"))
    assert documents.load(FILE, f'a: "{text}"').data == {"a": text}


TYPES: dict[str, Any] = {
    "true": True,
    "False": False,
    "null": None,
    "~": None,
    "": None,
    "0": 0,
    "-1": -1,
    "+7": 7,
    "1.5": 1.5,
    "-0.25": -0.25,
    "32G": "32G",
    "y": "y",
    "2024-01-01": "2024-01-01",
    "1.28.1": "1.28.1",
    "7.2-rc2": "7.2-rc2",
    "'1'": "1",
    '"true"': "true",
    "a b": "a b",
    "tRUE": "tRUE",
    "[1, a]": [1, "a"],
    "{}": {},
    "10.0.0.0/8": "10.0.0.0/8",
    "18446744073709551615": 18446744073709551615,
}


@pytest.mark.parametrize("text", TYPES)
def test_a_plain_value_has_the_type_that_all_agree_on(text: str) -> None:
    found = documents.load(FILE, f"a: {text}\n").data["a"]
    assert (type(found), found) == (type(TYPES[text]), TYPES[text])


def test_all_faults_of_a_file_are_told_at_once() -> None:
    error = refusal("a: yes\nb: 1\nb: 2\nc: 010\n")
    assert isinstance(error, InputErrors)
    assert [item.where.line for item in error.errors if isinstance(item.where, Mark)] == [1, 3, 4]


def test_a_mark_is_the_key_of_a_block_and_the_place_of_a_value() -> None:
    document = documents.load(FILE, "a:\n  - b: 1\n    c: x\n")
    assert [document.mark(*keys).line for keys in (("a",), ("a", 0), ("a", 0, "c"))] == [1, 2, 3]
    assert document.mark("a", 0, "c").column == 8
    assert document.mark("a", 0, "none", "of", "these") == document.mark("a", 0)


@pytest.mark.parametrize(("content", "words"), [(None, "does not exist"), (b"a: \xff\n", "not UTF-8"), ("folder", "cannot be read")])
def test_an_unreadable_file_is_a_sentence(tmp_path: Path, content: bytes | str | None, words: str) -> None:
    path = tmp_path / "a.yaml"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        path.mkdir()
    with pytest.raises(InputError, match=words):
        documents.load(path)


YAML_PIECES = st.lists(
    st.sampled_from(
        [*"[]{}:,-?&*!|>'\"%@`#\n \t~<0", "\n- ", "\na: ", ": ", "<<: *a", "&a ", "*a", "---", "...", "!!str ", "\\ud800", "\0", "\x85", "é"]
    ),
    max_size=40,
).map("".join)


@settings(max_examples=200)
@given(st.one_of(st.text(), YAML_PIECES))
def test_any_text_is_read_or_refused_with_a_sentence(text: str) -> None:
    try:
        found = documents.load(FILE, text).data
    except InputError:
        return  # anything else is a traceback
    documents.canonical(found).encode()


@settings(max_examples=200)
@given(st.binary())
def test_any_bytes_are_read_or_refused_with_a_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    for read in (documents.load, documents.load_chart):
        with suppress(InputError):  # anything else is a traceback
            read(path)


# --- as Helm reads ---------------------------------------------------------------------------------------------------

SCALARS = """y n Y N yes Yes YES yEs no NO on On ON off OFF oFF true True TRUE tRUE false FALSE null Null NULL nUll ~ = <<
0 -0 +1 -1 01 010 08 0777 0o17 0O17 0o8 0x1F 0X1F 0x 0xg -0x1F 0x_1 0b101 0B101 -0b11 0b 0b12 1_000 1_ _1 +_1 0_7 -017
1e3 1E3 1e+3 -1e-3 1e1_0 1.5 +1.5 .5 5. -.5 .1_1 ._5 . - + 1e 1e400 -1e400 09.5 1.2.3 1:30 190:20:30 2024-01-01 2024-01-01T00:00:00Z 7.2-rc2 32G 1.0
1000000 9007199254740993 9223372036854775808 18446744073709551616 -9223372036854775809 0xFFFFFFFFFFFFFFFF 0x1FFFFFFFFFFFFFFFF
0777777777777777777777777 inf nan Infinity 1f"""
PLAIN = SCALARS.split()
KEYS = ["1", "1.5", "0.1", "1e3", "1e21", "1e-7", "0x1f", "true", "y", "off", "2024-01-01", "100000000000000000000000", "a"]


def alike(one: Any, other: Any) -> bool:
    """The same JSON value, numbers compared as Go has them: as doubles."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return float(one) == float(other)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    return type(one) is type(other) and one == other


def values_of(helm: Helm, folder: Path, values: str) -> Any:
    chart = write_files(folder / "c", {"Chart.yaml": CHART, "values.yaml": values, "templates/a.yaml": "x: {{ toJson .Values | b64enc }}\n"})
    result = bare_template(helm, chart)
    return rendered_json(result.stdout) if result.code == 0 else result.stderr


def test_a_chart_is_read_as_each_helm_reads_it(each_helm: Helm, tmp_path: Path) -> None:
    text = "plain:\n" + "".join(f"- {word}\n" for word in PLAIN) + "keys:\n" + "".join(f"- {{{key}: x}}\n" for key in KEYS)
    text += 'folded: >\n  a\n   b\n\n  c\ntwice: 1\nbase: &b {x: 1, y: 2}\nmerged: {<<: *b, y: 3}\ntwice: "2"\nescaped: "\\u00e9\\x41"\n'
    theirs = values_of(each_helm, tmp_path, text)
    ours = documents.load_chart(tmp_path / "c" / "values.yaml")
    assert [word for word, a, b in zip(PLAIN, ours["plain"], theirs["plain"], strict=True) if not alike(a, b)] == []
    assert alike(ours, theirs)
    assert alike(documents.load_manifests(text)[0], theirs)


@pytest.mark.parametrize("text", ["a: .inf", "a: -.Inf", "a: .nan", "~: a", "[a]: 1", "a: &a [*a]"])
def test_what_helm_refuses_in_a_chart_is_refused(helm: Helm, tmp_path: Path, text: str) -> None:
    assert "cannot load values.yaml" in values_of(helm, tmp_path, text)
    with pytest.raises(InputError, match="broken YAML"):
        documents.load_chart(tmp_path / "c" / "values.yaml")
    with pytest.raises(ValueError, match=r"\S"):
        documents.load_manifests(text)


@pytest.mark.parametrize("text", ["- a", "a", "a: [", "a: 1\n---\n- b"])
def test_a_stream_that_is_no_objects_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        documents.load_manifests(text)


def test_empty_documents_are_left_out() -> None:
    assert documents.load_manifests("---\n# nothing\n---\na: 1\n---\n---\nb: 2\n") == [{"a": 1}, {"b": 2}]


# --- what we write ---------------------------------------------------------------------------------------------------

WORDS = [
    *PLAIN,
    "",
    "a\n",
    "a\n\n",
    "\n",
    " a",
    "a ",
    "a: b",
    "a #b",
    "- a",
    "---",
    "---\n",
    "a\n---\nb\n",
    "{{ .x }}",
    "\u2028",
    "\x85",
    "\ufeff",
    "\x7f",
    "😀",
    "\\",
]
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.one_of(st.text(), st.sampled_from(WORDS), st.text(alphabet=" \n\tab:#-'\"|>", max_size=12))


def json_documents(floats: st.SearchStrategy[float]) -> st.SearchStrategy[Any]:
    leaves = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), floats, TEXTS)
    return st.recursive(leaves, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)), max_leaves=12)


@settings(max_examples=150)
@given(json_documents(FLOATS.filter(lambda number: "e" not in repr(number))))
@example("a" * 3000)
@example({"k" * 2000: {"l" * 2000: [1]}, "m": ["a\n\n  b\n", ["c\nd"]]})
@example({"k" * 300: 1, "a b" * 100: {"c\nd": [[], {}, [[]]]}})
@example(WORDS)
def test_what_is_dumped_reads_back_in_every_reader(value: Any) -> None:
    text = documents.dump(value)
    for found in (yaml.safe_load(text), documents.load(FILE, text).data, documents.load_manifests(documents.dump({"v": value}))[0]["v"]):
        assert json.dumps(found, sort_keys=True) == json.dumps(value, sort_keys=True)


READ_FILES = """\
{{- $found := dict }}{{- range $path, $content := .Files.Glob "files/*.yaml" }}{{ $_ := set $found $path ($content | toString | fromYaml) }}{{ end }}
x: {{ toJson $found | b64enc }}
"""


@settings(max_examples=8)
@given(st.lists(json_documents(FLOATS), min_size=20, max_size=60))
@example([*WORDS])
@example([{word: word} for word in WORDS])
def test_what_is_dumped_reads_back_in_helm(helm: Helm, tmp_path_factory: pytest.TempPathFactory, values: list[Any]) -> None:
    files = {f"files/{index:03}.yaml": documents.dump({"v": value}) for index, value in enumerate(values)}
    chart = write_files(tmp_path_factory.mktemp("c"), {"Chart.yaml": CHART, "templates/a.yaml": READ_FILES, **files})
    found = rendered_json(bare_template(helm, chart).stdout)
    for index, value in enumerate(values):
        assert alike(found[f"files/{index:03}.yaml"]["v"], value), documents.dump({"v": value})


@settings(max_examples=8)
@given(st.lists(json_documents(FLOATS), min_size=5, max_size=60))
@example([*WORDS])
@example([{word: word} for word in WORDS if word])
def test_helm_sees_the_values_that_we_give_it(helm: Helm, tmp_path_factory: pytest.TempPathFactory, values: list[Any]) -> None:
    chart = write_files(tmp_path_factory.mktemp("c"), {"Chart.yaml": CHART, "templates/a.yaml": "x: {{ toJson .Values | b64enc }}\n"})
    assert alike(rendered_json(helm.template(chart, {"v": values}, "r", "n", "1.31")), {"v": values})


def test_strings_of_every_day_stay_bare_and_lines_stay_lines() -> None:
    assert documents.dump(
        {"image": "a/b:1.2.3-x", "script": "a\nb\n", "on": "yes"}
    ) == 'image: "a/b:1.2.3-x"\n"on": "yes"\nscript: |\n  a\n  b\n'.replace('"a/b:1.2.3-x"', "a/b:1.2.3-x")


def test_digests_know_where_a_part_ends() -> None:
    assert documents.sha256("ab", "c") != documents.sha256("a", "bc")
    assert documents.sha256("é") == documents.sha256("é".encode())


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x" / "a"
    documents.write(path, "old")
    with pytest.raises(UnicodeEncodeError):
        documents.write(path, "\ud800")
    assert path.read_text() == "old"
    assert [item.name for item in path.parent.iterdir()] == ["a"]


@given(json_documents(FLOATS))
def test_walking_meets_every_value_once_at_its_path(value: Any) -> None:
    met = list(documents.walk(value))
    assert len({keys for keys, _ in met}) == len(met)
    for keys, found in met:
        here = value
        for key in keys:
            here = here[key]
        assert here is found
    assert documents.map_strings(value, str) == value
