"""The local cluster does what deployments need of a cluster, keeps to itself, and goes without a trace."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

from syntho_deploy import process
from syntho_deploy.cluster import local
from syntho_deploy.errors import InputError, PreflightError
from syntho_deploy.tools import cache_dir, provision

Eventually = Callable[..., Any]
LABELS = {"app": "x"}
POD = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "c", "image": "example.com/none:1"}]}}


def api(cluster: local.Cluster) -> Any:
    return config.new_client_from_config(str(cluster.kubeconfig), cluster.context)


@pytest.fixture(scope="module")
def kube(cluster: local.Cluster) -> Any:
    return api(cluster)


@pytest.fixture
def namespace(kube: Any) -> Iterator[str]:
    name = f"local-{time.monotonic_ns()}"
    core: Any = client.CoreV1Api(kube)
    core.create_namespace({"metadata": {"name": name}})
    yield name
    core.delete_namespace(name)


@pytest.fixture(scope="module")
def spare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[local.Cluster]:
    """A kwok cluster to be mistreated, made by a user with a kubeconfig of their own, and without kubectl on PATH."""
    provision(["kwokctl", "kwok", "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"])
    home = tmp_path_factory.mktemp("home")
    (home / ".kube").mkdir()
    (home / ".kube" / "config").write_text("the user's\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHO_DEPLOY_CACHE", str(cache_dir()))
        patch.setenv("HOME", str(home))
        patch.setenv("PATH", str(tmp_path_factory.mktemp("empty")))
        patch.setenv("KUBECONFIG", str(home / ".kube" / "config"))
        made = local.create(f"spare-{os.getpid()}", provider="kwok", audit=True)
        yield made
        local.delete(made.name)
        assert [path.read_text() for path in home.rglob("*") if path.is_file()] == ["the user's\n"]


def test_a_second_create_finds_the_running_cluster_without_starting_a_process(cluster: local.Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(process, "run", refuse)
    began = time.monotonic()
    assert local.create(cluster.name) == cluster
    assert time.monotonic() - began < 1


def test_status_says_what_it_is_and_how_to_reach_it(cluster: local.Cluster) -> None:
    status = json.loads(json.dumps(local.status(cluster.name)))
    assert (status["exists"], status["running"], status["kubeconfig"]) == (True, True, str(cluster.kubeconfig))
    assert status["server"].startswith("https://127.0.0.1:")
    assert status["version"].startswith("v1.")
    if cluster.provider == "kwok":
        assert status["what"] == "kwok: a real API server, simulated nodes; containers do not run"


def test_status_of_a_cluster_that_is_not_there_creates_nothing() -> None:
    status = local.status("nobodys")
    assert (status["exists"], status["running"], status["version"]) == (False, False, None)
    assert not Path(status["kubeconfig"]).parent.exists()


def test_a_deployment_gets_ready_even_with_ephemeral_storage_and_init_containers(
    cluster: local.Cluster, kube: Any, namespace: str, eventually: Eventually
) -> None:
    if cluster.provider != "kwok":
        pytest.skip("the image does not exist, and kind would pull it")
    container = {**POD["spec"]["containers"][0], "resources": {"requests": {"ephemeral-storage": "3Gi", "cpu": "1"}}}
    template = {**POD, "spec": {"containers": [container], "initContainers": [{"name": "i", "image": "busybox"}]}}
    spec = {"replicas": 2, "selector": {"matchLabels": LABELS}, "template": template}
    apps: Any = client.AppsV1Api(kube)
    apps.create_namespaced_deployment(namespace, {"metadata": {"name": "d"}, "spec": spec})
    eventually(lambda: apps.read_namespaced_deployment("d", namespace).status.ready_replicas == 2)
    pods = client.CoreV1Api(kube).list_namespaced_pod(namespace).items
    assert len({pod.status.pod_ip for pod in pods}) == 2
    apps.delete_namespaced_deployment("d", namespace)
    eventually(lambda: not client.CoreV1Api(kube).list_namespaced_pod(namespace).items)


@pytest.mark.parametrize("mode", ["ReadWriteOnce", "ReadWriteMany"])
@pytest.mark.parametrize("storage_class", ["default", "kwok-volume", None])
def test_a_claim_binds(kube: Any, namespace: str, eventually: Eventually, storage_class: str | None, mode: str) -> None:
    core: Any = client.CoreV1Api(kube)
    spec: dict[str, Any] = {"accessModes": [mode], "resources": {"requests": {"storage": "100Mi"}}}
    if storage_class:
        spec["storageClassName"] = storage_class
    core.create_namespaced_persistent_volume_claim(namespace, {"metadata": {"name": "c"}, "spec": spec})
    eventually(lambda: core.read_namespaced_persistent_volume_claim("c", namespace).status.phase == "Bound", 120)
    claim = core.read_namespaced_persistent_volume_claim("c", namespace)
    assert (claim.spec.storage_class_name, claim.status.access_modes) == (storage_class or "default", [mode])
    core.delete_namespaced_persistent_volume_claim("c", namespace)
    eventually(lambda: claim.spec.volume_name not in {volume.metadata.name for volume in core.list_persistent_volume().items}, 60)


def test_a_stateful_set_gets_its_volumes(cluster: local.Cluster, kube: Any, namespace: str, eventually: Eventually) -> None:
    if cluster.provider != "kwok":
        pytest.skip("the image does not exist, and kind would pull it")
    claim = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}
    spec = {"serviceName": "s", "replicas": 2, "selector": {"matchLabels": LABELS}, "template": POD, "volumeClaimTemplates": [claim]}
    apps: Any = client.AppsV1Api(kube)
    apps.create_namespaced_stateful_set(namespace, {"metadata": {"name": "s"}, "spec": spec})
    eventually(lambda: apps.read_namespaced_stateful_set("s", namespace).status.ready_replicas == 2)
    claims = client.CoreV1Api(kube).list_namespaced_persistent_volume_claim(namespace).items
    assert {claim.metadata.name: claim.status.phase for claim in claims} == {"data-s-0": "Bound", "data-s-1": "Bound"}


def ray_crd() -> dict[str, Any]:
    group = {"type": "object", "properties": {"replicas": {"type": "integer"}}}
    spec = {"type": "object", "properties": {"workerGroupSpecs": {"type": "array", "items": group}}}
    status = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": status}}}
    version = {"name": "v1alpha1", "served": True, "storage": True, "subresources": {"status": {}}, "schema": schema}
    names = {"kind": "RayCluster", "listKind": "RayClusterList", "plural": "rayclusters", "singular": "raycluster"}
    return {"metadata": {"name": "rayclusters.ray.io"}, "spec": {"group": "ray.io", "names": names, "scope": "Namespaced", "versions": [version]}}


def test_a_ray_cluster_whose_crd_came_later_gets_its_status_and_the_status_follows(spare: local.Cluster, eventually: Eventually) -> None:
    crds: Any = client.ApiextensionsV1Api(api(spare))
    objects: Any = client.CustomObjectsApi(api(spare))
    place = ("ray.io", "v1alpha1", "default", "rayclusters")

    def workers(name: str) -> tuple[str, int, int] | None:
        status = objects.get_namespaced_custom_object(*place, name).get("status")
        return status and (status["state"], status["desiredWorkerReplicas"], status["availableWorkerReplicas"])

    def crd() -> Any:
        return next(iter(crds.list_custom_resource_definition(field_selector="metadata.name=rayclusters.ray.io").items), None)

    for _ in range(2):  # also after the CRD was deleted
        crds.create_custom_resource_definition(ray_crd())
        for name, spec in {"two": {"workerGroupSpecs": [{"replicas": 2}, {"replicas": 3}, {}]}, "none": {}}.items():
            body = {"apiVersion": "ray.io/v1alpha1", "kind": "RayCluster", "metadata": {"name": name}, "spec": spec}
            eventually(lambda body=body: created(objects, place, body))
        eventually(lambda: workers("two") == ("ready", 5, 5) and workers("none") == ("ready", 0, 0))
        objects.patch_namespaced_custom_object(*place, "two", {"spec": {"workerGroupSpecs": [{"replicas": 7}]}})
        eventually(lambda: workers("two") == ("ready", 7, 7))
        crds.delete_custom_resource_definition("rayclusters.ray.io")
        eventually(lambda: crd() is None)


def created(objects: Any, place: tuple[str, ...], body: dict[str, Any]) -> bool:
    """The API server serves a new kind a moment after it says so."""
    try:
        objects.create_namespaced_custom_object(*place, body)
    except client.ApiException as error:
        if error.status != 404:
            raise
        return False
    return True


def test_nothing_listens_outside_of_this_machine(spare: local.Cluster) -> None:
    inodes = {os.readlink(fd) for number in local._processes(spare) for fd in Path(f"/proc/{number}/fd").iterdir() if fd.is_symlink()}
    rows = [row.split() for table in ("tcp", "tcp6") for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
    listening = [row[1].split(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes]
    assert listening == ["0100007F"] * 6


def test_the_audit_log_has_the_requests_and_what_they_sent(spare: local.Cluster, eventually: Eventually) -> None:
    core: Any = client.CoreV1Api(api(spare))
    core.create_namespaced_config_map("default", {"metadata": {"name": "seen"}, "data": {"a": "b"}})

    def sent() -> bool:
        events = [json.loads(line) for line in spare.audit_log.read_text().splitlines()]
        return any(e["verb"] == "create" and e.get("requestObject", {}).get("data") == {"a": "b"} for e in events)

    eventually(sent)


def test_a_cluster_whose_processes_died_is_started_again_with_its_objects(spare: local.Cluster, eventually: Eventually) -> None:
    core: Any = client.CoreV1Api(api(spare))
    core.create_namespaced_config_map("default", {"metadata": {"name": "kept"}})
    for number in local._processes(spare):
        os.kill(number, signal.SIGKILL)
    eventually(lambda: not local._processes(spare))
    (spare.folder / "pids" / "etcd.pid").write_text(str(os.getpid()))  # after a reboot the number is another program's
    status = local.status(spare.name)
    assert (status["exists"], status["running"]) == (True, False)
    assert local.create(spare.name) == spare
    assert core.read_namespaced_config_map("kept", "default")


def test_processes_are_their_own_sessions_and_outlive_us(spare: local.Cluster) -> None:
    processes = local._processes(spare)
    assert len(processes) == 5
    assert all(os.getsid(number) == number and os.getpgid(number) != os.getpgrp() for number in processes)


def test_four_creates_at_once_make_two_clusters_and_delete_leaves_nothing() -> None:
    names = [f"twin-{letter}-{os.getpid()}" for letter in "ab"]
    said: list[str] = []
    half = cache_dir() / "clusters" / names[0]  # what a killed run leaves
    half.mkdir(parents=True)
    (half / "kwok.yaml").write_text("")
    try:
        with ThreadPoolExecutor(4) as pool:
            made = list(pool.map(lambda name: local.create(name, said.append, provider="kwok"), names * 2))
        assert made[:2] == made[2:]
        assert {cluster.name for cluster in made} == set(names)
        assert sum(line.startswith("creating") for line in said) == 2
        assert sum("waiting for it" in line for line in said) == 2
        numbers = [number for cluster in made[:2] for number in local._processes(cluster)]
        assert len(numbers) == 10
    finally:
        deleted = [local.delete(name) for name in names]
    assert deleted == [True, True]
    assert not [number for number in numbers if Path(f"/proc/{number}/cmdline").exists() and Path(f"/proc/{number}/cmdline").read_bytes()]
    assert not any(cluster.folder.exists() for cluster in made)
    assert not local.delete(names[0])


def test_wrong_input_is_refused_with_the_nearest_right_thing(spare: local.Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="cannot be the name"):
        local.create("../up")
    with pytest.raises(InputError, match='did you mean "kwok"'):
        local.create("x", provider="kwock")
    monkeypatch.setenv("SYNTHO_LOCAL_PROVIDER", "kind")
    with pytest.raises(PreflightError, match="exists with kwok, not kind"):
        local.create(spare.name)
