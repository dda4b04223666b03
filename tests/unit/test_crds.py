"""A CRD's head is read and marked without parsing the rest, and the rest stays as it is."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from syntho_deploy.cluster import crds
from syntho_deploy.cluster.client import Access, Client
from syntho_deploy.documents import sha256
from syntho_deploy.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
HEADS = {
    "block": "metadata:\n  name: a.b\nspec: {x: 1}\n",
    "flow": "metadata: {name: a.b}\nspec: {x: 1}\n",
    "all flow": "{metadata: {name: a.b, annotations: {x: é}}, spec: {}}",
    "annotations": "# é\nkind: X\nmetadata:\n  annotations:\n    é: 'ü'\n  # c\n  name: a.b\n\n# more\nspec:\n  a: [1]\n",
    "no annotations": "metadata:\n    annotations:\n    name: a.b\n",
    "the last key": "spec: {metadata: {name: no}}\nmetadata:\n  labels: {name: no}\n  name: a.b",
}


def marked(file: Path) -> None:
    """The marked text is the file's document and the annotations."""
    wanted = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    wanted["metadata"]["annotations"] = {
        **(wanted["metadata"].get("annotations") or {}),
        crds.DIGEST: sha256(file.read_bytes()),
        crds.GENERATION: "1",
    }
    assert yaml.load(crds.marked(file), Loader=yaml.CSafeLoader) == wanted
    assert crds.name_of(file) == wanted["metadata"]["name"]


@pytest.mark.parametrize("text", HEADS.values(), ids=list(HEADS))
def test_a_digest_is_put_into_any_head(tmp_path: Path, text: str) -> None:
    (tmp_path / "crd.yaml").write_text(text, encoding="utf-8")
    marked(tmp_path / "crd.yaml")


@pytest.mark.parametrize("file", sorted((ROOT / "sandbox/charts/ray/crds").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_digest_is_put_into_the_crds_that_are_deployed(file: Path) -> None:
    marked(file)


@pytest.mark.parametrize("text", ["metadata: {}\n", "a: 1\n", "metadata: [1]\n", "", "metadata:\n", "metadata: {name: {a: b}}\n"])
def test_a_crd_without_a_name_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "crd.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"needs metadata\.name"):
        crds.name_of(tmp_path / "crd.yaml")


RAY, OLD = ("ray.io/v1", "RayCluster"), ("ray.io/v1alpha1", "RayCluster")


def aggregated(*versions: dict[str, Any]) -> dict[str, Any]:
    groups = [{"metadata": {"name": "ray.io"}, "versions": list(versions)}, {"metadata": {"name": "empty"}}]
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": groups}


def version(name: str, *kinds: str, freshness: str = "Current") -> dict[str, Any]:
    resources = [{"resource": f"{kind.lower()}s", "responseKind": {"group": "ray.io", "version": name, "kind": kind}} for kind in kinds]
    return {"version": name, "resources": [*resources, {"resource": "without-kind"}], "freshness": freshness}


@pytest.mark.parametrize(
    ("answers", "listed"),
    [
        ({"/apis": aggregated(version("v1", "RayCluster"), version("v1alpha1", "RayCluster"))}, {RAY, OLD}),
        ({"/apis": aggregated(version("v1", "RayJob"), version("v1alpha1", "RayCluster"))}, {OLD}),
        ({"/apis": aggregated(version("v1", "RayCluster", freshness="Stale"))}, set()),
        ({"/apis": aggregated()}, set()),
        ({"/apis": {"kind": "APIGroupList", "groups": []}, "/apis/ray.io/v1": {"resources": [{"kind": "RayCluster"}]}}, {RAY}),
        ({"/apis": {"kind": "APIGroupList", "groups": []}}, set()),
    ],
)
def test_what_is_served_is_told_by_what_helm_asks(tmp_path: Path, answers: dict[str, Any], listed: set[tuple[str, str]]) -> None:
    """In one list since Kubernetes 1.26, of each version before."""
    accepted = []

    class Kubernetes(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            accepted.append((self.path, self.headers["Accept"]))
            body = json.dumps(answers.get(self.path, {"kind": "Status", "code": 404, "message": "there is none"})).encode()
            self.send_response(200 if self.path in answers else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Kubernetes) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        cluster = {"name": "a", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
        content = {"clusters": [cluster], "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}], "users": [{"name": "a", "user": {}}]}
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **content}))
        client = Client(Access(str(tmp_path / "kubeconfig"), "a", "of the test"))
        assert crds._listed(client, {RAY, OLD}) & {RAY, OLD} == listed
        server.shutdown()
    path, accept = accepted[0]
    assert path == "/apis"
    assert [one.partition(";as=")[0] for one in accept.split(",")] == [
        "application/json;g=apidiscovery.k8s.io;v=v2",
        "application/json;g=apidiscovery.k8s.io;v=v2beta1",
        "application/json",
    ]
