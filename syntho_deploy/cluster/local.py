"""The local cluster of a name: kind where Docker runs, else kwok with a real API server and simulated nodes.

All of it lies in the cache (clusters/<name>/, with a kubeconfig of its own); the user's kubeconfig is neither read nor written.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import ssl
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from syntho_deploy import documents, process
from syntho_deploy.errors import DeployError, InputError, PreflightError, nearest
from syntho_deploy.tools import LOCK, Say, cache_dir, find, locked, tell

PROVIDERS = {
    "kind": "kind: a real cluster, its nodes are containers of Docker",
    "kwok": "kwok: a real API server, simulated nodes; containers do not run",
}
READY_TIMEOUT = 60.0

_OURS = LOCK.parent / "kwok"
_PARTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
_URLS = {
    "ConfigMap": "/api/v1/namespaces/{namespace}/configmaps",
    "Node": "/api/v1/nodes",
    "Stage": "/apis/kwok.x-k8s.io/v1alpha1/stages",
    "StorageClass": "/apis/storage.k8s.io/v1/storageclasses",
}


@dataclass(frozen=True)
class Cluster:
    """A local cluster: what a client needs to reach it."""

    name: str
    provider: str
    kubeconfig: Path
    context: str

    @property
    def folder(self) -> Path:
        return self.kubeconfig.parent

    @property
    def audit_log(self) -> Path:
        """Where the API server logs requests, if `create` was told to have it do so (kwok only)."""
        return self.folder / "logs" / "audit.log"


def create(name: str, say: Say | None = None, provider: str | None = None, audit: bool = False) -> Cluster:
    """The running cluster of this name, made or started if need be; a few milliseconds when it runs.

    provider: kind or kwok, before SYNTHO_LOCAL_PROVIDER and before what the machine has. audit: log the requests (kwok).
    Raises `PreflightError` (exit 4) when it cannot be had, `InputError` (exit 3) for a wrong name or provider.
    """
    wanted = _wanted(provider)
    cluster = _existing(name, wanted)
    if cluster and _complete(cluster):
        return cluster
    with locked(_folder(name).with_name(f".{name}.lock"), f'another run is creating the local cluster "{name}"; waiting for it', say):
        cluster = _existing(name, wanted)
        if cluster and (_complete(cluster) or _revived(cluster, say)):
            return cluster
        if cluster:
            _remove(cluster)
        cluster = _cluster(name, wanted or _default_provider())
        tell(say, f'creating the local cluster "{name}" ({PROVIDERS[cluster.provider]})')
        try:
            if cluster.provider == "kind":
                _start_kind(cluster, say)
            else:
                _start_kwok(cluster, say, audit)
        except process.ProcessError as error:
            raise PreflightError(f'the local cluster "{name}" cannot be created: {_said(error)}', todo=error.todo) from error
        _furnish(cluster)
    return cluster


def delete(name: str, say: Say | None = None) -> bool:
    """Remove the cluster of this name with all that it holds. Returns whether there was one."""
    with locked(_folder(name).with_name(f".{name}.lock"), f'another run is creating the local cluster "{name}"; waiting for it', say):
        cluster = _existing(name, None)
        if cluster:
            _remove(cluster)
    return cluster is not None


def status(name: str) -> dict[str, Any]:
    """What there is of the cluster of this name, as JSON: provider, exists, running, kubeconfig, context, server, version, what."""
    found = _existing(name, None)
    cluster = found or _cluster(name, _wanted(None) or _default_provider())
    version = _ask(cluster, "/version") if found else None
    return {
        "name": name,
        "provider": cluster.provider,
        "what": PROVIDERS[cluster.provider],
        "exists": found is not None,
        "running": version is not None,
        "kubeconfig": str(cluster.kubeconfig),
        "context": cluster.context,
        "server": _Api(cluster).server if cluster.kubeconfig.exists() else None,
        "version": json.loads(version)["gitVersion"] if version else None,
    }


def _folder(name: str) -> Path:
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?", name):
        raise InputError(f'"{name}" cannot be the name of a cluster', todo="use up to 40 small letters, digits and dashes")
    return cache_dir() / "clusters" / name


def _cluster(name: str, provider: str) -> Cluster:
    return Cluster(name, provider, _folder(name) / "kubeconfig", f"{provider}-{name}")


def _wanted(provider: str | None) -> str | None:
    wanted = provider or os.environ.get("SYNTHO_LOCAL_PROVIDER") or None
    if wanted and wanted not in PROVIDERS:
        todo = f"SYNTHO_LOCAL_PROVIDER may be {' or '.join(PROVIDERS)}"
        raise InputError(f'there is no provider "{wanted}"{nearest(wanted, PROVIDERS)}', todo=todo)
    return wanted


def _default_provider() -> str:
    """kind where a Docker engine answers; the client alone is not enough."""
    try:
        engine = process.run(["docker", "version", "--format", "{{.Server.Version}}"], timeout=10, check=False)
    except process.ProcessError:
        return "kwok"
    return "kind" if engine.code == 0 and engine.stdout.strip() else "kwok"


def _existing(name: str, wanted: str | None) -> Cluster | None:
    folder = _folder(name)
    if not (folder / "kubeconfig").exists() and not (folder / "kwok.yaml").exists():
        return None
    found = _cluster(name, "kwok" if (folder / "kwok.yaml").exists() else "kind")
    if wanted and wanted != found.provider:
        raise PreflightError(f'the local cluster "{name}" exists with {found.provider}, not {wanted}', todo="delete it first, or use another name")
    return found


def _complete(cluster: Cluster) -> bool:
    """Whether everything is there and runs: looks at files and asks the API server, starts no process."""
    with suppress(OSError):
        if (cluster.folder / "furnished").read_text() == _furniture() and (cluster.provider == "kind" or len(_processes(cluster)) > len(_PARTS)):
            return _ask(cluster, "/readyz") == b"ok"
    return False


def _processes(cluster: Cluster) -> dict[int, Path]:
    """The cluster's live processes and their pid files. A file may outlive its process, and its number may be another's by now."""
    found = {}
    for file in (cluster.folder / "pids").glob("*.pid"):
        with suppress(ValueError):
            if _runs(number := int(file.read_text()), str(cluster.folder / "bin" / file.stem)):
                found[number] = file
    return found


def _runs(number: int, program: str) -> bool:
    """Whether that process is that program. A dead one that nobody has waited for has no command line."""
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")[0].decode() == program
        except OSError:
            return False
    return process.run(["ps", "-o", "args=", "-p", str(number)], check=False).stdout.startswith(f"{program} ")


def _start_kind(cluster: Cluster, say: Say | None) -> None:
    kind = find("kind", say).path
    cluster.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    flags: list[str | Path] = ["--name", cluster.name, "--config", _OURS / "kind.yaml", "--kubeconfig", cluster.kubeconfig, "--wait", "180s"]
    process.run([kind, "create", "cluster", *flags], timeout=1200, writes=True)


def _start_kwok(cluster: Cluster, say: Say | None, audit: bool) -> None:
    kwokctl, kwok = find("kwokctl", say).path, find("kwok", say).path
    config = documents.load(_OURS / "cluster.yaml").data
    names = ("etcdPort", "etcdPeerPort", "kubeApiserverPort", "kubeControllerManagerPort", "kubeSchedulerPort", "kwokControllerPort")
    config["options"] |= dict(zip(names, _free_ports(len(names)), strict=True))
    written = cluster.folder.with_name(f".{cluster.name}.kwokctl.yaml")
    documents.write(written, json.dumps(config))
    cluster.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    argv: list[str | Path] = [kwokctl, "create", "cluster", "--name", cluster.name, "--runtime", "binary"]
    argv += ["--config", written, "--kubeconfig", cluster.kubeconfig]
    argv += [word for part in _PARTS for word in (f"--{part}-binary", find(part, say).path)]
    argv += ["--kwok-controller-binary", kwok]
    # a lease would keep the nodes from the next kwok for minutes when this one was killed
    argv += ["--node-lease-duration-seconds", "0"]
    argv += ["--kube-audit-policy", _OURS / "audit.yaml"] if audit else []
    try:
        process.run(argv, timeout=180, env=_kwok_environment(cluster, say), writes=True)
    finally:
        written.unlink()
    # kwok began before its Stages were served, and waits longer after each look: one that begins now finds them at once
    _until(lambda: bool(_Api(cluster).ask("GET", _URLS["Stage"])), "its Stages are not served")
    for number in [number for number, file in _processes(cluster).items() if file.stem == "kwok-controller"]:
        os.kill(number, signal.SIGKILL)
        _until(lambda number=number: number not in _processes(cluster), "kwok does not end")  # type: ignore[misc]
    _start_again(cluster, say)


def _start_again(cluster: Cluster, say: Say | None) -> None:
    """Have kwokctl start those of the cluster's processes that do not run."""
    live = _processes(cluster).values()
    for file in (cluster.folder / "pids").glob("*.pid"):
        if file not in live:  # kwokctl would take whatever has the number now for its own
            file.unlink()
    kwokctl = find("kwokctl", say).path
    process.run([kwokctl, "start", "cluster", "--name", cluster.name], timeout=40, env=_kwok_environment(cluster, say), writes=True)


