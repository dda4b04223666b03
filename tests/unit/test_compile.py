"""From an environment to static charts: the same bytes everywhere, nothing lost, and every mistake a sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from syntho_deploy import documents
from syntho_deploy.compile import KEEP, Compiled, Project
from syntho_deploy.errors import InputError, InputErrors, Mark
from syntho_deploy.helm import Helm
from syntho_deploy.secrets.sentinels import TOKEN
from syntho_deploy.vendor import load_pin, vendor
from tests.conftest import bare_template, write_files

SANDBOX = Path("vendor/sandbox.yaml")


@pytest.fixture
def sandbox(project: Path) -> Path:
    """A project whose sandbox charts are vendored, with production's environment for them too."""
    write_files(project, {"envs/large.yaml": (project / "envs/prod.yaml").read_text() + f"charts: {SANDBOX}\n"})
    (project / "overlays/large").mkdir()
    vendor(project, load_pin(project, project / SANDBOX))
    return project


def compiled(root: Path, helm: Helm, name: str = "local") -> Compiled:
    return Project.load(root, name).compile(helm)


def everything(found: Compiled) -> dict[str, dict[str, str]]:
    return {name: chart.files for name, chart in found.charts.items()}


def test_the_bytes_are_the_same_under_both_majors_of_helm(sandbox: Path, helm: Helm, helm3: Helm) -> None:
    for name in ("local", "large"):
        assert everything(compiled(sandbox, helm, name)) == everything(compiled(sandbox, helm3, name))


def test_the_bytes_are_the_same_twice_and_in_another_folder(sandbox: Path, tmp_path: Path, helm: Helm) -> None:
    first = everything(compiled(sandbox, helm))
    assert everything(compiled(sandbox, helm)) == first  # from the kept renders
    other = shutil.copytree(sandbox, tmp_path / "another place", ignore=shutil.ignore_patterns(".cache"))
    assert everything(compiled(other, helm)) == first


def test_the_compiled_charts_print_their_manifests(sandbox: Path, tmp_path: Path, each_helm: Helm) -> None:
    for chart in compiled(sandbox, each_helm, "large").charts.values():
        printed = documents.load_manifests(bare_template(each_helm, chart.write(tmp_path / chart.name), chart.release.name, chart.namespace).stdout)
        assert sorted(map(documents.canonical, printed)) == sorted(map(documents.canonical, chart.objects))


def test_claims_are_kept_hooks_are_left_out_and_nothing_secret_or_null_remains(sandbox: Path, helm: Helm) -> None:
    found = compiled(sandbox, helm)
    claims = [item for item in found.objects if item["kind"] == "PersistentVolumeClaim"]
    assert claims
    assert all(item["metadata"]["annotations"][KEEP] == "keep" for item in claims)
    assert found.charts["syntho-ui"].hooks == ("Pod/syntho-ui-test-connection",)
    assert not [item for item in found.objects if item["kind"] in ("Pod", "Secret", "CustomResourceDefinition")]
    (ray,) = [item for item in found.objects if item["kind"] == "RayCluster"]
    assert not [keys for keys, value in documents.walk(ray) if value is None]
    assert "workerGroupSpecs" not in ray["spec"]
    assert not TOKEN.search("".join(text for files in everything(found).values() for text in files.values()))
    assert all("status" not in item for item in found.objects)
    assert all(item["metadata"]["namespace"] == "syntho" for item in found.objects if item["kind"] in ("Deployment", "Service", "RayCluster"))
    assert [path.name for path in found.charts["ray"].crds] == ["rayclusters.yaml", "rayjobs.yaml", "rayservices.yaml"]


def test_values_show_names_where_secrets_belong(sandbox: Path) -> None:
    shown = Project.load(sandbox, "local").shown_values()
    assert shown["ray"]["SynthoLicense"] == "${secret:license}"
    assert not TOKEN.search(documents.canonical(shown))


