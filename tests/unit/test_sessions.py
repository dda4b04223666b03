"""A nox session that cannot run fails and says what is missing; it is skipped only where that was asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MISSING = {"kind_e2e": "needs Docker's engine, and none answers here", "upstream": "needs Syntho's charts, and nowhere does not answer"}


def nox(session: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A session where nothing is on PATH, in the environment that runs this test."""
    argv = [
        sys.executable,
        "-m",
        "nox",
        "-f",
        str(ROOT / "noxfile.py"),
        "--force-venv-backend",
        "none",
        "--envdir",
        str(folder),
        "-s",
        session,
        *words,
    ]
    env = {**os.environ, "PATH": str(folder), "SYNTHO_CHARTS_URL": "nowhere"}
    return subprocess.run(argv, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120, check=False)


@pytest.mark.parametrize("session", MISSING)
def test_a_session_that_cannot_run_fails_and_says_why(session: str, tmp_path: Path) -> None:
    done = nox(session, tmp_path)
    assert done.returncode == 1
    assert MISSING[session] in done.stderr


@pytest.mark.parametrize("session", MISSING)
def test_it_is_skipped_loudly_where_that_is_allowed(session: str, tmp_path: Path) -> None:
    done = nox(session, tmp_path, "--", "--allow-missing")
    assert done.returncode == 0
    assert MISSING[session] in done.stderr
    assert "skipped" in done.stderr


@pytest.mark.parametrize(
    ("value", "code", "said"), [("", 0, "NOT TESTED: 1 test, for want of docker-registry"), ("required", 1, "SYNTHO_TEST_PROGRAMS=")]
)
def test_a_test_for_which_a_program_is_missing_is_told_at_the_end_or_fails(tmp_path: Path, value: str, code: int, said: str) -> None:
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/unit/test_registry.py", "-k", "debians_registry"]
    env = {**os.environ, "PATH": str(tmp_path), "SYNTHO_TEST_PROGRAMS": value, "SYNTHO_TEST_REGISTRY": ""}
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120, check=False)
    assert done.returncode == code, done.stdout
    assert said in done.stdout
