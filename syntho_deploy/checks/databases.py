"""Postgres and Redis: two databases, in the chart or outside, and not half of each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from syntho_deploy.checks.amounts import amount
from syntho_deploy.checks.context import Context, Finding, Item, Pod, of_object
from syntho_deploy.checks.references import claims

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
SMALLEST_VOLUME = 1024.0**3


def applications(context: Context, service: str) -> list[str]:
    """The applications that have a database, or a Redis: `<service>.<application>.host` is a role."""
    names = [name.split(".") for name in context.roles.values]
    return [parts[1] for parts in names if len(parts) == 3 and parts[0] == service and parts[2] == "host"]


def service_of(context: Context, host: Any) -> str:
    """The name of the Service in the environment's namespace that a host may be, by DNS; "" for a host elsewhere."""
    first, dot, rest = str(host).lower().rstrip(".").partition(".")
    namespace = context.environment.target.namespace
    if not LABEL.fullmatch(first):  # an address of IPv6 has no dot either
        return ""
    return first if not dot or rest in (namespace, f"{namespace}.svc", f"{namespace}.svc.cluster.local") else ""


def running(context: Context, service: str) -> list[Pod]:
    """The pods behind a Service that the charts bring, those of a workload with 0 replicas left out."""
    items = [item for item in context.kind("Service") if item["metadata"]["name"] == service]
    pods = [pod for item in items for pod in context.selected(item["spec"].get("selector")) if item["spec"].get("selector")]
    return [pod for pod in pods if (pod.item.get("spec") or {}).get("replicas", 1) != 0]


def _nowhere(context: Context, service: str, application: str) -> str:
    """Why there is no database, or no Redis, at the host and port of an application, as far as they are of a Service; "" where there may be."""
    host, port = (context.value(f"{service}.{application}.{part}") for part in ("host", "port"))
    name = service_of(context, host)
    if not name or name in context.present("services"):
        return ""
    if not running(context, name):
        return f"nothing runs behind the host {host} of {application}"
    (spec,) = [item["spec"] for item in context.kind("Service") if item["metadata"]["name"] == name]
    ports = [str(one.get("port")) for one in spec.get("ports") or []]
    if spec.get("clusterIP") == "None" or str(port) in ports:
        return ""
    return f"the host {host} of {application} is a Service that has no port {port}, only {', '.join(ports) or 'none'}"


def _host(context: Context, role: str) -> str:
    """A host in one form: a Service of the namespace by its name alone, another in lower case."""
    text = str(context.value(role))
    return service_of(context, text) or text.lower().rstrip(".")


def same_database(context: Context) -> Iterator[Finding]:
    """Two applications with one database: the tables of one overwrite or confuse the other's. Nothing in the charts stops it."""
    seen: dict[tuple[str, ...], str] = {}
    for application in applications(context, "database"):
        place = (_host(context, f"database.{application}.host"), *(str(context.value(f"database.{application}.{part}")) for part in ("port", "name")))
        role = context.role(f"database.{application}.name")
        if place in seen and role:
            what = f"{application} has the database of {seen[place]}: {place[2]} at {place[0]}:{place[1]}"
            yield context.of_value(role, what, "component postgres/external with two names: core_db and backend_db")
        seen[place] = application


def unused_database(context: Context) -> Iterator[Finding]:
    """A database outside, and the chart's own still on: it runs, takes a volume, and nothing asks it."""
    for application in applications(context, "database"):
        enabled, host = context.role(f"database.{application}.enabled"), context.role(f"database.{application}.host")
        if enabled and enabled.value is True and host and host.value != host.default and not _service_of_default(context, host.default, host.value):
            what = f"the database of {application} is at {host.value}, and the chart's own is on"
            yield context.of_value(enabled, what, f"component postgres/external or postgres/external-{application}")


def _service_of_default(context: Context, default: Any, host: Any) -> bool:
    return service_of(context, host) == str(default)


def missing_database(context: Context) -> Iterator[Finding]:
    """A database that is nowhere: the chart's own is off, and the host still that of its Service. The guide's host for the core,
    `backend`, is the Service of an application."""
    for application in applications(context, "database"):
        host = context.role(f"database.{application}.host")
        if host and (what := _nowhere(context, "database", application)):
            yield context.of_value(host, what, "component postgres/in-chart, or postgres/external with postgres_host")


def tls_to_chart_database(context: Context) -> Iterator[Finding]:
    """An application that asks for TLS (PGSSLMODE) where its database is the chart's own, which speaks none: it never connects."""
    for application in applications(context, "database"):
        if not running(context, service_of(context, context.value(f"database.{application}.host"))):
            continue
        for pod in context.pods:
            for keys, container in pod.containers(init=False):
                for index, entry in enumerate(container.get("env") or [] if context.runs(container, application) else []):
                    if entry.get("name") == "PGSSLMODE" and entry.get("value") in ("require", "verify-ca", "verify-full"):
                        what = f"{entry['value']} asks for TLS, and the database of {application} in the chart speaks none"
                        todo = f"component postgres/external or postgres/external-{application}; or postgres/tls for the other application only"
                        yield of_object(pod.item, (*keys, "env", index), what, todo)


