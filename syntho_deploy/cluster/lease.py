"""One deploy at a time: a Lease in the environment's namespace, renewed while the work goes on.

Whether a holder is gone is told by the API server's clock alone: the time of the last write to the Lease, which the server
keeps, against the time of its answer. So a wrong clock on either machine takes nobody's Lease.
"""

from __future__ import annotations

import getpass
import os
import socket
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any

from syntho_deploy.cluster.client import ApiError, Client, Object
from syntho_deploy.errors import DeployError, LockedError, PreflightError

DURATION = 60  # seconds without a renewal after which a holder counts as gone
RENEWAL = 15
KIND = ("coordination.k8s.io/v1", "Lease")
NAME = "syntho-deploy"  # one for a namespace, since two environments may name the same releases
REASON = "syntho-deploy/reason"
TAKEN = "syntho-deploy/taken"  # by whom, when and why the Lease was taken from its last holder

FREE, HELD, EXPIRED = "free", "held", "expired"


class Lease:
    """Held while the context is open. `check` raises once it was lost."""

    def __init__(self, client: Client, namespace: str, reason: str) -> None:
        self._client, self._namespace, self._reason = client, namespace, reason
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
            live = self._client.get(*KIND, self._namespace, NAME)
            if live and live["spec"].get("holderIdentity") == self._holder:
                live["spec"] = {"leaseDurationSeconds": DURATION, "holderIdentity": ""}
                _put(self._client, live)
        except (ApiError, PreflightError):  # it ends by itself
            pass

    def check(self, write: bool = False) -> None:
        """Raise `LockedError` when the Lease is no longer ours: taken by `invoke unlock`, or not renewed in time.

        write: a write comes next, so the API server is asked; else this tells what the last renewal saw.
        """
        if write and not self._lost:
            live, _ = _get(self._client, self._namespace)
            self._look(live)
        if self._lost:
            raise self._lost

    def _look(self, live: Object | None) -> bool:
        """Is it still ours? If not, that is kept for `check`."""
        if live and live["spec"].get("holderIdentity") == self._holder:
            return True
        taken = ((live or {}).get("metadata", {}).get("annotations") or {}).get(TAKEN)
        if live and taken:
            self._lost = LockedError(
                f"the Lease of this run was taken by {taken}; it stopped before its next write", todo="invoke plan shows what is left"
            )
        else:
            self._lost = self._locked(live) if live else LockedError("the Lease of this run was deleted")
        return False

    def _take(self) -> None:
        live, now = _get(self._client, self._namespace)
        spec = {"holderIdentity": self._holder, "leaseDurationSeconds": DURATION, "acquireTime": _micro(), "renewTime": _micro()}
        try:
            if live is None:
                metadata = {"name": NAME, "namespace": self._namespace, "annotations": {REASON: self._reason}}
                self._client.create({"apiVersion": KIND[0], "kind": KIND[1], "metadata": metadata, "spec": spec})
                return
            if _state(live, now) == HELD:
                raise self._locked(live)
            live["spec"] = spec
            others = {key: value for key, value in (live["metadata"].get("annotations") or {}).items() if key != TAKEN}
            live["metadata"]["annotations"] = {**others, REASON: self._reason}
            _put(self._client, live)
        except ApiError as error:
            if error.status != 409:
                raise
            live, _ = _get(self._client, self._namespace)
            if live and live["spec"].get("holderIdentity") == self._holder:  # sent twice, since the first answer was lost
                return
            raise self._locked(live or {"spec": {}, "metadata": {}}) from None

    def _locked(self, live: Object) -> LockedError:
        holder, since = live["spec"].get("holderIdentity") or "another run", live["spec"].get("acquireTime", "just now")
        reason = (live["metadata"].get("annotations") or {}).get(REASON, "")
        todo = (
            f"wait for it; a holder that was killed is given up {DURATION} s after its last sign of life; invoke unlock takes it from one that lives"
        )
        return LockedError(f"{holder} works on this environment since {since}{f' ({reason})' if reason else ''}", todo=todo)

    def _renew(self) -> None:
        missed = 0
        while not self._stop.wait(RENEWAL):
            try:
                live, _ = _get(self._client, self._namespace)
                if not self._look(live) or live is None:
                    return
                live["spec"]["renewTime"] = _micro()
                _put(self._client, live)
                missed = 0
            except (ApiError, PreflightError) as error:
                missed += 1
                if missed * RENEWAL >= DURATION:
                    self._lost = error
                    return


@dataclass(frozen=True)
class Seen:
    """A Lease as it is. state: free, held, or expired (its holder gives no sign of life); since, renewed: RFC 3339; taken: by whom
    and why it was taken from its last holder, or ""."""

    state: str
    holder: str = ""
    reason: str = ""
    since: str = ""
    renewed: str = ""
    taken: str = ""


def look(client: Client, namespace: str) -> Seen:
    """The Lease of a namespace."""
    return _seen(*_get(client, namespace))


def take(client: Client, namespace: str, reason: str) -> Seen:
    """Take the Lease from its holder, alive or not, so that the next run gets it. Returns what it was before.

    The holder sees it before its next write. Raises `LockedError` when the Lease moved between our look and our write.
    """
    live, now = _get(client, namespace)
    before = _seen(live, now)
    if live is None or before.state == FREE:
        return before
    live["spec"] = {"leaseDurationSeconds": DURATION, "holderIdentity": ""}
    live["metadata"]["annotations"] = {**(live["metadata"].get("annotations") or {}), TAKEN: f"{who()} at {_micro()} ({reason})"}
    try:
        _put(client, live)
    except ApiError as error:
        if error.status != 409:
            raise
        if look(client, namespace).state != FREE:
            raise LockedError("the Lease was renewed or taken just now", todo="run it again") from None
    return before


def _seen(live: Object | None, now: datetime) -> Seen:
    if live is None:
        return Seen(FREE)
    spec, notes, state = live["spec"], live["metadata"].get("annotations") or {}, _state(live, now)
    if state == FREE:
        return Seen(FREE, taken=notes.get(TAKEN, ""))
    return Seen(state, spec["holderIdentity"], notes.get(REASON, ""), spec.get("acquireTime", ""), spec.get("renewTime", ""))


def _state(live: Object, now: datetime) -> str:
    if not live["spec"].get("holderIdentity"):
        return FREE
    return HELD if (now - _written(live)).total_seconds() < DURATION else EXPIRED


def _get(client: Client, namespace: str) -> tuple[Object | None, datetime]:
    """The Lease, and the API server's time."""
    try:
        live, date = client.request_dated(client.path(*KIND, namespace, NAME))
    except ApiError as error:
        if error.status != 404:
            raise
        return None, datetime.now(UTC)
    return live, parsedate_to_datetime(date) if date else datetime.now(UTC)


def _put(client: Client, live: Object) -> None:
    client.request("PUT", client.path(*KIND, live["metadata"]["namespace"], NAME), live, {"fieldManager": "syntho-deploy"})


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
