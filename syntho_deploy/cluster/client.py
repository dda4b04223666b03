"""The API server: plain objects in and out, over a connection that `kubeconfig` describes."""

from __future__ import annotations

import copy
import json
import logging
import math
import re
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from syntho_deploy.documents import Json, canonical
from syntho_deploy.errors import DeployError, PreflightError
from syntho_deploy.redact import redact

TIMEOUT = (5.0, 60.0)  # seconds to connect, and between two reads
LEAST = 2.0  # seconds to wait for an answer, though the time of `Client.until` is over
FIRST = 15.0  # seconds between two reads until the server has answered once, so that what never does is not waited for long
AT_ONCE = 16  # requests side by side for one purpose
CONNECTIONS = 32  # kept open for the next request: a plan sends its dry runs side by side, and so do several environments
SICK = "see what ails it, and run again: kubectl get --raw '/readyz?verbose'"
MANAGER = "syntho-deploy"  # field manager of what is not helm's: CRDs, namespace, secrets

Object = dict[str, Any]


@dataclass(frozen=True)
class Access:
    """How to reach one cluster. kubeconfig: a path, or several joined as in $KUBECONFIG; what: for people."""

    kubeconfig: str
    context: str
    what: str


# Why a server cannot be reached, by the words of the error, and what to do; the first that is in them.
UNREACHABLE = (
    ("tunnel connection", "the proxy refuses this server: have its host in NO_PROXY, or the proxy let it through"),
    ("to proxy", "check the proxy, or have this server's host in NO_PROXY"),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not of the authority in the kubeconfig: get the kubeconfig anew; or something between answers"),
    ("resolve", "its name is not known here: check the server in the kubeconfig, the DNS of this machine and the VPN"),
    ("timed out", "nothing answers there: check the network, the VPN and firewalls, and whether the server takes connections from here"),
    ("refused", "nothing listens there: check that the cluster runs, and the server's port in the kubeconfig"),
)


class ApiError(DeployError):
    """The API server refused a request: `status` of HTTP, `reason` (the API's word for it), `message` in its words, `causes` (details)."""

    def __init__(self, status: int, reason: str, message: str, request: str, causes: tuple[Object, ...] = ()) -> None:
        self.status, self.reason, self.causes, self.message = status, reason, causes, redact(message)[:2000]
        self.exit_code = PreflightError.exit_code if status in (401, 403, 404, 409, 422) else DeployError.exit_code
        anonymous = status == 403 and "system:anonymous" in message
        log_in = "the credentials are missing or expired: log in again"
        todo = log_in if status == 401 or anonymous else "the account lacks this permission" if status == 403 else SICK if status >= 500 else ""
        super().__init__(f"the API server refused {request}: {self.message}", todo=todo)


