"""What a rule sees: an environment with its compiled objects, the pods in them, and what the charts' values mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from syntho_deploy.compile import Compiled, Project
from syntho_deploy.documents import Json, Keys, walk
from syntho_deploy.environment import ACCESS_MODES, Environment, ImageRole, Roles
from syntho_deploy.errors import InputError, Mark
from syntho_deploy.explain import reaches
from syntho_deploy.helm import Helm
from syntho_deploy.overlays import pointer
from syntho_deploy.overlays.liveness import Reach
from syntho_deploy.overlays.manifests import is_custom
from syntho_deploy.secrets import store
from syntho_deploy.secrets.sentinels import label

Item = dict[str, Any]
RAY = "RayCluster"
HEAD_SERVICE = "-head-svc"  # KubeRay makes this of a RayCluster's name
# Objects that others make a Secret of, with the places of its name; the last counts where several are there.
MAKERS: dict[str, tuple[Keys, ...]] = {
    "Certificate": (("spec", "secretName"),),
    "ExternalSecret": (("metadata", "name"), ("spec", "target", "name")),
    "SealedSecret": (("metadata", "name"), ("spec", "template", "metadata", "name")),
    "VaultStaticSecret": (("spec", "destination", "name"),),
}
LOCAL_CLASSES = ("default", "kwok-volume")  # of the clusters on this machine (tools/kwok/objects.yaml), for any access mode
# KubeRay adds these to the pods of a RayCluster; the values vary by pod and group.
RAY_LABELS = ("ray.io/cluster", "ray.io/node-type", "ray.io/group", "ray.io/identifier", "ray.io/is-ray-node", "app.kubernetes.io/created-by")


@dataclass(frozen=True)
class Finding:
    """What a rule found. of: `Kind/name`, a chart, or a file; path: the field of it (a pointer), or ""; todo: the remedy.

    mark: where it is, when it is not `of` and `path` that tell it; shared: it is in a component that others use too.
    """

    of: str
    path: str
    what: str
    todo: str
    mark: Mark | None = None
    shared: bool = False


@dataclass(frozen=True)
class Pod:
    """A pod spec in an object. keys: its path there; labels: of the pods that come of it; many: are there several of them?"""

    item: Item
    keys: Keys
    spec: Item
    labels: dict[str, Any]
    many: bool

    @property
    def of(self) -> str:
        """`Kind/name` of the object that it is in."""
        return label(self.item)

    def containers(self, init: bool = True) -> Iterator[tuple[Keys, Item]]:
        """Each container with its path in the object; init: those that run first, or for a while, too, and not only sidecars of them."""
        for part in ("initContainers", "containers", "ephemeralContainers"):
            for index, container in enumerate(self.spec.get(part) or []):
                if init or part == "containers" or (part == "initContainers" and container.get("restartPolicy") == "Always"):
                    yield (*self.keys, part, index), container


@dataclass(frozen=True)
class Role:
    """A value of a chart that has a meaning: where it stands and what it is, in the environment and in the chart itself."""

    chart: str
    keys: Keys
    value: Json
    default: Json


@dataclass
class Context:
    """An environment as the rules see it. around: the other environments, to be asked only by a rule that needs them."""

    project: Project
    compiled: Compiled
    helm: Helm
    around: Callable[[], list[Compiled]] = field(default=list)

    @property
    def environment(self) -> Environment:
        """The environment as its file says."""
        return self.project.environment

    @property
    def roles(self) -> Roles:
        """What the values mean."""
        return self.project.roles

    @cached_property
    def objects(self) -> dict[str, Item]:
        """The compiled objects by `Kind/name`, those of the charts' own Secrets left out."""
        return {label(item): item for item in self.compiled.objects}

    @cached_property
    def patched(self) -> dict[str, Item]:
        """The objects by `Kind/name` before secrets were cut out, the charts' own Secrets among them."""
        return {manifest.label: manifest.item for manifests in self.project.manifests.values() for manifest in manifests.kept}

    def added_by_component(self, item: Item) -> bool:
        """Is an object a whole one of a component, not of a chart and not of the environment's own overlay?"""
        made = [manifest.added for manifests in self.project.manifests.values() for manifest in manifests.kept if manifest.label == label(item)]
        return any(setter and setter.layer != self.environment.name for setter in made)

    def kind(self, *kinds: str) -> list[Item]:
        """The objects of some kinds of Kubernetes or Ray; a kind of another group may have the same name."""
        return [item for item in self.objects.values() if item["kind"] in kinds and (item["kind"] == RAY or not is_custom(item))]

    def names(self, kind: str) -> set[str]:
        """The names of the objects of a kind."""
        return {item["metadata"]["name"] for item in self.kind(kind)}

    @cached_property
    def reach(self) -> dict[str, Reach]:
        """For each chart what is known of its values' effects."""
        return reaches(self.project, self.helm)

    @cached_property
    def pods(self) -> list[Pod]:
        """Every pod spec of every object."""
        return [pod for item in self.objects.values() for pod in _pods(item)]

    @cached_property
    def secrets(self) -> dict[str, set[str] | None]:
        """The Secrets that are there when the pods start, each with its keys; None where they are not known.

        Ours, the pull secrets, those that sources or the environment's `present` name, and what cert-manager and operators for secrets make.
        """
        found: dict[str, set[str] | None] = {}
        try:
            found |= {need.name: set(need.data) for need in store.wanted(self.compiled)}
        except InputError:  # a rule of its own says so
            found |= {item.name: set(item.data) for item in self.compiled.secrets}
        for spec in self.environment.secrets.values():
            if spec.kubernetes:
                found[spec.kubernetes[0]] = (found.get(spec.kubernetes[0]) or set()) | {spec.kubernetes[1]}
        return found | dict.fromkeys(self.makers) | dict.fromkeys(self.environment.present.names.get("secrets", ()))

    @cached_property
    def makers(self) -> dict[str, Item]:
        """The Secrets that others make once an object is there, each with that object: cert-manager, and operators for secrets."""
        found: dict[str, Item] = {}
        for item in self.kind("Ingress"):
            if issued(item):
                found |= {entry["secretName"]: item for entry in item["spec"].get("tls") or [] if entry.get("secretName")}
        for item in self.objects.values():
            made = [name for keys in MAKERS.get(item["kind"], ()) if isinstance(name := at(item, keys), str) and name]
            found |= dict.fromkeys(made[-1:], item)
            if item["kind"] == "SecretProviderClass":  # of the CSI driver for secret stores
                entries = [entry for entry in at(item, ("spec", "secretObjects")) or [] if isinstance(entry, dict)]
                found |= {entry["secretName"]: item for entry in entries if isinstance(entry.get("secretName"), str)}
        return found

    @cached_property
    def services(self) -> set[str]:
        """The names of the Services that are there: of the objects, of Ray's head, and those that the environment's `present` names."""
        return self.names("Service") | {f"{name}{HEAD_SERVICE}" for name in self.names(RAY)} | self.present("services")

    def present(self, kind: str) -> set[str]:
        """What the environment says is there without it."""
        return set(self.environment.present.names.get(kind, ()))

    @cached_property
    def storage_classes(self) -> dict[str, tuple[str, ...]]:
        """The storage classes that are known to be there, each with the access modes that it serves; () where those are not known."""
        local = dict.fromkeys(LOCAL_CLASSES, ACCESS_MODES) if self.environment.target.local else {}
        return local | dict.fromkeys(sorted(self.names("StorageClass")), ()) | self.environment.present.storage_classes

    @cached_property
    def shown_values(self) -> dict[str, Json]:
        """The values of each chart with `${secret:name}` where a secret belongs."""
        return self.project.shown_values()

    def role(self, name: str) -> Role | None:
        """The value of a role; None where the roles or the values have none."""
        return self._of_roles.get(name)

    @cached_property
    def _of_roles(self) -> dict[str, Role | None]:
        return {name: self._role(*place) for name, place in self.roles.values.items()}

    def image_role(self, role: ImageRole) -> Role | None:
        """The repository and tag of an application's image; None where the values have none."""
        return self._role(role.chart, role.path)

    def runs(self, container: Item, application: str) -> bool:
        """Is a container's image that of an application?"""
        image = self.image_role(self.roles.images[application]) if application in self.roles.images else None
        repository = str(image.value.get("repository")) if image and isinstance(image.value, dict) else ""
        name = str(container.get("image")).partition("@")[0]
        return bool(repository) and name in (repository, f"{repository}:{name.rpartition(':')[2]}")

    def _role(self, chart: str, path: str) -> Role | None:
        values = self.shown_values[chart]
        try:
            keys, _ = pointer.compile_pointer(values, path)
        except pointer.PointerError:
            return None
        return Role(chart, keys, at(values, keys), at(self.project.defaults(chart), keys))

    def value(self, name: str) -> Json:
        """What the value of a role is; None where there is none."""
        found = self.role(name)
        return found.value if found else None

    def variable(self, name: str) -> Json:
        """The value of a variable of the environment; None where there is none."""
        try:
            return self.project.lookup(name, Mark(str(self.environment.file)))
        except InputError:
            return None

    def of_value(self, role: Role, what: str, todo: str) -> Finding:
        """A finding about a chart's value."""
        return Finding(role.chart, pointer.named(self.shown_values[role.chart], role.keys), what, todo)

    def at(self, pod: Pod, keys: Keys) -> Item:
        """A part of the object that a pod is in."""
        found = at(pod.item, keys)
        return found if isinstance(found, dict) else {}

    def selected(self, selector: dict[str, Any] | None) -> list[Pod]:
        """The pods that a label selector (`matchLabels`, `matchExpressions` or a plain mapping) may select; all for an empty one."""
        return [pod for pod in self.pods if selects(selector or {}, pod.labels)]


