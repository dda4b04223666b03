"""Runs the command line and looks everywhere for what must be nowhere.

What a run starts and writes is told by audit hooks inside each Python process (`observed/sitecustomize.py`), what it asks of the
API server by that server's audit log, and the rest by looking: at its output, and at all files and objects that are left.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from syntho_deploy.tools import cache_dir
from tests.e2e.site import Ran, Site

HERE = Path(__file__).resolve().parent
RELEASE = "helm.sh/release.v1"
RECORD = "syntho-deploy/record"


def forms(value: str) -> set[bytes]:
    """What this ASCII text leaves in bytes that contain it: as it is, in hex, in base64 at each alignment, and in base64 of base64.
    Letters and digits alone stay the same when they are quoted for a URL, a shell, JSON or YAML."""
    data = value.encode()
    once = _base64(data)
    return {data, data.hex().encode(), data.hex().upper().encode(), *once, *(twice for form in once for twice in _base64(form))}


def _base64(data: bytes) -> set[bytes]:
    """The characters of base64, of both alphabets, that depend on `data` alone, whatever stands before and after it."""
    found = set()
    for before in range(3):
        first, last = -(-before * 8 // 6), (before + len(data)) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            found.add(encode(b"\0" * before + data)[first:last])
    return found


@dataclass
class Observer:
    """A site in folders of its own, whose commands are observed. values: what is looked for; leaks: where it was found.

    The environment reaches the cluster through a kubeconfig whose credentials a program gives, as clouds have it: this child of
    the Kubernetes client and of helm writes down its own environment.
    """

    site: Site
    values: set[str] = field(default_factory=set)
    leaks: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.root = self.site.root.parent
        self.evidence = self.root / "evidence"
        (self.evidence / "gone").mkdir(parents=True)
        self.trees = [self.site.root, *(self.root / name for name in ("home", "tmp", "cache"))]
        for tree in self.trees:
            tree.mkdir(exist_ok=True)
        for name in ("tools", "clusters"):  # the cluster's own store is not part of the observation
            (self.root / "cache" / name).symlink_to(cache_dir() / name)
        self._audited = self.site.cluster.audit_log.stat().st_size
        self.kubeconfig(self.site.root / "kubeconfig")

    def kubeconfig(self, path: Path, user: dict[str, Any] | None = None) -> None:
        """Write a kubeconfig, and have the environment use it. user: its credentials, instead of those of the program."""
        config = yaml.safe_load(self.site.cluster.kubeconfig.read_text())
        if user is None:
            files = {key: Path(config["users"][0]["user"][f"client-{key}"]).read_text() for key in ("certificate", "key")}
            status = {"clientCertificateData": files["certificate"], "clientKeyData": files["key"]}
            credential = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
            program = self.root / "credentials"
            (self.root / "credential.json").write_text(json.dumps(credential))
            program.write_text(f'#!/bin/sh\nenv > "{self.evidence}/credentials.$$"\ncat "{self.root}/credential.json"\n')
            program.chmod(0o755)
            user = {"exec": {"apiVersion": credential["apiVersion"], "interactiveMode": "Never", "command": str(program)}}
        config["users"][0]["user"] = user
        path.write_text(yaml.safe_dump(config))
        environment = self.site.read()
        environment["cluster"] = {"context": self.site.cluster.context, "kubeconfig": str(path), "namespace": self.site.namespace}
        self.site.write(environment)

    def environment(self, **more: str) -> dict[str, str]:
        """The variables of an observed process."""
        folders = {"HOME": self.root / "home", "TMPDIR": self.root / "tmp", "SYNTHO_DEPLOY_CACHE": self.root / "cache"}
        hooks = {"OBSERVED": self.evidence, "PYTHONPATH": HERE / "observed"}
        ours = {name: str(path) for name, path in {**folders, **hooks}.items()}
        return {**self.site.environment(), **ours, "SYNTHO_LOCAL_PROVIDER": "", **more}

    def start(self, argv: list[str], **more: str) -> subprocess.Popen[str]:
        """A running observed process, in a session of its own."""
        return subprocess.Popen(
            argv, cwd=self.site.root, env=self.environment(**more), text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def run(self, *words: str, code: int = 0, **more: str) -> Ran:
        """The command line to its end, as verbose as it can be; what it printed is searched."""
        running = self.start(self.site.argv("--debug", *words), **more)
        return self.ended(running, words[0], code)

    def ended(self, running: subprocess.Popen[str], what: str, code: int = 0) -> Ran:
        """Wait for the end of a started process, assert its exit code, and search what it printed."""
        out, err = running.communicate(timeout=300)
        said = "\n".join(line for line in err.splitlines() if not line.startswith("invoke."))
        assert running.returncode == code, f"{what}: exit {running.returncode}\n{out}\n{said}"
        self.search(f"stdout of {what}", out.encode())
        self.search(f"stderr of {what}", err.encode())
        return Ran(running.returncode, out, err)

    def invoke(self, task: str, *words: str, code: int = 0, **more: str) -> Ran:
        """A task for the site's environment."""
        return self.run(task, f"--env={self.site.name}", *words, code=code, **more)

    def search(self, where: str, content: bytes) -> None:
        """Note a leak if anything that is looked for is in there."""
        for form in {form for value in self.values for form in forms(value)}:
            if (at := content.find(form)) >= 0:
                self.leaks.append(f"{where}: …{content[max(0, at - 80) : at + len(form) + 20]!r}")

    def look(self) -> list[str]:
        """Search all that is there to be seen by now. Returns every leak since the beginning."""
        self._processes()
        self._files()
        self._requests()
        self._objects()
        return self.leaks

    def notes(self) -> Iterator[dict[str, Any]]:
        """What the hooks wrote down."""
        log = self.evidence / "log"
        return (json.loads(line) for line in log.read_text().splitlines()) if log.exists() else iter(())

    def _processes(self) -> None:
        for note in self.notes():
            if "argv" in note:
                self.search(f"argv of {note['argv'][0]}", json.dumps(note["argv"], ensure_ascii=False).encode("utf-8", "surrogateescape"))
                self.search(f"environment of {note['argv'][:3]}", json.dumps(note["env"], ensure_ascii=False).encode("utf-8", "surrogateescape"))
        for file in self.evidence.glob("credentials.*"):
            self.search("environment of the credentials program", file.read_bytes())

    def _files(self) -> None:
        for file in (self.evidence / "gone").iterdir():
            self.search("a file that was removed or replaced", file.read_bytes())
        for tree in self.trees:
            for folder, _, names in os.walk(tree):
                for file in (Path(folder) / name for name in names):
                    self.search(f"name of {file}", str(file).encode("utf-8", "surrogateescape"))
                    if file.is_file() and not file.is_symlink():
                        self.search(str(file), file.read_bytes())
        for note in self.notes():
            if note["event"] == "open" and not note["path"].startswith(("/dev/", *(f"{tree}/" for tree in self.trees), f"{self.evidence}/")):
                self.leaks.append(f"a file was written outside of the folders that are looked at: {note['path']}")
            if note.get("nameless"):
                self.leaks.append(f"a file without a name was written in {note['path']}")

    def _requests(self) -> None:
        """Everything that the Kubernetes client and helm sent, but for the content of Secrets; and that helm read none but its own."""
        with self.site.cluster.audit_log.open() as log:
            log.seek(self._audited)
            for event in map(json.loads, log):
                if not event.get("userAgent", "").startswith(("syntho-deploy", "Helm")):
                    continue
                if event.get("objectRef", {}).get("resource") == "secrets":
                    event.pop("requestObject", None)
                    own = "/sh.helm.release.v1." in event["requestURI"] or "owner%3Dhelm" in event["requestURI"]
                    if event["userAgent"].startswith("Helm") and event["verb"] in ("get", "list", "watch") and not own:
                        self.leaks.append(f"helm asked for {event['requestURI']}")
                self.search(f"request {event['verb']} {event['requestURI']}", json.dumps(event, ensure_ascii=False).encode())

    def _objects(self) -> None:
        """All of the namespace, the releases and records inside their Secrets; of other Secrets all but the content."""
        client = self.site.client()
        for item in [client.get("v1", "Namespace", "", self.site.namespace) or {}, *self._namespaced()]:
            name = f"{item.get('kind')}/{item.get('metadata', {}).get('name')}"
            if item.get("kind") == "Secret":
                data = item.pop("data", {})
                if item["type"] == RELEASE:
                    self.search(f"the release in {name}", gzip.decompress(base64.b64decode(base64.b64decode(data["release"]))))
                elif item["type"] == RECORD:
                    self.search(f"the record in {name}", gzip.decompress(base64.b64decode(data["record"])))
            self.search(name, json.dumps(item, ensure_ascii=False).encode())

    def _namespaced(self) -> Iterator[dict[str, Any]]:
        client = self.site.client()
        groups = client.request("GET", "/apis")["groups"]
        for version in ["v1", *(group["preferredVersion"]["groupVersion"] for group in groups), "ray.io/v1alpha1"]:
            served = client.request("GET", f"/apis/{version}" if "/" in version else f"/api/{version}")["resources"]
            for kind in {item["kind"] for item in served if item["namespaced"] and "list" in item["verbs"]}:
                yield from client.objects(version, kind, self.site.namespace)
