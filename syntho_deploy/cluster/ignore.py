"""The fields that another controller sets: `overlays/ignore.yaml`, JSON Pointers by kind, for plan, deploy and drift alike.

Their live values are put into a manifest before it is compared or written, so that a change of another field resets none of
them. Leaving them out would not do: a RayCluster's worker groups are one list, which an apply replaces as a whole.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from syntho_deploy.cluster import predict
from syntho_deploy.cluster.client import ApiError, Client, Object
from syntho_deploy.cluster.readiness import Key
from syntho_deploy.compile import CompiledChart
from syntho_deploy.documents import Json, dump, load
from syntho_deploy.errors import InputError, raise_all
from syntho_deploy.overlays import pointer
from syntho_deploy.secrets.sentinels import label
from syntho_deploy.section import Section

FILE = Path("overlays") / "ignore.yaml"
EACH = "*"
SCALER = ("autoscaling/v2", "HorizontalPodAutoscaler")

Segments = tuple[str, ...]


@dataclass(frozen=True)
class Rule:
    """One entry of the file. when: paths of the manifest and what stands there; scaled: only what a HorizontalPodAutoscaler is for."""

    kind: str
    paths: tuple[Segments, ...]
    name: str = ""
    scaled: bool = False
    when: Mapping[Segments, Json] = field(default_factory=dict)


def rules(root: Path) -> tuple[Rule, ...]:
    """The rules of a project; none where it has no such file. Raises `InputError` for a file that is not right."""
    if not (root / FILE).is_file():
        return ()
    document = load(root / FILE)
    if document.data is not None and not isinstance(document.data, list):
        raise InputError("this file must be a list of rules", document.mark(), "begin each with - kind:")
    errors: list[InputError] = []
    found = [_rule(Section(document, (index,), errors)) for index in range(len(document.data or []))]
    raise_all(errors)
    return tuple(found)


def _rule(section: Section) -> Rule:
    kind, name, scaled = section.need("kind", str, ""), section.get("name", str, ""), section.get("scaled", bool, False)
    section.need("paths", list, [])
    paths = [(number, text) for number, text in enumerate(section.texts("paths"))]
    if section.data.get("paths") == []:
        section.fault('"paths" needs at least one path', "paths")
    conditions = section.section("when")
    when = {_pointer(conditions, text, text): value for text, value in conditions.data.items() if isinstance(text, str)}
    for text, value in conditions.data.items():
        if not isinstance(value, str | int | float | bool):
            conditions.fault(f'"{text}" must be compared with a text, a number, true or false', text)
    section.get("why", str, "")
    section.done()
    return Rule(kind, tuple(_pointer(section, text, "paths", number) for number, text in paths), name, scaled, when)


def _pointer(section: Section, text: str, *keys: str | int) -> Segments:
    try:
        if segments := pointer.parse(text):
            return segments
        section.fault("the path is empty", *keys, todo="write a JSON Pointer, such as /spec/replicas")
    except pointer.PointerError as error:
        section.fault(str(error), *keys, todo=error.todo)
    return ()


class Ignored:
    """The rules, and what each HorizontalPodAutoscaler is for: its name to the object's (kind, name)."""

    def __init__(self, found: Iterable[Rule], scalers: Mapping[str, Key] | None = None) -> None:
        self._rules, self._scalers = tuple(found), dict(scalers or {})
        self._scaled = frozenset(self._scalers.values())

    @classmethod
    def read(cls, client: Client, root: Path, namespace: str) -> Ignored:
        """The rules of a project and what is scaled in a namespace. An account that may not list autoscalers sees none."""
        try:
            scalers = client.objects(*SCALER, namespace)
        except ApiError as error:
            if error.status != 403:
                raise
            scalers = []
        targets = {item["metadata"]["name"]: item["spec"]["scaleTargetRef"] for item in scalers}
        return cls(rules(root), {name: (target["kind"], target["name"]) for name, target in targets.items()})

    def after(self, leaving: Container[str]) -> Ignored:
        """As it is when these autoscalers are gone: what they were for is ours again."""
        return Ignored(self._rules, {name: target for name, target in self._scalers.items() if name not in leaving})

    def paths(self, item: Object) -> list[Segments]:
        """The paths of a manifest that are another's."""
        return [path for rule in self._rules if self._applies(rule, item) for path in rule.paths]

    def _applies(self, rule: Rule, item: Object) -> bool:
        kind, name = item["kind"], item["metadata"]["name"]
        if rule.kind != kind or rule.name not in ("", name) or (rule.scaled and (kind, name) not in self._scaled):
            return False
        return all(_at(item, path) == value for path, value in rule.when.items())

    def kept(self, item: Object, live: Object | None) -> Object:
        """`item` with the live values of what is another's."""
        for path in self.paths(item) if live else ():
            item = _carried(item, live, path)
        return item

    def without(self, live: Object, item: Object) -> Object:
        """A live object less what is another's; `item` is its manifest."""
        for path in self.paths(item):
            live = _removed(live, path)
        return live

    def chart(self, client: Client, chart: CompiledChart, lean: Container[str] = ()) -> CompiledChart:
        """A chart as it is written: with the live values of what is another's, and the objects in `lean` as `predict.lean` makes them.
        Its version and digest stay those of the compile."""
        manifests = dict(chart.manifests)
        for file, item in chart.manifests.items():
            slim = label(item) in lean
            if slim or self.paths(item):
                live = client.get(item["apiVersion"], item["kind"], chart.namespace, item["metadata"]["name"])
                kept = self.kept(item, live)
                manifests[file] = predict.lean(kept, live) if slim else kept
        changed = {file: dump(item) for file, item in manifests.items() if item != chart.manifests[file]}
        return chart._replace(manifests=manifests, texts={**chart.texts, **changed}) if changed else chart

    def within(self, field_path: str, item: Object) -> bool:
        """Is something of another's in the field that a conflict names, as ".spec.replicas"?"""
        return any((f".{'.'.join(path)}.").startswith(f"{field_path}.") for path in self.paths(item))


def _at(value: Any, path: Segments) -> Json:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _carried(item: Any, live: Any, path: Segments) -> Any:
    """`item` with what `live` has at `path`; list items are those of the same name. Where live has nothing, `item` stays."""
    key, rest = path[0], path[1:]
    if key == EACH and isinstance(item, list) and isinstance(live, list):
        name = pointer.identity(item)
        others = {one.get(name): one for one in live if isinstance(one, dict)} if name else {}
        return [_carried(one, others[one[name]], rest) if name and one[name] in others and rest else one for one in item]
    if not (isinstance(item, dict) and isinstance(live, dict) and key in live):
        return item
    if rest:
        return {**item, key: _carried(item[key], live[key], rest)} if key in item else item
    return {**item, key: _bounded(live[key], item)}


def _bounded(value: Json, beside: Object) -> Json:
    if isinstance(value, int) and isinstance(beside.get("minReplicas"), int):
        value = max(value, beside["minReplicas"])
    if isinstance(value, int) and isinstance(beside.get("maxReplicas"), int):
        value = min(value, beside["maxReplicas"])
    return value


def _removed(live: Any, path: Segments) -> Any:
    key, rest = path[0], path[1:]
    if key == EACH and isinstance(live, list):
        return [_removed(one, rest) if rest else one for one in live]
    if not (isinstance(live, dict) and key in live):
        return live
    return {**live, key: _removed(live[key], rest)} if rest else {name: value for name, value in live.items() if name != key}
