"""What a user's files may hold, as JSON Schema (draft 2020-12) for editors: `schemas/*.schema.json`, written from here.

The loaders decide; the schemas are made of their own tables and patterns, and a test holds both together. After a change:
python -m syntho_deploy.schemas
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from syntho_deploy import documents, environment
from syntho_deploy.graces import GRACES
from syntho_deploy.overlays import patch
from syntho_deploy.vendor import pin

Schema = dict[str, Any]
# No name that helm reads as something else where a template prints it without quotes
BARE_TEXT = r"^(?!(?:y|n|yes|no|true|false|on|off|null|0x[0-9a-f]+|0b[01]+|0o[0-7]+|[0-9]+(?:e-?[0-9]+)?)$)"
MODELINE = "# yaml-language-server: $schema="
DRAFT = "https://json-schema.org/draft/2020-12/schema"


def name_for(path: Path) -> str | None:
    """The schema of a file, by its place under the repository's root; None for one that has no schema of ours."""
    match path.parts:
        case ("envs", file) if file.endswith(".yaml"):
            return "environment"
        case ("vendor", file) if file.endswith(".yaml") and not file.endswith(".lock.yaml"):
            return "pin"
        case ("overlays", *_, "roles.yaml"):
            return "roles"
        case ("overlays", "ignore.yaml"):
            return "ignore"
        case ("overlays", *folders, file) if not any(folder.endswith(".objects") for folder in folders):
            kind = re.search(r"\.(values|manifests)\.yaml$", file)
            return f"{kind[1]}-overlay" if kind else None
    return None


def modeline(path: Path) -> str | None:
    """The first line of a file, by which editors find its schema. path: under the repository's root."""
    name = name_for(path)
    return f"{MODELINE}{os.path.relpath(Path('schemas') / f'{name}.schema.json', path.parent)}" if name else None


def _whole(pattern: re.Pattern[str]) -> str:
    """A pattern that a whole text matches, to ECMA and to Python, for whom `$` alone would let a last line end pass."""
    return f"^(?:{pattern.pattern})$(?!\\n)"


def _is(kind: str, description: str, **more: Any) -> Schema:
    """A value that cannot be null; a text that cannot be empty."""
    return {"description": description, "type": kind, **({"minLength": 1} if kind == "string" and "enum" not in more else {}), **more}


def _may(kind: str, description: str, **more: Any) -> Schema:
    """An optional value, for which null is as good as no key."""
    nullable = {"enum": [*more["enum"], None]} if "enum" in more else {}
    return _is(kind, description, **more) | {"type": [kind, "null"]} | nullable


def _mapping(description: str, properties: dict[str, Schema], *required: str, **more: Any) -> Schema:
    """A mapping with these keys and no other."""
    needs = {"required": list(required)} if required else {}
    return {"description": description, "type": "object", "properties": properties, "additionalProperties": False, **needs, **more}


def _names(description: str, schema: Schema, **more: Any) -> Schema:
    """A mapping whose keys are names of the user's, which may be left out."""
    return {"description": description, "type": ["object", "null"], "additionalProperties": schema, **more}


def _optional(schema: Schema) -> Schema:
    return schema | {"type": [schema["type"], "null"]}


def _set(key: str, **value: Any) -> Schema:
    """That a key is there and not null."""
    return {"required": [key], "properties": {key: value or {"not": {"type": "null"}}}}


