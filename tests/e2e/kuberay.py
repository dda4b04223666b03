"""The real KubeRay operator: built from its source, and run as a process beside a cluster whose containers do not run.

The source is fetched from SYNTHO_KUBERAY_URL, a git URL or path, or from GitHub; the program is kept in the cache by its commit.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

import pytest

from syntho_deploy import process
from syntho_deploy.cluster.local import Cluster
from syntho_deploy.errors import PreflightError
from syntho_deploy.tools import cache_dir, find, locked

SOURCE = "https://github.com/ray-project/kuberay.git"
COMMITS = {"0.6.0": "9b21af9762f005ec586badd83e99f30418ea1298", "1.4.0": "279b9f002a597125e9267365c46caaf123fe5a45"}
GO_FILES = ["ray-operator/go.mod", "ray-operator/go.sum", ":(glob)ray-operator/**/*.go"]
PORTS_OFF = ["-metrics-addr=0", "-health-probe-bind-address=0", "-enable-leader-election=false"]


def operator(version: str) -> Path:
    """The program of a version, from the cache or built now. Skips the test, saying why, where its source cannot be had."""
    home = cache_dir() / "kuberay" / COMMITS[version]
    with locked(home.with_name(f".{home.name}.lock"), f"another run is building KubeRay {version}; waiting for it", print):
        if not (home / "manager").is_file():
            with tempfile.TemporaryDirectory(dir=home.parent) as folder:
                source = _fetched(version, Path(folder) / "source")
                _build(source, Path(folder) / "manager")
                home.mkdir(exist_ok=True)
                shutil.move(Path(folder) / "manager", home / "manager")
    return home / "manager"


def _fetched(version: str, folder: Path) -> Path:
    """The Go files of a version. A mirror need hold no others: only these are asked of it."""
    url = os.environ.get("SYNTHO_KUBERAY_URL") or SOURCE
    clone = ["git", "clone", "--quiet", "--no-checkout", "--shared", "--depth=1", "--filter=blob:none"]
    try:
        process.run([*clone, "--branch", f"ray-operator/v{version}", "--", url, folder], timeout=300, env={"GIT_TERMINAL_PROMPT": "0"})
        process.run(["git", "-C", folder, "checkout", "--quiet", "HEAD", "--", *GO_FILES], timeout=300, env={"GIT_TERMINAL_PROMPT": "0"})
    except process.ProcessError as error:
        pytest.skip(f"KubeRay's source is missing: set SYNTHO_KUBERAY_URL to a git mirror of it ({error.what})")
    commit = process.run(["git", "-C", folder, "rev-parse", "HEAD"]).stdout.strip()
    assert commit == COMMITS[version], f"the tag ray-operator/v{version} of {url} is another commit"
    return folder / "ray-operator"


def _build(source: Path, target: Path) -> None:
    try:
        go = find("go")
    except PreflightError as error:
        pytest.skip(f"KubeRay cannot be built: {error.what}")
    env = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly"}
    if go.origin != "path":
        env["GOROOT"] = str(go.path.parent.parent)
    flags = ["-trimpath", "-buildvcs=false", "-ldflags=-s -w"]
    process.run([go.path, "build", *flags, "-o", target, "."], timeout=1800, env=env, cwd=source)


class KubeRay:
    """The operator, running while the context is open. flags: as the chart gives them. The kinds that it watches must be served."""

    def __init__(self, program: Path, cluster: Cluster, flags: list[str], log: Path) -> None:
        self._argv, self._log = [str(program), *PORTS_OFF, *flags], log
        self._env = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}

    def __enter__(self) -> KubeRay:
        with self._log.open("w") as log:
            self._running = subprocess.Popen(self._argv, env=self._env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        ended = self._running.poll()
        self._running.terminate()
        self._running.wait()
        assert ended is None, f"the operator ended by itself:\n{self._log.read_text()[-3000:]}"
