"""The machine that deploys."""

from __future__ import annotations

import ipaddress
import os
import platform
import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from urllib.parse import urlsplit

from syntho_deploy import tools
from syntho_deploy.cluster import local
from syntho_deploy.doctor.subject import Missing, Result, Subject, told
from syntho_deploy.redact import redact

PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")
LOCK = tools.LOCK.parent.parent / "requirements.lock"
SKEW, WRONG = 5.0, 60.0  # seconds: what nothing minds, and where credentials and certificates are refused
OF_CLUSTER = {"kind": ("kind",), "kwok": ("kwokctl", "kwok", "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")}


def helm(subject: Subject) -> Iterator[Result]:
    """The helm that deploys is there, and of a version that this project knows (tools/tools.lock.yaml)."""
    found = subject.place.helm
    yield Result("helm", "ok", f"{found.version}, {found.path}")


def python(subject: Subject) -> Iterator[Result]:
    """Python and the packages are those of requirements.lock."""
    locked = dict(re.findall(r"^([a-z0-9._-]+)==([^ ]+)", LOCK.read_text(encoding="utf-8"), re.MULTILINE)) if LOCK.is_file() else {}
    others = [f"{name} {found or 'none'} (locked {wanted})" for name, wanted in locked.items() if (found := _installed(name)) not in ("", wanted)]
    here = f"{platform.python_version()}, {sys.prefix}"
    if others:
        listed = f"{', '.join(others[:4])}{f' and {len(others) - 4} more' if len(others) > 4 else ''}"
        todo = f"{sys.executable} -m pip install --require-hashes -r requirements.lock"
        yield Result("python", "warning", f"{here}; other packages than the locked ones: {listed}", todo)
    else:
        yield Result("python", "ok", f"{here}; {len(locked)} packages as locked")


def _installed(name: str) -> str:
    """The version of an installed package; "" for one that this platform has no use for."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def local_tools(subject: Subject) -> Iterator[Result]:
    """The programs that make the cluster of a local environment are there. Without them it cannot be made anew."""
    if not subject.environment.target.local:
        return
    provider = str(local.status(subject.environment.target.local)["provider"])
    found = {one.name: one for one in tools.status() if one.name in OF_CLUSTER[provider]}
    missing = [name for name, one in found.items() if not one.tool]
    if missing:
        yield Result("local-tools", "warning", f"{', '.join(missing)} of {provider} not here", f"invoke tools --provision={','.join(missing)}")
    else:
        yield Result("local-tools", "ok", ", ".join(f"{name} {one.tool.version}" for name, one in found.items() if one.tool))


def charts(subject: Subject) -> Iterator[Result]:
    """The vendored charts are the locked ones, and compile with the environment's overlays. Nothing is looked at where they are not."""
    lock = subject.project.vendored.lock
    listed = ", ".join(f"{name} {chart.version}" for name, chart in lock.charts.items())
    compiled = told(lambda: subject.compiled)
    yield Result("charts", "ok", f"{listed} at {lock.short}, as locked; {len(compiled.objects)} objects")


def proxies(subject: Subject) -> Iterator[Result]:
    """The proxies that requests go through, and whether those to the API server do: one of a private address is seldom reached so."""
    found = {name: value for name in PROXIES if (value := os.environ.get(name) or os.environ.get(name.lower()))}
    shown = redact(", ".join(f"{name}={_without_password(value)}" for name, value in found.items())) or "none are set"
    try:
        client = subject.client
    except Missing:
        yield Result("proxies", "ok", shown)
        return
    host = urlsplit(client.server).hostname or ""
    way = f"the API server {host} is reached " + (f"through {redact(_without_password(client.proxy))}" if client.proxy else "directly")
    if client.proxy and _private(host):
        yield Result("proxies", "warning", f"{way}, though its address is private; {shown}", f"export NO_PROXY={_no_proxy(host)}")
    else:
        yield Result("proxies", "ok", f"{shown}; {way}" if found or client.proxy else shown)


def _no_proxy(host: str) -> str:
    return ",".join(filter(None, (os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), host)))


def _without_password(url: str) -> str:
    return re.sub(r"^([A-Za-z][\w+.-]*://)?.*@", r"\1***@", url)  # programs take a proxy without a scheme, too


def _private(host: str) -> bool:
    """Is this a host of a private network, by its address or its name?"""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal", ".localhost", ".svc", ".lan"))


def clock(subject: Subject) -> Iterator[Result]:
    """The clock of this machine is the API server's. Where it is not, certificates and tokens look expired, or not valid yet."""
    yield skewed(subject.connection.skew)


def skewed(seconds: float) -> Result:
    """What a clock that the server's is ahead of, by so many seconds, means."""
    if abs(seconds) <= SKEW:
        return Result("clock", "ok", "as the API server's")
    state = "error" if abs(seconds) > WRONG else "warning"
    what = f"this machine is {abs(seconds):.0f} s {'behind' if seconds > 0 else 'ahead of'} the API server"
    return Result("clock", state, what, "have it follow a time server: timedatectl set-ntp true")
