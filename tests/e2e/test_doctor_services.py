"""Services outside, asked from here and from a Job of a real API server. Where containers do not run, what the Job would say is said by its own
script, run here with the Job's environment, its passwords read from the Secrets that it refers to."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from syntho_deploy.cluster.client import Client
from syntho_deploy.compile import Project
from syntho_deploy.doctor import job
from syntho_deploy.doctor.outside import outside as services
from syntho_deploy.doctor.subject import Subject
from syntho_deploy.several import Place, Shared
from syntho_deploy.steps import Steps
from tests.e2e.kubelet import Kubelet
from tests.e2e.permissions import account, bind, documented
from tests.e2e.site import Site
from tests.registries import serving
from tests.servers import Postgres, Redis, needs_postgres, needs_redis

pytestmark = [needs_postgres, needs_redis, pytest.mark.administrator]
OUTSIDE = ("postgres", "redis", "in-cluster")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with serving(Postgres()) as found:
        yield found


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    with serving(Redis("databases 4")) as found:
        yield found


@pytest.fixture
def outside(site: Site, postgres: Postgres, redis: Redis, eventually: Callable[..., Any]) -> Site:
    """A site whose databases are outside."""
    if site.cluster.provider == "kind":
        pytest.skip("a container does not reach the services on this machine's loopback, and pulls no image of the sandbox")
    environment = site.read()
    environment["components"] = [one for one in environment["components"] if one != "postgres/in-chart"]
    environment["components"] += ["postgres/external", "postgres/tls", "tls/private-ca", "redis/external"]
    environment["vars"] |= {
        "host": f"{site.namespace}.localhost",  # no other test's
        "postgres_host": "127.0.0.1", "postgres_port": postgres.port, "core_db": "core", "core_db_user": "core", "backend_db": "backend",
        "backend_db_user": "backend", "postgres_sslmode": "verify-full", "ca_source": {"configMap": {"name": "site-ca"}},
        "redis_host": "127.0.0.1", "redis_port": redis.port,
    }  # fmt: skip
    environment["secrets"] |= {"core.db.password": {"env": "CORE_DB"}, "backend.db.password": {"env": "BACKEND_DB"}}
    site.write(environment)
    site.variables |= {"CORE_DB": Postgres.PASSWORD, "BACKEND_DB": Postgres.PASSWORD}
    client = site.client()
    client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": site.namespace}})
    eventually(lambda: not any(node["spec"].get("taints") for node in client.objects("v1", "Node", "")), 60)  # of a cluster that is new
    data = {"ca.crt": postgres.authority.pem}
    client.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "site-ca", "namespace": site.namespace}, "data": data})
    return site


def confine(site: Site) -> None:
    """Have the namespace admit confined pods only, which those of the sandbox are not."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    site.client().apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": site.namespace, "labels": labels}})


def told(site: Site, *words: str) -> list[tuple[str, str, str]]:
    """Check, state and sentence of what doctor says of the services outside. The exit code is that of all lines; others are of the cluster."""
    ran = site.invoke("doctor", "--json", *words, code=None)
    assert Postgres.PASSWORD not in ran.stdout + ran.stderr
    assert ran.code == (4 if any(one["state"] == "error" for one in ran.json["checks"]) else 0)
    return [(one["check"], one["state"], one["what"]) for one in ran.json["checks"] if one["check"] in OUTSIDE]


