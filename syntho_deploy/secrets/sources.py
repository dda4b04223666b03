"""Where the value of a secret comes from: generated here, an environment variable, a file."""

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
from syntho_deploy.redact import register

PASSWORD_LENGTH = 32
TOKEN_BYTES = 32


def hide(environment: Environment) -> None:
    """Keep the variables that secrets come from out of every child, and their values out of every output."""
    names = [name for spec in environment.secrets.values() for name in (spec.env, spec.username_env) if name]
    process.hide_environment(*names)
    register(*(os.environ[name] for name in names if name in os.environ))


def value(spec: SecretSpec, root: Path) -> str:
    """The value of a secret from its source: text without a newline at its end. Registered for redaction.

    Raises `PreflightError` naming the variable or the file that is missing, empty or unreadable.
    """
    found = _generated(spec.generate) if spec.generate else _from_env(spec) if spec.env else _from_file(spec, root)
    register(found)
    return found


def registry_config(spec: SecretSpec, root: Path) -> str:
    """Registry credentials as the content of a `kubernetes.io/dockerconfigjson` Secret."""
    username = spec.username or _variable(spec.username_env, spec)
    password = value(spec, root)
    auth = base64.b64encode(f"{username}:{password}".encode()).decode()
    register(auth)
    return json.dumps({"auths": {spec.server: {"username": username, "password": password, "auth": auth}}})


def _generated(kind: str) -> str:
    if kind == "fernet":  # https://cryptography.io/en/latest/fernet/: 32 random bytes, URL-safe base64
        from cryptography.fernet import Fernet

        return Fernet.generate_key().decode()
    if kind == "token":
        return secrets.token_hex(TOKEN_BYTES)
    letters = string.ascii_letters + string.digits  # survives a URL, a shell and a connection string
    return secrets.choice(string.ascii_letters) + "".join(secrets.choice(letters) for _ in range(PASSWORD_LENGTH - 1))


def _from_env(spec: SecretSpec) -> str:
    return _variable(spec.env, spec)


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
        raise PreflightError(f'the secret "{spec.name}" comes from the file {path}: {reason}', spec.mark, "put it there, or correct the path") from None
    if not found.strip():
        raise PreflightError(f'the secret "{spec.name}" comes from the file {path}, which is empty', spec.mark)
    return found.rstrip("\r\n")
