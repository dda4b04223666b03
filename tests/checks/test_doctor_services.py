"""What doctor makes of a compiled environment: which services, by what TLS, CA and password; which images, by which login; the Job."""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from syntho_deploy import process
from syntho_deploy.compile import Project
from syntho_deploy.doctor import job, outside, probe, pullable, services
from syntho_deploy.doctor.outside import Reference
from syntho_deploy.doctor.subject import Missing, Result, Subject
from syntho_deploy.errors import PreflightError
from syntho_deploy.registry import parse
from syntho_deploy.several import Place, Shared
from syntho_deploy.steps import Steps
from tests.checks.conftest import Site
from tests.registries import INDEX, OddRegistry, RealRegistry, TokenRegistry, needs_real, serving
from tests.servers import Authority, Postgres, Redis, free_port, needs_postgres, needs_redis

Objects = dict[tuple[str, str], dict[str, Any]]
PRIVATE_CA = {"ca_source": {"configMap": {"name": "site-ca"}}}
PASSWORDS = {"core.db.password": {"env": "CORE_DB"}, "backend.db.password": {"env": "BACKEND_DB"}}
RESTRICTED = ("allowPrivilegeEscalation", "capabilities")
CANARY = "canary-31415926-5358"


class Live:
    """A cluster that has these objects, by kind and name."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def get(self, api_version: str, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        return self._objects.get((kind, name))

    def objects(self, api_version: str, kind: str, namespace: str) -> list[dict[str, Any]]:
        return [item for (one, _), item in self._objects.items() if one == kind]


Make = Callable[..., Subject]


@pytest.fixture
def make(site: Site, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A subject of the environment `it`, on a cluster that has some objects, or none that can be reached."""

    def made(live: Objects | None = None, image: str = "", **change: Any) -> Subject:
        site.write("it", **change)
        project = Project.load(site.root, "it", site.checked)
        shared = Shared()
        shared._helm = site.helm
        subject = Subject(Place(project, Steps(), shared), image=image)
        if live is not None:
            monkeypatch.setattr(Subject, "client", property(lambda self: Live(live)))
        return subject

    return made


