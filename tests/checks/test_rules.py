"""Each rule finds what it forbids, in an environment that breaks nothing else, and nothing where nothing is broken."""

from __future__ import annotations

import base64
import json
import random
import shutil
from typing import Any

import pytest

from syntho_deploy.checks.context import Context
from syntho_deploy.checks.rules import LATE, rules
from syntho_deploy.compile import Project
from syntho_deploy.helm import Helm
from syntho_deploy.process import ProcessError
from syntho_deploy.vendor import load_pin, vendor
from tests.checks.conftest import SECRETS, Operations, Site

CORE = "/spec/template/spec/containers/[name=core]"
NO_CORE_KEY: dict[str, Any] = {"drop": ["keys"], "secrets": {"core.secret_key": None}}
WAIT = "/spec/template/spec/initContainers/[name=wait-for-backend-service]/image"
HEAD = "/spec/headGroupSpec/template/spec/containers/[name=ray-head]"


def replace(path: str, value: Any) -> Operations:
    return [{"op": "replace", "path": path, "value": value}]


def add(path: str, value: Any) -> Operations:
    return [{"op": "add", "path": path, "value": value}]


def removed(path: str) -> Operations:
    return [{"op": "remove", "path": path}]


NETWORKS = {"ingress_namespace": "ingress", "external_cidr": "10.9.0.0/16", "apiserver_cidr": "10.0.0.1/32"}
BACKEND_KEY = add("/backend/secretKey", "${secret:backend.secret_key}")


def config_map(name: str = "extra", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


@pytest.mark.parametrize("base", ["outside", "inside"])
def test_a_sound_environment_has_no_error_and_no_warning(site: Site, base: str) -> None:
    quiet = {"missing-probe"} if base == "inside" else set()  # the charts give their databases none
    assert {(one.rule, one.object, one.what) for one in site.lint(base) if one.severity != "note" and one.rule not in quiet} == set()


def test_every_rule_has_a_test_of_its_name() -> None:
    assert [name for name in rules() if f"test_{name.replace('-', '_')}" not in globals()] == []


def test_exactly_the_late_rules_wait_for_more_than_the_render(site: Site) -> None:
    """The others are judged while helm finds out what the late ones need."""
    site.write("it", files={"ray.values.yaml": json.dumps(add("/worker/minReplicas", 0))})
    project = Project.load(site.root, "it", site.checked)
    compiled = project.compile(site.helm)
    for kind in ("reach", "lint"):
        shutil.rmtree(site.root / ".cache" / kind, ignore_errors=True)
    context = Context(project, compiled, site.helm._replace(path=site.root / "no-helm"))
    waiting = set()
    for name, rule in rules().items():
        try:
            list(rule.check(context) if rule.check else ())
        except ProcessError:  # there is no such helm
            waiting.add(name)
    assert waiting == LATE


# images


def busybox(image: str) -> dict[str, dict[str, Operations]]:
    """Another image for the one container that is of no application."""
    return {"patch": {"Deployment/frontend": replace(WAIT, image)}}


def test_invalid_image(site: Site) -> None:
    (found,) = site.only("invalid-image", **busybox("mirror.example.com/syntho/BusyBox:1.28"))
    assert (found.object, found.severity) == ("Deployment/frontend", "error")
    for wrong in ("https://a.example.com/b:1", "a b:1", "b:", "b@sha256:abc", "b:1@md5:0", "a//b:1", "/b:1", "b:1!"):
        assert "invalid-image" in site.rules(**busybox(wrong)), wrong
    for right in ("a.b:5000/c/d_e:1.0-x", "Host.example.com/c:1", "b", f"b:1@sha256:{'a' * 64}", "localhost/c__d:_1"):
        assert "invalid-image" not in site.rules(**busybox(right)), right


def test_floating_tag(site: Site) -> None:
    (found,) = site.only("floating-tag", **busybox("mirror.example.com/syntho/busybox"))
    assert (found.object, found.path, found.severity) == ("Deployment/frontend", WAIT, "error")
    assert "overlays/it/syntho-ui.manifests.yaml:1:" in found.origins[0]
    for moving in ("a/b:latest", "a/b:latest-cpu", "a/b:cpu-latest", "localhost:5000/b", "a/b:nightly", "a/b:Latest", "a/b:HEAD"):
        assert "floating-tag" in site.rules(**busybox(moving)), moving
    for still in ("a/b:1.9-stable", "a/b:edgeworth", f"a/b:latest@sha256:{'a' * 64}", "localhost:5000/b:1"):
        assert "floating-tag" not in site.rules(**busybox(still)), still


def test_prerelease_tag(site: Site) -> None:
    site.only("prerelease-tag", **busybox("mirror.example.com/syntho/busybox:7.2-rc2"))
    assert "prerelease-tag" in site.rules(**busybox("a/b:1.0-RC1"))
    assert "prerelease-tag" not in site.rules(**busybox("a/b:1.0-prebuilt"))


def test_missing_digest(site: Site) -> None:
    found = site.only("missing-digest", environment={"policy": {"digests": True}})
    assert {one.object for one in found} == {"Deployment/frontend", "Deployment/kuberay-operator", "RayCluster/ray-cluster"}  # busybox, operator


def test_foreign_registry(site: Site) -> None:
    assert "foreign-registry" not in site.rules(environment={"policy": {"registries": ["mirror.example.com"]}})
    own = {"environment": {"policy": {"registries": ["mirror.example.com/syntho/"]}}}
    (found,) = site.only("foreign-registry", **own, **busybox("mirror.example.com/synthox/busybox:1"))
    assert found.object == "Deployment/frontend"
    assert "foreign-registry" not in site.rules(**own, **busybox("Mirror.Example.com/syntho/busybox:1"))
    assert "foreign-registry" in site.rules(**own, **busybox("mirror.example.com:5000/syntho/busybox:1"))
    hub = {"environment": {"policy": {"registries": ["mirror.example.com", "docker.io/library"]}}}
    for name in ("busybox:1", "library/busybox:1", "docker.io/busybox:1", "index.docker.io/library/busybox:1"):
        assert "foreign-registry" not in site.rules(**hub, **busybox(name)), name
    assert "foreign-registry" in site.rules(**hub, **busybox("someone/busybox:1"))
    debugging = [{"name": "d", "image": "elsewhere.example.com/d:1", "command": ["x"]}]
    site.only("foreign-registry", **own, patch={"Deployment/core": add("/spec/template/spec/ephemeralContainers", debugging)})
    scaler = {"RayCluster/ray-cluster": add("/spec/autoscalerOptions", {"image": "elsewhere.example.com/d:1"})}
    (found,) = site.only("foreign-registry", **own, patch=scaler)
    assert found.path == "/spec/autoscalerOptions/image"


def test_missing_pull_secret(site: Site) -> None:
    (found,) = site.only("missing-pull-secret", patch={"Deployment/core": removed("/spec/template/spec/imagePullSecrets")})
    assert found.todo == "component pull-secret"
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "own"}, "imagePullSecrets": [{"name": "pull"}]}
    of_account = [*removed("/spec/template/spec/imagePullSecrets"), *add("/spec/template/spec/serviceAccountName", "own")]
    assert "missing-pull-secret" not in site.rules(patch={"Deployment/core": of_account}, objects=[account])
    login = {"server": "https://Mirror.example.com/v2/", "username": "u", "env": "REGISTRY_PASSWORD"}
    without = {"Deployment/core": removed("/spec/template/spec/imagePullSecrets")}
    assert "missing-pull-secret" in site.rules(secrets={"registry": login}, patch=without)
    other = {"server": "other.example.com", "username": "u", "env": "OTHER", "name": "other"}
    both = {"secrets": {"registry": {**SECRETS["registry"], "name": "pull"}, "other": other}}
    named = replace("/spec/template/spec/imagePullSecrets", [{"name": "other"}])
    (found,) = site.only("missing-pull-secret", **both, patch={"Deployment/core": named})
    assert "the pull secret other is for another registry" in found.what


