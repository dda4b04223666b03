"""The workflows of GitHub Actions: right by GitHub's schema, without logic of their own, and with no more rights than they need."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from syntho_deploy import process
from syntho_deploy.environment import load_environment, names
from tests import programs
from tests.unit.test_readme import SESSIONS, TASKS, WORKFLOWS, options

ROOT = Path(__file__).resolve().parents[2]
TEXTS = {file.stem: file.read_text(encoding="utf-8") for file in WORKFLOWS}
# the one key that YAML 1.1 reads as a boolean is `on`
FOUND: dict[str, dict[Any, Any]] = {name: yaml.safe_load(text) for name, text in TEXTS.items()}
JOBS = [(name, job) for name, workflow in FOUND.items() for job in workflow["jobs"]]
# What a step may run beside one task or session: these, as they stand.
PROGRAMS = "sudo apt-get update -q && sudo apt-get install -yq --no-install-recommends postgresql redis-server docker-registry zsh fish"
ALSO = {
    PROGRAMS,
    "python -m venv .venv && .venv/bin/pip install --require-hashes -r requirements.lock",
    "python -m venv .venv && .venv/bin/pip install --require-hashes -r requirements-dev.lock",
    'install -D -m 600 /dev/stdin ~/.kube/config <<< "$KUBECONFIG_CONTENT"',
    'cat plans/*.md | head -c 65000 | gh pr comment "$NUMBER" --edit-last --create-if-none --body-file -',
}
MORE = {("plan", "comment"): {"pull-requests": "write"}, ("bump", "tag"): {"contents": "write", "pull-requests": "write"}}
WATCHED = ("deploy", "drift")
OF_THIS_REPOSITORY = {"matrix.session", "matrix.environment"}  # in ci and bump, where the file itself lists them

workflows = pytest.mark.parametrize("name", FOUND)


def steps(name: str) -> Iterator[dict[str, Any]]:
    for job in FOUND[name]["jobs"].values():
        yield from job["steps"]


def lines(name: str) -> list[str]:
    return [step["run"] for step in steps(name) if "run" in step]


def test_these_are_the_workflows() -> None:
    assert set(FOUND) == {"bump", "ci", "deploy", "drift", "plan"}


def test_all_are_right_by_the_schema(tmp_path: Path) -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]
    result = process.run([*check, *WORKFLOWS], check=False)
    assert result.code == 0, result.stdout
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(TEXTS["ci"].replace("runs-on:", "run-on:"))
    assert process.run([*check, wrong], check=False).code == 1


@workflows
def test_a_step_runs_one_task_or_session_that_exists_and_nothing_else(name: str) -> None:
    for line in lines(name):
        called = re.fullmatch(r"\.venv/bin/(invoke|nox -s) (\S+)([^;&|<>`]*)", line)
        if called and called[1] == "invoke":
            assert called[2] in TASKS, line
            assert set(re.findall(r"--[a-z-]+", called[3])) <= options(called[2]), line
        elif called:
            assert called[2] in (*SESSIONS, "${{"), line
        else:
            assert line in ALSO


def test_the_programs_that_tests_ask_are_there_and_required() -> None:
    (installs,) = [step for step in steps("ci") if step.get("run") == PROGRAMS]
    (runs,) = [step for step in steps("ci") if "nox" in step.get("run", "")]
    assert runs["env"][programs.VARIABLE] == programs.REQUIRED
    assert set(re.findall(r'"(\w+)"', installs["if"])) == {"tests", "kwok_e2e", "thorough"} <= set(SESSIONS)  # those with tests that need one


@workflows
def test_every_action_is_pinned_by_commit(name: str) -> None:
    used = re.findall(r"uses: (.*)", TEXTS[name])
    assert used
    assert len(used) == sum("uses" in step for step in steps(name))
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line) for line in used)


def test_an_action_has_one_commit_in_all_workflows() -> None:
    used = {re.sub(r"^.*uses: ", "", line) for text in TEXTS.values() for line in text.splitlines() if "uses: " in line}
    assert len(used) == len({line.split("@")[0] for line in used})


@pytest.mark.parametrize(("name", "job"), JOBS)
def test_a_job_may_read_the_repository_and_no_more_unless_it_is_named_here(name: str, job: str) -> None:
    assert FOUND[name]["permissions"] == {"contents": "read"}
    assert FOUND[name]["jobs"][job].get("permissions", {}) == MORE.get((name, job), {})
    assert FOUND[name]["jobs"][job]["timeout-minutes"] <= 60


@workflows
def test_no_expression_stands_in_a_shell_line_but_what_the_workflow_lists_itself(name: str) -> None:
    """What an event or a file of the change says (a branch's name, a title, an environment) reaches a shell as a variable only."""
    inside = {found for line in lines(name) for found in re.findall(r"\$\{\{\s*(.*?)\s*\}\}", line)}
    assert inside <= (OF_THIS_REPOSITORY if name in ("ci", "bump") else set())
    for job in FOUND[name]["jobs"].values():
        matrix = job.get("strategy", {}).get("matrix", {})
        assert name not in ("ci", "bump") or all(isinstance(value, list) for value in matrix.values())


@workflows
def test_a_pull_request_never_runs_with_the_rights_of_the_branch_it_goes_to(name: str) -> None:
    assert "pull_request_target" not in TEXTS[name]
    assert "workflow_run" not in TEXTS[name]
    assert all(step["with"]["persist-credentials"] is False for step in steps(name) if "checkout" in step.get("uses", ""))


@pytest.mark.parametrize("name", WATCHED)
def test_no_cluster_is_deployed_to_or_watched_before_a_repository_names_its_environments(name: str) -> None:
    first, *others = FOUND[name]["jobs"].values()
    assert "vars.SYNTHO_ENVIRONMENTS != ''" in first["if"]
    assert "environment" not in first
    assert all("needs" in job for job in others)
    (matrix,) = [line for line in lines(name) if " ci-matrix " in line]
    assert "--remote" in matrix


def test_a_deploy_is_of_the_plan_that_was_approved_and_never_cancelled() -> None:
    job = FOUND["deploy"]["jobs"]["deploy"]
    assert job["environment"] == "${{ matrix.environment }}"  # whose reviewers GitHub asks
    assert job["concurrency"] == {"group": "deploy-${{ matrix.environment }}", "cancel-in-progress": False, "queue": "max"}
    assert "concurrency" not in FOUND["deploy"]
    assert [line for line in lines("deploy") if " deploy " in line and "invoke" in line] == [
        '.venv/bin/invoke deploy --env="$ENVIRONMENT" --plan="$RUNNER_TEMP/plan.json" --yes="$ENVIRONMENT" --reason="$REASON"'
    ]
    uploaded = [step["with"] for step in steps("deploy") if "upload-artifact" in step.get("uses", "")]
    downloaded = [step["with"] for step in steps("deploy") if "download-artifact" in step.get("uses", "")]
    assert [one["name"] for one in uploaded] == [one["name"] for one in downloaded]
    assert {job.get("environment") and job["environment"]["name"] for job in FOUND["drift"]["jobs"].values()} == {
        None,
        "plan-${{ matrix.environment }}",
    }


def test_a_deploy_gets_each_variable_that_a_secret_of_a_shipped_environment_comes_from() -> None:
    wanted = set()
    for environment in (load_environment(ROOT, name) for name in names(ROOT)):
        if not environment.target.local:
            wanted |= {variable for spec in environment.secrets.values() for variable in (spec.env, spec.username_env) if variable}
    (given,) = [step["env"] for step in steps("deploy") if "invoke deploy" in step.get("run", "")]
    assert wanted <= given.keys()
    assert all(given[variable] == f"${{{{ secrets.{variable} }}}}" for variable in wanted)


def test_the_environments_that_bump_lists_exist() -> None:
    assert set(FOUND["bump"]["jobs"]["tag"]["strategy"]["matrix"]["environment"]) <= set(names(ROOT))
