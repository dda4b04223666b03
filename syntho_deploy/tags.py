"""Where the tags of a release stand in the files of an environment, and the edits that move them: the tokens, and no other byte.

A tag is found by what the compile knows: the operation that set the value, its file, and the text in it. It may stand there as it
is, by variables of the environment, or nowhere, when the chart's default is in force.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from syntho_deploy import documents, edit, schemas
from syntho_deploy.compile import Project
from syntho_deploy.documents import Json, Keys
from syntho_deploy.environment import ImageRole, load_environment, names
from syntho_deploy.errors import InputError, Mark, PreflightError, nearest, shown
from syntho_deploy.overlays import pointer
from syntho_deploy.overlays.layers import layers
from syntho_deploy.overlays.origins import Layers, Setter
from syntho_deploy.overlays.variables import REFERENCE, substitute
from syntho_deploy.vendor import load_pin


@dataclass(frozen=True)
class Tag:
    """The tag of one application's image as it is now.

    image: the repository; text: the tag with its digest, as it arrives in the chart; release: the tag of the release in it.
    keys: the value in the chart. The rest is where it stands: the layer, the file and the path in it, the text as written there;
    a tag that no operation sets, or that one takes from elsewhere as a whole, has no file.
    """

    app: str
    role: ImageRole
    image: str
    text: str
    keys: Keys
    layer: str = ""
    file: Path | None = None
    place: Keys = ()
    written: str = ""
    mark: Mark | None = None

    @property
    def tag(self) -> str:
        """The tag without a digest."""
        return self.text.partition("@")[0]

    @property
    def digest(self) -> str:
        """The digest that it is pinned by, or nothing."""
        return self.text.partition("@")[2]

    @property
    def release(self) -> str:
        """The tag of the release, without what the application puts around it."""
        return release_in(self.role, self.tag) or self.tag

    def variables(self, project: Project) -> list[str]:
        """The variables of the environment's file that it is made of."""
        found = [match[1] for match in REFERENCE.finditer(self.written) if match[1]]
        return [name for name in dict.fromkeys(found) if isinstance(project.environment.vars.get(name), str | int | float)]

    def where(self, project: Project) -> str:
        """Where it stands, for people."""
        if names := self.variables(project):
            document = documents.load(project.environment.file)
            return ", ".join(f"{shown(document.mark('vars', name))} (vars.{name})" for name in names)
        return shown(self.mark) if self.mark else "the chart's default"


def release_in(role: ImageRole, tag: str) -> str | None:
    """The release's tag in an application's tag; None where the tag is of another form."""
    before, after = role.tag.split("${tag}")
    inner = tag[len(before) : len(tag) - len(after)]
    return inner if inner and tag == f"{before}{inner}{after}" else None


def tag_of(role: ImageRole, release: str) -> str:
    """How an application writes the release's tag."""
    return role.tag.replace("${tag}", release)


def find(project: Project) -> dict[str, Tag]:
    """The tag of every application of the roles. Raises `InputError`: a role's pointer that is not there, or is no image."""
    if not project.roles.images:
        raise InputError("the roles name no images", project.roles.file, "list the applications of a release under images")
    values = project.values()
    return {app: _find(project, app, role, values[role.chart]) for app, role in project.roles.images.items()}


def _find(project: Project, app: str, role: ImageRole, values: Json) -> Tag:
    where = project.roles.marks.get(f"images.{app}")
    try:
        at, _ = pointer.compile_pointer(values, role.path)
    except pointer.PointerError as error:
        raise InputError(f'the image "{app}": {error}', where, error.todo) from None
    image = documents.at(values, at)
    if not isinstance(image, dict) or not isinstance(image.get("repository"), str):
        raise InputError(f'the image "{app}": {role.path} is no mapping with a repository and a tag', where)
    keys, text = (*at, "tag"), _written(image.get("tag"))
    above, setter = _in_force(project.origins[role.chart], keys)
    plain = Tag(app, role, image["repository"], text, keys, mark=setter.mark if setter else None)
    if setter is None or setter.operation.op not in ("add", "replace"):
        return plain
    inner = keys[len(above) :]
    try:
        written = documents.at(setter.operation.value, inner)
    except (KeyError, IndexError, TypeError):
        return plain
    if not isinstance(written, str | int | float) or isinstance(written, bool):
        return plain
    file = Path(setter.mark.path)
    document = documents.load(file)
    index = next(index for index in range(len(document.data)) if document.mark(index) == setter.mark)
    place = (index, "value", *inner)
    return Tag(app, role, image["repository"], text, keys, setter.layer, file, place, _written(written), document.mark(*place))


