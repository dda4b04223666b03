"""Objects against the schemas of Kubernetes and of the vendored CRDs, offline.

Those of Kubernetes come from the package kubernetes-validate, which has the API server's own for each version. Its own `validate` reads
them anew for each object and tells one fault, so only its files are used, with the package jsonschema-rs, which is there in a third of the
time that `jsonschema` takes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syntho_deploy import documents
from syntho_deploy.checks.context import Context, Finding, Item, of_object
from syntho_deploy.compile import Compiled, CompiledChart, Project
from syntho_deploy.documents import Json, Keys
from syntho_deploy.environment import VERSION, Environment
from syntho_deploy.errors import InputError
from syntho_deploy.helm import api_versions
from syntho_deploy.overlays import pointer
from syntho_deploy.overlays.manifests import is_custom

if TYPE_CHECKING:
    from jsonschema_rs import Registry, ValidationError, Validator

PACKAGE = "kubernetes_validate"
# Descriptions are most of a CRD's text and no part of what is held against objects: without them it is parsed in two thirds of the time. One is
# a text, quoted or not, and a property of that name has a mapping as its value.
_DESCRIPTION = re.compile(
    r"""^(\ *)description:\ *(?:
        '(?:[^']|'')*'[ \t\r]*\n | "(?:[^"\\]|\\[\s\S])*"[ \t\r]*\n |
        (?![{\[&*!\#'"])\S.*\n (?:\1[ \t].*\n | [ \t\r]*\n)*
    )""",
    re.MULTILINE | re.VERBOSE,
)
KUBERNETES = "urn:kubernetes"  # what the schemas of a version are called while they are in use
_NAMES = re.compile(rb"""\bkind["']?\s*:\s*["']?$""")


@dataclass(frozen=True)
class Fault:
    """Where an object is not as its schema says, and how. unknown: it is a field that the schema does not have."""

    keys: Keys
    what: str
    unknown: bool


def versions() -> list[str]:
    """The minor versions of Kubernetes whose schemas are there, the oldest first."""
    names = {folder.name[1:].rpartition(".")[0] for folder in _schemas().glob("v1.*-local-strict")}
    return sorted((name for name in names if VERSION.fullmatch(name)), key=lambda name: int(name.split(".")[1]))


def unknown_field(context: Context) -> Iterator[Finding]:
    """A field that the schema of Kubernetes, or of the vendored CRD, does not have. Server-side apply refuses the object. What the chart makes
    of envFrom in a pool of its own is one: the whole context of the templates, with all values."""
    yield from _findings(context, unknown=True)


def invalid_field(context: Context) -> Iterator[Finding]:
    """A field of another type than its schema says, or one that is missing: the API server refuses the object. The charts print the licence,
    keys and Celery's arguments without quotes, so that digits become a number."""
    yield from _findings(context, unknown=False)


def unknown_version(context: Context) -> Iterator[Finding]:
    """A version of Kubernetes that there are no schemas for: the nearest that is older is used."""
    asked = _minor(context.environment.target.kubernetes)
    if asked not in versions():
        name, mark = context.environment.file.name, context.environment.marks.get("cluster.kubernetes")
        what = f"there are no schemas for Kubernetes {asked}, only for {versions()[0]} to {versions()[-1]}"
        yield Finding(name, "", what, f"those of {_nearest(asked)} are used; set cluster.kubernetes", mark)


def removed_api(context: Context) -> Iterator[Finding]:
    """A kind in an API version that the environment's Kubernetes does not serve. Without a cluster helm does not know what is served unless
    it is told; some charts then render what was removed, such as policy/v1beta1."""
    known = set(api_versions(context.environment.target.kubernetes))
    for item in context.objects.values():
        if not is_custom(item) and f"{item['apiVersion']}/{item['kind']}" not in known:
            has = sorted(api.rpartition("/")[0] for api in known if api.endswith(f"/{item['kind']}"))
            todo = f"patch apiVersion to {has[0]}" if has else "remove the object by delete: true in <chart>.manifests.yaml"
            what = f"Kubernetes {context.environment.target.kubernetes} serves no {item['kind']} in {item['apiVersion']}"
            yield of_object(item, ("apiVersion",), what, todo)


def unserved_version(context: Context) -> Iterator[Finding]:
    """A custom resource in a version that its CRD does not serve: the CRDs of a chart and its templates are of different releases. Helm
    never updates CRDs; deploy does."""
    apis = used(context.compiled)
    for item in context.objects.values():
        group = item["apiVersion"].partition("/")[0]
        others = sorted(api for api, kinds in apis.items() if api.partition("/")[0] == group and item["kind"] in kinds)
        if is_custom(item) and others and item["apiVersion"] not in others:
            what = f"the CRD serves {', '.join(others)}, not {item['apiVersion']}"
            yield of_object(item, ("apiVersion",), what, "vendor CRDs and templates of one release")


def _findings(context: Context, unknown: bool) -> Iterator[Finding]:
    for chart in context.compiled.charts.values():
        faults = _faults(context.compiled, chart)
        for name, item in chart.manifests.items():
            for fault in faults.get(name, ()):
                if fault.unknown == unknown:
                    todo = "remove it, or correct its name" if unknown else "correct the value in an overlay; quote what must be text"
                    yield of_object(item, fault.keys, fault.what, todo)


_KNOWN: dict[tuple[str, str], list[Fault]] = {}  # by schema and text: most objects are the same in many environments


@lru_cache(maxsize=4)
def _of_chart(cached: Path) -> dict[str, list[Fault]]:
    content = json.loads(cached.read_text(encoding="utf-8"))
    return {name: [Fault(tuple(keys), what, unknown) for keys, what, unknown in found] for name, found in content.items()}


def _faults(compiled: Compiled, chart: CompiledChart) -> dict[str, list[Fault]]:
    """The faults of a chart's manifests by file; kept in `.cache/schemas` by the digest of manifests and schemas, since without it
    a third of lint's time goes into reading schemas."""
    minor = _nearest(_minor(compiled.environment.target.kubernetes))
    schemas = sorted(str(file) for kinds in used(compiled).values() for file in kinds.values())  # by the digest of each
    cached = compiled.environment.root / ".cache" / "schemas" / documents.sha256(minor, chart.digest, _package(), *schemas)[:32]
    if not cached.is_file():
        found = {name: _of_manifest(compiled, minor, item, chart.texts[name]) for name, item in chart.manifests.items()}
        content = {name: [[list(one.keys), one.what, one.unknown] for one in faults] for name, faults in found.items() if faults}
        documents.write(cached, json.dumps(content))
    return _of_chart(cached)


def _of_manifest(compiled: Compiled, minor: str, item: Item, text: str) -> list[Fault]:
    if is_custom(item):
        schema = used(compiled).get(item["apiVersion"], {}).get(item["kind"])
        name, validator = str(schema), _validator_of_crd(schema) if schema else None
    else:
        name, validator = minor, _validator(minor, item["apiVersion"], item["kind"])
    if validator is None:
        return []
    if (name, text) not in _KNOWN:
        _KNOWN[name, text] = [fault for error in validator.iter_errors(item) for fault in _of_error(error)]
    return _KNOWN[name, text]


def read(project: Project) -> None:
    """Read the schemas of the environment's Kubernetes, to have them when objects come."""
    _registry(_nearest(_minor(project.environment.target.kubernetes)))


def _of_error(error: ValidationError) -> Iterator[Fault]:
    keys = tuple(error.instance_path)
    if error.kind.name == "additionalProperties":
        for field in sorted(error.kind.value):
            yield Fault((*keys, field), f"there is no field {field} in {pointer.text(keys) or 'the object'}", True)
    else:
        yield Fault(keys, _words(error), False)


def _words(error: ValidationError) -> str:
    """What is wrong, without the value: it may be a secret."""
    here, broken, wanted = f"this is {_type(error.instance)}", error.kind.name, error.kind.value
    if broken == "type":
        return f"{here}, and must be {' or '.join(sorted(set(wanted) - {'null'}))}"
    if broken == "required":
        return f"'{wanted}' is a required property"
    if broken == "enum":
        return f"{here} that is not one of {wanted}"
    return f"{here} that breaks the schema's {broken}"


def _type(value: Json) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else "a boolean"
    for kind, name in ((str, "a string"), (int, "an integer"), (float, "a number"), (list, "a list")):
        if isinstance(value, kind):
            return name
    return "a mapping"


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


@lru_cache(maxsize=64)
def _nearest(minor: str) -> str:
    """The newest version with schemas that is not newer, or the oldest of all."""
    known = versions()
    older = [one for one in known if int(one.split(".")[1]) <= int(minor.split(".")[1])]
    return older[-1] if older else known[0]


@lru_cache(maxsize=1)
def _schemas() -> Path:
    found = find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(f"the package {PACKAGE} is not installed: pip install --require-hashes -r requirements.lock")
    return Path(found.submodule_search_locations[0]) / "kubernetes-json-schema"


@lru_cache(maxsize=1)
def _package() -> str:
    """The version of the schemas' package, by the name of the folder beside it."""
    return next((folder.name for folder in _schemas().parent.parent.glob(f"{PACKAGE}-*.dist-info")), "")


@lru_cache(maxsize=4)
def _definitions(minor: str) -> tuple[dict[str, Json], dict[tuple[str, str, str], str]]:
    """The schemas of a version of Kubernetes, and which of them is that of (group, version, kind)."""
    text = (_schemas() / f"v{minor}.0-local-strict" / "_definitions.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)["$defs"]
    kinds: dict[tuple[str, str, str], str] = {}
    for name, schema in found.items():
        for one in schema.get("x-kubernetes-group-version-kind") or []:
            kinds.setdefault((one["group"], one["version"], one["kind"]), name)
    return found, kinds


@lru_cache(maxsize=4)
def _registry(minor: str) -> Registry:
    from jsonschema_rs import Registry

    return Registry([(KUBERNETES, {"$defs": _definitions(minor)[0]})])


@lru_cache(maxsize=512)
def _validator(minor: str, api: str, kind: str) -> Validator | None:
    from jsonschema_rs import Draft202012Validator

    group, _, version = api.rpartition("/")
    name = _definitions(minor)[1].get((group, version, kind))
    return Draft202012Validator({"$ref": f"{KUBERNETES}#/$defs/{name}"}, registry=_registry(minor), offline=True) if name else None


@lru_cache(maxsize=64)
def _validator_of_crd(schema: Path) -> Validator:
    """What holds objects against a CRD's JSON Schema. A pattern that only Go's RE2 understands is not looked at. Raises `InputError` when it
    is no schema."""
    from jsonschema_rs import Draft202012Validator, ValidationError

    found = json.loads(schema.read_text(encoding="utf-8"))
    try:
        return Draft202012Validator(found, offline=True)
    except ValidationError:  # it is held against the schema of schemas first
        pass
    try:
        return Draft202012Validator(_without_patterns(found), offline=True)
    except ValidationError as error:
        what = f"the CRD of {schema.stem} has a schema that is none, at {pointer.text(tuple(error.instance_path))}: {error.message}"
        raise InputError(what, todo="vendor a chart whose CRDs the API server takes") from None


def _without_patterns(schema: Json) -> Json:
    """A JSON Schema without the patterns that are none to its validator."""
    if isinstance(schema, list):
        return [_without_patterns(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _without_patterns(one) for key, one in schema.items() if key != "pattern" or not isinstance(one, str) or _is_pattern(one)}


def _is_pattern(text: str) -> bool:
    from jsonschema_rs import Draft202012Validator, ValidationError

    try:
        Draft202012Validator({"pattern": text}, offline=True)
    except ValidationError:
        return False
    return True


def served(compiled: Compiled) -> dict[str, dict[str, Path]]:
    """What the vendored CRDs serve: `group/version` to kinds, each with the file that holds its JSON Schema.

    A CRD of 0.8 MB takes a while to parse, so what is needed of one is kept in `.cache/crds` by the file's digest.
    """
    return _of_files(compiled, [file for chart in compiled.charts.values() for file in chart.crds])


def used(compiled: Compiled) -> dict[str, dict[str, Path]]:
    """What `served` says of the CRDs of the kinds that there are objects of: those of other kinds are not parsed. Of all of them where
    no object is of such a kind."""
    kinds = frozenset(item["kind"] for item in compiled.objects if is_custom(item))
    files = [file for chart in compiled.charts.values() for file in chart.crds if _names_one(file, file.stat().st_mtime_ns, kinds)]
    return _of_files(compiled, files) if files else served(compiled)


@lru_cache(maxsize=256)
def _names_one(file: Path, changed: int, kinds: frozenset[str]) -> bool:
    """Is one of these kinds named in a file, as CRDs name what they define?"""
    content = file.read_bytes()
    places = (found.start() for kind in kinds for found in re.finditer(re.escape(kind.encode()), content))  # few: "kind" is in every other line
    return any(_NAMES.search(content, max(0, at - 20), at) for at in places)


def _of_files(compiled: Compiled, files: Iterable[Path]) -> dict[str, dict[str, Path]]:
    found: dict[str, dict[str, Path]] = {}
    for file in files:
        for api, kinds in _kinds_of(file, compiled.environment).items():
            found.setdefault(api, {}).update(kinds)
    return found


def _kinds_of(file: Path, environment: Environment) -> dict[str, dict[str, Path]]:
    return _served(file, file.stat().st_mtime_ns, environment.root / ".cache" / "crds")


@lru_cache(maxsize=256)
def _served(file: Path, changed: int, cache: Path) -> dict[str, dict[str, Path]]:
    folder = cache / documents.sha256(file.read_bytes())[:32]
    index = folder / "index.json"
    if not index.is_file():
        names: list[list[str]] = []
        for crd in (one for one in _read_crds(file) if one.get("kind") == "CustomResourceDefinition"):
            spec: dict[str, Any] = crd["spec"]
            for version in (one for one in spec["versions"] if one.get("served")):
                name = f"{version['name']}.{spec['names']['kind']}.json"
                schema = (version.get("schema") or {}).get("openAPIV3Schema") or {"x-kubernetes-preserve-unknown-fields": True}
                documents.write(folder / name, json.dumps(json_schema(schema, top=True)))
                names.append([f"{spec['group']}/{version['name']}", spec["names"]["kind"], name])
        documents.write(index, json.dumps(names))
    found: dict[str, dict[str, Path]] = {}
    for api, kind, name in json.loads(index.read_text(encoding="utf-8")):
        found.setdefault(api, {})[kind] = folder / name
    return found


def _read_crds(file: Path) -> list[dict[str, Json]]:
    """The objects of a file, without their descriptions where it can be read so."""
    text = file.read_text(encoding="utf-8")
    try:
        return documents.load_manifests(_DESCRIPTION.sub("", text + "\n"))
    except ValueError:
        return documents.load_manifests(text)


def json_schema(schema: Any, top: bool = False) -> Json:
    """A structural schema of a CRD as JSON Schema, by which an unknown field is a fault.

    https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema
    """
    schema = schema or {}  # it had only a description
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string", *(["null"] if schema.get("nullable") else [])]}
    kept = ("required", "enum", "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "oneOf", "anyOf", "allOf", "not")
    made: dict[str, Any] = {key: schema[key] for key in kept if key in schema}
    if "required" in made:
        made["required"] = list(dict.fromkeys(made["required"]))
    if "type" in schema:
        made["type"] = [schema["type"], "null"] if schema.get("nullable") else schema["type"]
    if "items" in schema:
        made["items"] = json_schema(schema["items"])
    if "properties" in schema:
        made["properties"] = {name: json_schema(one) for name, one in schema["properties"].items()}
    extra = schema.get("additionalProperties")
    if isinstance(extra, dict):
        made["additionalProperties"] = json_schema(extra)
    elif "properties" in schema and extra is not True and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made["additionalProperties"] = False
    if top or schema.get("x-kubernetes-embedded-resource"):
        object_ = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
        made["properties"] = (made.get("properties") or {}) | object_
    return made
