"""One deploy at a time: a Lease in the environment's namespace, renewed while the work goes on.

Whether a holder is gone is told by the API server's clock alone: the time of the last write to the Lease, which the server
keeps, against the time of its answer. So a wrong clock on either machine takes nobody's Lease.
"""

from __future__ import annotations

import getpass
import os
import socket
import threading
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any

from syntho_deploy.cluster.client import ApiError, Client, Object
from syntho_deploy.errors import DeployError, LockedError, PreflightError

DURATION = 60  # seconds without a renewal after which a holder counts as gone
RENEWAL = 15
KIND = ("coordination.k8s.io/v1", "Lease")
REASON = "syntho-deploy/reason"


class Lease:
    """Held while the context is open. `check` raises once it was lost."""

    def __init__(self, client: Client, namespace: str, name: str, reason: str) -> None:
        self._client, self._namespace, self._name, self._reason = client, namespace, name, reason
        self._holder = f"{who()} process {os.getpid()} at {datetime.now(UTC):%H:%M:%S.%f}"
        self._stop = threading.Event()
        self._lost: DeployError | None = None
        self._renewer = threading.Thread(target=self._renew, daemon=True, name="lease")

    def __enter__(self) -> Lease:
        """Take it. Raises `LockedError` (exit 6) naming who holds it, for what, and since when."""
        try:
            self._take()
            self._renewer.start()
        except (KeyboardInterrupt, SystemExit):  # between the server's yes and our knowing of it
            self._give_back()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._renewer.join()
        self._give_back()

    def _give_back(self) -> None:
        try:
            live = self._client.get(*KIND, self._namespace, self._name)
            if live and live["spec"].get("holderIdentity") == self._holder:
                live["spec"] = {"leaseDurationSeconds": DURATION, "holderIdentity": ""}
                self._put(live)
        except (ApiError, PreflightError):  # it ends by itself
            pass

    def check(self) -> None:
        """Raise `LockedError` when another has taken the Lease, because ours could not be renewed in time."""
        if self._lost:
            raise self._lost

    def _take(self) -> None:
        live, now = self._get()
        spec = {"holderIdentity": self._holder, "leaseDurationSeconds": DURATION, "acquireTime": _micro(), "renewTime": _micro()}
        try:
            if live is None:
                metadata = {"name": self._name, "namespace": self._namespace, "annotations": {REASON: self._reason}}
                self._client.create({"apiVersion": KIND[0], "kind": KIND[1], "metadata": metadata, "spec": spec})
                return
            holder = live["spec"].get("holderIdentity")
            if holder and (now - _written(live)).total_seconds() < DURATION:
                raise self._locked(live)
            live["spec"] = spec
            live["metadata"]["annotations"] = {**(live["metadata"].get("annotations") or {}), REASON: self._reason}
            self._put(live)
        except ApiError as error:
            if error.status != 409:
                raise
            live, _ = self._get()
            raise self._locked(live or {"spec": {}, "metadata": {}}) from None

    def _locked(self, live: Object) -> LockedError:
        holder, since = live["spec"].get("holderIdentity") or "another run", live["spec"].get("acquireTime", "just now")
        reason = (live["metadata"].get("annotations") or {}).get(REASON, "")
        todo = f"wait for it; a holder that was killed is given up {DURATION} s after its last sign of life"
        return LockedError(f"{holder} works on this environment since {since}{f' ({reason})' if reason else ''}", todo=todo)

    def _renew(self) -> None:
        missed = 0
        while not self._stop.wait(RENEWAL):
            try:
                live, _ = self._get()
                if live is None or live["spec"].get("holderIdentity") != self._holder:
                    self._lost = self._locked(live) if live else LockedError("the Lease of this run was deleted")
                    return
                live["spec"]["renewTime"] = _micro()
                self._put(live)
                missed = 0
            except (ApiError, PreflightError) as error:
                missed += 1
                if missed * RENEWAL >= DURATION:
                    self._lost = error
                    return

    def _get(self) -> tuple[Object | None, datetime]:
        """The Lease, and the API server's time."""
        path = self._client.path(*KIND, self._namespace, self._name)
        try:
            live, date = self._client.request_dated(path)
        except ApiError as error:
            if error.status != 404:
                raise
            return None, datetime.now(UTC)
        return live, parsedate_to_datetime(date)

    def _put(self, live: Object) -> None:
        self._client.request("PUT", self._client.path(*KIND, self._namespace, self._name), live, {"fieldManager": "syntho-deploy"})


def _written(live: Object) -> datetime:
    """When the API server last wrote the object."""
    times: list[Any] = [entry["time"] for entry in live["metadata"].get("managedFields") or [] if entry.get("time")]
    return datetime.fromisoformat(max(times, default=live["metadata"]["creationTimestamp"]))


def _micro() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"


def who() -> str:
    """Who runs this, and where: `user@host`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "somebody"
    return f"{user}@{socket.gethostname()}"
