"""What an object will be after Helm 4 has written it, asked of the API server before anything is written.

Helm 4 applies (server-side) as the manager "helm". Where it did so before, a dry run of the same apply tells the result. Where
Helm 3 or a person made the object, such a dry run lies (conflicts of "helm" with itself; `valueFrom` beside `value`), because
Helm 4 first turns the fields of Helm 3 into its own. There the result is built here and sent as a dry-run PUT.
https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from syntho_deploy import documents
from syntho_deploy.cluster.client import ApiError, Client, Object

HELM = "helm"
MANAGED_BY = "app.kubernetes.io/managed-by"
NO_ANSWERS = (401, 429, 502, 503, 504)  # they say nothing of the object; a field that the schema lacks is a 500
TRIES = 6  # of a dry run on an object that somebody writes to at the same time
LEAN = ("affinity", "securityContext")  # of a pod or a container: without content they say what their absence says
CHOSEN = "(chosen by the server)"  # a value of which a dry run tells another each time
DEFAULTS = {"protocol": "TCP"}  # keys of list items that the API server fills in


@dataclass(frozen=True)
class Conflict:
    """A field that another manager owns and sets to another value."""

    field: str
    owner: str


@dataclass(frozen=True)
class Predicted:
    """The object after the write, or why it cannot be written.

    result: the whole object, as the server would store it. conflicts: what stands in the way of it, or is taken by force. checked:
    the server was asked (not where the namespace or the kind does not exist yet). immutable: the server's words for a field that
    cannot change in place. refused: any other refusal.
    """

    result: Object | None = None
    checked: bool = True
    conflicts: tuple[Conflict, ...] = ()
    immutable: str = ""
    refused: str = ""


def owned(item: Object, release: str, namespace: str) -> Object:
    """A compiled manifest as helm writes it: with the metadata by which helm knows its own."""
    metadata = dict(item["metadata"])
    metadata["labels"] = {**(metadata.get("labels") or {}), MANAGED_BY: "Helm"}
    marks = {"meta.helm.sh/release-name": release, "meta.helm.sh/release-namespace": namespace}
    metadata["annotations"] = {**(metadata.get("annotations") or {}), **marks}
    return {**item, "metadata": metadata}


def lean(item: Object, live: Object | None) -> Object:
    """`item` less the empty maps of its pod template that `live` is without.

    When the last field of such a map goes, the API server drops the map, though the manifest has it as `{}`; the next write would bring
    it back and, for nothing, restart the pods. https://github.com/kubernetes-sigs/structured-merge-diff (RemoveItems)
    """
    new, old = (one.get("spec", {}).get("template", {}).get("spec") if one else None for one in (item, live))
    if not isinstance(new, dict) or not isinstance(old, dict) or not _empties(new, old):
        return item
    item = documents.clone(item)
    for holder, name in _empties(item["spec"]["template"]["spec"], old):
        del holder[name]
    return item


def _empties(new: Object, old: Object) -> list[tuple[Object, str]]:
    pairs = [(new, old)]
    for kind in ("containers", "initContainers"):
        there = {one.get("name"): one for one in old.get(kind) or []}
        pairs += [(one, there[one["name"]]) for one in new.get(kind) or [] if one.get("name") in there]
    return [(one, name) for one, other in pairs for name in LEAN if one.get(name) == {} and name not in other]


def predict(client: Client, item: Object, live: Object | None, force: bool = False) -> Predicted:
    """The outcome of helm's write of `item` (from `owned`) onto `live`; force: with --force-conflicts, and what that takes from whom.

    Writes nothing. Raises only when the server cannot be asked, which it is not of what `stands`.
    """
    if stands(item, live):
        return Predicted(live)
    found = _asked(client, item, live, False)
    if force and found.conflicts:
        found = replace(_asked(client, item, live, True), conflicts=found.conflicts)
    return replace(found, result=_with_chosen(item, live, found.result)) if item["kind"] == "Service" and live and found.result else found


def _with_chosen(item: Object, live: Object, result: Object) -> Object:
    """A Service without the addresses and ports of nodes that nobody named: the API server allots others when it is written."""
    spec, known = documents.clone(result["spec"]), (live["spec"], item["spec"])
    for key in ("clusterIP", "clusterIPs", "healthCheckNodePort"):
        if key in spec and all(spec[key] != one.get(key) for one in known):
            spec[key] = CHOSEN
    named = {port.get("nodePort") for one in known for port in one.get("ports") or []}
    for port in spec.get("ports") or []:
        if "nodePort" in port and port["nodePort"] not in named:
            port["nodePort"] = CHOSEN
    return {**result, "spec": spec}


def _asked(client: Client, item: Object, live: Object | None, force: bool, tries: int = TRIES) -> Predicted:
    """What the server says. A controller that writes to the object meanwhile, its status for one, makes no refusal: it is read again."""
    place = item["apiVersion"], item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]
    try:
        if live is None or (_applied_by_helm(live) and not _updated_by_helm(live)):
            return Predicted(client.apply(item, HELM, force, dry_run=True))
        target = build(live, item)
        conflicts = () if force else tuple(_foreign(live, item))
        if conflicts:
            return Predicted(conflicts=conflicts)
        query = {"dryRun": "All", "fieldManager": HELM, "fieldValidation": "Strict"}
        return Predicted(client.request("PUT", client.path(*place), target, query))
    except ApiError as error:
        if tries > 1 and live is not None and error.status == 409 and not error.causes:
            return _asked(client, item, client.get(*place), force, tries - 1)
        return _refusal(error, live)


def stands(item: Object, live: Object | None) -> bool:
    """Would helm's write of `item` (from `owned`) leave `live` as it is? Then the API server need not be asked.

    Yes where helm applied exactly the fields that `item` has, and each of their values stands in `live` word for word. No wherever that
    cannot be told from here, as where the server writes a quantity in another way. An admission webhook that would change or deny
    what it let through before is met by the write.
    """
    if live is None or live["metadata"].get("deletionTimestamp"):
        return False
    applied = [entry for entry in managers(live) if (entry.get("manager"), entry.get("operation")) == (HELM, "Apply")]
    if [entry.get("apiVersion") for entry in applied] != [item["apiVersion"]] or _updated_by_helm(live):
        return False
    metadata = {name: value for name, value in item["metadata"].items() if name not in ("name", "namespace")}
    rest = {name: value for name, value in item.items() if name not in ("apiVersion", "kind")}
    return _stands({**rest, "metadata": metadata}, live, applied[0].get("fieldsV1") or {})


def _stands(new: Any, live: Any, fields: Object) -> bool:
    """`fields` (fieldsV1) is what an applied `new` owns: of a map or a list without names of its own, the whole."""
    keys = [key for key in fields if key != "."]
    if not keys:
        return documents.canonical(new) == documents.canonical(live)
    if isinstance(new, dict) and isinstance(live, dict):
        names = [key[2:] for key in keys if key.startswith("f:")]
        return sorted(names) == sorted(new) and all(name in live and _stands(new[name], live[name], fields[f"f:{name}"]) for name in names)
    if not (isinstance(new, list) and isinstance(live, list) and len(new) == len(keys)):
        return False
    if all(key.startswith("v:") for key in keys):
        mine = sorted(documents.canonical(json.loads(key[2:])) for key in keys)
        return mine == sorted(map(documents.canonical, new)) and all(value in live for value in new)
    places = []
    for value in new:
        key = next((key for key in keys if key.startswith("k:") and _item([value], json.loads(key[2:])) is not None), "")
        found = _item(live, json.loads(key[2:])) if key else None
        if found is None or not _stands(value, found, fields[key]):
            return False
        places.append(live.index(found))
    return places == sorted(places)


def anew(client: Client, item: Object) -> Predicted:
    """The outcome of helm's write of `item` (from `owned`) after the one that is there was deleted: asked under another name."""
    name = item["metadata"]["name"]
    try:
        made = client.apply({**item, "metadata": {**item["metadata"], "name": f"{name[:240]}-anew"}}, HELM, dry_run=True)
    except ApiError as error:
        return _refusal(error, None)
    return Predicted({**made, "metadata": {**made["metadata"], "name": name}})


