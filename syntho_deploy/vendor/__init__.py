"""The charts on disk: fetched as the lock says, verified at every use, and exchanged whole or not at all.

New charts are staged beside the old ones and verified there. With `--update` the lock is written next: from then on they are
the right ones. Only then do they take their places. So after a kill at any moment the lock tells which charts are right, and
whoever comes next finds them: in their places, or complete in a staging folder.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from syntho_deploy import documents
from syntho_deploy.errors import DeployError, InputError, LockedError, raise_all
from syntho_deploy.vendor import source, tree
from syntho_deploy.vendor.pin import Lock, LockedChart, Pin, load_lock, load_pin, run_vendor, write_lock

__all__ = ["Lock", "LockedChart", "Pin", "Report", "Vendored", "load_lock", "load_pin", "vendor", "vendored"]

URL_VARIABLE = "SYNTHO_CHARTS_URL"
LOCK_TIMEOUT = 900.0  # seconds to wait for another run, which may be fetching
NAMED = 10  # changed files that a message names


class Vendored(NamedTuple):
    """Charts whose bytes are the locked ones. charts: the folder of each."""

    pin: Pin
    lock: Lock
    charts: dict[str, Path]


class Report(NamedTuple):
    """What `vendor` did. lines: for a person. changed: whether it wrote anything."""

    lines: tuple[str, ...]
    changed: bool
    lock: Lock


class _Fault(NamedTuple):
    """Why a chart in its place is not the locked one. stale: nobody's edits would be lost by replacing it."""

    what: str
    stale: bool = False


def vendored(root: Path, pin: Pin) -> Vendored:
    """The charts of a pin, verified. Writes only to finish what a killed run began, and to copy a directory source.

    Raises `InputError` (exit 3) that names what is missing, changed, added or removed, and where a directory source moved.
    """
    lock, home = load_lock(pin), _home(root, pin)
    _refuse_moved(root, pin, lock)
    faults = _faults(home, lock)
    if faults and (pin.ref is None or os.access(_base(root), os.W_OK)):
        with _exclusive(root):
            lock = load_lock(pin)  # another run may have written it meanwhile
            _complete(root, home, pin, lock)
            faults = _faults(home, lock)
            if faults and pin.ref is None and all(fault.stale for fault in faults):
                _fetch(root, pin, None, lock)
                faults = _faults(home, lock)
    _refuse(pin, faults)
    return Vendored(pin, lock, {name: home / name for name in lock.charts})


def vendor(root: Path, pin: Pin, url: str | None = None, update: bool = False, check: bool = False) -> Report:
    """Put the charts of a pin in their places, fetching only what is not there.

    url: in the place of a git source's own, before the environment's SYNTHO_CHARTS_URL. update: resolve the ref anew and write
    the lock; otherwise the locked commit must give the locked digests. check: verify and write nothing.
    Raises `InputError`, `PreflightError` (git missing, source unreachable), `LockedError` (another run does not end).
    """
    if update and check:
        raise InputError("--update writes and --check does not: give one of them")
    if url and pin.ref is None:
        raise InputError("--url is for a git source, and this pin has a directory", pin.mark("source"), "leave --url out")
    if check:
        return _check(root, pin)
    with _exclusive(root):
        url = url or os.environ.get(URL_VARIABLE)
        return _update(root, pin, url) if update else _restore(root, pin, url)


def _check(root: Path, pin: Pin) -> Report:
    lock = load_lock(pin)
    _refuse_moved(root, pin, lock)
    _refuse(pin, _faults(_home(root, pin), lock))
    return Report(tuple(_lines(lock, "verified")), False, lock)


def _restore(root: Path, pin: Pin, url: str | None) -> Report:
    lock, home = load_lock(pin), _home(root, pin)
    _refuse_moved(root, pin, lock)
    finished = _complete(root, home, pin, lock)
    if _faults(home, lock):
        _fetch(root, pin, url, lock)
        return Report(tuple(_lines(lock, "vendored")), True, lock)
    return Report(tuple(_lines(lock, "vendored" if finished else "already vendored")), finished, lock)


def _update(root: Path, pin: Pin, url: str | None) -> Report:
    home, old = _home(root, pin), _old_lock(pin)
    if old:
        _complete(root, home, pin, old)
    with _staging(root, pin) as folder:
        place = source.open_source(root, pin, url, folder / "git")
        commit = place.resolve()
        if old and old.commit == commit and not _faults(home, old):
            shutil.rmtree(folder)
            return Report(tuple(_lines(old, "already vendored")), False, old)
        staged = source.stage(place, pin, place.fetch(commit), folder / "new")
        lock = Lock(pin.source, pin.ref, commit, staged, pin.successor)
    written = write_lock(pin.lock_path, lock)
    _place(folder, home, lock)
    lines = _lines(lock, "vendored")
    return Report((*lines, f"{pin.lock_path.name} was {'written' if written else 'right already'}"), True, lock)


def _old_lock(pin: Pin) -> Lock | None:
    try:
        return load_lock(pin)
    except InputError:
        return None


def _fetch(root: Path, pin: Pin, url: str | None, lock: Lock) -> None:
    """Fetch the locked commit and put it in its place. Raises `InputError` where it is not what the lock says."""
    with _staging(root, pin) as folder:
        place = source.open_source(root, pin, url, folder / "git")
        found = Lock(pin.source, pin.ref, lock.commit, source.stage(place, pin, place.fetch(lock.commit), folder / "new"), pin.successor)
        raise_all(
            [InputError(line, pin.lock_path, f"restore the lock from git, or {run_vendor(pin.path, True)}") for line in lock.differences(found)]
        )
    _place(folder, _home(root, pin), lock)


