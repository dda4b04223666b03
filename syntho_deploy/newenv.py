"""A new environment, made from one that is there: its file with the answers in their places, all else as it stands.

Which variables and secrets it needs is read from the overlays of its components, so nothing here knows one by name.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from syntho_deploy import documents, edit, environment, schemas, transaction
from syntho_deploy.compile import Project
from syntho_deploy.documents import Json
from syntho_deploy.environment import DNS_LABEL, GENERATORS, Environment, load_environment, load_roles
from syntho_deploy.errors import DeployError, InputError, nearest, raise_all
from syntho_deploy.helm import at_hand
from syntho_deploy.overlays.layers import Layer, components, layers
from syntho_deploy.overlays.references import References
from syntho_deploy.secrets import sources
from syntho_deploy.section import NAMES
from syntho_deploy.vendor import load_pin
from syntho_deploy.vendor.pin import run_vendor

T = TypeVar("T")
Say = Callable[[str], None]
PLACEHOLDER = "00000000-0000-0000-0000-000000000000"  # no cluster has it, so a deploy refuses each
YOURS = "yours: kubectl get namespace kube-system -o jsonpath='{.metadata.uid}'"
SOURCES = "generate:KIND, env:VARIABLE (for a registry env:USERNAME,PASSWORD), file:PATH, or server:HOST of a registry"


@dataclass(frozen=True)
class Answers:
    """What was said by options. None and absent: not said."""

    context: str | None = None
    namespace: str | None = None
    kubernetes: str | None = None
    components: str | None = None
    vars: dict[str, str] = field(default_factory=dict)
    secrets: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Draft:
    """What is to be written under `root`: the environment, first, and a copy of the overlay of the one that it is made from.

    notes: what a person should know; commands: what comes next.
    """

    root: Path
    files: dict[Path, str | bytes]
    notes: tuple[str, ...]
    commands: tuple[str, ...]

    @property
    def text(self) -> str:
        """The environment's file."""
        return str(next(iter(self.files.values())))

    def write(self) -> None:
        """Write it, all or nothing: an overlay without its environment would be a file that nothing reads."""
        transaction.write(self.root, {path: (None, text.encode() if isinstance(text, str) else text) for path, text in self.files.items()})


class Terminal:
    """Questions on a terminal: on stderr, each with its default, asked again until the answer can be used."""

    def ask(self, question: str, default: str | None, use: Callable[[str], T]) -> T:
        """What `use` makes of the answer. use: raises `InputError` for what it cannot take."""
        while True:
            print(f"{question}{f' [{default}]' if default else ''}: ", end="", file=sys.stderr, flush=True)
            line = sys.stdin.readline()
            if not line.endswith("\n"):
                raise InputError("not all was answered; nothing was written")
            try:
                return use(line.strip() or default or "")
            except InputError as error:
                print(f"  {error}", file=sys.stderr, flush=True)


def pairs(options: Iterable[str], option: str) -> list[tuple[str, str]]:
    """The names and values of `name=value` options. Raises `InputError`."""
    found = [one.partition("=") for one in options]
    raise_all([InputError(f'"{name}{sign}" is no name and value', todo=f"--{option} name=value") for name, sign, _ in found if not sign or not name])
    return [(name.strip(), value) for name, _, value in found]


def draft(root: Path, name: str, source: str, answers: Answers, terminal: Terminal | None, say: Say) -> Draft:
    """Everything of a new environment. terminal: None where nobody can be asked.

    Raises `InputError`: a name that is taken or bad, an unknown source, component, variable or secret (each with the nearest),
    an answer that is missing (naming its option), and whatever makes that it would not compile. Writes nothing.
    """
    _check_name(root, name)
    return _Making(root, name, load_environment(root, source), answers, terminal, say).draft()


def _check_name(root: Path, name: str) -> None:
    environment.check_name(name)
    if name in environment.names(root):
        raise InputError("this environment exists already", root / "envs" / f"{name}.yaml", "choose another name, or edit this file")
    for folder in (root / "overlays" / name, *root.glob(f"overlays/pins/*/{name}")):
        if folder.exists():
            raise InputError(f'"{name}" cannot be an environment: this folder would be its overlay', folder, "choose another name")


