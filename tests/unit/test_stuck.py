"""Which trouble is of the current revision, and which has lasted too long."""

from __future__ import annotations

from typing import Any

import pytest

from syntho_deploy.cluster.readiness import Live
from syntho_deploy.cluster.stuck import HEALED_SECONDS, Clock, Patience, Trouble, current, troubles
from syntho_deploy.graces import GRACES

Object = dict[str, Any]
ITEM = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "core"}}


def meta(name: str, owner: str = "", **more: Any) -> Object:
    owners = [{"uid": owner, "controller": True}] if owner else []
    return {"name": name, "uid": f"uid-{name}", "ownerReferences": owners, **more}


def template(image: str, **labels: str) -> Object:
    return {"metadata": {"creationTimestamp": None, "labels": {"app": "core", **labels}}, "spec": {"containers": [{"name": "core", "image": image}]}}


def deployment(image: str) -> Object:
    return {"kind": "Deployment", "metadata": meta("core"), "spec": {"template": template(image)}}


def replica_set(name: str, image: str, **status: Any) -> Object:
    spec = {"template": template(image, **{"pod-template-hash": name})}
    return {"kind": "ReplicaSet", "metadata": meta(name, "uid-core"), "spec": spec, "status": status}


def pod(name: str, owner: str, reason: str = "", restarts: int = 0, **status: Any) -> Object:
    waiting = {"waiting": {"reason": reason, "message": f"{reason} of {name}"}} if reason else {"running": {}}
    container = {"name": "core", "state": waiting, "restartCount": restarts}
    return {"kind": "Pod", "metadata": meta(name, owner), "spec": {}, "status": {"containerStatuses": [container], **status}}


def live(*objects: Object) -> Live:
    return Live({(item["kind"], item["metadata"]["name"]): item for item in objects}, lambda _: "")


def found(replica_sets: list[Object], *objects: Object, events: dict[str, list[Object]] | None = None, item: Object = ITEM) -> list[Trouble]:
    here = live(*objects)
    return troubles([current(item, here, replica_sets)], here, events or {})


def test_only_pods_of_the_replica_set_with_the_current_template_count() -> None:
    sets = [replica_set("old", "a:1"), replica_set("new", "a:2")]
    broken = [pod("old-1", "uid-old", "ImagePullBackOff"), pod("new-1", "uid-new", "CrashLoopBackOff")]
    assert [one.where for one in found(sets, deployment("a:2"), *broken)] == ["Deployment/core, pod new-1, container core"]
    assert [one.where for one in found(sets, deployment("a:1"), *broken)] == ["Deployment/core, pod old-1, container core"]


def test_before_the_controller_made_a_replica_set_no_pod_counts() -> None:
    """A Deployment that stops its old pods first keeps the old revision's number while it does."""
    assert found([replica_set("old", "a:1")], deployment("a:2"), pod("old-1", "uid-old", "ImagePullBackOff")) == []


def test_a_replica_set_of_another_deployment_with_the_same_template_does_not_count() -> None:
    other = replica_set("other", "a:1")
    other["metadata"]["ownerReferences"][0]["uid"] = "uid-elsewhere"
    assert found([other], deployment("a:1"), pod("other-1", "uid-other", "ImagePullBackOff")) == []


def test_of_a_stateful_set_the_pods_of_the_update_revision_count_once_its_controller_has_seen_the_change() -> None:
    item = {"kind": "StatefulSet", "metadata": {"name": "redis"}}
    old, new = pod("redis-0", "uid-redis", "ErrImagePull"), pod("redis-1", "uid-redis", "ErrImagePull")
    old["metadata"]["labels"], new["metadata"]["labels"] = {"controller-revision-hash": "r1"}, {"controller-revision-hash": "r2"}
    status = {"observedGeneration": 2, "updateRevision": "r2"}
    owner = {"kind": "StatefulSet", "metadata": meta("redis", generation=2), "spec": {}, "status": status}
    assert [one.where.split(", ")[1] for one in found([], owner, old, new, item=item)] == ["pod redis-1"]
    owner["metadata"]["generation"] = 3
    assert found([], owner, old, new, item=item) == []


