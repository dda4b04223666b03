"""Changing a user's YAML file at one place, with every other byte kept: comments, order, quotes, line ends.

Each function takes the file's text and the path of a value, and returns the new text. What comes out is read again and must
be the document that was asked for, so an edit is right or refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import yaml

from syntho_deploy.documents import Json, Keys, canonical, dump, load
from syntho_deploy.errors import InputError
from syntho_deploy.overlays import pointer

P = ParamSpec("P")
Edit = tuple[str, Callable[[Json], None]]  # the new text, and what it does to the data, in place
BOM = "\ufeff"


def _checked(function: Callable[Concatenate[str, Keys, P], Edit]) -> Callable[Concatenate[str, Keys, P], str]:
    """An edit whose result is read again. Raises `InputError` when it is not the one document that was asked for."""

    @wraps(function)
    def run(text: str, keys: Keys, /, *args: P.args, **kwargs: P.kwargs) -> str:
        bom = BOM if text.startswith(BOM) else ""  # which libyaml's marks do not count
        body = text.removeprefix(BOM)
        wanted = load(Path(), body).data
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(body, Loader=yaml.CSafeLoader)):
            raise InputError("a file with aliases (*name) can only be edited by hand")
        refused = InputError(f"{pointer.text(keys)} cannot be edited without touching what is around it", todo="edit it by hand")
        try:
            new, change = function(body, keys, *args, **kwargs)
            wanted = {} if wanted is None else wanted
            change(wanted)
            right = canonical(load(Path(), new).data) == canonical(wanted)
        except (InputError, LookupError, TypeError):  # what is read again is broken, or what is edited is not there
            raise refused from None
        if not right:
            raise refused
        return bom + new

    return run


@_checked
def replace(text: str, keys: Keys, value: Json) -> Edit:
    """The value at `keys` is `value`. A text keeps the kind of quotes that the one before it had."""
    node = _node(text, keys)
    start, end = node.start_mark.index, _end(node)
    if isinstance(node, yaml.SequenceNode) and not node.flow_style and value and isinstance(value, list):
        new = f"{_newline(text)}{' ' * node.start_mark.column}".join(f"- {flow(item)}" for item in value)
    else:
        new = _quoted_as(node.style, value) if isinstance(node, yaml.ScalarNode) and isinstance(value, str) else flow(value)
        new = f" {new}" if start == end else new
        new += _newline(text) if text[start:end].endswith("\n") else ""  # a block scalar has the end of its line
    return text[:start] + new + text[end:], lambda data: _at(data, keys[:-1]).__setitem__(keys[-1], value)


@_checked
def rename(text: str, keys: Keys, name: str) -> Edit:
    """The last key of `keys` is `name`; its value and its place stay."""
    node, _ = _entry(_node(text, keys[:-1]), keys[-1])

    def change(data: Json) -> None:
        mapping = _at(data, keys[:-1])
        mapping[name] = mapping.pop(keys[-1])

    return text[: node.start_mark.index] + flow(name) + text[node.end_mark.index :], change


@_checked
def remove(text: str, keys: Keys) -> Edit:
    """The entry at `keys` of a mapping is gone: its lines with what is said behind it, or its part of a line."""
    mapping = _node(text, keys[:-1])
    entry, entries = _entry(mapping, keys[-1]), mapping.value
    place, start, end = entries.index(entry), entry[0].start_mark.index, _end(entry[1])
    if not mapping.flow_style:
        start, end = text.rfind("\n", 0, start) + 1, _after_line(text, end)
    elif place + 1 < len(entries):
        end = entries[place + 1][0].start_mark.index
    elif place:
        start = _end(entries[place - 1][1])

    def change(data: Json) -> None:
        del _at(data, keys[:-1])[keys[-1]]
        if keys[:-1] and len(entries) == 1 and not mapping.flow_style:
            _at(data, keys[:-2])[keys[-2]] = None

    return text[:start] + text[end:], change


@_checked
def add(text: str, keys: Keys, value: Json, comment: str = "", first: bool = False) -> Edit:
    """A mapping has a new entry, the last or the first. comment: said behind it, where it gets a line of its own."""
    node, parent, newline = _node(text, keys[:-1]), keys[:-1], _newline(text)
    entry = f"{flow(keys[-1])}: {flow(value)}"
    line = (f"{flow(keys[-1])}:" if value is None else entry) + (f" # {comment}" if comment else "") + newline
    if isinstance(node, yaml.MappingNode) and node.flow_style:
        at = node.start_mark.index + 1 if first or not node.value else _end(node.value[-1][1])
        comma = ", " if node.value else ""
        new = text[:at] + (f"{entry}{comma}" if first else f"{comma}{entry}") + text[at:]
    else:
        column = node.start_mark.column if isinstance(node, yaml.MappingNode) else 0
        if isinstance(node, yaml.ScalarNode) and parent:  # a key without a value
            column = _entry(_node(text, parent[:-1]), parent[-1])[0].start_mark.column + 2
        at = text.rfind("\n", 0, node.start_mark.index) + 1 if first and column else _after_line(text, _end(node)) if node else len(text)
        before = text[:at] + ("" if not at or text[:at].endswith("\n") else newline)
        new = f"{before}{' ' * column}{line}{text[at:]}"

    def change(data: Json) -> None:
        if parent and _at(data, parent) is None:
            _at(data, parent[:-1])[parent[-1]] = {}
        mapping = _at(data, parent)
        if keys[-1] in mapping:
            raise LookupError
        mapping[keys[-1]] = value

    return new, change


def append(text: str, item: dict[str, Json]) -> str:
    """The file's list has one more item, the last, written as the one before it: in one line or several, indented alike, in the
    quotes that the file has, and without a line end where the file ends without one.

    Raises `InputError` where the file is no list, or holds what is not to be touched.
    """
    bom = BOM if text.startswith(BOM) else ""
    body = text.removeprefix(BOM)
    found = load(Path(), body).data
    refused = InputError("a list in this file cannot be added to without touching what is around it", todo="edit it by hand")
    if found is not None and not isinstance(found, list):
        raise refused
    new = _appended(body, yaml.compose(body, Loader=yaml.CSafeLoader), item)
    try:
        right = load(Path(), new).data == [*(found or []), item]
    except InputError:
        right = False
    if not right:
        raise refused
    return bom + new


def _appended(text: str, node: Any, item: dict[str, Json]) -> str:
    newline, single = _newline(text), _single_quotes(node)
    pairs = [f"{flow(key)}: {_flow_as(single, value)}" for key, value in item.items()]
    if isinstance(node, yaml.SequenceNode) and node.flow_style:
        at = _end(node.value[-1]) if node.value else node.end_mark.index - 1
        return f"{text[:at]}{', ' if node.value else ''}{{{', '.join(pairs)}}}{text[at:]}"
    last = node.value[-1] if isinstance(node, yaml.SequenceNode) else None
    dash = node.start_mark.column if last else 0
    inner = last.start_mark.column if isinstance(last, yaml.MappingNode) else dash + 2
    lead = " " * dash + "-" + " " * (inner - dash - 1)
    lines = [f"{{{', '.join(pairs)}}}"] if isinstance(last, yaml.MappingNode) and last.flow_style else pairs
    block = f"{newline}{' ' * inner}".join(lines)
    at = _after_line(text, _end(node)) if last else len(text)
    before = text[:at] if not at or text[:at].endswith("\n") else text[:at] + newline
    return f"{before}{lead}{block}{newline if text[at:] or before == text[:at] else ''}{text[at:]}"


def _single_quotes(node: Any) -> bool:
    """Has a file texts in single quotes and none in double ones?"""
    styles, rest = set(), [node]
    while rest:
        here = rest.pop()
        if isinstance(here, yaml.ScalarNode):
            styles.add(here.style)
        elif here is not None:
            rest += [part for entry in here.value for part in (entry if isinstance(entry, tuple) else (entry,))]
    return "'" in styles and '"' not in styles


def _flow_as(single: bool, value: Json) -> str:
    plain = flow(value)
    return _quoted_as("'", value) if single and isinstance(value, str) and plain.startswith('"') else plain


def flow(value: Json) -> str:
    """A value in one line, as a person would write it; doubtful texts in quotes."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{flow(key)}: {flow(item)}' for key, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(flow, value))}]"
    return canonical(value) if isinstance(value, str) and "\n" in value else dump([value])[2:].rstrip("\n")


