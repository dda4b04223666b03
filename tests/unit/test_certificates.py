"""A certificate is refused for what would make it useless, each in a sentence, and never for anything else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from syntho_deploy.environment import SecretSpec
from syntho_deploy.errors import Mark, PreflightError
from syntho_deploy.secrets import certificates

NOW = datetime.now(UTC)
HOST = "syntho.example.com"
PLAIN = NoEncryption()


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(key: ec.EllipticCurvePrivateKey, password: str = "") -> str:
    encryption = BestAvailableEncryption(password.encode()) if password else PLAIN
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()


class Authority:
    """A certificate authority of a test; `parent` issues its certificate, or itself."""

    def __init__(self, name: str = "Test CA", parent: Authority | None = None, days: int = 3650) -> None:
        self.name, self.key = _name(name), ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._signed(parent or self, self.name, self.key, None, days, 0)

    def issue(self, *hosts: str, days: int = 365, begins: int = 0, password: str = "") -> tuple[str, str]:
        """A certificate and its key. days, begins: when it ends and begins to be valid, from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        return self._signed(self, _name(hosts[0] if hosts else "nobody"), key, hosts, days, begins), _pem(key, password)

    @staticmethod
    def _signed(issuer: Authority, subject: x509.Name, key: ec.EllipticCurvePrivateKey, hosts: tuple[str, ...] | None, days: int, begins: int) -> str:
        start = min(NOW - timedelta(days=1), NOW + timedelta(days=days - 1)) if not begins else NOW + timedelta(days=begins)
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer.name).public_key(key.public_key())
        made = made.serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(NOW + timedelta(days=days))
        made = made.add_extension(x509.BasicConstraints(ca=hosts is None, path_length=None), critical=True)
        if hosts:
            made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False)
        return made.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


ROOT = Authority("Root")
MIDDLE = Authority("Middle", ROOT)
OTHER = Authority("Other")


def self_signed(*hosts: str) -> tuple[str, str]:
    """A certificate that is its own authority."""
    own = Authority(hosts[0])
    return own._signed(own, own.name, own.key, hosts, 365, 0), _pem(own.key)


def check(certificate: str, key: str, hosts: tuple[str, ...] = (HOST,), self_signed: bool = False) -> None:
    spec = SecretSpec("site", Mark("envs/it.yaml", 9), tls=("site.pem", "site.key"), self_signed=self_signed)
    certificates.check(spec, certificate, key, hosts)


def with_chain(*hosts: str, days: int = 365, begins: int = 0) -> tuple[str, str]:
    leaf, key = MIDDLE.issue(*hosts, days=days, begins=begins)
    return leaf + MIDDLE.certificate, key


GOOD: dict[str, Callable[[], tuple[str, str, tuple[str, ...]]]] = {
    "its chain, without the root": lambda: (*with_chain(HOST), (HOST,)),
    "the root too": lambda: (lambda c, k: (c + ROOT.certificate, k, (HOST,)))(*with_chain(HOST)),
    "a wildcard": lambda: (*with_chain("*.example.com"), (HOST,)),
    "several hosts": lambda: (*with_chain("a.example.org", HOST), (HOST, "a.example.org")),
    "in capitals": lambda: (*with_chain("SYNTHO.example.com"), (HOST,)),
    "words around it": lambda: (lambda c, k: ("subject: me\n" + c.replace("\n", "\r\n"), "Bag Attributes\n" + k, (HOST,)))(*with_chain(HOST)),
}


@pytest.mark.parametrize("case", GOOD)
def test_a_certificate_that_serves_is_taken(case: str) -> None:
    certificate, key, hosts = GOOD[case]()
    check(certificate, key, hosts)