def test_of_a_ray_cluster_the_pods_that_match_the_compiled_template_count() -> None:
    spec = {"headGroupSpec": {"template": template("ray:2")}}
    item = {"kind": "RayCluster", "metadata": {"name": "ray"}, "spec": spec}
    pods = []
    for name, image in (("head-old", "ray:1"), ("head-new", "ray:2")):
        one = pod(name, "uid-ray", "ImagePullBackOff")
        one["metadata"]["labels"] = {"ray.io/cluster": "ray", "ray.io/node-type": "head"}
        one["spec"] = template(image)["spec"]
        pods.append(one)
    assert [one.uid for one in found([], {"kind": "RayCluster", "metadata": meta("ray"), "spec": spec}, *pods, item=item)] == ["uid-head-new"]


@pytest.mark.parametrize("grace", [name for name, grace in GRACES.items() if grace.waiting])
def test_each_reason_of_a_container_is_known_also_of_an_init_container(grace: str) -> None:
    for reason in GRACES[grace].waiting:
        one = pod("new-1", "uid-new", reason)
        one["status"]["initContainerStatuses"] = one["status"].pop("containerStatuses")
        assert [item.grace for item in found([replica_set("new", "a")], deployment("a"), one)] == [grace]


def test_waiting_to_be_created_is_no_trouble() -> None:
    assert found([replica_set("new", "a")], deployment("a"), pod("new-1", "uid-new", "ContainerCreating")) == []


def event(reason: str, message: str, container: str = "core") -> Object:
    return {"reason": reason, "message": message, "involvedObject": {"fieldPath": f"spec.containers{{{container}}}"}}


def test_the_text_is_the_longest_that_was_said_of_that_container() -> None:
    events = [event("Failed", "Failed to pull image: 404 not found here"), event("Failed", "a much longer one of another container", "other")]
    (one,) = found([replica_set("new", "a")], deployment("a"), pod("new-1", "uid-new", "ErrImagePull"), events={"uid-new-1": events})
    assert one.text == "Failed to pull image: 404 not found here"


def test_a_mount_fails_until_an_image_is_pulled() -> None:
    events = [event("FailedMount", "no such secret")]
    waiting = pod("new-1", "uid-new", "ContainerCreating")
    (one,) = found([replica_set("new", "a")], deployment("a"), waiting, events={"uid-new-1": events})
    assert (one.grace, one.text) == ("mount", "no such secret")
    assert found([replica_set("new", "a")], deployment("a"), waiting, events={"uid-new-1": [*events, event("Pulling", "")]}) == []
    assert found([replica_set("new", "a")], deployment("a"), pod("new-1", "uid-new"), events={"uid-new-1": events}) == []


