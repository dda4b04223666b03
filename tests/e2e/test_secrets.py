"""Secrets in the cluster: created once, shown without a value, taken over from what runs, rotated by a new key."""

from __future__ import annotations

import base64
import json
import sys
from typing import Any

import pytest

from syntho_deploy.secrets.manage import _expanded, _part
from tests.e2e.site import Site


def _data(site: Site, name: str = "syntho-ui-secrets") -> dict[str, str]:
    secret = site.get("Secret", name, "v1")
    assert secret is not None
    return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}


def _source(site: Site, name: str, source: dict[str, Any]) -> None:
    environment = site.read()
    environment["secrets"][name] = source
    site.write(environment)


def test_secrets_creates_what_is_missing_and_nothing_else(site: Site) -> None:
    site.invoke("secrets")
    before = _data(site)
    assert site.client().objects("apps/v1", "Deployment", site.namespace) == []
    assert "nothing is missing" in site.invoke("secrets").stderr
    assert _data(site) == before


def test_the_status_tells_all_but_the_value(site: Site) -> None:
    _source(site, "license", {"env": "LICENSE"})
    site.variables["LICENSE"] = "canary-license-5"
    found = {row["name"]: row for row in site.invoke("secrets", "--status", "--json").json}
    assert not found["license"]["exists"]
    site.invoke("secrets")
    ran = site.invoke("secrets", "--status", "--json")
    row = {row["name"]: row for row in ran.json}["license"]
    assert (row["exists"], row["same"], row["generation"], row["source"]) == (True, "yes", 1, "env LICENSE")
    assert row["used_by"] == ["Deployment/core", "Deployment/core-worker", "RayCluster/ray-cluster"]
    assert row["created"].startswith("20")
    site.variables["LICENSE"] = "canary-license-6"
    assert {row["name"]: row for row in site.invoke("secrets", "--status", "--json").json}["license"]["same"].startswith("no")
    assert "canary" not in ran.stdout + ran.stderr + site.invoke("secrets", "--status").stdout


def test_a_command_gives_a_secret_and_shows_nothing(site: Site) -> None:
    _source(site, "license", {"command": [sys.executable, "-c", "print('canary-from-vault')"]})
    ran = site.invoke("deploy")
    assert _data(site)["license"] == "canary-from-vault"
    assert "canary" not in ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys; print('canary'); sys.exit(7)", "which failed with exit code 7"),
        ("pass", "printed nothing"),
        ("import sys; sys.exit('canary is wrong')", "which failed with exit code 1"),
    ],
)
def test_a_command_that_fails_is_told_without_its_output(site: Site, code: str, words: str) -> None:
    _source(site, "license", {"command": [sys.executable, "-c", code]})
    ran = site.invoke("deploy", code=4)
    assert words in ran.stderr
    assert "envs/here.yaml" in ran.stderr
    assert "canary" not in ran.stderr.split(" -c ")[0]
    assert site.client().objects("v1", "Secret", site.namespace) == []


