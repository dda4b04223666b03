"""Bumps: the tags move, in the files where they stand, and nothing else does; what is refused is refused with a sentence."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syntho_deploy import bump, process, tags
from syntho_deploy.bump import Way
from syntho_deploy.compile import Project
from syntho_deploy.errors import DeployError, InputError, PreflightError
from syntho_deploy.helm import Helm
from syntho_deploy.vendor import Vendored, load_pin, vendor
from tests.conftest import copy_project
from tests.registries import TokenRegistry, digest, serving

APPS = {"core": "syntho-core-api", "backend": "syntho-core-backend", "frontend": "syntho-core-frontend", "ray": "syntho-ray"}
OFFLINE = Way("1.9.8", offline=True)


def environment(name: str, components: str, registry: str = "r.example.com/s", more: str = "", protected: bool = False) -> str:
    """An environment file over the sandbox charts. components: before all others, with a comma behind; more: lines under vars."""
    images = f"""\
  registry:   {registry}   # the site's
  tag: "1.9.7" # the release
  operator_tag: "1.9.7"
  postgres_tag: "14"
  redis_tag: '7.2'
  busybox_tag: "1.28"
"""
    return f"""\
# {name}: comments stay
cluster: {{context: c, uid: u, namespace: syntho}}
protected: {str(protected).lower()}
charts: vendor/sandbox.yaml
components: [{components} ray/address, ray/head-only, pull-secret, license, keys, admin, postgres/in-chart, ingress/nginx]
vars:
{images if "images," in components else ""}\
  {more}host: syntho.localhost
  ingress_class: nginx
  pull_secret: syntho-cr-secret
  admin_user: admin
  admin_email: admin@syntho.localhost
  head_cpu: "1"
  head_memory: 2G
secrets:
  registry: {{server: {registry.partition("/")[0]}, env: {{username: TEST_USER, password: TEST_PASSWORD}}}}
  license: {{generate: token}}
  core.secret_key: {{generate: fernet}}
  core.db.password: {{generate: password}}
  backend.secret_key: {{generate: token}}
  backend.db.password: {{generate: password}}
  backend.user.password: {{generate: password}}
"""


@pytest.fixture(scope="module")
def vendored_site(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with its sandbox charts vendored and no environment."""
    folder = copy_project(root, tmp_path_factory.mktemp("bump") / "site")
    vendor(folder, load_pin(folder, folder / "vendor/sandbox.yaml"))
    for file in (folder / "envs").glob("*"):
        file.unlink()
    return folder


