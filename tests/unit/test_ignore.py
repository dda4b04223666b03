"""overlays/ignore.yaml: what another controller set is put into a manifest, and taken out of a digest."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from syntho_deploy.cluster.ignore import Ignored, rules
from syntho_deploy.errors import InputError
from tests.conftest import write_files

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def shipped() -> Ignored:
    """The rules that come with the project; Deployment/web has an autoscaler."""
    return Ignored(rules(ROOT), {"web-scaler": ("Deployment", "web")})


def cluster(*groups: dict[str, Any], autoscaled: bool = True) -> dict[str, Any]:
    return {"kind": "RayCluster", "metadata": {"name": "r"}, "spec": {"enableInTreeAutoscaling": autoscaled, "workerGroupSpecs": list(groups)}}


def group(name: str, replicas: int, **more: Any) -> dict[str, Any]:
    return {"groupName": name, "replicas": replicas, "minReplicas": 1, "maxReplicas": 5, **more}


def deployment(name: str, replicas: int) -> dict[str, Any]:
    return {"kind": "Deployment", "metadata": {"name": name}, "spec": {"replicas": replicas}}


def numbers(item: dict[str, Any]) -> dict[str, int]:
    return {one["groupName"]: one["replicas"] for one in item["spec"]["workerGroupSpecs"]}


def test_live_numbers_go_to_the_groups_of_their_name(shipped: Ignored) -> None:
    live = cluster(group("b", 4), group("a", 2, scaleStrategy={"workersToDelete": ["x"]}), group("gone", 3))
    item = cluster(group("a", 1, env=[1]), group("b", 1), group("new", 1))
    before = copy.deepcopy(item)
    kept = shipped.kept(item, live)
    assert numbers(kept) == {"a": 2, "b": 4, "new": 1}
    assert kept["spec"]["workerGroupSpecs"][0]["env"] == [1]
    assert kept["spec"]["workerGroupSpecs"][0]["scaleStrategy"] == {"workersToDelete": ["x"]}
    assert item == before


@pytest.mark.parametrize(("live", "kept"), [(0, 1), (1, 1), (5, 5), (9, 5)])
def test_a_number_stays_within_the_bounds_of_the_manifest(shipped: Ignored, live: int, kept: int) -> None:
    assert numbers(shipped.kept(cluster(group("a", 2)), cluster(group("a", live, minReplicas=0, maxReplicas=99)))) == {"a": kept}


def test_without_the_condition_the_number_is_the_manifests(shipped: Ignored) -> None:
    assert numbers(shipped.kept(cluster(group("a", 1), autoscaled=False), cluster(group("a", 3)))) == {"a": 1}


def test_replicas_are_another_s_only_where_an_autoscaler_is(shipped: Ignored) -> None:
    assert shipped.kept(deployment("web", 1), deployment("web", 3)) == deployment("web", 3)
    assert shipped.kept(deployment("api", 1), deployment("api", 3)) == deployment("api", 1)
    assert shipped.kept(deployment("web", 1), None) == deployment("web", 1)


def test_two_states_that_differ_in_anothers_fields_only_are_one_without_them(shipped: Ignored) -> None:
    one, other = cluster(group("a", 1)), cluster(group("a", 3, scaleStrategy={"workersToDelete": []}))
    assert shipped.without(one, one) == shipped.without(other, one)
    assert shipped.without(cluster(group("a", 1, env=[1])), one) != shipped.without(one, one)


@pytest.mark.parametrize(
    ("field", "inside"), [(".spec.workerGroupSpecs", True), (".spec", True), (".spec.workerGroup", False), (".spec.headGroupSpec", False)]
)
def test_a_conflict_is_about_a_field_that_holds_anothers(shipped: Ignored, field: str, inside: bool) -> None:
    assert shipped.within(field, cluster(group("a", 1))) is inside


def test_a_project_without_the_file_has_no_rules(tmp_path: Path) -> None:
    assert rules(tmp_path) == ()


def test_all_faults_of_the_file_are_told_at_once_with_their_lines(tmp_path: Path) -> None:
    text = "- kind: A\n  paths: [a]\n- kind: B\n  path: [/a]\n"
    with pytest.raises(InputError) as error:
        rules(write_files(tmp_path, {"overlays/ignore.yaml": text}))
    said = str(error.value)
    assert 'ignore.yaml:2:11: the path "a" does not begin with a slash' in said
    assert 'ignore.yaml:4:3: this item has no key "path"; did you mean "paths"?' in said
