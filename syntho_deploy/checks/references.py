"""What an object names and nothing provides: Secrets and their keys, ConfigMaps, Services, ports, classes, accounts, claims, volumes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from syntho_deploy.checks.context import Context, Finding, Item, at, of_object
from syntho_deploy.documents import Json, Keys, walk
from syntho_deploy.overlays.manifests import is_custom

PRESENT = "where it is there already, name it in the environment: cluster.present.{kind}: [{name}]"
CLASS_ANNOTATION = "kubernetes.io/ingress.class"  # of before Kubernetes 1.18; controllers read it still


def _named(item: Item, *last: str) -> Iterator[tuple[Keys, str, list[str]]]:
    """Every name in an object under one of these keys, with the keys that are asked of it; what is optional is left out."""
    for keys, value in walk(item):
        if not keys or keys[-1] not in last or not isinstance(value, dict) or value.get("optional") is True:
            continue
        name = value.get("name") or value.get("secretName")
        wanted = [value.get("key")] if "key" in value else [one.get("key") for one in value.get("items") or [] if isinstance(one, dict)]
        if isinstance(name, str):
            yield keys, name, [key for key in wanted if isinstance(key, str)]


def missing_secret(context: Context) -> Iterator[Finding]:
    """A Secret, or a key of one, that nothing provides: a pod that names it stays in CreateContainerConfigError. At 98ec265 the Deployments
    name backend-secret and core-secret whatever manualSecretName says. A pull secret that is missing stops no pod, but its pulls."""
    for item in context.objects.values():
        for keys, name, wanted in _secrets(item):
            if name not in context.secrets:
                yield of_object(item, keys, f"there is no Secret {name}", PRESENT.format(kind="secrets", name=name))
                continue
            known = context.secrets[name]
            for key in wanted if known is not None else ():
                if key not in (known or ()):
                    yield of_object(item, keys, f"the Secret {name} has no key {key}", f"write one that it has: {', '.join(sorted(known or ()))}")


def _secrets(item: Item) -> Iterator[tuple[Keys, str, list[str]]]:
    yield from _named(item, "secretKeyRef", "secretRef", "secret", "azureFile", "nodePublishSecretRef")
    for keys, value in walk(item):
        if keys and keys[-1] == "imagePullSecrets" and isinstance(value, list):
            for index, pull in enumerate(value):
                if isinstance(pull, dict) and isinstance(pull.get("name"), str) and pull["name"]:
                    yield (*keys, index), pull["name"], []


def missing_config_map(context: Context) -> Iterator[Finding]:
    """A ConfigMap, or a key of one, that nothing provides: a pod that names it never starts."""
    known = {item["metadata"]["name"]: {*(item.get("data") or {}), *(item.get("binaryData") or {})} for item in context.kind("ConfigMap")}
    for item in context.objects.values():
        for keys, name, wanted in _named(item, "configMapKeyRef", "configMapRef", "configMap"):
            if name in context.present("config_maps") or name == "kube-root-ca.crt":
                continue
            if name not in known:
                yield of_object(item, keys, f"there is no ConfigMap {name}", PRESENT.format(kind="config_maps", name=name))
            for key in wanted if name in known else ():
                if key not in known[name]:
                    has = ", ".join(sorted(known[name])) or "none"
                    yield of_object(item, keys, f"the ConfigMap {name} has no key {key}", f"write one that it has: {has}")


def _ingress_services(context: Context) -> Iterator[tuple[Item, Keys, Item]]:
    for item in context.kind("Ingress"):
        for keys, value in walk(item["spec"]):
            if len(keys) > 1 and keys[-1] == "service" and keys[-2] in ("backend", "defaultBackend") and isinstance(value, dict):
                yield item, ("spec", *keys), value


def missing_service(context: Context) -> Iterator[Finding]:
    """An Ingress or a StatefulSet that names a Service that nothing provides. In the UI chart the frontend's name renames what the Ingress
    leads to, and not the Service."""
    found: list[tuple[Item, Keys, Any]] = [(item, keys, value.get("name")) for item, keys, value in _ingress_services(context)]
    found += [(item, ("spec", "serviceName"), item["spec"].get("serviceName")) for item in context.kind("StatefulSet")]
    for item, keys, name in found:
        if name and name not in context.services:
            has = ", ".join(sorted(context.services)) or "none"
            todo = f"correct the name; there are: {has}; or cluster.present.services: [{name}]"
            yield of_object(item, keys, f"there is no Service {name}", todo)


def missing_port(context: Context) -> Iterator[Finding]:
    """An Ingress that names a port that the Service does not have, or none. The chart's Ingress leads to port 8000 of the backend's Service,
    whose only port is 80; ingress-nginx forgives that, no other controller does, and no value repairs it."""
    services = {item["metadata"]["name"]: item["spec"] for item in context.kind("Service")}
    for item, keys, value in _ingress_services(context):
        port, service = value.get("port") or {}, services.get(value.get("name", ""))
        asked = port.get("number") or port.get("name")
        if service is None or service.get("type") == "ExternalName":
            continue
        ports = service.get("ports") or []
        if not asked or asked not in [known for one in ports for known in (one.get("port"), one.get("name"))]:
            todo = "one of the ingress/ components; or patch the Ingress in <chart>.manifests.yaml"
            has = ", ".join(str(one.get("port")) for one in ports) or "none"
            what = f"has no port {asked}, only {has}" if asked else f"has the ports {has}, and the Ingress names none"
            yield of_object(item, (*keys, "port"), f"the Service {value['name']} {what}", todo)


def unserved_port(context: Context) -> Iterator[Finding]:
    """A Service or a probe whose port no container declares. Values named port move the container's port only: the probes of backend and
    frontend stay at 8000 and 3000, and the Services follow values of their own."""
    for item in context.kind("Service"):
        pods = context.selected(item["spec"].get("selector")) if item["spec"].get("selector") else []
        known = {port for pod in pods for _, container in pod.containers(init=False) for port in _ports(container)}
        for index, port in enumerate(item["spec"].get("ports") or []):
            target = port.get("targetPort", port.get("port"))
            if pods and target not in known and (known or isinstance(target, str)):
                has = ", ".join(sorted(map(str, known))) or "none"
                place: Keys = ("spec", "ports", index, "targetPort" if "targetPort" in port else "port")
                yield of_object(item, place, f"no container that it selects has the port {target}, only {has}", "set both to the same port")
    for pod in context.pods:
        for keys, container in pod.containers(init=False):
            declared = _ports(container)
            for at_, probe in walk(container):
                if not at_ or at_[-1] not in ("httpGet", "tcpSocket", "grpc") or not isinstance(probe, dict) or probe.get("host"):
                    continue
                port = probe.get("port")
                if port not in declared and (declared or isinstance(port, str)):
                    what = f"the probe asks port {port}, which the container does not declare"
                    yield of_object(pod.item, (*keys, *at_, "port"), what, "leave the chart's port, or patch the probe")


def _ports(container: Item) -> set[Any]:
    """The numbers and names of the ports that a container declares."""
    return {value for port in container.get("ports") or [] for value in (port.get("containerPort"), port.get("name")) if value}


def missing_account(context: Context) -> Iterator[Finding]:
    """A ServiceAccount that nothing provides, of a pod or in a binding. The ray chart with serviceAccount.create: false still names
    kuberay-operator."""
    known = context.names("ServiceAccount") | context.present("service_accounts") | {"default"}
    for pod in context.pods:
        name = pod.spec.get("serviceAccountName")
        if name and name not in known:
            todo = PRESENT.format(kind="service_accounts", name=name)
            yield of_object(pod.item, (*pod.keys, "serviceAccountName"), f"there is no ServiceAccount {name}", todo)
    for item in context.kind("RoleBinding", "ClusterRoleBinding"):
        for index, subject in enumerate(item.get("subjects") or []):
            here = subject.get("namespace", context.environment.target.namespace) == context.environment.target.namespace
            if subject.get("kind") == "ServiceAccount" and here and subject.get("name") not in known:
                todo = PRESENT.format(kind="service_accounts", name=subject.get("name"))
                yield of_object(item, ("subjects", index), f"there is no ServiceAccount {subject.get('name')}", todo)


def missing_role(context: Context) -> Iterator[Finding]:
    """A Role that a binding names and nothing provides: it gives no right, and nothing says so. ClusterRoles may be the cluster's own."""
    for item in context.kind("RoleBinding"):
        role = item.get("roleRef") or {}
        if role.get("kind") == "Role" and role.get("name") not in context.names("Role"):
            has = ", ".join(sorted(context.names("Role"))) or "none"
            yield of_object(item, ("roleRef", "name"), f"there is no Role {role.get('name')}", f"add it to <chart>.objects/, or name one of: {has}")