def test_a_secret_that_is_there_already_is_referred_to_in_place(site: Site) -> None:
    client = site.client()
    client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": site.namespace}})
    data = {name: base64.b64encode(value.encode()).decode() for name, value in (("key", "theirs-1"), ("db", "p@ss"))}
    client.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "vault", "namespace": site.namespace}, "data": data})
    _source(site, "license", {"kubernetes": {"secret": "vault", "key": "key"}})
    _source(site, "core.db.password", {"kubernetes": {"secret": "vault", "key": "db"}})
    site.invoke("deploy")
    core = site.get("Deployment", "core")
    assert core is not None
    env = {entry["name"]: entry for entry in core["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env["LICENSE_KEY_SIGNED"]["valueFrom"]["secretKeyRef"] == {"name": "vault", "key": "key"}
    assert "license" not in _data(site)
    assert [value for key, value in _data(site).items() if key.startswith("core.db.password")] == ["p%40ss"]
    assert {row["name"]: row for row in site.invoke("secrets", "--status", "--json").json}["core.db.password"]["used_by"] == [
        "Deployment/core",
        "Deployment/core-worker",
        "Deployment/postgres",
    ]


def test_a_referred_secret_that_is_missing_stops_the_deploy(site: Site) -> None:
    _source(site, "core.db.password", {"kubernetes": {"secret": "vault", "key": "db"}})
    assert "is the key db of the Secret vault, which is not there" in site.invoke("deploy", code=4).stderr


def test_a_value_that_is_referred_to_is_checked_where_it_is_there(site: Site) -> None:
    client = site.client()
    client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": site.namespace}})
    data = {"key": base64.b64encode(b"no fernet key").decode(), "empty": ""}
    client.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "vault", "namespace": site.namespace}, "data": data})
    _source(site, "core.secret_key", {"kubernetes": {"secret": "vault", "key": "key"}})
    assert "is not a Fernet key" in site.invoke("secrets", code=4).stderr
    _source(site, "core.secret_key", {"kubernetes": {"secret": "vault", "key": "empty"}})
    assert "is the key empty of the Secret vault, which is empty" in site.invoke("secrets", code=4).stderr


def test_a_password_that_stands_only_in_a_url_is_known_and_kept(site: Site) -> None:
    environment = site.read()
    environment["components"] = ["postgres/external" if name == "postgres/in-chart" else name for name in environment["components"]]
    environment["vars"] |= {
        "postgres_host": "pg",
        "postgres_port": 5432,
        "core_db": "c",
        "core_db_user": "c",
        "backend_db": "b",
        "backend_db_user": "b",
    }
    site.write(environment)
    _source(site, "core.db.password", {"env": "CORE"})
    site.variables["CORE"] = "p@ss/word"
    site.invoke("secrets")
    assert "core.db.password" not in _data(site)
    row = {row["name"]: row for row in site.invoke("secrets", "--status", "--json").json}["core.db.password"]
    assert (row["exists"], row["same"]) == (True, "yes")
    site.variables["CORE"] = "another"
    site.overlay("syntho-ui.values.yaml", [{"op": "add", "path": "/core/env", "value": {"PLAIN": "${secret:core.db.password}"}}])
    site.invoke("secrets")
    assert _data(site)["core.db.password"] == "p@ss/word"


