"""YAML and JSON in and out: files that a user edits are read strictly and with marks, charts and renders as Helm reads them.

Three readers would read `y`, `1e3`, `0o17` or `2024-01-01` in three ways: PyYAML (YAML 1.1 less a few forms), Helm (its fork
of go-yaml v2) and a person. So files of ours give a type only to what all agree on and refuse the rest ("quote it"); charts
are read with Helm's rules; and what we write leaves no string bare that any of them could take for something else.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from syntho_deploy.errors import InputError, Mark, raise_all

Json = Any  # None, bool, int, float, str, list[Json] or dict[str, Json]
Keys = tuple[str | int, ...]

NODE_LIMIT = 500_000  # aliases can multiply a small file without bound
DEPTH_LIMIT = 100  # an object of Kubernetes has some 20 levels
MEMORY, ROOM = "/dev/shm", 32 << 20  # bytes; a container has 64 MB there unless it asks for more
_PLAIN = "plain"


class Document(NamedTuple):
    """One YAML document of a user's file: its data, and the mark of every value by its path."""

    path: str
    data: Json
    marks: dict[Keys, Mark]

    def mark(self, *keys: str | int) -> Mark:
        """Where the value at `keys` stands, or the nearest value around it."""
        while keys not in self.marks and keys:
            keys = keys[:-1]
        return self.marks.get(keys, Mark(self.path, 1))


class _Loader(yaml.CSafeLoader):
    """Refuses what is nested too deeply: composing it would end the process, not only raise."""

    _depth = 0

    def descend_resolver(self, current_node: Any, current_index: Any) -> None:
        self._depth += 1
        if self._depth > DEPTH_LIMIT:
            raise yaml.composer.ComposerError(None, None, f"nested more than {DEPTH_LIMIT} levels deep", current_node.start_mark)

    def ascend_resolver(self) -> None:
        self._depth -= 1


class _Composer(_Loader):
    """Composes nodes, leaving the type of a plain scalar to `_scalar`."""

    def resolve(self, kind: type, value: Any, implicit: Any) -> str:
        if kind is yaml.ScalarNode:
            return _PLAIN if implicit[0] else "tag:yaml.org,2002:str"
        return "tag:yaml.org,2002:map" if kind is yaml.MappingNode else "tag:yaml.org,2002:seq"