def _kwok_environment(cluster: Cluster, say: Say | None) -> dict[str, str]:
    """kwokctl asks with kubectl whether the server answers, and would download one; kubectl would leave a cache in ~/.kube."""
    kubectl = find("kubectl", say).path
    path = f"{kubectl.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    own = {"KUBECONFIG": str(cluster.kubeconfig), "KUBECACHEDIR": str(cluster.folder / "kubectl")}
    return {"KWOK_WORKDIR": str(cache_dir()), "PATH": path, **own}


def _free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that are free now, by chance, so that two clusters made at once do not choose the same.

    Below 32768 the system takes none for outgoing connections: they are still free when the cluster is started again.
    """
    found: list[int] = []
    for port in random.sample(range(20_000, 32_768), 200):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise PreflightError("no free ports between 20000 and 32767", todo="end what listens there")


def _revived(cluster: Cluster, say: Say | None) -> bool:
    """Start again what of the cluster does not run, as after a reboot. False when it must be made anew."""
    if not (cluster.folder / "furnished").exists():  # its creation was cut off
        return False
    tell(say, f'starting the local cluster "{cluster.name}" again')
    try:
        if cluster.provider == "kind":
            process.run(["docker", "start", f"{cluster.name}-control-plane"], writes=True)
        else:
            _start_again(cluster, say)
        _furnish(cluster)
    except (process.ProcessError, PreflightError) as error:
        tell(say, f"it cannot be started, so it is made anew: {_said(error)}")
        return False
    return True


def _said(error: DeployError) -> str:
    """The error in short: kwokctl writes its log as JSON, a line each, and the last line is why it ended."""
    try:
        last = json.loads(error.what.splitlines()[-1])
        return f"{last['msg']}: {last.get('err', '')}"[:300]
    except (ValueError, LookupError, TypeError):
        return error.what[-300:]


def _remove(cluster: Cluster) -> None:
    if cluster.provider == "kind":
        process.run([find("kind").path, "delete", "cluster", "--name", cluster.name, "--kubeconfig", cluster.kubeconfig], timeout=300, writes=True)
    for number in _processes(cluster):
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)  # there is nothing to save: their data goes with them
    _until(lambda: not _processes(cluster), "its processes do not end")
    shutil.rmtree(cluster.folder)


class _Api:
    """A connection to the cluster's API server. The kubernetes client takes half a second to import; `create` has milliseconds."""

    def __init__(self, cluster: Cluster, timeout: float = 5.0) -> None:
        config = documents.load_chart(cluster.kubeconfig)
        server, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self.server: str = server["server"]
        with tempfile.TemporaryDirectory() as folder:
            context = ssl.create_default_context(cafile=_file(server, "certificate-authority", folder))
            context.load_cert_chain(_file(user, "client-certificate", folder), _file(user, "client-key", folder))
        url = urlsplit(self.server)
        self.connection = http.client.HTTPSConnection(url.hostname or "", url.port, timeout=timeout, context=context)

    def ask(self, method: str, path: str, body: Any = None) -> bytes:
        """The answer's content. Raises `OSError` or `HTTPException` when there is none or it is an error."""
        headers = {"Content-Type": "application/apply-patch+yaml"} if body else {}
        self.connection.request(method, path, json.dumps(body) if body else None, headers)
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status >= 300:
            raise http.client.HTTPException(f"{method} {path}: {answer.status} {content.decode(errors='replace')[:300]}")
        return content


