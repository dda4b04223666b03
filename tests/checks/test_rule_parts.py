"""The parts of rules that have several: each form that breaks one, and what looks like it and is none."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from syntho_deploy.checks import literals
from tests.checks.conftest import Site
from tests.checks.test_rules import CORE, add, config_map

PEM = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----\n"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dBjftJeZ4CVP-mB92K27uhbUJU1p1r"
LOGIN = '{"auths":{"a.example.com":{"auth":"dXNlcjpodW50ZXIyMg=="}}}'


THING = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": {"x": "${mail}"}}


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


# literal-secret: by form, by name, in every place


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (PEM, "a private key"),
        ("-----BEGIN PGP PRIVATE KEY BLOCK-----", "a private key"),
        ("-----BEGIN ENCRYPTED PRIVATE KEY-----", "a private key"),
        ("postgres://user:hunter2@db.example.com/x", "the password in a URL"),
        ("redis://:hunter2@db.example.com", "the password in a URL"),
        (f"Bearer {JWT}", "a signed token"),
        (LOGIN, "a login to a registry"),
        ("key AKIAIOSFODNN7EXAMPLE here", "a key of a service"),
        (f"ghp_{'a1' * 18}", "a key of a service"),
        (f"DefaultEndpointsProtocol=https;AccountKey={'a1B2' * 20}==", "a key of a service"),
        (encoded(PEM), "a private key"),
        (encoded(LOGIN), "a login to a registry"),
        ("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----", ""),
        ("-----BEGIN PUBLIC KEY-----", ""),
        ("postgres://user:$(DB_PASSWORD)@h/x", ""),
        ("postgres://user:${PASSWORD}@h/x", ""),
        ("postgres://user:<password>@h/x", ""),
        ("postgres://user@h:5432/x", ""),
        ("http://h:8080/a@b", ""),
        ("eyJust.a.word", ""),
        ("mirror.example.com/syntho/core@sha256:" + "a" * 64, ""),
        (encoded("a certificate of this site, which is long enough and public"), ""),
    ],
)
def test_what_is_secret_by_its_form(text: str, what: str) -> None:
    assert literals.within(text) == what


def test_what_is_secret_by_its_name() -> None:
    secret = [
        "password", "DB_PASSWORD", "PGPASSWORD", "smtpPassword", "redis-password", "apiToken", "API_KEY", "api-key", "clientSecret", "SECRET_KEY_2",
        "private_key", "license", "LICENSE_KEY_SIGNED", "aws_secret_access_key", "requirepass", "token", "credentials", "password1",
    ]  # fmt: skip
    public = [
        "PASSWORD_FILE", "password_encryption", "TOKEN_TTL", "tokenizer", "secretName", "SECRET_NAME", "key", "monkey",
        "passwordless", "public_key", "license_url", "secretKeyRef", "cluster_name", "max_tokens_per_call",
    ]  # fmt: skip
    assert [name for name in secret if not literals.sensitive(name)] == []
    assert [name for name in public if literals.sensitive(name)] == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("listen = *\npassword = hunter2\n", "password"),
        ("db:\n  password: 'hunter2'\n", "password"),
        ("requirepass hunter2", "requirepass"),
        ("PGPASSWORD=hunter2 psql", "PGPASSWORD"),
        ('{"api_key": "hunter2x"}', "api_key"),
        ("--db-password=hunter2", "db-password"),
        ("# password = hunter2", ""),
        ("password_encryption = scram-sha-256", ""),
        ("password: ${DB_PASSWORD}", ""),
        ("password: $(DB_PASSWORD)", ""),
        ("password_file = /run/x", ""),
        ("the password must be long", ""),
        ("tokens: true", ""),
        ("key = value", ""),
    ],
)
def test_what_a_text_gives_a_value_to(text: str, name: str) -> None:
    assert literals.assigned(text) == name


def secret(data: dict[str, str], kind: str = "Opaque") -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "own"}, "type": kind, "stringData": data}


@pytest.mark.parametrize(
    ("change", "of", "path"),
    [
        ({"objects": [config_map(DB_PASSWORD="hunter2")]}, "ConfigMap/extra", "/data/DB_PASSWORD"),
        ({"objects": [config_map(**{"app.conf": "x = 1\npassword = hunter2\n"})]}, "ConfigMap/extra", "/data/app.conf"),
        ({"objects": [config_map(key=encoded(PEM))]}, "ConfigMap/extra", "/data/key"),
        ({"objects": [secret({"content": "hunter2"})]}, "Secret/own", "/data/content"),
        ({"objects": [secret({".dockerconfigjson": LOGIN}, "kubernetes.io/dockerconfigjson")]}, "Secret/own", "/data/.dockerconfigjson"),
        ({"objects": [secret({"user": PEM})]}, "Secret/own", "/data/user"),
        ({"patch": {"Deployment/core": add(f"{CORE}/args", ["--token", "hunter2"])}}, "Deployment/core", f"{CORE}/args/1"),
        ({"patch": {"Deployment/core": add(f"{CORE}/args", ["--token=hunter2"])}}, "Deployment/core", f"{CORE}/args/0"),
        ({"patch": {"Deployment/core": add("/metadata/annotations", {"note": "http://u:hunter2@h.example.com"})}}, "Deployment/core",
         "/metadata/annotations/note"),
        ({"patch": {"RayCluster/ray-cluster": add("/spec/headGroupSpec/rayStartParams/redis-password", "hunter2")}}, "RayCluster/ray-cluster",
         "/spec/headGroupSpec/rayStartParams/redis-password"),
        ({"ui": add("/core/env", {"DJANGO_SECRET": "hunter2"})}, "Deployment/core", f"{CORE}/env/[name=DJANGO_SECRET]/value"),
        ({"vars": {"mail": {"smtp": {"password": "hunter2"}}}, "objects": [THING]}, "it.yaml", "/vars/mail/smtp/password"),
        ({"vars": {"key_of_site": PEM}, "objects": [config_map(used="${key_of_site}")]}, "it.yaml", "/vars/key_of_site"),
        ({"secrets": {"license": {"command": ["curl", "--header", f"Authorization: Bearer {JWT}", "h"]}}}, "it.yaml", "/secrets/license/command"),
        ({"secrets": {"license": {"command": ["vault", "--password", "hunter2"]}}}, "it.yaml", "/secrets/license/command"),
    ],
)  # fmt: skip
def test_a_secret_is_found_wherever_it_is_written(site: Site, change: dict[str, Any], of: str, path: str) -> None:
    found = [one for one in site.lint(**change) if one.rule == "literal-secret"]
    assert {(one.object, one.path) for one in found} >= {(of, path)}, site.lint(**change)
    assert "hunter2" not in str(found)


def test_a_secret_in_a_value_that_the_chart_ignores_or_in_a_comment_is_found(site: Site) -> None:
    found = [one for one in site.lint(ui=add("/core/mail", {"password": "hunter2"})) if one.rule == "literal-secret"]
    assert [(one.object, one.path) for one in found] == [("syntho-ui", "/core/mail/password")]
    file = site.root / "overlays" / "components" / "admin" / "syntho-ui.values.yaml"
    before = file.read_text(encoding="utf-8")
    try:
        file.write_text(f"# formerly postgres://u:hunter2@db.example.com/x\n{before}", encoding="utf-8")
        (one,) = [one for one in site.lint() if one.rule == "literal-secret"]
    finally:
        file.write_text(before, encoding="utf-8")
    assert (one.what, one.origins[0].endswith("admin/syntho-ui.values.yaml:1")) == ("the password in a URL is written down in line 1", True)


@pytest.mark.parametrize(
    "change",
    [
        {"objects": [config_map(**{"PASSWORD_FILE": "/run/x", "app.conf": "password = $${DB_PASSWORD}\n# token: abcdef\n"})]},
        {"objects": [secret({"username": "syntho", "host": "db.example.com", "tls.crt": "-----BEGIN CERTIFICATE-----"})]},
        {"objects": [{"apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "metadata": {"name": "x"},
                      "spec": {"data": [{"secretKey": "password", "remoteRef": {"key": "kv/x"}}]}}]},
        {"patch": {"Deployment/core": add("/metadata/annotations", {"example.com/auth-secret": "basic-auth"})}},
        {"patch": {"Deployment/core": add(f"{CORE}/args", ["--token", "$(TOKEN)", "--password-file", "/run/x"])}},
        {"ui": add("/core/envSecrets", {"API_TOKEN": "site-tls"})},
    ],
)  # fmt: skip
def test_what_is_no_secret_is_not_called_one(site: Site, change: dict[str, Any]) -> None:
    assert "literal-secret" not in site.rules(**change)


# references: every place in which one may stand

SPEC = "/spec/template/spec"


def core(path: str, value: Any) -> dict[str, Any]:
    """A field of the core's pods, added."""
    return {"patch": {"Deployment/core": add(f"{SPEC}{path}", value)}}


