"""Overlay files and how they are applied: read strictly, compiled to plain RFC 6902 operations, whole file or nothing.

The operations themselves are the `jsonpatch` package's. What surrounds them is ours: selectors, variables, and the checks
that keep an overlay from lying (a path that is not there, two layers on one path, an index that nothing vouches for).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jsonpatch

from syntho_deploy.documents import Document, Json, Keys, canonical, clone, load, walk
from syntho_deploy.errors import InputError, Mark, nearest, raise_all, shown
from syntho_deploy.overlays import pointer
from syntho_deploy.overlays.origins import Change, Layers, Operation, Tree
from syntho_deploy.overlays.variables import Lookup, substitute, substitute_path
from syntho_deploy.section import Section

T = TypeVar("T")
NEEDS = {
    "add": ("path", "value"), "replace": ("path", "value"), "test": ("path", "value"),
    "remove": ("path",), "move": ("from", "path"), "copy": ("from", "path"),
}  # fmt: skip
MEMBERS = ("op", "path", "value", "from", "why", "overrides")
UNQUOTED_LIMIT = 1_000_000  # from here on both Helm majors print a number as 2.0230308e+07
EXPONENT_BELOW = 0.0001  # and a smaller one as 1e-05


def load_operations(document: Document, keys: Keys, errors: list[InputError]) -> list[Operation]:
    """The list of operations at `keys` of a document; faults go to `errors`."""
    items: Any = document.data
    for key in keys:
        items = items[key]
    if items is None:
        return []
    if not isinstance(items, list):
        errors.append(InputError("must be a list of operations", document.mark(*keys), "begin each with: - op: replace"))
        return []
    operations = [_operation(Section(document, (*keys, index), errors)) for index in range(len(items))]
    return [operation for operation in operations if operation]


def _operation(section: Section) -> Operation | None:
    before = len(section.errors)
    op = section.need("op", str, "")
    if isinstance(section.data.get("op"), str) and op not in NEEDS:
        section.fault(f'"{op}" is no operation{nearest(op, NEEDS)}', "op", todo=f"one of {', '.join(NEEDS)}")
    for member in NEEDS.get(op, ()):
        if member not in section:
            section.fault(f'the operation "{op}" needs "{member}"')
    path, source = section.get("path", str, ""), section.get("from", str, "")
    if ("path" in section and section.data["path"] is None) or ("from" in section and section.data["from"] is None):
        section.fault("a path must be text", todo='for the whole document write ""')
    for member in ("value", "from"):
        if op in NEEDS and member in section and member not in NEEDS[op]:
            section.fault(f'the operation "{op}" takes no "{member}"', member)
    why, overrides = section.get("why", str, ""), section.get("overrides", bool, False)
    section.get("value", object, None)
    section.done()
    if len(section.errors) > before:
        return None
    return Operation(op, path, section.mark(), section.data.get("value"), source, why, overrides)


def apply(
    document: Json,
    operations: Iterable[Operation],
    lookup: Lookup,
    layer: str,
    layers: Layers,
    errors: list[InputError],
    values: bool,
) -> tuple[Json, list[dict[str, Json]]]:
    """Apply one file's operations to a copy of `document`.

    layer: the file's name in messages about clashes; values: the document is a chart's values, which Helm prints (so large
    bare numbers are refused). Returns the new document and the plain operations that led to it. Every fault goes to
    `errors`; an operation with one is left out, so that the rest is checked too, and the caller drops the result.
    """
    patched = clone(document)
    plain: list[dict[str, Json]] = []
    tested: Tree[bool] = Tree()
    for operation in operations:
        try:
            compiled, change = _compile(patched, operation, lookup, layer, layers, tested, values)
            patched = _applied(compiled, patched)
            plain.append(compiled)
            layers.record(change, layer, operation)
            if change.removed:
                tested.deleted(change.removed)
            if change.set and change.inserts:
                tested.inserted(change.set)
        except InputError as error:
            errors.append(error)
        except jsonpatch.JsonPatchTestFailed:
            keys, _ = pointer.compile_pointer(patched, compiled["path"])
            what = f"the test of {operation.path} failed: it is {_at(patched, keys)!r:.200}"
            setters = layers.origin(keys)
            if setters:
                what, todo = f"{what}, set by {shown(setters[-1].mark)}", _other_order(operation) or "correct one of the two"
            else:
                todo = "the chart changed: review this file"
            errors.append(InputError(what, operation.mark, todo))
        except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
            errors.append(InputError(f"{_named(operation)}: {error}", operation.mark))
    return patched, plain


def _compile(
    document: Json, operation: Operation, lookup: Lookup, layer: str, layers: Layers, tested: Tree[bool], values: bool
) -> tuple[dict[str, Json], Change]:
    """The plain RFC 6902 operation for one of ours, and what it changes. Raises `InputError` for the first fault."""
    removed, copied = None, None
    adding = operation.op in ("add", "move", "copy")
    compiled: dict[str, Json] = {"op": operation.op}
    if operation.source or "from" in NEEDS[operation.op]:
        source, numeric = _pointer(document, substitute_path(operation.source, lookup, operation.mark), operation, False)
        compiled["from"] = pointer.text(source)
        _vouched(numeric, document, tested, operation)
        if operation.op == "move":
            removed = source
            _claim(source, operation, layer, layers)
            if f"{operation.path}/".startswith(f"{operation.source}/") and operation.path != operation.source:
                raise InputError(f"{_named(operation)}: nothing moves into itself", operation.mark, "copy it there, or move it to another place")
        else:
            copied = source
    with _without(document, removed):
        keys, numeric = _pointer(document, substitute_path(operation.path, lookup, operation.mark), operation, adding)
    compiled["path"] = pointer.text(keys)
    if operation.op == "test":
        tested.hold(keys, True)
    else:
        _vouched(numeric, document, tested, operation)
        _claim(keys, operation, layer, layers)
    if "value" in NEEDS[operation.op]:
        value = substitute(operation.value, lookup, operation.mark)
        if values and operation.op != "test":
            _quotable(value, operation)
        compiled["value"] = value
    if operation.op in ("remove", "test"):
        return compiled, Change(removed=keys if operation.op == "remove" else None)
    return compiled, Change(removed, keys, adding and bool(keys) and isinstance(keys[-1], int), copied)


@contextmanager
def _without(document: Json, keys: Keys | None) -> Iterator[None]:
    """A document while the value that a move takes away is not in it."""
    if not keys:
        yield
        return
    holder, last = _at(document, keys[:-1]), keys[-1]
    value = holder.pop(last)
    try:
        yield
    finally:
        if isinstance(holder, list):
            holder.insert(int(last), value)
        else:
            holder[last] = value


def _applied(compiled: dict[str, Json], document: Json) -> Json:
    """`document` (changed in place) after one plain operation. `jsonpatch` does the work but for what it gets wrong."""
    if compiled["op"] == "test" and not _same(_at(document, pointer.parse(compiled["path"])), compiled["value"]):
        raise jsonpatch.JsonPatchTestFailed  # to Python, True == 1; RFC 6902 section 4.6 says otherwise
    return jsonpatch.JsonPatch([clone(compiled)]).apply(document, in_place=True)


def _same(one: Json, other: Json) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _pointer(document: Json, text: str, operation: Operation, adding: bool) -> tuple[Keys, list[Keys]]:
    try:
        return pointer.compile_pointer(document, text, adding)
    except pointer.PointerError as error:
        todo = error.todo
        if error.missing and operation.op == "replace":
            todo = "; ".join(filter(None, [todo, "to set a value that the chart reads but does not list, use op: add"]))
        raise InputError(f"{operation.op}: {error}", operation.mark, todo) from None


def _vouched(numeric: list[Keys], document: Json, tested: Tree[bool], operation: Operation) -> None:
    """Refuse a numeric index of an existing item that no earlier `test` of the file has looked at: lists get new items."""
    for path in numeric:
        items, index = _at(document, path[:-1]), path[-1]
        if isinstance(index, int) and not tested.at(path) and index < len(items):
            at = pointer.text(path)
            todo = f"select it by a field, [name=…], or put an op: test on {at} before"
            raise InputError(f"{operation.op}: nothing says which item {at} is", operation.mark, todo)


def _named(operation: Operation) -> str:
    """An operation and its path, for a message."""
    return f"{operation.op} {operation.path}" if operation.path else f"{operation.op} of the whole document"


def _claim(keys: Keys, operation: Operation, layer: str, layers: Layers) -> None:
    clash = layers.clash(keys, layer)
    if clash and not operation.overrides:
        other, mark = clash
        what = "this path" if other == keys else f"{pointer.text(other)}, above it," if len(other) < len(keys) else "a path below it"
        todo = _other_order(operation) or "if this should win, add: overrides: true"
        raise InputError(f"{_named(operation)}: {what} was set by {shown(mark)}", operation.mark, todo)


def _other_order(operation: Operation) -> str:
    """What to do about a clash in a component, a shared file, where the environment's list is what can be changed; "" for another file."""
    return "list the two components in the other order, or one of them only" if "components" in Path(operation.mark.path).parts else ""