def _environment() -> Schema:
    cluster = _mapping(
        "Which cluster, and where in it: exactly one of `context` and `local`.",
        {
            "context": _may("string", "The context of your kubeconfig."),
            "local": _may("string", "A cluster on this machine with this name, created on demand.", pattern=_whole(environment.DNS_LABEL)),
            "namespace": _is("string", "Where the releases go.", pattern=BARE_TEXT + _whole(environment.DNS_LABEL)),
            "kubeconfig": _may("string", "With `context`: a path; else $KUBECONFIG, else ~/.kube/config."),
            "uid": _may("string", "With `context`: the uid of the cluster's kube-system namespace; any other cluster is refused."),
            "kubernetes": _may("string", 'The Kubernetes version to render for, in quotes: "1.31".', pattern=_whole(environment.VERSION)),
            "present": _optional(_present()),
        },
        "namespace",
        oneOf=[_set("context"), _set("local")],
        **{"if": _set("local"), "then": {"not": {"anyOf": [_set("kubeconfig"), _set("uid")]}}},
    )
    manage = _mapping(
        "What a deploy may make.",
        {
            "crds": _may("boolean", "False: the CRDs must be there and are not written.", default=True),
            "namespace": _may("boolean", "False: the namespace must be there and is not created.", default=True),
        },
    )
    named = {"propertyNames": {"pattern": _whole(environment.SECRET_NAME)}}
    release = _is("string", "The release's name.", pattern=BARE_TEXT + _whole(environment.RELEASE_NAME))
    policy = {
        "registries": _may("array", "Each image's name begins with one of these.", items={"type": "string"}),
        "digests": _may("boolean", "True: each image has a digest.", default=False),
    }
    allowance = {
        "rule": _is("string", "The rule's name."),
        "object": _is("string", "Kind/name, a chart or a file, as the finding says; * stands for any text."),
        "why": _is("string", "Why it may be so."),
    }
    command = {"type": "array", "items": {"type": "string"}, "minItems": 1}
    graces = {
        name: _may("string", f"{grace.why.capitalize()}.", pattern=_whole(environment.DURATION), default=f"{grace.seconds:.0f}s")
        for name, grace in GRACES.items()
    }
    return _mapping(
        "An environment: one cluster, what is deployed there, and with which values.",
        {
            "cluster": cluster,
            "charts": _may("string", "The pin file.", default="vendor/charts.yaml"),
            "manage": _optional(manage),
            "protected": _may("boolean", "True: writing asks for the environment's name, and `cluster.uid` is needed.", default=False),
            "components": _may("array", "Folders under overlays/components/, in their order.", items=_is("string", "A component."), uniqueItems=True),
            "vars": _names("Variables for overlays.", {"type": ["string", "number", "boolean", "array", "object"]}),
            "secrets": _names("The source of each secret.", {"$ref": "#/$defs/secret"}, **named),
            "releases": _names("Other names for releases, by their key in roles.yaml.", release),
            "before_upgrade": _may("array", "Commands, word by word, that run before the pod of a database is replaced: a backup.", items=command),
            "grace": _optional(_mapping("How long a deploy bears the trouble of a pod before it ends.", graces)),
            "policy": _optional(_mapping("What invoke lint asks of images.", policy)),
            "allow": _may("array", "Findings of invoke lint that are allowed.", items=_mapping("A finding.", allowance, *allowance)),
        },
        "cluster",
        **{
            "if": {"required": ["protected"], "properties": {"protected": {"const": True}, "cluster": _set("context")}},
            "then": {"properties": {"cluster": _set("uid")}},
            "$defs": {"secret": _secret()},
        },
    )


def _present() -> Schema:
    names = {kind: _may("array", f"The {kind.replace('_', ' ')}.", items={"type": "string"}) for kind in environment.PRESENT}
    modes = {"type": ["array", "null"], "items": {"enum": list(environment.ACCESS_MODES)}}
    amounts = {key: _may("string", f"Its {key}.", pattern=_whole(environment.QUANTITY)) for key in ("cpu", "memory")}
    return _mapping(
        "What is there without us: references to it are no fault.",
        {
            **names,
            "storage_classes": _names("Storage classes, with the access modes that each serves.", modes),
            "largest_node": _optional(_mapping("What the largest node has to give to pods.", amounts)),
        },
    )


