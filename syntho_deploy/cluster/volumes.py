"""What would cost data, or what the API server refuses of a volume in words that help nobody: each a sentence, with what to do."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable

from syntho_deploy.cluster.client import ApiError, Client, Object
from syntho_deploy.cluster.kubeconfig import quantity
from syntho_deploy.cluster.readiness import Live, mounts

GOING = (
    "nothing can take that back, and its data goes with the last pod that mounts it; back the data up while that pod runs, then have the pod "
    "stop and deploy: it makes a new volume, to restore into"
)
LOST_WITH = (
    "its persistentVolumeClaimRetentionPolicy has its volumes deleted with it; have them kept first: "
    """kubectl patch statefulset NAME --type=merge -p '{"spec":{"persistentVolumeClaimRetentionPolicy":{"whenDeleted":"Retain"}}}'"""
)
MAJOR = re.compile(r"v?([0-9]{1,2})(?:[.\-_]|$)")  # of a tag such as 14, 14.2-alpine, v16; a longer number is a date or a build


def claim_fault(client: Client, item: Object, live: Object) -> str:
    """Why a volume claim cannot become what `item` (a compiled manifest) says, or "". Asked when the API server refused it."""
    name, wanted = item["metadata"]["name"], item["spec"]
    if fault := _class_fault(wanted, live["spec"]):
        return f"{fault}, which no volume can; keep it, or move the data: back it up, kubectl delete pvc {name}, deploy, restore"
    before = live.get("status", {}).get("capacity", {}).get("storage") or _size(live["spec"])
    if quantity(_size(wanted)) < quantity(before):
        todo = f"write {before} or more, or move the data: back it up, kubectl delete pvc {name}, deploy, restore"
        return f"it would shrink from {before} to {_size(wanted)}, which no volume can; {todo}"
    storage_class = live["spec"].get("storageClassName") or ""
    if quantity(_size(wanted)) > quantity(before) and not _expands(client, storage_class):
        todo = "keep the size, or have the class changed"
        return f"it would grow from {before} to {_size(wanted)}, and its class {storage_class or '(none)'} has no allowVolumeExpansion: true; {todo}"
    return ""


def growth(item: Object, live: Object) -> str:
    """How a volume claim grows, or ""."""
    before, after = _size(live["spec"]), _size(item["spec"])
    return f"it grows from {before} to {after}; its class allows that" if quantity(after) > quantity(before) else ""


def templates_fault(item: Object, live: Object) -> str:
    """Which volumes of a StatefulSet would change, or "". Its templates are for new pods only, and cannot change at all."""
    old = {one["metadata"]["name"]: one["spec"] for one in live["spec"].get("volumeClaimTemplates") or []}
    new = {one["metadata"]["name"]: one["spec"] for one in item["spec"].get("volumeClaimTemplates") or []}
    faults = [f"{name} would be {'new' if name in new else 'gone'}" for name in sorted(old.keys() ^ new.keys())]
    for name in sorted(old.keys() & new.keys()):
        if fault := _class_fault(new[name], old[name]):
            faults.append(f"{name}: {fault}")
        if quantity(_size(new[name])) != quantity(_size(old[name])):
            faults.append(f"{name} would go from {_size(old[name])} to {_size(new[name])}")
    if not faults:
        return ""
    todo = "delete it without its pods (kubectl delete statefulset --cascade=orphan); volumes that are there stay as they are"
    return f"a StatefulSet's volume templates cannot change: {', '.join(faults)}; keep them, or {todo}"


def major(image: str) -> int | None:
    """The major version that an image's tag names; None where it names none."""
    tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
    found = MAJOR.match(tag)
    return int(found[1]) if found else None


