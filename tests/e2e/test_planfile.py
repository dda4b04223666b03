"""A plan file is deployed as long as nothing moved, and says what did; and what is no whole plan file is a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from syntho_deploy import helm, planfile, release
from syntho_deploy import plan as planning
from syntho_deploy.errors import NotHealthyError, PreflightError
from syntho_deploy.steps import Step, Steps
from tests.e2e.site import Site


def test_a_plan_file_is_deployed_as_long_as_nothing_moved(site: Site) -> None:
    site.invoke("plan", "--out=plan.json", code=2)
    assert "deployed and verified" in site.invoke("deploy", "--plan=plan.json").stdout
    site.overlay("syntho-ui.values.yaml", [{"op": "replace", "path": "/core/image/tag", "value": "2.0.0"}])
    site.invoke("plan", "--out=plan.json", code=2)
    client = site.client()
    path = client.path("v1", "Service", site.namespace, "core-service")
    client.request("PATCH", path, {"metadata": {"labels": {"moved": "yes"}}}, {"fieldManager": "person"}, "application/merge-patch+json")
    assert "the live Service/core-service" in site.invoke("deploy", "--plan=plan.json", code=4).stderr
    site.invoke("plan", "--out=plan.json", code=2)
    site.overlay("syntho-ui.values.yaml", [{"op": "replace", "path": "/core/image/tag", "value": "2.0.1"}])
    ran = site.invoke("deploy", "--plan=plan.json", code=4)
    assert "the chart syntho-ui" in ran.stderr
    assert site.helm("history", "syntho-ui", "-o", "json").count("revision") == 1


def test_a_plan_file_holds_no_secret(site: Site) -> None:
    environment = site.read()
    environment["secrets"]["license"] = {"env": "CANARY"}
    site.write(environment)
    site.variables["CANARY"] = "canary-license-1"
    site.install_by_hand()
    site.invoke("plan", "--out=plan.json", code=2)
    text = (site.root / "plan.json").read_text()
    assert "canary-license-1" not in text
    for public in ("syntho-local-password", "ZzXj2az_", "postgres:postgres", "put-your-own-license"):
        assert public not in text
    assert json.loads(text)["objects"]


def test_restarted_pods_do_not_move_a_plan(site: Site) -> None:
    site.deploy()
    site.overlay("syntho-ui.values.yaml", [{"op": "replace", "path": "/core/image/tag", "value": "2.0.0"}])
    site.invoke("plan", "--out=plan.json", code=2)
    client = site.client()
    for pod in client.objects("v1", "Pod", site.namespace, "app=frontend"):
        client.delete("v1", "Pod", site.namespace, pod["metadata"]["name"])
    assert "deployed and verified" in site.invoke("deploy", "--plan=plan.json").stdout


def _patch(site: Site, version: str, kind: str, name: str, change: dict[str, Any], namespace: str | None = None) -> None:
    client = site.client()
    path = client.path(version, kind, site.namespace if namespace is None else namespace, name)
    client.request("PATCH", path, change, {"fieldManager": "person"}, "application/merge-patch+json")


def _pin(site: Site) -> None:
    (site.root / "sandbox/charts/ray/values.yaml").open("a").write("\n# moved\n")
    site.run("vendor", "--update", "--pin=vendor/sandbox.yaml")


def _deleted(site: Site, version: str, kind: str, name: str) -> None:
    site.client().delete(version, kind, site.namespace, name)


def _revision(site: Site) -> None:
    for name, chart in site.compile().charts.items():
        if name == "syntho-ui":
            site.helm("upgrade", chart.release.name, str(chart.write(site.root / "by-hand" / name)), "--server-side=true")


LABELLED = {"metadata": {"labels": {"moved": "yes"}}}
MOVES: dict[str, tuple[Callable[[Site], None], str]] = {
    "a live object": (lambda site: _patch(site, "v1", "Service", "core-service", LABELLED), "the live Service/core-service"),
    "an object that leaves": (lambda site: _patch(site, "v1", "Service", "postgres", LABELLED), "the live Service/postgres"),
    "a key of a Secret": (
        lambda site: _patch(site, "v1", "Secret", "syntho-ui-secrets", {"data": {"license": None}}), "the live Secret/syntho-ui-secrets"
    ),
    "a Secret that went": (lambda site: _deleted(site, "v1", "Secret", "syntho-ui-secrets"), "the live Secret/syntho-ui-secrets (which is gone)"),
    "the environment": (lambda site: site.write({**site.read(), "grace": {"image": "9m"}}), "the environment"),
    "the overlays": (
        lambda site: site.overlay("ray.values.yaml", [{"op": "replace", "path": "/image/tag", "value": "7"}]), "the overlays of ray"
    ),
    "a release by another hand": (_revision, "the live release syntho-ui"),
    "the pin": (_pin, "the pin of ray"),
}  # fmt: skip


def test_what_moved_since_the_plan_is_named_and_nothing_else(site: Site) -> None:
    """One site, and a plan file made anew before each move."""
    site.deploy()
    site.overlay("syntho-ui.values.yaml", [{"op": "replace", "path": "/core/database_enabled", "value": False}])
    binary, file = helm.find(print), site.root / "plan.json"
    for move, words in MOVES.values():
        planfile.write(file, planning.make(site.client(), site.compile()), binary.version)
        planfile.refuse_moved(planfile.read(file), planning.make(site.client(), site.compile()), binary.version)
        move(site)
        with pytest.raises(PreflightError, match="since this plan was made, these moved: ") as raised:
            planfile.refuse_moved(planfile.read(file), planning.make(site.client(), site.compile()), binary.version)
        assert words in raised.value.what
    found = planning.make(site.client(), site.compile())
    planfile.write(file, found, binary.version)
    with pytest.raises(PreflightError, match=r"helm \(.*, now 4\.99\.0\)"):
        planfile.refuse_moved(planfile.read(file), found, "4.99.0")
    found.cluster = "another"
    with pytest.raises(PreflightError, match="the cluster"):
        planfile.refuse_moved(planfile.read(file), found, binary.version)
    found.environment = "prod"
    with pytest.raises(PreflightError, match="this plan is of the environment here, not of prod"):
        planfile.refuse_moved(planfile.read(file), found, binary.version)


def test_a_release_whose_version_alone_differs_is_written_and_then_at_rest(site: Site) -> None:
    """A pin that changes one chart gives the other one a new version and the same objects."""
    site.deploy()
    _pin(site)
    ran = site.invoke("plan", code=2)
    assert "releases to write: ray-cluster to 0.4.2+" in ran.stdout.replace("ray to", "ray-cluster to")
    assert "syntho-ui to 0.1.6+" in ran.stdout
    site.deploy()
    listed = {item["name"]: item["chart"] for item in json.loads(site.helm("list", "-o", "json"))}
    assert sorted(listed.values()) == sorted(f"{chart.name}-{chart.version}" for chart in site.compile().charts.values())
    assert "nothing to do" in site.invoke("deploy").stdout
    assert "everything runs as compiled" in site.invoke("verify").stdout


def _forced(site: Site) -> None:
    """Another tool has set a field of ours; the overlay has not changed."""
    site.deploy()
    _patch(site, "apps/v1", "Deployment", "core", {"spec": {"replicas": 3}})


def test_a_forced_plan_shows_whom_it_takes_what_and_is_deployed_only_by_force(site: Site) -> None:
    _forced(site)
    plain = site.invoke("plan", "--out=plain.json", code=4)
    assert ".spec.replicas: owned by person" in plain.stdout
    assert "--force-conflicts shows what it would do" in plain.stderr
    found = site.invoke("plan", "--force-conflicts", "--out=forced.json", "--json", code=2).json
    (core,) = [item for item in found["objects"] if item["action"] != "unchanged"]
    assert found["forced"] is True
    assert (core["object"], core["action"], core["conflicts"]) == ("Deployment/core", "update", [{"field": ".spec.replicas", "owner": "person"}])
    (change,) = core["changes"]
    assert (change["path"], change["before"], change["after"]) == ("/spec/replicas", 3, 1)
    assert change["origin"].startswith("syntho-ui:/core/replicaCount (chart default)")
    without = site.invoke("deploy", "--plan=forced.json", code=3).stderr
    assert "it takes fields that other tools own, and this deploy is not told to" in without
    other = site.invoke("deploy", "--plan=plain.json", "--force-conflicts", code=3).stderr
    assert "it does not say which fields of other tools are taken" in other
    assert site.helm("history", "syntho-ui", "-o", "json").count("revision") == 1
    ran = site.invoke("deploy", "--plan=forced.json", "--force-conflicts")
    assert "deployed and verified" in ran.stdout
    assert "takes by force: Deployment/core .spec.replicas from person" in ran.stderr
    assert "nothing to do" in site.invoke("plan").stdout


@pytest.mark.thorough
def test_a_forced_plan_of_which_another_field_was_taken_meanwhile_is_not_deployed(site: Site) -> None:
    _forced(site)
    site.invoke("plan", "--force-conflicts", "--out=forced.json", code=2)
    _patch(site, "v1", "Service", "core-service", {"spec": {"sessionAffinity": "ClientIP"}})
    assert "the live Service/core-service" in site.invoke("deploy", "--plan=forced.json", "--force-conflicts", code=4).stderr


@pytest.mark.thorough
def test_a_rollback_names_the_conflict_and_takes_it_when_it_is_told_to(site: Site) -> None:
    _forced(site)
    refused = site.invoke("rollback", "--to=1", "--yes=here", code=4).stderr
    assert "Deployment/core: .spec.replicas is owned by person" in refused
    assert "--force-conflicts" in refused
    assert ".spec.replicas: taken from person" in site.invoke("rollback", "--to=1", "--dry-run", "--force-conflicts").stdout
    assert "deployed again and verified" in site.invoke("rollback", "--to=1", "--yes=here", "--force-conflicts").stdout


class Racing(Steps):
    """Steps of a deploy, one of which is when somebody else writes."""

    def __init__(self, at: str, write: Callable[[], None]) -> None:
        super().__init__()
        self._at, self._write = at, write

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        if name == self._at:
            self._write()
        with super().step(name) as step:
            yield step


@pytest.mark.thorough
def test_force_takes_only_what_was_planned(site: Site) -> None:
    _forced(site)
    site.overlay("syntho-ui.values.yaml", [{"op": "replace", "path": "/core/image/tag", "value": "2.0.0"}])
    racing = Racing("secrets", lambda: _patch(site, "v1", "Service", "core-service", {"metadata": {"labels": {"app.kubernetes.io/name": "mine"}}}))
    way = release.Way(helm.find(print), 60, force_conflicts=True)
    with pytest.raises(
        NotHealthyError, match=r"taken since it was planned:\s+Service/core-service: .metadata.labels.app.kubernetes.io/name is owned by person"
    ):
        release.deploy(site.client(), site.compile(), racing, way)
    assert site.helm("history", "syntho-ui", "-o", "json").count("revision") == 1
    service = site.get("Service", "core-service", "v1")
    assert service is not None
    assert service["metadata"]["labels"]["app.kubernetes.io/name"] == "mine"


@pytest.mark.administrator
def test_a_namespace_that_is_made_is_planned_and_one_that_is_not_to_be_made_refused(site: Site) -> None:
    ran = site.invoke("plan", "--out=plan.json", code=2)
    assert ran.stdout.startswith(f"+ Namespace/{site.namespace}\n")
    environment = site.read()
    site.write({**environment, "manage": {"namespace": False}})
    for task in ("plan", "deploy"):
        assert f"the namespace {site.namespace} does not exist, and manage.namespace is false" in site.invoke(task, code=4).stderr
