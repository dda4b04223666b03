"""Where the value of a secret comes from: generated here, an environment variable, files, a command."""

from __future__ import annotations

import base64
import os
import secrets
import string
from pathlib import Path

from syntho_deploy import process
from syntho_deploy.environment import Environment, SecretSpec, readable
from syntho_deploy.errors import PreflightError
from syntho_deploy.redact import register

TOKEN_BYTES = 32
DJANGO = string.ascii_lowercase + string.digits + "!@#%^&*(-_=+)"  # django-admin's alphabet, less the $ that Kubernetes expands


def hide(environment: Environment) -> None:
    """Keep the variables that secrets come from out of every child, and their values out of every output."""
    names = _variables(environment)
    process.hide_environment(*names)
    register(*filter(None, map(process.variable, names)))


def hide_all(root: Path) -> None:
    """Keep the variables of every environment out of every child: who deploys one may have exported those of others too."""
    for environment in readable(root, os.environ):
        process.hide_environment(*_variables(environment))


def _variables(environment: Environment) -> list[str]:
    return [name for spec in environment.secrets.values() for name in (spec.env, spec.username_env) if name]


def value(spec: SecretSpec, root: Path) -> str:
    """The value of a secret from its source: text without a newline at its end. Registered for redaction.

    Raises `PreflightError` naming the variable or the file that is missing, empty or unreadable.
    """
    if spec.generate:
        found = _generated(spec)
    elif spec.command:
        found = _from_command(spec, root)
    else:
        found = _variable(spec.env, spec) if spec.env else _from_file(spec.file, spec, root)
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


def registry_entry(spec: SecretSpec, root: Path) -> dict[str, str]:
    """Credentials from their source, as `auths` of a `kubernetes.io/dockerconfigjson` Secret has them for one registry."""
    return credentials(*login(spec, root))


def credentials(username: str, password: str) -> dict[str, str]:
    """A user of a registry, as a pull secret has it."""
    auth = base64.b64encode(f"{username}:{password}".encode()).decode()
    register(auth)
    return {"username": username, "password": password, "auth": auth}


def certificate(spec: SecretSpec, root: Path) -> tuple[str, str]:
    """The certificate with its chain, and the key. Each ends in one line end, as what joins PEM files expects. The key is registered."""
    pair = spec.tls or ("", "")
    found, key = (_from_file(path, spec, root) + "\n" for path in pair)
    register(key)
    return found, key


def _generated(spec: SecretSpec) -> str:
    kind = spec.generate
    if kind == "fernet":  # https://cryptography.io/en/latest/fernet/: 32 random bytes, URL-safe base64
        from cryptography.fernet import Fernet

        return Fernet.generate_key().decode()
    if kind == "token":
        return secrets.token_hex(TOKEN_BYTES)
    if kind == "django":
        return "".join(secrets.choice(DJANGO) for _ in range(50))
    letters = "".join(sorted(set(spec.alphabet))) or string.ascii_letters + string.digits  # survives a URL, a shell and a connection string
    first = [letter for letter in letters if letter in string.ascii_letters] or letters
    return secrets.choice(first) + "".join(secrets.choice(letters) for _ in range(spec.length - 1))


def _from_command(spec: SecretSpec, root: Path) -> str:
    """What a command prints: of Vault, sops, a cloud's secret store. Its output is shown nowhere, its stderr neither: `set -x`
    and many a client's debugging print the secret there, and we could not tell it from other words."""
    try:
        result = process.run(spec.command, timeout=spec.timeout, cwd=root, check=False, raw=True)
    except process.ProcessError as error:
        raise PreflightError(f'the secret "{spec.name}" comes from a command: {error.what}', spec.mark, error.todo) from None
    register(*result.stdout.split("\n"))
    if result.code:
        what = f'the secret "{spec.name}" comes from the command {spec.command[0]}, which failed with exit code {result.code}'
        todo = f"what it said is not shown, since it may hold the secret; to see it: {process.quoted(spec.command)}"
        raise PreflightError(what, spec.mark, todo)
    found = result.stdout.rstrip("\r\n")
    if not found.strip():
        raise PreflightError(f'the secret "{spec.name}" comes from the command {spec.command[0]}, which printed nothing', spec.mark)
    return found


def _variable(name: str, spec: SecretSpec) -> str:
    found = process.variable(name)
    if found is None or not found.strip():
        state = "is not set" if found is None else "is empty"
        raise PreflightError(f'the secret "{spec.name}" comes from the variable {name}, which {state}', spec.mark, f"export {name}=…, then run again")
    return found.rstrip("\r\n")


def _from_file(name: str, spec: SecretSpec, root: Path) -> str:
    path = root / Path(name).expanduser()
    try:
        found = path.read_text(encoding="utf-8-sig")  # editors of Windows put a mark before the text
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise PreflightError(
            f'the secret "{spec.name}" comes from the file {path}: {reason}', spec.mark, "put it there, or correct the path"
        ) from None
    if not found.strip():
        raise PreflightError(f'the secret "{spec.name}" comes from the file {path}, which is empty', spec.mark)
    return found.rstrip("\r\n")
