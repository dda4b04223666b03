"""What a shell completes: asked of the real shells, by the scripts that a user sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from syntho_deploy import completion
from tests.programs import missing
from tests.unit.test_readme import TASKS
from tests.unit.test_tasks import invoke

# the command line up to the cursor, and the words that its last one can become
LINES: dict[str, list[str]] = {
    "invoke dep": ["deploy"],
    "invoke new": ["new-env"],
    "invoke deploy --env=": ["--env=dev", "--env=local", "--env=prod", "--env=staging"],
    "invoke deploy --env=p": ["--env=prod"],
    "invoke deploy --env p": ["prod"],
    "invoke plan --env=dev,": ["--env=dev,local", "--env=dev,prod", "--env=dev,staging"],
    "invoke vendor plan --env=st": ["--env=staging"],
    "invoke deploy --env=prod --ti": ["--timeout="],
    "invoke deploy --env=prod --en": [],  # given already
    "invoke deploy --st": ["--stay"],
    "invoke deploy --yes=": [],  # a confirmation is typed
    "invoke new-env --env=p": [],  # a new name
    "invoke new-env --env=x --from=st": ["--from=staging"],
    "invoke new-env --components=keys,storage-class": ["--components=keys,storage-class", "--components=keys,storage-class/default"],
    "invoke vendor --pin=vendor/ch": ["--pin=vendor/charts-1.9.7.yaml", "--pin=vendor/charts-2026.1.1.yaml", "--pin=vendor/charts.yaml"],
    "invoke bump-charts --to=vendor/s": ["--to=vendor/sandbox.yaml"],
    "invoke rollback --to=": [],
    "invoke template --env=local --stage=r": ["--stage=rendered"],
    "invoke deploy --reason='half a sen": [],
    "invoke nonsense --env=": [],
    "invoke": [],
}
OF_SHELLS = ["invoke dep", "invoke deploy --env=", "invoke deploy --env p", "invoke plan --env=dev,p", "invoke deploy --env=prod --ti",
             "invoke new-env --env=x --components=volume-sizes/r"]  # fmt: skip


@pytest.mark.parametrize("line", LINES)
def test_a_line_is_completed(root: Path, line: str) -> None:
    found = completion.candidates(root, TASKS, line)
    assert found == (sorted(TASKS) if line == "invoke" else LINES[line])


def test_a_new_environment_and_a_new_component_are_offered_at_once(project: Path) -> None:
    (project / "envs/acceptance.yaml").touch()
    (project / "overlays/components/mine").mkdir()
    (project / "overlays/components/mine/ray.values.yaml").touch()
    assert completion.candidates(project, TASKS, "invoke plan --env=acc") == ["--env=acceptance"]
    assert completion.candidates(project, TASKS, "invoke new-env --components=mi") == ["--components=mine"]


BASH = """
source ./script
COMP_LINE="$1"; COMP_POINT=${#COMP_LINE}; COMP_WORDS=($1)
_syntho_invoke invoke "${1##*[ =]}" ""
printf '%s\\n' "${COMPREPLY[@]}"
"""
ZSH = """
compdef() { [[ "$*" == "_syntho_invoke invoke inv" ]] || exit 9 }
compadd() { local -a given=("${(@)@[$@[(i)--]+1,-1]}"); (( $#given )) && print -l -- $given }
_files() {}
source ./script
words=("${(@s: :)1}"); CURRENT=$#words; PREFIX=$words[CURRENT]
_syntho_invoke
"""
FISH = "source ./script; complete --do-complete $argv[1]"
SHELLS = {"bash": ["bash", "--norc", "-c", BASH, "bash"], "zsh": ["zsh", "-f", "-c", ZSH, "zsh"], "fish": ["fish", "--no-config", "-c", FISH]}


def offered(folder: Path, shell: str, line: str) -> list[str]:
    """What a shell offers for a line; what it would say, on stderr, fails. Skips where it is not here."""
    if not shutil.which(shell):
        missing(f"{shell} on PATH")
    (folder / "script").write_text(completion.script(shell))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), "HOME": str(folder)}
    done = subprocess.run([*SHELLS[shell], line], cwd=folder, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert done.stderr == ""
    return [word for word in done.stdout.splitlines() if word]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_offers_the_same(project: Path, root: Path, shell: str) -> None:
    for line in OF_SHELLS:
        expected = completion.candidates(root, TASKS, line)
        assert expected
        if shell == "bash" and "=" in line.rpartition(" ")[2]:  # which replaces only what comes after the =
            expected = [word.partition("=")[2] for word in expected]
        assert sorted(offered(project, shell, line)) == sorted(expected), line


@pytest.mark.parametrize("shell", SHELLS)
def test_where_tasks_are_of_another_project_a_shell_offers_those(tmp_path: Path, shell: str) -> None:
    (tmp_path / "tasks.py").write_text("from invoke import task\n@task\ndef bake(c): pass\n")
    assert offered(tmp_path, shell, "invoke ba") == ["bake"]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_task_prints_the_script(project: Path, shell: str) -> None:
    assert invoke(project, "completion", f"--shell={shell}").stdout == completion.script(shell)


@pytest.mark.parametrize(("words", "sentence"), [(["--shell=bsh"], 'did you mean "bash"?'), ([], "give one of --shell and --words")])
def test_bad_input_is_refused(project: Path, words: list[str], sentence: str) -> None:
    result = invoke(project, "completion", *words)
    assert (result.code, result.stdout) == (3, "")
    assert sentence in result.stderr