def test_versions_name_chart_pin_and_digest(sandbox: Path, helm: Helm) -> None:
    for chart in compiled(sandbox, helm).charts.values():
        base, _, build = chart.version.partition("+")
        commit, digest = build.split(".")
        assert base == documents.load_chart(sandbox / "sandbox/charts" / chart.release.chart / "Chart.yaml")["version"]
        assert (len(commit), digest) == (12, chart.digest[:12])


def test_a_vendored_file_that_was_changed_is_refused_by_name(sandbox: Path) -> None:
    (changed,) = (sandbox / "vendor/charts").glob("*/ray/values.yaml")
    changed.write_text(changed.read_text() + "\n")
    with pytest.raises(InputError, match=r"values\.yaml") as caught:
        Project.load(sandbox, "local")
    assert caught.value.exit_code == 3


# --- a chart of our own -----------------------------------------------------------------------------------------------

TINY = {
    "envs/dev.yaml": "cluster: {context: c, namespace: ns}\nsecrets:\n  key: {generate: token}\n",
    "vendor/charts.yaml": "source: charts\ncharts: {one: one}\n",
    "overlays/roles.yaml": """\
releases: {one: {chart: one, name: rel}}
secret: ${release.one}-secrets
values: {size: {chart: one, path: /size}}
derived: {double: "${role:size}-${host}"}
""",
    "overlays/dev/one.values.yaml": "- {op: add, path: /key, value: '${secret:key}'}\n",
    "charts/one/Chart.yaml": "apiVersion: v2\nname: one\nversion: 1.2.3+x\nappVersion: 1.0\n",
    "charts/one/values.yaml": "size: 1\nunread: 1\ntext: a\nkey: none\n",
    "charts/one/templates/all.yaml": """\
apiVersion: v1
kind: ConfigMap
metadata: {name: cm, creationTimestamp: null, annotations: {size: "{{ .Values.size }}"}}
data: {text: {{ toJson .Values.text }}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  template:
    spec:
      containers: [{name: app, image: a, env: [{name: KEY, value: {{ .Values.key }}}], volumeMounts: null}]
---
apiVersion: v1
kind: List
items:
  - {apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: "a:b"}}
  - {apiVersion: v1, kind: Service, metadata: {name: svc}, spec: {}, status: {loadBalancer: {}}}
""",
}


def tiny(folder: Path, **changes: str) -> Path:
    """A project of one small chart; a change's name is a path with __ for / and the dots left to `.yaml`."""
    files = TINY | {name.replace("__", "/").replace("_yaml", ".yaml").replace("one_", "one."): text for name, text in changes.items()}
    write_files(folder, files)
    vendor(folder, load_pin(folder, folder / "vendor/charts.yaml"), update=True)
    return folder


def digest(folder: Path, helm: Helm) -> str:
    return compiled(folder, helm, "dev").charts["one"].digest


