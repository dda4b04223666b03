"""A client of container registries: which tags there are, what digest a tag has, for which platforms. It only reads.

The protocol is the OCI Distribution Specification with the token flow of the Docker registry
(https://distribution.github.io/distribution/spec/auth/token/). Proxies and CAs are those of `requests`: HTTPS_PROXY, NO_PROXY,
REQUESTS_CA_BUNDLE. A registry on this machine is spoken to without TLS, as docker and crane do.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urljoin, urlsplit

from syntho_deploy.errors import InputError, PreflightError
from syntho_deploy.redact import redact, register

TIMEOUTS = (5.0, 30.0)  # seconds: to connect, and between two bytes of an answer
PAGES = 200  # of tags, of which registries give 100 to 1000 at once
MANIFEST_LIMIT = 4 << 20  # bytes; registries need not take more (OCI Distribution Specification)
DOCKER_HUB = "docker.io"
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_ACCEPT = ", ".join([*_INDEXES, "application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"])
_HUB_HOSTS = (DOCKER_HUB, "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com")

Login = Callable[[str], tuple[str, str] | None]  # a registry's host to username and password; asked only where it wants them


@dataclass(frozen=True)
class Reference:
    """The name of an image: the registry's host with its port, the repository, and a tag, a digest, or both."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        return f"{self.registry}/{self.repository}{f':{self.tag}' if self.tag else ''}{f'@{self.digest}' if self.digest else ''}"

    @property
    def selector(self) -> str:
        """What the registry is asked for: the digest where there is one."""
        return self.digest or self.tag or "latest"


@dataclass(frozen=True)
class Found:
    """What a registry has under a name: its digest, and the platforms (os/arch) that it is for."""

    digest: str
    platforms: tuple[str, ...]


def parse(image: str) -> Reference:
    """The parts of an image's name, those that Docker leaves out written out (docker.io, library/). Raises `InputError`."""
    name, at, digest = image.partition("@")
    last = name.rpartition("/")[2]
    tag = last.partition(":")[2]
    name = name.removesuffix(f":{tag}") if ":" in last else name
    first, slash, rest = name.partition("/")
    named = bool(slash) and ("." in first or ":" in first or first == "localhost")
    registry, repository = (first, rest) if named else (DOCKER_HUB, name)
    registry = host(registry)
    if registry == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    if not _NAME.fullmatch(repository) or (":" in last and not TAG.fullmatch(tag)) or (at and not DIGEST.fullmatch(digest)):
        raise InputError(f'"{image}" is no name of an image', todo="host/repository:tag, host/repository@sha256:…, or both")
    return Reference(registry, repository, tag, digest)


def host(server: str) -> str:
    """The host of a registry as people write it: without a scheme and a path, Docker Hub by its one name."""
    found = server.partition("://")[2] if "://" in server else server
    found = found.partition("/")[0].lower()
    return DOCKER_HUB if found in _HUB_HOSTS else found


def is_local(registry: str) -> bool:
    """Is a registry on this machine?"""
    name = urlsplit(f"//{registry}").hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


class RegistryError(PreflightError):
    """A registry does not give what it was asked for. kind: `login` (it wants one, or another), `tls`, `proxy`, `unreachable`, or `answer`
    (what it says is not as it should be)."""

    def __init__(self, kind: str, what: str, todo: str = "") -> None:
        self.kind = kind
        super().__init__(what, todo=todo)