def _secret() -> Schema:
    pair = {"username": _is("string", "The variable that holds the username."), "password": _is("string", "The variable that holds the password.")}
    place = {"secret": _is("string", "The Secret's name."), "key": _is("string", "A key of it.")}
    files = {"certificate": _is("string", "The file with the certificate, its chain behind it."), "key": _is("string", "The file with its key.")}
    self_signed = _may("boolean", "True: it need not be of an authority.", default=False)
    sources = {
        "generate": _may("string", "Made once, by this generator.", enum=list(environment.GENERATORS)),
        "env": {
            "description": "The variable that holds it; two for registry credentials.",
            "anyOf": [_may("string", "The variable."), _mapping("The variables of a registry's credentials.", pair, *pair)],
        },
        "file": _may("string", "The file that holds it."),
        "command": _may("array", "The command that prints it, word by word.", items={"type": "string"}, minItems=1),
        "kubernetes": _optional(_mapping("A Secret of the namespace, referred to in place.", place, *place)),
        "tls": _optional(_mapping("Files in PEM, which become a TLS Secret.", {**files, "self_signed": self_signed}, *files)),
    }
    others = {
        "server": _may("string", "The registry whose credentials these are."),
        "username": _may("string", "The registry's username itself."),
        "name": _may("string", "The name of the pull secret or the TLS Secret."),
        "timeout": _may("integer", "Of a command, in seconds.", minimum=1, maximum=environment.LONGEST_COMMAND, default=environment.COMMAND_TIMEOUT),
        "length": _may("integer", "Of a generated password.", minimum=8, maximum=256, default=32),
        "alphabet": _may("string", "The characters of a generated password.", pattern=_whole(environment.ALPHABET)),
        "generation": _may("integer", "Raised by a rotation.", minimum=1, default=1),
    }
    users = [_set("username"), _set("env", type="object")]
    registry = {"oneOf": users, "not": {"anyOf": [_set("kubernetes"), _set("tls")]}}
    return _mapping(
        "Where the value comes from: exactly one source.",
        sources | others,
        oneOf=[_set(source) for source in environment.SOURCES],
        allOf=[
            {"if": _set("server"), "then": registry, "else": {"not": {"anyOf": users}}},
            {"if": _set("name"), "then": {"anyOf": [_set("server"), _set("tls")]}},
            {"if": {"anyOf": [{"required": ["length"]}, {"required": ["alphabet"]}]}, "then": _set("generate", const="password")},
            {"if": {"required": ["timeout"]}, "then": _set("command")},
            {"if": {"anyOf": list(map(_set, ("kubernetes", "server", "tls")))}, "then": {"properties": {"generation": {"enum": [1, None]}}}},
        ],
    )


def _operations(value: Schema) -> Schema:
    """A list of operations. value: what one may set."""
    pointer = {"type": "string", "pattern": r"^(?:/(?:[^~]|~[01])*)?$(?!\n)"}
    members = {
        "op": _is("string", "What is done (RFC 6902).", enum=list(patch.NEEDS)),
        "path": {"description": "Where: a JSON Pointer (RFC 6901), with [name=core] for an item of a list.", **pointer},
        "value": {"description": "${var} takes a variable of the environment, ${secret:name} a secret."},
        "from": {"description": "What is moved or copied: a JSON Pointer.", **pointer},
        "why": _may("string", "Why; kept in the plan."),
        "overrides": _may("boolean", "True: it may set again what an earlier layer set."),
    }
    rules = []
    for op, needed in patch.NEEDS.items():
        unwanted = [{"required": [member]} for member in ("value", "from") if member not in needed]
        rule = {"required": list(needed), "not": {"anyOf": unwanted}, **({"properties": {"value": value}} if op in ("add", "replace") else {})}
        rules.append({"if": {"properties": {"op": {"const": op}}}, "then": rule})
    return {"type": "array", "items": _mapping("One operation.", {name: members[name] for name in patch.MEMBERS}, "op", "path", allOf=rules)}


def _values_overlay() -> Schema:
    most, least = patch.UNQUOTED_LIMIT, patch.EXPONENT_BELOW
    near_zero = {"exclusiveMinimum": -least, "exclusiveMaximum": least}
    value = {
        "description": "Larger and smaller numbers go in quotes: Helm prints them with an exponent.",
        "exclusiveMinimum": -most,
        "exclusiveMaximum": most,
        "if": {"type": "number", **near_zero},
        "then": {"const": 0},
        "items": {"$ref": "#/$defs/value"},
        "additionalProperties": {"$ref": "#/$defs/value"},
    }
    operations = _operations({"$ref": "#/$defs/value"})
    return {"description": "A JSON Patch over a chart's values.", **operations, "type": ["array", "null"], "$defs": {"value": value}}


def _manifests_overlay() -> Schema:
    target = {"kind": _is("string", "The objects' kind."), "name": _may("string", "The object's name; without it, all of the kind.")}
    members = {
        "target": _mapping("Which objects.", target, "kind"),
        "patch": {"description": "Operations on each of them.", **_operations({})} | {"type": ["array", "null"]},
        "delete": _may("boolean", "True: they are left out."),
        "why": _may("string", "Why; kept in the plan."),
    }
    items = _mapping("A target and what happens to it.", members, "target", oneOf=[_set("patch"), _set("delete", const=True)])
    return {"description": "Patches over the manifests that a chart renders.", "type": "array", "items": items}


