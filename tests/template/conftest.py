"""The shipped environments, all with the sandbox charts, which are the only ones whose text may be kept here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from syntho_deploy.vendor import load_pin, vendor
from tests.conftest import copy_project

SHIPPED = ("dev", "local", "prod", "staging")


def at_pin(project: Path, pin: str) -> None:
    """Give every environment of a project the charts of a pin."""
    for file in (project / "envs").glob("*.yaml"):
        text = re.sub(r"^charts: .*\n", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
        file.write_text(re.sub(r"^cluster:$", f"charts: {pin}\ncluster:", text, flags=re.MULTILINE), encoding="utf-8")


@pytest.fixture(scope="session")
def shipped(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the shipped environments and the sandbox charts."""
    folder = copy_project(root, tmp_path_factory.mktemp("shipped") / "project")
    at_pin(folder, "vendor/sandbox.yaml")
    vendor(folder, load_pin(folder, folder / "vendor/sandbox.yaml"))
    return folder
