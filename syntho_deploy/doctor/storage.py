"""Storage: classes that are there and serve what is asked of them, and the volume claims that exist already."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from syntho_deploy.checks.amounts import amount
from syntho_deploy.checks.context import LOCAL_CLASSES
from syntho_deploy.cluster import readiness
from syntho_deploy.cluster.readiness import Live
from syntho_deploy.doctor.subject import NEW, Missing, Result, Subject
from syntho_deploy.documents import load

API = "storage.k8s.io/v1"
DEFAULT = "storageclass.kubernetes.io/is-default-class"
SHARED = ("ReadWriteMany", "ReadOnlyMany")
BY_HAND = "kubernetes.io/no-provisioner"
LATER = "WaitForFirstConsumer"

Object = dict[str, Any]


@cache
def block_provisioners() -> frozenset[str]:
    """Provisioners of block storage, whose volumes one node mounts at a time."""
    return frozenset(load(Path(__file__).parent / "block_provisioners.yaml").data)


def storage_classes(subject: Subject) -> Iterator[Result]:
    """The class of each compiled volume is there (or one default, where none is named), and serves the access modes that are asked of it, by
    what `cluster.present.storage_classes` says, else by what is known of its provisioner."""
    claims = list(claims_of(subject.compiled.objects))
    if not claims:
        yield Result("storage-classes", "ok", "no volume is asked for")
        return
    classes = {item["metadata"]["name"]: item for item in subject.listed(API, "StorageClass")}
    said = subject.environment.present.storage_classes
    local = dict.fromkeys(LOCAL_CLASSES, SHARED) if subject.environment.target.local else {}
    wanted: dict[str | None, list[Object]] = {}
    bound = _bound(subject)
    for claim in claims:
        name = claim["spec"].get("storageClassName")
        if claim["metadata"]["name"] in bound and name in (None, bound[claim["metadata"]["name"]]) and name not in classes:
            continue
        wanted.setdefault(claim["spec"].get("storageClassName"), []).append(claim)
    for name, several in wanted.items():
        unbound = [claim for claim in several if claim["metadata"]["name"] not in bound]
        yield of_class(name, several, classes, {**local, **said}, partial(_free, subject), unbound)
    if not wanted:
        yield Result("storage-classes", "ok", f"{len(claims)} claims have their volumes")


def _bound(subject: Subject) -> dict[str, str]:
    """The claims that have a volume, for which no class is asked again; each with its class."""
    try:
        live = subject.listed("v1", "PersistentVolumeClaim", subject.namespace)
    except Missing:
        return {}
    bound = [item for item in live if item.get("status", {}).get("phase") == "Bound"]
    return {item["metadata"]["name"]: item["spec"].get("storageClassName") or "" for item in bound}


def _free(subject: Subject, name: str) -> list[Object] | None:
    """The volumes of a class that wait for a claim, None where they may not be listed."""
    try:
        live = subject.listed("v1", "PersistentVolume")
    except Missing:
        return None
    return [item for item in live if (item["spec"].get("storageClassName") or "") == name and item.get("status", {}).get("phase") == "Available"]


def without_volume(claims: Iterable[Object], volumes: Iterable[Object]) -> list[str]:
    """The names of the claims that get none of these volumes, which somebody has made: each must be large enough, and serve what is asked."""
    left = sorted(volumes, key=lambda one: of_volume(one, "capacity"))
    lacking = []
    for claim in sorted(claims, key=lambda one: of_volume(one, "resources"), reverse=True):
        modes, size = set(claim["spec"].get("accessModes") or ()), of_volume(claim, "resources")
        fits = (one for one in left if of_volume(one, "capacity") >= size and modes <= set(one["spec"].get("accessModes") or ()))
        if chosen := next(fits, None):
            left.remove(chosen)
        else:
            lacking.append(claim["metadata"]["name"])
    return sorted(lacking)


def of_volume(item: Object, part: str) -> float:
    """The size of a volume (`capacity`) or of a claim (`resources`)."""
    found = item["spec"].get(part) or {}
    return amount((found.get("requests") or found if part == "resources" else found).get("storage")) or 0.0


def claims_of(objects: Iterable[Object]) -> Iterator[Object]:
    """The volume claims of objects: of a StatefulSet's template one for each pod, by the name that it gets."""
    for item in objects:
        if item["kind"] == "PersistentVolumeClaim":
            yield item
        spec = item.get("spec") or {}
        for template in spec.get("volumeClaimTemplates") or []:
            name = f"{template['metadata']['name']}-{item['metadata']['name']}"
            yield from ({"metadata": {"name": f"{name}-{number}"}, "spec": template["spec"]} for number in range(int(spec.get("replicas", 1))))


def is_claim(objects: Iterable[Object], name: str) -> bool:
    """Is a claim of this name one of these objects', or made for a pod of one?"""
    for item in objects:
        if item["kind"] == "PersistentVolumeClaim" and item["metadata"]["name"] == name:
            return True
        for template in (item.get("spec") or {}).get("volumeClaimTemplates") or []:
            before, _, number = name.rpartition("-")
            if number.isdecimal() and before == f"{template['metadata']['name']}-{item['metadata']['name']}":
                return True
    return False


