"""Where a value comes from, and which operations have no effect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonpatch
import pytest
import yaml

from syntho_deploy import documents, explain
from syntho_deploy.compile import Project
from syntho_deploy.diff import ABSENT, Change
from syntho_deploy.errors import InputError
from syntho_deploy.helm import Helm
from syntho_deploy.plan import ObjectPlan, Plan, add_origins


def _overlay(project: Path, operations: list[dict[str, Any]], file: str = "syntho-ui.values.yaml") -> None:
    path = project / "overlays" / "local" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(operations, sort_keys=False))


def _one(project: Path, helm: Helm, path: str) -> explain.Explained:
    (found,) = explain.explain(Project.load(project, "local"), helm, path)
    return found


def test_a_value_knows_its_operation_its_default_and_its_fields(project: Path, helm: Helm) -> None:
    _overlay(project, [{"op": "replace", "path": "/core/image/tag", "value": "2.0.0", "why": "release 2"}])
    found = _one(project, helm, "/core/image/tag")
    assert (found.of, found.value, found.default) == ("syntho-ui", "2.0.0", "latest")
    (origin,) = found.origins
    assert origin.at.endswith("overlays/local/syntho-ui.values.yaml:1:3")
    assert (origin.layer, origin.op, origin.why, origin.in_force) == ("local", "replace", "release 2", True)
    assert "Deployment/core:/spec/template/spec/containers/[name=core]/image" in found.reaches
    assert "Deployment/core-worker:/spec/template/spec/containers/[name=core-worker]/image" in found.reaches


def test_a_shadowed_operation_is_told(project: Path, helm: Helm) -> None:
    _overlay(project, [{"op": "replace", "path": "/backend/user/email", "value": "me@example.com", "overrides": True}])
    found = _one(project, helm, "/backend/user/email")
    assert [origin.in_force for origin in found.origins] == [False, True]
    assert "components/admin/" in found.origins[0].at


def test_an_operation_above_a_value_is_its_origin(project: Path, helm: Helm) -> None:
    found = _one(project, helm, "ray:/head/resources/limits/memory")
    assert [origin.layer for origin in found.origins] == ["ray/head-only"]


def test_a_value_that_nothing_set_is_the_charts(project: Path, helm: Helm) -> None:
    found = _one(project, helm, "/core/port")
    assert found.origins == ()
    assert "chart default" in explain.text([found])


def test_the_origin_of_an_item_moves_with_it(project: Path, helm: Helm) -> None:
    name = {"name": "A", "value": "1"}
    _overlay(
        project,
        [
            {"op": "add", "path": "/head/containerEnv/-", "value": name},
            {"op": "add", "path": "/head/containerEnv/0", "value": {"name": "B", "value": "2"}},
        ],
        "ray.values.yaml",
    )
    text = (project / "overlays/local/ray.values.yaml").read_text()
    (project / "overlays/local/ray.values.yaml").write_text(
        "- {op: test, path: /head/containerEnv/0/name, value: RAY_SCHEDULER_SPREAD_THRESHOLD}\n" + text
    )
    found = _one(project, helm, "/head/containerEnv/[name=A]/value")
    assert [origin.at.rpartition(":")[0].rpartition(":")[2] for origin in found.origins] == ["2"]


def test_a_field_knows_the_values_that_reach_it_and_the_patch_that_hides_them(project: Path, helm: Helm) -> None:
    patch = [{"op": "replace", "path": "/spec/replicas", "value": 2}]
    before = _one(project, helm, "Deployment/core:/spec/replicas")
    assert (before.value, before.origins, before.reaches) == (1, (), ("syntho-ui:/core/replicaCount (chart default)",))
    _overlay(project, [{"target": {"kind": "Deployment", "name": "core"}, "patch": patch}], "syntho-ui.manifests.yaml")
    found = _one(project, helm, "Deployment/core:/spec/replicas")
    assert found.value == 2
    assert [origin.layer for origin in found.origins] == ["local"]
    assert found.reaches == ()


def test_a_field_behind_a_secret_of_the_chart_knows_its_values(project: Path, helm: Helm) -> None:
    found = _one(project, helm, "Deployment/core:/spec/template/spec/containers/[name=core]/env/[name=DATABASE_URL]")
    assert "syntho-ui:/core/db/host (chart default)" in found.reaches
    assert "syntho-ui:/core/db/password" in found.reaches


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/core/imag", "the nearest path is /core/image"),
        ("Deployment/cor:/spec", 'did you mean "Deployment/core"?'),
        ("Deployment/core:/spec/replica", "the nearest path is /spec/replicas"),
        ("rai:/head", 'did you mean "ray"?'),
    ],
)
def test_what_is_not_there_is_answered_with_the_nearest(project: Path, helm: Helm, path: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        explain.explain(Project.load(project, "local"), helm, path)
    assert words in str(caught.value)


def test_without_a_path_all_changes_are_listed_and_no_secret(project: Path, helm: Helm) -> None:
    loaded = Project.load(project, "local")
    found = explain.explain(loaded, helm, "")
    assert {one.path for one in found if one.of == "syntho-ui"} >= {"/core/secret_key", "/frontend_url", "/core/ray_address"}
    assert any(one.of == "StatefulSet/redis" for one in found)
    assert {str(one.value) for one in found if one.path == "/core/secret_key"} == {"${secret:core.secret_key}"}
    assert all(one.origins for one in found)


def test_an_own_operation_without_effect_is_an_error_and_a_shared_one_a_note(project: Path, helm: Helm) -> None:
    _overlay(project, [{"op": "replace", "path": "/backend/secret_key", "value": "x"}, {"op": "replace", "path": "/core/port", "value": 8080}])
    (project / "overlays/components/keys/syntho-ui.values.yaml").open("a").write("- {op: replace, path: /podAnnotations, value: {a: b}}\n")
    errors, notes = explain.dead(Project.load(project, "local"), helm)
    assert [str(error).partition("\n")[0].partition(": ")[2] for error in errors] == [
        "replace /backend/secret_key has no effect: the chart syntho-ui does not read it here"
    ]
    assert str(errors[0]).startswith(str(project / "overlays/local/syntho-ui.values.yaml:1:3"))
    assert len(notes) == 1
    assert "/podAnnotations has no effect" in notes[0]


DEAD = {
    "a value that nothing reads": ([{"op": "add", "path": "/core/typo", "value": 1}], ["add /core/typo"]),
    "a value of a mapping that nothing reads": ([{"op": "add", "path": "/podAnnotations/a", "value": "b"}], ["add /podAnnotations/a"]),
    "a whole mapping of which something is read": ([{"op": "replace", "path": "/core/service", "value": {"type": "ClusterIP", "port": 1}}], []),
    "the default": ([{"op": "replace", "path": "/core/replicaCount", "value": 1}], []),
    "a switch": ([{"op": "replace", "path": "/backend/database_enabled", "value": False}], []),
    "what a switch gates off": ([
        {"op": "replace", "path": "/backend/database_enabled", "value": False},
        {"op": "replace", "path": "/backend/database_enabled", "value": False},
    ], ["replace /backend/database_enabled"]),
    "a removal of what nothing reads": ([{"op": "remove", "path": "/podAnnotations"}], ["remove /podAnnotations"]),
    "a removal of what is read": ([{"op": "remove", "path": "/core/celery_args"}], []),
    "a move of what is read to where it is not": ([{"op": "move", "from": "/core/volumes", "path": "/core/typo"}], []),
    "a move between what nothing reads": ([
        {"op": "add", "path": "/podAnnotations/a", "value": "b"}, {"op": "move", "from": "/podAnnotations/a", "path": "/podAnnotations/c"},
    ], ["add /podAnnotations/a", "move /podAnnotations/c"]),
    "a copy to where nothing reads it": ([{"op": "copy", "from": "/core/port", "path": "/core/typo"}], ["copy /core/typo"]),
    "what is copied before it is overwritten": ([
        {"op": "replace", "path": "/core/workers", "value": 7},
        {"op": "copy", "from": "/core/workers", "path": "/backend/workers"},
        {"op": "replace", "path": "/core/workers", "value": 2},
    ], []),
    "an item that leaves a list that nothing reads": ([
        {"op": "add", "path": "/podAnnotations/l", "value": [{"name": "x"}]}, {"op": "remove", "path": "/podAnnotations/l/[name=x]"},
    ], ["add /podAnnotations/l", "remove /podAnnotations/l/[name=x]"]),
    "a test": ([{"op": "test", "path": "/podAnnotations", "value": {}}], []),
}  # fmt: skip


@pytest.mark.parametrize("case", DEAD)
def test_an_operation_is_dead_when_nothing_it_does_changes_a_render(project: Path, helm: Helm, case: str) -> None:
    operations, expected = DEAD[case]
    _overlay(project, operations)
    errors, _ = explain.dead(Project.load(project, "local"), helm)
    assert [error.what.partition(" has no effect")[0] for error in errors] == expected


def test_a_manifest_operation_that_another_overwrites_is_dead_and_hides_the_value_below(project: Path, helm: Helm) -> None:
    operations = [{"op": "replace", "path": "/spec/replicas", "value": number} for number in (3, 4)]
    _overlay(project, [{"target": {"kind": "Deployment", "name": "core"}, "patch": operations}], "syntho-ui.manifests.yaml")
    (error,), _ = explain.dead(Project.load(project, "local"), helm)
    assert error.what.startswith("replace /spec/replicas has no effect: ")
    assert str(error.where).endswith("syntho-ui.manifests.yaml:5:5")
    found = _one(project, helm, "Deployment/core:/spec/replicas")
    assert ([one.in_force for one in found.origins], found.reaches) == ([False, True], ())
    template = _one(project, helm, "Deployment/core:/spec/template/spec/restartPolicy")
    assert "from the chart's template" in explain.text([template])


def test_the_shipped_local_environment_has_no_dead_operation_of_its_own(root: Path, helm: Helm) -> None:
    assert explain.dead(Project.load(root, "local"), helm)[0] == []


def test_the_plain_operations_give_the_values_with_any_rfc_6902_library(project: Path) -> None:
    _overlay(project, [{"op": "add", "path": "/head/containerEnv/-", "value": {"name": "H", "value": "${host}"}}], "ray.values.yaml")
    loaded = Project.load(project, "local")
    shown = loaded.shown_values()
    for chart, operations in loaded.shown_operations().items():
        defaults = documents.load_chart(loaded.vendored.charts[chart] / "values.yaml")
        assert jsonpatch.apply_patch(defaults, json.loads(json.dumps(operations))) == shown[chart]


def test_what_is_known_of_a_chart_is_kept_by_digest(project: Path, helm: Helm) -> None:
    loaded = Project.load(project, "local")
    first = explain.reaches(loaded, helm)
    assert explain.reaches(Project.load(project, "local"), Helm(Path("/nonexistent"), helm.version, helm.home)) == first


MOVED = [
    {"op": "add", "path": "/core/env", "value": {"A": "${host}", "B": "x", "C": "${ray.head}"}, "why": "first"},
    {"op": "copy", "from": "/core/env", "path": "/backend/env"},
    {"op": "move", "from": "/core/env/A", "path": "/core/env/D"},
    {"op": "replace", "path": "/core/env/B", "value": "y"},
    {"op": "copy", "from": "/core/port", "path": "/core/env/COPIED"},
]


def _line(project: Path, file: str, text: str) -> str:
    return f"{file}:{(project / file).read_text().splitlines().index(text) + 1}:"


def test_what_moves_and_what_is_copied_keeps_the_operation_that_wrote_it(project: Path, helm: Helm) -> None:
    _overlay(project, MOVED)
    moved = _one(project, helm, "/core/env/D")
    assert [(one.op, one.source, one.in_force, one.why) for one in moved.origins] == [("add", "", True, "first"), ("move", "/core/env/A", True, "")]
    copied = _one(project, helm, "/backend/env/B")
    assert (copied.value, [(one.op, one.in_force) for one in copied.origins]) == ("x", [("add", True), ("copy", True)])
    changed = _one(project, helm, "/core/env/B")
    assert [(one.op, one.in_force) for one in changed.origins] == [("add", False), ("replace", True)]
    assert [(one.op, one.source) for one in _one(project, helm, "/core/env/COPIED").origins] == [("add", ""), ("copy", "/core/port")]
    (gone,) = [one for one in explain.explain(Project.load(project, "local"), helm, "") if one.path == "/core/env/A"]
    assert gone.removed
    assert "/core/env/A = (removed)" in explain.text([gone])


def test_a_variable_is_told_with_its_own_line_and_what_it_is_made_of(project: Path, helm: Helm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    _overlay(project, MOVED)
    (host,) = _one(project, helm, "/core/env/D").origins[0].variables
    assert host.startswith(f"${{host}} is said in {_line(project, 'envs/local.yaml', '  host: syntho.localhost')}")
    head = _one(project, helm, "/core/env/C").origins[0].variables
    assert head[0].startswith("${ray.head} is said in overlays/roles.yaml:")
    assert head[1:] == ("${role:cluster_name} is the value ray:/clustername", "${namespace} is said in envs/local.yaml:5:14")
    assert _one(project, helm, "/core/env/B").origins[0].variables == ()
    secret = _one(project, helm, "/core/secret_key").origins[0].variables
    assert secret[0].startswith("${secret:core.secret_key} is said in envs/local.yaml:")


def test_all_changes_have_what_was_taken_out_of_a_list_and_each_once(project: Path, helm: Helm) -> None:
    env = "/spec/template/spec/containers/[name=core]/env"
    _overlay(project, [*MOVED, {"op": "remove", "path": "/imagePullSecrets/[name=syntho-cr-secret]", "overrides": True}])
    patch = [{"op": "add", "path": f"{env}/-", "value": {"name": "X", "value": "${host}"}}, {"op": "remove", "path": f"{env}/[name=PORT]"}]
    _overlay(project, [{"target": {"kind": "Deployment", "name": "core"}, "patch": patch}], "syntho-ui.manifests.yaml")
    found = explain.explain(Project.load(project, "local"), helm, "")
    told = [(one.of, one.path) for one in found]
    assert len(set(told)) == len(told)
    removed = {(one.of, one.path) for one in found if one.removed}
    assert {("syntho-ui", "/imagePullSecrets/[name=syntho-cr-secret]"), ("Deployment/core", f"{env}/[name=PORT]")} <= removed
    (added,) = [one for one in found if one.path == f"{env}/[name=X]"]
    assert added.value == {"name": "X", "value": "syntho.localhost"}
    assert added.origins[0].variables[0].startswith("${host} is said in")


def test_a_secret_of_the_chart_and_a_whole_object_can_be_asked_for(project: Path, helm: Helm) -> None:
    found = _one(project, helm, "Secret/core-secret:/stringData/core.secret_key")
    assert (found.value, found.reaches) == ("${secret:core.secret_key}", ("syntho-ui:/core/secret_key",))
    assert _one(project, helm, "Deployment/core").value["kind"] == "Deployment"


def test_a_field_that_a_patch_took_out_is_told_by_the_patch(project: Path, helm: Helm) -> None:
    patch = [{"op": "remove", "path": "/spec/template/spec/imagePullSecrets"}]
    _overlay(project, [{"target": {"kind": "Deployment", "name": "frontend"}, "patch": patch}], "syntho-ui.manifests.yaml")
    loaded = Project.load(project, "local")
    loaded.compile(helm)
    for at in ("/spec/template/spec/imagePullSecrets", "/spec/template/spec/imagePullSecrets/[name=syntho-cr-secret]"):
        ((found, source),) = explain.sources_of(loaded, helm, "Deployment/frontend", at)
        assert found is not None
        assert (found.layer, found.op, source) == ("local", "remove", "")


def test_a_field_without_a_source_is_not_said_to_be_the_charts_where_it_is_not() -> None:
    keep, gone = Change("/metadata/annotations/helm.sh~1resource-policy", ABSENT, "keep"), Change("/spec/replicas", 2, ABSENT)
    variable = Change("/spec/env/[name=SECRET_A_URL]", ABSENT, {"valueFrom": {}})
    plan = Plan("here", "", {}, [ObjectPlan("update", "ui", "Deployment", "core", (keep, gone, variable, Change("/spec/x", 1, 2)))])
    add_origins(plan, lambda of, path: [])
    assert list(plan.objects[0].origins.values()) == [
        "deploy keeps volumes",
        "nothing sets it now",
        "made for the variable that names it",
        "the chart's template",
    ]


API = "Ingress/frontend-ingress:/spec/rules/[host=syntho.localhost]/http/paths/[path=~1api]"


def test_a_field_of_what_a_patch_names_anew_knows_its_values(project: Path, helm: Helm) -> None:
    """The component ingress/nginx makes `/api` of the chart's path `/api/*`."""
    assert _one(project, helm, f"{API}/backend/service/name").reaches == ("syntho-ui:/backend/name (chart default)",)
    port = _one(project, helm, f"{API}/backend/service/port/number")
    assert (port.origins[-1].layer, port.reaches) == ("ingress/nginx", ())  # what the chart has there does not arrive
    _overlay(
        project,
        [
            {
                "target": {"kind": "Deployment", "name": "frontend"},
                "patch": [{"op": "replace", "path": "/metadata/name", "value": "web"}],
            },
            {
                "target": {"kind": "Deployment", "name": "core"},
                "patch": [{"op": "add", "path": "/spec/template/spec/containers/[name=core]", "value": {"name": "first", "image": "a/b:1"}}],
            },
        ],
        "syntho-ui.manifests.yaml",
    )
    image = "/spec/template/spec/containers/[name={}]/image"
    renamed = _one(project, helm, f"Deployment/web:{image.format('frontend')}")
    assert {source.partition(" ")[0] for source in renamed.reaches} == {"syntho-ui:/frontend/image/repository", "syntho-ui:/frontend/image/tag"}
    shifted = _one(project, helm, f"Deployment/core:{image.format('core')}")
    assert {source.partition(" ")[0] for source in shifted.reaches} == {"syntho-ui:/core/image/repository", "syntho-ui:/core/image/tag"}
    added = _one(project, helm, f"Deployment/core:{image.format('first')}")
    assert (added.origins[-1].layer, added.reaches) == ("local", ())


