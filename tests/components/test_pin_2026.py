"""The charts of deployment-tools at 2026.1.1, with the overlays of that pin and the same environments and components.

They are not ours to ship, so they are fetched: from SYNTHO_DEPLOYMENT_TOOLS_URL, or from where the pin says.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from syntho_deploy import documents, explain
from syntho_deploy.compile import Compiled, Project
from syntho_deploy.errors import DeployError, InputError
from syntho_deploy.helm import Helm
from syntho_deploy.overlays.layers import components, is_component
from syntho_deploy.overlays.pointer import PointerError, compile_pointer
from syntho_deploy.secrets.sentinels import TOKEN, label
from syntho_deploy.vendor import load_pin, vendor
from tests.components import test_components, test_guide, test_mutants, test_network_policies, test_services_outside
from tests.components.conftest import DIGESTS, PINS, VARIABLES, Pinned
from tests.conftest import copy_project, write_files

pytestmark = pytest.mark.upstream

PIN = "vendor/charts-2026.1.1.yaml"
SEARCH = ("overlays/pins/2026.1.1", "overlays")
URL_VARIABLE = "SYNTHO_DEPLOYMENT_TOOLS_URL"
PUBLIC = ("syntho-local-password", "ZzXj2az_", "ix!57KPg", "postgres:postgres@", "put-your-own-license", "<license-key>")


def with_charts(folder: Path) -> None:
    """Vendor the pin's charts into a project. Skips where they cannot be had."""
    pin = load_pin(folder, folder / PIN)
    url = os.environ.get(URL_VARIABLE) or pin.source  # not SYNTHO_CHARTS_URL, a mirror of the other repository
    try:
        vendor(folder, pin, url)
    except DeployError as error:
        pytest.skip(f"the charts of deployment-tools are missing: set {URL_VARIABLE} to a mirror of them ({error.what})")


