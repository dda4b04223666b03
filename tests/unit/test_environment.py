"""envs/<name>.yaml and roles.yaml: every key, and every fault with its line and the nearest right thing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from syntho_deploy.environment import Environment, Release, SecretSpec, Target, load_environment, load_roles, names
from syntho_deploy.errors import InputError, InputErrors, Mark
from syntho_deploy.overlays.layers import components, layers
from tests.conftest import write_files

SMALL = "cluster: {context: aks, namespace: syntho}\n"
FULL = """\
cluster:
  context: aks-prod
  kubeconfig: ~/.kube/prod
  uid: 6f2c
  namespace: syntho
  kubernetes: "1.31"
charts: vendor/other.yaml
manage: {crds: false, namespace: false}
protected: true
components: [ray/two-pools, keys]
vars: {host: a.example.com, port: 5432, on: true, half: 0.5}
secrets:
  license: {file: /run/license}
  core.key: {generate: fernet}
  db: {env: DB_PASSWORD}
  registry: {server: r.example.com, name: pull, env: {username: U, password: P}}
  mirror: {server: m.example.com, username: me, file: f}
releases: {ui: my-ui}
before_upgrade: [[pg_dumpall, -U, postgres], ["true"]]
grace: {image: 5m, crash: 1h}
"""


def environment(folder: Path, text: str, name: str = "dev") -> Environment:
    return load_environment(write_files(folder, {f"envs/{name}.yaml": text}), name)


def faults(folder: Path, text: str) -> list[InputError]:
    with pytest.raises(InputError) as caught:
        environment(folder, text)
    return caught.value.errors if isinstance(caught.value, InputErrors) else [caught.value]


def test_every_key_is_read(tmp_path: Path) -> None:
    found = environment(tmp_path, FULL)
    assert found.target == Target("syntho", context="aks-prod", kubeconfig="~/.kube/prod", uid="6f2c", kubernetes="1.31")
    assert found.pin_file == tmp_path / "vendor/other.yaml"
    assert (found.manage_crds, found.manage_namespace, found.protected) == (False, False, True)
    assert found.components == ("ray/two-pools", "keys")
    assert found.vars == {"host": "a.example.com", "port": 5432, "on": True, "half": 0.5}
    assert found.releases == {"ui": "my-ui"}
    assert found.before_upgrade == (("pg_dumpall", "-U", "postgres"), ("true",))
    assert found.graces == {"image": 300, "crash": 3600}
    file = str(tmp_path / "envs/dev.yaml")
    assert found.secrets == {
        "license": SecretSpec("license", Mark(file, 13, 3), file="/run/license"),
        "core.key": SecretSpec("core.key", Mark(file, 14, 3), generate="fernet"),
        "db": SecretSpec("db", Mark(file, 15, 3), env="DB_PASSWORD"),
        "registry": SecretSpec("registry", Mark(file, 16, 3), env="P", server="r.example.com", username_env="U", object_name="pull"),
        "mirror": SecretSpec("mirror", Mark(file, 17, 3), file="f", server="m.example.com", username="me"),
    }
    assert found.component_marks["keys"].line == 10


def test_an_editors_lock_is_no_environment(tmp_path: Path) -> None:
    environment(tmp_path, SMALL)
    (tmp_path / "envs/.#dev.yaml").symlink_to("me@host.1:2")
    assert names(tmp_path) == ["dev"]


def test_defaults_are_few(tmp_path: Path) -> None:
    found = environment(tmp_path, SMALL)
    assert (found.manage_crds, found.manage_namespace, found.protected, found.components, found.secrets) == (True, True, False, (), {})
    assert found.pin_file == tmp_path / "vendor/charts.yaml"


@pytest.mark.parametrize(("wrong", "near"), [("prdo", "prod"), ("locl", "local"), ("stage", "staging"), ("dev.yaml", "dev")])
def test_an_unknown_environment_is_an_error_with_the_nearest(root: Path, wrong: str, near: str) -> None:
    with pytest.raises(InputError) as caught:
        load_environment(root, wrong)
    assert caught.value.exit_code == 3
    assert f'there is no environment "{wrong}"; did you mean "{near}"?' in str(caught.value)
    assert all(name in caught.value.todo for name in names(root))


def test_a_folder_without_environments_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="environments: none"):
        load_environment(tmp_path, "dev")


FAULTS = {
    "unknown key": (SMALL + "protcted: true\n", 2, 'no key "protcted"; did you mean "protected"'),
    "unknown key of cluster": ("cluster: {context: a, namespace: b, contxt: c}\n", 1, 'did you mean "context"'),
    "unknown key of manage": (SMALL + "manage:\n  crd: true\n", 3, 'manage has no key "crd"; did you mean "crds"'),
    "unknown key of a secret": (SMALL + "secrets:\n  a: {fil: b, env: C}\n", 3, 'did you mean "file"'),
    "no cluster": ("vars: {}\n", 1, "context"),
    "no namespace": ("cluster: {context: a}\n", 1, 'cluster needs the key "namespace"'),
    "two clusters": ("cluster: {context: a, local: b, namespace: c}\n", 1, 'one of "context"'),
    "uid of a local cluster": ("cluster: {local: b, uid: c, namespace: c}\n", 1, 'belong to "context"'),
    "namespace": ("cluster:\n  context: a\n  namespace: Syntho\n", 3, '"Syntho" is no namespace'),
    "version as a number": ("cluster: {context: a, namespace: b, kubernetes: 1.31}\n", 1, '("1.31" in quotes)'),
    "version": ("cluster: {context: a, namespace: b, kubernetes: v1.31}\n", 1, '"v1.31" is no kubernetes'),
    "protected without uid": (SMALL + "protected: true\n", 1, "needs cluster.uid"),
    "protected as text": (SMALL + "protected: 'yes'\n", 2, "must be true or false"),
    "components as text": (SMALL + "components: a\n", 2, "must be a list"),
    "component as number": (SMALL + "components:\n  - a\n  - 1\n", 4, "must be a list of texts"),
    "component twice": (SMALL + "components:\n  - a\n  - a\n", 4, 'the component "a" stands twice'),
    "variable without a value": (SMALL + "vars:\n  a:\n", 3, 'the variable "a" has no value'),
    "secrets as a list": (SMALL + "secrets: [a]\n", 2, "secrets must be a mapping"),
    "secret as text": (SMALL + "secrets:\n  a: b\n", 3, "secrets.a must be a mapping"),
    "secret without a source": (SMALL + "secrets:\n  a: {}\n", 3, "needs one source, not 0"),
    "secret with an empty source": (SMALL + "secrets:\n  a: {generate: }\n", 3, "needs one source, not 0"),
    "secret with two sources": (SMALL + "secrets:\n  a: {env: A, file: b}\n", 3, "needs one source, not 2"),
    "generator": (SMALL + "secrets:\n  a: {generate: ferent}\n", 3, 'did you mean "fernet"'),
    "name of a secret": (SMALL + "secrets:\n  'a b': {env: A}\n", 3, '"a b" is no name for a secret'),
    "registry without a user": (SMALL + "secrets:\n  a: {server: r, env: A}\n", 3, "need one username"),
    "user without a registry": (SMALL + "secrets:\n  a: {username: r, env: A}\n", 3, 'which need "server"'),
    "registry with half a pair": (SMALL + "secrets:\n  a: {server: r, env: {username: A}}\n", 3, 'needs the key "password"'),
    "a command that is a text": (SMALL + "before_upgrade:\n  - [a]\n  - pg_dumpall\n", 4, "must be a list of commands, each a list of texts"),
    "a command of nothing": (SMALL + "before_upgrade:\n  - []\n", 3, "must be a list of commands"),
    "an unknown trouble": (SMALL + "grace:\n  imgae: 5m\n", 3, 'grace has no key "imgae"; did you mean "image"'),
    "a grace without a unit": (SMALL + "grace:\n  image: '5'\n", 3, '"5" is no duration'),
    "namespace that is a number": ("cluster: {context: a, namespace: '123'}\n", 1, '"123" cannot be the namespace: charts write it without quotes'),
    "namespace that is a switch": ("cluster: {context: a, namespace: 'true'}\n", 1, 'where "true" is true and no text'),
    "release name that is a number": (SMALL + "releases: {ui: '1e3'}\n", 2, '"1e3" is no name for a release: charts write it without quotes'),
    "release name": (SMALL + "releases: {ui: My_UI}\n", 2, '"My_UI" is no name for a release'),
    "a list": ("- a\n", 1, "this file must be a mapping"),
    "empty": ("", 1, 'needs the key "namespace"'),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_names_its_line(tmp_path: Path, case: str) -> None:
    text, line, words = FAULTS[case]
    found = [error for error in faults(tmp_path, text) if words in str(error)]
    assert found
    assert isinstance(found[0].where, Mark)
    assert found[0].where.line == line


@pytest.mark.parametrize("name", ["all", "a,b", "-x", "A", "a" * 41])
def test_what_an_option_reads_otherwise_is_no_name_for_an_environment(tmp_path: Path, name: str) -> None:
    write_files(tmp_path, {f"envs/{name}.yaml": SMALL})
    with pytest.raises(InputError, match="is no name for an environment"):
        load_environment(tmp_path, name)


@pytest.mark.parametrize("name", ["true", "123", "null", "1e3"])
def test_a_name_that_yaml_reads_otherwise_is_one(tmp_path: Path, name: str) -> None:
    write_files(tmp_path, {f"envs/{name}.yaml": SMALL})
    assert load_environment(tmp_path, name).name == name


def test_all_faults_come_at_once(tmp_path: Path) -> None:
    found = faults(tmp_path, "cluster: {context: a, namespace: B}\nprotcted: 1\nmanage: {crds: 2}\nsecrets:\n  x: {}\n")
    assert sorted(error.where.line for error in found if isinstance(error.where, Mark)) == [1, 2, 3, 5]


def test_the_repositorys_environments_are_right(root: Path) -> None:
    assert {"local", "dev", "staging", "prod"} <= set(names(root))
    for name in names(root):
        assert load_environment(root, name).name == name


# --- roles ------------------------------------------------------------------------------------------------------------

ROLES = """\
releases:
  ray: {chart: ray, name: ray-cluster}
  ui: {chart: syntho-ui, name: syntho-ui}
