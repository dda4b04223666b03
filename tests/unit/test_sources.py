"""A value comes from its source as the source has it, without what a file or a program puts around it."""

from __future__ import annotations

import string
import sys
from pathlib import Path
from typing import Any

import pytest

from syntho_deploy.environment import SecretSpec
from syntho_deploy.errors import Mark, PreflightError
from syntho_deploy.secrets import sources

HERE = Mark("envs/it.yaml", 7)


def spec(**fields: Any) -> SecretSpec:
    return SecretSpec("it", HERE, **fields)


def printing(code: str, **fields: Any) -> SecretSpec:
    return spec(command=(sys.executable, "-c", code), **fields)


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"value", "value"),
        (b"value\n", "value"),
        (b"value\r\n\r\n", "value"),
        (b"\xef\xbb\xbfvalue\r\n", "value"),
        (b"two\nlines\n", "two\nlines"),
        (b" blanks stay \n", " blanks stay "),
        ("pässwört\n".encode(), "pässwört"),
    ],
)
def test_a_file_gives_its_text_without_what_editors_put_around_it(tmp_path: Path, content: bytes, value: str) -> None:
    (tmp_path / "it").write_bytes(content)
    assert sources.value(spec(file="it"), tmp_path) == value


@pytest.mark.parametrize(
    ("content", "words"), [(b"\n", "which is empty"), (b"", "which is empty"), (b"\xff", "is not UTF-8 text"), (None, "No such")]
)
def test_a_file_without_a_value_is_refused(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "it").write_bytes(content)
    with pytest.raises(PreflightError, match=words):
        sources.value(spec(file="it"), tmp_path)


@pytest.mark.parametrize(("found", "words"), [(None, "is not set"), ("", "is empty"), ("\n", "is empty")])
def test_a_variable_without_a_value_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, found: str | None, words: str) -> None:
    monkeypatch.delenv("IT", raising=False)
    if found is not None:
        monkeypatch.setenv("IT", found)
    with pytest.raises(PreflightError, match=f"the variable IT, which {words}"):
        sources.value(spec(env="IT"), tmp_path)


def test_a_command_gives_what_it_prints_in_the_repository_without_input(tmp_path: Path) -> None:
    (tmp_path / "it").write_text("from the root")
    code = "import sys; print(open('it').read() + sys.stdin.read(), end='\\r\\n\\n')"
    assert sources.value(printing(code), tmp_path) == "from the root"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("print()", "printed nothing"),
        ("print('canary', flush=True); import time; time.sleep(60)", "did not end within 1 s and was stopped"),
    ],
)
def test_a_command_that_fails_is_told_without_what_it_printed(tmp_path: Path, code: str, words: str) -> None:
    with pytest.raises(PreflightError, match=words) as caught:
        sources.value(printing(code, timeout=1 if "sleep" in code else 60), tmp_path)
    assert "canary" not in str(caught.value).replace(code, "").partition("\n")[0]
    assert str(caught.value).startswith("envs/it.yaml:7: ")


def test_a_command_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match="/no/such/vault cannot be started: No such file"):
        sources.value(spec(command=("/no/such/vault", "read")), tmp_path)


@pytest.mark.parametrize(
    ("fields", "letters", "length"),
    [
        ({"generate": "password"}, string.ascii_letters + string.digits, 32),
        ({"generate": "password", "length": 8}, string.ascii_letters + string.digits, 8),
        ({"generate": "password", "length": 64, "alphabet": "abcdefghij-_"}, "abcdefghij-_", 64),
        ({"generate": "password", "alphabet": "0123456789"}, "0123456789", 32),
        ({"generate": "token"}, "0123456789abcdef", 64),
        ({"generate": "django"}, sources.DJANGO, 50),
    ],
)
def test_a_generated_value_is_of_its_letters_and_length(tmp_path: Path, fields: dict[str, Any], letters: str, length: int) -> None:
    made = {sources.value(spec(**fields), tmp_path) for _ in range(20)}
    assert len(made) == 20
    for value in made:
        assert len(value) == length
        assert set(value) <= set(letters)
        if fields["generate"] == "password" and set(letters) & set(string.ascii_letters):
            assert value[0] in string.ascii_letters


def test_a_certificate_and_its_key_end_in_one_line_end(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("certificate")
    (tmp_path / "k").write_text("key of it\n\n")
    assert sources.certificate(spec(tls=("c", "k")), tmp_path) == ("certificate\n", "key of it\n")
