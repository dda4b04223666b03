"""The commands of README and docs/, run as they stand: each line of a fence `sh` that does not say why it is not run.

They run in copies of the repository whose environments `local` and `prod` have the sandbox's charts and a namespace of the test cluster
each. README is followed first, then what only looks is run beside it; a page that changes something has a copy for itself (thorough).
A comment `# exit 2` says that a line may end with that.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from syntho_deploy import tools
from syntho_deploy.cluster import local
from tests.docs.pages import PAGES, ROOT, commands, fences, name
from tests.e2e.site import Site

README = ROOT / "README.md"
READS = [
    "envs",
    "template",
    "explain",
    "lint",
    "doctor",
    "tools",
    "plan",
    "status",
    "verify",
    "history",
    "drift",
    "logs",
    "images",
    "ci-matrix",
    "completion",
]
WRITES = re.compile(r"--(update|mirror|check|in-cluster|watch|follow|previous|out|output|markdown)\b")
AT_ONCE = 3
STAND_INS = {"python3": "exit 0", ".venv/bin/pip": "exit 0", ".venv/bin/activate": ":"}  # the packages are here already: CI installs them so


class Reader:
    """Somebody who types what a page says, in a copy of the repository."""

    def __init__(self, folder: Path, cluster: local.Cluster) -> None:
        self.site = Site.make(
            folder, "local", cluster, f"t-{uuid.uuid4().hex[:8]}", folders=("tasks.py", "envs", "overlays", "sandbox", "vendor", "docs")
        )
        for file in self.site.file.parent.glob("*.yaml"):
            if file.stem not in ("local", "prod"):
                file.unlink()
        environment = self.site.read()
        self.site.write({**environment, "cluster": {**environment["cluster"], "namespace": f"{self.site.namespace}-prod"}}, "prod")
        python = f'exec "{sys.executable}" -m invoke "$@"'
        for program, line in {**STAND_INS, ".venv/bin/invoke": python, "kubectl": f'exec "{tools.find("kubectl").path}" "$@"'}.items():
            file = folder / (program if "/" in program else f".venv/bin/{program}")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"#!/bin/sh\n{line}\n")
            file.chmod(0o755)
        self.path = f"{folder / '.venv/bin'}:{os.environ['PATH']}"

    def type(self, line: str) -> str:
        """Run a line by a shell, and return what it printed. Its exit code is 0, or one that its comment names."""
        done = subprocess.run(
            ["bash", "-c", line], cwd=self.site.root, env={**self.site.environment(), "PATH": self.path}, text=True, capture_output=True,
            stdin=subprocess.DEVNULL, timeout=300, check=False,
        )  # fmt: skip
        of_the_machine = [4] if "invoke doctor" in line else []  # what it finds is of this machine and cluster, not of the page
        wanted = {0, *of_the_machine, *map(int, re.findall(r"#.*\bexit (\d+)", line))}
        strict = re.search(r"# exit (\d+)", line)
        assert done.returncode in ({int(strict[1])} if strict else wanted), f"{line}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def remove(self) -> None:
        self.site.remove()
        self.site.client().delete("v1", "Namespace", "", f"{self.site.namespace}-prod")


def lines(page: Path) -> list[str]:
    """The lines of a page that are run."""
    return [line for fence in fences(page, "sh") if not fence.reason for line in fence.lines if line.strip()]


def only_looks(line: str) -> bool:
    """Nothing changes by it, on the cluster or in files."""
    words = line.partition("#")[0].split()
    if words[:1] != ["invoke"] or WRITES.search(line):
        return False
    alone = {"unlock": "--reason" not in line, "secrets": "--status" in words, "cluster": not re.search("--(create|delete)", line)}
    return words[1] in READS or alone.get(words[1], False)


def within_the_text() -> set[str]:
    """What pages name within their text, complete and without a place for something of the reader's, and only looks."""
    found = set[str]()
    for page in PAGES:
        for command in commands(page):
            line = " ".join(command.words).replace("=ENV", "=prod")
            whole = re.search(r"--env=(prod|local)\b", line) and not re.search(r"[A-Z…<>]{3,}|…|,", line)
            if command.inline and whole and only_looks(line):
                found.add(line)
    return found


@pytest.fixture(scope="module")
def newcomer(cluster: local.Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Reader, dict[str, str]]]:
    """Who followed README from its top to its last command, with what each line printed; `prod` is deployed too."""
    reader = Reader(tmp_path_factory.mktemp("newcomer"), cluster)
    with ThreadPoolExecutor(1) as pool:
        prod = pool.submit(reader.type, "invoke deploy --env=prod")
        said = {line: reader.type(line) for line in lines(README)}
        prod.result()
    yield reader, said
    reader.remove()


@pytest.mark.administrator
def test_readme_leads_from_a_clone_to_a_changed_tag(newcomer: tuple[Reader, dict[str, str]]) -> None:
    reader, said = newcomer
    by_task = {found[1]: text for line, text in said.items() if (found := re.search(r"invoke ([a-z-]+)", line))}
    assert "latest -> 1.9.8" in by_task["bump-tag"]
    assert "syntho-core-api:latest -> syntho.azurecr.io/syntho-core-api:1.9.8" in by_task["plan"]
    assert "local: deployed and verified" in by_task["deploy"]
    assert "local: everything runs as compiled" in by_task["verify"]
    assert "deployed again and verified" in by_task["rollback"]
    assert (reader.site.root / "overlays/local/syntho-ui.values.yaml").is_file()


@pytest.mark.administrator
def test_every_command_that_only_looks_does_what_its_page_says(newcomer: tuple[Reader, dict[str, str]]) -> None:
    found = [line for page in PAGES if page != README for line in lines(page) if only_looks(line)]
    assert len(found) > 15
    type_side_by_side(newcomer[0], found)


@pytest.mark.thorough
@pytest.mark.administrator
def test_so_does_every_whole_one_within_the_text(newcomer: tuple[Reader, dict[str, str]]) -> None:
    found = within_the_text()
    assert len(found) > 10
    type_side_by_side(newcomer[0], sorted(found))


def type_side_by_side(reader: Reader, found: list[str]) -> None:
    """Run each line once, though several pages have it: as the one of them that names most exit codes."""
    once = {line.partition("#")[0].strip(): line for line in sorted(found, key=lambda line: line.count("exit"))}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(reader.type, once.values()):
            pass


WRITING = [page for page in PAGES if page != README and not all(map(only_looks, lines(page)))]


@pytest.mark.thorough
@pytest.mark.administrator
@pytest.mark.parametrize("page", WRITING, ids=name)
def test_a_page_is_followed_from_its_top_to_its_end(page: Path, cluster: local.Cluster, tmp_path: Path) -> None:
    reader = Reader(tmp_path, cluster)
    try:
        reader.type("invoke deploy --env=local,prod")
        for line in lines(page):
            reader.type(line)
    finally:
        reader.remove()
