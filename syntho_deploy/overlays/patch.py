"""Overlay files and how they are applied: read strictly, compiled to plain RFC 6902 operations, whole file or nothing.

The operations themselves are the `jsonpatch` package's. What surrounds them is ours: selectors, variables, and the checks
that keep an overlay from lying (a path that is not there, two layers on one path, an index that nothing vouches for).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonpatch

from syntho_deploy.documents import Document, Json, Keys, load, walk
from syntho_deploy.errors import InputError, Mark, raise_all
from syntho_deploy.overlays import pointer
from syntho_deploy.overlays.variables import Lookup, substitute
from syntho_deploy.section import Section

NEEDS = {
    "add": ("path", "value"), "replace": ("path", "value"), "test": ("path", "value"),
    "remove": ("path",), "move": ("from", "path"), "copy": ("from", "path"),
}  # fmt: skip
MEMBERS = ("op", "path", "value", "from", "why", "overrides")
UNQUOTED_LIMIT = 1_000_000  # from here on both Helm majors print a number as 2.0230308e+07


@dataclass(frozen=True)
class Operation:
    """One operation as written, and where."""

    op: str
    path: str
    mark: Mark
    value: Json = None
    source: str = ""  # the member "from"
    why: str = ""
    overrides: bool = False


@dataclass
class Layers:
    """Which operation of which file set each path so far: what a later layer may not set again by accident."""

    set_by: dict[Keys, tuple[str, Mark]] = field(default_factory=dict)

    def clash(self, keys: Keys, layer: str) -> tuple[Keys, Mark] | None:
        """An earlier layer's path that is this path, above it or below it."""
        for other, (owner, mark) in self.set_by.items():
            short = min(len(other), len(keys))
            if owner != layer and other[:short] == keys[:short]:
                return other, mark
        return None


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
    if op and op not in NEEDS:
        section.fault(f'"{op}" is no operation', "op", todo=f"one of {', '.join(NEEDS)}")
    for member in NEEDS.get(op, ()):
        if member not in section:
            section.fault(f'the operation "{op}" needs "{member}"')
    path, source = section.get("path", str, ""), section.get("from", str, "")
    if "path" in section and section.data["path"] is None or "from" in section and section.data["from"] is None:
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
    patched = copy.deepcopy(document)
    plain: list[dict[str, Json]] = []
    tested: set[Keys] = set()
    for operation in operations:
        try:
            compiled = _compile(patched, operation, lookup, layer, layers, tested, values)
            patched = jsonpatch.JsonPatch([compiled]).apply(patched, in_place=True)
            plain.append(compiled)
        except InputError as error:
            errors.append(error)
        except jsonpatch.JsonPatchTestFailed:
            keys, _ = pointer.compile_pointer(patched, operation.path)
            found = _at(patched, keys)
            errors.append(InputError(f"the test of {operation.path} failed: it is {found!r:.200}", operation.mark, "the chart changed: review this file"))
        except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
            errors.append(InputError(f"{operation.op} {operation.path}: {error}", operation.mark))
    return patched, plain


def _compile(
    document: Json, operation: Operation, lookup: Lookup, layer: str, layers: Layers, tested: set[Keys], values: bool
) -> dict[str, Json]:
    """The plain RFC 6902 operation for one of ours. Raises `InputError` for the first fault."""
    adding = operation.op in ("add", "move", "copy")
    compiled: dict[str, Json] = {"op": operation.op}
    if operation.source or "from" in NEEDS[operation.op]:
        source, numeric = _pointer(document, operation.source, operation, False)
        compiled["from"] = pointer.text(source)
        _vouched(numeric, document, tested, operation)
        if operation.op == "move":
            _claim(source, operation, layer, layers)
    keys, numeric = _pointer(document, operation.path, operation, adding)
    compiled["path"] = pointer.text(keys)
    if operation.op == "test":
        tested.update(keys[:length] for length in range(1, len(keys) + 1))
    else:
        _vouched(numeric, document, tested, operation)
        _claim(keys, operation, layer, layers)
    if "value" in NEEDS[operation.op]:
        value = substitute(operation.value, lookup, operation.mark)
        if values and operation.op != "test":
            _quotable(value, operation)
        compiled["value"] = value
    return compiled


