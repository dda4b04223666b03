"""The errors a user sees: one sentence of what is wrong, where, and what to do; each class has its exit code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple


class Mark(NamedTuple):
    """A place in a file that a user edits. `line` and `column` count from 1."""

    path: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return ":".join([self.path, *(str(n) for n in (self.line, self.column) if n)])


class DeployError(Exception):
    """Base of everything that ends a command with a sentence instead of a traceback.

    what: the sentence; where: the place in the user's file, if there is one; todo: what to do next.
    """

    exit_code = 1

    def __init__(self, what: str, where: Mark | Path | None = None, todo: str = "") -> None:
        self.what, self.where, self.todo = what, where, todo
        super().__init__(what)

    def __str__(self) -> str:
        text = f"{shown(self.where)}: {self.what}" if self.where is not None else self.what
        return f"{text}\n  -> {self.todo}" if self.todo else text


class InputError(DeployError):
    """A file, an option or a value that the user gave is wrong. Nothing was written."""

    exit_code = 3


class PreflightError(DeployError):
    """The cluster, the machine or a source is not what the environment needs. Nothing was written."""

    exit_code = 4


class NotHealthyError(DeployError):
    """What was deployed did not become ready, or is not what was compiled."""

    exit_code = 5


class LockedError(DeployError):
    """Another run holds what this one needs."""

    exit_code = 6


class InputErrors(InputError):
    """Every fault of one input at once, so that they are mended in one go."""

    def __init__(self, errors: Iterable[InputError]) -> None:
        self.errors = list(errors)
        super().__init__(f"{len(self.errors)} errors")

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


def flat(errors: Iterable[InputError]) -> list[InputError]:
    """Single errors, each once: what several layers or environments share is told once."""
    single = [one for error in errors for one in (error.errors if isinstance(error, InputErrors) else [error])]
    return list({str(error): error for error in single}.values())


@contextmanager
def noting(errors: list[InputError]) -> Iterator[None]:
    """Note what is raised inside, and go on after it: for the parts of an input that do not need each other."""
    try:
        yield
    except InputError as error:
        errors += flat([error])


def together(errors: Iterable[InputError]) -> InputError:
    """The one error, or all of them as one `InputErrors`: file by file as they come, in each by line."""
    single = flat(errors)
    files = {path: number for number, path in enumerate(dict.fromkeys(_place(error)[0] for error in single))}
    ordered = sorted(single, key=lambda error: (files[_place(error)[0]], *_place(error)[1:]))
    return ordered[0] if len(ordered) == 1 else InputErrors(ordered)


def _place(error: InputError) -> tuple[str, int, int]:
    where = error.where
    return where if isinstance(where, Mark) else (str(where or ""), 0, 0)


def raise_all(errors: list[InputError]) -> None:
    """Raise nothing, the one error, or all of them as one `InputErrors`."""
    if errors:
        raise together(errors)


def shown(where: Mark | Path) -> str:
    """A path as the user would type it from where they stand, with line and column."""
    path = Path(where.path if isinstance(where, Mark) else where)
    try:
        short = str(path.relative_to(Path.cwd()))
    except ValueError:
        short = str(path)
    return str(Mark(short, where.line, where.column)) if isinstance(where, Mark) else short


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean "x"?` for the known name closest to a wrong one, or nothing."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f'; did you mean "{found[0]}"?' if found else ""
