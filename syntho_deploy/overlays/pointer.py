"""JSON Pointers (RFC 6901), with `[field=value]` segments that select the one list item with that field.

A pointer with selectors is compiled to a plain one against a document before anything is applied.
"""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from syntho_deploy.documents import Json, Keys, walk

_SELECTOR = re.compile(r"\[([^=\]]+)=(.*)\]", re.DOTALL)
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
_NO_TEXT = re.compile(r"-?[0-9].*|true|false|null")  # what a field that is no text may be written as
_BAD_ESCAPE = re.compile(r"~(?![01])")


class PointerError(Exception):
    """A pointer that is malformed, or that a document does not have. `missing` tells the second."""

    def __init__(self, what: str, todo: str = "", missing: bool = False) -> None:
        super().__init__(what)
        self.todo, self.missing = todo, missing


def parse(pointer: str) -> tuple[str, ...]:
    """The unescaped segments of a pointer (RFC 6901 section 4). Raises `PointerError` when it is malformed."""
    if pointer == "":
        return ()
    if not pointer.startswith("/"):
        raise PointerError(f'the path "{pointer}" does not begin with a slash', f"write /{pointer.replace('.', '/')}")
    if _BAD_ESCAPE.search(pointer):
        raise PointerError(f'the path "{pointer}" has a ~ that is neither ~0 nor ~1', "write ~0 for ~ and ~1 for /")
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in pointer[1:].split("/"))


def text(keys: Keys | tuple[str, ...]) -> str:
    """The pointer of a path, escaped."""
    return "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in keys)


def compile_pointer(document: Json, pointer: str, adding: bool = False) -> tuple[Keys, list[Keys]]:
    """The path that `pointer` names in `document`, selectors resolved to indexes, and those of its prefixes that end in an
    index written as a number.

    adding: the last segment may be missing, or be an index one past the end, or `-` (RFC 6902 section 4.1).
    Raises `PointerError`: malformed, nothing there (naming the nearest path), a selector that matches none or several.
    """
    segments = parse(pointer)
    here = document
    keys: list[str | int] = []
    numeric: list[Keys] = []
    for position, segment in enumerate(segments):
        last = position == len(segments) - 1
        if isinstance(here, list):
            index, plain = _index(here, segment, keys, adding and last)
            keys.append(index)
            if plain:
                numeric.append(tuple(keys))
            here = here[index] if index < len(here) else None
        elif isinstance(here, dict):
            if segment not in here and not (adding and last):
                raise _missing(document, pointer, (*keys, segment))
            keys.append(segment)
            here = here.get(segment)
        else:
            raise _missing(document, pointer, (*keys, segment))
    return tuple(keys), numeric


def _index(items: list[Json], segment: str, keys: list[str | int], adding: bool) -> tuple[int, bool]:
    at = text(tuple(keys)) or "the document"
    selector = _SELECTOR.fullmatch(segment)
    if selector:
        name, value = selector.groups()
        if not _NO_TEXT.fullmatch(value):
            found = [i for i, item in enumerate(items) if isinstance(item, dict) and item.get(name) == value]
        else:
            found = [i for i, item in enumerate(items) if isinstance(item, dict) and name in item and _written(item[name]) == value]
        if len(found) == 1:
            return found[0], False
        have = sorted({_written(item[name]) for item in items if isinstance(item, dict) and name in item})
        listed = f"{name} is there one of: {', '.join(have)}" if have else f"no item there has a field {name}"
        count = "no item" if not found else f"{len(found)} items"
        if found:
            listed = "select by a field that only one has, or by its number after an op: test"
        raise PointerError(f"{count} of the list {at} with {name}={value}", listed, missing=not found)
    if segment == "-" and adding:
        return len(items), False
    if not _INDEX.fullmatch(segment):
        raise PointerError(f'"{segment}" is no index into the list {at}', "write [field=value], a number, or - to append", missing=True)
    index = int(segment)
    if index > len(items) or (index == len(items) and not adding):
        raise PointerError(f"the list {at} has {len(items)} items, so no item {index}", missing=True)
    return index, True


def _written(value: Json) -> str:
    return {True: "true", False: "false", None: "null"}[value] if value is None or isinstance(value, bool) else str(value)


def _missing(document: Json, pointer: str, keys: tuple[str | int, ...]) -> PointerError:
    near = nearest_path(document, keys)
    what = f'there is no "{pointer}"' if text(keys) == pointer else f'there is no "{text(keys)}", so no "{pointer}"'
    return PointerError(what, f"the nearest path is {near}" if near else "", missing=True)


IDENTITY = ("name", "mountPath", "containerPort", "port", "path", "host", "key", "groupName", "ip", "devicePath", "type")  # of list items


def identity(items: list[Json]) -> str | None:
    """The field by which the items of a list can be told apart, or None."""
    for name in IDENTITY:
        values = [_written(item[name]) for item in items if isinstance(item, dict) and isinstance(item.get(name), str | int)]
        if items and len(values) == len(items) and len(set(values)) == len(values):
            return name
    return None


def named(document: Json, keys: Keys) -> str:
    """The pointer of a path with `[name=x]` instead of indexes, wherever the items of a list can be told apart."""
    here, parts = document, []
    for key in keys:
        name = identity(here) if isinstance(here, list) else None
        parts.append(f"[{name}={_written(here[key][name])}]" if name else key)
        here = here[key]
    return text(tuple(parts))


def nearest_path(document: Json, keys: Keys) -> str:
    """The pointer of the document's own path that is most like `keys`, else the shortest that ends with it, or nothing."""
    wanted = text(keys)
    matcher = SequenceMatcher(b=wanted.lower(), autojunk=False)
    best, score, same = "", 0.5, ""
    for found, _ in walk(document):
        candidate = text(found)
        matcher.set_seq1(candidate.lower())
        if matcher.real_quick_ratio() > score and matcher.quick_ratio() > score and (ratio := matcher.ratio()) > score:
            best, score = candidate, ratio
        elif candidate.endswith(wanted) and wanted and (not same or len(candidate) < len(same)):
            same = candidate
    return best or same
