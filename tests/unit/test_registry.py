"""What a registry is asked and how its answers are read, against registries on this machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from syntho_deploy.errors import InputError, PreflightError
from syntho_deploy.registry import Found, Login, Reference, Registries, is_local, parse
from tests.registries import RealRegistry, TokenRegistry, digest, needs_real, serving

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
