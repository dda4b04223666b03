"""The life of a release on a real API server, through the real command line and the real helm."""

from __future__ import annotations

import base64
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from syntho_deploy import helm, process, release
from syntho_deploy.cluster import crds, preflight
from syntho_deploy.cluster.client import Client
from syntho_deploy.errors import NotHealthyError, PreflightError
from syntho_deploy.helm import Helm
from syntho_deploy.steps import Steps
from tests.conftest import running_commands
from tests.e2e.permissions import sign_in
from tests.e2e.ray_operator import RayOperator
from tests.e2e.site import Site

NO_HELM = Helm(Path("/nonexistent/helm"), "4.3.1", Path("/nonexistent"))


def test_deploy_brings_both_charts_to_a_verified_release(site: Site) -> None:
    ran = site.invoke("deploy")
    assert "deployed and verified" in ran.stdout
    versions = {chart.release.name: chart.version for chart in site.compile().charts.values()}
    for name, version in versions.items():
        assert re.search(rf"^{name}\s.*\bdeployed\b.*{re.escape(version)}", site.helm("list"), re.MULTILINE)
    assert all(re.search(r"\+[0-9a-f]{12}\.[0-9a-f]{12}$", version) for version in versions.values())
    status = site.invoke("status", "--json").json
    assert status["healthy"]
    assert {r["name"]: r["current"] for r in status["releases"]} == {"ray-cluster": True, "syntho-ui": True}
    assert {w["name"]: w["ready"] for w in status["workloads"]}["core"] is True
    assert "as compiled" in site.invoke("verify").stdout


def test_nothing_to_do_is_found_and_said_without_helm(site: Site) -> None:
    site.deploy()
    assert not site.deploy(binary=NO_HELM)
    assert "nothing to do" in site.invoke("deploy").stdout
    assert site.helm("history", "syntho-ui", "-o", "json").count("revision") == 1


def test_only_the_chart_that_changed_is_written(site: Site) -> None:
    site.deploy()
    site.overlay("syntho-ui.values.yaml", [{"op": "replace", "path": "/core/image/tag", "value": "1.9.9"}])
    outcome = site.deploy()
    assert [release.split()[0] for release in outcome.releases] == ["syntho-ui"]
    core = site.get("Deployment", "core")
    assert core is not None
    assert core["spec"]["template"]["spec"]["containers"][0]["image"].endswith(":1.9.9")
    assert not outcome.secrets


def test_a_deleted_object_is_made_again(site: Site) -> None:
    site.deploy()
    client = site.client()
    assert client.delete("v1", "Service", site.namespace, "core-service")
    assert "Service/core-service does not exist" in site.invoke("verify", code=5).stdout
    assert site.deploy().releases
    assert site.get("Service", "core-service", "v1")


def test_secrets_are_created_once_and_kept(site: Site) -> None:
    site.deploy()
    before = site.get("Secret", "syntho-ui-secrets", "v1")
    assert before is not None
    own = {"backend.secret_key", "backend.db.password", "backend.user.password"}
    assert set(before["data"]) == {"license", "core.secret_key", "core.db.password", "core.db.password.url", *own}
    site.invoke("undeploy")
    assert site.client().objects("apps/v1", "Deployment", site.namespace) == []
    site.deploy()
    after = site.get("Secret", "syntho-ui-secrets", "v1")
    assert after is not None
    assert after["data"] == before["data"]


def test_a_secret_that_is_added_joins_those_that_exist(site: Site) -> None:
    environment = site.read()
    site.deploy()
    before = site.get("Secret", "syntho-ui-secrets", "v1")
    environment["secrets"]["extra"] = {"generate": "token"}
    site.write(environment)
    site.overlay("syntho-ui.values.yaml", [{"op": "add", "path": "/core/env", "value": {"EXTRA": "${secret:extra}"}}])
    assert site.deploy().secrets == ["syntho-ui-secrets (extra)"]
    after = site.get("Secret", "syntho-ui-secrets", "v1")
    assert before is not None
    assert after is not None
    assert before["data"].items() < after["data"].items()


