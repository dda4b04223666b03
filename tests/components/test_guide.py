"""The deployment guide's own snippets, pasted as they stand: each gives what the guide says it does, or an error that says what is wrong.

A snippet is pasted by the obvious translation: a `replace` at the pointer of each of its leaves. `replace` because the guide says "set the
following fields": a field that is not there cannot be set. What the guide means by each is in a component, whose row is in test_components.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from syntho_deploy import explain
from syntho_deploy.documents import Json
from syntho_deploy.environment import SecretSpec
from syntho_deploy.errors import InputError, Mark, PreflightError
from syntho_deploy.overlays.pointer import text
from syntho_deploy.secrets import sources
from tests.components.conftest import Objects, Pinned, at, resources

UI, RAY = "ui", "ray"
HOST = "syntho.example.com"
SAMPLE_FERNET = "U" * 44 + "="  # as long as the guide's sample: one byte too many


def leaves(snippet: Json, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Json]]:
    if isinstance(snippet, dict) and snippet:
        for key, value in snippet.items():
            yield from leaves(value, (*keys, key))
    else:
        yield keys, snippet


def pasted(snippet: Json) -> list[dict[str, Json]]:
    return [{"op": "replace", "path": text(keys), "value": value} for keys, value in leaves(snippet)]


def paste(pinned: Pinned, chart: str, snippet: Json) -> Objects:
    """The objects of an environment whose own overlay is the snippet."""
    return pinned.objects([], **{chart: pasted(snippet)})


def backend(variable: str) -> str:
    return f"Deployment/backend:/spec/template/spec/containers/0/env/[name={variable}]/value"


DATABASE = "Deployment/database:/spec/template/spec/containers/0/env"
CLUSTER = "RayCluster/ray-cluster:/spec"
HEAD = f"{CLUSTER}/headGroupSpec/template/spec"
SPREAD: Json = [{"name": "RAY_SCHEDULER_SPREAD_THRESHOLD", "value": "0.0"}]
PLACED: dict[str, Json] = {"annotations": {}, "nodeSelector": {}, "tolerations": [], "affinity": {}, "securityContext": {}, "sidecarContainers": []}
MOUNTED: dict[str, Json] = {
    "volumes": [{"name": "log-volume", "emptyDir": {}}],
    "volumeMounts": [{"mountPath": "/tmp/ray", "name": "log-volume"}],
}
PORTS: Json = [{"containerPort": port, "name": name} for name, port in (("gcs", 6379), ("dashboard", 8265), ("client", 10001))]
PARAMS: dict[str, Json] = {"dashboard-host": "0.0.0.0", "block": "true"}
BLOCK: dict[str, Json] = {"rayStartParams": {"block": "true"}, "initContainerImage": "busybox:1.28", "initContainerSecurityContext": {}}
ANY: dict[str, Json] = {"containerEnv": SPREAD, "envFrom": [], **PLACED, **MOUNTED}
SMALL: dict[str, Json] = {
    "disabled": False, "replicas": 1, "minReplicas": 1, "maxReplicas": 3, "labels": {}, **BLOCK, **ANY,
    "resources": {"limits": {"cpu": 4, "memory": "8G"}, "requests": {"cpu": 4, "memory": "8G"}},
}  # fmt: skip
PRODUCTION: dict[str, Json] = {
    "head": {"rayStartParams": PARAMS, "ports": PORTS, **ANY, "resources": resources("1", "2G")},
    "worker": {"groupName": "workergroup", "replicas": 1, "labels": {}, **BLOCK, **ANY, "resources": resources("16", "64G")},
    "additionalWorkerGroups": {"smallGroup": SMALL},
}
DEVELOPMENT: dict[str, Json] = {
    "head": {"rayStartParams": PARAMS, "ports": PORTS, **ANY, "resources": resources("4", "32G")},
    "worker": {"disabled": True},
    "additionalWorkerGroups": {"smallGroup": {"disabled": False}},
}

# what is pasted, and where it arrives: what the guide gets right
RIGHT: dict[str, tuple[str, Json, dict[str, Json]]] = {
    "images of Ray": (
        RAY,
        {part: {"repository": f"r.example.com/{part}", "tag": "1.9", "pullPolicy": "IfNotPresent"} for part in ("operatorImage", "image")},
        {
            f"{HEAD}/containers/0/image": "r.example.com/image:1.9",
            "Deployment/kuberay-operator:/spec/template/spec/containers/0/image": "r.example.com/operatorImage:1.9",
        },
    ),
    "pull secret of Ray": (RAY, {"imagePullSecrets": [{"name": "mine"}]}, {f"{HEAD}/imagePullSecrets": [{"name": "mine"}]}),
    "pull secret of the UI, Redis aside": (
        UI,
        {"imagePullSecrets": [{"name": "mine"}]},
        {"Deployment/core:/spec/template/spec/imagePullSecrets": [{"name": "mine"}], "StatefulSet/redis:/spec/template/spec/imagePullSecrets": None},
    ),
    "licence of Ray": (RAY, {"SynthoLicense": "some-licence"}, {f"{HEAD}/containers/0/env/[name=LICENSE_KEY_SIGNED]/value": "some-licence"}),
    "cluster name": (RAY, {"clustername": "mine"}, {"RayCluster/mine:/metadata/name": "mine"}),
    "class of Ray's volume": (
        RAY,
        {"storage": {"storageClassName": "shared"}},
        {"PersistentVolumeClaim/ray-workflows-claim:/spec/storageClassName": "shared"},
    ),
    "name of the site": (UI, {"frontend_url": HOST, "frontend_protocol": "https"}, {backend("FRONTEND_URL"): f"https://{HOST}"}),
    "no Ingress": (UI, {"frontend": {"ingress": {"enabled": False}}}, {"Ingress/frontend-ingress": None}),
    "image of the backend": (
        UI,
        {"backend": {"image": {"repository": "r/b", "tag": "1.9"}}},
        {"Deployment/backend:/spec/template/spec/containers/0/image": "r/b:1.9"},
    ),
    "databases of the backend": (
        UI,
        {
            "backend": {
                "database_enabled": False,
                "db": {"host": "pg", "port": 5432, "user": "u", "password": "p", "name": "n"},
                "redis": {"host": "redis-svc", "port": 6379, "db": 0},
            }
        },
        {"Deployment/database": None, backend("DB_HOST"): "pg", backend("DB_PASSWORD"): "p", backend("REDIS_HOST"): "redis-svc"},
    ),
    "database of the backend in the chart": (
        UI,
        {"backend": {"db": {"host": "database", "port": 5432, "user": "u", "password": "p", "name": "n"}}},
        {
            backend("DB_USER"): "u",
            **{f"{DATABASE}/[name=POSTGRES_{name}]/value": value for name, value in (("USER", "u"), ("PASSWORD", "p"), ("DB", "n"))},
        },
    ),
    "first administrator": (
        UI,
        {"backend": {"user": {"username": "admin", "password": "some-password", "email": "admin@company.com"}}},
        {backend("USER_NAME"): "admin", backend("USER_EMAIL"): "admin@company.com"},
    ),
    "database of the core": (
        UI,
        {"core": {"db": {"username": "u", "password": "p", "name": "n", "host": "pg", "port": 5432}}},
        {"Deployment/core:/spec/template/spec/containers/0/env/[name=DATABASE_URL]/value": "postgresql+asyncpg://u:p@pg:5432/n"},
    ),
    "database of the core in the chart": (UI, {"core": {"database_enabled": True}}, {"Service/postgres:/spec/ports/0/port": 5432}),
    # two that give what was pasted, and not what the text around it says; ray/two-pools and ray/head-only give that
    "one pool, though the text says two": (
        RAY,
        PRODUCTION,
        {
            f"{HEAD}/containers/0/resources": resources("1", "2G"),
            f"{HEAD}/containers/0/ports": PORTS,
            f"{CLUSTER}/workerGroupSpecs/[groupName=smallGroup]/maxReplicas": 3,
            f"{CLUSTER}/workerGroupSpecs/[groupName=smallGroup]/template/spec/containers/0/resources": SMALL["resources"],
            f"{CLUSTER}/workerGroupSpecs/[groupName=workergroup]": None,
        },
    ),
    "one pool, though the text says head only": (
        RAY,
        DEVELOPMENT,
        {f"{HEAD}/containers/0/resources": resources("4", "32G"), f"{CLUSTER}/workerGroupSpecs/[groupName=smallGroup]/replicas": 1},
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_snippet_that_fits_the_chart_arrives(pinned: Pinned, name: str) -> None:
    chart, snippet, expected = RIGHT[name]
    objects = paste(pinned, chart, snippet)
    for place, value in expected.items():
        of, _, path = place.partition(":")
        assert (at(objects[of], path) == value) if path else of not in objects, place


TLS: list[Json] = [{"hosts": [HOST], "secretName": "frontend-tls"}]
INGRESS: dict[str, Json] = {
    "enabled": True,
    "name": "frontend-ingress",
    "className": "nginx",
    "annotations": {"cert-manager.io/cluster-issuer": "", "nginx.ingress.kubernetes.io/proxy-body-size": "512m"},
    "hosts": [{"host": HOST, "paths": [{"path": "/", "pathType": "Prefix"}]}],
    "tls": TLS,
}
REWRITE = "nginx.ingress.kubernetes.io/rewrite-target"
DOES_NOT_RENDER = r"the chart syntho-ui does not render with these values(?s:.*)\.tls\.enabled"

# what is pasted, and what the error says: what the guide gets wrong
WRONG: dict[str, tuple[Json, str]] = {
    "the frontend's image at the top": ({"image": {"repository": "r/f", "tag": "latest"}}, r'there is no "/image", so no "/image/repository"'),
    "the Ingress at the top": ({"ingress": INGRESS}, r'there is no "/ingress"(?s:.*)the nearest path is /frontend/ingress'),
    "a list under tls": ({"frontend": {"ingress": {"tls": TLS}}}, DOES_NOT_RENDER),
    "an empty issuer": (
        {"frontend": {"ingress": {"annotations": {"cert-manager.io/cluster-issuer": ""}}}},
        r"there is no .*cert-manager.io~1cluster-issuer",
    ),
    "the rewrite, which would change API calls": (
        {"frontend": {"ingress": {"annotations": {REWRITE: "/"}}}},
        r"there is no .*rewrite-target(?s:.*)nearest path",
    ),
    "options of the frontend's Java": ({"frontend": {"env": {"JAVA_OPTS": "-D"}}}, r'there is no "/frontend/env"'),
    "an Ingress of the backend": ({"backend": {"ingress": INGRESS}}, r'there is no "/backend/ingress"'),
    "the backend's key at the top": ({"secret_key": "x"}, r'there is no "/secret_key"(?s:.*)the nearest path is /(core|backend)/secret_key'),
    "the core's Redis": ({"redis_host": "redis://redis-svc:6379/1"}, r'there is no "/redis_host"'),
    "Ray's head by a name that is nowhere": (
        {"ray_address": "ray-cluster-ray-head"},
        r'there is no "/ray_address"(?s:.*)the nearest path is /core/ray_address',
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_snippet_that_does_not_fit_says_what_is_wrong(pinned: Pinned, name: str) -> None:
    snippet, words = WRONG[name]
    with pytest.raises(InputError, match=words):
        paste(pinned, UI, snippet)


def test_the_tls_section_cannot_be_removed_as_the_guide_says(pinned: Pinned) -> None:
    with pytest.raises(InputError, match=DOES_NOT_RENDER):
        pinned.compile([], ui=[{"op": "remove", "path": "/frontend/ingress/tls"}])


def test_all_that_is_wrong_with_the_guides_values_is_said_at_once(pinned: Pinned) -> None:
    snippet = {"image": {"tag": "latest"}, "ingress": INGRESS, "secret_key": "x", "redis_host": "r", "ray_address": "a"}
    with pytest.raises(InputError) as caught:
        paste(pinned, UI, snippet)
    assert all(f'there is no "/{key}"' in str(caught.value) for key in snippet)


def without_effect(pinned: Pinned, snippet: Json) -> set[str]:
    """The paths of a snippet, pasted on the ray chart, that plan and deploy refuse."""
    pinned.compile([], ray=pasted(snippet))
    errors, _ = explain.dead(pinned.load("it"), pinned.helm)
    return {str(error).partition(" has no effect")[0].rpartition(" ")[2] for error in errors}


def test_the_guides_large_pool_is_said_to_have_no_effect_until_it_is_turned_on(pinned: Pinned) -> None:
    """The guide leaves out `disabled`, which is true in the chart."""
    refused = without_effect(pinned, PRODUCTION)
    assert {path.split("/")[1] for path in refused} == {"worker"}
    assert refused >= {"/worker/replicas", "/worker/groupName", "/worker/resources/limits/cpu"}
    turned_on = {**PRODUCTION, "worker": {**PRODUCTION["worker"], "disabled": False}}
    assert without_effect(pinned, turned_on) == {"/worker/volumes", "/worker/volumeMounts"}
    groups = at(paste(pinned, RAY, turned_on)["RayCluster/ray-cluster"], "/spec/workerGroupSpecs")
    assert [group["groupName"] for group in groups] == ["smallGroup", "workergroup"]


def test_the_volumes_of_the_guides_workers_are_said_to_have_no_effect(pinned: Pinned) -> None:
    """The chart gives its workers the head's volumes."""
    mine: list[Json] = [{"name": "log-volume", "emptyDir": {}}, {"name": "data", "emptyDir": {}}]
    pinned.compile(["ray/two-pools"], ray=pasted({"worker": {"volumes": mine}}))
    (error,) = explain.dead(pinned.load("it"), pinned.helm)[0]
    assert "/worker/volumes has no effect: the chart ray does not read it here" in str(error)


