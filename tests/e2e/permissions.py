"""An account with the permissions that docs/rbac.md lists, and no others."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from syntho_deploy.cluster.client import Client
from tests.e2e.site import ROOT, Site


def documented(page: str) -> list[dict[str, Any]]:
    """The roles that a page of docs/ has."""
    return [yaml.safe_load(text) for text in re.findall(r"```yaml kubernetes\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)]


DOCUMENTED = documented("rbac.md")


def account(site: Site, cluster_wide: bool, without: tuple[str, ...] = ()) -> None:
    """Have the site's environment use an account with the documented permissions and no others. without: resources of which it has none."""
    client = site.client()
    sign_in(site, "deployer")
    for role in DOCUMENTED if cluster_wide else DOCUMENTED[:1]:
        rules = [rule for rule in role["rules"] if not set(without) & set(rule["resources"])]
        bind(client, {**role, "rules": rules, "metadata": {"name": f"{role['metadata']['name']}-{site.namespace}"}}, site.namespace)
    environment = site.read()
    environment["manage"] = {"crds": cluster_wide, "namespace": cluster_wide}
    site.write(environment)


def sign_in(site: Site, name: str) -> None:
    """Have the site's environment use a service account of its namespace, by a token; nothing is permitted to it yet."""
    client = site.client()
    client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": site.namespace}})
    client.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": site.namespace}})
    path = client.path("v1", "ServiceAccount", site.namespace, name) + "/token"
    token = client.request("POST", path, {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}})["status"]["token"]
    config = yaml.safe_load(Path(site.cluster.kubeconfig).read_text())
    config["users"][0]["user"] = {"token": token}
    (site.root / "kubeconfig").write_text(yaml.safe_dump(config))
    environment = site.read()
    environment["cluster"] = {"context": site.cluster.context, "kubeconfig": str(site.root / "kubeconfig"), "namespace": site.namespace}
    site.write(environment)


def bind(client: Client, role: dict[str, Any], namespace: str) -> None:
    """Have the account "deployer" of a namespace have a Role or a ClusterRole."""
    kind = role["kind"]
    where = {} if kind == "ClusterRole" else {"namespace": namespace}
    role["metadata"] |= where
    client.apply(role)
    subject = {"kind": "ServiceAccount", "name": "deployer", "namespace": namespace}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role["metadata"]["name"]}
    metadata = {"name": role["metadata"]["name"], **where}
    client.apply({"apiVersion": role["apiVersion"], "kind": f"{kind}Binding", "metadata": metadata, "roleRef": reference, "subjects": [subject]})
