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
    Raises `InputError` from `lookup` for an unknown name.
    """

    def change(text: str) -> Json:
        whole = REFERENCE.fullmatch(text)
        if whole and whole.group(1) is not None:
            return lookup(whole.group(1), where)

        def part(match: re.Match[str]) -> str:
            if match.group(1) is None:
                return "${"
            found = lookup(match.group(1), where)
            return str(found).lower() if isinstance(found, bool) else str(found)

        return REFERENCE.sub(part, text)

    return map_strings(value, change)