def test_mixed_releases(site: Site) -> None:
    (found,) = site.only("mixed-releases", ray=replace("/image/tag", "1.9.6-cpu"))
    assert (found.object, found.path) == ("ray", "/image")
    assert "backend 1.9.7, core 1.9.7, frontend 1.9.7, ray 1.9.6" in found.what
    image = f"{CORE}/image"
    of_core = "mirror.example.com/syntho/syntho-core-api"
    (found,) = site.only("mixed-releases", patch={"Deployment/core": replace(image, f"{of_core}:1.9.6@sha256:{'a' * 64}")})
    assert (found.object, found.path) == ("Deployment/core", image)
    site.only("mixed-releases", patch={"Deployment/core": replace(image, f"{of_core}:1.9.7@sha256:{'e' * 64}")})
    by_digest = {"Deployment/core": replace(image, f"{of_core}@sha256:{'a' * 64}")}  # which release that is, nobody knows
    assert "of different releases" not in str(site.lint(patch=by_digest))


def test_unpinned_pull_policy(site: Site) -> None:
    image = "mirror.example.com/syntho/core:1.9.7"
    without = {"Deployment/core": replace(f"{CORE}/imagePullPolicy", "IfNotPresent")}
    assert "Deployment/core" not in {one.object for one in site.lint(patch=without) if one.rule == "unpinned-pull-policy"}
    assert "Deployment/core" in {one.object for one in site.lint() if one.rule == "unpinned-pull-policy"}
    tagged = {"Deployment/core": replace(f"{CORE}/image", image)}
    assert "Deployment/core" not in {one.object for one in site.lint(patch=tagged) if one.rule == "unpinned-pull-policy"}


# references


def test_missing_secret(site: Site) -> None:
    (found,) = site.only("missing-secret", patch={"Deployment/core": add(f"{CORE}/envFrom", [{"secretRef": {"name": "nope"}}])})
    assert found.what == "there is no Secret nope"
    key = {"name": "X", "valueFrom": {"secretKeyRef": {"name": "syntho-ui-secrets", "key": "nope"}}}
    (found,) = site.only("missing-secret", patch={"Deployment/core": add(f"{CORE}/env/-", key)})
    assert "has no key nope" in found.what
    optional = [{"secretRef": {"name": "nope", "optional": True}}]
    assert "missing-secret" not in site.rules(patch={"Deployment/core": add(f"{CORE}/envFrom", optional)})


def test_missing_config_map(site: Site) -> None:
    reference = {"Deployment/core": add(f"{CORE}/envFrom", [{"configMapRef": {"name": "extra"}}])}
    site.only("missing-config-map", patch=reference)
    assert "missing-config-map" not in site.rules(patch=reference, objects=[config_map(a="b")])
    assert "missing-config-map" not in site.rules(patch=reference, present={"config_maps": ["extra"]})


def test_missing_service(site: Site) -> None:
    rule = {"http": {"paths": [{"path": "/x", "pathType": "Prefix", "backend": {"service": {"name": "nope", "port": {"number": 80}}}}]}}
    (found,) = site.only("missing-service", patch={"Ingress/frontend-ingress": add("/spec/rules/-", rule)})
    assert found.what == "there is no Service nope"


def test_missing_port(site: Site) -> None:
    (found,) = site.only(
        "missing-port",
        patch={"Ingress/frontend-ingress": replace("/spec/rules/[host=${host}]/http/paths/[path=~1api]/backend/service/port/number", 8000)},
    )
    assert found.what == "the Service backend has no port 8000, only 80"


def test_unserved_port(site: Site) -> None:
    service = site.only("unserved-port", patch={"Service/core-service": replace("/spec/ports/[name=core-port]/targetPort", 9999)})
    probe = site.only("unserved-port", patch={"Deployment/core": replace(f"{CORE}/readinessProbe/httpGet/port", 9999)})
    assert ["port 9999" in one.what for one in [*service, *probe]] == [True, True]


def test_missing_account(site: Site) -> None:
    site.only("missing-account", patch={"Deployment/core": add("/spec/template/spec/serviceAccountName", "nope")})
    site.only("missing-account", patch={"ServiceAccount/kuberay-operator": []})


def test_missing_claim(site: Site) -> None:
    volume = {"name": "more", "persistentVolumeClaim": {"claimName": "nope"}}
    site.only("missing-claim", patch={"Deployment/core": replace("/spec/template/spec/volumes", [volume])})


