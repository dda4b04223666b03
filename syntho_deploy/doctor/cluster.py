"""The cluster: reached, the right one, known to us, and of a version that serves what is compiled."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

from syntho_deploy.checks import schema
from syntho_deploy.cluster.client import ApiError
from syntho_deploy.doctor.subject import Missing, Result, Subject, side_by_side, told
from syntho_deploy.errors import PreflightError
from syntho_deploy.overlays.manifests import is_custom

# What `cluster.present` of an environment names: API version, kind, in the namespace?
PRESENT = {
    "secrets": ("v1", "Secret", True), "config_maps": ("v1", "ConfigMap", True), "services": ("v1", "Service", True),
    "service_accounts": ("v1", "ServiceAccount", True), "claims": ("v1", "PersistentVolumeClaim", True),
    "ingress_classes": ("networking.k8s.io/v1", "IngressClass", False), "priority_classes": ("scheduling.k8s.io/v1", "PriorityClass", False),
}  # fmt: skip


def cluster(subject: Subject) -> Iterator[Result]:
    """The cluster is reached by the environment's context, with credentials that it takes, and is the one that `cluster.uid` names. Told
    apart: no such context, a server that nothing answers for (its name, its port, its certificate, the network), credentials that are missing
    or expired, another cluster, one that may not be told from another."""
    try:
        found = told(lambda: subject.connection)
    except PreflightError as error:
        if not subject.environment.target.local:
            raise
        yield Result("cluster", "warning", f"{error.what}; deploy makes it", error.todo)
        return
    if subject.environment.target.uid and not found.uid:
        what = f"{found.client.server}: the uid of kube-system, by which the environment knows its cluster, cannot be read; deploy refuses it"
        rule = '- {apiGroups: [""], resources: [namespaces], resourceNames: [kube-system], verbs: [get]}'
        yield Result("cluster", "error", what, f"add to its ClusterRole, as docs/rbac.md has it:\n{rule}")
        return
    uid = f"uid {found.uid}" if found.uid else "its uid may not be read"
    pinned = ", as the environment names it" if subject.environment.target.uid else ""
    yield Result("cluster", "ok", f"{found.client.access.what.removeprefix('of ')}, {found.client.server}, {uid}{pinned}")


def account(subject: Subject) -> Iterator[Result]:
    """Who the API server takes us for."""
    user = subject.connection.user
    groups = [group for group in user.get("groups") or () if not group.startswith(("system:authenticated", "system:serviceaccounts"))]
    if user:
        yield Result("account", "ok", " of ".join(filter(None, (user.get("username"), ", ".join(groups)))))
    else:
        yield Result("account", "unknown", "the API server does not tell who we are (it does from 1.28 on)")


def kubernetes(subject: Subject) -> Iterator[Result]:
    """The version of Kubernetes is that of `cluster.kubernetes`, for which the charts are rendered and linted, and one that is supported."""
    environment = subject.environment
    found = versions(subject.connection.version, environment.target.kubernetes, schema.versions(), environment.file.name)
    if found.state == "warning" and environment.target.local and "cluster.kubernetes" not in environment.marks:
        found = found._replace(state="ok", todo="")  # whatever the local cluster has, and its tools are pinned
    yield found


def versions(running: str, said: str, known: list[str], file: str) -> Result:
    """What a version that runs means beside the one that the environment says, and those that are known, the oldest first."""
    minor = ".".join(re.findall(r"[0-9]+", running)[:2])
    number = int(minor.split(".")[1])
    if number < int(known[0].split(".")[1]):
        return Result("kubernetes", "error", f"{running} is older than {known[0]}, the oldest that is supported", "have the cluster upgraded")
    if number > int(known[-1].split(".")[1]):
        return Result("kubernetes", "warning", f"{running} is newer than {known[-1]}, the newest that is tested", "have a later syntho-deploy")
    if minor != ".".join(said.split(".")[:2]):
        what = f"{running}; the charts are rendered and linted for {said}"
        return Result("kubernetes", "warning", what, f'in envs/{file}, under cluster: kubernetes: "{minor}"')
    return Result("kubernetes", "ok", running)


def present(subject: Subject) -> Iterator[Result]:
    """What the environment says is there without it (`cluster.present`) is there. Lint trusts what it says."""
    said = subject.environment.present
    wanted = [(*PRESENT[kind], name) for kind, names in said.names.items() for name in names]
    wanted += [("storage.k8s.io/v1", "StorageClass", False, name) for name in said.storage_classes]
    absent, unknown = [], []
    for api, kind, namespaced, name in wanted:
        try:
            if namespaced:
                found = subject.found(api, kind, name, subject.namespace) is not None
            else:
                found = any(item["metadata"]["name"] == name for item in subject.listed(api, kind))
            absent += [] if found else [f"{kind} {name}"]
        except Missing as missing:
            unknown.append((str(missing), missing.todo))
    if absent:
        todo = f"have it made, or correct envs/{subject.environment.file.name}: cluster.present"
        yield Result("present", "error", f"the environment says that these are there, and they are not: {', '.join(absent)}", todo)
    for what, remedy in dict.fromkeys(unknown):
        yield Result("present", "unknown", what, remedy)
    if not absent and not unknown:
        yield Result("present", "ok", f"all {len(wanted)} that the environment names are there" if wanted else "the environment names nothing")


def served(subject: Subject) -> Iterator[Result]:
    """The API server serves every kind that is compiled, in its version. Those of our CRDs come with them, where deploy installs these."""
    kinds = sorted({(item["apiVersion"], item["kind"]): item for item in subject.compiled.objects}.items())
    ours = schema.served(subject.compiled) if subject.environment.manage_crds else {}

    def fault(api: str, kind: str) -> str:
        try:
            subject.client.path(api, kind)
        except ApiError as error:
            if error.status != 404:
                raise
            return f"{kind} in {api}"
        return ""

    faults = side_by_side([partial(fault, *kind) for kind, _ in kinds])
    missing = {found: item for found, (_, item) in zip(faults, kinds, strict=True) if found}
    later = [found for found, item in missing.items() if item["kind"] in ours.get(item["apiVersion"], {})]
    for found, item in missing.items():
        if found not in later:
            custom = "have its CRD installed: set manage.crds to true, or see the check crds"
            yield Result("served", "error", f"no {found}", custom if is_custom(item) else "set cluster.kubernetes to what runs, then: invoke lint")
    more = f"; {', '.join(later)} with the CRDs" if later else ""
    yield Result("served", "ok", f"{len(kinds) - len(missing)} of {len(kinds)} kinds, in the versions that are compiled{more}")
