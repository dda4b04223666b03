"""A client of container registries: which tags there are, what digest a tag has, for which platforms. It only reads.

The protocol is the OCI Distribution Specification with the token flow of the Docker registry
(https://distribution.github.io/distribution/spec/auth/token/). Proxies and CAs are those of `requests`: HTTPS_PROXY, NO_PROXY,
REQUESTS_CA_BUNDLE. A registry on this machine is spoken to without TLS, as docker and crane do.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urljoin, urlsplit

from syntho_deploy.errors import InputError, PreflightError
from syntho_deploy.redact import redact, register

TIMEOUTS = (5.0, 30.0)  # seconds: to connect, and between two bytes of an answer
PAGES = 200  # of tags, of which registries give 100 to 1000 at once
LIMIT = 4 << 20  # bytes of an answer; a registry need not take a larger manifest (OCI Distribution Specification)
PATIENCE = 4  # times the second of the time-outs, for the whole of an answer
BUSY = (429, 502, 503, 504)
INSIDE = 16  # manifests of an index that are looked into, where it does not say their platforms
DOCKER_HUB = "docker.io"
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_CHALLENGE = re.compile(r'([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))|([A-Za-z][\w-]*)')
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
    """A registry does not give what it was asked for. kind: `login` (it wants one, or another), `tls`, `proxy`, `unreachable`, `busy` (it
    asks to come again), or `answer` (what it says is not as it should be)."""

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
        names = self._platforms(image, found[1])
        return Found(found[0], tuple(dict.fromkeys(name for name in names if name and not name.startswith("unknown"))))

    def _platforms(self, image: Reference, manifest: dict[str, Any]) -> list[str]:
        """The platforms that a manifest is for: as an index says of each image in it, else by the image's own configuration."""
        if "manifests" not in manifest:
            config = manifest["config"].get("digest")
            answer = self._get(image, f"/v2/{image.repository}/blobs/{config}") if DIGEST.fullmatch(str(config)) else None
            if answer is None:
                raise RegistryError("answer", f"{image.registry} has {image} without its configuration", todo="push it there again")
            return [_platform(self._json(image, answer))]
        names = [_platform(item["platform"]) for item in manifest["manifests"] if isinstance(item.get("platform"), dict)]
        silent = [str(item.get("digest")) for item in manifest["manifests"] if not isinstance(item.get("platform"), dict)]
        for digest in silent[:INSIDE]:
            found = self._manifest(replace(image, tag="", digest=digest)) if DIGEST.fullmatch(digest) else None
            if found and "manifests" not in found[1]:
                names += self._platforms(image, found[1])
        return names

    def _manifest(self, image: Reference) -> tuple[str, dict[str, Any]] | None:
        answer = self._get(image, f"/v2/{image.repository}/manifests/{image.selector}", _ACCEPT)
        if answer is None:
            return None
        manifest = self._json(image, answer)
        index = manifest.get("manifests")
        if not isinstance(manifest.get("config"), dict) and not (isinstance(index, list) and all(isinstance(item, dict) for item in index)):
            if manifest.get("schemaVersion") == 1:
                raise RegistryError("answer", f"{image} is of the first format of images, which no kubelet takes now", todo="build and push it anew")
            raise RegistryError("answer", f"what {image.registry} has as {image} is no manifest of an image", todo=_NO_PAGE)
        digest = f"sha256:{hashlib.sha256(answer.content).hexdigest()}"
        said = image.digest or answer.headers.get("Docker-Content-Digest") or digest
        if said.startswith("sha256:") and said != digest:
            raise RegistryError("answer", f"{image.registry} says {said} for {image} and gave {digest}", todo="look for a proxy that changes answers")
        return digest, manifest

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
        _busy(image.registry, answer)
        if answer.status_code in (401, 403):
            raise RegistryError("login", f"{image.registry} refuses to show {image.repository}: {_reason(answer)}", todo=_NO_LOGIN)
        if answer.status_code != 200:
            raise RegistryError("answer", f"{image.registry} answers {answer.status_code} for {image.repository}: {_reason(answer)}", todo=_LATER)
        return answer

    def _authorize(self, image: Reference, answer: Any) -> str:
        """The Authorization header that a 401's challenge asks for, by Basic or by a token got with the login."""
        challenges = _challenges(answer.headers.get("WWW-Authenticate", ""))
        login = self._login(image.registry)
        if login:
            register(login[1])
        parameters = challenges.get("bearer", {})
        realm = parameters.get("realm", "")
        if not realm.startswith(("https://", "http://")):
            if "basic" not in challenges:
                named = ", ".join(challenges) or "none named"
                raise RegistryError("answer", f"{image.registry} wants an authorization that is not known here: {named}", todo=_NO_PAGE)
            if not login:
                raise RegistryError("login", f"{image.registry} wants a username and a password", todo=_NO_LOGIN)
            return _basic(login)
        if realm.startswith("http://") and not is_local(urlsplit(realm).netloc):
            raise RegistryError("answer", f"{image.registry} wants the password to be sent to {realm}, without TLS", todo="have it name https there")
        query = {"scope": parameters.get("scope") or f"repository:{image.repository}:pull"}
        if service := parameters.get("service"):
            query["service"] = service
        answer = self._send(realm, "application/json", _basic(login) if login else "", query)
        _busy(urlsplit(realm).netloc, answer)
        if answer.status_code != 200:
            as_whom = f"the user {login[0]}" if login else "nobody"
            raise RegistryError("login", f"{image.registry} gives no token to {as_whom}: {answer.status_code}, {_reason(answer)}", todo=_NO_LOGIN)
        found = self._json(image, answer)
        token = found.get("token") or found.get("access_token")
        if not isinstance(token, str):
            raise RegistryError("answer", f"{urlsplit(realm).netloc} answers for {image.registry} without a token", todo=_NO_PAGE)
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
            return self._read(where, self._session.get(
                url, params=query, headers={"Accept": accept}, auth=authorize, timeout=self._timeouts, stream=True,
            ))  # fmt: skip
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
        except ValueError:  # of urllib, in a redirect
            raise RegistryError("answer", f"{where} leads to an address that is none", todo=_NO_PAGE) from None

    def _read(self, where: str, answer: Any) -> Any:
        """An answer with its content, which is neither endless nor larger than anything that is asked for."""
        import urllib3

        end, content = time.monotonic() + PATIENCE * self._timeouts[1], bytearray()
        with answer:
            while True:
                try:
                    chunk = answer.raw.read1(1 << 16, decode_content=True)  # what is there, where iter_content waits for all of it
                except urllib3.exceptions.HTTPError as error:
                    raise RegistryError("unreachable", f"{where} breaks off its answer ({type(error).__name__})", todo=_LATER) from None
                if not chunk:
                    break
                content += chunk
                if len(content) > LIMIT:
                    raise RegistryError("answer", f"{where} answers with more than {LIMIT >> 20} MiB", todo=_NO_PAGE)
                if time.monotonic() > end:
                    raise RegistryError("unreachable", f"{where} does not come to an end of its answer", todo=_LATER)
        answer._content = bytes(content)  # as requests keeps what it has read whole
        return answer

    def _json(self, image: Reference, answer: Any) -> dict[str, Any]:
        try:
            found = answer.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise RegistryError("answer", f"{image.registry} does not answer as a registry does", todo=_NO_PAGE)
        return found


