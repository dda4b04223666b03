"""A site: a project folder of its own with one environment on the test cluster, and the real command line in it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from syntho_deploy import helm, release, tools
from syntho_deploy.cluster import crds, preflight
from syntho_deploy.cluster.client import Access, Client
from syntho_deploy.cluster.local import Cluster
from syntho_deploy.compile import Compiled, Project
from syntho_deploy.helm import Helm
from syntho_deploy.steps import Steps
from tests.conftest import only_used

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("tasks.py", "envs", "overlays", "sandbox", "vendor")


def with_stand_ins(environment: dict[str, Any]) -> dict[str, Any]:
    """An environment of the sandbox charts, with images that everybody can pull."""
    return {**environment, "components": ["stand-in", *environment["components"]]}


@dataclass
class Ran:
    """A finished command."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


@dataclass
class Site:
    """A copy of the project with the environment `name` in it. `edit` changes its file, `overlay` its own overlay."""

    root: Path
    name: str
    cluster: Cluster
    namespace: str
    variables: dict[str, str] = field(default_factory=dict)

    @classmethod
    def make(cls, root: Path, name: str, cluster: Cluster, namespace: str, base: str = "local", folders: tuple[str, ...] = COPIED) -> Site:
        for folder in folders:
            source = ROOT / folder
            if source.is_dir():
                shutil.copytree(source, root / folder, ignore=shutil.ignore_patterns("charts" if folder == "vendor" else "__pycache__"))
            else:
                shutil.copy(source, root / folder)
        for folder in ("syntho_deploy", "tools"):
            (root / folder).symlink_to(ROOT / folder)
        site = cls(root, name, cluster, namespace)
        environment = yaml.safe_load((ROOT / "envs" / f"{base}.yaml").read_text())
        environment["cluster"] = {"local": cluster.name, "namespace": namespace}
        site.write(environment)
        return site

    @property
    def file(self) -> Path:
        return self.root / "envs" / f"{self.name}.yaml"

    def read(self) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load(self.file.read_text())
        return found

    def write(self, environment: dict[str, Any], name: str = "") -> None:
        """Write the environment's file, or that of another one."""
        name = name or self.name
        self.file.with_stem(name).write_text(yaml.safe_dump(only_used(self.root, name, environment)))

    def overlay(self, file: str, content: list[dict[str, Any]]) -> None:
        """Write a file of the environment's own overlay folder."""
        path = self.root / "overlays" / self.name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content))

    def argv(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "invoke", *words]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": "", **self.variables}

    def start(self, *words: str) -> subprocess.Popen[str]:
        """The command line, running, in a session of its own as a terminal would give it."""
        return subprocess.Popen(
            self.argv(*words), cwd=self.root, env=self.environment(), text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def run(self, *words: str, code: int | None = 0) -> Ran:
        """The command line, to its end; the exit code is asserted, unless it is None."""
        done = subprocess.run(
            self.argv(*words),
            cwd=self.root,
            env=self.environment(),
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=300,
            check=False,
        )
        assert code in (None, done.returncode), f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return Ran(done.returncode, done.stdout, done.stderr)

    def invoke(self, task: str, *words: str, code: int | None = 0) -> Ran:
        """A task for this site's environment."""
        return self.run(task, f"--env={self.name}", *words, code=code)

    def interrupt(self, running: subprocess.Popen[str], number: signal.Signals) -> Ran:
        """Send a signal to a running command's whole group, and wait for its end."""
        os.killpg(running.pid, number)
        out, err = running.communicate(timeout=60)
        return Ran(running.returncode, out, err)

    def remove(self) -> None:
        """Have the namespace deleted, without waiting for its end."""
        self.client().delete("v1", "Namespace", "", self.namespace)

    def client(self) -> Client:
        return Client(Access(str(self.cluster.kubeconfig), self.cluster.context, "of the test"))

    def compile(self) -> Compiled:
        return Project.load(self.root, self.name).compile(helm.find(print))

    def deploy(self, timeout: float = 120, binary: Helm | None = None) -> release.Outcome:
        """A deploy in this process, which does not go back."""
        compiled = self.compile()
        client = preflight.connect(compiled.environment, print)
        return release.deploy(client, compiled, Steps(), release.Way(binary or helm.find(print), timeout))

    def get(self, kind: str, name: str, api_version: str = "apps/v1") -> dict[str, Any] | None:
        return self.client().get(api_version, kind, self.namespace, name)

    def install_by_hand(self, *flags: str, compiled: bool = False) -> None:
        """Both charts by Helm 3: the plain ones, as the guide says, or the compiled ones. flags: of `helm install`."""
        client, charts = self.client(), self.root / "sandbox" / "charts"
        client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}})
        crds.apply(client, crds.due(client, sorted((charts / "ray" / "crds").glob("*.yaml")), True))
        for name, chart in self.compile().charts.items():
            folder = chart.write(self.root / "by-hand" / name) if compiled else charts / name
            self.helm("install", chart.release.name, str(folder), "--skip-crds", *flags, program="helm3")

    def helm(self, *words: str, program: str = "helm") -> str:
        """The provisioned helm on the test cluster."""
        argv = [str(tools.find(program).path), *words, "-n", self.namespace, "--kube-context", self.cluster.context]
        done = subprocess.run(argv, env={**os.environ, "KUBECONFIG": str(self.cluster.kubeconfig)}, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout
