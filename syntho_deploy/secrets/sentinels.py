"""Secrets in renders: a fixed token stands where a secret belongs, and is turned into a reference to a Secret of ours.

Helm never sees a secret, whatever the chart does with it: a plain environment value, a part of a URL, an argument, a Secret of
its own. The value reaches the container by `secretKeyRef`, and by `$(VAR)` expansion where text stands around it
(https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from syntho_deploy.documents import Json, Keys, canonical, clone, map_strings, walk
from syntho_deploy.errors import InputError, noting, raise_all
from syntho_deploy.overlays.pointer import text
from syntho_deploy.redact import base64_forms

TOKEN = re.compile(r"synthosecret[0-9a-f]{24}x")
URL_SUFFIX = ".url"  # the key that holds a secret percent-encoded, for the user part of a URL
_EXPANSION = re.compile(rf"\$\$|\$\((?P<name>[^)]*)\)|\$|{TOKEN.pattern}")  # what the kubelet looks for in a value, and a token
_IN_NAME = re.compile(rf"\$|{TOKEN.pattern}")
_USER_PART = re.compile(r"://[^/?#\s]*@")


def sentinel(name: str) -> str:
    """The token of a secret: always the same for a name, a letter first, only letters and digits, so that it survives
    unquoted YAML, quoting, base64 and a place inside a URL."""
    return f"synthosecret{hashlib.sha256(name.encode()).hexdigest()[:24]}x"


def placeholders(value: Json, names: Iterable[str]) -> Json:
    """`value` with every sentinel written as `${secret:name}`, for people."""
    tokens = {sentinel(name): f"${{secret:{name}}}" for name in names}
    return map_strings(value, lambda part: TOKEN.sub(lambda match: tokens.get(match[0], match[0]), part))


class SecretObject(NamedTuple):
    """A Secret that is ours to create. data: key to a text with `${secret:name}` and `${secret:name|url}` in it, and `$$` for `$`."""

    name: str
    data: dict[str, str]
    type: str = "Opaque"


class Place(NamedTuple):
    """Where the value of a secret is kept: a key of the environment's own Secret, or of the `secret` named."""

    key: str
    secret: str = ""
    generation: int = 1


class Cut(NamedTuple):
    """Objects without secrets, the Secrets they refer to, and the secrets that were found."""

    objects: list[dict[str, Json]]
    secrets: tuple[SecretObject, ...]
    found: frozenset[str]


def cut(objects: list[dict[str, Json]], places: Mapping[str, Place], secret: str) -> Cut:
    """Turn every sentinel in `objects` (the manifests of all charts of an environment) into a reference.

    places: the environment's secrets, and where the value of each is kept; secret: the name of the one Secret that is made for
    the environment, with a key for each. The input is not changed.
    Raises `InputError` naming object and field where a sentinel stands in a place that no reference can replace.
    """
    state = _Cut(places, secret)
    own: dict[str, tuple[str, dict[str, str]]] = {}
    for item in filter(is_secret, objects):
        name = item["metadata"]["name"]
        if name in own or name == secret:
            what = "stands twice" if name in own else "of a chart has the name of the environment's own Secret"
            raise InputError(f"{label(item)} {what}")
        own[name] = _content(item)
    rest = [clone(item) for item in objects if not is_secret(item)]
    for item in rest:
        for pod in pod_specs(item):
            for container in [*(pod.get("initContainers") or []), *(pod.get("containers") or [])]:
                state.container(container, own)
    errors = [error for item in rest for error in state.leftovers(item)]
    read = {name for item in rest for name in secret_references(item)} & set(own)
    rewritten = {name for name in own if name in state.rewritten}
    made: list[SecretObject] = []
    renamed: dict[str, str] = {}
    for name, (kind, data) in own.items():
        if name in read or name not in rewritten:
            content = {}
            for key, value in data.items():
                with noting(errors):
                    content[key] = state.template(value, f"Secret/{name} at /data/{key}")
            new = state.name_of(name, data)
            made.append(SecretObject(new, content, kind))
            renamed |= {name: new} if new != name else {}
    for holder, field, _, _ in _references(rest) if renamed else ():
        holder[field] = renamed.get(holder[field], holder[field])
    raise_all(errors)
    if state.keys:
        made.append(SecretObject(secret, dict(sorted(state.keys.items()))))
    return Cut(rest, tuple(sorted(made, key=lambda item: item.name)), frozenset(state.found))


