"""What is not a whole plan file, as it was written, is a sentence and exit 3."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from syntho_deploy import planfile
from syntho_deploy.diff import Change
from syntho_deploy.errors import InputError
from syntho_deploy.plan import ObjectPlan, Plan


@pytest.fixture
def file(tmp_path: Path) -> Path:
    changes = (Change("/spec/x", 1, {"é": "ü"}),)
    objects = [ObjectPlan("update", "ui", "Deployment", "core", changes), ObjectPlan("create", "ui", "Service", "core")]
    plan = Plan("here", "uid", {"environment": "1"}, objects, live={"Deployment/core": "2"})
    planfile.write(tmp_path / "plan.json", plan, "4.3.1")
    return tmp_path / "plan.json"


def test_a_plan_file_is_read_as_it_was_written(file: Path) -> None:
    found = planfile.read(file).content
    assert (found["environment"], found["helm"], found["live"]) == ("here", "4.3.1", {"Deployment/core": "2"})


def _edited(text: str, **changes: Any) -> bytes:
    return json.dumps({**json.loads(text), **changes}).encode()


BROKEN = {
    "cut": lambda text: text[: len(text) // 2].encode(),
    "empty": lambda text: b"",
    "another JSON": lambda text: b"[1]",
    "no UTF-8": lambda text: b"\xff\xfe{}",
    "deep": lambda text: b"[" * 100_000,
    "YAML": lambda text: b"objects: []\n",
    "an action": lambda text: text.replace("create", "update").encode(),
    "an object left out": lambda text: _edited(text, objects=json.loads(text)["objects"][:1]),
    "no digest": lambda text: _edited(text, sha256=None),
    "an older format": lambda text: _edited(text, format=None),
    "a newer format": lambda text: _edited(text, format=2),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=list(BROKEN))
def test_what_is_no_whole_plan_file_is_refused(file: Path, change: Any) -> None:
    file.write_bytes(change(file.read_text()))
    with pytest.raises(InputError, match=r"plan file"):
        planfile.read(file)


@pytest.mark.parametrize("key", list(planfile.SHAPE))
def test_a_file_with_a_right_digest_and_other_content_is_refused(file: Path, key: str) -> None:
    content = {**json.loads(file.read_text()), key: 7}
    del content["sha256"]
    file.write_text(json.dumps({**content, "sha256": planfile._digest(content)}))
    with pytest.raises(InputError, match="plan file"):
        planfile.read(file)


def test_the_task_reads_the_file_before_anything_else(project: Path, root: Path) -> None:
    (project / "syntho_deploy").symlink_to(root / "syntho_deploy")
    for name, content in (("none.json", None), ("folder", None), ("text.json", "x")):
        if name == "folder":
            (project / name).mkdir()
        elif content:
            (project / name).write_text(content)
        argv = [sys.executable, "-m", "invoke", "deploy", "--env=local", f"--plan={name}"]
        done = subprocess.run(argv, cwd=project, text=True, capture_output=True, check=False, stdin=subprocess.DEVNULL)
        assert done.returncode == 3, done.stderr
        assert done.stderr.startswith(f"error: {name}: this ")
        assert "Traceback" not in done.stderr


def test_a_plan_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        planfile.write(tmp_path / "folder", Plan("here", "", {}, []), "4")
