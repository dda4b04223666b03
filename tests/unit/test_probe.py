"""What a Postgres and a Redis are asked and how their answers are read, against real ones: each kind of failure in words of its own."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from syntho_deploy.doctor import probe
from tests.registries import serving
from tests.servers import Authority, Postgres, Redis, free_port, needs_postgres, needs_redis

PASSWORD = Postgres.PASSWORD


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with serving(Postgres()) as found:
        yield found


@pytest.fixture(scope="module")
def plain() -> Iterator[Postgres]:
    with serving(Postgres(tls=False)) as found:
        yield found


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    with serving(Redis("databases 4")) as found:
        yield found


@pytest.fixture(scope="module")
def locked() -> Iterator[Redis]:
    with serving(Redis("databases 4", "maxmemory 50mb", "maxmemory-policy allkeys-lru", password=Redis.PASSWORD)) as found:
        yield found


def question(service: str, port: int, **more: Any) -> dict[str, Any]:
    names = {"postgres": ("core", "core"), "redis": ("1", "")}[service]
    return {"service": service, "application": "core", "host": "localhost", "port": str(port), "name": names[0], "user": names[1], "mode": "",
            "system": True, "secret": "core.db.password", "unknown": "", **more}  # fmt: skip


def asked(service: str, port: int, password: str | None, **more: Any) -> tuple[str, str, str]:
    """The one line of an answer."""
    (line,) = probe.ask(question(service, port, **more), password).lines
    return line


@needs_postgres
@pytest.mark.parametrize("user", ["core", "old", "clear", "tls"])
def test_a_login_works_by_scram_md5_and_in_clear_over_tls(postgres: Postgres, user: str) -> None:
    state, what, todo = asked("postgres", postgres.port, PASSWORD, user=user, mode="require")
    assert (state, todo) == ("ok", "")
    assert "TLSv1.3" in what
    assert f'database "core" as "{user}"' in what


@needs_postgres
def test_nothing_is_written_and_no_password_is_in_an_answer(postgres: Postgres) -> None:
    assert PASSWORD not in str(probe.ask(question("postgres", postgres.port), PASSWORD))
    assert postgres.tables == 0


@needs_postgres
@pytest.mark.parametrize(
    ("more", "password", "words", "todo"),
    [
        ({}, "wrong", 'refuses the user "core" with the password of "core.db.password"', "ALTER ROLE"),
        ({"user": "nobody"}, PASSWORD, 'refuses the user "nobody"', ""),
        ({"name": "lost"}, PASSWORD, 'has no database "lost"', 'CREATE DATABASE "lost" OWNER "core"'),
        ({"name": "backend", "user": "hidden"}, PASSWORD, 'does not let "hidden" into the database "backend"', "GRANT CONNECT"),
        ({"user": "poor"}, PASSWORD, '"poor" may not create tables in the schema public of the database "core"', "GRANT CREATE"),
        ({"user": "blind", "name": "backend"}, PASSWORD, '"blind" may use no schema', "CREATE SCHEMA IF NOT EXISTS public"),
        ({"user": "reader"}, PASSWORD, "is read-only for this user", "primary"),
        ({"user": "tls", "mode": "disable"}, PASSWORD, 'does not let the user "tls" in', "postgres/tls"),
        ({"user": "clear", "mode": "disable"}, PASSWORD, "asks for the password in clear, without TLS: it was not sent", "postgres/tls"),
        ({"mode": "verify-full"}, PASSWORD, "is not trusted: unable to get local issuer certificate", "tls/private-ca"),
        ({"mode": "verify-full", "system": False}, PASSWORD, "PGSSLMODE=verify-full needs a CA, and PGSSLROOTCERT names none", "tls/private-ca"),
        ({"mode": "verify-full", "ca": "no PEM"}, PASSWORD, "holds no certificate", "PEM"),
        ({"host": "no-such-host.invalid", "variable": "P"}, PASSWORD, "no host no-such-host.invalid is known to DNS", "--in-cluster"),
    ],
)
def test_postgres_says_what_is_wrong(postgres: Postgres, more: dict[str, Any], password: str, words: str, todo: str) -> None:
    state, what, remedy = asked("postgres", postgres.port, password, **more)
    assert state == "error"
    assert words in what
    assert todo in remedy


def test_what_only_this_machine_does_not_reach_is_not_known() -> None:
    state, what, todo = asked("postgres", 5432, PASSWORD, host="no-such-host.invalid")
    assert (state, "is known to DNS" in what, "--in-cluster" in todo) == ("unknown", True, True)


@needs_postgres
def test_what_an_upgrade_will_stumble_on_is_told(postgres: Postgres) -> None:
    state, what, todo = asked("postgres", postgres.port, PASSWORD, user="restored", name="restored")
    words = '1 tables of the schema public of "restored" are another role\'s, and "restored" can change none of them'
    assert (state, words in what, "OWNER TO" in todo) == ("warning", True, True)
    state, what, _ = asked("postgres", postgres.port, PASSWORD, user="core", name="latin")
    assert (state, "is encoded in LATIN1" in what) == ("warning", True)


@needs_postgres
def test_a_certificate_is_verified_by_the_ca_and_the_name(postgres: Postgres, tmp_path: Path) -> None:
    ca = postgres.authority.pem
    assert asked("postgres", postgres.port, PASSWORD, mode="verify-full", ca=ca)[0] == "ok"
    assert asked("postgres", postgres.port, PASSWORD, mode="verify-full", ca_file=str(postgres.authority.ca))[0] == "ok"
    assert asked("postgres", postgres.port, PASSWORD, mode="verify-ca", host="127.0.0.2", ca=ca)[0] == "ok"
    assert "IP address mismatch" in asked("postgres", postgres.port, PASSWORD, mode="verify-full", host="127.0.0.2", ca=ca)[1]
    assert "is not trusted" in asked("postgres", postgres.port, PASSWORD, mode="verify-ca", ca=Authority(tmp_path).pem)[1]


@needs_postgres
def test_a_postgres_without_tls_is_refused_where_the_environment_asks_for_it_and_told_where_not(plain: Postgres) -> None:
    state, what, _ = asked("postgres", plain.port, PASSWORD, mode="require")
    assert (state, "refuses TLS, and PGSSLMODE=require asks for it" in what) == ("error", True)
    state, what, todo = asked("postgres", plain.port, PASSWORD)
    assert (state, "not encrypted" in what, "postgres/tls" in todo) == ("warning", True, True)
    assert asked("postgres", plain.port, PASSWORD, mode="disable")[0] == "ok"


@needs_postgres
def test_the_same_database_has_the_same_identity_by_any_name(postgres: Postgres, plain: Postgres) -> None:
    def identity(port: int, **more: Any) -> str:
        return probe.ask(question("postgres", port, **more), PASSWORD).identity

    core = identity(postgres.port)
    assert core
    assert core == identity(postgres.port, host="127.0.0.1", user="old")
    assert core != identity(postgres.port, name="backend", user="backend")
    assert core != identity(plain.port)


@needs_postgres
@needs_redis
def test_an_old_version_is_a_warning(postgres: Postgres, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "OLDEST_POSTGRES", 99)
    monkeypatch.setattr(probe, "OLDEST_REDIS", 99)
    for state, what, todo in (asked("postgres", postgres.port, PASSWORD), asked("redis", redis.port, "")):
        assert (state, "older than 99" in what, todo) == ("warning", True, "ask Syntho whether it is supported")


@needs_postgres
def test_without_a_password_only_the_way_is_asked(postgres: Postgres) -> None:
    state, what, _ = asked("postgres", postgres.port, None, unknown="the moon is full")
    assert (state, "no login was tried, since the moon is full" in what, "TLSv1.3" in what) == ("unknown", True, True)
    assert asked("postgres", postgres.port, None, mode="verify-full")[0] == "error"


@pytest.mark.parametrize("service", ["postgres", "redis"])
def test_a_closed_port_is_told(service: str) -> None:
    port = free_port()
    assert f"nothing listens at localhost:{port}" in asked(service, port, "x")[1]


@pytest.mark.parametrize("service", ["postgres", "redis"])
def test_silence_ends_after_the_timeout(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "TIMEOUT", 0.6)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert "does not answer within" in asked(service, server.getsockname()[1], "x")[1]


@needs_redis
def test_redis_is_asked_plain_and_by_tls_with_and_without_a_password(redis: Redis, locked: Redis) -> None:
    state, what, _ = asked("redis", redis.port, "")
    assert (state, "without TLS, database 1" in what) == ("ok", True)
    state, what, _ = asked("redis", redis.tls_port, "", mode="verify-full", ca=redis.authority.pem)
    assert (state, "TLSv1.3" in what) == ("ok", True)
    assert asked("redis", locked.port, Redis.PASSWORD, user="default")[0] == "warning"  # for its policy


@needs_redis
@pytest.mark.parametrize(
    ("which", "port", "password", "more", "state", "words"),
    [
        ("locked", "port", "wrong", {}, "error", 'refuses the password of "core.db.password"'),
        ("locked", "port", "", {}, "error", "wants a password, and the environment sends none"),
        ("redis", "port", "superfluous", {}, "error", "has no password, and the environment sends one"),
        ("redis", "port", "", {"name": "4"}, "error", "has no database 4: ERR DB index is out of range"),
        ("redis", "port", "", {"mode": "verify-full"}, "error", "does not begin TLS within"),
        ("redis", "tls_port", "", {}, "error", "closes the connection"),
        ("redis", "tls_port", "", {"mode": "verify-full"}, "error", "is not trusted"),
        ("locked", "port", Redis.PASSWORD, {}, "warning", "its maxmemory-policy is allkeys-lru"),
    ],
)
def test_redis_says_what_is_wrong(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    which: str,
    port: str,
    password: str,
    more: dict[str, Any],
    state: str,
    words: str,
) -> None:
    monkeypatch.setattr(probe, "TIMEOUT", 2.0)
    server = request.getfixturevalue(which)
    found, what, todo = asked("redis", getattr(server, port), password, **more)
    assert (found, words in what) == (state, True), what
    assert todo


@needs_redis
def test_a_user_of_redis_is_told_from_the_password_and_from_what_it_may() -> None:
    rules = ("user app on >apppw ~* +@all", "user reads on >readspw ~* +@read +@connection +info", "user default off")
    with serving(Redis("databases 4", *rules)) as redis:

        def told(user: str, password: str) -> tuple[str, str]:
            return asked("redis", redis.port, password, user=user)[:2]

        assert told("app", "apppw")[0] == "ok"
        assert 'refuses the user "app" with the password of "core.db.password"' in told("app", "readspw")[1]
        assert "refuses the password of" in told("", "apppw")[1]
        assert "does not let this user write: NOPERM" in told("reads", "readspw")[1]
        connection = probe._Redis(question("redis", redis.port))
        connection.call("AUTH", "app", "apppw")
        assert [connection.call("SELECT", "1"), connection.call("DBSIZE")] == ["OK", "0"]  # nothing was written


@needs_redis
def test_a_node_of_a_cluster_is_told() -> None:
    with serving(Redis(f"cluster-enabled yes\ncluster-port {free_port()}")) as redis:
        state, what, todo = asked("redis", redis.port, "", name="0")
    assert (state, "is a node of a Redis Cluster" in what, "without cluster mode" in todo) == ("error", True, True)


def odd(answers: list[bytes]) -> Callable[[socket.socket], None]:
    def speak(connection: socket.socket) -> None:
        for answer in answers:
            connection.recv(1000)
            connection.sendall(answer)
        connection.recv(1000)

    return speak


def error(code: str, words: str) -> bytes:
    body = b"".join(part.encode() + b"\0" for part in ("SFATAL", f"C{code}", f"M{words}")) + b"\0"
    return b"E" + struct.pack("!i", len(body) + 4) + body


ODD: dict[str, tuple[str, list[bytes], str]] = {
    "a web server for postgres": ("postgres", [b"HTTP/1.1 400 Bad Request\r\n\r\n"], "does not speak the protocol of postgres"),
    "a server that starts": ("postgres", [b"N", error("57P03", "the database system is starting up")], "takes no connection now: the database"),
    "a pooler": ("postgres", [b"N", error("08P01", "no such database: core")], "refuses the login (08P01): no such database: core"),
    "kerberos": ("postgres", [b"N", b"R" + struct.pack("!ii", 8, 7)], "a login that is no password"),
    "a length below nothing": ("postgres", [b"N", b"R" + struct.pack("!i", -5)], "does not speak the protocol"),
    "no salt": ("postgres", [b"N", b"R" + struct.pack("!ii", 23, 10) + b"SCRAM-SHA-256\0\0", b"R" + struct.pack("!ii", 13, 11) + b"r=abc"],
                "does not speak the protocol"),
    "a web server for redis": ("redis", [b"HTTP/1.1 400 Bad Request\r\n\r\n"], "does not speak the protocol of redis"),
    "a protected redis": ("redis", [b"-DENIED Redis is running in protected mode\r\n"], "answers the login with: DENIED Redis is running"),
    "a sentinel": ("redis", [b"+OK\r\n", b"+PONG\r\n", b"-ERR unknown command 'SELECT'\r\n"], "does not know SELECT"),
    "a full redis": ("redis", [b"+OK\r\n", b"+PONG\r\n", b"+OK\r\n", b"-OOM command not allowed\r\n"], "takes no writes now: OOM"),
    "more than there is": ("redis", [b"$99999999999\r\n"], "does not speak the protocol"),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_an_odd_answer_is_told_in_its_words(name: str) -> None:
    service, answers, words = ODD[name]
    with speaking(odd(answers)) as port:
        state, what, todo = asked(service, port, "p")
    assert (state, words in what) == ("error", True), what
    assert todo


@pytest.mark.parametrize("service", ["postgres", "redis"])
def test_a_byte_now_and_then_is_no_answer(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "TIMEOUT", 0.1)
    ended = threading.Event()

    def drips(connection: socket.socket) -> None:
        connection.recv(1000)
        if service == "postgres":
            connection.sendall(b"N")
        while not ended.wait(0.02):
            connection.sendall(b"N\0\0\0\4" if service == "postgres" else b"x")

    with speaking(drips) as port:
        state, what, _ = asked(service, port, "p")
        ended.set()
    assert (state, "does not answer within" in what) == ("error", True), what


@contextlib.contextmanager
def speaking(how: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port of a server that speaks so to who comes first."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError), server.accept()[0] as connection:
                how(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(5)


@needs_redis
def test_a_replica_is_an_error_and_each_number_a_database_of_its_own(redis: Redis) -> None:
    with serving(Redis(f"replicaof 127.0.0.1 {redis.port}")) as replica:
        assert "is a replica" in asked("redis", replica.port, "")[1]
    one, two = (probe.ask(question("redis", redis.port, name=name), "").identity for name in ("0", "1"))
    assert one.partition("/")[0] == two.partition("/")[0]
    assert one != two


@needs_postgres
@needs_redis
def test_as_a_job_runs_it_the_script_answers_by_lines_of_its_own(postgres: Postgres, locked: Redis) -> None:
    questions = [
        question("postgres", postgres.port, mode="verify-full", ca_file=str(postgres.authority.ca), variable="A", password=None, encoded=False),
        question("redis", locked.port, variable="B", password=None, encoded=True),
        question("postgres", postgres.port, variable="", password=None, encoded=False, unknown="there is none"),
    ]
    script = Path(probe.__file__).read_text()
    variables = {"A": PASSWORD, "B": "b%C3%B6se%2F4%3A%40%20%2541", "QUESTIONS": json.dumps(questions)}
    done = subprocess.run([sys.executable, "-I", "-B", "-c", script], env={**os.environ, **variables}, capture_output=True, text=True, check=True)
    said = [json.loads(line.removeprefix(probe.MARK)) for line in done.stdout.splitlines()]
    states = {one["number"]: one["lines"][0][0] for one in said}
    assert states == {0: "ok", 1: "warning", 2: "unknown"}
    assert not any(secret in done.stdout + done.stderr for secret in variables.values())


def test_the_script_is_python_of_old_images_and_stands_alone() -> None:
    text = Path(probe.__file__).read_text()
    tree = ast.parse(text, feature_version=(3, 8))
    imported = {name.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {str(node.module).split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= sys.stdlib_module_names
    assert len(text) < 100_000  # Linux takes 128 KiB in one argument
