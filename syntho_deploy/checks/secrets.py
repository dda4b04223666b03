"""Credentials that are public, written down, or not what was written."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any

from syntho_deploy.checks.context import Context, Finding, Role, at, of_object
from syntho_deploy.documents import Keys, walk
from syntho_deploy.environment import SecretSpec
from syntho_deploy.secrets.sentinels import SecretObject

TODO = "write ${secret:NAME} there and give NAME a source under secrets: components license, keys, admin, postgres/in-chart"
SENSITIVE = re.compile(
    r"(?i)(?<![a-z])(password|passwd|pwd|secret|token|api_?key|private_?key|secret_?key\w*|access_?key|credentials?|license)(?![a-z])"
)
NO_SECRET = re.compile(r"(?i)true|false|[0-9]{0,5}|none|null|\$\(.*\)|/[\w./-]*")  # switches, numbers, references, paths
URL_PASSWORD = re.compile(r"://[^/\s:@]*:([^\s@/]+)@")
PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")
PLACEHOLDER = re.compile(r"\$\{secret:[^}]*\}|\$\([^)]*\)")


def _credentials(context: Context) -> Iterator[tuple[str, Role]]:
    """What the roles call credentials, as far as the charts read it here."""
    for name in context.roles.values:
        role = context.role(name) if name.startswith("credential.") else None
        if role and isinstance(role.value, str | int | float) and not isinstance(role.value, bool) and role.keys in context.reach[role.chart].alive:
            yield name.removeprefix("credential."), role


def public_credential(context: Context) -> Iterator[Finding]:
    """A credential that is the chart's own text: everyone who has the chart knows the keys of core and backend, the passwords of both
    databases and of the administrator, and the licence is a placeholder. Syntho's command line leaves most of them as they are."""
    for name, role in _credentials(context):
        if role.value == role.default:
            yield context.of_value(role, f"{name} is the chart's own, which is public", TODO)


def literal_secret(context: Context) -> Iterator[Finding]:
    """A credential that is written down, in an overlay, a manifest or the environment's file: it is in the repository and in each
    plan. Written so, it is also at the mercy of the templates: the charts print some without quotes (`abc #d` arrives as `abc`, digits as a
    number), and put passwords into URLs as they are, where `@`, `:` or `/` cut them. A secret of ours has none of that."""
    defaults = {str(role.default) for _, role in _credentials(context)}
    for name, role in _credentials(context):
        if role.value != role.default and str(role.value) and not PLACEHOLDER.search(str(role.value)):
            yield context.of_value(role, f"{name} is written down", TODO)
    written = {str(role.value) for _, role in _credentials(context)} | defaults
    for item in context.objects.values():
        for keys, value in walk(item):
            if isinstance(value, str) and (what := _literal(keys, value, item)) and not any(one and one == value for one in written):
                yield of_object(item, keys, what, TODO)
    for made in context.compiled.secrets:
        yield from _in_secret(made, written)
    for name, value in context.environment.vars.items():
        if isinstance(value, str) and value and SENSITIVE.search(name) and not NO_SECRET.fullmatch(value) and not _named(name):
            mark = context.environment.marks.get("vars")
            what = f"the variable {name} has the name of a secret and is written down"
            yield Finding(context.environment.file.name, f"/vars/{name}", what, TODO, mark)


def _named(name: str) -> bool:
    """A variable that names a Secret holds no secret."""
    return bool(re.search(r"(?i)secret(_name)?$|_(name|file|path)$", name))


def _literal(keys: Keys, value: str, item: dict[str, Any]) -> str:
    if PRIVATE_KEY.search(value):
        return "a private key is written down"
    match = URL_PASSWORD.search(value)
    if match and not PLACEHOLDER.search(match[1]):
        return "a password is written down in this URL"
    if keys[-1:] == ("value",) and len(keys) > 2 and keys[-3] == "env":
        name = str(at(item, (*keys[:-1], "name")))
        if SENSITIVE.search(name) and value and not NO_SECRET.fullmatch(value) and not PLACEHOLDER.search(value):
            return f"the variable {name} is written down"
    return ""


def _in_secret(made: SecretObject, written: set[str]) -> Iterator[Finding]:
    for key, text in made.data.items():
        if text and SENSITIVE.search(key) and not PLACEHOLDER.search(text) and text not in written:
            yield Finding(f"Secret/{made.name}", f"/data/{key}", f"the key {key} of a Secret of the chart is written down", TODO)


def altered_secret(context: Context) -> Iterator[Finding]:
    """A credential that is written down and arrives as another text: the templates print some without quotes, so that YAML reads `yes`, `1e10` or
    `a #b` as something else, and at 98ec265 each upgrade encodes the administrator's password once more."""
    texts = [value for item in context.patched.values() for _, value in walk(item) if isinstance(value, str)]
    for name, role in _credentials(context):
        value = str(role.value)
        forms = (value, base64.b64encode(value.encode()).decode())
        if value and not PLACEHOLDER.search(value) and not any(form in text for form in forms for text in texts):
            yield context.of_value(role, f"no object has {name} as it is written", TODO)


def shared_secret_value(context: Context) -> Iterator[Finding]:
    """Two secrets with one source: a value that leaks in one place opens the other, and they can only be changed together."""
    seen: dict[tuple[str, ...], SecretSpec] = {}
    for spec in context.environment.secrets.values():
        place = (spec.env, spec.file, *spec.command, *(spec.kubernetes or ()))
        if spec.generate or not any(place):
            continue
        if place in seen:
            what = f'the secrets "{seen[place].name}" and "{spec.name}" have one source, {spec.source}'
            yield Finding(context.environment.file.name, f"/secrets/{spec.name}", what, "give each a source of its own", spec.mark)
        seen[place] = spec
