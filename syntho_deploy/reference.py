"""The tasks, as pages have them: docs/tasks.md with each option, and the short table in README.md. Both are made of `tasks.py`.

After a change to a task: python -m syntho_deploy.reference
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from syntho_deploy import documents

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- tasks -->", "<!-- end of tasks -->"
HEAD = """# Tasks

<!-- written by python -m syntho_deploy.reference -->

`invoke --list` lists them, `invoke --help TASK` explains one. Each may end with 0 (done), 1 (failure), 3 (bad input), 4 (refused: what it needs
is not there or not allowed) and 130 (interrupted); what else a task ends with stands with it. What to do then: [exit-codes.md](exit-codes.md).
"""


@cache
def tasks() -> dict[str, Any]:
    """Every task of `tasks.py` by the name that is typed, in the order of the file. Read as invoke reads it."""
    from invoke.collection import Collection
    from invoke.loader import FilesystemLoader

    module, _ = FilesystemLoader(start=str(ROOT)).load("tasks")
    found = Collection.from_module(module).tasks
    return dict(sorted(found.items(), key=lambda one: one[1].body.__wrapped__.__code__.co_firstlineno))


def summary(task: Any) -> str:
    """What a task does, in the first sentence of its docstring."""
    text = re.sub(r"\s+", " ", task.__doc__ or "").strip()
    return re.match(r".*?[.](?= |$)|.*", text)[0]  # type: ignore[index]


def usage(name: str, task: Any) -> str:
    """The shortest command that runs a task: with the options that it cannot do without."""
    return " ".join(["invoke", name, *(_typed(argument) for argument in _arguments(task) if argument.positional)])


def page() -> str:
    """The text of docs/tasks.md."""
    return "\n".join([HEAD, *(_section(name, task) for name, task in tasks().items())])


def table() -> str:
    """The tasks as README's table: name and what it does."""
    rows = [f"| [`{name}`](docs/tasks.md#{name}) | {_cell(summary(task))} |" for name, task in tasks().items()]
    return "\n".join(["| task | what it does |", "|---|---|", *rows])


def readme(text: str) -> str:
    """README with the table in its place."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}"


def texts() -> dict[Path, str]:
    """The content of every file that is written from here."""
    front = ROOT / "README.md"
    return {ROOT / "docs" / "tasks.md": page(), front: readme(front.read_text(encoding="utf-8"))}


def _section(name: str, task: Any) -> str:
    paragraphs = [re.sub(r"\s+", " ", one).strip() for one in re.split(r"\n\s*\n", task.__doc__ or "")]
    lines = [f"## {name}", "", *(line for one in paragraphs for line in (one, "")), f"`{usage(name, task)}`", ""]
    if arguments := _arguments(task):
        lines += ["| option | default | |", "|---|---|---|"]
        lines += [f"| `{_typed(one)}` | {_default(one)} | {_cell(one.help or '')} |" for one in arguments]
        lines.append("")
    return "\n".join(lines)


@cache
def _arguments(task: Any) -> list[Any]:
    """The options of a task, those first that it cannot do without. Asked once: invoke gives an option's help away only the first time."""
    return sorted(task.get_arguments(), key=lambda argument: not argument.positional)


def _typed(argument: Any) -> str:
    """An option as it is typed."""
    name = argument.name.rstrip("_").replace("_", "-")
    if argument.kind is bool:
        return f"--no-{name}" if argument.default is True else f"--{name}"
    return f"--{name}={'N' if argument.kind is int else name.rpartition('-')[2].upper()}"


def _default(argument: Any) -> str:
    if argument.positional:
        return "needed"
    return "" if argument.kind is bool or argument.default in ("", None, []) else f"`{argument.default}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    for path, content in texts().items():
        documents.write(path, content)
