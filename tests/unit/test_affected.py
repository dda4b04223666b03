"""Which environments a change touches: on real git repositories, by the files that each environment is made of."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from syntho_deploy import affected, process
from syntho_deploy.affected import Change
from syntho_deploy.environment import names
from syntho_deploy.errors import InputError, PreflightError
from tests.conftest import copy_project, write_files
from tests.unit.test_tasks import invoke

ALL = {"dev", "local", "prod", "staging"}


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false")
    return process.run(["git", "-C", folder, *who, *words]).stdout


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "-m", "a change")


@pytest.fixture(scope="module")
def original(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose state is the branch `main`; HEAD is a branch of its own."""
    folder = copy_project(root, tmp_path_factory.mktemp("original") / "project")
    write_files(folder, {"syntho_deploy/x.py": "", "tools/tools.lock.yaml": "", "tools/kwok/x.yaml": "", "requirements.lock": "", "docs/x.md": ""})
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit(folder)
    git(folder, "switch", "--quiet", "-c", "work")
    return folder


@pytest.fixture
def repository(original: Path, tmp_path: Path) -> Path:
    """A copy of it for one test."""
    return Path(shutil.copytree(original, tmp_path / "project", symlinks=True))


def change(folder: Path, base: str = "main") -> Change:
    return affected.affected(folder, base, names(folder))


def touched(folder: Path, base: str = "main") -> set[str]:
    return {one.name for one in change(folder, base).environments}


# a file that is changed (or made), and the environments that it touches
FILES: dict[str, set[str]] = {
    "envs/staging.yaml": {"staging"},
    "vendor/charts.yaml": {"dev", "prod", "staging"},
    "vendor/charts.lock.yaml": {"dev", "prod", "staging"},
    "vendor/sandbox.yaml": {"local"},
    "vendor/charts-1.9.7.yaml": set(),
    "overlays/roles.yaml": ALL,
    "overlays/ignore.yaml": ALL,
    "overlays/pins/1.9.7/components/keys/syntho-ui.values.yaml": set(),
    "overlays/components/keys/syntho-ui.values.yaml": ALL,
    "overlays/components/redis/external/syntho-ui.values.yaml": {"prod"},
    "overlays/components/images/ray.values.yaml": {"dev", "prod", "staging"},
    "overlays/components/images/digests/ray.values.yaml": set(),  # another component, in the folder of images
    "overlays/components/keys/syntho-ui.objects/new.yaml": ALL,
    "overlays/components/README.md": set(),
    "overlays/staging/ray.values.yaml": {"staging"},  # an overlay of its own that comes
    "sandbox/charts/ray/templates/cluster.yaml": {"local"},
    "sandbox/README.md": set(),
    "syntho_deploy/x.py": ALL,
    "tasks.py": ALL,
    "requirements.lock": ALL,
    "tools/tools.lock.yaml": ALL,
    "tools/kwok/x.yaml": {"dev", "local"},
    "docs/x.md": set(),
}


@pytest.mark.parametrize("file", FILES)
def test_a_file_touches_the_environments_that_are_made_of_it(repository: Path, file: str) -> None:
    path = repository / file
    write_files(repository, {file: (path.read_text() if path.exists() else "[]") + "\n"})
    commit(repository)
    found = change(repository)
    assert {one.name for one in found.environments} == FILES[file]
    assert {one.files for one in found.environments} <= {(file,)}
    assert found.uncommitted == ()


def test_the_file_that_a_link_leads_to_touches_who_has_the_link(repository: Path) -> None:
    link = repository / "overlays/components/ingress/tls-secret/syntho-ui.manifests.yaml"
    target = "overlays/components/ingress/nginx/syntho-ui.manifests.yaml"
    link.unlink(missing_ok=True)
    link.symlink_to("../nginx/syntho-ui.manifests.yaml")
    commit(repository)
    git(repository, "branch", "--force", "main")
    (repository / target).write_text((repository / target).read_text() + "\n")
    commit(repository)
    assert touched(repository) == ALL  # prod by its link, the others by ingress/nginx
    assert target in next(one for one in change(repository).environments if one.name == "prod").files


def test_a_component_that_a_pin_comes_to_have_for_itself_touches_the_environments_of_the_pin(repository: Path) -> None:
    envs = repository / "envs"
    (envs / "staging.yaml").write_text((envs / "staging.yaml").read_text() + "charts: vendor/charts-1.9.7.yaml\n")
    commit(repository)
    git(repository, "branch", "--force", "main")
    own = "overlays/pins/1.9.7/components/admin/syntho-ui.values.yaml"
    write_files(repository, {own: "[]\n"})
    commit(repository)
    assert touched(repository) == {"staging"}
    git(repository, "branch", "--force", "main")
    shutil.rmtree((repository / own).parent)  # and one that it loses, whose place another one takes
    commit(repository)
    assert touched(repository) == {"staging"}


def test_files_that_secrets_and_commands_name_are_read_too(repository: Path) -> None:
    file = repository / "envs/dev.yaml"
    text = file.read_text().replace("license: {env: SYNTHO_LICENSE}", "license: {command: [sops, decrypt, secrets/dev.enc]}")
    file.write_text(text + "before_upgrade: [[hooks/backup.sh, now]]\n")
    commit(repository)
    git(repository, "branch", "--force", "main")
    for read in ("secrets/dev.enc", "hooks/backup.sh"):
        write_files(repository, {read: "x"})
        assert touched(repository) == {"dev"}
        (repository / read).unlink()


