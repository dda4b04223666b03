"""A kubelet's side of logs, on loopback: the API server's own log proxy asks it."""

from __future__ import annotations

import datetime
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from syntho_deploy.cluster.client import Client

Said = Callable[[str, str, dict[str, str]], list[str] | None]  # pod, container, query: its lines, or None: there is no such log


class Kubelet:
    """While the context is open, every node of the cluster has its kubelet here. `said` gives a container's lines; `more` adds one to
    all logs that are followed; `asked` is what was asked for: pod, container and query."""

    def __init__(self, client: Client, folder: Path, said: Said) -> None:
        self._client, self._said = client, said
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self._more: list[str] = []
        self._moved = threading.Condition()
        self._closed = False
        kubelet = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                kubelet._answer(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        setattr(Handler, "do_GET", Handler.handle_any)  # noqa: B010 - the name is http.server's
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*_certificate(folder))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def __enter__(self) -> Kubelet:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self._nodes = {node["metadata"]["name"]: node["status"] for node in self._client.objects("v1", "Node", "")}
        for name in self._nodes:
            self._point(name, [{"type": "InternalIP", "address": "127.0.0.1"}], self._server.server_address[1])
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for name, status in self._nodes.items():
            self._point(name, status["addresses"], status["daemonEndpoints"]["kubeletEndpoint"]["Port"])
        with self._moved:
            self._closed = True
            self._moved.notify_all()
        self._server.shutdown()
        self._server.server_close()

    def more(self, line: str) -> None:
        with self._moved:
            self._more.append(line)
            self._moved.notify_all()

    def _point(self, node: str, addresses: list[dict[str, str]], port: int) -> None:
        status = {"addresses": addresses, "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}
        self._client.request("PATCH", f"/api/v1/nodes/{node}/status", {"status": status}, {}, "application/merge-patch+json")

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        url = urlsplit(request.path)
        _, _, _, pod, container = url.path.split("/")
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        self.asked.append((pod, container, query))
        said = self._said(pod, container, query)
        if said is None:
            request.send_error(400, f'previous terminated container "{container}" in pod "{pod}" not found')
            return
        request.send_response(200)
        request.send_header("Content-Type", "text/plain")
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        tail = int(query.get("tailLines", len(said)))
        for line in said[len(said) - tail :]:
            _chunk(request, line)
        sent = 0
        while query.get("follow") == "true" and not self._closed:
            with self._moved:
                while not self._closed and len(self._more) == sent:
                    self._moved.wait()
                new, sent = self._more[sent:], len(self._more)
            for line in new:
                _chunk(request, line)
        request.wfile.write(b"0\r\n\r\n")


def _chunk(request: BaseHTTPRequestHandler, line: str) -> None:
    data = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%S.%fZ} {line}\n".encode()
    request.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
    request.wfile.flush()


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed one, which the API server does not check, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubelet")])
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    made = made.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    files = folder / "kubelet.crt", folder / "kubelet.key"
    files[0].write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    private = serialization.PrivateFormat.PKCS8
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption()))
    return files
