"""All images of an environment, what registries have of them, and copies in a mirror: with two real registries."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from syntho_deploy import images, process, tools
from syntho_deploy.compile import Project
from syntho_deploy.errors import InputError, PreflightError
from syntho_deploy.helm import Helm
from syntho_deploy.registry import DOCKER_HUB, Registries, parse
from syntho_deploy.vendor import load_pin, vendor
from tests.conftest import copy_project
from tests.registries import RealRegistry, TokenRegistry, digest, needs_real, serving
from tests.unit.test_bump import environment, invoke, write

NAMES = {"syntho-core-api", "syntho-core-backend", "syntho-core-frontend", "syntho-ray", "syntho-ray-operator", "postgres", "redis", "busybox"}


@pytest.fixture(scope="module")
def vendored_site(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with its sandbox charts vendored and no environment."""
    folder = copy_project(root, tmp_path_factory.mktemp("images") / "site")
    vendor(folder, load_pin(folder, folder / "vendor/sandbox.yaml"))
    for file in (folder / "envs").glob("*"):
        file.unlink()
    return folder


@pytest.fixture
def site(vendored_site: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(vendored_site, tmp_path / "site")


def listed(site: Path, helm: Helm) -> list[images.Image]:
    return images.images(Project.load(site, "a"), helm)


def test_every_image_is_listed_with_who_runs_it_and_where_it_stands(site: Path, helm: Helm) -> None:
    two_pools = environment("a", "images,").replace("ray/head-only", "ray/two-pools")
    write(site, "envs/a.yaml", two_pools.replace('  head_cpu: "1"\n  head_memory: 2G\n', ""))
    text = (site / "envs/a.yaml").read_text()
    found = {image.name: image for image in listed(site, helm)}
    assert {name.rpartition("/")[2].partition(":")[0] for name in found} == NAMES, text
    ray = found["r.example.com/s/syntho-ray:1.9.7-cpu"]
    assert ray.apps == ["ray"]
    assert "RayCluster/ray-cluster:/spec/headGroupSpec/template/spec/containers/[name=ray-head]/image" in ray.used_by
    assert sum("workerGroupSpecs" in one for one in ray.used_by) == 2
    assert ray.where == [str(site / "overlays/components/images/ray.values.yaml") + ":3:3"]
    busybox = found["r.example.com/s/busybox:1.28"]
    assert any(one.startswith("Deployment/frontend:/spec/template/spec/initContainers/") for one in busybox.used_by)
    assert any("syntho-ui.manifests.yaml:" in where for where in busybox.where)
    assert found["r.example.com/s/syntho-ray-operator:1.9.7"].where == [str(site / "overlays/components/images/ray.values.yaml") + ":6:3"]
    assert (found["busybox"].where, found["busybox"].used_by[0].endswith("(hook)")) == ([images.LITERAL], True)


def test_without_overlays_the_charts_defaults_are_named(site: Path, helm: Helm) -> None:
    write(site, "envs/a.yaml", environment("a", ""))
    found = {image.name: image for image in listed(site, helm)}
    assert found["redis:7.2-rc2"].where == ["syntho-ui:/redis/image/repository (chart default)", "syntho-ui:/redis/image/tag (chart default)"]


def test_a_check_gives_digests_and_platforms_and_what_is_missing(site: Path, helm: Helm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_USER", TokenRegistry.user)
    monkeypatch.setenv("TEST_PASSWORD", TokenRegistry.password)
    with serving(TokenRegistry()) as registry:
        write(site, "envs/a.yaml", environment("a", "images,", f"{registry.host}/s"))
        registry.add("s/syntho-ray", "1.9.7-cpu", platforms=("amd64", "arm64"))
        found = [image for image in listed(site, helm) if image.name.startswith(registry.host)]
        images.check(Project.load(site, "a"), found)
        by_name = {image.name.rpartition("/")[2]: image for image in found}
        ray = by_name["syntho-ray:1.9.7-cpu"].found
        assert ray
        assert (ray.digest, ray.platforms) == (digest(registry.content["s/syntho-ray"]["1.9.7-cpu"][1]), ("linux/amd64", "linux/arm64"))
        assert by_name["postgres:14"].fault == "the registry does not have it"
        with pytest.raises(PreflightError, match=r"the registry has no .*syntho-core-api:1\.9\.7") as caught:
            images.plan_copies(Project.load(site, "a"), found, "localhost:1/mirror")
        assert "nothing was copied" in str(caught.value)


@pytest.mark.parametrize("name", ["https://r.example.com", "mirror", "", "r.example.com/UPPER"])
def test_a_mirror_that_is_no_registry_is_refused(name: str) -> None:
    with pytest.raises(InputError):
        images.mirror_name(name)


def test_two_images_of_one_name_in_the_mirror_are_refused(site: Path, helm: Helm) -> None:
    with serving(TokenRegistry("")) as registry:
        registry.add("s/redis", "1")
        registry.add("t/redis", "1")
        write(site, "envs/a.yaml", environment("a", "images,", f"{registry.host}/s"))
        two = [images.Image(f"{registry.host}/{name}/redis:1", used_by=["x"]) for name in ("s", "t")]
        with pytest.raises(InputError, match="are two images, and both would be"):
            images.plan_copies(Project.load(site, "a"), two, "localhost:1/m")


def test_the_login_reaches_crane_in_memory_beside_the_users_own(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(site, "envs/a.yaml", environment("a", "images,"))
    monkeypatch.setenv("TEST_USER", "me")
    monkeypatch.setenv("TEST_PASSWORD", "not-on-a-disk-31415")
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker/config.json").write_text('{"auths": {"other.example.com": {"auth": "b3RoZXI="}}, "credsStore": "desktop"}')
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    with images._docker_config(Project.load(site, "a"), ["r.example.com", DOCKER_HUB]) as (env, inherit):
        folder = Path(env["DOCKER_CONFIG"])
        assert [path.name for path in folder.iterdir()] == ["config.json"]
        assert (folder / "config.json").is_symlink()
        seen = json.loads(process.run(["cat", folder / "config.json"], env=env, inherit=inherit, raw=True).stdout)
    assert seen["auths"] == {"other.example.com": {"auth": "b3RoZXI="}, "r.example.com": {"username": "me", "password": "not-on-a-disk-31415"}}
    assert seen["credHelpers"] == {"r.example.com": ""}
    assert not folder.exists()


def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    with images.progress_bar(said.append, False) as progress:
        progress(1, 3, "r.example.com/a:[1] copied")
    assert said == ["[1/3] r.example.com/a:[1] copied"]
    with images.progress_bar(said.append, True) as progress:
        progress(2, 3, "r.example.com/a:[1] copied")
    assert (len(said), capsys.readouterr().out) == (1, "")


# --- with two real registries -----------------------------------------------------------------------------------------


@pytest.fixture
def registries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[RealRegistry, RealRegistry]]:
    """Syntho's registry and the site's own, which want no login, but are given one."""
    monkeypatch.setenv("TEST_USER", "me")
    monkeypatch.setenv("TEST_PASSWORD", "any-password-161803")
    with serving(RealRegistry(tmp_path / "upstream")) as one, serving(RealRegistry(tmp_path / "mirror")) as other:
        yield one, other


def filled(site: Path, upstream: RealRegistry) -> list[str]:
    """An environment whose images are all in a registry; the repositories with their tags."""
    write(site, "envs/a.yaml", environment("a", "images,", f"{upstream.host}/syntho"))
    patch = f"- {{op: replace, path: /image/repository, value: {upstream.host}/syntho/syntho-ray, overrides: true}}\n"
    write(site, "overlays/a/ray.values.yaml", patch)
    names = ["syntho-core-api:1.9.7", "syntho-core-backend:1.9.7", "syntho-core-frontend:1.9.7", "syntho-ray:1.9.7-cpu", "syntho-ray-operator:1.9.7"]
    names += ["postgres:14", "redis:7.2", "busybox:1.28"]
    for name in names:
        repository, _, tag = name.partition(":")
        upstream.push(f"syntho/{repository}", tag, layers=(f"layer of {name}".encode() * 1000, b"shared" * 1000))
    return names


@needs_real
def test_all_images_are_mirrored_by_digest_and_a_second_run_copies_none(
    site: Path, helm: Helm, registries: tuple[RealRegistry, RealRegistry]
) -> None:
    upstream, mirror = registries
    names = filled(site, upstream)
    project = Project.load(site, "a")
    wanted = images.images(project, helm)
    crane, said = tools.find("crane").path, list[str]()
    copies = images.plan_copies(project, wanted, f"{mirror.host}/own")
    assert not any(one.done for one in copies)
    images.copy(project, copies, crane, lambda done, count, what: said.append(f"{done}/{count}"))
    assert said[-1] == f"{len(names)}/{len(names)}"
    ask = Registries(lambda host: None)
    for name in names:
        assert ask.digest(parse(f"{mirror.host}/own/{name}")) == ask.digest(parse(f"{upstream.host}/syntho/{name}"))
    again = images.plan_copies(project, wanted, f"{mirror.host}/own")
    assert all(one.done for one in again)
    images.copy(project, again, Path("/nowhere/crane"), lambda done, count, what: None)


@needs_real
def test_an_interrupted_run_is_taken_up(site: Path, helm: Helm, registries: tuple[RealRegistry, RealRegistry]) -> None:
    upstream, mirror = registries
    filled(site, upstream)
    project = Project.load(site, "a")
    wanted = images.images(project, helm)

    def stop(done: int, count: int, what: str) -> None:
        if what.endswith("copied") and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        images.copy(project, images.plan_copies(project, wanted, mirror.host), tools.find("crane").path, stop)
    rest = images.plan_copies(project, wanted, mirror.host)
    assert [one.done for one in rest].count(True) == 3
    images.copy(project, rest, tools.find("crane").path, lambda done, count, what: None)
    assert all(one.done for one in images.plan_copies(project, wanted, mirror.host))


@needs_real
def test_a_mirror_that_moved_a_tag_gets_the_right_image_again(site: Path, helm: Helm, registries: tuple[RealRegistry, RealRegistry]) -> None:
    upstream, mirror = registries
    filled(site, upstream)
    mirror.push("own/postgres", "14", layers=(b"another",))
    project = Project.load(site, "a")
    postgres = [image for image in images.images(project, helm) if "postgres" in image.name]
    images.copy(project, images.plan_copies(project, postgres, f"{mirror.host}/own"), tools.find("crane").path, lambda done, count, what: None)
    ask = Registries(lambda host: None)
    assert ask.digest(parse(f"{mirror.host}/own/postgres:14")) == ask.digest(parse(f"{upstream.host}/syntho/postgres:14"))


@needs_real
def test_the_command_lists_checks_and_mirrors(site: Path, registries: tuple[RealRegistry, RealRegistry]) -> None:
    upstream, mirror = registries
    names = filled(site, upstream)
    shown = invoke(site, "images", "--env=a", "--check", "--json")
    told = {row["image"]: row for row in json.loads(shown.stdout)["images"]}
    assert told[f"{upstream.host}/syntho/postgres:14"]["platforms"] == ["linux/amd64"]
    assert {name for name, row in told.items() if row["fault"]} <= {"busybox"}  # of the hook, on Docker Hub
    mirrored = invoke(site, "images", "--env=a", f"--mirror={mirror.host}/own")
    assert mirrored.code == 0, mirrored.stderr
    assert f"[{len(names)}/{len(names)}]" in mirrored.stderr
    assert "left out: busybox, which only a hook runs" in mirrored.stderr
    found = requests.get(f"http://{mirror.host}/v2/_catalog", timeout=10).json()["repositories"]
    assert found == sorted(f"own/{name.partition(':')[0]}" for name in names)