def as_the_job(site: Site, namespace: str) -> Callable[[str, str, dict[str, str]], list[str]]:
    """What the pod of a Job says: its own script's words."""

    def said(pod: str, container: str, query: dict[str, str]) -> list[str]:
        client = site.client()
        (spec,) = client.get("v1", "Pod", namespace, pod)["spec"]["containers"]  # type: ignore[index]
        variables = {one["name"]: one.get("value", "").replace("$$", "$") or _referred(client, namespace, one) for one in spec["env"]}
        variables["QUESTIONS"] = _with_the_mounts(client, namespace, spec, variables["QUESTIONS"], site.root)
        command = [word.replace("$$", "$") for word in spec["command"]]
        done = subprocess.run(command, env={"PATH": os.environ["PATH"], **variables}, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    return said


def _referred(client: Client, namespace: str, entry: dict[str, Any]) -> str:
    reference = entry["valueFrom"]["secretKeyRef"]
    return base64.b64decode(client.get("v1", "Secret", namespace, reference["name"])["data"][reference["key"]]).decode()  # type: ignore[index]


def _with_the_mounts(client: Client, namespace: str, spec: dict[str, Any], questions: str, folder: Path) -> str:
    """The questions with the paths of files that stand for the Job's mounts."""
    (mount,) = spec["volumeMounts"]
    content = client.get("v1", "ConfigMap", namespace, "site-ca")
    (folder / "ca.crt").write_text(content["data"]["ca.crt"])  # type: ignore[index]
    return questions.replace(f"{mount['mountPath']}/ca.crt", str(folder / "ca.crt"))


def test_services_are_asked_from_here_before_anything_is_deployed(outside: Site, redis: Redis) -> None:
    before = outside.client().objects("batch/v1", "Job", outside.namespace)
    found = told(outside)
    assert [(check, state) for check, state, _ in found] == [("postgres", "ok"), ("postgres", "ok"), ("redis", "ok"), ("redis", "ok")]
    assert "TLSv1.3" in found[0][2]
    assert outside.client().objects("batch/v1", "Job", outside.namespace) == before == []
    outside.variables["CORE_DB"] = "canary-2718281828"
    ran = outside.invoke("doctor", code=4)
    assert 'refuses the user "core" with the password of "core.db.password"' in ran.stdout
    assert "canary-2718281828" not in ran.stdout + ran.stderr


def test_a_job_asks_the_same_by_the_secrets_in_the_cluster_and_goes(outside: Site, tmp_path: Path) -> None:
    outside.invoke("secrets")
    del outside.variables["CORE_DB"], outside.variables["BACKEND_DB"]  # from here on the cluster has them
    here = told(outside)
    client = outside.client()
    confine(outside)
    with Kubelet(client, tmp_path, as_the_job(outside, outside.namespace)) as kubelet:
        there = told(outside, "--in-cluster")
        assert [container for _, container, _ in kubelet.asked] == ["syntho-doctor"]
    assert there == [("in-cluster", "ok", "a Job asked 4 services, and was deleted"), *here]
    assert client.objects("batch/v1", "Job", outside.namespace) == []


def test_every_field_of_the_job_is_one_that_the_server_knows(outside: Site) -> None:
    outside.invoke("secrets")
    subject = Subject(Place(Project.load(outside.root, outside.name), Steps(), Shared()), in_cluster=True)
    made = job.manifest(subject, services(subject.context))
    assert outside.client().apply(made, dry_run=True)["spec"]["backoffLimit"] == 0  # strict, so that an unknown field is refused


def test_without_the_secrets_the_job_asks_the_way_only(outside: Site, tmp_path: Path) -> None:
    with Kubelet(outside.client(), tmp_path, as_the_job(outside, outside.namespace)):
        found = told(outside, "--in-cluster")
    assert [state for check, state, _ in found if check == "postgres"] == ["unknown", "unknown"]
    assert "has no key core.db.password.url yet (invoke secrets --env=here makes it)" in found[1][2]


def test_a_log_that_cannot_be_read_is_not_known_and_the_job_goes(outside: Site) -> None:
    found = told(outside, "--in-cluster")
    assert {state for _, state, _ in found} == {"unknown"}
    assert "its log cannot be read" in found[0][2]
    assert outside.client().objects("batch/v1", "Job", outside.namespace) == []


def test_a_pod_that_the_namespace_refuses_is_told_in_its_words(outside: Site) -> None:
    client = outside.client()
    hard = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none", "namespace": outside.namespace},
        "spec": {"hard": {"pods": "0"}},
    }
    client.apply(hard)
    found = told(outside, "--in-cluster")
    assert found[0][:2] == ("in-cluster", "error")
    assert "exceeded quota" in found[0][2]
    assert client.objects("batch/v1", "Job", outside.namespace) == []


def test_an_interrupt_leaves_no_job_behind(outside: Site, eventually: Callable[..., Any]) -> None:
    client = outside.client()
    for node in client.objects("v1", "Node", ""):  # no pod finds a place
        path = client.path("v1", "Node", "", node["metadata"]["name"])
        client.request("PATCH", path, {"spec": {"unschedulable": True}}, {}, "application/merge-patch+json")
    try:
        running = outside.start("doctor", "--env=here", "--in-cluster")
        eventually(lambda: client.objects("batch/v1", "Job", outside.namespace), 60)
        assert outside.interrupt(running, signal.SIGINT).code == 130
        assert client.objects("batch/v1", "Job", outside.namespace) == []
    finally:
        for node in client.objects("v1", "Node", ""):
            path = client.path("v1", "Node", "", node["metadata"]["name"])
            client.request("PATCH", path, {"spec": {"unschedulable": None}}, {}, "application/merge-patch+json")


def test_the_documented_permissions_are_enough_for_the_job_and_each_that_lacks_is_told(outside: Site, tmp_path: Path) -> None:
    account(outside, cluster_wide=False)
    (check, state, what), *_ = told(outside, "--in-cluster")
    assert (check, state) == ("in-cluster", "unknown")
    assert "the account may not create jobs.batch" in what
    (role,) = [one for one in documented("doctor.md") if one["metadata"]["name"] == "syntho-doctor-in-cluster"]
    bind(outside.client(), role, outside.namespace)
    with Kubelet(outside.client(), tmp_path, as_the_job(outside, outside.namespace)):
        assert told(outside, "--in-cluster")[0] == ("in-cluster", "ok", "a Job asked 4 services, and was deleted")


def test_json_holds_what_people_read(outside: Site) -> None:
    ran = outside.invoke("doctor", "--json")
    assert {json.dumps(one) for one in ran.json["checks"]}
    assert ran.json["healthy"]
    assert {"check": "images-pullable", "state": "ok", "what": "the nodes are simulated, and pull nothing", "todo": ""} in ran.json["checks"]


def test_an_image_is_for_the_job_only(outside: Site) -> None:
    assert "add --in-cluster" in outside.invoke("doctor", "--image=python:3.12", code=3).stderr
    assert "no name of an image" in outside.invoke("doctor", "--in-cluster", "--image=A B", code=3).stderr
