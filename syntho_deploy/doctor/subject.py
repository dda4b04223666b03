"""What a check is about and what it answers: one environment with its compiled objects and its cluster, each got once, when asked for."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from threading import RLock
from typing import Any, NamedTuple, TypeVar

from syntho_deploy.checks.context import Context
from syntho_deploy.cluster.client import Client
from syntho_deploy.compile import Compiled, Project
from syntho_deploy.environment import Environment
from syntho_deploy.errors import DeployError
from syntho_deploy.several import Place

STATES = ("error", "warning", "unknown", "ok")  # the worst first; unknown: it could not be asked
Asked = TypeVar("Asked")


class Result(NamedTuple):
    """One line of doctor. check: the name of what was asked; state: one of STATES; what: what was found; todo: the remedy, "" where there is
    nothing to do."""

    check: str
    state: str
    what: str
    todo: str = ""


class Missing(Exception):
    """A check cannot be made, because what it asks is not there; what that is, another check tells. The sentence says what is missing."""


class Subject:
    """One environment as the checks see it. Safe to use from several threads: each part is got once, by who asks first.

    in_cluster: services outside are to be asked from a Job in the cluster.
    """

    def __init__(self, place: Place, in_cluster: bool = False) -> None:
        self.place, self.in_cluster = place, in_cluster
        self._answers: dict[str, Any] = {}
        self._locks: dict[str, RLock] = {}
        self._lock = RLock()

    @property
    def project(self) -> Project:
        """The environment's project."""
        return self.place.project

    @property
    def environment(self) -> Environment:
        """The environment as its file says."""
        return self.place.environment

    @property
    def namespace(self) -> str:
        """The namespace that it is deployed to."""
        return self.environment.target.namespace

    @property
    def client(self) -> Client:
        """A client of the cluster, which is the right one. Raises `Missing` when there is none."""
        return self.once("the cluster", self.place.client)

    @property
    def compiled(self) -> Compiled:
        """The compiled charts. Raises `Missing` when they do not compile."""
        return self.once("the compiled charts", self.place.compile)

    @cached_property
    def context(self) -> Context:
        """The compiled environment as lint's rules see it: its pods, its roles. Raises `Missing` as `compiled` does."""
        return Context(self.project, self.compiled, self.place.helm, lambda chart: None)

    def once(self, what: str, ask: Callable[[], Asked]) -> Asked:
        """What `ask` returns, asked by the first only; `what` names it. Raises `Missing` for each when it raises a `DeployError`."""
        with self._lock:
            mine = self._locks.setdefault(what, RLock())
        with mine:
            if what not in self._answers:
                try:
                    self._answers[what] = ask()
                except DeployError as error:
                    self._answers[what] = error
            found = self._answers[what]
        if isinstance(found, DeployError):
            raise Missing(f"not asked, for want of {what}") from found
        answer: Asked = found
        return answer


def side_by_side(work: list[Callable[[], Asked]]) -> list[Asked]:
    """What each returns, asked at once."""
    with ThreadPoolExecutor(max(1, min(16, len(work)))) as pool:
        return [future.result() for future in [pool.submit(one) for one in work]]
