"""The command line as a user runs it, as far as it goes without a cluster."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from syntho_deploy import documents, process
from syntho_deploy.environment import names
from syntho_deploy.secrets.sentinels import TOKEN
from tests.conftest import copy_project


def invoke(folder: Path, *words: str) -> process.Result:
    library = str(Path(__file__).resolve().parents[2])
    return process.run(
        [sys.executable, "-m", "invoke", *words], cwd=folder, check=False, raw=True, env={"KUBECONFIG": "/nowhere", "PYTHONPATH": library}
    )


REFUSED: dict[str, tuple[list[str], int, str]] = {
    "unknown environment": (["template", "--env=prdo"], 3, 'there is no environment "prdo"; did you mean "prod"'),
    "unknown environment of a deploy": (["deploy", "--env=locl"], 3, 'did you mean "local"'),
    "no duration": (["deploy", "--env=local", "--timeout=soon"], 3, '"soon" is no duration'),
    "endless duration": (["deploy", "--env=local", "--timeout=" + "9" * 400 + "h"], 3, "is no duration"),
    "no time": (["deploy", "--env=local", "--timeout=0"], 3, "is no duration"),
    "unknown stage": (["template", "--env=local", "--stage=rendred"], 3, 'no stage "rendred"; did you mean "rendered"'),
    "unknown chart": (["template", "--env=local", "--chart=rai"], 3, 'no chart "rai"; did you mean "ray"'),
    "two of three": (["cluster", "--create", "--delete"], 3, "choose one of"),
    "no local cluster": (["cluster", "--env=prod", "--status"], 3, "envs/prod.yaml:"),
    "pin that is not there": (["vendor", "--check", "--pin=vendor/chrts.yaml"], 3, "vendor/chrts.yaml: this file does not exist"),
}


@pytest.fixture(scope="module")
def site(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with its sandbox charts vendored, which production uses too."""
    folder = copy_project(root, tmp_path_factory.mktemp("site") / "project")
    (folder / "envs/prod.yaml").write_text((folder / "envs/prod.yaml").read_text() + "charts: vendor/sandbox.yaml\n")
    assert invoke(folder, "vendor", "--pin=vendor/sandbox.yaml").code == 0
    return folder


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_sentence_and_its_exit_code(site: Path, case: str) -> None:
    words, code, sentence = REFUSED[case]
    result = invoke(site, *words)
    assert (result.code, result.stdout) == (code, "")
    assert result.stderr.startswith("error: ")
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("task", ["deploy", "undeploy"])
@pytest.mark.parametrize(("given", "words"), [([], "without a terminal: --yes=prod"), (["--yes=staging"], "names another environment than prod")])
def test_a_protected_environment_is_not_touched_without_its_name(site: Path, task: str, given: list[str], words: str) -> None:
    result = invoke(site, task, "--env=prod", *given)
    assert (result.code, result.stdout) == (4, "")
    assert words in result.stderr


def test_json_is_all_that_stands_on_stdout(site: Path) -> None:
    result = invoke(site, "envs", "--json")
    rows = json.loads(result.stdout)
    assert [row["name"] for row in rows] == names(site)
    assert {row["name"]: row["protected"] for row in rows}["prod"] is True
    assert {row["name"] for row in json.loads(invoke(site, "tools", "--json").stdout)} >= {"helm", "helm3"}


def test_what_is_printed_is_yaml_alone_and_notes_are_on_stderr(site: Path) -> None:
    result = invoke(site, "template", "--env=local")
    assert {"RayCluster", "Deployment"} <= {item["kind"] for item in documents.load_manifests(result.stdout)}
    assert "not printed: Secret/syntho-ui-secrets" in result.stderr
    assert "left out: the hook Pod/syntho-ui-test-connection" in result.stderr


def test_each_stage_goes_to_stdout_or_into_a_folder(site: Path, tmp_path: Path) -> None:
    values = invoke(site, "template", "--env=local", "--stage=values").stdout
    assert "${secret:license}" in values
    assert not TOKEN.search(values)
    for stage in ("values", "rendered", "compiled"):
        result = invoke(site, "template", "--env=local", "--chart=ray", f"--stage={stage}", f"--output={tmp_path}")
        assert (result.code, result.stdout) == (0, "")
        assert (tmp_path / f"ray.{stage}.yaml").exists()


def test_every_task_says_what_it_is_for(site: Path) -> None:
    listed = json.loads(invoke(site, "--list", "--list-format=json").stdout)["tasks"]
    assert {"vendor", "envs", "template", "tools", "cluster", "deploy", "verify", "status", "undeploy"} <= {task["name"] for task in listed}
    assert all(task["help"] and len(task["help"]) > 20 for task in listed)
