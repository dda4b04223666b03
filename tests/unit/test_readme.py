"""What README and docs tell people to type exists, and CI runs what README says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from invoke.collection import Collection

import tasks
from syntho_deploy.overlays.layers import components

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = re.findall(r"```sh\n(.*)\n```", README)
TASKS = Collection.from_module(tasks).tasks
SESSIONS = re.findall(r"^@nox\.session.*\ndef (\w+)", (ROOT / "noxfile.py").read_text(encoding="utf-8"), re.MULTILINE)
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def code(page: Path) -> list[str]:
    """The lines of a page's code: between backticks, in fences, indented."""
    text = page.read_text(encoding="utf-8")
    fences = re.findall(r"^```.*?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [*"\n".join(fences).splitlines(), *re.findall(r"`([^`\n]+)`", text), *re.findall(r"^ {4}(.+)", text, re.MULTILINE)]


def options(task: str) -> set[str]:
    """The options of a task as they are typed."""
    return {f"--{name.replace('_', '-')}" for argument in TASKS[task].get_arguments() for name in argument.names if len(name) > 1}


def test_there_are_two_commands_each_a_single_line() -> None:
    deploying, testing = COMMANDS
    assert deploying.endswith("invoke deploy --env=local")
    assert testing.endswith("/nox")
    for command in COMMANDS:
        assert command.startswith("python3 -m venv .venv && ")
        assert "--require-hashes" in command


def test_ci_runs_readmes_second_command_as_it_stands() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert COMMANDS[1] in lines


def test_ci_runs_sessions_that_exist() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    assert set(workflow["jobs"]["nox"]["strategy"]["matrix"]["session"]) <= set(SESSIONS)


@pages
def test_every_task_and_option_that_a_page_names_exists(page: Path) -> None:
    for line in code(page):
        for name, rest in re.findall(r"\binvoke ([a-z][a-z-]*)\b([^#]*)", line):
            assert name in TASKS, line
            assert set(re.findall(r"--[a-z-]+", rest)) <= options(name), line


@pages
def test_every_session_that_a_page_names_exists(page: Path) -> None:
    for line in code(page):
        for name in re.findall(r"\bnox -s (\w+)", line):
            assert name in SESSIONS, line


@pages
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).is_file(), target


def test_the_table_has_every_task_with_every_option() -> None:
    rows = dict(re.findall(r"^\| `invoke ([a-z-]+)([^`]*)`", README, re.MULTILINE))
    assert rows.keys() == TASKS.keys()
    for name, rest in rows.items():
        assert set(re.findall(r"--[a-z-]+", rest)) == options(name), name


def test_every_component_is_described() -> None:
    page = (ROOT / "overlays" / "components" / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `([^`]+)`", page, re.MULTILINE)) == components([ROOT / "overlays"])


def test_the_lock_files_have_the_pins_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    runtime = project["project"]["dependencies"]
    groups = [item for group in project["dependency-groups"].values() for item in group if isinstance(item, str)]
    locks = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("requirements.lock", "requirements-dev.lock")}
    for name, pins in (("requirements.lock", runtime), ("requirements-dev.lock", [*runtime, *groups])):
        assert not [pin for pin in pins if f"\n{pin.lower()} \\\n" not in locks[name]]
    locked = {name: set(re.findall(r"^[^\s#]+==\S+", text, re.MULTILINE)) for name, text in locks.items()}
    assert locked["requirements.lock"] <= locked["requirements-dev.lock"]


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_file_names_no_index_and_no_folder(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^-", text, re.MULTILINE)
