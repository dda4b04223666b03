"""`invoke lint` as it is called."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import copy_project, write_files


@pytest.fixture(scope="module")
def place(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with `local`, and another that is broken twice over."""
    folder = copy_project(root, tmp_path_factory.mktemp("command") / "project")
    (folder / "tools").symlink_to(root / "tools")
    for name in ("dev", "staging", "prod"):
        (folder / "envs" / f"{name}.yaml").unlink()
    local = (folder / "envs" / "local.yaml").read_text(encoding="utf-8").replace("  namespace: syntho\n", "  namespace: bad\n")
    (folder / "envs" / "bad.yaml").write_text(local.replace("admin_user: admin", "admin_user: admin\n  smtp_password: hunter2"), encoding="utf-8")
    note = '{apiVersion: v1, kind: ConfigMap, metadata: {name: note}, data: {used: "by ${smtp_password}"}}'
    write_files(folder, {"overlays/bad/syntho-ui.objects/note.yaml": note})
    (folder / "envs" / "worse.yaml").write_text("cluster: {local: x}\n", encoding="utf-8")
    return folder


def invoke(folder: Path, *words: str, root: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "invoke", "lint", *words]
    return subprocess.run(argv, cwd=folder, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True, check=False)


def test_a_clean_environment_exits_0_and_counts_what_is_allowed(place: Path, root: Path) -> None:
    done = invoke(place, "--env=local", root=root)
    assert (done.returncode, done.stdout) == (0, "local: 0 errors, 0 warnings, 13 notes, 13 allowed\n"), done.stderr


def test_a_warning_is_shown_and_exits_0(place: Path, root: Path) -> None:
    done = invoke(place, "--env=bad", root=root)
    assert done.returncode == 0, done.stderr
    assert "warning literal-secret: bad.yaml:/vars/smtp_password" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr


def test_an_environment_that_cannot_be_read_is_a_finding_beside_the_others(place: Path, root: Path) -> None:
    done = invoke(place, "--json", root=root)
    assert done.returncode == 3
    found = {report["environment"]: report["findings"] for report in json.loads(done.stdout)}
    assert set(found) == {"bad", "local", "worse"}
    assert {(fault["rule"], fault["severity"]) for fault in found["worse"]} == {("does-not-compile", "error")}
    assert 'needs the key "namespace"' in found["worse"][0]["what"]


def test_an_unknown_environment_is_refused_with_the_nearest(place: Path, root: Path) -> None:
    done = invoke(place, "--env=locl", root=root)
    assert (done.returncode, done.stdout) == (3, "")
    assert 'did you mean "local"?' in done.stderr
