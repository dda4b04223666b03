"""docs/tasks.md and README's table are made of the tasks."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from syntho_deploy import reference
from syntho_deploy.compile import Project
from tests.docs.pages import ROOT, name

README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("file", reference.texts(), ids=name)
def test_the_page_is_what_the_tasks_are_now(file: Path) -> None:
    assert file.read_text(encoding="utf-8") == reference.texts()[file], "python -m syntho_deploy.reference writes it anew"


@pytest.mark.parametrize("task", reference.tasks())
def test_a_task_has_a_section_with_each_of_its_options_and_what_it_is_for(task: str) -> None:
    section = re.search(rf"^## {task}\n(.*?)(?=^## |\Z)", reference.page(), re.MULTILINE | re.DOTALL)
    assert section
    rows = dict(re.findall(r"^\| `(--[a-z-]+)[^`]*` \|[^|]*\| (.*?) \|$", section[1], re.MULTILINE))
    assert rows.keys() == {f"--{argument.name.rstrip('_').replace('_', '-')}" for argument in reference._arguments(reference.tasks()[task])}
    assert all(rows.values()), "each option says what it is for: help= in tasks.py"


def exits(task: str) -> set[int]:
    """The exit codes that the body of a task names."""
    tree = ast.parse((ROOT / "tasks.py").read_text(encoding="utf-8"))
    body = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == task.replace("-", "_"))
    calls = [node for node in ast.walk(body) if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Exit", "Answer")]
    values = [argument for call in calls for argument in [*call.args, *(keyword.value for keyword in call.keywords)]]
    return {node.value for value in values for node in ast.walk(value) if isinstance(node, ast.Constant) and type(node.value) is int} - {0, 1, 3}


@pytest.mark.parametrize("task", reference.tasks())
def test_a_task_says_with_which_codes_it_ends(task: str) -> None:
    said = re.search(r"Exit \d.*", reference.tasks()[task].__doc__ or "")
    assert exits(task) <= set(map(int, re.findall(r"\b\d\b", said[0]))) if said else not exits(task)


def test_the_table_is_in_the_order_of_the_file_and_links_to_every_task() -> None:
    assert re.findall(r"^\| \[`([a-z-]+)`\]\(docs/tasks\.md#\1\) \|", README, re.MULTILINE) == list(reference.tasks())


def test_the_reference_needs_no_charts_and_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Project, "load", loaded)
    assert reference.page()
