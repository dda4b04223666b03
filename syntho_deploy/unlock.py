"""What keeps the next deploy from running, and its removal: the Lease of a run, and a release that a killed helm left pending."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from syntho_deploy.cluster import lease
from syntho_deploy.cluster.client import Client
from syntho_deploy.cluster.lease import Seen
from syntho_deploy.cluster.releases import Stored, fail, stored

SETTLE_SECONDS = 30.0  # for the helm of a run that lives: it does not wait for pods, so its writes take seconds
LOOK_SECONDS = 1.0


def locks(client: Client, namespace: str, names: list[str]) -> dict[str, Any]:
    """What holds an environment, for these releases.

    {"lease": {"state": free, held or expired, "holder", "reason", "since", "renewed", "taken"}, "releases": [{"name", "status",
    "revision", "updated"}]}; only releases that are pending or being uninstalled.
    """
    at_work = [one for one in stored(client, namespace, names).values() if one.pending or one.status == "uninstalling"]
    shown = [{key: getattr(one, key) for key in ("name", "status", "revision", "updated")} for one in at_work]
    return {"lease": asdict(lease.look(client, namespace)), "releases": shown}


def unlock(client: Client, namespace: str, names: list[str], reason: str, say: Callable[[str], None]) -> list[str]:
    """Take the Lease, and mark pending releases as failed, so that the next deploy can run. Returns what was done, in sentences.

    A run that holds the Lease and lives stops before its next write; the helm that it may have started is waited for. Raises
    `LockedError` when the Lease moves at the same time.
    """
    before, done = lease.take(client, namespace, reason), []
    if before.state != lease.FREE:
        done.append(f"the Lease was taken from {before.holder}")
    for release in _left(client, namespace, names, before, say):
        fail(client, namespace, release, f"{release.status} until it was unlocked by {lease.who()}: {reason}")
        done.append(f"the release {release.name}, revision {release.revision}, was {release.status} and is now failed")
    return done


def _left(client: Client, namespace: str, names: list[str], before: Seen, say: Callable[[str], None]) -> list[Stored]:
    """The releases that are pending, after the helm of a holder that lives had time to end."""
    deadline, told = time.monotonic() + SETTLE_SECONDS, False
    while True:
        pending = [one for one in stored(client, namespace, names).values() if one.pending]
        if not pending or before.state != lease.HELD or time.monotonic() > deadline:
            return pending
        if not told:
            say(f"{', '.join(one.name for one in pending)}: its helm may still run; waiting up to {SETTLE_SECONDS:.0f} s for it")
            told = True
        threading.Event().wait(LOOK_SECONDS)


def text(found: dict[str, Any], environment: str) -> str:
    """What `locks` found, as people read it."""
    held = found["lease"]
    lines = [
        f"the release {one['name']}, revision {one['revision']}, is {one['status']} since {one['updated']}"
        + ("; invoke undeploy ends it" if one["status"] == "uninstalling" else "")
        for one in found["releases"]
    ]
    if held["state"] != lease.FREE:
        gone = f", and gives no sign of life for {lease.DURATION} s: the next run takes it" if held["state"] == lease.EXPIRED else ""
        lines.insert(0, f"{held['holder']} holds the Lease since {held['since']} ({held['reason']}), renewed {held['renewed']}{gone}")
    elif held["taken"]:
        lines.insert(0, f"the Lease is free; it was taken by {held['taken']}")
    if held["state"] == lease.HELD or any(one["status"] != "uninstalling" for one in found["releases"]):
        lines.append(f"  -> wait for it; or, to have the next deploy run: invoke unlock --env={environment} --reason=…")
    return "\n".join(lines) or f"nothing locks {environment}"
