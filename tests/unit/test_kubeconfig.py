"""Contexts of a kubeconfig: each way to sign in, and that little of the kubernetes package is imported for it."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from syntho_deploy.cluster import client, kubeconfig
from syntho_deploy.cluster.client import Access, Client
from syntho_deploy.errors import PreflightError


def written(path: Path, user: dict[str, Any], server: str = "https://127.0.0.1:1") -> str:
    """A kubeconfig with one context, `one`."""
    parts = {
        "clusters": [{"name": "one", "cluster": {"server": server}}],
        "users": [{"name": "one", "user": user}],
        "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
    }
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "one", **parts}))
    return str(path)


def token(seconds: int) -> str:
    """A JSON Web Token without a signature that ends so many seconds after 1970."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({"alg": "none"}, {"exp": seconds})]
    return f"{parts[0]}.{parts[1]}.c2lnbmF0dXJl"


class Server(ThreadingHTTPServer):
    """An identity provider that renews a token, and an API server that says who came."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url, self.asked = f"http://127.0.0.1:{self.server_address[1]}", list[dict[str, list[str]]]()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        if self.path.endswith("/openid-configuration"):
            self.answer({"token_endpoint": f"{self.server.url}/token"})
        else:
            self.answer({"path": self.path, **{name: self.headers.get(name) for name in ("Authorization", "User-Agent")}})

    def do_POST(self) -> None:
        self.server.asked.append(parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        self.answer({"access_token": "a", "token_type": "bearer", "id_token": token(4_000_000_000), "refresh_token": "second"})

    def answer(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def authorization(path: str) -> str:
    return kubeconfig.connection(path, "one", None, 1).authorization()


def test_a_request_brings_the_token_and_the_query(tmp_path: Path, server: Server) -> None:
    path = written(tmp_path / "config", {"token": "one-two-three"}, server.url)
    answer = Client(Access(path, "one", "here")).request("GET", "/api/v1/pods", query={"labelSelector": "a in (b,c)", "limit": "5"})
    asked = "/api/v1/pods?labelSelector=a+in+%28b%2Cc%29&limit=5"
    assert answer == {"path": asked, "Authorization": "Bearer one-two-three", "User-Agent": "syntho-deploy"}


def test_a_certificate_brings_no_token(tmp_path: Path) -> None:
    assert authorization(written(tmp_path / "config", {})) == ""


def test_a_token_that_a_program_gives(tmp_path: Path) -> None:
    credential = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "from-a-program"}}
    program = {"apiVersion": credential["apiVersion"], "command": "echo", "args": [json.dumps(credential)], "interactiveMode": "Never"}
    assert authorization(written(tmp_path / "config", {"exec": program})) == "Bearer from-a-program"


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (["sh", "-c", "echo 'session expired, log in' >&2; exit 3"], "process returned 3. session expired, log in"),
        (["no-such-program"], "No such file"),
        (["echo", "<html>"], "failed to decode process output"),
        (["echo", '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {}}'], "missing token"),
    ],
)
def test_a_program_that_gives_no_credentials_is_a_sentence(
    tmp_path: Path, program: list[str], words: str, capfd: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": program[0], "args": program[1:], "interactiveMode": "Never"}}
    with pytest.raises(PreflightError) as caught:
        kubeconfig.connection(written(tmp_path / "config", user), "one", None, 1)
    assert "its program for credentials gives none: " in caught.value.what
    assert words in caught.value.what
    assert "log in again" in caught.value.todo
    assert capfd.readouterr().err == ""


def test_a_server_that_takes_the_connection_and_never_answers_is_not_waited_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        file = written(tmp_path / "config", {"token": "t"}, f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(PreflightError, match="Read timed out") as caught:
            Client(Access(file, "one", "of the context one")).request("GET", "/version")
    assert "nothing answers there" in caught.value.todo


def test_a_token_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first")
    assert authorization(written(tmp_path / "config", {"tokenFile": str(tmp_path / "token")})) == "Bearer first"


def test_an_oidc_token_that_is_over_is_renewed(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    settings = {"client-id": "me", "client-secret": "mine", "id-token": token(1), "idp-issuer-url": server.url, "refresh-token": "first"}
    found = authorization(written(tmp_path / "config", {"auth-provider": {"name": "oidc", "config": settings}}))
    assert found == f"Bearer {token(4_000_000_000)}"
    assert [asked["refresh_token"] for asked in server.asked] == [["first"]]


def test_a_context_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match=r"the context 'two' of .* cannot be used"):
        kubeconfig.connection(written(tmp_path / "config", {}), "two", None, 1)


@pytest.mark.parametrize(
    ("content", "proxy", "words"),
    [
        ("a: [", "", "ParserError"),
        ("[1]", "", "cannot be used"),
        (None, "socks5://127.0.0.1:1", "cannot be used"),
        (None, "ftp://user:word@127.0.0.1:1", "ProxySchemeUnknown"),
    ],
)
def test_what_cannot_be_used_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, proxy: str, words: str) -> None:
    path = written(tmp_path / "config", {})
    if content:
        (tmp_path / "config").write_text(content)
    if proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        monkeypatch.setenv("NO_PROXY", "")
    with pytest.raises(PreflightError, match=words) as refused:
        kubeconfig.connection(path, "one", None, 1)
    assert "word" not in str(refused.value)


def test_an_answer_that_is_no_json_is_a_sentence(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "answer", page)
    with pytest.raises(PreflightError, match="is no API server: <html>log in"):
        Client(Access(written(tmp_path / "config", {}, server.url), "one", "here")).request("GET", "/version")


def page(handler: Handler, content: dict[str, Any]) -> None:
    """What a proxy that wants a login answers."""
    handler.send_response(200)
    handler.send_header("Content-Length", "20")
    handler.end_headers()
    handler.wfile.write(b"<html>log in</html>\n")


def test_contexts_are_listed_by_name(tmp_path: Path) -> None:
    assert kubeconfig.contexts(written(tmp_path / "config", {})) == ["one"]
    assert kubeconfig.contexts(str(tmp_path / "none")) == []


def test_quantities() -> None:
    found = {text: kubeconfig.quantity(text) for text in ("1500m", "2Gi", "3", "1e3")}
    assert found == {"1500m": kubeconfig.Decimal("1.5"), "2Gi": 2 * 1024**3, "3": 3, "1e3": 1000}
    with pytest.raises(ValueError, match="nonsense"):
        kubeconfig.quantity("nonsense")


def alone(code: str) -> str:
    """What Python prints for these lines in a process of its own."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_little_of_the_package_is_imported_and_nothing_stays_in_its_place(tmp_path: Path) -> None:
    path = written(tmp_path / "config", {"token": "t"})
    code = f"""import sys
from syntho_deploy.cluster import client, kubeconfig
kubeconfig.connection({path!r}, "one", None, 1)
print([name for name in sys.modules if name.partition(".")[0] in (*kubeconfig.FAMILIES, "pydantic", "jsonschema", "requests")])
from kubernetes import client, dynamic
print(client.ApiClient.__name__, client.V1Pod.__name__, dynamic.DynamicClient.__name__)"""
    assert alone(code).splitlines() == ["[]", "ApiClient V1Pod DynamicClient"]


def test_who_has_imported_the_package_before_keeps_it(tmp_path: Path) -> None:
    code = f"""import kubernetes.client, sys
before = sys.modules["kubernetes"]
from syntho_deploy.cluster import client, kubeconfig
kubeconfig.connection({written(tmp_path / "config", {})!r}, "one", None, 1)
print(sys.modules["kubernetes"] is before, kubernetes.client.ApiClient.__name__)"""
    assert alone(code).split() == ["True", "ApiClient"]


def test_a_client_tells_the_proxy_that_its_requests_go_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    access = Access(written(tmp_path / "config", {}, "https://api.example.com:6443"), "one", "of a test")
    for name in ("HTTPS_PROXY", "NO_PROXY", "https_proxy", "no_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert (Client(access).server, Client(access).proxy) == ("https://api.example.com:6443", "")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com:3128")
    assert Client(access).proxy == "http://proxy.example.com:3128"
    monkeypatch.setenv("NO_PROXY", "other.example.com,.example.com")
    assert Client(access).proxy == ""
