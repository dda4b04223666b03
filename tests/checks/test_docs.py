"""The rules are told apart by name, each with its reason, and docs/lint.md has all of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from syntho_deploy import documents
from syntho_deploy.checks import context, rules

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_has_the_table_of_the_rules() -> None:
    text = (ROOT / "docs" / "lint.md").read_text(encoding="utf-8")
    assert rules.page(text) == text, "python -m syntho_deploy.checks.rules writes it"


def test_the_severities_are_those_of_the_rules() -> None:
    found = documents.load(rules.FILE).data
    assert set(found) == set(rules.rules())
    assert {level for levels in found.values() for level in levels.values()} <= set(rules.SEVERITIES)
    assert {tuple(sorted(levels)) for levels in found.values()} == {("other", "protected")}


@pytest.mark.parametrize("rule", rules.rules().values(), ids=lambda rule: str(rule.name))
def test_a_rule_says_what_it_forbids_and_why(rule: rules.Rule) -> None:
    assert len(rule.why) > 60
    assert rule.why.endswith((".", ")"))
    assert not re.search(r"section \d|/tmp|/work", rule.why)


def test_the_storage_classes_of_a_local_cluster_are_those_that_it_is_made_with() -> None:
    made = documents.load_manifests((ROOT / "tools/kwok/objects.yaml").read_text(encoding="utf-8"))
    kind = documents.load_manifests((ROOT / "tools/kwok/kind-objects.yaml").read_text(encoding="utf-8"))
    for objects in (made, kind):
        assert tuple(item["metadata"]["name"] for item in objects if item["kind"] == "StorageClass") == context.LOCAL_CLASSES
