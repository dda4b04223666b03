"""An environment: `envs/<name>.yaml`, read strictly, and `roles.yaml`, which says what the values of a pin mean."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from syntho_deploy import transaction
from syntho_deploy.console import duration
from syntho_deploy.documents import Document, canonical, load, read_by_helm
from syntho_deploy.errors import InputError, Mark, nearest, raise_all
from syntho_deploy.graces import GRACES
from syntho_deploy.section import Section

DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
SECRET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")
VERSION = re.compile(r"1\.[0-9]{1,3}(\.[0-9]{1,3})?")
NAME_LIMIT = 40
ALL = "all"  # every environment, for --env
DURATION = re.compile(r"[1-9][0-9]{0,4}[smh]")
WORKLOAD = re.compile(r"(Deployment|StatefulSet)/[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
RELEASE_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,51}[a-z0-9])?")  # Helm's limit is 53
DEFAULT_KUBERNETES = "1.31"
GENERATORS = ("django", "fernet", "password", "token")
CHECKS = ("fernet",)
SOURCES = ("generate", "env", "file", "command", "kubernetes", "tls")
COMMAND_TIMEOUT = 60  # seconds
LONGEST_COMMAND = 600
ALPHABET = re.compile(r"[!-~]{10,}")  # of a generated password: printable, no blanks
ALPHABET_LEAST = 10  # different characters
ACCESS_MODES = ("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod")
PRESENT = ("secrets", "config_maps", "services", "service_accounts", "claims", "ingress_classes", "priority_classes")
SHAPES: tuple[tuple[str, Any], ...] = (("charts", str), ("components", list), ("vars", dict), ("secrets", dict), ("releases", dict))
QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?")


class Target(NamedTuple):
    """Which cluster and where in it. Exactly one of `local` (a cluster of this machine, made on demand) and `context` is set."""

    namespace: str
    local: str = ""
    context: str = ""
    kubeconfig: str = ""
    uid: str = ""
    kubernetes: str = DEFAULT_KUBERNETES


class Present(NamedTuple):
    """What an environment says is there without it, in its cluster or namespace: names by kind (`PRESENT`), storage classes with the
    access modes that they serve, and what the largest node has to give (`cpu`, `memory`; empty where it is not said)."""

    names: dict[str, tuple[str, ...]]
    storage_classes: dict[str, tuple[str, ...]]
    largest_node: dict[str, str]


class Policy(NamedTuple):
    """What a site asks of its images. registries: prefixes that an image's name must have one of; digests: each has a digest."""

    registries: tuple[str, ...] = ()
    digests: bool = False


class Allowance(NamedTuple):
    """A finding of `invoke lint` that is allowed, and why: of a rule, in an object (`Kind/name`, a chart or a file; `*` stands for any text)."""

    rule: str
    object: str
    why: str
    mark: Mark


class SecretSpec(NamedTuple):
    """Where a secret's value comes from.

    generate: one of `GENERATORS`; env: the variable's name; file: a path; command: an argv list that prints it within `timeout`
    seconds; kubernetes: a Secret of the namespace and a key of it, referred to in place; tls: the paths of a certificate with its
    chain and of its key, with `self_signed` where no authority signed it. Exactly one of these is set.
    length, alphabet: of a generated password; generation: bumped by a rotation, and with it the key that the value has.
    A registry's credentials have a `server` beside it, and a `username` (a text, or `username_env`: a variable's name).
    object_name: of the Secret that registry credentials or a certificate become.
    """

    name: str
    mark: Mark
    generate: str = ""
    env: str = ""
    file: str = ""
    server: str = ""
    username: str = ""
    username_env: str = ""
    object_name: str = ""
    command: tuple[str, ...] = ()
    timeout: int = COMMAND_TIMEOUT
    kubernetes: tuple[str, str] | None = None
    tls: tuple[str, str] | None = None
    self_signed: bool = False
    length: int = 32
    alphabet: str = ""
    generation: int = 1

    @property
    def named(self) -> bool:
        """Is it a value that overlays name by `${secret:…}`? Others are a Secret of their own, which pods or an Ingress name."""
        return not self.server and not self.tls

    @property
    def source(self) -> str:
        """The source as people read it, without a value."""
        if self.kubernetes:
            return f"kubernetes {self.kubernetes[0]}/{self.kubernetes[1]}"
        if self.command:
            return f"command {self.command[0]}"
        if self.tls:
            return f"tls {self.tls[0]}"
        return f"generate {self.generate}" if self.generate else f"env {self.env}" if self.env else f"file {self.file}"

    @property
    def key(self) -> str:
        """The key of the environment's Secret that holds the value: a new one for each generation, so that none is ever changed."""
        return self.name if self.generation == 1 else f"{self.name}.{self.generation}"