@pytest.fixture(scope="module")
def upstream(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which the charts are vendored and every environment is at this pin."""
    folder = copy_project(root, tmp_path_factory.mktemp("pin") / "project")
    with_charts(folder)
    for name in ("dev", "staging", "prod"):
        file = folder / "envs" / f"{name}.yaml"
        file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), "charts": PIN}))
    return folder


def files(found: Compiled) -> dict[str, dict[str, str]]:
    return {name: chart.files for name, chart in found.charts.items()}


def manifests(found: Compiled) -> str:
    return "".join(text for chart in found.charts.values() for name, text in chart.files.items() if name.startswith("manifests/"))


@pytest.mark.parametrize("name", ["dev", "staging", "prod"])
def test_each_shipped_environment_compiles_to_the_same_bytes_under_both_helms(upstream: Path, helm: Helm, helm3: Helm, name: str) -> None:
    first = Project.load(upstream, name).compile(helm)
    assert files(first) == files(Project.load(upstream, name).compile(helm3))
    shutil.rmtree(upstream / ".cache")
    assert files(first) == files(Project.load(upstream, name).compile(helm))  # nothing random is left
    assert not TOKEN.search("".join(text for chart in files(first).values() for text in chart.values()))
    assert [public for public in PUBLIC if public in manifests(first)] == []
    assert {item["kind"] for item in first.objects} >= {"RayCluster", "Deployment", "Ingress"}
    assert not [item for item in first.objects if item["kind"] in ("Secret", "Pod", "CustomResourceDefinition")]


@pytest.mark.parametrize("name", ["dev", "staging", "prod"])
def test_each_image_comes_from_the_environments_registry(upstream: Path, helm: Helm, name: str) -> None:
    project = Project.load(upstream, name)
    images = set(re.findall(r"^\s*(?:- )?image: (.*)", manifests(project.compile(helm)), re.MULTILINE))
    assert images
    assert not [image for image in images if not image.startswith(f"{project.environment.vars['registry']}/")]


def test_the_custom_resource_definitions_of_the_subchart_come_along_once(upstream: Path, helm: Helm) -> None:
    chart = Project.load(upstream, "dev").compile(helm).charts["ray"]
    assert [path.name for path in chart.crds] == ["ray.io_rayclusters.yaml", "ray.io_rayjobs.yaml", "ray.io_rayservices.yaml"]
    (cluster,) = [item for item in chart.objects if item["kind"] == "RayCluster"]
    assert cluster["apiVersion"] == "ray.io/v1"
    assert not [keys for keys, value in documents.walk(cluster) if value is None]


# --- the engine, on an overlay of one's own -------------------------------------------------------------------------


class Build:
    """Compiles an environment made of these components, operations and variables."""

    def __init__(self, folder: Path, helm: Helm, vars_: dict[str, Any]) -> None:
        self.folder, self.helm, self.vars = folder, helm, vars_

    def __call__(self, *names: str, ray: list[Any] | None = None, ui: list[Any] | None = None, helm: Helm | None = None) -> dict[str, dict[str, Any]]:
        """The objects by Kind/name."""
        own = self.folder / "overlays" / "one"
        shutil.rmtree(own, ignore_errors=True)
        for chart, operations in (("ray", ray), ("syntho-ui", ui)):
            if operations:
                write_files(own, {f"{chart}.values.yaml": yaml.safe_dump(operations)})
        text = self.text(names)
        environment = {"cluster": {"context": "c", "namespace": "ns"}, "charts": PIN, "components": list(names)}
        environment["vars"] = {name: value for name, value in self.vars.items() if f"${{{name}}}" in text}
        environment["secrets"] = {name: {"generate": "token"} for name in re.findall(r"\$\{secret:([^}]*)\}", text)}
        write_files(self.folder, {"envs/one.yaml": yaml.safe_dump(environment)})
        self.compiled = Project.load(self.folder, "one").compile(helm or self.helm)
        return {label(item): item for item in self.compiled.objects}

    def text(self, names: tuple[str, ...]) -> str:
        """All that the files of components say at this pin."""
        folders = [place(self.folder, name) for name in names]
        return "".join(file.read_text() for folder in folders for file in [*folder.glob("*.yaml"), *folder.glob("*.objects/*.yaml")])


def place(folder: Path, name: str) -> Path:
    """The folder that gives a component at this pin."""
    return next(folder / search / "components" / name for search in SEARCH if is_component(folder / search / "components" / name))


VARS: dict[str, Any] = {
    "host": "h.example.com", "ingress_class": "traefik", "tls_secret": "tls-here",
    "registry": "r.example.com/s", "tag": "2026.1", "operator_tag": "1.4", "postgres_tag": "14", "redis_tag": "7", "busybox_tag": "1.28",
    "pull_secret": "pull-here", "storage_class": "rwo-here", "storage_class_rwx": "rwx-here", "head_cpu": "3", "head_memory": "5G",
    "postgres_host": "pg.example.com", "postgres_port": 5433, "core_db": "c", "core_db_user": "cu", "backend_db": "b", "backend_db_user": "bu",
    "redis_host": "redis.example.com", "redis_port": 6380, "core_redis_db": 7, "backend_redis_db": 8,
    "admin_user": "boss", "admin_email": "boss@example.com",
    "cluster_name": "other", "pool": "gpu", "pool_replicas": 2, "pool_max": 4, "pool_cpu": "6", "pool_memory": "7G",
    "cluster_issuer": "issuer-here", "core_replicas": 2, "backend_replicas": 3, "frontend_replicas": 4,
    "ray_volume_size": "21Gi", "ray_data_volume_size": "1Ti", "core_volume_size": "22Gi", "backend_volume_size": "23Gi",
    **{f"{part}_{name}": value for part in ("head", "worker", "small") for name, value in {
        "node_selector": {"pool": part}, "tolerations": [{"key": part, "operator": "Equal", "value": "y", "effect": "NoSchedule"}],
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        "security_context": {"runAsNonRoot": True}, "annotations": {"part": part},
    }.items()},
}  # fmt: skip


@pytest.fixture
def build(upstream: Path, helm: Helm) -> Build:
    return Build(upstream, helm, VARS)


def at(objects: dict[str, dict[str, Any]], of: str, path: str) -> Any:
    """A field of an object, by a pointer with selectors."""
    here: Any = objects[of]
    for key in compile_pointer(here, path)[0]:
        here = here[key]
    return here


def env(objects: dict[str, dict[str, Any]], of: str, name: str) -> Any:
    """A variable of an object's first container: its value, or the (Secret, key) that it comes from."""
    entries = at(objects, of, "/spec/template/spec/containers")[0]["env"]
    (entry,) = [entry for entry in entries if entry["name"] == name]
    reference = (entry.get("valueFrom") or {}).get("secretKeyRef")
    return (reference["name"], reference["key"]) if reference else entry["value"]


def secret(name: str) -> tuple[str, str]:
    return "syntho-ui-secrets", name


HEAD = "/spec/headGroupSpec/template/spec"
WORKERS = ("Deployment/backend", "Deployment/backend-worker", "Deployment/core", "Deployment/core-worker", "Deployment/frontend")
DATABASES = ("Deployment/database", "Deployment/postgres")


def pod(objects: dict[str, dict[str, Any]], of: str, path: str = "") -> Any:
    return at(objects, of, f"/spec/template/spec{path}")


def groups(objects: dict[str, dict[str, Any]], name: str = "ray-cluster") -> dict[str, Any]:
    return {group["groupName"]: group for group in objects[f"RayCluster/{name}"]["spec"].get("workerGroupSpecs", [])}


def test_budgets_are_of_the_version_that_the_kubernetes_version_has(build: Build, helm3: Helm) -> None:
    for part in ("core", "backend", "frontend", "db"):
        operations = [{"op": "replace", "path": f"/{part}/podDisruptionBudget", "value": {"minAvailable": 1}}]
        found = build("keys", "admin", ui=operations)
        budgets = [item for item in found.values() if item["kind"] == "PodDisruptionBudget"]
        assert {item["apiVersion"] for item in budgets} == {"policy/v1"}
        assert all(item["spec"]["minAvailable"] == 1 and item["spec"]["selector"]["matchLabels"]["app"] for item in budgets)
        first = files(build.compiled)
        build("keys", "admin", ui=operations, helm=helm3)
        assert files(build.compiled) == first


def test_what_is_removed_does_not_come_back_from_the_subchart(build: Build, helm: Helm, helm3: Helm) -> None:
    for binary in (helm, helm3):
        for operation in ({"op": "remove", "path": "/ray-cluster/head/resources/limits"}, {"op": "remove", "path": "/ray-cluster/head/volumeMounts"}):
            found = build("keys", ray=[operation], helm=binary)
            head = at(found, "RayCluster/ray-cluster", f"{HEAD}/containers/[name=ray-head]")
            assert operation["path"].rpartition("/")[2] not in {**head, **head["resources"]}


def test_a_default_of_the_subchart_can_be_replaced(build: Build) -> None:
    found = build("keys", ray=[{"op": "replace", "path": "/kuberay-operator/readinessProbe/periodSeconds", "value": 7}])
    assert pod(found, "Deployment/kuberay-operator", "/containers")[0]["readinessProbe"]["periodSeconds"] == 7


# --- component by component -----------------------------------------------------------------------------------------


def images(build: Build) -> None:
    found = build("images")
    for of in WORKERS[:2]:
        assert pod(found, of, "/containers")[0]["image"] == "r.example.com/s/syntho-core-backend:2026.1"
    for of in WORKERS[2:4]:
        assert pod(found, of, "/containers")[0]["image"] == "r.example.com/s/syntho-core-api:2026.1"
    assert pod(found, "Deployment/frontend", "/containers")[0]["image"] == "r.example.com/s/syntho-core-frontend:2026.1"
    assert pod(found, "Deployment/frontend", "/initContainers")[0]["image"] == "r.example.com/s/busybox:1.28"
    for of in DATABASES:
        assert pod(found, of, "/containers")[0]["image"] == "r.example.com/s/postgres:14"
    for part in ("containers", "initContainers"):
        assert pod(found, "StatefulSet/redis", f"/{part}")[0]["image"] == "r.example.com/s/redis:7"
    assert pod(found, "Deployment/kuberay-operator", "/containers")[0]["image"] == "r.example.com/s/syntho-ray-operator:1.4"
    assert at(found, "RayCluster/ray-cluster", f"{HEAD}/containers/[name=ray-head]/image") == "r.example.com/s/syntho-ray:2026.1"
    assert at(found, "RayCluster/ray-cluster", f"{HEAD}/initContainers/[name=init-busybox]/image") == "r.example.com/s/busybox:1.28"


def pull_secret(build: Build) -> None:
    found = build("pull-secret", "ray/two-pools")
    wanted = [{"name": "pull-here"}]
    for of in (*WORKERS, *DATABASES, "StatefulSet/redis", "Deployment/kuberay-operator"):
        assert pod(found, of, "/imagePullSecrets") == wanted
    assert at(found, "RayCluster/ray-cluster", f"{HEAD}/imagePullSecrets") == wanted
    assert all(group["template"]["spec"]["imagePullSecrets"] == wanted for group in groups(found).values())


def license_(build: Build) -> None:
    found = build("license", "ray/two-pools")
    for of in ("Deployment/core", "Deployment/core-worker"):
        assert env(found, of, "LICENSE_KEY_SIGNED") == secret("license")
    wanted = {"name": "LICENSE_KEY_SIGNED", "valueFrom": {"secretKeyRef": {"name": "syntho-ui-secrets", "key": "license"}}}
    assert wanted in at(found, "RayCluster/ray-cluster", f"{HEAD}/containers/[name=ray-head]/env")
    assert all(wanted in group["template"]["spec"]["containers"][0]["env"] for group in groups(found).values())


def ray_address(build: Build) -> None:
    rename = [{"op": "replace", "path": "/ray-cluster/fullnameOverride", "value": "other"}]
    for operations, name in (([], "ray-cluster"), (rename, "other")):
        found = build("ray/address", ray=operations)
        assert f"RayCluster/{name}" in found
        for of in ("Deployment/core", "Deployment/core-worker"):
            for variable in ("RAY_ADDRESS", "CORE_ADDRESS"):
                assert env(found, of, variable) == f"{name}-head-svc.ns.svc.cluster.local"
        assert env(found, "Deployment/backend", "RAY_URL") == f"http://{name}-head-svc.ns.svc.cluster.local:8265"


def ray_head_only(build: Build) -> None:
    found = build("ray/head-only")
    assert groups(found) == {}
    wanted = {"limits": {"cpu": "3", "memory": "5G"}, "requests": {"cpu": "3", "memory": "5G"}}
    assert at(found, "RayCluster/ray-cluster", f"{HEAD}/containers/[name=ray-head]/resources") == wanted


def ray_two_pools(build: Build) -> None:
    found = build("ray/two-pools")
    pools = groups(found)
    assert {name: (pool["replicas"], pool["minReplicas"], pool["maxReplicas"]) for name, pool in pools.items()} == {
        "smallGroup": (1, 1, 3),
        "workergroup": (1, 1, 3),
    }
    head = at(found, "RayCluster/ray-cluster", f"{HEAD}/containers/[name=ray-head]/resources")
    assert head == {"limits": {"cpu": "1", "memory": "2G"}, "requests": {"cpu": "1", "memory": "2G"}}
    for name, cpu, memory in (("workergroup", "16", "64G"), ("smallGroup", "4", "8G")):
        same = {"cpu": cpu, "memory": memory}
        assert pools[name]["template"]["spec"]["containers"][0]["resources"] == {"limits": same, "requests": same}


def cluster_name(build: Build) -> None:
    found = build("cluster-name", "ray/address")
    assert "RayCluster/other" in found
    assert env(found, "Deployment/core", "RAY_ADDRESS") == "other-head-svc.ns.svc.cluster.local"


def ray_pool(build: Build) -> None:
    for others in ((), ("ray/two-pools",), ("ray/head-only", "scheduling/ray-small")):
        pools = groups(build(*others, "ray/pool"))
        assert sorted(pools) == sorted(["gpu", *(("smallGroup", "workergroup") if others == ("ray/two-pools",) else ())])
        assert [pools["gpu"][name] for name in ("replicas", "minReplicas", "maxReplicas")] == [2, 2, 4]
        same = {"cpu": "6", "memory": "7G"}
        template = pools["gpu"]["template"]
        assert [template["spec"][field] for field in ("nodeSelector", "tolerations", "affinity")] == [{}, [], {}]
        assert template["metadata"]["annotations"] == {}
        (container,) = pools["gpu"]["template"]["spec"]["containers"]
        assert container["securityContext"] == test_components.RESTRICTED
        assert container["resources"] == {"limits": same, "requests": same}
        assert "/tmp/ray-data" in {mount["mountPath"] for mount in container["volumeMounts"]}


def ray_autoscaling(build: Build) -> None:
    found = build("ray/autoscaling", "ray/two-pools")
    assert found["RayCluster/ray-cluster"]["spec"]["enableInTreeAutoscaling"] is True
    assert {(pool["minReplicas"], pool["maxReplicas"]) for pool in groups(found).values()} == {(1, 3)}
    assert "forced-cluster-upgrade" not in str(found["Deployment/kuberay-operator"])
    assert at(found, "RayCluster/ray-cluster", f"{HEAD}/automountServiceAccountToken") is True
    options = {"imagePullPolicy": "IfNotPresent", "securityContext": test_components.RESTRICTED}
    assert found["RayCluster/ray-cluster"]["spec"]["autoscalerOptions"] == options


def scheduled(template: dict[str, Any], part: str) -> None:
    spec = template["spec"]
    for field, name in (("nodeSelector", "node_selector"), ("tolerations", "tolerations"), ("affinity", "affinity")):
        assert spec[field] == VARS[f"{part}_{name}"]
    assert spec["containers"][0]["securityContext"] == {"runAsNonRoot": True}
    assert template["metadata"]["annotations"] == {"part": part}


def scheduling_ray_head(build: Build) -> None:
    scheduled(at(build("scheduling/ray-head"), "RayCluster/ray-cluster", "/spec/headGroupSpec/template"), "head")


def scheduling_ray_worker(build: Build) -> None:
    pools = groups(build("scheduling/ray-worker", "ray/two-pools"))
    scheduled(pools["workergroup"]["template"], "worker")
    assert pools["smallGroup"]["template"]["spec"]["nodeSelector"] == {}


def scheduling_ray_small(build: Build) -> None:
    pools = groups(build("scheduling/ray-small", "ray/two-pools"))
    scheduled(pools["smallGroup"]["template"], "small")
    assert pools["workergroup"]["template"]["spec"]["nodeSelector"] == {}


def storage_class(build: Build) -> None:
    found = build("storage-class")
    for claim in ("ray-workflows-claim", "ray-data-claim"):
        assert at(found, f"PersistentVolumeClaim/{claim}", "/spec/storageClassName") == "rwx-here"
    for claim in ("database-data-1", "database-data-2"):
        assert at(found, f"PersistentVolumeClaim/{claim}", "/spec/storageClassName") == "rwo-here"
    for item in at(found, "StatefulSet/redis", "/spec/volumeClaimTemplates"):
        assert item["spec"]["storageClassName"] == "rwo-here"


def storage_class_default(build: Build) -> None:
    found = build("storage-class/default")
    claims = [item for item in found.values() if item["kind"] == "PersistentVolumeClaim"]
    assert len(claims) == 4
    for item in [*claims, *at(found, "StatefulSet/redis", "/spec/volumeClaimTemplates")]:
        assert item["spec"].get("storageClassName") is None
    no_redis(build("storage-class/default", "redis/external"))


def rule(objects: dict[str, dict[str, Any]]) -> dict[str, tuple[str, int]]:
    paths = at(objects, "Ingress/frontend-ingress", f"/spec/rules/[host={VARS['host']}]/http/paths")
    return {item["path"]: (item["backend"]["service"]["name"], item["backend"]["service"]["port"]["number"]) for item in paths}


def ingress_off(build: Build) -> None:
    found = build("ingress/off")
    assert not [name for name in found if name.startswith("Ingress/")]
    assert env(found, "Deployment/backend", "EXTRA_ALLOWED_HOSTS") == VARS["host"]
    assert env(found, "Deployment/backend", "SECURE_COOKIES") == "false"


def ingress_nginx(build: Build) -> None:
    found = build("ingress/nginx")
    assert rule(found) == {"/": ("frontend", 3000), "/api": ("backend", 80)}
    assert found["Ingress/frontend-ingress"]["spec"]["ingressClassName"] == "traefik"
    assert {path["pathType"] for path in at(found, "Ingress/frontend-ingress", "/spec/rules/0/http/paths")} == {"Prefix"}
    assert [port["port"] for port in found["Service/backend"]["spec"]["ports"]] == [80]
    assert "tls" not in found["Ingress/frontend-ingress"]["spec"]
    assert env(found, "Deployment/backend", "FRONTEND_URL") == "http://h.example.com"
    assert env(found, "Deployment/backend", "SECURE_COOKIES") == "false"


def ingress_tls_secret(build: Build) -> None:
    found = build("ingress/tls-secret")
    assert rule(found) == {"/": ("frontend", 3000), "/api": ("backend", 80)}
    assert at(found, "Ingress/frontend-ingress", "/spec/tls") == [{"hosts": ["h.example.com"], "secretName": "tls-here"}]
    assert env(found, "Deployment/backend", "FRONTEND_URL") == "https://h.example.com"
    assert env(found, "Deployment/backend", "SECURE_COOKIES") == "true"


def ingress_cert_manager(build: Build) -> None:
    found = build("ingress/cert-manager")
    assert rule(found) == {"/": ("frontend", 3000), "/api": ("backend", 80)}
    assert at(found, "Ingress/frontend-ingress", "/metadata/annotations/cert-manager.io~1cluster-issuer") == "issuer-here"
    assert at(found, "Ingress/frontend-ingress", "/spec/tls") == [{"hosts": ["h.example.com"], "secretName": "frontend-tls"}]
    assert env(found, "Deployment/backend", "FRONTEND_URL") == "https://h.example.com"


def tls_self_signed(build: Build) -> None:
    assert "trustAll=true" in env(build("tls/self-signed"), "Deployment/frontend", "JAVA_OPTS")


def volume_sizes(build: Build) -> None:
    found = build("volume-sizes")
    sizes = {"ray-workflows-claim": "21Gi", "database-data-1": "22Gi", "database-data-2": "23Gi", "ray-data-claim": "100Gi"}  # the last has a value
    assert {name: at(found, f"PersistentVolumeClaim/{name}", "/spec/resources/requests/storage") for name in sizes} == sizes


def volume_sizes_ray_data(build: Build) -> None:
    found = build("volume-sizes", "volume-sizes/ray-data")
    assert at(found, "PersistentVolumeClaim/ray-data-claim", "/spec/resources/requests/storage") == "1Ti"


def postgres_in_chart(build: Build) -> None:
    found = build("postgres/in-chart")
    assert env(found, "Deployment/postgres", "POSTGRES_PASSWORD") == secret("core.db.password")
    assert env(found, "Deployment/database", "POSTGRES_PASSWORD") == secret("backend.db.password")
    for of in ("Deployment/core", "Deployment/core-worker"):
        assert env(found, of, "DB_PASSWORD") == secret("core.db.password")
        assert env(found, of, "DATABASE_URL") == "postgresql+asyncpg://postgres:$(SECRET_CORE_DB_PASSWORD_URL)@postgres:5432/rwdb"
    for of in ("Deployment/backend", "Deployment/backend-worker"):
        assert env(found, of, "DB_PASSWORD") == secret("backend.db.password")


def no_database(found: dict[str, dict[str, Any]], name: str, claim: str) -> None:
    assert not {f"Deployment/{name}", f"Service/{name}", f"PersistentVolumeClaim/{claim}"} & set(found)


def postgres_external(build: Build) -> None:
    found = build("postgres/external")
    no_database(found, "postgres", "database-data-1")
    no_database(found, "database", "database-data-2")
    for of in ("Deployment/core", "Deployment/core-worker"):
        assert [env(found, of, f"DB_{part}") for part in ("HOST", "PORT", "NAME", "USER")] == ["pg.example.com", "5433", "c", "cu"]
        assert env(found, of, "DB_PASSWORD") == secret("core.db.password")
        assert env(found, of, "DATABASE_URL") == "postgresql+asyncpg://cu:$(SECRET_CORE_DB_PASSWORD_URL)@pg.example.com:5433/c"
    for of in ("Deployment/backend", "Deployment/backend-worker"):
        assert [env(found, of, f"DB_{part}") for part in ("HOST", "PORT", "NAME", "USER")] == ["pg.example.com", "5433", "b", "bu"]
        assert env(found, of, "DB_PASSWORD") == secret("backend.db.password")


def no_redis(found: dict[str, dict[str, Any]]) -> None:
    assert not {"StatefulSet/redis", "Service/redis-svc", "ConfigMap/redis-configuration"} & set(found)


def redis_external(build: Build) -> None:
    found = build("redis/external")
    no_redis(found)
    for of in ("Deployment/core", "Deployment/core-worker"):
        assert env(found, of, "CELERY_BROKER_URL") == "redis://redis.example.com:6380/1"
    for of in ("Deployment/backend", "Deployment/backend-worker"):
        assert [env(found, of, f"REDIS_{part}") for part in ("HOST", "PORT", "DB_INDEX")] == ["redis.example.com", "6380", "0"]
    for probe in ("readinessProbe", "livenessProbe"):
        assert "redis://redis.example.com:6380/1" in pod(found, "Deployment/core-worker", "/containers")[0][probe]["exec"]["command"][2]


def redis_external_tls(build: Build) -> None:
    found = build("redis/external-tls")
    no_redis(found)
    for of in ("Deployment/core", "Deployment/core-worker"):
        for variable in ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"):
            assert env(found, of, variable) == "rediss://:$(SECRET_REDIS_PASSWORD_URL)@redis.example.com:6380/7?ssl_cert_reqs=required"
        assert env(found, of, "SECRET_REDIS_PASSWORD_URL") == secret("redis.password.url")
    assert "redis://" not in str(found["Deployment/core-worker"]).replace("rediss://", "")


def replicas(build: Build) -> None:
    found = build("replicas")
    counts = {"core": 2, "core-worker": 2, "backend": 3, "backend-worker": 3, "frontend": 4, "postgres": 1, "database": 1}
    assert {name: at(found, f"Deployment/{name}", "/spec/replicas") for name in counts} == counts


def admin(build: Build) -> None:
    found = build("admin")
    for of in ("Deployment/backend", "Deployment/backend-worker"):
        assert [env(found, of, f"USER_{part}") for part in ("NAME", "EMAIL")] == ["boss", "boss@example.com"]
        assert env(found, of, "USER_PASSWORD") == secret("backend.user.password")


def keys(build: Build) -> None:
    found = build("keys")
    for of in ("Deployment/core", "Deployment/core-worker"):
        assert env(found, of, "SECRET_KEY") == secret("core.secret_key")
    for of in ("Deployment/backend", "Deployment/backend-worker"):
        assert env(found, of, "SECRET_KEY") == secret("backend.secret_key")
    once = at(found, "Deployment/backend", "/metadata/annotations/checksum~1config")
    shutil.rmtree(build.folder / ".cache")
    assert at(build("keys"), "Deployment/backend", "/metadata/annotations/checksum~1config") == once  # else a hash of a random key


# What each component does here. Those of PINNED have a folder of this pin; all others are the common ones, unchanged.
CLAIMS: dict[str, Callable[[Build], None]] = {
    "admin": admin, "cluster-name": cluster_name, "images": images, "ingress/cert-manager": ingress_cert_manager,
    "ingress/nginx": ingress_nginx, "ingress/off": ingress_off, "ingress/tls-secret": ingress_tls_secret, "keys": keys, "license": license_,
    "postgres/external": postgres_external, "postgres/in-chart": postgres_in_chart, "pull-secret": pull_secret, "ray/address": ray_address,
    "ray/autoscaling": ray_autoscaling, "ray/head-only": ray_head_only, "ray/pool": ray_pool, "ray/two-pools": ray_two_pools,
    "redis/external": redis_external, "redis/external-tls": redis_external_tls, "replicas": replicas,
    "scheduling/ray-head": scheduling_ray_head, "scheduling/ray-small": scheduling_ray_small, "scheduling/ray-worker": scheduling_ray_worker,
    "storage-class": storage_class, "storage-class/default": storage_class_default, "tls/self-signed": tls_self_signed,
    "volume-sizes": volume_sizes, "volume-sizes/ray-data": volume_sizes_ray_data,
}  # fmt: skip
PINNED = {
    "images", "images/digests", "images/tags", "pull-secret", "cluster-name", "ray/head-only", "ray/two-pools", "ray/pool", "ray/autoscaling",
    "scheduling/ray-head", "scheduling/ray-worker", "scheduling/ray-small", "scheduling/ray-pool", "scheduling/ray-operator", "scheduling/ui",
    "volume-sizes/ray-data", "ingress/nginx", "ingress/off", "resources", "security/restricted", "tls/private-ca", "volumes",
}  # fmt: skip


@pytest.mark.parametrize("name", CLAIMS)
def test_the_component_does_here_what_it_says(build: Build, name: str) -> None:
    CLAIMS[name](build)
    build.compiled.charts["ray"].write(build.folder / "out")
    assert not TOKEN.search("".join(text for chart in files(build.compiled).values() for text in chart.values()))


# These do here what their row in test_components says, but for HERE.
COMMON = [
    "images/digests", "images/tags", "ingress/second-host", "postgres/external-backend", "postgres/external-core", "postgres/tls",
    "postgres/tls/backend", "postgres/tls/core", "redis/databases", "redis/in-chart", "resources", "resources/postgres", "resources/redis",
    "scheduling/ray-operator", "scheduling/ray-pool", "scheduling/ui", "security/network-policies", "security/network-policies/autoscaling",
    "security/restricted", "security/restricted/postgres", "security/restricted/redis", "tls/private-ca", "volume-sizes/ray", "volume-sizes/redis",
    *(f"{kind}/{of}" for kind in ("volume-sizes", "resources/postgres", "security/restricted/postgres") for of in ("core", "backend")),
    "volumes",
]  # fmt: skip
OPERATOR = test_components.container("kuberay-operator")
SMALL, LARGE = (test_components.group(pool, "/template/spec") for pool in ("smallGroup", "workergroup"))
HERE: dict[str, dict[str, Any]] = {
    "images/digests": {test_components.head(f"{test_components.HEAD}/image"): f"mirror.example.com/syntho/syntho-ray:1.10@{DIGESTS['ray']}"},
    "resources": {f"{OPERATOR}/resources": VARIABLES["operator_resources"]},
    "scheduling/ui": {  # with its worker: these are patched in
        "Deployment/backend-worker:/metadata/annotations": {"part": "ui"},
        "Deployment/core-worker:/metadata/annotations": {"part": "ui"},
    },
    "security/restricted": {
        f"{OPERATOR}/securityContext": test_components.RESTRICTED | {"readOnlyRootFilesystem": True, "runAsNonRoot": True},
        test_components.head("/spec/initContainers/0/securityContext"): test_components.RESTRICTED
        | {"capabilities": {"drop": ["ALL"], "add": ["DAC_OVERRIDE", "FOWNER"]}},
        **{f"{pool}/initContainers": None for pool in (SMALL, LARGE)},  # KubeRay's, with the context of the worker
        **{f"{pool}/serviceAccountName": "syntho-ray-worker" for pool in (SMALL, LARGE)},
        "ServiceAccount/syntho-ray-worker:/automountServiceAccountToken": False,
    },
}  # fmt: skip


def row(name: str) -> dict[str, Any]:
    """The row of a component in test_components, as it is here: the operator's container has another name, and pools no init container."""
    elsewhere = (test_components.OPERATOR, f"{SMALL}/initContainers", f"{LARGE}/initContainers")
    return {place: value for place, value in test_components.TABLE[name].items() if not place.startswith(elsewhere)} | HERE.get(name, {})


@pytest.fixture
def here(upstream: Path, helm: Helm, monkeypatch: pytest.MonkeyPatch) -> Pinned:
    """The charts of this pin for what the tests of the other pins do."""
    monkeypatch.setitem(PINS, "2026.1.1", PIN)
    return Pinned("2026.1.1", upstream, helm)


@pytest.mark.parametrize("name", COMMON)
def test_a_common_component_does_here_what_its_row_says(here: Pinned, name: str) -> None:
    objects = here.objects(test_components.environment(name))
    for where, expected in row(name).items():
        assert not test_components.differs(objects, where, expected), where


@pytest.mark.thorough
@pytest.mark.parametrize("name", sorted(PINNED | {"security/network-policies"}))
def test_each_operation_of_a_component_of_this_pin_is_needed_for_what_is_claimed_of_it(here: Pinned, build: Build, name: str) -> None:
    def claim() -> bool:
        if name in CLAIMS:
            try:
                CLAIMS[name](build)
            except (AssertionError, KeyError, PointerError):
                return False
            return True
        if name == test_mutants.NETWORKS:
            return test_mutants.holds(name, here.objects(test_network_policies.ALL_IN_CHART))
        objects = here.objects(test_components.environment(name))
        return not any(test_components.differs(objects, where, expected) for where, expected in row(name).items())

    build()
    write_files(here.root, {"envs/it.yaml": (here.root / "envs/one.yaml").read_text()})  # whose charts' defaults are asked for
    assert claim()
    assert test_mutants.survivors(here, name, claim) == []


def pool_last(names: list[str]) -> list[str]:
    """The further pool copies the small one as others made it."""
    return [*(name for name in names if name != "ray/pool"), *(name for name in names if name == "ray/pool")]


@pytest.mark.parametrize("name", test_components.COMBINATIONS)
def test_sensible_combinations_compile_here_in_either_order(here: Pinned, name: str) -> None:
    names = [*test_components.BASE, *test_components.COMBINATIONS[name]]
    first, turned = (test_components.unordered(here.objects(pool_last(order))) for order in (names, names[::-1]))
    assert first == turned


@pytest.mark.parametrize("name", test_components.COMBINATIONS)
def test_lint_finds_nothing_here_in_sensible_combinations(here: Pinned, name: str) -> None:
    assert here.faults(pool_last(test_components.for_lint(test_components.COMBINATIONS[name]))) == []


@pytest.mark.parametrize("names", test_components.MATRIX, ids="+".join)
def test_any_choice_of_each_kind_goes_here_with_any_of_another(here: Pinned, names: list[str]) -> None:
    test_components.test_any_choice_of_each_kind_goes_with_any_of_another(here, names)


def test_all_that_do_not_exclude_each_other_compile_here_together(here: Pinned) -> None:
    objects = here.objects([*test_components.BASE, *test_components.EVERYTHING])
    names = [name for name in test_components.EVERYTHING if name in COMMON]
    wrong = {place for name in names for place, value in row(name).items() if test_components.differs(objects, place, value)}
    completed = {place for place in wrong if place.endswith("/securityContext")}  # by security/restricted
    assert wrong - completed == {test_components.head("/spec/automountServiceAccountToken")}  # ray/autoscaling
    pools = groups(objects)
    assert sorted(pools) == ["gpu", "smallGroup", "workergroup"]
    for name, pool in pools.items():
        spec = pool["template"]["spec"]
        assert {volume["name"] for volume in spec["volumes"]} == {"log-volume", "ray-workflows", "ray-data", "data", "private-ca"}, name
        assert spec["serviceAccountName"] == "syntho-ray-worker", name
        assert {entry["name"] for entry in spec["containers"][0]["env"]} >= {"LICENSE_KEY_SIGNED", "REQUESTS_CA_BUNDLE", "PGSSLROOTCERT"}, name


def test_no_pod_is_forgotten_here_by_what_is_for_all(here: Pinned) -> None:
    objects = here.objects([*test_components.BASE, *test_components.EVERYTHING])
    test_components.check_every_pod(objects, {"Deployment/kuberay-operator/0", "RayCluster/ray-cluster/0"})


def test_every_image_can_have_a_digest_here(here: Pinned, monkeypatch: pytest.MonkeyPatch) -> None:
    test_components.test_every_image_can_have_a_digest(here, monkeypatch)


def test_lint_finds_nothing_here_in_all_of_them(here: Pinned) -> None:
    assert here.faults([*test_components.BASE, *test_components.EVERYTHING]) == []


def test_no_operation_of_a_component_is_without_effect_here(here: Pinned) -> None:
    here.compile([*test_components.BASE, *test_components.EVERYTHING])
    assert explain.dead(here.load("it"), here.helm) == ([], [])


CLASHES = [*(names for names in test_components.CLASHES if names != ["ray/pool", "images"]), ["ray/pool", "security/restricted"]]


@pytest.mark.parametrize("names", CLASHES, ids="+".join)
def test_components_that_exclude_each_other_or_are_out_of_order_clash_here(here: Pinned, names: list[str]) -> None:
    with pytest.raises(InputError, match=r"was set by .*overlays/"):
        here.compile([*(one for one in test_components.BASE if one not in names), *names])


def test_an_annotation_of_the_backend_does_not_render_here_as_a_value(here: Pinned) -> None:
    """Why scheduling/ui patches it in: the template puts it on the line of the checksum."""
    with pytest.raises(InputError, match="YAML"):
        here.compile(test_components.BASE, ui=[{"op": "add", "path": "/backend/annotations", "value": {"a": "b"}}])


def test_the_network_policies_let_the_same_flows_through_here(here: Pinned) -> None:
    assert test_network_policies.flows(here.objects(test_network_policies.ALL_IN_CHART)) == test_network_policies.EXPECTED


def test_what_roles_say_of_a_rotation_is_so_here(here: Pinned) -> None:
    test_components.check_rotation(here)


def test_every_component_is_claimed_and_those_that_differ_here_are_known(root: Path) -> None:
    assert sorted(components([root / search for search in SEARCH])) == sorted([*CLAIMS, *COMMON])
    assert {str(path.parent.relative_to(root / SEARCH[0] / "components")) for path in (root / SEARCH[0]).rglob("*.values.yaml")} | {
        str(path.parent.relative_to(root / SEARCH[0] / "components")) for path in (root / SEARCH[0]).rglob("*.manifests.yaml")
    } == PINNED


ELSEWHERE = {  # snippets of the guide for Ray, whose values have moved at this pin: where to
    "images of Ray": "/kuberay-operator/image", "pull secret of Ray": "/ray-cluster/imagePullSecrets", "cluster name": "/ray-cluster",
    "one pool, though the text says two": "/ray-cluster/head", "one pool, though the text says head only": "/ray-cluster/head",
}  # fmt: skip
IN_A_SECRET = {"licence of Ray", "databases of the backend", "database of the core"}  # of the chart's own, at this pin
WITH_REDIS = "pull secret of the UI, Redis aside"


@pytest.mark.parametrize("name", sorted(set(test_guide.RIGHT) - IN_A_SECRET - {WITH_REDIS}))
def test_a_snippet_of_the_guide_arrives_here_or_is_told_where_its_value_went(here: Pinned, name: str) -> None:
    chart, snippet, _ = test_guide.RIGHT[name]
    if name not in ELSEWHERE:
        test_guide.test_a_snippet_that_fits_the_chart_arrives(here, name)
        return
    with pytest.raises(InputError, match=f"the nearest path is {ELSEWHERE[name]}"):
        test_guide.paste(here, chart, snippet)


@pytest.mark.parametrize("name", test_guide.WRONG)
def test_a_snippet_that_does_not_fit_says_here_too_what_is_wrong(here: Pinned, name: str) -> None:
    test_guide.test_a_snippet_that_does_not_fit_says_what_is_wrong(here, name)


def test_services_outside_are_read_from_the_charts(here: Pinned) -> None:
    test_services_outside.check(test_services_outside.read(here))
