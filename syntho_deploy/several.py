"""A command for one environment, or for several of them: side by side, each failing alone, what they share done once."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from syntho_deploy import explain, helm, process
from syntho_deploy.altered import altered
from syntho_deploy.cluster import preflight
from syntho_deploy.cluster.client import Access, Client
from syntho_deploy.compile import Compiled, Project
from syntho_deploy.console import say, show, table
from syntho_deploy.environment import Environment, chosen
from syntho_deploy.errors import DeployError, raise_all
from syntho_deploy.helm import Helm
from syntho_deploy.redact import redact
from syntho_deploy.secrets import sources
from syntho_deploy.steps import Part, Steps
from syntho_deploy.vendor import Vendored

AT_ONCE = 8  # environments: most of their time they wait for the cluster
WORST = (1, 5, 4, 3, 6, 2, 0)  # of several exit codes, the first of these is the command's
WORDS = {1: "failed", 2: "changes", 3: "bad input", 4: "refused", 5: "not healthy", 6: "locked"}


class Answer(NamedTuple):
    """What a command says of one environment. text: for people; data: for `--json`; line: for the summary of several; code: its exit
    code; error: why that is not 0, unless the text says so."""

    text: str
    data: Any = None
    line: str = ""
    code: int = 0
    error: str = ""


class Shared:
    """What the environments of one command have in common: the charts that were checked, the helm, a client for each cluster."""

    def __init__(self) -> None:
        self.charts: dict[Path, Vendored] = {}
        self.connecting: dict[str, Future[Client]] = {}  # by environment: begun ahead of time, and met by who asks for the client next
        self._clients: dict[tuple[Access, type[Client]], Client] = {}
        self._helm: Helm | None = None
        self._lock = threading.Lock()

    def helm(self, told: Callable[[str], None]) -> Helm:
        """The helm, looked for once."""
        with self._lock:
            self._helm = self._helm or helm.find(told)
            return self._helm

    def client(self, access: Access, kind: type[Client] = Client) -> Client:
        """The client of a cluster; what it learns of the cluster's kinds is known to all."""
        with self._lock:
            if (access, kind) not in self._clients:
                self._clients[access, kind] = kind(access)
            return self._clients[access, kind]


class Place(NamedTuple):
    """One environment of a command: its project, and where its progress goes."""

    project: Project
    steps: Steps
    shared: Shared

    @property
    def environment(self) -> Environment:
        return self.project.environment

    @property
    def helm(self) -> Helm:
        return self.shared.helm(self.steps.say)

    def client(self, create: bool = False) -> Client:
        """A client of the environment's cluster, as `preflight.connect`."""
        begun = self.shared.connecting.pop(self.environment.name, None)
        if begun and not (create and begun.exception()):  # a cluster that is to be made could not be reached
            return begun.result()
        return preflight.connect(self.environment, self.steps.say, create, self.shared.client)

    def compile(self) -> Compiled:
        """The compiled charts, however much of the overlays is without effect."""
        return self.project.compile(self.helm)

    def strict(self, online: bool = False) -> Compiled:
        """The compiled charts. Raises `InputError` for operations of the environment's own overlay that have no effect (those of a
        shared component may have none), and for texts that a chart makes something else of.

        online: the cluster is asked next, which is made ready while helm is waited for.
        """
        self.project.values()  # which both need, and must be made by one
        with ThreadPoolExecutor(2) as pool:
            reached = pool.submit(explain.reaches, self.project, self.helm)
            if online:
                self.shared.connecting[self.environment.name] = pool.submit(self._ahead)
            compiled = self.compile()
        reached.result()
        errors, _ = explain.dead(self.project, self.helm)
        raise_all([*errors, *(one.error for one in altered(self.project, self.helm))])
        return compiled

    def _ahead(self) -> Client:
        """Import what work on a cluster needs, and connect to it."""
        from syntho_deploy import release  # noqa: F401

        return preflight.connect(self.environment, self.steps.say, client_of=self.shared.client)


Work = Callable[[Place], Answer]


def run(root: Path, env: str, json: bool, work: Work, confirm: Callable[[list[Environment]], None] = lambda environments: None) -> tuple[int, str]:
    """Do `work` for the environments that an option names, and print what it says: of several, each under its name, and a summary.

    confirm: is asked before anything begins, and raises to refuse. Environments in one namespace of one cluster go one after the
    other, since a Lease keeps them apart. Returns the exit code, of several the worst, and the error that goes with it. For a single
    environment, errors are raised.
    """
    sources.hide_all(root)
    names, shared, steps = chosen(root, env), Shared(), Steps()
    if len(names) == 1:
        project = _project(root, names[0], shared)
        confirm([project.environment])
        answer = work(Place(project, steps, shared))
        if json:
            show(answer.data)
        else:
            print(redact(answer.text))
        return answer.code, answer.error
    answers: dict[str, Answer] = {}
    for name, answer in _all(root, names, work, confirm, shared, steps):
        answers[name] = answer
        if answer.text and not json:
            print(redact(f"== {name}\n{answer.text}\n"), flush=True)
        if answer.error:
            say(f"error: {name}: {answer.error}")
    if json:
        show([{"environment": name, "code": one.code, "error": redact(one.error), "result": one.data} for name, one in answers.items()])
    else:
        rows = [(name, str(one.code), one.line) for name, one in answers.items()]
        print(redact(table([("ENVIRONMENT", "EXIT", "RESULT"), *rows])))
    return worst(answer.code for answer in answers.values()), ""


def worst(codes: Any) -> int:
    """The exit code that stands for several."""
    return min(codes, key=WORST.index, default=0)


def _project(root: Path, name: str, shared: Shared) -> Project:
    project = Project.load(root, name, shared.charts)
    sources.hide(project.environment)
    return project


def _all(
    root: Path, names: list[str], work: Work, confirm: Callable[[list[Environment]], None], shared: Shared, steps: Steps
) -> Iterator[tuple[str, Answer]]:  # fmt: skip
    """Each environment's name and answer, in the order of the names, as soon as those before it are there."""
    answers: dict[str, Future[Answer]] = {name: Future() for name in names}
    groups: dict[tuple[str, ...], list[Place]] = {}
    for name in names:
        try:
            project = _project(root, name, shared)
        except DeployError as error:
            answers[name].set_result(_failed(error))
            continue
        target = project.environment.target
        place = (target.local, target.context, target.kubeconfig, target.namespace)
        groups.setdefault(place, []).append(Place(project, Part(steps, name), shared))
    confirm([place.environment for group in groups.values() for place in group])

    def one_after_the_other(group: list[Place]) -> None:
        for place in group:
            answers[place.environment.name].set_result(_answer(work, place))

    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        for group in groups.values():
            pool.submit(one_after_the_other, group)
        for name in names:
            yield name, answers[name].result()
    finally:
        pool.shutdown(cancel_futures=True)


def _answer(work: Work, place: Place) -> Answer:
    try:
        process.stop_if_interrupted()
        return work(place)
    except DeployError as error:
        process.stop_if_interrupted()
        return _failed(error)
    except Exception:  # a fault of ours; the other environments go on
        return Answer(
            "", line="failed: a fault of syntho-deploy", code=1, error=f"{traceback.format_exc()}\nthis is a fault of syntho-deploy, please report it"
        )


def _failed(error: DeployError) -> Answer:
    return Answer("", line=f"{WORDS.get(error.exit_code, 'failed')}: {error.what.splitlines()[0][:120]}", code=error.exit_code, error=str(error))
