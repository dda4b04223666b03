"""Which variables and secrets the overlays of an environment name, read off their files without applying them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from syntho_deploy import documents
from syntho_deploy.documents import Json
from syntho_deploy.environment import Roles
from syntho_deploy.overlays.layers import Layer
from syntho_deploy.overlays.patch import load_manifest_patches, load_values_patch
from syntho_deploy.overlays.variables import REFERENCE


@dataclass(frozen=True)
class References:
    """The variables and secrets that layers refer to, each with the layer that does so first."""

    vars: dict[str, str]
    secrets: dict[str, str]

    @classmethod
    def of(cls, found: list[Layer], charts: Iterable[str], roles: Roles) -> References:
        """Those of these layers, through the derived variables too. Raises `InputError` for a file that is not right."""
        names: dict[str, str] = {}
        for layer in found:
            for text in _texts(layer, charts):
                _collect(text, layer.name, roles, names)
        _collect(roles.secret, roles.file.name, roles, names)
        builtin = {"env", "namespace", *roles.derived, *(f"release.{release.key}" for release in roles.releases)}
        secrets = {name.removeprefix("secret:"): by for name, by in names.items() if name.startswith("secret:")}
        return cls({name: by for name, by in names.items() if name not in builtin and ":" not in name}, secrets)


def _texts(layer: Layer, charts: Iterable[str]) -> Iterator[str]:
    """Every text of a layer's files that may hold a reference."""
    for chart in charts:
        values, manifests = layer.values(chart), layer.manifests(chart)
        operations = list(load_values_patch(values)) if values else []
        operations += [one for patch in load_manifest_patches(manifests) for one in patch.operations] if manifests else []
        items: list[Json] = [[one.path, one.source, one.value] for one in operations]
        items += [documents.load(file).data for file in layer.objects(chart)]
        for _, value in (found for item in items for found in documents.walk(item)):
            yield from value if isinstance(value, dict) else [value] if isinstance(value, str) else ()


def _collect(text: str, by: str, roles: Roles, names: dict[str, str]) -> None:
    for match in REFERENCE.finditer(text):
        name = match[1]
        if name and name not in names:
            names[name] = by
            _collect(roles.derived.get(name, ""), by, roles, names)
