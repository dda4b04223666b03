"""Registries of the tests on this machine: one of our own that wants tokens, and Debian's docker-registry where it is found."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from tests.programs import needs

MANIFEST, INDEX = "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json"
REAL = os.environ.get("SYNTHO_TEST_REGISTRY") or shutil.which("docker-registry")
needs_real = needs(REAL, "docker-registry on PATH (Debian's package docker-registry), or its path in SYNTHO_TEST_REGISTRY")
PAGE = 3  # tags that a page holds


def image(words: str = "", platform: str = "amd64") -> tuple[bytes, bytes]:
    """A config and a manifest that names it, with bytes of their own by `words`."""
    config = json.dumps({"architecture": platform, "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}, "author": words}).encode()
    described = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(config), "size": len(config)}
    return config, json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": []}).encode()


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class TokenRegistry:
    """The registry API over a dictionary. It gives a token to the one user, and manifests to who brings it."""

    user, password = "puller", "pull-me-2718281828"

    def __init__(self, wants: str = "Bearer") -> None:
        self.wants, self.content, self.asked = wants, {}, list[str]()  # type: ignore[var-annotated]
        self.realm = ""
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def add(self, repository: str, *tags: str, platforms: tuple[str, ...] = ("amd64",)) -> None:
        """Have these tags of a repository, each an image of its own; of several platforms as an index."""
        found: dict[str, tuple[str, bytes]] = self.content.setdefault(repository, {})
        for tag in tags:
            made = []
            for platform in platforms:
                config, manifest = image(f"{repository}:{tag}", platform)
                found[digest(config)], found[digest(manifest)] = ("application/octet-stream", config), (MANIFEST, manifest)
                made.append({"mediaType": MANIFEST, "digest": digest(manifest), "size": len(manifest),
                             "platform": {"os": "linux", "architecture": platform}})  # fmt: skip
            index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": made}).encode()
            found[tag] = (MANIFEST, manifest) if len(platforms) == 1 else (INDEX, index)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *words: Any) -> None:
                pass

            def do_GET(self) -> None:
                registry.asked.append(self.path)
                url = urlsplit(self.path)
                sent = self.headers.get("Authorization", "")
                basic = f"Basic {base64.b64encode(f'{registry.user}:{registry.password}'.encode()).decode()}"
                if url.path == "/token":
                    scope = parse_qs(url.query)["scope"][0]
                    self._answer(200, {"token": f"for {scope}"}) if sent == basic else self._answer(401, _error("wrong password"))
                    return
                repository, kind, what = re.fullmatch(r"/v2/(.+)/(manifests|blobs|tags)/(.+)", url.path).groups()  # type: ignore[union-attr]
                scope = f"repository:{repository}:pull"
                if registry.wants and sent != (basic if registry.wants == "Basic" else f"Bearer for {scope}"):
                    realm = registry.realm or f"http://{registry.host}/token"
                    challenge = f'Bearer realm="{realm}",service="test",scope="{scope}"' if registry.wants == "Bearer" else 'Basic realm="test"'
                    self._answer(401, _error("who are you?"), {"WWW-Authenticate": challenge})
                elif repository not in registry.content:
                    self._answer(404, _error("unknown repository"))
                elif kind == "tags":
                    self._tags(repository, parse_qs(url.query))
                elif what not in registry.content[repository]:
                    self._answer(404, _error("unknown"))
                else:
                    media, body = registry.content[repository][what]
                    self._answer(200, body, {"Content-Type": media, "Docker-Content-Digest": digest(body)})

            def _tags(self, repository: str, query: dict[str, list[str]]) -> None:
                every = [tag for tag in registry.content[repository] if not tag.startswith("sha256:")]
                first = int(query.get("from", ["0"])[0])
                link = {"Link": f'</v2/{repository}/tags/list?from={first + PAGE}>; rel="next"'} if first + PAGE < len(every) else {}
                self._answer(200, {"name": repository, "tags": every[first : first + PAGE]}, link)

            def _answer(self, code: int, body: Any, headers: dict[str, str] | None = None) -> None:
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(code)
                for name, value in {"Content-Type": "application/json", **(headers or {}), "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

        return Handler


def _error(words: str) -> dict[str, Any]:
    return {"errors": [{"code": "TEST", "message": words}]}


class OddRegistry:
    """What answers each GET by a function of its path and its Authorization header: with a status, a body and headers."""

    def __init__(self, answer: Callable[[str, str], tuple[int, Any, dict[str, str]]]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *words: Any) -> None:
                pass

            def do_GET(self) -> None:
                code, body, headers = answer(self.path, self.headers.get("Authorization", ""))
                data = [body] if isinstance(body, bytes) else body if isinstance(body, Iterator) else [json.dumps(body).encode()]
                self.send_response(code)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                with contextlib.suppress(OSError):  # of who has heard enough
                    for part in data:
                        self.wfile.write(part)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class RealRegistry:
    """A running docker-registry with its data in a folder."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.host = f"127.0.0.1:{taken.getsockname()[1]}"
        config = folder / "config.yml"
        folder.mkdir(parents=True, exist_ok=True)
        config.write_text(
            f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {folder / 'data'}}}}}\n"
            f"http: {{addr: {self.host}}}\n"
        )
        assert REAL
        self._child = subprocess.Popen([REAL, "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with requests.Session() as session:
            session.mount("http://", HTTPAdapter(max_retries=Retry(connect=200, backoff_factor=0.05, backoff_max=0.2)))  # while it starts
            assert session.get(f"http://{self.host}/v2/", timeout=5).status_code == 200

    def push(self, repository: str, *tags: str, layers: tuple[bytes, ...] = ()) -> None:
        """Push an image under each tag."""
        for tag in tags:
            config, manifest = image(f"{repository}:{tag}")
            described = json.loads(manifest)
            for blob in (config, *layers):
                self._blob(repository, blob)
            described["layers"] = [
                {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest(blob), "size": len(blob)} for blob in layers
            ]
            self._put(f"/v2/{repository}/manifests/{tag}", json.dumps(described).encode(), MANIFEST)

    def _blob(self, repository: str, content: bytes) -> None:
        begun = requests.post(f"http://{self.host}/v2/{repository}/blobs/uploads/", timeout=10)
        place = begun.headers["Location"]
        url = place if place.startswith("http") else f"http://{self.host}{place}"
        done = requests.put(f"{url}&digest={digest(content)}", data=content, headers={"Content-Type": "application/octet-stream"}, timeout=10)
        assert done.status_code == 201, done.text

    def _put(self, path: str, content: bytes, media: str) -> None:
        done = requests.put(f"http://{self.host}{path}", data=content, headers={"Content-Type": media}, timeout=10)
        assert done.status_code == 201, done.text

    def close(self) -> None:
        self._child.terminate()
        self._child.wait(10)


@contextlib.contextmanager
def serving(registry: Any) -> Iterator[Any]:
    """A registry that is closed at the end."""
    try:
        yield registry
    finally:
        registry.close()
