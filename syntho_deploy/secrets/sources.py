"""Where the value of a secret comes from: generated here, an environment variable, a file, a command."""

from __future__ import annotations

import base64
import json
import os
import secrets
import string
from pathlib import Path

from syntho_deploy import process
from syntho_deploy.environment import Environment, SecretSpec
from syntho_deploy.errors import PreflightError
from syntho_deploy.redact import redact, register

TOKEN_BYTES = 32
COMMAND_TIMEOUT = 60.0
DJANGO = string.ascii_lowercase + string.digits + "!@#%^&*(-_=+)"  # django-admin's alphabet, less the $ that Kubernetes expands


def hide(environment: Environment) -> None:
    """Keep the variables that secrets come from out of every child, and their values out of every output."""
    names = [name for spec in environment.secrets.values() for name in (spec.env, spec.username_env) if name]
    process.hide_environment(*names)
    register(*(os.environ[name] for name in names if name in os.environ))


def value(spec: SecretSpec, root: Path) -> str:
    """The value of a secret from its source: text without a newline at its end. Registered for redaction.

    Raises `PreflightError` naming the variable or the file that is missing, empty or unreadable.
    """
    if spec.generate:
        found = _generated(spec)
    elif spec.command:
        found = _from_command(spec, root)
    else:
        found = _variable(spec.env, spec) if spec.env else _from_file(spec, root)
    register(found)
    return found


def check(spec: SecretSpec, found: str, kind: str, public: frozenset[str], protected: bool) -> None:
    """Refuse a value that cannot work or is known to all. kind: a check of roles.yaml, or ""; public: the chart's own values.

    Raises `PreflightError`, which does not show the value.
    """
    if kind == "fernet":
        from cryptography.fernet import Fernet

        try:
            Fernet(found.encode())
        except ValueError:
            what = f'the secret "{spec.name}" is not a Fernet key (32 bytes in URL-safe base64), which the application needs'
            raise PreflightError(what, spec.mark, "generate: fernet makes one") from None
    if protected and found in public:
        raise PreflightError(f'the secret "{spec.name}" is the public default of the chart', spec.mark, "give it a value of its own")


def login(spec: SecretSpec, root: Path) -> tuple[str, str]:
    """The username and password of registry credentials. Raises `PreflightError` as `value` does."""
    return spec.username or _variable(spec.username_env, spec), value(spec, root)


def registry_config(spec: SecretSpec, root: Path) -> str:
    """Registry credentials as the content of a `kubernetes.io/dockerconfigjson` Secret."""
    username, password = login(spec, root)
    auth = base64.b64encode(f"{username}:{password}".encode()).decode()
    register(auth)
    return json.dumps({"auths": {spec.server: {"username": username, "password": password, "auth": auth}}})


def _generated(spec: SecretSpec) -> str:
    kind = spec.generate
    if kind == "fernet":  # https://cryptography.io/en/latest/fernet/: 32 random bytes, URL-safe base64
        from cryptography.fernet import Fernet

        return Fernet.generate_key().decode()
    if kind == "token":
        return secrets.token_hex(TOKEN_BYTES)
    if kind == "django":
        return "".join(secrets.choice(DJANGO) for _ in range(50))
    letters = string.ascii_letters + string.digits  # survives a URL, a shell and a connection string
    return secrets.choice(string.ascii_letters) + "".join(secrets.choice(letters) for _ in range(spec.length - 1))


def _from_command(spec: SecretSpec, root: Path) -> str:
    """What a command prints: of Vault, sops, a cloud's secret store. Its output is shown nowhere."""
    try:
        result = process.run(spec.command, timeout=COMMAND_TIMEOUT, cwd=root, check=False, raw=True)
    except process.ProcessError as error:
        raise PreflightError(f'the secret "{spec.name}" comes from a command: {error.what}', spec.mark, error.todo) from None
    register(*result.stdout.split("\n"))
    if result.code:
        words = redact(result.stderr).strip()[-500:] or "without a word"
        raise PreflightError(
            f'the secret "{spec.name}" comes from the command {spec.command[0]}, which failed: {words}', spec.mark, process.quoted(spec.command)
        )
    found = result.stdout.rstrip("\r\n")
    if not found:
        raise PreflightError(f'the secret "{spec.name}" comes from the command {spec.command[0]}, which printed nothing', spec.mark)
    return found


def _variable(name: str, spec: SecretSpec) -> str:
    found = os.environ.get(name, "")
    if not found:
        state = "is empty" if name in os.environ else "is not set"
        raise PreflightError(f'the secret "{spec.name}" comes from the variable {name}, which {state}', spec.mark, f"export {name}=…, then run again")
    return found.rstrip("\r\n")


def _from_file(spec: SecretSpec, root: Path) -> str:
    path = root / Path(spec.file).expanduser()
    try:
        found = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise PreflightError(
            f'the secret "{spec.name}" comes from the file {path}: {reason}', spec.mark, "put it there, or correct the path"
        ) from None
    if not found.strip():
        raise PreflightError(f'the secret "{spec.name}" comes from the file {path}, which is empty', spec.mark)
    return found.rstrip("\r\n")
