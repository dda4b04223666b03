"""What every task shares: errors to sentences and exit codes, interrupts, confirmation, durations, JSON."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Callable
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


def confirm(environment: str, protected: bool, yes: str, what: str) -> None:
    """For a protected environment: have its name typed, or given as `--yes=<name>`; without a terminal never ask.

    Raises `PreflightError` when it is not confirmed.
    """
    if not protected or yes == environment:
        return
    if yes:
        raise PreflightError(f"--yes={yes} names another environment than {environment}")
    if not sys.stdin.isatty():
        raise PreflightError(f"{environment} is protected", todo=f"to {what} it without a terminal: --yes={environment}")
    print(f"{environment} is protected. Type its name to {what} it: ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != environment:
        raise PreflightError("not confirmed; nothing was changed")
