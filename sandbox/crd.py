"""Writes the three CRDs of the sandbox's ray chart, from the OpenAPI document of a Kubernetes API server.

    kubectl get --raw /openapi/v3/api/v1 > v1.json
    python sandbox/crd.py v1.json

The pod template is expanded out of that document. What a KubeRay of the v1alpha1 era adds or leaves out is data below.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

Schema = dict[str, Any]

CRDS = Path(__file__).parent / "charts/ray/crds"
CORE = "io.k8s.api.core.v1."
QUANTITY = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+))?$"
EITHER: Schema = {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True}

# What no reference is followed into: the name of a type, and the schema in its place.
LEAVES: dict[str, Schema] = {
    "Quantity": {**EITHER, "pattern": QUANTITY},
    "IntOrString": EITHER,
}

# Fields that Kubernetes gained after the API that the CRDs describe (1.23). An API server prunes them from a
# RayCluster, or refuses them, so the sandbox must as well.
LATER: dict[str, str] = {
    "Container": "resizePolicy restartPolicy restartPolicyRules",
    "EnvVarSource": "fileKeyRef",
    "EphemeralContainer": "resizePolicy restartPolicy restartPolicyRules",
    "Lifecycle": "stopSignal",
    "LifecycleHandler": "sleep",
    "PersistentVolumeClaimSpec": "volumeAttributesClassName",
    "PodAffinityTerm": "matchLabelKeys mismatchLabelKeys",
    "PodSecurityContext": "appArmorProfile seLinuxChangePolicy supplementalGroupsPolicy",
    "PodSpec": "hostUsers hostnameOverride resourceClaims resources schedulingGates schedulingGroup",
    "ResourceRequirements": "claims",
    "SecurityContext": "appArmorProfile",
    "TopologySpreadConstraint": "matchLabelKeys minDomains nodeAffinityPolicy nodeTaintsPolicy",
    "TypedObjectReference": "namespace",
    "Volume": "image",
    "VolumeMount": "recursiveReadOnly",
    "VolumeProjection": "clusterTrustBundle podCertificate",
}

# All that is left of metadata inside the spec; the rest is pruned.
METADATA = "annotations finalizers labels name namespace"

# The only lists that a server-side apply merges by key, and the only map that it takes as a whole. `containers` and
# `env` are not among them: whoever applies one owns all of it.
KEYED = {
    "Container.ports": ["containerPort", "protocol"],
    "EphemeralContainer.ports": ["containerPort", "protocol"],
    "PodSpec.topologySpreadConstraints": ["topologyKey", "whenUnsatisfiable"],
}
ATOMIC = {"PodSpec.nodeSelector"}
DEFAULTS = {"ContainerPort.protocol": "TCP"}
OPTIONAL = {"HostAlias.ip"}


class Kubernetes:
    """The types of an OpenAPI document, as structural schemas."""

    def __init__(self, document: Schema) -> None:
        self.types: dict[str, Schema] = document["components"]["schemas"]

    def type(self, name: str, path: str) -> Schema:
        """One type of the core group, every reference in it expanded; `path` is where it stands in the resource."""
        return self._expand({"$ref": f"#/components/schemas/{CORE}{name}"}, path, "")

    def _expand(self, node: Schema, path: str, field: str) -> Schema:
        [node] = node.get("allOf", [node])
        owner = ""
        if "$ref" in node:
            full = node["$ref"].rpartition("/")[2]
            owner = full.rpartition(".")[2]
            if owner in LEAVES:
                return described(LEAVES[owner], path, field, owner)
            node = self.types[full]
        schema: Schema = {"type": node["type"]}
        if "format" in node:
            schema["format"] = node["format"]
        if field in DEFAULTS:
            schema["default"] = DEFAULTS[field]
        if field in KEYED:
            schema |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": KEYED[field]}
        if field in ATOMIC:
            schema["x-kubernetes-map-type"] = "atomic"
        if required := sorted(name for name in node.get("required", []) if f"{owner}.{name}" not in OPTIONAL):
            schema["required"] = required
        if "properties" in node:
            schema["properties"] = {
                name: self._expand(value, f"{path}.{name}", f"{owner}.{name}")
                for name, value in sorted(node["properties"].items())
                if name not in LATER.get(owner, "").split() and (owner != "ObjectMeta" or name in METADATA.split())
            }
        for key, mark in ("items", "[]"), ("additionalProperties", ".*"):
            if key in node:
                schema[key] = self._expand(node[key], path + mark, "")
                schema[key].pop("description")
        return described(schema, path, field, owner)


def described(schema: Schema, path: str, field: str, kind: str) -> Schema:
    """The schema with a text made of where it stands and of the names that Kubernetes has for field and type."""
    names = " of type ".join(name for name in (field, kind) if name)
    return schema | {"description": f"{path}: {names} in the Kubernetes core v1 API."}


def text(**more: Any) -> Schema:
    return {"type": "string", **more}


def flag() -> Schema:
    return {"type": "boolean"}


def count() -> Schema:
    return {"type": "integer", "format": "int32"}


def several(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def named(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}


def record(required: str = "", /, **properties: Schema) -> Schema:
    schema: Schema = {"type": "object", "properties": properties}
    return {**schema, "required": required.split()} if required else schema


def resource(spec: Schema, status: Schema) -> Schema:
    return record(apiVersion=text(), kind=text(), metadata={"type": "object"}, spec=spec, status=status)


def ray_cluster(kubernetes: Kubernetes) -> Schema:
    """A RayCluster; neither `workerGroupSpecs` nor a container's `ports` is nullable, so a null in them is refused."""
    options, head, workers = "spec.autoscalerOptions", "spec.headGroupSpec", "spec.workerGroupSpecs[]"
    spec = record(
        "headGroupSpec",
        autoscalerOptions=record(
            env=several(kubernetes.type("EnvVar", f"{options}.env[]")),
            envFrom=several(kubernetes.type("EnvFromSource", f"{options}.envFrom[]")),
            idleTimeoutSeconds=count(),
            image=text(),
            imagePullPolicy=text(),
            resources=kubernetes.type("ResourceRequirements", f"{options}.resources"),
            securityContext=kubernetes.type("SecurityContext", f"{options}.securityContext"),
            upscalingMode=text(enum=["Default", "Aggressive", "Conservative"]),
        ),
        enableInTreeAutoscaling=flag(),
        headGroupSpec=record(
            "rayStartParams template",
            enableIngress=flag(),
            rayStartParams=named(text()),
            replicas=count(),
            serviceType=text(),
            template=kubernetes.type("PodTemplateSpec", f"{head}.template"),
        ),
        headServiceAnnotations=named(text()),
        rayVersion=text(),
        workerGroupSpecs=several(
            record(
                "groupName maxReplicas minReplicas rayStartParams replicas template",
                groupName=text(),
                maxReplicas=count(),
                minReplicas=count(),
                rayStartParams=named(text()),
                replicas=count(),
                scaleStrategy=record(workersToDelete=several(text())),
                template=kubernetes.type("PodTemplateSpec", f"{workers}.template"),
            )
        ),
    )
    status = record(
        availableWorkerReplicas=count(),
        desiredWorkerReplicas=count(),
        endpoints=named(text()),
        head=record(podIP=text(), serviceIP=text()),
        lastUpdateTime=text(format="date-time", nullable=True),
        maxWorkerReplicas=count(),
        minWorkerReplicas=count(),
        reason=text(),
        state=text(),
    )
    return resource(spec, status)


def anything() -> Schema:
    """RayJob and RayService are here for the operator's rules only: nothing deploys one, so their content is open."""
    open_map: Schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return resource(open_map, open_map)


def crd(kind: str, schema: Schema) -> Schema:
    singular = kind.lower()
    version = {
        "name": "v1alpha1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": schema},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{singular}s.ray.io"},
        "spec": {
            "group": "ray.io",
            "scope": "Namespaced",
            "names": {"kind": kind, "listKind": f"{kind}List", "plural": f"{singular}s", "singular": singular},
            "versions": [version],
        },
    }


class Plain(yaml.SafeDumper):
    """Without anchors: one schema stands in several places."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def main(path: str) -> None:
    kubernetes = Kubernetes(json.loads(Path(path).read_text()))
    schemas = {"RayCluster": ray_cluster(kubernetes), "RayJob": anything(), "RayService": anything()}
    for kind, schema in schemas.items():
        header = "# Written by sandbox/crd.py from the OpenAPI document of Kubernetes; see sandbox/README.md.\n"
        body = yaml.dump(crd(kind, schema), Dumper=Plain, sort_keys=False, width=160)
        (CRDS / f"{kind.lower()}s.yaml").write_text(header + body)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(sys.argv[1])
