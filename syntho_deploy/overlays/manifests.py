"""What the layers of an environment do to the objects that a chart renders: add some, patch some, delete some.

A deleted object stays in reach of the other layers' patches until all are done. So it does not matter which of two components comes
first: the one that patches an object, or the one that deletes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from syntho_deploy import documents
from syntho_deploy.documents import Document, Json
from syntho_deploy.errors import InputError, nearest, noting, shown
from syntho_deploy.overlays.layers import Layer
from syntho_deploy.overlays.origins import Layers, Operation, Setter
from syntho_deploy.overlays.patch import ManifestPatch, apply, load_manifest_patches
from syntho_deploy.overlays.variables import Lookup, substitute
from syntho_deploy.secrets.sentinels import label


@dataclass
class Manifest:
    """An object and its history. rendered: as the chart printed it; origins: which operations set its fields; added, deleted: what brought
    it, and what takes it away."""

    item: dict[str, Json]
    rendered: dict[str, Json] | None = None
    origins: Layers = field(default_factory=Layers)
    added: Setter | None = None
    deleted: Setter | None = None

    @property
    def label(self) -> str:
        """`Kind/name`."""
        return label(self.item)


class Idle(NamedTuple):
    """A patch without effect, since other targets delete all that it matches. deleted: where."""

    layer: str
    patch: ManifestPatch
    deleted: Setter

    @property
    def target(self) -> str:
        """What it matches: `Kind/name`, or a kind."""
        return _target(self.patch)


@dataclass
class Manifests:
    """The objects of one chart while layers are applied to them.

    own: the environment's own layer. It is the last, so that there is no order to spare it, and no reason to patch what is gone.
    doubtful: the chart's values have faults, so that other objects may be there without them.
    """

    chart: str
    own: str
    lookup: Lookup
    everything: list[Manifest]
    errors: list[InputError]
    doubtful: bool = False
    _patched: list[tuple[str, ManifestPatch, list[Manifest]]] = field(default_factory=list)

    @property
    def kept(self) -> list[Manifest]:
        """The objects that nothing deletes."""
        return [manifest for manifest in self.everything if not manifest.deleted]

    @property
    def idle(self) -> list[Idle]:
        """The patches without effect."""
        return [
            Idle(layer, patch, matching[0].deleted)
            for layer, patch, matching in self._patched
            if matching[0].deleted and all(manifest.deleted for manifest in matching)
        ]

    def apply(self, layers: Iterable[Layer]) -> None:
        """Apply the layers in their order. Every fault goes to `errors`; what has one is left out."""
        for layer in layers:
            for file in layer.objects(self.chart):
                self._add(file, layer.name)
            file_of_patches = layer.manifests(self.chart)
            if not file_of_patches:
                continue
            with noting(self.errors):
                for patch in load_manifest_patches(file_of_patches, self.errors):
                    self._change(patch, layer.name)

    def _add(self, file: Path, layer: str) -> None:
        with noting(self.errors):
            written, item = _load_object(file, self.lookup)
            mark = written.mark()
            made = Manifest(item, added=Setter(layer, (), Operation("add", "", mark, written.data)))
            if any(other.label == made.label for other in self.kept):
                raise InputError(f"the chart already has {made.label}", mark, "patch it by <chart>.manifests.yaml instead")
            self.everything.append(made)

    def _change(self, patch: ManifestPatch, layer: str) -> None:
        named = [manifest for manifest in self.everything if manifest.item.get("kind") == patch.kind and patch.name in ("", name_of(manifest.item))]
        matching = [manifest for manifest in named if not manifest.deleted]
        if not patch.delete and layer != self.own:
            replaced = {manifest.label for manifest in matching}
            matching += [gone for gone in named if gone.deleted and gone.deleted.layer != layer and gone.label not in replaced]
        if not matching:
            self.errors.append(self._unmatched(patch, named))
        elif patch.delete:
            for manifest in matching:
                manifest.deleted = Setter(layer, (), Operation("delete", "", patch.mark, why=patch.why))
        else:
            self._patched.append((layer, patch, matching))
            for manifest in matching:
                self._patch(manifest, patch, layer)

    def _unmatched(self, patch: ManifestPatch, named: list[Manifest]) -> InputError:
        wanted = _target(patch)
        if named and named[0].deleted:
            return InputError(f"{wanted} is deleted by {shown(named[0].deleted.mark)}", patch.mark, "remove one of the two")
        known = sorted({manifest.label for manifest in self.kept})
        until = f" (until the values of {self.chart} are right)" if self.doubtful else ""
        return InputError(f"no manifest is {wanted}{nearest(wanted, known)}", patch.mark, f"there are{until}: {', '.join(known)}")

    def _patch(self, manifest: Manifest, patch: ManifestPatch, layer: str) -> None:
        before = len(self.errors)
        patched, _ = apply(manifest.item, patch.operations, self.lookup, layer, manifest.origins, self.errors, values=False)
        if len(self.errors) == before and not is_object(patched):
            what = f"what this leaves of {manifest.label} is no object"
            self.errors.append(InputError(what, patch.mark, "an object needs apiVersion, kind and metadata.name"))
        elif len(self.errors) == before:
            manifest.item = patched


def _load_object(file: Path, lookup: Lookup) -> tuple[Document, dict[str, Json]]:
    """A whole object of a layer, as it is written and as it is."""
    document = documents.load(file)
    item = substitute(document.data, lookup, document.mark())
    if not is_object(item):
        raise InputError("an object needs apiVersion, kind and metadata.name, all text", document.mark(), "write one object a file")
    return document, item


def check_files(layers: Iterable[Layer], chart: str, lookup: Lookup, errors: list[InputError]) -> None:
    """What can be said of the layers' manifest patches and objects without the manifests: of their form, and of the names in them."""
    for layer in layers:
        for file in layer.objects(chart):
            with noting(errors):
                _load_object(file, lookup)
        patches = layer.manifests(chart)
        with noting(errors):
            for operation in (operation for patch in (load_manifest_patches(patches, errors) if patches else ()) for operation in patch.operations):
                with noting(errors):
                    substitute([operation.path, operation.source, operation.value], lookup, operation.mark)


def _target(patch: ManifestPatch) -> str:
    return f"{patch.kind}/{patch.name}".rstrip("/")


def is_object(item: Json) -> bool:
    """Has it what every object of Kubernetes has: apiVersion, kind and a name? A List is several, and has no name that counts."""
    if not isinstance(item, dict) or item.get("kind") == "List":
        return False
    return all(isinstance(item.get(key), str) and item[key] for key in ("apiVersion", "kind")) and bool(name_of(item))


def is_custom(item: dict[str, Json]) -> bool:
    """Is an object of a kind that a CRD defines? Kubernetes' own groups have no dot, or end in .k8s.io."""
    group = item["apiVersion"].rpartition("/")[0]
    return "." in group and not group.endswith(".k8s.io")


def name_of(item: dict[str, Json]) -> str:
    """The name of an object; empty where there is none."""
    metadata = item.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) else ""