def test_objects_are_settled(tmp_path: Path, helm: Helm) -> None:
    found = {item["kind"]: item for item in compiled(tiny(tmp_path), helm, "dev").objects}
    assert found["ConfigMap"]["metadata"] == {"name": "cm", "namespace": "ns", "annotations": {"size": "1"}}
    assert "namespace" not in found["ClusterRole"]["metadata"]
    assert "status" not in found["Service"]
    assert found["Deployment"]["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] is None  # helm prunes these itself
    assert found["Deployment"]["spec"]["template"]["spec"]["containers"][0]["env"][0]["valueFrom"] == {
        "secretKeyRef": {"name": "rel-secrets", "key": "key"}
    }


def test_the_digest_changes_exactly_when_the_manifests_do(tmp_path: Path, helm: Helm) -> None:
    own = TINY["overlays/dev/one.values.yaml"]
    same = digest(tiny(tmp_path / "a"), helm)
    assert digest(tiny(tmp_path / "b", overlays__dev__one_values_yaml="# a comment\n" + own), helm) == same
    assert digest(tiny(tmp_path / "c", overlays__dev__one_values_yaml=own + "- {op: replace, path: /unread, value: 2}\n"), helm) == same
    assert digest(tiny(tmp_path / "d", overlays__dev__one_values_yaml=own + "- {op: replace, path: /size, value: 2}\n"), helm) != same
    assert digest(tiny(tmp_path / "e", vendor__charts_yaml="source: ./charts\ncharts: {one: one}\n"), helm) == same


def test_texts_of_any_kind_come_through_the_compiled_chart(tmp_path: Path, each_helm: Helm) -> None:
    texts = [
        "a\n\n",
        "a\n",
        "\n",
        "{{ .x }}",
        "---\n",
        "a\n---\nb",
        "y",
        "1e3",
        "0o17",
        " a\n b",
        "# no",
        "\u2028",
        "\x7f",
        "😀",
        "tab\tend \n",
        "a: b\nc: d\n",
    ]
    extra = {}
    for number, last in enumerate(texts):
        item = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"t{number}"}, "spec": texts, "z": last}
        extra[f"overlays__dev__one_objects__t{number}_yaml"] = documents.dump(item).replace("${", "$${")
    chart = compiled(tiny(tmp_path / "p", **extra), each_helm, "dev").charts["one"]
    printed = documents.load_manifests(bare_template(each_helm, chart.write(tmp_path / "out"), "rel", "ns").stdout)
    assert sorted(map(documents.canonical, printed)) == sorted(map(documents.canonical, chart.objects))
    assert [item["z"] for item in sorted(printed, key=lambda item: int(item["metadata"]["name"][1:] if "z" in item else -1)) if "z" in item] == texts


@pytest.mark.parametrize(("release", "namespace", "words"), [("other", "ns", "release rel"), ("rel", "other", "namespace ns")])
def test_a_compiled_chart_is_for_one_release_in_one_namespace(tmp_path: Path, each_helm: Helm, release: str, namespace: str, words: str) -> None:
    folder = compiled(tiny(tmp_path / "p"), each_helm, "dev").charts["one"].write(tmp_path / "out")
    refused = bare_template(each_helm, folder, release, namespace)
    assert refused.code
    assert f"compiled for the {words}" in refused.stderr


def test_the_chart_folder_holds_this_compile_and_no_older_one_and_never_what_is_not_ours(tmp_path: Path, helm: Helm) -> None:
    chart = compiled(tiny(tmp_path / "p"), helm, "dev").charts["one"]
    folder = chart.write(tmp_path / "out")
    write_files(folder, {"manifests/old.yaml": "{}"})
    chart.write(folder)
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == set(chart.files)
    mine = write_files(tmp_path / "mine", {"thesis.txt": "years of work"})
    with pytest.raises(InputError, match="something else than a compiled chart"):
        chart.write(mine)
    assert (mine / "thesis.txt").exists()


def test_variables_derived_and_of_roles_reach_overlays(tmp_path: Path, helm: Helm) -> None:
    own = TINY["overlays/dev/one.values.yaml"]
    text = "- target: {kind: ConfigMap, name: cm}\n  patch: [{op: add, path: /data/all, value: '${env} ${namespace} ${release.one} ${double}'}]\n"
    env, values = f"{ENV}vars: {{host: h}}\n", own + "- {op: replace, path: /size, value: 7}\n"
    folder = tiny(
        tmp_path,
        envs__dev_yaml=env,
        overlays__dev__one_manifests_yaml=text,
        overlays__dev__one_values_yaml=values,
    )
    assert compiled(folder, helm, "dev").charts["one"].manifests["configmap-cm.yaml"]["data"]["all"] == "dev ns rel 7-h"


def test_a_target_without_a_name_is_every_object_of_its_kind_and_delete_removes(tmp_path: Path, helm: Helm) -> None:
    text = "- target: {kind: ConfigMap}\n  patch: [{op: add, path: /x, value: 1}]\n- target: {kind: Service, name: svc}\n  delete: true\n"
    extra = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: more}\n"
    found = compiled(tiny(tmp_path, overlays__dev__one_manifests_yaml=text, overlays__dev__one_objects__a_yaml=extra), helm, "dev")
    assert [item["metadata"]["name"] for item in found.objects if item.get("x") == 1] == ["cm", "more"]
    assert "Service" not in {item["kind"] for item in found.objects}