def test_a_pod_without_a_node_for_its_volume_is_told_what_its_volume_waits_for() -> None:
    one = pod("new-1", "uid-new", conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "unbound"}])
    one["spec"] = {"volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]}
    claim = {"kind": "PersistentVolumeClaim", "metadata": meta("data")}
    events = {"uid-data": [event("ProvisioningFailed", 'storageclass "no-such" not found')]}
    (trouble,) = found([replica_set("new", "a")], deployment("a"), one, claim, events=events)
    assert (trouble.grace, trouble.text) == ("unschedulable", 'unbound; storageclass "no-such" not found')


def test_a_pod_that_cannot_be_made_is_told_by_the_condition_of_its_replica_set() -> None:
    def refused(message: str, status: str = "True") -> list[tuple[str, str]]:
        condition = {"type": "ReplicaFailure", "status": status, "message": message}
        sets = [replica_set("old", "a:1", conditions=[{**condition, "message": "of the old one"}]), replica_set("new", "a", conditions=[condition])]
        return [(one.grace, one.text) for one in found(sets, deployment("a"))]

    assert refused("exceeded quota: small") == [("quota", "exceeded quota: small")]
    assert refused("violates PodSecurity") == [("denied", "violates PodSecurity")]
    assert refused("exceeded quota: small", "False") == []


def test_a_stateful_set_lacks_its_pod_until_the_pod_that_the_event_names_is_there() -> None:
    item = {"kind": "StatefulSet", "metadata": {"name": "redis"}}
    owner = {"kind": "StatefulSet", "metadata": meta("redis"), "spec": {}, "status": {"updateRevision": "r"}}
    events = {"uid-redis": [event("FailedCreate", 'create Pod redis-0 in StatefulSet redis failed error: pods "redis-0" is forbidden')]}
    assert [one.grace for one in found([], owner, events=events, item=item)] == ["denied"]
    assert found([], owner, pod("redis-0", "uid-redis"), events=events, item=item) == []


# --- the clock ------------------------------------------------------------------------------------------------------------


def trouble(grace: str = "image", restarts: int = 0) -> Trouble:
    return Trouble(grace, "uid", "Deployment/core", "Reason", "text", "core-1", "core", restarts)


def over(clock: Clock, now: float, one: Trouble | None, starting: bool = False) -> bool:
    return bool(clock.overdue([one] if one else [], starting, now))


def test_a_trouble_counts_from_when_it_was_first_seen() -> None:
    clock = Clock({"image": 10})
    assert not over(clock, 1000, trouble())
    assert not over(clock, 1009, trouble())
    assert over(clock, 1010, trouble())


def test_a_trouble_that_went_away_begins_anew() -> None:
    clock = Clock({"image": 10})
    over(clock, 0, trouble())
    over(clock, 5, None)
    assert not over(clock, 5 + HEALED_SECONDS, trouble())
    assert over(clock, 15 + HEALED_SECONDS, trouble())


def test_a_container_that_runs_for_a_moment_between_two_crashes_has_not_healed() -> None:
    clock = Clock({"crash": 10})
    over(clock, 0, trouble("crash", 1))
    over(clock, 5, None)
    assert over(clock, 12, trouble("crash", 3))


def test_a_crash_counts_only_after_two_more_restarts() -> None:
    clock = Clock({"crash": 10})
    over(clock, 0, trouble("crash", 7))
    assert not over(clock, 20, trouble("crash", 8))
    assert over(clock, 40, trouble("crash", 9))


def test_a_crash_waits_for_what_is_still_being_created() -> None:
    clock = Clock({"crash": 10})
    over(clock, 0, trouble("crash", 1), starting=True)
    over(clock, 20, trouble("crash", 5), starting=True)
    assert not over(clock, 29, trouble("crash", 7))
    assert over(clock, 30, trouble("crash", 7))


def test_two_troubles_have_two_clocks() -> None:
    clock = Clock({})
    over(clock, 0, trouble("image"))
    assert not over(clock, GRACES["image"].seconds, trouble("config"))


class Server:
    """A client whose events are given."""

    def __init__(self) -> None:
        self.events: list[Object] = []

    def objects(self, api_version: str, kind: str, namespace: str) -> list[Object]:
        return list(self.events) if kind == "Event" else [replica_set("new", "a")]


def test_an_event_counts_only_when_it_is_new_or_came_again_since_the_run_began() -> None:
    server = Server()
    old = {"metadata": {"uid": "e", "resourceVersion": "1"}, **event("FailedMount", "old"), "involvedObject": {"uid": "uid-new-1"}}
    server.events = [old]
    patience = Patience(server, "n", {"mount": 0}, print)  # type: ignore[arg-type]
    here = live(deployment("a"), pod("new-1", "uid-new", "ContainerCreating"))
    assert patience.ended([ITEM], here) == []
    server.events = [{**old, "metadata": {"uid": "e", "resourceVersion": "2"}, "message": "again"}]
    patience._next = 0.0
    (line,) = patience.ended([ITEM], here)
    assert line.startswith("Deployment/core, pod new-1: FailedMount for 0 s: again\n    -> ")
