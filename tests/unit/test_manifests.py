"""What layers do to the objects of a chart: no order between the one that patches an object and the one that deletes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from syntho_deploy import explain
from syntho_deploy.compile import Project
from syntho_deploy.errors import InputError, InputErrors
from syntho_deploy.helm import Helm
from tests.unit.test_compile import ENV, tiny

PATCH = "- target: {kind: Service, name: svc}\n  patch: [{op: add, path: /spec/x, value: 1}]\n"
MISFIT = "- target: {kind: Service, name: svc}\n  patch: [{op: remove, path: /spec/x}]\n"
ALL = "- target: {kind: Service}\n  patch: [{op: add, path: /spec/x, value: 1}]\n"
DELETE = "- target: {kind: Service, name: svc}\n  delete: true\n  why: there is another\n"
OTHER = "apiVersion: v1\nkind: Service\nmetadata: {name: svc}\nspec: {ours: true}\n"
MORE = OTHER.replace("svc", "more")


def project(folder: Path, *names: str, **components: str) -> Project:
    """An environment with these components, each a file of manifest patches (or, by `<name>_object`, an object); `own` is its own."""
    files = {}
    for name, text in components.items():
        name, _, is_object = name.partition("_")
        home = "overlays__dev" if name == "own" else f"overlays__components__{name}"
        files[f"{home}__one_objects__a_yaml" if is_object else f"{home}__one_manifests_yaml"] = text
    tiny(folder, envs__dev_yaml=f"{ENV}components: [{', '.join(names)}]\n", **files)
    return Project.load(folder, "dev")


def services(found: Project, helm: Helm) -> dict[str, Any]:
    return {item["metadata"]["name"]: item["spec"] for item in found.compile(helm).objects if item["kind"] == "Service"}


def refusal(found: Project, helm: Helm) -> str:
    with pytest.raises(InputError) as caught:
        found.compile(helm)
    assert not isinstance(caught.value, InputErrors)
    return str(caught.value)


@pytest.mark.parametrize("names", [("patch", "delete"), ("delete", "patch")])
def test_it_does_not_matter_whether_an_object_is_patched_or_deleted_first(tmp_path: Path, helm: Helm, names: tuple[str, str]) -> None:
    found = project(tmp_path, *names, patch=PATCH, delete=DELETE)
    assert services(found, helm) == {}
    errors, (note,) = explain.dead(found, helm)
    assert errors == []
    assert "components/patch/one.manifests.yaml:1:3: the patch of Service/svc has no effect: " in note
    assert note.endswith("components/delete/one.manifests.yaml:1:3 deletes it")


@pytest.mark.parametrize("names", [("patch", "delete"), ("delete", "patch")])
def test_a_patch_of_what_is_deleted_must_still_fit(tmp_path: Path, helm: Helm, names: tuple[str, str]) -> None:
    assert 'remove: there is no "/spec/x"' in refusal(project(tmp_path, *names, patch=MISFIT, delete=DELETE), helm)


@pytest.mark.parametrize("names", [("one", "two", "delete"), ("delete", "one", "two"), ("one", "delete", "two")])
def test_two_layers_still_clash_on_a_field_of_what_is_deleted(tmp_path: Path, helm: Helm, names: tuple[str, ...]) -> None:
    assert "this path was set by" in refusal(project(tmp_path, *names, one=PATCH, two=PATCH, delete=DELETE), helm)


# The components in their order, what they and the environment's own layer are, and the one error, with the line that it is at.
REFUSED: dict[str, tuple[tuple[str, ...], dict[str, str], str, str]] = {
    "a delete of nothing": (("gone",), {"gone": DELETE.replace("svc", "sv")}, "gone/one.manifests.yaml:1", 'did you mean "Service/svc"'),
    "a delete twice": (("first", "second"), {"first": DELETE, "second": DELETE}, "second/one.manifests.yaml:1", "first/one.manifests.yaml:1"),
    "a patch of its own by the environment": (("gone",), {"gone": DELETE, "own": PATCH}, "dev/one.manifests.yaml:1", "gone/one.manifests.yaml:1"),
    "a patch of a kind by the environment": (("gone",), {"gone": DELETE, "own": ALL}, "dev/one.manifests.yaml:1", "Service is deleted by"),
    "a patch after the delete in one file": (("both",), {"both": DELETE + PATCH}, "both/one.manifests.yaml:4", "both/one.manifests.yaml:1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_only_be_a_mistake_is_refused_with_both_lines(tmp_path: Path, helm: Helm, case: str) -> None:
    names, components, place, words = REFUSED[case]
    text = refusal(project(tmp_path, *names, **components), helm)
    assert text.partition(": ")[0].rpartition(":")[0].endswith(place)
    assert words in text


def test_a_patch_of_all_of_a_kind_has_an_effect_while_one_is_left(tmp_path: Path, helm: Helm) -> None:
    found = project(tmp_path, "gone", "more", "all", gone=DELETE, more_object=MORE, all=ALL)
    assert services(found, helm) == {"more": {"ours": True, "x": 1}}
    assert explain.dead(found, helm) == ([], [])


def test_an_object_may_take_the_place_of_a_deleted_one_and_gets_the_later_patches(tmp_path: Path, helm: Helm) -> None:
    found = project(tmp_path, "before", "gone", "ours", "after", before=PATCH, gone=DELETE, ours_object=OTHER, after=PATCH)
    assert services(found, helm) == {"svc": {"ours": True, "x": 1}}
    (field,) = explain.explain(found, helm, "Service/svc:/spec/x")
    assert [origin.layer for origin in field.origins if origin.in_force] == ["after"]
    _, (note,) = explain.dead(found, helm)
    assert "components/before/" in note


def test_the_environments_own_patch_of_what_it_deletes_is_an_error_of_plan_and_deploy(tmp_path: Path, helm: Helm) -> None:
    found = project(tmp_path, own=PATCH + DELETE)
    assert services(found, helm) == {}
    ((error,), notes) = explain.dead(found, helm)
    assert "the patch of Service/svc has no effect" in str(error)
    assert notes == []


def test_explain_tells_what_was_added_and_deleted_and_by_which_line(tmp_path: Path, helm: Helm) -> None:
    found = project(tmp_path, "patch", "gone", "more", patch=PATCH, gone=DELETE, more_object=MORE)
    told = [one for one in explain.explain(found, helm, "") if one.of.startswith("Service/")]
    assert [(one.of, one.path, one.value is None, one.origins[0].op, one.origins[0].layer, one.origins[0].why) for one in told] == [
        ("Service/more", "", False, "add", "more", ""),
        ("Service/svc", "", True, "delete", "gone", "there is another"),
    ]
    (field,) = explain.explain(found, helm, "Service/more:/spec/ours")
    assert [(origin.layer, origin.in_force) for origin in field.origins] == [("more", True)]
    with pytest.raises(InputError, match=r"Service/svc is deleted by .*components/gone/one\.manifests\.yaml:1"):
        explain.explain(found, helm, "Service/svc:/spec")