def default_class(subject: Subject) -> str:
    """The class of a claim that names none, "" where there is none or it may not be read."""
    try:
        return next(iter(_defaults(subject.listed(API, "StorageClass"))), "")
    except Missing:
        return ""


def _defaults(classes: Iterable[Object]) -> list[str]:
    """The default classes, first the one that is taken: the newest."""
    found = [item["metadata"] for item in classes if (item["metadata"].get("annotations") or {}).get(DEFAULT) == "true"]
    return [one["name"] for one in sorted(found, key=lambda one: str(one.get("creationTimestamp", "")), reverse=True)]


def of_class(
    name: str | None, claims: list[Object], classes: dict[str, Object], said: dict[str, tuple[str, ...]],
    free: Callable[[str], list[Object] | None] = lambda name: [], unbound: Sequence[Object] = (),
) -> Result:  # fmt: skip
    """What the class of some claims is like. name: None for the default; classes: those of the cluster; said: access modes by class;
    free: the volumes of a class that wait for a claim; unbound: those of the claims that wait for a volume."""
    of = ", ".join(claim["metadata"]["name"] for claim in claims)
    listed = ", ".join(sorted(classes)) or "none"
    todo = f"component storage-class with one that is there: {listed}"
    if name is None:
        defaults = _defaults(classes.values())
        if len(defaults) != 1:
            what = f"{of} name{'s' * (len(claims) == 1)} no class, and {', '.join(defaults) or 'none'} is the default"
            return Result("storage-classes", "warning" if defaults else "error", what, todo)
        name = defaults[0]
    if name == "":
        return Result("storage-classes", "warning", f"{of}: the class is empty, so that somebody has to make the volumes", todo)
    if name not in classes and free(name):
        return Result("storage-classes", "warning", f"there is no class {name}, of {of}, and there are volumes of it that somebody has made")
    if name not in classes:
        return Result("storage-classes", "error", f"there is no class {name}, of {of}", todo)
    item = classes[name]
    shared = [claim["metadata"]["name"] for claim in claims if set(claim["spec"].get("accessModes") or ()) & set(SHARED)]
    provisioner = item["provisioner"]
    bad = not set(said[name]) & set(SHARED) if said.get(name) else provisioner in block_provisioners()
    if shared and bad:
        why = "as the environment says" if said.get(name) else f"its provisioner is {provisioner}"
        what = f"{name} serves one node at a time ({why}), and {', '.join(shared)} is to be shared"
        todo = "component storage-class with a storage_class_rwx of a file share; or say what it serves in cluster.present.storage_classes"
        return Result("storage-classes", "error", what, todo)
    if provisioner == BY_HAND and unbound and (there := free(name)) is not None and (lacking := without_volume(unbound, there)):
        what = f"{name} makes no volumes itself, and none of the {len(there)} that wait for a claim is right for {', '.join(lacking)}"
        return Result("storage-classes", "error", what, f"have volumes of this class made, in these sizes and access modes; or {todo}")
    traits = [provisioner, "binds when a pod comes" if item.get("volumeBindingMode") == LATER else "binds at once"]
    traits.append("grows" if item.get("allowVolumeExpansion") else "cannot grow")
    return Result("storage-classes", "ok", f"{name}: {', '.join(traits)}; for {len(claims)} claims{', shared too' if shared else ''}")


def claims(subject: Subject) -> Iterator[Result]:
    """The volume claims that are there are bound, or wait for their first pod, as their class says; else the reason in the words of the
    provisioner."""
    live = subject.listed("v1", "PersistentVolumeClaim", subject.namespace)
    ours = [item for item in live if is_claim(subject.compiled.objects, item["metadata"]["name"])]
    pods = subject.listed("v1", "Pod", subject.namespace)
    seen = Live({(item["kind"], item["metadata"]["name"]): item for item in [*ours, *pods]}, lambda name: _mode(subject, name))
    waiting = {item["metadata"]["name"]: reason for item in ours if (reason := readiness.unready(item, seen))}
    for name, reason in waiting.items():
        said = _said(subject, name)
        yield Result("claims", "error", f"{name}: {reason}{f': {said}' if said else ''}", f"kubectl describe pvc {name} -n {subject.namespace}")
    if not waiting:
        left = len(ours) - sum(item.get("status", {}).get("phase") == "Bound" for item in ours)
        yield Result("claims", "ok", f"{len(ours) - left} bound{f', {left} waiting for a first pod' if left else ''}" if ours else NEW)


def _mode(subject: Subject, name: str | None) -> str:
    try:
        classes = subject.listed(API, "StorageClass")
    except Missing:
        return LATER
    return next((item.get("volumeBindingMode", "") for item in classes if item["metadata"]["name"] == name), "")


def _said(subject: Subject, claim: str) -> str:
    """The last event of a claim, in its words; "" where there is none or it may not be read."""
    try:
        events = subject.listed("v1", "Event", subject.namespace)
    except Missing:
        return ""
    of = [one for one in events if one["involvedObject"].get("name") == claim and one["involvedObject"].get("kind") == "PersistentVolumeClaim"]
    last = max(of, key=lambda one: one.get("lastTimestamp") or one.get("eventTime") or "", default={})
    return " ".join(str(last.get("message", "")).split())[:300]
