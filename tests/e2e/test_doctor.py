"""doctor sees what is wrong with a cluster, a namespace or an account, says what to do, and changes nothing."""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta, tzinfo
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from syntho_deploy.cluster import lease, local
from syntho_deploy.cluster.client import ApiError, Client, Remembering
from syntho_deploy.compile import Project
from syntho_deploy.doctor import connection, permissions
from syntho_deploy.doctor.examine import checks, examine
from syntho_deploy.doctor.subject import Result, Subject
from syntho_deploy.several import Place, Shared
from syntho_deploy.steps import Steps
from tests.e2e.observer import Observer
from tests.e2e.permissions import DOCUMENTED, account, bind, sign_in
from tests.e2e.site import Site
from tests.registries import OddRegistry, serving
from tests.unit.test_certificates import MIDDLE, OTHER, with_chain

pytestmark = pytest.mark.administrator

Object = dict[str, Any]
Eventually = Callable[..., Any]
OF_SERVICES = ("pullable", "services")  # modules whose checks ask what is outside of the cluster
MINE = [name for name, check in checks().items() if check.__module__.rpartition(".")[2] not in OF_SERVICES]
NGINX = {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "nginx"}, "spec": {"controller": "k8s.io/ingress-nginx"}}


@pytest.fixture(scope="module")
def audited() -> Iterator[local.Cluster]:
    """A cluster of this module's own, since doctor looks at all of it, whose API server writes down what it is asked: that is kwok's alone."""
    name = f"doctor-{os.getpid()}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHO_LOCAL_PROVIDER", "kwok")
        try:
            made = local.create(name, audit=True)
            Site(Path("."), "", made, "").client().apply(NGINX)
            yield made
        finally:
            local.delete(name)