_WORDS: dict[str, Any] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS |= dict.fromkeys(("true", "True", "TRUE"), True) | dict.fromkeys(("false", "False", "FALSE"), False)
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(0|[1-9][0-9]*)\.[0-9]+")
_TRAILING = re.compile(r"\.[0-9]+0$")  # a zero that no number keeps: version 1.10 becomes 1.1
DIGITS = 20  # more do not fit a number of 64 bits
_AMBIGUOUS = re.compile(
    r"(?i:yes|no|on|off)|[-+]?(0[0-9_]+|0[xXoObB][0-9a-fA-F_]+|[0-9][0-9_]*_[0-9_]*)"
    r"|[-+]?(\.[0-9]+|[0-9]+\.?|[0-9]+\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)


def _scalar(text: str, where: Mark) -> Json:
    """The value of a plain scalar in a user's file. Raises `InputError` for what readers disagree about."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text) and len(text) <= DIGITS:
        return int(text)
    if _FLOAT.fullmatch(text) and math.isfinite(float(text)):
        if _TRAILING.search(text) or Decimal(text) != Decimal(repr(float(text))):
            raise InputError(f"{text} is the number {float(text)!r} to every program", where, f'quote it: "{text}", or write {float(text)!r}')
        return float(text)
    if _AMBIGUOUS.fullmatch(text):
        raise InputError(f"{text} is read as different values by different programs", where, f'quote it: "{text}", or write the value out')
    return text


def load(path: Path, text: str | None = None, faults: list[InputError] | None = None) -> Document:
    """Read one YAML document of a user's file.

    text: the content, when it is already read; faults: where those go that leave the rest readable, for a caller that refuses the file
    later, with what else is wrong. Returns data of JSON's types only; dates and `y` stay text.
    Raises `InputError` (exit 3, with file:line:column): unreadable, not UTF-8, broken YAML, more than one document, a
    duplicate key, a plain scalar that programs read differently, a tag, a merge key, aliases without bound.
    """
    try:
        source = path.read_bytes().decode("utf-8") if text is None else text
    except FileNotFoundError:
        raise InputError("this file does not exist", path, "create it, or correct the name") from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path) from None
    except UnicodeDecodeError as error:
        raise InputError(f"is not UTF-8 text (byte {error.start})", path, "save it as UTF-8") from None
    name = str(path)
    loader = _Composer(source)
    try:
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        what = ", ".join(part for part in (error.context, error.problem) if part)
        raise InputError(f"broken YAML: {what}", Mark(name, at.line + 1, at.column + 1) if at else path) from None
    except yaml.YAMLError as error:
        raise InputError(f"broken YAML: {error}", path) from None
    finally:
        loader.dispose()
    reader = _Reader(name)
    data = reader.value(node, ()) if node is not None else None
    if faults is None:
        raise_all(reader.errors)
    else:
        faults += reader.errors
    return Document(name, data, reader.marks)


class _Reader:
    def __init__(self, path: str) -> None:
        self.path = path
        self.marks: dict[Keys, Mark] = {}
        self.errors: list[InputError] = []
        self._open: set[int] = set()

    def value(self, node: yaml.Node, keys: Keys) -> Json:
        where = self.marks[keys] = self._mark(node)
        if len(self.marks) > NODE_LIMIT:
            raise InputError(f"more than {NODE_LIMIT} values, counting what aliases repeat", where)
        if len(keys) > DEPTH_LIMIT:
            raise InputError(f"nested more than {DEPTH_LIMIT} levels deep, counting what aliases repeat", where)
        if isinstance(node, yaml.ScalarNode):
            return self._leaf(node, where)
        if id(node) in self._open:
            raise InputError("an alias contains itself", where)
        self._open.add(id(node))
        try:
            if node.tag not in ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"):
                self.errors.append(InputError(f"the tag {node.tag} has no meaning here", where, "remove it"))
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, (*keys, i)) for i, item in enumerate(node.value)]
            return self._mapping(node, keys) if isinstance(node, yaml.MappingNode) else None
        finally:
            self._open.discard(id(node))

    def _leaf(self, node: yaml.ScalarNode, where: Mark) -> Json:
        if node.tag == _PLAIN:
            try:
                return _scalar(node.value, where)
            except InputError as error:
                self.errors.append(error)
                return node.value  # as it will be once it is quoted
        if node.tag != "tag:yaml.org,2002:str":
            self.errors.append(InputError(f"the tag {node.tag} has no meaning here", where, "remove it, or quote the value"))
        return node.value

    def _mapping(self, node: yaml.MappingNode, keys: Keys) -> dict[str, Json]:
        found: dict[str, Json] = {}
        first: dict[str, Mark] = {}
        for key_node, value_node in node.value:
            where = self._mark(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self.errors.append(InputError("a key must be a word, not a list or a mapping", where))
                continue
            key = key_node.value
            if key == "<<" and key_node.tag == _PLAIN:
                self.errors.append(InputError("merge keys (<<) are not supported", where, "write the keys out"))
                continue
            if key in first:
                self.errors.append(InputError(f'the key "{key}" stands twice, first in line {first[key].line}', where, "remove one"))
                continue
            first[key] = where
            found[key] = self.value(value_node, (*keys, key))
            if not isinstance(value_node, yaml.ScalarNode) or value_node.value == "":
                self.marks[(*keys, key)] = where  # a block's own mark is the line after its key
        return found

    def _mark(self, node: yaml.Node) -> Mark:
        return Mark(self.path, node.start_mark.line + 1, node.start_mark.column + 1)


class _HelmLoader(_Loader):
    """Reads YAML as Helm does (sigs.k8s.io/yaml, a fork of go-yaml v2). A repeated key keeps its last value, as there."""

    def __init__(self, stream: str | bytes) -> None:
        super().__init__(stream)
        self._made: dict[int, Json] = {}
        self._open: set[int] = set()

    @classmethod
    def one(cls, stream: str | bytes) -> Json:
        """The one document of a stream."""
        with closing(cls(stream)) as loader:
            return loader.value(loader.get_single_node())

    @classmethod
    def all(cls, stream: str | bytes) -> Iterator[Json]:
        """The documents of a stream."""
        with closing(cls(stream)) as loader:
            while loader.check_node():
                yield loader.value(loader.get_node())
                loader._made.clear()

    def close(self) -> None:
        self.dispose()

    def resolve(self, kind: type, value: Any, implicit: Any) -> str:
        if kind is yaml.ScalarNode:
            return _helm_tag(value) if implicit[0] else "tag:yaml.org,2002:str"
        return "tag:yaml.org,2002:map" if kind is yaml.MappingNode else "tag:yaml.org,2002:seq"

    def value(self, node: yaml.Node | None) -> Json:
        """What a node stands for. Several times as fast as PyYAML's constructors, which take the few tags that are not listed."""
        if isinstance(node, yaml.ScalarNode):
            make = _HELM_SCALARS.get(node.tag)
            return make(node.value) if make else self.construct_object(node, deep=True)
        if node is None or id(node) in self._made:  # an alias
            return node and self._made[id(node)]
        if id(node) in self._open:
            raise ValueError("an alias stands for what it is in itself")
        self._open.add(id(node))
        if node.tag == "tag:yaml.org,2002:seq":
            made: Json = [self.value(item) for item in node.value]
        elif isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
                self.flatten_mapping(node)
            made = {_helm_key(self.value(key)): self.value(item) for key, item in node.value}
        else:
            made = self.construct_object(node, deep=True)
        self._open.remove(id(node))
        self._made[id(node)] = made
        return made


def _helm_key(key: Any) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, float):
        return f"{key:.17g}" if float(f"{key:.15g}") != key else f"{key:.15g}"
    if isinstance(key, int):
        return str(key)
    if isinstance(key, str):
        return key
    raise ValueError(f"the key {key!r} is no text")