def volume(**source: Any) -> dict[str, Any]:
    return core("/volumes", [{"name": "v", **source}])


def made(kind: str, api: str, spec: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": "nope", **more}, "spec": spec}


def leading(backend: dict[str, Any]) -> dict[str, Any]:
    """An Ingress whose other requests go there."""
    return {"patch": {"Ingress/frontend-ingress": add("/spec/defaultBackend", backend)}}


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}


INIT = {"name": "i", "image": "mirror.example.com/syntho/busybox:1.28", "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}}}
SIDECAR = {**INIT, "restartPolicy": "Always"}
ACCOUNT = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}}
OF_SERVICE = {"kubernetes.io/service-name": "s"}
OF_HEAD = {"matchLabels": {"ray.io/node-type": "head"}}
FROM_SECRET = {"secretKeyRef": {"name": "nope", "key": "k"}}
FROM_MAP = {"configMapKeyRef": {"name": "nope", "key": "k"}}


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("missing-secret", core("/initContainers", [{**INIT, "env": [{"name": "A", "valueFrom": FROM_SECRET}]}])),
        ("missing-secret", core("/ephemeralContainers", [{**INIT, "envFrom": [{"secretRef": {"name": "nope"}}]}])),
        ("missing-secret", core("/imagePullSecrets/-", {"name": "nope"})),
        ("missing-secret", volume(secret={"secretName": "nope"})),
        ("missing-secret", volume(secret={"secretName": "syntho-ui-secrets", "items": [{"key": "nope", "path": "x"}]})),
        ("missing-secret", volume(projected={"sources": [{"secret": {"name": "nope"}}]})),
        ("missing-secret", volume(csi={"driver": "d.example.com", "nodePublishSecretRef": {"name": "nope"}})),
        ("missing-secret", volume(azureFile={"secretName": "nope", "shareName": "s"})),
        ("missing-secret", {"patch": {"RayCluster/ray-cluster": add("/spec/headGroupSpec/template/spec/imagePullSecrets/-", {"name": "nope"})}}),
        ("missing-secret", {"objects": [{**ACCOUNT, "imagePullSecrets": [{"name": "nope"}]}]}),
        ("missing-config-map", core("/initContainers", [{**INIT, "env": [{"name": "A", "valueFrom": FROM_MAP}]}])),
        ("missing-config-map", volume(configMap={"name": "nope"})),
        ("missing-config-map", volume(projected={"sources": [{"configMap": {"name": "nope", "items": [{"key": "k", "path": "p"}]}}]})),
        ("missing-service", leading({"service": {"name": "nope", "port": {"number": 80}}})),
        ("missing-port", leading({"service": {"name": "backend", "port": {"name": "nope"}}})),
        ("missing-port", leading({"service": {"name": "backend"}})),
        ("unserved-port", {"patch": {"Service/backend": add("/spec/ports/-", {"name": "more", "port": 81, "targetPort": "nope"})}}),
        ("unserved-port", {"patch": {"Deployment/core": add(f"{CORE}/lifecycle", {"preStop": {"httpGet": {"port": "nope", "path": "/"}}})}}),
        ("unknown-storage-class", volume(ephemeral={"volumeClaimTemplate": {"spec": {
            "storageClassName": "nope", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}},
        }}})),
        ("selector-without-pods", {"objects": [service("s")]}),
        ("selector-without-pods", {"objects": [made("NetworkPolicy", "networking.k8s.io/v1", {
            "podSelector": {}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "nope"}}}]}],
        })]}),
        ("selector-without-pods", {"objects": [made("PodDisruptionBudget", "policy/v1", {
            "selector": {"matchExpressions": [{"key": "app", "operator": "Exists"}, {"key": "ray.io/cluster", "operator": "Exists"}]},
        })]}),
    ],
)  # fmt: skip
def test_what_nothing_provides_is_found_wherever_it_is_named(site: Site, rule: str, change: dict[str, Any]) -> None:
    assert rule in site.rules(**change)