def missing_target(context: Context) -> Iterator[Finding]:
    """What an autoscaler of pods is to scale, and nothing provides: it does nothing, silently."""
    for item in context.kind("HorizontalPodAutoscaler"):
        target = item["spec"].get("scaleTargetRef") or {}
        of = f"{target.get('kind')}/{target.get('name')}"
        if of not in context.objects:
            yield of_object(item, ("spec", "scaleTargetRef"), f"there is no {of}", "correct kind and name, or remove the autoscaler")


def missing_volume(context: Context) -> Iterator[Finding]:
    """A volume that a container mounts and its pod has not: the API server refuses a workload, and of a RayCluster the operator can make no
    pods. In the ray chart the default pool has the head's volumes, whatever its own say."""
    for pod in context.pods:
        templates = at(pod.item, (*pod.keys[:-2], "volumeClaimTemplates")) if len(pod.keys) > 1 else None
        known = {volume.get("name") for volume in pod.spec.get("volumes") or []} | {at(one, ("metadata", "name")) for one in templates or []}
        for keys, container in pod.containers():
            for index, mount in enumerate(container.get("volumeMounts") or []):
                if mount.get("name") not in known:
                    has = ", ".join(sorted(str(name) for name in known)) or "none"
                    what = f"the pod has no volume {mount.get('name')}, only {has}"
                    yield of_object(pod.item, (*keys, "volumeMounts", index), what, "add the volume, or remove the mount")


