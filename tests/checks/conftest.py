"""Environments that break one rule, made from two that break none: all outside, as in production, and all in the charts."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from syntho_deploy import lint
from syntho_deploy.compile import Project
from syntho_deploy.documents import Json
from syntho_deploy.helm import Helm
from syntho_deploy.lint import Judged
from syntho_deploy.vendor import Vendored, load_pin, vendor
from tests.conftest import copy_project, only_used, write_files

Operations = list[dict[str, Any]]
COMMON = ["images", "images/digests", "pull-secret", "license", "keys", "admin", "ray/address", "ray/two-pools", "storage-class"]
BASES: dict[str, list[str]] = {
    "nothing": [],
    "outside": [*COMMON, "volume-sizes/ray", "postgres/external", "postgres/tls", "redis/external", "ingress/tls-secret"],
    "inside": [*COMMON, "volume-sizes", "resources/postgres", "resources/redis", "postgres/in-chart", "redis/in-chart", "ingress/tls-secret"],
}
AMOUNT = {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}}
VARS: dict[str, Json] = {
    "host": "syntho.example.com", "ingress_class": "nginx", "tls_secret": "site-tls", "pull_secret": "pull", "registry": "mirror.example.com/syntho",
    "tag": "1.9.7", "operator_tag": "1.9.7", "postgres_tag": "14.1", "redis_tag": "7.2.1", "busybox_tag": "1.28",
    **{f"{name}_digest": f"sha256:{letter * 64}" for name, letter in zip(("core", "backend", "frontend", "ray"), "abcd", strict=True)},
    "storage_class": "disk", "storage_class_rwx": "files", "ray_volume_size": "20Gi", "core_volume_size": "10Gi", "backend_volume_size": "10Gi",
    "core_database_resources": AMOUNT, "backend_database_resources": AMOUNT, "redis_resources": AMOUNT,
    "postgres_host": "pg.example.com", "postgres_port": 5432, "core_db": "c", "core_db_user": "cu", "backend_db": "b", "backend_db_user": "bu",
    "postgres_sslmode": "require",
    "redis_host": "redis.example.com", "redis_port": 6379, "admin_user": "root", "admin_email": "a@example.com",
}  # fmt: skip
SECRETS: dict[str, Json] = {
    "registry": {"server": "mirror.example.com", "username": "u", "env": "REGISTRY_PASSWORD"},
    "license": {"env": "LICENSE"},
    "core.secret_key": {"generate": "fernet"},
    **{name: {"generate": "password"} for name in ("core.db.password", "backend.secret_key", "backend.db.password", "backend.user.password")},
}
PRESENT: dict[str, Json] = {
    "secrets": ["site-tls"],
    "storage_classes": {"disk": ["ReadWriteOnce"], "files": ["ReadWriteMany"]},
    "ingress_classes": ["nginx"],
    "largest_node": {"cpu": "32", "memory": "128Gi"},
}


@dataclass
class Site:
    """A project whose environment `it` is a base with changes."""

    root: Path
    helm: Helm
    pin: str = "vendor/sandbox.yaml"
    checked: dict[Path, Vendored] = field(default_factory=dict)
    known: dict[str, set[Any]] = field(default_factory=dict)

    def lint(
        self,
        base: str = "outside",
        add: list[str] | None = None,
        drop: list[str] | None = None,
        ui: Operations | None = None,
        ray: Operations | None = None,
        patch: dict[str, Operations] | None = None,
        objects: list[dict[str, Any]] | None = None,
        vars: dict[str, Json] | None = None,
        secrets: dict[str, Json] | None = None,
        present: dict[str, Json] | None = None,
        cluster: dict[str, Json] | None = None,
        environment: dict[str, Json] | None = None,
    ) -> list[Judged]:
        """What lint finds. add, drop: components; ui, ray: operations on values; patch: operations by `Kind/name` (of either chart, by
        whether Ray has it), or [] to delete it; objects: whole ones; the rest goes into the environment's file."""
        patches: dict[str, Operations] = {"ray": [], "syntho-ui": []}
        for of, operations in (patch or {}).items():
            kind, name = of.split("/")
            chart = "ray" if "ray" in name else "syntho-ui"
            overriding = [one if one["op"] == "test" else {**one, "overrides": True} for one in operations]
            patches[chart].append({"target": {"kind": kind, "name": name}, **({"patch": overriding} if operations else {"delete": True})})
        files = {f"{chart}.manifests.yaml": json.dumps(found) for chart, found in patches.items() if found}
        for chart, found in (("syntho-ui", ui), ("ray", ray)):
            if found:
                overriding = [one if one["op"] == "test" else {**one, "overrides": True} for one in found]
                files[f"{chart}.values.yaml"] = json.dumps(overriding)
        files |= {f"syntho-ui.objects/{number}.yaml": json.dumps(item) for number, item in enumerate(objects or [])}
        self.write("it", base, add, drop, vars, secrets, present, cluster, environment, files)
        return self.run("it")

    def write(
        self,
        name: str,
        base: str = "outside",
        add: list[str] | None = None,
        drop: list[str] | None = None,
        vars: dict[str, Json] | None = None,
        secrets: dict[str, Json] | None = None,
        present: dict[str, Json] | None = None,
        cluster: dict[str, Json] | None = None,
        environment: dict[str, Json] | None = None,
        files: dict[str, str] | None = None,
    ) -> None:
        """Write an environment's file, and the files of its own overlay; what an earlier test had there goes. None in `secrets` leaves
        one out."""
        own = self.root / "overlays" / name
        shutil.rmtree(own, ignore_errors=True)
        if files:
            write_files(own, files)
        where = {"context": "c", "uid": "0", "namespace": "apps", "kubernetes": "1.31", "present": PRESENT | (present or {}), **(cluster or {})}
        content = {
            "cluster": where,
            "charts": self.pin,
            "protected": True,
            "components": [component for component in BASES[base] if component not in (drop or [])] + (add or []),
            "vars": VARS | (vars or {}),
            "secrets": {key: source for key, source in (SECRETS | (secrets or {})).items() if source is not None},
            **(environment or {}),
        }
        write_files(self.root, {f"envs/{name}.yaml": json.dumps(only_used(self.root, name, content))})

    def run(self, name: str) -> list[Judged]:
        """What lint finds in an environment as it is."""
        return list(lint.lint([Project.load(self.root, name, self.checked)], [], self.helm)[0].findings)

    def rules(self, base: str = "outside", **change: Any) -> set[str]:
        """The rules that find something in an environment that compiles: without that, nothing would be found of all the others."""
        found = {one.rule for one in self.lint(base, **change) if not one.allowed}
        assert "does-not-compile" not in found, self.lint(base, **change)
        return found

    def only(self, rule: str, base: str = "outside", beside: str = "", **change: Any) -> list[Judged]:
        """The findings of a rule, which the base does not have; the change has no finding of another rule that the base lacks, but for one
        that follows from it (beside)."""
        if base not in self.known:
            self.known[base] = {one.rule for one in self.lint(base)}
        found = self.lint(base, **change)
        assert rule not in self.known[base]
        assert {one.rule for one in found} - self.known[base] - {beside} == {rule}, [one for one in found if one.rule not in self.known[base]]
        return [one for one in found if one.rule == rule]


@pytest.fixture(scope="session")
def site(root: Path, helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A project with the sandbox charts and no environment but the one under test."""
    folder = copy_project(root, tmp_path_factory.mktemp("checks") / "project")
    for file in (folder / "envs").glob("*.yaml"):
        file.unlink()
    vendor(folder, load_pin(folder, folder / "vendor/sandbox.yaml"))
    return Site(folder, helm)
