"""What Postgres and Redis outside the charts answer: from here, or from a Job in the cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from syntho_deploy.checks.hosts import is_inside
from syntho_deploy.doctor import job, outside, probe
from syntho_deploy.doctor.outside import Service
from syntho_deploy.doctor.subject import Missing, Result, Subject, side_by_side, told
from syntho_deploy.errors import DeployError


def in_cluster(subject: Subject) -> Iterator[Result]:
    """With `--in-cluster`: a Job in the namespace can be made, runs, and its log can be read."""
    if not subject.in_cluster or not (every := _every(subject)):
        return
    _ = subject.client  # where there is none, another check tells it
    told(lambda: _asked_there(subject, every))
    yield Result("in-cluster", "ok", f"a Job asked {len(every)} services, and was deleted")


def postgres(subject: Subject) -> Iterator[Result]:
    """Each application's database outside: DNS, TCP, TLS, login, version, privileges; and that no two are one."""
    yield from _check(subject, "postgres")


def redis(subject: Subject) -> Iterator[Result]:
    """Each application's Redis outside: DNS, TCP, TLS, password, the numbered database, version, policy; and that no two are one."""
    yield from _check(subject, "redis")


def _check(subject: Subject, kind: str) -> Iterator[Result]:
    every = _every(subject)
    mine = [service for service in every if service.kind == kind]
    if not mine:
        yield Result(kind, "ok", "in the charts")
        return
    from_here: list[Callable[[], probe.Answer]] = [partial(_from_here, subject, one) for one in mine]
    answers = _from_cluster(subject, every, mine) if subject.in_cluster else side_by_side(from_here)
    for answer in answers:
        yield from (Result(kind, *line) for line in answer.lines)
    seen: dict[str, str] = {}
    for service, answer in zip(mine, answers, strict=True):
        places = {f"{service.host}:{service.port}/{service.name}", *([answer.identity] if answer.identity else [])}
        if twins := [seen[place] for place in places if place in seen]:
            what = f"{service.application}: its database is that of {twins[0]}: {service.name} at {service.host}:{service.port}"
            todo = "component postgres/external with two names" if kind == "postgres" else "component redis/databases with two numbers"
            yield Result(kind, "error", what, todo)
        seen |= dict.fromkeys(places, service.application)


def _from_here(subject: Subject, service: Service) -> probe.Answer:
    if is_inside(subject.context, service.host):
        what = f"{service.application}: {service.host} is a name of the cluster, and was not asked from here"
        return probe.Answer([("unknown", what, "--in-cluster asks it from a Job")])
    question = service.question()
    try:
        question["ca"] = outside.certificate(subject, service.trust) if service.trust else ""
    except Missing as missing:
        return probe.Answer([("unknown", f"{service.application}: {missing}", "")])
    password: str | None = None
    try:
        password = service.password if isinstance(service.password, str) else outside.reveal(subject, service.password)
    except Missing as missing:
        question["unknown"] = str(missing)
    except DeployError as error:  # its source, which has no value now
        question["unknown"] = error.what
    return probe.ask(question, password)


def _from_cluster(subject: Subject, every: list[Service], mine: list[Service]) -> list[probe.Answer]:
    answers = _asked_there(subject, every)
    return [answers[every.index(one)] for one in mine]


def _every(subject: Subject) -> list[Service]:
    return subject.once("the services outside", lambda: outside.outside(subject.context))


def _asked_there(subject: Subject, every: list[Service]) -> list[probe.Answer]:
    """All are asked by one Job, though several checks want it."""
    return subject.once("an answer of the Job", lambda: job.ask(subject, every))