_LATER = "see that the registry can be reached from here; --offline does without it"
_NO_PAGE = "see that this is the registry's address, and that no proxy's or login's page answers"
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


def _busy(host: str, answer: Any) -> None:
    """Raise for an answer that says to come again."""
    if answer.status_code in BUSY:
        after = str(answer.headers.get("Retry-After", ""))
        wait = f"again in {after} s" if after.isdigit() else "again later"
        todo = f"{wait}; a limit of pulls is higher for who logs in, and a mirror has none" if answer.status_code == 429 else wait
        raise RegistryError("busy", f"{host} answers {answer.status_code} now: {_reason(answer)}", todo=todo)


def _challenges(header: str) -> dict[str, dict[str, str]]:
    """What a WWW-Authenticate asks for: the parameters by scheme, names in small letters (RFC 9110, section 11.6.1)."""
    found: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for name, quoted, plain, scheme in _CHALLENGE.findall(header):
        if scheme:
            current = found.setdefault(scheme.lower(), {})
        else:
            current[name.lower()] = re.sub(r"\\(.)", r"\1", quoted) or plain
    return found


def _platform(item: dict[str, Any]) -> str:
    return "/".join(str(item[key]) for key in ("os", "architecture", "variant") if item.get(key))


def _reason(answer: Any) -> str:
    """What the registry says, or what HTTP does."""
    try:
        first = answer.json()["errors"][0]
        return redact(f"{first.get('message') or first.get('code')}")[:200]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return str(answer.reason or "without a reason")
