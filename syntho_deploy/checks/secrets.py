"""Credentials that are public, written down, or not what was written."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

from syntho_deploy.checks.context import Context, Finding, Role
from syntho_deploy.documents import walk
from syntho_deploy.environment import SecretSpec

TODO = "write ${secret:NAME} there and give NAME a source under secrets: components license, keys, admin, postgres/in-chart"
PLACEHOLDER = re.compile(r"\$\{secret:[^}]*\}|\$\([^)]*\)")


def credentials(context: Context) -> Iterator[tuple[str, Role]]:
    """What the roles call credentials, as far as the charts read it here."""
    for name in context.roles.values:
        role = context.role(name) if name.startswith("credential.") else None
        if role and isinstance(role.value, str | int | float) and not isinstance(role.value, bool) and role.keys in context.reach[role.chart].alive:
            yield name.removeprefix("credential."), role


def public_credential(context: Context) -> Iterator[Finding]:
    """A credential that is the chart's own text: everyone who has the chart knows the keys of core and backend, the passwords of both
    databases and of the administrator, and the licence is a placeholder. Syntho's command line leaves most of them as they are."""
    for name, role in credentials(context):
        if role.value == role.default:
            yield context.of_value(role, f"{name} is the chart's own, which is public", TODO)


def altered_secret(context: Context) -> Iterator[Finding]:
    """A credential that is written down and arrives as another text: the templates print some without quotes, so that YAML reads `yes`, `1e10` or
    `a #b` as something else, and at 98ec265 each upgrade encodes the administrator's password once more."""
    texts = [value for item in context.patched.values() for _, value in walk(item) if isinstance(value, str)]
    for name, role in credentials(context):
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
