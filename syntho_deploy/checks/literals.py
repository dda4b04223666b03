"""Secrets that are written down: what looks like one by its form, by the name that it has, or by standing in a Secret."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from syntho_deploy.checks.context import RAY, Context, Finding, Item, at, of_object
from syntho_deploy.checks.secrets import PLACEHOLDER, TODO, credentials
from syntho_deploy.documents import Json, Keys, walk
from syntho_deploy.errors import Mark
from syntho_deploy.overlays import pointer
from syntho_deploy.overlays.manifests import is_custom
from syntho_deploy.secrets.sentinels import is_secret

# A name that ends so is that of a secret: DB_PASSWORD, apiToken, redis-password, SECRET_KEY_2.
SENSITIVE = re.compile(
    r"(?i)(?:passwords?|passwd|passphrase|license_?key\w*"
    r"|(?<![a-z])(?:pwd|secrets?|tokens?|api_?key|(?:private|secret|access|account|signing|encryption)_?key|credentials?|licen[sc]e|requirepass|masterauth)"
    r"(?:_signed)?)(?:_?[0-9]+)?$"
)
CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[-. ]")
# Switches, numbers, durations, nothing, references of every kind, paths, and what says that something is to be put there.
NO_SECRET = re.compile(
    r"(?i)\s*|true|false|yes|no|on|off|enabled|disabled|required|optional|none|null|nil|[0-9]{0,5}[a-z]?|\$\(.*\)|\$\{.*\}|\$\w+|\{\{.*\}\}"
    r"|<.*>|\*+|x+|\.{3}|/[\w./-]*|[a-z]+://[^@]*"
)
NO_SECRET_KEY = re.compile(
    r"(?i)(.*[_.-])?(user|username|login|host|hostname|port|database|db|dbname|email|namespace|name|ca\.crt|tls\.crt|ca|cert|server|url)"
)
PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY")
URL_PASSWORD = re.compile(r"://[^/\s:@]*:([^\s@/]+)@")
JWT = re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}")
DOCKER = re.compile(r"\"(?:auth|identitytoken)\"\s*:\s*\"[A-Za-z0-9+/=_.-]{8,}\"")
TOKEN = re.compile(
    r"\b(?:A[KS]IA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{22,}|glpat-[\w-]{20}|xox[abprs]-[\w-]{10,}|hvs\.[\w-]{24,}|dckr_pat_[\w-]{20,}"
    r"|sk_live_\w{16,}|AIza[\w-]{35})|AccountKey=[A-Za-z0-9+/=]{40,}"
)
FORMS = ((PRIVATE_KEY, "a private key"), (JWT, "a signed token"), (DOCKER, "a login to a registry"), (TOKEN, "a key of a service"))
ASSIGNED = re.compile(r"(?im)^(?!\s*(?:#|;|//)).*?([\w.-]*[a-z])[\"']?(?:[ \t]*[:=][ \t]*|[ \t]+)[\"']?([^\s\"',;&]{4,})")
NAMES_ONE = re.compile(r"(?i)secrets?$")  # a variable that is to hold the name of a Secret
FLAG = re.compile(r"--?([\w-]+)")
ENCODED = re.compile(r"[A-Za-z0-9+/\s]{40,}={0,2}\s*")
# Parts of texts that have one of the forms, to look at few of them closely.
MARKERS = ("PRIVATE KEY", "://", "eyJ", '"auth', '"identitytoken', "AKIA", "ASIA", "gh", "glpat-", "xox", "hvs.", "dckr_", "sk_live_", "AIza", "Acc")
WORDS = ("passw", "passphrase", "pwd", "secret", "token", "key", "credential", "licen", "requirepass", "masterauth")


@lru_cache(maxsize=4096)
def sensitive(name: str) -> bool:
    """Is this the name of something secret?"""
    return bool(SENSITIVE.search(CAMEL.sub("_", name)))


def form(text: str) -> tuple[str, str]:
    """What a text is, or has in it, that is secret by its form, and that part of it; nothing for none."""
    if not any(marker in text for marker in MARKERS):
        return "", ""
    for match in URL_PASSWORD.finditer(text):
        if literal(match[1]):
            return "the password in a URL", match[0]
    for pattern, what in FORMS:
        if found := pattern.search(text):
            return what, found[0]
    return "", ""


def within(text: str) -> str:
    """What `form` says of a text, or of what it is the base64 of."""
    if found := form(text)[0]:
        return found
    if len(text) < 40 or not ENCODED.fullmatch(text):
        return ""
    try:
        return form(base64.b64decode(text).decode())[0]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def literal(value: Json) -> bool:
    """Is this a text that could be a secret itself?"""
    return isinstance(value, str) and not NO_SECRET.fullmatch(value) and not PLACEHOLDER.search(value)


def assigned(text: str) -> str:
    """The name of something secret that a text gives a value to (`password = x`, `--token=x`, `requirepass x`); "" for none."""
    if not any(word in text.lower() for word in WORDS):
        return ""
    for match in ASSIGNED.finditer(text):
        if sensitive(match[1]) and literal(match[2]) and ("=" in match[0] or ":" in match[0] or match[1] in ("requirepass", "masterauth")):
            return match[1].lstrip("-.")
    return ""


def literal_secret(context: Context) -> Iterator[Finding]:
    """A credential that is written down, in an overlay, a manifest or the environment's file: it is in the repository and in each
    plan. Written so, it is also at the mercy of the templates: the charts print some without quotes (`abc #d` arrives as `abc`, digits as a
    number), and put passwords into URLs as they are, where `@`, `:` or `/` cut them. A secret of ours has none of that. It is known by what
    the value is for, by its name, or by its form: private keys, passwords in URLs, tokens, logins to registries, in base64 too."""
    told: set[str] = set()
    for name, role in credentials(context):
        if role.value != role.default and str(role.value) and not PLACEHOLDER.search(str(role.value)):
            yield context.of_value(role, f"{name} is written down", TODO)
        told |= {str(role.value), str(role.default)}
    for found in (_of_environment, _of_objects, _of_secrets, _of_values, _of_files):
        before = frozenset(told)
        for finding, text in found(context):
            if not any(one == text or (len(text) > 8 and text in one) for one in before):
                yield finding
            told.add(text)


def _of_environment(context: Context) -> Iterator[tuple[Finding, str]]:
    environment = context.environment
    for name, value in environment.vars.items():
        for keys, text in walk(value):
            own = str(keys[-1]) if keys and isinstance(keys[-1], str) else name
            if not isinstance(text, str):
                continue
            named = sensitive(own) and literal(text) and not NAMES_ONE.search(own)
            what = f"the variable {name} has the name of a secret and" if named else within(text)
            if what:
                mark = environment.marks.get(f"vars.{name}", environment.marks.get("vars"))
                path = "/".join(("", "vars", name, *map(str, keys)))
                yield Finding(environment.file.name, path, f"{what} is written down", TODO, mark), text
    where = environment.marks.get("before_upgrade", Mark(str(environment.file)))
    commands = [(spec.mark, f"/secrets/{spec.name}/command", spec.command) for spec in environment.secrets.values()]
    commands += [(where, "/before_upgrade", words) for words in environment.before_upgrade]
    for mark, path, words in commands:
        for index, word in enumerate(words):
            if what := within(word) or _of_word(words, index):
                todo = "take it from the environment, or from where the command is logged in"
                yield Finding(environment.file.name, path, f"{what} is written down in this command", todo, mark), word


def _of_objects(context: Context) -> Iterator[tuple[Finding, str]]:
    for item in context.objects.values():
        for keys, value in walk(item):
            if isinstance(value, str) and value and (what := within(value) or _named(item, keys, value)):
                yield of_object(item, keys, f"{what} is written down", TODO), value


def _named(item: Item, keys: Keys, value: str) -> str:
    """What a text in an object is by the name that it has, or gives a value to; the fields of other kinds name Secrets by such names too."""
    last = keys[-1]
    if "labels" in keys or "annotations" in keys or (is_custom(item) and item["kind"] != RAY):
        return ""
    if last == "value" and len(keys) > 2 and keys[-3] == "env":
        name = str(at(item, (*keys[:-1], "name")))
        return f"the variable {name}" if sensitive(name) and literal(value) else ""
    if isinstance(last, int):
        return _of_word(at(item, keys[:-1]), last) if len(keys) > 1 and keys[-2] in ("command", "args") else ""
    if sensitive(last) and literal(value):
        return f"the value of {last}"
    name = assigned(value) if item["kind"] == "ConfigMap" and keys[0] == "data" else ""
    return f"{name} in this text" if name else ""


def _of_word(words: Any, index: int) -> str:
    """What is secret of one word of a command."""
    before = FLAG.fullmatch(str(words[index - 1])) if index else None
    if before and sensitive(before[1]) and literal(words[index]) and not str(words[index]).startswith("-"):
        return f"the argument of {before[0]}"
    name = assigned(str(words[index]))
    return f"{name} in this command" if name else ""


def _of_secrets(context: Context) -> Iterator[tuple[Finding, str]]:
    """What stands in Secrets: of the charts' own what has the name or form of a secret, of those that an overlay adds all but names and hosts."""
    manifests = [manifest for found in context.project.manifests.values() for manifest in found.kept if is_secret(manifest.item)]
    added = {manifest.item["metadata"]["name"] for manifest in manifests if manifest.added}
    for made in context.compiled.secrets:
        for key, text in made.data.items():
            plain = PLACEHOLDER.sub("", text)
            own = made.name in added and not NO_SECRET_KEY.fullmatch(key)
            if ((own or sensitive(key)) and literal(text)) or within(plain) or assigned(plain):
                yield Finding(f"Secret/{made.name}", f"/data/{key}", f"the key {key} of a Secret is written down", TODO), text


