"""When an apply would leave an object as it is, and what it would make of one, seen without asking the API server."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from syntho_deploy.cluster.predict import build, lean, stands

Object = dict[str, Any]
ITEM: Object = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "a", "namespace": "n", "finalizers": ["x/y"]},
    "spec": {
        "containers": [{"name": "one", "image": "i:1", "args": ["a", "b"], "ports": [{"containerPort": 80}]}, {"name": "two", "emptyDir": {}}],
        "nodeSelector": {"disk": "ssd"},
    },
}
FIELDS: Object = {
    "f:metadata": {"f:finalizers": {".": {}, 'v:"x/y"': {}}},
    "f:spec": {
        "f:containers": {
            'k:{"name":"one"}': {
                ".": {},
                "f:name": {},
                "f:image": {},
                "f:args": {},
                "f:ports": {'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}},
            },
            'k:{"name":"two"}': {".": {}, "f:name": {}, "f:emptyDir": {}},
        },
        "f:nodeSelector": {},
    },
}


def live() -> Object:
    """What the server stores: defaults, other managers' fields and list items, and who owns what."""
    found = copy.deepcopy(ITEM)
    entry = {"manager": "helm", "operation": "Apply", "apiVersion": "v1", "fieldsV1": FIELDS}
    other = {"manager": "kubelet", "operation": "Update", "subresource": "status", "fieldsV1": {}}
    found["metadata"] |= {"uid": "u", "managedFields": [entry, other], "finalizers": ["x/y", "other"]}
    found["spec"]["containers"][0]["ports"][0]["protocol"] = "TCP"
    found["spec"]["containers"][0]["imagePullPolicy"] = "Always"
    found["spec"]["containers"].insert(1, {"name": "injected"})
    found["status"] = {"phase": "Running"}
    return found


def test_what_stands_word_for_word_is_not_changed_by_an_apply() -> None:
    assert stands(ITEM, live())


def spec(found: Object) -> Object:
    inner: Object = found["spec"]
    return inner


CHANGES: dict[str, Callable[[Object, Object], Any]] = {
    "another value": lambda item, found: spec(item)["containers"][0].update(image="i:2"),
    "the live value was changed": lambda item, found: spec(found)["containers"][0].update(image="i:2"),
    "another type": lambda item, found: (spec(item)["nodeSelector"].update(disk=True), spec(found)["nodeSelector"].update(disk=1)),
    "a field less": lambda item, found: spec(item).pop("nodeSelector"),
    "a field more, though it stands there": lambda item, found: spec(item)["containers"][0].update(imagePullPolicy="Always"),
    "a null": lambda item, found: spec(item).update(nodeSelector=None),
    "an item less": lambda item, found: spec(item)["containers"].pop(),
    "an item more, though it stands there": lambda item, found: spec(item)["containers"].append({"name": "injected"}),
    "another order": lambda item, found: spec(item)["containers"].reverse(),
    "a map that is one": lambda item, found: spec(found)["nodeSelector"].update(zone="a"),
    "a list that is one": lambda item, found: spec(found)["containers"][0]["args"].append("c"),
    "a member of a set less": lambda item, found: item["metadata"]["finalizers"].clear(),
    "a member of a set is gone": lambda item, found: found["metadata"]["finalizers"].remove("x/y"),
    "an item is gone": lambda item, found: spec(found)["containers"].pop(0),
    "it is being deleted": lambda item, found: found["metadata"].update(deletionTimestamp="2024-01-01T00:00:00Z"),
    "made by Helm 3": lambda item, found: found["metadata"]["managedFields"][0].update(operation="Update"),
    "written by Helm 3 since": lambda item, found: found["metadata"]["managedFields"].append(
        {"manager": "helm", "operation": "Update", "fieldsV1": {}}
    ),
    "applied in another version": lambda item, found: found["metadata"]["managedFields"][0].update(apiVersion="v2"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_any_difference_has_the_server_asked(change: Callable[[Object, Object], Any]) -> None:
    item, found = copy.deepcopy(ITEM), live()
    change(item, found)
    assert not stands(item, found)


def test_what_is_not_there_is_asked_for() -> None:
    assert not stands(ITEM, None)


def service(selector: Object, *fields: tuple[str, Object]) -> Object:
    entries = [{"manager": manager, "operation": "Update", "fieldsV1": {"f:spec": one}} for manager, one in fields]
    return {"kind": "Service", "metadata": {"name": "a", "managedFields": entries}, "spec": {"selector": selector, "type": "ClusterIP"}}


def test_a_map_that_has_one_owner_is_replaced_whole() -> None:
    there = service({"app": "a", "tier": "x"}, ("helm", {"f:type": {}}), ("kubectl-edit", {"f:selector": {}}))
    item = {"kind": "Service", "metadata": {"name": "a"}, "spec": {"selector": {"app": "a"}}}
    assert build(there, item)["spec"]["selector"] == {"app": "a"}


def test_a_map_of_several_owners_keeps_what_others_added() -> None:
    entries = [("helm", {"f:selector": {"f:app": {}}}), ("injector", {"f:selector": {"f:tier": {}}})]
    item = {"kind": "Service", "metadata": {"name": "a"}, "spec": {"selector": {"app": "b"}}}
    assert build(service({"app": "a", "tier": "x"}, *entries), item)["spec"]["selector"] == {"app": "b", "tier": "x"}


def workload(**container: Any) -> Object:
    spec = {"affinity": {}, "containers": [{"name": "one", **container}, {"name": "new", "securityContext": {}}]}
    return {"kind": "Deployment", "metadata": {"name": "a"}, "spec": {"template": {"spec": spec}}}


def test_an_empty_map_that_the_server_dropped_is_not_brought_back() -> None:
    item = workload(securityContext={}, resources={})
    there = {"spec": {"template": {"spec": {"affinity": {}, "containers": [{"name": "one"}]}}}}
    found = lean(item, there)["spec"]["template"]["spec"]
    assert found == {"affinity": {}, "containers": [{"name": "one", "resources": {}}, {"name": "new", "securityContext": {}}]}
    assert item == workload(securityContext={}, resources={})
    assert lean(item, None) is item
    assert lean(workload(securityContext={"runAsUser": 1}), there)["spec"]["template"]["spec"]["containers"][0]["securityContext"] == {"runAsUser": 1}
