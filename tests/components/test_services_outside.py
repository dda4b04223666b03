"""What doctor reads of the services outside, from the charts of each pin: the roles and the components say it in each one's own words."""

from __future__ import annotations

from typing import Any

from syntho_deploy.checks.context import Context
from syntho_deploy.doctor.outside import Service, outside
from tests.components.conftest import Pinned
from tests.components.test_components import BASE

ALL_OUTSIDE = [*BASE, "images", "ray/head-only", "postgres/external", "postgres/tls", "redis/external-tls", "tls/private-ca", "ingress/nginx"]
CA = "/etc/ssl/private-ca/ca.crt"


def read(pinned: Pinned) -> list[Service]:
    compiled = pinned.compile(ALL_OUTSIDE)
    return outside(Context(pinned.load("it"), compiled, pinned.helm, lambda chart: None))


def check(found: list[Service]) -> None:
    """Each service as the components' variables say."""

    def seen(one: Service) -> Any:
        return one.kind, one.application, one.host, one.port, one.name, one.user, one.mode, one.trust and one.trust.path, bool(one.password)

    postgres, redis = ("pg.example.com", "5433"), ("redis.example.com", "6380")
    assert [seen(one) for one in found] == [
        ("postgres", "core", *postgres, "c", "cu", "verify-ca", CA, True),
        ("postgres", "backend", *postgres, "b", "bu", "verify-ca", CA, True),
        ("redis", "core", *redis, "7", "", "verify-full", CA, True),
        ("redis", "backend", *redis, "8", "", "", None, False),
    ]


def test_services_outside_are_read_from_the_charts(pinned: Pinned) -> None:
    check(read(pinned))