def test_missing_role(site: Site) -> None:
    binding = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "b"}, "subjects": []}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "nope"}
    (found,) = site.only("missing-role", objects=[{**binding, "roleRef": reference}])
    assert (found.object, found.path) == ("RoleBinding/b", "/roleRef/name")
    for there in ({"kind": "ClusterRole", "name": "view"}, {"kind": "Role", "name": "rayjob-viewer-role"}):
        assert "missing-role" not in site.rules(objects=[{**binding, "roleRef": {**reference, **there}}])


def test_missing_target(site: Site) -> None:
    scaler = {
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "s"},
        "spec": {"maxReplicas": 2, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "nope"}},
    }  # fmt: skip
    site.only("missing-target", objects=[scaler])
    scaler["spec"]["scaleTargetRef"]["name"] = "core"  # type: ignore[index]
    assert "missing-target" not in site.rules(objects=[scaler])


def test_missing_volume(site: Site) -> None:
    mount = {"name": "nope", "mountPath": "/nope"}
    (found,) = site.only("missing-volume", patch={"RayCluster/ray-cluster": add(f"{HEAD}/volumeMounts/-", mount)})
    assert "the pod has no volume nope, only " in found.what
    assert "missing-volume" not in site.rules("inside")  # Redis mounts what its StatefulSet claims


def test_unknown_storage_class(site: Site) -> None:
    site.only("unknown-storage-class", present={"storage_classes": {"disk": []}})
    default = site.lint(vars={"storage_class_rwx": "default"}, present={"storage_classes": {}})
    assert "unknown-storage-class" in {one.rule for one in default}  # where no class is named, only this one is doubted
    assert "unknown-storage-class" not in site.rules(present={"storage_classes": {}})


def test_unknown_class(site: Site) -> None:
    site.only("unknown-class", present={"ingress_classes": ["traefik"]})
    assert "unknown-class" not in site.rules(present={"ingress_classes": []})


def test_selector_without_pods(site: Site) -> None:
    site.only("selector-without-pods", patch={"Service/core-service": replace("/spec/selector", {"app": "nope"})})
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "p"},
        "spec": {"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["nope"]}]}},
    }
    site.only("selector-without-pods", objects=[policy])
    assert "selector-without-pods" not in {one.rule for one in site.lint(add=["security/network-policies"], vars=NETWORKS) if one.severity != "note"}


def test_unknown_host(site: Site) -> None:
    for text in ("http://nope", "redis://u@nope:1/0", "nope.apps.svc", "see pod-0.nope.apps.svc.cluster.local:80", "https://nope.apps/x"):
        (found,) = site.only("unknown-host", objects=[config_map(url=text)])
        assert found.what.startswith("there is no Service nope, which ")
    site.only("unknown-host", patch={"Deployment/core": add(f"{CORE}/env/-", {"name": "MAIL_HOST", "value": "nope"})})
    known = (
        "http://backend", "http://backend:80/x", "backend.apps.svc", "http://backend.apps", "http://localhost:80", "s3://nope", "http://nope.example.com",
        "ray://ray-cluster-head-svc:10001", "kubernetes.default.svc", "kube-dns.kube-system.svc.cluster.local", "http://$(HOST):80", "not.a.svcx",
    )  # fmt: skip
    assert not {"unknown-host", "hard-coded-namespace"} & site.rules(objects=[config_map(**{f"u{index}": text for index, text in enumerate(known)})])
    assert "unknown-host" not in site.rules(objects=[config_map(url="http://nope")], present={"services": ["nope"]})


def test_unserved_url(site: Site) -> None:
    for text in ("http://backend:8000/api", "http://backend.apps.svc.cluster.local:8000"):
        (found,) = site.only("unserved-url", objects=[config_map(url=text)])
        assert found.what == "the Service backend has no port 8000, only 80"
    headless = {"Service/backend": add("/spec/clusterIP", "None")}
    assert "unserved-url" not in site.rules(objects=[config_map(url="http://backend:8000/api")], patch=headless)
    assert "unserved-url" not in site.rules(objects=[config_map(a="http://backend:80", b="http://backend", c="http://elsewhere.example.com:1")])


def test_hard_coded_namespace(site: Site) -> None:
    site.only("hard-coded-namespace", objects=[config_map(url="http://x.elsewhere.svc.cluster.local/")])
    site.only("hard-coded-namespace", objects=[{**config_map(a="b"), "metadata": {"name": "x", "namespace": "elsewhere"}}])
    site.only("hard-coded-namespace", objects=[config_map(url="redis-0.x.elsewhere.svc:6379")])
    words = ["--watch-namespace", "elsewhere"]
    site.only("hard-coded-namespace", patch={"Deployment/core": add(f"{CORE}/args", words)})
    (found,) = site.only("hard-coded-namespace", patch={"Deployment/core": add(f"{CORE}/args", ["--namespace=elsewhere"])})
    assert found.path == f"{CORE}/args/0"
    site.only("hard-coded-namespace", patch={"RoleBinding/kuberay-operator": replace("/subjects/[name=kuberay-operator]/namespace", "elsewhere")})
    for said in ({"data": "x.data.svc"}, {"data": "http://x.data.svc:80"}, {"data": "data"}):
        assert "hard-coded-namespace" not in site.rules(objects=[config_map(url="x.data.svc", used="${data}")], vars=said)
    site.only("hard-coded-namespace", objects=[config_map(url="x.data.svc", used="${data}")], vars={"data": "xx.data.sv"})


# ingress


def test_tls_without_secret(site: Site) -> None:
    (found,) = site.only("tls-without-secret", present={"secrets": []})
    assert "nothing provides the TLS Secret site-tls" in found.what
    issued = add("/metadata/annotations/cert-manager.io~1issuer", "ca")
    assert "tls-without-secret" not in site.rules(present={"secrets": []}, patch={"Ingress/frontend-ingress": issued})
    site.only("tls-without-secret", patch={"Ingress/frontend-ingress": replace("/spec/tls", [{"hosts": ["syntho.example.com"]}])})


def test_host_without_tls(site: Site) -> None:
    other = {"host": "b.example.com", "http": {"paths": []}}
    site.only("host-without-tls", patch={"Ingress/frontend-ingress": add("/spec/rules/-", other)})


