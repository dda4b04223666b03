"""An API server that has hiccups fails no command: what may be sent again is, and nothing is written twice."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from syntho_deploy.cluster.client import Access, ApiError, Client
from syntho_deploy.errors import PreflightError
from tests.e2e.flaky import FlakyProxy
from tests.e2e.site import Site


def _through(site: Site, proxy: FlakyProxy) -> None:
    """Have the site's environment reach the cluster through the proxy."""
    target = {"context": "flaky", "kubeconfig": str(proxy.kubeconfig(site.root / "flaky")), "namespace": site.namespace}
    site.write({**site.read(), "cluster": target})


def _client(proxy: FlakyProxy, folder: Path) -> Client:
    return Client(Access(str(proxy.kubeconfig(folder / "flaky")), "flaky", "of the test"))


@pytest.mark.parametrize(
    "status", [pytest.param(429, marks=pytest.mark.thorough), 503, pytest.param(0, marks=pytest.mark.thorough)], ids=["429", "503", "reset"]
)
def test_a_deploy_outlives_a_failure_of_every_read_apply_and_dry_run(site: Site, status: int) -> None:
    with FlakyProxy(site.cluster, status, 1, lambda method, path: method in ("GET", "PATCH")) as proxy:
        _through(site, proxy)
        assert "deployed and verified" in site.invoke("deploy").stdout
        assert len(proxy.failed) > 30
        assert "nothing to do" in site.invoke("deploy").stdout
        assert len(site.invoke("history", "--json").json) == 1


@pytest.mark.parametrize("status", [500, 503, 0])
def test_a_create_without_an_answer_is_not_sent_again(site: Site, tmp_path: Path, status: int) -> None:
    item = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "once-", "namespace": site.namespace}}
    site.client().apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": site.namespace}})
    with FlakyProxy(site.cluster, status, 1, lambda method, path: method == "POST", passed_on=True) as proxy:
        with pytest.raises(ApiError if status else PreflightError):
            _client(proxy, tmp_path).create(item)
        assert proxy.seen["POST", f"/api/v1/namespaces/{site.namespace}/configmaps"] == 1
    made = [found["metadata"]["name"] for found in site.client().objects("v1", "ConfigMap", site.namespace)]
    assert len([name for name in made if name.startswith("once-")]) == 1


def test_a_create_that_was_turned_away_is_sent_again_when_the_server_says_so(site: Site, tmp_path: Path) -> None:
    site.client().apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": site.namespace}})
    with FlakyProxy(site.cluster, 429, 1, lambda method, path: method == "POST") as proxy:
        began = time.monotonic()
        made = _client(proxy, tmp_path).create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": site.namespace}})
        assert time.monotonic() - began >= 1  # the Retry-After
    assert made["metadata"]["uid"]


def test_a_record_whose_answer_was_lost_is_written_once(site: Site) -> None:
    with FlakyProxy(site.cluster, 0, 1, lambda method, path: "-record-" in path, passed_on=True) as proxy:
        _through(site, proxy)
        site.invoke("deploy")
        assert sum(proxy.failed.values()) == 1
        assert [found["number"] for found in site.invoke("history", "--json").json] == [1]


def test_a_lease_whose_answers_were_lost_is_taken_and_given_back(site: Site) -> None:
    site.deploy()
    with FlakyProxy(site.cluster, 0, 1, lambda method, path: method == "PUT" and path.endswith("/leases/syntho-deploy"), passed_on=True) as proxy:
        _through(site, proxy)
        assert "nothing to do" in site.invoke("deploy").stdout
        assert sum(proxy.failed.values()) == 1
        assert "nothing locks here" in site.invoke("unlock").stdout


def test_a_server_that_goes_on_failing_is_told_as_such(site: Site, tmp_path: Path) -> None:
    with FlakyProxy(site.cluster, 503, 1000, lambda method, path: True) as proxy:
        _through(site, proxy)
        ran = site.invoke("plan", code=1)
        assert "the API server refused GET /version" in ran.stderr
        assert proxy.seen["GET", "/version"] == 6


def test_a_silent_stream_may_be_waited_for_without_end_but_an_answer_may_not(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    client, asked = site.client(), []
    pool = client._connection.pool
    request = pool.request
    monkeypatch.setattr(pool, "request", lambda *words, **options: asked.append(options["timeout"]) or request(*words, **options))
    for _ in range(2):  # a server that has answered once is waited for longer
        client.request("GET", "/version")
    list(client.lines("/version", {}, None))
    assert [(timeout.connect_timeout, timeout.read_timeout) for timeout in asked] == [(5.0, 15.0), (5.0, 60.0), (5.0, None)]
