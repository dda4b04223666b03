"""Each operation of each component is needed, and a test knows for what: without it, the component's row in test_components fails.

So no row is thin, and no operation is for show. A `test`, and a copy onto itself, change nothing but what is refused: CLASHES and OUT_OF_PLACE
there. An operation that sets what the chart has anyhow is there for the clash with one that sets another value.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from syntho_deploy import documents
from syntho_deploy.documents import Json, Keys
from syntho_deploy.errors import InputError
from syntho_deploy.overlays.pointer import PointerError, compile_pointer, text
from tests.components import test_components, test_network_policies
from tests.components.conftest import Objects, Pinned

NETWORKS = "security/network-policies"
TWICE = ["default-deny.yaml: /spec/policyTypes/1"]  # dns.yaml selects every pod for Egress too


class Mutant(NamedTuple):
    """A file of a component, without one thing."""

    what: str
    file: Path
    text: str


def mutants(pinned: Pinned, component: str) -> Iterator[Mutant]:
    """Every file of a component without one of its operations, or of the items of a whole object."""
    folder = pinned.folder(component)
    for file in sorted(folder.glob("*.values.yaml")):
        operations = documents.load(file).data
        for index, operation in enumerate(operations):
            if acts(operation) and not defaults(pinned, file.name.partition(".")[0], operation):
                yield Mutant(f"{operation['op']} {operation['path']}", file, json.dumps(without(operations, index)))
    for file in sorted(folder.glob("*.manifests.yaml")):
        entries = documents.load(file).data
        for place, entry in enumerate(entries):
            target = "/".join(entry["target"].values())
            if entry.get("delete"):
                yield Mutant(f"delete {target}", file, json.dumps(without(entries, place)))
            for index, operation in enumerate(entry.get("patch", [])):
                rest = {**entry, "patch": without(entry["patch"], index)}
                if acts(operation):
                    changed = [*entries[:place], *([rest] if rest["patch"] else []), *entries[place + 1 :]]
                    yield Mutant(f"{target}: {operation['op']} {operation['path']}", file, json.dumps(changed))
    for file in sorted(folder.glob("*.objects/*.yaml")):
        document = documents.load(file).data
        yield Mutant(f"{file.name}: all of it", file, json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "in-its-place"}}))
        for keys, _ in documents.walk(document):
            if keys and isinstance(keys[-1], int) and keys[-2] != "matchExpressions":  # without which a policy lets more through, not less
                yield Mutant(f"{file.name}: {text(keys)}", file, json.dumps(changed_at(document, keys)))


def acts(operation: dict[str, Json]) -> bool:
    return operation["op"] != "test" and operation.get("from") != operation["path"]


def defaults(pinned: Pinned, chart: str, operation: dict[str, Json]) -> bool:
    """Does an operation set what the chart has?"""
    here = pinned.load("it").defaults(chart)
    try:
        keys, _ = compile_pointer(here, operation["path"])
    except PointerError:
        return False
    for key in keys:
        here = here[key]
    return bool(operation["op"] == "replace" and here == operation["value"])


def without(items: list[Json], index: int) -> list[Json]:
    return [*items[:index], *items[index + 1 :]]


def changed_at(document: Json, keys: Keys) -> Json:
    """A document without an item of a list; of peers and ports, where none means all, the last one is another one instead."""
    document = documents.clone(document)
    here: Any = document
    for key in keys[:-1]:
        here = here[key]
    if len(here) == 1 and keys[-2] in ("from", "to", "ports"):
        here[0] = {"protocol": "TCP", "port": 9} if keys[-2] == "ports" else {"podSelector": {"matchLabels": {"no": "pod"}}}
    else:
        del here[keys[-1]]
    return document


def survivors(pinned: Pinned, component: str, claim: Callable[[], bool]) -> list[str]:
    """What can be taken from a component without that its claim fails."""
    found = []
    for mutant in list(mutants(pinned, component)):
        kept = mutant.file.read_text(encoding="utf-8")
        mutant.file.write_text(mutant.text, encoding="utf-8")
        try:
            if claim():
                found.append(mutant.what)
        except InputError as error:
            if "uses the variable" in str(error):  # that would not be of the operation
                raise
        finally:
            mutant.file.write_text(kept, encoding="utf-8")
    return [one for one in found if one not in TWICE]


def holds(component: str, objects: Objects) -> bool:
    """Does all that is claimed of a component hold?"""
    if component.startswith(NETWORKS):
        scaling = {("ray head", "apiserver", port) for port in (443, 6443)} if component != NETWORKS else set()
        names = {flow for flow in test_network_policies.flows(objects, "UDP") if flow[2] == 53}
        return test_network_policies.flows(objects) == test_network_policies.EXPECTED | scaling and names == test_network_policies.NAMES
    return not any(test_components.differs(objects, place, value) for place, value in test_components.TABLE[component].items())


@pytest.mark.parametrize("pinned", ["sandbox"], indirect=True)
@pytest.mark.parametrize("component", test_components.TABLE)
def test_each_operation_of_a_component_is_needed_for_what_is_claimed_of_it(pinned: Pinned, component: str) -> None:
    names = test_components.environment(component)
    if component.startswith(NETWORKS):
        names = [*dict.fromkeys([*test_network_policies.ALL_IN_CHART, *test_components.BEFORE.get(component, []), component])]
    assert holds(component, pinned.objects(names))
    assert survivors(pinned, component, lambda: holds(component, pinned.objects(names))) == []
