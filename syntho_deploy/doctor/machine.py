"""The machine that deploys."""

from __future__ import annotations

import os
from collections.abc import Iterator

from syntho_deploy.doctor.subject import Result, Subject
from syntho_deploy.redact import redact

PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")


def helm(subject: Subject) -> Iterator[Result]:
    """The helm that deploys is there."""
    found = subject.place.helm
    yield Result("helm", "ok", f"{found.version}, {found.path}")


def proxies(subject: Subject) -> Iterator[Result]:
    """The proxies that requests go through."""
    found = {name: value for name in PROXIES if (value := os.environ.get(name) or os.environ.get(name.lower()))}
    yield Result("proxies", "ok", redact(", ".join(f"{name}={value}" for name, value in found.items())) or "none are set")
