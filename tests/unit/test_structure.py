"""What the code is made of: imports in one direction, heavy packages only where used, no name of a chart's values."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from syntho_deploy import documents

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "syntho_deploy"
LAZY = ("kubernetes", "requests", "rich", "cryptography")  # 0.1 to 0.6 s each, which `invoke --list` must not pay

# From what stands on nothing to what a user calls. Modules of one line do not import each other; what is not named here is above all.
ORDER = """
errors
redact
documents process github
section graces transaction
tools console
environment
overlays overlays.pointer overlays.origins
overlays.variables overlays.layers
overlays.patch overlays.unread
overlays.references
vendor.tree vendor.pin
vendor.source
vendor
secrets secrets.sentinels
overlays.manifests
helm shapes
compile
cluster cluster.*
secrets.sources secrets.certificates
secrets.store
secrets.manage
overlays.liveness
diff steps verify affected
status plan
planfile
release
"""


def module(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")


FILES = {module(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}


def place(name: str) -> int:
    """A module's line in ORDER."""
    lines = [line.split() for line in ORDER.splitlines()]
    return next((number for number, line in enumerate(lines) if name in line or f"{name.split('.')[0]}.*" in line), len(lines))


def imports(tree: ast.AST, top_only: bool = False) -> Iterator[str]:
    """The modules that a file imports, those inside functions too; not what only a type checker sees."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif not (top_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            yield from imports(node, top_only)


def own(imported: str) -> str | None:
    """The module of ours that an imported name is, or is in."""
    parts = imported.split(".")
    if parts[0] != "syntho_deploy":
        return None
    name = ".".join(parts[1:])
    return name if name in FILES else ".".join(parts[1:-1])


@pytest.mark.parametrize("name", [name for name in FILES if name])
def test_imports_go_down_only(name: str) -> None:
    below = {found for imported in imports(TREES[name]) if (found := own(imported))}
    mine, family = place(name), name.split(".")[0]
    named = mine < place("not named")
    upward = {other for other in below if place(other) > mine or (named and place(other) == mine and other.split(".")[0] != family)}
    assert upward == set()


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {name: {found for imported in imports(tree) if (found := own(imported)) and found != name} for name, tree in TREES.items()}

    def below(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path, name])
        for other in graph.get(name, ()):
            below(other, (*path, name))

    for name in graph:
        below(name, ())


@pytest.mark.parametrize("name", FILES)
def test_heavy_packages_are_imported_where_they_are_used(name: str) -> None:
    assert [imported for imported in imports(TREES[name], top_only=True) if imported.split(".")[0] in LAZY] == []


def test_the_tasks_import_the_library_inside_their_functions() -> None:
    tree = ast.parse((ROOT / "tasks.py").read_text(encoding="utf-8"))
    assert {own(imported) for imported in imports(tree, top_only=True)} <= {None, "console"}


def specific_names() -> set[str]:
    """The first two levels of the charts' value names, those that can only be of these charts: not words of Kubernetes, KubeRay or English."""
    found: set[str] = set()
    for file in sorted((ROOT / "sandbox/charts").glob("*/values.yaml")):
        for key, value in documents.load_chart(file).items():
            found |= {key, *(value if isinstance(value, dict) else ())}
    return {name for name in found if re.search(r"_|[a-z][A-Z]|^[A-Z]", name)} | {"clustername"}


OF_KUBERNETES = """imagePullSecrets serviceAccount nodeSelector securityContext podSecurityContext livenessProbe readinessProbe volumeMounts
storageClassName envFrom initContainer accessMode replicaCount nameOverride fullnameOverride podAnnotations
groupName secret_key rayStartParams"""


def test_the_code_knows_no_value_of_the_charts() -> None:
    names = specific_names() - set(OF_KUBERNETES.split())
    assert {
        "SynthoLicense",
        "frontend_url",
        "clustername",
        "database_enabled",
        "ray_address",
        "additionalWorkerGroups",
        "operatorImage",
        "celery_args",
    } <= names
    for name, path in FILES.items():
        text = path.read_text(encoding="utf-8")
        assert [word for word in sorted(names) if re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text)] == [], name