class _Cut:
    def __init__(self, places: Mapping[str, Place], secret: str) -> None:
        self.tokens = {sentinel(name): name for name in places}
        self.forms = {form: name for token, name in self.tokens.items() for form in [token, *base64_forms(token.encode())]}
        self.places, self.secret = places, secret
        self.keys: dict[str, str] = {}
        self.found: set[str] = set()
        self.rewritten: set[str] = set()

    def container(self, container: dict[str, Any], own: dict[str, tuple[str, dict[str, str]]]) -> None:
        """Rewrite the environment, the command and the arguments of one container."""
        variables: dict[tuple[str, bool], str] = {}
        env = container.get("env") or []
        taken = {entry.get("name") for entry in env}
        for entry in env:
            content = self._of_own_secret(entry, own)
            if content is not None:
                entry.pop("valueFrom")
                entry["value"] = content.replace("$", "$$")  # a Secret's text is not expanded, an env value is
            value = entry.get("value")
            if not isinstance(value, str) or not TOKEN.search(value):
                continue
            if value in self.tokens:
                entry.pop("value")
                entry["valueFrom"] = self._reference(self.tokens[value], False)
            else:
                entry["value"] = self._expanded(value, variables, taken)
        for field in ("command", "args"):
            if isinstance(container.get(field), list):
                container[field] = [self._expanded(word, variables, taken) if isinstance(word, str) else word for word in container[field]]
        if variables:
            inserted = [{"name": variable, "valueFrom": self._reference(*key)} for key, variable in variables.items()]
            container["env"] = [*inserted, *env]

    def _of_own_secret(self, entry: dict[str, Any], own: dict[str, tuple[str, dict[str, str]]]) -> str | None:
        reference = (entry.get("valueFrom") or {}).get("secretKeyRef") or {}
        name = reference.get("name")
        if name not in own:
            return None
        data = own[name][1]
        if reference.get("key") not in data:
            return None
        self.rewritten.add(name)
        return data[reference["key"]]

    def _reference(self, name: str, url: bool) -> dict[str, Json]:
        place = self.places[name]
        if place.secret and not url:  # a Secret that is there already
            self.found.add(name)
            return {"secretKeyRef": {"name": place.secret, "key": place.key}}
        key = place.key + URL_SUFFIX if url else place.key
        if place.secret:  # another reference is another value, and so another key
            key = f"{name}.{hashlib.sha256(f'{place.secret}/{place.key}'.encode()).hexdigest()[:8]}{URL_SUFFIX}"
        content = f"${{secret:{name}|url}}" if url else f"${{secret:{name}}}"
        if self.keys.setdefault(key, content) != content:
            what = f'two secrets would be kept as "{key}", one of them for a URL or in a later generation'
            raise InputError(what, todo=f"give one a name that does not end in {URL_SUFFIX} or a number")
        self.found.add(name)
        return {"secretKeyRef": {"name": self.secret, "key": key}}

    def _expanded(self, value: str, variables: dict[tuple[str, bool], str], taken: set[Any]) -> str:
        """`value` as the kubelet expands it to the text with the secrets in it: each secret a variable, and what stands
        around it escaped where the kubelet would read it otherwise now."""
        if not any(name in self.tokens for name in TOKEN.findall(value)):
            return value
        user_parts = [match.span() for match in _USER_PART.finditer(value)]

        def variable(token: str, at: int) -> str:
            if token not in self.tokens:
                return token
            name = self.tokens[token]
            key = (name, any(start <= at < end for start, end in user_parts))
            if key not in variables:
                wanted = "SECRET_" + re.sub(r"[^A-Za-z0-9]", "_", name).upper() + ("_URL" if key[1] else "")
                while wanted in taken:
                    wanted += "_"
                taken.add(wanted)
                variables[key] = wanted
                self.found.add(name)
            return f"$({variables[key]})"

        def part(match: re.Match[str]) -> str:
            if not match[0].startswith("$"):
                return variable(match[0], match.start())
            if match["name"] is None:
                return "$$"  # $$ itself, or a $ that is no operator where it stands and must not become one
            if not TOKEN.search(match["name"]):
                return match[0]
            start = match.start("name")  # no variable has such a name, so that it is text
            return f"$$({_IN_NAME.sub(lambda m: '$$' if m[0] == '$' else variable(m[0], start + m.start()), match['name'])})"

        return _EXPANSION.sub(part, value)

    def template(self, value: str, place: str) -> str:
        """The content of a Secret of the chart's with its sentinels as placeholders. place: where it is, for an error."""
        user_parts = [match.span() for match in _USER_PART.finditer(value)]

        def placeholder(match: re.Match[str]) -> str:
            name = self.tokens.get(match[0])
            if name is None:
                return match[0]
            self.found.add(name)
            url = any(start <= match.start() < end for start, end in user_parts)
            return f"${{secret:{name}|url}}" if url else f"${{secret:{name}}}"

        for token, name in self.tokens.items():
            if any(form in value for form in base64_forms(token.encode())):
                what = f'the secret "{name}" ends up in {place} encoded once more, in base64'
                raise InputError(what, todo="do not set that value, or make the Secret by hand")
        return re.sub(rf"\$|{TOKEN.pattern}", lambda match: "$$" if match[0] == "$" else placeholder(match), value)

    def name_of(self, name: str, data: dict[str, str]) -> str:
        """The name of a Secret of the chart's that is ours to make: another one for each set of later generations in it, as a
        key of the environment's own Secret is, so that a new value restarts its users and the old one stays where it was."""
        places = {self.places[self.tokens[token]] for value in data.values() for token in TOKEN.findall(value) if token in self.tokens}
        later = sorted(place.key for place in places if place.generation > 1)
        return f"{name}-{hashlib.sha256(canonical(later).encode()).hexdigest()[:8]}" if later else name

    def leftovers(self, item: dict[str, Json]) -> Iterator[InputError]:
        """An error for each sentinel, plain or in base64, that is still in an object, by its field."""
        whole = canonical(item)
        if not any(form in whole for form in self.forms):
            return
        for keys, value in walk(item):
            words = [value] if isinstance(value, str) else list(value) if isinstance(value, dict) else []
            for form, name in self.forms.items():
                if any(form in word for word in words):
                    yield InputError(
                        f'the secret "{name}" ends up in {label(item)} at {text(keys)}, where it would be readable',
                        todo="move it into an environment variable or a Secret by a manifest patch, or do not set that value",
                    )