OWNED = {"configMapKeyRef": {"name": "kube-root-ca.crt", "key": "ca.crt"}}
SECRET_STORE = "external-secrets.io/v1"


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("missing-secret", volume(secret={"secretName": "nope", "optional": True})),
        ("missing-secret", {**volume(secret={"secretName": "nope"}), "objects": [made("Certificate", "cert-manager.io/v1", {"secretName": "nope"})]}),
        ("missing-secret", {**volume(secret={"secretName": "nope"}), "objects": [made("ExternalSecret", SECRET_STORE, {"data": []})]}),
        ("missing-secret", {**volume(secret={"secretName": "it"}), "objects": [made("ExternalSecret", SECRET_STORE, {"target": {"name": "it"}})]}),
        ("missing-secret", {**volume(secret={"secretName": "nope"}), "present": {"secrets": ["nope", "site-tls"]}}),
        ("missing-config-map", core("/initContainers", [{**INIT, "env": [{"name": "A", "valueFrom": OWNED}]}])),
        ("missing-service", leading({"resource": {"kind": "Bucket", "name": "nope"}})),
        ("missing-service", leading({"service": {"name": "ray-cluster-head-svc", "port": {"number": 8265}}})),
        ("unserved-port", {"patch": {"Deployment/core": add(f"{CORE}/lifecycle", {"preStop": {"httpGet": {"port": 9, "host": "h", "path": "/"}}})}}),
        ("unserved-port", {"patch": {
            "Deployment/backend": add(f"{SPEC}/initContainers", [{**SIDECAR, "ports": [{"name": "side", "containerPort": 81}]}]),
            "Service/backend": add("/spec/ports/-", {"name": "more", "port": 81, "targetPort": "side"}),
        }}),
        ("selector-without-pods", {"objects": [service("s", type="ExternalName", externalName="pg.example.com")]}),
        ("selector-without-pods", {"objects": [
            service("s"), {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "s"}, "subsets": [{"addresses": [{"ip": "10.0.0.1"}]}]},
        ]}),
        ("selector-without-pods", {"objects": [
            service("s"), {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "s-1", "labels": OF_SERVICE},
                           "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}]},
        ]}),
        ("selector-without-pods", {"objects": [made("NetworkPolicy", "networking.k8s.io/v1", {
            "podSelector": {}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "nope"}}, "namespaceSelector": {}}]}],
        })]}),
        ("selector-without-pods", {"objects": [made("NetworkPolicy", "networking.k8s.io/v1", {"podSelector": OF_HEAD})]}),
    ],
)  # fmt: skip
def test_what_is_provided_is_not_called_missing(site: Site, rule: str, change: dict[str, Any]) -> None:
    assert rule not in site.rules(**change)


