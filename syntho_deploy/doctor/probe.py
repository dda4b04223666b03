"""How a Postgres and a Redis outside answer, by the standard library alone: `--in-cluster` runs this file, as it is, in a Job whose image
has a Python of its own and no package of ours (3.8 or later). So the same questions are asked from here and from there, in the same words.

Only what is needed of the protocols is here: https://www.postgresql.org/docs/current/protocol-flow.html with SCRAM-SHA-256 (RFC 7677),
MD5 and passwords in clear, the last over TLS only; https://redis.io/docs/latest/develop/reference/protocol-spec/ in its version 2.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import queue
import re
import secrets
import socket
import ssl
import struct
import threading
import time
import unicodedata
from typing import Any, NamedTuple
from urllib.parse import unquote

TIMEOUT = 5.0  # seconds, of each step
PATIENCE = 4  # times that, for all that one connection is asked
MARK = "syntho-doctor: "  # before each line for us, in a log that others may write to
LONGEST = 1 << 20  # bytes of one message: what is longer is of another protocol
OLDEST_POSTGRES = 14  # the major version that the charts bring themselves
OLDEST_REDIS = 6
TRIES = ("", "allow", "prefer")  # of libpq's modes: TLS where the server has it. "" is its default, prefer
SAFE_POLICY = "noeviction"


class Fault(Exception):
    """Why a service cannot be used. state: as of a result; what, todo: as of a result."""

    def __init__(self, what: str, todo: str = "", state: str = "error") -> None:
        super().__init__(what)
        self.what, self.todo, self.state = what, todo, state


class Answer(NamedTuple):
    """What a service answers. lines: state, what, todo; identity: what is the same for who comes to the same database, or ""."""

    lines: list[tuple[str, str, str]]
    identity: str = ""


def ask(question: dict[str, Any], password: str | None) -> Answer:
    """Ask one service. Raises nothing.

    question: `service` (postgres or redis), `application`, `host`, `port`, `name` of the database, `user`, `mode` (of TLS, in libpq's
    words), `ca` (PEM) or `ca_file`, `system` (do the machine's own CAs count without these?), `secret` (whose password it is, for
    people), `unknown` (why there is no password, or "").
    password: None where it is not known; "" where there is none.
    """
    where = f"{question['application']}: "
    asking = _postgres if question["service"] == "postgres" else _redis
    try:
        answer = asking(question, password)
        return Answer([(state, where + what, todo) for state, what, todo in answer.lines], answer.identity)
    except Fault as fault:
        return Answer([(fault.state, where + fault.what, fault.todo)])
    except socket.timeout:
        what = f"{_place(question)} takes the connection and does not answer within {TIMEOUT:.0f} s"
        return Answer([("error", where + what, "see that host and port are those of the service itself, and how busy it is")])
    except (OSError, ValueError, KeyError, IndexError, struct.error) as error:  # it answers, but not as such a server does
        what = f"what answers at {_place(question)} does not speak the protocol of {question['service']} ({type(error).__name__})"
        return Answer([("error", where + what, "see that host and port are those of the service itself")])


def _place(question: dict[str, Any]) -> str:
    return f"{question['host']}:{question['port']}"


def _host(question: dict[str, Any]) -> str:
    """The host as sockets take it: an address of IPv6 without the brackets that it has in a URL."""
    return str(question["host"]).strip("[]")


def _connect(question: dict[str, Any]) -> socket.socket:
    host, port = _host(question), int(question["port"])
    lost = "error" if "variable" in question else "unknown"  # from here: who deploys may be where the pods are not
    found: queue.Queue[Any] = queue.Queue()

    def resolve() -> None:  # which has no time-out of its own
        try:
            found.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            found.put(error)

    threading.Thread(target=resolve, daemon=True).start()
    try:
        places = found.get(timeout=TIMEOUT)
    except queue.Empty:
        raise Fault(f"DNS does not answer within {TIMEOUT:.0f} s for {host}", "see the name servers of where this is asked", lost) from None
    if isinstance(places, Exception):
        raise Fault(f"no host {host} is known to DNS", "correct the host; where only the cluster knows it: --in-cluster", lost) from None
    try:
        return socket.create_connection((host, port), TIMEOUT)
    except ConnectionRefusedError:
        raise Fault(f"nothing listens at {host}:{port}", "correct the port, or see that the server runs and listens on this address") from None
    except socket.timeout:
        todo = "have a firewall let it through; where only the cluster may: --in-cluster"
        raise Fault(f"{host}:{port} does not answer within {TIMEOUT:.0f} s", todo, lost) from None
    except OSError as error:
        raise Fault(
            f"{host}:{port} cannot be reached: {error.strerror or error}", "see routes and firewalls; --in-cluster asks there", lost
        ) from None


def _encrypted(question: dict[str, Any], plain: socket.socket, wanted: str) -> ssl.SSLSocket:
    """TLS over a connection. wanted: by what TLS was asked for, for people."""
    try:
        context = ssl.create_default_context(cafile=question.get("ca_file") or None, cadata=question.get("ca") or None)
    except (OSError, ssl.SSLError):
        raise Fault("the CA that the environment names holds no certificate", "a file of PEM certificates under the key that is named") from None
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # Python 3.13's own; the drivers take the CAs of many sites, which are older than that
    context.check_hostname = question["mode"] == "verify-full"
    context.verify_mode = ssl.CERT_REQUIRED if question["mode"].startswith("verify-") else ssl.CERT_NONE
    try:
        return context.wrap_socket(plain, server_hostname=_host(question))
    except ssl.SSLCertVerificationError as error:
        todo = "component tls/private-ca names a CA; the certificate must be for this host, and valid today"
        raise Fault(f"the certificate of {_place(question)} is not trusted: {error.verify_message}", todo) from None
    except socket.timeout:
        what = f"{_place(question)} does not begin TLS within {TIMEOUT:.0f} s, and {wanted} asks for it"
        raise Fault(what, "switch it on there, or correct the port") from None
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        raise Fault(
            f"{_place(question)} speaks no TLS that fits ({reason}), and {wanted} asks for it", "switch it on there, or correct the port"
        ) from None


class _Stream:
    """Bytes from a socket, as many as are asked for."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection, self._buffer = connection, b""
        self._end = time.monotonic() + PATIENCE * TIMEOUT

    def _more(self) -> None:
        if time.monotonic() > self._end:  # a byte now and then is no answer either
            raise socket.timeout
        got = self.connection.recv(65536)
        if not got:
            raise ConnectionResetError
        self._buffer += got

    def take(self, count: int) -> bytes:
        if not 0 <= count <= LONGEST:
            raise ValueError(count)
        while len(self._buffer) < count:
            self._more()
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def line(self) -> str:
        while b"\r\n" not in self._buffer:
            if len(self._buffer) > LONGEST:
                raise ValueError
            self._more()
        taken, _, self._buffer = self._buffer.partition(b"\r\n")
        return taken.decode("utf-8", "replace")


