"""What every task shares: errors to sentences and exit codes, interrupts, confirmation, durations, JSON."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from invoke.exceptions import Exit

from syntho_deploy.errors import DeployError, InputError, PreflightError
from syntho_deploy.redact import mask_streams, redact

P = ParamSpec("P")
T = TypeVar("T")
INTERRUPTED = 130
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def command(function: Callable[P, T]) -> Callable[P, T]:
    """A task whose `DeployError` becomes its sentence on stderr and its exit code, whose interrupt ends all children, and whose
    output is masked.

    SIGTERM, by which CI systems end a job, is an interrupt like Ctrl-C.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        mask_streams()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _interrupt)
        try:
            return function(*args, **kwargs)
        except DeployError as error:
            raise Exit(redact(f"error: {error}"), error.exit_code) from None
        except BrokenPipeError:  # the reader of our output has seen enough
            sys.stderr.close()
            raise Exit(code=0) from None
        except KeyboardInterrupt:
            raise Exit("interrupted; what was begun can be run again", INTERRUPTED) from None
        except Exit:
            raise
        except Exception:  # a fault of ours, whose traceback may quote a secret
            import traceback

            raise Exit(redact(f"{traceback.format_exc()}\nerror: this is a fault of syntho-deploy, please report it"), 1) from None

    return run


def _interrupt(number: int, frame: Any) -> None:
    """End the children here, not where the interrupt is caught: on the way there, thread pools wait for theirs."""
    from syntho_deploy import process

    process.terminate_all()
    raise KeyboardInterrupt


def say(text: str) -> None:
    """A line for people, on stderr."""
    print(redact(text), file=sys.stderr, flush=True)


def show(value: Any) -> None:
    """A value as JSON on stdout."""
    print(redact(json.dumps(value, indent=2, ensure_ascii=False)))


def show_line(value: Any) -> None:
    """A value as one line of JSON on stdout, for a stream of them."""
    print(redact(json.dumps(value, ensure_ascii=False)), flush=True)


@contextmanager
def redrawn() -> Iterator[Callable[[str], None] | None]:
    """On a terminal, a function that shows a text in the place of the one before; elsewhere None."""
    if not sys.stdout.isatty():
        yield None
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(), auto_refresh=False, vertical_overflow="crop") as screen:
        yield lambda text: screen.update(Text(redact(text)), refresh=True)


@contextmanager
def until_interrupted(endless: bool = True) -> Iterator[None]:
    """For a command that has no other end than Ctrl-C: nothing was begun that could be run again."""
    try:
        yield
    except KeyboardInterrupt:
        if not endless:
            raise
        raise Exit(code=INTERRUPTED) from None


def table(rows: list[tuple[str, ...]]) -> str:
    """Rows in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def duration(text: str) -> float:
    """Seconds from `90`, `90s`, `15m` or `1h`. Raises `InputError`."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smh]?)", text)
    if not match or not 0 < float(match[1]) < 1e6:
        raise InputError(f'"{text}" is no duration', todo="write 90s, 15m or 1h")
    return float(match[1]) * UNITS[match[2]]


def confirm(protected: Mapping[str, bool], yes: str, what: str) -> None:
    """For each protected environment: have its name typed, or given in `--yes=<name>,<name>`; without a terminal never ask.

    protected: of each environment by its name, is it? Raises `PreflightError` when one is not confirmed.
    """
    asked = [name for name, needed in protected.items() if needed]
    given = [name.strip() for name in yes.split(",") if name.strip()]
    if asked and (others := [name for name in given if name not in protected]):
        raise PreflightError(f"--yes={','.join(others)} names another environment than {', '.join(protected)}")
    for name in [name for name in asked if name not in given]:
        if given or not sys.stdin.isatty():
            raise PreflightError(f"{name} is protected", todo=f"to {what} it without a terminal: --yes={','.join(asked)}")
        print(f"{name} is protected. Type its name to {what} it: ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip() != name:
            raise PreflightError("not confirmed; nothing was changed")


def acknowledge(environment: str, given: str, ask: bool, what: str) -> None:
    """Have a loss that may come accepted: the environment's name typed, or given in `--no-backup=<name>,<name>`.

    ask: may it be typed? Without a terminal it never is. what: the sentence that is accepted. Raises `PreflightError` when it is not.
    """
    names = [name.strip() for name in given.split(",") if name.strip()]
    if environment in names:
        return
    todo = f"give {environment} a before_upgrade, or accept it: --no-backup={environment}"
    if names or not ask or not sys.stdin.isatty():
        raise PreflightError(what, todo=todo)
    print(f"{what}. Type {environment} to go on without: ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != environment:
        raise PreflightError("not accepted; nothing was changed", todo=todo)
