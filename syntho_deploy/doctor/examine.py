"""The checks by name, made side by side; what they found, for people and as data; and the table of them in docs/doctor.md.

After a change to a check: python -m syntho_deploy.doctor.examine
"""

from __future__ import annotations

import inspect
import re
import time
import traceback
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import wait
from functools import cache, partial
from pathlib import Path
from typing import Any

from syntho_deploy import documents, process
from syntho_deploy.cluster.client import ApiError
from syntho_deploy.console import table
from syntho_deploy.doctor import cluster, ingress, job, machine, namespace, nodes, permissions, pullable, ray, release, secrets, services, storage
from syntho_deploy.doctor.subject import RULES, STATES, Missing, Result, Subject, begun, forbidden
from syntho_deploy.errors import DeployError, InputError, InputErrors, PreflightError, shown
from syntho_deploy.several import Answer, Place

MODULES = (machine, cluster, permissions, namespace, nodes, storage, ingress, secrets, release, ray, pullable, services)
PATIENCE = 60.0  # seconds for all checks, side by side; each has shorter limits of its own, but for programs that others name
LATER = "again later; a program of the kubeconfig or of a secret's source may wait for somebody, or what is asked answers slowly"
LOOK = 0.5  # seconds
BEGIN, END = "<!-- checks -->", "<!-- end of checks -->"

Check = Callable[[Subject], Iterator[Result]]


def name_of(function: str) -> str:
    """A check's name, from its function's."""
    return function.replace("_", "-")


@cache
def checks() -> dict[str, Check]:
    """Every check by its name, in the order of the modules: the public functions that yield results."""
    found: dict[str, Check] = {}
    for module in MODULES:
        for function in vars(module).values():
            if inspect.isfunction(function) and function.__module__ == module.__name__ and _is_check(function):
                found[name_of(function.__name__)] = function
    return found


def _is_check(function: Callable[..., object]) -> bool:
    return not function.__name__.startswith("_") and function.__annotations__.get("return") == "Iterator[Result]"


def examine(subject: Subject, only: Collection[str] = ()) -> list[Result]:
    """The results of all checks, or of these, in their order. What a check raises is its result; what does not come to an end is not known."""
    wanted = {name: check for name, check in checks().items() if not only or name in only}
    found: dict[str, list[Result]] = {name: [] for name in wanted}
    asked = {name: begun(partial(_ask, name, check, subject, found[name])) for name, check in wanted.items()}
    end = time.monotonic() + PATIENCE + (job.DEADLINE if subject.in_cluster else 0)
    try:
        while wait(asked.values(), LOOK).not_done and time.monotonic() < end:
            process.stop_if_interrupted()
    except KeyboardInterrupt:
        if subject.in_cluster:
            wait(asked.values(), job.PARTING)  # for it to delete what it made
        raise
    late = {name: [] if one.done() else [Result(name, "unknown", f"no end within {PATIENCE:.0f} s", LATER)] for name, one in asked.items()}
    return [result for name in wanted for result in [*found[name], *late[name]]]


def _ask(name: str, check: Check, subject: Subject, found: list[Result]) -> None:
    """Add to `found` what a check finds, and what it raises."""
    try:
        for result in check(subject):
            found.append(result)
    except Missing as missing:
        found.append(Result(name, "unknown", str(missing), missing.todo))
    except DeployError as error:
        if isinstance(error, ApiError) and (words := forbidden(error)):
            found.append(Result(name, "unknown", words, RULES))
            return
        state = "error" if error.exit_code in (PreflightError.exit_code, InputError.exit_code) else "unknown"
        several = error.errors if isinstance(error, InputErrors) else [error]
        what = "; ".join(one.what if one.where is None else f"{shown(one.where)}: {one.what}" for one in several)
        found.append(Result(name, state, what, "\n".join(dict.fromkeys(one.todo for one in several if one.todo))))
    except Exception as error:  # a fault of ours, or an object that no API server should have let in; the other checks go on
        place = traceback.extract_tb(error.__traceback__)[-1]
        what = f"a fault of syntho-deploy: {type(error).__name__} in {Path(place.filename).name}:{place.lineno}"
        found.append(Result(name, "unknown", what, "please report it"))


def doctor(place: Place, in_cluster: bool = False, image: str = "") -> Answer:
    """Examine one environment. image: for the pod that --in-cluster starts. Exit code 4 when there is an error."""
    results = examine(Subject(place, in_cluster, image))
    return Answer(text(place.environment.name, results), data(place.environment.name, results), line(results), 4 * any_error(results))


def any_error(results: list[Result]) -> bool:
    """Is there an error among them?"""
    return any(one.state == "error" for one in results)


def line(results: list[Result]) -> str:
    """How many results there are of each state that occurs."""
    count = {state: sum(one.state == state for one in results) for state in STATES}
    plural = {"error": "errors", "warning": "warnings"}
    return ", ".join(f"{number} {plural.get(state, state) if number > 1 else state}" for state, number in count.items() if number)


def data(name: str, results: list[Result]) -> dict[str, Any]:
    """The results as `--json` shows them."""
    return {"environment": name, "healthy": not any_error(results), "checks": [one._asdict() for one in results]}


def text(name: str, results: list[Result]) -> str:
    """The results as people read them: a line each, the worst first, and under it what to do; once where that is the same for several."""
    found = sorted(_folded(results), key=lambda one: (STATES.index(one.state), one.todo if one.state == "unknown" else ""))
    rows = table([(one.state, one.check, one.what.replace("\n", "; ")) for one in found]).splitlines()
    indent = " " * (2 + max((len(one.state) for one in found), default=0))
    lines = [f"{name}: {line(results)}"]
    for row, one, following in zip(rows, found, [*found[1:], None], strict=True):
        lines.append(row)
        if following is None or following.todo != one.todo:
            lines += [f"{indent}{'-> ' if number == 0 else '   '}{part}" for number, part in enumerate(one.todo.splitlines())]
    return "\n".join(lines)


def _folded(results: list[Result]) -> list[Result]:
    """The results, with what could not be asked for one and the same reason in one."""
    unknown: dict[tuple[str, str], list[str]] = {}
    for one in results:
        if one.state == "unknown":
            unknown.setdefault((one.what, one.todo), []).append(one.check)
    folded = [one for one in results if one.state != "unknown"]
    for (what, todo), names in unknown.items():
        several = ", ".join(names)
        folded.append(
            Result(names[0], "unknown", what, todo) if len(names) == 1 else Result(f"{len(names)} checks", "unknown", f"{what}: {several}", todo)
        )
    return folded


def page(text: str) -> str:
    """docs/doctor.md with the table of the checks in its place."""
    rows = ["| check | of | what it asks, and why |", "|---|---|---|"]
    for name, check in checks().items():
        why = re.sub(r"\s+", " ", check.__doc__ or "").strip()
        rows.append(f"| `{name}` | {check.__module__.rpartition('.')[2]} | {why.replace('|', chr(92) + '|')} |")
    before, _, rest = text.partition(BEGIN)
    return "\n".join([f"{before}{BEGIN}", *rows, f"{END}{rest.partition(END)[2]}"])


if __name__ == "__main__":
    docs = Path(__file__).resolve().parents[2] / "docs" / "doctor.md"
    documents.write(docs, page(docs.read_text(encoding="utf-8")))
