"""The sessions of development and CI, each a claim about the project. CI does nothing but call them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nox

ROOT = Path(__file__).resolve().parent
TWO = ("-n", "2", "--dist=loadfile")  # each worker has a cluster of its own
PLAIN = ("tests/unit", "tests/components", "tests/checks")  # that need no cluster
ALLOW_MISSING = "--allow-missing"
OURS = Path(sys.prefix).resolve() == ROOT / ".venv"

nox.options.sessions = ["lint", "docs", "tests", "template", "kwok_e2e"]
# README's command starts nox in .venv, which all sessions then share; any other nox gets an environment for each
nox.options.default_venv_backend = "none" if OURS else "venv"
nox.options.reuse_venv = "yes"


@nox.session
def lint(session: nox.Session) -> None:
    """What a reader need not check by eye: rules, format, types; and the environment whose charts are here."""
    install(session)
    python(session, "-m", "ruff", "check", ".")
    python(session, "-m", "ruff", "format", "--check", ".")
    python(session, "-m", "mypy")
    python(session, "-m", "invoke", "lint", "--env=local")


@nox.session
def docs(session: nox.Session) -> None:
    """What README and docs/ say holds: commands parse, YAML loads, links lead somewhere, and the tasks' pages are those of the tasks."""
    install(session)
    python(session, "-m", "pytest", "tests/docs", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Plain functions do what they say; no cluster is needed to know that."""
    install(session)
    python(session, "-m", "pytest", *TWO, *PLAIN, "-m", "not upstream and not thorough", *session.posargs)


@nox.session
def template(session: nox.Session) -> None:
    """What the shipped environments compile to is what was reviewed, and fits every Kubernetes: -- --update-golden writes it anew."""
    install(session)
    python(session, "-m", "pytest", "tests/template", "-m", "not upstream", *session.posargs)


@nox.session
def kwok_e2e(session: nox.Session) -> None:
    """The whole life of a release on a real API server with simulated nodes, as it is possible on any machine."""
    install(session)
    e2e(session, "kwok", "not upstream and not thorough")


@nox.session
def thorough(session: nox.Session) -> None:
    """The cases that tests and kwok_e2e leave out, for which not everybody has the minutes each time."""
    install(session)
    python(session, "-m", "pytest", *TWO, *PLAIN, "-m", "not upstream and thorough", *words(session))
    e2e(session, "kwok", "not upstream and thorough")


@nox.session
def kind_e2e(session: nox.Session) -> None:
    """The life of a release where containers run, with images that everybody can pull. It fails without Docker: a skip looks like a pass."""
    if not answers("docker", "version", "--format", "{{.Server.Version}}"):  # the client alone is not enough
        cannot(session, "kind_e2e needs Docker's engine, and none answers here: start it, or run nox -s kwok_e2e")
    install(session)
    e2e(session, "kind", "containers")


@nox.session
def upstream(session: nox.Session) -> None:
    """Syntho's own charts do what the sandbox's do, the Ray operator what its stand-in does. Without the charts it fails: a skip looks like a pass"""
    source = os.environ.get("SYNTHO_CHARTS_URL") or re.findall(r"^source: (\S+)", (ROOT / "vendor" / "charts.yaml").read_text(), re.MULTILINE)[0]
    if not answers("git", "ls-remote", "--", source):
        cannot(session, f"upstream needs Syntho's charts, and {source} does not answer: name a mirror in SYNTHO_CHARTS_URL")
    install(session)
    python(session, "-m", "pytest", "tests", "-m", "upstream", *words(session))


@nox.session
def bench(session: nox.Session) -> None:
    """How long it takes beside bare helm and kubectl, measured side by side on a cluster of its own: -- --runs=N."""
    install(session)
    python(session, "-m", "bench", *session.posargs)


@nox.session(venv_backend="venv")
def lock(session: nox.Session) -> None:
    """The two lock files from pyproject.toml, so that two installs give the same versions: -- --upgrade moves all of them."""
    session.install("uv")
    compile_ = ["uv", "pip", "compile", "-q", "--universal", "--python-version=3.11", "--generate-hashes", "--no-annotate", "pyproject.toml"]
    env = {"UV_CUSTOM_COMPILE_COMMAND": "nox -s lock"}
    session.run(*compile_, "-o", "requirements.lock", *session.posargs, env=env)
    session.run(*compile_, "--group=dev", "-c", "requirements.lock", "-o", "requirements-dev.lock", *session.posargs, env=env)


def python(session: nox.Session, *words: str, env: dict[str, str] | None = None) -> None:
    """Run Python in the session's environment, which without one of its own is nox's."""
    session.run(sys.executable if OURS else "python", *words, env=env or {}, external=OURS)


def install(session: nox.Session) -> None:
    """Have exactly what the lock names. Where it is there already, this asks no index."""
    python(session, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--require-hashes", "-r", "requirements-dev.lock")


def e2e(session: nox.Session, provider: str, marks: str) -> None:
    """The end-to-end tests with these marks, on clusters of one provider."""
    at_once = TWO if provider == "kwok" else ()  # a cluster of kind is a machine of its own
    python(session, "-m", "pytest", *at_once, "tests/e2e", "-m", marks, *words(session), env={"SYNTHO_LOCAL_PROVIDER": provider})


def cannot(session: nox.Session, why: str) -> None:
    """End a session that cannot run here: it fails, or with -- --allow-missing is skipped, and nox says so at the end."""
    if ALLOW_MISSING in session.posargs:
        session.skip(why)
    session.error(why)


def words(session: nox.Session) -> list[str]:
    """What was given after -- for pytest."""
    return [word for word in session.posargs if word != ALLOW_MISSING]


def answers(*argv: str) -> bool:
    """Whether a program succeeds within 20 seconds and without a question."""
    env = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    try:
        return subprocess.run(argv, capture_output=True, timeout=20, stdin=subprocess.DEVNULL, env=env, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
