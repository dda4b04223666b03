"""The cluster of an environment: reached, and proven to be the one that the environment names, before anything is written."""

from __future__ import annotations

from collections.abc import Callable

from syntho_deploy.cluster.client import Access, ApiError, Client, access_by_context
from syntho_deploy.environment import Environment
from syntho_deploy.errors import PreflightError


def connect(
    environment: Environment, say: Callable[[str], None], create: bool = False, client_of: Callable[[Access], Client] = Client
) -> Client:  # fmt: skip
    """A client of the environment's cluster, whose identity was checked.

    create: make the local cluster when it does not run. client_of: gives the client, which several environments may share.
    Raises `PreflightError`: no such context, unreachable, credentials refused, another cluster than `cluster.uid` names.
    """
    client = client_of(access(environment, say, create))
    if environment.target.uid:
        identify(environment, uid_of(client))
    else:
        client.request("GET", "/version")
    return client


def uid_of(client: Client) -> str:
    """The identity of a cluster, "" where there is none to read."""
    return str((client.get("v1", "Namespace", "", "kube-system") or {}).get("metadata", {}).get("uid", ""))


def identify(environment: Environment, found: str) -> None:
    """Raise `PreflightError` when this identity of a cluster is not the one that the environment names."""
    uid = environment.target.uid
    if uid and found != uid:
        what = f"this is another cluster: its kube-system namespace has the uid {found or '(not readable)'}, the environment names {uid}"
        raise PreflightError(what, environment.marks.get("cluster.uid"), "check cluster.context, and cluster.uid if the cluster was made anew")


def namespace_due(client: Client, name: str, manage: bool) -> bool:
    """Has a namespace to be made? Raises `PreflightError` where that is somebody else's, or where it is being deleted."""
    if has_namespace(client, name, manage):
        return False
    if not manage:
        what = f"the namespace {name} does not exist, and manage.namespace is false"
        raise PreflightError(what, todo="have it made, or set manage.namespace to true")
    return True


def has_namespace(client: Client, name: str, manage: bool) -> bool:
    """Does a namespace exist? Who may not look at namespaces, and need not, is told by the first write into it."""
    try:
        found = client.get("v1", "Namespace", "", name)
        if found and found.get("status", {}).get("phase") == "Terminating":
            raise PreflightError(f"the namespace {name} is being deleted", todo="wait until it is gone, then run it again")
        return found is not None
    except ApiError as error:
        if error.status != 403 or manage:
            raise
        return True


def access(environment: Environment, say: Callable[[str], None], create: bool = False) -> Access:
    """How to reach the environment's cluster; nothing is asked of it yet. create: make the local cluster when it does not run.

    Raises `PreflightError` when that does not run, and is not to be made.
    """
    target = environment.target
    if not target.local:
        return access_by_context(target.kubeconfig, target.context)
    from syntho_deploy.cluster import local

    if create:
        cluster = local.create(target.local, say)
        return Access(str(cluster.kubeconfig), cluster.context, f"{target.local} on this machine ({cluster.provider})")
    status = local.status(target.local)
    if not status["running"]:
        raise PreflightError(f"the local cluster {target.local} does not run", todo=f"invoke cluster --env={environment.name} --create")
    return Access(str(status["kubeconfig"]), str(status["context"]), f"{target.local} on this machine ({status['provider']})")
