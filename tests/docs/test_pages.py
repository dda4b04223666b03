"""Nothing on a page is taken on trust: commands parse, YAML loads, links lead somewhere, sentences are the product's own."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from invoke.collection import Collection
from invoke.exceptions import ParseError
from invoke.parser import Parser, ParserContext
from invoke.program import Program

import tasks
from syntho_deploy import documents, explain, tools
from syntho_deploy.cluster import ignore
from syntho_deploy.compile import Project
from syntho_deploy.environment import load_environment
from syntho_deploy.errors import InputError
from syntho_deploy.helm import Helm
from syntho_deploy.overlays.layers import components
from syntho_deploy.overlays.patch import load_manifest_patches, load_operations, load_values_patch
from syntho_deploy.vendor import load_pin, vendor
from tests.conftest import copy_project, write_files
from tests.docs import pages
from tests.docs.pages import PAGES, ROOT, Command, Fence, commands, fences, inline, looks_like_a_command, name, program, prose, slugs

SESSIONS = set(re.findall(r"^@nox\.session.*\ndef (\w+)", (ROOT / "noxfile.py").read_text(encoding="utf-8"), re.MULTILINE))
TASKS = Collection.from_module(tasks).tasks
SENTENCES = [ROOT / "docs" / "exit-codes.md", ROOT / "docs" / "troubleshooting.md"]

each_page = pytest.mark.parametrize("page", PAGES, ids=name)


def parse(words: tuple[str, ...]) -> list[Any]:
    """What invoke makes of these words, with the real tasks. Raises its `ParseError`."""
    contexts = Collection.from_module(tasks).to_contexts()
    return list(Parser(contexts=contexts, initial=ParserContext(args=Program().core_args())).parse_argv(list(words)))


def fault(command: Command) -> str:
    """What is wrong with a command, or ""."""
    words = tuple(word for word in command.words if pages.ELLIPSIS not in word or word.startswith("-"))
    match program(words[0]):
        case "invoke":
            return _fault_of_invoke(words[1:], command.inline)
        case "nox":
            return _fault_of_nox(words[1:])
        case "helm" | "kubectl" as tool:
            return _fault_by_help(tool, words[1:])
        case other if other in pages.OTHERS:
            return ""
        case task if command.inline and task in TASKS:  # the page says the task's name alone
            return _fault_of_invoke(words, True)
        case other:
            return f"no test knows how to check {other}: tests/docs/pages.py lists the programs"


def _fault_of_invoke(words: tuple[str, ...], within: bool) -> str:
    try:
        parsed = parse(words)
    except ParseError as error:
        if within and "required positional" in str(error):
            return _fault_of_invoke((*words, "--env=prod"), False)
        return str(error)
    return "" if len(parsed) == 2 or words[0].startswith("-") else "one task at a time"


def _fault_of_nox(words: tuple[str, ...]) -> str:
    asked = {session for option, session in pairwise(words) if option == "-s"}
    if unknown := asked - SESSIONS:
        return f"no session {', '.join(unknown)}"
    before = words[: words.index("--")] if "--" in words else words
    return "" if {word for word in before if word.startswith("-")} <= {"-s", "-l"} else "an option that no test knows"


@cache
def _fault_by_help(tool: str, words: tuple[str, ...]) -> str:
    """What the program itself says of a command when asked for help with it: options are read before that."""
    before = words[: words.index("--")] if "--" in words else words
    argv = [str(tools.find(tool).path), *(re.sub(r"[<>]", "", word) for word in before), "--help"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env={**os.environ, "KUBECONFIG": os.devnull})
    said = done.stdout + done.stderr
    named = next((word for word, last in zip(before, ("", *before), strict=False) if not word.startswith("-") and last != "-n"), "")
    if done.returncode or not re.search(rf"^ +{tool} {re.escape(named)}\b", said, re.MULTILINE):  # of an unknown command they show all others
        return said[:300] or f"exit {done.returncode}"
    return ""


@each_page
def test_every_command_is_one_that_the_tasks_sessions_and_programs_take(page: Path) -> None:
    faults = {f"{one.place}: {' '.join(one.words)}": said for one in commands(page) if (said := fault(one))}
    assert faults == {}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("invoke deplyo --env=local", "No idea"),
        ("invoke deploy --env=local --forse", "No idea"),
        ("invoke deploy --env=local --timeout", "timeout"),
        ("invoke deploy", "required positional"),
        ("invoke logs --env=local --tail=many", "many"),
        ("nox -s lnit", "no session"),
        ("kubectl get pods --no-such-option", "unknown flag"),
        ("kubectl gett pods", "unknown command"),
        ("helm upgrad r c", "unknown command"),
        ("terraform apply -auto-approve", "no test knows"),
    ],
)
def test_a_command_that_is_wrong_is_found(line: str, said: str) -> None:
    try:
        answer = fault(Command("here", tuple(line.split()), False))
    except ValueError as error:  # invoke casts numbers itself
        answer = str(error)
    assert said in answer


@pytest.mark.parametrize(
    "code", ["invoke plan", "terraform apply -auto-approve", "az login --tenant=x", "A_B=c .venv/bin/invoke lint", "helm uninstall x"]
)
def test_a_command_within_the_text_does_not_escape(code: str) -> None:
    assert looks_like_a_command(code)


@each_page
def test_every_fence_says_what_it_is_and_what_is_done_with_it(page: Path) -> None:
    for fence in fences(page):
        assert fence.language in pages.LANGUAGES, fence.place
        if fence.language == "sh":
            assert not fence.info or len(fence.reason) > 10, f"{fence.place}: sh, or sh {pages.NOT_RUN}WHY"
        elif fence.language == "yaml":
            assert fence.info, f"{fence.place}: yaml FILE"
        else:
            assert not [line for line in fence.lines if re.match(r"(\$ )?(invoke|nox|kubectl|helm) ", line)], fence.place
    assert not re.search(r"(?:\A|\n)\n(?: {4}|\t)\S", prose(page)), "code stands in fences: of indented code nothing tells what it is"


@each_page
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(page: Path) -> None:
    for target in re.findall(r"(?<!!)\[[^]]*\]\(([^)\s]+)\)", prose(page)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{name(page)}: {target}"
        assert not anchor or anchor in slugs(there), f"{name(page)}: {target}; there are {', '.join(sorted(slugs(there)))}"


def test_every_page_is_reached_from_readme() -> None:
    reached, left = set[Path](), [ROOT / "README.md"]
    while left:
        page = left.pop()
        reached.add(page)
        linked = {(page.parent / target).resolve() for target in re.findall(r"\]\(([^)\s#]+\.md)", prose(page)) if "://" not in target}
        left += linked - reached
    assert {page for page in PAGES if page.parent == ROOT / "docs"} <= reached


@cache
def constants() -> list[str]:
    """Every text of the code."""
    files = [ROOT / "tasks.py", *sorted((ROOT / "syntho_deploy").rglob("*.py"))]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


@pytest.mark.parametrize("page", SENTENCES, ids=name)
def test_every_sentence_that_a_page_quotes_is_the_products_own(page: Path) -> None:
    quoted = [code for _, code in inline(page) if not looks_like_a_command(code) and (pages.ELLIPSIS in code or len(code.split()) > 3)]
    assert len(quoted) > 10
    known = [re.sub(r'"/[^"]*"', "", text) for text in constants()]
    pieces = {piece.strip(' ":') for code in quoted for piece in re.split(r'…|"/[^"]*"|\d+Gi|\b60 s|\b30 s|"\w*"', code)}
    assert [piece for piece in sorted(pieces) if len(piece) > 3 and not any(piece in text for text in known)] == []


@pytest.fixture(scope="module")
def site(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the sandbox's charts, in which pages' files are put."""
    folder = copy_project(root, tmp_path_factory.mktemp("pages") / "project")
    vendor(folder, load_pin(folder, folder / "vendor/sandbox.yaml"))
    return folder