@pytest.fixture
def site(vendored_site: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(vendored_site, tmp_path / "site")


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[TokenRegistry]:
    """A registry with two releases of all images, whose login is in the environment."""
    monkeypatch.setenv("TEST_USER", TokenRegistry.user)
    monkeypatch.setenv("TEST_PASSWORD", TokenRegistry.password)
    with serving(TokenRegistry()) as found:
        for app, repository in APPS.items():
            found.add(f"s/{repository}", *(f"{tag}-cpu" if app == "ray" else tag for tag in ("1.9.7", "1.9.8", "latest", "1.10.0-rc.1", "1.9.10")))
        yield found


def write(site: Path, name: str, text: str) -> Path:
    path = site / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def bumped(site: Path, helm: Helm, way: Way, *names: str) -> bump.Result:
    result = bump.bump([Project.load(site, name) for name in names or ("a",)], way, helm)
    result.write()
    return result


def found(site: Path, name: str = "a") -> dict[str, str]:
    return {app: tag.text for app, tag in tags.find(Project.load(site, name)).items()}


def everything(site: Path) -> dict[str, bytes]:
    return {str(path.relative_to(site)): path.read_bytes() for part in ("envs", "overlays") for path in (site / part).rglob("*") if path.is_file()}


def changed(before: dict[str, bytes], after: dict[str, bytes]) -> set[str]:
    return {name for name in {*before, *after} if before.get(name) != after.get(name)}


RELEASE = {"core": "1.9.8", "backend": "1.9.8", "frontend": "1.9.8", "ray": "1.9.8-cpu"}


# --- where a tag stands -----------------------------------------------------------------------------------------------


def test_a_variable_moves_all_images_by_one_token(site: Path, helm: Helm) -> None:
    write(site, "envs/a.yaml", environment("a", "images,"))
    before = everything(site)
    result = bumped(site, helm, OFFLINE)
    after = everything(site)
    assert changed(before, after) == {"envs/a.yaml"}
    assert after["envs/a.yaml"] == before["envs/a.yaml"].replace(b'  tag: "1.9.7" # the release', b'  tag: "1.9.8" # the release')
    assert found(site) == RELEASE
    deployments = {f"Deployment/{name}" for name in ("core", "core-worker", "backend", "backend-worker", "frontend")}
    assert {item.label for item in result.bumps[0].objects} == {"RayCluster/ray-cluster", *deployments}
    assert all(len(item.changes) == 1 and item.pods for item in result.bumps[0].objects)


def test_where_nothing_sets_a_tag_operations_are_added_in_new_files(site: Path, helm: Helm) -> None:
    write(site, "envs/a.yaml", environment("a", ""))
    before = everything(site)
    bumped(site, helm, OFFLINE)
    after = everything(site)
    assert changed(before, after) == {"overlays/a/ray.values.yaml", "overlays/a/syntho-ui.values.yaml"}
    assert after["overlays/a/ray.values.yaml"].decode() == (
        '# yaml-language-server: $schema=../../schemas/values-overlay.schema.json\n- op: replace\n  path: /image/tag\n  value: "1.9.8-cpu"\n'
    )
    assert found(site) == RELEASE


def test_an_operation_is_added_in_the_files_own_style(site: Path, helm: Helm) -> None:
    write(site, "envs/a.yaml", environment("a", ""))
    own = "# mine\r\n- {op: replace, path: /core/image/tag, value: 'latest'} # c\r\n# end\r\n"
    file = write(site, "overlays/a/syntho-ui.values.yaml", own)
    bumped(site, helm, OFFLINE)
    assert file.read_bytes().decode() == (
        "# mine\r\n- {op: replace, path: /core/image/tag, value: '1.9.8'} # c\r\n- {op: replace, path: /backend/image/tag, value: '1.9.8'}\r\n"
        "- {op: replace, path: /frontend/image/tag, value: '1.9.8'}\r\n# end\r\n"
    )


def test_a_literal_of_the_environments_own_overlay_wins_over_the_variable_and_moves_where_it_stands(site: Path, helm: Helm) -> None:
    write(site, "envs/a.yaml", environment("a", "images,"))
    file = write(
        site, "overlays/a/syntho-ui.values.yaml", "- op: replace\n  path: /core/image\n  value: {tag: 1.9.7, repository: x/y}\n  overrides: true\n"
    )
    bumped(site, helm, OFFLINE)
    assert file.read_text() == "- op: replace\n  path: /core/image\n  value: {tag: 1.9.8, repository: x/y}\n  overrides: true\n"
    assert found(site) == RELEASE


SHARED = "- {op: replace, path: /core/image/tag, value: '1.9.7'}\n- {op: replace, path: /backend/image/tag, value: '1.9.7'}\n"


def shared(site: Path) -> Path:
    """Three environments with a component that has the tags as they are."""
    file = write(site, "overlays/components/fixed/syntho-ui.values.yaml", SHARED + "- {op: replace, path: /frontend/image/tag, value: '1.9.7'}\n")
    write(site, "overlays/components/fixed/ray.values.yaml", "- {op: replace, path: /image/tag, value: 1.9.7-cpu}\n")
    for name in ("a", "b"):
        write(site, f"envs/{name}.yaml", environment(name, "fixed,"))
    write(site, "envs/c.yaml", environment("c", ""))
    return file


def test_a_shared_component_is_edited_only_with_all_environments_that_have_it(site: Path, helm: Helm) -> None:
    file = shared(site)
    before = everything(site)
    with pytest.raises(PreflightError) as caught:
        bumped(site, helm, OFFLINE, "a")
    assert "the tag of core stands in the shared component fixed, which b would get too" in str(caught.value)
    assert "--env=a,b" in str(caught.value)
    assert everything(site) == before
    bumped(site, helm, OFFLINE, "a", "b")
    assert file.read_text().count("'1.9.8'") == 3
    assert (found(site, "a"), found(site, "b")) == (RELEASE, RELEASE)


def test_one_application_of_a_shared_variable_gets_an_operation_of_its_own(site: Path, helm: Helm) -> None:
    write(site, "envs/a.yaml", environment("a", "images,"))
    before = everything(site)
    result = bumped(site, helm, Way("1.9.8", "core", offline=True))
    assert changed(before, everything(site)) == {"overlays/a/syntho-ui.values.yaml"}
    assert (site / "overlays/a/syntho-ui.values.yaml").read_text().endswith('value: "1.9.8"\n  overrides: true\n')
    assert found(site) == {**RELEASE, "backend": "1.9.7", "frontend": "1.9.7", "ray": "1.9.7-cpu"}
    assert "a is half bumped: core at 1.9.8; backend, frontend, ray at 1.9.7" in result.bumps[0].notes


def test_what_else_a_variable_moves_is_said(site: Path, helm: Helm) -> None:
    write(site, "envs/a.yaml", environment("a", "images,"))
    write(site, "overlays/a/ray.values.yaml", '- {op: replace, path: /operatorImage/tag, value: "${tag}", overrides: true}\n')
    assert "this changes too: ray:/operatorImage/tag" in bumped(site, helm, OFFLINE).bumps[0].notes


def test_an_image_that_a_patch_sets_again_is_found(site: Path, helm: Helm) -> None:
    write(site, "envs/a.yaml", environment("a", "images,"))
    operation = "{op: replace, path: '/spec/template/spec/containers/[name=frontend]/image', value: x}"
    patch = f"- target: {{kind: Deployment, name: frontend}}\n  patch:\n    - {operation}\n"
    write(site, "overlays/a/syntho-ui.manifests.yaml", patch)
    with pytest.raises(InputError, match=r"no pod of a would run .*syntho-core-frontend:1\.9\.8") as caught:
        bumped(site, helm, OFFLINE)
    assert "overlays/a/syntho-ui.manifests.yaml:3" in str(caught.value)


def test_a_tag_that_comes_with_a_whole_variable_is_overridden(site: Path, helm: Helm) -> None:
    write(site, "envs/a.yaml", environment("a", "", more="core_image: {repository: x/y, tag: latest}\n  "))
    file = write(site, "overlays/a/syntho-ui.values.yaml", "- op: replace\n  path: /core/image\n  value: ${core_image}\n")
    result = bumped(site, helm, OFFLINE)
    assert file.read_text().startswith("- op: replace\n  path: /core/image\n  value: ${core_image}\n- op: replace\n  path: /core/image/tag\n")
    assert result.bumps[0].where["core"].endswith("overlays/a/syntho-ui.values.yaml:1:3")
    assert found(site) == RELEASE


# --- what is refused --------------------------------------------------------------------------------------------------


def refused(site: Path, helm: Helm, way: Way, *words: str, code: int = 4) -> None:
    before = everything(site)
    with pytest.raises(DeployError) as caught:
        bumped(site, helm, way)
    assert [word for word in words if word not in str(caught.value)] == []
    assert caught.value.exit_code == code
    assert everything(site) == before


def test_a_downgrade_is_refused_unless_it_is_meant(site: Path, helm: Helm) -> None:
    write(site, "envs/a.yaml", environment("a", "images,"))
    refused(site, helm, Way("1.9.6", offline=True), "1.9.6 is older than 1.9.7", "--allow-downgrade")
    refused(site, helm, Way("1.9.7.alpha1", offline=True), "1.9.7.alpha1 is older than 1.9.7")
    bumped(site, helm, Way("1.9.6", offline=True, allow_downgrade=True))
    assert found(site)["ray"] == "1.9.6-cpu"


def test_ten_comes_after_nine(site: Path, helm: Helm) -> None:
    write(site, "envs/a.yaml", environment("a", "images,"))
    bumped(site, helm, Way("1.9.10", offline=True))
    refused(site, helm, Way("1.9.9", offline=True), "older than 1.9.10")


def test_a_floating_tag_is_refused_where_protected(site: Path, helm: Helm) -> None:
    write(site, "envs/a.yaml", environment("a", "images,", protected=True))
    refused(site, helm, Way("latest", offline=True), "envs/a.yaml:3", "latest is no version", "a is protected")
    write(site, "envs/a.yaml", environment("a", "images,"))
    bumped(site, helm, Way("latest", offline=True))
    assert found(site)["ray"] == "latest-cpu"


def test_a_half_bumped_state_is_explained_and_can_be_completed(site: Path, helm: Helm) -> None:
    write(site, "envs/a.yaml", environment("a", "images,"))
    bumped(site, helm, Way("1.9.8", "core,backend,frontend", offline=True))
    refused(
        site, helm, Way("1.9.9", offline=True), "a is half bumped: core, backend, frontend at 1.9.8; ray at 1.9.7",
        "ray: 1.9.7-cpu (", "envs/a.yaml:8:8 (vars.tag)", "--env=a --tag=1.9.8 --app=ray",
    )  # fmt: skip
    bumped(site, helm, Way("1.9.8.1", "core", offline=True))  # what is named is meant
    bumped(site, helm, Way("1.9.8", "core", offline=True, allow_downgrade=True))
    bumped(site, helm, Way("1.9.8", "ray", offline=True))
    assert found(site) == RELEASE
    bumped(site, helm, Way("1.9.9", offline=True))
    assert set(found(site).values()) == {"1.9.9", "1.9.9-cpu"}


def test_a_tag_that_the_registry_lacks_is_refused(site: Path, helm: Helm, registry: TokenRegistry) -> None:
    write(site, "envs/a.yaml", environment("a", "images,", f"{registry.host}/s"))
    del registry.content["s/syntho-ray"]["1.9.8-cpu"]
    refused(site, helm, Way("1.9.8"), f"the registry has no {registry.host}/s/syntho-ray:1.9.8-cpu")
    refused(site, helm, Way("2.0.0"), f"no {registry.host}/s/syntho-core-api:2.0.0", f"no {registry.host}/s/syntho-ray:2.0.0-cpu")


def test_bad_input_is_refused(site: Path, helm: Helm) -> None:
    write(site, "envs/a.yaml", environment("a", "images,"))
    refused(site, helm, Way("a b", offline=True), '"a b" is no tag', code=3)
    refused(site, helm, Way("1.9.8-cpu", offline=True), "1.9.8-cpu is the tag of ray alone", "--tag=1.9.8", code=3)
    refused(site, helm, Way("1.9.8", "cor", offline=True), 'no application "cor"; did you mean "core"?', code=3)
    refused(site, helm, Way(offline=True), "--tag=VERSION", code=3)
    refused(site, helm, Way("1.9.8", digest=True, offline=True), "a digest comes from the registry", code=3)


def test_a_login_that_is_missing_is_a_sentence(site: Path, helm: Helm, registry: TokenRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    write(site, "envs/a.yaml", environment("a", "images,", f"{registry.host}/s"))
    monkeypatch.delenv("TEST_PASSWORD")
    refused(site, helm, Way("1.9.8"), "comes from the variable TEST_PASSWORD, which is not set")


# --- with a registry --------------------------------------------------------------------------------------------------


def test_without_a_tag_it_is_the_newest_release_that_all_images_have(site: Path, helm: Helm, registry: TokenRegistry) -> None:
    write(site, "envs/a.yaml", environment("a", "images,", f"{registry.host}/s"))
    for app, repository in APPS.items():
        if app != "ray":
            registry.add(f"s/{repository}", "1.9.11")
    result = bumped(site, helm, Way())
    assert found(site) == {"core": "1.9.10", "backend": "1.9.10", "frontend": "1.9.10", "ray": "1.9.10-cpu"}
    assert result.bumps[0].notes == ["1.9.11 is newer than 1.9.10, and the registry has no such image of ray"]
    assert bumped(site, helm, Way()).names == []


def test_an_environment_beyond_the_newest_stays(site: Path, helm: Helm, registry: TokenRegistry) -> None:
    write(site, "envs/a.yaml", environment("a", "images,", f"{registry.host}/s").replace('tag: "1.9.7" #', 'tag: "2.0.0" #'))
    result = bumped(site, helm, Way())
    assert bump.text(result, True).splitlines()[0] == "a: 2.0.0"
    assert (result.names, result.bumps[0].notes) == ([], ["nothing newer than 2.0.0 is in the registry"])


def test_digests_are_pinned_and_move_along(site: Path, helm: Helm, registry: TokenRegistry) -> None:
    write(site, "envs/a.yaml", environment("a", "images,", f"{registry.host}/s"))
    for release in ("1.9.8", "1.9.10"):
        bumped(site, helm, Way(release, digest=release == "1.9.8"))
        for app, repository in APPS.items():
            tag = f"{release}-cpu" if app == "ray" else release
            manifest = registry.content[f"s/{repository}"][tag][1]
            assert found(site)[app] == f"{tag}@{digest(manifest)}"
    assert "${tag}@sha256:" in (site / "overlays/a/syntho-ui.values.yaml").read_text()
    assert b'  tag: "1.9.10" # the release' in (site / "envs/a.yaml").read_bytes()
    refused(site, helm, Way("1.9.11", offline=True), "pinned by a digest", "leave out --offline")


def test_a_tag_of_its_own_for_each_application_moves_alone(site: Path, helm: Helm) -> None:
    own = "".join(f'{app}_tag: "{OLD_TAGS[app]}"\n  ' for app in APPS)
    write(site, "envs/a.yaml", environment("a", "images, images/tags,", more=own))
    before = everything(site)
    bumped(site, helm, Way("1.9.8", "core", offline=True))
    assert changed(before, everything(site)) == {"envs/a.yaml"}
    assert found(site) == {**OLD_TAGS, "core": "1.9.8"}
    bumped(site, helm, Way("1.9.8", "backend,frontend,ray", offline=True))
    assert found(site) == RELEASE
    assert changed(before, everything(site)) == {"envs/a.yaml"}


def test_digests_in_variables_move_there(site: Path, helm: Helm, registry: TokenRegistry) -> None:
    digests = "".join(f"{app}_digest: sha256:{'0' * 64} # {app}\n  " for app in APPS)
    file = write(site, "envs/a.yaml", environment("a", "images, images/digests,", f"{registry.host}/s", digests))
    before, text = everything(site), file.read_text()
    bumped(site, helm, Way("1.9.8"))
    assert changed(before, everything(site)) == {"envs/a.yaml"}
    assert re.sub(r"sha256:[0-9a-f]{64}|1\.9\.8", "X", file.read_text()) == re.sub(r"sha256:0{64}|(?<= tag: \")1\.9\.7", "X", text)
    assert "0" * 64 not in file.read_text()


# --- no other byte ----------------------------------------------------------------------------------------------------

EXAMPLES = int(os.environ.get("SYNTHO_TEST_EXAMPLES", "60"))  # the claim is about 1000
PATHS = {"core": "/core/image", "backend": "/backend/image", "frontend": "/frontend/image", "ray": "/image"}
COMMENTS = st.sampled_from(["", " # 1.9.7", "  # é: 'x' \"1.9.7\"", "\t# - value"])
OLD_TAGS = {app: ("1.9.7-cpu" if app == "ray" else "1.9.7") for app in APPS}
NOISE = ["- {op: replace, path: /imagePullSecrets, value: [{name: '1.9.7'}], overrides: true}", "# value: 1.9.7", "", "#\t1.9.7"]


@st.composite
def overlays(draw: st.DrawFn) -> dict[str, tuple[str, str]]:
    """An overlay of each chart, as it is and as it is to be: the tags in many ways of writing, with comments and noise between."""
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    files = {}
    for chart, apps in (("ray", ["ray"]), ("syntho-ui", ["core", "backend", "frontend"])):
        lines: list[str] = [draw(st.sampled_from(["# first 1.9.7", "---", ""]))]
        noise = iter(draw(st.permutations(NOISE)))
        indent = draw(st.sampled_from(["", "  "]))
        for app in draw(st.permutations(apps)):
            quote, comment, space = draw(st.sampled_from(["", "'", '"'])), draw(COMMENTS), draw(st.sampled_from([" ", "   "]))
            token, path = f"{quote}<{app}>{quote}", PATHS[app]
            mapping = f"{{repository: r.example.com/1.9.7/x,{space}tag:{space}{token}}}"
            shape = draw(st.integers(0, 4))
            if shape == 0:
                lines += [f"{indent}- op:{space}replace{comment}", f"{indent}  path: {path}/tag", f"{indent}  value:{space}{token}{comment}"]
            elif shape == 1:
                lines += [f"{indent}- {{op: replace, value:{space}{token}, path: {path}/tag, why: 'was 1.9.7'}}{comment}"]
            elif shape == 2:
                lines += [f"{indent}- value: {mapping}{comment}", f"{indent}  op: add", f"{indent}  path: '{path}'"]
            elif shape == 3:
                lines += [f"{indent}- op: replace", f"{indent}  path: {path}", f"{indent}  value:{comment}",
                          f"{indent}    tag: {token}{comment}", f"{indent}    # 1.9.7", f"{indent}    repository: 1.9.7/x"]  # fmt: skip
            else:
                lines += [f"{indent}- {{op: replace, path: {path}, value: {mapping}}}"]
            extra = next(noise)
            lines.append(f"{indent}{extra}" if extra.startswith("-") else extra)
        text = newline.join(lines) + draw(st.sampled_from(["", newline, newline * 2]))
        if draw(st.booleans()):
            text = f"\ufeff{text}"
        files[chart] = tuple(
            re.sub("<(.*?)>", lambda match, new=new: RELEASE[match[1]] if new else OLD_TAGS[match[1]], text) for new in (False, True)
        )
    return files  # type: ignore[return-value]


CHECKED: dict[Path, Vendored] = {}
FRESH = itertools.count()


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(files=overlays())
def test_of_an_overlay_only_the_tokens_change(files: dict[str, tuple[str, str]], vendored_site: Path) -> None:
    name = f"h{next(FRESH)}"
    environment_file = write(vendored_site, f"envs/{name}.yaml", environment(name, ""))
    for chart, (old, _) in files.items():
        write(vendored_site, f"overlays/{name}/{chart}.values.yaml", old)
    try:
        project = Project.load(vendored_site, name, CHECKED)
        edited = tags.Files(vendored_site)
        tags.move(project, tags.find(project), RELEASE, edited, [name])
        got = {path.name: new.decode() for path, (_, new) in edited.changed.items()}
        assert got == {f"{chart}.values.yaml": new for chart, (_, new) in files.items()}
    finally:
        environment_file.unlink()
        shutil.rmtree(vendored_site / "overlays" / name)


# --- the command ------------------------------------------------------------------------------------------------------


def invoke(folder: Path, *words: str, **env: str) -> process.Result:
    library = str(Path(__file__).resolve().parents[2])
    return process.run([sys.executable, "-m", "invoke", *words], cwd=folder, check=False, env={"PYTHONPATH": library, **env})


def test_the_command_shows_writes_and_tells(site: Path, tmp_path: Path, registry: TokenRegistry) -> None:
    file = write(site, "envs/a.yaml", environment("a", "images,", f"{registry.host}/s"))
    login = {"TEST_USER": registry.user, "TEST_PASSWORD": registry.password}
    before = everything(site)
    shown = invoke(site, "bump-tag", "--env=a", "--tag=1.9.8", "--dry-run", **login)
    assert (shown.code, everything(site)) == (2, before)
    assert "a: 1.9.7 -> 1.9.8" in shown.stdout
    assert "envs/a.yaml:8:8 (vars.tag)" in shown.stdout
    assert "restarts head: 1 pod" in shown.stdout
    body = tmp_path / "body.md"
    done = invoke(site, "bump-tag", "--env=a", "--tag=1.9.8", "--json", f"--pr-body={body}", **login)
    told: Any = json.loads(done.stdout)
    assert (done.code, told["written"], told["files"]) == (0, True, ["envs/a.yaml"])
    assert [image["after"] for image in told["environments"][0]["images"]] == list(RELEASE.values())
    assert "| ray | " in body.read_text()
    assert yaml.safe_load(file.read_text())["vars"]["tag"] == "1.9.8"
    assert registry.password not in shown.stdout + shown.stderr + done.stdout + done.stderr + body.read_text()
    again = invoke(site, "bump-tag", "--env=a", "--tag=1.9.8", "--dry-run", **login)
    assert (again.code, again.stdout.splitlines()[-1]) == (0, "nothing to do")