def of_object(item: Item, keys: Keys, what: str, todo: str) -> Finding:
    """A finding about a field of an object, which may be one that is missing."""
    return Finding(label(item), _named(item, keys), what, todo)


def _named(item: Item, keys: Keys) -> str:
    try:
        return pointer.named(item, keys)
    except (KeyError, IndexError, TypeError):
        return _named(item, keys[:-1]) + pointer.text(keys[-1:])


def at(document: Json, keys: Keys) -> Json:
    """What stands at a path; None where nothing does."""
    for key in keys:
        try:
            document = document[key]
        except (KeyError, IndexError, TypeError):
            return None
    return document


def issued(ingress: Item) -> bool:
    """Does cert-manager make the TLS Secrets of an Ingress?"""
    annotations = ingress["metadata"].get("annotations") or {}
    return any(annotations.get(f"cert-manager.io/{kind}") for kind in ("issuer", "cluster-issuer"))


def _pods(item: Item) -> Iterator[Pod]:
    for keys, value in walk(item):
        if not (isinstance(value, dict) and isinstance(value.get("containers"), list) and all(isinstance(c, dict) for c in value["containers"])):
            continue
        template = at(item, keys[:-1]) if keys else {}
        labels = dict((template.get("metadata") or {}).get("labels") or {}) if isinstance(template, dict) else {}
        owner = at(item, keys[:-2]) if len(keys) > 1 else None
        count = owner.get("replicas", 1) if isinstance(owner, dict) else 1
        ray = item["kind"] == RAY
        if ray:
            labels = dict.fromkeys(RAY_LABELS) | {"app.kubernetes.io/name": "kuberay"} | labels
            labels |= {"ray.io/cluster": item["metadata"]["name"], "ray.io/node-type": "head" if "headGroupSpec" in keys else "worker"}
        yield Pod(item, keys, value, labels, item["kind"] == "DaemonSet" or (isinstance(count, int) and count > 1))


def selects(selector: dict[str, Any], labels: dict[str, Any]) -> bool:
    if "matchExpressions" in selector or "matchLabels" in selector:
        exact, expressions = selector.get("matchLabels") or {}, selector.get("matchExpressions") or []
    else:
        exact, expressions = selector, []

    def has(key: str, *values: Any) -> bool:
        return key in labels and (labels[key] is None or labels[key] in values)

    if not all(has(key, value) for key, value in exact.items()):
        return False
    for one in expressions:
        key, values, operator = one.get("key"), one.get("values") or [], one.get("operator")
        if operator == "In" and not has(key, *values):
            return False
        if operator == "NotIn" and key in labels and labels[key] is not None and labels[key] in values:
            return False
        if (operator == "Exists" and key not in labels) or (operator == "DoesNotExist" and key in labels):
            return False
    return True
