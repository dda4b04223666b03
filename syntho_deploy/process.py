"""The one way a program is started: an argv list, no shell, stdin closed, output redacted by value, ended by SIGTERM.

Children run in a session of their own, so that a Ctrl-C reaches this process alone, which then ends them in order:
helm that gets SIGTERM writes the release as `failed`, helm that gets SIGKILL leaves it locked (pending-upgrade).
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from syntho_deploy.errors import DeployError
from syntho_deploy.redact import redact

TERM_GRACE = 30.0  # seconds that a child gets between SIGTERM and SIGKILL: helm writes its release record in them

_lock = threading.RLock()  # a signal handler may come while the main thread holds it
_stopping = threading.Event()
_running: set[subprocess.Popen[str]] = set()
_hidden: set[str] = set()
_writes_forbidden = threading.local()


class Result(NamedTuple):
    """What a finished program printed (redacted, whole) and its exit code."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str


class ProcessError(DeployError):
    """A program failed, ran out of time or could not be started. `result` is None in the last two cases."""

    def __init__(self, what: str, argv: Sequence[str], result: Result | None = None) -> None:
        self.result = result
        super().__init__(what, todo=f"to see it again: {quoted(argv)}")


def quoted(argv: Sequence[str]) -> str:
    """The command as it can be pasted into a shell, redacted."""
    return redact(shlex.join(str(word) for word in argv))


def hide_environment(*names: str) -> None:
    """Keep these variables (the sources of secrets) out of every child's environment from now on."""
    _hidden.update(names)


def child_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without the sources of secrets, plus `extra`."""
    return {k: v for k, v in os.environ.items() if k not in _hidden} | dict(extra or {})


@contextmanager
def writes_forbidden() -> Iterator[None]:
    """Inside, `run(writes=True)` raises instead of starting anything: what only looks cannot write by mistake."""
    before = getattr(_writes_forbidden, "on", False)
    _writes_forbidden.on = True
    try:
        yield
    finally:
        _writes_forbidden.on = before


def run(
    argv: Sequence[str | Path],
    *,
    timeout: float = 120.0,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    check: bool = True,
    writes: bool = False,
    raw: bool = False,
    inherit: Sequence[int] = (),
) -> Result:
    """Run a program to its end and return what it printed.

    timeout: seconds, then SIGTERM. env: added to `child_environment()`. check: raise `ProcessError` on a non-zero exit.
    writes: the program changes a cluster. raw: stdout is data for us, not for a person, and is not redacted.
    inherit: file descriptors that it gets too.
    """
    words = tuple(str(word) for word in argv)
    if writes and getattr(_writes_forbidden, "on", False):
        raise AssertionError(f"a command that only looks wanted to write: {quoted(words)}")
    if _stopping.is_set():
        raise ProcessError(f"{Path(words[0]).name} was not started: this run was interrupted", words)
    try:
        child = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
            errors="replace", env=child_environment(env), cwd=cwd, start_new_session=True,
            pass_fds=tuple(inherit),
        )  # fmt: skip
    except OSError as error:
        raise ProcessError(f"{words[0]} cannot be started: {error.strerror}", words) from error
    with _lock:
        _running.add(child)
    if _stopping.is_set():  # `terminate_all` may have looked just before this child was there
        _terminate([child])
    try:
        out, err = child.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        _terminate([child])
        raise ProcessError(f"{Path(words[0]).name} did not end within {timeout:.0f} s and was stopped", words) from None
    except BaseException:
        _terminate([child])
        raise
    finally:
        with _lock:
            _running.discard(child)
    result = Result(words, child.returncode, out if raw else redact(out), redact(err))
    if check and result.code:
        text = (result.stderr or result.stdout).strip() or f"exit code {result.code}"
        raise ProcessError(f"{Path(words[0]).name} failed: {text[-2000:]}", words, result)
    return result


def terminate_all() -> None:
    """End every child that still runs, in any thread, and start no other: SIGTERM, a grace, and only then SIGKILL."""
    _stopping.set()
    with _lock:
        children = list(_running)
    _terminate(children)


def _terminate(children: Sequence[subprocess.Popen[str]]) -> None:
    for child in children:
        _signal(child, signal.SIGTERM)
    for child in children:
        try:
            child.wait(TERM_GRACE)
        except subprocess.TimeoutExpired:
            _signal(child, signal.SIGKILL)
            child.wait()


def _signal(child: subprocess.Popen[str], number: signal.Signals) -> None:
    try:
        os.killpg(child.pid, number)
    except ProcessLookupError:
        pass