VERSION = re.compile(r"[0-9]+(\.[0-9]+){2,}([-.][A-Za-z0-9.-]*[A-Za-z0-9])?")  # which no reader takes for a number


def _quoted_as(style: str | None, value: str) -> str:
    if not style and VERSION.fullmatch(value):
        return value
    if style == "'" and value.isprintable():
        return "'" + value.replace("'", "''") + "'"
    return json.dumps(value, ensure_ascii=False) if style == '"' and value.isprintable() else flow(value)


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _node(text: str, keys: Keys) -> Any:
    """The node at a path; None for the whole of a file that has only comments."""
    here: Any = yaml.compose(text, Loader=yaml.CSafeLoader)
    for key in keys:
        here = here.value[key] if isinstance(here, yaml.SequenceNode) and isinstance(key, int) else _entry(here, key)[1]
    return here


def _entry(node: Any, key: str | int) -> Any:
    """The nodes of a key and its value. Raises `LookupError`."""
    entries = node.value if isinstance(node, yaml.MappingNode) else []
    found = next((entry for entry in entries if entry[0].value == key), None)
    if found is None:
        raise LookupError(key)
    return found


def _end(node: Any) -> int:
    """Where a value ends. A block's own mark is where the next token begins, behind comments that are not its."""
    if isinstance(node, yaml.ScalarNode) or node.flow_style or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    return _end(last[1] if isinstance(last, tuple) else last)


def _after_line(text: str, at: int) -> int:
    """The beginning of the next line; `at` itself if it is one."""
    return at if text[at - 1 : at] == "\n" else (text.find("\n", at) + 1 or len(text))


def _at(data: Json, keys: Keys) -> Json:
    for key in keys:
        data = data[key]
    return data