def _refusal(error: ApiError, live: Object | None) -> Predicted:
    if error.status == 404 and live is None:
        return Predicted(checked=False)
    conflicts = tuple(
        Conflict(cause.get("field", ""), cause.get("message", "").split('"')[1] if '"' in cause.get("message", "") else cause.get("message", ""))
        for cause in error.causes
        if cause.get("reason") == "FieldManagerConflict"
    )
    if conflicts:
        return Predicted(conflicts=conflicts)
    words = error.what
    fixed = [any(word in cause.get("message", "") for word in ("immutable", "updates to statefulset spec")) for cause in error.causes]
    if error.status == 422 and fixed and all(fixed):  # with another fault beside it, the object could not be made anew
        return Predicted(immutable=words)
    if error.status in NO_ANSWERS:
        raise error
    return Predicted(refused=words)


def _applied_by_helm(live: Object) -> bool:
    return any(entry.get("manager") == HELM and entry.get("operation") == "Apply" for entry in managers(live))


def _updated_by_helm(live: Object) -> bool:
    """Did a Helm 3 write it, or a Helm 4 told not to apply? The next Helm 4 takes over what that owns before it applies."""
    return any(entry.get("manager") == HELM and entry.get("operation") == "Update" for entry in managers(live))


def managers(live: Object) -> list[Object]:
    """Who owns which fields of an object, those of a subresource such as the status left aside."""
    return [entry for entry in live["metadata"].get("managedFields") or [] if not entry.get("subresource")]


