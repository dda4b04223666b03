"""A stand-in for the KubeRay operator, for clusters whose containers do not run.

It behaves as KubeRay 0.6 does where it matters here (test_kuberay.py holds it against the real one): the head's Service, the pods of
every group as it makes them, a deleted pod made anew from the current spec; pods left alone when only their environment changes, and
when their group leaves the spec; with -forced-cluster-upgrade, pods of other images and resources deleted; with autoscaling, a sidecar
in the head, and workers deleted only by name.
"""

from __future__ import annotations

import copy
import itertools
import threading
from types import TracebackType
from typing import Any

from syntho_deploy.cluster.client import ApiError, Client
from syntho_deploy.cluster.readiness import AUTOSCALER, HEAD_SERVICE_SUFFIX, RAY_CLUSTER, Live, ray_group, ray_groups
from syntho_deploy.cluster.watch import View

RAY = ("ray.io/v1alpha1", "RayCluster")
FORCED = "-forced-cluster-upgrade"  # of the command of the operator's Deployment
PORTS = {"client": 10001, "dashboard": 8265, "gcs": 6379, "metrics": 8080}
APPLICATION = {"app.kubernetes.io/created-by": "kuberay-operator", "app.kubernetes.io/name": "kuberay"}

Object = dict[str, Any]


