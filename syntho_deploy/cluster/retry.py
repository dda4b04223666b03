"""Which requests to the API server are sent again when it, or what stands before it, has a hiccup."""

from __future__ import annotations

from typing import Any

import urllib3

ATTEMPTS = 5  # after the first; with the pauses between them, 8 s at most when no Retry-After asks for longer
REACHING = 3  # the same for a server that takes no connection: who waits for a wrong address should not wait long
RETRY_AFTER = 10  # seconds that a Retry-After is heeded at most
BUSY = (502, 503, 504)


class Retry(urllib3.Retry):
    """urllib3's own, but for the statuses: what may be sent again depends on the method.

    429 says that nothing was done, so any request may. A create (POST) that got no answer may have been done, and is not sent
    again; every other write is an apply, a replacement or a deletion, after which a second one changes nothing. 500 is what the
    API server says to a field that it does not know, and is worth a second try only where nothing is sent: a GET.
    https://kubernetes.io/docs/concepts/cluster-administration/flow-control/
    """

    def is_retry(self, method: str, status_code: int, has_retry_after: bool = False) -> bool:
        """Is an answer of this status a reason to send the request again?"""
        return status_code == 429 or (status_code in BUSY and method != "POST") or (status_code == 500 and method == "GET")

    def increment(
        self, method: str | None = None, url: str | None = None, response: Any = None, error: Exception | None = None, _pool: Any = None,
        _stacktrace: Any = None,
    ) -> Retry:  # fmt: skip
        """The tries that are left. Raises at once for a certificate that is not the server's: it will not be at the next try."""
        if error and "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise urllib3.exceptions.MaxRetryError(_pool, url or "", error)
        return super().increment(method, url, response, error, _pool, _stacktrace)


def policy(reading: int = ATTEMPTS) -> Retry:
    """For a client: the last answer is returned as it is when the tries are used up. reading: how often what takes the connection, and
    does not answer, is tried again."""
    return Retry(
        total=ATTEMPTS, connect=REACHING, read=reading, allowed_methods=frozenset({"DELETE", "GET", "PATCH", "PUT"}), backoff_factor=0.25,
        backoff_jitter=0.25, retry_after_max=RETRY_AFTER, raise_on_status=False,
    )  # fmt: skip
