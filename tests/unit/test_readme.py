"""README's two commands, the workflows that call the same, the list of components, the lock files. Of the pages tests/docs tells."""

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
COMMANDS = re.findall(r"```sh.*\n(python3 .*)\n```", README)
TASKS = Collection.from_module(tasks).tasks
SESSIONS = re.findall(r"^@nox\.session.*\ndef (\w+)", (ROOT / "noxfile.py").read_text(encoding="utf-8"), re.MULTILINE)
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


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
