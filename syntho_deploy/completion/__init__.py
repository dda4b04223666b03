"""What a shell offers for the word under the cursor: tasks, options, and names of environments, components and pins.

Invoke's own completion knows tasks and options only, and has no place for more. This runs at each press of the key, so it imports
little and reads the names of files, and not what is in them.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from syntho_deploy.errors import InputError, nearest

SHELLS = ("bash", "fish", "zsh")


def script(shell: str) -> str:
    """The script that a shell sources. Raises `InputError` for one that there is none for."""
    if shell not in SHELLS:
        raise InputError(f'there is no completion for the shell "{shell}"{nearest(shell, SHELLS)}', todo=f"one of {', '.join(SHELLS)}")
    return Path(__file__).with_name(f"invoke.{shell}").read_text(encoding="utf-8")


def candidates(root: Path, tasks: Mapping[str, Any], line: str) -> list[str]:
    """The words that the last one of a command line can become, whole. tasks: invoke's, by name; line: from the program's name to
    the cursor. An option that takes a value ends in `=`."""
    before, current = _split(line)
    task, expects = "", ""
    for word in before:
        options = _options(tasks, task)
        if expects:
            expects = ""
        elif word in tasks:
            task = word
        elif word in options and options[word].takes_value:
            expects = word
    options = _options(tasks, task)
    if expects:
        return _values(root, task, expects, current)
    if current.startswith("-"):
        name, equals, value = current.partition("=")
        if equals:
            return [f"{name}={found}" for found in _values(root, task, name, value)] if name in options else []
        given = {word.partition("=")[0] for word in before}
        return [
            f"{name}=" if argument.takes_value else name
            for name, argument in options.items()
            if name.startswith(current) and (name not in given or argument.kind is list)
        ]
    return [name for name in sorted(tasks) if name.startswith(current)]


def _split(line: str) -> tuple[list[str], str]:
    """The words after the program's name that are complete, and the one that is being written."""
    try:
        words = shlex.split(line)
    except ValueError:  # a quote that is still open
        words = line.split()
    current = "" if line.endswith(" ") or len(words) < 2 else words.pop()
    return words[1:], current


def _options(tasks: Mapping[str, Any], task: str) -> dict[str, Any]:
    """A task's long options, as they are typed."""
    if task not in tasks:
        return {}
    return {f"--{name.replace('_', '-')}": found for found in tasks[task].get_arguments() for name in found.names if len(name) > 1}


def _values(root: Path, task: str, option: str, text: str) -> list[str]:
    """What an option's value can become; of a list with commas, its last part. A confirmation (--yes) is to be typed."""
    find = VALUES.get((task, option)) or VALUES.get(("", option))
    first, comma, last = text.rpartition(",")
    return [first + comma + found for found in sorted(find(root)) if found.startswith(last) and found not in first.split(",")] if find else []


def _environments(root: Path) -> Iterable[str]:
    return [path.stem for path in (root / "envs").glob("*.yaml")]


def _pins(root: Path) -> Iterable[str]:
    return [f"vendor/{path.name}" for path in (root / "vendor").glob("*.yaml") if not path.name.endswith(".lock.yaml")]


def _components(root: Path) -> Iterable[str]:
    """The components of all pins."""
    from syntho_deploy.overlays.layers import components

    return components([root / "overlays", root / "sandbox" / "overlays", *(root / "overlays" / "pins").glob("*")])


def _stages(root: Path) -> Iterable[str]:
    from syntho_deploy.stages import STAGES

    return STAGES


VALUES: dict[tuple[str, str], Callable[[Path], Iterable[str]]] = {
    ("", "--env"): _environments,
    ("new-env", "--env"): lambda root: (),  # a new name
    ("", "--from"): _environments,
    ("", "--components"): _components,
    ("", "--pin"): _pins,
    ("bump-charts", "--to"): _pins,
    ("", "--stage"): _stages,
    ("", "--shell"): lambda root: SHELLS,
}
