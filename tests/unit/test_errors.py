"""What a user reads when something is wrong, and the exit code that goes with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from invoke.exceptions import Exit

from syntho_deploy import console, errors, helm
from syntho_deploy.errors import DeployError, InputError, InputErrors, LockedError, Mark, NotHealthyError, PreflightError
from syntho_deploy.redact import MASK, register


@pytest.mark.parametrize(("error", "code"), [(DeployError, 1), (InputError, 3), (PreflightError, 4), (NotHealthyError, 5), (LockedError, 6)])
def test_each_class_has_its_exit_code_and_leaves_a_command_as_a_sentence(error: type[DeployError], code: int) -> None:
    register("errors-canary")

    @console.command
    def fails() -> None:
        raise error("what errors-canary is", Mark("/x/a.yaml", 3, 5), "do this")

    with pytest.raises(Exit) as caught:
        fails()
    assert caught.value.code == code
    assert caught.value.message == f"error: /x/a.yaml:3:5: what {MASK} is\n  -> do this"


def test_a_path_is_shown_as_it_would_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert str(InputError("w", tmp_path / "envs/a.yaml")) == "envs/a.yaml: w"
    assert str(InputError("w", Mark(str(tmp_path / "a.yaml"), 2))) == "a.yaml:2: w"
    assert str(InputError("w", Path("/elsewhere/a"))) == "/elsewhere/a: w"


def test_one_error_is_itself_and_several_are_one_with_all_their_lines() -> None:
    errors.raise_all([])
    one, two = InputError("one"), InputError("two", todo="x")
    with pytest.raises(InputError) as single:
        errors.raise_all([one])
    assert single.value is one
    with pytest.raises(InputErrors) as several:
        errors.raise_all([one, two])
    assert (str(several.value), several.value.exit_code) == ("one\ntwo\n  -> x", 3)


def test_the_nearest_name_is_offered_only_when_it_is_near() -> None:
    assert errors.nearest("prdo", ["dev", "prod"]) == '; did you mean "prod"?'
    assert errors.nearest("xyz", ["dev", "prod"]) == ""
    assert errors.nearest("", []) == ""


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("1h", 3600), ("1.5m", 90)])
def test_durations_have_units(text: str, seconds: float) -> None:
    assert console.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1s", "1d", "1e3", "m", "9" * 400, "5 m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is no duration"):
        console.duration(text)


def test_columns_are_aligned_and_lines_have_no_blanks_at_their_end() -> None:
    assert console.table([("A", "LONG"), ("wide", "")]) == "A     LONG\nwide"


@pytest.mark.parametrize(
    ("stderr", "kind", "words"),
    [
        ("Error: UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress", LockedError, "invoke unlock"),
        ("Error: INSTALLATION FAILED: Kubernetes cluster unreachable: dial tcp", PreflightError, "check the context"),
        ('Error: UPGRADE FAILED: conflict occurred while applying object ns/x apps/v1: conflict with "a"', PreflightError, "another tool owns"),
        ('Error: resource mapping not found: no matches for kind "RayCluster"', PreflightError, "CRDs are not installed"),
        ("Error: Unable to continue with install: invalid ownership metadata", PreflightError, "not this release's"),
        ("Error: UPGRADE FAILED: cannot patch: spec.selector: field is immutable", PreflightError, "cannot change in place"),
        ('Error: secrets is forbidden: User "x" cannot list', PreflightError, "lacks a permission"),
        ("level=WARN msg=x\nW0101 12:00:00 deprecated\nError: something new", NotHealthyError, "helm history rel -n ns"),
        ("", NotHealthyError, "failed without a word"),
    ],
)
def test_helms_words_are_told_apart(stderr: str, kind: type[DeployError], words: str) -> None:
    found = helm.failure(stderr, "rel", "ns")
    assert type(found) is kind
    assert words in str(found)
    assert "level=" not in str(found)
