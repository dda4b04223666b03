"""`${name}` in overlays: an environment's variables, the derived ones, and `${secret:name}`."""

from __future__ import annotations

import re
from collections.abc import Callable

from syntho_deploy.documents import Json, map_strings
from syntho_deploy.errors import InputError, Mark

REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)\}")

Lookup = Callable[[str, Mark], Json]  # a variable's name, and where it is used, to its value; raises InputError


def substitute(value: Json, lookup: Lookup, where: Mark) -> Json:
    """A copy of `value` with every `${name}` replaced.

    A string that is nothing but one reference takes the variable's type; `$${` is a literal `${`.
    Raises `InputError` from `lookup` for an unknown name, and for a list or a mapping inside a longer text.
    """

    def change(text: str) -> Json:
        whole = REFERENCE.fullmatch(text)
        if whole and whole.group(1) is not None:
            return lookup(whole.group(1), where)

        return REFERENCE.sub(lambda match: _text(match, lookup, where), text)

    return map_strings(value, change)


def substitute_path(path: str, lookup: Lookup, where: Mark) -> str:
    """A JSON Pointer with every `${name}` replaced by the variable's text, escaped as a part of one segment (RFC 6901)."""
    return REFERENCE.sub(lambda match: _text(match, lookup, where).replace("~", "~0").replace("/", "~1"), path)


def _text(match: re.Match[str], lookup: Lookup, where: Mark) -> str:
    if match.group(1) is None:
        return "${"
    found = lookup(match.group(1), where)
    if isinstance(found, dict | list):
        raise InputError(f'the variable "{match.group(1)}" is a {"list" if isinstance(found, list) else "mapping"}, which no text can hold', where)
    return str(found).lower() if isinstance(found, bool) else str(found)