def label(item: dict[str, Json]) -> str:
    """`Kind/name` of an object."""
    return f"{item.get('kind')}/{item['metadata']['name']}"


def is_secret(item: dict[str, Json]) -> bool:
    """Is this object a core Secret?"""
    return item.get("kind") == "Secret" and item.get("apiVersion") == "v1"


def _content(item: dict[str, Json]) -> tuple[str, dict[str, str]]:
    """The type of a Secret and its content as text. Raises `InputError` when some of it is not text."""
    data = {}
    for key, value in (item.get("data") or {}).items():
        try:
            data[key] = base64.b64decode(re.sub(r"\s", "", value or ""), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError, TypeError):
            raise InputError(f"{label(item)} of the chart has a key {key} that is not base64 of text") from None
    data |= {key: str(value if value is not None else "") for key, value in (item.get("stringData") or {}).items()}
    return item.get("type") or "Opaque", data


def pod_specs(value: Json) -> Iterator[dict[str, Any]]:
    """Every pod spec in an object, known by its list `containers`: of workloads, of RayClusters, of kinds yet unknown."""
    for _, item in walk(value):
        if isinstance(item, dict) and isinstance(item.get("containers"), list) and all(isinstance(c, dict) for c in item["containers"]):
            yield item


def secret_references(value: Json) -> Iterator[str]:
    """The name of every Secret that an object refers to: env, envFrom, volumes, pull secrets, TLS of an Ingress."""
    for keys, _, _ in secret_keys(value):
        yield keys


def secret_keys(value: Json) -> Iterator[tuple[str, str | None, bool]]:
    """Every reference to a Secret as (name, key or None for the whole Secret, may be absent)."""
    for holder, field, key, optional in _references(value):
        yield holder[field], key, optional


def _references(value: Json) -> Iterator[tuple[dict[str, Any], str, str | None, bool]]:
    """Every reference to a Secret: the mapping and the field in it that name the Secret, the key, may it be absent."""
    for keys, item in walk(value):
        if not isinstance(item, dict):
            continue
        last = keys[-1] if keys else ""
        optional = item.get("optional") is True
        if last == "secretKeyRef" and item.get("name"):
            yield item, "name", item.get("key"), optional
        elif item.get("name") and (last == "secretRef" or (last == "secret" and "sources" in keys)):
            yield item, "name", None, optional
        elif isinstance(item.get("secretName"), str):
            yield item, "secretName", None, optional or _of_ingress(keys)
        for pull in item.get("imagePullSecrets") or [] if isinstance(item.get("imagePullSecrets"), list) else []:
            if isinstance(pull, dict) and pull.get("name"):
                yield pull, "name", None, False


def _of_ingress(keys: Keys) -> bool:
    return "tls" in keys  # cert-manager makes it after the Ingress
