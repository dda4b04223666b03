"""Which overlay folders an environment is made of, in order, and the files in them."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import NamedTuple

from syntho_deploy.environment import Environment
from syntho_deploy.errors import InputError, nearest, raise_all


class Layer(NamedTuple):
    """One overlay folder: a component, or the environment's own (always the last)."""

    name: str
    folder: Path

    def values(self, chart: str) -> Path | None:
        """The layer's JSON Patch over a chart's values."""
        return _file(self.folder / f"{chart}.values.yaml")

    def manifests(self, chart: str) -> Path | None:
        """The layer's patches over a chart's manifests."""
        return _file(self.folder / f"{chart}.manifests.yaml")

    def objects(self, chart: str) -> list[Path]:
        """The whole objects that the layer adds to a chart, sorted."""
        return sorted(path for path in (self.folder / f"{chart}.objects").glob("*.yaml") if not path.name.startswith("."))


def _file(path: Path) -> Path | None:
    return path if path.is_file() else None


def layers(environment: Environment, search: tuple[str, ...], faults: list[InputError] | None = None) -> list[Layer]:
    """The layers of an environment: its components in their order, then `<overlays>/<environment>/`.

    search: the overlay folders of the pin, relative to the root; the first that has a component gives it.
    faults: where unknown components go, for a caller that refuses them later. Without it raises `InputError` for them, each with the nearest.
    """
    roots = [environment.root / folder for folder in search]
    found: list[Layer] = []
    errors: list[InputError] = []
    for component in environment.components:
        folder = next((root / "components" / component for root in roots if is_component(root / "components" / component)), None)
        if folder is None or not _is_plain(component):
            known = components(roots)
            where = environment.component_marks.get(component)
            todo = f"components: {', '.join(known) or 'none'}"
            errors.append(InputError(f'there is no component "{component}"{nearest(component, known)}', where, todo))
            continue
        found.append(Layer(component, folder))
    own = next((root / environment.name for root in roots if (root / environment.name).is_dir()), None)
    if own:
        found.append(Layer(environment.name, own))
    if faults is None:
        raise_all(errors)
    else:
        faults += errors
    return found


def _is_plain(name: str) -> bool:
    """Is a component named as `components` names it, and not by another way to its folder?"""
    path = PurePosixPath(name)
    return str(path) == name and ".." not in path.parts and not path.is_absolute()


def is_component(folder: Path) -> bool:
    """Is this a component, and not only a folder of others?"""
    return folder.is_dir() and (any(folder.glob("*.yaml")) or any(folder.glob("*.objects/*.yaml")))


def components(roots: list[Path]) -> list[str]:
    """The names of all components under the overlay roots, sorted."""
    names = set()
    for root in roots:
        base = root / "components"
        for file in base.rglob("*.yaml"):
            folder = file.parent.parent if file.parent.name.endswith(".objects") else file.parent
            names.add(str(folder.relative_to(base)))
    return sorted(names - {"."})
