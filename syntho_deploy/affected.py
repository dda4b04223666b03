"""Which environments a change touches, told by the files that each of them is made of."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from syntho_deploy import process
from syntho_deploy.cluster.ignore import FILE as IGNORE
from syntho_deploy.console import table
from syntho_deploy.environment import Environment, load_environment, names
from syntho_deploy.errors import InputError, PreflightError, nearest
from syntho_deploy.overlays.layers import is_component
from syntho_deploy.vendor import load_pin
from syntho_deploy.vendor.pin import URL

# What every environment is made by, and every environment on a cluster of this machine.
CODE = ("syntho_deploy/", "tasks.py", "requirements.lock", "tools/tools.lock.yaml")
LOCAL_CODE = ("tools/",)


@dataclass(frozen=True)
class Touched:
    """One environment that is chosen. pin: the file of its pin; files: what of the change it is made of; fault: why that cannot be told,
    or "": of such a one nothing else is known."""

    name: str
    protected: bool
    local: bool
    pin: str
    files: tuple[str, ...] = ()
    fault: str = ""


@dataclass(frozen=True)
class Change:
    """What a change touches. base: the commit it begins at; deleted: environments that it removes; uncommitted: what of it is in
    the work tree only."""

    environments: tuple[Touched, ...]
    base: str = ""
    deleted: tuple[str, ...] = ()
    uncommitted: tuple[str, ...] = ()


@dataclass
class _Made:
    """What an environment is made of, relative to the root: files, folders of any depth (with a slash), and overlay folders, of which
    only what stands in them counts: others may be inside."""

    files: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    layers: set[PurePosixPath] = field(default_factory=set)

    def of(self, paths: Iterable[str]) -> tuple[str, ...]:
        """Those of these paths that it is made of."""
        return tuple(path for path in paths if path in self.files or path.startswith(tuple(self.folders)) or self._in_layer(PurePosixPath(path)))

    def _in_layer(self, path: PurePosixPath) -> bool:
        objects = path.parent.parent if path.parent.name.endswith(".objects") else path.parent
        return path.suffix == ".yaml" and bool(self.layers & {path.parent, objects})


def affected(root: Path, base: str, wanted: Iterable[str]) -> Change:
    """Which of the environments `wanted` are touched by what changed since HEAD left `base`. Uncommitted changes count, since they are
    what is planned and deployed here. Without a base, all of them.

    Raises `InputError` for a base that is no commit here, `PreflightError` where there is no git repository.
    """
    if not base:
        return Change(tuple(_touched(root, name, ()) for name in wanted))
    commit = _common(root, base)
    committed = _paths(root, "diff", "--name-only", "-z", "--no-renames", "--relative", commit, "HEAD", "--")
    tracked = _paths(root, "diff", "--name-only", "-z", "--no-renames", "--relative", commit, "--")
    new = _paths(root, "ls-files", "-z", "--others", "--exclude-standard")
    uncommitted = {*_paths(root, "diff", "--name-only", "-z", "--no-renames", "--relative", "HEAD", "--"), *new}
    paths = sorted({*committed, *tracked, *new})
    found = [touched for name in wanted if (touched := _touched(root, name, paths)).files or touched.fault]
    before = _paths(root, "ls-tree", "-z", "--name-only", commit, "--", "envs/")
    deleted = {PurePosixPath(path).stem for path in before if path.endswith(".yaml")} - set(names(root))
    return Change(tuple(found), commit, tuple(sorted(deleted)), tuple(sorted(uncommitted)))


def _touched(root: Path, name: str, paths: Iterable[str]) -> Touched:
    try:
        environment = load_environment(root, name)
        made = _made(root, environment)
    except InputError as error:  # of its plan, the first thing that is said
        return Touched(name, True, False, "", tuple(path for path in paths if path == f"envs/{name}.yaml"), str(error))
    return Touched(name, environment.protected, bool(environment.target.local), _relative(root, environment.pin_file), made.of(paths))


def _made(root: Path, environment: Environment) -> _Made:
    """Everything in the repository that an environment's compile, plan and deploy read. Raises `InputError` for a pin that is not right."""
    pin = load_pin(root, environment.pin_file)
    made = _Made({_relative(root, path) for path in (environment.file, pin.path, pin.lock_path, root / IGNORE)})
    code = [*CODE, *(LOCAL_CODE if environment.target.local else ())]
    made.folders |= {path for path in code if path.endswith("/")}
    made.files |= {path for path in code if not path.endswith("/")}
    if not URL.match(pin.source):
        made.folders |= {f"{_relative(root, root / pin.source / chart)}/" for chart in pin.charts.values()}
    overlays = [root / folder for folder in pin.overlays]
    made.files |= {_relative(root, path) for path in _until([folder / "roles.yaml" for folder in overlays], Path.is_file)}
    layers = _until([folder / environment.name for folder in overlays], Path.is_dir)
    for component in environment.components:
        layers += _until([folder / "components" / component for folder in overlays], is_component)
    for layer in layers:
        made.layers.add(PurePosixPath(_relative(root, layer)))
        links = [path for path in (*layer.glob("*.yaml"), *layer.glob("*.objects/*.yaml")) if path.resolve() != path]
        made.files |= {_relative(root.resolve(), path.resolve()) for path in links}
    made.files |= {_relative(root, root / Path(word).expanduser()) for word in _named(environment) if word}
    return made


