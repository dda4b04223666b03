"""Several environments by one command: side by side, each failing alone, what they share done once."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from syntho_deploy.cluster import lease
from tests.conftest import running_commands
from tests.e2e.flaky import FlakyProxy
from tests.e2e.site import Site

pytestmark = pytest.mark.administrator

BOTH = "--env=here,there"


def _add(site: Site, name: str, **change: Any) -> None:
    """Another environment of the site, which differs from the first in these keys, and in its namespace unless `cluster` is one of them."""
    environment = site.read()
    environment["cluster"] = {**environment["cluster"], "namespace": f"{site.namespace}-{name}"}
    (site.root / "envs" / f"{name}.yaml").write_text(yaml.safe_dump({**environment, **change}))


@pytest.fixture
def two(site: Site) -> Any:
    """A site with the environments `here` and `there`, each in a namespace of its own."""
    _add(site, "there")
    yield site
    site.client().delete("v1", "Namespace", "", f"{site.namespace}-there")


def _rows(out: str) -> dict[str, str]:
    """The exit codes in the summary."""
    table = out[out.index("ENVIRONMENT") :].splitlines()[1:]
    return {line.split()[0]: line.split()[1] for line in table}


def test_a_plan_and_a_deploy_of_two_are_told_apart_and_summed_up(two: Site) -> None:
    planned = two.run("plan", BOTH, code=2)
    assert [line for line in planned.stdout.splitlines() if line.startswith("== ")] == ["== here", "== there"]
    assert _rows(planned.stdout) == {"here": "2", "there": "2"}
    deployed = two.run("deploy", BOTH)
    assert "here: deployed and verified" in deployed.stdout
    assert "there: deployed and verified" in deployed.stdout
    for name in ("here", "there"):
        assert re.search(rf"^  {name}: ready ", deployed.stderr, re.MULTILINE)
    assert all(re.match(r"  (here|there): ", line) for line in deployed.stderr.splitlines())
    for task in ("plan", "drift", "verify", "status", "secrets"):
        found = two.run(task, BOTH, "--json").json
        assert [(one["environment"], one["code"], one["error"]) for one in found] == [("here", 0, ""), ("there", 0, "")]
        assert bool(found[0]["result"]) == (task != "drift")
        assert _rows(two.run(task, BOTH).stdout) == {"here": "0", "there": "0"}


def test_one_fails_alone_and_its_code_is_the_commands(two: Site) -> None:
    _add(two, "there", secrets={**two.read()["secrets"], "license": {"env": "NO_SUCH_LICENSE"}})
    ran = two.run("deploy", BOTH, code=4)
    assert "here: deployed and verified" in ran.stdout
    assert "error: there: " in ran.stderr
    assert "NO_SUCH_LICENSE" in ran.stderr
    assert _rows(ran.stdout) == {"here": "0", "there": "4"}
    (two.root / "envs" / "there.yaml").write_text("cluster: {nonsense: 1}\n")
    found = two.run("status", BOTH, "--json", code=3).json
    assert [one["code"] for one in found] == [0, 3]
    assert "nonsense" in found[1]["error"]


@pytest.mark.thorough
def test_all_names_every_environment(two: Site) -> None:
    for file in (two.root / "envs").glob("*.yaml"):
        if file.stem not in ("here", "there"):
            file.unlink()
    assert _rows(two.run("plan", "--env=all", code=2).stdout) == {"here": "2", "there": "2"}


def test_two_in_one_namespace_go_one_after_the_other(site: Site) -> None:
    _add(site, "there", cluster=site.read()["cluster"])
    ran = site.run("deploy", BOTH)
    assert "here: deployed and verified" in ran.stdout
    assert "there: nothing to do" in ran.stdout


def test_an_interrupt_ends_all_and_gives_their_leases_back(two: Site, eventually: Callable[..., Any]) -> None:
    operations = [{"op": "add", "path": "/spec/template/spec/nodeSelector", "value": {"no": "such"}}]
    for name in ("here", "there"):
        folder = two.root / "overlays" / name
        folder.mkdir(parents=True)
        (folder / "syntho-ui.manifests.yaml").write_text(yaml.safe_dump([{"target": {"kind": "Deployment", "name": "core"}, "patch": operations}]))
    client, namespaces = two.client(), [two.namespace, f"{two.namespace}-there"]
    running = two.start("deploy", BOTH)
    eventually(lambda: all(client.get("apps/v1", "Deployment", namespace, "core") for namespace in namespaces), 90)
    ran = two.interrupt(running, signal.SIGINT)
    assert ran.code == 130
    assert "interrupted" in ran.stderr
    assert "going back" not in ran.stderr
    assert not [words for words in running_commands() if "upgrade" in words and set(namespaces) & set(words)]
    assert [lease.look(client, namespace).state for namespace in namespaces] == [lease.FREE, lease.FREE]


@pytest.mark.thorough
def test_protected_environments_are_each_confirmed_before_any_begins(two: Site) -> None:
    context = {"context": two.cluster.context, "kubeconfig": str(two.cluster.kubeconfig)}
    context["uid"] = two.client().request("GET", "/api/v1/namespaces/kube-system")["metadata"]["uid"]
    _add(two, "there", protected=True, cluster={**context, "namespace": f"{two.namespace}-there"})
    two.write({**two.read(), "protected": True, "cluster": {**context, "namespace": two.namespace}})
    assert "--yes=here,there" in two.run("deploy", BOTH, code=4).stderr
    assert "there is protected" in two.run("deploy", BOTH, "--yes=here", code=4).stderr
    assert "--yes=elsewhere names another environment" in two.run("deploy", BOTH, "--yes=here,elsewhere", code=4).stderr
    assert two.client().get("v1", "Namespace", "", two.namespace) is None
    assert _rows(two.run("deploy", BOTH, "--yes=here,there").stdout) == {"here": "0", "there": "0"}


@pytest.mark.parametrize("words", [("plan", "--out=plan.json"), ("deploy", "--plan=plan.json"), ("status", "--watch")])
def test_what_is_for_one_environment_is_refused_for_two(two: Site, words: tuple[str, str]) -> None:
    task, option = words
    assert f"{option.partition('=')[0]} is for one environment, and --env names 2" in two.run(task, BOTH, option, code=3).stderr


@pytest.mark.thorough
def test_what_they_share_is_done_once(two: Site) -> None:
    crd = two.root / "sandbox/charts/ray/crds/rayjobs.yaml"
    content = yaml.safe_load(crd.read_text())
    content["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] = two.namespace
    crd.write_text(yaml.safe_dump(content))
    two.run("vendor", "--pin=vendor/sandbox.yaml", "--update")
    with FlakyProxy(two.cluster, 0, 0, lambda method, path: False) as proxy:
        target = {"context": "flaky", "kubeconfig": str(proxy.kubeconfig(two.root / "flaky"))}
        two.write({**two.read(), "cluster": {**target, "namespace": two.namespace}})
        _add(two, "there")
        two.run("deploy", BOTH)
        writes = {path: count for (method, path), count in proxy.ours.items() if method == "PATCH" and "customresourcedefinitions" in path}
    assert writes["/apis/apiextensions.k8s.io/v1/customresourcedefinitions/rayjobs.ray.io"] == 1
    assert set(writes.values()) == {1}
    assert proxy.ours["GET", "/apis/apps/v1"] == 1