def _helm_int(written: str) -> Json:
    text = written.replace("_", "")
    digits = text.lstrip("-+")
    octal = re.fullmatch(r"0[0-7]+", digits)
    value = int(digits, 8 if octal else 0) * (-1 if text[0] == "-" else 1)
    if -(2**63) <= value < (2**63 if text[0] in "-+" else 2**64):
        return value
    return float(text) if digits.isdecimal() else written  # too large for its integers


def _helm_float(written: str) -> Json:
    text = written.replace("_", "").lower()
    if text.lstrip("-+") in (".inf", ".nan"):
        raise ValueError(f"JSON has no {written}")  # Helm's words are: unsupported value
    value = float(text)
    return value if math.isfinite(value) else written


def _helm_bool(written: str) -> bool:
    return written.lower() in ("y", "yes", "true", "on")


_HELM_TYPES = re.compile(
    r"(?P<bool>y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)"
    r"|(?P<int>[-+]?(0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*|0[xX][0-9a-fA-F]+))"
    r"|(?P<float>[-+]?(\.[0-9]+(_[0-9]+)*|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))"
    r"|(?P<null>~|null|Null|NULL|)|(?P<merge><<)"
)


@lru_cache(maxsize=4096)
def _helm_tag(text: str) -> str:
    """The type that Helm gives to a plain scalar; it takes the underscores out of what begins like a number."""
    found = _HELM_TYPES.fullmatch(text.replace("_", "") if text[:1] in "-+0123456789" else text)
    return f"tag:yaml.org,2002:{found.lastgroup if found else 'str'}"


_HELM_SCALARS: dict[str, Callable[[str], Json]] = {
    "tag:yaml.org,2002:str": str,
    "tag:yaml.org,2002:int": _helm_int,
    "tag:yaml.org,2002:float": _helm_float,
    "tag:yaml.org,2002:bool": _helm_bool,
    "tag:yaml.org,2002:null": lambda written: None,
    "tag:yaml.org,2002:merge": str,
}


def load_chart(path: Path) -> Json:
    """The one document of a chart's file, read as Helm reads it. Raises `InputError` when it is not YAML."""
    try:
        return _HelmLoader.one(path.read_bytes())
    except FileNotFoundError:
        raise InputError("this file does not exist", path, "run: invoke vendor") from None
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"broken YAML: {error}", path) from None


def read_by_helm(text: str) -> Json:
    """What helm takes a text for where a template prints it without quotes. A text that is no YAML by itself stays one."""
    try:
        return _HelmLoader.one(text)
    except (yaml.YAMLError, ValueError):
        return text


def load_manifests(text: str) -> list[dict[str, Json]]:
    """The objects in a stream of YAML that helm printed, in its order, empty documents left out.

    Raises `ValueError` with the parser's words when it is not YAML or a document is not a mapping.
    """
    try:
        documents = [document for document in _HelmLoader.all(text) if document is not None]
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    for document in documents:
        if not isinstance(document, dict):
            raise ValueError(f"a document is not an object: {str(document)[:80]!r}")
    return documents