BAD: dict[str, tuple[Callable[[], tuple[str, str]], str]] = {
    "another key": (lambda: (with_chain(HOST)[0], with_chain(HOST)[1]), "the key site.key is not that of the certificate site.pem"),
    "the issuer first": (
        lambda: (lambda leaf, key: (MIDDLE.certificate + leaf, key))(*MIDDLE.issue(HOST)),
        "does not begin with the certificate of the key",
    ),
    "the issuers the wrong way round": (
        lambda: (lambda leaf, key: (leaf + ROOT.certificate + MIDDLE.certificate, key))(*MIDDLE.issue(HOST)),
        "the chain in site.pem is in the wrong order: CN=syntho.example.com is followed by CN=Root, which did not issue it",
    ),
    "a chain of another": (
        lambda: (lambda leaf, key: (leaf + OTHER.certificate, key))(*MIDDLE.issue(HOST)),
        "the chain in site.pem is broken: CN=syntho.example.com is followed by CN=Other",
    ),
    "expired": (lambda: with_chain(HOST, days=-1), f"site.pem expired on {NOW - timedelta(days=1):%Y-%m-%d}"),
    "its issuer expired": (
        lambda: (lambda old: (lambda leaf, key: (leaf + old.certificate, key))(*old.issue(HOST)))(Authority("Old", ROOT, days=-1)),
        "site.pem (its issuer CN=Old) expired on",
    ),
    "not yet": (lambda: with_chain(HOST, begins=3), "is not valid before"),
    "another host": (lambda: with_chain("other.example.com"), f"site.pem does not cover {HOST}; its subject alternative names are other.example.com"),
    "a wildcard one label too short": (lambda: with_chain("*.com"), f"does not cover {HOST}"),
    "no alternative names": (lambda: with_chain(), "its subject alternative names are none"),
    "self-signed": (lambda: self_signed(HOST), "the certificate site.pem is self-signed"),
    "no certificate": (lambda: ("hello", with_chain(HOST)[1]), "site.pem: there is no certificate in PEM"),
    "half a certificate": (lambda: (with_chain(HOST)[0][:300], with_chain(HOST)[1]), "site.pem: there is no certificate in PEM"),
    "no key": (lambda: (with_chain(HOST)[0], "hello"), "site.key is no private key in PEM"),
    "an encrypted key": (lambda: MIDDLE.issue(HOST, password="secret"), "the key site.key is encrypted"),
    "the key beside it": (lambda: (lambda c, k: (c + k, k))(*with_chain(HOST)), "site.pem holds a private key beside the certificate"),
}


@pytest.mark.parametrize("case", BAD)
def test_each_fault_is_a_sentence_that_names_the_secret_and_its_line(case: str) -> None:
    make, words = BAD[case]
    certificate, key = make()
    with pytest.raises(PreflightError) as caught:
        check(certificate, key)
    assert words in str(caught.value)
    assert str(caught.value).startswith('envs/it.yaml:9: the secret "site": ')
    assert key.splitlines()[-2:][0] not in str(caught.value) or key == "hello"


def test_self_signed_is_taken_where_the_environment_says_so_and_only_that() -> None:
    certificate, key = self_signed(HOST)
    check(certificate, key, self_signed=True)
    with pytest.raises(PreflightError, match="does not cover"):
        check(certificate, key, ("other.example.com",), self_signed=True)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (with_chain(HOST), []),
        (with_chain(HOST, days=29), [f"it expires on {NOW + timedelta(days=29):%Y-%m-%d}"]),
        (with_chain(HOST, days=-2), [f"it expired on {NOW - timedelta(days=2):%Y-%m-%d}"]),
        (with_chain("other.example.com"), [f"it does not cover {HOST}; its subject alternative names are other.example.com"]),
        (MIDDLE.issue(HOST), ["it comes without a chain: only clients that know CN=Middle by themselves accept it"]),
        (self_signed(HOST), []),
        (
            (MIDDLE.issue(HOST)[0] + ROOT.certificate + MIDDLE.certificate, ""),
            [f"the chain in it is in the wrong order: CN={HOST} is followed by CN=Root, which did not issue it"],
        ),
        ((MIDDLE.issue(HOST)[0] + OTHER.certificate, ""), [f"the chain in it is broken: CN={HOST} is followed by CN=Other, which did not issue it"]),
    ],
)
def test_what_a_person_should_know_of_one_in_use(made: tuple[str, str], words: list[str]) -> None:
    assert certificates.notes(made[0], [HOST]) == words
