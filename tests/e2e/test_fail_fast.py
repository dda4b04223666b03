"""A deploy ends as soon as it is in vain to wait, in the words of the API server, and not because of what mends itself or is of an older revision.

Containers do not run here. So pods in question are left to a scheduler that does not exist, and the test plays their kubelet.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.permissions import account
from tests.e2e.ray_operator import RayOperator
from tests.e2e.site import Ran, Site

Eventually = Callable[..., Any]
VAIN = "these will not get ready by waiting"
BY_HAND = {"op": "add", "path": "/spec/template/spec/schedulerName", "value": "by-hand"}


def _core(site: Site, *operations: dict[str, Any]) -> None:
    site.overlay("syntho-ui.manifests.yaml", [{"target": {"kind": "Deployment", "name": "core"}, "patch": list(operations)}])


def _grace(site: Site, **graces: str) -> None:
    site.write({**site.read(), "grace": graces})


def _end(running: subprocess.Popen[str], code: int) -> Ran:
    out, err = running.communicate(timeout=120)
    assert running.returncode == code, f"exit {running.returncode}\n{out}\n{err}"
    return Ran(running.returncode, out, err)


def _held(site: Site, eventually: Eventually, selector: str = "app=core") -> dict[str, Any]:
    """The pod that no scheduler takes, once it is there."""
    found: list[dict[str, Any]] = eventually(
        lambda: [pod for pod in site.client().objects("v1", "Pod", site.namespace, selector) if not pod["spec"].get("nodeName")], 60
    )
    return found[0]


def _waiting(site: Site, pod: dict[str, Any], reason: str, message: str = "", restarts: int = 0) -> None:
    """Have the pod's container wait for a reason, as a kubelet writes it."""
    name = pod["spec"]["containers"][0]["name"]
    ended = {"exitCode": 3, "reason": "Error", "startedAt": None, "finishedAt": None}
    container = {
        "name": name, "image": "", "imageID": "", "ready": False, "restartCount": restarts,
        "state": {"waiting": {"reason": reason, "message": message}},
        **({"lastState": {"terminated": ended}} if restarts else {}),
    }  # fmt: skip
    conditions = [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "False"}]
    path = site.client().path("v1", "Pod", site.namespace, pod["metadata"]["name"]) + "/status"
    site.client().request("PATCH", path, {"status": {"containerStatuses": [container], "conditions": conditions}}, {}, "application/merge-patch+json")


def _event(site: Site, pod: dict[str, Any], reason: str, message: str) -> None:
    name = pod["spec"]["containers"][0]["name"]
    about = {"apiVersion": "v1", "kind": "Pod", "namespace": site.namespace, **{key: pod["metadata"][key] for key in ("name", "uid")}}
    metadata = {"generateName": f"{pod['metadata']['name']}.", "namespace": site.namespace}
    event = {"type": "Warning", "reason": reason, "message": message, "involvedObject": {**about, "fieldPath": f"spec.containers{{{name}}}"}}
    site.client().create({"apiVersion": "v1", "kind": "Event", "metadata": metadata, **event})


def _run(site: Site, pod: dict[str, Any]) -> None:
    """Give the pod a node, on which it then runs."""
    name = pod["metadata"]["name"]
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": {"kind": "Node", "name": "node-1"}}
    site.client().request("POST", site.client().path("v1", "Pod", site.namespace, name) + "/binding", binding)


WAITING = {
    "ImagePullBackOff": ("image", 'Back-off pulling image "x"', "Failed", 'Failed to pull image "x": x: not found', "check the image's name and tag"),
    "ErrImagePull": ("image", "no basic auth", "Failed", "Error: ErrImagePull", "the pull secret"),
    "CreateContainerConfigError": ("config", "", "Failed", 'Error: secret "no-such" not found', "make what it names"),
}


@pytest.mark.parametrize("reason", ["ImagePullBackOff", *(pytest.param(one, marks=pytest.mark.thorough) for one in [*WAITING][1:])])
def test_a_container_that_cannot_start_ends_the_deploy_with_the_words_of_its_event(site: Site, eventually: Eventually, reason: str) -> None:
    grace, message, event, words, todo = WAITING[reason]
    _grace(site, **{grace: "1s"})
    _core(site, BY_HAND)
    running = site.start("deploy", "--env=here", "--timeout=5m")
    pod = _held(site, eventually)
    _event(site, pod, event, words)
    _waiting(site, pod, reason, message)
    ran = _end(running, 5)
    assert VAIN in ran.stderr
    assert f"Deployment/core, pod {pod['metadata']['name']}, container core: {reason} for " in ran.stderr
    assert max(message, words, key=len) in ran.stderr
    assert todo in ran.stderr