class Client:
    """Requests to one API server. Safe to use from several threads. hurried: is every answer waited for as shortly as the first?"""

    hurried = False

    def __init__(self, access: Access) -> None:
        """Raises `PreflightError` when the kubeconfig or the context in it cannot be used. Sends nothing yet."""
        from syntho_deploy.cluster import kubeconfig, retry

        logging.getLogger("urllib3").setLevel(logging.ERROR)
        self.access = access
        self._connection = kubeconfig.connection(access.kubeconfig, access.context, retry.policy(), CONNECTIONS)
        self._resources: dict[str, dict[str, tuple[str, bool]]] = {}
        self._asking: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        self._brief = True  # is an answer not waited for long?
        self._end = math.inf  # monotonic
        self.once = threading.Lock()  # held by what is done once for the whole cluster, though several environments ask for it

    def until(self, end: float) -> Client:
        """This client, but that no answer is waited for much longer than until `end` (monotonic). A watch is."""
        found = copy.copy(self)
        found._end = end
        return found

    def request(
        self, method: str, path: str, body: Json | str = None, query: dict[str, str] | None = None,
        content_type: str = "application/json", accept: str = "application/json",
    ) -> Any:  # fmt: skip
        """Send one request, again where `cluster.retry` says so, and return the parsed answer.

        Raises `ApiError` for any status of 400 and more, `PreflightError` when the server cannot be reached, or is no API server.
        """
        response = self._send(method, path, body, query or {}, content_type, accept)
        text = response.data.decode("utf-8", "replace")
        if response.status >= 400:
            raise _refusal(response.status, text, f"{method} {path}")
        return self._read(text) if text else None

    def request_dated(self, path: str) -> tuple[Any, str]:
        """What a GET answers, and the server's time: its Date header, "" without one. Raises as `request` does."""
        response = self._send("GET", path, None, {}, "", "application/json")
        text = response.data.decode("utf-8", "replace")
        if response.status >= 400:
            raise _refusal(response.status, text, f"GET {path}")
        return self._read(text), response.headers.get("Date", "")

    def _read(self, text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError:  # the page of a proxy, or of a login
            what = f"what answers at {self.server} is no API server: {redact(' '.join(text.split()))[:80]}"
            raise PreflightError(what, todo="see what stands before it, and the server in the kubeconfig") from None

    def _send(
        self, method: str, path: str, body: Json | str, query: dict[str, str], content_type: str, accept: str,
        streamed: bool = False, silence: float | None = TIMEOUT[1],
    ) -> Any:  # fmt: skip
        """The answer, read whole unless it is streamed: only then can what breaks off half-way be asked for again.

        silence: seconds to wait between two reads; None: for ever.
        """
        import urllib3

        from syntho_deploy.cluster import retry

        headers = {"Accept": accept, "User-Agent": MANAGER, **({"Content-Type": content_type} if body is not None else {})}
        if authorization := self._connection.authorization():
            headers["Authorization"] = authorization
        url = f"{self._connection.host}{path}" + (f"?{urlencode(query)}" if query else "")
        content = body if body is None or isinstance(body, str) else json.dumps(body)
        left = math.inf if streamed else max(LEAST, self._end - time.monotonic())
        patience = min(FIRST if self._brief else silence or math.inf, left)
        brief: dict[str, Any] = {"retries": retry.policy(reading=1)} if self._brief or patience == left < math.inf else {}
        timeout = urllib3.Timeout(connect=TIMEOUT[0], read=None if patience == math.inf else patience)
        try:
            answer = self._connection.pool.request(
                method, url, body=content, headers=headers, timeout=timeout, preload_content=not streamed, **brief
            )  # fmt: skip
            self._brief = self._brief and self.hurried
            return answer
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _unreachable(self.access, error) from None

    @property
    def server(self) -> str:
        """The server's URL."""
        return self._connection.host

    @property
    def proxy(self) -> str:
        """The proxy that requests go through, or ""."""
        return self._connection.proxy

    def path(self, api_version: str, kind: str, namespace: str = "", name: str = "") -> str:
        """The URL path of an object or a collection.

        Raises `ApiError` with status 404 when the API server does not serve the kind.
        """
        base = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        plural, namespaced = self._resource(base, kind)
        middle = f"/namespaces/{namespace}" if namespaced and namespace else ""
        return f"{base}{middle}/{plural}" + (f"/{quote(name, safe='')}" if name else "")

    def _resource(self, base: str, kind: str) -> tuple[str, bool]:
        with self._lock:
            asking = self._asking.setdefault(base, threading.Lock())
        with asking:  # who needs the same answer waits for it, instead of asking too
            known = self._resources.get(base, {})
            if kind not in known:
                served = self.request("GET", base)["resources"]
                known = {item["kind"]: (item["name"], item["namespaced"]) for item in served if "/" not in item["name"]}
                self._resources[base] = known
        if kind not in known:
            raise ApiError(404, "NotFound", f"it does not serve {kind}", f"GET {base}")
        return known[kind]

    def get(self, api_version: str, kind: str, namespace: str, name: str) -> Object | None:
        """One object, or None when it, or its kind, is not there."""
        try:
            found: Object = self.request("GET", self.path(api_version, kind, namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return found

    def each(self, api_version: str, kind: str, namespace: str, names: Iterable[str]) -> dict[str, Object | None]:
        """Several objects by name, asked for side by side, each as `get` gives it."""
        wanted = sorted(set(names))
        with ThreadPoolExecutor(max(1, min(AT_ONCE, len(wanted)))) as pool:
            return dict(zip(wanted, pool.map(lambda name: self.get(api_version, kind, namespace, name), wanted), strict=True))

    def objects(self, api_version: str, kind: str, namespace: str, selector: str = "") -> list[Object]:
        """The objects of a kind in a namespace; none when the kind is not served."""
        return self.list_at(api_version, kind, namespace, selector)[0]

    def list_at(self, api_version: str, kind: str, namespace: str, selector: str = "") -> tuple[list[Object], str]:
        """The objects of a kind and the resourceVersion of the list, from which it can be watched."""
        items: list[Object] = []
        query = {"limit": "500", **({"labelSelector": selector} if selector else {})}
        while True:
            try:
                page = self.request("GET", self.path(api_version, kind, namespace), query=query)
            except ApiError as error:
                if error.status == 404:
                    return [], ""
                raise
            items += [{"apiVersion": api_version, "kind": kind, **item} for item in page["items"]]
            query["continue"] = page["metadata"].get("continue") or ""
            if not query["continue"]:
                return items, page["metadata"].get("resourceVersion", "")

    def watch(self, api_version: str, kind: str, namespace: str, version: str, seconds: int) -> Iterator[tuple[str, Object]]:
        """The events (type, object) of a kind since `version`, for so many seconds.

        Raises `ApiError` 410 when the version is too old: list again.
        """
        query = {"resourceVersion": version, "timeoutSeconds": str(seconds), "allowWatchBookmarks": "true"}
        for event in self.stream(self.path(api_version, kind, namespace), query):
            yield event["type"], event["object"]

    def stream(self, path: str, query: dict[str, str]) -> Iterator[dict[str, Any]]:
        """The events of a watch on a path, as the API server sends them. Raises `ApiError` for one that is an error."""
        for line in self.lines(path, {"watch": "1", **query}):
            event = json.loads(line)
            if event["type"] == "ERROR":
                status = event["object"]
                raise ApiError(status.get("code", 500), status.get("reason", ""), status.get("message", ""), f"GET {path}")
            yield event

    def lines(self, path: str, query: dict[str, str], silence: float | None = TIMEOUT[1]) -> Iterator[bytes]:
        """What a GET answers, line by line as it comes; empty lines are left out. The request is sent by the first `next`.

        silence: seconds without a word after which the connection counts as broken; None: never.
        """
        import urllib3

        response = self._send("GET", path, None, query, "", "application/json", True, silence)
        try:
            if response.status >= 400:
                raise _refusal(response.status, response.data.decode("utf-8", "replace"), f"GET {path}")
            buffer = b""
            for chunk in response.stream(None):
                *whole, buffer = (buffer + chunk).split(b"\n")
                yield from filter(None, whole)
            if buffer:
                yield buffer
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise PreflightError(f"the connection to the cluster {self.access.what} broke: {error}") from None
        finally:
            response.close()

    def create(self, item: Object) -> Object:
        """Create an object. Raises `ApiError` 409 when it exists."""
        path = self.path(item["apiVersion"], item["kind"], item["metadata"].get("namespace", ""))
        made: Object = self.request("POST", path, item, {"fieldManager": MANAGER})
        return made

    def create_dry(self, item: Object) -> list[str]:
        """What the API server warns of when it is asked whether it would create an object. Writes nothing; raises `ApiError` for a no."""
        path = self.path(item["apiVersion"], item["kind"], item["metadata"].get("namespace", ""))
        response = self._send("POST", path, item, {"dryRun": "All"}, "application/json", "application/json")
        if response.status >= 400:
            raise _refusal(response.status, response.data.decode("utf-8", "replace"), f"POST {path}")
        found = re.findall(r'299 \S+ "((?:[^"\\]|\\.)*)"', response.headers.get("Warning", ""))  # RFC 7234, section 5.5
        return [re.sub(r"\\(.)", r"\1", text) for text in found]

    def apply(self, item: Object, manager: str = MANAGER, force: bool = False, dry_run: bool = False) -> Object:
        """Server-side apply. With a resourceVersion in it, `ApiError` 409 when the object has moved."""
        metadata = item["metadata"]
        path = self.path(item["apiVersion"], item["kind"], metadata.get("namespace", ""), metadata["name"])
        query = {"fieldManager": manager, "force": str(force).lower(), "fieldValidation": "Strict", **({"dryRun": "All"} if dry_run else {})}
        applied: Object = self.request("PATCH", path, canonical(item), query, "application/apply-patch+yaml")
        return applied

    def delete(self, api_version: str, kind: str, namespace: str, name: str) -> bool:
        """Delete an object; False when it was not there."""
        try:
            self.request("DELETE", self.path(api_version, kind, namespace, name))
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True


class Remembering(Client):
    """A client that sends each GET once: who asks the same gets the answer that was given, which nobody changes. For a look at a
    cluster from many sides; what it answers gets old."""

    hurried = True

    def __init__(self, access: Access) -> None:
        super().__init__(access)
        self._answers: dict[str, tuple[Any, DeployError | None]] = {}
        self._waiting: dict[str, threading.Lock] = {}

    def request(
        self, method: str, path: str, body: Json | str = None, query: dict[str, str] | None = None,
        content_type: str = "application/json", accept: str = "application/json",
    ) -> Any:  # fmt: skip
        """As a client's, but a GET is answered from memory after the first, errors too."""
        if method != "GET":
            return super().request(method, path, body, query, content_type, accept)
        key = canonical([path, query or {}, accept])
        with self._lock:
            waiting = self._waiting.setdefault(key, threading.Lock())
        with waiting:
            if key not in self._answers:
                try:
                    self._answers[key] = super().request(method, path, body, query, content_type, accept), None
                except DeployError as error:
                    self._answers[key] = None, error
        found, refused = self._answers[key]
        if refused:
            raise refused
        return found


def _unreachable(access: Access, error: Exception) -> PreflightError:
    reason = str(getattr(error, "reason", None) or error)
    todo = next((todo for word, todo in UNREACHABLE if word.lower() in reason.lower()), "check that it runs, the network and the proxy")
    return PreflightError(f"the cluster {access.what} cannot be reached: {redact(reason)}", todo=todo)


def _refusal(status: int, text: str, request: str) -> ApiError:
    try:
        answer = json.loads(text)
        causes = tuple((answer.get("details") or {}).get("causes") or ())
        return ApiError(status, answer.get("reason", ""), answer.get("message", text), request, causes)
    except (ValueError, AttributeError):
        return ApiError(status, "", redact(text)[:300], request)


def access_by_context(kubeconfig: str, context: str) -> Access:
    """Access by a context of a kubeconfig: the given one, else $KUBECONFIG, else the user's."""
    import os

    found = kubeconfig or os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    return Access(str(Path(found).expanduser()) if os.pathsep not in found else found, context, f"of the context {context}")