class _Making:
    """One run: the text as it becomes the new environment's, and what is known on the way."""

    def __init__(self, root: Path, name: str, old: Environment, answers: Answers, terminal: Terminal | None, say: Say) -> None:
        self.root, self.name, self.old, self.answers, self.terminal, self.say = root, name, old, answers, terminal, say
        self.pin = load_pin(root, old.pin_file)
        self.roles = load_roles(root, self.pin.overlays, old)
        self.layers = layers(old, self.pin.overlays)
        self.text = old.file.read_bytes().decode("utf-8-sig")  # read_text would change line ends
        self.notes: list[str] = []

    def draft(self) -> Draft:
        context = self._context()
        self._namespace(context)
        if self.answers.kubernetes:
            self._put(("cluster", "kubernetes"), self.answers.kubernetes)
        was = References.of(self.layers, self.pin.charts, self.roles)
        same = not self._components()
        used = References.of(self.layers, self.pin.charts, self.roles)
        self._vars(was, used)
        self._secrets(was, used)
        self._uid(context)
        if self.old.before_upgrade:
            self.text = edit.remove(self.text, ("before_upgrade",))
            self.notes.append(f"before_upgrade was left out: it saves the data of {self.old.name}; write one for {self.name}")
        self.text = _headed(self.text, self.name, self.old.name, same)
        vendored = self._check()
        own = [layer.folder for layer in self.layers if _is_own(layer, self.old)]
        copies = {folder.with_name(self.name) / path.relative_to(folder): path.read_bytes() for folder in own for path in _files(folder)}
        commands = [] if vendored else [run_vendor(self.pin.path).removeprefix("run: ")]
        commands += [f"invoke {task} --env={self.name}" for task in ("template", "secrets", "plan", "deploy")]
        return Draft(self.root, {self.root / "envs" / f"{self.name}.yaml": self.text, **copies}, tuple(self.notes), tuple(commands))

    def _data(self, *keys: str) -> Json:
        """A value of the text as it is now; None where there is none."""
        here = documents.load(self.old.file, self.text).data
        for key in keys:
            here = (here or {}).get(key)
        return here

    def _put(self, keys: tuple[str, ...], value: Json, comment: str = "") -> None:
        there = self._data(*keys[:-1]) or {}
        if keys[-1] in there:
            if there[keys[-1]] != value:
                self.text = edit.replace(self.text, keys, value)
            return
        if len(keys) > 1 and keys[0] not in self._data():
            self.text = edit.add(self.text, keys[:1], None)
        self.text = edit.add(self.text, keys, value, comment)

    # --- where ----------------------------------------------------------------------------------------------------------

    def _context(self) -> str:
        """The context of the kubeconfig; empty for the local cluster of the environment that this one is made from."""
        target, context = self.old.target, self.answers.context
        there = _contexts(target.kubeconfig) if context or self.terminal else []
        if context is None and self.terminal:
            self.say(f"contexts of the kubeconfig: {', '.join(there) or 'none'}")
            here = f" (nothing: the local cluster {target.local})" if target.local else ""
            context = self.terminal.ask(f"cluster context{here}", target.context, str)
        if context and there and context not in there:
            self.notes.append(f'the kubeconfig of this machine has no context "{context}"{nearest(context, there)}')
        if context and target.local:
            self.text = edit.add(edit.remove(self.text, ("cluster", "local")), ("cluster", "context"), context, first=True)
        elif context and context != target.context:
            self._put(("cluster", "context"), context)
        return context or target.context

    def _namespace(self, context: str) -> None:
        local = "" if context else self.old.target.local
        taken = {e.target.namespace: e for e in environment.readable(self.root) if (e.target.context, e.target.local) == (context, local)}

        def free(text: str) -> str:
            if not DNS_LABEL.fullmatch(text):
                raise InputError(f'"{text}" is no namespace', todo="lower-case letters, digits and dashes, at most 63")
            if text in taken:
                what = f"the namespace {text} of the cluster {context or local} is that of {taken[text].name}"
                raise InputError(what, taken[text].marks.get("cluster.namespace"), "another is given by --namespace, another cluster by --context")
            return text

        found = self.answers.namespace
        if found is None and self.terminal:
            found = self.terminal.ask("namespace", self.old.target.namespace, free)
        self._put(("cluster", "namespace"), free(self.old.target.namespace if found is None else found))

    def _uid(self, context: str) -> None:
        """The cluster's own uid, never that of another cluster; a placeholder where the cluster cannot be asked."""
        target = self.old.target
        if not context or not (target.uid or self.old.protected) or (context == target.context and target.uid not in ("", PLACEHOLDER)):
            return
        from syntho_deploy.cluster.client import Client, access_by_context
        from syntho_deploy.cluster.preflight import uid_of

        self.say(f"asking the cluster of the context {context} for its uid …")
        try:
            uid, why = uid_of(Client(access_by_context(target.kubeconfig, context))), "it does not show its kube-system namespace"
        except DeployError as error:
            uid, why = "", error.what
        self._put(("cluster", "uid"), uid or PLACEHOLDER, "" if uid else YOURS)
        if not uid:
            self.notes.append(f"cluster.uid is a placeholder, with which deploy refuses every cluster: set yours. It could not be asked: {why}")

    # --- what -----------------------------------------------------------------------------------------------------------

    def _components(self) -> bool:
        """Take the components that were chosen. Returns whether they are others."""
        known = components([self.root / folder for folder in self.pin.overlays])

        def listed(text: str) -> list[str]:
            names = [part.strip() for part in text.split(",") if part.strip()]
            todo = f"components: {', '.join(known)}"
            raise_all([InputError(f'there is no component "{name}"{nearest(name, known)}', todo=todo) for name in names if name not in known])
            return list(dict.fromkeys(names))

        chosen = None if self.answers.components is None else listed(self.answers.components)
        if chosen is None and self.terminal:
            self.say(f"components there are: {', '.join(known)}")
            chosen = self.terminal.ask("components", ", ".join(self.old.components), listed)
        if chosen is None or chosen == list(self.old.components):
            return False
        self._put(("components",), chosen)
        self.layers = layers(self.old._replace(components=tuple(chosen), component_marks={}), self.pin.overlays)
        return True

    def _vars(self, was: References, used: References) -> None:
        old, given = self.old.vars, dict(self.answers.vars)
        own = [name for name in old if name not in was.vars]  # that no overlay uses is the user's business
        errors = [
            InputError(f'no component uses the variable "{name}"{nearest(name, used.vars)}', todo=f"variables: {', '.join(used.vars) or 'none'}")
            for name in given if name not in used.vars and name not in own
        ]  # fmt: skip
        if not self.terminal:
            errors += [
                InputError(f'{by} needs the variable "{name}", which {self.old.name} does not have', todo=f"--vars {name}=VALUE")
                for name, by in used.vars.items() if name not in given and name not in old
            ]  # fmt: skip
        raise_all(errors)
        values = {name: _typed(name, text, old.get(name)) for name, text in given.items()}
        for name, by in used.vars.items() if self.terminal else ():
            if name not in given:
                default = old[name] if isinstance(old.get(name), str) else json.dumps(old[name]) if name in old else None
                assert self.terminal
                values[name] = self.terminal.ask(f"{name} ({by})", default, partial(_answered, name, old.get(name)))
        self._replace("vars", old, values, used.vars, was.vars)

    def _secrets(self, was: References, used: References) -> None:
        old: dict[str, Json] = self._data("secrets") or {}
        wanted = dict.fromkeys((name for name in old if name not in was.secrets), f"of {self.old.name}") | used.secrets
        values: dict[str, Json] = {}
        errors = []
        for name, text in self.answers.secrets:
            if name not in wanted:
                errors.append(InputError(f'no component uses the secret "{name}"{nearest(name, wanted)}', todo=f"secrets: {', '.join(wanted)}"))
                continue
            try:
                values[name] = _sourced(name, values.get(name) or old.get(name) or {}, text)
            except InputError as error:
                errors.append(error)
        if not self.terminal:
            errors += [
                InputError(f'{by} needs the secret "{name}", which {self.old.name} does not have', todo=f"--secrets {name}=SOURCE; {SOURCES}")
                for name, by in wanted.items() if name not in values and name not in old
            ]  # fmt: skip
        raise_all(errors)
        for name, by in wanted.items() if self.terminal else ():
            if name not in values:
                assert self.terminal
                default = _source(old[name]) if name in old else None
                values[name] = self.terminal.ask(f"secret {name} ({by})", default, partial(_sourced, name, old.get(name) or {}))
        self.notes += [
            f'the secret "{name}" is for {by} now and is still generated: if it exists elsewhere already, --secrets {name}=env:VARIABLE'
            for name, by in used.secrets.items()
            if name in was.secrets and was.secrets[name] != by and name not in values and old.get(name, {}).get("generate")
        ]
        self._replace("secrets", old, values, wanted, was.secrets)

    def _replace(self, section: str, old: dict[str, Json], values: dict[str, Json], wanted: dict[str, str], were: dict[str, str]) -> None:
        """Put the new values in, and take out what the other components do not use any more."""
        for name, value in values.items():
            if name not in old or old[name] != value:
                self._put((section, name), value, f"for {wanted[name]}" if name not in old else "")
        gone = [name for name in old if name in were and name not in wanted]
        if gone and len(gone) == len(self._data(section)):
            self.text = edit.remove(self.text, (section,))
            return
        for name in gone:
            self.text = edit.remove(self.text, (section, name))

    # --- whether it compiles --------------------------------------------------------------------------------------------

    def _check(self) -> bool:
        """Compile it, as far as charts and helm are there. Returns whether the charts are. Raises `InputError` where it does not."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                documents.write(Path(folder) / "envs" / f"{self.name}.yaml", self.text)
                made = load_environment(Path(folder), self.name)
                sources.hide(made)
                made = made._replace(root=self.root, pin_file=self.old.pin_file)
                renamed = [layer._replace(name=self.name) if _is_own(layer, self.old) else layer for layer in self.layers]
                try:
                    vendored = Project.load(self.root, self.old.name).vendored
                except InputError as error:
                    self.notes.append(f"not checked against the charts, which are not there: {str(error).splitlines()[0]}")
                    return False
                project = Project(made, self.pin, vendored, self.roles, renamed)
                project.values()
                if helm := at_hand():
                    project.compile(helm)
                else:
                    self.notes.append("not rendered: there is no helm yet")
            except InputError as error:
                words = str(error).replace(f"{folder}/", "")
                raise InputError(
                    f"{self.name} would not compile, and is not written:\n{words}", todo="other --components, --vars or --secrets"
                ) from None
        return True


def _headed(text: str, name: str, source: str, same: bool) -> str:
    """The text with its modeline and where it comes from; what it said of itself stays where that is still true."""
    lines = text.splitlines(keepends=True)
    count = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    kept = [line for line in lines[:count] if same and not line.startswith(schemas.MODELINE)]
    line = schemas.modeline(Path("envs") / f"{name}.yaml")
    return "".join([f"{line}\n# Begun as envs/{source}.yaml{':' if kept else ' with other components.'}\n", *kept, *lines[count:]])


def _is_own(layer: Layer, environment: Environment) -> bool:
    """Whether a layer is the environment's own overlay, and not a component of the same name."""
    return layer.name == environment.name and layer.folder.parent.name != "components"


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _contexts(kubeconfig: str) -> list[str]:
    """The contexts of the user's kubeconfig; none where it cannot be read."""
    from syntho_deploy.cluster import kubeconfig as kubeconfigs
    from syntho_deploy.cluster.client import access_by_context

    return kubeconfigs.contexts(access_by_context(kubeconfig, "").kubeconfig)