class Registries:
    """All registries that images are in. login: asked for the username and password of one that wants them; timeouts: in seconds, to
    connect and between two bytes of an answer."""

    def __init__(self, login: Login, timeouts: tuple[float, float] = TIMEOUTS) -> None:
        import requests

        self._login, self._timeouts = login, timeouts
        self._session = requests.Session()
        self._authorizations: dict[tuple[str, str], str] = {}

    def tags(self, image: Reference) -> list[str] | None:
        """Every tag of an image's repository, in the registry's order; None where it has no such repository."""
        url, found = f"/v2/{image.repository}/tags/list?n=1000", list[str]()
        for _ in range(PAGES):
            answer = self._get(image, url)
            if answer is None:
                return None
            found += self._json(image, answer).get("tags") or []
            following = answer.links.get("next", {}).get("url")
            if not following:
                return list(dict.fromkeys(found))
            parts = urlsplit(urljoin(answer.url, following))
            url = f"{parts.path}?{parts.query}"  # never to another host
        raise RegistryError("answer", f"{image.registry} lists the tags of {image.repository} without an end")

    def digest(self, image: Reference) -> str | None:
        """The digest of an image; None where the registry does not have it."""
        found = self._manifest(image)
        return found[0] if found else None

    def look(self, image: Reference) -> Found | None:
        """The digest and the platforms of an image; None where the registry does not have it."""
        found = self._manifest(image)
        if not found:
            return None
        digest, manifest = found
        if "manifests" in manifest:
            platforms = [_platform(item["platform"]) for item in manifest["manifests"] if "platform" in item]
        else:
            answer = self._get(image, f"/v2/{image.repository}/blobs/{manifest.get('config', {}).get('digest')}")
            platforms = [_platform(self._json(image, answer))] if answer is not None else []
        return Found(digest, tuple(dict.fromkeys(name for name in platforms if name and not name.startswith("unknown"))))

    def _manifest(self, image: Reference) -> tuple[str, dict[str, Any]] | None:
        answer = self._get(image, f"/v2/{image.repository}/manifests/{image.selector}", _ACCEPT)
        if answer is None:
            return None
        if len(answer.content) > MANIFEST_LIMIT:
            raise RegistryError("answer", f"the manifest of {image} is larger than {MANIFEST_LIMIT >> 20} MiB")
        digest = f"sha256:{hashlib.sha256(answer.content).hexdigest()}"
        said = image.digest or answer.headers.get("Docker-Content-Digest") or digest
        if said.startswith("sha256:") and said != digest:
            raise RegistryError("answer", f"{image.registry} says {said} for {image} and gave {digest}", todo="look for a proxy that changes answers")
        return digest, self._json(image, answer)

    def _get(self, image: Reference, path: str, accept: str = "application/json") -> Any:
        """The answer to a GET, authorized where the registry wants it; None for 404. Raises `PreflightError`."""
        address = "registry-1.docker.io" if image.registry == DOCKER_HUB else image.registry
        url = f"{'http' if is_local(address) else 'https'}://{address}{path}"
        key = (image.registry, image.repository)
        answer = self._send(url, accept, self._authorizations.get(key, ""))
        if answer.status_code == 401:
            self._authorizations[key] = self._authorize(image, answer)
            answer = self._send(url, accept, self._authorizations[key])
        if answer.status_code == 404:
            return None
        if answer.status_code in (401, 403):
            raise RegistryError("login", f"{image.registry} refuses to show {image.repository}: {_reason(answer)}", todo=_NO_LOGIN)
        if answer.status_code != 200:
            raise RegistryError("answer", f"{image.registry} answers {answer.status_code} for {image.repository}: {_reason(answer)}", todo=_LATER)
        return answer

    def _authorize(self, image: Reference, answer: Any) -> str:
        """The Authorization header that a 401's challenge asks for, by Basic or by a token got with the login."""
        scheme, _, rest = answer.headers.get("WWW-Authenticate", "").partition(" ")
        parameters = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        login = self._login(image.registry)
        if login:
            register(login[1])
        if scheme.lower() == "basic":
            if not login:
                raise RegistryError("login", f"{image.registry} wants a username and a password", todo=_NO_LOGIN)
            return _basic(login)
        realm = parameters.get("realm", "")
        if scheme.lower() != "bearer" or not realm.startswith(("https://", "http://")):
            raise RegistryError("answer", f"{image.registry} wants an authorization that is not known here: {scheme or 'none named'}")
        if realm.startswith("http://") and not is_local(urlsplit(realm).netloc):
            raise RegistryError("answer", f"{image.registry} wants the password to be sent to {realm}, without TLS")
        query = {"scope": parameters.get("scope") or f"repository:{image.repository}:pull"}
        if service := parameters.get("service"):
            query["service"] = service
        answer = self._send(realm, "application/json", _basic(login) if login else "", query)
        if answer.status_code != 200:
            as_whom = f"the user {login[0]}" if login else "nobody"
            raise RegistryError("login", f"{image.registry} gives no token to {as_whom}: {answer.status_code}, {_reason(answer)}", todo=_NO_LOGIN)
        found = self._json(image, answer)
        token = str(found.get("token") or found.get("access_token") or "")
        register(token)
        return f"Bearer {token}"

    def _send(self, url: str, accept: str, authorization: str, query: dict[str, str] | None = None) -> Any:
        import requests

        def authorize(request: Any) -> Any:  # as a function: a header would give way to ~/.netrc
            if authorization:
                request.headers["Authorization"] = authorization
            return request

        where = urlsplit(url).netloc
        try:
            return self._session.get(url, params=query, headers={"Accept": accept}, auth=authorize, timeout=self._timeouts)
        except requests.exceptions.SSLError as error:
            todo = "name the file of your CA in REQUESTS_CA_BUNDLE"
            why = re.search(r"certificate verify failed: ([^(\]]+)", str(error))  # OpenSSL's words, in requests' sentence on pool and URL
            raise RegistryError("tls", f"{where} is not trusted: {why[1].strip() if why else redact(str(error))[:200]}", todo=todo) from None
        except requests.exceptions.ProxyError:
            raise RegistryError("proxy", f"{where} cannot be reached through the proxy", todo="see HTTPS_PROXY and NO_PROXY") from None
        except requests.Timeout:
            raise RegistryError("unreachable", f"{where} does not answer in time", todo=_LATER) from None
        except requests.RequestException as error:
            raise RegistryError("unreachable", f"{where} cannot be reached ({type(error).__name__})", todo=_LATER) from None

    def _json(self, image: Reference, answer: Any) -> dict[str, Any]:
        try:
            found = answer.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise RegistryError(
                "answer", f"{image.registry} does not answer as a registry does", todo="see that this is its address, and no proxy's page"
            )
        return found


_LATER = "see that the registry can be reached from here; --offline does without it"
_NO_LOGIN = "give its credentials under secrets in the environment: NAME: {server: HOST, env: {username: …, password: …}}"


def with_tag(image: str, tag: str) -> Reference:
    """An image of a repository (as values name it) by a tag, which may have a digest behind it."""
    name, _, digest = tag.partition("@")
    return replace(parse(image), tag=name, digest=digest)


def _basic(login: tuple[str, str]) -> str:
    import base64

    found = base64.b64encode(f"{login[0]}:{login[1]}".encode()).decode()
    register(found)
    return f"Basic {found}"


def _platform(item: dict[str, Any]) -> str:
    return "/".join(str(item[key]) for key in ("os", "architecture", "variant") if item.get(key))


def _reason(answer: Any) -> str:
    """What the registry says, or what HTTP does."""
    try:
        first = answer.json()["errors"][0]
        return redact(f"{first.get('message') or first.get('code')}")[:200]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return str(answer.reason or "without a reason")