class Environment(NamedTuple):
    """One `envs/<name>.yaml`. `marks` finds the line of a top-level key, and of `cluster.<key>` and `vars.<name>`.

    before_upgrade: argv lists, run before a database's pod is replaced; graces: seconds that go before those of `GRACES`.
    """

    name: str
    root: Path
    file: Path
    target: Target
    pin_file: Path
    components: tuple[str, ...]
    component_marks: dict[str, Mark]
    vars: dict[str, Any]
    secrets: dict[str, SecretSpec]
    releases: dict[str, str]
    manage_crds: bool
    manage_namespace: bool
    protected: bool
    marks: dict[str, Mark]
    before_upgrade: tuple[tuple[str, ...], ...]
    graces: dict[str, float]
    present: Present
    policy: Policy
    allow: tuple[Allowance, ...]


class Release(NamedTuple):
    """One Helm release: the short name it has in variables (`${release.<key>}`), its chart and its name."""

    key: str
    chart: str
    name: str


class Effect(NamedTuple):
    """What a new value of a secret does beside the restart of its users.

    note: what happens then, said before; loses: what cannot be read any more; database: `Kind/name` of a workload that is a
    Postgres, which keeps the password that its volume was made with.
    """

    note: str = ""
    loses: str = ""
    database: str = ""


class ImageRole(NamedTuple):
    """The image of one application of the release: the chart and the pointer of its mapping, which has a repository and a tag.

    tag: how the image writes the release's tag, with `${tag}` in the place of it.
    """

    chart: str
    path: str
    tag: str = "${tag}"


class Roles(NamedTuple):
    """What values mean: `releases`, the name of the Secret that holds an environment's secrets, and derived variables.

    images: by application, the images that have the release's tag; needs: by the role of an image and the beginning of a tag, the
    API that it asks of the CRDs; checks: secret to what its value must be (`CHECKS`);
    databases: the workloads (`Kind/name`) on whose volumes only their own major version of the image can work; rotation: secret to what
    a new value of it does; derived: variable name to a template over variables and `${role:<name>}`; values: role name to (chart,
    pointer).
    """

    file: Path
    releases: tuple[Release, ...]
    secret: str
    checks: dict[str, str]
    derived: dict[str, str]
    values: dict[str, tuple[str, str]]
    images: dict[str, ImageRole]
    needs: dict[str, dict[str, str]]
    marks: dict[str, Mark]
    databases: tuple[str, ...]
    rotation: dict[str, Effect]

    def release_of(self, chart: str) -> Release:
        """The release of a chart."""
        return next(release for release in self.releases if release.chart == chart)


def names(root: Path) -> list[str]:
    """The environments there are, sorted."""
    return sorted(path.stem for path in (root / "envs").glob("*.yaml") if not path.name.startswith("."))  # an editor's lock is none


def readable(root: Path, words: Collection[str] | None = None) -> Iterator[Environment]:
    """The environments whose files are right. A fault in the file of one is no obstacle to another.

    words: only those whose file has one of them, which costs less than to read each; an escape may stand for any.
    """
    for name in names(root):
        with suppress(InputError, OSError, UnicodeDecodeError):
            text = "" if words is None else (root / "envs" / f"{name}.yaml").read_text(encoding="utf-8")
            if words is None or "\\" in text or any(word in words for word in re.findall(r"[\w-]+", text)):
                yield load_environment(root, name)


