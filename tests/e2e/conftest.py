"""What the end-to-end tests share: one local cluster for the whole run, of the provider that the machine has or the environment names."""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from syntho_deploy.cluster import local
from tests.conftest import write_files
from tests.e2e import report
from tests.e2e.permissions import account
from tests.e2e.site import Site


@pytest.fixture(scope="session")
def cluster() -> Iterator[local.Cluster]:
    """A cluster of this run's own, deleted at its end. SYNTHO_LOCAL_PROVIDER chooses between kind and kwok."""
    name = f"test-{os.getpid()}"
    try:
        yield local.create(name)
    finally:
        local.delete(name)


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Any]:
    """`eventually(check, seconds)`: what `check` returns as soon as that is true; fails with its last answer when time is over."""

    def wait(check: Callable[[], Any], seconds: float = 20.0) -> Any:
        end = time.monotonic() + seconds
        while not (answer := check()):
            assert time.monotonic() < end, f"not within {seconds:.0f} s; last: {answer!r}"
            time.sleep(0.05)
        return answer

    return wait


@pytest.fixture
def site(request: pytest.FixtureRequest, cluster: local.Cluster, tmp_path: Path) -> Iterator[Site]:
    """A site whose environment uses the sandbox charts, in a namespace of its own that goes with the test: the nodes have room for
    some twenty of them. SYNTHO_TEST_ACCOUNT=documented has it use an account with the permissions of docs/rbac.md and no others.
    SYNTHO_TEST_REPORT names a folder for a report of each namespace as its test left it."""
    made = Site.make(tmp_path, "here", cluster, f"t-{uuid.uuid4().hex[:8]}")
    if os.environ.get("SYNTHO_TEST_ACCOUNT") == "documented" and not request.node.get_closest_marker("administrator"):
        account(made, cluster_wide=True)
    yield made
    if folder := os.environ.get("SYNTHO_TEST_REPORT"):
        name = re.sub(r"\W+", "-", request.node.name)
        write_files(Path(folder), {f"{name}.txt": report.of(made.client(), made.namespace)})
    made.remove()