def test_host_differs_from_url(site: Site) -> None:
    (found,) = site.only("host-differs-from-url", ui=replace("/frontend_url", "other.example.com"))
    assert (found.object, found.path) == ("syntho-ui", "/frontend_url")


def test_two_issuers(site: Site) -> None:
    of_cluster, own = (add(f"/metadata/annotations/cert-manager.io~1{kind}", "x") for kind in ("cluster-issuer", "issuer"))
    site.only("two-issuers", patch={"Ingress/frontend-ingress": [*of_cluster, *own]})
    assert "two-issuers" not in site.rules(patch={"Ingress/frontend-ingress": of_cluster})


def test_unknown_protocol(site: Site) -> None:
    (found,) = site.only("unknown-protocol", ui=replace("/frontend_protocol", "HTTPS"))
    assert (found.object, found.path) == ("syntho-ui", "/frontend_protocol")


def test_rewritten_path(site: Site) -> None:
    key = "/metadata/annotations/nginx.ingress.kubernetes.io~1rewrite-target"
    (found,) = site.only("rewritten-path", patch={"Ingress/frontend-ingress": add(key, "/")})
    assert "/api" in found.what
    assert "rewritten-path" not in site.rules(patch={"Ingress/frontend-ingress": add(key, "/$1")})


def test_http_with_tls(site: Site) -> None:
    site.only("http-with-tls", ui=replace("/frontend_protocol", "http"))


def test_https_without_tls(site: Site) -> None:
    site.only("https-without-tls", patch={"Ingress/frontend-ingress": removed("/spec/tls")})


def test_http_site(site: Site) -> None:
    site.only("http-site", add=["ingress/nginx"], drop=["ingress/tls-secret"])


def test_regex_path(site: Site) -> None:
    """As the chart has it, which the ingress components change."""
    path = "/spec/rules/[host=${host}]/http/paths/[path=~1api]"
    regex = [*replace(f"{path}/pathType", "ImplementationSpecific"), *replace(f"{path}/path", "/api/*")]
    site.only("regex-path", patch={"Ingress/frontend-ingress": regex}, vars={"ingress_class": "traefik"}, present={"ingress_classes": ["traefik"]})
    unread = removed("/metadata/annotations/nginx.ingress.kubernetes.io~1use-regex")
    site.only("regex-path", patch={"Ingress/frontend-ingress": [*regex, *unread]})
    assert "regex-path" not in {one.rule for one in site.lint(vars={"ingress_class": "traefik"}, present={"ingress_classes": ["traefik"]})}


# formats


def test_invalid_name(site: Site) -> None:
    (found,) = site.only("invalid-name", objects=[{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "Site_CA"}}])
    assert '"Site_CA"' in found.what
    many = site.lint(
        add=["security/network-policies", "ingress/cert-manager", "cluster-name"],
        drop=["ingress/tls-secret"],
        vars=NETWORKS | {"ingress_namespace": "", "cluster_issuer": "my issuer", "cluster_name": "r" * 42},
        patch={"Service/core-service": add("/metadata/labels/of", "a b")},
    )
    wrong = {"NetworkPolicy/syntho-frontend", "NetworkPolicy/syntho-backend", "NetworkPolicy/syntho-acme", "Ingress/frontend-ingress"}
    assert {one.object for one in many if one.rule == "invalid-name"} == wrong | {f"RayCluster/{'r' * 42}", "Service/core-service"}
    assert "invalid-name" not in {one.rule for one in site.lint(add=["cluster-name"], vars={"cluster_name": "r" * 41})}


@pytest.mark.parametrize("host", ["https://syntho.example.com", "syntho.example.com/", "Syntho.example.com", "10.0.0.1", "a b", "a.example.com:8443"])
def test_invalid_host(site: Site, host: str) -> None:
    found = site.lint(vars={"host": host})
    assert "Ingress/frontend-ingress" in {one.object for one in found if one.rule == "invalid-host"}


@pytest.mark.parametrize("host", ["postgres://pg", "pg.example.com:5432", "pg.example.com/x"])
def test_a_database_is_at_a_host_alone(site: Site, host: str) -> None:
    found = [one for one in site.lint(vars={"postgres_host": host}) if one.rule == "invalid-host"]
    assert {one.path for one in found} == {"/core/db/host", "/backend/db/host"}


def test_the_url_without_an_ingress_may_have_a_port(site: Site) -> None:
    rules = [
        one.rule for one in site.lint(add=["ingress/off"], drop=["ingress/tls-secret"], vars={"host": "10.0.0.1:30080"}) if one.severity != "note"
    ]
    assert rules == []


