"""Where charts come from: a git repository, by commit, or a directory. What either holds is refused here or staged as it is.

git is used for its transport and its object store alone. Bytes leave it through `git archive` of a tree with every attribute
that could change or drop a file switched off, and each file is then compared with its blob id.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from syntho_deploy import documents, process, redact
from syntho_deploy.errors import InputError, PreflightError, nearest, raise_all
from syntho_deploy.vendor import tree
from syntho_deploy.vendor.pin import COMMIT, LockedChart, Pin, run_vendor
from syntho_deploy.vendor.tree import Entry

FETCH_TIMEOUT = 600.0
AS_IT_IS = "* -text -eol -crlf -ident -filter -working-tree-encoding -export-ignore -export-subst\n"
LICENCES = re.compile(r"(licen[cs]e|copying)([.-].*)?", re.IGNORECASE)
NEEDED = ("Chart.yaml", "values.yaml")


class Source(Protocol):
    """A place that charts are taken from."""

    def resolve(self) -> str:
        """The commit that the pin's ref names now."""

    def fetch(self, commit: str) -> dict[str, Entry]:
        """Get that commit, and return all its files."""

    def export(self, folder: str, files: Mapping[str, Entry], target: Path) -> None:
        """Write these files of a folder to `target`."""


class Directory(NamedTuple):
    """A folder of charts; its git tree id stands for the commit."""

    pin: Pin
    folder: Path

    def resolve(self) -> str:
        """The tree id of the folder as it is now."""
        return self._scan().id

    def fetch(self, commit: str) -> dict[str, Entry]:
        """All files. Raises `InputError` where the folder is not the locked one any more."""
        found = self._scan()
        if found.id != commit:
            raise InputError(
                f"the source moved: {self.pin.source} is tree {found.id[:12]} now, {commit[:12]} is locked",
                self.pin.mark("source"),
                run_vendor(self.pin.path, True),
            )
        return found.entries

    def export(self, folder: str, files: Mapping[str, Entry], target: Path) -> None:
        """Copy the files."""
        for path, entry in files.items():
            _write(target / path, (self.folder / folder / path).read_bytes(), entry)

    def _scan(self) -> tree.Tree:
        if not self.folder.is_dir():
            raise InputError(
                f'"{self.pin.source}" is not a folder', self.pin.mark("source"), "write a path relative to the repository, or a URL with a ref"
            )
        return tree.scan(self.folder, skip_git=True)