# the site: hosts in every form


def ingress(rules: list[str | None], tls: list[dict[str, Any]]) -> dict[str, Any]:
    paths = [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "frontend", "port": {"number": 3000}}}}]
    hosts = [{**({"host": host} if host else {}), "http": {"paths": paths}} for host in rules]
    return {"patch": {"Ingress/frontend-ingress": [*add("/spec/rules", hosts), *add("/spec/tls", tls)]}}


SITE = "syntho.example.com"


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        (ingress(["*.example.com"], [{"hosts": ["*.example.com"], "secretName": "site-tls"}]), set()),
        (ingress([SITE], [{"hosts": ["*.example.com"], "secretName": "site-tls"}]), set()),
        (ingress([SITE], [{"secretName": "site-tls"}]), set()),
        (ingress([None], [{"hosts": [SITE], "secretName": "site-tls"}]), set()),
        (ingress(["a.b.example.com", SITE], [{"hosts": ["*.example.com"], "secretName": "site-tls"}]), {"host-without-tls"}),
        (ingress(["other.example.com"], [{"hosts": ["other.example.com"], "secretName": "site-tls"}]), {"host-differs-from-url"}),
        (ingress(["*.other.example.com"], [{"hosts": ["*.other.example.com"], "secretName": "site-tls"}]), {"host-differs-from-url"}),
        ({**ingress([SITE], []), "objects": [made("Ingress", "networking.k8s.io/v1", {
            "ingressClassName": "nginx", "tls": [{"hosts": ["b.example.com"], "secretName": "site-tls"}],
            "rules": [{"host": "b.example.com", "http": {"paths": []}}],
        })]}, {"tls-without-secret", "https-without-tls"}),
    ],
)  # fmt: skip
def test_the_hosts_of_a_site(site: Site, change: dict[str, Any], rules: set[str]) -> None:
    about = {"host-without-tls", "host-differs-from-url", "https-without-tls", "http-with-tls", "tls-without-secret", "http-site"}
    assert site.rules(**change) & about == rules
