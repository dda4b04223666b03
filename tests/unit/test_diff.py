"""What a difference shows of an object that was made elsewhere, where any text may be a secret."""

from __future__ import annotations

from typing import Any

import pytest

from syntho_deploy.diff import ABSENT, changes
from syntho_deploy.redact import MASK

SECRET = "old-secret"


def deployment(**container: Any) -> dict[str, Any]:
    return {"kind": "Deployment", "metadata": {"name": "x"}, "spec": {"template": {"spec": {"containers": [{"name": "c", **container}]}}}}


OLD: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a variable that goes": (
        deployment(env=[{"name": "A", "value": SECRET}, {"name": "B", "value": "x"}]),
        deployment(env=[{"name": "B", "value": "x"}]),
    ),
    "all variables go": (deployment(env=[{"name": "A", "value": SECRET}]), deployment()),
    "a variable that changes": (deployment(env=[{"name": "A", "value": SECRET}]), deployment(env=[{"name": "A", "value": "x"}])),
    "an argument": (deployment(args=["--password", SECRET]), deployment(args=["--password", "$(SECRET_A)"])),
    "a command": (deployment(command=["sh", "-c", f"login {SECRET}"]), deployment()),
    "a probe's command": (deployment(livenessProbe={"exec": {"command": ["ping", SECRET]}}), deployment()),
    "a probe's header": (deployment(livenessProbe={"httpGet": {"httpHeaders": [{"name": "A", "value": SECRET}]}}), deployment()),
    "a whole container": (deployment(env=[{"name": "A", "value": SECRET}]), {"kind": "Deployment", "metadata": {"name": "x"}, "spec": {}}),
    "an annotation": ({"metadata": {"annotations": {"a": SECRET}}}, {"metadata": {"annotations": {"a": "x"}}}),
    "a ConfigMap": ({"kind": "ConfigMap", "metadata": {}, "data": {"a": SECRET}}, {"kind": "ConfigMap", "metadata": {}, "data": {"a": "x"}}),
}


@pytest.mark.parametrize("case", OLD)
def test_what_may_be_a_secret_of_another_hand_is_masked(case: str) -> None:
    before, after = OLD[case]
    shown = changes(before, after, foreign=True)
    assert shown
    assert SECRET not in str(shown)
    assert MASK in str([change.before for change in shown])
    assert MASK not in str([change.after for change in shown])


def test_what_cannot_be_one_is_shown_also_of_another_hand() -> None:
    (image, pull) = changes(deployment(image="a:1"), deployment(image="a:2", imagePullPolicy="Always"), foreign=True)
    assert (image.before, image.after) == ("a:1", "a:2")
    assert (pull.before, pull.after) == (ABSENT, "Always")


def test_the_values_of_our_own_releases_are_shown_but_for_those_that_become_secrets() -> None:
    before = deployment(env=[{"name": "LEVEL", "value": "debug"}, {"name": "KEY", "value": SECRET}])
    level, key = changes(before, deployment(env=[{"name": "LEVEL", "value": "info"}, {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s"}}}]))
    assert (level.before, level.after) == ("debug", "info")
    assert key.before == {"value": MASK}


def test_the_content_of_a_secret_is_never_shown() -> None:
    one, other = ({"kind": "Secret", "metadata": {}, "data": {"a": value}} for value in ("b25l", "dHdv"))
    (change,) = changes(one, other)
    assert (change.before, change.after) == (MASK, MASK)


def listed(*items: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "RoleBinding", "metadata": {"name": "x"}, "subjects": list(items)}


def test_items_of_one_name_are_not_taken_for_one() -> None:
    a, b = {"kind": "User", "name": "a"}, {"kind": "User", "name": "b"}
    assert [(change.path, change.after) for change in changes(listed(a, b, b), listed(a))] == [("/subjects/1", ABSENT), ("/subjects/2", ABSENT)]
    assert [change.path for change in changes(listed(a), listed(a, b))] == ["/subjects/[name=b]"]


def test_another_order_is_a_change_and_told_once() -> None:
    a, b, c = ({"kind": "User", "name": name} for name in "abc")
    (change,) = changes(listed(a, b), listed(b, a))
    assert (change.path, change.before, change.after) == ("/subjects", ["a", "b"], ["b", "a"])
    assert [change.path for change in changes(listed(a, b), listed(a, c, b))] == ["/subjects/[name=c]"]


def test_an_object_that_somebody_begins_to_delete_between_two_looks_has_no_other_fields() -> None:
    going = {"metadata": {"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0}}
    assert changes({"metadata": {"name": "a"}}, going) == []
