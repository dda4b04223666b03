"""Certificates for an Ingress: whether a certificate, its chain and its key serve the hosts that use them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from syntho_deploy.environment import SecretSpec
from syntho_deploy.errors import PreflightError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

SOON = timedelta(days=30)


class Fault(Exception):
    """Why a certificate cannot serve, and what to do."""

    def __init__(self, what: str, todo: str = "") -> None:
        self.what, self.todo = what, todo
        super().__init__(what)


def check(spec: SecretSpec, certificate: str, key: str, hosts: Sequence[str], now: datetime | None = None) -> None:
    """Refuse a certificate (PEM, its chain behind it) and a key (PEM) that do not belong together or cannot serve the hosts.

    Raises `PreflightError` for the first of: no certificate or no key in the file, a key that is encrypted or another
    certificate's, a chain that is out of order or broken, self-signed where the environment does not say so, a host that no
    subject alternative name covers, expired or not valid yet. No error shows the key.
    """
    of_certificate, of_key = spec.tls or ("", "")
    try:
        _check_key(certificate, key, of_certificate, of_key)
        _check_chain(_chain(certificate), spec.self_signed, of_certificate)
        _check_hosts(_chain(certificate)[0], hosts, of_certificate)
        _check_time(_chain(certificate), now or datetime.now(UTC), of_certificate)
    except Fault as fault:
        raise PreflightError(f'the secret "{spec.name}": {fault.what}', spec.mark, fault.todo) from None


def notes(certificate: str, hosts: Sequence[str], now: datetime | None = None) -> list[str]:
    """What a person should know of a certificate that is in use: that it ends within 30 days, lacks a host or its chain."""
    now = now or datetime.now(UTC)
    try:
        chain = _chain(certificate)
        _check_hosts(chain[0], hosts, "it")
        _check_time(chain, now, "it")
    except Fault as fault:
        return [fault.what]
    try:
        _check_chain(chain, True, "it")
    except Fault as fault:
        return [fault.what]
    found = [f"it expires on {_day(end)}" for end in [min(one.not_valid_after_utc for one in chain)] if end - now < SOON]
    if len(chain) == 1 and chain[0].issuer != chain[0].subject:
        found.append(f"it comes without a chain: only clients that know {_name(chain[0], issuer=True)} by themselves accept it")
    return found


def fault(certificate: str, key: str, hosts: Sequence[str], now: datetime | None = None) -> str:
    """Why a certificate that is in use cannot serve these hosts, or "". Who signed it is not asked: that may be the site's own authority."""
    try:
        _check_key(certificate, key, "tls.crt", "tls.key")
        _check_hosts(_chain(certificate)[0], hosts, "it")
        _check_time(_chain(certificate), now or datetime.now(UTC), "it")
    except Fault as found:
        return found.what
    return ""


def ends(certificate: str) -> str:
    """The day on which the first of a chain expires, or "" for what is no certificate."""
    try:
        return _day(min(one.not_valid_after_utc for one in _chain(certificate)))
    except Fault:
        return ""


def _chain(text: str) -> list[Certificate]:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        raise Fault("there is no certificate in PEM", "openssl x509 -in FILE -noout -text shows what a file holds") from None


def _check_key(certificate: str, key: str, of_certificate: str, of_key: str) -> None:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    if "PRIVATE KEY-----" in certificate:
        raise Fault(f"{of_certificate} holds a private key beside the certificate", "keep the key in a file of its own")
    try:
        chain = _chain(certificate)
    except Fault as fault:
        raise Fault(f"{of_certificate}: {fault.what}", fault.todo) from None
    try:
        private = serialization.load_pem_private_key(key.encode(), None)
    except TypeError:
        raise Fault(f"the key {of_key} is encrypted", f"decrypt it first: openssl pkey -in {of_key} -out KEY") from None
    except (ValueError, UnsupportedAlgorithm):
        raise Fault(f"{of_key} is no private key in PEM") from None

    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    mine = private.public_key().public_bytes(*form)
    matching = [one.public_key().public_bytes(*form) == mine for one in chain]
    if not any(matching):
        raise Fault(f"the key {of_key} is not that of the certificate {of_certificate}", "give the key that the certificate was requested with")
    if not matching[0]:
        raise Fault(f"{of_certificate} does not begin with the certificate of the key", "order: the site's own, then each one's issuer")


def _check_chain(chain: list[Certificate], self_signed: bool, of: str) -> None:
    for one, issuer in pairwise(chain):
        if not _issued(one, issuer):
            elsewhere = any(_issued(one, other) for other in chain if other is not one)
            state = "in the wrong order" if elsewhere else "broken"
            what = f"the chain in {of} is {state}: {_name(one)} is followed by {_name(issuer)}, which did not issue it"
            raise Fault(what, "order: the site's own, then each one's issuer")
    if _issued(chain[0], chain[0]) and not self_signed:
        raise Fault(f"the certificate {of} is self-signed, which browsers refuse", "take one of an authority, or say self_signed: true beside it")


def _issued(one: Certificate, issuer: Certificate) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        one.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _check_hosts(leaf: Certificate, hosts: Sequence[str], of: str) -> None:
    from cryptography import x509

    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    except (x509.ExtensionNotFound, ValueError):
        names = []
    missing = [host for host in hosts if not any(_covers(name.lower(), host.lower()) for name in names)]
    if missing:
        what = f"{of} does not cover {', '.join(missing)}; its subject alternative names are {', '.join(names) or 'none'}"
        raise Fault(what, "have one made for the hosts of the Ingress")


def _covers(name: str, host: str) -> bool:
    """Does a name of a certificate cover a host? A wildcard stands for one label (RFC 6125)."""
    return name == host or (name.startswith("*.") and "." in host and host.partition(".")[2] == name[2:])


def _check_time(chain: list[Certificate], now: datetime, of: str) -> None:
    for one in chain:
        which = "" if one is chain[0] else f" (its issuer {_name(one)})"
        if one.not_valid_after_utc < now:
            raise Fault(f"{of}{which} expired on {_day(one.not_valid_after_utc)}", "renew it")
        if one.not_valid_before_utc > now:
            raise Fault(f"{of}{which} is not valid before {_day(one.not_valid_before_utc)}", "check the clock of this machine")


def _day(when: datetime) -> str:
    return f"{when:%Y-%m-%d}"


def _name(one: Certificate, issuer: bool = False) -> str:
    return (one.issuer if issuer else one.subject).rfc4514_string() or "(without a name)"
