"""Everything that can be known of environments before anything is deployed, offline: the rules of `checks`, and what `helm lint` says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syntho_deploy import explain, process
from syntho_deploy.compile import Compiled, Project, lint_together
from syntho_deploy.environment import Allowance, Environment, readable
from syntho_deploy.errors import DeployError, nearest, shown
from syntho_deploy.helm import Helm
from syntho_deploy.overlays import pointer
from syntho_deploy.trace import Origin

if TYPE_CHECKING:
    from syntho_deploy.checks.context import Context, Finding

TOGETHER = 8  # environments in one `helm lint`, which keeps the charts of all of them in memory


@dataclass(frozen=True)
class Judged:
    """A finding with its rule and severity, where it comes from, and why it is allowed ("" where it is not)."""

    rule: str
    severity: str
    object: str
    path: str
    what: str
    todo: str
    origins: tuple[str, ...]
    allowed: str = ""


@dataclass(frozen=True)
class Report:
    """What lint found in one environment, the worst first."""

    environment: str
    findings: tuple[Judged, ...]

    def count(self, severity: str) -> int:
        """How many findings of a severity there are, without those that are allowed."""
        return sum(one.severity == severity and not one.allowed for one in self.findings)


def lint(projects: list[Project], faults: Iterable[tuple[str, DeployError]], helm: Helm) -> list[Report]:
    """Check environments, several side by side. faults: those that could not even be read, by name."""
    around = _Neighbours(projects, helm) if projects else None
    with ThreadPoolExecutor(process.processors()) as pool:
        if len(projects) > 1:
            list(pool.map(lambda group: lint_together(group, helm), _groups(projects)))
        made = list(pool.map(lambda project: _report(project, helm, around), projects))
    return sorted([*made, *(_broken(name, error) for name, error in faults)], key=lambda report: report.environment)


def _groups(projects: list[Project]) -> list[list[Project]]:
    """The projects in groups that one run of helm may lint, without those whose values have a fault."""
    sound = []
    for project in projects:
        with suppress(DeployError):
            project.values()
            sound.append(project)
    return [sound[start : start + TOGETHER] for start in range(0, len(sound), TOGETHER)]


def _report(project: Project, helm: Helm, around: _Neighbours | None) -> Report:
    name, root = project.environment.name, project.environment.root
    try:
        project.values()
        with ThreadPoolExecutor(4) as pool:  # helm's runs side by side, the renders asked for first: most rules need no more
            compiling = pool.submit(project.compile, helm)
            from syntho_deploy.checks import schema
            from syntho_deploy.checks.context import Context
            from syntho_deploy.checks.rules import SEVERITIES, rules

            first: list[Future[Any]] = [pool.submit(explain.reaches, project, helm), pool.submit(project.lint, helm)]
            if not all(file.is_file() for file in project.lint_files(helm).values()):  # nor are there kept answers about schemas, then
                first.append(pool.submit(schema.read, project))
            compiled = compiling.result()
            context = Context(project, compiled, helm)
            if around:
                context.around = lambda: around.of(project.environment)
            found = _found(context, late=False)
            for future in first:
                future.result()
        found |= _found(context, late=True)
    except DeployError as error:
        return _broken(name, error)
    judged, used = [], set()
    protected = project.environment.protected
    in_order = [(rule, finding) for rule in rules().values() for finding in found.get(rule.name, ())]
    for rule, finding in in_order:
        allowance = next((one for one in project.environment.allow if one.rule == rule.name and fnmatchcase(finding.of, one.object)), None)
        used.add(allowance)
        severity = "note" if finding.shared else rule.severity(protected)
        origins = _origins(project, helm, finding)
        why = allowance.why if allowance else ""
        judged.append(Judged(rule.name, severity, finding.of, finding.path, finding.what, finding.todo, origins, why))
    judged += [_unused(one, project.environment, root) for one in project.environment.allow if one not in used]
    return Report(name, tuple(sorted(judged, key=lambda one: (bool(one.allowed), SEVERITIES.index(one.severity)))))


def _found(context: Context, late: bool) -> dict[str, tuple[Finding, ...]]:
    """By rule what those find that wait for helm to say more of the charts than their render (late), or those that do not."""
    from syntho_deploy.checks.rules import LATE, rules

    asked = (rule for rule in rules().values() if rule.check and (rule.name in LATE) == late)
    return {rule.name: tuple(dict.fromkeys(rule.check(context))) for rule in asked if rule.check}


def _broken(name: str, error: DeployError) -> Report:
    """The report on an environment that cannot be read or compiled: each fault a finding."""
    from syntho_deploy.checks.rules import rules

    faults = error.errors if hasattr(error, "errors") else [error]
    severity = rules()["does-not-compile"].protected
    found = [
        Judged("does-not-compile", severity, f"{name}.yaml", "", one.what, one.todo, (shown(one.where),) if one.where is not None else ())
        for one in faults
    ]
    return Report(name, tuple(found))


def _unused(allowance: Allowance, environment: Environment, root: Path) -> Judged:
    from syntho_deploy.checks.rules import rules

    rule = rules()["unused-allowance"]
    known = [name for name, one in rules().items() if one.check]
    what = f"nothing has the finding {allowance.rule} in {allowance.object}"
    if allowance.rule not in known:
        what = f'there is no rule "{allowance.rule}"{nearest(allowance.rule, known)}'
    where = (shown(allowance.mark),)
    return Judged(rule.name, rule.severity(environment.protected), environment.file.name, "/allow", what, "remove it, or correct it", where)


class _Neighbours:
    """The compiled environments that share a cluster and a namespace, each compiled once."""

    def __init__(self, projects: list[Project], helm: Helm) -> None:
        self.projects = {project.environment.name: project for project in projects}
        self.root, self.helm = projects[0].environment.root, helm
        self.compiled: Callable[[str], Compiled | None] = cache(self._compiled)

    @cached_property
    def environments(self) -> list[Environment]:
        """Those that are linted, and all others that can be read and may be in one namespace with one of them."""
        own = [project.environment for project in self.projects.values()]
        others = readable(self.root, {one.target.namespace for one in own})
        return own + [other for other in others if other.name not in self.projects]

    def _compiled(self, name: str) -> Compiled | None:
        try:
            return (self.projects.get(name) or Project.load(self.root, name)).compile(self.helm)
        except DeployError:
            return None

    def of(self, one: Environment) -> list[Compiled]:
        """Those of the others that go to the same place and compile."""
        same = [other.name for other in self.environments if other.name != one.name and _same_place(one, other)]
        return [found for name in same if (found := self.compiled(name))]


def _same_place(one: Environment, other: Environment) -> bool:
    here, there = one.target, other.target
    if here.namespace != there.namespace:
        return False
    if here.local or there.local:
        return here.local == there.local
    return (here.context, here.kubeconfig) == (there.context, there.kubeconfig) or (bool(here.uid) and here.uid == there.uid)


def _origins(project: Project, helm: Helm, finding: Finding) -> tuple[str, ...]:
    """Where what a finding is about comes from: `file:line` of the operations, or the chart's own value, or nothing that is known."""
    if finding.mark:
        return (shown(finding.mark),)
    if finding.of in project.pin.charts and finding.path:
        keys, _ = pointer.compile_pointer(project.values()[finding.of], finding.path)
        found = [shown(setter.mark) for setter in project.origins[finding.of].origin(keys)[-1:]]
        return tuple(found) or (f"{finding.of}:{finding.path} ({explain.DEFAULT})",)
    sources = explain.sources_of(project, helm, finding.of, finding.path) if "/" in finding.of else []
    in_force = [_by(origin, source) for origin, source in sources if not origin or origin.in_force]
    return tuple(dict.fromkeys(in_force)) or (("the chart's template",) if "/" in finding.of else ())


def _by(origin: Origin | None, source: str) -> str:
    return source if not origin else f"{origin.at}, by {source}" if source else origin.at


def text(reports: list[Report], notes: bool) -> str:
    """Reports as people read them. notes: also what needs no action, and what is allowed."""
    from syntho_deploy.checks.rules import SEVERITIES

    lines = []
    for report in reports:
        counts = [f"{report.count(severity)} {severity}{'s' if report.count(severity) != 1 else ''}" for severity in SEVERITIES]
        allowed = sum(bool(one.allowed) for one in report.findings)
        lines.append(f"{report.environment}: {', '.join(counts)}{f', {allowed} allowed' if allowed else ''}")
        for one in report.findings:
            if not notes and (one.severity == "note" or one.allowed):
                continue
            lines.append(f"  {'allowed' if one.allowed else one.severity} {one.rule}: {one.object}{':' if one.path else ''}{one.path}")
            lines.append(f"    {one.what}")
            lines += [f"    from {origin}" for origin in one.origins[:3]]
            lines.append(f"    because {one.allowed}" if one.allowed else f"    -> {one.todo}")
    return "\n".join(lines)


def failed(reports: list[Report]) -> bool:
    """Is there an error that nothing allows?"""
    return any(report.count("error") for report in reports)
