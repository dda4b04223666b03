"""A plan as people read it: one line for a field, whatever its value is; whom a forced one takes it from."""

from __future__ import annotations

import pytest

from syntho_deploy import plan as planning
from syntho_deploy import redact
from syntho_deploy.cluster.predict import Conflict
from syntho_deploy.diff import Change
from syntho_deploy.plan import ObjectPlan, Plan


@pytest.mark.parametrize(
    ("value", "text"), [("a\n+ Secret/x", '"a\\n+ Secret/x"'), ("", '""'), ("a b", "a b"), (7, "7"), ({"a": None}, '{"a":null}')]
)
def test_a_value_is_one_line(value: object, text: str) -> None:
    assert planning.shown(value) == text


@pytest.mark.parametrize(("forced", "words"), [(False, "owned by kubectl-edit"), (True, "taken from kubectl-edit")])
def test_a_field_of_another_is_told_with_its_owner(forced: bool, words: str) -> None:
    action = planning.UPDATE if forced else planning.CONFLICT
    item = ObjectPlan(action, "ui", "Deployment", "core", (Change("/spec/replicas", 3, 1),), conflicts=(Conflict(".spec.replicas", "kubectl-edit"),))
    assert f"    .spec.replicas: {words}" in planning.text(Plan("here", "", {}, [item], forced=forced)).splitlines()


def test_a_plan_as_json_has_no_known_secret_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "_forms", set())
    monkeypatch.setattr(redact, "_ordered", [])
    redact.register("8080-canary", "8080")
    changes = (Change("/data/a", {"x": ["u:8080-canary@h"]}, 8080),)
    plan = Plan("here", "", {}, [ObjectPlan(planning.UPDATE, "ui", "ConfigMap", "a", changes, "near 8080-canary")], before_upgrade=(("a", "b"),))
    (found,) = planning.as_json(plan)["objects"]
    assert "canary" not in str(found)
    assert (found["changes"][0]["before"], found["changes"][0]["after"]) == ({"x": ["u:***@h"]}, 8080)