class RayOperator:
    """Runs while the context is open, in one namespace."""

    def __init__(self, client: Client, namespace: str) -> None:
        self._client, self._namespace = client, namespace
        self._stop = threading.Event()
        self._numbers = itertools.count(1)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> RayOperator:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with View(self._client, self._namespace, [RAY, ("v1", "Pod"), ("v1", "Service"), ("apps/v1", "Deployment")]) as view:
            while not self._stop.is_set():
                live = view.live()
                for (kind, _), item in list(live.objects.items()):
                    if kind == "RayCluster" and "deletionTimestamp" not in item["metadata"]:
                        try:
                            self._reconcile(item, live)
                        except ApiError as error:
                            if error.status not in (404, 409):
                                raise
                view.wait(0.2)

    def _reconcile(self, cluster: Object, live: Live) -> None:
        name, autoscaled = cluster["metadata"]["name"], bool(cluster["spec"].get("enableInTreeAutoscaling"))
        service = live.get("Service", name + HEAD_SERVICE_SUFFIX)
        if service is None:
            self._service(cluster)
        elif not cluster.get("status", {}).get("head"):
            head = {"status": {"head": {"serviceIP": service["spec"].get("clusterIP", "")}}}
            path = self._client.path(*RAY, self._namespace, name) + "/status"
            self._client.request("PATCH", path, head, content_type="application/merge-patch+json")
        present = live.ray_pods(name)
        forced = any(FORCED in word for (kind, _), item in live.objects.items() if kind == "Deployment" for word in _command(item))
        bounds = {group["groupName"]: group for group in cluster["spec"].get("workerGroupSpecs") or []}
        for group, template, count in ray_groups(cluster):
            mine = [pod for pod in present if ray_group(pod) == group]
            if forced and (old := [pod for pod in mine if _outdated(template, pod)]):
                return self._delete(old)
            named = bounds[group].get("scaleStrategy", {}).get("workersToDelete") or [] if group else []
            self._delete([pod for pod in mine if pod["metadata"]["name"] in named])
            mine = [pod for pod in mine if pod["metadata"]["name"] not in named]
            wanted = min(count, bounds[group].get("maxReplicas", count)) if group else count
            if wanted > len(mine):  # what is seen may be old: a pod too many would stay where the autoscaler counts
                listed = self._client.objects("v1", "Pod", self._namespace, f"{RAY_CLUSTER}={name}")
                mine = [pod for pod in listed if ray_group(pod) == group and "deletionTimestamp" not in pod["metadata"]]
            for _ in range(wanted - len(mine)):
                self._pod(cluster, group, template, autoscaled)
            if not (autoscaled and group):
                self._delete(mine[wanted:])
        return None

    def _service(self, cluster: Object) -> None:
        name = cluster["metadata"]["name"]
        selector = {**APPLICATION, "ray.io/cluster": name, "ray.io/identifier": f"{name}-head", "ray.io/node-type": "head"}
        ports = [{"name": port, "port": number, "targetPort": number, "appProtocol": "tcp"} for port, number in PORTS.items()]
        kind = cluster["spec"]["headGroupSpec"].get("serviceType") or "ClusterIP"
        self._create("Service", name + HEAD_SERVICE_SUFFIX, cluster, {"spec": {"selector": selector, "ports": ports, "type": kind}}, selector)

    def _pod(self, cluster: Object, group: str, template: Object, autoscaled: bool) -> None:
        name, spec = cluster["metadata"]["name"], copy.deepcopy(template["spec"])
        ray = spec["containers"][0]
        node, address = "worker" if group else "head", f"{name}{HEAD_SERVICE_SUFFIX}.{self._namespace}.svc.cluster.local"
        reach = [{"name": "FQ_RAY_IP", "value": address}, {"name": "RAY_IP", "value": name + HEAD_SERVICE_SUFFIX}] if group else []
        spec.setdefault("volumes", []).append({"name": "shared-mem", "emptyDir": {"medium": "Memory"}})
        ray.setdefault("volumeMounts", []).append({"name": "shared-mem", "mountPath": "/dev/shm"})
        if group:
            wait = {"name": "wait-gcs-ready", "image": ray["image"], "command": ["/bin/bash", "-lc", "--"], "env": reach}
            spec["initContainers"] = [*(spec.get("initContainers") or []), wait]
        elif autoscaled:
            spec["containers"].append({"name": AUTOSCALER, "image": ray["image"]})
            spec["serviceAccountName"] = name
            self._service_account(cluster)
        ray["command"], ray["args"] = ["/bin/bash", "-lc", "--"], ["ray start"]
        own = {"name": "RAY_CLUSTER_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['ray.io/cluster']"}}}
        plain = {
            "RAY_PORT": "6379", "RAY_ADDRESS": f"{address if group else '127.0.0.1'}:6379", "RAY_USAGE_STATS_KUBERAY_IN_USE": "1",
            "REDIS_PASSWORD": "", "RAY_DASHBOARD_ENABLE_K8S_DISK_USAGE": "1",
        }  # fmt: skip
        ray["env"] = [*(ray.get("env") or []), *reach, own, *({"name": key, "value": value} for key, value in plain.items())]
        metadata = template.get("metadata") or {}
        labels = {
            "ray.io/cluster": name, "ray.io/group": group or "headgroup", "ray.io/identifier": f"{name}-{node}", "ray.io/is-ray-node": "yes",
            "ray.io/node-type": node,
        }  # fmt: skip
        notes = {**(metadata.get("annotations") or {}), "ray.io/ft-enabled": "false", "ray.io/health-state": ""}
        suffix = f"{'worker-' + group.lower() if group else 'head'}-{next(self._numbers):05d}"
        self._create("Pod", f"{name}-{suffix}", cluster, {"spec": spec}, {**APPLICATION, **(metadata.get("labels") or {}), **labels}, notes)

    def _service_account(self, cluster: Object) -> None:
        if self._client.get("v1", "ServiceAccount", self._namespace, cluster["metadata"]["name"]) is None:
            self._create("ServiceAccount", cluster["metadata"]["name"], cluster, {})

    def _create(
        self, kind: str, name: str, cluster: Object, body: Object, labels: dict[str, str] | None = None, notes: dict[str, str] | None = None
    ) -> None:
        owner = {"apiVersion": cluster["apiVersion"], "kind": RAY[1], "name": cluster["metadata"]["name"], "uid": cluster["metadata"]["uid"]}
        metadata = {"name": name, "namespace": self._namespace, "labels": labels or {}, "annotations": notes or {}}
        metadata |= {"ownerReferences": [{**owner, "controller": True}]}
        self._client.create({"apiVersion": "v1", "kind": kind, "metadata": metadata, **body})

    def _delete(self, pods: list[Object]) -> None:
        for pod in pods:
            self._client.delete("v1", "Pod", self._namespace, pod["metadata"]["name"])


def _command(deployment: Object) -> list[str]:
    return [str(word) for container in deployment["spec"]["template"]["spec"]["containers"] for word in container.get("command") or []]


def _outdated(template: Object, pod: Object) -> bool:
    """KubeRay 0.6, PodNotMatchingTemplate: another number of containers, other names, images or resources."""
    running = pod.get("status", {}).get("phase") == "Running"
    images, wanted = ({one["name"]: one["image"] for one in spec["containers"]} for spec in (pod["spec"], template["spec"]))
    sizes = {one["name"]: one.get("resources") or {} for one in pod["spec"]["containers"]}
    return running and (
        images != wanted or any(_amounts(one.get("resources")) != _amounts(sizes[one["name"]]) for one in template["spec"]["containers"])
    )


def _amounts(resources: Object | None) -> dict[str, Any]:
    from kubernetes.utils.quantity import parse_quantity

    found = resources or {}
    return {f"{kind}.{name}": parse_quantity(value) for kind in ("limits", "requests") for name, value in (found.get(kind) or {}).items()}  # type: ignore[no-untyped-call]
