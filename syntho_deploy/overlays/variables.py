"""`${name}` in overlays: an environment's variables, the derived ones, and `${secret:name}`."""

from __future__ import annotations

import re
from collections.abc import Callable

from syntho_deploy.documents import Json
from syntho_deploy.errors import InputError, Mark

REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)\}")

OPEN = re.compile(r"\$\{[\w.:-]+")

Lookup = Callable[[str, Mark], Json]  # a variable's name, and where it is used, to its value; raises InputError


def substitute(value: Json, lookup: Lookup, where: Mark) -> Json:
    """A copy of `value` with every `${name}` replaced, in keys too.

    A string that is nothing but one reference takes the variable's type; `$${` is a literal `${`.
    Raises `InputError` from `lookup` for an unknown name, for a list or a mapping inside a longer text, for a reference without an end,
    and for two keys that become one.
    """
    if isinstance(value, dict):
        made = {_replaced(key, lookup, where): substitute(item, lookup, where) for key, item in value.items()}
        if len(made) < len(value):
            raise InputError(f"two of the keys {', '.join(value)} become the same", where, "remove one")
        return made
    if isinstance(value, list):
        return [substitute(item, lookup, where) for item in value]
    if not isinstance(value, str) or "${" not in value:
        return value
    whole = REFERENCE.fullmatch(value)
    return lookup(whole[1], where) if whole and whole[1] is not None else _replaced(value, lookup, where)


def _replaced(text: str, lookup: Lookup, where: Mark) -> str:
    if "${" not in text:
        return text
    _refuse_open(text, where)
    return REFERENCE.sub(lambda match: _text(match, lookup, where), text)


def substitute_path(path: str, lookup: Lookup, where: Mark) -> str:
    """A JSON Pointer with every `${name}` replaced by the variable's text, escaped as a part of one segment (RFC 6901)."""
    _refuse_open(path, where)
    return REFERENCE.sub(lambda match: _text(match, lookup, where).replace("~", "~0").replace("/", "~1"), path)


def _refuse_open(text: str, where: Mark) -> None:
    """Refuse a reference that is not closed, which would be text in silence."""
    if found := OPEN.search(REFERENCE.sub("", text)):
        raise InputError(f'"{found[0]}" has no end', where, "close it with }, or write $${ for the text itself")


def _text(match: re.Match[str], lookup: Lookup, where: Mark) -> str:
    if match.group(1) is None:
        return "${"
    found = lookup(match.group(1), where)
    if isinstance(found, dict | list):
        raise InputError(f'the variable "{match.group(1)}" is a {"list" if isinstance(found, list) else "mapping"}, which no text can hold', where)
    return str(found).lower() if isinstance(found, bool) else str(found)
