"""What a registry is asked and how its answers are read, against registries on this machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from syntho_deploy.errors import InputError, PreflightError
from syntho_deploy.registry import Found, Login, Reference, Registries, RegistryError, is_local, parse
from tests.registries import MANIFEST, OddRegistry, RealRegistry, TokenRegistry, digest, image, needs_real, serving

DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def registry() -> Iterator[TokenRegistry]:
    with serving(TokenRegistry()) as found:
        yield found


def login(registry: TokenRegistry) -> Login:
    return lambda host: (registry.user, registry.password) if host == registry.host else None


def nobody(host: str) -> None:
    return None


NAMES = {
    "busybox": Reference("docker.io", "library/busybox"),
    "redis:7.2-rc2": Reference("docker.io", "library/redis", "7.2-rc2"),
    "a/b:1": Reference("docker.io", "a/b", "1"),
    "index.docker.io/a/b": Reference("docker.io", "a/b"),
    "syntho.azurecr.io/syntho-ray:1.9.7-cpu": Reference("syntho.azurecr.io", "syntho-ray", "1.9.7-cpu"),
    "localhost:5000/a/b/c": Reference("localhost:5000", "a/b/c"),
    f"r.example.com:443/a:1.0@{DIGEST}": Reference("r.example.com:443", "a", "1.0", DIGEST),
    f"r.example.com/a@{DIGEST}": Reference("r.example.com", "a", "", DIGEST),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_read_as_docker_reads_it(name: str) -> None:
    assert parse(name) == NAMES[name]


@pytest.mark.parametrize("name", ["", "A/b", "a:", "a:b c", "a@sha256:12", "r.example.com/", "https://r.example.com/a"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="no name of an image"):
        parse(name)


def test_only_this_machine_is_spoken_to_without_tls() -> None:
    assert all(map(is_local, ("localhost:5000", "127.0.0.1", "127.9.9.9:1", "[::1]:5000", "registry.localhost")))
    assert not any(map(is_local, ("10.0.0.1", "localhost.example.com", "registry.example.com:5000", "0.0.0.0")))


def test_all_pages_of_tags_are_read_with_a_token(registry: TokenRegistry) -> None:
    tags = [f"1.9.{number}" for number in range(10)]
    registry.add("a/b", *tags)
    assert Registries(login(registry)).tags(parse(f"{registry.host}/a/b")) == tags
    assert sum(path.startswith("/token") for path in registry.asked) == 1
    assert "scope=repository%3Aa%2Fb%3Apull" in next(path for path in registry.asked if path.startswith("/token"))


def test_a_password_alone_is_enough_where_the_registry_wants_basic() -> None:
    with serving(TokenRegistry("Basic")) as registry:
        registry.add("a", "1")
        assert Registries(login(registry)).tags(parse(f"{registry.host}/a")) == ["1"]


def test_a_public_registry_is_given_no_password() -> None:
    with serving(TokenRegistry("")) as registry:
        registry.add("a", "1")
        asked: list[str] = []
        assert Registries(lambda host: asked.append(host)).tags(parse(f"{registry.host}/a")) == ["1"]  # type: ignore[func-returns-value]
        assert asked == []


def test_netrc_does_not_take_the_place_of_the_token(registry: TokenRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login other password wrong\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    registry.add("a", "1")
    assert Registries(login(registry)).tags(parse(f"{registry.host}/a")) == ["1"]


def test_a_digest_is_that_of_the_bytes_and_platforms_come_from_the_index_or_the_config(registry: TokenRegistry) -> None:
    registry.add("a", "one")
    registry.add("a", "two", platforms=("amd64", "arm64"))
    found = Registries(login(registry))
    one, two = (found.look(parse(f"{registry.host}/a:{tag}")) for tag in ("one", "two"))
    assert one == Found(digest(registry.content["a"]["one"][1]), ("linux/amd64",))
    assert two == Found(digest(registry.content["a"]["two"][1]), ("linux/amd64", "linux/arm64"))
    assert found.digest(parse(f"{registry.host}/a@{one.digest}")) == one.digest  # type: ignore[union-attr]


def test_what_is_not_there_is_none_and_not_an_error(registry: TokenRegistry) -> None:
    registry.add("a", "1")
    found = Registries(login(registry))
    assert found.digest(parse(f"{registry.host}/a:2")) is None
    assert found.look(parse(f"{registry.host}/b:1")) is None
    assert found.tags(parse(f"{registry.host}/b")) is None


def test_other_bytes_than_the_digest_says_are_refused(registry: TokenRegistry) -> None:
    registry.add("a", "1")
    registry.content["a"][DIGEST] = registry.content["a"]["1"]
    with pytest.raises(PreflightError, match=DIGEST):
        Registries(login(registry)).digest(parse(f"{registry.host}/a@{DIGEST}"))


def test_a_wrong_password_is_a_sentence_without_it(registry: TokenRegistry) -> None:
    registry.add("a", "1")
    with pytest.raises(PreflightError) as caught:
        Registries(lambda host: ("me", "not-the-password")).tags(parse(f"{registry.host}/a"))
    assert "gives no token to the user me: 401, wrong password" in str(caught.value)
    assert "not-the-password" not in str(caught.value)
    with pytest.raises(PreflightError, match="gives no token to nobody"):
        Registries(nobody).tags(parse(f"{registry.host}/a"))


def test_a_password_is_not_sent_without_tls_to_another_machine(registry: TokenRegistry) -> None:
    registry.realm = "http://tokens.example.com/token"
    with pytest.raises(PreflightError, match="without TLS"):
        Registries(login(registry)).tags(parse(f"{registry.host}/a"))


def test_a_registry_that_does_not_answer_is_a_sentence() -> None:
    with serving(TokenRegistry()) as gone:
        pass
    with pytest.raises(PreflightError, match=f"{gone.host} cannot be reached"):
        Registries(nobody).tags(parse(f"{gone.host}/a"))


CONFIG, IMAGE = image()
TOKEN = "token-1414213562"
INNER: dict[str, Any] = {"manifests": [{"mediaType": MANIFEST, "digest": digest(IMAGE)}]}  # an index may leave the platform out


def contents(path: str, index: Any = None) -> tuple[int, Any, dict[str, str]]:
    """An image, or an index before it."""
    found = {f"blobs/{digest(CONFIG)}": CONFIG, f"manifests/{digest(IMAGE)}": IMAGE, "manifests/1": IMAGE if index is None else index}
    return 200, found["/".join(path.split("/")[-2:])], {}


@pytest.mark.parametrize("key", ["token", "access_token"])
@pytest.mark.parametrize(
    "challenge",
    [
        'Bearer realm="http://HOST/token",service="s",scope="repository:a:pull"',
        "bearer realm=http://HOST/token, service=s",
        'Bearer realm="http://HOST/token",service="s", Basic realm="Nexus"',
        'Basic realm="a, \\"b\\"", Bearer service="s",realm="http://HOST/token",error="insufficient_scope"',
        'Negotiate, Bearer realm="http://HOST/token"',
    ],
)
def test_a_token_is_got_by_any_way_to_ask_for_one(challenge: str, key: str) -> None:
    def answer(path: str, authorization: str) -> tuple[int, Any, dict[str, str]]:
        if path.startswith("/token"):
            return 200, {key: TOKEN}, {}
        if authorization == f"Bearer {TOKEN}":
            return contents(path)
        return 401, b"", {"WWW-Authenticate": challenge.replace("HOST", server.host)}

    with serving(OddRegistry(answer)) as server:
        found = Registries(lambda host: ("u", "p")).look(parse(f"{server.host}/a:1"))
    assert found == Found(digest(IMAGE), ("linux/amd64",))


def test_an_index_without_platforms_is_looked_into() -> None:
    with serving(OddRegistry(lambda path, _: contents(path, INNER))) as server:
        found = Registries(nobody).look(parse(f"{server.host}/a:1"))
    assert found
    assert found.platforms == ("linux/amd64",)


def endless() -> Iterator[bytes]:
    while True:
        yield b" " * (1 << 20)


BEARER = {"WWW-Authenticate": 'Bearer realm="http://HOST/token"'}
ODD: dict[str, tuple[str, str, Any]] = {
    "a page": ("answer", "does not answer as a registry does", lambda path: (200, b"<html>log in</html>", {})),
    "an empty object": ("answer", "is no manifest of an image", lambda path: (200, {}, {})),
    "a list": ("answer", "does not answer as a registry does", lambda path: (200, [], {})),
    "no list of manifests": ("answer", "is no manifest", lambda path: (200, {"manifests": None}, {})),
    "no objects in it": ("answer", "is no manifest", lambda path: (200, {"manifests": ["x"]}, {})),
    "a config that is none": ("answer", "is no manifest", lambda path: (200, {"config": "x"}, {})),
    "a config that is not there": ("answer", "without its configuration", lambda path: contents(path) if "manifests" in path else (404, b"", {})),
    "a config elsewhere": ("answer", "without its configuration", lambda path: (200, {"config": {"digest": "../../x"}}, {})),
    "the first format": ("answer", "no kubelet takes", lambda path: (200, {"schemaVersion": 1, "fsLayers": []}, {})),
    "no challenge": ("answer", "an authorization that is not known here: none named", lambda path: (401, b"", {})),
    "another challenge": ("answer", "not known here: negotiate", lambda path: (401, b"", {"WWW-Authenticate": "Negotiate"})),
    "no token": ("answer", "without a token", lambda path: (200, {"token": None}, {}) if "token" in path else (401, b"", BEARER)),
    "a token's page": ("answer", "does not answer as", lambda path: (200, b"<html>", {}) if "token" in path else (401, b"", BEARER)),
    "a limit": ("busy", "answers 429 now", lambda path: (429, {"errors": [{"message": "too many"}]}, {"Retry-After": "60"})),
    "a limit of tokens": ("busy", "answers 429 now", lambda path: (429, b"", {}) if "token" in path else (401, b"", BEARER)),
    "no service": ("busy", "answers 503 now", lambda path: (503, b"", {})),
    "a circle": ("unreachable", "TooManyRedirects", lambda path: (302, b"", {"Location": path})),
    "an address that is none": ("answer", "an address that is none", lambda path: (302, b"", {"Location": "http://[::x/"})),
    "no end": ("answer", "more than 4 MiB", lambda path: (200, endless(), {})),
    "half of it": ("unreachable", "breaks off", lambda path: (200, b"{", {"Content-Length": "10"})),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_answer_is_a_sentence_of_its_kind(name: str) -> None:
    kind, words, answer = ODD[name]

    def told(path: str, _: str) -> tuple[int, Any, dict[str, str]]:
        code, body, headers = answer(path)
        return code, body, {key: value.replace("HOST", server.host) for key, value in headers.items()}

    with serving(OddRegistry(told)) as server, pytest.raises(RegistryError) as caught:
        Registries(lambda host: ("u", "p"), (2.0, 2.0)).look(parse(f"{server.host}/a:1"))
    assert (caught.value.kind, words in caught.value.what) == (kind, True), caught.value
    assert caught.value.todo


def test_an_answer_that_does_not_come_to_an_end_is_not_waited_for() -> None:
    gone = threading.Event()

    def slowly() -> Iterator[bytes]:
        while not gone.wait(0.05):
            yield b" "

    with serving(OddRegistry(lambda path, _: (200, slowly(), {}))) as server:
        with pytest.raises(RegistryError, match="does not come to an end"):
            Registries(nobody, (1.0, 0.2)).look(parse(f"{server.host}/a:1"))
        gone.set()


def test_the_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Proxy(BaseHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            pass

        def do_CONNECT(self) -> None:
            asked.append(self.path)
            self.send_error(502)

    server = HTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("NO_PROXY", "")
    with pytest.raises(PreflightError, match="through the proxy"):
        Registries(nobody).tags(parse("registry.example.com/a"))
    server.shutdown()
    server.server_close()
    assert asked == ["registry.example.com:443"]


@needs_real
def test_debians_registry_is_read_too(tmp_path: Path) -> None:
    with serving(RealRegistry(tmp_path)) as registry:
        registry.push("syntho/core", "1.9.7", "1.9.8")
        found = Registries(nobody)
        assert sorted(found.tags(parse(f"{registry.host}/syntho/core")) or []) == ["1.9.7", "1.9.8"]
        look = found.look(parse(f"{registry.host}/syntho/core:1.9.8"))
        assert look
        assert look.platforms == ("linux/amd64",)
        assert found.digest(parse(f"{registry.host}/syntho/core:2")) is None
        assert found.tags(parse(f"{registry.host}/other")) is None