class Git(NamedTuple):
    """A git repository at a URL or a path. scratch: an empty folder for the objects."""

    pin: Pin
    url: str
    scratch: Path

    def resolve(self) -> str:
        """The commit of the pin's ref, asked from the source where it is a tag or a branch, tags peeled.

        Raises `InputError` where no tag or branch has the name, or both do; `PreflightError` where the source does not answer.
        """
        ref = self.pin.ref or ""
        if COMMIT.fullmatch(ref):
            return ref
        refs = self._refs()
        names = [ref] if ref.startswith("refs/") else [f"refs/tags/{ref}", f"refs/heads/{ref}"]
        found = {name: refs.get(f"{name}^{{}}") or refs[name] for name in names if name in refs}
        if not found:
            hint = nearest(ref, _short_names(refs)) or "; a commit needs all its 40 digits"
            raise InputError(f'the source has no tag or branch "{ref}"{hint}', self.pin.mark("ref"), f"see them all: git ls-remote {self._shown()}")
        if len(set(found.values())) > 1:
            raise InputError(f'"{ref}" is a tag and a branch, of different commits', self.pin.mark("ref"), f"write {' or '.join(found)}")
        return next(iter(found.values()))

    def fetch(self, commit: str) -> dict[str, Entry]:
        """Fetch one commit, shallow where the server gives single commits, else with every branch and tag; return its files.

        Raises `InputError` where the source does not have the commit, `PreflightError` where it does not answer.
        """
        self._start()
        refs: dict[str, str] = {}
        if not self._fetched_alone(commit):
            refs = self._refs()  # tells a source that does not answer from one that refuses
            self._ask("fetch", *_QUIETLY, "--", self.url, *(f"+refs/{kind}/*:refs/fetched/{kind}/*" for kind in ("heads", "tags")))
        kind = self._git("cat-file", "-t", commit, check=False).stdout.strip()
        if kind != "commit":
            what = f"is a {kind}, not a commit, in" if kind else "is no commit of any branch or tag of"
            tags = ", ".join(sorted(_short_names(refs))[-5:])
            raise InputError(
                f"{commit} {what} the source",
                self.pin.mark("ref"),
                f"pin a commit or a tag that it has ({tags})" if tags else run_vendor(self.pin.path, True),
            )
        files = {}
        for row in self._git("ls-tree", "-r", "-l", "-z", "--full-tree", commit, raw=True).stdout.split("\0")[:-1]:
            about, path = row.split("\t", 1)
            mode, _, blob, size = about.split()
            files[path] = Entry(mode, blob, int(size) if size.isdigit() else 0)
        return files

    def export(self, folder: str, files: Mapping[str, Entry], target: Path) -> None:
        """Write the blobs as they are. Raises `PreflightError` where git gives other bytes than it says it holds."""
        import tarfile

        found = tree.tree_id(files)
        archive = self.scratch / "chart.tar"
        self._git("archive", "--format=tar", f"--output={archive}", found)
        with tarfile.open(archive) as tar:
            members = {member.name: member for member in tar}
            for path, entry in files.items():
                file = tar.extractfile(members[path]) if path in members else None
                content = file.read() if file else b""
                if tree.blob_id(content) != entry.blob:
                    raise PreflightError(f"git gave other bytes for {folder}/{path} than the commit holds", todo="report this, with: git --version")
                _write(target / path, content, entry)

    def _fetched_alone(self, commit: str) -> bool:
        try:
            self._git("fetch", "--depth=1", *_QUIETLY, "--", self.url, commit, timeout=FETCH_TIMEOUT)
        except process.ProcessError:
            return False
        return True

    def _start(self) -> None:
        self._git("init", "--quiet", "--template=", "--object-format=sha1")
        attributes = self.scratch / ".git" / "info" / "attributes"  # goes before any .gitattributes, of the commit or of the user
        attributes.parent.mkdir(parents=True, exist_ok=True)
        attributes.write_text(AS_IT_IS)

    def _refs(self) -> dict[str, str]:
        listed = self._ask("ls-remote", "--", self.url)
        return {name: oid for oid, name in (line.split("\t", 1) for line in listed.splitlines() if "\t" in line)}

    def _ask(self, *arguments: str) -> str:
        try:
            return self._git(*arguments, timeout=FETCH_TIMEOUT).stdout
        except process.ProcessError as error:
            said = (error.result.stderr if error.result else error.what).strip().splitlines()
            reason = next((line for line in said if not line.startswith(("warning:", "hint:"))), "no reason given")
            todo = "check the network and your access, or name a mirror: --url or SYNTHO_CHARTS_URL"
            raise PreflightError(f"the source {self._shown()} does not answer: {reason}", self.pin.mark("source"), todo) from None

    def _shown(self) -> str:
        return redact.redact(self.url)

    def _git(self, *arguments: str, timeout: float = 120.0, check: bool = True, raw: bool = False) -> process.Result:
        if not shutil.which("git"):
            raise PreflightError("git is not installed, and this pin's source is a git repository", self.pin.mark("source"), "install git")
        store = self.scratch / ".git"  # every place is given, because a hook that calls us has its own repository in the environment
        places = {"GIT_DIR": store, "GIT_WORK_TREE": self.scratch, "GIT_OBJECT_DIRECTORY": store / "objects", "GIT_INDEX_FILE": store / "index"}
        env = {name: str(place) for name, place in places.items()}
        env |= {"GIT_ALTERNATE_OBJECT_DIRECTORIES": "", "GIT_NAMESPACE": "", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_REPLACE_OBJECTS": "1"}
        settings = ["-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0", "-c", "maintenance.auto=false", "-c", "core.fsmonitor=false"]
        return process.run(["git", *settings, *arguments], env=env, cwd=self.scratch, timeout=timeout, check=check, raw=raw)


_QUIETLY = ("--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head")


def _short_names(refs: Iterable[str]) -> set[str]:
    return {name.split("/", 2)[2] for name in refs if name.startswith(("refs/tags/", "refs/heads/")) and not name.endswith("^{}")}


def open_source(root: Path, pin: Pin, url: str | None, scratch: Path) -> Source:
    """The pin's source. url: used in the place of a git source's own."""
    if pin.ref is None:
        return Directory(pin, root / pin.source)
    place = url or pin.source
    base = Path.cwd() if url else root  # an option is relative to where the user stands, a pin to the repository
    if (base / place).exists():
        place = os.path.abspath(base / place)
    elif place.startswith(("https://", "http://")):
        parts = urlsplit(place)
        redact.register(parts.password or parts.username or "")  # a token alone stands where the name would
    scratch.mkdir(parents=True)
    return Git(pin, place, scratch)


def stage(source: Source, pin: Pin, files: Mapping[str, Entry], target: Path) -> dict[str, LockedChart]:
    """Write every chart of the pin to `target/<name>` and return what each is, read back from the disk.

    files: all files of the source. Raises `InputError` naming every path that is missing or may not be vendored.
    """
    charts: dict[str, dict[str, Entry]] = {}
    errors: list[InputError] = []
    for name, path in pin.charts.items():
        prefix = "" if path == "." else f"{path}/"
        charts[name] = {file.removeprefix(prefix): entry for file, entry in files.items() if file.startswith(prefix)}
        errors += [InputError(f"{why}", pin.mark("charts", name)) for why in _faults(path, charts[name], files)]
    raise_all(errors)
    if sum(entry.size for chart in charts.values() for entry in chart.values()) > tree.SIZE_LIMIT:
        raise InputError(f"the charts hold more than {tree.SIZE_LIMIT >> 20} MiB of files", pin.mark("charts"), "pin the folders of the charts alone")
    for name, path in pin.charts.items():
        source.export(path, charts[name], target / name)
    top = sorted(file for file in files if "/" not in file)
    return {name: _describe(target / name, path, charts[name], top) for name, path in pin.charts.items()}


def _faults(path: str, chart: Mapping[str, Entry], files: Mapping[str, Entry]) -> list[str]:
    if path in files:
        return [f'"{path}" is not a folder']
    if not chart:
        folders = {file.removesuffix("Chart.yaml").rstrip("/") for file in files if file.endswith("/Chart.yaml")}
        return [f'the source has no folder "{path}"{nearest(path, folders)}']
    missing = [f'"{path}" is not a chart: it has no {name}' for name in NEEDED if name not in chart]
    return missing + [f'"{path}" may not be vendored: {why}' for why in tree.refusals(chart)]


def _describe(folder: Path, path: str, chart: Mapping[str, Entry], top: list[str]) -> LockedChart:
    found = tree.scan(folder)
    if found.id != tree.tree_id(chart):
        names = "; ".join(tree.differences(chart, found.entries)[:10])
        raise PreflightError(
            f"what was written to {folder.name} is not what the source holds: {names}", todo="use a filesystem that keeps names and modes"
        )
    about = documents.load_chart(folder / "Chart.yaml")
    name, version = (about.get(key) if isinstance(about, dict) else None for key in ("name", "version"))
    if not isinstance(name, str) or not isinstance(version, str):
        raise InputError(f"{path}/Chart.yaml needs a name and a version, both text")
    licences = [file for file in [*sorted(chart), *top] if LICENCES.fullmatch(file)]
    return LockedChart(path, found.id, found.sha256, name, version, licences[0] if licences else "none")


def _write(path: Path, content: bytes, entry: Entry) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o755 if entry.mode == tree.EXECUTABLE else 0o644)
