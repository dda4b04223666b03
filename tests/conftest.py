"""What several tests stand on: the repository, a project of their own, and the real helm."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from syntho_deploy import process, tools
from syntho_deploy.helm import Helm
from tests import programs

settings.register_profile("unit", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
settings.load_profile("unit")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The one option of ours."""
    parser.addoption("--update-golden", action="store_true", help="write tests/golden anew")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture of a test, see that the programs which it needs are here."""
    programs.check(item)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the end, loudly, what was not tested."""
    for line in programs.summary(terminalreporter.stats.get("skipped", [])):
        terminalreporter.write_line(line, red=True, bold=True)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture
def project(root: Path, tmp_path: Path) -> Path:
    """A copy of what a user edits, with the sandbox charts, which are always there."""
    return copy_project(root, tmp_path / "project")


def copy_project(root: Path, folder: Path) -> Path:
    """Copy what `project` has into a folder."""
    for name in ("envs", "overlays", "sandbox"):
        shutil.copytree(root / name, folder / name)
    shutil.copy(root / "tasks.py", folder)
    (folder / "vendor").mkdir()
    for file in (root / "vendor").glob("*.yaml"):
        shutil.copy(file, folder / "vendor")
    return folder


def _helm(name: str, home: Path) -> Helm:
    tool = tools.find(name)
    return Helm(tool.path, tool.version, home)


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """The Helm 4 that deploys."""
    return _helm("helm", tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
def helm3(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm 3, whose renders must be the same."""
    return _helm("helm3", tmp_path_factory.mktemp("helm3"))


@pytest.fixture(scope="session", params=["helm", "helm3"])
def each_helm(request: pytest.FixtureRequest) -> Helm:
    """Both majors, one after the other."""
    found: Helm = request.getfixturevalue(request.param)
    return found


def write_files(folder: Path, files: dict[str, str]) -> Path:
    """Write these files under a folder, and return it."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return folder


def only_used(root: Path, name: str, environment: dict[str, Any]) -> dict[str, Any]:
    """An environment's file without the variables that only other components have: nothing would use them, which is an error."""

    def texts(layer: str) -> str:
        files = (file for end in ("*.yaml", "*.objects/*.yaml") for file in root.glob(f"**/overlays/**/{layer}/{end}"))
        return "".join(file.read_text(encoding="utf-8") for file in files)

    mine = "".join(texts(layer) for layer in [*(f"components/{component}" for component in environment.get("components", [])), name])
    every = texts("components/**")
    kept = {key: value for key, value in environment.get("vars", {}).items() if f"${{{key}}}" in mine or f"${{{key}}}" not in every}
    return {**environment, "vars": kept}


def bare_template(helm: Helm, chart: Path, release: str = "r", namespace: str = "default") -> process.Result:
    """What helm itself prints for a chart as it lies there."""
    argv = [str(helm.path), "template", release, str(chart), "--namespace", namespace]
    return process.run(argv, env=helm.environment(os.devnull), check=False, raw=True)


def rendered_json(text: str) -> Any:
    """The JSON that a template printed in base64 as `x: …`, safe from what helm does to its output."""
    return json.loads(base64.b64decode(text.rpartition("x: ")[2]))


def running_commands() -> list[list[str]]:
    """The argv of every process of this machine."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(file.read_bytes().decode(errors="replace").split("\0"))
    return found