def chosen(root: Path, text: str) -> list[str]:
    """The environments that an option names: one, several with commas between, or `all`. Raises `InputError` for an unknown one."""
    known = names(root)
    if text == ALL:
        if not known:
            raise InputError("there are no environments", root / "envs", "invoke new-env --env=NAME writes one")
        return known
    wanted = list(dict.fromkeys(part.strip() for part in text.split(",")))
    raise_all([_unknown(name, known) for name in wanted if name not in known])
    return wanted


def _unknown(name: str, known: list[str]) -> InputError:
    listed = ", ".join(known) or "none"
    return InputError(f'there is no environment "{name}"{nearest(name, known)}', todo=f"environments: {listed}; a new one is a file in envs/")


def check_name(name: str, file: Path | None = None) -> None:
    """Raise `InputError` for what cannot be the name of an environment: it becomes a part of the names of objects."""
    if name == ALL or not (DNS_LABEL.fullmatch(name) and len(name) <= NAME_LIMIT):
        todo = f"lower-case letters, digits and dashes, at most {NAME_LIMIT}, and not: {ALL}"
        raise InputError(f'"{name}" is no name for an environment', file, todo)


def _taken_for(name: str) -> str:
    """What a template that prints a name without quotes, as charts do, makes of it, or "" where that is the name."""
    found = read_by_helm(name)
    return "" if isinstance(found, str) else f'charts write it without quotes, where "{name}" is {canonical(found)} and no text'


def load_environment(root: Path, name: str, faults: list[InputError] | None = None) -> Environment:
    """Read `envs/<name>.yaml` under `root`, after settling a change to several files that was killed.

    faults: where those go which leave an environment to go on with, for a caller that refuses it later, with what else is wrong.
    Raises `InputError` for an unknown name (with the nearest one) and, all at once, for every fault of the file.
    """
    transaction.settle(root)
    file = root / "envs" / f"{name}.yaml"
    known = names(root)
    if name not in known:
        raise _unknown(name, known)
    check_name(name, file)
    errors: list[InputError] = []
    document = load(file, faults=errors)
    top = Section(document, (), errors)
    cluster = top.section("cluster")
    present = _present(cluster.section("present"))
    target = _target(cluster)
    protected = top.get("protected", bool, False)
    if protected and target.context and not target.uid:
        cluster.fault("a protected environment needs cluster.uid", todo="kubectl get namespace kube-system -o jsonpath='{.metadata.uid}'")
    pin_file = root / top.get("charts", str, "vendor/charts.yaml")
    manage = top.section("manage")
    crds, namespace = manage.get("crds", bool, True), manage.get("namespace", bool, True)
    manage.done()
    policy = top.section("policy")
    asked = Policy(tuple(policy.texts("registries")), policy.get("digests", bool, False))
    policy.done()
    allow = _allowances(top)
    components = top.texts("components")
    for index, component in enumerate(components):
        if component in components[:index]:
            top.fault(f'the component "{component}" stands twice', "components", index)
    secrets = top.section("secrets")
    specs = {key: _secret(key, section) for key, section in secrets.sections().items()}
    releases = top.section("releases")
    release_names = {key: releases.get(key, str, "") for key in releases.data}
    for key, value in release_names.items():
        if not RELEASE_NAME.fullmatch(value):
            releases.fault(f'"{value}" is no name for a release', key, todo="lower-case letters, digits and dashes, at most 53")
        elif taken := _taken_for(value):
            releases.fault(f'"{value}" is no name for a release: {taken}', key, todo="choose a name with a letter that makes it a word")
    before = _commands(top, "before_upgrade")
    graces = _graces(top.section("grace"))
    variables = top.section("vars").data
    for key, value in variables.items():
        if value is None:
            top.fault(f'the variable "{key}" has no value', "vars", key, todo='write "" for an empty text')
    top.done()
    if faults is None or not _is_shaped(document.data):
        raise_all(errors)
    else:
        faults += errors
    marked = [*top.data, *(f"cluster.{key}" for key in cluster.data), *(f"vars.{key}" for key in variables)]
    marks = {key: document.mark(*key.split(".", 1)) for key in marked}
    return Environment(
        name, root, file, target, pin_file, tuple(components),
        {item: document.mark("components", i) for i, item in enumerate(components)},
        dict(variables), specs, release_names, crds, namespace, protected,
        marks,
        before, graces, present, asked, allow,
    )  # fmt: skip