# Postgres


class _Refused(Exception):
    """An ErrorResponse. code: SQLSTATE; message: the server's words."""

    def __init__(self, body: bytes) -> None:
        fields = {part[:1]: part[1:].decode("utf-8", "replace") for part in body.split(b"\0") if part}
        self.code, self.message = fields.get(b"C", ""), fields.get(b"M", "")
        super().__init__(self.message)


class _Postgres:
    """One session."""

    def __init__(self, question: dict[str, Any]) -> None:
        mode = question["mode"]
        self.question, self.encryption = question, ""
        connection = _connect(question)
        if mode != "disable":
            connection.sendall(struct.pack("!ii", 8, 80877103))  # SSLRequest
            has_tls = connection.recv(1)
            if has_tls == b"S":
                wrapped = _encrypted(question, connection, f"PGSSLMODE={mode}" if mode else "the server")
                self.encryption, connection = wrapped.version() or "TLS", wrapped
            elif has_tls != b"N":
                raise ValueError
            elif mode not in TRIES:
                raise Fault(
                    f"{_place(question)} refuses TLS, and PGSSLMODE={mode} asks for it", "switch ssl on in the server, or leave out postgres/tls"
                )
        self._stream = _Stream(connection)

    def close(self) -> None:
        self._stream.connection.close()

    def _send(self, kind: bytes, body: bytes) -> None:
        self._stream.connection.sendall(kind + struct.pack("!i", len(body) + 4) + body)

    def _receive(self) -> tuple[bytes, bytes]:
        """The next message that is not a notice or a parameter."""
        while True:
            kind = self._stream.take(1)
            body = self._stream.take(struct.unpack("!i", self._stream.take(4))[0] - 4)
            if kind == b"E":
                raise _Refused(body)
            if kind not in b"NSK":
                return kind, body

    def login(self, password: str) -> None:
        question = self.question
        words = ["user", question["user"], "database", question["name"], "application_name", "syntho-deploy doctor", "client_encoding", "UTF8"]
        self._send(b"", struct.pack("!i", 3 << 16) + b"".join(str(word).encode() + b"\0" for word in words) + b"\0")
        scram: _Scram | None = None
        while True:
            kind, body = self._receive()
            if kind == b"Z":
                return
            if kind != b"R":
                raise ValueError
            (code,), data = struct.unpack("!i", body[:4]), body[4:]
            if code == 3 and not self.encryption:
                raise Fault(
                    "the server asks for the password in clear, without TLS: it was not sent", "component postgres/tls, or scram-sha-256 there"
                )
            if code == 3:
                self._send(b"p", password.encode("utf-8", "surrogateescape") + b"\0")
            elif code == 5:
                self._send(b"p", _md5(str(question["user"]), password, data) + b"\0")
            elif code == 10 and b"SCRAM-SHA-256" in data.split(b"\0"):
                scram = _Scram(password)
                self._send(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", len(scram.first)) + scram.first)
            elif code == 11 and scram:
                self._send(b"p", scram.final(data))
            elif code == 12 and scram:
                scram.check(data)
            elif code:
                raise Fault("the server asks for a login that is no password", "have pg_hba.conf ask for scram-sha-256 from here")

    def row(self, query: str) -> list[str]:
        """The one row of a query; "" for NULL."""
        self._send(b"Q", query.encode() + b"\0")
        found: list[str] = []
        refused: _Refused | None = None
        while True:
            try:
                kind, body = self._receive()
            except _Refused as error:  # what follows is ReadyForQuery
                refused = error
                continue
            if kind == b"Z" and refused:
                raise refused
            if kind == b"Z":
                return found
            if kind == b"D":
                at = 2
                for _ in range(struct.unpack("!h", body[:2])[0]):
                    length = struct.unpack("!i", body[at : at + 4])[0]
                    found.append(body[at + 4 : at + 4 + max(0, length)].decode("utf-8", "replace"))
                    at += 4 + max(0, length)


def _md5(user: str, password: str, salt: bytes) -> bytes:
    inner = hashlib.md5(password.encode("utf-8", "surrogateescape") + user.encode()).hexdigest()
    return b"md5" + hashlib.md5(inner.encode() + salt).hexdigest().encode()


class _Scram:
    """The client's side of SCRAM-SHA-256 without channel binding (RFC 5802, RFC 7677)."""

    def __init__(self, password: str) -> None:
        self._password = unicodedata.normalize("NFKC", password).encode("utf-8", "surrogateescape")
        self._nonce = secrets.token_urlsafe(18)
        self._bare = f"n=,r={self._nonce}"
        self.first, self._signature = f"n,,{self._bare}".encode(), b""

    def final(self, said: bytes) -> bytes:
        parts = dict(part.split("=", 1) for part in said.decode().split(","))
        if not parts["r"].startswith(self._nonce):
            raise ValueError
        salted = hashlib.pbkdf2_hmac("sha256", self._password, base64.b64decode(parts["s"]), min(int(parts["i"]), 1000000))
        key = _hmac(salted, b"Client Key")
        bare = f"c=biws,r={parts['r']}"
        signed = f"{self._bare},{said.decode()},{bare}".encode()
        self._signature = _hmac(_hmac(salted, b"Server Key"), signed)
        proof = bytes(a ^ b for a, b in zip(key, _hmac(hashlib.sha256(key).digest(), signed)))
        return f"{bare},p={base64.b64encode(proof).decode()}".encode()

    def check(self, said: bytes) -> None:
        if not hmac.compare_digest(base64.b64decode(said[2:]), self._signature):
            raise Fault("the server does not know the password itself: this is not the server it was set on", "see what answers there")


def _hmac(key: bytes, words: bytes) -> bytes:
    return hmac.new(key, words, hashlib.sha256).digest()


_STATE = """SELECT current_setting('server_version'), current_setting('server_version_num'), current_schema(),
has_schema_privilege(current_schema(), 'CREATE'), pg_is_in_recovery(), current_setting('default_transaction_read_only'),
(SELECT oid FROM pg_database WHERE datname = current_database()), current_setting('server_encoding'),
(SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p')
AND NOT pg_has_role(c.relowner, 'USAGE') AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e'))"""
_IDENTITY = "SELECT system_identifier FROM pg_control_system()"


def _postgres(question: dict[str, Any], password: str | None) -> Answer:
    if question["mode"].startswith("verify-") and not (question.get("ca") or question.get("ca_file") or question["system"]):
        what = f"PGSSLMODE={question['mode']} needs a CA, and PGSSLROOTCERT names none: the drivers look for ~/.postgresql/root.crt in the image"
        raise Fault(what, "component tls/private-ca, or PGSSLROOTCERT")
    session = _Postgres(question)
    place = f"{_place(question)}, {session.encryption or 'without TLS'}"
    try:
        if password is None:
            return Answer([("unknown", f"{place}: no login was tried, since {question['unknown']}", "")])
        try:
            session.login(password)
        except _Refused as error:
            raise _login_fault(question, error, bool(session.encryption)) from None
        version, number, schema, may_create, standby, read_only, oid, encoding, foreign = session.row(_STATE)
        try:
            (cluster,) = session.row(_IDENTITY)
        except (_Refused, ValueError):  # of some clouds; then the names alone tell two databases apart
            cluster = ""
    except _Refused as error:
        raise Fault(f"{place}: the server answers {error.code}: {error.message}", "ask who runs it") from None
    finally:
        session.close()
    user, name = question["user"], question["name"]
    what = f'Postgres {version} at {place}, database "{name}" as "{user}"'
    lines = []
    if not schema:
        todo = f'as its owner: CREATE SCHEMA IF NOT EXISTS public; GRANT USAGE, CREATE ON SCHEMA public TO "{user}"'
        lines.append(("error", f'"{user}" may use no schema of the database "{name}"', todo))
    elif may_create != "t":
        todo = f'as its owner: GRANT CREATE ON SCHEMA "{schema}" TO "{user}"'
        lines.append(("error", f'"{user}" may not create tables in the schema {schema} of the database "{name}"', todo))
    if foreign != "0":
        what_of = f'{foreign} tables of the schema {schema} of "{name}" are another role\'s, and "{user}" can change none of them'
        todo = f'as a superuser: ALTER TABLE … OWNER TO "{user}", or GRANT their owner TO "{user}"'
        lines.append(("warning", f"{what_of}: an upgrade that has to fails", todo))
    if encoding != "UTF8":
        lines.append(
            ("warning", f'the database "{name}" is encoded in {encoding}: not every text can be stored', "make it anew with ENCODING 'UTF8'")
        )
    if standby == "t" or read_only == "on":
        what_is = "a standby" if standby == "t" else "read-only for this user"
        lines.append(("error", f"{_place(question)} is {what_is}: nothing can be written", "name the primary"))
    if int(number) // 10000 < OLDEST_POSTGRES:
        lines.append(("warning", f"{what}: older than {OLDEST_POSTGRES}, which the charts bring", "ask Syntho whether it is supported"))
    if not session.encryption and question["mode"] != "disable":
        lines.append(("warning", f"{what}: what is sent and read is not encrypted", "switch ssl on in the server, then component postgres/tls"))
    return Answer(lines or [("ok", what, "")], f"{cluster}/{oid}" if cluster else "")


def _login_fault(question: dict[str, Any], error: _Refused, encrypted: bool) -> Fault:
    user, name, place, secret = question["user"], question["name"], _place(question), question["secret"]
    if error.code == "28P01":
        return Fault(
            f'{place} refuses the user "{user}" with the password of "{secret}"', f'correct the secret, or there: ALTER ROLE "{user}" PASSWORD …'
        )
    if error.code == "28000":
        todo = "add the role, or a line for it to pg_hba.conf" + ("" if encrypted else "; where only hostssl is there: component postgres/tls")
        return Fault(f'{place} does not let the user "{user}" in: {error.message}', todo)
    if error.code == "3D000":
        return Fault(f'{place} has no database "{name}"', f'there: CREATE DATABASE "{name}" OWNER "{user}"')
    if error.code == "42501":
        return Fault(f'{place} does not let "{user}" into the database "{name}": {error.message}', f'GRANT CONNECT ON DATABASE "{name}" TO "{user}"')
    if error.code in ("53300", "57P03"):
        return Fault(f"{place} takes no connection now: {error.message}", "see its max_connections, or wait until it has started")
    return Fault(f"{place} refuses the login ({error.code}): {error.message}", "ask who runs it")


# Redis


class _Redis:
    """One connection."""

    def __init__(self, question: dict[str, Any]) -> None:
        connection = _connect(question)
        self.encryption = ""
        if question["mode"]:
            wrapped = _encrypted(question, connection, "rediss://")
            self.encryption, connection = wrapped.version() or "TLS", wrapped
        self._stream = _Stream(connection)

    def close(self) -> None:
        self._stream.connection.close()

    def call(self, *words: str) -> str:
        """The reply to a command, a simple or a bulk one. One that is an error begins with "-"."""
        encoded = [word.encode("utf-8", "surrogateescape") for word in words]
        self._stream.connection.sendall(b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded))
        line = self._stream.line()
        if line[:1] in ("+", "-", ":"):
            return line if line[:1] == "-" else line[1:]
        if line[:1] != "$":
            raise ValueError
        return self._stream.take(int(line[1:]) + 2)[:-2].decode("utf-8", "replace") if line != "$-1" else ""