def test_invalid_quantity(site: Site) -> None:
    for sizes in (("32GB", "ten"), ("-1Gi", "0"), (100, "1e3")):
        of = dict(zip(("core_volume_size", "backend_volume_size"), sizes, strict=True))
        found = [one for one in site.lint(base="inside", vars=of) if one.rule == "invalid-quantity"]
        assert [one.path for one in found] == ["/spec/resources/requests/storage"] * 2
    more = {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1500m", "memory": "1Gi"}}
    (found,) = site.only("invalid-quantity", base="inside", vars={"redis_resources": more})
    assert "1500m is asked for, and 1 is the limit" in found.what


def test_empty_value(site: Site) -> None:
    assert {one.path for one in site.only("empty-value", vars={"admin_email": "", "core_db_user": ""})} == {
        "/backend/user/email",
        "/core/db/username",
    }


def test_out_of_range(site: Site) -> None:
    assert {one.path for one in site.only("out-of-range", vars={"postgres_port": 99999})} == {"/core/db/port", "/backend/db/port"}
    site.only("out-of-range", ui=replace("/core/redis/db", -1))
    site.only("out-of-range", patch={"Deployment/core": replace("/spec/replicas", -1)})
    (found,) = site.only("out-of-range", patch={"Deployment/core": replace("/spec/template/spec/containers/[name=core]/ports", [
        {"containerPort": 8080}, {"containerPort": 70000},
    ])})  # fmt: skip
    assert found.what == "70000 is no port"


@pytest.mark.parametrize("network", ["10.0.0.0", "10.0.0.0/33", "any", ""])
def test_invalid_cidr(site: Site, network: str) -> None:
    found = [one for one in site.lint(add=["security/network-policies"], vars=NETWORKS | {"external_cidr": network}) if one.severity != "note"]
    assert {one.rule for one in found} == {"invalid-cidr"}


def test_invalid_url(site: Site) -> None:
    """As Azure's Postgres has its users, `user@server`."""
    found = [one for one in site.lint(vars={"core_db_user": "core@server"}) if one.rule == "invalid-url"]
    assert {(one.object, one.what) for one in found} == {
        (f"Deployment/{name}", "the URL in DATABASE_URL has @ twice before its path") for name in ("core", "core-worker")
    }
    several = {"name": "ORIGINS", "value": "https://a.example.com,https://b.example.com"}
    assert "invalid-url" not in {
        one.rule for one in site.lint(patch={"Deployment/core": add("/spec/template/spec/containers/[name=core]/env/-", several)})
    }


def test_unknown_ssl_mode(site: Site) -> None:
    found = site.only("unknown-ssl-mode", vars={"postgres_sslmode": "required"})
    assert len(found) == 4


def test_left_placeholder(site: Site) -> None:
    """The guide's snippets, pasted with nothing filled in."""
    (found,) = site.only("left-placeholder", ui=replace("/core/db/name", "<database-name>"))
    assert found.what == "<database-name> is still to be replaced"
    assert "left-placeholder" in {one.rule for one in site.lint(ray=replace("/image/tag", "<tag>"))}


# databases


def test_same_database(site: Site) -> None:
    (found,) = site.only("same-database", vars={"backend_db": "c"})
    assert "c at pg.example.com:5432" in found.what


def test_unused_database(site: Site) -> None:
    found = site.rules("inside", ui=replace("/core/db/host", "pg.example.com"))
    assert found - site.rules("inside") == {"unused-database", "unencrypted-database"}


def test_missing_database(site: Site) -> None:
    site.only("missing-database", vars={"postgres_host": "postgres"})
    assert "missing-database" not in site.rules(vars={"postgres_host": "pg"}, present={"services": ["pg"]})


def test_tls_to_chart_database(site: Site) -> None:
    found = site.only("tls-to-chart-database", base="inside", add=["postgres/tls"], vars={"postgres_sslmode": "require"})
    assert {one.object for one in found} == {f"Deployment/{name}" for name in ("core", "core-worker", "backend", "backend-worker")}
    plain = site.lint(base="inside", add=["postgres/tls"], vars={"postgres_sslmode": "prefer"})
    assert "tls-to-chart-database" not in {one.rule for one in plain}


def test_a_host_is_a_service_with_the_port(site: Site) -> None:
    """The guide's host for the core's database is the Service of the backend."""
    found = site.lint("inside", ui=replace("/core/db/host", "backend"))
    (one,) = [one for one in found if one.rule == "missing-database"]
    assert one.what == "the host backend of core is a Service that has no port 5432, only 80"
    found = site.lint("inside", ui=[*replace("/core/db/port", 5433), *replace("/core/redis/port", 6380)])
    assert {one.path for one in found if one.rule in ("missing-database", "missing-redis")} == {"/core/db/host", "/core/redis/host"}
    for form in ("database", "database.apps", "database.apps.svc", "DATABASE.apps.svc.cluster.local."):
        assert "missing-database" not in site.rules("inside", ui=[*replace("/backend/db/host", form)]), form


def test_unused_redis(site: Site) -> None:
    both = [*replace("/core/redis/host", "r.example.com"), *replace("/backend/redis/host", "r.example.com")]
    (found,) = site.only("unused-redis", base="inside", beside="unencrypted-redis", ui=both)
    assert found.object == "StatefulSet/redis"


def test_missing_redis(site: Site) -> None:
    found = site.only("missing-redis", base="inside", patch={"StatefulSet/redis": replace("/spec/replicas", 0)})
    assert {one.path for one in found} == {"/core/redis/host", "/backend/redis/host"}


def test_same_redis_database(site: Site) -> None:
    site.only("same-redis-database", ui=replace("/core/redis/db", 0))


def test_split_redis(site: Site) -> None:
    (found,) = site.only("split-redis", base="inside", beside="unencrypted-redis", ui=replace("/core/redis/host", "r.example.com"))
    assert (found.path, found.what) == ("/backend/redis/host", "backend has the Redis of the chart, core at r.example.com")


def test_unencrypted_database(site: Site) -> None:
    found = site.only("unencrypted-database", drop=["postgres/tls"])
    assert [one.object for one in found] == [f"Deployment/{name}" for name in ("backend", "backend-worker", "core", "core-worker")]
    for weak in ("prefer", "disable"):
        assert "unencrypted-database" in site.rules(vars={"postgres_sslmode": weak}), weak
    assert "unencrypted-database" not in site.rules("inside")


def test_unencrypted_redis(site: Site) -> None:
    found = [one for one in site.lint() if one.rule == "unencrypted-redis"]
    at = "/spec/template/spec/containers/[name={}]/env/[name=CELERY_BROKER_URL]"
    assert {(one.object, one.path) for one in found} == {(f"Deployment/{name}", at.format(name)) for name in ("core", "core-worker")}
    assert {one.what for one in found} == {"CELERY_BROKER_URL asks for Redis without TLS"}
    assert any("redis/external" in origin for origin in found[0].origins)
    assert "unencrypted-redis" not in site.rules("inside")
    encrypted = {"core_redis_db": 1, "backend_redis_db": 0}
    password = {"redis.password": {"env": "REDIS_PASSWORD"}}
    assert "unencrypted-redis" not in site.rules(drop=["redis/external"], add=["redis/external-tls"], vars=encrypted, secrets=password)


def test_replicated_redis(site: Site) -> None:
    site.only("replicated-redis", base="inside", patch={"StatefulSet/redis": replace("/spec/replicas", 2)})


def test_tiny_volume(site: Site) -> None:
    site.only("tiny-volume", vars={"ray_volume_size": "1000Mi"})


# ray


def test_small_head(site: Site) -> None:
    small = [*replace(f"{HEAD}/resources/limits/memory", "1900M"), *replace(f"{HEAD}/resources/requests/memory", "1900M")]
    (found,) = site.only("small-head", patch={"RayCluster/ray-cluster": small})
    assert found.path == f"{HEAD}/resources/limits/memory"


def test_small_worker(site: Site) -> None:
    resources = "/spec/workerGroupSpecs/[groupName=workergroup]/template/spec/containers/[name=ray-worker]/resources"
    small = [*replace(f"{resources}/requests/memory", "512Mi"), *replace(f"{resources}/limits/memory", "512Mi")]
    (found,) = site.only("small-worker", patch={"RayCluster/ray-cluster": small})
    assert found.what == "512Mi of memory for a worker of Ray, which needs 1G"


def test_min_above_max(site: Site) -> None:
    group = "/spec/workerGroupSpecs/[groupName=workergroup]"
    site.only("min-above-max", patch={"RayCluster/ray-cluster": replace(f"{group}/maxReplicas", 0)})
    site.only("min-above-max", patch={"RayCluster/ray-cluster": [*replace(f"{group}/replicas", 5), *replace(f"{group}/maxReplicas", 4)]})
    (found,) = site.only("min-above-max", patch={"RayCluster/ray-cluster": [*replace(f"{group}/replicas", 0), *add(f"{group}/minReplicas", 1)]})
    assert found.what == "0 of at least 1"


def test_autoscaler_with_forced_upgrade(site: Site) -> None:
    on = [*add("/head/enableInTreeAutoscaling", True), *add("/worker/maxReplicas", 3)]
    site.only("autoscaler-with-forced-upgrade", ray=on)
    assert "autoscaler-with-forced-upgrade" not in site.rules(add=["ray/autoscaling"])


def test_unbounded_autoscaling(site: Site) -> None:
    group = "/spec/workerGroupSpecs/[groupName=workergroup]/maxReplicas"
    unbound = {"RayCluster/ray-cluster": replace(group, 2147483647)}
    assert "unbounded-autoscaling" not in site.rules(patch=unbound)
    site.only("unbounded-autoscaling", add=["ray/autoscaling"], patch=unbound)


def test_autoscaler_without_api(site: Site) -> None:
    scaling = ["ray/autoscaling", "security/network-policies"]
    found = [one for one in site.lint(add=scaling, vars=NETWORKS) if one.severity != "note"]
    assert [(one.rule, one.object) for one in found] == [("autoscaler-without-api", "RayCluster/ray-cluster")]
    assert "autoscaler-without-api" not in {one.rule for one in site.lint(add=[*scaling, f"{scaling[1]}/autoscaling"], vars=NETWORKS)}
    assert "autoscaler-without-api" not in {one.rule for one in site.lint(add=["ray/autoscaling"])}


def test_operator_newer_than_crds(site: Site) -> None:
    (found,) = site.only("operator-newer-than-crds", vars={"operator_tag": "1.4.0"})
    assert "an operator 1.4.0 needs the CRDs to serve ray.io/v1; they serve ray.io/v1alpha1" in found.what


def test_ray_address_elsewhere(site: Site) -> None:
    (found,) = site.only("ray-address-elsewhere", ui=replace("/core/ray_address", "ray-cluster-ray-head"))
    assert "ray-cluster-head-svc.apps.svc.cluster.local" in found.what
    assert "ray-address-elsewhere" in site.rules(ui=replace("/core/ray_address", "ray://ray-cluster-head-svc:10001"))
    assert "ray-address-elsewhere" not in site.rules(ui=replace("/core/ray_address", "ray-cluster-head-svc.apps"))


def test_rwo_shared_volume(site: Site) -> None:
    site.only("rwo-shared-volume", vars={"storage_class_rwx": "disk"})
    site.only("rwo-shared-volume", patch={"PersistentVolumeClaim/ray-workflows-claim": replace("/spec/accessModes", ["ReadWriteOnce"])})
    site.only("rwo-shared-volume", vars={"storage_class_rwx": "gp3"}, present={"storage_classes": {}})


def test_exposed_dashboard(site: Site) -> None:
    site.only("exposed-dashboard", ray=replace("/service/type", "LoadBalancer"))


def test_mode_as_owner(site: Site) -> None:
    site.only("mode-as-owner", ray=replace("/head/init_container_enabled", True), patch={"RayCluster/ray-cluster": [
        *replace("/spec/headGroupSpec/template/spec/initContainers/[name=init]/image", "mirror.example.com/syntho/busybox:1.28"),
    ]})  # fmt: skip


# secrets


def test_public_credential(site: Site) -> None:
    (found,) = site.only("public-credential", **NO_CORE_KEY, ui=BACKEND_KEY)
    assert (found.object, found.path) == ("syntho-ui", "/core/secret_key")
    assert found.origins == ("syntho-ui:/core/secret_key (chart default)",)


def test_literal_secret(site: Site) -> None:
    (found,) = site.only("literal-secret", **NO_CORE_KEY, ui=[*BACKEND_KEY, *replace("/core/secret_key", "dGhpcyBpcyB3cml0dGVuIGRvd24=")])
    assert (found.object, found.path) == ("syntho-ui", "/core/secret_key")
    assert "dGhpcy" not in found.what
    for patch in ({"name": "API_PASSWORD", "value": "hunter2"}, {"name": "URL", "value": "postgres://u:hunter2@h.example.com/d"}):
        (found,) = site.only("literal-secret", patch={"Deployment/core": add(f"{CORE}/env/-", patch)})
        assert "hunter2" not in str(found)
    site.only("literal-secret", objects=[config_map(key="-----BEGIN RSA PRIVATE KEY-----\nMII\n")])
    for name in ("smtp_password", "api_token", "license"):
        (found,) = site.only("literal-secret", objects=[config_map(used=f"by ${{{name}}}")], vars={name: "hunter2"})
        assert (found.object, found.path) == ("it.yaml", f"/vars/{name}")
    harmless = ({"name": "PASSWORD_FILE", "value": "/run/x"}, {"name": "USE_TOKEN", "value": "true"}, {"name": "TOKEN", "value": "$(OTHER)"})
    for entry in harmless:
        assert "literal-secret" not in site.rules(patch={"Deployment/core": add(f"{CORE}/env/-", entry)})


def test_altered_secret(site: Site) -> None:
    of_ray = replace("/SynthoLicense", "${secret:license}")
    found = site.lint(ui=replace("/SynthoLicense", "abc #def"), drop=["license"], ray=of_ray)
    assert {one.rule for one in found} >= {"altered-secret", "literal-secret"}
    assert [one.path for one in found if one.rule == "altered-secret"] == ["/SynthoLicense"]
    found = site.lint(ui=replace("/SynthoLicense", "abcdef"), drop=["license"], ray=of_ray)
    assert "altered-secret" not in {one.rule for one in found}


def test_shared_secret_value(site: Site) -> None:
    site.only("shared-secret-value", secrets={name: {"env": "ONE"} for name in ("core.db.password", "backend.db.password")})


# objects


def test_duplicate_variable(site: Site) -> None:
    site.only("duplicate-variable", ui=add("/core/env", {"PORT": "8080"}))


def test_duplicate_name(site: Site) -> None:
    group = "/spec/workerGroupSpecs/[groupName=workergroup]"
    copied = [{"op": "copy", "from": group, "path": "/spec/workerGroupSpecs/-"}]
    (found,) = site.only("duplicate-name", patch={"RayCluster/ray-cluster": copied})
    assert found.what == "the group of workers workergroup stands twice"
    spec = "/spec/template/spec"
    for where, name in (("containers", "core"), ("initContainers", "core"), ("volumes", "v")):
        twice = [*add(f"{spec}/{where}", []), *add(f"{spec}/{where}/-", {"name": name}), *add(f"{spec}/{where}/-", {"name": name})]
        assert "duplicate-name" in site.rules(patch={"Deployment/core-worker": twice}), where
    mounts = [{"name": "v", "mountPath": "/x"}, {"name": "v", "mountPath": "/x"}]
    assert "duplicate-name" in site.rules(patch={"Deployment/core": add(f"{CORE}/volumeMounts", mounts)})
    ports = [{"name": "a", "containerPort": 8080}, {"name": "a", "containerPort": 8081}]
    assert "duplicate-name" in site.rules(patch={"Deployment/core": add(f"{CORE}/ports", ports)})


def test_duplicate_key(site: Site) -> None:
    (found,) = site.only("duplicate-key", ray=add("/head/rayStartParams/storage", "/elsewhere"))
    assert (found.object, found.path) == ("RayCluster/ray-cluster", "/spec/headGroupSpec/rayStartParams/storage")
    assert "of which the last one counts" in found.what


def test_null_in_custom_resource(site: Site) -> None:
    assert "null-in-custom-resource" in site.rules()
    head_only = {"add": ["ray/head-only"], "drop": ["ray/two-pools"], "vars": {"head_cpu": "1", "head_memory": "2G"}}
    empty = {"RayCluster/ray-cluster": replace("/spec/workerGroupSpecs", [])}
    assert "null-in-custom-resource" in site.rules(**head_only)
    assert "null-in-custom-resource" not in site.rules(**head_only, patch=empty)


def test_large_release(site: Site) -> None:
    noise = base64.b64encode(random.Random(1).randbytes(700_000)).decode()
    (found,) = site.only("large-release", objects=[config_map(noise=noise)])
    assert found.object == "syntho-ui"
    assert "large-release" not in site.rules(objects=[config_map(text="a" * 900_000)])  # it packs well


@pytest.fixture(scope="module")
def own(site: Site, helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site with charts of its own, to be changed."""
    folder = tmp_path_factory.mktemp("own") / "project"
    shutil.copytree(site.root, folder)
    return Site(folder, helm, "vendor/own.yaml")


def changed_charts(own: Site, files: dict[str, str | None]) -> None:
    """Vendor the sandbox's charts with files added, or removed."""
    charts = own.root / "own"
    shutil.rmtree(charts, ignore_errors=True)
    shutil.copytree(own.root / "sandbox/charts", charts)
    for name, content in files.items():
        path = charts / name
        path.unlink() if content is None else path.write_text(content)
    (own.root / "vendor/own.yaml").write_text("source: own\ncharts: {ray: ray, syntho-ui: syntho-ui}\n")
    vendor(own.root, load_pin(own.root, own.root / "vendor/own.yaml"), update=True)
    own.checked.clear()


def test_unstable_render(own: Site) -> None:
    changed_charts(own, {})
    assert "unstable-render" not in own.rules()
    random_text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: dice}\ndata: {number: {{ randNumeric 9 | quote }}}\n"
    changed_charts(own, {"syntho-ui/templates/dice.yaml": random_text})
    (found,) = [one for one in own.lint() if one.severity != "note"]
    assert (found.rule, found.object) == ("unstable-render", "ConfigMap/dice")


def test_hook_pod(site: Site, own: Site) -> None:
    (found,) = [one for one in site.lint() if one.rule == "hook-pod"]
    assert "Pod/syntho-ui-test-connection" in found.what
    changed_charts(own, {"syntho-ui/templates/tests/connection.yaml": None})
    assert "hook-pod" not in own.rules()


def test_missing_requests(site: Site) -> None:
    site.only("missing-requests", patch={"Deployment/core": removed(f"{CORE}/resources")})


def test_missing_probe(site: Site) -> None:
    site.only("missing-probe", patch={"Deployment/core": removed(f"{CORE}/readinessProbe")})


def test_oversized_pod(site: Site) -> None:
    (found,) = site.only("oversized-pod", present={"largest_node": {"cpu": "12"}})
    assert found.what == "its containers ask for 16 of cpu, the largest node has 12"
    site.only("oversized-pod", present={"largest_node": {"memory": "32Gi"}})
    assert "oversized-pod" not in site.rules(present={"largest_node": {"cpu": "16"}})
    node = {"largest_node": {"cpu": "17", "memory": "128Gi"}}
    first = {"name": "first", "image": "mirror.example.com/syntho/busybox:1", "resources": {"requests": {"cpu": "2", "memory": "1Gi"}}}
    large = [*replace(f"{CORE}/resources/limits/cpu", "16"), *replace(f"{CORE}/resources/requests/cpu", "16")]
    for field, value, big in (
        ("initContainers", [first], False),  # before the others, not beside them
        ("initContainers", [{**first, "restartPolicy": "Always"}], True),
        ("overhead", {"cpu": "2"}, True),
    ):
        found = site.rules(present=node, patch={"Deployment/core": [*large, *add(f"/spec/template/spec/{field}", value)]})
        assert ("oversized-pod" in found) is big, (field, value)
    zero = [*replace(f"{CORE}/resources/limits/cpu", "100"), *replace(f"{CORE}/resources/requests/cpu", 0)]
    assert "oversized-pod" not in site.rules(patch={"Deployment/core": zero})


# schema


def test_unknown_field(site: Site) -> None:
    (found,) = site.only("unknown-field", patch={"Deployment/core": add("/spec/replicaz", 2)})
    assert (found.path, found.what) == ("/spec/replicaz", "there is no field replicaz in /spec")
    (found,) = site.only("unknown-field", patch={"RayCluster/ray-cluster": add(f"{HEAD}/imagePull", "x")})
    assert found.path == f"{HEAD}/imagePull"


def test_invalid_field(site: Site) -> None:
    (found,) = site.only("invalid-field", patch={"Deployment/core": replace("/spec/replicas", "two")})
    assert found.what == "this is a string, and must be integer"
    site.only("invalid-field", patch={"RayCluster/ray-cluster": replace("/spec/headGroupSpec/rayStartParams/block", True)})
    assert "invalid-field" in site.rules(ui=replace("/core/celery_args", ["-A", "8"]))


def test_unknown_version(site: Site) -> None:
    site.only("unknown-version", cluster={"kubernetes": "1.99"})


def test_removed_api(site: Site) -> None:
    budget = {
        "apiVersion": "policy/v1beta1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "p"},
        "spec": {"selector": {"matchLabels": {"app": "core"}}},
    }
    (found,) = site.only("removed-api", objects=[budget])
    assert (found.what, found.todo) == ("Kubernetes 1.31 serves no PodDisruptionBudget in policy/v1beta1", "patch apiVersion to policy/v1")


def test_unserved_version(site: Site) -> None:
    (found,) = site.only("unserved-version", patch={"RayCluster/ray-cluster": replace("/apiVersion", "ray.io/v1")})
    assert found.what == "the CRD serves ray.io/v1alpha1, not ray.io/v1"


# environment


def test_dead_operation(site: Site) -> None:
    (found,) = site.only("dead-operation", base="inside", ui=replace("/podAnnotations", {"a": "b"}))
    assert (found.object, found.path, found.severity) == ("syntho-ui", "/podAnnotations", "error")
    shared = [one for one in site.lint() if one.rule == "dead-operation"]
    assert {one.severity for one in shared} == {"note"}  # a component's: the image of the databases that are outside


def test_altered_text(site: Site) -> None:
    (found,) = site.only("altered-text", ui=add("/core/app_env", "a #b"))
    assert (found.object, found.path, found.todo) == ("syntho-ui", "/core/app_env", """quote it once more: '"a #b"'""")
    assert "altered-text" not in {one.rule for one in site.lint(ui=add("/core/app_env", '"a #b"'))}


def test_replaced_zero(site: Site) -> None:
    (found,) = site.only("replaced-zero", ray=add("/worker/minReplicas", 0))
    assert (found.object, found.path) == ("ray", "/worker/minReplicas")
    assert "the chart makes 1 of 0 in RayCluster/ray-cluster:" in found.what
    assert "overlays/it/ray.values.yaml:1:" in found.origins[0]
    assert "replaced-zero" not in site.rules(ui=replace("/backend/redis/db", 0))
    assert "replaced-zero" in site.rules("inside", ui=replace("/redis/storageClassName", ""))
    assert "replaced-zero" not in site.rules("inside", ui=replace("/db/storageClassName", ""))


def test_colliding_object(site: Site) -> None:
    site.write("other")
    try:
        (found,) = site.only("colliding-object")
        assert "Service/backend" in found.what
        site.write("other", cluster={"namespace": "elsewhere"})
        assert "colliding-object" not in site.rules()
        site.write("other", cluster={"context": "d", "uid": "1"})
        assert "colliding-object" not in site.rules()
    finally:
        (site.root / "envs/other.yaml").unlink()


def test_unnamed_pull_secret(site: Site) -> None:
    more = {**SECRETS, "more": {"server": "b.example.com", "username": "u", "env": "X"}}
    assert "unnamed-pull-secret" not in site.rules()
    found = site.lint(secrets=more, patch={"Deployment/core": replace("/spec/template/spec/imagePullSecrets", [{"name": "a"}])})
    assert "unnamed-pull-secret" in {one.rule for one in found}


def test_helm_warning(site: Site, own: Site) -> None:
    bad = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: X_Y}\n"
    changed_charts(own, {})
    assert "helm-warning" not in own.rules()
    changed_charts(own, {"syntho-ui/templates/bad.yaml": bad})
    (found,) = [one for one in own.lint(patch={"ConfigMap/X_Y": []}) if one.severity != "note"]
    assert found.rule == "helm-warning"
    assert found.object == "syntho-ui"
    assert "object name does not conform" in found.what


