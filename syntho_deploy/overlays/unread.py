"""Files that look like a part of an environment and that nothing reads: a mistake in a name, which would be silently without effect."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from syntho_deploy.environment import Environment, names
from syntho_deploy.errors import InputError, nearest, shown
from syntho_deploy.overlays.layers import Layer

ROOT_FILES = ("roles.yaml", "ignore.yaml")
KINDS = ("values.yaml", "manifests.yaml", "objects")


def unread(environment: Environment, search: tuple[str, ...], charts: Iterable[str], layers: list[Layer]) -> list[InputError]:
    """A fault for each file of `envs/`, of the overlay folders of the pin and of an environment's layers that nothing reads.

    Pages for people (`*.md`), hidden files and an editor's copies (`x~`) are none.
    """
    known, roots = names(environment.root), [environment.root / folder for folder in search]
    errors = _of_envs(environment.root / "envs", known)
    for root in filter(Path.is_dir, roots):
        errors += _of_root(root, known)
    expected = [f"{chart}.{kind}" for chart in charts for kind in KINDS]
    for layer in layers:
        errors += _of_layer(layer.folder, expected, layer.folder not in [root / environment.name for root in roots])
    own = [root / environment.name for root in roots if (root / environment.name).is_dir()]
    errors += [InputError(f"nothing reads this: {shown(own[0])} goes before it", other, "put all into one of the two") for other in own[1:]]
    return errors


def _of_envs(folder: Path, known: list[str]) -> list[InputError]:
    return [
        InputError(f"nothing reads this{nearest(path.name, [f'{name}.yaml' for name in known])}", path, "an environment is a file envs/<name>.yaml")
        for path in _entries(folder)
        if path.suffix != ".yaml"
    ]


def _of_root(root: Path, known: list[str]) -> list[InputError]:
    """Of a folder such as `overlays/`: components, the overlays of environments, and folders of the same kind for other pins."""
    errors = []
    for path in _entries(root):
        if path.is_dir():
            right = path.name == "components" or path.name in known or _is_root(path) or any(map(_is_root, filter(Path.is_dir, path.iterdir())))
            todo = "a folder here has the name of an environment; a shared one belongs under components/"
        else:
            right, todo = path.name in ROOT_FILES, f"the files here are {', '.join(ROOT_FILES)}; others belong into a folder"
        if not right:
            errors.append(InputError(f"nothing reads this{nearest(path.name, known if path.is_dir() else ROOT_FILES)}", path, todo))
    return errors


def _is_root(folder: Path) -> bool:
    return (folder / "components").is_dir() or (folder / "roles.yaml").is_file()


def _of_layer(folder: Path, expected: list[str], component: bool) -> list[InputError]:
    """component: whether folders in it may be components too."""
    todo = f"an overlay folder has: {', '.join(expected)}"
    errors = []
    for path in _entries(folder):
        folder_wanted = path.name.endswith(".objects")
        if path.name in expected and not (path.is_dir() if folder_wanted else path.is_file()):
            errors.append(InputError(f"must be a {'folder' if folder_wanted else 'file'}", path, "put one there, or remove it"))
        elif path.name in expected:
            inside = _entries(path) if path.is_dir() else ()
            errors += [InputError("nothing reads this", one, "an object is a file *.yaml") for one in inside if one.suffix != ".yaml"]
        elif not (component and path.is_dir() and _holds_component(path, expected)):
            errors.append(InputError(f"nothing reads this{nearest(path.name, expected)}", path, todo))
    return errors


def _holds_component(folder: Path, expected: list[str]) -> bool:
    return any(path.name in expected for path in folder.rglob("*"))


def _entries(folder: Path) -> Iterator[Path]:
    hidden = (path for path in sorted(folder.iterdir()) if not path.name.startswith(".") and not path.name.endswith("~"))
    return (path for path in hidden if path.suffix != ".md")