YAML = [fence for page in PAGES for fence in fences(page, "yaml")]


@pytest.mark.parametrize("fence", YAML, ids=lambda fence: str(fence.place))
def test_every_block_of_yaml_is_taken_by_what_reads_its_file(fence: Fence, site: Path, tmp_path: Path) -> None:
    file = tmp_path / (Path(fence.info).name or "nameless")
    file.write_text(fence.text, encoding="utf-8")
    match Path(fence.info).parts:
        case ("envs", _):
            load(site, "it", environment([fence]))
        case ("kubernetes",):
            assert all({"apiVersion", "kind", "metadata"} <= item.keys() for item in documents.load_manifests(fence.text))
        case ("patch",):
            errors: list[InputError] = []
            assert load_operations(documents.load(file), (), errors)
            assert errors == []
        case ("overlays", "ignore.yaml"):
            (tmp_path / "overlays").mkdir()
            (tmp_path / "overlays/ignore.yaml").write_text(fence.text, encoding="utf-8")
            assert ignore.rules(tmp_path)
        case ("overlays", _, overlay) if overlay.endswith(".values.yaml"):
            assert load_values_patch(file)
        case ("overlays", _, overlay) if overlay.endswith(".manifests.yaml"):
            assert load_manifest_patches(file)
        case _:
            pytest.fail(f"{fence.place}: nothing reads {fence.info}")


