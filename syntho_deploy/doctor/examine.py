"""The checks by name, made side by side; what they found, for people and as data."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

from syntho_deploy.console import table
from syntho_deploy.doctor import machine
from syntho_deploy.doctor.subject import STATES, Missing, Result, Subject
from syntho_deploy.errors import DeployError, PreflightError
from syntho_deploy.several import Answer, Place

MODULES = (machine,)
AT_ONCE = 24  # checks: nearly all of their time they wait for an answer

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


def examine(subject: Subject) -> list[Result]:
    """The results of all checks in their order. What a check raises is its result."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = [pool.submit(_ask, name, check, subject) for name, check in checks().items()]
        return [result for future in asked for result in future.result()]


def _ask(name: str, check: Check, subject: Subject) -> list[Result]:
    found = []
    try:
        for result in check(subject):
            found.append(result)
    except Missing as missing:
        found.append(Result(name, "unknown", str(missing)))
    except DeployError as error:
        found.append(Result(name, "error" if error.exit_code in (PreflightError.exit_code, 3) else "unknown", error.what, error.todo))
    return found


def doctor(place: Place, in_cluster: bool = False) -> Answer:
    """Examine one environment. Exit code 4 when there is an error."""
    results = examine(Subject(place, in_cluster))
    return Answer(text(place.environment.name, results), data(place.environment.name, results), line(results), 4 * any_error(results))


def any_error(results: list[Result]) -> bool:
    """Is there an error among them?"""
    return any(one.state == "error" for one in results)


def line(results: list[Result]) -> str:
    """How many results there are of each state that occurs."""
    count = {state: sum(one.state == state for one in results) for state in STATES}
    return ", ".join(f"{number} {state}" for state, number in count.items() if number)


def data(name: str, results: list[Result]) -> dict[str, Any]:
    """The results as `--json` shows them."""
    return {"environment": name, "healthy": not any_error(results), "checks": [one._asdict() for one in results]}


def text(name: str, results: list[Result]) -> str:
    """The results as people read them: a line each, and under it what to do."""
    rows = table([(one.state, one.check, one.what) for one in results]).splitlines()
    lines = []
    for row, one in zip(rows, results, strict=True):
        lines += [row, *([f"  -> {one.todo}"] if one.todo else [])]
    return "\n".join([f"{name}: {line(results)}", *lines])
