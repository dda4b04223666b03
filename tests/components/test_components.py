"""What each component of overlays/components does to the manifests, on the sandbox charts and on the real ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from syntho_deploy.compile import Compiled, Project
from syntho_deploy.documents import Json
from syntho_deploy.errors import InputError, PreflightError
from syntho_deploy.helm import Helm
from syntho_deploy.overlays.layers import components
from syntho_deploy.overlays.pointer import PointerError, compile_pointer
from syntho_deploy.secrets.sentinels import label
from syntho_deploy.vendor import load_pin, vendor

PINS = {"sandbox": "vendor/sandbox.yaml", "98ec265": "vendor/charts.yaml", "1.9.7": "vendor/charts-1.9.7.yaml"}
BASE = ["ray/address", "pull-secret", "license", "keys", "admin"]
REST = {"ray/": "ray/head-only", "postgres/": "postgres/in-chart", "ingress/": "ingress/nginx"}
VARIABLES = {
    "host": "syntho.example.com",
    "ingress_class": "traefik",
    "pull_secret": "pull-me",
    "admin_user": "root",
    "admin_email": "a@example.com",
    "head_cpu": "2",
    "head_memory": "3G",
    "cluster_name": "other",
    "registry": "mirror.example.com/syntho",
    "tag": "1.10",
    "operator_tag": "0.6.0",
    "postgres_tag": "14",
    "redis_tag": "7.2",
    "storage_class": "fast",
    "storage_class_rwx": "shared",
    "ray_volume_size": "50Gi",
    "core_volume_size": "10Gi",
    "backend_volume_size": "11Gi",
    "core_replicas": 2,
    "backend_replicas": 3,
    "frontend_replicas": 4,
    "tls_secret": "my-tls",
    "cluster_issuer": "letsencrypt",
    "postgres_host": "pg.example.com",
    "postgres_port": 5433,
    "core_db": "c",
    "core_db_user": "cu",
    "backend_db": "b",
    "backend_db_user": "bu",
    "redis_host": "redis.example.com",
    "redis_port": 6380,
}
SECRETS = ["license", "core.secret_key", "backend.secret_key", "backend.user.password", "core.db.password", "backend.db.password"]
HEAD = "RayCluster/{}:/spec/headGroupSpec/template/spec/containers/0"
CORE = "Deployment/core:/spec/template/spec/containers/[name=core]"
API = "Ingress/frontend-ingress:/spec/rules/[host=syntho.example.com]/http/paths/[path=~1api~1*]/backend/service/port/number"
REDISS = "rediss://:$(SECRET_REDIS_PASSWORD_URL)@redis.example.com:6380/1"

# component: where (Kind/name:/pointer) and what stands there; None for an object that is gone
TABLE: dict[str, dict[str, Json]] = {
    "images": {
        f"{CORE}/image": "mirror.example.com/syntho/syntho-core-api:1.10",
        "Deployment/backend-worker:/spec/template/spec/containers/0/image": "mirror.example.com/syntho/syntho-core-backend:1.10",
        "Deployment/frontend:/spec/template/spec/initContainers/0/image": "mirror.example.com/syntho/busybox:1.28",
        "Deployment/postgres:/spec/template/spec/containers/0/image": "mirror.example.com/syntho/postgres:14",
        "StatefulSet/redis:/spec/template/spec/initContainers/0/image": "mirror.example.com/syntho/redis:7.2",
        "Deployment/kuberay-operator:/spec/template/spec/containers/0/image": "mirror.example.com/syntho/syntho-ray-operator:0.6.0",
        HEAD.format("ray-cluster") + "/image": "mirror.example.com/syntho/syntho-ray:1.10-cpu",
    },
    "pull-secret": {
        "StatefulSet/redis:/spec/template/spec/imagePullSecrets": [{"name": "pull-me"}],
        "Deployment/core:/spec/template/spec/imagePullSecrets": [{"name": "pull-me"}],
        "RayCluster/ray-cluster:/spec/headGroupSpec/template/spec/imagePullSecrets": [{"name": "pull-me"}],
    },
    "license": {
        f"{CORE}/env/[name=LICENSE_KEY_SIGNED]/valueFrom/secretKeyRef/key": "license",
        HEAD.format("ray-cluster") + "/env/[name=LICENSE_KEY_SIGNED]/valueFrom/secretKeyRef/key": "license",
    },
    "keys": {
        f"{CORE}/env/[name=SECRET_KEY]/valueFrom/secretKeyRef/key": "core.secret_key",
        "Deployment/backend:/spec/template/spec/containers/0/env/[name=SECRET_KEY]/valueFrom/secretKeyRef/key": "backend.secret_key",
        "Secret/backend-secret": None,
    },
    "admin": {
        "Deployment/backend:/spec/template/spec/containers/0/env/[name=USER_NAME]/value": "root",
        "Deployment/backend:/spec/template/spec/containers/0/env/[name=USER_EMAIL]/value": "a@example.com",
        "Deployment/backend:/spec/template/spec/containers/0/env/[name=USER_PASSWORD]/valueFrom/secretKeyRef/key": "backend.user.password",
    },
    "cluster-name": {
        "RayCluster/other:/metadata/name": "other",
        f"{CORE}/env/[name=RAY_ADDRESS]/value": "other-head-svc.syntho.svc.cluster.local",
    },
    "ray/address": {f"{CORE}/env/[name=RAY_ADDRESS]/value": "ray-cluster-head-svc.syntho.svc.cluster.local"},
    "ray/head-only": {
        HEAD.format("ray-cluster") + "/resources": {"limits": {"cpu": "2", "memory": "3G"}, "requests": {"cpu": "2", "memory": "3G"}},
        "RayCluster/ray-cluster:/spec/workerGroupSpecs": None,
    },
    "ray/two-pools": {
        "RayCluster/ray-cluster:/spec/workerGroupSpecs/[groupName=workergroup]/template/spec/containers/0/resources/limits": {
            "cpu": "16",
            "memory": "64G",
        },
        "RayCluster/ray-cluster:/spec/workerGroupSpecs/[groupName=smallGroup]/template/spec/containers/0/resources/limits": {
            "cpu": "4",
            "memory": "8G",
        },
        "RayCluster/ray-cluster:/spec/workerGroupSpecs/[groupName=smallGroup]/maxReplicas": 3,
    },
    "storage-class": {
        "PersistentVolumeClaim/ray-workflows-claim:/spec/storageClassName": "shared",
        "PersistentVolumeClaim/database-data-1:/spec/storageClassName": "fast",
        "StatefulSet/redis:/spec/volumeClaimTemplates/0/spec/storageClassName": "fast",
    },
    "storage-class/default": {
        "PersistentVolumeClaim/ray-workflows-claim:/spec/storageClassName": None,
        "PersistentVolumeClaim/database-data-2:/spec/storageClassName": None,
        "StatefulSet/redis:/spec/volumeClaimTemplates/1/spec/storageClassName": None,
    },
    "volume-sizes": {
        "PersistentVolumeClaim/ray-workflows-claim:/spec/resources/requests/storage": "50Gi",
        "PersistentVolumeClaim/database-data-1:/spec/resources/requests/storage": "10Gi",
        "PersistentVolumeClaim/database-data-2:/spec/resources/requests/storage": "11Gi",
    },
    "replicas": {
        "Deployment/core-worker:/spec/replicas": 2,
        "Deployment/backend:/spec/replicas": 3,
        "Deployment/frontend:/spec/replicas": 4,
    },
    "ingress/nginx": {
        "Ingress/frontend-ingress:/spec/ingressClassName": "traefik",
        "Ingress/frontend-ingress:/spec/tls": None,
        "Deployment/backend:/spec/template/spec/containers/0/env/[name=FRONTEND_URL]/value": "http://syntho.example.com",
        API: 80,
    },
    "ingress/tls-secret": {
        "Ingress/frontend-ingress:/spec/tls": [{"hosts": ["syntho.example.com"], "secretName": "my-tls"}],
        "Deployment/backend:/spec/template/spec/containers/0/env/[name=FRONTEND_URL]/value": "https://syntho.example.com",
        API: 80,
    },
    "ingress/cert-manager": {
        "Ingress/frontend-ingress:/metadata/annotations/cert-manager.io~1cluster-issuer": "letsencrypt",
        "Ingress/frontend-ingress:/spec/tls": [{"hosts": ["syntho.example.com"], "secretName": "frontend-tls"}],
        API: 80,
    },
    "ingress/off": {"Ingress/frontend-ingress": None, "Service/frontend:/spec/ports/0/port": 3000},
    "tls/self-signed": {
        "Deployment/frontend:/spec/template/spec/containers/0/env/[name=JAVA_OPTS]/value": (
            "-Dio.swagger.parser.util.RemoteUrl.trustAll=true -Dio.swagger.v3.parser.util.RemoteUrl.trustAll=true"
        ),
    },
    "postgres/in-chart": {
        "Deployment/postgres:/spec/template/spec/containers/0/env/[name=POSTGRES_PASSWORD]/valueFrom/secretKeyRef/key": "core.db.password",
        "Deployment/database:/spec/template/spec/containers/0/env/[name=POSTGRES_PASSWORD]/valueFrom/secretKeyRef/key": "backend.db.password",
        f"{CORE}/env/[name=DATABASE_URL]/value": "postgresql+asyncpg://postgres:$(SECRET_CORE_DB_PASSWORD_URL)@postgres:5432/rwdb",
    },
    "postgres/external": {
        "Deployment/postgres": None,
        "PersistentVolumeClaim/database-data-2": None,
        f"{CORE}/env/[name=DATABASE_URL]/value": "postgresql+asyncpg://cu:$(SECRET_CORE_DB_PASSWORD_URL)@pg.example.com:5433/c",
        "Deployment/backend:/spec/template/spec/containers/0/env/[name=DB_HOST]/value": "pg.example.com",
        "Deployment/backend:/spec/template/spec/containers/0/env/[name=DB_NAME]/value": "b",
    },
    "redis/external": {
        "StatefulSet/redis": None,
        "Service/redis-svc": None,
        "ConfigMap/redis-configuration": None,
        f"{CORE}/env/[name=CELERY_BROKER_URL]/value": "redis://redis.example.com:6380/1",
        "Deployment/backend:/spec/template/spec/containers/0/env/[name=REDIS_HOST]/value": "redis.example.com",
    },
    "redis/external-tls": {
        "StatefulSet/redis": None,
        f"{CORE}/env/[name=CELERY_BROKER_URL]/value": REDISS,
        "Deployment/core-worker:/spec/template/spec/containers/0/env/[name=CELERY_RESULT_BACKEND]/value": REDISS,
        "Deployment/core-worker:/spec/template/spec/containers/0/livenessProbe/exec/command/2": (
            'celery -b "$CELERY_BROKER_URL" inspect ping -d "celery@$HOSTNAME"'
        ),
    },
}


@pytest.fixture(params=[pytest.param(pin, marks=() if pin == "sandbox" else pytest.mark.upstream) for pin in PINS])
def pinned(request: pytest.FixtureRequest, project: Path) -> Callable[..., Compiled]:
    """Compiles these components with the charts of a pin. Skips where the charts cannot be had."""
    pin = PINS[request.param]
    try:
        vendor(project, load_pin(project, project / pin))
    except PreflightError as error:
        pytest.skip(f"the real charts are missing: set SYNTHO_CHARTS_URL to a mirror of them ({error.what})")

    def compiled(helm: Helm, names: list[str]) -> Compiled:
        secrets: dict[str, Any] = {name: {"generate": "fernet" if name == "core.secret_key" else "password"} for name in SECRETS}
        if "redis/external-tls" in names:
            secrets["redis.password"] = {"generate": "password"}
        cluster = {"context": "c", "namespace": "syntho"}
        environment = {"cluster": cluster, "charts": pin, "components": names, "vars": VARIABLES, "secrets": secrets}
        (project / "envs" / "it.yaml").write_text(yaml.safe_dump(environment))
        return Project.load(project, "it").compile(helm)

    return compiled


def _with(component: str) -> list[str]:
    """The component among the others that an environment needs."""
    rest = [name for prefix, name in REST.items() if not component.startswith(prefix) or component == "ray/address"]
    return [*dict.fromkeys([*BASE, *rest, component])]


def _at(item: Json, path: str) -> Json:
    """What stands at a pointer; None where nothing does."""
    try:
        for key in compile_pointer(item, path)[0]:
            item = item[key]
    except PointerError as error:
        return None if error.missing else str(error)
    return item


@pytest.mark.parametrize("component", TABLE)
def test_a_component_does_what_its_row_says(pinned: Callable[..., Compiled], helm: Helm, component: str) -> None:
    objects = {label(item): item for item in pinned(helm, _with(component)).objects}
    for place, expected in TABLE[component].items():
        of, _, path = place.partition(":")
        if expected is None and not path:
            assert of not in objects, of
            continue
        assert _at(objects[of], path) == expected, place


def test_every_component_has_a_row_here(root: Path) -> None:
    assert set(components([root / "overlays"])) == set(TABLE)


COMBINATIONS = [
    ["images", "ray/two-pools", "storage-class", "postgres/in-chart", "ingress/nginx", "volume-sizes", "replicas"],
    ["images", "ray/two-pools", "storage-class", "postgres/external", "redis/external", "ingress/tls-secret", "cluster-name"],
    ["images", "ray/head-only", "storage-class/default", "postgres/in-chart", "ingress/cert-manager", "tls/self-signed"],
    ["ray/head-only", "postgres/external", "redis/external-tls", "ingress/off", "replicas"],
]


@pytest.mark.parametrize("names", COMBINATIONS, ids=lambda names: names[-1])
def test_sensible_combinations_compile_in_either_order(pinned: Callable[..., Compiled], helm: Helm, names: list[str]) -> None:
    one = pinned(helm, [*BASE, *names])
    late = [name for name in reversed(names) if not name.startswith("redis/")]  # Redis must be there for its pull secret
    other = pinned(helm, [*BASE, *late, *(name for name in names if name.startswith("redis/"))])
    assert {chart: item.texts for chart, item in one.charts.items()} == {chart: item.texts for chart, item in other.charts.items()}


@pytest.mark.parametrize("names", [["ray/head-only", "ray/two-pools"], ["ingress/nginx", "ingress/off"], ["storage-class", "storage-class/default"]])
def test_components_that_exclude_each_other_clash_with_both_lines(pinned: Callable[..., Compiled], helm: Helm, names: list[str]) -> None:
    with pytest.raises(InputError, match=r"was set by .*overlays/components"):
        pinned(helm, [*BASE, *names])