def image_faults(item: Object, found: Object | None, live: Live, restarts: bool) -> tuple[str, str]:
    """A database's image against the volumes that it keeps: (why it is refused, what cannot be told), each "" for nothing.

    item, found: the workload as compiled and as it is; restarts: are its pods replaced?
    """
    spec = item["spec"]["template"]["spec"]
    for container in spec["containers"]:
        kept = _claims(item, container, spec, live)
        old, new, volume = _images_on(kept, found, live), str(container.get("image", "")), ", ".join(sorted(kept))
        if not kept or (old == {new} and (major(new) is not None or not restarts)):
            continue
        if not old:
            return "", f"the volume {volume} is there already, and which version wrote it is not known"
        if unknown := [image for image in sorted({*old, new}) if major(image) is None]:
            return "", f"no major version can be told from {', '.join(unknown)}, and only the one that wrote the volume {volume} can read it"
        if others := [image for image in sorted(old) if major(image) != major(new)]:
            todo = "keep the major version; or dump the data, deploy with a new volume, and restore (docs/environments.md)"
            return f"{new} cannot read the volume {volume}, which is of {others[0]}, another major version; {todo}", ""
    return "", ""


def of_set(item: Object, live: Live) -> list[Object]:
    """The volume claims that are there of a StatefulSet's templates: it makes them, no release has them, and they stay when it goes."""
    prefixes = set_prefixes(item)
    claims = [one for (kind, _), one in live.objects.items() if kind == "PersistentVolumeClaim"]
    return sorted((one for one in claims if is_of(one["metadata"]["name"], prefixes)), key=lambda one: str(one["metadata"]["name"]))


def set_prefixes(item: Object, templates: Container[str] | None = None) -> list[str]:
    """What the names of a StatefulSet's claims begin with, before the number of a pod. templates: only of these."""
    found = [one["metadata"]["name"] for one in item.get("spec", {}).get("volumeClaimTemplates") or []]
    return [f"{one}-{item['metadata']['name']}-" for one in found if templates is None or one in templates]


def is_of(name: str, prefixes: Iterable[str]) -> bool:
    """Is this the name of a claim of `set_prefixes`?"""
    return any(name.startswith(prefix) and name.removeprefix(prefix).isdigit() for prefix in prefixes)


def lost_with(found: Object) -> bool:
    """Does the controller delete a StatefulSet's volumes once that is deleted?"""
    return (found["spec"].get("persistentVolumeClaimRetentionPolicy") or {}).get("whenDeleted") == "Delete"


def claims_of(item: Object, live: Live) -> list[str]:
    """The volume claims that are there and that a workload's containers mount."""
    spec = item["spec"]["template"]["spec"]
    return sorted(set().union(*(_claims(item, container, spec, live) for container in spec["containers"])))


def _claims(item: Object, container: Object, spec: Object, live: Live) -> set[str]:
    """The volume claims that are there and that a container mounts, by a volume of its pod or a template of its StatefulSet."""
    mounted = {mount["name"] for mount in container.get("volumeMounts") or []}
    named = {(one.get("persistentVolumeClaim") or {}).get("claimName") for one in spec.get("volumes") or [] if one["name"] in mounted}
    prefixes = set_prefixes(item, mounted)
    there = [name for kind, name in live.objects if kind == "PersistentVolumeClaim"]
    return {name for name in there if name in named or is_of(name, prefixes)}


def _images_on(claims: set[str], found: Object | None, live: Live) -> set[str]:
    """The images that work on these claims now: of the workload's pods, else of its template."""
    if not found:
        return set()
    labels = ((found["spec"].get("selector") or {}).get("matchLabels") or {}).items()
    pods = [pod for pod in live.pods() if labels <= (pod["metadata"].get("labels") or {}).items() and any(mounts(pod, claim) for claim in claims)]
    bearers = [(pod, pod["spec"]) for pod in pods] or [(found, found["spec"]["template"]["spec"])]
    return {str(one.get("image", "")) for item, spec in bearers for one in spec["containers"] if _claims(item, one, spec, live) & claims}


def _class_fault(wanted: Object, live: Object) -> str:
    new, old = wanted.get("storageClassName"), live.get("storageClassName")
    return f"its class would change from {old or '(none)'} to {new or '(none)'}" if new is not None and new != old else ""


def _size(spec: Object) -> str:
    return str(((spec.get("resources") or {}).get("requests") or {}).get("storage", "0"))


def _expands(client: Client, name: str) -> bool:
    """Does a class let its volumes grow? Yes where that cannot be told: then the API server's words stand."""
    try:
        found = client.get("storage.k8s.io/v1", "StorageClass", "", name) if name else None
    except ApiError:
        return True
    return bool((found or {}).get("allowVolumeExpansion"))
