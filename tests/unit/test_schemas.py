"""schemas/: what an editor accepts is what the loader accepts, and every file of a user's names its schema."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator, meta

from syntho_deploy import documents, schemas
from syntho_deploy.cluster.ignore import rules
from syntho_deploy.documents import Json
from syntho_deploy.environment import load_environment, load_roles
from syntho_deploy.errors import InputError, Mark
from syntho_deploy.overlays import patch, pointer
from syntho_deploy.overlays.origins import Layers, Operation
from syntho_deploy.overlays.patch import apply, load_manifest_patches, load_values_patch
from syntho_deploy.vendor import load_pin
from tests.conftest import write_files

ROOT = Path(__file__).resolve().parents[2]
# A link is the file that it leads to, whose first line is right where that file is.
FILES = sorted({path.resolve().relative_to(ROOT) for name in ("envs", "overlays", "vendor") for path in (ROOT / name).rglob("*.yaml")})
OURS = [path for path in FILES if schemas.name_for(path) and "charts" not in path.parts]
VALIDATORS = {name: Draft202012Validator(schema) for name, schema in schemas.schemas().items()}
NUMBER = itertools.count()


def schema_takes(name: str, document: Json) -> bool:
    return bool(VALIDATORS[name].is_valid(document))


# --- the loaders, each with a document as its file --------------------------------------------------------------------------


def environment(folder: Path, text: str) -> None:
    load_environment(write_files(folder, {"envs/x.yaml": text}), "x")


def roles(folder: Path, text: str) -> None:
    root = write_files(folder, {"overlays/roles.yaml": text, "envs/x.yaml": "cluster: {local: x, namespace: ns}\n"})
    load_roles(root, ("overlays",), load_environment(root, "x"))


def ignored(folder: Path, text: str) -> None:
    rules(write_files(folder / f"{next(NUMBER)}", {"overlays/ignore.yaml": text}))


def pin(folder: Path, text: str) -> None:
    load_pin(write_files(folder, {"pin.yaml": text}), Path("pin.yaml"))


def values_overlay(folder: Path, text: str) -> None:
    name = f"{next(NUMBER)}.yaml"  # what was read is kept by name, time and size
    pointers(load_values_patch(write_files(folder, {name: text}) / name))


def manifests_overlay(folder: Path, text: str) -> None:
    name = f"{next(NUMBER)}.yaml"
    for item in load_manifest_patches(write_files(folder, {name: text}) / name):
        pointers(item.operations)


def pointers(operations: tuple[Operation, ...]) -> None:
    """A pointer is read where it is applied; that it is one needs no document."""
    for operation in operations:
        for text in (operation.path, operation.source):
            try:
                pointer.parse(text)
            except pointer.PointerError as error:
                raise InputError(str(error)) from None


LOADERS: dict[str, Callable[[Path, str], None]] = {
    "environment": environment, "roles": roles, "ignore": ignored, "pin": pin,
    "values-overlay": values_overlay, "manifests-overlay": manifests_overlay,
}  # fmt: skip


def loader_takes(name: str, folder: Path, document: Json) -> bool:
    try:
        LOADERS[name](folder, documents.canonical(document))
    except InputError:
        return False
    return True


# --- documents to begin with: every key of every schema ---------------------------------------------------------------------

VALID: dict[str, list[Json]] = {
    "environment": [
        {"cluster": {"context": "aks", "namespace": "syntho"}},
        {
            "cluster": {"context": "aks", "kubeconfig": "~/k", "uid": "6f2c", "namespace": "syntho", "kubernetes": "1.31.2"},
            "charts": "vendor/other.yaml",
            "manage": {"crds": False, "namespace": True},
            "protected": True,
            "components": ["ray/two-pools", "keys"],
            "vars": {"host": "", "port": 5432, "on": True, "half": 0.5, "list": [None], "map": {"a": None}},
            "secrets": {
                "a": {"generate": "password", "length": 16, "alphabet": "0123456789-_", "generation": 2},
                "b": {"env": "B"},
                "c": {"file": "/c"},
                "d": {"command": ["vault", "read"], "timeout": 90},
                "e": {"kubernetes": {"secret": "s", "key": "k"}},
                "f": {"server": "r.example.com", "name": "pull", "env": {"username": "U", "password": "P"}},
                "g": {"server": "r.example.com", "username": "me", "file": "g"},
                "h": {"tls": {"certificate": "c.pem", "key": "c.key", "self_signed": True}, "name": "frontend-tls"},
            },
            "releases": {"ui": "my-ui"},
            "before_upgrade": [["kubectl", "exec", "deploy/postgres", "--", "pg_dumpall"], ["true"]],
            "grace": {"image": "5m", "crash": "1h", "unschedulable": None},
        },
        {"cluster": {"local": "syntho", "namespace": "syntho"}, "protected": True, "vars": None, "secrets": None, "manage": None},
    ],
    "roles": [
        {"secret": "s"},
        {
            "secret": "${release.ui}-secrets",
            "releases": {"ray": {"chart": "ray", "name": "ray-cluster"}},
            "values": {"cluster_name": {"chart": "ray", "path": "/clustername"}},
            "derived": {"ray.head": "${role:cluster_name}-head", "nothing": None},
            "checks": {"core.secret_key": "fernet"},
            "databases": ["Deployment/postgres", "StatefulSet/a"],
            "rotation": {"a": {"note": "n", "loses": "l"}, "b": {"database": "Deployment/postgres"}, "c": None},
        },
    ],
    "ignore": [
        None,
        [
            {"kind": "RayCluster", "when": {"/spec/on": True, "/a~1b": "x", "/n": 0.5}, "paths": ["/spec/a/*/b", "/c"], "why": "because"},
            {"kind": "Deployment", "name": "core", "scaled": True, "paths": ["/spec/replicas"]},
            {"kind": "Deployment", "name": None, "scaled": None, "when": None, "paths": ["/"], "why": None},
        ],
    ],
    "pin": [
        {"source": "sandbox/charts", "charts": {"ray": "ray"}},
        {
            "source": "https://example.com/a.git", "ref": "v1.0", "charts": {"ray": "helm/ray", "ui": "./ui"},
            "successor": "https://example.com/b.git", "overlays": ["overlays/pins/1", "overlays"],
        },
        {"source": "git@example.com:a.git", "ref": None, "charts": {"ray": "."}, "overlays": None},
    ],
    "values-overlay": [
        None,
        [
            {"op": "add", "path": "/a/-", "value": None, "why": "because", "overrides": True},
            {"op": "replace", "path": "/a/[name=b]/c~1d", "value": {"a": [1, "x", 0.5]}},
            {"op": "test", "path": "", "value": 3},
            {"op": "remove", "path": "/a", "why": None},
            {"op": "move", "from": "/a", "path": "/b"},
            {"op": "copy", "from": "/a", "path": "/b"},
        ],
    ],
    "manifests-overlay": [
        [],
        [
            {"target": {"kind": "Service"}, "delete": True, "why": "x"},
            {"target": {"kind": "Deployment", "name": "core"}, "patch": [{"op": "remove", "path": "/spec"}], "delete": False},
            {"target": {"kind": "Deployment", "name": None}, "patch": []},
        ],
    ],
}  # fmt: skip


def _of(name: str, *keys: Any) -> Json:
    """The richest valid document with the value at `keys[:-1]` replaced by the last."""
    document = copy.deepcopy(VALID[name][1])
    here = document
    for key in keys[:-2]:
        here = here[key]
    here[keys[-2]] = keys[-1]
    return document


WRONG: dict[str, tuple[str, Json]] = {
    "unknown key": ("environment", _of("environment", "protcted", True)),
    "unknown key of the cluster": ("environment", _of("environment", "cluster", "contxt", "a")),
    "no cluster": ("environment", {"vars": {}}),
    "two clusters": ("environment", _of("environment", "cluster", "local", "a")),
    "neither": ("environment", {"cluster": {"namespace": "a"}}),
    "uid of a local cluster": ("environment", {"cluster": {"local": "a", "namespace": "a", "uid": "6f2c"}}),
    "a namespace that is a number to a template": ("environment", _of("environment", "cluster", "namespace", "1e3")),
    "a namespace that is true or false to a template": ("environment", _of("environment", "cluster", "namespace", "n")),
    "name of a namespace": ("environment", _of("environment", "cluster", "namespace", "Syntho")),
    "a line end behind a name": ("environment", _of("environment", "cluster", "namespace", "syntho\n")),
    "a version as a number": ("environment", _of("environment", "cluster", "kubernetes", 1.31)),
    "a version": ("environment", _of("environment", "cluster", "kubernetes", "v1.31")),
    "protected without uid": ("environment", {"protected": True, "cluster": {"context": "a", "namespace": "a"}}),
    "component twice": ("environment", _of("environment", "components", ["a", "a"])),
    "a number as component": ("environment", _of("environment", "components", [1])),
    "a variable without a value": ("environment", _of("environment", "vars", "a", None)),
    "no source": ("environment", _of("environment", "secrets", "a", {})),
    "two sources": ("environment", _of("environment", "secrets", "a", {"env": "A", "file": "b"})),
    "generator": ("environment", _of("environment", "secrets", "a", {"generate": "ferent"})),
    "name of a secret": ("environment", _of("environment", "secrets", "a b", {"env": "A"})),
    "a registry without a user": ("environment", _of("environment", "secrets", "a", {"server": "r", "env": "A"})),
    "a registry with two": ("environment", _of("environment", "secrets", "f", "username", "me")),
    "a user without a registry": ("environment", _of("environment", "secrets", "a", {"username": "u", "env": "A"})),
    "a registry by reference": ("environment", _of("environment", "secrets", "e", "server", "r")),
    "length of something else": ("environment", _of("environment", "secrets", "a", "generate", "token")),
    "length without a value, of something else": ("environment", _of("environment", "secrets", "b", "length", None)),
    "length": ("environment", _of("environment", "secrets", "a", "length", 7)),
    "generation": ("environment", _of("environment", "secrets", "a", "generation", 0)),
    "generation of a reference": ("environment", _of("environment", "secrets", "e", "generation", 2)),
    "generation of a registry": ("environment", _of("environment", "secrets", "f", "generation", 2)),
    "generation of a certificate": ("environment", _of("environment", "secrets", "h", "generation", 2)),
    "half a certificate": ("environment", _of("environment", "secrets", "h", "tls", {"certificate": "c"})),
    "a certificate of a registry": ("environment", _of("environment", "secrets", "f", {"tls": {"certificate": "c", "key": "k"}, "server": "r"})),
    "a name of a value": ("environment", _of("environment", "secrets", "c", "name", "pull")),
    "an alphabet of a token": ("environment", _of("environment", "secrets", "a", {"generate": "token", "alphabet": "0123456789abc"})),
    "a short alphabet": ("environment", _of("environment", "secrets", "a", "alphabet", "012345678")),
    "an alphabet with a blank": ("environment", _of("environment", "secrets", "a", "alphabet", "0123456789 a")),
    "a time-out of a file": ("environment", _of("environment", "secrets", "c", "timeout", 5)),
    "a time-out": ("environment", _of("environment", "secrets", "d", "timeout", 601)),
    "a workload": ("roles", _of("roles", "rotation", "b", "database", "postgres")),
    "unknown key of a rotation": ("roles", _of("roles", "rotation", "a", "lose", "x")),
    "true as a number": ("environment", _of("environment", "secrets", "a", "generation", True)),
    "half a reference": ("environment", _of("environment", "secrets", "e", "kubernetes", {"key": "k"})),
    "name of a release": ("environment", _of("environment", "releases", "ui", "My_UI")),
    "a command as a text": ("environment", _of("environment", "before_upgrade", ["pg_dumpall"])),
    "one command instead of a list": ("environment", _of("environment", "before_upgrade", ["pg_dumpall", "-U", "postgres"])),
    "an empty command": ("environment", _of("environment", "before_upgrade", [[]])),
    "a number in a command": ("environment", _of("environment", "before_upgrade", [["sleep", 1]])),
    "an unknown grace": ("environment", _of("environment", "grace", "imgae", "5m")),
    "a grace without a unit": ("environment", _of("environment", "grace", "image", "90")),
    "a grace as a number": ("environment", _of("environment", "grace", "image", 90)),
    "no grace at all": ("environment", _of("environment", "grace", "image", "0s")),
    "a database that is no workload": ("roles", _of("roles", "databases", ["postgres"])),
    "an environment that is a list": ("environment", []),
    "an empty environment": ("environment", None),
    "roles without a Secret": ("roles", {"releases": {}}),
    "unknown key of the roles": ("roles", _of("roles", "role", {})),
    "a release without a chart": ("roles", _of("roles", "releases", "ray", {"name": "a"})),
    "a check": ("roles", _of("roles", "checks", "core.secret_key", "fernt")),
    "a derived number": ("roles", _of("roles", "derived", "a", 1)),
    "a pin without charts": ("pin", {"source": "a"}),
    "a pin with no chart": ("pin", _of("pin", "charts", {})),
    "git without a ref": ("pin", {"source": "https://example.com/a.git", "charts": {"a": "a"}}),
    "ssh without a ref": ("pin", {"source": "git@example.com:a.git", "charts": {"a": "a"}}),
    "an option as source": ("pin", _of("pin", "source", "--upload-pack=x")),
    "ref": ("pin", _of("pin", "ref", "a..b")),
    "chart's name": ("pin", _of("pin", "charts", "Ray", "a")),
    "a chart outside": ("pin", _of("pin", "charts", "ray", "a/../../b")),
    "an absolute chart": ("pin", _of("pin", "charts", "ray", "/a")),
    "overlays outside": ("pin", _of("pin", "overlays", [".."])),
    "operation": ("values-overlay", [{"op": "replce", "path": "/a", "value": 1}]),
    "operation without a value": ("values-overlay", [{"op": "add", "path": "/a"}]),
    "a value too much": ("values-overlay", [{"op": "remove", "path": "/a", "value": 1}]),
    "no from": ("values-overlay", [{"op": "move", "path": "/a"}]),
    "from too much": ("values-overlay", [{"op": "add", "path": "/a", "value": 1, "from": "/b"}]),
    "no path": ("values-overlay", [{"op": "remove"}]),
    "a path without a slash": ("values-overlay", [{"op": "remove", "path": "a.b"}]),
    "a path with a bad escape": ("values-overlay", [{"op": "remove", "path": "/a~2"}]),
    "an unknown member": ("values-overlay", [{"op": "remove", "path": "/a", "reason": "x"}]),
    "a mapping of operations": ("values-overlay", {"op": "remove", "path": "/a"}),
    "an operation that is a text": ("values-overlay", ["remove"]),
    "ignored fields as a mapping": ("ignore", {"kind": "A", "paths": ["/a"]}),
    "a rule that is a text": ("ignore", ["/a"]),
    "a rule without a kind": ("ignore", [{"paths": ["/a"]}]),
    "a rule without paths": ("ignore", [{"kind": "A"}]),
    "no path in a rule": ("ignore", [{"kind": "A", "paths": []}]),
    "a path of a rule without a slash": ("ignore", [{"kind": "A", "paths": ["a"]}]),
    "the whole object": ("ignore", [{"kind": "A", "paths": [""]}]),
    "a condition on nothing": ("ignore", [{"kind": "A", "paths": ["/a"], "when": {"/b": None}}]),
    "a condition without a slash": ("ignore", [{"kind": "A", "paths": ["/a"], "when": {"b": 1}}]),
    "an unknown key of a rule": ("ignore", [{"kind": "A", "paths": ["/a"], "path": "/b"}]),
    "manifests that are nothing": ("manifests-overlay", None),
    "a target without a kind": ("manifests-overlay", [{"target": {"name": "a"}, "delete": True}]),
    "no target": ("manifests-overlay", [{"delete": True}]),
    "neither patch nor delete": ("manifests-overlay", [{"target": {"kind": "A"}}]),
    "patch and delete": ("manifests-overlay", [{"target": {"kind": "A"}, "delete": True, "patch": []}]),
    "an operation of a patch": ("manifests-overlay", [{"target": {"kind": "A"}, "patch": [{"op": "add", "path": "/a"}]}]),
}


@pytest.mark.parametrize("name", VALID)
def test_a_schema_is_one_and_the_file_is_as_the_code_writes_it(name: str) -> None:
    meta.validate(schemas.schemas()[name])
    written = (ROOT / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8")
    assert written == schemas.texts()[f"{name}.schema.json"], "run: python -m syntho_deploy.schemas"
    assert sorted(path.name for path in (ROOT / "schemas").iterdir()) == sorted(schemas.texts())


@pytest.mark.parametrize(("name", "document"), [(name, document) for name, found in VALID.items() for document in found])
def test_what_is_right_is_right_for_both(tmp_path: Path, name: str, document: Json) -> None:
    LOADERS[name](tmp_path, documents.canonical(document))
    VALIDATORS[name].validate(document)


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_wrong_for_both(tmp_path: Path, case: str) -> None:
    name, document = WRONG[case]
    assert not loader_takes(name, tmp_path, document)
    assert not schema_takes(name, document)


# What the two see differently, each with the verdict of the loader and of the schema. What depends on another file (components,
# derived variables, releases by key, charts of the pin) is nothing that a loader of one file or a schema could say.
EXCEPTIONS: dict[str, tuple[str, Json, bool, bool]] = {
    "an empty text is as good as no key to the loader": ("environment", _of("environment", "charts", ""), True, False),
    "and so is an empty command": ("environment", _of("environment", "secrets", "b", "command", []), True, False),
    "and an empty reference": ("environment", _of("environment", "secrets", "b", "kubernetes", {}), True, False),
    "and an empty certificate": ("environment", _of("environment", "secrets", "b", "tls", {}), True, False),
    "a schema does not count different characters": ("environment", _of("environment", "secrets", "a", "alphabet", "aaaaaaaaaaaa"), False, True),
    "JSON Schema knows no difference between 16 and 16.0": ("environment", _of("environment", "secrets", "a", "length", 16.0), False, True),
    "a schema cannot look up a release's chart": ("roles", _of("roles", "values", "cluster_name", "chart", "rai"), False, True),
}
UNREAD = {  # faults of the text, which a schema never sees: it gets what a parser made of it
    "a key twice": "cluster: {context: a, namespace: b}\nvars: {}\nvars: {}\n",
    "a word that programs read differently": "cluster: {context: a, namespace: b}\nvars: {a: yes}\n",
    "a tag": "cluster: !x {context: a, namespace: b}\n",
}


@pytest.mark.parametrize("case", EXCEPTIONS)
def test_where_they_differ_is_known(tmp_path: Path, case: str) -> None:
    name, document, by_loader, by_schema = EXCEPTIONS[case]
    assert (loader_takes(name, tmp_path, document), schema_takes(name, document)) == (by_loader, by_schema)


@pytest.mark.parametrize("case", UNREAD)
def test_a_text_that_is_refused_never_reaches_a_schema(tmp_path: Path, case: str) -> None:
    with pytest.raises(InputError):
        environment(tmp_path, UNREAD[case])


def excepted(name: str, document: Json) -> bool:
    """Whether one of the known differences is in a document."""
    free = {"environment": ("vars",), "values-overlay": ("path", "from", "value"), "manifests-overlay": ("path", "from", "value")}
    if any(value == "" and not set(keys) & set(free.get(name, ())) for keys, value in documents.walk(document)):
        return True
    if name == "environment":
        empty = {"command": [], "kubernetes": {}, "tls": {}}
        return any(
            keys[:1] == ("secrets",) and keys[-1] in empty and value == empty[str(keys[-1])] for keys, value in documents.walk(document) if keys
        )
    if name == "roles" and isinstance(document, dict):
        charts = {value for keys, value in documents.walk(document) if keys[:1] == ("releases",) and keys[-1] == "chart" and isinstance(value, str)}
        named = [value for keys, value in documents.walk(document) if keys[:1] == ("values",) and keys[-1] == "chart"]
        return any(isinstance(value, str) and value not in charts for value in named)
    return False


# --- documents with a mutation or several -----------------------------------------------------------------------------------

WORDS = ["x", "A b", "-x", "../x", "a/..", "/abs", "a\\b", "1.31", "fernet", "password", "https://e.com/a", "x\n", "ray", "~2", "a..b", "/a~1b"]
OBJECTS: list[Json] = [{}, {"a": "b"}, {"a": None}, {"username": "U", "password": "P"}, {"secret": "s", "key": "k"}, {"kind": "A"}]
LISTS: list[Json] = [[], ["a"], ["a", "a"], [None], [{"op": "test", "path": "/a", "value": 1}]]
POOL: list[Json] = [None, True, False, 0, 1, 2, 9, 300, -1, 0.5, *WORDS, *OBJECTS, *LISTS, *patch.NEEDS, {"op": "remove", "path": "/a"}]


def keys_of(schema: Json) -> set[str]:
    return {
        key for _, part in documents.walk(schema) if isinstance(part, dict) and isinstance(part.get("properties"), dict) for key in part["properties"]
    }


@st.composite
def mutated(draw: st.DrawFn, name: str) -> Json:
    """A valid document, changed at up to three places: a key gone, a key more, a key renamed, a value of another kind."""
    document = copy.deepcopy(draw(st.sampled_from(VALID[name])))
    names = [*sorted(keys_of(schemas.schemas()[name])), "unknown", "A b"]
    for _ in range(draw(st.integers(0, 3))):
        places = [(keys, value) for keys, value in documents.walk(document) if value or not keys]
        keys, here = draw(st.sampled_from(places))
        if isinstance(here, dict) and draw(st.booleans()):
            change = draw(st.sampled_from(["remove", "rename", "add", "replace"] if here else ["add"]))
            old = draw(st.sampled_from(sorted(here))) if here else ""
            value = copy.deepcopy(draw(st.sampled_from(POOL))) if change in ("add", "replace") else here.pop(old)
            if change != "remove":
                here[old if change == "replace" else draw(st.sampled_from(names))] = value
        elif isinstance(here, list) and here and draw(st.booleans()):
            here[draw(st.integers(0, len(here) - 1))] = copy.deepcopy(draw(st.sampled_from(POOL)))
        elif keys:
            parent = document
            for key in keys[:-1]:
                parent = parent[key]
            parent[keys[-1]] = copy.deepcopy(draw(st.sampled_from(POOL)))
        else:
            document = copy.deepcopy(draw(st.sampled_from(POOL)))
    return document


@pytest.mark.parametrize("name", VALID)
def test_the_loader_takes_what_the_schema_takes(tmp_path: Path, name: str) -> None:
    @settings(max_examples=300)
    @given(mutated(name))
    def agree(document: Json) -> None:
        assume(not excepted(name, document))
        assert loader_takes(name, tmp_path, document) == schema_takes(name, document)

    agree()


@given(st.one_of(st.integers(-(10**7), 10**7), st.decimals(-2, 2, places=6).map(float), st.sampled_from([1e6, 999_999, 0.0001, 0.0])), st.booleans())
def test_a_number_that_helm_would_print_with_an_exponent_is_refused_by_both(number: float, nested: bool) -> None:
    assume(not isinstance(number, float) or not number.is_integer() or abs(number) >= 1e6 or not number)  # 1.0 is 1 to a schema
    value = {"a": [number]} if nested else number
    errors: list[InputError] = []
    apply({}, [Operation("add", "/a", Mark("f"), value)], lambda name, where: None, "layer", Layers(), errors, values=True)
    assert schema_takes("values-overlay", [{"op": "add", "path": "/a", "value": value}]) == (not errors)
    assert schema_takes("values-overlay", [{"op": "test", "path": "/a", "value": value}])


# --- the files --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", OURS, ids=str)
def test_every_file_fits_the_schema_that_its_first_line_names(path: Path) -> None:
    name = schemas.name_for(path)
    assert name
    VALIDATORS[name].validate(documents.load(ROOT / path).data)
    first = (ROOT / path).read_text(encoding="utf-8").splitlines()[0]
    assert first == schemas.modeline(path)
    assert (ROOT / path).parent.joinpath(first.removeprefix(schemas.MODELINE)).resolve() == ROOT / "schemas" / f"{name}.schema.json"


def test_files_of_each_kind_are_there() -> None:
    assert {schemas.name_for(path) for path in OURS} == set(VALID)


@pytest.mark.parametrize(
    "path", ["vendor/charts.lock.yaml", "overlays/components/a/ui.objects/ui.values.yaml", "overlays/README.md", "envs/a/b.yaml", "tasks.py"]
)
def test_other_files_have_no_schema(path: str) -> None:
    assert schemas.name_for(Path(path)) is None
    assert schemas.modeline(Path(path)) is None
