"""A file that looks like a part of an environment, and that nothing reads, is named with the nearest name that is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from syntho_deploy.environment import load_environment
from syntho_deploy.errors import InputError
from syntho_deploy.overlays.layers import layers
from syntho_deploy.overlays.unread import unread
from tests.conftest import write_files

SEARCH = ("pin", "overlays")
READ = {
    "envs/dev.yaml": "cluster: {context: aks, namespace: syntho}\ncomponents: [keys, keys/more]\n",
    "envs/prod.yaml": "",
    "envs/README.md": "",
    "envs/.gitkeep": "",
    "envs/dev.yaml~": "an editor's copy",
    "overlays/roles.yaml": "",
    "overlays/ignore.yaml": "",
    "overlays/README.md": "",
    "overlays/dev/ui.values.yaml": "",
    "overlays/dev/ui.objects/a.yaml": "",
    "overlays/prod/ui.values.yaml": "",
    "overlays/pins/1.9/components/keys/ui.values.yaml": "",
    "overlays/components/keys/ui.values.yaml": "",
    "overlays/components/keys/more/ray.manifests.yaml": "",
    "overlays/components/keys/and/more/ray.objects/a.yaml": "",
    "overlays/components/other/what.yaml": "a component that this environment does not have",
    "pin/components/ray/ray.values.yaml": "",
}


def found(folder: Path, files: dict[str, str]) -> list[InputError]:
    environment = load_environment(write_files(folder, READ | files), "dev")
    return unread(environment, SEARCH, ["ray", "ui"], layers(environment, SEARCH))


def test_what_is_read_is_no_fault(tmp_path: Path) -> None:
    assert found(tmp_path, {}) == []


@pytest.mark.parametrize(
    ("name", "at", "near"),
    [
        ("overlays/dev/ui.value.yaml", "", "ui.values.yaml"),
        ("overlays/dev/ray.manifest.yaml", "", "ray.manifests.yaml"),
        ("overlays/dev/ui.values.yml", "", "ui.values.yaml"),
        ("overlays/dev/ui.values.json", "", "ui.values.yaml"),
        ("overlays/dev/roles.yaml", "", ""),
        ("overlays/dev/notes.txt", "", ""),
        ("overlays/dev/uo.objects/a.yaml", "overlays/dev/uo.objects", "ui.objects"),
        ("overlays/dev/ui.objects/b.yml", "", ""),
        ("overlays/dev/ui.objects/deeper/b.yaml", "overlays/dev/ui.objects/deeper", ""),
        ("overlays/dev/deeper/ui.values.yaml", "overlays/dev/deeper", ""),
        ("overlays/components/keys/ui.object/a.yaml", "overlays/components/keys/ui.object", "ui.objects"),
        ("overlays/components/keys/ui.values.yml", "", "ui.values.yaml"),
        ("overlays/prdo/ui.values.yaml", "overlays/prdo", "prod"),
        ("overlays/role.yaml", "", "roles.yaml"),
        ("overlays/dev.yaml", "", ""),
        ("envs/staging.yml", "", ""),
        ("envs/prod.yml", "", "prod.yaml"),
        ("envs/prod/values.yaml", "envs/prod", "prod.yaml"),
    ],
)
def test_a_file_that_nothing_reads_is_named_with_the_nearest(tmp_path: Path, name: str, at: str, near: str) -> None:
    (fault,) = found(tmp_path, {name: "[]"})
    assert fault.where == tmp_path / (at or name)
    assert "nothing reads this" in fault.what
    assert (f'did you mean "{near}"' in fault.what) == bool(near)
    assert fault.todo


def test_an_overlay_behind_another_of_the_same_environment_is_one(tmp_path: Path) -> None:
    (fault,) = found(tmp_path, {"pin/dev/ui.values.yaml": "[]"})
    assert fault.where == tmp_path / "overlays/dev"
    assert "pin/dev goes before it" in fault.what


def test_a_link_to_nothing_and_a_folder_in_a_files_place_are_faults(tmp_path: Path) -> None:
    write_files(tmp_path, {"overlays/dev/ray.manifests.yaml/x.yaml": "", "overlays/dev/ray.objects": ""})
    (tmp_path / "overlays/dev/ray.values.yaml").symlink_to("nowhere.yaml")
    assert [(fault.where, fault.what) for fault in found(tmp_path, {})] == [
        (tmp_path / "overlays/dev/ray.manifests.yaml", "must be a file"),
        (tmp_path / "overlays/dev/ray.objects", "must be a folder"),
        (tmp_path / "overlays/dev/ray.values.yaml", "must be a file"),
    ]