def test_a_container_that_crashes_again_and_again_ends_the_deploy(site: Site, eventually: Eventually) -> None:
    _grace(site, crash="1s")
    _core(site, BY_HAND)
    running = site.start("deploy", "--env=here", "--timeout=5m")
    pod = _held(site, eventually)
    _waiting(site, pod, "CrashLoopBackOff", "back-off 10s restarting failed container", 1)

    def crash_again() -> bool:
        last = site.get("Pod", pod["metadata"]["name"], "v1") or pod
        restarts = last["status"]["containerStatuses"][0]["restartCount"]
        _waiting(site, pod, "CrashLoopBackOff", "back-off 10s restarting failed container", restarts + 1)
        return running.poll() is not None

    eventually(crash_again, 60)
    ran = _end(running, 5)
    assert "container core: CrashLoopBackOff for " in ran.stderr
    assert "exit code 3, Error; back-off 10s" in ran.stderr
    assert f"kubectl -n {site.namespace} logs {pod['metadata']['name']} -c core --previous" in ran.stderr


def test_a_volume_that_cannot_be_mounted_ends_the_deploy(site: Site, eventually: Eventually) -> None:
    _grace(site, mount="1s")
    _core(site, BY_HAND)
    running = site.start("deploy", "--env=here", "--timeout=5m")
    pod = _held(site, eventually)
    _waiting(site, pod, "ContainerCreating")
    _event(site, pod, "FailedMount", 'MountVolume.SetUp failed for volume "x" : configmap "no-such" not found')
    ran = _end(running, 5)
    assert "FailedMount for " in ran.stderr
    assert 'configmap "no-such" not found' in ran.stderr


def test_a_pod_that_fits_no_node_ends_the_deploy(site: Site) -> None:
    _grace(site, unschedulable="1s")
    _core(site, {"op": "add", "path": "/spec/template/spec/nodeSelector", "value": {"no": "such"}})
    ran = site.invoke("deploy", "--timeout=5m", code=5)
    assert VAIN in ran.stderr
    assert "Unschedulable for " in ran.stderr
    assert "didn't match Pod's node affinity/selector" in ran.stderr