def _is_shaped(data: Any) -> bool:
    """Has an environment's file the parts that all else depends on, right or wrong in themselves?"""
    return isinstance(data, dict) and all(isinstance(data.get(key), kind | None) for key, kind in SHAPES)


def _commands(top: Section, key: str) -> tuple[tuple[str, ...], ...]:
    """A list of argv lists."""
    commands = top.get(key, list, [])
    for index, words in enumerate(commands):
        if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
            top.fault(f'"{key}" must be a list of commands, each a list of texts', key, index, todo='[["kubectl", "get", "pods"]], without a shell')
    return tuple(tuple(words) for words in commands if isinstance(words, list))


def _graces(section: Section) -> dict[str, float]:
    found = {}
    for name in GRACES:
        if text := section.get(name, str, ""):
            if DURATION.fullmatch(text):
                found[name] = duration(text)
            else:
                section.fault(f'"{text}" is no duration', name, todo="write 90s, 15m or 1h")
    section.done()
    return found


def _present(section: Section) -> Present:
    names = {kind: tuple(section.texts(kind)) for kind in PRESENT}
    classes = section.section("storage_classes")
    modes = {name: tuple(classes.texts(name)) for name in classes.data}
    for name, found in modes.items():
        for mode in found:
            if mode not in ACCESS_MODES:
                classes.fault(f'"{mode}" is no access mode{nearest(mode, ACCESS_MODES)}', name, todo=f"of {', '.join(ACCESS_MODES)}")
    node = section.section("largest_node")
    largest = {key: node.get(key, str, "") for key in ("cpu", "memory")}
    for key, value in largest.items():
        if value and not QUANTITY.fullmatch(value):
            node.fault(f'"{value}" is no amount of {key}', key, todo='for example cpu: "16", memory: 64Gi')
    node.done()
    section.done()
    return Present({kind: found for kind, found in names.items() if found}, modes, {key: value for key, value in largest.items() if value})


def _allowances(top: Section) -> tuple[Allowance, ...]:
    found = []
    for index in range(len(top.get("allow", list, []))):
        item = Section(top.document, ("allow", index), top.errors)
        found.append(Allowance(item.need("rule", str, ""), item.need("object", str, ""), item.need("why", str, ""), item.mark()))
        item.done()
    return tuple(found)


def _target(cluster: Section) -> Target:
    target = Target(
        namespace=cluster.need("namespace", str, ""),
        local=cluster.get("local", str, ""),
        context=cluster.get("context", str, ""),
        kubeconfig=cluster.get("kubeconfig", str, ""),
        uid=cluster.get("uid", str, ""),
        kubernetes=cluster.get("kubernetes", str, DEFAULT_KUBERNETES),
    )
    if bool(target.local) == bool(target.context):
        cluster.fault('the cluster is named by one of "context" (of the kubeconfig) and "local" (made on this machine)')
    if target.local and (target.kubeconfig or target.uid):
        cluster.fault('"kubeconfig" and "uid" belong to "context", not to "local"', "local")
    for key, value, pattern in (
        ("namespace", target.namespace, DNS_LABEL),
        ("local", target.local, DNS_LABEL),
        ("kubernetes", target.kubernetes, VERSION),
    ):
        if (value or cluster.data.get(key) == "") and not pattern.fullmatch(value):
            example = 'a version such as "1.31"' if pattern is VERSION else "lower-case letters, digits and dashes, at most 63"
            cluster.fault(f'"{value}" is no {key}', key, todo=example)
    if DNS_LABEL.fullmatch(target.namespace) and (taken := _taken_for(target.namespace)):
        cluster.fault(f'"{target.namespace}" cannot be the namespace: {taken}', "namespace", todo="choose one with a letter that makes it a word")
    cluster.done()
    return target