def missing_claim(context: Context) -> Iterator[Finding]:
    """A volume claim that nothing provides: its pods stay Pending. Claims that are kept from an earlier install are named as present."""
    known = context.names("PersistentVolumeClaim") | context.present("claims")
    for item in context.kind("StatefulSet"):
        for template in item["spec"].get("volumeClaimTemplates") or []:
            count = item["spec"].get("replicas", 1)
            known |= {f"{at(template, ('metadata', 'name'))}-{item['metadata']['name']}-{index}" for index in range(count if _whole(count) else 1)}
    for pod in context.pods:
        for index, volume in enumerate(pod.spec.get("volumes") or []):
            name = (volume.get("persistentVolumeClaim") or {}).get("claimName")
            if name and name not in known:
                yield of_object(pod.item, (*pod.keys, "volumes", index), f"there is no claim {name}", PRESENT.format(kind="claims", name=name))


def _whole(value: Json) -> bool:
    return isinstance(value, int) and 0 <= value < 1000


def claims(context: Context) -> Iterator[tuple[Item, Keys, Item]]:
    """The spec of every volume claim, those that a StatefulSet or a pod makes too, with its object and place."""
    for item in context.kind("PersistentVolumeClaim"):
        yield item, ("spec",), item["spec"]
    for item in context.kind("StatefulSet"):
        for index, template in enumerate(item["spec"].get("volumeClaimTemplates") or []):
            yield item, ("spec", "volumeClaimTemplates", index, "spec"), template["spec"]
    for pod in context.pods:
        for index, volume in enumerate(pod.spec.get("volumes") or []):
            own = at(volume, ("ephemeral", "volumeClaimTemplate", "spec"))
            if isinstance(own, dict):
                yield pod.item, (*pod.keys, "volumes", index, "ephemeral", "volumeClaimTemplate", "spec"), own


