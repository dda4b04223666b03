"""Contexts of a kubeconfig: where their API server is, how to trust it and how to sign in, as the `kubernetes` package has it.

Importing that package takes a quarter of a second, more than a plan waits for the cluster: its API classes, a client with schemas of its
own, OAuth for the one kind of login that renews itself so. Of it only `PARTS` are imported; the rest gets a stand-in meanwhile, and what
renews a token is imported when one is renewed.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from syntho_deploy.errors import PreflightError
from syntho_deploy.redact import redact

PACKAGES = ("kubernetes", "kubernetes.client", "kubernetes.config", "kubernetes.utils")  # without what their __init__ imports
PARTS = (
    "kubernetes.client.configuration", "kubernetes.client.rest", "kubernetes.config.config_exception", "kubernetes.config.kube_config",
    "kubernetes.utils.quantity",
)  # fmt: skip
FAMILIES = ("kubernetes", "oauthlib", "requests_oauthlib")
_SEE = "to see it: KUBECONFIG={kubeconfig} kubectl --context={context} version"
_lock = threading.Lock()
_parts: dict[str, ModuleType] = {}


class Connection(NamedTuple):
    """How to talk to one API server. host: its URL; pool: sends requests; authorization: the header of that name, renewed when it must
    be, or "" where a certificate signs in; proxy: the URL of the one that requests go through, or ""."""

    host: str
    pool: Any
    authorization: Callable[[], str]
    proxy: str = ""


def connection(kubeconfig: str, context: str, retries: Any, connections: int) -> Connection:
    """The connection that a context of a kubeconfig describes. retries: urllib3's policy; connections: how many are kept open.

    Runs the program that the context may name for its credentials. Raises `PreflightError` when the context cannot be used.
    """
    import urllib3

    settings, rest = _part("kubernetes.client.configuration").Configuration(), _part("kubernetes.client.rest")
    settings.retries, settings.connection_pool_maxsize = retries, connections
    what = f"the context {context!r} of {kubeconfig} cannot be used"
    said = list[str]()
    try:
        with _logged(said):
            _part("kubernetes.config.kube_config").load_kube_config(kubeconfig, context, settings, False)
        pool = rest.RESTClientObject(settings).pool_manager
    except _part("kubernetes.config.config_exception").ConfigException as error:
        raise PreflightError(f"{what}: {error}", todo="contexts there are: kubectl config get-contexts -o name") from None
    except urllib3.exceptions.HTTPError as error:  # its words hold the proxy's, with user and password
        raise PreflightError(
            f"{what}: {type(error).__name__}", todo="write HTTPS_PROXY, and proxy-url in the kubeconfig, as http://HOST:PORT"
        ) from None
    except Exception as error:  # what is no YAML, no base64, a proxy of SOCKS: the package lets through what it meets
        reason = redact(" ".join(str(error).split()))[:200]
        raise PreflightError(f"{what}: {type(error).__name__}: {reason}", todo="check the kubeconfig: kubectl config view") from None

    if said and not settings.auth_settings() and not settings.cert_file:  # of a program for credentials: the package goes on without any
        words = redact(" ".join("; ".join(said).split()))[:300]
        raise PreflightError(
            f"{what}, since its program for credentials gives none: {words}",
            todo=f"log in again; {_SEE.format(kubeconfig=kubeconfig, context=context)}",
        )

    def authorization() -> str:
        return str(settings.auth_settings().get("BearerToken", {}).get("value") or "")

    proxied = settings.proxy and not rest.should_bypass_proxies(settings.host, settings.no_proxy or "")
    return Connection(settings.host, pool, authorization, settings.proxy if proxied else "")


@contextmanager
def _logged(said: list[str]) -> Iterator[None]:
    """While this is open, what this thread logs as an error is added to `said`, and printed nowhere else that it was not before."""
    root, mine = logging.getLogger(), threading.get_ident()

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == mine:
                said.append(record.getMessage().removeprefix("exec: "))

    kept = Kept(logging.ERROR)
    root.addHandler(kept)
    try:
        yield
    finally:
        root.removeHandler(kept)


def contexts(kubeconfig: str) -> list[str]:
    """The names of a kubeconfig's contexts; none where it cannot be read."""
    import yaml

    try:
        found, _ = _part("kubernetes.config.kube_config").list_kube_config_contexts(kubeconfig)
    except (_part("kubernetes.config.config_exception").ConfigException, OSError, yaml.YAMLError):
        return []
    return [str(context["name"]) for context in found]


def quantity(text: str) -> Decimal:
    """What a Kubernetes quantity comes to: 1.5 for "1500m". Raises ValueError for what is none."""
    return Decimal(_part("kubernetes.utils.quantity").parse_quantity(text))


def _part(name: str) -> Any:
    with _lock:
        if not _parts:
            with _stand_ins():
                _parts.update({part: importlib.import_module(part) for part in PARTS})
    return _parts[name]


@contextmanager
def _stand_ins() -> Iterator[None]:
    """While this is open, the packages are what `PARTS` need of them. Whoever has imported one, or does so later, has the real one."""
    package = importlib.util.find_spec("kubernetes")
    if package is None or not package.origin:
        raise ModuleNotFoundError("the package kubernetes is not installed: pip install --require-hashes -r requirements.lock")
    folder = Path(package.origin).parent
    others = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in FAMILIES}
    made = {name: ModuleType(name) for name in (*PACKAGES, "oauthlib", "oauthlib.oauth2", "requests_oauthlib")}
    for name in PACKAGES:
        made[name].__path__ = [str(folder.joinpath(*name.split(".")[1:]))]
    made["kubernetes.client"].__dict__["ApiClient"] = _later("kubernetes.client", "ApiClient")
    made["requests_oauthlib"].__dict__["OAuth2Session"] = _later("requests_oauthlib", "OAuth2Session")
    made["oauthlib"].__dict__["__getattr__"] = lambda name: importlib.import_module(f"oauthlib.{name}")
    sys.modules.update(made)
    try:
        made["kubernetes.client"].__dict__["Configuration"] = importlib.import_module("kubernetes.client.configuration").Configuration
        yield
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] in FAMILIES]:
            del sys.modules[name]
        sys.modules.update(others)


def _later(module: str, name: str) -> Callable[..., Any]:
    """A function that imports the real one when it is called."""
    return lambda *words, **options: getattr(importlib.import_module(module), name)(*words, **options)
