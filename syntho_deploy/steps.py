"""Progress of a long command, for people: a live line on a terminal, plain lines elsewhere; always on stderr."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from syntho_deploy.redact import redact

STILL_SECONDS = 10.0  # a plain log says at most this often how far a step is


class Steps:
    """Says what is being done and, when it is done, how long it took. Safe to use from several threads."""

    def __init__(self) -> None:
        self._started = self._told = time.monotonic()
        self._lock = threading.Lock()
        self._running: dict[str, tuple[float, str]] = {}
        self._status: Any = None

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """One step: shown while it runs; one line with its time at the end, also when it fails."""
        step = Step(self, name)
        with self._lock:
            self._running[name] = (time.monotonic(), "")
            self._show()
        try:
            yield step
        except BaseException:
            self._end(name, "failed")
            raise
        self._end(name, step.result)

    def say(self, text: str) -> None:
        """One line of its own."""
        with self._lock:
            self._print(redact(text))

    def note(self, name: str, text: str) -> None:
        """What a step is at."""
        with self._lock:
            since, _ = self._running.get(name, (time.monotonic(), ""))
            self._running[name] = (since, text)
            self._show()
            if not sys.stderr.isatty() and time.monotonic() - self._told > STILL_SECONDS:
                self._print(redact(f"  {name}: {text}"))

    def _end(self, name: str, result: str) -> None:
        with self._lock:
            since, _ = self._running.pop(name)
            self._show()
            self._print(redact(f"  {name:<22}{time.monotonic() - since:6.1f} s  {result}".rstrip()))

    def _show(self) -> None:
        if not sys.stderr.isatty():
            return
        if not self._running and self._status:
            self._status.stop()
            self._status = None
            return
        text = ", ".join(f"{name}{' (' + note + ')' if note else ''}" for name, (_, note) in self._running.items())
        if self._status is None and self._running:
            from rich.console import Console
            from rich.markup import escape

            self._escape = escape
            self._status = Console(stderr=True).status("")
            self._status.start()
        if self._status:
            self._status.update(self._escape(redact(text)))

    def _print(self, text: str) -> None:
        self._told = time.monotonic()
        if self._status:
            self._status.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)

    @property
    def seconds(self) -> float:
        """Since the first step."""
        return time.monotonic() - self._started


class Part(Steps):
    """The steps of one environment among several: on the same screen, each line with the environment's name before it."""

    def __init__(self, whole: Steps, label: str) -> None:
        super().__init__()
        self._whole, self._label = whole, label

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """As of the whole, under this label."""
        with self._whole.step(f"{self._label}: {name}") as step:
            yield step

    def say(self, text: str) -> None:
        """Each line with the label."""
        self._whole.say("\n".join(f"{self._label}: {line}" for line in text.splitlines()))


class Step:
    """A running step. `result` is printed beside its time at the end."""

    def __init__(self, steps: Steps, name: str) -> None:
        self._steps, self.name, self.result = steps, name, ""

    def note(self, text: str) -> None:
        """What it is at."""
        self._steps.note(self.name, text)