def _pointer(document: Json, text: str, operation: Operation, adding: bool) -> tuple[Keys, list[Keys]]:
    try:
        return pointer.compile_pointer(document, text, adding)
    except pointer.PointerError as error:
        todo = error.todo
        if error.missing and operation.op == "replace":
            todo = "; ".join(filter(None, [todo, "to set a value that the chart reads but does not list, use op: add"]))
        raise InputError(f"{operation.op}: {error}", operation.mark, todo) from None


def _vouched(numeric: list[Keys], document: Json, tested: set[Keys], operation: Operation) -> None:
    """Refuse a numeric index of an existing item that no earlier `test` of the file has looked at: lists get new items."""
    for path in numeric:
        items, index = _at(document, path[:-1]), path[-1]
        if path not in tested and isinstance(index, int) and index < len(items):
            at = pointer.text(path)
            todo = f"select it by a field, [name=…], or put an op: test on {at} before"
            raise InputError(f"{operation.op}: nothing says which item {at} is", operation.mark, todo)


def _claim(keys: Keys, operation: Operation, layer: str, layers: Layers) -> None:
    clash = layers.clash(keys, layer)
    if clash and not operation.overrides:
        other, mark = clash
        what = "this path" if other == keys else f"{pointer.text(other)}, {'above' if len(other) < len(keys) else 'below'} it,"
        raise InputError(f"{operation.op} {operation.path}: {what} was set by {mark}", operation.mark, "if this should win, add: overrides: true")
    layers.set_by[keys] = (layer, operation.mark)


def _quotable(value: Json, operation: Operation) -> None:
    for keys, item in walk(value):
        if isinstance(item, int | float) and not isinstance(item, bool) and abs(item) >= UNQUOTED_LIMIT:
            at = f" at {pointer.text(keys)}" if keys else ""
            raise InputError(f"{operation.op} {operation.path}: Helm prints the number {item}{at} as {item:e}", operation.mark, f'quote it: "{item}"')


def _at(document: Json, keys: Keys) -> Json:
    for key in keys:
        document = document[key]
    return document


@dataclass(frozen=True)
class ManifestPatch:
    """Operations on the manifests that match a target (kind, and name where it is given), or their removal."""

    kind: str
    name: str
    mark: Mark
    operations: tuple[Operation, ...] = ()
    delete: bool = False


def load_values_patch(file: Path) -> list[Operation]:
    """Read `<chart>.values.yaml`. Raises `InputError` for all its faults at once."""
    errors: list[InputError] = []
    operations = load_operations(load(file), (), errors)
    raise_all(errors)
    return operations


def load_manifest_patches(file: Path) -> list[ManifestPatch]:
    """Read `<chart>.manifests.yaml`. Raises `InputError` for all its faults at once."""
    document = load(file)
    errors: list[InputError] = []
    patches = []
    if not isinstance(document.data, list):
        raise InputError("must be a list of targets", document.mark(), "begin each with: - target: {kind: Deployment, name: core}")
    for index in range(len(document.data)):
        item = Section(document, (index,), errors)
        target = item.section("target")
        kind, name = target.need("kind", str, ""), target.get("name", str, "")
        target.done()
        delete = item.get("delete", bool, False)
        item.get("patch", list, [])
        item.get("why", str, "")
        item.done()
        if delete == ("patch" in item):
            item.fault('a target needs one of "patch" and "delete: true"')
        operations = load_operations(document, (index, "patch"), errors) if isinstance(item.data.get("patch"), list) else []
        patches.append(ManifestPatch(kind, name, item.mark(), tuple(operations), delete))
    raise_all(errors)
    return patches
