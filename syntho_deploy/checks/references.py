"""What an object names and nothing provides: Secrets and their keys, ConfigMaps, Services, ports, classes, accounts, claims."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from syntho_deploy.checks.context import Context, Finding, Item, Pod, at, of_object
from syntho_deploy.documents import Keys, walk

PRESENT = "where it is there already, name it in the environment: cluster.present.{kind}: [{name}]"
NAMESPACE_IN_NAME = re.compile(r"(?<![\w.-])[a-z0-9-]+\.([a-z0-9-]+)\.svc(?:\.cluster\.local)?(?![\w-])")


def _references(item: Item, *last: str) -> Iterator[tuple[Keys, Item]]:
    """Every mapping in an object that stands under one of these keys."""
    for keys, value in walk(item):
        if keys and keys[-1] in last and isinstance(value, dict) and value.get("optional") is not True:
            yield keys, value


def missing_secret(context: Context) -> Iterator[Finding]:
    """A Secret, or a key of one, that nothing provides: a pod that names it stays in CreateContainerConfigError. At 98ec265 the Deployments
    name backend-secret and core-secret whatever manualSecretName says. A pull secret that is missing stops no pod, but its pulls."""
    for item in context.objects.values():
        for keys, name, key in _secrets(item):
            if name not in context.secrets:
                yield of_object(item, keys, f"there is no Secret {name}", PRESENT.format(kind="secrets", name=name))
            elif key and (known := context.secrets[name]) is not None and key not in known:
                todo = f"it has: {', '.join(sorted(known))}"
                yield of_object(item, keys, f"the Secret {name} has no key {key}", todo)


def _secrets(item: Item) -> Iterator[tuple[Keys, str, str]]:
    for keys, value in _references(item, "secretKeyRef", "secretRef", "secret"):
        name = value.get("name") or value.get("secretName")
        if isinstance(name, str) and name:
            wanted = [value["key"]] if isinstance(value.get("key"), str) else [one.get("key") for one in value.get("items") or []]
            yield from ((keys, name, key) for key in wanted or [""])
    for keys, value in walk(item):
        if keys and keys[-1] == "imagePullSecrets" and isinstance(value, list):
            for index, pull in enumerate(value):
                if isinstance(pull, dict) and pull.get("name"):
                    yield (*keys, index), pull["name"], ""


def missing_config_map(context: Context) -> Iterator[Finding]:
    """A ConfigMap, or a key of one, that nothing provides: a pod that names it never starts."""
    known = {item["metadata"]["name"]: {*(item.get("data") or {}), *(item.get("binaryData") or {})} for item in context.kind("ConfigMap")}
    for item in context.objects.values():
        for keys, value in _references(item, "configMapKeyRef", "configMapRef", "configMap"):
            name = value.get("name")
            if not name or name in context.present("config_maps") or name == "kube-root-ca.crt":
                continue
            if name not in known:
                yield of_object(item, keys, f"there is no ConfigMap {name}", PRESENT.format(kind="config_maps", name=name))
            for key in [value["key"]] if "key" in value else [one.get("key") for one in value.get("items") or []]:
                if name in known and key not in known[name]:
                    yield of_object(item, keys, f"the ConfigMap {name} has no key {key}", f"it has: {', '.join(sorted(known[name]))}")


def _ingress_services(context: Context) -> Iterator[tuple[Item, Keys, Item]]:
    for item in context.kind("Ingress"):
        for keys, value in walk(item):
            if keys and keys[-1] == "service" and isinstance(value, dict) and "port" in value:
                yield item, keys, value


def missing_service(context: Context) -> Iterator[Finding]:
    """An Ingress or a StatefulSet that names a Service that nothing provides. In the UI chart the frontend's name renames what the Ingress
    leads to, and not the Service."""
    known = context.names("Service") | context.present("services")
    found: list[tuple[Item, Keys, Any]] = [(item, keys, value.get("name")) for item, keys, value in _ingress_services(context)]
    found += [(item, ("spec", "serviceName"), item["spec"].get("serviceName")) for item in context.kind("StatefulSet")]
    for item, keys, name in found:
        if name and name not in known:
            yield of_object(item, keys, f"there is no Service {name}", f"there are: {', '.join(sorted(known)) or 'none'}; correct the name")


def missing_port(context: Context) -> Iterator[Finding]:
    """An Ingress that names a port that the Service does not have. The chart's Ingress leads to port 8000 of the backend's Service, whose
    only port is 80; ingress-nginx forgives that, no other controller does, and no value repairs it."""
    services = {item["metadata"]["name"]: item for item in context.kind("Service")}
    for item, keys, value in _ingress_services(context):
        port = value["port"] or {}
        service = services.get(value.get("name", ""))
        if service is None:
            continue
        ports = service["spec"].get("ports") or []
        if not any(port.get("number") == one.get("port") or (port.get("name") and port.get("name") == one.get("name")) for one in ports):
            asked = port.get("number") or port.get("name")
            todo = "one of the ingress/ components; or patch the Ingress in <chart>.manifests.yaml"
            has = ", ".join(str(one.get("port")) for one in ports)
            yield of_object(item, (*keys, "port"), f"the Service {value['name']} has no port {asked}, only {has}", todo)


def unserved_port(context: Context) -> Iterator[Finding]:
    """A Service or a probe whose port no container declares. Values named port move the container's port only: the probes of backend and
    frontend stay at 8000 and 3000, and the Services follow values of their own."""
    for item in context.kind("Service"):
        pods = context.selected(item["spec"].get("selector")) if item["spec"].get("selector") else []
        known = {port for pod in pods for port in _ports(pod)}
        for index, port in enumerate(item["spec"].get("ports") or []):
            target = port.get("targetPort", port.get("port"))
            if known and target not in known:
                has = ", ".join(sorted(map(str, known)))
                place: Keys = ("spec", "ports", index, "targetPort" if "targetPort" in port else "port")
                yield of_object(item, place, f"no container that it selects has the port {target}, only {has}", "set both to the same port")
    for pod in context.pods:
        for keys, container in pod.containers(init=False):
            declared = {value for port in container.get("ports") or [] for value in (port.get("containerPort"), port.get("name")) if value}
            for at_, value in walk(container):
                if declared and at_ and at_[-1] in ("httpGet", "tcpSocket", "grpc") and value and value.get("port") not in declared:
                    what = f"the probe asks port {value.get('port')}, which the container does not declare"
                    yield of_object(pod.item, (*keys, *at_, "port"), what, "leave the chart's port, or patch the probe")


def _ports(pod: Pod) -> set[Any]:
    ports = [port for _, container in pod.containers(init=False) for port in container.get("ports") or []]
    return {value for port in ports for value in (port.get("containerPort"), port.get("name")) if value}


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


def missing_claim(context: Context) -> Iterator[Finding]:
    """A volume claim that nothing provides: its pods stay Pending. Claims that are kept from an earlier install are named as present."""
    known = context.names("PersistentVolumeClaim") | context.present("claims")
    for pod in context.pods:
        for index, volume in enumerate(pod.spec.get("volumes") or []):
            name = (volume.get("persistentVolumeClaim") or {}).get("claimName")
            if name and name not in known:
                yield of_object(pod.item, (*pod.keys, "volumes", index), f"there is no claim {name}", PRESENT.format(kind="claims", name=name))


def claims(context: Context) -> Iterator[tuple[Item, Keys, Item]]:
    """The spec of every volume claim, those that a StatefulSet makes too, with its object and place."""
    for item in context.kind("PersistentVolumeClaim"):
        yield item, ("spec",), item["spec"]
    for item in context.kind("StatefulSet"):
        for index, template in enumerate(item["spec"].get("volumeClaimTemplates") or []):
            yield item, ("spec", "volumeClaimTemplates", index, "spec"), template["spec"]


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
    ingresses: list[tuple[Item, Keys]] = [(item, ("spec", "ingressClassName")) for item in context.kind("Ingress")]
    pods: list[tuple[Item, Keys]] = [(pod.item, (*pod.keys, "priorityClassName")) for pod in context.pods]
    for kind, places in (("ingress_classes", ingresses), ("priority_classes", pods)):
        known = context.present(kind)
        for item, keys in places if known else ():
            name = at(item, keys)
            if name and name not in known and not str(name).startswith("system-"):
                yield of_object(item, keys, f"nothing says that the cluster has the class {name}", PRESENT.format(kind=kind, name=name))


def selector_without_pods(context: Context) -> Iterator[Finding]:
    """A selector that matches no pod, of a Service, a workload, a network policy or a disruption budget: it does nothing, silently. The
    frontend's Service does so after the frontend is renamed, and disruption budgets of databases that are outside. A policy of a shared
    component is for another environment then, or for a pod that is there at times."""
    for item in context.objects.values():
        spec = item.get("spec") or {}
        field = {"Service": "selector", "NetworkPolicy": "podSelector", "PodDisruptionBudget": "selector"}.get(item["kind"])
        if field and spec.get(field) and not context.selected(spec[field]):
            todo = "correct its labels, or remove it by delete: true in <chart>.manifests.yaml"
            found = of_object(item, ("spec", field), "this selects no pod of the environment", todo)
            yield replace(found, shared=item["kind"] == "NetworkPolicy" and context.added_by_component(item))
        own = [pod for pod in context.pods if pod.item is item]
        if item["kind"] in ("Deployment", "StatefulSet", "DaemonSet") and own and own[0] not in context.selected(spec.get("selector")):
            yield of_object(item, ("spec", "selector"), "this does not select its own pods", "give the pods' template the same labels")


def hard_coded_namespace(context: Context) -> Iterator[Finding]:
    """Another namespace than the environment's, in an object's metadata or in the name of a Service. The charts' address of Ray's head has
    the namespace syntho in it, up to 1.9.6 that of the backend too. A name that the environment's own `vars` have is meant."""
    here, said = context.environment.target.namespace, str(context.environment.vars)
    for item in context.objects.values():
        if item["metadata"].get("namespace", here) != here:
            todo = "remove the namespace from the object: it is deployed into the environment's"
            yield of_object(item, ("metadata", "namespace"), f"the object goes into {item['metadata']['namespace']}, not into {here}", todo)
        for keys, value in walk(item):
            for match in NAMESPACE_IN_NAME.finditer(value) if isinstance(value, str) and ".svc" in value else ():
                if match[1] not in (here, "default") and match[0] not in said:
                    todo = "write ${namespace} in the overlay; component ray/address for Ray"
                    yield of_object(item, keys, f"{match[0]} is in the namespace {match[1]}, not in {here}", todo)