def test_the_pull_secret_holds_the_registry_credentials(site: Site) -> None:
    environment = site.read()
    environment["secrets"]["registry"] = {"server": "registry.example.com", "env": {"username": "REG_USER", "password": "REG_PASSWORD"}}
    site.write(environment)
    site.variables = {"REG_USER": "robot", "REG_PASSWORD": "pull-canary-77"}
    site.invoke("deploy")
    found = site.get("Secret", "syntho-cr-secret", "v1")
    assert found is not None
    assert found["type"] == "kubernetes.io/dockerconfigjson"
    assert (
        '"registry.example.com": {"username": "robot", "password": "pull-canary-77"' in base64.b64decode(found["data"][".dockerconfigjson"]).decode()
    )


def test_a_missing_source_of_a_secret_leaves_the_cluster_untouched(site: Site) -> None:
    environment = site.read()
    environment["secrets"]["license"] = {"env": "NO_SUCH_LICENSE"}
    site.write(environment)
    ran = site.invoke("deploy", code=4)
    assert "NO_SUCH_LICENSE, which is not set" in ran.stderr
    assert "envs/here.yaml" in ran.stderr
    assert site.client().objects("v1", "Secret", site.namespace) == []


def test_what_does_not_get_ready_is_named_with_its_reason(site: Site) -> None:
    cpu = "/spec/template/spec/containers/[name=core]/resources/{}/cpu"
    site.overlay(
        "syntho-ui.manifests.yaml", [_core([{"op": "replace", "path": cpu.format(kind), "value": "1000"} for kind in ("requests", "limits")])]
    )
    ran = site.invoke("deploy", "--timeout=6s", code=5)
    assert re.search(r"Deployment/core: 0 of 1 pods available \(Unschedulable: .*Insufficient cpu", ran.stderr)
    assert "Deployment/backend:" not in ran.stderr


def _core(operations: list[dict[str, Any]]) -> dict[str, Any]:
    return {"target": {"kind": "Deployment", "name": "core"}, "patch": operations}


def test_all_of_a_deploy_has_one_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was used of it before helm is none of helm's; and when it is over, nothing is written."""
    compiled, binary = site.compile(), helm.find(print)
    client = preflight.connect(compiled.environment, print)
    late = release.Way(binary, 60, began=time.monotonic() - 61)
    with pytest.raises(PreflightError, match="the 60 s of this deploy were over before a release was written"):
        release.deploy(client, compiled, Steps(), late)
    assert site.helm("list", "-q") == ""
    given: list[tuple[float, float]] = []  # helm's own time, and the process's
    really = process.run

    def run(argv: Any, **options: Any) -> process.Result:
        if "upgrade" in argv:
            given.append((float(argv[argv.index("--timeout") + 1].rstrip("s")), options["timeout"]))
        return really(argv, **options)

    monkeypatch.setattr(process, "run", run)
    release.deploy(client, compiled, Steps(), release.Way(binary, 1000, began=time.monotonic() - 900))
    assert len(given) == 2
    assert max(map(max, given)) <= 100


@pytest.mark.thorough
def test_the_next_deploy_mends_one_that_timed_out(site: Site) -> None:
    test_what_does_not_get_ready_is_named_with_its_reason(site)
    (site.root / "overlays" / "here" / "syntho-ui.manifests.yaml").unlink()
    assert "deployed and verified" in site.invoke("deploy").stdout


