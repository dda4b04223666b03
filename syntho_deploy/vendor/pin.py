"""The pin file, which says what to vendor, and its lock, which says what that was: both read strictly."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from syntho_deploy import documents
from syntho_deploy.documents import Document
from syntho_deploy.errors import InputError, Mark, raise_all, shown
from syntho_deploy.section import Section

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
REF = re.compile(r"(?!.*(\.\.|//|/$|\.$|\.lock$))[A-Za-z0-9_][A-Za-z0-9_.+/#@-]*")
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|[^/]+:")  # the second is ssh's host:path
COMMIT, SHA256 = re.compile(r"[0-9a-f]{40}"), re.compile(r"[0-9a-f]{64}")
DEFAULT = "charts.yaml"  # the pin file that `invoke vendor` takes when none is named
HEADER = "# What the pin beside this file resolved to. Written by: invoke vendor --update\n"


class Pin(NamedTuple):
    """A pin file. ref: None for a directory source. charts: path in the source by name. overlays: where overlays are looked for."""

    path: Path
    source: str
    ref: str | None
    charts: dict[str, str]
    successor: str | None = None
    overlays: tuple[str, ...] = ("overlays",)
    document: Document = Document("", None, {})

    @property
    def lock_path(self) -> Path:
        """The lock file's place, beside the pin."""
        return self.path.with_name(f"{self.path.stem}.lock.yaml")

    def mark(self, *keys: str) -> Mark:
        """Where a value of the pin stands."""
        return self.document.mark(*keys)


class LockedChart(NamedTuple):
    """What one chart was: its path in the source, its tree id and digest, and what it says of itself."""

    path: str
    tree: str
    sha256: str
    name: str
    version: str
    license: str


class Lock(NamedTuple):
    """What a pin resolved to. commit: of a directory source, its git tree id."""

    source: str
    ref: str | None
    commit: str
    charts: dict[str, LockedChart]
    successor: str | None = None

    @property
    def short(self) -> str:
        """The pin as versions and messages carry it."""
        return self.commit[:12]

    def data(self) -> dict[str, documents.Json]:
        """The lock as its file has it."""
        return {**self._asdict(), "charts": {name: chart._asdict() for name, chart in self.charts.items()}}

    def differences(self, other: Lock) -> list[str]:
        """What `other` has otherwise, a line each."""
        mine, theirs = (_flat(lock.data()) for lock in (self, other))
        changed = [key for key in sorted(mine.keys() | theirs.keys()) if mine.get(key) != theirs.get(key)]
        return [f"{key}: {mine.get(key, 'nothing')} is locked, {theirs.get(key, 'nothing')} found" for key in changed]


def run_vendor(pin: Path, update: bool = False) -> str:
    """The command that fetches the charts of a pin file, or resolves it anew."""
    option = "" if pin.name == DEFAULT else f" --pin={shown(pin)}"
    return f"run: invoke vendor{option}{' --update' if update else ''}"


def _flat(value: documents.Json) -> dict[str, str]:
    leaves = ((keys, leaf) for keys, leaf in documents.walk(value) if isinstance(leaf, str))
    return {".".join(str(key) for key in keys): leaf for keys, leaf in leaves}


def load_pin(root: Path, file: Path) -> Pin:
    """Read a pin file. root: the repository's. file: relative to it, or absolute.

    Raises `InputError` with every fault's file:line: unknown or missing keys, wrong types, names, paths and refs.
    """
    path = root / file
    document = documents.load(path)
    errors: list[InputError] = []
    top = Section(document, (), errors)
    source, ref = top.need("source", str, "."), top.get("ref", str, "") or None
    _check_source(top, source, ref)
    charts = _charts(top)
    successor = top.get("successor", str, "") or None
    overlays = tuple(top.texts("overlays")) if "overlays" in top else ("overlays",)
    for index, folder in enumerate(overlays):
        if not _inside(folder):
            top.fault(f'"{folder}" must be a folder of this repository, relative to its root', "overlays", index)
    top.done()
    raise_all(errors)
    return Pin(path, source, ref, charts, successor, overlays, document)


