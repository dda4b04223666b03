"""Several files of the repository changed as one: whoever reads them next sees all of them old, or all of them new.

No system call exchanges several files. So the new contents go into a journal first, with the digests of the old ones; then the
files take their places one by one, and the journal goes. A run that is killed leaves the journal, and whoever loads an
environment next settles it: nothing was written yet, and nothing is; or something was, and the rest follows. An interrupt (Ctrl-C,
SIGTERM) waits for the rest.
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from syntho_deploy.errors import DeployError, InputError, LockedError, raise_all, shown

JOURNAL = ".transaction.json"
LOCK_TIMEOUT = 30.0  # seconds: a transaction takes milliseconds


class _File(NamedTuple):
    """One file of a transaction. old: the sha256 of what was there, None for a new file; new: the whole content."""

    path: Path
    old: str | None
    new: bytes

    @property
    def is_new(self) -> bool:
        return _digest(self.path) == hashlib.sha256(self.new).hexdigest()

    @property
    def is_old(self) -> bool:
        return _digest(self.path) == self.old


def write(root: Path, files: Mapping[Path, tuple[bytes | None, bytes]]) -> None:
    """Change files under `root` together. files: by path what was read there (None: no such file) and what is to be there.

    Raises `LockedError` where one is not what was read any more, `DeployError` where the disk is full or not ours; nothing was
    written then.
    """
    wanted = [_File(_inside(root, path), old if old is None else hashlib.sha256(old).hexdigest(), new) for path, (old, new) in files.items()]
    rows = [{"path": str(file.path.relative_to(root.resolve())), "old": file.old, "new": file.new.decode("utf-8")} for file in wanted]
    with _exclusive(root):
        _settle(root)
        for file in wanted:
            if not file.is_old:
                raise LockedError("this file was changed since it was read", file.path, "run the command again")
        _put(root, root / JOURNAL, json.dumps(rows, indent=1, ensure_ascii=False).encode())
        try:
            _finish(root, wanted)
        except KeyboardInterrupt:
            _finish(root, wanted)
            raise


def settle(root: Path) -> None:
    """Finish or drop what a killed `write` left. Without a journal this looks for one and does nothing.

    Raises `InputError` where a file was edited in between, so that neither way is right.
    """
    if (root / JOURNAL).exists():
        with _exclusive(root):
            _settle(root)


def _settle(root: Path) -> None:
    journal = root / JOURNAL
    if not journal.exists():
        return
    try:
        rows = json.loads(journal.read_bytes())
        files = [_File(_inside(root, root / row["path"]), row["old"], row["new"].encode()) for row in rows]
    except (ValueError, TypeError, KeyError):
        raise InputError("this is no journal of a change to several files", journal, "remove it") from None
    if all(file.is_old for file in files):  # killed before the first, or taken back by git
        journal.unlink()
        return
    todo = f"undo that edit, or remove {shown(journal)} when all files are as you want them"
    raise_all([InputError("a change to several files was interrupted, and this one was edited since", file.path, todo)
               for file in files if not file.is_new and not file.is_old])  # fmt: skip
    _finish(root, files)


def _finish(root: Path, files: list[_File]) -> None:
    for file in files:
        if not file.is_new:
            _put(root, file.path, file.new)
    (root / JOURNAL).unlink(missing_ok=True)


def _put(root: Path, path: Path, content: bytes) -> None:
    """Write one file whole. It is made in `.cache`, since what a killed run leaves beside an overlay would count as one."""
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o644
    made = root / ".cache" / ".transaction.new"
    made.write_bytes(content)
    made.chmod(mode)
    path.parent.mkdir(parents=True, exist_ok=True)
    made.replace(path)


def _inside(root: Path, path: Path) -> Path:
    """The file that a path leads to, links followed. Raises `InputError` where it is outside of the repository."""
    found = path.resolve()
    if not found.is_relative_to(root.resolve()):
        raise InputError("this file is outside of the repository", path, "edit it by hand")
    return found


def _digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None


@contextmanager
def _exclusive(root: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout  # 40 ms that only writing needs

    lock = FileLock(root / ".cache" / ".transaction.lock", timeout=LOCK_TIMEOUT)
    try:
        (root / ".cache").mkdir(exist_ok=True)
        with lock:
            yield
    except Timeout:
        raise LockedError("another run is changing these files and does not end", root, "wait for it, or end it") from None
    except OSError as error:
        raise DeployError(f"the files cannot be changed: {error}", root) from error
