"""A rotation gives one secret a new value: exactly its users restart, and what fails is put back, the environment's file too."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from syntho_deploy import helm, rotate, tools
from syntho_deploy.cluster.lease import Lease
from syntho_deploy.compile import Project
from syntho_deploy.secrets import store
from syntho_deploy.steps import Steps
from tests.e2e.ray_operator import RayOperator
from tests.e2e.site import Ran, Site
from tests.unit.test_certificates import Authority

HEAD = "# what stands around an edit stays\n"
FILE = """cluster: {{local: {cluster}, namespace: {namespace}}}  # here
charts: vendor/sandbox.yaml
components: [ray/address, ray/head-only, pull-secret, license, keys, admin, postgres/in-chart, ingress/nginx]
vars: {{host: s.localhost, ingress_class: nginx, pull_secret: syntho-cr-secret, admin_user: a, admin_email: a@b.c, head_cpu: "1", head_memory: 2G}}
secrets:
  registry: {{server: registry.localhost, username: local, generate: token}}
  license: {{env: LICENSE}}   # of ours
  core.secret_key: {{generate: fernet}}
  core.db.password: {{generate: password}}
  backend.secret_key:
    generate: token # sessions
  backend.db.password: {{generate: password}}
  backend.user.password: {{generate: password, generation: 1}}