def build(live: Object, item: Object) -> Object:
    """What Helm 4 makes of an object that Helm 3 or a person made: live, less what helm owns and `item` lacks, plus `item`."""
    target = documents.clone(live)
    owners = managers(live)
    mine = [entry["fieldsV1"] for entry in owners if entry.get("manager") == HELM and "fieldsV1" in entry]
    others = [entry["fieldsV1"] for entry in owners if entry.get("manager") != HELM and "fieldsV1" in entry]
    for fields in mine:
        _prune(target, fields, item, others)
    merged: Object = _merge(target, item, [entry["fieldsV1"] for entry in owners if "fieldsV1" in entry])
    merged["metadata"].pop("managedFields", None)
    return merged


def _prune(live: Any, fields: Object, new: Any, others: list[Object]) -> None:
    """Remove from `live` what `fields` (fieldsV1 of a manager) names, `new` lacks, and nobody else owns."""
    for key, inner in fields.items():
        if key == ".":
            continue
        rest = [other[key] for other in others if key in other]
        if key.startswith("f:") and isinstance(live, dict):
            name = key[2:]
            if name not in live:
                continue
            there = isinstance(new, dict) and name in new and new[name] is not None
            if inner and isinstance(live[name], dict | list):
                _prune(live[name], inner, new[name] if there else None, rest)
            if not there and not rest and (not inner or not live[name]):
                del live[name]
        elif key.startswith("k:") and isinstance(live, list):
            keys = json.loads(key[2:])
            found = _item(live, keys)
            if found is None:
                continue
            matching = _item(new, keys) if isinstance(new, list) else None
            if matching is None and not rest:
                live.remove(found)
            else:
                _prune(found, inner, matching, rest)
        elif key.startswith("v:") and isinstance(live, list) and not rest:
            value = json.loads(key[2:])
            if value in live and not (isinstance(new, list) and value in new):
                live.remove(value)


def _item(items: list[Any], keys: Object) -> Any:
    for item in items:
        if isinstance(item, dict) and all(item.get(name, DEFAULTS.get(name)) == value for name, value in keys.items()):
            return item
    return None


def _merge(live: Any, new: Any, fields: list[Object]) -> Any:
    """`live` with all that `new` says; lists that managers know by keys are merged item by item, others replaced."""
    if isinstance(live, dict) and isinstance(new, dict):
        for name, value in new.items():
            if value is not None:
                inside = [entry[f"f:{name}"] for entry in fields if f"f:{name}" in entry]
                whole = bool(inside) and not any(inside)  # a selector, say, has one owner: nobody owns a part of it
                live[name] = documents.clone(value) if whole else _merge(live.get(name), value, [entry for entry in inside if entry])
        return live
    if isinstance(live, list) and isinstance(new, list):
        keyed = [key for entry in fields for key in entry if key.startswith("k:")]
        if keyed:
            names = list(json.loads(keyed[0][2:]))
            for value in new:
                keys = {name: value.get(name, DEFAULTS.get(name)) for name in names}
                found = _item(live, keys)
                if found is None:
                    live.append(documents.clone(value))
                else:
                    inside = [entry[key] for entry in fields for key in entry if key.startswith("k:") and json.loads(key[2:]) == keys]
                    _merge(found, value, inside)
            return live
        if any(key.startswith("v:") for entry in fields for key in entry):
            return [*live, *(value for value in new if value not in live)]
    return documents.clone(new)


def _foreign(live: Object, item: Object) -> list[Conflict]:
    """Fields of `item` that another manager than helm owns with another value: Helm 4's apply would refuse them."""
    found = []
    for entry in managers(live):
        if entry.get("manager") != HELM and "fieldsV1" in entry:
            found += [Conflict(field, entry.get("manager", "")) for field in _differing(live, item, entry["fieldsV1"], "")]
    return found


def _differing(live: Any, new: Any, fields: Object, path: str) -> list[str]:
    found = []
    for key, inner in fields.items():
        if key.startswith("f:") and isinstance(new, dict) and isinstance(live, dict):
            name = key[2:]
            if name in new and new[name] is not None and name in live:
                if inner and isinstance(live[name], dict | list):
                    found += _differing(live[name], new[name], inner, f"{path}.{name}")
                elif live[name] != new[name]:
                    found.append(f"{path}.{name}")
        elif key.startswith("k:") and isinstance(new, list) and isinstance(live, list):
            keys = json.loads(key[2:])
            one, other = _item(live, keys), _item(new, keys)
            if one is not None and other is not None:
                found += _differing(one, other, inner, f"{path}[{','.join(f'{key}={json.dumps(value)}' for key, value in sorted(keys.items()))}]")
    return found