def _file(entry: dict[str, str], key: str, folder: str) -> str:
    """The file that a kubeconfig names, or one made of what it holds."""
    if key in entry:
        return entry[key]
    made = Path(folder) / key
    made.write_bytes(base64.b64decode(entry[f"{key}-data"]))
    return str(made)


def _ask(cluster: Cluster, path: str) -> bytes | None:
    """What the API server answers, or None when it does not."""
    with suppress(OSError, http.client.HTTPException, KeyError, InputError):
        return _Api(cluster, timeout=2.0).ask("GET", path)
    return None


def _furniture() -> str:
    return documents.sha256(*(file.read_bytes() for file in sorted(_OURS.glob("*.yaml"))))


def _furnish(cluster: Cluster) -> None:
    """Apply what the cluster is to have, and wait until its nodes are ready."""
    names = ["objects.yaml", "stages.yaml"] if cluster.provider == "kwok" else ["kind-objects.yaml"]
    objects = [item for name in names for item in documents.load_manifests((_OURS / name).read_text("utf-8"))]
    for item in objects:
        url = _URLS[item["kind"]].format(**item["metadata"]) + f"/{item['metadata']['name']}?fieldManager=syntho-deploy&force=true"
        # right after the start the API of the Stages may not be served yet
        _until(lambda url=url, item=item: bool(_Api(cluster).ask("PATCH", url, item)), "its objects cannot be applied")  # type: ignore[misc]
    _until(lambda: _nodes_ready(cluster), "its nodes do not get ready")
    _until(lambda: _ask(cluster, "/readyz") == b"ok", "its API server does not say that it is ready")
    documents.write(cluster.folder / "furnished", _furniture())


def _nodes_ready(cluster: Cluster) -> bool:
    nodes = json.loads(_Api(cluster).ask("GET", "/api/v1/nodes"))["items"]
    ready = [any(c["type"] == "Ready" and c["status"] == "True" for c in node.get("status", {}).get("conditions", [])) for node in nodes]
    return bool(ready) and all(ready)


def _until(done: Callable[[], bool], problem: str) -> None:
    """Wait until `done` is true, counting errors of the network as no. Raises `PreflightError` after `READY_TIMEOUT`."""
    last, end = "", time.monotonic() + READY_TIMEOUT
    while time.monotonic() < end:
        try:
            if done():
                return
        except (OSError, http.client.HTTPException) as error:
            last = f": {error}"
        time.sleep(0.05)
    raise PreflightError(f"the local cluster did not get ready within {READY_TIMEOUT:.0f} s: {problem}{last}")
