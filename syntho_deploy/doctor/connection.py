"""The way to the environment's cluster: reached, told apart from others, and what it says of itself and of us."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from syntho_deploy.cluster import preflight
from syntho_deploy.cluster.client import ApiError, Client, Remembering
from syntho_deploy.errors import PreflightError
from syntho_deploy.several import Place

WHO = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
LOG_IN = "the credentials are missing or expired: log in again"


@dataclass(frozen=True)
class Connection:
    """version: of /version; skew: seconds that the server's clock is ahead of ours; user: as the server knows us, empty where it does not
    tell (before 1.28); uid: of the cluster, "" where it cannot be read."""

    client: Client
    version: str
    skew: float
    user: dict[str, Any]
    uid: str


def connect(place: Place) -> Connection:
    """Reach the cluster of an environment. Sends reads and one review.

    Raises `PreflightError`: no such context, unreachable, no credentials, another cluster than `cluster.uid` names; `ApiError`: credentials
    that are refused.
    """
    client = place.shared.client(preflight.access(place.environment, place.steps.say), Remembering)
    before = datetime.now(UTC)
    found, date = client.request_dated("/version")
    if not isinstance(found, dict) or not re.match(r"v?[0-9]+\.[0-9]+", str(found.get("gitVersion"))):
        what = f"what answers at {client.server} is no API server: it names no version of Kubernetes"
        raise PreflightError(what, todo="see what stands before it, and the server in the kubeconfig")
    middle = before + (datetime.now(UTC) - before) / 2
    review = _allowed(lambda: client.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", WHO), {})
    user = (review.get("status") or {}).get("userInfo") or {}
    uid = _allowed(lambda: preflight.uid_of(client), "")
    if uid:  # where it may not be read, a check tells that, and the others go on: nothing is written
        preflight.identify(place.environment, uid)
    return Connection(client, found["gitVersion"], (parsedate_to_datetime(date) - middle).total_seconds() if date else 0.0, user, uid)


def _allowed(ask: Callable[[], Any], otherwise: Any) -> Any:
    """What is answered; `otherwise` where that cannot be had: one answer that lacks keeps no check from the others."""
    try:
        return ask()
    except ApiError as error:
        if "system:anonymous" in error.message:
            raise PreflightError("the API server does not know us: we come without credentials", todo=LOG_IN) from None
        if error.status == 401:
            raise
        return otherwise
