"""What an environment makes of its charts is told without a cluster, with the place that says so."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from syntho_deploy import offline
from syntho_deploy.compile import Project
from syntho_deploy.helm import Helm

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def local(project: Path, helm: Helm) -> dict[str, offline.Difference]:
    folder = project / "overlays" / "local"
    folder.mkdir()
    values = [{"op": "replace", "path": "/core/image/tag", "value": "2.0.0"}]
    (folder / "syntho-ui.values.yaml").write_text(yaml.safe_dump(values))
    patches = [{"target": {"kind": "ConfigMap", "name": "redis-configuration"}, "delete": True}]
    (folder / "syntho-ui.manifests.yaml").write_text(yaml.safe_dump(patches))
    (folder / "syntho-ui.objects").mkdir()
    extra = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "extra"}, "data": {"a": "b"}}
    (folder / "syntho-ui.objects" / "extra.yaml").write_text(yaml.safe_dump(extra))
    from syntho_deploy.vendor import load_pin, vendor

    vendor(project, load_pin(project, project / "vendor" / "sandbox.yaml"), None, False, False)
    loaded = Project.load(project, "local")
    return {one.label: one for one in offline.differences(loaded.compile(helm), loaded, helm)}


def test_a_changed_field_has_its_default_its_value_and_its_origin(local: dict[str, offline.Difference]) -> None:
    core = local["Deployment/core"]
    change, origin = next((change, origin) for change, origin in core.changes if change.path.endswith("/image"))
    assert core.what == offline.CHANGED
    assert (change.before.rpartition(":")[2], change.after.rpartition(":")[2]) == ("latest", "2.0.0")
    assert origin.endswith("overlays/local/syntho-ui.values.yaml:1:3")


def test_objects_that_come_go_and_stay_are_told_apart(local: dict[str, offline.Difference]) -> None:
    assert local["ConfigMap/extra"].what == offline.ADDED
    assert local["ConfigMap/redis-configuration"].what == offline.REMOVED
    assert local["Service/core-service"].what == offline.SAME
    text = offline.text(list(local.values()))
    assert re.search(r"^\+ ConfigMap/extra  \(.*overlays/local/syntho-ui.objects/extra.yaml:1:1\)$", text, re.MULTILINE)
    assert re.search(r"^- ConfigMap/redis-configuration  \(.*overlays/local/syntho-ui.manifests.yaml:1:3\)$", text, re.MULTILINE)
    assert "Service/core-service" not in text


def test_what_compile_does_to_every_chart_is_no_difference(local: dict[str, offline.Difference]) -> None:
    assert local["PersistentVolumeClaim/database-data-1"].what == offline.SAME
    assert not [change.path for one in local.values() for change, _ in one.changes if "resource-policy" in change.path]


def test_the_task_asks_no_cluster_and_refuses_to_make_a_plan_file(project: Path, local: dict[str, offline.Difference], tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SYNTHO_LOCAL_PROVIDER": "nonsense"}

    def plan(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "invoke", "plan", "--env=local", "--offline", *words]
        return subprocess.run(argv, cwd=project, env=environment, capture_output=True, text=True, check=False)

    ran = plan("--json")
    assert ran.returncode == 0, ran.stderr
    assert {one["object"]: one["difference"] for one in json.loads(ran.stdout)} == {label: one.what for label, one in local.items()}
    refused = plan(f"--out={tmp_path / 'plan.json'}")
    assert refused.returncode == 3
    assert "--out needs a cluster" in refused.stderr
