"""Which pods stand in the way of a StatefulSet."""

from __future__ import annotations

from typing import Any

from syntho_deploy.cluster.readiness import Live, blocking_pods

Object = dict[str, Any]
ITEM = {"kind": "StatefulSet", "metadata": {"name": "redis"}}


def pod(name: str, revision: str, ready: str, owner: str = "uid") -> Object:
    metadata = {"name": name, "labels": {"controller-revision-hash": revision}, "ownerReferences": [{"uid": owner}]}
    return {"kind": "Pod", "metadata": metadata, "status": {"conditions": [{"type": "Ready", "status": ready}]}}


def blocking(*pods: Object, generation: int = 2, **spec: Any) -> list[str]:
    status = {"observedGeneration": 2, "updateRevision": "new"}
    found = {"kind": "StatefulSet", "metadata": {"name": "redis", "uid": "uid", "generation": generation}, "spec": spec, "status": status}
    live = Live({(item["kind"], item["metadata"]["name"]): item for item in (found, *pods)}, lambda _: "")
    return [item["metadata"]["name"] for item in blocking_pods(ITEM, live)]


def test_a_pod_of_an_older_revision_that_is_not_ready_stands_in_the_way() -> None:
    assert blocking(pod("redis-0", "old", "False"), pod("redis-1", "old", "True"), pod("redis-2", "new", "False")) == ["redis-0"]
    assert blocking(pod("other-0", "old", "False", "another")) == []


def test_nothing_is_known_before_the_controller_has_seen_the_change() -> None:
    assert blocking(pod("redis-0", "old", "False"), generation=3) == []


def test_who_replaces_pods_by_hand_is_left_alone() -> None:
    assert blocking(pod("redis-0", "old", "False"), updateStrategy={"type": "OnDelete"}) == []