def _of_values(context: Context) -> Iterator[tuple[Finding, str]]:
    """What overlays set in values that has the name or form of a secret, read by the chart or not."""
    for chart, values in context.shown_values.items():
        layers = context.project.origins[chart]
        for keys, text in walk(values) if layers.set_by else ():
            if not isinstance(text, str) or not keys:
                continue
            named = (
                literal(text) and sensitive(str(keys[-1])) and not (len(keys) > 1 and sensitive(str(keys[-2])))
            )  # of a mapping to names of Secrets
            what = within(text) or (f"the value of {keys[-1]}" if named else "")
            if what and layers.origin(keys):
                yield Finding(chart, pointer.text(keys), f"{what} is written down", TODO), text


def _of_files(context: Context) -> Iterator[tuple[Finding, str]]:
    """What has the form of a secret in a file of the environment and reaches nothing: in a comment, or where another layer overrules it."""
    files = [context.environment.file]
    for layer in context.project.layers:
        for chart in context.project.pin.charts:
            files += [file for file in (layer.values(chart), layer.manifests(chart), *layer.objects(chart)) if file]
    for file in files:
        for number, what, part in _lines(file, file.stat().st_mtime_ns):
            todo = "remove it, and have it changed: it stays in the repository's history"
            yield Finding(file.name, "", f"{what} is written down in line {number}", todo, Mark(str(file), number)), part


@lru_cache(maxsize=1024)
def _lines(file: Path, changed: int) -> tuple[tuple[int, str, str], ...]:
    """The lines of a file with the form of a secret: number, what it is, and that part."""
    found = ((number, *form(line)) for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1))
    return tuple(one for one in found if one[1])