def _roles() -> Schema:
    workload = _is("string", "Kind/name.", pattern=_whole(environment.WORKLOAD))
    chart = _is("string", "A chart of the pin.")
    release = _mapping("A release.", {"chart": chart, "name": _is("string", "Its name.")}, "chart", "name")
    effect = {
        "note": _may("string", "What happens then."),
        "loses": _may("string", "What cannot be read any more."),
        "database": _may("string", "The Postgres in the charts that keeps the old one: Kind/name.", pattern=_whole(environment.WORKLOAD)),
    }
    value = _mapping("A value of a chart.", {"chart": chart, "path": {"description": "A JSON Pointer.", "type": "string"}}, "chart", "path")
    once = r"^(?:(?!\$\{tag\}).)*\$\{tag\}(?:(?!\$\{tag\}).)*$(?!\n)"
    image = {
        "chart": chart,
        "path": {"description": "A JSON Pointer to a mapping of repository and tag.", "type": "string"},
        "tag": _may("string", "How it writes the release's tag.", pattern=once, default="${tag}"),
    }
    return _mapping(
        "What the values of the pinned charts mean.",
        {
            "releases": _names("The releases, by the name that ${release.<key>} has.", release),
            "secret": _is("string", "The name of the Secret that holds an environment's secrets."),
            "values": _names("Values, by the name that ${role:<name>} has.", value),
            "images": _names("The images that have the release's tag, by application.", _mapping("An image.", image, "chart", "path")),
            "needs": _names(
                "The API that an image asks of the CRDs, by the image's role.", _names("By the tag's beginning.", _is("string", "An API."))
            ),
            "derived": _names("Variables made of others and of ${role:<name>}.", {"type": ["string", "null"]}),
            "checks": _names("What the value of a secret must be.", {"enum": list(environment.CHECKS)}),
            "databases": _may("array", "Workloads whose volumes only their own major version can read.", items=workload),
            "rotation": _names("What a new value of a secret does.", _optional(_mapping("Beside the restart of its users.", effect))),
        },
        "secret",
    )


def _ignore() -> Schema:
    pointer = r"^/(?:[^~]|~[01])*$(?!\n)"
    members = {
        "kind": _is("string", "The objects' kind."),
        "name": _may("string", "The object's name; without it, all of the kind."),
        "when": _names(
            "Only where the manifest has these values: JSON Pointers, each with what stands there.",
            {"type": ["string", "number", "boolean"]},
            propertyNames={"pattern": pointer},
        ),
        "scaled": _may("boolean", "True: only an object that a HorizontalPodAutoscaler of the namespace is for.", default=False),
        "paths": _is("array", "The fields: JSON Pointers, * for each item of a list.", minItems=1, items={"type": "string", "pattern": pointer}),
        "why": _may("string", "Which controller sets them."),
    }
    items = _mapping("Fields of objects of one kind.", members, "kind", "paths")
    description = "Fields that another controller sets: no change, no drift, and a deploy keeps their live values."
    return {"description": description, "type": ["array", "null"], "items": items}


def _pin() -> Schema:
    inside = r"^(?!/)(?!(?:[^\\]*/)?\.\.(?:/|$(?!\n)))[^\\]+$(?!\n)"
    path = _is("string", "A path in the source.", pattern=inside)
    return _mapping(
        "What to vendor.",
        {
            "source": _is("string", "The URL of a git repository, or a path; without `ref`, a folder.", pattern="^[^-]"),
            "ref": _may("string", "A commit (40 hex digits), a tag or a branch.", pattern=_whole(pin.REF)),
            "charts": _names("The charts, each with its path in the source.", path, minProperties=1, propertyNames={"pattern": _whole(pin.LABEL)})
            | {"type": "object"},
            "successor": _may("string", "The repository that follows this one, for people."),
            "overlays": _may("array", "Overlay folders, in the order in which they are searched.", items=path),
        },
        "source",
        "charts",
        anyOf=[{"required": ["ref"]}, {"properties": {"source": {"not": {"pattern": f"^(?:{pin.URL.pattern})"}}}}],
    )


def schemas() -> dict[str, Schema]:
    """Every schema by its name."""
    found = {
        "environment": _environment(),
        "values-overlay": _values_overlay(),
        "manifests-overlay": _manifests_overlay(),
        "roles": _roles(),
        "ignore": _ignore(),
        "pin": _pin(),
    }
    return {name: {"$schema": DRAFT, "title": f"syntho-deploy: {name}", **schema} for name, schema in found.items()}


def texts() -> dict[str, str]:
    """The content of every file in `schemas/`."""
    return {f"{name}.schema.json": json.dumps(schema, indent=2) + "\n" for name, schema in schemas().items()}


if __name__ == "__main__":
    for file, content in texts().items():
        documents.write(Path(__file__).resolve().parent.parent / "schemas" / file, content)