@pytest.mark.parametrize(
    ("here", "index", "there"),
    [
        ("ab", 1, 1), ("ba", 0, 1), ("xb", 0, 0), ("xb", 1, 1), ("ax", 1, 1), ("bx", 1, None), ("xab", 0, None), ("xab", 2, 1), ("b", 0, 1),
        ("aab", 0, None), ("aab", 2, 1), ("aa", 0, 0), ("aa", 1, 1),
    ],
)  # fmt: skip
def test_an_item_of_a_list_is_found_by_its_name_then_by_its_place(here: str, index: int, there: int | None) -> None:
    assert explain._same_item([{"name": name} for name in here], [{"name": "a"}, {"name": "b"}], index) == there
    assert explain._same_item(list(here), ["a", "b"], index) == there  # a text is its own name


def test_an_argument_behind_one_that_a_patch_put_before_it_knows_its_values(project: Path, helm: Helm) -> None:
    args = "/spec/template/spec/containers/[name=core-worker]/args"
    _overlay(project, [{"op": "replace", "path": "/core/celery_args", "value": ["worker", "-A", "core"]}])
    patch = [{"op": "test", "path": f"{args}/0", "value": "worker"}, {"op": "add", "path": f"{args}/0", "value": "first"}]
    _overlay(project, [{"target": {"kind": "Deployment", "name": "core-worker"}, "patch": patch}], "syntho-ui.manifests.yaml")
    found = [_one(project, helm, f"Deployment/core-worker:{args}/{index}") for index in range(4)]
    assert [one.value for one in found] == ["first", "worker", "-A", "core"]
    assert [one.reaches for one in found] == [(), *((f"syntho-ui:/core/celery_args/{index}",) for index in range(3))]