"""


@pytest.fixture
def there(site: Site) -> Site:
    """A site with a commented environment, deployed."""
    site.file.write_text(HEAD + FILE.format(cluster=site.cluster.name, namespace=site.namespace))
    site.variables["LICENSE"] = "canary-license-1"
    os.environ["LICENSE"] = "canary-license-1"  # for what is deployed in this process
    try:
        site.deploy()
    finally:
        del os.environ["LICENSE"]
    return site


def data(site: Site, name: str = "syntho-ui-secrets") -> dict[str, str]:
    secret = site.get("Secret", name, "v1")
    assert secret is not None
    return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}


def pods(site: Site) -> set[str]:
    return {pod["metadata"]["name"] for pod in site.client().objects("v1", "Pod", site.namespace) if "deletionTimestamp" not in pod["metadata"]}


def of(names: set[str]) -> set[str]:
    return {name.rsplit("-", 2)[0] for name in names}


def full(site: Site) -> None:
    """Have no new pod come up in the namespace."""
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full", "namespace": site.namespace}, "spec": {"hard": {"pods": "1"}}}
    site.client().create(quota)


def room(site: Site) -> None:
    assert site.client().delete("v1", "ResourceQuota", site.namespace, "full")


def test_exactly_the_users_restart_and_the_file_says_so(there: Site) -> None:
    text, old, before = there.file.read_text(), data(there), pods(there)
    ran = there.invoke("secrets", "--rotate=backend.secret_key", "--json")
    assert "all sessions end" in ran.stderr
    new = data(there)
    assert new["backend.secret_key"] == old["backend.secret_key"]
    assert new["backend.secret_key.2"] not in old.values()
    assert of(before - pods(there)) == {"backend", "backend-worker"}
    assert there.file.read_text() == text.replace("    generate: token # sessions\n", "    generate: token # sessions\n    generation: 2\n")
    assert (ran.json["generation"], ran.json["users"]) == (2, ["Deployment/backend", "Deployment/backend-worker"])
    assert there.invoke("history", "--json").json[-1]["reason"] == "rotate backend.secret_key to generation 2"
    assert "as compiled" in there.invoke("verify").stdout
    assert "nothing to do" in there.invoke("deploy").stdout
    assert not any(value in ran.stdout + ran.stderr for value in (new["backend.secret_key"], new["backend.secret_key.2"]))
    there.invoke("secrets", "--rotate=backend.secret_key")
    assert "generation: 3\n" in there.file.read_text()


@pytest.mark.thorough
def test_the_old_value_is_removed_by_the_line_that_is_given(there: Site) -> None:
    ran = there.invoke("secrets", "--rotate=backend.secret_key")
    assert {"backend.secret_key", "backend.secret_key.2"} <= set(data(there))
    kubectl = tools.find("kubectl", print).path.parent
    subprocess.run(["sh", "-c", _line("remove it: ", ran.stdout)], env={**os.environ, "PATH": f"{kubectl}:{os.environ['PATH']}"}, check=True)
    assert "backend.secret_key" not in data(there)
    assert "nothing to do" in there.invoke("deploy").stdout


def test_what_reads_a_whole_secret_gets_another_one(there: Site) -> None:
    environment = there.read()
    environment["secrets"]["extra"] = {"generate": "token"}
    there.write(environment)
    own = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "own"}, "stringData": {"EXTRA": "a ${secret:extra}"}}
    objects = there.root / "overlays" / there.name / "syntho-ui.objects"
    objects.mkdir(parents=True)
    (objects / "own.yaml").write_text(json.dumps(own))
    operation = {"op": "add", "path": "/spec/template/spec/containers/[name=core]/envFrom", "value": [{"secretRef": {"name": "own"}}]}
    there.overlay("syntho-ui.manifests.yaml", [{"target": {"kind": "Deployment", "name": "core"}, "patch": [operation]}])
    there.invoke("deploy")
    old, before = data(there, "own"), pods(there)
    there.invoke("secrets", "--rotate=extra")
    core = there.get("Deployment", "core")
    assert core is not None
    name = core["spec"]["template"]["spec"]["containers"][0]["envFrom"][0]["secretRef"]["name"]
    assert name.startswith("own-")
    assert data(there, name)["EXTRA"] != old["EXTRA"] == data(there, "own")["EXTRA"]
    assert of(before - pods(there)) == {"core"}
    row = {row["name"]: row for row in there.invoke("secrets", "--status", "--json").json}["extra"]
    assert (row["exists"], row["used_by"], row["generation"]) == (True, ["Deployment/core"], 2)


def test_a_source_outside_must_have_changed(there: Site) -> None:
    text = there.file.read_bytes()
    ran = there.invoke("secrets", "--rotate=license", code=4)
    assert 'the source of "license" (env LICENSE) still gives the value that is stored' in ran.stderr
    assert there.file.read_bytes() == text
    there.variables["LICENSE"] = "canary-license-2"
    ran = there.invoke("secrets", "--rotate=license")
    assert "canary" not in ran.stdout + ran.stderr
    assert "revoke it where it was issued (env LICENSE)" in ran.stdout
    assert data(there)["license.2"] == "canary-license-2"
    assert "license: {env: LICENSE, generation: 2}   # of ours\n" in there.file.read_text()
    assert {row["name"]: row for row in there.invoke("secrets", "--status", "--json").json}["license"]["same"] == "yes"


def test_ray_pods_restart_too(there: Site) -> None:
    def heads() -> set[str]:
        return {name for name in pods(there) if name.startswith("ray-cluster-head")}

    with RayOperator(there.client(), there.namespace):
        there.invoke("deploy")
        before = heads()
        there.variables["LICENSE"] = "canary-license-2"
        ran = there.invoke("secrets", "--rotate=license", "--json")
        assert ran.json["ray_pods"] == list(before)
        assert ran.json["users"] == ["Deployment/core", "Deployment/core-worker", "RayCluster/ray-cluster"]
        (head,) = heads() - before
        pod = there.get("Pod", head, "v1")
        assert pod is not None
        assert '"key": "license.2"' in json.dumps(pod["spec"]["containers"])


def test_a_rotation_that_fails_goes_back_and_so_does_the_file(there: Site) -> None:
    text, before = there.file.read_bytes(), pods(there)
    full(there)
    ran = there.invoke("secrets", "--rotate=backend.user.password", "--timeout=8s", code=5)
    assert "the last good state was deployed again and verified" in ran.stderr
    assert there.file.read_bytes() == text
    assert pods(there) == before
    room(there)
    assert "nothing to do" in there.invoke("deploy").stdout


@pytest.mark.thorough
def test_a_value_that_failed_is_not_taken_again(there: Site) -> None:
    full(there)
    there.variables["LICENSE"] = "canary-wrong"
    there.invoke("secrets", "--rotate=license", "--timeout=8s", code=5)
    room(there)
    there.variables["LICENSE"] = "canary-right"
    there.invoke("secrets", "--rotate=license")
    assert (data(there)["license.2"], data(there)["license.3"]) == ("canary-wrong", "canary-right")
    assert "license: {env: LICENSE, generation: 3}" in there.file.read_text()


@pytest.mark.thorough
@pytest.mark.parametrize("next_command", [("deploy",), ("secrets", "--rotate=backend.secret_key")])
def test_a_rotation_that_is_killed_is_completed_by_the_next_run(there: Site, eventually: Callable[..., Any], next_command: tuple[str, ...]) -> None:
    before = pods(there)
    full(there)
    running = there.start("secrets", f"--env={there.name}", "--rotate=backend.secret_key")
    eventually(lambda: "backend.secret_key.2" in json.dumps(there.get("Deployment", "backend") or {}), 60)
    ran = there.interrupt(running, signal.SIGTERM)
    assert ran.code == 130
    assert "generation: 2\n" in there.file.read_text()
    room(there)
    there.invoke(*next_command)
    assert "generation: 2\n" in there.file.read_text()
    assert "backend.secret_key.3" not in data(there)
    assert of(before - pods(there)) == {"backend", "backend-worker"}
    assert "as compiled" in there.invoke("verify").stdout


@pytest.mark.thorough
@pytest.mark.parametrize("after", [False, True])
def test_a_rotation_that_dies_around_its_key_makes_one_value(there: Site, monkeypatch: pytest.MonkeyPatch, after: bool) -> None:
    ensure = store.ensure

    def die(*args: Any) -> list[str]:
        if after:
            ensure(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "ensure", die)
    binary = helm.find(print)
    rotation = rotate.prepare(there.client(), Project.load(there.root, there.name), binary, "backend.secret_key", False)
    with pytest.raises(KeyboardInterrupt):
        rotate.run(there.client(), rotation, binary, Steps(), 60, False, print)
    assert "generation: 2\n" in there.file.read_text()
    stored = data(there).get("backend.secret_key.2")
    assert (stored is not None) == after
    there.invoke("secrets", "--rotate=backend.secret_key")
    found = data(there)
    assert stored in (None, found["backend.secret_key.2"])
    assert "backend.secret_key.3" not in found


@pytest.mark.thorough
def test_the_source_may_be_corrected_after_an_interruption(there: Site, eventually: Callable[..., Any]) -> None:
    full(there)
    there.variables["LICENSE"] = "canary-wrong"
    running = there.start("secrets", f"--env={there.name}", "--rotate=license")
    eventually(lambda: "license.2" in json.dumps(there.get("Deployment", "core") or {}), 60)
    assert there.interrupt(running, signal.SIGTERM).code == 130
    room(there)
    there.variables["LICENSE"] = "canary-right"
    there.invoke("secrets", "--rotate=license")
    assert data(there)["license.3"] == "canary-right"
    assert "license: {env: LICENSE, generation: 3}   # of ours\n" in there.file.read_text()


def test_while_another_works_nothing_is_changed(there: Site) -> None:
    text, stored = there.file.read_bytes(), data(there)
    with Lease(there.client(), there.namespace, "another"):
        assert "another" in there.invoke("secrets", "--rotate=backend.secret_key", code=6).stderr
    assert (there.file.read_bytes(), data(there)) == (text, stored)


@pytest.mark.thorough
def test_changes_that_are_not_deployed_are_not_brought_along(there: Site) -> None:
    there.overlay("syntho-ui.values.yaml", [{"op": "replace", "path": "/core/image/tag", "value": "2.0.0"}])
    ran = there.invoke("secrets", "--rotate=backend.secret_key", code=4)
    assert "is not as it was deployed last (record 1)" in ran.stderr
    there.deploy()
    there.invoke("secrets", "--rotate=backend.secret_key")


@pytest.mark.thorough
def test_what_would_be_lost_is_told_before(there: Site) -> None:
    text, stored = there.file.read_bytes(), data(there)
    ran = there.invoke("secrets", "--rotate=core.secret_key", code=4)
    assert "would make unreadable: what the core has stored encrypted" in ran.stderr
    assert (there.file.read_bytes(), data(there)) == (text, stored)
    there.invoke("secrets", "--rotate=core.secret_key", "--accept-loss")
    assert "core.secret_key.2" in data(there)


@pytest.mark.thorough
def test_a_name_that_is_not_there_is_told_the_nearest(there: Site) -> None:
    assert 'did you mean "license"' in there.invoke("secrets", "--rotate=licence", code=3).stderr
    assert "belong to --rotate" in there.invoke("secrets", "--accept-loss", code=3).stderr
    assert "choose one of" in there.invoke("secrets", "--rotate=license", "--status", code=3).stderr


def _line(words: str, text: str) -> str:
    """The line for a shell in what a person is told."""
    return next(line for line in text.splitlines() if words in line).partition(words)[2]


def _tell(site: Site, ran: Ran, folder: Path) -> str:
    """Run the line for the database, with the real kubectl but for `exec`, since no container runs. Returns what psql would read."""
    log, script = folder / "log", folder / "kubectl"
    script.write_text(
        f'#!/bin/sh\necho "$@" >> {log}\ncase "$*" in *" exec "*) cat > {folder}/sql;; *) exec {tools.find("kubectl", print).path} "$@";; esac\n'
    )
    script.chmod(0o755)
    subprocess.run(["sh", "-c", _line("1. ", ran.stderr)], env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}, check=True)
    assert 'sh -c psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d "$POSTGRES_DB"' in log.read_text()
    assert not any(value in log.read_text() + ran.stderr + ran.stdout for key, value in data(site).items() if "db.password" in key)
    return (folder / "sql").read_text()


def test_a_database_in_the_chart_is_told_before_its_users_restart(there: Site, tmp_path: Path) -> None:
    text, before = there.file.read_bytes(), pods(there)
    ran = there.invoke("secrets", "--rotate=core.db.password", code=4)
    assert "Deployment/postgres keeps its password until it is told the new one" in ran.stderr
    assert (there.file.read_bytes(), pods(there)) == (text, before)
    new = data(there)["core.db.password.2"]
    assert _tell(there, ran, tmp_path) == f"ALTER ROLE CURRENT_USER PASSWORD $syntho${new}$syntho$;"
    assert "core.db.password.2" in there.invoke("secrets", "--rotate=core.db.password", code=4).stderr
    done = there.invoke("secrets", "--rotate=core.db.password", "--database-changed")
    assert "Deployment/postgres does not accept it any more" in done.stdout
    assert of(before - pods(there)) == {"core", "core-worker", "postgres"}
    assert data(there)["core.db.password.2"] == new
    assert data(there)["core.db.password.2.url"] == new
    assert "core.db.password: {generate: password, generation: 2}\n" in there.file.read_text()
    ran = there.invoke("rollback")
    assert "Deployment/postgres has the password core.db.password.2, and that state uses core.db.password," in ran.stderr


@pytest.mark.thorough
def test_with_a_database_that_was_told_nothing_is_put_back(there: Site, tmp_path: Path) -> None:
    there.invoke("secrets", "--rotate=backend.db.password", code=4)
    full(there)
    ran = there.invoke("secrets", "--rotate=backend.db.password", "--database-changed", "--timeout=8s", code=5)
    assert "nothing was put back, since Deployment/database has the new password" in ran.stderr
    assert "backend.db.password: {generate: password, generation: 2}\n" in there.file.read_text()
    assert _tell(there, ran, tmp_path) == f"ALTER ROLE CURRENT_USER PASSWORD $syntho${data(there)['backend.db.password']}$syntho$;"
    room(there)
    there.invoke("secrets", "--rotate=backend.db.password", "--database-changed")
    assert "backend.db.password.3" not in data(there)
    assert "as compiled" in there.invoke("verify").stdout


@pytest.mark.administrator
@pytest.mark.thorough
def test_a_protected_environment_is_confirmed(there: Site) -> None:
    environment = there.read()
    uid = (there.client().get("v1", "Namespace", "", "kube-system") or {})["metadata"]["uid"]
    environment["cluster"] = {"context": there.cluster.context, "kubeconfig": str(there.cluster.kubeconfig), "namespace": there.namespace, "uid": uid}
    there.write({**environment, "protected": True})
    assert "here is protected" in there.invoke("secrets", "--rotate=backend.secret_key", code=4).stderr
    there.invoke("secrets", "--rotate=backend.secret_key", "--yes=here")


def test_registry_credentials_are_replaced_in_place(there: Site) -> None:
    environment = there.read()
    environment["secrets"]["mirror"] = {"server": "mirror.example.com", "env": {"username": "M_USER", "password": "M_PASSWORD"}}
    there.write(environment)
    there.variables |= {"M_USER": "robot", "M_PASSWORD": "canary-mirror-1"}
    assert "syntho-cr-secret (mirror.example.com)" in there.invoke("secrets").stderr
    before = json.loads(data(there, "syntho-cr-secret")[".dockerconfigjson"])["auths"]
    assert set(before) == {"registry.localhost", "mirror.example.com"}
    assert "still gives the value" in there.invoke("secrets", "--rotate=mirror", code=4).stderr
    running = pods(there)
    there.variables["M_PASSWORD"] = "canary-mirror-2"
    ran = there.invoke("secrets", "--rotate=mirror")
    assert "canary" not in ran.stdout + ran.stderr
    after = json.loads(data(there, "syntho-cr-secret")[".dockerconfigjson"])["auths"]
    assert after["registry.localhost"] == before["registry.localhost"]
    assert (after["mirror.example.com"]["username"], after["mirror.example.com"]["password"]) == ("robot", "canary-mirror-2")
    assert base64.b64decode(after["mirror.example.com"]["auth"]).decode() == "robot:canary-mirror-2"
    there.invoke("secrets", "--rotate=registry")
    assert json.loads(data(there, "syntho-cr-secret")[".dockerconfigjson"])["auths"]["registry.localhost"] != before["registry.localhost"]
    assert pods(there) == running


def test_a_certificate_comes_from_files_and_is_renewed_in_place(there: Site) -> None:
    environment = there.read()
    environment["components"][-1] = "ingress/tls-secret"
    environment["vars"]["tls_secret"] = "frontend-tls"
    environment["secrets"]["site"] = {"tls": {"certificate": "site.pem", "key": "site.key"}}
    there.write(environment)
    authority = Authority()

    def files(host: str, days: int) -> None:
        certificate, key = authority.issue(host, days=days)
        (there.root / "site.pem").write_text(certificate + authority.certificate)
        (there.root / "site.key").write_text(key)

    files("other.localhost", 365)
    ran = there.invoke("deploy", code=4)
    assert "site.pem does not cover s.localhost" in ran.stderr
    files("s.localhost", 12)
    ran = there.invoke("deploy")
    assert "note: frontend-tls: it expires on" in ran.stderr
    secret = there.get("Secret", "frontend-tls", "v1")
    assert secret is not None
    assert secret["type"] == "kubernetes.io/tls"
    assert data(there, "frontend-tls")["tls.key"] == (there.root / "site.key").read_text()
    row = {row["name"]: row for row in there.invoke("secrets", "--status", "--json").json}["site"]
    assert (row["same"], row["used_by"], row["exists"]) == ("yes", ["Ingress/frontend-ingress"], True)
    assert "it expires on" in row["note"]
    assert "still gives the value" in there.invoke("secrets", "--rotate=site", code=4).stderr
    files("*.localhost", 365)
    ran = there.invoke("secrets", "--rotate=site")
    assert "expires" not in ran.stderr
    assert data(there, "frontend-tls")["tls.crt"] == (there.root / "site.pem").read_text()
    whole = ran.stdout + ran.stderr + "".join(there.helm("get", "all", name) for name in ("ray-cluster", "syntho-ui"))
    assert (there.root / "site.key").read_text().splitlines()[1] not in whole
    assert "record 1 of" in there.invoke("rollback").stdout  # which had no use for a certificate