def _in_force(found: Layers, keys: Keys) -> tuple[Keys, Setter | None]:
    """The last operation that set a value, and the path by which it did."""
    above = found.found(keys)
    return above[-1] if above else ((), None)


def _written(value: Json) -> str:
    return "" if value is None else str(value)


@dataclass
class Files:
    """The files that are edited: what was read, and what they are to be."""

    root: Path
    old: dict[Path, bytes | None] = field(default_factory=dict)
    new: dict[Path, str] = field(default_factory=dict)

    def text(self, path: Path) -> str:
        """A file as it is to be so far."""
        if path not in self.old:
            self.old[path] = path.read_bytes() if path.exists() else None
            self.new[path] = (self.old[path] or b"").decode("utf-8")
        return self.new[path]

    def replace(self, path: Path, keys: Keys, value: str) -> None:
        """Put a text in the place of another. Raises `InputError` where that cannot be done without touching more."""
        with _in_file(path):
            self.new[path] = edit.replace(self.text(path), keys, value)

    def append(self, path: Path, item: dict[str, Json]) -> None:
        """Add an operation, to a new file too."""
        text = self.text(path)
        if self.old[path] is None and not text:
            line = schemas.modeline(path.relative_to(self.root))
            text = f"{line}\n" if line else ""
        with _in_file(path):
            self.new[path] = edit.append(text, item)

    @property
    def changed(self) -> dict[Path, tuple[bytes | None, bytes]]:
        """Those that are to be otherwise: before and after."""
        found = {path: (self.old[path], self.new[path].encode()) for path in self.new}
        return {path: (old, new) for path, (old, new) in found.items() if old != new}


@contextmanager
def _in_file(path: Path) -> Iterator[None]:
    """Names the file in an error of an edit."""
    try:
        yield
    except InputError as error:
        raise InputError(error.what, path, error.todo) if error.where is None else error from None


def move(project: Project, found: dict[str, Tag], wanted: dict[str, str], files: Files, bumped: Iterable[str]) -> None:
    """Edit `files` so that each application of `wanted` has that tag (with a digest behind it, or not).

    A tag moves where it stands: in the environment's own overlay, or by its variables where these are of nothing else. Otherwise,
    and where nothing sets it, the environment's own overlay gets an operation. bumped: the environments of this run.
    Raises `PreflightError` where a tag stands in a shared component that other environments use too.
    """
    wanted = {app: text for app, text in wanted.items() if found[app].text != text}
    variables = _variables(project, found, wanted)
    for name, value in {name: value for solved in variables.values() for name, value in solved.items()}.items():
        if _written(project.environment.vars[name]) != value:
            files.replace(project.environment.file, ("vars", name), value)
    for app, text in wanted.items():
        tag = found[app]
        written = _rewritten(project, tag, text, variables.get(app, {}))
        if tag.file is not None and written == tag.written:
            continue
        if tag.file is not None and tag.layer == project.environment.name:
            files.replace(tag.file, tag.place, written)
        elif tag.file is not None and not REFERENCE.search(tag.written):
            _in_component(project, tag, written, files, list(bumped))
        else:
            files.append(own_file(project, tag.role.chart), _operation(project, tag, written))


def _variables(project: Project, found: dict[str, Tag], wanted: dict[str, str]) -> dict[str, dict[str, str]]:
    """By application, the values of the variables that give its tag. A variable is left alone when it is also of an application
    that is not bumped, or when two would want two values of it."""
    solved = {app: _solve(project, found[app], text) for app, text in wanted.items()}
    while True:
        values: dict[str, set[str]] = {}
        for solution in solved.values():
            for name, value in solution.items():
                values.setdefault(name, set()).add(value)
        left = {app for app, tag in found.items() if app not in wanted or not solved[app]}
        fixed = {name for app in left for name in found[app].variables(project)}
        moving = {name for name in values if values[name] != {_written(project.environment.vars[name])}}
        bad = {name for name in moving if len(values[name]) > 1 or name in fixed}
        if not bad:
            return {app: solution for app, solution in solved.items() if solution}
        solved = {app: {} if bad & solution.keys() else solution for app, solution in solved.items()}


def _solve(project: Project, tag: Tag, text: str) -> dict[str, str]:
    """The values of the variables in a tag as written that make it `text`; none where no values do. A digest is a matter of the
    variables where they hold one now; else it goes behind them."""
    if "@" not in tag.written:
        return _solve_part(project, tag, tag.written, text if "@" in tag.text else text.partition("@")[0])
    (left, _, right), (name, _, digest) = tag.written.partition("@"), text.partition("@")
    return {**_solve_part(project, tag, left, name), **_solve_part(project, tag, right, digest)}