OWN = TINY["overlays/dev/one.values.yaml"]
CM = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: cm}\n"
ENV = TINY["envs/dev.yaml"]
MISTAKES: dict[str, tuple[dict[str, str], str, str]] = {
    "unused secret": ({"envs__dev_yaml": ENV + "  other: {env: X}\n"}, "dev.yaml:4", 'nothing uses the secret "other"'),
    "dead secret": (
        {"overlays__dev__one_values_yaml": "\n- {op: add, path: /kye, value: '${secret:key}'}\n"},
        "one.values.yaml:2",
        'the secret "key" reaches no manifest',
    ),
    "unknown secret": (
        {"overlays__dev__one_values_yaml": "- {op: add, path: /key, value: '${secret:kye}'}\n"},
        "one.values.yaml:1",
        'no secret "kye"; did you mean "key"',
    ),
    "unknown variable": (
        {"overlays__dev__one_values_yaml": OWN + "- {op: add, path: /x, value: 'a ${doubel}'}\n"},
        "one.values.yaml:2",
        'no variable "doubel"; did you mean "double"',
    ),
    "unknown variable in a manifest": (
        {"overlays__dev__one_manifests_yaml": "- target: {kind: ConfigMap}\n  patch:\n    - {op: add, path: /x, value: '${relese.one}'}\n"},
        "one.manifests.yaml:3",
        'did you mean "release.one"',
    ),
    "registry as a value": (
        {"envs__dev_yaml": ENV.replace("{generate: token}", "{server: r, username: u, env: X}")},
        "one.values.yaml:1",
        "registry credentials",
    ),
    "unknown component": (
        {"envs__dev_yaml": ENV + "components: [kyes]\n", "overlays__components__keys__one_values_yaml": "[]"},
        "dev.yaml:4:14",
        'did you mean "keys"',
    ),
    "file nothing reads": ({"overlays__dev__one_value_yaml": "[]"}, "overlays/dev/one.value.yaml", 'did you mean "one.values.yaml"'),
    "no such manifest": (
        {"overlays__dev__one_manifests_yaml": "- target: {kind: Deployment, name: ap}\n  delete: true\n"},
        "one.manifests.yaml:1",
        'did you mean "Deployment/app"',
    ),
    "no such kind": (
        {"overlays__dev__one_manifests_yaml": "- target: {kind: Ingress}\n  delete: true\n"},
        "one.manifests.yaml:1",
        "there are: ClusterRole/a:b, ConfigMap/cm",
    ),
    "a patch that does not fit": (
        {"overlays__dev__one_manifests_yaml": "- target: {kind: ConfigMap}\n  patch:\n    - {op: remove, path: /data/txt}\n"},
        "one.manifests.yaml:3",
        "/data/text",
    ),
    "a patch that leaves no object": (
        {"overlays__dev__one_manifests_yaml": "- target: {kind: ConfigMap}\n  patch:\n    - {op: remove, path: /metadata}\n"},
        "one.manifests.yaml:1",
        "is no object",
    ),
    "a patch that leaves a list": (
        {"overlays__dev__one_manifests_yaml": "- target: {kind: ConfigMap}\n  patch: [{op: replace, path: '', value: []}]\n"},
        "one.manifests.yaml:1",
        "is no object",
    ),
    "an object that collides": ({"overlays__dev__one_objects__a_yaml": CM}, "one.objects/a.yaml:1", "already has ConfigMap/cm"),
    "an object without a name": (
        {"overlays__dev__one_objects__a_yaml": "apiVersion: v1\nkind: A\nmetadata: [a]\n"},
        "one.objects/a.yaml:1",
        "needs apiVersion, kind and metadata.name",
    ),
    "an object that is broken": ({"overlays__dev__one_objects__a_yaml": "a: [\n"}, "one.objects/a.yaml:2", "broken YAML"),
    "a secret in a ConfigMap": (
        {"overlays__dev__one_objects__a_yaml": CM.replace("cm", "x") + "data: {k: '${secret:key}'}\n"},
        "",
        "ends up in ConfigMap/x at /data/k",
    ),
    "a chart without a release": (
        {
            "overlays__roles_yaml": TINY["overlays/roles.yaml"]
            .replace("chart: one, name", "chart: two, name")
            .replace("chart: one, path", "chart: two, path")
        },
        "roles.yaml",
        'no release is of the chart "one"',
    ),
    "a variable made of itself": (
        {
            "overlays__roles_yaml": TINY["overlays/roles.yaml"].replace("${role:size}", "${double}"),
            "overlays__dev__one_values_yaml": OWN + "- {op: add, path: /x, value: '${double}'}\n",
        },
        "roles.yaml:4",
        "is made of itself",
    ),
    "a role that leads nowhere": (
        {
            "overlays__roles_yaml": TINY["overlays/roles.yaml"].replace("/size", "/sise"),
            "overlays__dev__one_manifests_yaml": "- target: {kind: ConfigMap}\n  patch: [{op: add, path: /x, value: '${double}'}]\n",
        },
        "roles.yaml:3",
        "the nearest path is /size",
    ),
    "a value that needs its own chart": (
        {"overlays__dev__one_values_yaml": OWN + "- {op: add, path: /x, value: '${double}'}\n"},
        "roles.yaml:4",
        "whose values are being made",
    ),
    "a variable with the name of a derived one": ({"envs__dev_yaml": ENV + "vars: {double: 1}\n"}, "dev.yaml:4", "is a derived one"),
    "values that do not render": (
        {"overlays__dev__one_values_yaml": OWN, "charts__one__templates__b_yaml": '{{ fail "no such size" }}'},
        "",
        "does not render with these values",
    ),
    "values of a wrong kind": (
        {"overlays__dev__one_values_yaml": OWN + "- {op: replace, path: /size, value: 'a\"b'}\n"},
        "",
        "does not render with these values",
    ),
    "a render that is no YAML": ({"charts__one__templates__b_yaml": "a: b\n--- x\n- {"}, "", "the chart one"),
    "a render that is no object": ({"charts__one__templates__b_yaml": "a: b\n"}, "", "an object without apiVersion, kind or metadata.name"),
    "an object twice": ({"charts__one__templates__b_yaml": CM}, "", "renders twice: ConfigMap/cm"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_a_sentence_with_its_place_and_the_nearest_right_thing(tmp_path: Path, helm: Helm, case: str) -> None:
    changes, place, words = MISTAKES[case]
    folder = tiny(tmp_path, **changes)
    with pytest.raises(InputError) as caught:
        compiled(folder, helm, "dev")
    assert caught.value.exit_code == 3
    assert place in str(caught.value)
    assert words in str(caught.value)


def test_two_charts_with_one_object_are_refused(sandbox: Path, helm: Helm) -> None:
    write_files(sandbox / "overlays/local", {f"{chart}.objects/a.yaml": CM for chart in ("ray", "syntho-ui")})
    with pytest.raises(InputError, match="the charts ray and syntho-ui both render: ConfigMap/cm"):
        compiled(sandbox, helm)


def test_the_mistakes_of_all_files_come_at_once(tmp_path: Path, helm: Helm) -> None:
    target = "- target: {kind: Pod}\n  delete: true\n"
    folder = tiny(
        tmp_path, overlays__dev__one_manifests_yaml=target, overlays__dev__one_objects__a_yaml=CM, overlays__dev__one_objects__b_yaml="a: 1\n"
    )
    with pytest.raises(InputErrors) as caught:
        compiled(folder, helm, "dev")
    assert len(caught.value.errors) == 3


def test_a_folder_that_only_nests_components_of_a_pin_hides_no_common_one(project: Path, helm: Helm) -> None:
    write_files(project / "overlays" / "pins" / "x" / "components" / "license" / "extra", {"ray.values.yaml": "[]\n"})
    pin = project / "vendor" / "sandbox.yaml"
    pin.write_text(pin.read_text().replace("[sandbox/overlays", "[overlays/pins/x, sandbox/overlays"))
    assert Project.load(project, "local").compile(helm).charts["ray"].values["SynthoLicense"] == "${secret:license}"


BAD = {
    "envs/bad.yaml": """\
cluster:
  local: syntho
  namespace: Syntho
charts: vendor/sandbox.yaml
protcted: true
vars: {host: h, size: 1e3}
secrets:
  key: {generate: tokn}
""",
    "overlays/bad/ray.value.yaml": "[]",
    "overlays/bad/ray.values.yaml": "- {op: replace, path: /hed, value: 1}\n- {op: replace, path: /service/port, value: 0o17}\n",
    "overlays/bad/ray.manifests.yaml": "- target: {kind: RayCluster, name: nope}\n  delete: true\n",
    "overlays/bad/ray.objects/a.yaml": "{kind: A}\n",
    "overlays/bad/syntho-ui.values.yaml": """\
- {op: replase, path: /core/port, value: 1}
- {op: replace, path: /core/imag, value: 1}
- {op: replace, path: /core/image/tag, value: "${hots}"}
- {op: replace, path: /core/secret_key, value: "${secret:kye}"}
- {op: add, path: /core/x, value: "${secret:key} ${host}"}
""",
    "overlays/bad/syntho-ui.manifests.yaml": """\
- target: {knd: Deployment}
  delete: true
- target: {kind: Deployment, name: cor}
  delete: true
- target: {kind: Deployment, name: core}
  patch:
    - {op: replace, path: /spec/replics, value: 2}
    - {op: replace, path: /spec/replicas, value: "${n}"}
""",
}
FAULTS = [
    ("envs/bad.yaml:3:14", '"Syntho" is no namespace'),
    ("envs/bad.yaml:5:11", 'did you mean "protected"'),
    ("envs/bad.yaml:6:23", "1e3 is read as different values"),
    ("envs/bad.yaml:8:19", 'did you mean "token"'),
    ("overlays/bad/ray.value.yaml", 'did you mean "ray.values.yaml"'),
    ("overlays/bad/ray.values.yaml:1:3", 'there is no "/hed"'),
    ("overlays/bad/ray.values.yaml:2:45", "0o17 is read as different values"),
    ("overlays/bad/ray.manifests.yaml:1:3", "no manifest is RayCluster/nope"),
    ("overlays/bad/ray.objects/a.yaml:1:1", "an object needs"),
    ("overlays/bad/syntho-ui.values.yaml:1:8", 'did you mean "replace"'),
    ("overlays/bad/syntho-ui.values.yaml:2:3", 'there is no "/core/imag"'),
    ("overlays/bad/syntho-ui.values.yaml:3:3", 'no variable "hots"; did you mean "host"'),
    ("overlays/bad/syntho-ui.values.yaml:4:3", 'no secret "kye"; did you mean "key"'),
    ("overlays/bad/syntho-ui.manifests.yaml:1:3", 'target needs the key "kind"'),
    ("overlays/bad/syntho-ui.manifests.yaml:1:17", 'did you mean "kind"'),
    ("overlays/bad/syntho-ui.manifests.yaml:3:3", 'did you mean "Deployment/core"'),
    ("overlays/bad/syntho-ui.manifests.yaml:7:7", "the nearest path is /spec/replicas"),
    ("overlays/bad/syntho-ui.manifests.yaml:8:7", 'no variable "n"'),
]


def test_every_fault_of_an_environment_comes_at_once(sandbox: Path, helm: Helm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write_files(sandbox, BAD))
    with pytest.raises(InputErrors) as caught:
        Project.load(sandbox, "bad").compile(helm)
    told = [str(error) for error in caught.value.errors]
    assert [fault for fault in FAULTS if not any(one.startswith(f"{fault[0]}: ") and fault[1] in one for one in told)] == []
    assert len(told) == len(FAULTS)


def test_faults_that_need_nothing_else_come_with_broken_roles_too(sandbox: Path) -> None:
    write_files(sandbox, {**BAD, "overlays/roles.yaml": "secret: [", "envs/bad.yaml": BAD["envs/bad.yaml"].replace("sandbox.yaml", "plain.yaml")})
    (sandbox / "vendor/plain.yaml").write_text((sandbox / "vendor/sandbox.yaml").read_text().replace("sandbox/overlays, ", ""))
    with pytest.raises(InputErrors) as caught:
        Project.load(sandbox, "bad")
    told = str(caught.value)
    for words in ("roles.yaml:2:1", "protcted", '"replase" is no operation', "0o17 is read", 'did you mean "kind"'):
        assert words in told


def test_what_nothing_uses_comes_with_the_other_faults(sandbox: Path, helm: Helm) -> None:
    environment = (sandbox / "envs/local.yaml").read_text()
    idle = environment.replace("vars:\n", "vars:\n  idle: 1\n").replace("secrets:\n", "secrets:\n  idle: {generate: token}\n")
    write_files(sandbox, {"envs/local.yaml": idle, "overlays/local/ray.values.yaml": "- {op: replace, path: /hed, value: 1}\n"})
    with pytest.raises(InputErrors) as caught:
        compiled(sandbox, helm)
    told = [error.what for error in caught.value.errors]
    assert told == ['replace: there is no "/hed"', 'nothing uses the variable "idle"', 'nothing uses the secret "idle"']


@pytest.mark.parametrize(("value", "name"), [("123", "123"), ('"0o17"', "15"), ('"yes"', "true")])
def test_a_name_that_is_no_text_points_at_its_operation(sandbox: Path, helm: Helm, value: str, name: str) -> None:
    write_files(sandbox, {"overlays/local/ray.values.yaml": f"- {{op: replace, path: /clustername, value: {value}}}\n"})
    with pytest.raises(InputError, match=f"renders a RayCluster with the name {name}, which is no text") as caught:
        compiled(sandbox, helm)
    assert str(caught.value.where).endswith("overlays/local/ray.values.yaml:1:3")


def test_a_variable_that_nothing_uses_is_an_error_once_all_is_applied(sandbox: Path, helm: Helm) -> None:
    file = sandbox / "envs/local.yaml"
    file.write_text(file.read_text().replace("vars:\n", "vars:\n  hots: x\n"))
    with pytest.raises(InputError, match='nothing uses the variable "hots"') as caught:
        compiled(sandbox, helm)
    assert isinstance(caught.value.where, Mark)
    assert caught.value.where.line == file.read_text().splitlines().index("  hots: x") + 1


@pytest.mark.parametrize("value", ["[1]", "null", "text"])
def test_values_that_are_no_mapping_are_refused_at_the_operation(sandbox: Path, value: str) -> None:
    write_files(sandbox, {"overlays/local/ray.values.yaml": f"- {{op: add, path: '', value: {value}, overrides: true}}\n"})
    with pytest.raises(InputError, match="the values of the chart ray must be a mapping") as caught:
        Project.load(sandbox, "local").values()
    assert str(caught.value.where).endswith("overlays/local/ray.values.yaml:1:3")


def test_a_chart_whose_own_values_are_broken_is_told_with_the_rest(tmp_path: Path) -> None:
    folder = tiny(tmp_path, charts__one__values_yaml="a: [", envs__dev_yaml=ENV.replace("namespace: ns", "namespace: NS"))
    with pytest.raises(InputErrors) as caught:
        Project.load(folder, "dev")
    told = str(caught.value)
    assert '"NS" is no namespace' in told
    assert "values.yaml: broken YAML" in told
