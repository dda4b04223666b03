"""A Postgres and a Redis of the tests on this machine, where their programs are found: on PATH, or where Debian has them."""

from __future__ import annotations

import datetime
import ipaddress
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.programs import needs

_FOLDERS = os.pathsep.join([os.environ.get("PATH", ""), *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)])
INITDB, REDIS = shutil.which("initdb", path=_FOLDERS), shutil.which("redis-server", path=f"{_FOLDERS}{os.pathsep}/usr/sbin")
needs_postgres = needs(INITDB, "initdb on PATH or in /usr/lib/postgresql (Debian's package postgresql)")
needs_redis = needs(REDIS, "redis-server on PATH (Debian's package redis-server)")
START = 30.0  # seconds


class Authority:
    """A CA with one certificate for localhost and 127.0.0.1, as files of a folder."""

    def __init__(self, folder: Path) -> None:
        key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])
        self.pem = _pem(_signed(name, name, key, key, [x509.BasicConstraints(ca=True, path_length=None)]))
        self.ca, self.certificate, self.key = folder / "ca.crt", folder / "server.crt", folder / "server.key"
        own, subject = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        self.ca.write_text(self.pem)
        self.certificate.write_text(_pem(_signed(subject, name, own, key, [names])))
        private = serialization.PrivateFormat.PKCS8
        self.key.write_bytes(own.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption()))
        self.key.chmod(0o600)


