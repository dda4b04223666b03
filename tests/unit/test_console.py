"""What a person is asked, and never without a terminal."""

from __future__ import annotations

import io

import pytest

from syntho_deploy.console import acknowledge
from syntho_deploy.errors import PreflightError


def typed(monkeypatch: pytest.MonkeyPatch, text: str, terminal: bool = True) -> None:
    stdin = io.StringIO(text)
    monkeypatch.setattr(stdin, "isatty", lambda: terminal)
    monkeypatch.setattr("sys.stdin", stdin)


def test_a_loss_is_accepted_by_the_name_of_the_environment_typed_or_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed(monkeypatch, "prod\n")
    acknowledge("prod", "", True, "the data may be lost")
    assert capsys.readouterr().err == "the data may be lost. Type prod to go on without: "
    acknowledge("prod", "dev,prod", False, "the data may be lost")


@pytest.mark.parametrize(
    ("text", "given", "terminal", "ask"),
    [("yes\n", "", True, True), ("", "", True, True), ("prod\n", "dev", True, True), ("prod\n", "", False, True), ("prod\n", "", True, False)],
)
def test_anything_else_is_a_refusal_with_what_to_do(monkeypatch: pytest.MonkeyPatch, text: str, given: str, terminal: bool, ask: bool) -> None:
    typed(monkeypatch, text, terminal)
    with pytest.raises(PreflightError) as caught:
        acknowledge("prod", given, ask, "the data may be lost")
    assert caught.value.todo == "give prod a before_upgrade, or accept it: --no-backup=prod"