def _quotable(value: Json, operation: Operation) -> None:
    """Refuse the numbers that Helm prints otherwise than they are written."""
    for keys, item in walk(value):
        if isinstance(item, int | float) and not isinstance(item, bool) and item:
            printed = "" if EXPONENT_BELOW <= abs(item) < UNQUOTED_LIMIT else f"{item:e}"
            printed = printed or (f"{item:.0f}" if isinstance(item, float) and item.is_integer() else "")
            if printed:
                at = f" at {pointer.text(keys)}" if keys else ""
                where = " where the variable is set" if "${" in canonical(operation.value) else ""
                raise InputError(f"{_named(operation)}: Helm prints the number {item}{at} as {printed}", operation.mark, f'quote it{where}: "{item}"')


def _at(document: Json, keys: Keys) -> Json:
    for key in keys:
        document = document[int(key) if isinstance(document, list) else key]
    return document


class ManifestPatch(NamedTuple):
    """Operations on the manifests that match a target (kind, and name where it is given), or their removal."""

    kind: str
    name: str
    mark: Mark
    operations: tuple[Operation, ...] = ()
    delete: bool = False
    why: str = ""


def load_values_patch(file: Path, faults: list[InputError] | None = None) -> tuple[Operation, ...]:
    """Read `<chart>.values.yaml`, once for all environments that have it.

    faults: where those of single operations go, which are left out. Without it raises `InputError` for all of them at once.
    """
    return _sound(_load_values_patch(file, file.stat().st_mtime_ns, file.stat().st_size), faults)


