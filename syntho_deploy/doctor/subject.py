"""What a check is about and what it answers: one environment with its compiled objects and its cluster, each got once, when asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from threading import RLock, Semaphore, Thread
from typing import Any, NamedTuple, TypeVar

from syntho_deploy.checks.context import Context
from syntho_deploy.cluster.client import ApiError, Client, Object
from syntho_deploy.compile import Compiled, Project
from syntho_deploy.doctor.connection import Connection, connect
from syntho_deploy.environment import Environment
from syntho_deploy.errors import DeployError
from syntho_deploy.secrets import store
from syntho_deploy.several import Place

NAMESPACED = ("pods", "deployments", "ingresses")  # what is listed in all namespaces
AT_ONCE = 16  # questions for one purpose
NEW = "none yet"
RULES = "docs/doctor.md has the rules for the account"
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
    """A check cannot be made, because what it asks is not there; what that is, another check tells. The sentence says what is missing, todo
    what to do, where no other check tells that."""

    def __init__(self, what: str, todo: str = "") -> None:
        self.todo = todo
        super().__init__(what)


class Subject:
    """One environment as the checks see it. Safe to use from several threads: each part is got once, by who asks first.

    in_cluster: services outside are to be asked from a Job in the cluster; image: for its pod, "" for an application's.
    """

    def __init__(self, place: Place, in_cluster: bool = False, image: str = "") -> None:
        self.place, self.in_cluster, self.image = place, in_cluster, image
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
    def connection(self) -> Connection:
        """The way to the cluster, which is the right one, and what it says of itself and of us. Raises `Missing` when there is none."""
        return self.once("the cluster", lambda: connect(self.place))

    @property
    def client(self) -> Client:
        """A client of the cluster, which sends each GET once. Raises `Missing` when there is none."""
        return self.connection.client

    @property
    def compiled(self) -> Compiled:
        """The compiled charts. Raises `Missing` when they do not compile."""
        return self.once("the compiled charts", self.place.compile)

    @cached_property
    def context(self) -> Context:
        """The compiled environment as lint's rules see it: its pods, its roles. Raises `Missing` as `compiled` does."""
        return Context(self.project, self.compiled, self.place.helm)

    @property
    def wanted(self) -> list[store.Wanted]:
        """The Secrets that deploy makes. Raises `Missing` where their names cannot be told."""
        return self.once("the names of the Secrets", lambda: store.wanted(self.compiled))

    @property
    def namespace_there(self) -> bool:
        """Is the namespace there? Where it may not be read, what every namespace has tells it. Raises `Missing` when that may not either."""
        try:
            return self.found("v1", "Namespace", self.namespace) is not None
        except Missing:
            return self.found("v1", "ConfigMap", "kube-root-ca.crt", self.namespace) is not None

    def listed(self, api_version: str, kind: str, namespace: str = "") -> list[Object]:
        """The objects of a kind, in a namespace or in all. Raises `Missing` when the account may not list them."""
        try:
            return self.client.objects(api_version, kind, namespace)
        except ApiError as error:
            raise _forbidden(error) from error

    def found(self, api_version: str, kind: str, name: str, namespace: str = "") -> Object | None:
        """One object, or None when it, or its kind, is not there. Raises `Missing` when the account may not read it."""
        try:
            return self.client.get(api_version, kind, namespace, name)
        except ApiError as error:
            raise _forbidden(error) from error

    def once(self, what: str, ask: Callable[[], Asked]) -> Asked:
        """What `ask` returns, asked by the first only; `what` names it. Raises `Missing` for each when it raises a `DeployError`."""
        with self._lock:
            mine = self._locks.setdefault(what, RLock())
        with mine:
            if what not in self._answers:
                try:
                    self._answers[what] = ask()
                except Exception as error:
                    self._answers[what] = error
            found = self._answers[what]
        if isinstance(found, DeployError):
            raise Missing(f"not asked, for want of {what}") from found
        if isinstance(found, Exception):  # a fault of ours, for which nobody else tries again
            raise found
        answer: Asked = found
        return answer


def told(ask: Callable[[], Asked]) -> Asked:
    """What `ask` returns. Raises the error behind a `Missing`: for the one check that tells it, where the others say that they were not asked."""
    try:
        return ask()
    except Missing as missing:
        raise (missing.__cause__ or missing) from None


def forbidden(error: ApiError) -> str:
    """What the account may not do, by the words of an API server that refused it; "" for another refusal."""
    match = re.search(r'cannot (\w+) resource "([^"]*)" in API group "([^"]*)"(.*)', error.message) if error.status == 403 else None
    if not match:
        return ""
    where = re.search(r'in the namespace "([^"]*)"', match[4])
    place = f" in {where[1]}" if where else " in all namespaces" if match[1] == "list" and match[2] in NAMESPACED else ""
    return f"the account may not {match[1]} {match[2]}{f'.{match[3]}' if match[3] else ''}{place}"


def _forbidden(error: ApiError) -> Exception:
    """What to raise for a refusal: a permission that lacks keeps one check from its answer, and no more."""
    return Missing(words, RULES) if (words := forbidden(error)) else error


def begun(ask: Callable[[], Asked], gate: AbstractContextManager[Any] | None = None) -> Future[Asked]:
    """What `ask` will return. It is asked by a thread that ends with the process: what hangs keeps nobody from the end."""
    answer: Future[Asked] = Future()

    def asking() -> None:
        try:
            with gate or nullcontext():
                answer.set_result(ask())
        except BaseException as error:
            answer.set_exception(error)

    Thread(target=asking, daemon=True).start()
    return answer


def side_by_side(work: Sequence[Callable[[], Asked]]) -> list[Asked]:
    """What each returns, asked at once, some at a time."""
    gate = Semaphore(AT_ONCE)
    return [future.result() for future in [begun(one, gate) for one in work]]
