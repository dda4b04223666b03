"""Which operations made a value what it is, and which variables they took it from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from syntho_deploy.compile import Project
from syntho_deploy.documents import Json, Keys, walk
from syntho_deploy.errors import Mark, shown
from syntho_deploy.overlays.origins import Layers, Setter
from syntho_deploy.overlays.variables import REFERENCE


@dataclass(frozen=True)
class Origin:
    """One operation that set a value: `file:line:column`, its layer, op and reason.

    in_force: not shadowed by a later one; source: the path that it moved or copied from, whose own operations are in force as well;
    variables: those in what it wrote, each with the place that says what it is.
    """

    at: str
    layer: str
    op: str
    why: str
    in_force: bool
    source: str = ""
    variables: tuple[str, ...] = ()


def origins(project: Project, layers: Layers, keys: Keys) -> tuple[Origin, ...]:
    """The operations that set the value at `keys`, the last one last. None: the chart did."""
    return tuple(origin(project, one, in_force, (*one.inside, *keys[len(at) :])) for at, one, in_force in layers.history(keys))


def origin(project: Project, setter: Setter, in_force: bool, inside: Keys = ()) -> Origin:
    """One of them. inside: where in its value."""
    operation = setter.operation
    names = dict.fromkeys(match[1] for text in (*_texts(operation.value, inside), operation.path) for match in REFERENCE.finditer(text) if match[1])
    variables = tuple(dict.fromkeys(line for name in names for line in _variable(project, name)))
    return Origin(shown(setter.mark), setter.layer, operation.op, operation.why, in_force, operation.source, variables)


def _texts(value: Json, inside: Keys) -> Iterator[str]:
    """The texts that were written for a part of a value; where a variable gave the whole, that variable's."""
    here: Any = value
    key: Any
    for key in inside:
        if isinstance(here, dict | list):
            try:
                here = here[key]
            except (KeyError, IndexError, TypeError):
                return
    for _, found in walk(here):
        yield from found if isinstance(found, dict) else [found] if isinstance(found, str) else ()


def _variable(project: Project, name: str) -> Iterator[str]:
    """Where a variable is said, and where those are that it is made of."""
    environment, roles = project.environment, project.roles
    mark: Mark | None = environment.marks.get(f"vars.{name}")
    role = name.removeprefix("role:")
    if name.startswith("secret:") and (spec := environment.secrets.get(name.removeprefix("secret:"))):
        mark = spec.mark
    elif name in roles.derived:
        mark = roles.marks[f"derived.{name}"]
    elif name in ("env", "namespace"):
        mark = environment.marks["cluster.namespace"] if name == "namespace" else Mark(str(environment.file))
    elif name.startswith("release."):
        mark = environment.marks.get("releases") or Mark(str(roles.file))
    if mark:
        yield f"${{{name}}} is said in {shown(mark)}"
    if role != name and role in roles.values:
        chart, path = roles.values[role]
        yield f"${{{name}}} is the value {chart}:{path}"
    if name not in environment.vars:
        for match in REFERENCE.finditer(roles.derived.get(name, "")):
            yield from _variable(project, match[1]) if match[1] else ()