def environment(parts: list[Fence]) -> dict[str, Any]:
    """An environment of these parts and nothing else but a cluster."""
    found: dict[str, Any] = {"cluster": {"context": "c", "namespace": "syntho"}, "charts": "vendor/sandbox.yaml"}
    for part in parts:
        for key, value in yaml.safe_load(part.text).items():
            if isinstance(value, dict):
                value = {**found.get(key, {}), **value}
            elif isinstance(value, list):
                value = [*found.get(key, []), *value]
            found[key] = value
    return found


def load(site: Path, called: str, content: dict[str, Any]) -> None:
    write_files(site, {f"envs/{called}.yaml": yaml.safe_dump(content)})
    try:
        load_environment(site, called)
    finally:
        (site / f"envs/{called}.yaml").unlink()


HOWTO = ROOT / "docs" / "howto.md"


def sections() -> dict[str, list[Fence]]:
    """The jobs of howto.md that have lines for files, each with these."""
    lines = HOWTO.read_text(encoding="utf-8").splitlines()
    found: dict[str, list[Fence]] = {}
    for fence in fences(HOWTO, "yaml"):
        heading = next(line for line in reversed(lines[: fence.line]) if line.startswith("## "))
        found.setdefault(f"{heading[3:]} ({fence.info.split('/')[1]})" if fence.info.startswith("envs/dev") else heading[3:], []).append(fence)
    return found


@pytest.mark.parametrize("job", sections())
def test_the_lines_of_a_job_compile_and_none_is_without_effect(job: str, site: Path, helm: Helm) -> None:
    """As they stand, in an environment with nothing else: no job tacitly needs another."""
    parts = sections()[job]
    own = {f"overlays/it/{Path(part.info).name}": part.text for part in parts if part.info.startswith("overlays/")}
    write_files(site, {"envs/it.yaml": yaml.safe_dump(environment([part for part in parts if part.info.startswith("envs/")])), **own})
    project = Project.load(site, "it")
    assert project.compile(helm).objects
    assert explain.dead(project, helm)[0] == []
    for file in own:
        (site / file).unlink()
    (site / "envs/it.yaml").unlink()


def test_howto_names_components_that_are_there() -> None:
    known = components([ROOT / "overlays"])
    groups = {component.partition("/")[0] for component in known}
    named = {code for _, code in inline(HOWTO) if re.fullmatch(r"[a-z-]+/[a-z-]+", code) and code.partition("/")[0] in groups}
    assert len(named) > 15
    assert named <= set(known)
