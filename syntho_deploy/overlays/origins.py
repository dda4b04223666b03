"""Which operations set each path of a document, kept beside it while list items come, go and move.

A tree of the document's shape, of the paths alone that an operation named: so what an operation costs does not grow with those before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, NamedTuple, TypeVar

from syntho_deploy.documents import Json, Keys
from syntho_deploy.errors import Mark

T = TypeVar("T")


class Operation(NamedTuple):
    """One operation as written, and where."""

    op: str
    path: str
    mark: Mark
    value: Json = None
    source: str = ""  # the member "from"
    why: str = ""
    overrides: bool = False


class Change(NamedTuple):
    """What an operation does to a document: the path it takes away, the one it copies from, the one it sets, and whether that is a new
    item of a list."""

    removed: Keys | None = None
    set: Keys | None = None
    inserts: bool = False
    copied: Keys | None = None


class Setter(NamedTuple):
    """An operation that set a path: its layer, its place in the order of all, and the operation as written.

    carried: it set another path, and a later operation moved or copied the value here; its place is before that one.
    inside: where in its value that is which was carried here.
    """

    layer: str
    order: tuple[int, ...]
    operation: Operation
    carried: bool = False
    inside: Keys = ()

    @property
    def mark(self) -> Mark:
        """Where it stands."""
        return self.operation.mark


class _Node(Generic[T]):
    """What is known of one path. gone: of items that left a list, by -1 less their index, since no index is theirs any more."""

    __slots__ = ("children", "gone", "held", "items")

    def __init__(self) -> None:
        self.held: tuple[T, ...] = ()
        self.children: dict[str, _Node[T]] = {}
        self.items: list[_Node[T] | None] = []
        self.gone: dict[int, _Node[T]] = {}

    def child(self, key: str | int) -> _Node[T] | None:
        if isinstance(key, str):
            return self.children.get(key)
        if key < 0:
            return self.gone.get(key)
        return self.items[key] if key < len(self.items) else None

    def made(self, key: str | int) -> _Node[T]:
        """The child of a key, made where there is none."""
        if isinstance(key, str):
            return self.children.setdefault(key, _Node())
        if key < 0:
            return self.gone.setdefault(key, _Node())
        self.room(key + 1)
        found = self.items[key] = self.items[key] or _Node()
        return found

    def room(self, count: int) -> None:
        self.items += [None] * (count - len(self.items))

    def everything(self, keys: Keys = ()) -> Iterator[tuple[Keys, _Node[T]]]:
        """Every node from here on that holds something, with its path."""
        left: list[tuple[Keys, _Node[T]]] = [(keys, self)]
        while left:
            keys, node = left.pop()
            if node.held:
                yield keys, node
            below: list[tuple[str | int, _Node[T] | None]] = [*node.children.items(), *enumerate(node.items), *node.gone.items()]
            left += [((*keys, key), child) for key, child in reversed(below) if child]


class Tree(Generic[T]):
    """What is held for each path of a document."""

    def __init__(self) -> None:
        self.root: _Node[T] = _Node()

    def at(self, keys: Keys) -> _Node[T] | None:
        """The node of a path, if something is held there or below."""
        node: _Node[T] | None = self.root
        for key in keys:
            if node is None:
                return None
            node = node.child(key)
        return node

    def along(self, keys: Keys) -> Iterator[tuple[Keys, _Node[T]]]:
        """The nodes from the root to a path."""
        node: _Node[T] | None = self.root
        for length in range(len(keys) + 1):
            if node is None:
                return
            yield keys[:length], node
            node = node.child(keys[length]) if length < len(keys) else None

    def hold(self, keys: Keys, *held: T) -> None:
        """Hold more for a path."""
        node = self.root
        for key in keys:
            node = node.made(key)
        node.held += held

    def inserted(self, keys: Keys) -> None:
        """A list has a new item at this path: those from there on have the next index now."""
        node, index = self.at(keys[:-1]), keys[-1]
        if node and isinstance(index, int) and index < len(node.items):
            node.items.insert(index, None)

    def deleted(self, keys: Keys) -> None:
        """The item of a list at this path is gone, and with it what is held for it."""
        node, index = self.at(keys[:-1]), keys[-1]
        if node and isinstance(index, int) and index < len(node.items):
            node.items.pop(index)

    def emptied(self, keys: Keys) -> None:
        """Hold nothing any more below a path."""
        if node := self.at(keys):
            node.children, node.items, node.gone = {}, [], {}


class Layers:
    """Which operations of which files set each path, the last one last: the origin of every value, and what a later layer may
    not set again by accident."""

    def __init__(self) -> None:
        self._tree: Tree[Setter] = Tree()
        self._count = 0

    @property
    def set_by(self) -> dict[Keys, tuple[Setter, ...]]:
        """By path, the operations that set it. An item that a list lost has -1 less its index."""
        return {keys: node.held for keys, node in self._tree.root.everything()}

    def record(self, change: Change, layer: str, operation: Operation) -> None:
        """Note what a change set, where the list items stand now that others came or went before them, and what a moved value brings along."""
        self._count += 1
        setter = Setter(layer, (self._count, 1), operation)
        carried = self._carried(change.removed if change.copied is None else change.copied) if change.set is not None else []
        if change.removed is not None:
            keys, last = change.removed, change.removed[-1] if change.removed else ""
            if isinstance(last, int):
                self._tree.deleted(keys)
                keys = (*keys[:-1], -1 - last)
            elif change.set is not None:
                self._tree.emptied(keys)
            self._tree.hold(keys, setter)
        if change.set is not None:
            if change.inserts:
                self._tree.inserted(change.set)
            for keys, one in carried:
                self._tree.hold((*change.set, *keys), one)
            self._tree.hold(change.set, setter)

    def _carried(self, source: Keys | None) -> list[tuple[Keys, Setter]]:
        """The operations that set what a move or a copy takes along, each with its path in that."""
        if source is None:
            return []
        above = [((), one._replace(inside=(*one.inside, *source[len(at) :]))) for at, one in self.found(source) if len(at) < len(source)]
        node = self._tree.at(source)
        below = [(keys, one) for keys, found in (node.everything() if node else ()) for one in found.held]
        return [(keys, one._replace(order=(self._count, 0, *one.order), carried=True)) for keys, one in [*above, *below]]

    def clash(self, keys: Keys, layer: str) -> tuple[Keys, Mark] | None:
        """An earlier layer's path that is this path, above it or below it."""
        for at, node in self._tree.along(keys):
            if other := _of_other(node.held, layer):
                return at, other.mark
        here = self._tree.at(keys)
        for path, below in here.everything(keys) if here else ():
            if other := _of_other(below.held, layer):
                return path, other.mark
        return None

    def found(self, keys: Keys) -> list[tuple[Keys, Setter]]:
        """The operations that set the value at `keys`, each with its own path or one above it, the one in force last; none: the chart did."""
        found = [(at, setter) for at, node in self._tree.along(keys) for setter in node.held]
        return sorted(found, key=lambda one: one[1].order)

    def history(self, keys: Keys) -> list[tuple[Keys, Setter, bool]]:
        """Those operations, each once, and whether it is in force: the last one, and behind a move or a copy what that brought along."""
        latest = {(one.mark, one.operation.op): (at, one) for at, one in self.found(keys)}  # one that set what it moved itself is told once
        told: list[tuple[Keys, Setter, bool]] = []
        last: Setter | None = None
        for at, one in sorted(latest.values(), key=lambda pair: pair[1].order, reverse=True):
            in_force = last is None or (last.operation.op in ("move", "copy") and one.order[: len(last.order)] == (*last.order[:-1], 0))
            last = one if in_force else last
            told.append((at, one, in_force))
        return told[::-1]

    def origin(self, keys: Keys) -> list[Setter]:
        """Those operations alone."""
        return [setter for _, setter in self.found(keys)]


def _of_other(held: tuple[Setter, ...], layer: str) -> Setter | None:
    """The last of these operations, if it is another layer's. What was carried here is known by what carried it."""
    last = next((one for one in reversed(held) if not one.carried), None)
    return last if last and last.layer != layer else None