_SAFE = re.compile(r"[A-Za-z/][A-Za-z0-9_./:@+-]*[A-Za-z0-9_/]|[A-Za-z]")
_NOT_TEXT = re.compile(r"(?i:y|yes|n|no|on|off|true|false|null|nan|inf)")
_NO_LITERAL = re.compile(r"[ \t]\n|[^\x20-\x7e\n]|\A[ \n]|\n\n\Z")


def dump(value: Json) -> str:
    """`value` as YAML that every reader takes for the same: keys sorted, doubtful strings quoted, lines never folded."""
    return f"{_block(value, 0)}\n"


def _block(value: Json, depth: int) -> str:
    """YAML of a value that stands `depth` columns deep, its first line not indented."""
    next_line = "\n" + " " * depth
    if isinstance(value, dict) and value:
        return next_line.join(f"{_key(key, next_line)}:{_after_key(value[key], depth)}" for key in sorted(value))
    if isinstance(value, list) and value:
        return next_line.join(f"- {_block(item, depth + 2)}" for item in value)
    if isinstance(value, str) and "\n" in value and not _NO_LITERAL.search(value):
        head, indent = "|" if value.endswith("\n") else "|-", " " * max(depth, 2)
        return "\n".join([head, *(line and indent + line for line in value.removesuffix("\n").split("\n"))])
    return _word(value)


def _key(key: str, next_line: str) -> str:
    word = _word(key)
    return word if len(word) < 1000 else f"? {word}{next_line}"  # YAML 1.1 ends the search for a colon after 1,024


def _after_key(value: Json, depth: int) -> str:
    if isinstance(value, dict) and value:
        return f"\n{' ' * (depth + 2)}{_block(value, depth + 2)}"
    if isinstance(value, list) and value:
        return f"\n{' ' * depth}{_block(value, depth)}"
    return f" {_block(value, depth + 2)}"


def is_plain(text: str) -> bool:
    """Does every reader take this text for itself where it stands without quotes?"""
    return bool(_SAFE.fullmatch(text)) and not _NOT_TEXT.fullmatch(text)


def _word(value: Json) -> str:
    """A key, or a value in one line: plain where no reader takes it for something else, otherwise as JSON, which YAML contains."""
    if isinstance(value, str) and is_plain(value):
        return value
    text = canonical(value)
    return re.sub("e", ".0e", text) if isinstance(value, float) and "." not in text else text  # YAML 1.1: no exponent without a point


_NOT_IN_YAML = re.compile(r"[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")  # YAML 1.1 refuses these, or takes them for line ends


def canonical(value: Json) -> str:
    """`value` as JSON with sorted keys and no spaces, which is YAML too: what digests are made of, and what helm reads."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return _NOT_IN_YAML.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def sha256(*parts: str | bytes) -> str:
    """The hex sha256 of the parts, each preceded by its length, so that no two lists of parts look the same."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(f"{len(data)}:".encode() + data)
    return digest.hexdigest()


def write(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Write a file whole or not at all: a reader sees the old content or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name)
        raise


def scratch(memory: bool = True) -> tempfile.TemporaryDirectory[str]:
    """A folder for what another program reads, which goes with its context: in memory, unless a variable names a place for such folders or
    there is little room. On a disk, making and removing the files of a lint takes a tenth of its time, and more after many runs."""
    named = any(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    roomy = memory and not named and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM
    return tempfile.TemporaryDirectory(prefix="syntho-", dir=MEMORY if roomy else None)


def walk(value: Json, keys: Keys = ()) -> Iterator[tuple[Keys, Json]]:
    """Every value in `value`, itself first, with its path."""
    left = [(keys, value)]
    while left:
        keys, value = left.pop()
        yield keys, value
        if isinstance(value, dict):
            left += [((*keys, key), value[key]) for key in reversed(value)]
        elif isinstance(value, list):
            left += [((*keys, index), value[index]) for index in reversed(range(len(value)))]


def at(value: Json, keys: Keys) -> Json:
    """What stands at a path that is there."""
    for key in keys:
        value = value[key]
    return value


def clone(value: Json) -> Json:
    """A copy of `value` that shares nothing which can change; several times as fast as `copy.deepcopy`."""
    if isinstance(value, dict):
        return {key: clone(item) for key, item in value.items()}
    return [clone(item) for item in value] if isinstance(value, list) else value


def map_strings(value: Json, change: Callable[[str], Json]) -> Json:
    """A copy of `value` with every string (not the keys) replaced by what `change` makes of it."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: map_strings(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [map_strings(item, change) for item in value]
    return value
