"""What each component of overlays/components does to the manifests, on the sandbox charts and on the real ones."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from syntho_deploy import explain
from syntho_deploy.documents import Json, walk
from syntho_deploy.errors import InputError
from syntho_deploy.images import names_in
from syntho_deploy.overlays.layers import components
from syntho_deploy.rotate import reader
from syntho_deploy.secrets import store
from syntho_deploy.secrets.sentinels import label, pod_specs
from tests.components.conftest import DIGESTS, PINS, VARIABLES, Objects, Pinned, at, resources

BASE = ["ray/address", "pull-secret", "license", "keys", "admin"]
ONE_OF = [  # an environment has one of each; the first where nothing else is said
    ["ray/head-only", "ray/two-pools"],
    ["postgres/in-chart", "postgres/external"],
    ["ingress/nginx", "ingress/tls-secret", "ingress/cert-manager", "ingress/off"],
]
BEFORE = {  # what a component completes, or what shows that it does what it says
    "images": ["ray/two-pools"],
    "images/digests": ["images"],
    "images/tags": ["images"],
    "ray/autoscaling": ["ray/two-pools"],
    "ray/pool": ["images", "scheduling/ray-small"],
    "scheduling/ray-pool": ["images", "ray/pool"],
    "scheduling/ray-small": ["ray/two-pools"],
    "scheduling/ray-worker": ["ray/two-pools"],
    "security/restricted": ["ray/two-pools", "scheduling/ray-head", "scheduling/ui"],
    "security/restricted/postgres": ["security/restricted"],
    "security/restricted/redis": ["security/restricted"],
    "security/network-policies/autoscaling": ["ray/two-pools", "ray/autoscaling", "security/network-policies"],
    "ingress/second-host": ["ingress/tls-secret"],
    "postgres/tls": ["postgres/external"],
    "postgres/tls/backend": ["postgres/in-chart", "postgres/external-backend"],
    "postgres/tls/core": ["postgres/in-chart", "postgres/external-core"],
    "redis/databases": ["redis/external"],
    "tls/private-ca": ["ray/two-pools"],
    "volumes": ["ray/two-pools"],
    "volume-sizes/ray": ["postgres/external"],
    **{
        f"{kind}/{inside}": ["postgres/in-chart", f"postgres/external-{outside}"]
        for kind in ("volume-sizes", "resources/postgres", "security/restricted/postgres")
        for inside, outside in (("core", "backend"), ("backend", "core"))
    },
}


def pod(kind_and_name: str, path: str = "") -> str:
    return f"{kind_and_name}:/spec/template/spec{path}"


def container(name: str, path: str = "", kind: str = "Deployment", of: str = "") -> str:
    return pod(f"{kind}/{of or name}", f"/containers/[name={name}]{path}")


def env(name: str, variable: str) -> str:
    return container(name, f"/env/[name={variable}]/value")


def secret(name: str, variable: str, of: str = "") -> str:
    return container(name, f"/env/[name={variable}]/valueFrom/secretKeyRef/key", of=of)


def claim(name: str, field: str) -> str:
    return f"PersistentVolumeClaim/{name}:/spec/{field}"


def template(index: int, field: str) -> str:
    return f"StatefulSet/redis:/spec/volumeClaimTemplates/{index}/spec/{field}"


def head(path: str) -> str:
    return f"RayCluster/ray-cluster:/spec/headGroupSpec/template{path}"


def group(name: str, path: str) -> str:
    return f"RayCluster/ray-cluster:/spec/workerGroupSpecs/[groupName={name}]{path}"


def rule(host: str, path: str) -> str:
    return f"Ingress/frontend-ingress:/spec/rules/[host={host}]/http/paths/[path={path}]/backend/service/port/number"


def api(host: str) -> dict[str, Json]:
    """The path of the API, as every controller understands it, to the port that the Service has."""
    path = f"Ingress/frontend-ingress:/spec/rules/[host={host}]/http/paths/[path=~1api]"
    return {f"{path}/pathType": "Prefix", f"{path}/backend/service": {"name": "backend", "port": {"number": 80}}}


HEAD = "/spec/containers/[name=ray-head]"
WORKER = "/template/spec/containers/[name=ray-worker]"
APPS = ("core", "core-worker", "backend", "backend-worker", "frontend")
POOLS = ("workergroup", "smallGroup")
HOST, SECOND = "syntho.example.com", "data.example.com"
SIZE = "resources/requests/storage"
REDISS = "rediss://:$(SECRET_REDIS_PASSWORD_URL)@redis.example.com:6380/7?ssl_cert_reqs=required"
PING = 'celery -b "$CELERY_BROKER_URL" inspect ping -d "celery@$HOSTNAME"'
NO_REDIS: dict[str, Json] = {"StatefulSet/redis": None, "Service/redis-svc": None, "ConfigMap/redis-configuration": None}
RESTRICTED: dict[str, Json] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
AS_ROOT: dict[str, Json] = {"allowPrivilegeEscalation": False, "seccompProfile": {"type": "RuntimeDefault"}}
CA = "/etc/ssl/private-ca/ca.crt"
CA_VOLUME: Json = {"name": "private-ca", "projected": {"sources": [{"configMap": {"name": "site-ca"}}]}}
OPERATOR = container("ray-cluster", of="kuberay-operator")
URL = "postgresql+asyncpg"


def scheduled(part: str, place: str, name: str) -> dict[str, Json]:
    return {
        f"{place}/spec/nodeSelector": VARIABLES[f"{part}_node_selector"],
        f"{place}/spec/tolerations": VARIABLES[f"{part}_tolerations"],
        f"{place}/spec/affinity": VARIABLES[f"{part}_affinity"],
        f"{place}/spec/containers/[name={name}]/securityContext": VARIABLES[f"{part}_security_context"],
        f"{place}/metadata/annotations": VARIABLES[f"{part}_annotations"],
    }


def mounted(volume: str, mount: str) -> dict[str, Json]:
    """In core, backend, their workers and Ray: a volume that is there, and where it is mounted."""
    places = [(name, pod(f"Deployment/{name}")) for name in APPS[:4]] + [("ray-head", head("/spec"))]
    places += [("ray-worker", group(pool, "/template/spec")) for pool in POOLS]
    return {f"{place}/volumes/[name={volume}]/name": volume for _, place in places} | {
        f"{place}/containers/[name={name}]/volumeMounts/[name={volume}]/mountPath": mount for name, place in places
    }


# component: where (Kind/name:/pointer) and what stands there; None for what is not there
TABLE: dict[str, dict[str, Json]] = {
    "images": {
        container("core", "/image"): "mirror.example.com/syntho/syntho-core-api:1.10",
        container("backend-worker", "/image"): "mirror.example.com/syntho/syntho-core-backend:1.10",
        container("frontend", "/image"): "mirror.example.com/syntho/syntho-core-frontend:1.10",
        pod("Deployment/frontend", "/initContainers/0/image"): "mirror.example.com/syntho/busybox:1.28",
        container("postgres", "/image"): "mirror.example.com/syntho/postgres:14",
        pod("StatefulSet/redis", "/initContainers/0/image"): "mirror.example.com/syntho/redis:7.2",
        f"{OPERATOR}/image": "mirror.example.com/syntho/syntho-ray-operator:0.6.0",
        head(f"{HEAD}/image"): "mirror.example.com/syntho/syntho-ray:1.10-cpu",
        **{group(pool, f"{WORKER}/image"): "mirror.example.com/syntho/syntho-ray:1.10-cpu" for pool in POOLS},
        **{group(pool, "/template/spec/initContainers/0/image"): "mirror.example.com/syntho/busybox:1.28" for pool in POOLS},
    },
    "images/digests": {
        container("core-worker", "/image"): f"mirror.example.com/syntho/syntho-core-api:1.10@{DIGESTS['core']}",
        container("backend", "/image"): f"mirror.example.com/syntho/syntho-core-backend:1.10@{DIGESTS['backend']}",
        container("frontend", "/image"): f"mirror.example.com/syntho/syntho-core-frontend:1.10@{DIGESTS['frontend']}",
        head(f"{HEAD}/image"): f"mirror.example.com/syntho/syntho-ray:1.10-cpu@{DIGESTS['ray']}",
    },
    "images/tags": {
        **{container(name, "/image"): "mirror.example.com/syntho/syntho-core-api:1.11" for name in ("core", "core-worker")},
        **{container(name, "/image"): "mirror.example.com/syntho/syntho-core-backend:1.12" for name in ("backend", "backend-worker")},
        container("frontend", "/image"): "mirror.example.com/syntho/syntho-core-frontend:1.13",
        head(f"{HEAD}/image"): "mirror.example.com/syntho/syntho-ray:1.14-cpu",
    },
    "pull-secret": {
        **{pod(f"Deployment/{name}", "/imagePullSecrets"): [{"name": "pull-me"}] for name in (*APPS, "postgres", "database", "kuberay-operator")},
        pod("StatefulSet/redis", "/imagePullSecrets"): [{"name": "pull-me"}],
        head("/spec/imagePullSecrets"): [{"name": "pull-me"}],
        "Pod/syntho-ui-test-connection": None,
    },
    "license": {
        secret("core", "LICENSE_KEY_SIGNED"): "license",
        secret("core-worker", "LICENSE_KEY_SIGNED"): "license",
        head(f"{HEAD}/env/[name=LICENSE_KEY_SIGNED]/valueFrom/secretKeyRef/key"): "license",
    },
    "keys": {
        secret("core", "SECRET_KEY"): "core.secret_key",
        secret("backend", "SECRET_KEY"): "backend.secret_key",
        secret("backend-worker", "SECRET_KEY"): "backend.secret_key",
        "Secret/backend-secret": None,
    },
    "admin": {
        env("backend", "USER_NAME"): "root",
        env("backend", "USER_EMAIL"): "a@example.com",
        secret("backend", "USER_PASSWORD"): "backend.user.password",
    },
    "cluster-name": {
        "RayCluster/other:/metadata/name": "other",
        "RayCluster/ray-cluster": None,
        env("core", "RAY_ADDRESS"): "other-head-svc.site.svc.cluster.local",
        env("backend", "RAY_URL"): "http://other-head-svc.site.svc.cluster.local:8265",
    },
    "ray/address": {env("core", "RAY_ADDRESS"): "ray-cluster-head-svc.site.svc.cluster.local"},
    "ray/head-only": {head(f"{HEAD}/resources"): resources("2", "3G"), "RayCluster/ray-cluster:/spec/workerGroupSpecs": None},
    "ray/two-pools": {
        head(f"{HEAD}/resources"): resources("1", "2G"),
        group("workergroup", "/replicas"): 1,
        group("workergroup", f"{WORKER}/resources"): resources("16", "64G"),
        group("smallGroup", "/replicas"): 1,
        group("smallGroup", "/minReplicas"): 1,
        group("smallGroup", "/maxReplicas"): 3,
        group("smallGroup", f"{WORKER}/resources"): resources("4", "8G"),
    },
    "ray/pool": {
        group("gpu", "/replicas"): 2,
        group("gpu", "/minReplicas"): 2,
        group("gpu", "/maxReplicas"): 4,
        group("gpu", f"{WORKER}/resources"): resources("6", "7G"),
        group("gpu", f"{WORKER}/securityContext"): RESTRICTED,
        group("gpu", "/template/spec/initContainers/0/image"): "mirror.example.com/syntho/busybox:1.28",
        group("gpu", "/template/spec/initContainers/0/securityContext"): RESTRICTED,
        group("gpu", "/template/spec/volumes/[name=log-volume]/emptyDir"): {},
        **{group("gpu", f"/template/{field}"): {} for field in ("spec/nodeSelector", "spec/affinity", "metadata/annotations")},
        group("gpu", "/template/spec/tolerations"): [],
        group("smallGroup", ""): None,
    },
    "ray/autoscaling": {
        "RayCluster/ray-cluster:/spec/enableInTreeAutoscaling": True,
        group("workergroup", "/minReplicas"): 1,
        group("workergroup", "/maxReplicas"): 3,
        group("smallGroup", "/maxReplicas"): 3,
        "RayCluster/ray-cluster:/spec/autoscalerOptions": {"imagePullPolicy": "IfNotPresent", "securityContext": RESTRICTED},
        f"{OPERATOR}/command": ["/manager", "-watch-namespace", "site"],
        head("/spec/automountServiceAccountToken"): True,
    },
    "scheduling/ray-head": scheduled("head", head(""), "ray-head"),
    "scheduling/ray-worker": scheduled("worker", group("workergroup", "/template"), "ray-worker") | {head("/spec/nodeSelector"): {}},
    "scheduling/ray-small": scheduled("small", group("smallGroup", "/template"), "ray-worker")
    | {group("workergroup", "/template/spec/nodeSelector"): {}},
    "scheduling/ray-pool": scheduled("pool", group("gpu", "/template"), "ray-worker")
    | {group("gpu", f"{WORKER}/securityContext"): RESTRICTED | {"runAsUser": 1000}},
    "scheduling/ray-operator": {
        pod("Deployment/kuberay-operator", f"/{field}"): VARIABLES[f"operator_{variable}"]
        for field, variable in (("nodeSelector", "node_selector"), ("tolerations", "tolerations"), ("affinity", "affinity"))
    },
    "scheduling/ui": {
        **{
            pod(name, f"/{field}"): VARIABLES[f"ui_{variable}"]
            for name in (*(f"Deployment/{name}" for name in (*APPS, "postgres", "database")), "StatefulSet/redis")
            for field, variable in (("nodeSelector", "node_selector"), ("tolerations", "tolerations"), ("affinity", "affinity"))
        },
        **{pod(f"Deployment/{name}", "/securityContext"): {"fsGroup": 2000} for name in ("core", "core-worker")},
        container("core", "/securityContext"): {"runAsUser": 1000},
        container("backend", "/securityContext"): None,
        **{f"Deployment/{name}:/metadata/annotations": {"part": "ui"} for name in ("core", "backend", "frontend")},
    },
    "storage-class": {
        claim("ray-workflows-claim", "storageClassName"): "shared",
        **{claim(f"database-data-{number}", "storageClassName"): "fast" for number in (1, 2)},
        **{template(index, "storageClassName"): "fast" for index in (0, 1)},
    },
    "storage-class/default": {
        claim("ray-workflows-claim", "storageClassName"): None,
        **{claim(f"database-data-{number}", "storageClassName"): None for number in (1, 2)},
        **{template(index, "storageClassName"): None for index in (0, 1)},
    },
    "volume-sizes": {
        claim("ray-workflows-claim", SIZE): "50Gi",
        claim("database-data-1", SIZE): "10Gi",
        claim("database-data-2", SIZE): "11Gi",
    },
    "volume-sizes/ray": {claim("ray-workflows-claim", SIZE): "50Gi"},
    "volume-sizes/core": {claim("database-data-1", SIZE): "10Gi", "PersistentVolumeClaim/database-data-2": None},
    "volume-sizes/backend": {claim("database-data-2", SIZE): "11Gi", "PersistentVolumeClaim/database-data-1": None},
    "volume-sizes/redis": {template(index, SIZE): "2Gi" for index in (0, 1)},
    "volumes": mounted("data", "/data") | {pod("Deployment/core", "/volumes/[name=data]"): VARIABLES["extra_volume"]},
    "replicas": {"Deployment/core-worker:/spec/replicas": 2, "Deployment/backend:/spec/replicas": 3, "Deployment/frontend:/spec/replicas": 4},
    "resources": {
        **{container(name, "/resources"): VARIABLES[f"{name.replace('-', '_')}_resources"] for name in APPS},
        f"{OPERATOR}/resources": VARIABLES["operator_resources"],
    },
    "resources/postgres": {
        container("postgres", "/resources"): VARIABLES["core_database_resources"],
        container("postgres", "/resources", of="database"): VARIABLES["backend_database_resources"],
    },
    "resources/postgres/core": {container("postgres", "/resources"): VARIABLES["core_database_resources"]},
    "resources/postgres/backend": {container("postgres", "/resources", of="database"): VARIABLES["backend_database_resources"]},
    "resources/redis": {container("redis", "/resources", kind="StatefulSet"): VARIABLES["redis_resources"]},
    "ingress/nginx": {
        "Ingress/frontend-ingress:/spec/ingressClassName": "traefik",
        "Ingress/frontend-ingress:/spec/tls": None,
        env("backend", "FRONTEND_URL"): f"http://{HOST}",
        rule(HOST, "~1"): 3000,
        **api(HOST),
        "Service/backend:/spec/ports/[port=80]/targetPort": 8000,
    },
    "ingress/tls-secret": {
        "Ingress/frontend-ingress:/spec/ingressClassName": "traefik",
        "Ingress/frontend-ingress:/spec/tls": [{"hosts": [HOST], "secretName": "my-tls"}],
        env("backend", "FRONTEND_URL"): f"https://{HOST}",
        **api(HOST),
    },
    "ingress/cert-manager": {
        "Ingress/frontend-ingress:/spec/ingressClassName": "traefik",
        env("backend", "FRONTEND_URL"): f"https://{HOST}",
        "Ingress/frontend-ingress:/metadata/annotations/cert-manager.io~1cluster-issuer": "letsencrypt",
        "Ingress/frontend-ingress:/spec/tls": [{"hosts": [HOST], "secretName": "frontend-tls"}],
        **api(HOST),
    },
    "ingress/off": {"Ingress/frontend-ingress": None, "Service/frontend:/spec/ports/0/port": 3000, env("backend", "EXTRA_ALLOWED_HOSTS"): (
        f"{HOST} backend.site.svc.cluster.local")},
    "ingress/second-host": {
        "Ingress/frontend-ingress:/spec/tls": [{"hosts": [HOST], "secretName": "my-tls"}, {"hosts": [SECOND], "secretName": "second-tls"}],
        **api(HOST),
        **api(SECOND),
        rule(SECOND, "~1"): 3000,
        env("backend", "EXTRA_ALLOWED_HOSTS"): f"{HOST} {SECOND} backend.site.svc.cluster.local",
        env("backend", "FRONTEND_URL"): f"https://{HOST}",
    },
    "tls/self-signed": {
        env("frontend", "JAVA_OPTS"): "-Dio.swagger.parser.util.RemoteUrl.trustAll=true -Dio.swagger.v3.parser.util.RemoteUrl.trustAll=true"
    },
    "tls/private-ca": {
        **mounted("private-ca", "/etc/ssl/private-ca"),
        env("frontend", "NODE_EXTRA_CA_CERTS"): CA,
        pod("Deployment/frontend", "/volumes"): [CA_VOLUME],
        container("frontend", "/volumeMounts/[name=private-ca]/readOnly"): True,
        group("workergroup", "/template/spec/volumes/[name=private-ca]"): CA_VOLUME,
        **{
            f"{place}/env/[name={variable}]/value": CA
            for place in [*(container(name) for name in APPS[:4]), head(HEAD), *(group(pool, WORKER) for pool in POOLS)]
            for variable in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "PGSSLROOTCERT")
        },
    },
    "postgres/in-chart": {
        secret("postgres", "POSTGRES_PASSWORD"): "core.db.password",
        secret("postgres", "POSTGRES_PASSWORD", of="database"): "backend.db.password",
        env("core", "DATABASE_URL"): f"{URL}://postgres:$(SECRET_CORE_DB_PASSWORD_URL)@postgres:5432/rwdb",
        "Service/postgres:/spec/ports/0/port": 5432,
    },
    "postgres/external": {
        **{f"{kind}/{name}": None for kind in ("Deployment", "Service") for name in ("postgres", "database")},
        **{f"PersistentVolumeClaim/database-data-{number}": None for number in (1, 2)},
        env("core-worker", "DATABASE_URL"): f"{URL}://cu:$(SECRET_CORE_DB_PASSWORD_URL)@pg.example.com:5433/c",
        env("backend", "DB_HOST"): "pg.example.com",
        env("backend", "DB_PORT"): "5433",
        env("backend-worker", "DB_NAME"): "b",
        env("backend-worker", "DB_USER"): "bu",
        secret("backend", "DB_PASSWORD"): "backend.db.password",
    },
    "postgres/external-core": {
        "Deployment/postgres": None,
        "PersistentVolumeClaim/database-data-1": None,
        env("core", "DATABASE_URL"): f"{URL}://cu:$(SECRET_CORE_DB_PASSWORD_URL)@pg1.example.com:5434/c",
        secret("postgres", "POSTGRES_PASSWORD", of="database"): "backend.db.password",
        env("backend", "DB_HOST"): "database",
    },
    "postgres/external-backend": {
        "Deployment/database": None,
        "PersistentVolumeClaim/database-data-2": None,
        env("backend-worker", "DB_HOST"): "pg2.example.com",
        env("backend", "DB_PORT"): "5435",
        secret("postgres", "POSTGRES_PASSWORD"): "core.db.password",
    },
    "postgres/tls": {env(name, "PGSSLMODE"): "require" for name in APPS[:4]},
    "postgres/tls/backend": {
        **{env(name, "PGSSLMODE"): "require" for name in ("backend", "backend-worker")},
        env("core", "PGSSLMODE"): None,
        "Service/postgres:/spec/ports/0/port": 5432,
    },
    "postgres/tls/core": {
        **{env(name, "PGSSLMODE"): "require" for name in ("core", "core-worker")},
        env("backend", "PGSSLMODE"): None,
        "Service/database:/spec/ports/0/port": 5432,
    },
    "redis/in-chart": {"StatefulSet/redis:/spec/replicas": 1, env("core", "CELERY_BROKER_URL"): "redis://redis-svc:6379/1"},
    "redis/databases": {
        env("core", "CELERY_BROKER_URL"): "redis://redis.example.com:6380/7",
        env("core-worker", "CELERY_RESULT_BACKEND"): "redis://redis.example.com:6380/7",
        env("backend", "REDIS_DB_INDEX"): "8",
        env("backend-worker", "REDIS_DB_INDEX"): "8",
    },
    "redis/external": {
        **NO_REDIS,
        env("core", "CELERY_BROKER_URL"): "redis://redis.example.com:6380/1",
        env("backend", "REDIS_HOST"): "redis.example.com",
        env("backend-worker", "REDIS_PORT"): "6380",
        env("backend", "REDIS_DB_INDEX"): "0",
        container("core-worker", "/livenessProbe/exec/command/2"): "celery -b redis://redis.example.com:6380/1 inspect ping -d celery@$HOSTNAME",
    },
    "redis/external-tls": {
        **NO_REDIS,
        **{env(name, variable): REDISS for name in ("core", "core-worker") for variable in ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND")},
        **{container("core-worker", f"/{probe}/exec/command/2"): PING for probe in ("livenessProbe", "readinessProbe")},
        secret("core-worker", "SECRET_REDIS_PASSWORD_URL"): "redis.password.url",
        env("backend", "REDIS_HOST"): "redis.example.com",
        env("backend", "REDIS_PORT"): "6380",
        env("backend-worker", "REDIS_DB_INDEX"): "8",
    },
    "security/restricted": {
        **{container(name, "/securityContext"): RESTRICTED for name in ("backend", "backend-worker", "frontend")},
        **{container(name, "/securityContext"): RESTRICTED | {"runAsUser": 1000} for name in ("core", "core-worker")},
        pod("Deployment/core", "/securityContext"): {"fsGroup": 2000},
        pod("Deployment/frontend", "/initContainers/0/securityContext"): RESTRICTED,
        **{pod(f"Deployment/{name}", "/automountServiceAccountToken"): False for name in (*APPS, "postgres", "database")},
        f"{OPERATOR}/securityContext": RESTRICTED,
        pod("Deployment/kuberay-operator", "/automountServiceAccountToken"): None,
        head(f"{HEAD}/securityContext"): RESTRICTED | {"runAsUser": 1000},
        head("/spec/automountServiceAccountToken"): False,
        **{
            group(pool, f"/template/spec/{place}/securityContext"): RESTRICTED
            for pool in POOLS
            for place in ("containers/0", "initContainers/0")
        },
        group("workergroup", "/template/spec/automountServiceAccountToken"): None,
    },
    "security/restricted/postgres": {container("postgres", "/securityContext", of=name): AS_ROOT for name in ("postgres", "database")},
    "security/restricted/postgres/core": {container("postgres", "/securityContext"): AS_ROOT},
    "security/restricted/postgres/backend": {container("postgres", "/securityContext", of="database"): AS_ROOT},
    "security/restricted/redis": {
        container("redis", "/securityContext", kind="StatefulSet"): AS_ROOT,
        pod("StatefulSet/redis", "/initContainers/0/securityContext"): AS_ROOT,
        pod("StatefulSet/redis", "/automountServiceAccountToken"): False,
    },
    "security/network-policies": {  # what they let through: test_network_policies
        "NetworkPolicy/syntho-default-deny:/spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
        "NetworkPolicy/syntho-backends:/spec/egress/3/to/0/ipBlock/cidr": "10.9.0.0/16",
    },
    "security/network-policies/autoscaling": {"NetworkPolicy/syntho-ray-autoscaler:/spec/egress/0/to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}]},
}  # fmt: skip


def environment(component: str) -> list[str]:
    """The component among the others that an environment needs, each after what it completes."""
    names = [*BEFORE.get(component, []), component]
    rest = [kind[0] for kind in ONE_OF if not set(kind) & set(names)]
    return [*dict.fromkeys([*BASE, *rest, *names])]


def differs(objects: Objects, place: str, expected: Json) -> bool:
    """Is something else than `expected` at a place of TABLE?"""
    of, _, path = place.partition(":")
    if expected is None and not path:
        return of in objects
    return of not in objects or bool(at(objects[of], path) != expected)


@pytest.mark.parametrize("component", TABLE)
def test_a_component_does_what_its_row_says(pinned: Pinned, component: str) -> None:
    objects = pinned.objects(environment(component))
    for place, expected in TABLE[component].items():
        assert not differs(objects, place, expected), place


def test_every_component_has_a_row_here_and_one_in_the_readme(root: Path) -> None:
    found = components([root / "overlays"])
    assert found == sorted(TABLE)
    rows = re.findall(r"^\| `([^`]+)` \|", (root / "overlays/components/README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(rows) == found


def test_the_readme_names_the_variables_and_secrets_of_each_component(root: Path) -> None:
    readme = (root / "overlays/components/README.md").read_text(encoding="utf-8")
    for name in TABLE:
        (row,) = re.findall(rf"^\| `{re.escape(name)}` \|[^|]*\|([^|]*)\|([^|]*)\|", readme, re.MULTILINE)
        folder = root / "overlays/components" / name
        text = "".join(path.read_text(encoding="utf-8") for path in [*folder.glob("*.yaml"), *folder.glob("*.objects/*.yaml")])
        used = set(re.findall(r"\$\{([^}]+)\}", text)) - {"namespace", "ray.head"}
        named = [set(re.findall(r"`([^`]+)`", cell)) - {"server", "tls"} for cell in row]
        assert named[0] == {one for one in used if not one.startswith("secret:")}, name
        assert named[1] == {one.removeprefix("secret:") for one in used if one.startswith("secret:")}, name


def test_each_file_says_why_at_its_top(root: Path) -> None:
    for path in (root / "overlays/components").rglob("*.yaml"):
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("# yaml-language-server")]
        assert 1 <= len(list(itertools.takewhile(lambda line: line.startswith("#"), lines))) <= 3, path


# --- together ---------------------------------------------------------------------------------------------------------

IN_CHART = ["postgres/in-chart", "redis/in-chart", "volume-sizes", "volume-sizes/redis", "resources/postgres", "resources/redis"]
HARDENED = ["security/restricted", "security/restricted/postgres", "security/restricted/redis", "security/network-policies"]
COMBINATIONS = {
    "small": ["images", "ray/head-only", "storage-class/default", "postgres/in-chart", "ingress/cert-manager", "tls/self-signed"],
    "outside, with what is for Redis": [
        "ray/head-only",
        "postgres/external",
        "redis/external",
        "storage-class/default",
        "ingress/off",
        "volume-sizes/redis",
    ],
    "in the chart": ["images", "ray/two-pools", "storage-class", *IN_CHART, "ingress/nginx", "replicas", "resources", "redis/databases"],
    "outside": ["images", "ray/two-pools", "storage-class", "postgres/external", "postgres/tls", "redis/external", "ingress/tls-secret", "replicas"],
    "outside with passwords": ["ray/head-only", "postgres/external", "redis/external-tls", "ingress/off", "volume-sizes/ray", "cluster-name"],
    "two servers": [
        "ray/head-only",
        "postgres/external-core",
        "postgres/external-backend",
        "postgres/tls",
        "redis/external",
        "ingress/nginx",
        "tls/private-ca",
    ],
    "pools": ["ray/pool", "security/restricted", "ray/two-pools", "postgres/in-chart", "ingress/nginx"],
    "hardened": ["ray/two-pools", *IN_CHART, *HARDENED, "ingress/nginx", "tls/private-ca", "tls/self-signed", "volumes", "scheduling/ui"],
}


def unordered(value: Json) -> Json:
    """A value in which lists of named items have no order, as in Kubernetes."""
    if isinstance(value, dict):
        return {key: unordered(item) for key, item in value.items()}
    if isinstance(value, list):
        items = [unordered(item) for item in value]
        return sorted(items, key=str) if all(isinstance(item, dict) and "name" in item for item in items) else items
    return value


@pytest.mark.parametrize("name", COMBINATIONS)
def test_sensible_combinations_compile_in_either_order(pinned: Pinned, name: str) -> None:
    names = COMBINATIONS[name]
    assert unordered(pinned.objects([*BASE, *names])) == unordered(pinned.objects([*reversed(names), *reversed(BASE)]))


def for_lint(names: list[str]) -> list[str]:
    """An environment with what lint asks of each: its own images and storage classes."""
    more = ["images"] if "images" not in names else []
    return [*BASE, *more, *([] if {"storage-class", "storage-class/default"} & set(names) else ["storage-class"]), *names]


@pytest.mark.parametrize("name", COMBINATIONS)
def test_lint_finds_nothing_in_sensible_combinations(pinned: Pinned, name: str) -> None:
    assert pinned.faults(for_lint(COMBINATIONS[name])) == []


@pytest.mark.parametrize(("outside", "inside"), [("core", "backend"), ("backend", "core")])
def test_one_database_may_be_outside_with_all_that_there_is_for_the_other(pinned: Pinned, outside: str, inside: str) -> None:
    names = [f"postgres/tls/{outside}", *(f"{kind}/{inside}" for kind in ("volume-sizes", "resources/postgres", "security/restricted/postgres"))]
    more = ["ray/head-only", "volume-sizes/ray", "security/restricted", "security/network-policies", "tls/private-ca", "ingress/tls-secret"]
    order = [*more, *names]
    first, turned = (pinned.objects([*BASE, "postgres/in-chart", f"postgres/external-{outside}", *some]) for some in (order, order[::-1]))
    assert unordered(first) == unordered(turned)
    assert ("Deployment/postgres" in first) == (inside == "core")


REDIS = ["redis/in-chart", "redis/external", "redis/external-tls"]
MATRIX = [  # every pair of two choices is in one of these
    [ONE_OF[0][(row + column) % 2], ONE_OF[1][(row + column // 2) % 2], redis, ingress]
    for row, redis in enumerate(REDIS)
    for column, ingress in enumerate(ONE_OF[2])
]


@pytest.mark.parametrize("names", MATRIX, ids="+".join)
def test_any_choice_of_each_kind_goes_with_any_of_another(pinned: Pinned, names: list[str]) -> None:
    objects = pinned.objects([*BASE, *names, "images", "replicas", "resources", "security/restricted", "security/network-policies", "tls/private-ca"])
    assert ("StatefulSet/redis" in objects) == ("redis/in-chart" in names)
    assert ("Deployment/database" in objects) == ("postgres/in-chart" in names)
    assert ("Ingress/frontend-ingress" in objects) == ("ingress/off" not in names)


def test_every_pair_is_in_the_matrix() -> None:
    kinds = [set(column) for column in zip(*MATRIX, strict=True)]
    assert {pair for names in MATRIX for pair in itertools.combinations(names, 2)} == {
        pair for one, other in itertools.combinations(kinds, 2) for pair in itertools.product(one, other)
    }


EVERYTHING = [
    "images", "images/digests", "ray/two-pools", "storage-class", *IN_CHART, "replicas", "resources", "volumes", "tls/private-ca", "tls/self-signed",
    "ingress/tls-secret", "ingress/second-host", "scheduling/ray-head", "scheduling/ray-worker", "scheduling/ray-small", "scheduling/ray-operator",
    "scheduling/ui", *HARDENED, "ray/pool", "scheduling/ray-pool", "ray/autoscaling", "security/network-policies/autoscaling",
]  # fmt: skip
CHANGED_BY_OTHERS = {  # what a row says of a component alone, and another one changes, as it should
    "Ingress/frontend-ingress:/spec/tls",  # ingress/second-host
    head("/spec/automountServiceAccountToken"),  # ray/autoscaling
    *(group("gpu", f"/template/{field}") for field in ("spec/nodeSelector", "spec/affinity", "spec/tolerations", "metadata/annotations")),
    head("/spec/nodeSelector"),  # scheduling/ of another part
    group("workergroup", "/template/spec/nodeSelector"),
    group("smallGroup", ""),  # ray/two-pools
}


def test_all_that_do_not_exclude_each_other_compile_together(pinned: Pinned) -> None:
    objects = pinned.objects([*BASE, *EVERYTHING])
    wrong = {place for name in EVERYTHING for place, value in TABLE[name].items() if differs(objects, place, value)}
    completed = {place for place in wrong if place.endswith(("/image", "/securityContext"))}  # by images/digests, by security/restricted
    assert wrong - completed == CHANGED_BY_OTHERS
    cluster = objects["RayCluster/ray-cluster"]
    assert at(cluster, "/spec/headGroupSpec/template/spec/automountServiceAccountToken") is True
    context = at(cluster, "/spec/workerGroupSpecs/[groupName=smallGroup]/template/spec/containers/0/securityContext")
    assert context == RESTRICTED | {"runAsUser": 1000}
    volumes = at(cluster, "/spec/workerGroupSpecs/[groupName=gpu]/template/spec/volumes")
    assert {volume["name"] for volume in volumes} == {"ray-workflows", "log-volume", "data", "private-ca"}


KEEP_CAPABILITIES = {"postgres", "redis", "init-redis", "init-busybox"}  # they begin as root and change users or owners


def check_every_pod(objects: Objects, tokens: set[str]) -> None:
    """Nothing that runs is forgotten by the components that are for all. tokens: the accounts that keep theirs, by workload."""
    pods = [(f"{name}/{index}", pod) for name, item in objects.items() for index, pod in enumerate(pod_specs(item))]
    assert len(pods) == 13
    accounts = {item["metadata"]["name"]: item for item in objects.values() if item["kind"] == "ServiceAccount"}
    for name, spec in pods:
        assert spec["imagePullSecrets"] == [{"name": "pull-me"}], name
        assert all(spec[field] for field in ("nodeSelector", "tolerations", "affinity")), name
        account = accounts.get(spec.get("serviceAccountName"), {})
        mounted = spec.get("automountServiceAccountToken", account.get("automountServiceAccountToken", True))
        assert mounted == (name in tokens), name
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            assert container["image"].startswith("mirror.example.com/syntho/"), name
            context = container["securityContext"]
            assert (context["allowPrivilegeEscalation"], context["seccompProfile"]) == (False, {"type": "RuntimeDefault"}), (name, container["name"])
            assert container["name"] in KEEP_CAPABILITIES or context["capabilities"] == {"drop": ["ALL"]}, (name, container["name"])
        for container in spec["containers"]:
            assert all(container["resources"][part].keys() >= {"cpu", "memory"} for part in ("limits", "requests")), name
    claims = [one["spec"] for item in objects.values() for one in item.get("spec", {}).get("volumeClaimTemplates") or []]
    claims += [item["spec"] for item in objects.values() if item["kind"] == "PersistentVolumeClaim"]
    assert {claim["storageClassName"] for claim in claims} == {"fast", "shared"}


def test_no_pod_is_forgotten_by_what_is_for_all(pinned: Pinned) -> None:
    ray = {f"RayCluster/ray-cluster/{index}" for index in range(4)}  # the head asks the API server, the workers' init container reads the namespace
    check_every_pod(pinned.objects([*BASE, *EVERYTHING]), {"Deployment/kuberay-operator/0", *ray})


def test_every_image_can_have_a_digest(pinned: Pinned, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("operator_tag", "postgres_tag", "redis_tag", "busybox_tag"):
        monkeypatch.setitem(VARIABLES, name, f"{VARIABLES[name]}@{DIGESTS['core']}")
    names = names_in(pinned.objects([*BASE, *EVERYTHING]).values())
    assert len(names) == 8
    assert all(re.fullmatch(r"mirror\.example\.com/syntho/[a-z-]+:[\w.-]+@sha256:[a-d]{64}", name) for name in names), names


@pytest.mark.parametrize("way", ["ingress/nginx", "ingress/cert-manager"])
def test_a_second_host_goes_with_each_way_in(pinned: Pinned, way: str) -> None:
    objects = pinned.objects([*BASE, "ray/head-only", way, "ingress/second-host"])
    for place in (*api(HOST), *api(SECOND)):
        assert not differs(objects, place, (api(HOST) | api(SECOND))[place]), place
    tls = at(objects["Ingress/frontend-ingress"], "/spec/tls")
    wanted: Json = [{"hosts": [HOST], "secretName": "frontend-tls"}, {"hosts": [SECOND], "secretName": "second-tls"}]
    assert tls == (wanted if way.endswith("manager") else None)


def test_lint_finds_nothing_in_all_of_them(pinned: Pinned) -> None:
    assert pinned.faults([*BASE, *EVERYTHING]) == []


def test_no_operation_of_a_component_is_without_effect(pinned: Pinned) -> None:
    pinned.compile([*BASE, *EVERYTHING])
    assert explain.dead(pinned.load("it"), pinned.helm) == ([], [])


CLASHES = [
    ["ray/head-only", "ray/two-pools"],
    ["ingress/nginx", "ingress/off"],
    ["ingress/tls-secret", "ingress/cert-manager"],
    ["storage-class", "storage-class/default"],
    ["postgres/in-chart", "postgres/external"],
    ["redis/in-chart", "redis/external"],
    ["redis/databases", "redis/external-tls"],
    ["volume-sizes", "volume-sizes/ray"],
    ["volume-sizes", "volume-sizes/core"],
    ["resources/postgres", "resources/postgres/backend"],
    ["security/restricted/postgres", "security/restricted/postgres/core"],
    ["postgres/external-core", "postgres/in-chart"],  # from here on only in this order, in which the first would be lost
    ["images/digests", "images"],
    ["ray/pool", "images"],
    ["ray/pool", "tls/private-ca"],
    ["ray/pool", "volumes"],
    ["security/restricted", "scheduling/ray-head"],
    ["ray/autoscaling", "security/restricted"],
    ["ingress/second-host", "ingress/nginx"],
]


@pytest.mark.parametrize("names", CLASHES, ids="+".join)
def test_components_that_exclude_each_other_or_are_out_of_order_clash_with_both_lines(pinned: Pinned, names: list[str]) -> None:
    with pytest.raises(InputError, match=r"was set by .*overlays/components(?s:.*)list the two components in the other order, or one of them only"):
        pinned.compile([*(one for one in BASE if one not in names), *names])


OUT_OF_PLACE = {  # components: what the error says
    ("postgres/external", "volume-sizes"): "no manifest is PersistentVolumeClaim/database-data-1",
    ("postgres/external", "resources/postgres"): "no manifest is Deployment/postgres",
    ("scheduling/ray-pool",): "/additionalWorkerGroups/gpu",
    ("security/network-policies/autoscaling",): "no manifest is NetworkPolicy/syntho-ray-nodes",
    ("ingress/off", "ingress/second-host"): "no manifest is Ingress",
    ("images", "images/digests", "images/tags"): "the test of /core/image/tag failed",
    ("images", "images/tags", "images/digests"): "the test of /core/image/tag failed",
}


@pytest.mark.parametrize("names", OUT_OF_PLACE, ids="+".join)
def test_a_component_without_what_it_completes_says_so(pinned: Pinned, names: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=OUT_OF_PLACE[names]):
        pinned.compile([*(one for one in BASE if one not in names), *names])


def test_the_autoscaler_never_meets_the_forced_upgrade(pinned: Pinned) -> None:
    for name in ("ray/two-pools", "ray/autoscaling"):
        objects = pinned.objects(environment(name))
        forced = "-forced-cluster-upgrade" in at(objects["Deployment/kuberay-operator"], "/spec/template/spec/containers/0/command")
        assert forced != bool(objects["RayCluster/ray-cluster"]["spec"].get("enableInTreeAutoscaling")), name


def test_no_url_without_tls_and_no_secret_is_left_in_a_command(pinned: Pinned) -> None:
    objects = pinned.objects(environment("redis/external-tls"))
    texts = {value for item in objects.values() for _, value in walk(item) if isinstance(value, str) and "://" in value}
    assert {text for text in texts if "redis" in text} == {REDISS}


@pytest.mark.parametrize("name", ["dev", "staging", "prod"])
def test_the_shipped_environments_compile_at_each_pin(pinned: Pinned, name: str) -> None:
    file = pinned.root / "envs" / f"{name}.yaml"
    kept = [line for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("charts:")]
    file.write_text("\n".join([*kept, f"charts: {PINS[pinned.pin]}", ""]), encoding="utf-8")
    objects = {label(item): item for item in pinned.load(name).compile(pinned.helm).objects}
    groups = [one["groupName"] for one in objects["RayCluster/ray-cluster"]["spec"].get("workerGroupSpecs", [])]
    assert groups == ([] if name == "dev" else ["smallGroup", "workergroup"])
    assert ("StatefulSet/redis" in objects) == ("Deployment/postgres" in objects) == (name != "prod")
    assert bool(objects["Ingress/frontend-ingress"]["spec"].get("tls")) == (name == "prod")
    images = {value for item in objects.values() for keys, value in walk(item) if keys and keys[-1] == "image"}
    assert {image.rpartition("/")[0] for image in images} == {"registry.example.com/syntho" if name == "prod" else "syntho.azurecr.io"}


def test_what_roles_say_of_a_rotation_is_so(pinned: Pinned) -> None:
    check_rotation(pinned)


def check_rotation(pinned: Pinned) -> None:
    """The databases that roles name are those of postgres/in-chart and read the password; and each name is of a secret."""
    within = pinned.compile([*BASE, "ray/head-only", "postgres/in-chart", "ingress/nginx"])
    outside = pinned.compile([*BASE, "ray/head-only", "postgres/external", "ingress/nginx"])
    assert set(within.roles.rotation) <= set(within.environment.secrets)
    databases = {name: effect.database for name, effect in within.roles.rotation.items() if effect.database}
    assert databases.keys() == {"core.db.password", "backend.db.password"}
    for name, workload in databases.items():
        assert reader(within, workload, tuple(store.kept_at(within, name))) == ("postgres", (within.secret, name))
        assert reader(outside, workload, tuple(store.kept_at(outside, name))) is None