def _answered(name: str, old: Json, text: str) -> Json:
    if not text and not isinstance(old, str):
        raise InputError("this needs a value")
    return _typed(name, text, old)


def _typed(name: str, text: str, old: Json) -> Json:
    """A variable's value from what was typed: of the type that it had; a new one is a whole number, true, false, a list, a
    mapping or else a text, as 1.10 is. Raises `InputError` for another type."""
    if isinstance(old, str):
        return text
    try:
        value = documents.load(Path(), text).data
    except InputError:
        value = text
    if old is None:
        return text if value is None or isinstance(value, float) else value
    if type(value) is type(old) or (isinstance(value, int | float) and isinstance(old, int | float) and not isinstance(value, bool)):
        return value
    raise InputError(f'the variable "{name}" is {NAMES.get(type(old), "a number")}, and "{text}" is not')


def _source(secret: dict[str, Json]) -> str:
    """A secret's source as it is typed; of one that cannot be typed, its kind."""
    env = secret.get("env")
    if isinstance(env, dict):
        return f"env:{env['username']},{env['password']}"
    return next(f"{kind}:{secret[kind]}" if kind in ("generate", "env", "file") else kind for kind in environment.SOURCES if secret.get(kind))


def _sourced(name: str, old: dict[str, Json], text: str) -> dict[str, Json]:
    """A secret with the source that was typed, or the server of a registry's. What else it says stays, where it fits."""
    if old and text == _source(old):
        return old
    kind, _, value = text.partition(":")
    known = ("generate", "env", "file", *(["server"] if "server" in old else []))
    if kind not in known or not value or (kind == "generate" and value not in GENERATORS):
        near = nearest(value, GENERATORS) if kind == "generate" else nearest(kind, known)
        # not quoted: who mistakes this for the place of the secret itself would find it in a log
        raise InputError(f'this is no source of the secret "{name}"{near}', todo=f"{SOURCES}; KIND: {', '.join(GENERATORS)}")
    if kind == "server":
        return {**old, "server": value}
    user, comma, password = value.partition(",")
    kept = {key: old[key] for key in ("server", "name", *([] if comma else ["username"])) if key in old and "server" in old}
    if kind == "env" and comma:
        return {**kept, "env": {"username": user, "password": password}}
    return {**kept, kind: value}