def _secret(name: str, section: Section) -> SecretSpec:
    if not SECRET_NAME.fullmatch(name):
        section.fault(f'"{name}" is no name for a secret', todo="letters, digits, dots, dashes and underscores: it becomes a key of a Secret")
    sources = [key for key in SOURCES if section.data.get(key)]
    if len(sources) != 1:
        section.fault(f'the secret "{name}" needs one source, not {len(sources)}', todo=f"one of {', '.join(SOURCES)}")
    server = section.get("server", str, "")
    username = section.get("username", str, "")
    object_name = section.get("name", str, "")
    env, username_env = "", ""
    if isinstance(section.data.get("env"), dict):
        pair = section.section("env")
        username_env, env = pair.need("username", str, ""), pair.need("password", str, "")
        pair.done()
    else:
        env = section.get("env", str, "")
    generate, file = section.get("generate", str, ""), section.get("file", str, "")
    if generate and generate not in GENERATORS:
        section.fault(f'"{generate}" cannot be generated{nearest(generate, GENERATORS)}', "generate", todo=f"one of {', '.join(GENERATORS)}")
    files = section.section("tls")
    tls = (files.need("certificate", str, ""), files.need("key", str, "")) if section.data.get("tls") else None
    self_signed = files.get("self_signed", bool, False)
    files.done()
    if (username_env or username) and not server:
        section.fault('"username" belongs to registry credentials, which need "server"', todo="add server: <registry's host>")
    if object_name and not server and not tls:
        section.fault('"name" belongs to registry credentials and certificates', "name", todo="add server: <registry's host>, or remove it")
    if server and bool(username_env) == bool(username):
        section.fault("registry credentials need one username", todo="username: NAME, or env: {username: VARIABLE, password: VARIABLE}")
    command = tuple(section.texts("command"))
    reference = section.section("kubernetes")
    place = (reference.need("secret", str, ""), reference.need("key", str, "")) if section.data.get("kubernetes") else None
    reference.done()
    if place and server:
        section.fault("registry credentials cannot be a reference", "kubernetes", todo="name that Secret in the overlays, and remove this")
    if tls and server:
        section.fault("registry credentials are no certificate", "tls", todo="give the certificate a name of its own")
    length, generation = section.get("length", int, 32), section.get("generation", int, 1)
    if "length" in section and (generate != "password" or not 8 <= length <= 256):
        section.fault('"length" belongs to a generated password, and is 8 to 256', "length")
    alphabet = section.get("alphabet", str, "")
    bad = alphabet and not (ALPHABET.fullmatch(alphabet) and len(set(alphabet)) >= ALPHABET_LEAST)
    if "alphabet" in section and (generate != "password" or bad):
        what = f'"alphabet" belongs to a generated password, and is {ALPHABET_LEAST} or more different ASCII characters without blanks'
        section.fault(what, "alphabet")
    timeout = section.get("timeout", int, COMMAND_TIMEOUT)
    if "timeout" in section and (not command or not 1 <= timeout <= LONGEST_COMMAND):
        section.fault(f'"timeout" belongs to a command, and is 1 to {LONGEST_COMMAND} seconds', "timeout")
    if generation < 1 or (generation > 1 and place):
        section.fault('"generation" is 1 or more, and nothing for a Secret that is referred to', "generation")
    elif generation > 1 and (server or tls):
        todo = f"remove it; to replace the value: invoke secrets --rotate={name}"
        section.fault("registry credentials and certificates are replaced in place, without a generation", "generation", todo=todo)
    section.done()
    return SecretSpec(
        name, section.mark(), generate, env, file, server, username, username_env, object_name, command, timeout, place, tls, self_signed,
        length, alphabet, generation,
    )  # fmt: skip