def _check_source(top: Section, source: str, ref: str | None) -> None:
    if not source or source.startswith("-"):
        top.fault('"source" must be a URL or a path', "source")
    if ref is not None and not REF.fullmatch(ref):
        top.fault(f'"{ref}" cannot be a ref', "ref", todo="write a commit (40 hex digits), a tag or a branch")
    if "ref" not in top and URL.match(source):
        top.fault('a git source needs the key "ref"', "source", todo="add ref: a commit (40 hex digits), a tag or a branch")


def _charts(top: Section) -> dict[str, str]:
    top.need("charts", dict, {})
    section = top.section("charts")
    for name in section.data:
        if not LABEL.fullmatch(name):
            section.fault(f'"{name}" cannot be a chart\'s name', name, todo="use small letters, digits and hyphens, 63 at most")
    charts = {name: section.need(name, str, ".") for name in section.data}
    for name, path in charts.items():
        if not _inside(path):
            section.fault(f'"{path}" must be a path in the source, without ".."', name)
    if "charts" in top and not charts:
        top.fault('"charts" names no chart', "charts")
    return {name: str(PurePosixPath(path)) for name, path in sorted(charts.items())}


def _inside(path: str) -> bool:
    pure = PurePosixPath(path)
    return bool(path) and "\\" not in path and not pure.is_absolute() and ".." not in pure.parts


def load_lock(pin: Pin) -> Lock:
    """The pin's lock. Raises `InputError` where it is missing, broken, or the lock of another pin than the file now says."""
    if not pin.lock_path.exists():
        raise InputError("this pin has no lock yet: what it resolves to is not known", pin.lock_path, run_vendor(pin.path, True))
    lock = read_lock(pin.lock_path)
    paths = {name: chart.path for name, chart in lock.charts.items()}
    pairs = {
        "source": (lock.source, pin.source), "ref": (lock.ref, pin.ref), "successor": (lock.successor, pin.successor),
        **{f"charts.{name}": (paths.get(name), pin.charts.get(name)) for name in sorted(paths.keys() | pin.charts.keys())},
    }  # fmt: skip
    raise_all([
        InputError(f"{key} is {wanted or 'absent'} here, and {locked or 'absent'} in the lock", pin.mark(*key.split(".")), run_vendor(pin.path, True))
        for key, (locked, wanted) in pairs.items() if locked != wanted
    ])  # fmt: skip
    return lock


def read_lock(path: Path) -> Lock:
    """Read a lock file, whatever the pin says. Raises `InputError` with every fault's file:line."""
    errors: list[InputError] = []
    top = Section(documents.load(path), (), errors)
    source, ref, successor = top.need("source", str, ""), top.get("ref", str, ""), top.get("successor", str, "")
    commit = _hex(top, "commit", COMMIT)
    top.need("charts", dict, {})
    charts = {name: _locked(section) for name, section in top.section("charts").sections().items()}
    top.done()
    for error in errors:
        error.todo = error.todo or f"restore it from git, or {run_vendor(path.with_name(path.name.replace('.lock', '')), True)}"
    raise_all(errors)
    return Lock(source, ref or None, commit, charts, successor or None)


def _locked(section: Section) -> LockedChart:
    path, name, version, licence = (section.need(key, str, "") for key in ("path", "name", "version", "license"))
    chart = LockedChart(path, _hex(section, "tree", COMMIT), _hex(section, "sha256", SHA256), name, version, licence)
    section.done()
    return chart


def _hex(section: Section, key: str, form: re.Pattern[str]) -> str:
    value = section.need(key, str, "")
    if value and not form.fullmatch(value):
        section.fault(f'"{key}" is not a whole digest in hex', key)
    return value


def write_lock(path: Path, lock: Lock) -> bool:
    """Write the lock, unless the file says the same already. Returns whether it was written."""
    data = {key: value for key, value in lock.data().items() if value is not None}
    content = HEADER + documents.dump(data)
    if path.is_file() and path.read_bytes() == content.encode():
        return False
    documents.write(path, content)
    return True