@pytest.mark.administrator
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("until", ["Namespace", "Deployment"])
def test_an_interrupt_ends_the_children_exits_130_and_can_be_taken_up(site: Site, eventually: Any, number: signal.Signals, until: str) -> None:
    site.overlay("syntho-ui.manifests.yaml", [_core([{"op": "add", "path": "/spec/template/spec/nodeSelector", "value": {"no": "such"}}])])
    running = site.start("deploy", "--env=here")
    version, namespace, name = ("v1", "", site.namespace) if until == "Namespace" else ("apps/v1", site.namespace, "core")
    eventually(lambda: site.client().get(version, until, namespace, name), 60)
    ran = site.interrupt(running, number)
    assert ran.code == 130
    assert "interrupted" in ran.stderr
    assert not [words for words in running_commands() if "upgrade" in words and site.namespace in words]
    assert "pending" not in site.helm("list", "-o", "json")
    (site.root / "overlays" / "here" / "syntho-ui.manifests.yaml").unlink()
    assert "deployed and verified" in site.invoke("deploy").stdout


def test_two_deploys_at_once_make_one_set_of_secrets(site: Site) -> None:
    with ThreadPoolExecutor(2) as pool:
        running = [site.start("deploy", "--env=here") for _ in range(2)]
        ended = list(pool.map(lambda one: (one.communicate(timeout=120), one.returncode), running))
    assert sorted(code for _, code in ended) == [0, 6], ended
    assert any("works on this environment since" in err for (_, err), code in ended if code == 6)
    secret = site.get("Secret", "syntho-ui-secrets", "v1")
    assert secret is not None
    password = base64.b64decode(secret["data"]["core.db.password"]).decode()
    assert base64.b64decode(secret["data"]["core.db.password.url"]).decode() == password  # letters and digits only
    assert site.invoke("verify").code == 0


def test_undeploy_keeps_volumes_and_secrets_unless_told(site: Site) -> None:
    site.deploy()
    client = site.client()
    claims = {item["metadata"]["uid"] for item in client.objects("v1", "PersistentVolumeClaim", site.namespace)}
    assert len(claims) == 5
    assert "release syntho-ui" in site.invoke("undeploy").stdout
    assert {item["metadata"]["uid"] for item in client.objects("v1", "PersistentVolumeClaim", site.namespace)} == claims
    assert "nothing was deployed" in site.invoke("undeploy").stdout
    site.deploy()
    assert {item["metadata"]["uid"] for item in client.objects("v1", "PersistentVolumeClaim", site.namespace)} == claims
    site.invoke("undeploy", "--delete-data")
    assert client.objects("v1", "PersistentVolumeClaim", site.namespace) == []
    assert [item["metadata"]["name"] for item in client.objects("v1", "Secret", site.namespace)] == []


def test_a_release_of_another_hand_is_not_undeployed(site: Site) -> None:
    site.helm("install", "syntho-ui", str(site.root / "sandbox" / "charts" / "syntho-ui"), "--create-namespace")
    ran = site.invoke("undeploy", code=4)
    assert "was not deployed from here" in ran.stderr
    assert site.get("Deployment", "core")


def test_a_field_that_another_tool_owns_is_not_taken(site: Site) -> None:
    site.deploy()
    client = site.client()
    path = client.path("apps/v1", "Deployment", site.namespace, "core")
    client.request("PATCH", path, {"spec": {"replicas": 2}}, {"fieldManager": "autoscaler"}, "application/merge-patch+json")
    site.overlay("syntho-ui.values.yaml", [{"op": "replace", "path": "/core/replicaCount", "value": 3}])
    ran = site.invoke("deploy", code=4)
    assert "Deployment/core: .spec.replicas is owned by autoscaler" in ran.stderr
    assert site.helm("history", "syntho-ui", "-o", "json").count("revision") == 1
    assert "deployed and verified" in site.invoke("deploy", "--force-conflicts").stdout
    core = site.get("Deployment", "core")
    assert core is not None
    assert core["spec"]["replicas"] == 3