def test_registries_share_a_pull_secret_and_one_that_is_there_is_completed(site: Site) -> None:
    client = site.client()
    client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": site.namespace}})
    auths = {"https://registry.localhost/v1/": {"auth": base64.b64encode(b"me:mine").decode()}}
    data = {".dockerconfigjson": base64.b64encode(json.dumps({"auths": auths}).encode()).decode()}
    metadata = {"name": "syntho-cr-secret", "namespace": site.namespace}
    client.create({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson", "metadata": metadata, "data": data})
    _source(site, "mirror", {"server": "mirror.example.com:5000", "username": "robot", "generate": "token"})
    site.invoke("secrets")
    found = json.loads(_data(site, "syntho-cr-secret")[".dockerconfigjson"])["auths"]
    assert found.pop("mirror.example.com:5000")["username"] == "robot"
    assert found == auths
    assert "nothing is missing" in site.invoke("secrets").stderr
    _source(site, "twin", {"server": "https://mirror.example.com:5000", "username": "x", "generate": "token"})
    assert '"mirror" and "twin" are both credentials for' in site.invoke("secrets", code=3).stderr


def test_a_secret_that_cannot_be_completed_is_refused_by_plan_and_deploy_alike(site: Site) -> None:
    client = site.client()
    client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": site.namespace}})
    client.create({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": {"name": "syntho-cr-secret", "namespace": site.namespace}})
    words = "it exists with the type Opaque, this environment needs kubernetes.io/dockerconfigjson"
    assert f"x Secret/syntho-cr-secret  ({words}" in site.invoke("plan", code=4).stdout
    assert f"Secret/syntho-cr-secret: {words}" in site.invoke("deploy", code=4).stderr
    assert client.get("v1", "Secret", site.namespace, "syntho-ui-secrets") is None


@pytest.mark.thorough
def test_whoever_made_a_secret_stays_named_on_it(site: Site) -> None:
    client, labels = site.client(), {"app.kubernetes.io/managed-by": "external-secrets"}
    client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": site.namespace}})
    metadata = {"name": "syntho-ui-secrets", "namespace": site.namespace, "labels": labels}
    client.request("POST", client.path("v1", "Secret", site.namespace), {"metadata": metadata, "stringData": {"own": "x"}}, {"fieldManager": "eso"})
    site.invoke("secrets")
    found = site.get("Secret", "syntho-ui-secrets", "v1")
    assert found is not None
    assert found["metadata"]["labels"] == labels
    assert {"own", "license"} < set(found["data"])


def test_a_fernet_key_must_be_one(site: Site) -> None:
    _source(site, "core.secret_key", {"env": "KEY"})
    site.variables["KEY"] = "UNIbrRR0CnhPEB0BXKQSDASaNzT1IYgQWWaLyQ1W1iPg="  # 33 bytes
    ran = site.invoke("deploy", code=4)
    assert "is not a Fernet key" in ran.stderr
    assert "UNIbrRR0" not in ran.stderr


def test_a_public_default_is_refused_where_the_environment_is_protected(site: Site) -> None:
    _source(site, "backend.user.password", {"env": "ADMIN"})
    site.variables["ADMIN"] = "password"
    environment = site.read()
    uid = (site.client().get("v1", "Namespace", "", "kube-system") or {})["metadata"]["uid"]
    environment["cluster"] = {"context": site.cluster.context, "kubeconfig": str(site.cluster.kubeconfig), "namespace": site.namespace, "uid": uid}
    site.write({**environment, "protected": True})
    assert "is the public default of the chart" in site.invoke("deploy", "--yes=here", code=4).stderr
    site.write(environment)
    site.invoke("deploy")


def test_a_new_generation_restarts_exactly_the_pods_that_use_it_and_the_old_value_stays(site: Site) -> None:
    site.deploy()
    old = _data(site)
    pods = {pod["metadata"]["name"] for pod in site.client().objects("v1", "Pod", site.namespace)}
    _source(site, "backend.secret_key", {"generate": "token", "generation": 2})
    site.deploy()
    new = _data(site)
    assert new["backend.secret_key"] == old["backend.secret_key"]
    assert new["backend.secret_key.2"] != old["backend.secret_key"]
    left = {pod["metadata"]["name"] for pod in site.client().objects("v1", "Pod", site.namespace) if "deletionTimestamp" not in pod["metadata"]}
    assert {name.rsplit("-", 2)[0] for name in pods - left} == {"backend", "backend-worker"}
    site.invoke("rollback")
    backend = site.get("Deployment", "backend")
    assert backend is not None
    keys = [
        (entry.get("valueFrom") or {}).get("secretKeyRef", {}).get("key") for entry in backend["spec"]["template"]["spec"]["containers"][0]["env"]
    ]
    assert "backend.secret_key" in keys


@pytest.mark.parametrize(
    ("seen", "pattern", "url", "value"),
    [
        ("p$w", None, False, "p$w"),
        ("postgresql://u:p%40s@h:5432/db", "postgresql://u:$(SECRET_X_URL)@h:5432/db", True, "p@s"),
        ("postgresql://other:p%40s@old:5432/x", "postgresql://u:$(SECRET_X_URL)@h:5432/db", True, "p@s"),
        ("--key=abc --more", "--key=$(SECRET_X) --more", False, "abc"),
        ("something else", "--key=$(SECRET_X) --more", False, None),
    ],
)
def test_the_secret_inside_a_text_is_found(seen: str, pattern: str | None, url: bool, value: str | None) -> None:
    assert _part(seen, pattern, url) == value


def test_a_value_is_what_the_container_sees() -> None:
    assert _expanded("a$$b $(X) $(Y) $z", {"X": "1"}) == "a$b 1 $(Y) $z"