def test_the_backends_key_where_the_guide_means_it_is_right_or_said_to_have_no_effect(pinned: Pinned) -> None:
    pinned.compile([], ui=pasted({"backend": {"secret_key": "some-key-that-is-long"}}))
    errors = explain.dead(pinned.load("it"), pinned.helm)[0]
    assert [str(error).count("/backend/secret_key has no effect") for error in errors] == ([] if pinned.pin == "1.9.7" else [1])


# what compiles as it stands, and where lint says what is wrong with it: rule and object
LEFT = "left-placeholder"
FOUND_BY_LINT: dict[str, tuple[str, Json, set[tuple[str, str]]]] = {
    "images with the tag left open": (
        RAY,
        {part: {"repository": "syntho.azurecr.io/x", "tag": "<tag>"} for part in ("operatorImage", "image")},
        {(LEFT, "ray"), ("invalid-image", "Deployment/kuberay-operator"), ("invalid-image", "RayCluster/ray-cluster")},
    ),
    "the licence left open": (RAY, {"SynthoLicense": "<syntho-license-key>"}, {(LEFT, "ray"), ("literal-secret", "ray")}),
    "a class that exists on AKS": (
        RAY,
        {"storage": {"storageClassName": "default"}},
        {("unknown-storage-class", "PersistentVolumeClaim/ray-workflows-claim")},
    ),
    "https without a certificate": (UI, {"frontend_protocol": "https"}, {("https-without-tls", "syntho-ui")}),
    "the site left open": (UI, {"frontend_url": "<hostname-or-ip>"}, {(LEFT, "syntho-ui"), ("invalid-host", "syntho-ui")}),
    "the backend's database left open": (
        UI,
        {"backend": {"db": {"host": "<hostname>", "port": "<port>", "user": "<username>", "password": "<password>", "name": "<database>"}}},
        {(LEFT, "syntho-ui"), ("invalid-host", "syntho-ui"), ("out-of-range", "syntho-ui")},
    ),
    "the switch of the backend's database alone": (UI, {"backend": {"database_enabled": False}}, {("missing-database", "syntho-ui")}),
    "the first administrator's password": (UI, {"backend": {"user": {"password": "password"}}}, {("public-credential", "syntho-ui")}),
    "the core's database left open": (
        UI,
        {"core": {"db": {"username": "<database-username>", "host": "<database-host>", "port": "<database-port>"}}},
        {(LEFT, "syntho-ui"), ("invalid-host", "syntho-ui"), ("out-of-range", "syntho-ui")},
    ),
    "the core's database where the guide says that it is": (UI, {"core": {"db": {"host": "backend"}}}, {("unserved-url", "Deployment/core")}),
    "Ray's head by the guide's name, in its place": (UI, {"core": {"ray_address": "ray-cluster-ray-head"}}, {("ray-address-elsewhere", "syntho-ui")}),
}