def test_what_is_not_committed_counts_and_is_named(repository: Path) -> None:
    with (repository / "envs/prod.yaml").open("a") as file:
        file.write("\n")
    write_files(repository, {"overlays/dev/ray.values.yaml": "[]\n"})
    found = change(repository)
    assert [one.name for one in found.environments] == ["dev", "prod"]
    assert found.uncommitted == ("envs/prod.yaml", "overlays/dev/ray.values.yaml")


def test_what_happened_on_the_base_meanwhile_is_no_part_of_the_change(repository: Path) -> None:
    git(repository, "switch", "--quiet", "main")
    with (repository / "envs/prod.yaml").open("a") as file:
        file.write("\n")
    commit(repository)
    git(repository, "switch", "--quiet", "work")
    assert touched(repository) == set()


def test_an_environment_that_goes_is_named_and_not_planned(repository: Path) -> None:
    git(repository, "mv", "envs/staging.yaml", "envs/acceptance.yaml")
    commit(repository)
    found = change(repository)
    assert ([one.name for one in found.environments], found.deleted) == (["acceptance"], ("staging",))


def test_an_environment_that_cannot_be_read_is_touched_whatever_changed(repository: Path) -> None:
    (repository / "envs/prod.yaml").write_text("cluster: {contxt: x}\n")
    commit(repository)
    git(repository, "branch", "--force", "main")
    write_files(repository, {"docs/x.md": "x"})
    (found,) = change(repository).environments
    assert (found.name, found.files) == ("prod", ())
    assert "envs/prod.yaml" in found.fault


@pytest.mark.parametrize("base", ["mian", "--all", "0" * 40, "main:envs/prod.yaml"])
def test_a_base_that_is_no_commit_is_refused(repository: Path, base: str) -> None:
    with pytest.raises(InputError, match="is no commit of this repository") as refused:
        change(repository, base)
    assert ('did you mean "main"' in str(refused.value)) == (base == "mian")


def test_a_base_without_a_common_commit_is_refused(repository: Path) -> None:
    git(repository, "switch", "--quiet", "--orphan", "strange")
    commit(repository)
    with pytest.raises(InputError, match="no commit in common"):
        affected.affected(repository, "main", [])


def test_a_folder_without_git_is_refused(project: Path) -> None:
    with pytest.raises(PreflightError, match="no git repository"):
        affected.affected(project, "main", [])


def test_a_repository_inside_another_one_sees_its_own_files_only(root: Path, tmp_path: Path) -> None:
    folder = copy_project(root, tmp_path / "outer" / "project")
    git(folder.parent, "init", "--quiet", "--initial-branch=main")
    commit(folder.parent)
    write_files(folder.parent, {"envs/prod.yaml": "x", "tasks.py": "x", "project/envs/prod.yaml": (folder / "envs/prod.yaml").read_text() + "\n"})
    assert touched(folder) == {"prod"}
    (folder / "envs/dev.yaml").unlink()
    assert change(folder).deleted == ("dev",)


def test_a_pull_requests_merge_fetched_with_its_parents_only_is_enough(repository: Path, tmp_path: Path) -> None:
    """As plan.yml has it: HEAD is the merge that GitHub made, its first parent the branch that the pull request goes to."""
    write_files(repository, {"overlays/staging/ray.values.yaml": "[]\n"})
    commit(repository)
    git(repository, "switch", "--quiet", "main")
    write_files(repository, {"overlays/prod/ray.values.yaml": "[]\n"})
    commit(repository)
    git(repository, "merge", "--quiet", "--no-ff", "-m", "the pull request", "work")
    git(tmp_path, "clone", "--quiet", "--depth=2", f"file://{repository}", "shallow")
    assert touched(tmp_path / "shallow", "HEAD^1") == {"staging"}


def test_json_is_a_matrix_and_what_else_there_is_to_know(repository: Path) -> None:
    for name in ("dev", "prod"):
        with (repository / "envs" / f"{name}.yaml").open("a") as file:
            file.write("\n")
    rows = {
        "dev": {"environment": "dev", "protected": False, "local": True, "pin": "vendor/charts.yaml", "files": ["envs/dev.yaml"], "fault": ""},
        "prod": {"environment": "prod", "protected": True, "local": False, "pin": "vendor/charts.yaml", "files": ["envs/prod.yaml"], "fault": ""},
    }
    answer = json.loads(invoke(repository, "ci-matrix", "--base=main", "--json").stdout)
    assert answer["matrix"] == {"include": [rows["dev"], rows["prod"]]}
    assert answer["any"] is True
    assert json.loads(invoke(repository, "ci-matrix", "--base=main", "--remote", "--json").stdout)["matrix"] == {"include": [rows["prod"]]}
    nothing = json.loads(invoke(repository, "ci-matrix", "--base=main", "--env=staging", "--json").stdout)
    assert (nothing["matrix"], nothing["any"]) == ({"include": []}, False)


def test_a_step_of_github_actions_gets_it_as_outputs(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = invoke(repository, "ci-matrix", "--env=prod", "--github")
    assert (refused.code, "GITHUB_OUTPUT is not set" in refused.stderr) == (3, True)
    outputs = tmp_path / "outputs"
    outputs.write_text("before=1\n")
    monkeypatch.setenv("GITHUB_OUTPUT", str(outputs))
    assert invoke(repository, "ci-matrix", "--env=local,prod", "--remote", "--github").code == 0
    assert outputs.read_text() == 'before=1\nmatrix={"include": [{"environment": "prod", "local": false, "pin": "vendor/charts.yaml"}]}\nany=true\n'


def test_a_bad_base_is_a_sentence_and_exit_3(repository: Path) -> None:
    result = invoke(repository, "ci-matrix", "--base=mian")
    assert (result.code, result.stdout) == (3, "")
    assert result.stderr.startswith('error: "mian" is no commit of this repository; did you mean "main"?\n  -> ')