secret: ${release.ui}-secrets
values:
  cluster: {chart: ray, path: /clustername}
derived:
  head: ${role:cluster}-head
databases: [Deployment/postgres, StatefulSet/other]
"""


def test_roles_are_read_and_an_environment_may_name_its_releases(tmp_path: Path) -> None:
    write_files(tmp_path, {"overlays/roles.yaml": ROLES})
    roles = load_roles(tmp_path, ("overlays",), environment(tmp_path, SMALL + "releases: {ui: mine}\n"))
    assert roles.releases == (Release("ray", "ray", "ray-cluster"), Release("ui", "syntho-ui", "mine"))
    assert roles.release_of("syntho-ui").name == "mine"
    assert roles.values == {"cluster": ("ray", "/clustername")}
    assert roles.derived == {"head": "${role:cluster}-head"}
    assert roles.databases == ("Deployment/postgres", "StatefulSet/other")


def test_the_first_overlay_folder_with_roles_gives_them(tmp_path: Path) -> None:
    write_files(tmp_path, {"overlays/roles.yaml": "broken: [", "pins/x/roles.yaml": ROLES})
    assert load_roles(tmp_path, ("pins/x", "overlays"), environment(tmp_path, SMALL)).file == tmp_path / "pins/x/roles.yaml"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("secret:", "secrt:", 'did you mean "secret"'),
        ("secret: ${release.ui}-secrets\n", "", 'needs the key "secret"'),
        ("path: /clustername", "pth: /x", 'needs the key "path"'),
        ("{chart: ray, path", "{chart: rya, path", 'no release is of the chart "rya"; did you mean "ray"'),
        ("name: ray-cluster", "nme: x", 'did you mean "name"'),
        ("head: ${role:cluster}-head", "head: 1", "must be text"),
        ("Deployment/postgres", "postgres", '"postgres" is no workload'),
    ],
)
def test_a_fault_of_the_roles_is_a_sentence(tmp_path: Path, old: str, new: str, words: str) -> None:
    write_files(tmp_path, {"overlays/roles.yaml": ROLES.replace(old, new)})
    with pytest.raises(InputError) as caught:
        load_roles(tmp_path, ("overlays",), environment(tmp_path, SMALL))
    assert words in str(caught.value)
    assert "roles.yaml:" in str(caught.value)


def test_an_unknown_release_of_the_environment_is_an_error_with_the_nearest(tmp_path: Path) -> None:
    write_files(tmp_path, {"overlays/roles.yaml": ROLES})
    with pytest.raises(InputError, match=r'dev.yaml:2.*no release "rai"; did you mean "ray"'):
        load_roles(tmp_path, ("overlays",), environment(tmp_path, SMALL + "releases: {rai: mine}\n"))


# --- layers -----------------------------------------------------------------------------------------------------------

OVERLAYS = {
    "overlays/components/ray/one/ray.values.yaml": "[]",
    "overlays/components/keys/ui.objects/a.yaml": "{}",
    "overlays/components/keys/README.md": "",
    "pin/components/keys/ui.values.yaml": "[]",
    "overlays/dev/ui.manifests.yaml": "[]",
}


def test_components_come_in_their_order_and_the_environments_own_layer_last(tmp_path: Path) -> None:
    write_files(tmp_path, OVERLAYS)
    found = layers(environment(tmp_path, SMALL + "components: [keys, ray/one]\n"), ("pin", "overlays"))
    assert [(layer.name, str(layer.folder.relative_to(tmp_path))) for layer in found] == [
        ("keys", "pin/components/keys"),
        ("ray/one", "overlays/components/ray/one"),
        ("dev", "overlays/dev"),
    ]
    assert components([tmp_path / "pin", tmp_path / "overlays"]) == ["keys", "ray/one"]


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("ray/on", "ray/one"), ("ray", "ray/one"), ("kesy", "keys"), ("../dev", ""), ("/etc", ""), ("ray/../keys", ""), (".", ""), ("", "")],
)
def test_an_unknown_component_is_an_error_with_the_nearest(tmp_path: Path, wrong: str, near: str) -> None:
    write_files(tmp_path, OVERLAYS)
    with pytest.raises(InputError) as caught:
        layers(environment(tmp_path, f"{SMALL}components:\n  - '{wrong}'\n"), ("overlays",))
    assert f'there is no component "{wrong}"' in str(caught.value)
    assert (f'did you mean "{near}"' in str(caught.value)) if near else True
    assert "dev.yaml:3:5" in str(caught.value)


@pytest.mark.parametrize("key", ["namespace", "kubernetes"])
def test_an_empty_text_is_no_name(project: Path, key: str) -> None:
    file = project / "envs" / "empty.yaml"
    cluster = {"local": "c", "namespace": "n", key: ""}
    file.write_text(json.dumps({"cluster": cluster}))
    with pytest.raises(InputError, match=f'"" is no {key}'):
        load_environment(project, "empty")