def _quota(site: Site, eventually: Eventually, pods: str) -> None:
    client = site.client()
    client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": site.namespace}})
    client.apply(
        {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small", "namespace": site.namespace}, "spec": {"hard": {"pods": pods}}}
    )
    eventually(lambda: (site.get("ResourceQuota", "small", "v1") or {}).get("status", {}).get("hard") == {"pods": pods})


def test_a_quota_that_is_exceeded_ends_the_deploy(site: Site, eventually: Eventually) -> None:
    _grace(site, quota="1s")
    _quota(site, eventually, "0")
    ran = site.invoke("deploy", "--timeout=5m", code=5)
    assert re.search(r"Deployment/\S+: FailedCreate for \d+ s: .*exceeded quota: small", ran.stderr)
    assert "have the quota raised" in ran.stderr


def test_a_pod_that_the_namespace_does_not_admit_ends_the_deploy(site: Site) -> None:
    _grace(site, denied="1s")
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    site.client().apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": site.namespace, "labels": labels}})
    ran = site.invoke("deploy", "--timeout=5m", code=5)
    assert re.search(r"Deployment/\S+: FailedCreate for \d+ s: .*violates PodSecurity", ran.stderr)


@pytest.mark.thorough
def test_a_stateful_set_whose_pod_is_denied_ends_the_deploy(site: Site) -> None:
    _grace(site, denied="1s")
    patch = [{"op": "add", "path": "/spec/template/spec/priorityClassName", "value": "no-such"}]
    site.overlay("syntho-ui.manifests.yaml", [{"target": {"kind": "StatefulSet", "name": "redis"}, "patch": patch}])
    ran = site.invoke("deploy", "--timeout=5m", code=5)
    assert re.search(r"StatefulSet/redis: FailedCreate for \d+ s: .*no PriorityClass with name no-such", ran.stderr)


@pytest.mark.thorough
def test_a_pod_of_ray_that_cannot_start_ends_the_deploy(site: Site, eventually: Eventually) -> None:
    _grace(site, image="1s")
    path = "/spec/headGroupSpec/template/spec/schedulerName"
    site.overlay("ray.manifests.yaml", [{"target": {"kind": "RayCluster"}, "patch": [{"op": "add", "path": path, "value": "by-hand"}]}])
    with RayOperator(site.client(), site.namespace):
        running = site.start("deploy", "--env=here", "--timeout=5m")
        pod = _held(site, eventually, "ray.io/cluster=ray-cluster")
        _waiting(site, pod, "ErrImagePull", "x: not found")
        ran = _end(running, 5)
    assert f"RayCluster/ray-cluster, pod {pod['metadata']['name']}, container " in ran.stderr
    assert "ErrImagePull for " in ran.stderr


def test_it_goes_back_as_from_any_other_failure(site: Site, eventually: Eventually) -> None:
    site.deploy()
    _grace(site, image="1s")
    _core(site, BY_HAND, {"op": "replace", "path": "/spec/replicas", "value": 1})
    running = site.start("deploy", "--env=here", "--timeout=5m")
    _waiting(site, _held(site, eventually), "ErrImagePull", "x: not found")
    ran = _end(running, 5)
    assert VAIN in ran.stderr
    assert "the last good state was deployed again and verified" in ran.stderr
    core = site.get("Deployment", "core")
    assert core is not None
    assert core["spec"]["template"]["spec"]["schedulerName"] == "default-scheduler"


def test_a_broken_pod_of_the_old_revision_does_not_end_a_deploy(site: Site, eventually: Eventually) -> None:
    site.deploy()
    (old,) = site.client().objects("v1", "Pod", site.namespace, "app=core")
    _waiting(site, old, "ImagePullBackOff", "of the old revision")
    _grace(site, image="1s")
    _core(site, BY_HAND)
    running = site.start("deploy", "--env=here", "--timeout=8s", "--stay")
    _held(site, eventually)
    ran = _end(running, 5)
    assert "not ready in time" in ran.stderr
    assert VAIN not in ran.stderr
    assert "ImagePullBackOff" in json.dumps(site.get("Pod", old["metadata"]["name"], "v1"))


def test_a_trouble_that_heals_within_its_grace_does_not_end_a_deploy(site: Site, eventually: Eventually) -> None:
    _quota(site, eventually, "0")
    _core(site, BY_HAND)
    running = site.start("deploy", "--env=here", "--timeout=5m")
    eventually(lambda: any("exceeded quota" in event["message"] for event in site.client().objects("v1", "Event", site.namespace)), 60)
    _quota(site, eventually, "50")
    pod = _held(site, eventually)
    _waiting(site, pod, "ImagePullBackOff", "503")
    _run(site, pod)
    assert "deployed and verified" in _end(running, 0).stdout


@pytest.mark.thorough
def test_an_account_that_may_not_look_is_told_so_and_waits(site: Site) -> None:
    site.deploy()
    account(site, cluster_wide=False, without=("events", "replicasets"))
    _grace(site, unschedulable="1s")
    _core(site, {"op": "add", "path": "/spec/template/spec/nodeSelector", "value": {"no": "such"}})
    ran = site.invoke("deploy", "--timeout=6s", "--stay", code=5)
    assert "may not list Events" in ran.stderr
    assert "not ready in time" in ran.stderr


@pytest.mark.thorough
def test_a_stateful_set_goes_back_though_its_pod_of_the_failed_revision_never_ran(site: Site) -> None:
    """Its controller waits for that pod, which will not run, before it makes another: pods that are not ready are made in order."""
    site.deploy()
    _grace(site, unschedulable="1s")
    patch = [{"op": "add", "path": "/spec/template/spec/nodeSelector", "value": {"no": "such"}}]
    site.overlay("syntho-ui.manifests.yaml", [{"target": {"kind": "StatefulSet", "name": "redis"}, "patch": patch}])
    ran = site.invoke("deploy", "--timeout=40s", code=5)
    assert "StatefulSet/redis, pod redis-0: Unschedulable for " in ran.stderr
    assert "the last good state was deployed again and verified" in ran.stderr
