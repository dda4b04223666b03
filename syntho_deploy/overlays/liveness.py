"""Which values a chart reads, and where they arrive: found by rendering it with every leaf perturbed at once.

Each leaf gets a token of its own; one render then shows, for every field of every manifest, the leaves that reach it. What
does not surface (a switch, a leaf that a switch gates off, a dead one) is perturbed alone, all of them in one run of helm.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from syntho_deploy.documents import Json, Keys, at, clone, load_manifests, map_strings, walk
from syntho_deploy.errors import InputError
from syntho_deploy.overlays.pointer import named
from syntho_deploy.redact import base64_forms

Render = Callable[[list[Json]], list[str | None]]  # values to what helm prints for each; None where the chart does not render
_TOKEN = re.compile(r"zq([0-9]{4})qz")
_SWITCHED = re.compile(r"\s*\{\{-?\s*if\s+(not\s+)?\$?\.Values\.([\w.]+)\s*-?\}\}")
_NAMED = re.compile(r"\.Values((?:\.\w+)*)")
_BASE64 = re.compile(r"[A-Za-z0-9+/]{10}")  # the least that a token is of


@dataclass
class Reach:
    """What is known of a chart's leaves. alive: those that change the render; dead: those that do not; fields: for
    `Kind/name` and a field's pointer (`pointer.named`), the leaves whose text stands in it; unstable: the objects, by
    `Kind/name`, that differ from one render to the next; hidden: the asked paths whose token stood nowhere."""

    alive: set[Keys] = field(default_factory=set)
    dead: set[Keys] = field(default_factory=set)
    fields: dict[tuple[str, str], set[Keys]] = field(default_factory=dict)
    unstable: set[str] = field(default_factory=set)
    hidden: set[Keys] = field(default_factory=set, compare=False)


def leaves(values: Json) -> list[Keys]:
    """The paths of all leaves: scalars, and lists and mappings that are empty."""
    return [keys for keys, value in walk(values) if keys and (not isinstance(value, dict | list) or not value)]


def reach(values: Json, render: Render, asked: Iterable[Keys], hidden: Iterable[Keys] = ()) -> Reach:
    """Find out which of the `asked` paths the chart reads, and which leaves reach which fields.

    A path that is not in `values` (an operation removed it) is perturbed by putting a token there. hidden: paths whose token may well stand
    nowhere: they are perturbed alone at once, which saves a second run of helm when they are all that do. Raises `InputError` when the
    chart does not render with `values`.
    """
    found = Reach()
    texts = [keys for keys in leaves(values) if isinstance(at(values, keys), str | int | float) and not isinstance(at(values, keys), bool)]
    tokens = {keys: f"zq{number:04d}qz" for number, keys in enumerate(texts)}
    wanted = list(dict.fromkeys(keys for keys in asked if keys))
    before = set(hidden)
    silent = [
        keys for keys in wanted if keys in before or not any(leaf[: len(keys)] == keys for leaf in tokens)
    ]  # a switch has no token: alone, but in the first run
    base, again, text, *others = render([values, values, _with(values, tokens), *(_perturbed(values, keys) for keys in silent)])
    if base is None or again is None:
        raise InputError("the chart does not render with these values")
    items = _objects(text)
    if items is None:
        broken = _breaking(values, render, texts, tokens)
        found.alive |= broken
        items = _objects(render([_with(values, {keys: token for keys, token in tokens.items() if keys not in broken})])[0])
    _surface(values, items or [], tokens, found)
    open_ = [keys for keys in wanted if not any(leaf[: len(keys)] == keys for leaf in found.alive)]
    found.alive |= {keys for keys in wanted if keys not in open_}
    found.hidden = set(open_)
    stable = _documents(base) & _documents(again)  # a random value is no effect
    random = (_documents(base) | _documents(again)) - stable
    found.unstable = {_label(item) for text in random for item in load_manifests(text)}
    left = [keys for keys in open_ if keys not in silent]
    renders = dict(zip(silent, others, strict=True)) | dict(
        zip(left, render([_perturbed(values, keys) for keys in left]) if left else [], strict=True)
    )
    for keys in open_:
        changed = renders[keys]
        now = _documents(changed) if changed is not None else frozenset()
        same = changed is not None and (now == stable if not random else stable <= now and len(now) == len(_documents(base)))
        (found.dead if same else found.alive).add(keys)
    return found


def switched_off(values: Json, templates: Iterable[str], asked: Iterable[Keys]) -> set[Keys]:
    """A guess at which of the `asked` paths arrive nowhere: those that templates name only where all of the file is behind a switch that is
    off, as an in-chart database is."""
    named: set[Keys] = set()
    for text in templates:
        switch = _SWITCHED.match(text)
        if not switch or bool(_found(values, switch[2].split("."))) != bool(switch[1]):
            named |= {tuple(path.split(".")[1:]) for path in _NAMED.findall(text)}
    return {keys for keys in asked if not any(keys[: len(one)] == one[: len(keys)] for one in named)}


def _found(values: Json, keys: Iterable[str]) -> Json:
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values


def _documents(text: str) -> frozenset[str]:
    return frozenset(part.strip() for part in re.split(r"^---\n", text, flags=re.MULTILINE))


def _objects(text: str | None) -> list[dict[str, Json]] | None:
    """The objects of a render; None where the chart did not bear the values."""
    try:
        return None if text is None else load_manifests(text)
    except ValueError:
        return None


def _surface(values: Json, items: list[dict[str, Json]], tokens: dict[Keys, str], found: Reach) -> None:
    """Note every field of a render in which a token stands, as it is or in base64."""
    by_number = dict(enumerate(tokens))
    encoded = {form: keys for keys, token in tokens.items() for form in base64_forms(token.encode())}
    for item in items:
        original = map_strings(item, lambda text: _TOKEN.sub(lambda match: str(at(values, by_number[int(match[1])])), text))
        label = _label(original)
        for keys, value in walk(item):
            words = list(value) if isinstance(value, dict) else [value] if isinstance(value, str) else []
            for word in words:
                reached = {by_number[int(number)] for number in _TOKEN.findall(word)}
                if not reached and _BASE64.search(word):
                    reached = {leaf for form, leaf in encoded.items() if form in word}
                if reached:
                    found.fields.setdefault((label, named(original, keys)), set()).update(reached)
                    found.alive |= reached


def _label(item: dict[str, Any]) -> str:
    return f"{item.get('kind')}/{(item.get('metadata') or {}).get('name')}"


def _breaking(values: Json, render: Render, group: list[Keys], tokens: dict[Keys, str]) -> set[Keys]:
    """The leaves whose token the chart does not bear, found by halving."""
    if _objects(render([_with(values, {keys: tokens[keys] for keys in group})])[0]) is not None:
        return set()
    if len(group) == 1:
        return set(group)
    middle = len(group) // 2
    return _breaking(values, render, group[:middle], tokens) | _breaking(values, render, group[middle:], tokens)


def _perturbed(values: Json, keys: Keys) -> Json:
    changed = clone(values)
    try:
        here: Any = at(changed, keys[:-1])
        last: Any = keys[-1]
        here[last] = _other(here[last] if isinstance(here, list) else here.get(last))
    except (KeyError, IndexError, TypeError, AttributeError):
        _put(changed, keys)
    return changed


def _put(document: Json, keys: Keys) -> None:
    """Put a token at a path that is not there, as far as the document allows it."""
    here = document
    for key, following in itertools.pairwise(keys):
        if isinstance(here, dict):
            here = here.setdefault(key, [] if isinstance(following, int) else {})
        elif isinstance(here, list) and isinstance(key, int) and key < len(here):
            here = here[key]
        else:
            return
    if isinstance(here, dict):
        here[keys[-1]] = "zq0000qz"
    elif isinstance(here, list):
        here.append("zq0000qz")


def _other(value: Json) -> Json:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, dict):
        return {key: _other(item) for key, item in value.items()} or {"zq0000qz": "zq0000qz"}
    if isinstance(value, list):
        return [_other(item) for item in value] or ["zq0000qz"]
    return "zq0000qz"


def _with(values: Json, tokens: dict[Keys, str]) -> Json:
    changed = clone(values)
    for keys, token in tokens.items():
        at(changed, keys[:-1])[keys[-1]] = token
    return changed