@lru_cache(maxsize=16)
def _read(file: Path, changed: int) -> Document:
    """A file that many environments have, read once. changed: when, so that one which is edited meanwhile is read again."""
    return load(file)


def load_roles(root: Path, overlays: tuple[str, ...], environment: Environment) -> Roles:
    """Read the first `roles.yaml` of the overlay folders. Release names of the environment go before the file's.

    Raises `InputError` when there is none or it is not right.
    """
    candidates = [root / folder / "roles.yaml" for folder in overlays]
    file = next((path for path in candidates if path.is_file()), candidates[-1])
    document = _read(file, file.stat().st_mtime_ns if file.is_file() else 0)
    errors: list[InputError] = []
    top = Section(document, (), errors)
    releases = []
    for key, section in top.section("releases").sections().items():
        chart, name = section.need("chart", str, ""), section.need("name", str, "")
        section.done()
        releases.append(Release(key, chart, environment.releases.get(key) or name))
    for key in environment.releases:
        if key not in {release.key for release in releases}:
            known = [release.key for release in releases]
            errors.append(InputError(f'there is no release "{key}"{nearest(key, known)}', environment.marks.get("releases")))
    charts = [release.chart for release in releases]
    values = {}
    for key, section in top.section("values").sections().items():
        values[key] = (section.need("chart", str, ""), section.need("path", str, ""))
        if values[key][0] and values[key][0] not in charts:
            section.fault(f'no release is of the chart "{values[key][0]}"{nearest(values[key][0], charts)}', "chart")
        section.done()
    images = {}
    for key, section in top.section("images").sections().items():
        images[key] = ImageRole(section.need("chart", str, ""), section.need("path", str, ""), section.get("tag", str, "${tag}"))
        if images[key].chart and images[key].chart not in charts:
            section.fault(f'no release is of the chart "{images[key].chart}"{nearest(images[key].chart, charts)}', "chart")
        if images[key].tag.count("${tag}") != 1:
            section.fault(f'the tag "{images[key].tag}" must have ${{tag}} in it, once', "tag", todo="for example: ${tag}-cpu")
        section.done()
    needs = {key: {tag: section.need(tag, str, "") for tag in section.data} for key, section in top.section("needs").sections().items()}
    for key in needs:
        if key not in values:
            errors.append(
                InputError(f'there is no value "{key}"{nearest(key, values)}', document.mark("needs", key), "needs are those of values above")
            )
    derived = top.section("derived")
    templates = {key: derived.get(key, str, "") for key in derived.data}
    secret = top.need("secret", str, "")
    checks = top.section("checks")
    kinds = {key: checks.get(key, str, "") for key in checks.data}
    for key, kind in kinds.items():
        if kind not in CHECKS:
            checks.fault(f'"{kind}" is no check{nearest(kind, CHECKS)}', key, todo=f"one of {', '.join(CHECKS)}")
    databases = top.texts("databases")
    for index, workload in enumerate(databases):
        if not WORKLOAD.fullmatch(workload):
            top.fault(f'"{workload}" is no workload', "databases", index, todo="Deployment/name or StatefulSet/name")
    rotation = {}
    for key, section in top.section("rotation").sections().items():
        rotation[key] = Effect(section.get("note", str, ""), section.get("loses", str, ""), section.get("database", str, ""))
        if rotation[key].database and not WORKLOAD.fullmatch(rotation[key].database):
            section.fault(f'"{rotation[key].database}" is no workload', "database", todo="Deployment/name or StatefulSet/name")
        section.done()
    top.done()
    raise_all(errors)
    marks = {f"derived.{key}": document.mark("derived", key) for key in templates} | {"secret": document.mark("secret")}
    marks |= {f"{part}.{key}": document.mark(part, key) for part, found in (("values", values), ("images", images)) for key in found}
    return Roles(file, tuple(releases), secret, kinds, templates, values, images, needs, marks, tuple(databases), rotation)
