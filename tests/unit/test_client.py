"""A server that takes connections and never answers is not waited for beyond the time that there is."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from syntho_deploy.cluster import client as clients
from syntho_deploy.cluster.client import Access, Client
from syntho_deploy.errors import PreflightError


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[Client]:
    """A client of a server that never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        cluster = {"name": "a", "cluster": {"server": f"http://127.0.0.1:{server.getsockname()[1]}"}}
        content = {"clusters": [cluster], "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}], "users": [{"name": "a", "user": {}}]}
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **content}))
        yield Client(Access(str(tmp_path / "kubeconfig"), "a", "of the test"))


def test_no_answer_is_waited_for_beyond_the_time_that_there_is(silent: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "LEAST", 0.2)
    silent._brief = False  # it has answered once
    begun = time.monotonic()
    with pytest.raises(PreflightError, match="timed out"):
        silent.until(begun - 1).request("GET", "/version")
    assert time.monotonic() - begun < 5  # not the 60 s, six times, of a client that has all the time