def unused_redis(context: Context) -> Iterator[Finding]:
    """A Redis outside, and the chart's own running: it has no switch, so that it must be deleted."""
    roles = [role for name in applications(context, "redis") if (role := context.role(f"redis.{name}.host"))]
    own = {str(role.default) for role in roles}
    used = {service_of(context, role.value) for role in roles}
    for service in sorted(own - used):
        for pod in running(context, service):
            yield of_object(pod.item, ("spec", "replicas"), "this Redis runs, and no application has its host", "component redis/external")


def missing_redis(context: Context) -> Iterator[Finding]:
    """A Redis that is nowhere: the chart's own is scaled to 0 or deleted, and the host still that of its Service, which stays."""
    for application in applications(context, "redis"):
        host = context.role(f"redis.{application}.host")
        if host and (what := _nowhere(context, "redis", application)):
            yield context.of_value(host, what, "component redis/in-chart, or redis/external with redis_host")


def same_redis_database(context: Context) -> Iterator[Finding]:
    """Two applications with one numbered database of one Redis: the keys of one are in the way of the other's."""
    seen: dict[tuple[str, ...], str] = {}
    for application in applications(context, "redis"):
        place = (_host(context, f"redis.{application}.host"), *(str(context.value(f"redis.{application}.{part}")) for part in ("port", "db")))
        role = context.role(f"redis.{application}.db")
        if place in seen and role:
            what = f"{application} has the Redis database of {seen[place]}: {place[2]} at {place[0]}:{place[1]}"
            yield context.of_value(role, what, "component redis/databases with two numbers")
        seen[place] = application


def split_redis(context: Context) -> Iterator[Finding]:
    """One application with a Redis outside, and another with the chart's: each is a place to lose, to watch and to secure, and half of a change
    looks so. Both are meant to be outside, or neither."""
    roles = {name: role for name in applications(context, "redis") if (role := context.role(f"redis.{name}.host"))}
    inside = {name for name, role in roles.items() if running(context, service_of(context, role.value) or " ")}
    for name in sorted(inside) if inside != set(roles) else ():
        others = " and ".join(f"{other} at {role.value}" for other, role in roles.items() if other not in inside)
        todo = "component redis/external for both, or redis/in-chart for both"
        yield context.of_value(roles[name], f"{name} has the Redis of the chart, {others}", todo)


def unencrypted_database(context: Context) -> Iterator[Finding]:
    """A database outside without TLS: passwords and data go over the network readable. The charts have no value for it; libpq and asyncpg read
    PGSSLMODE, where `prefer` and less accept a connection without."""
    hosts = {str(context.value(f"database.{application}.host")) for application in applications(context, "database")}
    outside = sorted(host for host in hosts if host and not service_of(context, host))
    for pod in context.pods:
        told = [entry for _, container in pod.containers(init=False) for entry in container.get("env") or []]
        asked = [host for host in outside if any(host in str(entry.get("value", "")) for entry in told)]
        if asked and not any(_encrypts(entry) for entry in told):
            what = f"nothing says that its connection to {' and '.join(asked)} is encrypted"
            todo = "component postgres/tls with postgres_sslmode: require or verify-full"
            yield of_object(pod.item, (*pod.keys, "containers", 0, "env"), what, todo)


def _encrypts(entry: Item) -> bool:
    name, value = str(entry.get("name")).upper(), str(entry.get("value", "require")).lower()
    if "SSL" in name or "TLS" in name:
        return value not in ("", "0", "false", "no", "off", "disable", "allow", "prefer")
    return bool(re.search(r"[?&](ssl|sslmode|tls)=(?!disable|allow|prefer|false|0)", value))


def unencrypted_redis(context: Context) -> Iterator[Finding]:
    """A Redis outside by a URL without TLS: tasks and their results go over the network readable. The charts write `redis://` into the templates
    of the core; whether the backend, which has host, port and number only, can do more is Syntho's to say."""
    hosts = {str(context.value(f"redis.{application}.host")) for application in applications(context, "redis")}
    outside = sorted(host for host in hosts if host and not service_of(context, host))
    for pod in context.pods:
        for keys, container in pod.containers(init=False):
            plain = [index for index, entry in enumerate(container.get("env") or []) if _plain_redis(str(entry.get("value", "")), outside)]
            for index in plain[:1]:
                name = container["env"][index].get("name")
                yield of_object(pod.item, (*keys, "env", index), f"{name} asks for Redis without TLS", "component redis/external-tls")


def _plain_redis(url: str, hosts: list[str]) -> bool:
    return url.startswith("redis://") and any(host in url for host in hosts)


def replicated_redis(context: Context) -> Iterator[Finding]:
    """More than one pod of the chart's Redis: the second is told to follow redis-ss-0.redis-ss.redis, a name that does not exist, and the
    Service leads to both."""
    roles = [role for name in applications(context, "redis") if (role := context.role(f"redis.{name}.host"))]
    for service in sorted({service_of(context, role.value) for role in roles} - {""}):
        for pod in running(context, service):
            if pod.many:
                yield of_object(pod.item, ("spec", "replicas"), "more than one Redis, which do not know each other", "component redis/in-chart")


def tiny_volume(context: Context) -> Iterator[Finding]:
    """A volume below 1Gi: the charts fix 100Mi for each database. A volume grows only where its class allows it."""
    for item, keys, spec in claims(context):
        size = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
        found = amount(size)
        if found is not None and found < SMALLEST_VOLUME:
            yield of_object(item, (*keys, "resources", "requests", "storage"), f"a volume of {size}", "component volume-sizes")