def _redis(question: dict[str, Any], password: str | None) -> Answer:
    connection = _Redis(question)
    place, number, secret = f"{_place(question)}, {connection.encryption or 'without TLS'}", str(question["name"]), question["secret"]
    try:
        if password is None:
            return Answer([("unknown", f"{place}: no login was tried, since {question['unknown']}", "")])
        if password:
            said = connection.call("AUTH", *([question["user"]] if question["user"] else []), password)
            if said.startswith("-") and "WRONGPASS" not in said and ("no password is set" in said or "without any password" in said):
                raise Fault(f"{place} has no password, and the environment sends one, which it refuses", "set requirepass there, or send none")
            if said.startswith(("-WRONGPASS", "-NOAUTH", "-ERR invalid password", "-ERR AUTH failed")):
                whose = f'the user "{question["user"]}" with ' if question["user"] else ""
                raise Fault(f'{place} refuses {whose}the password of "{secret}"', "correct the secret, or requirepass (or the ACL) of the server")
            if said.startswith("-"):
                raise Fault(f"{place} answers the login with: {said[1:]}", "ask who runs it")
        said = connection.call("PING")
        if said.startswith("-NOAUTH"):
            raise Fault(f"{place} wants a password, and the environment sends none", "component redis/external-tls has one, for the core only")
        if said.startswith("-") and "NOPERM" not in said:
            raise Fault(f"{place} answers PING with: {said[1:]}", "ask who runs it")
        said = connection.call("SELECT", number)
        if said.startswith("-") and "unknown command" in said:
            raise Fault(f"{place} does not know SELECT: {said[1:]}", "name the Redis itself, not a Sentinel or a proxy before it")
        if said.startswith("-") and "NOPERM" in said:
            raise Fault(f"{place} does not let this user select a database: {said[1:]}", "there: ACL SETUSER … +select")
        if said.startswith("-"):
            todo = "component redis/databases with numbers that it has; raise `databases` there. A Redis Cluster has number 0 only"
            raise Fault(f"{place} has no database {number}: {said[1:]}", todo)
        # NX and XX exclude each other: what would be written never is, and who may not write is told so first
        said = connection.call("SET", "syntho-doctor", "", "NX", "XX")
        if said.startswith("-NOPERM"):
            raise Fault(f"{place} does not let this user write: {said[1:]}", "there: ACL SETUSER … ~* &* +@all -@dangerous")
        if said.startswith(("-MOVED", "-CLUSTERDOWN")):
            what = f"{place} is a node of a Redis Cluster, whose redirections Celery does not follow: {said[1:]}"
            raise Fault(what, "name a Redis without cluster mode")
        if said.startswith(("-OOM", "-MISCONF", "-NOREPLICAS")):
            raise Fault(f"{place} takes no writes now: {said[1:]}", "see its memory, disk and replicas")
        known = {}
        for section in ("server", "memory", "replication"):  # one by one: Redis takes several at once from 7.0 on
            said = connection.call("INFO", section)
            known.update(dict(line.split(":", 1) for line in said.splitlines() if ":" in line and not said.startswith("-")))
    except ConnectionResetError:
        raise Fault(f"{place} closes the connection", "does it want TLS? component redis/external-tls has that, for the core only") from None
    except socket.timeout:
        raise Fault(
            f"{place} takes the connection and does not answer within {TIMEOUT:.0f} s", "does it want TLS? component redis/external-tls"
        ) from None
    finally:
        connection.close()
    version, policy, lines = known.get("redis_version", ""), known.get("maxmemory_policy", SAFE_POLICY), []
    what = f"Redis {version or 'of an unknown version'} at {place}, database {number}"
    if known.get("role") in ("slave", "replica"):
        lines.append(("error", f"{place} is a replica: nothing can be written", "name the primary"))
    if policy != SAFE_POLICY:
        todo = f"there: maxmemory-policy {SAFE_POLICY}"
        lines.append(("warning", f"{what}: its maxmemory-policy is {policy}, so a full memory drops tasks that wait", todo))
    if re.match(r"\d+\.", version) and int(version.split(".")[0]) < OLDEST_REDIS:
        lines.append(("warning", f"{what}: older than {OLDEST_REDIS}", "ask Syntho whether it is supported"))
    run = known.get("run_id", "")
    return Answer(lines or [("ok", what, "")], f"{run}/{number}" if run else "")


def main() -> None:
    """In the Job: ask what the variable QUESTIONS holds (JSON), each with the password in the variable that it names, and print a line for each."""
    questions = json.loads(os.environ["QUESTIONS"])

    def one(number: int, question: dict[str, Any]) -> None:
        password = os.environ.get(question["variable"]) if question["variable"] else question["password"]
        if password and question["encoded"]:
            password = unquote(password, errors="surrogateescape")
        answer = ask(question, password)
        print(MARK + json.dumps({"number": number, "lines": answer.lines, "identity": answer.identity}), flush=True)

    threads = [threading.Thread(target=one, args=pair) for pair in enumerate(questions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
