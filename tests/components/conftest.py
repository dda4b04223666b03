"""Environments made of components, with the sandbox charts and with the real ones at each pin of syntho-charts."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from syntho_deploy import lint
from syntho_deploy.compile import Compiled, Project
from syntho_deploy.documents import Json
from syntho_deploy.errors import PreflightError
from syntho_deploy.helm import Helm
from syntho_deploy.lint import Judged
from syntho_deploy.overlays.layers import is_component
from syntho_deploy.overlays.pointer import PointerError, compile_pointer
from syntho_deploy.secrets.sentinels import label
from syntho_deploy.vendor import Vendored, load_pin, vendor
from tests.conftest import copy_project, write_files

PINS = {"sandbox": "vendor/sandbox.yaml", "98ec265": "vendor/charts.yaml", "1.9.7": "vendor/charts-1.9.7.yaml"}
EACH_PIN = [pytest.param(pin, marks=() if pin == "sandbox" else pytest.mark.upstream) for pin in PINS]
NAMESPACE = "site"  # not syntho, which the charts have in some of their defaults
Operations = list[dict[str, Json]]
Objects = dict[str, dict[str, Any]]


def scheduling(part: str) -> dict[str, Json]:
    """The variables of one `scheduling/` component."""
    return {
        f"{part}_node_selector": {"pool": part},
        f"{part}_tolerations": [{"key": part, "operator": "Equal", "value": "y", "effect": "NoSchedule"}],
        f"{part}_affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        f"{part}_security_context": {"runAsUser": 1000},
        f"{part}_annotations": {"part": part},
    }


def resources(cpu: str, memory: str) -> Json:
    """Equal limits and requests."""
    return {"limits": {"cpu": cpu, "memory": memory}, "requests": {"cpu": cpu, "memory": memory}}


DIGESTS = {name: f"sha256:{letter * 64}" for name, letter in zip(("core", "backend", "frontend", "ray"), "abcd", strict=True)}
VARIABLES: dict[str, Json] = {
    "host": "syntho.example.com", "ingress_class": "traefik", "tls_secret": "my-tls", "cluster_issuer": "letsencrypt",
    "second_host": "data.example.com", "second_tls_secret": "second-tls", "ca_source": {"configMap": {"name": "site-ca"}},
    "pull_secret": "pull-me", "admin_user": "root", "admin_email": "a@example.com",
    "registry": "mirror.example.com/syntho", "tag": "1.10", "operator_tag": "0.6.0", "postgres_tag": "14", "redis_tag": "7.2", "busybox_tag": "1.28",
    **{f"{name}_digest": digest for name, digest in DIGESTS.items()},
    "core_tag": "1.11", "backend_tag": "1.12", "frontend_tag": "1.13", "ray_tag": "1.14-cpu",
    "cluster_name": "other", "head_cpu": "2", "head_memory": "3G",
    "pool": "gpu", "pool_replicas": 2, "pool_max": 4, "pool_cpu": "6", "pool_memory": "7G",
    **scheduling("head"), **scheduling("worker"), **scheduling("small"), **scheduling("pool"), **scheduling("ui"),
    **scheduling("operator"),
    "ui_pod_security_context": {"fsGroup": 2000},
    "storage_class": "fast", "storage_class_rwx": "shared",
    "ray_volume_size": "50Gi", "core_volume_size": "10Gi", "backend_volume_size": "11Gi", "redis_volume_size": "2Gi",
    "extra_volume": {"name": "data", "nfs": {"server": "nfs.example.com", "path": "/data"}},
    "extra_volume_mount": {"name": "data", "mountPath": "/data"},
    "postgres_host": "pg.example.com", "postgres_port": 5433, "postgres_sslmode": "require",
    "core_db": "c", "core_db_user": "cu", "core_db_host": "pg1.example.com", "core_db_port": 5434,
    "backend_db": "b", "backend_db_user": "bu", "backend_db_host": "pg2.example.com", "backend_db_port": 5435,
    "redis_host": "redis.example.com", "redis_port": 6380, "core_redis_db": 7, "backend_redis_db": 8,
    "core_replicas": 2, "backend_replicas": 3, "frontend_replicas": 4,
    **{f"{name}_resources": resources(str(cpu), f"{cpu}Gi") for cpu, name in enumerate(
        ("core", "core_worker", "backend", "backend_worker", "frontend", "operator", "core_database", "backend_database", "redis"), 1)},
    "ingress_namespace": "ingress-nginx", "external_cidr": "10.9.0.0/16", "apiserver_cidr": "10.0.0.1/32",
}  # fmt: skip
PRESENT: dict[str, Json] = {
    "secrets": ["pull-me", "my-tls", "second-tls"], "config_maps": ["site-ca"], "ingress_classes": ["traefik"],
    "storage_classes": {"fast": ["ReadWriteOnce"], "shared": ["ReadWriteMany"]},
}  # fmt: skip


@dataclass
class Pinned:
    """A project whose environment `it` has the charts of one pin."""

    pin: str
    root: Path
    helm: Helm
    checked: dict[Path, Vendored] = field(default_factory=dict)

    def compile(self, names: list[str], ui: Operations | None = None, ray: Operations | None = None, namespace: str = NAMESPACE) -> Compiled:
        """The environment of these components. ui, ray: operations of its own on the charts' values."""
        own = self.root / "overlays" / "it"
        shutil.rmtree(own, ignore_errors=True)
        write_files(own, {f"{chart}.values.yaml": json.dumps(found) for chart, found in (("syntho-ui", ui), ("ray", ray)) if found})
        texts = [str((ui, ray)), *(text for name in names for text in self.texts(name))]
        secrets = sorted({name for text in texts for name in re.findall(r"\$\{secret:([^}]*)\}", text)})
        environment = {
            "cluster": {"context": "c", "namespace": namespace, "present": PRESENT},
            "charts": PINS[self.pin],
            "components": names,
            "vars": {name: value for name, value in VARIABLES.items() if any(f"${{{name}}}" in text for text in texts)},
            "secrets": {name: {"generate": "fernet" if name == "core.secret_key" else "password"} for name in secrets},
        }
        write_files(self.root, {"envs/it.yaml": json.dumps(environment)})
        return self.load("it").compile(self.helm)

    def load(self, name: str) -> Project:
        """An environment with everything that it is made of."""
        return Project.load(self.root, name, self.checked)

    def objects(self, names: list[str], ui: Operations | None = None, ray: Operations | None = None) -> Objects:
        """The objects of `compile` by Kind/name."""
        return {label(item): item for item in self.compile(names, ui, ray).objects}

    def faults(self, names: list[str], ui: Operations | None = None, ray: Operations | None = None) -> list[Judged]:
        """What lint finds in the environment of these components but for notes."""
        self.compile(names, ui, ray)
        (report,) = lint.lint([self.load("it")], [], self.helm)
        return [one for one in report.findings if one.severity != "note"]

    def folder(self, component: str) -> Path:
        """The folder that gives a component at this pin."""
        folders = [self.root / search / "components" / component for search in load_pin(self.root, self.root / PINS[self.pin]).overlays]
        return next(folder for folder in folders if is_component(folder))

    def texts(self, component: str) -> list[str]:
        """What the files of a component say at this pin."""
        folder = self.folder(component)
        return [path.read_text(encoding="utf-8") for path in [*folder.glob("*.yaml"), *folder.glob("*.objects/*.yaml")]]


@pytest.fixture(scope="module", params=EACH_PIN)
def pinned(request: pytest.FixtureRequest, root: Path, helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Pinned:
    """A project with the charts of each pin. Skips where they cannot be had."""
    project = copy_project(root, tmp_path_factory.mktemp("components") / "project")
    try:
        vendor(project, load_pin(project, project / PINS[request.param]))
    except PreflightError as error:
        pytest.skip(f"the real charts are missing: set SYNTHO_CHARTS_URL to a mirror of them ({error.what})")
    return Pinned(request.param, project, helm)


def at(item: Json, path: str) -> Json:
    """What stands at a pointer with selectors; None where nothing does."""
    try:
        for key in compile_pointer(item, path)[0]:
            item = item[key]
    except PointerError as error:
        if not error.missing:
            raise
        return None
    return item
