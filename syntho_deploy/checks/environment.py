"""The environment as a whole: what its overlays do not do, what other environments have too, and what helm itself says."""

from __future__ import annotations

import re
from collections.abc import Iterator

from syntho_deploy.altered import altered
from syntho_deploy.checks.context import Context, Finding, Item, at
from syntho_deploy.compile import Compiled
from syntho_deploy.documents import Json, walk
from syntho_deploy.errors import InputError, Mark
from syntho_deploy.explain import dead_operations
from syntho_deploy.overlays import pointer
from syntho_deploy.secrets import store


def dead_operation(context: Context) -> Iterator[Finding]:
    """An operation without effect: no template reads what it sets, or a switch gates it off. Deploy refuses it in an environment's own overlay;
    in a shared component another environment may need it. Values that nothing declares are ignored in silence by the charts."""
    for one in dead_operations(context.project, context.helm):
        yield Finding(one.of, one.path, one.what, one.todo, one.mark, one.shared)


def altered_text(context: Context) -> Iterator[Finding]:
    """A text of an overlay that a chart prints without quotes: `1e3` arrives as a number, `a #b` as `a`, `null` as nothing. Deploy refuses it.
    Upstream's charts print most values so, the licence and names among them."""
    for one in altered(context.project, context.helm):
        yield Finding(one.chart, one.path, one.what, one.todo, one.mark)


def replaced_zero(context: Context) -> Iterator[Finding]:
    """A 0, or an empty text, that an overlay sets and the chart replaces by a default of its own, as templates do that ask `| default`. A group of
    at least 0 workers becomes one of 1, and Redis has the class `default` where the value is emptied."""
    for chart, layers in context.project.origins.items():
        values, defaults = context.project.values()[chart], context.project.defaults(chart)
        emptied = {keys for keys, value in walk(values) if keys and value in (0, "") and not isinstance(value, bool) and at(defaults, keys) != value}
        for (of, path), leaves in context.reach[chart].fields.items() if emptied else ():
            item = context.patched.get(of)
            for keys in leaves & emptied if item else ():
                setters = layers.origin(keys)
                found, value = _printed(item, path), at(values, keys)
                gone = str(value) not in str(found) if value == 0 else len(leaves) == 1 and found not in (None, "")
                if setters and gone and found is not None:
                    what = f"the chart makes {found!r} of {value!r} in {of}:{path}"
                    shown = pointer.named(context.shown_values[chart], keys)
                    yield Finding(chart, shown, what, "patch that field in <chart>.manifests.yaml instead", setters[-1].mark)


def _printed(item: Item | None, path: str) -> Json:
    """A field as the chart prints it; None where a patch has removed it."""
    try:
        return at(item, pointer.compile_pointer(item, path)[0])
    except pointer.PointerError:
        return None


def colliding_object(context: Context) -> Iterator[Finding]:
    """An object, or a release, that another environment in the same cluster and namespace has too: the second deploy is refused, or takes
    it from the first. Most names in the charts are fixed, so that a namespace holds one environment."""
    for other in context.around():
        both = sorted(_identities(context.compiled) & _identities(other))
        if both:
            listed = ", ".join(f"{kind}/{name}" for _, kind, name in both[:4])
            more = f" and {len(both) - 4} more" if len(both) > 4 else ""
            what = f"{other.environment.name} has {listed}{more} in the same cluster and namespace {other.environment.target.namespace}"
            mark = context.environment.marks.get("cluster.namespace")
            yield Finding(context.environment.file.name, "/cluster/namespace", what, "give each environment a namespace of its own", mark)


def _identities(compiled: Compiled) -> set[tuple[str, str, str]]:
    releases = {("", "release", chart.release.name) for chart in compiled.charts.values()}
    return releases | {(item["apiVersion"].rpartition("/")[0], item["kind"], item["metadata"]["name"]) for item in compiled.objects}


def unnamed_pull_secret(context: Context) -> Iterator[Finding]:
    """Registry credentials whose pull secret has no name: no pod names one, or several do. Deploy refuses it."""
    try:
        store.wanted(context.compiled)
    except InputError as error:
        where = error.where if isinstance(error.where, Mark) else None
        yield Finding(context.environment.file.name, "/secrets", error.what, error.todo or "component pull-secret", where)


def helm_warning(context: Context) -> Iterator[Finding]:
    """What `helm lint` warns of in the working copy of a chart, with the environment's values."""
    yield from _helm(context, "WARNING")


def helm_error(context: Context) -> Iterator[Finding]:
    """What `helm lint` calls an error in the working copy of a chart, with the environment's values."""
    yield from _helm(context, "ERROR")


def _helm(context: Context, level: str) -> Iterator[Finding]:
    for chart, text in context.project.lint(context.helm).items():
        for match in re.finditer(rf"^\[{level}\] (.*(?:\n(?!\[|==>|\d+ chart|Error).+)*)", text, re.MULTILINE):
            yield Finding(chart, "", f"helm lint: {match[1].strip()}", "invoke template --stage=values shows what the chart is given")