def unknown_storage_class(context: Context) -> Iterator[Finding]:
    """A storage class that the environment does not know (`cluster.present.storage_classes`). Where it names none, only a class called
    `default` is one: the charts' own, which exists on AKS and hardly anywhere else. Redis falls back to it even where it is emptied."""
    known, said = context.storage_classes, context.environment.present.storage_classes
    for item, keys, spec in claims(context):
        name = spec.get("storageClassName")
        if name and name not in known and (said or name == "default"):
            todo = f"component storage-class or storage-class/default; or cluster.present.storage_classes: {{{name}: [ReadWriteOnce]}}"
            yield of_object(item, (*keys, "storageClassName"), f"nothing says that the cluster has a storage class {name}", todo)


def unknown_class(context: Context) -> Iterator[Finding]:
    """An ingress class or a priority class that the environment does not know, where it names those that there are."""
    ingresses: list[tuple[Item, Keys]] = [
        (item, keys) for item in context.kind("Ingress") for keys in (("spec", "ingressClassName"), ("metadata", "annotations", CLASS_ANNOTATION))
    ]
    pods: list[tuple[Item, Keys]] = [(pod.item, (*pod.keys, "priorityClassName")) for pod in context.pods]
    for kind, of, places in (("ingress_classes", "IngressClass", ingresses), ("priority_classes", "PriorityClass", pods)):
        said = context.present(kind)
        known = said | context.names(of)
        for item, keys in places if said else ():
            name = at(item, keys)
            if name and name not in known and not str(name).startswith("system-"):
                yield of_object(item, keys, f"nothing says that the cluster has the class {name}", PRESENT.format(kind=kind, name=name))


def selector_without_pods(context: Context) -> Iterator[Finding]:
    """A selector that matches no pod, of a Service, a workload, a network policy or a disruption budget, or a Service without one that nothing
    else gives an address: it does nothing, silently. The frontend's Service does so after the frontend is renamed, and disruption budgets of
    databases that are outside. A policy of a shared component is for another environment then, or for a pod that is there at times."""
    for item in context.objects.values():
        spec = item.get("spec") or {}
        for keys, selector in _selectors(item):
            if selector and not context.selected(selector):
                todo = "correct its labels, or remove it by delete: true in <chart>.manifests.yaml"
                found = of_object(item, keys, "this selects no pod of the environment", todo)
                yield replace(found, shared=item["kind"] == "NetworkPolicy" and context.added_by_component(item))
        own = [pod for pod in context.pods if pod.item is item]
        if item["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet") and own and own[0] not in context.selected(spec.get("selector")):
            yield of_object(item, ("spec", "selector"), "this does not select its own pods", "give the pods' template the same labels")
    addressed = {item["metadata"]["name"] for item in context.kind("Endpoints")}
    addressed |= {str((item["metadata"].get("labels") or {}).get("kubernetes.io/service-name")) for item in context.kind("EndpointSlice")}
    for item in context.kind("Service"):
        if not item["spec"].get("selector") and item["spec"].get("type") != "ExternalName" and item["metadata"]["name"] not in addressed:
            what = "this Service selects no pods, and there are no Endpoints of its name"
            yield of_object(item, ("spec", "selector"), what, "give it a selector, or type: ExternalName, or an EndpointSlice in <chart>.objects/")


def _selectors(item: Item) -> Iterator[tuple[Keys, Item]]:
    """The selectors of an object that select pods of its own namespace."""
    if is_custom(item):
        return
    field = {"Service": "selector", "NetworkPolicy": "podSelector", "PodDisruptionBudget": "selector"}.get(item["kind"])
    if field:
        yield ("spec", field), item["spec"].get(field) or {}
    if item["kind"] == "NetworkPolicy":
        for part, peers in (("ingress", "from"), ("egress", "to")):
            for index, rule in enumerate(item["spec"].get(part) or []):
                for number, peer in enumerate(rule.get(peers) or []):
                    if peer.get("podSelector") and "namespaceSelector" not in peer:
                        yield ("spec", part, index, peers, number, "podSelector"), peer["podSelector"]
