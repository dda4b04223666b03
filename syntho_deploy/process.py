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
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

from syntho_deploy.errors import DeployError
from syntho_deploy.redact import redact

CGROUP = Path("/sys/fs/cgroup/cpu.max")
TERM_GRACE = 30.0  # seconds that a child gets between SIGTERM and SIGKILL: helm writes its release record in them

_lock = threading.RLock()  # a signal handler may come while the main thread holds it
_stopping = threading.Event()
_running: set[subprocess.Popen[str]] = set()
_hidden: dict[str, str] = {}
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
    """Take these variables (the sources of secrets) out of this process's environment, and so out of that of every child,
    also of one that a library starts: a kubeconfig's credentials come from a program. `variable` still has them."""
    for name in names:
        if name in os.environ:
            _hidden[name] = os.environ.pop(name)


def variable(name: str) -> str | None:
    """An environment variable, hidden or not, or None."""
    return os.environ.get(name, _hidden.get(name))


@contextmanager
def writes_forbidden() -> Iterator[None]:
    """Inside, `run(writes=True)` raises instead of starting anything: what only looks cannot write by mistake."""
    before = getattr(_writes_forbidden, "on", False)
    _writes_forbidden.on = True
    try:
        yield
    finally:
        _writes_forbidden.on = before


def processors() -> int:
    """How many processors this process may use at once: a container has those of its machine to see, and its quota of them to use."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # no cgroup v2, or no quota: "max"
        quota, period = CGROUP.read_text(encoding="ascii").split()
        count = min(count, max(1, int(quota) // int(period)))
    return count


def run(
    argv: Sequence[str | Path],
    *,
    timeout: float = 120.0,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    check: bool = True,
    writes: bool = False,
    raw: bool = False,
    say: Callable[[str], None] | None = None,
    inherit: Sequence[int] = (),
) -> Result:
    """Run a program to its end and return what it printed.

    timeout: seconds, then SIGTERM. env: added to this process's own. check: raise `ProcessError` on a non-zero exit.
    writes: the program changes a cluster. raw: stdout is data for us, not for a person, and is not redacted.
    say: gets each line, redacted, as it is printed. inherit: file descriptors that it gets too.
    """
    words = tuple(str(word) for word in argv)
    if writes and getattr(_writes_forbidden, "on", False):
        raise AssertionError(f"a command that only looks wanted to write: {quoted(words)}")
    if _stopping.is_set():
        raise ProcessError(f"{Path(words[0]).name} was not started: this run was interrupted", words)
    try:
        child = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
            errors="replace", env={**os.environ, **(env or {})}, cwd=cwd, start_new_session=True,
            pass_fds=tuple(inherit),
        )  # fmt: skip
    except OSError as error:
        raise ProcessError(f"{words[0]} cannot be started: {error.strerror}", words) from error
    with _lock:
        _running.add(child)
    if _stopping.is_set():  # `terminate_all` may have looked just before this child was there
        _terminate([child])
    try:
        out, err = _streamed(child, timeout, say) if say else child.communicate(timeout=timeout)
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


def _streamed(child: subprocess.Popen[str], timeout: float, say: Callable[[str], None]) -> tuple[str, str]:
    """What a child prints, each line said as it comes. Raises `subprocess.TimeoutExpired` as `communicate` does."""
    end = time.monotonic() + timeout
    texts: tuple[list[str], list[str]] = ([], [])

    def read(stream: IO[str], lines: list[str]) -> None:
        for line in stream:
            lines.append(line)
            say(redact(line.rstrip("\n")))

    streams = [stream for stream in (child.stdout, child.stderr) if stream]
    readers = [threading.Thread(target=read, args=pair, daemon=True) for pair in zip(streams, texts, strict=True)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(max(0.0, end - time.monotonic()))
        if reader.is_alive():
            raise subprocess.TimeoutExpired(child.args, timeout)
    child.wait(max(0.0, end - time.monotonic()))
    return "".join(texts[0]), "".join(texts[1])


def terminate_all() -> None:
    """End every child that still runs, in any thread, and start no other: SIGTERM, a grace, and only then SIGKILL."""
    _stopping.set()
    with _lock:
        children = list(_running)
    _terminate(children)


def stop_if_interrupted() -> None:
    """Raise `KeyboardInterrupt` once this run was interrupted: of itself it reaches the main thread only."""
    if _stopping.is_set():
        raise KeyboardInterrupt


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