@lru_cache(maxsize=1024)
def _load_values_patch(file: Path, *version: int) -> tuple[tuple[Operation, ...], tuple[InputError, ...]]:
    errors: list[InputError] = []
    operations = load_operations(load(file, faults=errors), (), errors)
    return tuple(operations), tuple(errors)


def load_manifest_patches(file: Path, faults: list[InputError] | None = None) -> tuple[ManifestPatch, ...]:
    """Read `<chart>.manifests.yaml`, as `load_values_patch` does the other."""
    return _sound(_load_manifest_patches(file, file.stat().st_mtime_ns, file.stat().st_size), faults)


@lru_cache(maxsize=1024)
def _load_manifest_patches(file: Path, *version: int) -> tuple[tuple[ManifestPatch, ...], tuple[InputError, ...]]:
    errors: list[InputError] = []
    document = load(file, faults=errors)
    patches = []
    if not isinstance(document.data, list):
        errors.append(InputError("must be a list of targets", document.mark(), "begin each with: - target: {kind: Deployment, name: core}"))
    for index in range(len(document.data) if isinstance(document.data, list) else 0):
        before = len(errors)
        item = Section(document, (index,), errors)
        target = item.section("target")
        kind, name = target.need("kind", str, ""), target.get("name", str, "")
        target.done()
        delete = item.get("delete", bool, False)
        item.get("patch", list, [])
        why = item.get("why", str, "")
        item.done()
        if delete == (item.data.get("patch") is not None):
            item.fault('a target needs one of "patch" and "delete: true"')
        right = len(errors) == before
        operations = load_operations(document, (index, "patch"), errors) if isinstance(item.data.get("patch"), list) else []
        if right:
            patches.append(ManifestPatch(kind, name, item.mark(), tuple(operations), delete, why))
    return tuple(patches), tuple(errors)


def _sound(read: tuple[tuple[T, ...], tuple[InputError, ...]], faults: list[InputError] | None) -> tuple[T, ...]:
    if faults is None:
        raise_all(list(read[1]))
    else:
        faults += read[1]
    return read[0]
