"""The shipped environments pass lint, and the API server of every supported Kubernetes version would take their objects."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from syntho_deploy import lint
from syntho_deploy.checks import schema
from syntho_deploy.checks.context import Context
from syntho_deploy.compile import Project
from syntho_deploy.errors import PreflightError
from syntho_deploy.helm import Helm
from syntho_deploy.vendor import load_pin, vendor
from tests.components.test_pin_2026 import with_charts
from tests.conftest import copy_project, write_files
from tests.template.conftest import SHIPPED, at_pin

VERSIONS = [f"1.{minor}" for minor in range(25, 37)]
RULES = (schema.unknown_field, schema.invalid_field, schema.removed_api, schema.unserved_version, schema.unknown_version)


def unclean(project: Path, names: tuple[str, ...], helm: Helm) -> list[lint.Judged]:
    """The errors and warnings of environments, those too that are allowed in `local`, which is meant to keep upstream's tags."""
    reports = lint.lint([Project.load(project, name) for name in names], [], helm)
    return [one for report in reports for one in report.findings if one.severity != "note" and not one.allowed]


def test_the_shipped_environments_are_clean(shipped: Path, helm: Helm) -> None:
    assert unclean(shipped, SHIPPED, helm) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_every_supported_kubernetes_takes_what_is_compiled(shipped: Path, helm: Helm, version: str, tmp_path: Path) -> None:
    assert version in schema.versions()
    folder = copy_project(shipped, tmp_path / "project")
    for file in (folder / "envs").glob("*.yaml"):
        text = re.sub(r"^  kubernetes: .*\n", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
        file.write_text(re.sub(r"^cluster:$", f'cluster:\n  kubernetes: "{version}"', text, flags=re.MULTILINE), encoding="utf-8")
    for name in SHIPPED:
        project = Project.load(folder, name)
        context = Context(project, project.compile(helm), helm)
        assert [finding for rule in RULES for finding in rule(context)] == [], name


@pytest.mark.parametrize(
    ("version", "found"),
    [("1.25", ["unknown_field"]), ("1.26", ["removed_api", "unknown_field"]), ("1.28", ["removed_api"]), ("1.36", ["removed_api"])],
)
def test_what_a_version_of_kubernetes_does_not_take_is_found(shipped: Path, helm: Helm, version: str, found: list[str], tmp_path: Path) -> None:
    folder = copy_project(shipped, tmp_path / "project")
    file = folder / "envs" / "prod.yaml"
    file.write_text(
        re.sub(r"^  kubernetes: .*$", f'  kubernetes: "{version}"', file.read_text(encoding="utf-8"), flags=re.MULTILINE), encoding="utf-8"
    )
    scaled = {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "backend"}, "maxReplicas": 2}
    sidecar = [{"op": "add", "path": "/spec/template/spec/initContainers", "value": [{"name": "a", "image": "a", "restartPolicy": "Always"}]}]
    write_files(folder / "overlays" / "prod", {
        "syntho-ui.objects/a.yaml": json.dumps({"apiVersion": "autoscaling/v2beta2", "kind": "HorizontalPodAutoscaler",
                                                "metadata": {"name": "a"}, "spec": scaled}),
        "syntho-ui.manifests.yaml": json.dumps([{"target": {"kind": "Deployment", "name": "backend"}, "patch": sidecar}]),
    })  # fmt: skip
    project = Project.load(folder, "prod")
    context = Context(project, project.compile(helm), helm)
    assert sorted(rule.__name__ for rule in RULES if list(rule(context))) == found


@pytest.mark.upstream
@pytest.mark.parametrize("pin", ["vendor/charts.yaml", "vendor/charts-1.9.7.yaml", "vendor/charts-2026.1.1.yaml"])
def test_the_shipped_environments_are_clean_with_syntho_s_charts(root: Path, helm: Helm, pin: str, tmp_path: Path) -> None:
    folder = copy_project(root, tmp_path / "project")
    at_pin(folder, pin)
    if "2026" in pin:
        with_charts(folder)
    else:
        try:
            vendor(folder, load_pin(folder, folder / pin))
        except PreflightError as error:
            pytest.skip(f"the real charts are missing: set SYNTHO_CHARTS_URL to a mirror of them ({error.what})")
    assert unclean(folder, ("dev", "prod", "staging"), helm) == []
