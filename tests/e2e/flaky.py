"""A proxy on loopback that stands before the real API server and has hiccups."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import yaml

from syntho_deploy.cluster.local import Cluster, _Api

HOP_BY_HOP = ("connection", "content-length", "host", "keep-alive", "transfer-encoding")
OURS = "syntho-deploy"  # the User-Agent; helm says another


class FlakyProxy:
    """Fails the first `times` of our requests that `chosen(method, path)` picks, each path by itself: with a status, after the
    request was passed on or before it, or by a reset (status 0). `seen` counts all requests by
    method and path, `ours` those that do not come from helm."""

    def __init__(self, cluster: Cluster, status: int, times: int, chosen: Callable[[str, str], bool], passed_on: bool = False) -> None:
        self.cluster, self.status, self.times, self.chosen, self.passed_on = cluster, status, times, chosen, passed_on
        self.failed: Counter[tuple[str, str]] = Counter()
        self.seen: Counter[tuple[str, str]] = Counter()
        self.ours: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                proxy._answer(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        for verb in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            setattr(Handler, f"do_{verb}", Handler.handle_any)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    def __enter__(self) -> FlakyProxy:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def kubeconfig(self, file: Path) -> Path:
        """Write a kubeconfig whose only context, `flaky`, leads through this proxy."""
        server = {"name": "flaky", "cluster": {"server": f"http://127.0.0.1:{self._server.server_address[1]}"}}
        context = {"name": "flaky", "context": {"cluster": "flaky", "user": "nobody"}}
        users = [{"name": "nobody", "user": {}}]
        file.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "clusters": [server], "contexts": [context], "users": users}))
        return file

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        key = (request.command, urlsplit(request.path).path)
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0)) or None
        with self._lock:
            ours = OURS in request.headers.get("User-Agent", "")
            fails = ours and self.chosen(*key) and self.failed[key] < self.times
            self.ours[key] += ours
            if fails:
                self.failed[key] += 1
            self.seen[key] += 1
        if not fails or self.passed_on:
            self._pass_on(request, body, None if fails else request)
        if fails and self.status:
            request.send_response(self.status)
            request.send_header("Content-Length", "0")
            if self.status == 429:
                request.send_header("Retry-After", "1")
            request.end_headers()
        elif fails:
            request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close by RST
            request.close_connection = True

    def _pass_on(self, request: BaseHTTPRequestHandler, body: bytes | None, to: BaseHTTPRequestHandler | None) -> None:
        upstream = _Api(self.cluster, timeout=60).connection
        upstream.request(request.command, request.path, body, {k: v for k, v in request.headers.items() if k.lower() not in HOP_BY_HOP})
        answer = upstream.getresponse()
        if to is None:
            answer.read()
            return
        to.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in (*HOP_BY_HOP, "date"):
                to.send_header(name, value)
        if answer.status in (204, 304):
            to.end_headers()
            return
        to.send_header("Transfer-Encoding", "chunked")
        to.end_headers()
        try:
            while chunk := answer.read1(65536):
                to.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                to.wfile.flush()
            to.wfile.write(b"0\r\n\r\n")
        except (OSError, http.client.HTTPException):  # whoever asked has gone, or the watch broke
            to.close_connection = True
        finally:
            upstream.close()