def secret(name: str, **data: str) -> Objects:
    encoded = {key.replace("_", "."): base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {("Secret", name): {"metadata": {"name": name}, "data": encoded}}


def states(results: Iterator[Result]) -> list[tuple[str, str]]:
    return [(one.state, one.what) for one in results]


def test_services_in_the_charts_are_not_asked(make: Make) -> None:
    subject = make(base="inside")
    assert outside.outside(subject.context) == []
    assert states(services.postgres(subject)) == states(services.redis(subject)) == [("ok", "in the charts")]
    assert states(services.in_cluster(subject)) == []


def test_one_database_outside_and_one_in_the_chart(make: Make) -> None:
    where = {"core_db_host": "pg", "core_db_port": 5433, "core_db": "c", "core_db_user": "cu"}
    found = outside.outside(make(base="inside", add=["postgres/external-core"], drop=["volume-sizes", "resources/postgres"], vars=where).context)
    assert [(one.application, one.port, one.name, one.user) for one in found] == [("core", "5433", "c", "cu")]


def test_how_the_pods_reach_a_service_is_read_from_their_container(make: Make) -> None:
    plain = outside.outside(make(drop=["postgres/tls"]).context)
    assert [(one.kind, one.application, one.name, one.user, one.mode) for one in plain] == [
        ("postgres", "core", "c", "cu", ""),
        ("postgres", "backend", "b", "bu", ""),
        ("redis", "core", "1", "", ""),
        ("redis", "backend", "0", "", ""),
    ]
    assert plain[0].password == Reference("syntho-ui-secrets", "core.db.password.url", True)
    assert [one.system for one in plain] == [False, False, True, True]
    assert plain[1].password == Reference("syntho-ui-secrets", "backend.db.password")
    change = {"vars": {"postgres_sslmode": "require", "core_redis_db": 3, "backend_redis_db": 2, **PRIVATE_CA},
              "secrets": {"redis.password": {"env": "REDIS"}}}  # fmt: skip
    core, _, redis, other = outside.outside(make(add=["tls/private-ca", "redis/external-tls"], drop=["redis/external"], **change).context)
    assert core.mode == "verify-ca"  # libpq with a root certificate
    assert core.trust
    assert core.trust.reference == Reference("site-ca", "ca.crt", kind="ConfigMap")
    assert (redis.mode, redis.name, redis.password) == ("verify-full", "3", Reference("syntho-ui-secrets", "redis.password.url", True))
    assert redis.trust == core.trust
    assert (other.mode, other.name, other.password) == ("", "2", "")  # the backend's environment has neither


def test_a_password_is_the_clusters_then_the_sources_and_a_generated_one_is_not_known_before(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = Reference("syntho-ui-secrets", "core.db.password.url", True)
    monkeypatch.setenv("CORE_DB", "from the source")
    assert outside.reveal(make(secrets=PASSWORDS), reference) == "from the source"
    live = {("Secret", "syntho-ui-secrets"): {"metadata": {}, "data": {reference.key: base64.b64encode(b"of%20the%20cluster").decode()}}}
    assert outside.reveal(make(live, secrets=PASSWORDS), reference) == "of the cluster"
    with pytest.raises(Missing, match="is generated, and not in the cluster yet"):
        outside.reveal(make({}), reference)
    referred = {"core.db.password": {"kubernetes": {"secret": "given", "key": "pw"}}}
    subject = make(secret("given", pw="from elsewhere"), secrets=referred)
    assert outside.reveal(subject, Reference("given", "pw")) == "from elsewhere"
    with pytest.raises(Missing, match="is not in the cluster"):
        outside.reveal(make({}, secrets=referred), Reference("given", "pw"))


@needs_postgres
@needs_redis
def test_services_are_asked_with_the_environments_passwords_which_are_nowhere_to_be_seen(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Postgres()) as postgres, serving(Redis("databases 4")) as redis:
        where = {"postgres_host": "127.0.0.1", "postgres_port": postgres.port, "redis_host": "127.0.0.1", "redis_port": redis.port,
                 "core_db": "core", "core_db_user": "core", "backend_db": "backend", "backend_db_user": "backend", "postgres_sslmode": "verify-full",
                 **PRIVATE_CA}  # fmt: skip
        monkeypatch.setenv("CORE_DB", Postgres.PASSWORD)
        monkeypatch.setenv("BACKEND_DB", Postgres.PASSWORD)
        ca: Objects = {("ConfigMap", "site-ca"): {"data": {"ca.crt": postgres.authority.pem}}}
        change: dict[str, Any] = {"secrets": PASSWORDS, "vars": where, "add": ["tls/private-ca"]}
        found = [*services.postgres(make(ca, **change)), *services.redis(make(ca, **change))]
        assert [one.state for one in found] == ["ok"] * 4, found
        assert Postgres.PASSWORD not in str(found)
        (missing, _) = services.postgres(make({}, **change))
        assert (missing.state, "the ConfigMap site-ca, is not there" in missing.what) == ("unknown", True)
        monkeypatch.setenv("BACKEND_DB", CANARY)
        wrong = list(services.postgres(make(ca, **change)))
        assert [one.state for one in wrong] == ["ok", "error"]
        assert 'with the password of "backend.db.password"' in wrong[1].what
        assert CANARY not in str(wrong)
        monkeypatch.setenv("BACKEND_DB", Postgres.PASSWORD)
        monkeypatch.setitem(where, "backend_db", "core")
        twice = list(services.postgres(make(ca, **change)))
        assert "its database is that of core: core at 127.0.0.1" in twice[-1].what
        monkeypatch.delenv("CORE_DB")
        monkeypatch.setattr(process, "_hidden", {})
        unset = next(iter(services.postgres(make(ca, **change))))
        assert (unset.state, "the variable CORE_DB, which is not set" in unset.what) == ("unknown", True)
    numbers = {"add": ["redis/databases"], "vars": {**where, "core_redis_db": 0, "backend_redis_db": 0}}
    closed = list(services.redis(make({}, **numbers)))
    assert "nothing listens at" in closed[0].what
    assert "its database is that of core: 0 at" in closed[-1].what


def test_a_name_of_the_cluster_is_not_asked_from_here(make: Make) -> None:
    for name in ("pg", "pg.databases.svc", "pg.databases.svc.cluster.local", "PG.databases.svc.cluster.local."):
        found = list(services.postgres(make(vars={"postgres_host": name})))
        assert {(one.state, one.todo) for one in found} == {("unknown", "--in-cluster asks it from a Job")}
    for name in ("::1", "[::1]", "127.0.0.1"):
        found = list(services.postgres(make(vars={"postgres_host": name, "postgres_port": 1})))
        assert {(one.state, "nothing listens at" in one.what or "cannot be reached" in one.what) for one in found} <= {
            ("error", True),
            ("unknown", True),
        }


# The Job


def test_the_job_has_secrets_by_reference_only_and_is_confined(make: Make) -> None:
    live = secret("syntho-ui-secrets", backend_db_password=CANARY) | {("ConfigMap", "site-ca"): {"data": {"ca.crt": "PEM"}}}
    change: dict[str, Any] = {"vars": {"postgres_sslmode": "require", **PRIVATE_CA}, "add": ["tls/private-ca"]}
    subject = make(live, **change)
    item = job.manifest(subject, outside.outside(subject.context))
    pod = item["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert CANARY not in json.dumps(item)
    reference = {"secretKeyRef": {"name": "syntho-ui-secrets", "key": "backend.db.password"}}
    assert container["env"][0] == {"name": "PASSWORD_1", "valueFrom": reference}
    questions = json.loads(container["env"][1]["value"])
    assert [one["variable"] for one in questions] == ["", "PASSWORD_1", "", ""]
    assert "has no key core.db.password.url yet (invoke secrets --env=it makes it)" in questions[0]["unknown"]
    assert [one["password"] for one in questions] == [None, None, "", ""]
    assert questions[0]["ca_file"] == container["volumeMounts"][0]["mountPath"] + "/ca.crt"
    assert pod["volumes"][0]["projected"]["sources"] == [{"configMap": {"name": "site-ca"}}]
    assert pod["imagePullSecrets"] == [{"name": "pull"}]
    assert container["image"].startswith("mirror.example.com/syntho/syntho-core-api")
    assert (pod["automountServiceAccountToken"], pod["restartPolicy"], item["spec"]["backoffLimit"]) == (False, "Never", 0)
    assert pod["securityContext"] == {"runAsNonRoot": True, "runAsUser": 65534, "seccompProfile": {"type": "RuntimeDefault"}}
    assert [container["securityContext"][key] for key in RESTRICTED] == [False, {"drop": ["ALL"]}]
    assert item["spec"]["activeDeadlineSeconds"] == job.DEADLINE
    assert item["spec"]["ttlSecondsAfterFinished"] > 0
    assert container["command"][-1].replace("$$", "$") == Path(probe.__file__).read_text()


def test_the_jobs_image_can_be_named_and_its_user_is_the_applications(make: Make) -> None:
    placed = {"ui_node_selector": {"zone": "a"}, "ui_tolerations": [{"key": "k", "operator": "Exists"}], "ui_affinity": {}, "ui_annotations": {},
              "ui_pod_security_context": {"runAsUser": 1000, "fsGroup": 1000}, "ui_security_context": {}}  # fmt: skip
    subject = make({}, image="tools.example.com/python:3.12", add=["scheduling/ui"], vars=placed)
    pod = job.manifest(subject, outside.outside(subject.context))["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "tools.example.com/python:3.12"
    assert pod["securityContext"]["runAsUser"] == 1000
    assert (pod["nodeSelector"], pod["tolerations"][0]["key"]) == ({"zone": "a"}, "k")
    rooted = {**placed, "ui_pod_security_context": {"runAsUser": 0}, "ui_security_context": {"runAsUser": 0}}
    root = make({}, add=["scheduling/ui"], vars=rooted)
    pod = job.manifest(root, outside.outside(root.context))["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsUser"] == 65534  # what may not run as root does not
    assert "runAsUser" not in pod["containers"][0]["securityContext"]


def test_answers_are_read_from_a_log_that_others_write_to(make: Make) -> None:
    every = outside.outside(make().context)
    lines = [
        "a sidecar says hello",
        f"{probe.MARK}{json.dumps({'number': 1, 'lines': [['error', 'backend: no', 'do']], 'identity': ''})}",
        f"{probe.MARK}no JSON",
        f"2026-11-24T16:00:00Z {probe.MARK}{json.dumps({'number': 0, 'lines': [['ok', 'core: yes', '']], 'identity': '7/1'})}",
        "Killed",
    ]
    found = job.answers("\n".join(lines), every)
    assert found[0] == probe.Answer([("ok", "core: yes", "")], "7/1")
    assert found[1].lines == [("error", "backend: no", "do")]
    assert "its last words: Killed" in found[2].lines[0][1]
    assert {one.lines[0][0] for one in found[2:]} == {"unknown"}


# Images


def images(make: Make, host: str, live: Objects | None = None, **change: Any) -> list[Result]:
    change = {"vars": {"registry": f"{host}/syntho"}, **change}
    return list(pullable.images_pullable(make({} if live is None else live, **change)))


REPOSITORIES = {"syntho-core-api": "1.9.7", "syntho-core-backend": "1.9.7", "syntho-core-frontend": "1.9.7", "syntho-ray": "1.9.7-cpu",
                "syntho-ray-operator": "1.9.7", "busybox": "1.28"}  # fmt: skip


def node(name: str, architecture: str, annotation: str = "site/rack", taint: str = "") -> Objects:
    metadata = {"name": name, "annotations": {annotation: "fake"}, "labels": {"kubernetes.io/arch": architecture}}
    status = {"nodeInfo": {"architecture": architecture}, "conditions": [{"type": "Ready", "status": "True"}],
              "allocatable": {"cpu": "64", "memory": "268435456Ki", "ephemeral-storage": "1Ti"}}  # fmt: skip
    taints = [{"key": taint, "effect": "NoSchedule"}] if taint else []
    return {("Node", name): {"metadata": metadata, "spec": {"taints": taints}, "status": status}}


def credentials(registry: TokenRegistry, monkeypatch: pytest.MonkeyPatch, password: str = "") -> dict[str, Any]:
    monkeypatch.setenv("REGISTRY_PASSWORD", password or registry.password)
    return {"registry": {"server": registry.host, "username": registry.user, "env": "REGISTRY_PASSWORD"}}


@pytest.fixture
def registry() -> Iterator[TokenRegistry]:
    with serving(TokenRegistry()) as found:
        for name, tag in REPOSITORIES.items():
            found.add(f"syntho/{name}", tag, platforms=("amd64", "arm64") if name == "busybox" else ("amd64",))
        yield found


def no_digests(**change: Any) -> dict[str, Any]:
    return {"drop": ["images/digests"], **change}


def test_a_registry_with_all_images_is_one_line(make: Make, registry: TokenRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = images(make, registry.host, **no_digests(secrets=credentials(registry, monkeypatch)))
    assert found.state == "ok"
    assert f"{registry.host} has all of 6 for amd64, by the credentials of registry (env REGISTRY_PASSWORD)" == found.what


def test_what_is_missing_is_a_line_for_each_image(make: Make, registry: TokenRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    del registry.content["syntho/busybox"]
    registry.content["syntho/syntho-ray"].pop("1.9.7-cpu")
    found = images(make, registry.host, **no_digests(secrets=credentials(registry, monkeypatch)))
    assert [(one.state, one.what) for one in found] == [
        ("error", f"{registry.host} has no {registry.host}/syntho/{name}") for name in ("busybox:1.28", "syntho-ray:1.9.7-cpu")
    ]


def test_the_platforms_are_held_against_the_nodes(make: Make, registry: TokenRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    change = no_digests(secrets=credentials(registry, monkeypatch))
    arm = images(make, registry.host, node("a", "arm64"), **change)
    assert {one.state for one in arm} == {"error"}
    assert len(arm) == 5
    assert "is for amd64 only, and nodes that it may run on are arm64" in arm[0].what
    both = images(make, registry.host, node("a", "arm64") | node("b", "amd64"), **change)
    assert {one.state for one in both} == {"warning"}
    (apart,) = images(make, registry.host, node("a", "arm64", taint="other") | node("b", "amd64"), **change)
    assert apart.state == "ok", apart  # no pod of ours comes to the other
    (simulated,) = images(make, registry.host, node("a", "arm64", pullable.SIMULATED), **change)
    assert (simulated.state, simulated.what) == ("ok", "the nodes are simulated, and pull nothing")


def test_credentials_are_those_of_the_pull_secret_in_the_cluster_first(make: Make, registry: TokenRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    change = no_digests(secrets=credentials(registry, monkeypatch))
    auth = base64.b64encode(f"{registry.user}:{CANARY}".encode()).decode()
    config = json.dumps({"auths": {f"https://{registry.host}/v1/": {"auth": auth}}})
    live: Objects = {("Secret", "pull"): {"metadata": {"name": "pull"}, "data": {".dockerconfigjson": base64.b64encode(config.encode()).decode()}}}
    found = images(make, registry.host, live, **change)
    assert {one.state for one in found} == {"error"}
    assert "gives no token to the user puller: 401, wrong password, by the credentials of the Secret pull in the cluster" in found[0].what
    assert "invoke secrets --env=it --rotate=NAME" in found[0].todo
    assert CANARY not in str(found)
    assert auth not in str(found)


def pull_secret(*servers: str) -> Objects:
    config = json.dumps({"auths": {server: {"username": "u", "password": CANARY} for server in servers}})
    return {("Secret", "pull"): {"metadata": {"name": "pull"}, "data": {".dockerconfigjson": base64.b64encode(config.encode()).decode()}}}


def test_credentials_of_another_registry_are_none(make: Make, registry: TokenRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    found = images(make, registry.host, pull_secret("https://elsewhere.example.com"), **no_digests(secrets={}))
    assert {one.state for one in found} == {"unknown"}
    assert found[0].what.endswith("and no pull secret has any (pull has https://elsewhere.example.com)")
    assert CANARY not in str(found)
    source = credentials(registry, monkeypatch)
    source["registry"]["name"] = "unused"  # no pod names that Secret, so that none sends what is in it
    assert {one.state for one in images(make, registry.host, **no_digests(secrets=source))} == {"unknown"}


@pytest.mark.parametrize(
    ("server", "image", "serve"),
    [
        ("r.example.com", "r.example.com/a/b:1", True), ("https://r.example.com/v1/", "r.example.com/a:1", True),
        ("r.example.com/team", "r.example.com/team/b:1", True), ("r.example.com/team", "r.example.com/other/b:1", False),
        ("*.example.com", "r.example.com/a:1", True), ("*.example.com", "r.s.example.com/a:1", False), ("r.example.com", "r.example.com:1/a", False),
        ("https://index.docker.io/v1/", "busybox", True), ("docker.io", "r.example.com/busybox", False),
    ],
)  # fmt: skip
def test_credentials_are_for_what_the_kubelet_takes_them_for(server: str, image: str, serve: bool) -> None:
    assert pullable.serves(server, parse(image)) is serve


def test_of_two_credentials_for_one_host_each_repository_gets_its_own(make: Make, registry: TokenRegistry) -> None:
    right = {"username": registry.user, "password": registry.password}
    config = json.dumps({"auths": {registry.host: {"username": "other", "password": CANARY}, f"{registry.host}/syntho": right}})
    data = {".dockerconfigjson": base64.b64encode(config.encode()).decode()}
    (found,) = images(make, registry.host, {("Secret", "pull"): {"metadata": {"name": "pull"}, "data": data}}, **no_digests(secrets={}))
    assert (found.state, found.what.endswith("by the credentials of the Secret pull in the cluster")) == ("ok", True), found


def test_an_image_without_an_architecture_and_a_busy_registry_are_not_known(
    make: Make, registry: TokenRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = no_digests(secrets=credentials(registry, monkeypatch))
    registry.content["syntho/busybox"]["1.28"] = (INDEX, json.dumps({"manifests": []}).encode())
    (found,) = images(make, registry.host, **change)
    assert (found.state, "busybox:1.28 does not say for which architecture it is" in found.what) == ("unknown", True)
    with serving(OddRegistry(lambda path, _: (429, {"errors": [{"message": "too many pulls"}]}, {}))) as busy:
        (limited,) = images(make, busy.host, **no_digests(secrets={}))
    assert (limited.state, limited.what) == ("unknown", f"{busy.host} answers 429 now: too many pulls")


def test_wrong_credentials_none_and_a_source_without_a_value_are_told_apart(
    make: Make, registry: TokenRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    wrong = images(make, registry.host, **no_digests(secrets=credentials(registry, monkeypatch, CANARY)))
    assert wrong[0].state == "error"
    assert "gives no token to the user puller" in wrong[0].what
    assert CANARY not in str(wrong)
    other = {"registry": {"server": "elsewhere.example.com", "username": "u", "env": "REGISTRY_PASSWORD"}}
    none = images(make, registry.host, **no_digests(secrets=other))
    assert {one.state for one in none} == {"unknown"}
    assert "no pull secret has any" in none[0].what
    monkeypatch.delenv("REGISTRY_PASSWORD")
    monkeypatch.setattr(process, "_hidden", {})
    (unset,) = dict.fromkeys((one.state, one.what) for one in images(make, registry.host, **no_digests(secrets=credentials_of(registry))))
    assert unset[0] == "error"
    assert "the variable REGISTRY_PASSWORD, which is not set" in unset[1]


def credentials_of(registry: TokenRegistry) -> dict[str, Any]:
    return {"registry": {"server": registry.host, "username": registry.user, "env": "REGISTRY_PASSWORD"}}


def test_a_registry_that_cannot_be_reached_is_one_line_for_all_its_images(make: Make) -> None:
    (found,) = images(make, f"127.0.0.1:{free_port()}", **no_digests())
    assert (found.state, "cannot be reached" in found.what) == ("unknown", True)  # the nodes may reach it


def test_a_proxy_that_is_not_there_is_told(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
    (found,) = images(make, "registry.example.com", **no_digests())
    assert (found.state, found.what) == ("unknown", "registry.example.com cannot be reached through the proxy")


def test_a_certificate_that_nobody_trusts_is_told(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.certificate, authority.key)

    class Proxy(BaseHTTPRequestHandler):  # as one that looks into TLS, with a CA of the site's own
        def log_message(self, *words: object) -> None:
            pass

        def do_CONNECT(self) -> None:
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                context.wrap_socket(self.connection, server_side=True)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.server_address[1]}")
    found = images(make, "registry.example.com", **no_digests())
    server.shutdown()
    server.server_close()
    (line,) = found
    assert (line.state, line.what) == ("unknown", "registry.example.com is not trusted: unable to get local issuer certificate")
    assert "REQUESTS_CA_BUNDLE" in line.todo


@needs_real
def test_debians_registry_answers_so_too(make: Make, tmp_path: Path) -> None:
    with serving(RealRegistry(tmp_path)) as real:
        for name, tag in REPOSITORIES.items():
            if name != "busybox":
                real.push(f"syntho/{name}", tag)
        found = images(make, real.host, **no_digests())
        assert [(one.state, one.what) for one in found] == [("error", f"{real.host} has no {real.host}/syntho/busybox:1.28")]


def test_where_no_image_is_known_the_job_says_what_to_name(make: Make) -> None:
    subject = make({})
    bare = replace(outside.outside(subject.context)[0], pod={}, container={})
    with pytest.raises(PreflightError, match="no image is known"):
        job.manifest(subject, [bare])
