"""What README and the pages hold for a machine: fences with their commands and YAML, code within the text, links, headings.

The first word after a fence's backticks is its language, the rest says what is done with it:

    sh                  commands that are run, line by line, on a local cluster (tests/e2e/test_docs.py)
    sh not-run: WHY     commands that are only parsed, since this machine has not what they need
    yaml FILE           a part of that file, or of one like it, loaded as it is; `kubernetes`: objects; `patch`: operations on any object
    text, mermaid       neither
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "overlays").rglob("*.md"), *(ROOT / "sandbox").rglob("*.md")])
LANGUAGES = ("sh", "yaml", "text", "mermaid")
NOT_RUN = "not-run: "
# The first word of a command. Of the last, only the quoting can be checked here.
OURS, BY_HELP = ("invoke", "nox"), ("helm", "kubectl")
OTHERS = ("python", "python3", "pip", "git", ".", "source", "export")
OPERATORS = re.compile(r"[|&;()]+|<\(")
ELLIPSIS = "…"


@dataclass(frozen=True)
class Fence:
    """A block between backticks. line: of its first backticks, from 1; info: what stands after the language."""

    page: Path
    line: int
    language: str
    info: str
    lines: tuple[str, ...]

    @property
    def place(self) -> str:
        return f"{name(self.page)}:{self.line}"

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"

    @property
    def reason(self) -> str:
        """Why its commands are not run, or ""."""
        return self.info.removeprefix(NOT_RUN) if self.info.startswith(NOT_RUN) else ""


class Command(NamedTuple):
    """A command as a page has it. inline: within the text, where options that are needed may be left out."""

    place: str
    words: tuple[str, ...]
    inline: bool


def name(page: Path) -> str:
    """A page as people call it."""
    return str(page.relative_to(ROOT))


@cache
def _split(page: Path) -> tuple[tuple[Fence, ...], str]:
    """The fences of a page, and its text with an empty line for each of theirs."""
    fences, prose, open_at, inside = list[Fence](), list[str](), 0, list[str]()
    head = ""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```") and not open_at:
            open_at, head, inside = number, line[3:].strip(), []
        elif line.startswith("```"):
            language, _, info = head.partition(" ")
            fences.append(Fence(page, open_at, language, info, tuple(inside)))
            open_at = 0
        elif open_at:
            inside.append(line)
        prose.append("" if open_at or line.startswith("```") else line)
    assert not open_at, f"{name(page)}:{open_at}: this fence does not end"
    return tuple(fences), "\n".join(prose)


def fences(page: Path, language: str = "") -> list[Fence]:
    """The fences of a page, of one language or all."""
    return [fence for fence in _split(page)[0] if not language or fence.language == language]


def prose(page: Path) -> str:
    """A page without its fences."""
    return _split(page)[1]


def inline(page: Path) -> list[tuple[int, str]]:
    """The code within the text of a page, each with the line in which it begins."""
    text, found = prose(page), []
    for paragraph in re.finditer(r"(?:.+\n?)+", text):
        for code in re.finditer(r"(`+)(.+?)\1(?!`)", paragraph[0], re.DOTALL):
            line = text.count("\n", 0, paragraph.start() + code.start()) + 1
            found.append((line, re.sub(r"\s*\n\s*", " ", code[2])))
    return found


def commands(page: Path) -> list[Command]:
    """Every command of a page: each line of its `sh` fences, and the code within its text that looks like one."""
    found = []
    for fence in fences(page, "sh"):
        for number, line in enumerate(fence.lines, fence.line + 1):
            found += _commands(f"{name(page)}:{number}", line, False)
    for line, code in inline(page):
        if looks_like_a_command(code):
            found += _commands(f"{name(page)}:{line}", code, True)
    return found


def looks_like_a_command(code: str) -> bool:
    """It begins with a program that is known here, or has an option behind a first word."""
    words = [word for word in code.split() if not re.fullmatch(r"[A-Z_]+=\S*", word)]
    known = len(words) > 1 and program(words[0]) in (*OURS, *BY_HELP, *OTHERS)
    return known or bool(
        words and re.fullmatch(r"[a-z][\w./-]*", words[0]) and any(re.fullmatch(r"--?[a-z][\w-]*(=.*)?", word) for word in words[1:])
    )


def program(word: str) -> str:
    """The name of a program, wherever it lies."""
    return word if word == "." else word.rpartition("/")[2]


def _commands(place: str, line: str, within: bool) -> list[Command]:
    found, words = [], list[str]()
    for word in [*_shell_words(line), ";"]:
        if OPERATORS.fullmatch(word):
            if words:
                found.append(Command(place, tuple(words), within))
            words = []
        elif words or not re.fullmatch(r"[A-Z_]+=.*", word):  # variables before a program
            words.append(word)
    return found


def _shell_words(line: str) -> list[str]:
    """A line as a shell splits it; a redirection leaves, with its file. Raises `ValueError` for an open quote."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = list(lexer)
    cut = [number for number, word in enumerate(words) if word in (">", ">>", "<")]
    return [word for number, word in enumerate(words) if number not in cut and number - 1 not in cut]


def slugs(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them of its headings."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
        if found[slug]:
            found[f"{slug}-{found[slug]}"] = 0
    return set(found)