def _solve_part(project: Project, tag: Tag, written: str, text: str) -> dict[str, str]:
    variables = [name for name in tag.variables(project) if f"${{{name}}}" in written]
    likely = sorted(variables, key=lambda name: tag.release not in _written(project.environment.vars[name]))
    for name in likely:  # one variable moves, the others stay
        pattern = "".join(
            "(.+)" if reference == name else re.escape(_text(project, tag, part)) for part, reference in _parts(written)
        )  # fmt: skip
        match = re.fullmatch(pattern, text)
        if match and len(set(match.groups())) == 1:
            return {other: match[1] if other == name else _written(project.environment.vars[other]) for other in variables}
    return {}


def _parts(written: str) -> list[tuple[str, str]]:
    """A text in parts: (the part, the variable's name if it is a reference)."""
    found, at = [], 0
    for match in REFERENCE.finditer(written):
        found += [(written[at : match.start()], ""), (match[0], match[1] or "")]
        at = match.end()
    return [*found, (written[at:], "")]


def _text(project: Project, tag: Tag, part: str) -> str:
    return _written(substitute(part, project.lookup, tag.mark or Mark(str(project.environment.file))))


def _rewritten(project: Project, tag: Tag, text: str, variables: dict[str, str]) -> str:
    """The text that goes where the tag is written, references kept where their variables move."""
    (left, at, right), (name, _, digest) = tag.written.partition("@"), text.partition("@")

    def part(written: str, wanted: str) -> str:
        pairs = [
            (variables.get(reference, _text(project, tag, one)) if reference else _text(project, tag, one), one) for one, reference in _parts(written)
        ]
        return written if REFERENCE.search(written) and "".join(value for value, _ in pairs) == wanted else wanted

    if not at and part(left, text) == left and REFERENCE.search(left):
        return left
    kept = part(left, name)
    return f"{kept}@{part(right, digest)}" if digest else kept


def _in_component(project: Project, tag: Tag, written: str, files: Files, bumped: list[str]) -> None:
    """Edit a shared component's own text, if no environment but those of this run would notice."""
    assert tag.file is not None
    others = [name for name in _users(project.environment.root, tag.file.parent) if name not in bumped]
    if others:
        every = ",".join([*bumped, *others])
        todo = f"bump all of them: --env={every}; or set it in {shown(own_file(project, tag.role.chart))}, with overrides: true"
        what = f"the tag of {tag.app} stands in the shared component {tag.layer}, which {', '.join(others)} would get too"
        raise PreflightError(what, tag.mark, todo)
    now = documents.at(documents.load(tag.file, files.text(tag.file).removeprefix(edit.BOM)).data, tag.place)
    if now not in (tag.written, written):
        raise PreflightError(f"the shared component {tag.layer} would need the tags {now} and {written}", tag.mark, "give --tag, or one environment")
    files.replace(tag.file, tag.place, written)


def _users(root: Path, folder: Path) -> list[str]:
    """The environments that have a layer, and those that cannot be read."""
    found = []
    for name in names(root):
        try:
            environment = load_environment(root, name)
            pin = load_pin(root, environment.pin_file)
            if any(layer.folder == folder for layer in layers(environment, pin.overlays)):
                found.append(name)
        except InputError:
            found.append(name)
    return found


def own_file(project: Project, chart: str) -> Path:
    """The environment's own overlay of a chart's values, there or not."""
    own = next((layer.folder for layer in project.layers if layer.name == project.environment.name), None)
    folder = own or project.environment.root / project.pin.overlays[-1] / project.environment.name
    return folder / f"{chart}.values.yaml"


def _operation(project: Project, tag: Tag, written: str) -> dict[str, Json]:
    """An operation of the environment's own overlay that sets a tag."""
    image = documents.at(project.values()[tag.role.chart], tag.keys[:-1])
    item: dict[str, Json] = {"op": "replace" if "tag" in image else "add", "path": f"{tag.role.path}/tag", "value": written}
    clash = project.origins[tag.role.chart].clash(tag.keys, project.environment.name)
    return item | ({"overrides": True} if clash else {})


def app_names(project: Project, text: str) -> list[str]:
    """The applications that an option names, all for none. Raises `InputError` for an unknown one."""
    known = list(project.roles.images)
    wanted = [part.strip() for part in text.split(",")] if text else known
    for name in wanted:
        if name not in known:
            raise InputError(f'there is no application "{name}"{nearest(name, known)}', todo=f"applications: {', '.join(known)}")
    return [app for app in known if app in wanted]
