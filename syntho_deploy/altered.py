"""Texts of overlays that a chart prints without quotes, so that a manifest gets something else: `1e3` a number, `a #b` only `a`, `null` nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from syntho_deploy import documents
from syntho_deploy.compile import Project
from syntho_deploy.documents import Json, Keys
from syntho_deploy.errors import InputError, Mark
from syntho_deploy.explain import reaches
from syntho_deploy.helm import Helm
from syntho_deploy.overlays import pointer
from syntho_deploy.overlays.liveness import leaves
from syntho_deploy.overlays.manifests import Manifest

# Where Kubernetes takes texts alone. Elsewhere a text such as "8080" may be meant to arrive as a number.
_TEXT = re.compile(r".*/env/[^/]+/value|.*/(labels|annotations|matchLabels|nodeSelector|args|command)/[^/]+|/(data|stringData)/[^/]+")


class Altered(NamedTuple):
    """One of them. chart, path: the value; mark: of the operation that set it."""

    chart: str
    path: str
    what: str
    todo: str
    mark: Mark

    @property
    def error(self) -> InputError:
        """As an error."""
        return InputError(self.what, self.mark, self.todo)


def altered(project: Project, helm: Helm) -> list[Altered]:
    """Each value that an operation set and that arrives as something else, once."""
    project.compile(helm)
    objects = {manifest.label: manifest for manifests in project.manifests.values() for manifest in manifests.kept}
    return [one for chart in project.pin.charts for one in _of_chart(project, helm, chart, objects)]


def _of_chart(project: Project, helm: Helm, chart: str, objects: dict[str, Manifest]) -> Iterator[Altered]:
    values, layers = project.values()[chart], project.origins[chart]
    bare: dict[Keys, Json] = {}
    for keys in leaves(values):
        text = documents.at(values, keys)
        if not isinstance(text, str) or text[:1] in ("", '"', "'") or documents.is_plain(text) or not layers.found(keys):
            continue  # what has quotes of its own is meant to lose them
        if (read := documents.read_by_helm(text)) != text:
            bare[keys] = read
    told: set[Keys] = set()
    for (of, at), reached in sorted(reaches(project, helm)[chart].fields.items()) if bare else ():
        for keys in sorted((reached & bare.keys()) - told, key=str):
            found, read = _field(objects.get(of), at), bare[keys]
            text = documents.at(values, keys)
            whole = type(found) is type(read) and found == read and (found is None or isinstance(found, str) or _TEXT.fullmatch(at))
            if whole or (isinstance(found, str) and _is_cut(text, found)):
                told.add(keys)
                yield _altered(project, chart, keys, documents.canonical(text), found, f"{of} at {at}")


def _is_cut(text: str, found: str) -> bool:
    """Is a field the end of which is a text without the comment that a ` #` begins, or the blanks behind it?"""
    kept = re.split(r"\s#", text)[0].rstrip()
    return bool(kept) and kept != text and text not in found and found.endswith(kept)


def _altered(project: Project, chart: str, keys: Keys, text: str, read: Json, place: str) -> Altered:
    setter = project.origins[chart].origin(keys)[-1]
    arrives = "nothing" if read is None else documents.canonical(read)
    what = f"{setter.operation.op} {pointer.text(keys)}: the chart {chart} prints {text} without quotes, and {arrives} arrives in {place}"
    return Altered(chart, pointer.text(keys), what, f"quote it once more: '{text}'", setter.mark)


def _field(manifest: Manifest | None, at: str) -> Json:
    """What stands in a field of an object; something that is no value where it is not there."""
    if manifest is None:
        return ...
    try:
        return documents.at(manifest.item, pointer.compile_pointer(manifest.item, at)[0])
    except pointer.PointerError:
        return ...
