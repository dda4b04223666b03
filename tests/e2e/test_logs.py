"""Logs of a workload's pods, through the API server's own log proxy; what the kubelet says is the test's."""

from __future__ import annotations

import base64
import json
import queue
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from tests.e2e.kubelet import Kubelet
from tests.e2e.site import Site


@pytest.fixture
def deployed(site: Site) -> Site:
    if site.cluster.provider == "kind":
        pytest.skip("real kubelets write their nodes' addresses themselves")
    site.deploy()
    return site


def _hello(pod: str, container: str, query: dict[str, str]) -> list[str] | None:
    return [] if container.startswith("wait-") else [f"{container} says {number}" for number in range(3)]


def test_all_containers_are_read_each_line_with_its_pod_and_container(deployed: Site, tmp_path: Path) -> None:
    with Kubelet(deployed.client(), tmp_path, _hello):
        out = deployed.invoke("logs").stdout.splitlines()
    pods = [pod["metadata"]["name"] for pod in deployed.client().objects("v1", "Pod", deployed.namespace)]
    assert {line.split("/")[0] for line in out} == set(pods)
    core = next(pod for pod in pods if pod.startswith("core-") and not pod.startswith("core-worker"))
    assert [line for line in out if line.startswith(f"{core}/core:")] == [f"{core}/core: core says {number}" for number in range(3)]


def test_one_component_with_the_last_lines_only_as_json(deployed: Site, tmp_path: Path) -> None:
    with Kubelet(deployed.client(), tmp_path, _hello) as kubelet:
        ran = deployed.invoke("logs", "--component=frontend", "--tail=1", "--json")
        assert {pod.split("-")[0] for pod, _, _ in kubelet.asked} == {"frontend"}
    (line,) = [json.loads(text) for text in ran.stdout.splitlines()]
    assert (line["container"], line["text"]) == ("frontend", "frontend says 2")
    assert line["time"].startswith("20")


def test_secrets_are_masked_by_value(deployed: Site, tmp_path: Path) -> None:
    secret = deployed.get("Secret", "syntho-ui-secrets", "v1")
    assert secret is not None
    password = base64.b64decode(secret["data"]["core.db.password"]).decode()
    with Kubelet(deployed.client(), tmp_path, lambda *_: [f"url=postgres://syntho:{password}@database", f"key={secret['data']['core.secret_key']}"]):
        for words in ([], ["--json"]):
            out = deployed.invoke("logs", "--component=core", *words).stdout
            assert "postgres://syntho:***@database" in out
            assert password not in out
            assert secret["data"]["core.secret_key"] not in out


@pytest.mark.thorough
def test_previous_shows_restarted_containers_only(deployed: Site, tmp_path: Path) -> None:
    assert "no container was restarted" in deployed.invoke("logs", "--previous").stderr
    client = deployed.client()
    (pod,) = client.objects("v1", "Pod", deployed.namespace, "app=frontend")
    statuses = [{**one, "restartCount": 1} for one in pod["status"]["containerStatuses"]]
    path = client.path("v1", "Pod", deployed.namespace, pod["metadata"]["name"])
    client.request("PATCH", f"{path}/status", {"status": {"containerStatuses": statuses}}, {}, "application/merge-patch+json")
    with Kubelet(client, tmp_path, lambda pod, container, query: ["it crashed"] if query["previous"] == "true" else []) as kubelet:
        assert deployed.invoke("logs", "--previous").stdout == f"{pod['metadata']['name']}/frontend: it crashed\n"
        assert len(kubelet.asked) == 1


def test_an_unknown_component_is_told_the_nearest(deployed: Site) -> None:
    ran = deployed.invoke("logs", "--component=bakend", code=3)
    assert 'there is no component "bakend"; did you mean "backend"?' in ran.stderr
    assert "choose one of" in deployed.invoke("logs", "--previous", "--follow", code=3).stderr
    assert "no number of lines" in deployed.invoke("logs", "--tail=-1", code=3).stderr


def test_where_nothing_is_deployed_there_are_no_logs(site: Site) -> None:
    assert "nothing is deployed" in site.invoke("logs", code=3).stderr


def test_a_container_that_has_no_log_is_said_and_is_no_failure(deployed: Site) -> None:
    ran = deployed.invoke("logs", "--component=backend")
    assert ran.stdout == ""
    assert "/backend: no logs found" in ran.stderr


@pytest.mark.thorough
def test_a_node_that_does_not_answer_is_a_failure_after_the_others(deployed: Site, tmp_path: Path) -> None:
    def said(pod: str, container: str, query: dict[str, str]) -> list[str]:
        if container == "backend":
            raise ConnectionError
        return ["fine"]

    with Kubelet(deployed.client(), tmp_path, said):
        ran = deployed.invoke("logs", "--component=backend,frontend", code=1)
    assert "/frontend: fine" in ran.stdout
    assert "/backend: " in ran.stderr


def _lines(running: subprocess.Popen[str]) -> queue.Queue[str]:
    """What a running command prints, as it comes."""
    assert running.stdout is not None
    found: queue.Queue[str] = queue.Queue()
    stream = running.stdout

    def read() -> None:
        for line in stream:
            found.put(line)

    threading.Thread(target=read, daemon=True).start()
    return found


def test_a_followed_log_goes_on_with_new_pods_and_ends_cleanly(deployed: Site, tmp_path: Path) -> None:
    with Kubelet(deployed.client(), tmp_path, _hello) as kubelet:
        running = deployed.start("logs", "--env=here", "--component=frontend", "--follow", "--tail=1")
        lines = _lines(running)
        assert "frontend says 2" in lines.get(timeout=60)
        kubelet.more("something new")
        assert "something new" in lines.get(timeout=20)
        client = deployed.client()
        (old,) = client.objects("v1", "Pod", deployed.namespace, "app=frontend")
        client.delete("v1", "Pod", deployed.namespace, old["metadata"]["name"])
        later = iter(lambda: lines.get(timeout=60), "")
        assert any("frontend says 0" in line and not line.startswith(old["metadata"]["name"]) for line in later)
        ran = deployed.interrupt(running, signal.SIGINT)
    assert (ran.code, ran.stderr) == (130, "")