@pytest.mark.administrator
def test_another_cluster_than_the_named_one_is_refused(site: Site) -> None:
    environment = site.read()
    kubeconfig = {"context": site.cluster.context, "kubeconfig": str(site.cluster.kubeconfig), "namespace": site.namespace}
    environment["cluster"] = {**kubeconfig, "uid": "11111111-2222-3333-4444-555555555555"}
    site.write(environment)
    ran = site.invoke("deploy", code=4)
    assert "this is another cluster" in ran.stderr
    assert "envs/here.yaml:" in ran.stderr
    assert site.client().get("v1", "Namespace", "", site.namespace) is None
    found = site.client().get("v1", "Namespace", "", "kube-system")
    assert found is not None
    environment["cluster"]["uid"] = found["metadata"]["uid"]
    site.write(environment)
    assert "deployed and verified" in site.invoke("deploy").stdout


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"context": "no-such-context"}, "no-such-context"),
        ({"server": "https://127.0.0.1:1"}, "cannot be reached"),
        ({"user": {}}, "log in again"),
    ],
)
def test_a_cluster_that_does_not_answer_is_told_by_its_reason(site: Site, change: dict[str, Any], words: str) -> None:
    import yaml

    config = yaml.safe_load(Path(site.cluster.kubeconfig).read_text())
    if "server" in change:
        config["clusters"][0]["cluster"]["server"] = change["server"]
    if "user" in change:
        config["users"][0]["user"] = change["user"]
    (site.root / "kubeconfig").write_text(yaml.safe_dump(config))
    environment = site.read()
    context = change.get("context", site.cluster.context)
    environment["cluster"] = {"context": context, "kubeconfig": str(site.root / "kubeconfig"), "namespace": site.namespace}
    site.write(environment)
    ran = site.invoke("deploy", code=4)
    assert words in ran.stderr
    assert "Traceback" not in ran.stderr


def test_an_account_without_permission_is_told_which(site: Site) -> None:
    sign_in(site, "nobody")
    ran = site.invoke("deploy", code=4)
    assert "forbidden" in ran.stderr
    assert "lacks this permission" in ran.stderr


@pytest.mark.administrator
def test_without_leave_to_manage_them_namespace_and_crds_are_only_checked(site: Site) -> None:
    environment = site.read()
    environment["manage"] = {"namespace": False}
    site.write(environment)
    assert "manage.namespace is false" in site.invoke("deploy", code=4).stderr
    assert site.client().get("v1", "Namespace", "", site.namespace) is None


def test_a_crd_is_applied_once_and_never_loses_a_version(site: Site, tmp_path: Path) -> None:
    client = site.client()
    crd = _tiny_crd(site.namespace, ["v1", "v2"])
    (tmp_path / "crd.yaml").write_text(crd)
    due = crds.due(client, [tmp_path / "crd.yaml"], True)
    assert list(due) == [f"things.{site.namespace}.example.com"]
    crds.apply(client, due)
    assert crds.due(client, [tmp_path / "crd.yaml"], True) == {}
    (tmp_path / "crd.yaml").write_text(_tiny_crd(site.namespace, ["v1"]))
    with pytest.raises(PreflightError, match="does not serve v2"):
        crds.review(client, crds.due(client, [tmp_path / "crd.yaml"], True), [])
    (tmp_path / "crd.yaml").write_text(_tiny_crd(f"other-{site.namespace}", ["v1"]))
    with pytest.raises(PreflightError, match=r"manage\.crds is false"):
        crds.due(client, [tmp_path / "crd.yaml"], False)


def _tiny_crd(group: str, versions: list[str]) -> str:
    import yaml

    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    served = [{"name": name, "served": True, "storage": name == "v1", "schema": schema} for name in versions]
    names = {"kind": "Thing", "listKind": "ThingList", "plural": "things", "singular": "thing"}
    spec = {"group": f"{group}.example.com", "names": names, "scope": "Namespaced", "versions": served}
    metadata = {"name": f"things.{group}.example.com"}
    return yaml.safe_dump({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": metadata, "spec": spec})


def test_what_template_prints_is_what_the_api_server_takes(site: Site) -> None:
    site.deploy()
    site.client().apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"{site.namespace}-b"}})
    import yaml

    for item in yaml.safe_load_all(site.invoke("template").stdout):
        item["metadata"]["namespace"] = f"{site.namespace}-b"
        site.client().apply(item, dry_run=True)


