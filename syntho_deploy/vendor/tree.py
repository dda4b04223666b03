"""A folder as git sees it: modes, blob ids and the tree id from the files on disk, and the exchange of two folders."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from syntho_deploy import documents
from syntho_deploy.errors import InputError

FILE, EXECUTABLE, LINK, SUBMODULE, SPECIAL = "100644", "100755", "120000", "160000", "000000"
SIZE_LIMIT = 64 * 2**20  # of all files together: charts are text, and every file is read at every use


class Entry(NamedTuple):
    """One file: its mode as git writes it, the id of its content, and how many bytes that is."""

    mode: str
    blob: str
    size: int = 0


class Tree(NamedTuple):
    """A folder's files by path, the git tree id of the folder, and a sha256 over the sorted (path, mode, content)."""

    entries: dict[str, Entry]
    id: str
    sha256: str


def blob_id(content: bytes) -> str:
    """The id that git gives to a file with this content."""
    return _sha1(b"blob", content).hex()


def tree_id(entries: Mapping[str, Entry]) -> str:
    """The id that git gives to a folder with these files; folders without files do not count, as in git."""
    root: dict[str, Any] = {}
    for path, entry in entries.items():
        *folders, name = path.split("/")
        node = root
        for folder in folders:
            node = node.setdefault(folder, {})
        node[name] = entry
    return _tree(root).hex()


def _tree(node: dict[str, Any]) -> bytes:
    rows = []
    for name, item in node.items():
        key = os.fsencode(name)
        if isinstance(item, Entry):
            rows.append((key, item.mode.encode() + b" " + key + b"\0" + bytes.fromhex(item.blob)))
        else:
            rows.append((key + b"/", b"40000 " + key + b"\0" + _tree(item)))  # git sorts a folder as if its name ended in a slash
    return _sha1(b"tree", b"".join(row for _, row in sorted(rows)))


def _sha1(kind: bytes, body: bytes) -> bytes:
    return hashlib.sha1(kind + b" %d\0" % len(body) + body, usedforsecurity=False).digest()


def scan(folder: Path, *, skip_git: bool = False) -> Tree:
    """Read a folder. Links are not followed: they are entries of their own, and so are sockets and the like.

    skip_git: leave out `.git` at the top. Raises `InputError` where the files hold more than `SIZE_LIMIT` bytes.
    """
    entries: dict[str, Entry] = {}
    parts: list[bytes] = []
    left = SIZE_LIMIT
    for path in sorted(_paths(folder, "", skip_git)):
        mode, content = _read(folder / path, left)
        left -= len(content)
        if left < 0:
            raise InputError(f"holds more than {SIZE_LIMIT >> 20} MiB of files", folder, "point the pin at a folder of charts only")
        entries[path] = Entry(mode, blob_id(content), len(content))
        parts += [os.fsencode(path), mode.encode(), content]
    return Tree(entries, tree_id(entries), documents.sha256(*parts))


def _paths(folder: Path, prefix: str, skip_git: bool) -> Iterator[str]:
    with os.scandir(folder) as items:
        for item in items:
            if skip_git and item.name == ".git":
                continue
            if item.is_dir(follow_symlinks=False):
                yield from _paths(Path(item.path), f"{prefix}{item.name}/", False)
            else:
                yield prefix + item.name


def _read(path: Path, limit: int) -> tuple[str, bytes]:
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return LINK, os.fsencode(os.readlink(path))
    if not stat.S_ISREG(status.st_mode):
        return SPECIAL, b""
    with path.open("rb") as file:
        return EXECUTABLE if status.st_mode & stat.S_IXUSR else FILE, file.read(min(status.st_size, limit) + 1)  # as many bytes are allocated first


def refusals(entries: Mapping[str, Entry]) -> list[str]:
    """What may not be vendored, a sentence each: it would leave the folder, or be other files on another machine."""
    found = [f"{path!r} {why}" for path, entry in sorted(entries.items()) if (why := _refusal(path, entry.mode))]
    spelled: dict[str, str] = {}
    for path in sorted(entries):
        names = path.split("/")
        for length in range(1, len(names) + 1):
            part = "/".join(names[:length])
            first = spelled.setdefault(unicodedata.normalize("NFC", part).casefold(), part)
            if first != part and (sentence := f"{part!r} and {first!r} are one file where case does not count") not in found:
                found.append(sentence)
    return found


def _refusal(path: str, mode: str) -> str:
    kinds = {LINK: "is a symbolic link", SUBMODULE: "is a submodule", FILE: "", EXECUTABLE: ""}
    if why := kinds.get(mode, f"is not a file (mode {mode})"):
        return why
    if not _is_text(path):
        return "has a name that is not UTF-8"
    if any(ord(letter) < 32 or letter in "\x7f\\" for letter in path):
        return "has a control character or a backslash in its name"
    names = path.split("/")
    if any(name in ("", ".", "..") for name in names):
        return "leads out of its folder"
    return "is part of a git repository's own files" if any(name.lower() in (".git", "git~1") for name in names) else ""


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\ufffd" not in name  # what the process runner makes of bytes that are not UTF-8


def differences(expected: Mapping[str, Entry], found: Mapping[str, Entry]) -> list[str]:
    """Every file that was changed, added or removed, by name."""
    lines = []
    for path in sorted(expected.keys() | found.keys()):
        old, new = expected.get(path), found.get(path)
        if old is None:
            lines.append(f"added: {path!r}")
        elif new is None:
            lines.append(f"removed: {path!r}")
        elif new.mode not in (FILE, EXECUTABLE):
            lines.append(f"changed: {path!r} is {'a symbolic link' if new.mode == LINK else 'no file'}")
        elif old.blob != new.blob:
            lines.append(f"changed: {path!r}")
        elif old.mode != new.mode:
            lines.append(f"changed: {path!r} is {'now' if new.mode == EXECUTABLE else 'no longer'} executable")
    return lines


def swap(new: Path, target: Path) -> None:
    """Put the folder `new` in the place of `target`, which may be missing; what was there ends up beside `new`'s place.

    One system call where the system has it. Elsewhere two renames: killed between them, `target` is missing and `new` is whole.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(target):
        if exchange(new, target):
            return
        os.rename(target, new.with_name(f"{new.name}.old"))
    os.rename(new, target)


def exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step (renameat2, Linux). False where system or filesystem cannot."""
    import ctypes

    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    here, both = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if call(here, os.fsencode(one), here, os.fsencode(other), both) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(other))