def _signed(subject: x509.Name, issuer: x509.Name, key: Any, by: Any, extensions: list[x509.ExtensionType]) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key()).serial_number(x509.random_serial_number())
    made = made.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=1))
    for extension in extensions:
        made = made.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    return made.sign(by, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class _Server:
    """A program with a folder of its own, which goes with it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="syntho-test-"))  # not pytest's, which other users may not enter
        self.authority = Authority(self.folder)
        self.port = free_port()
        self.user = next((one.pw_name for one in pwd.getpwall() if one.pw_name in ("postgres", "nobody")), None) if os.getuid() == 0 else None
        self._child: subprocess.Popen[bytes] | None = None

    def own(self) -> None:
        """Give the folder to the user that the server runs as: Postgres refuses to be root."""
        if self.user:
            for path in [self.folder, *self.folder.rglob("*")]:
                shutil.chown(path, self.user)

    def start(self, *argv: str) -> None:
        with (self.folder / "log").open("wb") as log:
            self._child = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL, user=self.user, cwd=self.folder)

    def up(self, ready: Any, then: Any = lambda: None) -> None:
        """Wait until it is ready, and do what is next; whatever fails, no server is left running."""
        end = time.monotonic() + START
        try:
            while not ready():
                assert self._child
                assert self._child.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < end, (self.folder / "log").read_text()
                time.sleep(0.05)
            then()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._child:
            self._child.terminate()
            self._child.wait(20)
        shutil.rmtree(self.folder, ignore_errors=True)


class Postgres(_Server):
    """Postgres with the databases core and backend, each of a role of its name, whose password is `PASSWORD`; and roles that fail."""

    PASSWORD = "käse/4:@ %41"
    SQL = """
    CREATE ROLE core LOGIN PASSWORD '{0}'; CREATE DATABASE core OWNER core;
    CREATE ROLE backend LOGIN PASSWORD '{0}'; CREATE DATABASE backend OWNER backend;
    CREATE ROLE restored LOGIN PASSWORD '{0}';
    CREATE ROLE poor LOGIN PASSWORD '{0}'; CREATE ROLE blind LOGIN PASSWORD '{0}';
    CREATE ROLE hidden LOGIN PASSWORD '{0}'; CREATE ROLE tls LOGIN PASSWORD '{0}'; CREATE ROLE clear LOGIN PASSWORD '{0}';
    CREATE ROLE reader LOGIN PASSWORD '{0}'; ALTER ROLE reader SET default_transaction_read_only = on;
    SET password_encryption = 'md5'; CREATE ROLE old LOGIN PASSWORD '{0}';
    CREATE DATABASE restored OWNER restored;
    CREATE DATABASE latin OWNER core ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0;
    \\c restored
    CREATE TABLE old (a int); CREATE TABLE mine (a int); ALTER TABLE mine OWNER TO restored; GRANT CREATE ON SCHEMA public TO restored;
    \\c core
    REVOKE CREATE ON SCHEMA public FROM PUBLIC; GRANT CREATE ON SCHEMA public TO core, backend, old, clear, tls, reader;
    \\c backend
    REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT ALL ON SCHEMA public TO backend; REVOKE CONNECT ON DATABASE backend FROM hidden, PUBLIC;
    GRANT CONNECT ON DATABASE backend TO blind, backend;
    """
    HBA = """
    local all all trust
    hostssl all tls 127.0.0.0/8 scram-sha-256
    host all tls 127.0.0.0/8 reject
    host all old 127.0.0.0/8 md5
    host all clear 127.0.0.0/8 password
    host all all 127.0.0.0/8 scram-sha-256
    """

    def __init__(self, tls: bool = True) -> None:
        super().__init__()
        assert INITDB
        self.programs, data = Path(INITDB).resolve().parent, self.folder / "data"
        data.mkdir()
        self.own()
        self._run(INITDB, "-D", str(data), "-U", "admin", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8")
        (data / "pg_hba.conf").write_text("\n".join(line.strip() for line in self.HBA.splitlines()))
        settings = {
            "listen_addresses": "127.0.0.1,127.0.0.2", "port": self.port,
            "unix_socket_directories": self.folder, "fsync": "off", "max_connections": 20,
            "ssl": "on" if tls else "off", "ssl_cert_file": self.authority.certificate, "ssl_key_file": self.authority.key, "log_statement": "all",
        }  # fmt: skip
        with (data / "postgresql.conf").open("a") as file:
            file.writelines(f"{key} = '{value}'\n" for key, value in settings.items())
        self.own()
        self.start(str(self.programs / "postgres"), "-D", str(data))
        self.up(lambda: self._psql("SELECT 1", check=False) == 0, lambda: self._psql(self.SQL.format(self.PASSWORD)))
        self._made = (self.folder / "log").stat().st_size

    def _run(self, *argv: str) -> None:
        subprocess.run(argv, check=True, capture_output=True, user=self.user, cwd=self.folder)

    def _psql(self, sql: str, check: bool = True) -> int:
        argv = [str(self.programs / "psql"), "-qX", "-v", "ON_ERROR_STOP=1", "-h", str(self.folder), "-p", str(self.port), "-U", "admin", "postgres"]
        done = subprocess.run(argv, input=sql.encode(), capture_output=True, user=self.user, cwd=self.folder, check=False)
        assert not check or done.returncode == 0, done.stderr.decode()
        return done.returncode

    @property
    def tables(self) -> int:
        """How many statements that write it was sent from outside."""
        return sum(word in line for line in (self.folder / "log").read_text()[self._made :].splitlines() for word in ("CREATE TABLE", "INSERT"))


class Redis(_Server):
    """Redis with a plain and a TLS port. options: of redis.conf."""

    PASSWORD = "böse/4:@ %41"

    def __init__(self, *options: str, password: str = "") -> None:
        super().__init__()
        assert REDIS
        self.tls_port, self.password = free_port(), password
        config = [
            "bind 127.0.0.1", f"port {self.port}", f"tls-port {self.tls_port}", "save ''",
            "daemonize no", f"dir {self.folder}", "tls-auth-clients no",
            f"tls-cert-file {self.authority.certificate}", f"tls-key-file {self.authority.key}", f"tls-ca-cert-file {self.authority.ca}",
            *([f'requirepass "{password}"'] if password else []), *options,
        ]  # fmt: skip
        (self.folder / "redis.conf").write_text("\n".join(config))
        self.own()
        self.start(REDIS, str(self.folder / "redis.conf"))
        self.up(self._answers)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(b"PING\r\n")
                return bool(connection.recv(10))
        except OSError:
            return False
