"""The shape of the objects that the code reads: where a mapping, a list or a plain value stands, so that nothing after this has to ask again.

Only what is read is here, and only its shape: what else a schema says of a field is for the rules about schemas. Nulls stand for what is not
there, as for the API server; but a `spec` must be there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from syntho_deploy.documents import Json, Keys, walk
from syntho_deploy.errors import InputError
from syntho_deploy.overlays import pointer
from syntho_deploy.overlays.manifests import Manifest, is_custom

PLAIN = "a plain value"  # no mapping and no list; a mapping's "*" is the shape of whatever it has
TEXT = "text"
NUMBER = "a number or a switch"
WORDS: dict[str, Any] = {"*": PLAIN}
NAMED = {"name": TEXT}
KEY = {"name": TEXT, "key": TEXT}
FROM_OBJECT = {"name": TEXT, "secretName": TEXT, "items": [{"key": TEXT, "path": TEXT}]}
PROBE = {"exec": {"command": [PLAIN]}, **{key: {"port": PLAIN, "host": TEXT, "path": TEXT} for key in ("httpGet", "tcpSocket", "grpc")}}
CONTAINER = {
    "name": TEXT, "image": TEXT, "imagePullPolicy": TEXT, "restartPolicy": TEXT, "command": [PLAIN], "args": [PLAIN],
    "env": [{"name": TEXT, "value": PLAIN, "valueFrom": {"secretKeyRef": KEY, "configMapKeyRef": KEY, "fieldRef": {}, "resourceFieldRef": {}}}],
    "envFrom": [{"secretRef": NAMED, "configMapRef": NAMED}],
    "ports": [{"name": TEXT, "containerPort": PLAIN, "protocol": TEXT}],
    "resources": {"requests": WORDS, "limits": WORDS},
    "volumeMounts": [{"name": TEXT, "mountPath": TEXT, "subPath": TEXT}],
    "securityContext": {},
    **dict.fromkeys(("readinessProbe", "livenessProbe", "startupProbe"), PROBE),
    "lifecycle": dict.fromkeys(("postStart", "preStop"), PROBE),
}  # fmt: skip
METADATA = {"name": TEXT, "namespace": TEXT, "labels": WORDS, "annotations": WORDS, "finalizers": [TEXT]}
CLAIM = {"accessModes": [TEXT], "storageClassName": TEXT, "resources": {"requests": WORDS, "limits": WORDS}, "selector": {"matchLabels": WORDS}}
CLAIM_TEMPLATE = {"metadata": METADATA, "spec": CLAIM}
VOLUME = {
    "name": TEXT, "secret": FROM_OBJECT, "configMap": FROM_OBJECT, "persistentVolumeClaim": {"claimName": TEXT},
    "projected": {"sources": [{"secret": FROM_OBJECT, "configMap": FROM_OBJECT}]},
    "csi": {"driver": TEXT, "nodePublishSecretRef": NAMED}, "ephemeral": {"volumeClaimTemplate": CLAIM_TEMPLATE},
}  # fmt: skip
POD = {
    **{key: [CONTAINER] for key in ("containers", "initContainers", "ephemeralContainers")},
    "volumes": [VOLUME], "imagePullSecrets": [NAMED], "serviceAccountName": TEXT, "priorityClassName": TEXT, "overhead": WORDS,
    "nodeSelector": WORDS, "tolerations": [{"key": TEXT, "value": PLAIN, "operator": TEXT, "effect": PLAIN}], "affinity": {}, "securityContext": {},
}  # fmt: skip
TEMPLATE = {"metadata": METADATA, "spec": POD}
SELECTOR = {"matchLabels": WORDS, "matchExpressions": [{"key": TEXT, "operator": TEXT, "values": [TEXT]}]}
WORKLOAD = {
    "replicas": PLAIN, "selector": SELECTOR, "template": TEMPLATE, "serviceName": TEXT, "volumeClaimTemplates": [CLAIM_TEMPLATE], "strategy": {},
}  # fmt: skip
PEERS = [{"podSelector": SELECTOR, "namespaceSelector": SELECTOR, "ipBlock": {"cidr": TEXT, "except": [TEXT]}}]
POLICY_PORTS = [{"port": PLAIN, "endPort": PLAIN, "protocol": TEXT}]
BACKEND = {"service": {"name": TEXT, "port": {"number": PLAIN, "name": TEXT}}, "resource": {"kind": TEXT, "name": TEXT}}
SUBJECT = {"kind": TEXT, "name": TEXT, "namespace": TEXT}
ACCESS = [{key: [TEXT] for key in ("apiGroups", "resources", "verbs", "resourceNames", "nonResourceURLs")}]
GROUP = {
    "groupName": TEXT, "serviceType": TEXT, "rayStartParams": WORDS, "replicas": PLAIN, "minReplicas": PLAIN, "maxReplicas": PLAIN,
    "template": TEMPLATE,
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    **{key: {"spec": WORKLOAD} for key in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job")},
    "CronJob": {"spec": {"jobTemplate": {"spec": WORKLOAD}}},
    "Pod": {"spec": POD},
    "Service": {"spec": {
        "type": TEXT, "selector": WORDS, "ports": [{"name": TEXT, "port": PLAIN, "targetPort": PLAIN, "protocol": TEXT}],
    }},
    "Ingress": {"spec": {
        "ingressClassName": TEXT, "defaultBackend": BACKEND, "tls": [{"secretName": TEXT, "hosts": [TEXT]}],
        "rules": [{"host": TEXT, "http": {"paths": [{"path": TEXT, "pathType": TEXT, "backend": BACKEND}]}}],
    }},
    "NetworkPolicy": {"spec": {
        "podSelector": SELECTOR, "policyTypes": [TEXT],
        "ingress": [{"from": PEERS, "ports": POLICY_PORTS}], "egress": [{"to": PEERS, "ports": POLICY_PORTS}],
    }},
    "PodDisruptionBudget": {"spec": {"selector": SELECTOR, "minAvailable": PLAIN, "maxUnavailable": PLAIN}},
    "HorizontalPodAutoscaler": {"spec": {"minReplicas": PLAIN, "maxReplicas": PLAIN, "scaleTargetRef": {"kind": TEXT, "name": TEXT}}},
    "PersistentVolumeClaim": {"spec": CLAIM},
    "ServiceAccount": {"imagePullSecrets": [NAMED], "secrets": [NAMED]},
    **{key: {"rules": ACCESS} for key in ("Role", "ClusterRole")},
    **{key: {"subjects": [SUBJECT], "roleRef": {"kind": TEXT, "name": TEXT}} for key in ("RoleBinding", "ClusterRoleBinding")},
    "ConfigMap": {"data": WORDS, "binaryData": WORDS},
    "Secret": {"data": WORDS, "stringData": WORDS, "type": TEXT},
    "RayCluster": {"spec": {"headGroupSpec": GROUP, "workerGroupSpecs": [GROUP], "autoscalerOptions": {}}},
}  # fmt: skip


def misshapen(manifest: Manifest) -> list[InputError]:
    """What of an object has not the shape that its kind has, each with where an overlay made it so."""
    found = []
    for keys, what in _of_object(manifest.item):
        setters = manifest.origins.origin(keys)
        by = setters[-1] if setters else manifest.added
        todo = "correct it" if by else "a value that the chart's template does not expect makes it so: correct that value, or patch the object"
        found.append(InputError(f"{manifest.label} has {what} at {pointer.text(keys)}", by.mark if by else None, todo))
    return found


def _of_object(item: dict[str, Json]) -> Iterator[tuple[Keys, str]]:
    yield from _faults(item, {"metadata": METADATA}, ())
    if item["kind"] == "RayCluster" or not is_custom(item):
        yield from _faults(item, KINDS.get(item["kind"], {}), ())
    else:
        for keys, value in walk(item):
            if isinstance(value, dict) and isinstance(value.get("containers"), list):
                yield from _faults(value, POD, keys)


def _faults(value: Json, shape: Any, keys: Keys) -> Iterator[tuple[Keys, str]]:
    wanted = "a list" if isinstance(shape, list) else "a mapping" if isinstance(shape, dict) else shape
    if value is None:
        if keys and (keys[-1] == "spec" or isinstance(keys[-1], int)):
            yield keys, f"nothing in the place of {wanted}"
    elif (is_ := _shape_of(value)) != wanted and not (wanted == PLAIN and is_ in (TEXT, NUMBER)):
        yield keys, f"{is_} in the place of {wanted}"
    elif isinstance(shape, list):
        for index, item in enumerate(value):
            yield from _faults(item, shape[0], (*keys, index))
    elif "*" in shape:
        for key, item in value.items():
            yield from _faults(item, shape["*"], (*keys, key))
    elif isinstance(shape, dict):
        for key, inner in shape.items():
            if key in value or key == "spec":
                yield from _faults(value.get(key), inner, (*keys, key))


def _shape_of(value: Json) -> str:
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a mapping"
    return TEXT if isinstance(value, str) else NUMBER
