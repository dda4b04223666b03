"""What a Secret in the cluster holds that must not be shown."""

from __future__ import annotations

import json

import pytest

from syntho_deploy.secrets import store


def test_every_registry_of_a_pull_secret_is_secret_though_one_has_no_password() -> None:
    config = {"auths": {"a.example.com": {"auth": "bWU6b25l"}, "b.example.com": {"username": "me", "password": "two", "auth": "bWU6dHdv"}}}
    assert store.passwords(json.dumps(config)) == {"bWU6b25l", "two", "bWU6dHdv"}


@pytest.mark.parametrize("config", ["", "no JSON", "[]", "{}", '{"auths": []}', '{"auths": {"a": "b"}}', '{"auths": null}'])
def test_what_is_no_pull_secret_holds_none(config: str) -> None:
    assert store.passwords(config) == set()