@pytest.fixture
def operator(site: Site) -> RayOperator:
    """The stand-in for the Ray operator in the site's namespace."""
    return RayOperator(site.client(), site.namespace)


def test_ray_pods_follow_a_change_that_the_operator_ignores(site: Site, operator: RayOperator) -> None:
    environment = site.read()
    environment["components"] = ["ray/two-pools" if name == "ray/head-only" else name for name in environment["components"]]
    site.write(environment)
    with operator:
        site.deploy()
        before = _ray_pods(site.client(), site.namespace)
        assert sorted(before.values()) == ["", "smallGroup", "workergroup"]
        assert site.get("Service", "ray-cluster-head-svc", "v1")
        site.overlay("ray.values.yaml", [{"op": "add", "path": "/head/containerEnv/-", "value": {"name": "NEW", "value": "1"}}])
        outcome = site.deploy()
        assert len(outcome.restarted) == 1
        after = _ray_pods(site.client(), site.namespace)
        assert {group for name, group in before.items() if name not in after} == {""}
        head = next(name for name, group in after.items() if group == "")
        pod = site.get("Pod", head, "v1")
        assert pod is not None
        assert {"name": "NEW", "value": "1"} in pod["spec"]["containers"][0]["env"]
        assert not site.deploy(binary=NO_HELM)


def _ray_pods(client: Client, namespace: str) -> dict[str, str]:
    from syntho_deploy.cluster.readiness import ray_group

    pods = client.objects("v1", "Pod", namespace, "ray.io/cluster")
    return {pod["metadata"]["name"]: ray_group(pod) for pod in pods if "deletionTimestamp" not in pod["metadata"]}


def test_the_number_of_workers_follows_the_overlay(site: Site, operator: RayOperator) -> None:
    environment = site.read()
    environment["components"] = ["ray/two-pools" if name == "ray/head-only" else name for name in environment["components"]]
    site.write(environment)
    with operator:
        site.deploy()
        site.overlay("ray.values.yaml", [{"op": "replace", "path": "/additionalWorkerGroups/smallGroup/replicas", "value": 3}])
        site.deploy()
        assert sorted(_ray_pods(site.client(), site.namespace).values()) == ["", "smallGroup", "smallGroup", "smallGroup", "workergroup"]
        site.client().delete("v1", "Service", site.namespace, "ray-cluster-head-svc")


def test_a_ray_cluster_whose_workers_do_not_come_is_not_ready(site: Site) -> None:
    environment = site.read()
    environment["components"] = ["ray/two-pools" if name == "ray/head-only" else name for name in environment["components"]]
    site.write(environment)
    site.deploy()
    client = site.client()
    pod = {"metadata": {"name": "stray", "namespace": site.namespace, "labels": {"ray.io/cluster": "ray-cluster", "ray.io/node-type": "head"}}}
    head = site.compile().charts["ray"].manifests["raycluster-ray-cluster.yaml"]["spec"]["headGroupSpec"]["template"]["spec"]
    client.create({"apiVersion": "v1", "kind": "Pod", **pod, "spec": head})
    assert "group smallGroup: 0 of 1 pods" in site.invoke("verify", code=5).stdout
    site.overlay("ray.values.yaml", [{"op": "add", "path": "/annotations", "value": {"a": "b"}}])
    with pytest.raises(NotHealthyError, match="RayCluster/ray-cluster: group smallGroup: 0 of 1 pods"):
        site.deploy(timeout=4)


def test_helm_three_is_not_used_to_deploy(site: Site) -> None:
    assert helm.find(print).version.startswith("4.")