def _named(environment: Environment) -> Iterable[str]:
    """What an environment says that may be the path of a file: of its secrets, of the words of its commands, of its kubeconfig."""
    for spec in environment.secrets.values():
        yield from (spec.file, *(spec.tls or ()), *spec.command)
    for words in environment.before_upgrade:
        yield from words
    yield environment.target.kubeconfig


def _until(paths: list[Path], found: Any) -> list[Path]:
    """The places that a search comes by: up to the first that has it, since a file that comes or goes before it changes the answer."""
    for number, path in enumerate(paths):
        if found(path):
            return paths[: number + 1]
    return paths


def _relative(root: Path, path: Path) -> str:
    """As git names it; of something outside, a path that git never names."""
    return Path(os.path.relpath(path, root)).as_posix()


def _common(root: Path, base: str) -> str:
    """The commit at which HEAD left `base`."""
    if _git(root, "rev-parse", "--git-dir").code:
        raise PreflightError("this is no git repository, so no change can be told", root, "run it in a clone")
    given = _git(root, "rev-parse", "--verify", "--quiet", f"{base}^{{commit}}") if not base.startswith("-") else None
    if given is None or given.code:
        refs = _git(root, "for-each-ref", "--format=%(refname:short)").stdout.split()
        raise InputError(f'"{base}" is no commit of this repository{nearest(base, refs)}', todo="fetch it: a shallow clone (fetch-depth: 1) lacks it")
    commit = given.stdout.strip()
    common = _git(root, "merge-base", commit, "HEAD")
    if common.code:
        raise InputError(f'"{base}" and HEAD have no commit in common here', todo="fetch their history: in GitHub Actions, fetch-depth: 0")
    return common.stdout.split()[0]


def _paths(root: Path, *words: str) -> list[str]:
    return [path for path in _git(root, *words, check=True).stdout.split("\0") if path]


def _git(root: Path, *words: str, check: bool = False) -> process.Result:
    return process.run(["git", "-C", root, *words], check=check, raw=True, env={"GIT_OPTIONAL_LOCKS": "0"})


def remote(change: Change) -> Change:
    """The change without the environments whose cluster is on this machine: on another machine it is another cluster."""
    return Change(tuple(one for one in change.environments if not one.local), change.base, change.deleted, change.uncommitted)


def as_json(change: Change) -> dict[str, Any]:
    """A change as JSON: {"matrix": {"include": [{"environment", "protected", "local", "pin", "files", "fault"}]}, "any", "base", "deleted",
    "uncommitted"}. A strategy of GitHub Actions takes the matrix as it is, unless it is empty."""
    rows = [
        {"environment": one.name, "protected": one.protected, "local": one.local, "pin": one.pin, "files": list(one.files), "fault": one.fault}
        for one in change.environments
    ]
    return {
        "matrix": {"include": rows}, "any": bool(rows), "base": change.base, "deleted": list(change.deleted), "uncommitted": list(change.uncommitted),
    }  # fmt: skip


def text(change: Change) -> str:
    """A change as people read it."""
    lines = []
    if change.environments:
        rows: list[tuple[str, ...]] = [("ENVIRONMENT", "PROTECTED", "CLUSTER", "BECAUSE OF")]
        for one in change.environments:
            why = one.fault or ", ".join(one.files[:3]) + (f" and {len(one.files) - 3} more" if len(one.files) > 3 else "") or "--env"
            rows.append((one.name, "yes" if one.protected else "no", "local" if one.local else "remote", why))
        lines.append(table(rows))
    else:
        lines.append("no environment is touched")
    lines += [f"deleted: {name}, whose releases stay where they are" for name in change.deleted]
    if change.uncommitted:
        lines.append(f"not committed, and counted: {', '.join(change.uncommitted[:5])}{' …' if len(change.uncommitted) > 5 else ''}")
    return "\n".join(lines)