def _place(folder: Path, home: Path, lock: Lock) -> None:
    """Give the staged charts their places. An interrupt leaves the folder for `_complete`."""
    for name, chart in lock.charts.items():
        if _fault(home / name, chart):
            tree.swap(folder / "new" / name, home / name)
    _tidy(home, lock)
    shutil.rmtree(folder, ignore_errors=True)


def _complete(root: Path, home: Path, pin: Pin, lock: Lock) -> bool:
    """Finish what a killed run began: a staged chart that is the locked one takes its place. Returns whether one did."""
    done = False
    for folder in [item for item in sorted(_base(root).iterdir()) if item.name.rpartition("@")[0] == f".staging@{pin.path.stem}"]:
        for name, chart in lock.charts.items():
            staged = folder / "new" / name
            if _fault(home / name, chart) and not _fault(staged, chart):
                tree.swap(staged, home / name)
                done = True
        shutil.rmtree(folder, ignore_errors=True)  # git of a killed run may still be writing there: the next run tries again
    if done or not _faults(home, lock):
        _tidy(home, lock)
    return done


def _tidy(home: Path, lock: Lock) -> None:
    """Write the list of files beside each chart that is right, and remove charts that the pin no longer has."""
    for name, chart in lock.charts.items():
        found = None if _fault(home / name, chart) else tree.scan(home / name)
        if found and _listed(home / name) != found.entries:
            rows = {path: [entry.mode, entry.blob, entry.size] for path, entry in found.entries.items()}
            documents.write(_list_path(home / name), json.dumps(rows, indent=0))
    for listed in home.glob("*.files"):
        if listed.stem not in lock.charts:
            shutil.rmtree(home / listed.stem, ignore_errors=True)
            listed.unlink()


def _faults(home: Path, lock: Lock) -> list[_Fault]:
    return [fault for name, chart in lock.charts.items() if (fault := _fault(home / name, chart))]


def _fault(folder: Path, chart: LockedChart) -> _Fault | None:
    """What is wrong with a chart in its place, naming the files where the list beside it is the locked one's."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        return _Fault(f"{folder.name} is not the vendored chart: {folder} is no folder")
    if not folder.is_dir():
        return _Fault(f"{folder.name} is not vendored yet", stale=True)
    try:
        found = tree.scan(folder)
    except OSError as error:  # also where another run exchanges the folder at this moment
        return _Fault(f"{folder.name} cannot be read: {error}")
    if (found.id, found.sha256) == (chart.tree, chart.sha256):
        return None
    listed = _listed(folder)
    if listed is not None and tree.tree_id(listed) == found.id:
        return _Fault(f"{folder.name} is vendored from another commit: its tree is {found.id[:12]}, {chart.tree[:12]} is locked", stale=True)
    if listed is None or tree.tree_id(listed) != chart.tree:
        return _Fault(f"{folder.name} is not the vendored chart: its tree is {found.id[:12]}, {chart.tree[:12]} is locked")
    lines = tree.differences(listed, found.entries)
    more = [f"and {len(lines) - NAMED} more"] if len(lines) > NAMED else []
    return _Fault(f"{folder.name} is not what was vendored; " + "; ".join([*lines[:NAMED], *more]))


def _list_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.files")


def _listed(folder: Path) -> dict[str, tree.Entry] | None:
    """The files that were vendored to a folder, or None where no list of them can be read. The tree id proves a list."""
    try:
        rows = json.loads(_list_path(folder).read_bytes())
        return {path: tree.Entry(mode, bytes.fromhex(blob).hex(), size) for path, (mode, blob, size) in rows.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def _refuse_moved(root: Path, pin: Pin, lock: Lock) -> None:
    """Raise `InputError` where the pin's source is a directory that is there and is not the locked one any more."""
    if pin.ref is None and (root / pin.source).is_dir():
        source.Directory(pin, root / pin.source).fetch(lock.commit)


def _refuse(pin: Pin, faults: list[_Fault]) -> None:
    raise_all([InputError(fault.what, pin.mark("charts"), run_vendor(pin.path)) for fault in faults])


def _base(root: Path) -> Path:
    return root / "vendor" / "charts"


def _home(root: Path, pin: Pin) -> Path:
    """Where a pin's charts are: in a folder of its own, but for the default pin."""
    is_default = pin.path.resolve() == (root / "vendor" / "charts.yaml").resolve()
    return _base(root) if is_default else _base(root) / f"@{pin.path.stem}"


def _lines(lock: Lock, what: str) -> Iterator[str]:
    for name, chart in lock.charts.items():
        yield f"{name}: {chart.name} {chart.version} {what} from {chart.path} at {lock.short} (tree {chart.tree[:12]}, license: {chart.license})"


@contextmanager
def _staging(root: Path, pin: Pin) -> Iterator[Path]:
    """A folder on the filesystem of the charts, of this run alone; removed where staging fails."""
    folder = Path(tempfile.mkdtemp(dir=_base(root), prefix=f".staging@{pin.path.stem}@"))
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


@contextmanager
def _exclusive(root: Path) -> Iterator[None]:
    """One run at a time. Raises `LockedError` where another does not end in time, `DeployError` where the disk is full or not ours."""
    from filelock import FileLock, Timeout  # 40 ms that a verified tree does not need

    lock = FileLock(_base(root) / ".lock", timeout=LOCK_TIMEOUT)
    try:
        _base(root).mkdir(parents=True, exist_ok=True)
        with lock:
            yield
    except Timeout:
        raise LockedError("another run is vendoring charts and does not end", _base(root), "wait for it, or end it") from None
    except OSError as error:
        raise DeployError(f"the charts cannot be vendored: {error}") from error