def test_helm_error(own: Site) -> None:
    changed_charts(own, {"syntho-ui/templates/bad.foo": "# nothing"})
    found = [one for one in own.lint() if one.severity != "note"]
    assert {one.rule for one in found} == {"helm-error"}
    assert ["file extension '.foo' not valid" in one.what for one in found] == [True]


# of lint itself


def test_does_not_compile(site: Site) -> None:
    (found,) = site.lint(ui=replace("/core/imag", 1))
    assert (found.rule, found.severity, found.object) == ("does-not-compile", "error", "it.yaml")
    assert ":1:2" in found.origins[0]


def test_unused_allowance(site: Site) -> None:
    allowed = {"rule": "tiny-volume", "object": "PersistentVolumeClaim/ray-*", "why": "a test"}
    change: dict[str, Any] = {"vars": {"ray_volume_size": "100Mi"}, "environment": {"allow": [allowed]}}
    (found,) = [one for one in site.lint(**change) if one.rule == "tiny-volume"]
    assert found.allowed == "a test"
    (unused,) = site.only("unused-allowance", environment={"allow": [allowed]})
    assert (unused.severity, unused.object) == ("error", "it.yaml")
    (unknown,) = site.only("unused-allowance", environment={"allow": [{**allowed, "rule": "tiny-volum"}]})
    assert 'did you mean "tiny-volume"?' in unknown.what