@pytest.fixture(scope="module")
def home(audited: local.Cluster, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A deployed environment, which each test leaves as it found it."""
    made = Site.make(tmp_path_factory.mktemp("home"), "here", audited, "home")
    made.deploy()
    return made


@pytest.fixture
def bare(audited: local.Cluster, tmp_path: Path) -> Iterator[Site]:
    """An environment that nothing is deployed of yet."""
    made = Site.make(tmp_path, "here", audited, f"bare-{time.monotonic_ns()}")
    yield made
    made.remove()


def doctor(site: Site, *only: str) -> list[Result]:
    """What these checks find, or all that concern the cluster and the machine."""
    place = Place(Project.load(site.root, site.name), Steps(), Shared())
    return examine(Subject(place), only or MINE)


def ill(results: list[Result]) -> list[str]:
    """The checks that found something."""
    return sorted({one.check for one in results if one.state != "ok"})


def only(results: list[Result], check: str) -> Result:
    found = [one for one in results if one.check == check]
    assert len(found) == 1, found
    return found[0]


@contextmanager
def there(client: Client, *items: Object) -> Iterator[None]:
    """These objects, as long as the context is open."""
    for item in items:
        client.apply(item, force=True)
    try:
        yield
    finally:
        for item in items:
            client.delete(item["apiVersion"], item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"])


def an(kind: str, name: str, namespace: str = "", api: str = "v1", **content: Any) -> Object:
    metadata: Object = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": api, "kind": kind, "metadata": metadata | content.pop("metadata", {}), **content}


def test_a_deployed_environment_is_well(home: Site) -> None:
    found = doctor(home)
    assert ill(found) == []
    assert {one.check for one in found} >= set(MINE) - {"dns", "more-permissions"}
    assert only(found, "releases").what.endswith("deployed, as compiled")
    assert only(found, "account").what == "kwok-admin of system:masters"


def test_of_an_environment_that_is_yet_to_be_deployed_only_the_host_is_taken(home: Site, bare: Site) -> None:
    found = doctor(bare)
    assert ill(found) == ["ingress-hosts"]
    assert only(found, "ingress-hosts").what == f"syntho.localhost with /, /api is taken by {home.namespace}/frontend-ingress"
    assert only(found, "namespace").what.endswith("deploy makes it")


def test_doctor_writes_nothing_and_shows_no_secret(home: Site, audited: local.Cluster, tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    site = Site.make(tmp_path / "project", "here", audited, home.namespace)
    observer = Observer(site)
    secret = site.get("Secret", "syntho-ui-secrets", "v1") or {}
    observer.values |= {base64.b64decode(value).decode() for value in secret["data"].values()}
    before = audited.audit_log.stat().st_size
    running = observer.start(site.argv("--debug", "doctor", f"--env={site.name}", "--json"))
    for said in running.communicate(timeout=120):
        observer.search("what doctor said", said.encode())
    assert running.returncode in (0, 4)  # the services outside are not there
    events = [json.loads(line) for line in audited.audit_log.read_bytes()[before:].decode().splitlines()]
    ours = [event for event in events if event.get("userAgent", "").startswith(("syntho-deploy", "Helm"))]
    writes = {
        event["requestURI"].partition("?")[0] for event in ours
        if event["verb"] not in ("get", "list", "watch") and "dryRun=All" not in event["requestURI"]
    }  # fmt: skip
    assert {path.rpartition("/")[2] for path in writes} == {"selfsubjectreviews", "selfsubjectrulesreviews", "selfsubjectaccessreviews"}
    reads = [event["requestURI"] for event in ours if event["verb"] in ("get", "list")]
    assert sorted({uri for uri in reads if reads.count(uri) > 1}) == [], "asked twice"
    assert observer.look() == []


def test_what_the_namespace_has_no_room_for_is_told(home: Site, eventually: Eventually) -> None:
    client, where = home.client(), home.namespace
    hard = {"requests.cpu": "1", "pods": "100", "count/deployments.apps": "3", "limits.cpu": "100"}
    quota = an("ResourceQuota", "small", where, spec={"hard": hard})
    limits = [{"type": "Container", "max": {"memory": "1Gi"}}, {"type": "PersistentVolumeClaim", "max": {"storage": "5Gi"}}]
    with there(client, quota, an("LimitRange", "tight", where, spec={"limits": limits})):
        eventually(lambda: (client.get("v1", "ResourceQuota", where, "small") or {}).get("status", {}).get("used"))
        found = doctor(home, "quota", "limit-range", "pod-security")
    assert ill(found) == ["limit-range", "pod-security", "quota"]
    assert only(found, "pod-security").state == "unknown"  # the dry runs are refused by the other two, which tell it better
    assert "Deployment/backend backend: may take 4Gi of memory, more than 1Gi" in only(found, "limit-range").what
    silent, small = (one.what for one in found if one.check == "quota")
    assert "limits.cpu: Deployment/" in silent
    assert "count/deployments.apps: 8 of 3; requests.cpu: 4.1 of 1" in small
    assert "pods" not in small


def test_what_is_there_of_us_counts_once_and_a_rolling_update_more(home: Site, eventually: Eventually) -> None:
    client, where, storage = home.client(), home.namespace, "default.storageclass.storage.k8s.io/requests.storage"
    counts = ("deployments.apps", "statefulsets.apps", "rayclusters.ray.io", "ingresses.networking.k8s.io", "services", "persistentvolumeclaims")
    keys = ["pods", "requests.storage", storage, *(f"count/{name}" for name in counts)]

    def told(scope: Object | None = None, **hard: str) -> list[Result]:
        with there(client, an("ResourceQuota", "full", where, spec={"hard": hard, **(scope or {})})):
            eventually(lambda: len((client.get("v1", "ResourceQuota", where, "full") or {}).get("status", {}).get("used") or {}) == len(hard))
            return doctor(home, "quota")

    quota = an("ResourceQuota", "wide", where, spec={"hard": dict.fromkeys(keys, "1Ti")})
    with there(client, quota):
        used = eventually(lambda: (client.get("v1", "ResourceQuota", where, "wide") or {}).get("status", {}).get("used"))
    # the head of Ray, whose operator does not run here, and its Service are still to come
    full = used | {key: str(int(used[key]) + 1) for key in ("pods", "count/services")}
    (one,) = told(**full)
    assert (one.state, "the pods that a rolling update adds: pods: 10 and " in one.what) == ("warning", True), one
    (one,) = told(**full | {"pods": "100"})
    assert one == Result("quota", "ok", "full has room; then it is 100% used at most")
    (one,) = told(**full | {"pods": "100", storage: "1Gi"})
    assert (one.state, f"{storage}: " in one.what) == ("error", True)
    every, silent = ({"scopes": [name]} for name in ("NotTerminating", "BestEffort"))
    assert told(every, pods="3")[0].state == "error"
    assert told(silent, pods="2")[0].what.endswith("pods: 3 of 2")  # postgres, database and redis say nothing
    assert (
        told({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["x"]}]}}, pods="0")[0].state == "ok"
    )


def test_pod_security_is_asked_by_dry_runs(home: Site) -> None:
    client, labels = home.client(), {"pod-security.kubernetes.io/enforce": "restricted"}
    client.apply(an("Namespace", home.namespace, metadata={"labels": labels}), "test")
    try:
        found = only(doctor(home, "pod-security"), "pod-security")
        assert found.state == "error"
        assert 'violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false' in found.what
        assert "RayCluster/ray-cluster head" in found.what
        assert found.todo == "component security/restricted"
        client.apply(an("Namespace", home.namespace, metadata={"labels": {"pod-security.kubernetes.io/warn": "restricted"}}), "test")
        assert only(doctor(home, "pod-security"), "pod-security").state == "warning"
    finally:
        client.apply(an("Namespace", home.namespace), "test")


def test_a_webhook_that_does_not_answer_keeps_pods_out(home: Site, eventually: Eventually) -> None:
    hook = {
        "name": "gone.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None", "clientConfig": {"url": "https://127.0.0.1:1/x"},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": home.namespace}},
    }  # fmt: skip
    webhooks = an("ValidatingWebhookConfiguration", "gone", api="admissionregistration.k8s.io/v1", webhooks=[hook])
    with there(home.client(), webhooks):
        found = eventually(lambda: next((one for one in doctor(home, "pod-security") if one.state != "ok"), None))
    assert (found.state, 'failed calling webhook "gone.example.com"' in found.what) == ("error", True), found
    assert "kubectl get validatingwebhookconfigurations" in found.todo


def test_a_pod_that_no_node_takes_is_told_with_why(home: Site) -> None:
    core = {"kind": "Deployment", "name": "core"}
    large = {"op": "add", "path": "/spec/template/spec/containers/[name=core]/resources/requests", "value": {"memory": "900Gi"}}
    selector = {"op": "add", "path": "/spec/template/spec/nodeSelector", "value": {"disk": "ssd"}}
    many = {"op": "replace", "path": "/spec/replicas", "value": 150}
    cpu = {"op": "add", "path": "/spec/template/spec/containers/[name=frontend]/resources/requests", "value": {"cpu": "2"}}
    with overlaid(home, [{"target": core, "patch": [large]}, {"target": {"kind": "Deployment", "name": "frontend"}, "patch": [many, cpu]}]):
        error, warning = doctor(home, "nodes")
        assert error.what == "Deployment/core fits no node: 900Gi memory asked, 256Gi there (3 of 3 nodes)"
        assert warning.what.startswith("no room is left for Deployment/frontend (2 cpu")
    with overlaid(home, [{"target": core, "patch": [selector]}]):
        assert "no label disk=ssd (3 of 3 nodes)" in only(doctor(home, "nodes"), "nodes").what


def test_nodes_that_take_no_pods_are_told(home: Site) -> None:
    client, patch = home.client(), "application/merge-patch+json"
    paths = [client.path("v1", "Node", "", node["metadata"]["name"]) for node in client.objects("v1", "Node", "")]
    try:
        for path in paths:
            client.request("PATCH", path, {"spec": {"unschedulable": True}}, {}, patch)
        found = only(doctor(home, "nodes"), "nodes")
        assert (found.state, found.what, "kubectl uncordon" in found.todo) == ("error", "no node is ready that takes pods", True)
        taints = [{"key": "gpu", "value": "only", "effect": "NoSchedule"}]
        client.request("PATCH", paths[0], {"spec": {"unschedulable": None, "taints": taints}}, {}, patch)
        found = only(doctor(home, "nodes"), "nodes")  # one line, though no pod fits
        assert "Deployment/core, " in found.what
        assert found.what.endswith("fit no node: the taint gpu=only:NoSchedule is not tolerated (1 of 1 nodes)")
    finally:
        for path in paths:
            client.request("PATCH", path, {"spec": {"unschedulable": None, "taints": None}}, {}, patch)


@contextmanager
def overlaid(site: Site, content: list[dict[str, Any]], file: str = "syntho-ui.manifests.yaml") -> Iterator[None]:
    site.overlay(file, content)
    try:
        yield
    finally:
        (site.root / "overlays" / site.name / file).unlink()


def test_storage_that_cannot_serve_is_told_and_a_claim_that_waits_with_its_event(home: Site, eventually: Eventually) -> None:
    client, where = home.client(), home.namespace
    block = an("StorageClass", "block", api="storage.k8s.io/v1", provisioner="disk.csi.azure.com")
    ray = [{"op": "replace", "path": "/storage/storageClassName", "value": "block"}]
    with there(client, block), overlaid(home, ray, "ray.values.yaml"):
        found = doctor(home, "storage-classes")
        assert [one.what for one in found if one.state == "error"] == [
            "block serves one node at a time (its provisioner is disk.csi.azure.com), and ray-workflows-claim is to be shared"
        ]
    with overlaid(home, ray, "ray.values.yaml"):
        missing = next(one for one in doctor(home, "storage-classes") if one.state == "error")
        assert missing.what == "there is no class block, of ray-workflows-claim"
        assert "default, kwok-volume" in missing.todo
    claim = an("PersistentVolumeClaim", "redis-claim-redis-7", where, spec={
        "accessModes": ["ReadWriteOnce"], "storageClassName": "absent", "resources": {"requests": {"storage": "1Gi"}},
    })  # fmt: skip
    with there(client, claim):
        eventually(lambda: any("absent" in event.get("message", "") for event in client.objects("v1", "Event", where)))
        waiting = only(doctor(home, "claims"), "claims")
        assert waiting.what == 'redis-claim-redis-7: the volume is Pending, class absent: storageclass.storage.k8s.io "absent" not found'


def test_volumes_that_somebody_makes_are_counted(bare: Site, eventually: Eventually) -> None:
    client = bare.client()
    client.apply(an("Namespace", bare.namespace))
    by_hand = an(
        "StorageClass", "byhand", api="storage.k8s.io/v1", provisioner="kubernetes.io/no-provisioner", volumeBindingMode="WaitForFirstConsumer"
    )
    volume = an("PersistentVolume", "by-hand-1", spec={
        "capacity": {"storage": "100Gi"}, "accessModes": ["ReadWriteMany"], "storageClassName": "byhand", "nfs": {"server": "nfs", "path": "/"},
    })  # fmt: skip
    ray = [{"op": "replace", "path": "/storage/storageClassName", "value": "byhand"}]
    with there(client, by_hand), overlaid(bare, ray, "ray.values.yaml"):
        missing = next(one for one in doctor(bare, "storage-classes") if one.state == "error")
        assert missing.what == "byhand makes no volumes itself, and none of the 0 that wait for a claim is right for ray-workflows-claim"
        with there(client, volume):
            eventually(lambda: (client.get("v1", "PersistentVolume", "", "by-hand-1") or {}).get("status", {}).get("phase") == "Available")
            assert ill(doctor(bare, "storage-classes")) == []


def test_an_ingress_without_a_class_or_with_a_host_that_is_taken_is_told(home: Site) -> None:
    client = home.client()
    path = {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "x", "port": {"number": 80}}}}
    other = an("Ingress", "other", "default", "networking.k8s.io/v1", spec={"rules": [{"host": "syntho.localhost", "http": {"paths": [path]}}]})
    client.delete("networking.k8s.io/v1", "IngressClass", "", "nginx")
    try:
        with there(client, other):
            found = doctor(home, "ingress-class", "ingress-hosts")
    finally:
        client.apply(NGINX)
    assert only(found, "ingress-class").what == "there is no class nginx, which frontend-ingress names"
    assert only(found, "ingress-hosts").what == "syntho.localhost with / is taken by default/other"
    path["path"] = "/api/other"
    with there(client, other):
        beside = only(doctor(home, "ingress-hosts"), "ingress-hosts")
    assert (beside.state, beside.what) == ("warning", "syntho.localhost with /api/other leads to default/other")


def test_secrets_that_cannot_be_had_are_told_and_no_value_is(home: Site) -> None:
    client, before = home.client(), home.read()
    secrets = {**before["secrets"], "license": {"env": "NO_SUCH_VARIABLE"}, "core.db.password": {"kubernetes": {"secret": "vault", "key": "db"}}}
    home.write({**before, "secrets": secrets})
    registry = an("Secret", "syntho-cr-secret", home.namespace)
    client.delete("v1", "Secret", home.namespace, "syntho-cr-secret")
    try:
        with there(client, registry | {"type": "Opaque", "data": {"x": "eA=="}}):
            found = doctor(home, "secrets", "secret-references")
            assert '"core.db.password" is not there, and kubernetes vault/db gives none' in " ".join(one.what for one in found)
            assert any("here no source answers for license, which only a rotation asks for" in one.what for one in found if one.state == "ok")
            assert any(one.what.startswith("the pull secret syntho-cr-secret has the type Opaque") for one in found)
        with there(client, an("Secret", "vault", home.namespace, data={"other": "eA=="})):
            assert any("the Secret vault has no key db; it has other" in one.what for one in doctor(home, "secret-references"))
    finally:
        home.write(before)
        home.invoke("secrets")


def test_a_secret_that_is_empty_or_of_an_odd_shape_is_told(home: Site) -> None:
    client, before = home.client(), home.read()
    path = client.path("v1", "Secret", home.namespace, "syntho-ui-secrets")
    kept = client.request("GET", path)["data"]["license"]
    source = {"server": "registry.localhost", "username": "u", "env": "REGISTRY_PASSWORD"}
    pull = an("Secret", "syntho-cr-secret", home.namespace)
    live = client.get("v1", "Secret", home.namespace, "syntho-cr-secret") or {}
    try:
        client.request("PATCH", path, {"data": {"license": ""}}, {}, "application/merge-patch+json")
        empty = next(one for one in doctor(home, "secrets") if one.state == "error")
        assert empty.what == '"license" is there and empty, and the pods would get it so'
        assert empty.todo == "invoke secrets --env=here --rotate=license"
        client.request("PATCH", path, {"data": {"license": kept}}, {}, "application/merge-patch+json")
        home.write({**before, "secrets": {**before["secrets"], "registry": source}})
        client.delete("v1", "Secret", home.namespace, "syntho-cr-secret")
        odd = base64.b64encode(b'{"auths": {"registry.localhost": "canary"}}').decode()
        with (
            there(client, pull | {"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": odd}}),
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setenv("REGISTRY_PASSWORD", "p-1618033988")
            found = doctor(home, "secrets", "secret-references")
            assert '"registry" is another than env REGISTRY_PASSWORD gives now' in [one.what for one in found]
            assert "canary" not in str(found)
    finally:
        home.write(before)
        client.request("PATCH", path, {"data": {"license": kept}}, {}, "application/merge-patch+json")
        client.apply(pull | {"type": live["type"], "data": live["data"]}, force=True)


def test_what_keeps_a_deploy_from_running_is_told(home: Site) -> None:
    client, where = home.client(), home.namespace
    last = client.objects("v1", "Secret", where, "owner=helm,name=syntho-ui")[0]
    content = base64.b64decode(last["data"]["release"]).decode()
    release = json.loads(gzip.decompress(base64.b64decode(content)))
    release |= {"version": 2, "info": {**release["info"], "status": "pending-upgrade"}}
    data = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(release).encode()))).decode()
    labels = {**last["metadata"]["labels"], "status": "pending-upgrade", "version": "2"}
    pending = an("Secret", "sh.helm.release.v1.syntho-ui.v2", where, type=last["type"], data={"release": data}, metadata={"labels": labels})
    with there(client, pending), lease.Lease(client, where, "a test"):
        found = doctor(home, "releases", "lease", "record")
    stuck = next(one for one in found if one.check == "releases" and one.state == "error")
    assert stuck.what.startswith("syntho-ui, revision 2, is pending-upgrade since 20")
    assert "invoke unlock --env=here" in stuck.todo
    held = only(found, "lease")
    assert (held.state, "holds the Lease since" in held.what, "(a test)" in held.what) == ("warning", True, True)
    assert only(found, "record").what.startswith("number 1, ")


def test_crds_that_a_deploy_cannot_bring_are_told(home: Site) -> None:
    client = home.client()
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/rayjobs.ray.io"
    merge = "application/merge-patch+json"
    before = client.request("GET", path)
    newer = {**before["spec"]["versions"][0], "name": "v1", "storage": False}
    notes = {"annotations": {"syntho-deploy/digest": "of another"}}
    try:
        client.request("PATCH", path, {"metadata": notes, "spec": {"versions": [*before["spec"]["versions"], newer]}}, {}, merge)
        found = next(one for one in doctor(home, "crds") if one.state == "error")
        assert "rayjobs.ray.io of this chart does not serve v1, which the cluster's does" in found.what
        client.request("PATCH", f"{path}/status", {"status": {"storedVersions": ["v1", "v1alpha1"]}}, {}, merge)
        environment = home.read()
        home.write({**environment, "manage": {"crds": False}})
        assert [one.state for one in doctor(home, "crds", "served")] == ["ok", "ok"]  # deploy leaves them alone, and they serve what is needed
        home.write(environment)
    finally:
        client.request("PATCH", f"{path}/status", {"status": {"storedVersions": ["v1alpha1"]}}, {}, merge)
        digest = before["metadata"]["annotations"]
        client.request("PATCH", path, {"metadata": {"annotations": digest}, "spec": {"versions": before["spec"]["versions"]}}, {}, merge)
    assert ill(doctor(home, "crds", "served")) == []


def test_kinds_that_nothing_serves_and_crds_that_are_missing_are_told(bare: Site) -> None:
    other = bare.root / "sandbox/charts/ray/crds/rayjobs.yaml"
    other.write_text(other.read_text().replace("rayjobs", "rayothers").replace("RayJob", "RayOther"))
    bare.run("vendor", "--pin=vendor/sandbox.yaml", "--update")
    bare.write({**bare.read(), "manage": {"crds": False}})
    assert (
        "the CRD rayothers.ray.io is not installed, and manage.crds is false"
        in only([one for one in doctor(bare, "crds") if one.state == "error"], "crds").what
    )
    with overlaid(bare, [{"target": {"kind": "Ingress", "name": "frontend-ingress"}, "patch": [
        {"op": "replace", "path": "/apiVersion", "value": "networking.k8s.io/v1beta1"},
    ]}]):  # fmt: skip
        assert [one.what for one in doctor(bare, "served") if one.state == "error"] == ["no Ingress in networking.k8s.io/v1beta1"]


def test_what_the_environment_says_is_there_is_looked_for(home: Site) -> None:
    before = home.read()
    said = {"secrets": ["syntho-ui-secrets", "vault"], "ingress_classes": ["nginx", "traefik"], "storage_classes": {"default": ["ReadWriteOnce"]}}
    home.write({**before, "cluster": {**before["cluster"], "present": said}})
    found = only(doctor(home, "present"), "present")
    home.write(before)
    assert found.what == "the environment says that these are there, and they are not: Secret vault, IngressClass traefik"


def test_a_second_operator_that_watches_the_namespace_is_told(home: Site) -> None:
    container = {"name": "operator", "image": "quay.io/kuberay/operator:v1.4.2", "args": ["--watch-namespace=other"]}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container]}}
    second = an("Deployment", "kuberay-operator", "default", "apps/v1", spec={"selector": {"matchLabels": {"a": "b"}}, "template": template})
    with there(home.client(), second):
        assert ill(doctor(home, "ray-operator")) == []
        container["args"] = []
        home.client().apply(second, force=True)
        found = doctor(home, "ray-operator")
    assert "two operators would watch home: default/kuberay-operator (quay.io/kuberay/operator:v1.4.2)" in found[0].what
    assert found[1].what == "quay.io/kuberay/operator:v1.4.2 asks for ray.io/v1, and ray.io/v1alpha1 is compiled"


def test_an_operator_that_leaves_with_the_deploy_is_none(home: Site) -> None:
    with overlaid(home, [{"target": {"kind": "Deployment", "name": "kuberay-operator"}, "delete": True}], "ray.manifests.yaml"):
        found = only(doctor(home, "ray-operator"), "ray-operator")
    assert (found.state, found.what) == ("error", f"no operator watches {home.namespace}: kuberay-operator goes with the deploy")


def test_an_issuer_of_cert_manager_is_there_and_ready(home: Site, eventually: Eventually) -> None:
    client, patch = home.client(), [
        {"op": "add", "path": "/metadata/annotations/cert-manager.io~1issuer", "value": "acme"},
        {"op": "add", "path": "/spec/tls", "value": [{"hosts": ["syntho.localhost"], "secretName": "site-tls"}]},
    ]  # fmt: skip
    crd = custom("cert-manager.io", "Issuer", "issuers")
    issuer = an(
        "Issuer", "acme", home.namespace, "cert-manager.io/v1", status={"conditions": [{"type": "Ready", "status": "False", "message": "no DNS"}]}
    )
    with overlaid(home, [{"target": {"kind": "Ingress", "name": "frontend-ingress"}, "patch": patch}]):
        assert [one.what for one in doctor(home, "tls")] == [
            "there is no Issuer acme of cert-manager",
            "site-tls is not there; cert-manager makes it",
        ]
        assert ill(doctor(home, "secret-references")) == []
        with there(client, crd):
            eventually(lambda: serves(home.client(), issuer))
            with there(home.client(), issuer):
                assert doctor(home, "tls")[0].what == "the Issuer acme is not ready: no DNS"
                issuer["status"]["conditions"][0]["status"] = "True"
                home.client().apply(issuer, force=True)
                assert ill(doctor(home, "tls")) == []


def test_a_tls_secret_is_judged_by_its_type_its_key_its_names_its_dates_and_its_chain(home: Site) -> None:
    host, tls = "syntho.localhost", [{"hosts": ["syntho.localhost"], "secretName": "site"}]
    patch = [{"op": "add", "path": "/spec/tls", "value": tls}]
    whole, key = with_chain(host)
    alone = MIDDLE.issue(host)

    def told(certificate: str | bytes, key: str, kind: str = "kubernetes.io/tls") -> tuple[str, str]:
        content = {"tls.crt": certificate if isinstance(certificate, bytes) else certificate.encode(), "tls.key": key.encode()}
        data = {name: base64.b64encode(value).decode() for name, value in content.items()}
        with there(home.client(), an("Secret", "site", home.namespace, type=kind, data=data)):
            found = only(doctor(home, "tls"), "tls")
        assert key == "" or key.splitlines()[1] not in str(found)
        return found.state, found.what

    with overlaid(home, [{"target": {"kind": "Ingress", "name": "frontend-ingress"}, "patch": patch}]):
        assert only(doctor(home, "tls"), "tls").what == "the TLS Secret site is not there"
        assert told(whole, key)[0] == told(*with_chain("*.localhost"))[0] == "ok"
        assert told(*with_chain("*.example.com"))[1] == f"site: it does not cover {host}; its subject alternative names are *.example.com"
        assert told(whole, alone[1]) == ("error", "site: the key tls.key is not that of the certificate tls.crt")
        assert told(*with_chain(host, days=-1))[0] == "error"
        assert told(*with_chain(host, days=5))[0] == "warning"
        assert told(*alone) == ("warning", "site: it comes without a chain: only clients that know CN=Middle by themselves accept it")
        assert told(alone[0] + OTHER.certificate, alone[1])[1].startswith("site: the chain in it is broken")
        assert told(b"0\x82\xff\xfe", key) == told("", "") == ("error", "site: tls.crt: there is no certificate in PEM")
        assert told(whole, key, "Opaque")[1] == "site has the type Opaque, which controllers do not take for a certificate"


def test_a_version_a_host_and_a_proxy_that_are_not_as_they_should_be_are_told(home: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    before = home.read()
    access = {"context": home.cluster.context, "kubeconfig": str(home.cluster.kubeconfig), "namespace": home.namespace}
    try:
        home.write({**before, "cluster": {**access, "kubernetes": "1.30"}, "vars": {**before["vars"], "host": "no-such-host.invalid"}})
        found = doctor(home, "kubernetes", "dns")
        assert [(one.check, one.state) for one in found] == [("kubernetes", "warning"), ("dns", "warning")]
        assert only(found, "dns").todo.startswith("have an entry made: no-such-host.invalid -> ")
        monkeypatch.setattr(connection, "datetime", Behind)
        late = only(doctor(home, "clock"), "clock")
        assert (late.state, bool(re.match(r"this machine is 1[12][0-9] s behind the API server", late.what))) == ("error", True), late
        with refusing_proxy() as port:
            monkeypatch.setenv("HTTPS_PROXY", f"http://me:canary-1123581321@127.0.0.1:{port}")
            monkeypatch.setenv("NO_PROXY", "")
            found = doctor(home, "cluster", "proxies")
        assert "Tunnel connection failed: 403" in only(found, "cluster").what
        assert only(found, "cluster").todo.startswith("the proxy refuses this server")
        assert f"HTTPS_PROXY=http://***@127.0.0.1:{port}" in only(found, "proxies").what
        assert "canary" not in str(found)
    finally:
        home.write(before)


class Behind(datetime):
    """A clock that is two minutes late."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) - timedelta(seconds=120)


@contextmanager
def refusing_proxy() -> Iterator[int]:
    class Proxy(BaseHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            pass

        def do_CONNECT(self) -> None:
            self.send_error(403)

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def custom(group: str, kind: str, plural: str) -> Object:
    """The CRD of a kind that another program is there for, with any fields."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    versions = [{"name": "v1", "served": True, "storage": True, "schema": schema}]
    return an("CustomResourceDefinition", f"{plural}.{group}", api="apiextensions.k8s.io/v1", spec={
        "group": group, "scope": "Namespaced", "names": {"kind": kind, "plural": plural}, "versions": versions,
    })  # fmt: skip


def test_a_secret_that_another_program_makes_comes_with_its_object_unless_that_says_no(home: Site, eventually: Eventually) -> None:
    named = [{"op": "add", "path": "/spec/template/spec/containers/[name=core]/envFrom", "value": [{"secretRef": {"name": "from-vault"}}]}]
    made = an("ExternalSecret", "vaulted", home.namespace, "external-secrets.io/v1", spec={"target": {"name": "from-vault"}})
    tls = [{"op": "add", "path": "/spec/tls", "value": [{"hosts": ["syntho.localhost"], "secretName": "from-vault"}]}]
    patches = [
        {"target": {"kind": "Deployment", "name": "core"}, "patch": named},
        {"target": {"kind": "Ingress", "name": "frontend-ingress"}, "patch": tls},
    ]
    file = home.root / "overlays" / home.name / "syntho-ui.objects" / "vaulted.yaml"
    with overlaid(home, patches):
        assert only(doctor(home, "secret-references"), "secret-references").what == "the Secret from-vault is not there, and nothing here makes it"
        file.parent.mkdir(parents=True)
        file.write_text(yaml.safe_dump({**made, "metadata": {"name": "vaulted"}}))
        try:
            assert ill(doctor(home, "secret-references", "tls")) == []
            assert only(doctor(home, "tls"), "tls").what == "from-vault is not there; ExternalSecret/vaulted brings it"
            with there(home.client(), custom("external-secrets.io", "ExternalSecret", "externalsecrets")):
                eventually(lambda: serves(home.client(), made))
                status = {"conditions": [{"type": "Ready", "status": "False", "message": "the vault is sealed"}]}
                with there(home.client(), {**made, "status": status}):
                    words = "the ExternalSecret vaulted has not made the Secret from-vault: the vault is sealed"
                    assert [one.what for one in doctor(home, "secret-references", "tls")] == [words, words]
        finally:
            file.unlink()
            file.parent.rmdir()


def serves(client: Client, item: Object) -> bool:
    """Does the API server serve a kind by now?"""
    try:
        return bool(client.path(item["apiVersion"], item["kind"]))
    except ApiError:
        return False


def test_a_permission_to_make_what_is_there_is_not_needed_today(home: Site, bare: Site) -> None:
    account(bare, cluster_wide=False)
    bare.write({**bare.read(), "manage": {"crds": False, "namespace": True}})
    warning, error = doctor(bare, "cluster-permissions")
    assert (warning.state, error.state) == ("warning", "error")
    assert warning.what == "the account may not create, patch namespaces, which is not needed today, since it is there"
    assert error.todo.endswith(f'- {{apiGroups: [""], resources: [namespaces], resourceNames: [{bare.namespace}], verbs: [get]}}')


def test_the_permissions_that_are_asked_for_are_those_that_are_documented(home: Site) -> None:
    environment = home.read()
    uid = (home.client().get("v1", "Namespace", "", "kube-system") or {})["metadata"]["uid"]
    home.write({**environment, "cluster": {
        "context": home.cluster.context, "kubeconfig": str(home.cluster.kubeconfig), "namespace": home.namespace, "uid": uid,
    }})  # fmt: skip
    subject = Subject(Place(Project.load(home.root, home.name), Steps(), Shared()))
    beside = [(group, resource, verb) for group, resource, verb, _ in permissions.BESIDE]
    asked = [{need[:3] for need in permissions.in_namespace(subject, None)} | set(beside), {need[:3] for need in permissions.in_cluster(subject)}]
    home.write(environment)
    for role, found in zip(DOCUMENTED, asked, strict=True):
        assert found == {
            (group, resource, verb)
            for rule in role["rules"] for group in rule["apiGroups"] for resource in rule["resources"] for verb in rule["verbs"]
            if resource != "networkpolicies"  # of a component that this environment has not
        }  # fmt: skip


def test_charts_that_do_not_compile_are_told_once(home: Site) -> None:
    with overlaid(home, [{"op": "replace", "path": "/no/such/path", "value": 1}], "ray.values.yaml"):
        found = doctor(home)
    assert [one.check for one in found if one.state == "error"] == ["charts"]
    assert "ray.values.yaml:1" in only(found, "charts").what
    assert only(found, "nodes").what == "not asked, for want of the compiled charts"


def test_a_local_cluster_that_does_not_run_is_no_error(home: Site) -> None:
    home.write({**home.read(), "cluster": {"local": "no-such-cluster", "namespace": "a"}}, "elsewhere")
    place = Place(Project.load(home.root, "elsewhere"), Steps(), Shared())
    found = examine(Subject(place), MINE)
    home.file.with_stem("elsewhere").unlink()
    assert only(found, "cluster")[1:] == (
        "warning", "the local cluster no-such-cluster does not run; deploy makes it", "invoke cluster --env=elsewhere --create",
    )  # fmt: skip
    assert not [one for one in found if one.state == "error"]


def test_a_namespace_that_is_missing_or_on_its_way_out_is_told(bare: Site) -> None:
    client, where = bare.client(), bare.namespace
    before = bare.read()
    bare.write({**before, "manage": {"namespace": False}})
    assert only(doctor(bare, "namespace"), "namespace").todo == f"kubectl create namespace {where}"
    client.apply(an("Namespace", where))
    client.apply(an("ConfigMap", "kept", where, metadata={"finalizers": ["test/kept"]}))
    try:
        client.delete("v1", "Namespace", "", where)
        found = only(doctor(bare, "namespace"), "namespace")
        assert (found.state, f"{where} is being deleted since" in found.what) == ("error", True)
    finally:
        client.apply(an("ConfigMap", "kept", where))


def test_the_documented_account_gets_answers_and_the_rules_that_lack(bare: Site) -> None:
    account(bare, cluster_wide=False, without=("leases", "persistentvolumeclaims", "events"))
    found = doctor(bare)
    assert only(found, "more-permissions").what == "the account may not list events: why a pod does not run is told late"
    assert not [one for one in found if one.state == "unknown" and "may not" not in one.what], found
    assert {one.check for one in found if one.state == "unknown"} >= {
        "quota",
        "limit-range",
        "pod-security",
        "nodes",
        "storage-classes",
        "ingress-class",
    }
    lacking = only(found, "permissions")
    assert lacking.state == "error"
    assert "get, list, watch, create, update, patch, delete persistentvolumeclaims; " in lacking.what
    assert lacking.what.endswith("get, create, update leases.coordination.k8s.io")
    rules = yaml.safe_load("\n".join(lacking.todo.splitlines()[1:]))
    metadata = {"name": f"more-{bare.namespace}"}
    bind(bare.client(), {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": rules}, bare.namespace)
    assert only(doctor(bare, "permissions"), "permissions").state == "ok"


def test_a_cluster_that_may_not_be_told_from_another_is_an_error_and_the_other_checks_go_on(bare: Site) -> None:
    sign_in(bare, "deployer")
    bare.write({**bare.read(), "cluster": {**bare.read()["cluster"], "uid": "11111111-1111-1111-1111-111111111111"}})
    found = doctor(bare)
    one = only(found, "cluster")
    assert (one.state, "the uid of kube-system, by which" in one.what, "resourceNames: [kube-system]" in one.todo) == ("error", True, True)
    assert not [other for other in found if "for want of the cluster" in other.what]


def test_an_answer_that_an_ill_server_does_not_give_keeps_no_other_back(home: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    asks = Remembering.request
    ill_at = ("/selfsubjectreviews", "/namespaces/kube-system", "/customresourcedefinitions/", "/nodes")

    def request(self: Remembering, method: str, path: str, *more: Any, **named: Any) -> Any:
        if any(part in path for part in ill_at):
            raise ApiError(500, "InternalError", "etcdserver: request timed out", f"{method} {path}")
        return asks(self, method, path, *more, **named)

    monkeypatch.setattr(Remembering, "request", request)
    found = doctor(home)
    assert ill(found) == ["account", "crds", "nodes"]
    assert {one.state for one in found if one.state != "ok"} == {"unknown"}
    assert all("readyz" in one.todo for one in found if one.state != "ok" and one.check != "account")


def test_an_account_without_any_permission_gets_a_report_all_the_same(bare: Site) -> None:
    sign_in(bare, "deployer")
    found = doctor(bare)
    assert {one.state for one in found if one.check == "permissions"} == {"error"}
    assert only(found, "account").what == f"system:serviceaccount:{bare.namespace}:deployer"
    rules = yaml.safe_load("\n".join(next(one for one in found if one.check == "permissions").todo.splitlines()[1:]))
    assert {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]} in rules
    assert any("escalate" in rule["verbs"] for rule in rules)


def test_the_ways_in_which_a_cluster_is_not_reached_are_told_apart(bare: Site, audited: local.Cluster) -> None:
    good = yaml.safe_load(audited.kubeconfig.read_text())
    server = good["clusters"][0]["cluster"]["server"]

    def told(name: str, uid: str = "", context: str = audited.context, user: Object | None = None, **cluster: str) -> tuple[str, str]:
        config = json.loads(json.dumps(good))
        config["clusters"][0]["cluster"] |= cluster
        config["users"][0]["user"] = config["users"][0]["user"] if user is None else user
        file = bare.root / f"kubeconfig-{name}"
        file.write_text(yaml.safe_dump(config))
        environment = bare.read()
        environment["cluster"] = {"context": context, "kubeconfig": str(file), "namespace": bare.namespace, **({"uid": uid} if uid else {})}
        bare.write(environment, name)
        results = examine(Subject(Place(Project.load(bare.root, name), Steps(), Shared())), MINE)
        found = only(results, "cluster")
        assert found.state == "error"
        assert only(results, "nodes") == Result("nodes", "unknown", "not asked, for want of the cluster")
        return found.what, found.todo

    ca = bare.root / "ca.crt"
    ca.write_text(_another_authority())
    with ThreadPoolExecutor(8) as pool, serving(OddRegistry(lambda path, _: (200, {"of": "a gateway"}, {}))) as gateway:
        ways = {name: pool.submit(told, name, **how) for name, how in {
            "nocontext": {"context": "no-such"}, "port": {"server": "https://127.0.0.1:1"}, "name": {"server": "https://no-such.invalid:6443"},
            "tls": {"certificate-authority": str(ca)}, "token": {"user": {"token": "expired"}}, "anonymous": {"user": {}},
            "uid": {"uid": "11111111-1111-1111-1111-111111111111"}, "gateway": {"server": f"http://{gateway.host}"},
        }.items()}  # fmt: skip
        found = {name: way.result() for name, way in ways.items()}
    assert "'no-such'" in found["nocontext"][0]
    assert "refused" in found["port"][0]
    assert "nothing listens there" in found["port"][1]
    assert "not known here" in found["name"][1]
    assert "authority in the kubeconfig" in found["tls"][1]
    assert "log in again" in found["token"][1]
    assert "without credentials" in found["anonymous"][0]
    assert "this is another cluster" in found["uid"][0]
    assert found["gateway"][0].endswith("is no API server: it names no version of Kubernetes")
    assert server in only(doctor(bare, "cluster"), "cluster").what


def _another_authority() -> str:
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "another")])
    now = datetime.now(UTC)
    built = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
    return built.add_extension(x509.BasicConstraints(True, None), True).sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def test_several_environments_are_examined_and_the_worst_is_the_exit_code(home: Site) -> None:
    broken = home.read()
    broken["cluster"] = {"context": home.cluster.context, "kubeconfig": str(home.cluster.kubeconfig), "namespace": "home", "uid": "1" * 36}
    home.write(broken, "wrong")
    for name in ("dev", "local", "prod", "staging"):
        (home.root / "envs" / f"{name}.yaml").unlink()
    ran = home.run("doctor", "--env=all", code=4)
    assert "== here" in ran.stdout
    assert "this is another cluster" in ran.stdout
    assert re.search(r"unknown  [0-9]+ checks +not asked, for want of the cluster: ", ran.stdout)
    shown = home.run("doctor", "--env=wrong", "--json", code=4).json
    assert (shown["environment"], shown["healthy"]) == ("wrong", False)
    assert {tuple(one) for one in shown["checks"]} == {("check", "state", "what", "todo")}
