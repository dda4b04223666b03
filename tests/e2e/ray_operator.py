"""A stand-in for the KubeRay operator, for clusters whose containers do not run.

It behaves as KubeRay 0.6 does where it matters here: the head's Service, the pods of every group with the operator's labels, a
deleted pod made anew from the current spec, and existing pods left alone when only their environment changes.
"""

from __future__ import annotations

import copy
import itertools
import threading
from types import TracebackType
from typing import Any

from syntho_deploy.cluster.client import ApiError, Client
from syntho_deploy.cluster.readiness import HEAD_SERVICE_SUFFIX, Live, ray_group, ray_groups
from syntho_deploy.cluster.watch import View

RAY = ("ray.io/v1alpha1", "RayCluster")


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
        with View(self._client, self._namespace, [RAY, ("v1", "Pod"), ("v1", "Service")]) as view:
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

    def _reconcile(self, cluster: dict[str, Any], live: Live) -> None:
        name = cluster["metadata"]["name"]
        if live.get("Service", name + HEAD_SERVICE_SUFFIX) is None:
            ports = [{"name": "gcs", "port": 6379}, {"name": "dashboard", "port": 8265}, {"name": "client", "port": 10001}]
            self._create("Service", name + HEAD_SERVICE_SUFFIX, cluster, {"spec": {"selector": {"ray.io/cluster": name}, "ports": ports}})
        wanted = ray_groups(cluster)
        present = [item for (kind, _), item in live.objects.items() if kind == "Pod" and self._labels(item).get("ray.io/cluster") == name]
        for group, template, count in wanted:
            mine = [pod for pod in present if ray_group(pod) == group]
            for _ in range(count - len(mine)):
                self._pod(cluster, group, template)
            for pod in mine[count:]:
                self._client.delete("v1", "Pod", self._namespace, pod["metadata"]["name"])
        for pod in present:
            if ray_group(pod) not in {group for group, _, _ in wanted}:
                self._client.delete("v1", "Pod", self._namespace, pod["metadata"]["name"])

    def _pod(self, cluster: dict[str, Any], group: str, template: dict[str, Any]) -> None:
        name = cluster["metadata"]["name"]
        spec = copy.deepcopy(template["spec"])
        for container in spec["containers"]:
            container["env"] = [*(container.get("env") or []), {"name": "RAY_IP", "value": "127.0.0.1"}, {"name": "RAY_PORT", "value": "6379"}]
        labels = {
            "ray.io/cluster": name, "ray.io/group": group or "headgroup", "ray.io/node-type": "worker" if group else "head",
            "ray.io/is-ray-node": "yes",
        }  # fmt: skip
        suffix = f"{'worker-' + group.lower() if group else 'head'}-{next(self._numbers):05d}"
        self._create("Pod", f"{name}-{suffix}", cluster, {"spec": spec}, {**(template.get("metadata", {}).get("labels") or {}), **labels})

    def _create(self, kind: str, name: str, cluster: dict[str, Any], body: dict[str, Any], labels: dict[str, str] | None = None) -> None:
        owner = {"apiVersion": RAY[0], "kind": RAY[1], "name": cluster["metadata"]["name"], "uid": cluster["metadata"]["uid"], "controller": True}
        metadata = {"name": name, "namespace": self._namespace, "labels": labels or {}, "ownerReferences": [owner]}
        self._client.create({"apiVersion": "v1", "kind": kind, "metadata": metadata, **body})

    @staticmethod
    def _labels(item: dict[str, Any]) -> dict[str, str]:
        return item["metadata"].get("labels") or {}
