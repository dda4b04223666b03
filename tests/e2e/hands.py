"""Random changes of objects: what an overlay, or a person at the cluster, may do to a field. Each is of a seed, so it can be told again."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

from syntho_deploy.cluster.client import Client, Object
from syntho_deploy.overlays.pointer import identity

WORKLOADS = ("Deployment", "StatefulSet")
KEYS = {  # of the lists that a server-side apply merges item by item, as the last words of their path
    "containers": ("name",), "initContainers": ("name",), "env": ("name",), "volumes": ("name",), "imagePullSecrets": ("name",),
    "volumeMounts": ("mountPath",), "containers/ports": ("containerPort", "protocol"), "spec/ports": ("port", "protocol"),
}  # fmt: skip

Edit = Callable[[random.Random, Object], bool]


def templates(item: Object) -> list[Object]:
    """The pod templates of an object."""
    spec = item.get("spec") or {}
    if item["kind"] == "RayCluster":
        return [group["template"] for group in (spec["headGroupSpec"], *(spec.get("workerGroupSpecs") or []))]
    return [spec["template"]] if item["kind"] in WORKLOADS else []


def _container(rng: random.Random, item: Object) -> Object | None:
    found = [one for template in templates(item) for one in template["spec"]["containers"]]
    return rng.choice(found) if found else None


def _text(rng: random.Random) -> str:
    return rng.choice(["a", "b", "true", "1e3", "0x1", "", "two words", "é", "x" * 70])


def env_add(rng: random.Random, item: Object) -> bool:
    container = _container(rng, item)
    name = rng.choice(["EXTRA_A", "EXTRA_B", "EXTRA_C"])
    if container is None or any(one["name"] == name for one in container.get("env") or []):
        return False
    container["env"] = [*(container.get("env") or []), {"name": name, "value": _text(rng)}]
    return True


def _plain(container: Object) -> list[Object]:
    return [one for one in container.get("env") or [] if one.get("value") and "$(" not in one["value"]]


def env_change(rng: random.Random, item: Object) -> bool:
    container = _container(rng, item)
    if container is None or not _plain(container):
        return False
    rng.choice(_plain(container))["value"] = _text(rng)
    return True


def env_remove(rng: random.Random, item: Object) -> bool:
    container = _container(rng, item)
    if container is None or not _plain(container):
        return False
    container["env"].remove(rng.choice(_plain(container)))
    return True


def env_from_field(rng: random.Random, item: Object) -> bool:
    container = _container(rng, item)
    if container is None or not _plain(container):
        return False
    chosen = rng.choice(_plain(container))
    del chosen["value"]
    chosen["valueFrom"] = {"fieldRef": {"fieldPath": "metadata.name"}}
    return True


def image(rng: random.Random, item: Object) -> bool:
    if item["metadata"]["name"] in ("postgres", "database") or (container := _container(rng, item)) is None:
        return False  # another major of a database is refused: a test of its own
    container["image"] = f"{container['image'].rpartition(':')[0]}:{rng.choice(['2.0.0', '2.0.1', '3.0.0'])}"
    return True


def container_scalar(rng: random.Random, item: Object) -> bool:
    container = _container(rng, item)
    if container is None:
        return False
    key, value = rng.choice(
        [
            ("imagePullPolicy", "Never"), ("workingDir", "/work"), ("args", ["--a", _text(rng)]), ("terminationMessagePath", "/dev/log"),
            ("securityContext", {"runAsUser": rng.randrange(1, 9)}), ("tty", True),
            ("resources", {"requests": {"cpu": rng.choice(["0.1", "100m", "1e-1"])}}),
        ]
    )  # fmt: skip
    container[key] = value
    return True


def probe(rng: random.Random, item: Object) -> bool:
    container = _container(rng, item)
    if container is None or not container.get("livenessProbe"):
        return False
    if rng.random() < 0.5:
        del container["livenessProbe"]
    else:
        container["livenessProbe"]["periodSeconds"] = rng.randrange(40, 50)
    return True


def port(rng: random.Random, item: Object) -> bool:
    container = _container(rng, item)
    number = rng.choice([7001, 7002])
    if container is None or any(one.get("containerPort") == number for one in container.get("ports") or []):
        return False
    more = {"protocol": "UDP"} if rng.random() < 0.3 else {}
    container["ports"] = [*(container.get("ports") or []), {"containerPort": number, "name": f"p{number}", **more}]
    return True


def sidecar(rng: random.Random, item: Object) -> bool:
    if not templates(item):
        return False
    spec, name = rng.choice(templates(item))["spec"], rng.choice(["proxy", "log"])
    where = rng.choice(["containers", "containers", "initContainers"])
    if any(one["name"] == name for kind in ("containers", "initContainers") for one in spec.get(kind) or []):
        return False
    spec[where] = [*(spec.get(where) or []), {"name": name, "image": "side:1"}]
    return True


def volume(rng: random.Random, item: Object) -> bool:
    container = _container(rng, item)
    if container is None or item["kind"] == "RayCluster":
        return False
    spec = templates(item)[0]["spec"]
    if any(one["name"] == "scratch" for one in spec.get("volumes") or []):
        return False
    spec["volumes"] = [*(spec.get("volumes") or []), {"name": "scratch", "emptyDir": rng.choice([{}, {"sizeLimit": "1Gi"}])}]
    for path in rng.sample(["/scratch", "/var/scratch"], rng.choice([1, 2])):
        container["volumeMounts"] = [*(container.get("volumeMounts") or []), {"name": "scratch", "mountPath": path}]
    return True


def pod_metadata(rng: random.Random, item: Object) -> bool:
    if not templates(item):
        return False
    metadata = rng.choice(templates(item)).setdefault("metadata", {})
    key = rng.choice(["labels", "annotations"])
    metadata[key] = {**(metadata.get(key) or {}), rng.choice(["team", "a.b/c"]): rng.choice(["a", "b"])}
    return True


def pod_scalar(rng: random.Random, item: Object) -> bool:
    if not templates(item):
        return False
    key, value = rng.choice(
        [
            ("terminationGracePeriodSeconds", rng.randrange(1, 30)), ("tolerations", [{"key": rng.choice(["a", "b"]), "operator": "Exists"}]),
            ("securityContext", {"fsGroup": rng.randrange(1, 9)}), ("hostAliases", [{"ip": "10.0.0.9", "hostnames": ["a"]}]),
            ("dnsPolicy", "Default"),
            ("shareProcessNamespace", True), ("dnsConfig", {"options": [{"name": "ndots", "value": "1"}]}),
        ]
    )  # fmt: skip
    rng.choice(templates(item))["spec"][key] = value
    return True


def replicas(rng: random.Random, item: Object) -> bool:
    if item["kind"] not in WORKLOADS or item["metadata"]["name"] in ("postgres", "database"):
        return False
    item["spec"]["replicas"] = rng.choice([1, 2, 3])
    return True


def strategy(rng: random.Random, item: Object) -> bool:
    if item["kind"] != "Deployment":
        return False
    item["spec"]["strategy"] = rng.choice([{"type": "Recreate"}, {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 2}}])
    item["spec"]["revisionHistoryLimit"] = rng.randrange(2, 5)
    return True


def metadata(rng: random.Random, item: Object) -> bool:
    key = rng.choice(["labels", "annotations"])
    found = item["metadata"].setdefault(key, {})
    name = rng.choice(
        [*(one for one in found if not one.startswith(("helm.sh/resource", "meta.helm", "app.kubernetes.io/managed", "pv.", "volume."))), "team"]
    )
    if name in found and rng.random() < 0.3:
        del found[name]
    else:
        found[name] = rng.choice(["a", "b", "true", "1"])
    return True


def service(rng: random.Random, item: Object) -> bool:
    if item["kind"] != "Service":
        return False
    spec = item["spec"]
    chosen = rng.randrange(5)
    if chosen == 0:
        spec["ports"][0]["targetPort"] = rng.choice([7001, "named"])
    elif chosen == 1 and all(one.get("name") and one["port"] != 7777 for one in spec["ports"]):
        spec["ports"].append({"name": "more", "port": 7777})
    elif chosen == 2:
        spec["sessionAffinity"] = "ClientIP"
    elif chosen == 3:
        spec["selector"] = {**(spec.get("selector") or {}), "tier": rng.choice(["a", "b"])}
    else:
        spec["type"] = "NodePort"
    return True


def config(rng: random.Random, item: Object) -> bool:
    if item["kind"] != "ConfigMap":
        return False
    data = item.setdefault("data", {})
    name = rng.choice([*data, "more.txt"])
    if name in data and rng.random() < 0.3 and len(data) > 1:
        del data[name]
    else:
        data[name] = rng.choice(["a", "b\nc\n", ""])
    return True


def ingress(rng: random.Random, item: Object) -> bool:
    if item["kind"] != "Ingress":
        return False
    if rng.random() < 0.5:
        item["spec"]["rules"][0]["host"] = rng.choice(["a.example.com", "b.example.com"])
    else:
        item["spec"]["tls"] = [{"hosts": ["a.example.com"], "secretName": "t"}]
    return True


def role(rng: random.Random, item: Object) -> bool:
    if item["kind"] == "ServiceAccount":
        item["automountServiceAccountToken"] = rng.choice([True, False])
    elif item["kind"] == "Role":
        item["rules"] = [*item["rules"], {"apiGroups": [""], "resources": ["pods"], "verbs": [rng.choice(["get", "list"])]}]
    elif item["kind"] == "RoleBinding":
        item["subjects"] = [*item["subjects"], {"kind": "User", "name": "a", "apiGroup": "rbac.authorization.k8s.io"}]
    else:
        return False
    return True


def ray(rng: random.Random, item: Object) -> bool:
    if item["kind"] != "RayCluster":
        return False
    head = item["spec"]["headGroupSpec"]
    head["rayStartParams"] = {**head["rayStartParams"], "num-cpus": str(rng.randrange(4))}
    return True


def claim(rng: random.Random, item: Object) -> bool:
    if item["kind"] != "PersistentVolumeClaim" or rng.random() < 0.7:
        return False
    spec = item["spec"]
    if rng.random() < 0.7:
        spec["resources"] = {"requests": {"storage": "50Mi"}}  # one that grew would refuse whatever comes after it
    else:
        spec.update(rng.choice([{"accessModes": ["ReadWriteMany"]}, {"storageClassName": "kwok-volume"}]))
    return True


def stateful(rng: random.Random, item: Object) -> bool:
    if item["kind"] != "StatefulSet" or rng.random() < 0.7:
        return False
    item["spec"].update(rng.choice([{"podManagementPolicy": "Parallel"}, {"serviceName": "other"}, {"minReadySeconds": 1}]))
    return True


EDITS: tuple[Edit, ...] = (
    env_add, env_add, env_change, env_change, env_remove, env_from_field, image, image, container_scalar, container_scalar, probe, port, sidecar,
    volume, pod_metadata, pod_scalar, pod_scalar, replicas, strategy, metadata, metadata, service, service, config, ingress, role, ray,
    claim, stateful,
)  # fmt: skip


def edited(rng: random.Random, item: Object) -> Object:
    """The object with one to three random changes."""
    new = copy.deepcopy(item)
    for _ in range(rng.choice([1, 1, 2, 3])):
        for _ in range(50):
            if rng.choice(EDITS)(rng, new):
                break
    return new


def operations(before: Any, after: Any, path: str = "") -> Iterator[dict[str, Any]]:
    """JSON Patch operations with `[name=x]` that make `after` of `before`."""
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            place = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
            if key not in after:
                yield {"op": "remove", "path": place}
            elif key not in before:
                yield {"op": "add", "path": place, "value": after[key]}
            else:
                yield from operations(before[key], after[key], place)
    elif isinstance(before, list) and isinstance(after, list) and (name := identity(before)) and (not after or identity(after) == name):
        new = {item[name]: item for item in after}
        for item in before:
            if item[name] not in new:
                yield {"op": "remove", "path": f"{path}/[{name}={item[name]}]"}
            else:
                yield from operations(item, new[item[name]], f"{path}/[{name}={item[name]}]")
        known = {item[name] for item in before}
        yield from ({"op": "add", "path": f"{path}/-", "value": item} for item in after if item[name] not in known)
    else:
        yield {"op": "replace", "path": path, "value": after}


def update(client: Client, item: Object, manager: str) -> None:
    """A write as `kubectl edit` makes it."""
    path = client.path(item["apiVersion"], item["kind"], item["metadata"]["namespace"], item["metadata"]["name"])
    client.request("PUT", path, item, {"fieldManager": manager})


def apply(client: Client, before: Object, after: Object, manager: str) -> None:
    """The same as a server-side apply of what differs."""
    part = _part(before, after, ()) or {}
    names = {key: after["metadata"][key] for key in ("name", "namespace")}
    item = {**part, "apiVersion": after["apiVersion"], "kind": after["kind"], "metadata": {**part.get("metadata", {}), **names}}
    client.apply(item, manager, force=True)


def _part(before: Any, after: Any, path: tuple[str, ...]) -> Any:
    if before == after:
        return None
    if isinstance(before, dict) and isinstance(after, dict):
        found = {key: _part(before.get(key), value, (*path, key)) for key, value in after.items()}
        return {key: value for key, value in found.items() if value is not None} or None
    keys = KEYS.get("/".join(path[-2:])) or KEYS.get(path[-1] if path else "")
    if isinstance(before, list) and isinstance(after, list) and keys:
        old = {tuple(item.get(key, "TCP") for key in keys): item for item in before}
        items = []
        for item in after:
            known = tuple(item.get(key, "TCP") for key in keys)
            if (part := _part(old.get(known), item, path)) is not None:
                items.append({**dict(zip(keys, known, strict=True)), **part})
        return items or None
    return after