@pytest.mark.parametrize("name", FOUND_BY_LINT)
def test_lint_says_what_is_wrong_with_a_snippet_that_compiles(pinned: Pinned, name: str) -> None:
    chart, snippet, expected = FOUND_BY_LINT[name]
    assert {(one.rule, one.object) for one in pinned.faults([], **{chart: pasted(snippet)})} >= expected


def test_the_guides_fernet_key_is_refused() -> None:
    spec = SecretSpec("core.secret_key", Mark("envs/it.yaml", 1), file="key")
    with pytest.raises(PreflightError, match="is not a Fernet key"):
        sources.check(spec, SAMPLE_FERNET, "fernet", frozenset(), False)


def test_a_key_with_dollars_reaches_the_backend_as_it_is(pinned: Pinned) -> None:
    """The guide's has `$$`, of which Kubernetes makes one `$` in a plain value. A reference to a Secret is not expanded."""
    objects = pinned.objects(["keys"])
    for name in ("backend", "backend-worker"):
        entry = at(objects[f"Deployment/{name}"], "/spec/template/spec/containers/0/env/[name=SECRET_KEY]")
        assert entry == {"name": "SECRET_KEY", "valueFrom": {"secretKeyRef": {"name": "syntho-ui-secrets", "key": "backend.secret_key"}}}


def test_the_core_finds_its_database_where_the_guide_says_backend(pinned: Pinned) -> None:
    objects = pinned.objects(["postgres/in-chart"])
    url = at(objects["Deployment/core"], "/spec/template/spec/containers/0/env/[name=DATABASE_URL]/value")
    host, _, port = str(url).rpartition("@")[2].partition("/")[0].partition(":")
    assert int(port) in [one["port"] for one in objects[f"Service/{host}"]["spec"]["ports"]]
    assert 5432 not in [one["port"] for one in objects["Service/backend"]["spec"]["ports"]]


def test_what_the_guide_calls_by_another_name_is_there(pinned: Pinned) -> None:
    objects = pinned.objects(["ray/address"])
    address = at(objects["Deployment/core"], "/spec/template/spec/containers/0/env/[name=RAY_ADDRESS]/value")
    assert address == "ray-cluster-head-svc.site.svc.cluster.local"
    assert ("Deployment/ray-operator" in objects, "Deployment/kuberay-operator" in objects) == (False, True)
